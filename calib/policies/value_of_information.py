"""The pair after whose answer the machine is expected to stand best.

Value of information (Howard 1966; Raiffa and Schlaifer 1961): the expected rise of the posterior expected degree of
what would then stand, over contexts with p(x) and the settings of S_ref that keep every hard limit (definitions 3.1).
It looks one answer ahead: where none would change what stands, all pairs are worth 0 and the first is asked.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.live import Belief, Floats, Ints
from calib.policies._draws import (
    EACH,
    FAST,
    LANES,
    Draws,
    Table,
    answers,
    best_of_draws,
    draws_of,
    draws_of_single,
    means,
    odds,
    scores,
)
from calib.setup import Setup
from calib.vector import Single, Singles, dot_rows, rows32

_ZERO = np.float32(0.0)


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The best pair; the first of the pool where tied."""
    return np.argmax(worth(setup, draws_of(setup, belief, log_weight)), axis=1)


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return np.argmax(worth(setup, draws_of_single(setup, belief)), axis=1)


def worth(setup: Setup, draws: Draws) -> Singles:
    """(N, R) expected rise of the expected degree, never negative.

    The degree's expectation is linear in phi: in a context one vector of means serves all settings.
    """
    return scores(setup, draws, _score)


@njit(**EACH)
def _score(draws: Draws, table: Table, out: Singles) -> None:
    num_attributes, num = draws.weights.shape[1:]
    num_contexts, num_settings = table.phi.shape[:2]
    num_pairs, lanes = table.pairs.shape[0], num_settings + -num_settings % LANES
    up, joint, utility = rows32(table.cards.shape[0], num), rows32(2 * num_pairs, num), rows32(2, num)
    part, least, rows = rows32(num_contexts, num), rows32(num_contexts, num), rows32(num_attributes, num)
    best, value = np.empty((num_contexts, num), np.int64), np.empty(num_attributes, np.float32)
    more, gain = rows32(num_attributes, lanes), rows32(3, lanes)
    for i in range(out.shape[0]):
        weights, share = draws.weights[i], draws.share[i]
        odds(table.cards, weights, draws.rationality[i], up)
        best_of_draws(table.phi, table.feasible, table.context_p, weights, best, part, least, utility)
        for r in range(num_pairs):
            out[i, r] = _ZERO
            answers(up, draws.threshold[i], share, table.pairs[r, 0], table.pairs[r, 1], joint, 2 * r)
        for x in range(num_contexts):
            for j in range(num_attributes):
                for p in range(num):
                    rows[j, p] = part[x, p] * weights[j, p]
                value[j] = dot_rows(rows, j, draws.share, i)
            _over_standing(table.phi[x], table.feasible, x, value, more)
            for r in range(num_pairs):
                gain[:] = _ZERO
                for j in range(num_attributes):
                    a, b = means(rows, j, joint, 2 * r)
                    e = value[j] - a - b
                    for s in range(lanes):
                        gain[0, s] += a * more[j, s]
                        gain[1, s] += b * more[j, s]
                        gain[2, s] += e * more[j, s]
                out[i, r] += _largest(gain)


@njit(**EACH)
def _over_standing(phi: Singles, feasible: NDArray[np.bool_], x: int, value: Singles, out: Singles) -> None:
    """out (J, S) = phi less that of the setting that now stands in context x; 0 where a limit is broken, and behind."""
    stands, most = -1, _ZERO
    for s in range(phi.shape[0]):
        if feasible[s, x]:
            worth = _ZERO
            for j in range(out.shape[0]):
                worth += value[j] * phi[s, j]
            if stands < 0 or worth > most:
                stands, most = s, worth
    out[:] = _ZERO
    for s in range(phi.shape[0]):
        if feasible[s, x]:
            for j in range(out.shape[0]):
                out[j, s] = phi[s, j] - phi[stands, j]


@njit(**FAST)
def _largest(gain: Singles) -> Single:
    """Sum of the largest of each of the three rows (3, S); what stands is among them with 0."""
    first, second, third = _ZERO, _ZERO, _ZERO
    for s in range(gain.shape[1]):
        first, second, third = max(first, gain[0, s]), max(second, gain[1, s]), max(third, gain[2, s])
    return first + second + third
