"""The question, through whichever channel, that pays most for the seconds that it takes; none where none pays.

A comparison of outcomes speaks about intent; a belief probe about what a choice meant, which is the same thing said of
the choices before. Both are worth what they are expected to take from the regret among what is still possible
(posterior_regret.py), divided by the person's seconds (`effort` of the scenario). Where the best buys less than
`questions.worth_of_second` a second, nothing is asked. Probes are in the pool where the scenario has
`questions.beliefs` and the engine infers beliefs.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from scipy.special import ndtri

from calib.engines import load_engine
from calib.live import Belief, Floats, Ints, over_people
from calib.policies import posterior_regret
from calib.policies._draws import EACH, FAST, Draws, Table, best_of_draws, draws_of, draws_of_single, table_of
from calib.policies.posterior_regret import centred_rows
from calib.rounds import State
from calib.setup import Setup
from calib.vector import Single, Singles, rows32, total

_BINS = 8  # of what may be said
_THIN = 4  # of the particles every fourth for probes: their score is a sum over all of them for every cell
_ZERO, _LEAST = np.float32(0.0), np.float32(1e-7)


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The pair that pays most, -1 where none does."""
    return _best(setup, _per_second(setup, draws_of(setup, belief, log_weight)))


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """The same from a bulk belief."""
    return _best(setup, _per_second(setup, draws_of_single(setup, belief)))


def ask(setup: Setup, state: State, log_weight: Floats, u: Floats) -> Ints:
    """The question that pays most, pairs first and probes behind them, -1 where none does."""
    draws = draws_of(setup, state.belief, log_weight)
    worth = _per_second(setup, draws)
    if setup.pool.probes:
        engine = load_engine(setup.engine)
        thin = Draws(*(np.ascontiguousarray(column[..., ::_THIN]) for column in draws))
        thin = thin._replace(share=thin.share / thin.share.sum(axis=1, keepdims=True))
        seconds = setup.scenario.effort_s["expect"]
        of_probes = np.zeros((len(worth), setup.pool.probes), np.float32)
        for i in np.flatnonzero(state.active).tolist():
            mean, var = engine.outlook(setup, state, i, _THIN)
            sd = np.sqrt(var + setup.mind.probe_sd**2) if setup.mind else np.sqrt(var)
            of_probes[i] = probe_worth(setup, thin.of(i, i + 1), mean, sd) / max(seconds, 1e-3)
        worth = np.concatenate([worth, of_probes], axis=1)
    return _best(setup, worth)


def _per_second(setup: Setup, draws: Draws) -> Singles:
    seconds = np.float32(max(setup.scenario.effort_s["compare"], 1e-3))
    return np.asarray(posterior_regret.worth(setup, draws) / seconds)


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


@njit(**EACH)
def _score(draws: Draws, table: Table, mean: Floats, sd: Floats, edges: Floats, out: Singles) -> None:
    num_attributes, num = draws.weights.shape[1:]
    num_contexts, half = table.phi.shape[0], table.phi.shape[0] * num_attributes
    part, least, rows = rows32(num_contexts, num), rows32(num_contexts, num), rows32(2 * half, num)
    best, used, utility = np.empty((num_contexts, num), np.int64), np.empty(half, np.int64), rows32(2, num)
    bins = edges.shape[1] + 1
    joint, below = rows32(1, num), np.empty(num)
    weights, share = draws.weights[0], draws.share[0]
    best_of_draws(table.phi, table.feasible, table.context_p, weights, best, part, least, utility)
    count = centred_rows(table.phi, best, part, weights, draws.share, 0, rows, used)
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
            chance = total(joint[0])
            if chance > _LEAST:
                drop = _ZERO
                for n in range(count):
                    drop += _both(rows, used[n], half + used[n], joint)
                out[c] += drop / chance


@njit(**FAST)
def _both(rows: Singles, k: int, n: int, joint: Singles) -> Single:
    """Product of the sums of rows[k] and rows[n] times joint."""
    first, second = _ZERO, _ZERO
    for p in range(joint.shape[1]):
        first += rows[k, p] * joint[0, p]
        second += rows[n, p] * joint[0, p]
    return first * second
