"""Decides by the most important attribute alone, and by the next one where it does not tell (Tversky 1969).

The order is that of their weights; a difference of at most `threshold` in a scaled attribute does not tell. Cards that
no attribute tells apart are about equal, and of such options the first is taken. They lapse as anybody.
"""

import numpy as np

from calib.setup import Setup
from calib.state import State
from experiments.people import rational
from experiments.people._lapse import answer_unless_lapsing, by_rule
from experiments.truth import Floats, Ints, Mind, Truth

PARAMETERS: dict[str, float | None] = {"lapse": None, "threshold": 0.1}

good_enough, experience = rational.good_enough, rational.experience


def compare(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """By the first attribute that tells the cards apart."""
    a, b = setup.pairs[np.maximum(state.pair, 0)].T
    gap = np.take_along_axis(setup.cards[a] - setup.cards[b], _order(truth), axis=1)
    tells = np.abs(gap) > truth.own[:, :1]
    first = np.take_along_axis(gap, np.argmax(tells, axis=1)[:, None], axis=1)[:, 0]
    answer = np.where(tells.any(axis=1), np.where(first > 0, 0, 1), 2)
    return answer_unless_lapsing(truth, answer, u)


def _first_left(truth: Truth, features: Floats) -> Ints:
    left = np.ones(features.shape[:2], bool)
    order = _order(truth)
    for rank in range(order.shape[1]):
        value = np.take_along_axis(features, order[:, None, rank, None], axis=2)[:, :, 0]
        best = np.max(np.where(left, value, -np.inf), axis=1, keepdims=True)
        left &= value >= best - truth.own[:, :1]
    return np.argmax(left, axis=1)


def _order(truth: Truth) -> Ints:
    """(N, J) attributes, the most important one first."""
    return np.argsort(-truth.weights, axis=1, kind="stable")


choose, choose_alone, name_best = by_rule(_first_left)
