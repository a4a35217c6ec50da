"""The question, through whichever channel, that pays most for the seconds that it takes; none where none pays.

A comparison of outcomes, the best of some of them and the rating of a run speak about intent; a belief probe about what
a choice meant, which is the same thing said of the choices before. All are worth what they are expected to take from
the regret among what is still possible (posterior_regret.py), divided by the person's seconds (`effort` of the
scenario). Where the best buys less than `questions.worth_of_second` a second, nothing is asked. Which kinds are in the
pool: calib/questions.py.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numba import njit
from scipy.special import ndtri

from calib.engines import load_engine
from calib.live import Belief, Floats, Ints, over_people
from calib.policies import posterior_regret
from calib.policies._draws import EACH, FAST, Draws, Table, best_of_draws, draws_of, draws_of_single, table_of
from calib.policies.posterior_regret import centred_rows
from calib.setup import Setup
from calib.state import State
from calib.vector import Single, Singles, rows32, total

_BINS = 8  # of what may be said
_THIN = 4  # of the particles every fourth for probes: their score is a sum over all of them for every cell
_LAPSE = 3  # row behind the log ratios in calib/kernel.py's coordinates
_ZERO, _LEAST = np.float32(0.0), np.float32(1e-7)


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The pair that pays most, -1 where none does."""
    return _best(setup, _per_second(setup, draws_of(setup, belief, log_weight)))


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return _best(setup, _per_second(setup, draws_of_single(setup, belief)))


def ask(setup: Setup, state: State, log_weight: Floats, u: Floats) -> Ints:
    """The question of the pool that pays most, -1 where none does."""
    draws = draws_of(setup, state.belief, log_weight)
    worth = _per_second(setup, draws)
    others = np.zeros((len(worth), sum(setup.pool[1:])), np.float32)
    if others.shape[1]:
        thin = Draws(*(np.ascontiguousarray(column[..., ::_THIN]) for column in draws))
        thin = thin._replace(share=thin.share / thin.share.sum(axis=1, keepdims=True))
        for i in np.flatnonzero(state.active).tolist():
            others[i] = np.concatenate(list(_of_others(setup, state, i, thin.of(i, i + 1))))
    return _best(setup, np.concatenate([worth, others], axis=1))


def _of_others(setup: Setup, state: State, i: int, draws: Draws) -> Iterator[Singles]:
    """What a second buys of the questions behind the pairs, kind by kind, to person i."""
    engine, seconds, pool = load_engine(setup.engine), setup.scenario.effort_s, setup.pool
    if pool.probes:
        mean, var = engine.outlook(setup, state, i, _THIN)
        assert setup.mind is not None
        yield probe_worth(setup, draws, mean, np.sqrt(var + setup.mind.probe_sd**2)) / _least(seconds["expect"])
    if pool.ratings:
        worth = option_worth(setup, draws, engine.grades(setup, state, i, _THIN)[None]) / _least(seconds["rate"])
        yield np.full_like(worth, -np.inf) if state.cut_short[i] else worth  # without an outcome nothing can be rated
    if pool.menus:
        lapse = state.belief.particles[i, setup.num_attributes - 1 + _LAPSE, ::_THIN]
        chance = _menu_chances(setup, draws, 1 / (1 + np.exp(-lapse)))
        yield option_worth(setup, draws, chance) / _least(seconds["compare"] * setup.menus.shape[1] / 2)


def _least(seconds: float) -> np.float32:
    return np.float32(max(seconds, 1e-3))


def _menu_chances(setup: Setup, draws: Draws, lapse: Floats) -> Floats:
    """(R', K, P) how probable each card of each menu is to be named best."""
    worth = draws.rationality[0] * np.einsum("qj,jp->qp", setup.cards, draws.weights[0])
    up = np.exp(worth - worth.max(axis=0))[setup.menus]
    return lapse / setup.menus.shape[1] + (1 - lapse) * up / np.maximum(up.sum(axis=1, keepdims=True), 1e-30)


def _per_second(setup: Setup, draws: Draws) -> Singles:
    return np.asarray(posterior_regret.worth(setup, draws) / _least(setup.scenario.effort_s["compare"]))


def _best(setup: Setup, worth: Singles) -> Ints:
    """(N,) the first of the best, -1 where it buys less than a second is worth."""
    number = np.argmax(worth, axis=1)
    return np.where(worth.max(axis=1) < setup.scenario.worth_of_second, -1, number)


def probe_worth(setup: Setup, draws: Draws, mean: Floats, sd: Floats) -> Singles:
    """(M J,) expected drop of one person's regret from what they say of each cell.

    Given a draw, what is said is Gaussian with mean and sd (M, J, P), in _BINS bins of about equal chance.
    """
    share = draws.share[0].astype(np.float64)
    flat_mean, flat_sd = mean.reshape(-1, mean.shape[-1]), sd.reshape(-1, mean.shape[-1])
    centre = np.sum(share * flat_mean, axis=1)
    whole = np.sqrt(np.sum(share * (flat_sd**2 + (flat_mean - centre[:, None]) ** 2), axis=1))
    edges = centre[:, None] + whole[:, None] * ndtri(np.arange(1, _BINS) / _BINS)
    out = np.empty(len(flat_mean), np.float32)
    table = table_of(setup)
    over_people(lambda a, b: _score(draws, table, flat_mean[a:b], flat_sd[a:b], edges[a:b], out[a:b]), len(out), 1)
    return out


def option_worth(setup: Setup, draws: Draws, chance: Floats) -> Singles:
    """(R,) expected drop of one person's regret from questions whose options have `chance` (R, K, P) given a draw."""
    out, table, single = np.empty(len(chance), np.float32), table_of(setup), chance.astype(np.float32)
    over_people(lambda a, b: _score_options(draws, table, single[a:b], out[a:b]), len(out), 1)
    return out


@njit(**EACH)
def _score_options(draws: Draws, table: Table, chance: Singles, out: Singles) -> None:
    rows, used, count = _rows(draws, table)
    half, share, joint = rows.shape[0] // 2, draws.share[0], rows32(1, draws.share.shape[1])
    for r in range(out.shape[0]):
        out[r] = _ZERO
        for k in range(chance.shape[1]):
            for p in range(share.shape[0]):
                joint[0, p] = share[p] * chance[r, k, p]
            out[r] += _drop(rows, used, count, half, joint)


@njit(**EACH)
def _rows(draws: Draws, table: Table) -> tuple[Singles, Ints, int]:
    """The centred rows of posterior_regret.py for one person, the numbers of those that differ, and their count."""
    num_attributes, num = draws.weights.shape[1:]
    num_contexts, half = table.phi.shape[0], table.phi.shape[0] * num_attributes
    part, least, rows = rows32(num_contexts, num), rows32(num_contexts, num), rows32(2 * half, num)
    best, used, utility = np.empty((num_contexts, num), np.int64), np.empty(half, np.int64), rows32(2, num)
    weights = draws.weights[0]
    best_of_draws(table.phi, table.feasible, table.context_p, weights, best, part, least, utility)
    return rows, used, centred_rows(table.phi, best, part, weights, draws.share, 0, rows, used)


@njit(**EACH)
def _drop(rows: Singles, used: Ints, count: int, half: int, joint: Singles) -> Single:
    """What an answer takes from the regret, times its probability; joint (1, P) is that with each draw."""
    chance, drop = total(joint[0]), _ZERO
    if chance <= _LEAST:
        return _ZERO
    for n in range(count):
        drop += _both(rows, used[n], half + used[n], joint)
    return drop / chance


@njit(**EACH)
def _score(draws: Draws, table: Table, mean: Floats, sd: Floats, edges: Floats, out: Singles) -> None:
    rows, used, count = _rows(draws, table)
    half, share, num = rows.shape[0] // 2, draws.share[0], draws.share.shape[1]
    joint, below = rows32(1, num), np.empty(num)
    bins = edges.shape[1] + 1
    for c in range(out.shape[0]):
        out[c] = _ZERO
        for p in range(num):
            below[p] = 0.0
        for b in range(bins):
            for p in range(num):
                up_to = 1.0
                if b < bins - 1:
                    up_to = 0.5 * (1.0 + math.erf((edges[c, b] - mean[c, p]) / (sd[c, p] * math.sqrt(2.0))))
                joint[0, p] = share[p] * np.float32(up_to - below[p])
                below[p] = up_to
            out[c] += _drop(rows, used, count, half, joint)


@njit(**FAST)
def _both(rows: Singles, k: int, n: int, joint: Singles) -> Single:
    """Product of the sums of rows[k] and rows[n] times joint."""
    first, second = _ZERO, _ZERO
    for p in range(joint.shape[1]):
        first += rows[k, p] * joint[0, p]
        second += rows[n, p] * joint[0, p]
    return first * second
