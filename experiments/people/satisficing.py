"""Takes the first option that is good enough: the proposal, then what ran last, then down the menu (Simon 1955).

Good enough is a believed utility of `aspiration` between the worst and the best of what they believe is on offer. They
compare outcome cards as anybody, and lapse as anybody.
"""

import numpy as np

from calib.setup import Setup
from calib.state import State
from experiments.people import rational
from experiments.truth import Floats, Ints, Mind, Truth

PARAMETERS: dict[str, float | None] = {**rational.PARAMETERS, "aspiration": 0.7}

compare, good_enough, experience = rational.compare, rational.good_enough, rational.experience


def choose(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The first option that will do."""
    if setup.role != "advisor":
        return choose_alone(setup, truth, mind, u)
    return _first(truth, mind, rational.with_proposal(setup, mind, state), setup.num_modes, u)


def choose_alone(setup: Setup, truth: Truth, mind: Mind, u: Floats) -> Ints:
    """The first mode that will do."""
    return _first(truth, mind, mind.f_hat, -1, u)


def _first(truth: Truth, mind: Mind, features: Floats, proposal: int, u: Floats) -> Ints:
    num_options, width = features.shape[1], (u.shape[1] - 1) // 2
    utility = rational.believed_utility(truth, features)
    worst, best = utility.min(axis=1, keepdims=True), utility.max(axis=1, keepdims=True)
    will_do = utility >= worst + truth.own[:, :1] * (best - worst)
    numbers = np.arange(num_options)
    turn = np.where(numbers == mind.last_mode[:, None], -1, numbers)
    turn = np.where(numbers == proposal, -2, turn)
    first = np.argmin(np.where(will_do, turn, num_options), axis=1)
    lapse = np.argmax(u[:, 1 + width : 1 + width + num_options], axis=1)
    return np.where(u[:, 0] < truth.lapse, lapse, first)
