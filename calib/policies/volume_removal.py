"""The pair of which every answer rules out much: the answer that removes least removes most.

Volume removal (Sadigh, Dragan, Sastry and Seshia 2017): the posterior mass that an answer removes is E(1 - P(answer))
over the draws; a pair is worth that of its likeliest answer. It cannot tell a pair that splits the people from one that
nobody can answer (Biyik, Palan, Landolfi, Losey and Sadigh 2019), which "about equal" as an answer mends in part.
"""

from typing import Any

import numpy as np
from numba import njit

from calib.live import Belief, Floats, Ints
from calib.policies._draws import EACH, Draws, Table, answers, draws_of, draws_of_single, mass, odds, scores
from calib.setup import Setup
from calib.vector import Singles, rows32

_ONE = np.float32(1.0)


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The best pair; the first of the pool where tied."""
    return np.argmax(worth(setup, draws_of(setup, belief, log_weight)), axis=1)


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return np.argmax(worth(setup, draws_of_single(setup, belief)), axis=1)


def worth(setup: Setup, draws: Draws) -> Singles:
    """(N, R) posterior mass that is removed by the answer that removes least."""
    return scores(setup, draws, _score)


@njit(**EACH)
def _score(draws: Draws, table: Table, out: Singles) -> None:
    num = draws.share.shape[1]
    up, joint = rows32(table.cards.shape[0], num), rows32(2, num)
    for i in range(out.shape[0]):
        odds(table.cards, draws.weights[i], draws.rationality[i], up)
        for r in range(table.pairs.shape[0]):
            answers(up, draws.threshold[i], draws.share[i], table.pairs[r, 0], table.pairs[r, 1], joint, 0)
            first, second = mass(joint)
            out[i, r] = _ONE - max(first, second, _ONE - first - second)
