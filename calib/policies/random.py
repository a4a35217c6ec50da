"""Any two outcome cards, by chance: the yardstick of the other policies."""

from typing import Any

import numpy as np

from calib.live import Belief, Floats, Ints
from calib.setup import Setup


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """A uniform pair."""
    return _uniform(setup, u)


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same for a bulk belief."""
    return _uniform(setup, u)


def _uniform(setup: Setup, u: Floats) -> Ints:
    num_pairs = len(setup.pairs)
    return np.minimum((u[:, 0] * num_pairs).astype(np.int64), num_pairs - 1)
