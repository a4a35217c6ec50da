"""The likelihood of choices with its gradient, compiled, over points of the parameters: a twin of calib/choice.py.

A test holds value and gradient to those functions. A point has coefficients of the columns for each channel, in log
odds: rationality times weights, or free ones. Loops run over one person's points in a fixed order, so that a person's
numbers are the same in any company.
"""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.vector import exp64
from experiments.choice_data import COMPARISON

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 8  # points in a task: as many as a core adds up at once


class Rows(NamedTuple):
    """Choices as the compiled code reads them."""

    values: Floats  # (R, J): attributes, then the masks that the file has
    start: Ints  # (Q + 1,)
    chosen: Ints  # (Q,)
    channel: Ints  # (Q,)
    first: Ints  # (N + 1,) first choice of each person, and Q


class Gradient(NamedTuple):
    """Of the log likelihood."""

    coefficients: Floats  # (N, C, J, P)
    lapse: Floats  # (N, P)
    about_equal: Floats  # (N, P)


def log_likelihood(
    rows: Rows, who: Ints, coefficients: Floats, lapse: Floats, about_equal: Floats
) -> tuple[Floats, Gradient]:
    """Of the choices of the people `who` (N,) at each point, (N, P).

    coefficients (N, 3, J, P) by channel; lapse and about_equal (N, P). Where the lapse is 0 the likelihood is that of
    the logit alone, however unlikely the choice. about_equal is above 0.
    """
    num, _, _, points = coefficients.shape
    value = np.zeros((num, points))
    gradient = Gradient(np.zeros_like(coefficients), np.zeros((num, points)), np.zeros((num, points)))
    threads = int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))
    most = int(np.max(np.diff(rows.start), initial=2))
    if threads == 1 or len(rows.values) * points < 20_000:
        _add(rows, who, coefficients, lapse, about_equal, 0, num, 0, points, most, value, *gradient)
        return value, gradient
    if num >= 4 * threads:
        edges = np.linspace(0, num, 4 * threads + 1).astype(int)
        tasks = [(int(a), int(b), 0, points) for a, b in itertools.pairwise(edges)]
    else:
        tasks = [(0, num, a, min(a + _BLOCK, points)) for a in range(0, points, _BLOCK)]

    def work(low: int, high: int, left: int, right: int) -> None:
        _add(rows, who, coefficients, lapse, about_equal, low, high, left, right, most, value, *gradient)

    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, *task) for task in tasks]:
            done.result()
    return value, gradient


@njit(cache=True, nogil=True, error_model="numpy")
def _add(
    rows: Rows,
    who: Ints,
    coefficients: Floats,
    lapse: Floats,
    about_equal: Floats,
    low: int,
    high: int,
    left: int,
    right: int,
    most: int,
    value: Floats,
    g_coefficients: Floats,
    g_lapse: Floats,
    g_about_equal: Floats,
) -> None:
    """The people who[low:high] and the points [left, right)."""
    num = right - left
    num_columns = coefficients.shape[2]
    worth = np.empty((most, num))
    top, total, slope = np.empty(num), np.empty(num), np.empty(num)
    for i in range(low, high):
        b = np.ascontiguousarray(coefficients[i, :, :, left:right])
        g = np.zeros(b.shape)
        sure = np.ascontiguousarray(lapse[i, left:right])
        tau = np.ascontiguousarray(about_equal[i, left:right])
        out, g_sure, g_tau = np.zeros(num), np.zeros(num), np.zeros(num)
        for a in range(rows.first[who[i]], rows.first[who[i] + 1]):
            at, c, pick = rows.start[a], rows.channel[a], rows.chosen[a]
            count = rows.start[a + 1] - at
            for k in range(count):
                for p in range(num):
                    worth[k, p] = 0.0
                for j in range(num_columns):
                    f = rows.values[at + k, j]
                    for p in range(num):
                        worth[k, p] += f * b[c, j, p]
            if c == COMPARISON:
                for p in range(num):
                    difference = worth[0, p] - worth[1, p]
                    to_a, to_b = difference - tau[p], -difference - tau[p]
                    lose_a = 1.0 / (1.0 + np.exp(to_a))
                    lose_b = 1.0 / (1.0 + np.exp(to_b))
                    log_a = -max(-to_a, 0.0) - np.log1p(np.exp(-abs(to_a)))
                    log_b = -max(-to_b, 0.0) - np.log1p(np.exp(-abs(to_b)))
                    if pick == 0:
                        out[p] += log_a
                        slope[p] = lose_a
                        g_tau[p] -= lose_a
                    elif pick == 1:
                        out[p] += log_b
                        slope[p] = -lose_b
                        g_tau[p] -= lose_b
                    else:
                        span = np.expm1(2.0 * tau[p])
                        out[p] += np.log(span) + log_a + log_b
                        slope[p] = lose_a - lose_b
                        g_tau[p] += 2.0 + 2.0 / span - lose_a - lose_b
                for j in range(num_columns):
                    gap = rows.values[at, j] - rows.values[at + 1, j]
                    for p in range(num):
                        g[c, j, p] += slope[p] * gap
                continue
            for p in range(num):
                top[p] = worth[0, p]
                total[p] = 0.0
            for k in range(1, count):
                for p in range(num):
                    top[p] = max(top[p], worth[k, p])
            for p in range(num):
                slope[p] = worth[pick, p] - top[p]  # the log odds of what was chosen
            for k in range(count):
                for p in range(num):
                    worth[k, p] = exp64(worth[k, p] - top[p])
                for p in range(num):
                    total[p] += worth[k, p]
            for p in range(num):
                share = worth[pick, p] / total[p]
                if sure[p] > 0.0:
                    probability = sure[p] / count + (1.0 - sure[p]) * share
                    out[p] += np.log(probability)
                    g_sure[p] += (1.0 / count - share) / probability
                    slope[p] = (1.0 - sure[p]) * share / probability
                else:
                    out[p] += slope[p] - np.log(total[p])
                    slope[p] = 1.0
                total[p] = slope[p] / total[p]
            for k in range(count):
                mine = 1.0 if k == pick else 0.0
                for p in range(num):
                    worth[k, p] = slope[p] * mine - total[p] * worth[k, p]
                for j in range(num_columns):
                    f = rows.values[at + k, j]
                    for p in range(num):
                        g[c, j, p] += worth[k, p] * f
        value[i, left:right] = out
        g_coefficients[i, :, :, left:right] = g
        g_lapse[i, left:right] = g_sure
        g_about_equal[i, left:right] = g_tau
