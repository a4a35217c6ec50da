"""Hamiltonian Monte Carlo on an axis of people: chains that start around each person's mode, whitened by its curvature.

`target(x, who) -> value, gradient` takes points x (N, D, P) of the people `who` (N,) and gives the log density (N, P)
and its gradient (N, D, P); no person's numbers depend on another's. Chance is a function of (key, person, sweep).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from calib.streams import uniforms
from experiments.convergence import r_hat

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Target = Callable[[Floats, Ints], tuple[Floats, Floats]]

CHAINS, WARM_UP, DRAWS = 16, 100, 250
_TARGET_ACCEPT = 0.9
_LEAST_STEP, _MOST_STEP, _MOST_LEAPS = 0.02, 1.0, 24
_NEWTON_STEPS, _NUDGE, _NEAR = 60, 1e-4, 1e-8
_LEAST_CURVATURE = 0.005  # below that of any prior used here, so that a flat direction is still walked
_AGREED = 1.01  # R-hat of every coordinate; else all is drawn again, of ever more trajectories
_STRIDES = (1, 2, 4, 8)
_WIDER = 1.3  # chains start wider than the curvature says: their agreement then means something
_DIVERGED = 1000.0  # of energy, as Stan has it


class Draws(NamedTuple):
    """Chains after the warm-up."""

    x: Floats  # (N, D, P, T)
    acceptance: Floats  # (N,) mean
    divergences: Ints  # (N,)
    sweeps: Ints  # (N,) trajectories of each chain, of which T are kept


class Chains(NamedTuple):
    """Where the chains of some people stand, and how they are moved."""

    x: Floats  # (N, D, P)
    value: Floats  # (N, P) log density there
    gradient: Floats  # (N, D, P)
    factor: Any  # (N, D, D) Cholesky factor of the covariance that whitens, or one for each chain (N, P, D, D)
    step: Floats  # (N,)


def sample(
    target: Target,
    start: Floats,
    key: np.uint64,
    first: int,
    draws: int = DRAWS,
    progress: Callable[[float], object] = float,
) -> Draws:
    """Draws for each person from chains around the mode that is found from `start` (N, D).

    Whose chains do not agree after `draws` trajectories, or where one diverged, is drawn again from where the chains
    stand: twice as many trajectories, of which as many are kept, then four and eight times. `first` is the number of
    the first person, of whose stream of chance it is; `progress` is told the share that is done at least.
    """
    chains = warm_up(target, start, key, first)
    num, dims, _ = chains.x.shape
    kept = np.empty((num, dims, CHAINS, draws))
    sweeps, acceptance, divergences = np.zeros(num, np.int64), np.zeros(num), np.zeros(num, np.int64)
    who, done = np.arange(num), 1 + WARM_UP
    for stride in _STRIDES:
        own = Chains(*(part[who] for part in chains))
        if stride > 1:  # what was drawn so far has taught more, and now only warms up
            covariance = spread(kept[who].reshape(len(who), dims, -1), own.factor @ own.factor.transpose(0, 2, 1))
            own = own._replace(
                factor=np.linalg.cholesky(covariance),
                step=np.where(divergences[who] > 0, np.maximum(own.step / 2, _LEAST_STEP), own.step),
            )
        acceptance[who], divergences[who], sweeps[who] = 0.0, 0, stride * draws
        for sweep in range(stride * draws):
            own, rate, diverged = move(target, own, key, first, who, done)
            progress(done / (WARM_UP + draws) if stride == 1 else 1.0)
            done += 1
            acceptance[who] += rate
            divergences[who] += diverged
            if (sweep + 1) % stride == 0:
                kept[who, ..., sweep // stride] = own.x
        for part, mine in zip(chains, own, strict=True):
            part[who] = mine
        who = who[(np.max(r_hat(kept[who]), axis=1) > _AGREED) | (divergences[who] > 0)]
        if not len(who):
            break
    return Draws(kept, acceptance / sweeps, divergences, sweeps)


def warm_up(target: Target, start: Floats, key: np.uint64, first: int) -> Chains:
    """Chains around the mode, their step sizes and covariances learnt."""
    mode, covariance = find_mode(target, start)
    num, dims = mode.shape
    who = np.arange(num)
    factor = np.linalg.cholesky(covariance)
    normals = ndtri(uniforms(key, first + who, 0, dims * CHAINS)).reshape(num, dims, CHAINS)
    x = mode[:, :, None] + _WIDER * (factor @ normals)
    chains = Chains(x, *target(x, who), factor, np.full(num, 0.5))
    history: list[Floats] = []
    for sweep in range(WARM_UP):
        chains, rate, diverged = move(target, chains, key, first, who, 1 + sweep)
        # a trajectory that flies off is worth eight that are refused: steps must suit the stiffest place
        chains = chains._replace(step=adapt(chains.step, rate - diverged / 2, sweep))
        history.append(chains.x)
        if sweep + 1 in (WARM_UP // 4, WARM_UP // 2):
            covariance = spread(np.concatenate(history[len(history) // 3 :], axis=2), covariance)
            chains = chains._replace(factor=np.linalg.cholesky(covariance))
            history.clear()
    return chains


def find_mode(target: Target, start: Floats) -> tuple[Floats, Floats]:
    """The mode (N, D) by Newton's method, and the inverse of the curvature there (N, D, D), made positive."""
    x = start.copy()
    num, dims = x.shape
    nudges = _NUDGE * np.concatenate([np.zeros((dims, 1)), np.eye(dims), -np.eye(dims)], axis=1)
    lengths = 0.5 ** np.arange(-1.0, 12.0)
    covariance = np.zeros((num, dims, dims))
    who = np.arange(num)
    for _ in range(_NEWTON_STEPS):
        value, gradient = target(x[who, :, None] + nudges, who)
        hessian = (gradient[:, :, 1 : dims + 1] - gradient[:, :, dims + 1 :]) / (2 * _NUDGE)
        size, axes = np.linalg.eigh(-0.5 * (hessian + hessian.transpose(0, 2, 1)))
        size = np.maximum(np.abs(size), _LEAST_CURVATURE)
        covariance[who] = (axes / size[:, None, :]) @ axes.transpose(0, 2, 1)
        along = (covariance[who] @ gradient[:, :, :1])[:, :, 0]
        promise = np.sum(along * gradient[:, :, 0], axis=1)
        trial = x[who, :, None] + along[:, :, None] * lengths
        reached = np.nan_to_num(target(trial, who)[0], nan=-np.inf)
        best = np.argmax(reached, axis=1)
        rows = np.arange(len(who))
        better = (promise > _NEAR) & (reached[rows, best] > value[:, 0])
        who, best, rows = who[better], best[better], rows[better]
        if not len(who):
            break
        x[who] = trial[rows, :, best]
    return x, covariance


def move(
    target: Target, chains: Chains, key: np.uint64, first: int, who: Ints, sweep: int
) -> tuple[Chains, Floats, Ints]:
    """One trajectory of every chain, a quarter period long in whitened units; acceptance (N,), divergences (N,)."""
    x, _, gradient, factor, step = chains
    num, dims, points = x.shape
    chance = uniforms(key, first + who, sweep, (dims + 2) * points).reshape(num, dims + 2, points)
    momentum = np.asarray(ndtri(chance[:, 2:]))
    leaps = np.minimum(np.ceil(0.5 * np.pi / step), _MOST_LEAPS)
    lengths = step[:, None] * (0.5 + 0.6 * chance[:, 0])  # uneven: a narrow place is passed in short steps
    upper = factor.swapaxes(-1, -2)
    energy = chains.value - 0.5 * np.sum(momentum**2, axis=1)
    y, value = x, chains.value
    for leap in range(int(leaps.max())):
        own = np.where(leap < leaps[:, None], lengths, 0.0)[:, None, :]  # who has arrived stands still
        momentum = momentum + 0.5 * own * times(upper, gradient)
        y = y + own * times(factor, momentum)
        value, gradient = target(y, who)
        momentum = momentum + 0.5 * own * times(upper, gradient)
    with np.errstate(over="ignore", invalid="ignore"):
        change = value - 0.5 * np.sum(momentum**2, axis=1) - energy
    change = np.nan_to_num(change, nan=-np.inf, posinf=-np.inf)
    rate = np.exp(np.minimum(change, 0.0))
    accepted = chance[:, 1] < rate
    moved = chains._replace(
        x=np.where(accepted[:, None, :], y, x),
        value=np.where(accepted, value, chains.value),
        gradient=np.where(accepted[:, None, :], gradient, chains.gradient),
    )
    return moved, rate.mean(axis=1), np.sum(change < -_DIVERGED, axis=1)


def times(factor: Floats, vectors: Floats) -> Floats:
    """(N, D, P): every chain's vector times the person's factor (N, D, D), or its own (N, P, D, D)."""
    if factor.ndim == 3:
        return factor @ vectors
    return np.asarray((factor @ vectors.transpose(0, 2, 1)[..., None])[..., 0].transpose(0, 2, 1))


def adapt(step: Floats, rate: Floats, sweep: int) -> Floats:
    """Step sizes after a sweep of the warm-up, ever more cautious."""
    return np.clip(step * np.exp((rate - _TARGET_ACCEPT) * 2 / (sweep + 3) ** 0.5), _LEAST_STEP, _MOST_STEP)


def spread(x: Floats, before: Floats) -> Floats:
    """(N, D, D) covariance of x (N, D, S), leaning on the one before where the sample is small."""
    _, dims, size = x.shape
    centred = x - x.mean(axis=2, keepdims=True)
    trust = size / (size + 10 * dims)
    return trust * (centred @ centred.transpose(0, 2, 1) / size) + (1 - trust) * before
