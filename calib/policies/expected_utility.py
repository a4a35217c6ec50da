"""The pair whose better card is expected to be worth most to the person.

Expected utility of the best option, EUBO (Lin, Astudillo, Frazier and Bakshy 2022): E max(U(a), U(b)) over the draws.
It asks about what is likely to please, and stays there: it compares good outcomes where others compare telling ones.
"""

from typing import Any

import numpy as np
from numba import njit

from calib.live import Belief, Floats, Ints
from calib.policies._draws import EACH, FAST, Draws, Table, draws_of, draws_of_single, scores, utilities
from calib.setup import Setup
from calib.vector import Single, Singles, rows32

_ZERO = np.float32(0.0)


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The best pair; the first of the pool where tied."""
    return np.argmax(worth(setup, draws_of(setup, belief, log_weight)), axis=1)


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return np.argmax(worth(setup, draws_of_single(setup, belief)), axis=1)


def worth(setup: Setup, draws: Draws) -> Singles:
    """(N, R) expected utility of the better card, less 1/2."""
    return scores(setup, draws, _score)


@njit(**EACH)
def _score(draws: Draws, table: Table, out: Singles) -> None:
    utility = rows32(table.cards.shape[0], draws.share.shape[1])
    for i in range(out.shape[0]):
        utilities(table.cards, draws.weights[i], utility)
        for r in range(table.pairs.shape[0]):
            out[i, r] = _better(utility, table.pairs[r, 0], table.pairs[r, 1], draws.share[i])


@njit(**FAST)
def _better(utility: Singles, a: int, b: int, share: Singles) -> Single:
    """Mean of the larger of two rows."""
    out = _ZERO
    for p in range(share.shape[0]):
        out += share[p] * max(utility[a, p], utility[b, p])
    return out
