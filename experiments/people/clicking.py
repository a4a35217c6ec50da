"""Answers without looking: every option of every question is as likely as any other.

The belief of the machine knows nobody like this, so this is a test of a wrong model.
"""

import numpy as np

from calib.questions import GRADES
from calib.setup import Setup
from calib.state import State
from experiments.people import rational
from experiments.truth import Floats, Ints, Mind, Truth

PARAMETERS: dict[str, float | None] = {}

experience = rational.experience


def choose(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """Any option of the offer."""
    return _any(u, setup.num_modes + (setup.role == "advisor"))


def choose_alone(setup: Setup, truth: Truth, mind: Mind, u: Floats) -> Ints:
    """Any mode."""
    return _any(u, setup.num_modes)


def compare(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """Any of the three answers."""
    return (3 * u[:, 0]).astype(np.int64)


def change(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """Changed, misread or unsure."""
    return (3 * u[:, 0]).astype(np.int64)


def rate(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """Any grade."""
    return (len(GRADES) * u[:, 0]).astype(np.int64)


def name_best(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """Any card."""
    return (setup.menus.shape[1] * u[:, 0]).astype(np.int64)


def cut_short(setup: Setup, truth: Truth, state: State, u: Floats) -> Floats:
    """At any moment of its first hour."""
    return 60 * u[:, 0]


def good_enough(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """Yes or no."""
    return (u[:, 0] < 0.5).astype(np.int64)


def _any(u: Floats, num_options: int) -> Ints:
    return np.argmax(u[:, 1 : 1 + num_options], axis=1)
