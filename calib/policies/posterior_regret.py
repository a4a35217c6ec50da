"""The pair whose answer is expected to lower most the regret of what one draw of the person wants, judged by another.

The regret is that of setting the machine to the best of a draw from the posterior while the person is another draw: 0
where all draws want the same, however little is known of the weights. As a measure of uncertainty it is DeGroot's
(1962, "Uncertainty, information, and sequential experiments") with the degree of alignment as the utility, and a graded
form of the edges between decisions that Golovin, Krause and Ray (2010) cut. Unlike the value of information it also
sees an answer that changes nothing by itself and prepares a later one that will.
"""

from typing import Any

import numpy as np
from numba import njit

from calib.live import Belief, Floats, Ints
from calib.policies._draws import (
    EACH,
    FAST,
    Draws,
    Table,
    answers,
    best_of_draws,
    draws_of,
    draws_of_single,
    mass,
    odds,
    scores,
)
from calib.setup import Setup
from calib.vector import Single, Singles, dot_rows, rows32

_ZERO, _LEAST = np.float32(0.0), np.float32(1e-7)  # an answer less likely than rounding has no mean


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The best pair; the first of the pool where tied."""
    return np.argmax(worth(setup, draws_of(setup, belief, log_weight)), axis=1)


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return np.argmax(worth(setup, draws_of_single(setup, belief)), axis=1)


def worth(setup: Setup, draws: Draws) -> Singles:
    """(N, R) expected drop of the regret, in degree.

    The regret is a constant less sum_x E v_x . E phi(s*_x): v is w p(x)/(U_max - U_min), s* a draw's best setting. So
    its drop is the covariance of the two means over the answers.
    """
    return scores(setup, draws, _score)


@njit(**EACH)
def _score(draws: Draws, table: Table, out: Singles) -> None:
    num_attributes, num = draws.weights.shape[1:]
    num_contexts, half = table.phi.shape[0], table.phi.shape[0] * num_attributes
    up, joint, utility = rows32(table.cards.shape[0], num), rows32(2, num), rows32(2, num)
    part, least, rows = rows32(num_contexts, num), rows32(num_contexts, num), rows32(2 * half, num)
    best, used = np.empty((num_contexts, num), np.int64), np.empty(half, np.int64)
    for i in range(out.shape[0]):
        weights, share = draws.weights[i], draws.share[i]
        odds(table.cards, weights, draws.rationality[i], up)
        best_of_draws(table.phi, table.feasible, table.context_p, weights, best, part, least, utility)
        count = centred_rows(table.phi, best, part, weights, draws.share, i, rows, used)
        for r in range(table.pairs.shape[0]):
            answers(up, draws.threshold[i], share, table.pairs[r, 0], table.pairs[r, 1], joint, 0)
            of_a, of_b, of_equal = _ZERO, _ZERO, _ZERO
            for n in range(count):
                v_a, v_b, f_a, f_b = _means(rows, used[n], half + used[n], joint)
                of_a += v_a * f_a
                of_b += v_b * f_b
                of_equal += (v_a + v_b) * (f_a + f_b)  # all three add up to 0
            first, second = mass(joint)
            equal = np.float32(1) - first - second
            drop = of_a / first if first > _LEAST else _ZERO
            drop += of_b / second if second > _LEAST else _ZERO
            out[i, r] = drop + (of_equal / equal if equal > _LEAST else _ZERO)


@njit(**EACH)
def centred_rows(
    phi: Singles, best: Ints, part: Singles, weights: Singles, share: Singles, i: int, rows: Singles, used: Ints
) -> int:
    """rows (2 X J, P): v of each draw, and behind it phi of its best setting, both less their mean by share[i].

    The numbers of those that differ among draws go to `used`, and their count is returned.
    """
    num_contexts, num_attributes = part.shape[0], weights.shape[0]
    half, num, count = num_contexts * num_attributes, weights.shape[1], 0
    for x in range(num_contexts):
        for j in range(num_attributes):
            k = x * num_attributes + j
            differs = False
            for p in range(num):
                rows[k, p] = part[x, p] * weights[j, p]
                rows[half + k, p] = phi[x, best[x, p], j]
                differs |= rows[half + k, p] != rows[half + k, 0]
            if differs:
                used[count] = k
                count += 1
                _centre(rows, k, share, i)
                _centre(rows, half + k, share, i)
    return count


@njit(**EACH)
def _centre(rows: Singles, k: int, share: Singles, i: int) -> None:
    """Take the mean by share[i] (P,) from rows[k]."""
    mean = dot_rows(rows, k, share, i)
    for p in range(rows.shape[1]):
        rows[k, p] -= mean


@njit(**FAST)
def _means(rows: Singles, k: int, n: int, joint: Singles) -> tuple[Single, Single, Single, Single]:
    """Sums of rows[k] and rows[n] times either row of joint (2, P)."""
    k_a, k_b, n_a, n_b = _ZERO, _ZERO, _ZERO, _ZERO
    for p in range(joint.shape[1]):
        k_a += rows[k, p] * joint[0, p]
        k_b += rows[k, p] * joint[1, p]
        n_a += rows[n, p] * joint[0, p]
        n_b += rows[n, p] * joint[1, p]
    return k_a, k_b, n_a, n_b
