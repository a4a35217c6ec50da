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
from calib.vector import BLOCK, POOL, Single, Singles, add_products, add_rows, dot_rows, exp32, log32, rows32, total

Ints = NDArray[np.int64]

TAU = (
    6  # row of the log threshold in calib/kernel.py's coordinates, behind the ratios, as COMPARISON is a rationality's
)
_LEAPFROGS = 6  # four of them cost a point of coverage with 20 rounds of chosen questions, six cost none
_DEGREE, _EDGE = 9, np.float32(5.5)  # of the polynomials, and where they end
_ZERO, _HALF, _ONE, _TWO = (np.float32(v) for v in (0.0, 0.5, 1.0, 2.0))
_CLIP = np.float32(60.0)  # of r U: e^60 has room in single precision for a threshold
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering


class Model(NamedTuple):
    """What the likelihood is made of, in single precision."""

    shape: Singles  # (J, 10) coefficients of log gamma, from the constant on
    slope: Singles  # (J, 10) of its derivative, the last 0
    mean: Singles  # (2,) of log rationality and log threshold
    sd: Singles
    cards: Singles  # (Q, J) less 1/2, which cancels in pairs; zeros up to an even Q and a multiple of BLOCK
    by_attribute: Singles  # (J, Q) the same; zeros up to even numbers


class Room(NamedTuple):
    """Where a move works: allocated once for many people."""

    gammas: Singles  # (J + rows of zeros, P): weights times their sum
    rationality: Singles  # (P,)
    scale: Singles  # (P,) rationality over the sum of the gammas
    tau: Singles
    threshold: Singles  # e^tau
    up: Singles  # (Q, P) e^{r U} of each card
    pull: Singles  # (Q, P) d log likelihood / d (r U)
    used: NDArray[np.bool_]  # (Q,)
    value: Singles  # (P,)
    energy: Singles
    gradient: Singles  # (J + 2, P), for these three a row of zeros where J is odd
    momentum: Singles
    there: Singles
    white: Singles  # (J + 2, P)
    here: Singles
    spare: Singles  # (P,)
    mixed: Singles  # (P,)
    utility: Singles  # (1, P)
    source: Ints  # (P,)


@njit(cache=True)
def make_room(num_attributes: int, num_cards: int, num: int) -> Room:
    """Room for `num` particles."""
    dims, padded = num_attributes + 2, num_attributes + -num_attributes % BLOCK
    gammas = rows32(padded, num)
    gammas[:] = _ZERO
    up, pull, single = rows32(num_cards, num), rows32(num_cards, num), rows32(8, num)
    even = dims + dims % 2
    gradient, momentum, there = rows32(even, num), rows32(even, num), rows32(even, num)
    gradient[:], momentum[:], there[:] = _ZERO, _ZERO, _ZERO
    return Room(
        gammas,
        single[0],
        single[1],
        single[2],
        single[3],
        up,
        pull,
        np.empty(num_cards, np.bool_),
        single[4],
        single[5],
        gradient,
        momentum,
        there,
        rows32(dims, num),
        rows32(dims, num),
        single[6],
        single[7],
        rows32(1, num),
        np.empty(num, np.int64),
    )


@lru_cache(maxsize=16)
def model_of(setup: Setup) -> Model:
    """The setup's prior and cards."""
    prior, rows = setup.prior, [COMPARISON, TAU]
    cards = (setup.cards - 0.5).astype(np.float32)
    shape, slope = gamma_coefficients(tuple(prior.concentration))
    of_others = prior.mean[rows].astype(np.float32), prior.sd[rows].astype(np.float32)
    odd = len(cards) % 2
    padded = np.pad(cards, ((0, odd), (0, -cards.shape[1] % BLOCK)))
    by_attribute = np.ascontiguousarray(np.pad(cards, ((0, odd), (0, cards.shape[1] % 2))).T)
    return Model(shape, slope, *of_others, padded, by_attribute)


@lru_cache(maxsize=64)
def gamma_coefficients(concentration: tuple[float, ...]) -> tuple[Singles, Singles]:
    """(J, 10) coefficients of log gamma by its coordinate for each shape, from the constant on, and of its slope."""
    fits = [_log_gamma(float(a)) for a in concentration]
    shape = np.array([f.coef for f in fits], np.float32)
    return shape, np.array([[*f.deriv().coef, 0.0] for f in fits], np.float32)


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
def horner(c: Singles, j: int, u: Single) -> Single:
    """The polynomial c[j] at u, within its range."""
    x = min(max(u, -_EDGE), _EDGE)
    square = x * x
    high = (c[j, 9] * x + c[j, 8]) * square + (c[j, 7] * x + c[j, 6])
    low = (c[j, 3] * x + c[j, 2]) * square + (c[j, 1] * x + c[j, 0])
    fourth = square * square
    return (high * square + (c[j, 5] * x + c[j, 4])) * fourth + low


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
def simplex(z: Singles, shape: Singles, weights: Singles, whole: Singles) -> None:
    """weights (J, P) of the first J coordinates z; whole (P,) is overwritten."""
    num_attributes, num = weights.shape
    gammas_of(z, shape, weights, whole)
    for p in range(num):
        whole[p] = _ONE / whole[p]
    for j in range(num_attributes):
        for p in range(num):
            weights[j, p] *= whole[p]


@njit(**_EACH, inline="always")
def gammas_of(z: Singles, shape: Singles, gammas: Singles, whole: Singles) -> None:
    """The first J rows of gammas from the coordinates z, and their sum (P,), which no coordinate brings to 0."""
    num_attributes, num = shape.shape[0], whole.shape[0]
    for p in range(num):
        whole[p] = _ZERO
    for j in range(num_attributes):
        for p in range(num):
            gamma = exp32(horner(shape, j, z[j, p]))
            gammas[j, p] = gamma
            whole[p] += gamma


@njit(**_EACH, inline="always")
def natural(z: Singles, model: Model, room: Room) -> None:
    """Gammas, rationality, scale, tau and threshold of z (J + 2, P)."""
    gammas, rationality, scale, tau, threshold = room.gammas, room.rationality, room.scale, room.tau, room.threshold
    row, mean_r, sd_r, mean_tau, sd_tau = model.shape.shape[0], model.mean[0], model.sd[0], model.mean[1], model.sd[1]
    gammas_of(z, model.shape, gammas, scale)
    for p in range(scale.shape[0]):
        r, about_equal = exp32(mean_r + sd_r * z[row, p]), exp32(mean_tau + sd_tau * z[row + 1, p])
        rationality[p] = r
        scale[p] = r / scale[p]
        tau[p] = about_equal
        threshold[p] = exp32(about_equal)


@njit(**_EACH, inline="always")
def card_odds(cards: Singles, card: int, gammas: Singles, scale: Singles, up: Singles) -> None:
    """up[card] = e^{r U} at each particle."""
    k, c = cards.shape[1] - BLOCK, cards
    a, b, d, e = c[card, k], c[card, k + 1], c[card, k + 2], c[card, k + 3]
    f, g, h, i = c[card, k + 4], c[card, k + 5], c[card, k + 6], c[card, k + 7]
    for p in range(scale.shape[0]):
        first = (a * gammas[k, p] + b * gammas[k + 1, p]) + (d * gammas[k + 2, p] + e * gammas[k + 3, p])
        second = (f * gammas[k + 4, p] + g * gammas[k + 5, p]) + (h * gammas[k + 6, p] + i * gammas[k + 7, p])
        up[card, p] = first + second
    if k:
        add_rows(c, card, 0, k, gammas, up, card)
    for p in range(scale.shape[0]):
        up[card, p] = exp32(min(max(scale[p] * up[card, p], -_CLIP), _CLIP))


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
    |r U| is clipped to 60, and no answer's log probability is below -87.
    """
    gammas, rationality, scale, tau, threshold = room.gammas, room.rationality, room.scale, room.tau, room.threshold
    up, pull, used, value, gradient, mean = room.up, room.pull, room.used, room.value, room.gradient, room.spare
    cards, by_attribute, steepness = model.cards, model.by_attribute, model.slope
    num_attributes, num = model.shape.shape[0], value.shape[0]
    num_cards, row_r, row_tau = cards.shape[0], num_attributes, num_attributes + 1
    natural(z, model, room)
    for card in range(num_cards):
        used[card] = False
    for k in range(first, end):
        used[cells[k, 0]] = True
        used[cells[k, 1]] = True
    for card in range(num_cards):
        if used[card]:
            card_odds(cards, card, gammas, scale, up)
    if want_value:
        for p in range(num):
            value[p] = _ZERO
        for k in range(first, end):
            a, b, answer, n = cells[k, 0], cells[k, 1], cells[k, 2], times[k]
            if answer == 1:
                a, b = b, a
            if answer < 2:
                for p in range(num):
                    value[p] += n * log32(up[a, p] / (up[a, p] + threshold[p] * up[b, p]))
            else:
                for p in range(num):
                    t = threshold[p]
                    of_a, of_b = up[a, p] / (up[a, p] + t * up[b, p]), up[b, p] / (up[b, p] + t * up[a, p])
                    value[p] += n * log32((t * t - _ONE) * of_a * of_b)
        if with_prior:
            for d in range(row_tau + 1):
                for p in range(num):
                    value[p] -= _HALF * z[d, p] * z[d, p]
    if not want_gradient:
        return
    for card in range(num_cards):
        for p in range(num):
            pull[card, p] = _ZERO
    for d in range(gradient.shape[0]):
        for p in range(num):
            gradient[d, p] = _ZERO
    for k in range(first, end):
        a, b, answer, n = cells[k, 0], cells[k, 1], cells[k, 2], times[k]
        if answer == 1:
            a, b = b, a
        if answer < 2:  # the share that answered otherwise pulls towards the answer
            for p in range(num):
                lost = threshold[p] * up[b, p]
                lost = n * lost / (up[a, p] + lost)
                pull[a, p] += lost
                pull[b, p] -= lost
                gradient[row_tau, p] -= lost
        else:
            for p in range(num):
                t = threshold[p]
                lost_a, lost_b = t * up[b, p], t * up[a, p]
                lost_a, lost_b = lost_a / (up[a, p] + lost_a), lost_b / (up[b, p] + lost_b)
                pull[a, p] += n * (lost_a - lost_b)
                pull[b, p] -= n * (lost_a - lost_b)
                gradient[row_tau, p] -= n * (lost_a + lost_b - _TWO * t * t / (t * t - _ONE))
    sd_r, sd_tau, prior = model.sd[0], model.sd[1], _ONE if with_prior else _ZERO
    for p in range(num):
        mean[p] = _ZERO
    add_products(by_attribute, pull, gradient)
    for j in range(num_attributes):
        for p in range(num):
            mean[p] += gammas[j, p] * gradient[j, p]
    for p in range(num):
        gradient[row_r, p] = sd_r * scale[p] * mean[p] - prior * z[row_r, p]
        mean[p] *= scale[p] / rationality[p]
    for p in range(num):
        gradient[row_tau, p] = sd_tau * tau[p] * gradient[row_tau, p] - prior * z[row_tau, p]
    for j in range(num_attributes):
        for p in range(num):
            slope = horner(steepness, j, z[j, p]) * gammas[j, p] * scale[p]
            gradient[j, p] = slope * (gradient[j, p] - mean[p]) - prior * z[j, p]


@njit(**_EACH)
def _factor(x: Singles, centred: Singles) -> NDArray[np.float32]:
    """Lower Cholesky factor of the covariance of x (D, P), with a small ridge."""
    dims, num = x.shape
    factor = np.zeros((dims + dims % 2, dims + dims % 2), np.float32)
    for d in range(dims):
        mean = _ZERO
        for p in range(num):
            mean += x[d, p]
        mean /= np.float32(num)
        for p in range(num):
            centred[d, p] = x[d, p] - mean
    for d in range(dims):
        for e in range(d + 1):
            sum_ = dot_rows(centred, d, centred, e) / np.float32(num)
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
    add_products(half, gradient, momentum)
    for leap in range(_LEAPFROGS):
        add_products(lower, momentum, there)
        last = leap == _LEAPFROGS - 1
        log_target(there, model, cells, times, 0, count, True, last, True, room)
        add_products(half if last else upper, gradient, momentum)
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
