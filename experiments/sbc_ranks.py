"""Ranks of the truth among posterior draws: uniform where engine and people share a prior (Talts et al. 2018).

All draws decide the share of the posterior below the truth, which coverage is read from. A rank is among few draws,
because draws that hang together (particles of one ancestor, neighbours of a chain) pile ranks up at the ends.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chisquare

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Ranks = NDArray[np.int16]

MOST_BINS = 20
_MOST_RANKS = 5 * MOST_BINS
_TIE = 1e-9  # a degree of 1 is an atom, up to rounding
_FEWEST = 10  # people in a bin


def num_thinned(num_draws: int, thin: int) -> int:
    """How many of the draws a rank is among: one in `thin`, 19 to 99, so that ranks fill bins of equal size."""
    return min(max(num_draws // (thin * MOST_BINS), 1) * MOST_BINS, _MOST_RANKS) - 1


def thinned(log_weight: Floats, num: int, u: Floats) -> Ints:
    """(N, num) draws picked at even distances of weight, log_weight (N, P), from an offset of their own, u (N,).

    Resampling puts copies of a particle side by side, and a chain's neighbours are alike: distance keeps them apart.
    """
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    out = np.empty((len(weight), num), np.int64)
    for i, row in enumerate(weight):
        cumulative = np.cumsum(row)
        marks = (np.arange(num) + u[i]) / num * cumulative[-1]
        out[i] = np.minimum(np.searchsorted(cumulative, marks, side="right"), row.shape[0] - 1)
    return out


def ranks(draws: Floats, truth: Floats, u: Floats) -> Ranks:
    """(N,) rank of truth (N,) among draws (N, L), 0 to L; ties broken at random by u (N,)."""
    below, same = _compared(draws, truth)
    return np.asarray(below.sum(axis=1) + np.floor(u * (same.sum(axis=1) + 1)), np.int16)


def shares(draws: Floats, log_weight: Floats, truth: Floats, u: Floats) -> Floats:
    """(N,) share of the posterior below the truth, draws (N, P) that count e^log_weight; ties broken at random by u.

    The truth counts as one more draw, so that P equal draws make its rank among them.
    """
    weight = np.exp(log_weight - log_weight.max(axis=1, keepdims=True))
    weight *= draws.shape[1] / weight.sum(axis=1, keepdims=True)
    below, same = _compared(draws, truth)
    return np.asarray(((weight * below).sum(axis=1) + u * ((weight * same).sum(axis=1) + 1)) / (draws.shape[1] + 1))


def _compared(draws: Floats, truth: Floats) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    off = draws - truth[:, None]
    return off < -_TIE, np.abs(off) <= _TIE


def histogram(ranks: Ranks, num_draws: int) -> Ints:
    """(B,) people by rank, 0 to num_draws, in equal bins: twenty, or fewer where they would hold under ten people."""
    num = max([b for b in (20, 10, 5, 4, 2) if len(ranks) >= _FEWEST * b], default=2)
    return np.bincount(ranks.astype(np.int64) * num // (num_draws + 1), minlength=num)


def uniform_p(ranks: Ranks, num_draws: int) -> float:
    """p-value of a chi-square test that the ranks are uniform over their bins."""
    return float(chisquare(histogram(ranks, num_draws)).pvalue)
