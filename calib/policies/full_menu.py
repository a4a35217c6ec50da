"""Always the same question: which of all outcome cards is best. An answer says much, and takes as long as all cards do.

What everything else is compared with: no belief is needed to ask it. Engines that learn from pairs alone refuse it.
"""

import numpy as np

from calib.live import Belief, Floats, Ints
from calib.questions import BEST_OF
from calib.setup import Setup
from calib.state import State

FULL_MENU = True  # the setup's only menu is all of its cards


def ask(setup: Setup, state: State, log_weight: Floats, u: Floats) -> Ints:
    """The menu of all cards, for everybody."""
    return np.full(len(state.people), setup.pool.first(BEST_OF))


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """No pair."""
    return np.full(len(u), -1)
