"""Weighted draws of people, the same for the belief of either engine, and what each draw would answer and set.

A policy whose score is one compiled sweep over these draws has both signatures from it (calib/policies/__init__.py).
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.alignment import MIN_RANGE
from calib.comparisons import TAU, model_of, simplex
from calib.kernel import COMPARISON
from calib.live import Belief, Floats, Ints, intent_at, over_people
from calib.setup import Setup
from calib.vector import BLOCK, Single, Singles, add_rows, empty32, exp32, rows32, total

LANES = 16  # numbers that a processor computes on at once at most: shorter rows leave a rest to be done singly
_THIN = 2  # of single-precision particles every second one: after resampling neighbours are alike
_CLIP = np.float32(60.0)  # of r U, as in calib/comparisons.py
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_MIN_RANGE = np.float32(MIN_RANGE)
EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering
FAST = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


class Draws(NamedTuple):
    """P draws of each of N people."""

    weights: Singles  # (N, J, P)
    rationality: Singles  # (N, P) of comparisons
    threshold: Singles  # (N, P) e^tau
    share: Singles  # (N, P) of the posterior, adding up to 1

    def of(self, low: int, high: int) -> "Draws":
        """The people from `low` up to `high`."""
        return Draws(*(column[low:high] for column in self))


class Table(NamedTuple):
    """Cards, pairs and the outcome map in single precision."""

    cards: Singles  # (Q, J) less 1/2, which cancels in pairs; zeros up to a multiple of BLOCK attributes
    pairs: Ints  # (R, 2)
    phi: Singles  # (X, S_ref, J), zeros likewise
    feasible: NDArray[np.bool_]  # (S_ref, X)
    context_p: Singles  # (X,)


Score = Callable[[Draws, Table, Singles], None]


@lru_cache(maxsize=16)
def table_of(setup: Setup) -> Table:
    """The setup's."""
    phi = setup.phi[: setup.num_reference].transpose(1, 0, 2).astype(np.float32)
    padding = (0, -phi.shape[2] % BLOCK)
    return Table(
        np.ascontiguousarray(np.pad((setup.cards - 0.5).astype(np.float32), ((0, 0), padding))),
        setup.pairs,
        np.ascontiguousarray(np.pad(phi, ((0, 0), (0, 0), padding))),
        np.ascontiguousarray(setup.feasible[: setup.num_reference]),
        setup.context_p.astype(np.float32),
    )


def draws_of(setup: Setup, belief: Belief, log_weight: Floats) -> Draws:
    """From the particles of the live engine, with log_weight (N, P)."""
    num_attributes = setup.num_attributes
    extra = belief.particles[:, num_attributes - 1 :]
    share = np.exp(log_weight - log_weight.max(axis=1, keepdims=True)).astype(np.float32)
    for row in share:
        row /= row.sum()
    return Draws(
        intent_at(belief.particles, num_attributes).astype(np.float32),
        np.exp(extra[:, COMPARISON]).astype(np.float32),
        np.exp(np.exp(extra[:, TAU])).astype(np.float32),
        share,
    )


def draws_of_single(setup: Setup, belief: Any) -> Draws:
    """From the particles of the bulk engine, thinned."""
    num, _, num_particles = belief.particles.shape
    draws = (num_particles + _THIN - 1) // _THIN
    out = Draws(empty32(num, setup.num_attributes, draws), *(empty32(num, draws) for _ in range(3)))
    model = model_of(setup)
    over_people(
        lambda a, b: _thinned(
            belief.particles[a:b], belief.log_weight[a:b], model.shape, model.mean, model.sd, out.of(a, b)
        ),
        num,
    )
    return out


@njit(**EACH)
def _thinned(particles: Singles, log_weight: Singles, shape: Singles, mean: Singles, sd: Singles, out: Draws) -> None:
    weights, rationality, threshold, share = out
    num_attributes, draws = weights.shape[1], weights.shape[2]
    here, whole = rows32(num_attributes, draws), np.empty(draws, np.float32)
    for i in range(particles.shape[0]):
        for p in range(draws):
            for j in range(num_attributes):
                here[j, p] = particles[i, j, p * _THIN]
            rationality[i, p] = particles[i, num_attributes, p * _THIN]
            threshold[i, p] = particles[i, num_attributes + 1, p * _THIN]
            share[i, p] = log_weight[i, p * _THIN]
        simplex(here, shape, weights[i], whole)
        for p in range(draws):
            rationality[i, p] = exp32(mean[0] + sd[0] * rationality[i, p])
            threshold[i, p] = exp32(exp32(mean[1] + sd[1] * threshold[i, p]))
            share[i, p] = exp32(share[i, p])
        norm = _ONE / total(share[i])
        for p in range(draws):
            share[i, p] *= norm


def scores(setup: Setup, draws: Draws, score: Score) -> Singles:
    """(N, R) what each pair is worth to the person, by score(draws, table, out) on slices of people."""
    table, num = table_of(setup), len(draws.share)
    out = np.empty((num, len(setup.pairs)), np.float32)
    over_people(lambda a, b: score(draws.of(a, b), table, out[a:b]), num)
    return out


@njit(**EACH)
def utilities(cards: Singles, weights: Singles, out: Singles) -> None:
    """out (Q, P): utility, less 1/2, of the cards (Q, J) at one person's weights (J, P)."""
    for card in range(out.shape[0]):
        for p in range(out.shape[1]):
            out[card, p] = _ZERO
        add_rows(cards, card, 0, weights.shape[0], weights, out, card)


@njit(**EACH)
def odds(cards: Singles, weights: Singles, rationality: Singles, up: Singles) -> None:
    """up (Q, P) = e^{r U} of the cards at one person's weights."""
    utilities(cards, weights, up)
    for card in range(up.shape[0]):
        for p in range(up.shape[1]):
            up[card, p] = exp32(min(max(rationality[p] * up[card, p], -_CLIP), _CLIP))


@njit(**EACH)
def answers(up: Singles, threshold: Singles, share: Singles, a: int, b: int, joint: Singles, at: int) -> None:
    """joint[at], joint[at + 1] (P,): share of each draw times its probability of preferring card a, or b (2.5)."""
    for p in range(share.shape[0]):
        joint[at, p] = share[p] * (up[a, p] / (up[a, p] + threshold[p] * up[b, p]))
        joint[at + 1, p] = share[p] * (up[b, p] / (up[b, p] + threshold[p] * up[a, p]))


@njit(**EACH)
def best_of_draws(
    phi: Singles,
    feasible: NDArray[np.bool_],
    context_p: Singles,
    weights: Singles,
    best: Ints,
    part: Singles,
    least: Singles,
    utility: Singles,
) -> None:
    """What each draw would set: best (X, P), the first where tied.

    part (X, P) is p(x)/(U_max - U_min), p(x) among the contexts that count for the draw, 0 where one does not; least
    (X, P) U_min. The degree of settings s_x is then sum_x part (U(s_x) - least), or 1 where nothing counts.
    """
    draws = weights.shape[1]
    for p in range(draws):
        utility[1, p] = _ZERO
    for x in range(context_p.shape[0]):
        for p in range(draws):
            part[x, p], least[x, p], best[x, p] = -np.inf, np.inf, 0
        for s in range(phi.shape[1]):
            if feasible[s, x]:
                for p in range(draws):
                    utility[0, p] = _ZERO
                add_rows(phi[x], s, 0, weights.shape[0], weights, utility, 0)
                for p in range(draws):
                    u = utility[0, p]
                    best[x, p] = s if u > part[x, p] else best[x, p]
                    part[x, p] = max(part[x, p], u)
                    least[x, p] = min(least[x, p], u)
        for p in range(draws):
            span = part[x, p] - least[x, p]
            counts = span >= _MIN_RANGE
            part[x, p] = context_p[x] / span if counts else _ZERO
            utility[1, p] += context_p[x] if counts else _ZERO
    for x in range(context_p.shape[0]):
        for p in range(draws):
            part[x, p] = part[x, p] / utility[1, p] if utility[1, p] > _ZERO else _ZERO


@njit(**FAST)
def mass(joint: Singles) -> tuple[Single, Single]:
    """Probability of either answer: the sums of the first two rows of joint."""
    first, second = _ZERO, _ZERO
    for p in range(joint.shape[1]):
        first += joint[0, p]
        second += joint[1, p]
    return first, second


@njit(**FAST)
def means(rows: Singles, k: int, joint: Singles, at: int) -> tuple[Single, Single]:
    """Sums over the draws of rows[k] times joint[at], and joint[at + 1]."""
    first, second = _ZERO, _ZERO
    for p in range(joint.shape[1]):
        first += rows[k, p] * joint[at, p]
        second += rows[k, p] * joint[at + 1, p]
    return first, second
