"""As `rational`, but gives up: some people soon, some never, and sooner while the machine is off.

The hazard a round is `hazard` times a frailty of their own (gamma, mean 1, `frailty_variance`), times one to six as the
true degree of what stands falls from 0.9 to 0.4. So those who give up are those who would have aligned late, and one
minus Kaplan and Meier overstates alignment.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from calib.setup import Setup
from calib.state import State
from experiments import oracle
from experiments.people import rational
from experiments.truth import Floats, Mind, Truth

PARAMETERS: dict[str, float | None] = {**rational.PARAMETERS, "hazard": 0.03, "frailty_variance": 1.0}

choose, choose_alone, compare = rational.choose, rational.choose_alone, rational.compare
good_enough, experience = rational.good_enough, rational.experience


def gives_up(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> NDArray[np.bool_]:
    """Whether they leave before this round's choice; nobody leaves before the first."""
    if state.round <= 1:
        return np.zeros(len(u), bool)
    mean_hazard, shape = truth.own[:, 0], 1 / truth.own[:, 1]
    frailty = gammaincinv(shape, truth.luck[:, 0]) / shape
    off = np.clip((0.9 - oracle.true_degree(setup, truth, state.standing)) / 0.5, 0.0, 1.0)
    hazard = mean_hazard * frailty * (1 + 5 * off)
    return u[:, 0] < 1 - np.exp(-hazard)
