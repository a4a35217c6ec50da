"""Counts attributes instead of weighing them: the option that is better on more of them wins (May 1954).

Only a difference of more than `threshold` in a scaled attribute counts; as many for as against is about equal. Three
cards can beat each other in a circle, which no utility does. From a menu they take what beats most others. They lapse
as anybody.
"""

import numpy as np

from calib.questions import BEST_OF
from calib.rounds import State
from calib.setup import Setup
from experiments.people import rational
from experiments.people._lapse import answer_unless_lapsing, option_unless_lapsing
from experiments.truth import Floats, Ints, Mind, Truth

PARAMETERS: dict[str, float | None] = {"lapse": None, "threshold": 0.02}

good_enough, experience = rational.good_enough, rational.experience


def choose(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """What beats most of the offer."""
    if setup.role != "advisor":
        return choose_alone(setup, truth, mind, u)
    return _unless_lapsing(truth, rational.with_proposal(setup, mind, state), u)


def choose_alone(setup: Setup, truth: Truth, mind: Mind, u: Floats) -> Ints:
    """What beats most of the modes."""
    return _unless_lapsing(truth, mind.f_hat, u)


def compare(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """The card that is better on more attributes."""
    a, b = setup.pairs[np.maximum(state.pair, 0)].T
    majority = _majority(setup.cards[a] - setup.cards[b], truth.own[:, :1])
    return answer_unless_lapsing(truth, np.where(majority > 0, 0, np.where(majority < 0, 1, 2)), u)


def name_best(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """What beats most of the cards."""
    menus = setup.menus[np.maximum(state.of_kind(BEST_OF), 0)]
    return answer_unless_lapsing(truth, _beats_most(truth, setup.cards[menus]), u, menus.shape[1])


def _unless_lapsing(truth: Truth, features: Floats, u: Floats) -> Ints:
    return option_unless_lapsing(truth, _beats_most(truth, features), features.shape[1], u)


def _beats_most(truth: Truth, features: Floats) -> Ints:
    gap = features[:, :, None, :] - features[:, None, :, :]
    wins = np.sum(np.sign(_majority(gap, truth.own[:, :1, None, None])), axis=2)
    return np.argmax(wins, axis=1)


def _majority(gap: Floats, threshold: Floats) -> Ints:
    """How many more attributes, on the last axis, are better than worse."""
    return np.sum((gap > threshold).astype(np.int64) - (gap < -threshold), axis=-1)
