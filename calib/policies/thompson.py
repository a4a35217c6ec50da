"""The cards that are best to two draws from the posterior.

Thompson sampling by duels (Thompson 1933; double Thompson sampling, Wu and Liu 2016): two people are drawn by weight,
and the first one's best card is compared with the second one's. Where that is the same card, it meets the second one's
next best.
"""

from typing import Any

import numpy as np
from numba import njit

from calib.live import Belief, Floats, Ints, over_people
from calib.policies._draws import EACH, Draws, Table, draws_of, draws_of_single, table_of, utilities
from calib.setup import Setup
from calib.vector import Singles, rows32


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The pair of the two draws that u[:, 0] and u[:, 1] name."""
    return duel(setup, draws_of(setup, belief, log_weight), u)


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return duel(setup, draws_of_single(setup, belief), u)


def duel(setup: Setup, draws: Draws, u: Floats) -> Ints:
    """(N,) pair numbers."""
    table, num_cards = table_of(setup), len(setup.cards)
    number = np.zeros((num_cards, num_cards), np.int64)
    for r, (a, b) in enumerate(setup.pairs):
        number[a, b] = number[b, a] = r
    out = np.empty(len(u), np.int64)
    over_people(lambda a, b: _duels(draws.of(a, b), table, u[a:b], number, out[a:b]), len(u))
    return out


@njit(**EACH)
def _duels(draws: Draws, table: Table, u: Floats, number: Ints, out: Ints) -> None:
    num_cards = table.cards.shape[0]
    utility = rows32(num_cards, draws.share.shape[1])
    for i in range(out.shape[0]):
        utilities(table.cards, draws.weights[i], utility)
        first, second = _drawn(draws.share[i], u[i, 0]), _drawn(draws.share[i], u[i, 1])
        champion = _best(utility, first, -1)
        challenger = _best(utility, second, -1)
        if challenger == champion:
            challenger = _best(utility, second, champion)
        out[i] = number[champion, challenger]


@njit(**EACH)
def _drawn(share: Singles, u: float) -> int:
    """The draw at u of the distribution function."""
    reached, p = np.float64(share[0]), 0
    while reached <= u and p < share.shape[0] - 1:
        p += 1
        reached += share[p]
    return p


@njit(**EACH)
def _best(utility: Singles, p: int, but: int) -> int:
    """The card that draw p likes best, the first where tied, other than `but`."""
    found = -1
    for card in range(utility.shape[0]):
        if card != but and (found < 0 or utility[card, p] > utility[found, p]):
            found = card
    return found
