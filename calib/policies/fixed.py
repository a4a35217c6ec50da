"""A design that is frozen before anybody answers: nobody's answers change what they are asked.

Each pair has a share and a round's pair is drawn by the shares, because a policy is not told the round. The design is
D-optimal where nothing is known of the utilities (Kiefer and Wolfowitz 1959): the shares maximise det M, M the sum of
shares times x x', x the difference of a pair's cards, by the multiplicative algorithm of Silvey, Titterington and
Torsney (1978). It rests on the few pairs that differ most.
"""

from functools import lru_cache
from typing import Any

import numpy as np

from calib.live import Belief, Floats, Ints
from calib.setup import Setup

_STEPS = 2000  # a test holds the design to the theorem that tells an optimal one


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The pair at u[:, 0] of the design's distribution function."""
    return _drawn(setup, u)


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same for a bulk belief."""
    return _drawn(setup, u)


def _drawn(setup: Setup, u: Floats) -> Ints:
    upto = np.cumsum(design(setup))
    return np.minimum(np.searchsorted(upto, u[:, 0] * upto[-1], side="right"), len(upto) - 1)


@lru_cache(maxsize=16)
def design(setup: Setup) -> Floats:
    """(R,) share of each pair."""
    first, second = setup.pairs.T
    x = setup.cards[first] - setup.cards[second]
    share = np.full(len(x), 1 / len(x))
    for _ in range(_STEPS):
        information = (x * share[:, None]).T @ x + 1e-9 * np.eye(x.shape[1])  # cards may not differ in an attribute
        share = share * np.einsum("rj,jr->r", x, np.linalg.solve(information, x.T))
        share /= share.sum()
    return share
