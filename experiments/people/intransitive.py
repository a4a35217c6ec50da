"""Counts attributes instead of weighing them: the option that is better on more of them wins (May 1954).

Only a difference of more than `threshold` in a scaled attribute counts; as many for as against is about equal. Three
cards can beat each other in a circle, which no utility does. From a menu they take what beats most others. They lapse
as anybody.
"""

import numpy as np

from calib.setup import Setup
from calib.state import State
from experiments.people import rational
from experiments.people._lapse import answer_unless_lapsing, by_rule
from experiments.truth import Floats, Ints, Mind, Truth

PARAMETERS: dict[str, float | None] = {"lapse": None, "threshold": 0.02}

good_enough, experience = rational.good_enough, rational.experience


def compare(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The card that is better on more attributes."""
    a, b = setup.pairs[np.maximum(state.pair, 0)].T
    majority = _majority(setup.cards[a] - setup.cards[b], truth.own[:, :1])
    return answer_unless_lapsing(truth, np.where(majority > 0, 0, np.where(majority < 0, 1, 2)), u)


def _beats_most(truth: Truth, features: Floats) -> Ints:
    gap = features[:, :, None, :] - features[:, None, :, :]
    wins = np.sum(np.sign(_majority(gap, truth.own[:, :1, None, None])), axis=2)
    return np.argmax(wins, axis=1)


def _majority(gap: Floats, threshold: Floats) -> Ints:
    """How many more attributes, on the last axis, are better than worse."""
    return np.sum((gap > threshold).astype(np.int64) - (gap < -threshold), axis=-1)


choose, choose_alone, name_best = by_rule(_beats_most)
