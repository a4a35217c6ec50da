"""The likelihood of outcome comparisons in single precision, over particles, with the moves of the bulk engine.

Held to calib/choice.py by a test. Everything is laid out (coordinate, particle), loops run over particles in a fixed
order, and e^{r U} is made once a card and particle: an answer then costs two divisions.

Coordinates of a particle, J + 2, are standard normal under the prior: one for each weight's gamma variable (a Dirichlet
is gammas over their sum), one for the log rationality of comparisons, one for the log about-equal threshold. There the
posterior has light tails, and a trajectory mixes in a few steps; in log ratios of weights it takes three times as many.
log gamma is a polynomial of its coordinate, fitted to the quantile function: 0.1% off in the mean for shapes from 0.4.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.polynomial import Polynomial
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaincinv, gammaln, log_ndtr, ndtr

from calib.kernel import COMPARISON
from calib.setup import Setup
from calib.streams import uniform_at
from calib.vector import POOL, Singles, add_rows, dot, exp32, log32, total

Ints = NDArray[np.int64]

TAU = (
    6  # row of the log threshold in calib/kernel.py's coordinates, behind the ratios, as COMPARISON is a rationality's
)
_LEAPFROGS = 6
_DEGREE, _EDGE = 9, np.float32(5.5)  # of the polynomials, and where they end
_ZERO, _HALF, _ONE, _TWO = (np.float32(v) for v in (0.0, 0.5, 1.0, 2.0))
_CLIP = np.float32(80.0)
_ODDS_LOW, _ODDS_HIGH = np.float32(1e-30), np.float32(1e30)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering


class Model(NamedTuple):
    """What the likelihood is made of, in single precision."""

    shape: Singles  # (J, 10) coefficients of log gamma, from the constant on
    slope: Singles  # (J, 10) of its derivative, the last 0
    mean: Singles  # (2,) of log rationality and log threshold
    sd: Singles
    cards: Singles  # (Q, J) less 1/2, which cancels in pairs
    by_attribute: Singles  # (J, Q) the same


class Room(NamedTuple):
    """Where a move works: allocated once for many people."""

    weights: Singles  # (J, P)
    rationality: Singles  # (P,)
    tau: Singles
    threshold: Singles  # e^tau
    utility: Singles  # (Q, P)
    up: Singles  # e^{r U}
    down: Singles  # e^{-r U}
    pull: Singles  # d log likelihood / d (r U)
    used: NDArray[np.bool_]  # (Q,)
    value: Singles  # (P,)
    energy: Singles
    gradient: Singles  # (J + 2, P)
    white: Singles
    momentum: Singles
    here: Singles
    there: Singles
    slope: Singles  # (P,)
    spare: Singles
    source: Ints  # (P,)


@njit(cache=True)
def make_room(num_attributes: int, num_cards: int, num: int) -> Room:
    """Room for `num` particles."""
    f, q, d = np.float32, num_cards, num_attributes + 2
    return Room(
        np.empty((num_attributes, num), f),
        np.empty(num, f),
        np.empty(num, f),
        np.empty(num, f),
        np.empty((q, num), f),
        np.empty((q, num), f),
        np.empty((q, num), f),
        np.empty((q, num), f),
        np.empty(q, np.bool_),
        np.empty(num, f),
        np.empty(num, f),
        np.empty((d, num), f),
        np.empty((d, num), f),
        np.empty((d, num), f),
        np.empty((d, num), f),
        np.empty((d, num), f),
        np.empty(num, f),
        np.empty(num, f),
        np.empty(num, np.int64),
    )


def model_of(setup: Setup) -> Model:
    """The setup's prior and cards."""
    prior, rows = setup.prior, [COMPARISON, TAU]
    cards = (setup.cards - 0.5).astype(np.float32)
    fits = [_log_gamma(float(a)) for a in prior.concentration]
    shape = np.array([f.coef for f in fits], np.float32)
    slope = np.array([[*f.deriv().coef, 0.0] for f in fits], np.float32)
    of_others = prior.mean[rows].astype(np.float32), prior.sd[rows].astype(np.float32)
    return Model(shape, slope, *of_others, cards, np.ascontiguousarray(cards.T))


@lru_cache(maxsize=64)
def _log_gamma(shape: float) -> Polynomial:
    """Log of a gamma variable of that shape by its standard normal coordinate."""
    u = np.linspace(-float(_EDGE), float(_EDGE), 2001)
    with np.errstate(all="ignore"):
        x = np.where(u < 0, gammaincinv(shape, ndtr(u)), gammainccinv(shape, ndtr(-u)))
        tail = (log_ndtr(u) + gammaln(shape + 1)) / shape  # where the variable itself leaves the floats
        exact = np.where(tail < -25, tail, np.log(np.maximum(x, 1e-300)))
    certainty = np.sqrt(np.exp(-0.5 * u * u) + 1e-6)
    return Polynomial.fit(u, exact, _DEGREE, w=certainty, domain=[-1, 1], window=[-1, 1])


@njit(**_EACH)
def _horner(c: Singles, j: int, u: float) -> float:
    """The polynomial c[j] at u, within its range."""
    x = min(max(u, -_EDGE), _EDGE)
    y = c[j, 9] * x + c[j, 8]
    y = y * x + c[j, 7]
    y = y * x + c[j, 6]
    y = y * x + c[j, 5]
    y = y * x + c[j, 4]
    y = y * x + c[j, 3]
    y = y * x + c[j, 2]
    y = y * x + c[j, 1]
    return y * x + c[j, 0]


@njit(**_EACH)
def resample(room: Room, key: np.uint64) -> None:
    """Systematic resampling of room.here (D, P) by the weights in room.spare."""
    num = room.spare.shape[0]
    whole = 0.0
    for p in range(num):
        whole += room.spare[p]
    offset = uniform_at(key, np.uint64(0))
    at, reached = 0, np.float64(room.spare[0])
    for p in range(num):
        mark = (p + offset) / num * whole
        while at < num - 1 and reached < mark:
            at += 1
            reached += room.spare[at]
        room.source[p] = at
    for d in range(room.here.shape[0]):
        row = room.here[d]
        for p in range(num):
            room.spare[p] = row[room.source[p]]
        row[:] = room.spare


@njit(**_EACH)
def simplex(z: Singles, shape: Singles, weights: Singles, top: Singles, spare: Singles) -> None:
    """weights (J, P) of the first J coordinates z; top and spare (P,) are overwritten."""
    num_attributes, num = weights.shape
    for p in range(num):
        top[p] = -_CLIP
        spare[p] = _ZERO
    for j in range(num_attributes):
        for p in range(num):
            weights[j, p] = _horner(shape, j, z[j, p])
        for p in range(num):
            top[p] = max(top[p], weights[j, p])
    for j in range(num_attributes):
        for p in range(num):
            share = exp32(weights[j, p] - top[p])
            weights[j, p] = share
            spare[p] += share
    for p in range(num):
        spare[p] = _ONE / spare[p]
    for j in range(num_attributes):
        for p in range(num):
            weights[j, p] *= spare[p]


@njit(**_EACH)
def natural(z: Singles, model: Model, room: Room) -> None:
    """Weights, rationality, tau and threshold of z (J + 2, P)."""
    weights, rationality, tau, threshold = room.weights, room.rationality, room.tau, room.threshold
    simplex(z, model.shape, weights, room.slope, room.spare)
    row, mean, sd = weights.shape[0], model.mean, model.sd
    mean_r, sd_r, mean_t, sd_t = mean[0], sd[0], mean[1], sd[1]
    for p in range(weights.shape[1]):
        rationality[p] = exp32(mean_r + sd_r * z[row, p])
    for p in range(weights.shape[1]):
        tau[p] = exp32(mean_t + sd_t * z[row + 1, p])
        threshold[p] = exp32(tau[p])


@njit(**_EACH)
def card_odds(
    cards: Singles, card: int, weights: Singles, rationality: Singles, utility: Singles, up: Singles, down: Singles
) -> None:
    """Row `card` of utility, up and down (Q, P): w . card, e^{r U} and e^{-r U} at each particle."""
    for p in range(weights.shape[1]):
        utility[card, p] = _ZERO
    add_rows(cards, card, 0, cards.shape[1], weights, utility, card)
    for p in range(weights.shape[1]):
        odds = exp32(min(max(rationality[p] * utility[card, p], -_CLIP), _CLIP))
        up[card, p] = odds
        down[card, p] = _ONE / odds


@njit(**_EACH)
def _softplus(x: float) -> float:
    """log(1 + e^x)."""
    return max(x, _ZERO) + log32(_ONE + exp32(-abs(x)))


@njit(**_EACH)
def log_target(
    z: Singles,
    model: Model,
    cells: NDArray[np.int32],
    times: Singles,
    first: int,
    end: int,
    with_prior: bool,
    want_value: bool,
    want_gradient: bool,
    room: Room,
) -> None:
    """Log density at z (J + 2, P) of the cells [first, end), each counted `times`, and of the prior where asked.

    Writes room.value (P,) and room.gradient (J + 2, P). The twin of calib.kernel.log_target for comparisons of cards;
    in the gradient odds are clipped to 1e+-30. No loop writes more than two rows: with more the compiler gives up
    proving that they are apart, and with that its lanes.
    """
    weights, rationality, tau, threshold = room.weights, room.rationality, room.tau, room.threshold
    utility, up, down, pull, used = room.utility, room.up, room.down, room.pull, room.used
    value, gradient, slope, lose = room.value, room.gradient, room.slope, room.spare
    cards, by_attribute, steepness = model.cards, model.by_attribute, model.slope
    num_attributes, num = weights.shape
    num_cards, row_r, row_tau = cards.shape[0], num_attributes, num_attributes + 1
    natural(z, model, room)
    for card in range(num_cards):
        used[card] = False
        if want_gradient:
            for p in range(num):
                pull[card, p] = _ZERO
    for k in range(first, end):
        for side in range(2):
            card = cells[k, side]
            if not used[card]:
                used[card] = True
                card_odds(cards, card, weights, rationality, utility, up, down)
    for p in range(num):
        value[p] = _ZERO
        gradient[row_tau, p] = _ZERO
    for k in range(first, end):
        a, b, answer, n = cells[k, 0], cells[k, 1], cells[k, 2], times[k]
        if want_value:
            for p in range(num):
                d = rationality[p] * (utility[a, p] - utility[b, p])
                first, second = _softplus(tau[p] - d), _softplus(tau[p] + d)
                if answer == 0:
                    value[p] -= n * first
                elif answer == 1:
                    value[p] -= n * second
                else:
                    value[p] += n * (log32(threshold[p] * threshold[p] - _ONE) - first - second)
        if want_gradient:  # slope by d = r (U_a - U_b), lose by -tau
            if answer == 0:
                for p in range(num):
                    odds, t = min(max(up[a, p] * down[b, p], _ODDS_LOW), _ODDS_HIGH), threshold[p]
                    slope[p] = n * t / (odds + t)
                    lose[p] = slope[p]
            elif answer == 1:
                for p in range(num):
                    odds, t = min(max(up[a, p] * down[b, p], _ODDS_LOW), _ODDS_HIGH), threshold[p]
                    slope[p] = n / (_ONE + odds * t) - n
                    lose[p] = -slope[p]
            else:
                for p in range(num):
                    odds, t = min(max(up[a, p] * down[b, p], _ODDS_LOW), _ODDS_HIGH), threshold[p]
                    lose_a, lose_b = n * t / (odds + t), n - n / (_ONE + odds * t)
                    slope[p] = lose_a - lose_b
                    lose[p] = lose_a + lose_b - _TWO * n * t * t / (t * t - _ONE)
            for p in range(num):
                pull[a, p] += slope[p]
            for p in range(num):
                pull[b, p] -= slope[p]
            for p in range(num):
                gradient[row_tau, p] -= lose[p]
    if want_value and with_prior:
        for d in range(row_tau + 1):
            for p in range(num):
                value[p] -= _HALF * z[d, p] * z[d, p]
    if not want_gradient:
        return
    # w . gradient is r * sum over cards of pull * U, utilities being linear
    mean = lose
    for p in range(num):
        mean[p] = _ZERO
    for card in range(num_cards):
        if used[card]:
            for p in range(num):
                mean[p] += pull[card, p] * utility[card, p]
    sd_r, sd_tau, prior = model.sd[0], model.sd[1], _ONE if with_prior else _ZERO
    for p in range(num):
        gradient[row_r, p] = sd_r * mean[p] * rationality[p]
    for p in range(num):
        gradient[row_tau, p] *= sd_tau * tau[p]
    for j in range(num_attributes):
        for p in range(num):
            gradient[j, p] = _ZERO
        add_rows(by_attribute, j, 0, num_cards, pull, gradient, j)
        for p in range(num):
            slope[p] = _horner(steepness, j, z[j, p]) * weights[j, p] * rationality[p]
        for p in range(num):
            gradient[j, p] = slope[p] * (gradient[j, p] - mean[p])
    for d in range(row_tau + 1):
        for p in range(num):
            gradient[d, p] -= prior * z[d, p]


@njit(**_EACH)
def _factor(x: Singles, centred: Singles) -> NDArray[np.float32]:
    """Lower Cholesky factor of the covariance of x (D, P), with a small ridge."""
    dims, num = x.shape
    factor = np.zeros((dims, dims), np.float32)
    for d in range(dims):
        mean = total(x[d]) / np.float32(num)
        for p in range(num):
            centred[d, p] = x[d, p] - mean
    for d in range(dims):
        for e in range(d + 1):
            sum_ = dot(centred[d], centred[e]) / np.float32(num)
            if d == e:
                sum_ = sum_ * np.float32(1.0001) + np.float32(1e-6)
            for f in range(e):
                sum_ -= factor[d, f] * factor[e, f]
            factor[d, e] = np.sqrt(max(sum_, np.float32(1e-6))) if d == e else sum_ / factor[e, e]
    return factor


@njit(**_EACH)
def move(
    model: Model,
    cells: NDArray[np.int32],
    times: Singles,
    count: int,
    step: float,
    normals: Singles,
    key: np.uint64,
    room: Room,
) -> float:
    """One Hamiltonian move of all particles room.here (J + 2, P), whitened by their covariance; mean acceptance."""
    here, there, momentum, gradient = room.here, room.there, room.momentum, room.gradient
    value, energy = room.value, room.energy
    dims, num = here.shape
    size = np.float32(step * (0.8 + 0.4 * uniform_at(key, np.uint64(1 + dims))))
    lower = size * _factor(here, room.white)
    upper = np.ascontiguousarray(lower.T)
    half = _HALF * upper
    for d in range(dims):
        at = int(uniform_at(key, np.uint64(1 + d)) * (POOL - num))
        for p in range(num):
            momentum[d, p] = normals[at + p]
        for p in range(num):
            there[d, p] = here[d, p]
    log_target(there, model, cells, times, 0, count, True, True, True, room)
    for p in range(num):
        energy[p] = value[p]
    for d in range(dims):
        for p in range(num):
            energy[p] -= _HALF * momentum[d, p] * momentum[d, p]
    for d in range(dims):
        add_rows(half, d, d, dims, gradient, momentum, d)
    for leap in range(_LEAPFROGS):
        for d in range(dims):
            add_rows(lower, d, 0, d + 1, momentum, there, d)
        last = leap == _LEAPFROGS - 1
        log_target(there, model, cells, times, 0, count, True, last, True, room)
        for d in range(dims):
            add_rows(half if last else upper, d, d, dims, gradient, momentum, d)
    for p in range(num):
        energy[p] = value[p] - energy[p]
    for d in range(dims):
        for p in range(num):
            energy[p] -= _HALF * momentum[d, p] * momentum[d, p]
    # a trajectory that left the floats has no energy and is refused
    chance, draw, first = value, room.spare, np.uint64(2 + dims)
    for p in range(num):
        chance[p] = exp32(min(energy[p], _ZERO)) if energy[p] == energy[p] else _ZERO
    for p in range(num):
        draw[p] = np.float32(uniform_at(key, first + np.uint64(p)))
    for d in range(dims):
        for p in range(num):
            here[d, p] = there[d, p] if draw[p] < chance[p] else here[d, p]
    return total(chance) / num
