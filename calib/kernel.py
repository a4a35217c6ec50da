"""The compiled twin of the choice model (calib/choice.py) with its prior and gradient, over particles.

A test holds value and gradient against the PyMC graph on random inputs, so an edit of either breaks the build. The
same source is compiled for double precision, which that test reads, and for single, in which the particles move.

Everything is laid out (coordinate, particle) so that the inner loops run over particles and need no reduction: a
person's numbers do not depend on who else is in the batch. Utilities of all options are made at once, and so is what
their slopes say of the weights: products of small matrices by rows (calib/vector.py).

Unconstrained coordinates of a particle, D = J - 1 + 7: J - 1 log ratios of weights to the last weight; log rationality
of the three channels; logit lapse; reliance; inertia; log about-equal threshold.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import overload
from numpy.typing import NDArray

from calib.vector import add_products, exp32, exp64, log32

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Reals = Any  # an array of float32 or float64, one of the two throughout a call

NUM_EXTRA = 7
# Naming the best of some outcome cards is a menu choice, as rational as comparing two of them.
MODE_CHOICE, ACCEPT_OVERRIDE, COMPARISON, BEST_OF = 0, 1, 2, 3
_LAPSE, _RELIANCE, _INERTIA, _TAU = 3, 4, 5, 6
_ZERO, _HALF, _ONE, _TWO = (np.float32(v) for v in (0.0, 0.5, 1.0, 2.0))  # they take the other factor's precision
_LOWEST = np.float32(-1e38)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering


class Answers(NamedTuple):
    """One person's answers: a row of calib.evidence.Evidence."""

    features: Floats  # (A, K, J)
    recommended: Floats  # (A, K)
    last: Floats  # (A, K)
    num_options: Ints  # (A,)
    channel: Ints  # (A,)
    chosen: Ints  # (A,)


class Rows(NamedTuple):
    """Answers as the kernel reads them: a row for each option of a menu, one for the difference of a comparison."""

    features: Reals  # (L, J), zeros up to even numbers
    by_attribute: Reals  # (J, L) the same
    recommended: Reals  # (L,)
    last: Reals  # (L,)
    times: Reals  # (A,) what each answer counts
    even: Reals  # (A,) 1/options
    first: Ints  # (A + 1,) row of each answer
    channel: Ints  # (A,)
    column: Ints  # (A,) number of the rationality
    chosen: Ints  # (A,)


class Room(NamedTuple):
    """Where the kernel works, on up to P particles."""

    w: Reals  # (J, P) and zeros up to an even number: weights
    slope: Reals  # (J, P) likewise: d/dw
    utility: Reals  # (L, P)
    pull: Reals  # (L, P) d/d utility
    rationality: Reals  # (3, P)
    lapse: Reals  # (P,)
    tau: Reals
    apart: Reals  # 1 - e^{-2 tau}
    top: Reals
    total: Reals
    norm: Reals  # log of the sum of e^{log ratio}
    chance: Reals
    value: Reals
    gradient: Reals  # (D, P) and zeros up to an even number


def exp_of(x: Any) -> Any:
    """e^x, relative error 3e-7 or 2e-13 by the precision of x, which is clipped to +-87 or +-700."""
    return np.exp(x)


@overload(exp_of, jit_options=_EACH)
def _exp_of(x: Any) -> Any:
    def single(x: Any) -> Any:
        return exp32(x)

    def double(x: Any) -> Any:
        return exp64(x)

    return single if x == types.float32 else double


def log_of(x: Any) -> Any:
    """Natural log, relative error 2e-7 or that of the library."""
    return np.log(x)


@overload(log_of, jit_options=_EACH)
def _log_of(x: Any) -> Any:
    def single(x: Any) -> Any:
        return log32(x)

    def double(x: Any) -> Any:
        return np.log(x)

    return single if x == types.float32 else double


def one_less_exp(x: Any) -> Any:
    """1 - e^-x for x >= 0, without cancellation."""
    return -np.expm1(-x)


@overload(one_less_exp, jit_options=_EACH)
def _one_less_exp(x: Any) -> Any:
    def single(x: Any) -> Any:
        return _one_less_exp32(x)

    def double(x: Any) -> Any:
        return -np.expm1(-x)

    return single if x == types.float32 else double


@njit(**_EACH)
def _one_less_exp32(x: Any) -> Any:
    near = min(x, _SERIES_TO)
    near = near * (_ONE - near * _HALF * (_ONE - near * _THIRD * (_ONE - near * _QUARTER * (_ONE - near * _FIFTH))))
    return near if x < _SERIES_TO else _ONE - exp32(-x)


_SERIES_TO, _THIRD, _QUARTER, _FIFTH = (np.float32(v) for v in (0.1, 1 / 3, 1 / 4, 1 / 5))


@njit(cache=True, nogil=True)
def rows_like(x: Reals, num_rows: int, num: int) -> Reals:
    """(num_rows, num) in the precision of x, beginning on a line of the processor's cache."""
    whole = np.empty(num_rows * num + 64 // x.itemsize, x.dtype)
    first = -whole.ctypes.data % 64 // x.itemsize
    return whole[first : first + num_rows * num].reshape(num_rows, num)


@njit(**_EACH)
def lay_out(answers: Answers, first: int, end: int, first_new: int, new_times: float, like: Reals) -> Rows:
    """The answers [first, end) in the precision of `like`; those from first_new on count `new_times`."""
    num, dims, length = end - first, answers.features.shape[2], 0
    starts = np.empty(num + 1, np.int64)
    for a in range(num):
        starts[a] = length
        length += 1 if answers.channel[first + a] == COMPARISON else answers.num_options[first + a]
    starts[num] = length
    even_rows, even_dims = length + length % 2, dims + dims % 2
    features, by_attribute = np.zeros((even_rows, even_dims), like.dtype), np.zeros((even_dims, even_rows), like.dtype)
    recommended, last = np.zeros(even_rows, like.dtype), np.zeros(even_rows, like.dtype)
    times, even = np.ones(num, like.dtype), np.empty(num, like.dtype)
    for a in range(num):
        at, row = first + a, starts[a]
        if at >= first_new:
            times[a] = new_times
        even[a] = 1.0 / max(answers.num_options[at], 1)
        if answers.channel[at] == COMPARISON:
            for j in range(dims):
                features[row, j] = answers.features[at, 0, j] - answers.features[at, 1, j]
        else:
            for k in range(answers.num_options[at]):
                recommended[row + k], last[row + k] = answers.recommended[at, k], answers.last[at, k]
                for j in range(dims):
                    features[row + k, j] = answers.features[at, k, j]
        for r in range(row, starts[a + 1]):
            for j in range(dims):
                by_attribute[j, r] = features[r, j]
    channel, chosen = answers.channel[first:end].copy(), answers.chosen[first:end].copy()
    column = np.minimum(channel, COMPARISON)
    return Rows(features, by_attribute, recommended, last, times, even, starts, channel, column, chosen)


@njit(**_EACH)
def make_room(like: Reals, num_attributes: int, num_rows: int, num: int) -> Room:
    """Room for `num` particles and `num_rows` rows of answers, in the precision of `like`."""
    even = num_attributes + num_attributes % 2
    dims = num_attributes - 1 + NUM_EXTRA
    w, slope, gradient = rows_like(like, even, num), rows_like(like, even, num), rows_like(like, dims + dims % 2, num)
    w[:], slope[:], gradient[:] = _ZERO, _ZERO, _ZERO
    one = rows_like(like, 8, num)
    return Room(
        w,
        slope,
        rows_like(like, num_rows, num),
        rows_like(like, num_rows, num),
        rows_like(like, 3, num),
        one[0],
        one[1],
        one[2],
        one[3],
        one[4],
        one[5],
        one[6],
        one[7],
        gradient,
    )


@njit(**_EACH)
def weights(x: Reals, num_attributes: int, out: Reals) -> None:
    """out (J, P): the weights on the simplex of particles x (D, P)."""
    spare = rows_like(x, 3, x.shape[1])
    _simplex(x, num_attributes, out, spare[0], spare[1], spare[2])


@njit(**_EACH)
def _simplex(x: Reals, num_attributes: int, w: Reals, top: Reals, total: Reals, norm: Reals) -> None:
    """The first J rows of w; norm (P,) is what to take off a log ratio for the log of a weight."""
    num, last = x.shape[1], num_attributes - 1
    for p in range(num):
        top[p] = _ZERO
    for j in range(last):
        for p in range(num):
            top[p] = max(top[p], x[j, p])
    for p in range(num):
        w[last, p] = exp_of(-top[p])
        total[p] = w[last, p]
    for j in range(last):
        for p in range(num):
            w[j, p] = exp_of(x[j, p] - top[p])
            total[p] += w[j, p]
    for p in range(num):
        norm[p] = top[p] + log_of(total[p])
        total[p] = _ONE / total[p]
    for j in range(num_attributes):
        for p in range(num):
            w[j, p] *= total[p]


@njit(**_EACH)
def log_target(
    x: Floats,
    prior: Any,
    answers: Answers,
    first: int,
    first_new: int,
    end: int,
    new_scale: float,
    prior_scale: float,
    want_gradient: bool,
    value: Floats,
    gradient: Floats,
) -> None:
    """Log density of one person's particles: prior_scale * prior + answers [first, first_new) + new_scale * the rest.

    The rest are the answers [first_new, end). x (D, P), prior a calib.prior.Prior. Writes value (P,) and gradient
    (D, P). The prior is up to a constant: the Dirichlet in log-ratio coordinates is proportional to prod w^a.
    """
    rows = lay_out(answers, first, end, first_new, new_scale, x)
    room = make_room(x, prior.concentration.shape[0], rows.features.shape[0], x.shape[1])
    evaluate(x, prior.concentration, prior.mean, prior.sd, rows, prior_scale, True, want_gradient, room)
    value[:] = room.value
    if want_gradient:
        for d in range(x.shape[0]):
            gradient[d] = room.gradient[d]


@njit(**_EACH)
def evaluate(
    x: Reals,
    concentration: Reals,
    prior_mean: Reals,
    prior_sd: Reals,
    rows: Rows,
    prior_scale: Any,
    want_value: bool,
    want_gradient: bool,
    room: Room,
) -> None:
    """room.value (P,) and room.gradient (D, P) at x (D, P): the answers of `rows`, and the prior times prior_scale."""
    w, utility, pull, slope, gradient = room.w, room.utility, room.pull, room.slope, room.gradient
    rationality, lapse, tau, apart, value = room.rationality, room.lapse, room.tau, room.apart, room.value
    num, num_attributes, num_answers = x.shape[1], concentration.shape[0], rows.channel.shape[0]
    extra = num_attributes - 1
    _simplex(x, num_attributes, w, room.top, room.total, room.norm)
    menus, comparisons = False, False
    for a in range(num_answers):
        comparisons |= rows.channel[a] == COMPARISON
        menus |= rows.channel[a] != COMPARISON
    for c in range(3):
        used = False
        for a in range(num_answers):
            used |= rows.column[a] == c
        if used:
            for p in range(num):
                rationality[c, p] = exp_of(x[extra + c, p])
    if menus:
        for p in range(num):
            lapse[p] = _ONE / (_ONE + exp_of(-x[extra + _LAPSE, p]))
    if comparisons:
        for p in range(num):
            tau[p] = exp_of(x[extra + _TAU, p])
            apart[p] = one_less_exp(_TWO * tau[p])
    if want_value and prior_scale > _ZERO:
        _add_prior_value(x, concentration, prior_mean, prior_sd, prior_scale, room.norm, value)
    elif want_value:
        for p in range(num):
            value[p] = _ZERO
    if want_gradient:
        for d in range(gradient.shape[0]):
            for p in range(num):
                gradient[d, p] = _ZERO
        for j in range(slope.shape[0]):
            for p in range(num):
                slope[j, p] = _ZERO
    for r in range(rows.features.shape[0]):
        for p in range(num):
            utility[r, p] = _ZERO
            pull[r, p] = _ZERO
    add_products(rows.features, w, utility)
    for a in range(num_answers):
        if rows.channel[a] == COMPARISON:
            _comparison(rows, a, want_value, want_gradient, extra, room)
        else:
            _menu(x, rows, a, want_value, want_gradient, extra, room)
    if not want_gradient:
        return
    add_products(rows.by_attribute, pull, slope)
    # from weights to log ratios: dL/dx_j = w_j (G_j - sum_i w_i G_i), and the Dirichlet adds a_j - w_j sum(a)
    total, sum_ = room.total, _ZERO * prior_scale
    for p in range(num):
        total[p] = _ZERO
    for j in range(num_attributes):
        sum_ += prior_scale * concentration[j]
        for p in range(num):
            total[p] += w[j, p] * slope[j, p]
    for p in range(num):
        total[p] += sum_
    for j in range(extra):
        share = prior_scale * concentration[j]
        for p in range(num):
            gradient[j, p] = w[j, p] * (slope[j, p] - total[p]) + share
    for e in range(NUM_EXTRA):
        mean, precision = prior_mean[e], prior_scale / (prior_sd[e] * prior_sd[e])
        for p in range(num):
            gradient[extra + e, p] -= precision * (x[extra + e, p] - mean)


@njit(**_EACH)
def _add_prior_value(
    x: Reals, concentration: Reals, mean: Reals, sd: Reals, prior_scale: Any, norm: Reals, value: Reals
) -> None:
    """value (P,) = prior_scale * log prior."""
    num, extra, sum_ = x.shape[1], concentration.shape[0] - 1, _ZERO * prior_scale
    for j in range(extra + 1):
        sum_ += prior_scale * concentration[j]
    for p in range(num):
        value[p] = -sum_ * norm[p]
    for j in range(extra):
        share = prior_scale * concentration[j]
        for p in range(num):
            value[p] += share * x[j, p]
    for e in range(NUM_EXTRA):
        centre, half = mean[e], prior_scale * _HALF / (sd[e] * sd[e])
        for p in range(num):
            z = x[extra + e, p] - centre
            value[p] -= half * z * z


@njit(**_EACH)
def _comparison(rows: Rows, a: int, want_value: bool, want_gradient: bool, extra: int, room: Room) -> None:
    """One comparison: log F(s) is min(s, 0) - log(1 + e^-|s|), however far off it is."""
    value, gradient, pull, utility, tau, apart = (
        room.value,
        room.gradient,
        room.pull,
        room.utility,
        room.tau,
        room.apart,
    )
    row, answer, times, r = rows.first[a], rows.chosen[a], rows.times[a], room.rationality
    num, of_r, of_tau = value.shape[0], extra + COMPARISON, extra + _TAU
    if answer < 2:
        sign = _ONE if answer == 0 else -_ONE
        for p in range(num):
            scaled = r[COMPARISON, p] * utility[row, p]
            s = sign * scaled - tau[p]
            e = exp_of(-abs(s))
            if want_value:
                value[p] += times * (min(s, _ZERO) - log_of(_ONE + e))
            if want_gradient:
                lost = times * (e if s > _ZERO else _ONE) / (_ONE + e)
                pull[row, p] = sign * lost * r[COMPARISON, p]
                gradient[of_r, p] += sign * lost * scaled
                gradient[of_tau, p] -= lost * tau[p]
        return
    for p in range(num):
        scaled = r[COMPARISON, p] * utility[row, p]
        s, t = scaled - tau[p], -scaled - tau[p]
        e, f = exp_of(-abs(s)), exp_of(-abs(t))
        if want_value:
            far = min(s, _ZERO) + min(t, _ZERO) + _TWO * tau[p]
            value[p] += times * (far + log_of(apart[p]) - log_of(_ONE + e) - log_of(_ONE + f))
        if want_gradient:
            of_a = times * (e if s > _ZERO else _ONE) / (_ONE + e)
            of_b = times * (f if t > _ZERO else _ONE) / (_ONE + f)
            pull[row, p] = (of_a - of_b) * r[COMPARISON, p]
            gradient[of_r, p] += (of_a - of_b) * scaled
            gradient[of_tau, p] += (_TWO * times / apart[p] - of_a - of_b) * tau[p]


@njit(**_EACH)
def _menu(x: Reals, rows: Rows, a: int, want_value: bool, want_gradient: bool, extra: int, room: Room) -> None:
    """One choice from a menu; room.pull holds the options' shares in between."""
    value, gradient, pull, utility, lapse = room.value, room.gradient, room.pull, room.utility, room.lapse
    top, total, chance, r = room.top, room.total, room.chance, room.rationality
    first, end, pick, c = rows.first[a], rows.first[a + 1], rows.first[a] + rows.chosen[a], rows.column[a]
    times, even, num = rows.times[a], rows.even[a], value.shape[0]
    for p in range(num):
        top[p] = _LOWEST
        total[p] = _ZERO
    for k in range(first, end):
        push, stay = rows.recommended[k], rows.last[k]
        for p in range(num):
            worth = r[c, p] * utility[k, p] + push * x[extra + _RELIANCE, p] + stay * x[extra + _INERTIA, p]
            pull[k, p] = worth
            top[p] = max(top[p], worth)
    for k in range(first, end):
        for p in range(num):
            pull[k, p] = exp_of(pull[k, p] - top[p])
            total[p] += pull[k, p]
    for p in range(num):
        total[p] = _ONE / total[p]
        chance[p] = lapse[p] * even + (_ONE - lapse[p]) * (pull[pick, p] * total[p])
    if want_value:
        for p in range(num):
            value[p] += times * log_of(chance[p])
    if not want_gradient:
        return
    for p in range(num):
        share, of_one = pull[pick, p] * total[p], times / chance[p]
        gradient[extra + _LAPSE, p] += (even - share) * of_one * lapse[p] * (_ONE - lapse[p])
        chance[p] = (_ONE - lapse[p]) * share * of_one
    for k in range(first, end):
        mine = _ONE if k == pick else _ZERO
        push, stay = rows.recommended[k], rows.last[k]
        for p in range(num):
            g = chance[p] * (mine - pull[k, p] * total[p])
            gradient[extra + _RELIANCE, p] += push * g
            gradient[extra + _INERTIA, p] += stay * g
            g *= r[c, p]
            gradient[extra + c, p] += g * utility[k, p]
            pull[k, p] = g
