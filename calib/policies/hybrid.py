"""Value of information while an answer pays at once, then the regret among what is still possible.

The rule: ask the pair of the highest value of information (value_of_information.py) if it is expected to raise the
degree by at least a fifth of eps, else the pair that lowers the regret of posterior_regret.py most. One answer ahead is
the right horizon only where one answer changes much (Frazier and Powell 2010, "Paradoxes in learning and the marginal
value of information").
"""

from typing import Any

import numpy as np

from calib.live import Belief, Floats, Ints
from calib.policies import posterior_regret, value_of_information
from calib.policies._draws import Draws, draws_of, draws_of_single
from calib.setup import Setup

_SHARE = 0.2  # of eps


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The pair by the rule; the first of the pool where tied."""
    return pick(setup, draws_of(setup, belief, log_weight))


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return pick(setup, draws_of_single(setup, belief))


def pick(setup: Setup, draws: Draws) -> Ints:
    """(N,) pair numbers."""
    rise = value_of_information.worth(setup, draws)
    out = np.argmax(rise, axis=1)
    later = rise.max(axis=1) < _SHARE * setup.scenario.eps
    if later.any():
        out[later] = np.argmax(posterior_regret.worth(setup, Draws(*(column[later] for column in draws))), axis=1)
    return out
