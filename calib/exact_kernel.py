"""The compiled twin of the PyMC model (calib/model.py) for any utility, with its gradient: nothing is collapsed.

A particle carries what a person expects of every mode and attribute before the first run, J M numbers where
calib/mind_kernel.py does with M a rate; v may then be any function (calib/utility.py). On the way forwards through the
history f_hat(t) = keep f_hat(0) + what runs left, and its slope by the learning rate, are carried along, so that one
pass gives value and gradient. Where people believe the descriptions and learn at the scenario's rate, f_hat is the
same number for all particles.

Coordinates of a particle are all standard normal under the prior: J of the weights' gamma variables
(calib/comparisons.py), E of calib.mental.EXTRAS, J of the aspirations where utility has any, and J M of f_hat(0) where
people differ in it. Single precision, loops over particles.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.comparisons import gamma_coefficients, horner
from calib.history import ACCEPT_OVERRIDE, BEST_OF, COMPARISON, MODE_CHOICE, PROBE, RATING, RUN, STOP
from calib.mental import (
    ASPIRATION,
    BELIEF_SD,
    EXTRAS,
    HAZARD,
    INERTIA,
    INTENT_ROWS,
    LAPSE,
    LEARNING,
    RELIANCE,
    SPACING,
    TAU,
    MindPrior,
)
from calib.mind_kernel import Story
from calib.prior import Prior
from calib.utility import LEAST, Aspirations
from calib.vector import Single, Singles, exp32, log32, rows32

E = len(EXTRAS)
_ZERO, _HALF, _ONE, _TWO = (np.float32(v) for v in (0.0, 0.5, 1.0, 2.0))
_LEAST, _SPAN = np.float32(LEAST), np.float32(1.0 - LEAST)
_FAR = np.float32(80.0)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering


class Terms(NamedTuple):
    """The prior in single precision, and which of its parts there are."""

    shape: Singles  # (J, 10) of log gamma, calib/comparisons.py
    slope: Singles  # (J, 10)
    mean: Singles  # (E,)
    sd: Singles  # (E,)
    aspiration_mean: Singles  # (J,)
    aspiration_sd: Singles  # (J,)
    expectation: Singles  # (M, J)
    salience: Singles  # (J,)
    rate: Single  # at which people learn where they do not differ in it
    probe_sd: Single
    num_grades: int
    curved: bool  # utility saturates at aspirations
    minds: bool  # people differ in what they expect and in how they learn


def terms_of(
    prior: Prior,
    mind: MindPrior | None,
    aspirations: Aspirations | None,
    expectation: NDArray[np.float64],
    salience: NDArray[np.float64],
    rate: float,
) -> Terms:
    """Of a setup: `mind` where people's mental models differ, else expectation (M, J), salience (J,) and rate count."""
    if mind is not None:
        mean, sd, probe_sd, num_grades = mind.mean, mind.sd, mind.probe_sd, mind.num_grades
    else:
        mean, sd, probe_sd, num_grades = np.zeros(E), np.ones(E), 1.0, 5
        mean[INTENT_ROWS], sd[INTENT_ROWS] = prior.mean, prior.sd
    num_attributes = expectation.shape[1]
    of_aspirations = aspirations or Aspirations(np.zeros(num_attributes), np.ones(num_attributes))
    columns = (mean, sd, *of_aspirations, expectation, salience)
    singles = (np.ascontiguousarray(v, np.float32) for v in columns)
    return Terms(  # type: ignore[call-arg]
        *gamma_coefficients(tuple(prior.concentration)),
        *singles,  # type: ignore[arg-type]
        np.float32(rate),
        np.float32(probe_sd),
        num_grades,
        aspirations is not None,
        mind is not None,
    )


@njit(cache=True, nogil=True)
def places(terms: Terms) -> tuple[int, int, int]:
    """Where the aspirations begin, where f_hat(0) does, and D, which is even: nothing may depend on the last one."""
    num_modes, num_attributes = terms.expectation.shape
    first = num_attributes + E
    cells = first + (num_attributes if terms.curved else 0)
    end = cells + (num_modes * num_attributes if terms.minds else 0)
    return first, cells, end + end % 2


class Room(NamedTuple):
    """Where the kernel works on W particles at once. C = M J cells, O options at most."""

    weights: Singles  # (J, W)
    inverse: Singles  # (J, W) one over the aspirations
    natural: Singles  # (E, W) the extras on their own scales: e^x, or a share for lapse and learning rate
    expected: Singles  # (C, W) f_hat at the time that has been reached
    keep: Singles  # (C, W) its slope by f_hat(0), and
    drift: Singles  # (C, W) by the rate of its attribute
    step: Singles  # (J, W) learning rate times salience
    value_of: Singles  # (O J, W) v of every option and attribute
    left: Singles  # (O J, W) what is left to the aspiration, as a share of it
    utility: Singles  # (O, W)
    share: Singles  # (O, W)
    by_weight: Singles  # (J, W) d value / d w
    by_aspiration: Singles  # (J, W)
    by_extra: Singles  # (E, W) d value / d natural coordinate
    by_cell: Singles  # (C, W) d value / d f_hat(0)
    by_step: Singles  # (J, W)
    gradient: Singles  # (D, W)
    value: Singles  # (W,)
    new: Singles  # (W,)
    spare: Singles  # (6, W)


@njit(cache=True, nogil=True)
def make_room(terms: Terms, story: Story, width: int) -> Room:
    """Room for `width` particles at once."""
    num_modes, num_attributes = terms.expectation.shape
    cells, most = num_modes * num_attributes, max(num_modes + 1, story.cards.shape[1], 2)
    gradient = rows32(places(terms)[2], width)
    gradient[:] = _ZERO
    single = rows32(2, width)
    return Room(
        rows32(num_attributes, width),
        rows32(num_attributes, width),
        rows32(E, width),
        rows32(cells, width),
        rows32(cells, width),
        rows32(cells, width),
        rows32(num_attributes, width),
        rows32(most * num_attributes, width),
        rows32(most * num_attributes, width),
        rows32(most, width),
        rows32(most, width),
        rows32(num_attributes, width),
        rows32(num_attributes, width),
        rows32(E, width),
        rows32(cells, width),
        rows32(num_attributes, width),
        gradient,
        single[0],
        single[1],
        rows32(6, width),
    )


@njit(**_EACH)
def evaluate(z: Singles, terms: Terms, story: Story, first_new: int, want_gradient: bool, room: Room) -> None:
    """Log density of particles z (D, W): prior, and entries of the story as much as their share.

    Writes room.value (W,), up to a constant; room.new (W,), the answers from `first_new` on as if they counted whole;
    and room.gradient (D, W) where wanted.
    """
    value, new, width = room.value, room.new, room.value.shape[0]
    natural(z, terms, room.weights, room.inverse, room.natural, room.spare[0])
    _first_beliefs(z, terms, room)
    for p in range(width):
        value[p] = _ZERO
        new[p] = _ZERO
    for d in range(z.shape[0]):
        for p in range(width):
            value[p] -= _HALF * z[d, p] * z[d, p]
    for rows in (room.by_weight, room.by_aspiration, room.by_extra, room.by_cell, room.by_step):
        for row in range(rows.shape[0]):
            for p in range(width):
                rows[row, p] = _ZERO
    for a in range(story.num):
        kind, is_new = story.kind[a], a >= first_new
        if kind == RUN:
            _run(terms, story, a, room)
        elif kind in (MODE_CHOICE, ACCEPT_OVERRIDE, BEST_OF):
            _menu(terms, story, a, is_new, want_gradient, room)
        elif kind == COMPARISON:
            _comparison(terms, story, a, is_new, want_gradient, room)
        elif kind == RATING:
            _rating(terms, story, a, is_new, want_gradient, room)
        elif kind == STOP:
            _stop(terms, story, a, is_new, want_gradient, room)
        elif kind == PROBE:
            _probe(terms, story, a, is_new, want_gradient, room)
    if want_gradient:
        _gather(z, terms, room)


@njit(**_EACH)
def natural(z: Singles, terms: Terms, weights: Singles, inverse: Singles, extras: Singles, whole: Singles) -> None:
    """Weights and one over aspirations (J, W), extras (E, W) on their own scales, of z; whole (W,) is overwritten."""
    num_attributes, width = weights.shape
    for p in range(width):
        whole[p] = _ZERO
    for j in range(num_attributes):
        for p in range(width):
            weights[j, p] = exp32(horner(terms.shape, j, z[j, p]))
            whole[p] += weights[j, p]
    for p in range(width):
        whole[p] = _ONE / whole[p]
    for j in range(num_attributes):
        for p in range(width):
            weights[j, p] *= whole[p]
    for e in range(E):
        mean, sd, row = terms.mean[e], terms.sd[e], num_attributes + e
        if e in (LAPSE, LEARNING):
            for p in range(width):
                extras[e, p] = _ONE / (_ONE + exp32(-(mean + sd * z[row, p])))
        elif e in (RELIANCE, INERTIA, ASPIRATION, HAZARD):
            for p in range(width):
                extras[e, p] = mean + sd * z[row, p]
        else:
            for p in range(width):
                extras[e, p] = exp32(mean + sd * z[row, p])
    first = num_attributes + E
    for j in range(num_attributes if terms.curved else 0):
        mean, sd = terms.aspiration_mean[j], terms.aspiration_sd[j]
        for p in range(width):
            inverse[j, p] = _ONE / (_LEAST + _SPAN / (_ONE + exp32(-(mean + sd * z[first + j, p]))))


@njit(**_EACH)
def _first_beliefs(z: Singles, terms: Terms, room: Room) -> None:
    num_modes, num_attributes = terms.expectation.shape
    width, first = z.shape[1], places(terms)[1]
    for j in range(num_attributes):
        salience = terms.salience[j]
        for p in range(width):
            rate = room.natural[LEARNING, p] if terms.minds else terms.rate
            room.step[j, p] = rate * salience
    for m in range(num_modes):
        for j in range(num_attributes):
            c, mean = m * num_attributes + j, terms.expectation[m, j]
            for p in range(width):
                room.expected[c, p] = mean
            if terms.minds:
                for p in range(width):
                    room.expected[c, p] += room.natural[BELIEF_SD, p] * z[first + c, p]
                    room.keep[c, p] = _ONE
                    room.drift[c, p] = _ZERO


@njit(**_EACH)
def _run(terms: Terms, story: Story, a: int, room: Room) -> None:
    num_attributes, width = room.weights.shape
    for j in range(num_attributes):
        c, seen = story.option[a] * num_attributes + j, story.first[a, j]
        for p in range(width):
            step, off = room.step[j, p], seen - room.expected[c, p]
            room.expected[c, p] += step * off
            if terms.minds:
                room.drift[c, p] = (_ONE - step) * room.drift[c, p] + off
                room.keep[c, p] *= _ONE - step


@njit(**_EACH)
def _shown(features: Singles, k: int, terms: Terms, room: Room) -> None:
    """What option k with these features (J,) is worth."""
    (num_attributes, width), utility = room.weights.shape, room.utility
    for p in range(width):
        utility[k, p] = _ZERO
    for j in range(num_attributes):
        row, phi = k * num_attributes + j, features[j]
        for p in range(width):
            value = phi
            if terms.curved:
                left = min(max(_ONE - phi * room.inverse[j, p], _ZERO), _ONE)
                room.left[row, p] = left
                value = _ONE - left * left
            room.value_of[row, p] = value
            utility[k, p] += room.weights[j, p] * value


@njit(**_EACH)
def _believed(m: int, terms: Terms, room: Room) -> None:
    """What mode m is worth as believed, as option m."""
    (num_attributes, width), utility = room.weights.shape, room.utility
    for p in range(width):
        utility[m, p] = _ZERO
    for j in range(num_attributes):
        row = m * num_attributes + j
        for p in range(width):
            value = room.expected[row, p]
            if terms.curved:
                left = min(max(_ONE - value * room.inverse[j, p], _ZERO), _ONE)
                room.left[row, p] = left
                value = _ONE - left * left
            room.value_of[row, p] = value
            utility[m, p] += room.weights[j, p] * value


@njit(**_EACH)
def _pull(k: int, by_utility: Singles, is_believed: bool, terms: Terms, room: Room) -> None:
    """Add what the slope by_utility (W,) by the utility of option k says of weights, aspirations and beliefs."""
    num_attributes, width = room.weights.shape
    for j in range(num_attributes):
        row = k * num_attributes + j
        for p in range(width):
            room.by_weight[j, p] += by_utility[p] * room.value_of[row, p]
        if terms.curved:
            for p in range(width):
                slope = _TWO * by_utility[p] * room.weights[j, p] * room.left[row, p] * room.inverse[j, p]
                room.by_aspiration[j, p] -= slope * (_ONE - room.left[row, p])
                if is_believed:
                    slope = slope if room.expected[row, p] > _ZERO else _ZERO
                    room.by_cell[row, p] += slope * room.keep[row, p]
                    room.by_step[j, p] += slope * room.drift[row, p]
        elif is_believed:
            for p in range(width):
                slope = by_utility[p] * room.weights[j, p]
                room.by_cell[row, p] += slope * room.keep[row, p]
                room.by_step[j, p] += slope * room.drift[row, p]


@njit(**_EACH)
def _menu(terms: Terms, story: Story, a: int, is_new: bool, want_gradient: bool, room: Room) -> None:
    kind, chosen, times, width = story.kind[a], story.option[a], story.share[a], room.value.shape[0]
    num_modes = terms.expectation.shape[0]
    recommended, last, num, channel = -1, -1, story.where[a], COMPARISON
    if kind == BEST_OF:
        for k in range(num):
            _shown(story.cards[a, k], k, terms, room)
    else:
        num, last, channel = num_modes, story.where[a], kind
        for m in range(num_modes):
            _believed(m, terms, room)
        if kind == ACCEPT_OVERRIDE:
            _shown(story.first[a], num_modes, terms, room)
            recommended, num = num_modes, num_modes + 1
    share, x, utility = room.share, room.natural, room.utility
    top, total, chance, slope = room.spare[0], room.spare[1], room.spare[2], room.spare[3]
    for k in range(num):
        for p in range(width):
            share[k, p] = x[channel, p] * utility[k, p]
        if k == recommended:
            for p in range(width):
                share[k, p] += x[RELIANCE, p]
        if k == last:
            for p in range(width):
                share[k, p] += x[INERTIA, p]
        for p in range(width):
            top[p] = share[k, p] if k == 0 else max(top[p], share[k, p])
            total[p] = _ZERO
    for k in range(num):
        for p in range(width):
            share[k, p] = exp32(share[k, p] - top[p])
            total[p] += share[k, p]
    uniform = _ONE / np.float32(num)
    for p in range(width):
        total[p] = _ONE / total[p]
        share[chosen, p] *= total[p]
        chance[p] = x[LAPSE, p] * uniform + (_ONE - x[LAPSE, p]) * share[chosen, p]
        log_p = log32(chance[p])
        room.value[p] += times * log_p
        room.new[p] += log_p if is_new else _ZERO
    if not want_gradient:
        return
    for p in range(width):
        chance[p] = times / chance[p]
        room.by_extra[LAPSE, p] += chance[p] * (uniform - share[chosen, p])
        chance[p] *= (_ONE - x[LAPSE, p]) * share[chosen, p]
    for k in range(num):
        if k != chosen:
            for p in range(width):
                slope[p] = -chance[p] * share[k, p] * total[p]
        else:
            for p in range(width):
                slope[p] = chance[p] * (_ONE - share[k, p])
        if k == recommended:
            for p in range(width):
                room.by_extra[RELIANCE, p] += slope[p]
        if k == last:
            for p in range(width):
                room.by_extra[INERTIA, p] += slope[p]
        for p in range(width):
            room.by_extra[channel, p] += slope[p] * utility[k, p]
            slope[p] *= x[channel, p]
        _pull(k, slope, terms.minds and k < num_modes and kind != BEST_OF, terms, room)


@njit(**_EACH, inline="always")
def _softplus(x: Single) -> Single:
    return max(x, _ZERO) + log32(_ONE + exp32(-abs(x)))


@njit(**_EACH, inline="always")
def _logistic(x: Single) -> Single:
    return _ONE / (_ONE + exp32(-x))


@njit(**_EACH)
def _comparison(terms: Terms, story: Story, a: int, is_new: bool, want_gradient: bool, room: Room) -> None:
    answer, times, width, utility = story.option[a], story.share[a], room.value.shape[0], room.utility
    _shown(story.first[a], 0, terms, room)
    _shown(story.second[a], 1, terms, room)
    slope, back = room.spare[0], room.spare[1]
    for p in range(width):
        r, tau = room.natural[COMPARISON, p], room.natural[TAU, p]
        scaled = r * (utility[0, p] - utility[1, p])
        of_a, of_b = _logistic(tau - scaled), _logistic(tau + scaled)
        if answer == 0:
            log_p, by_scaled, by_tau = -_softplus(tau - scaled), of_a, -of_a
        elif answer == 1:
            log_p, by_scaled, by_tau = -_softplus(tau + scaled), -of_b, -of_b
        else:
            both = exp32(_TWO * tau)
            log_p = log32(both - _ONE) - _softplus(tau - scaled) - _softplus(tau + scaled)
            by_scaled, by_tau = of_a - of_b, _TWO * both / (both - _ONE) - of_a - of_b
        room.value[p] += times * log_p
        room.new[p] += log_p if is_new else _ZERO
        if want_gradient:
            room.by_extra[TAU, p] += times * by_tau
            room.by_extra[COMPARISON, p] += times * by_scaled * (utility[0, p] - utility[1, p])
            slope[p] = times * by_scaled * r
            back[p] = -slope[p]
    if want_gradient:
        _pull(0, slope, False, terms, room)
        _pull(1, back, False, terms, room)


@njit(**_EACH)
def _rating(terms: Terms, story: Story, a: int, is_new: bool, want_gradient: bool, room: Room) -> None:
    grade, times, width, most = story.option[a], story.share[a], room.value.shape[0], terms.num_grades - 1
    _shown(story.first[a], 0, terms, room)
    slope, x = room.spare[0], room.natural
    middle = np.float32(terms.num_grades - 2) * _HALF
    low_at, high_at = np.float32(grade - 1) - middle, np.float32(grade) - middle
    for p in range(width):
        spacing, r, off = x[SPACING, p], x[RATING, p], room.utility[0, p] - x[ASPIRATION, p]
        low, high = low_at * spacing - r * off, high_at * spacing - r * off
        log_p, by_low, by_high, by_spacing = _ZERO, _ZERO, _ZERO, _ZERO
        if grade < most:
            log_p -= _softplus(-high)
            by_high = _logistic(-high)
        if grade > 0:
            log_p -= _softplus(low)
            by_low = -_logistic(low)
        if 0 < grade < most:
            gone = exp32(-spacing)
            log_p += log32(_ONE - gone)
            by_spacing = gone / (_ONE - gone)
        room.value[p] += times * log_p
        room.new[p] += log_p if is_new else _ZERO
        if want_gradient:
            by_value = -(by_low + by_high)
            room.by_extra[SPACING, p] += times * (by_spacing + by_low * low_at + by_high * high_at)
            room.by_extra[RATING, p] += times * by_value * off
            room.by_extra[ASPIRATION, p] -= times * by_value * r
            slope[p] = times * by_value * r
    if want_gradient:
        _pull(0, slope, False, terms, room)


@njit(**_EACH)
def _stop(terms: Terms, story: Story, a: int, is_new: bool, want_gradient: bool, room: Room) -> None:
    stopped, ticks, times = np.float32(story.option[a]), story.value[a], story.share[a]
    _shown(story.first[a], 0, terms, room)
    slope, x = room.spare[0], room.natural
    for p in range(room.value.shape[0]):
        r, off = x[STOP, p], room.utility[0, p] - x[ASPIRATION, p]
        log_rate = min(x[HAZARD, p] - r * off, _FAR)
        log_p, by_rate = stopped * log_rate - ticks * exp32(log_rate), stopped - ticks * exp32(log_rate)
        room.value[p] += times * log_p
        room.new[p] += log_p if is_new else _ZERO
        if want_gradient:
            room.by_extra[HAZARD, p] += times * by_rate
            room.by_extra[STOP, p] -= times * by_rate * off
            room.by_extra[ASPIRATION, p] += times * by_rate * r
            slope[p] = -times * by_rate * r
    if want_gradient:
        _pull(0, slope, False, terms, room)


@njit(**_EACH)
def _probe(terms: Terms, story: Story, a: int, is_new: bool, want_gradient: bool, room: Room) -> None:
    j, times, said = story.where[a], story.share[a], story.value[a]
    c, sharp = story.option[a] * room.weights.shape[0] + j, _ONE / (terms.probe_sd * terms.probe_sd)
    for p in range(room.value.shape[0]):
        off = said - room.expected[c, p]
        log_p = -_HALF * off * off * sharp
        room.value[p] += times * log_p
        room.new[p] += log_p if is_new else _ZERO
        if want_gradient and terms.minds:
            room.by_cell[c, p] += times * off * sharp * room.keep[c, p]
            room.by_step[j, p] += times * off * sharp * room.drift[c, p]


@njit(**_EACH)
def _gather(z: Singles, terms: Terms, room: Room) -> None:
    """room.gradient by the coordinates, from the slopes by what they stand for."""
    (num_attributes, width), gradient, x = room.weights.shape, room.gradient, room.natural
    first, cells, _ = places(terms)
    mean = room.spare[0]
    for p in range(width):
        mean[p] = _ZERO
    for j in range(num_attributes):
        for p in range(width):
            mean[p] += room.weights[j, p] * room.by_weight[j, p]
    for j in range(num_attributes):
        for p in range(width):
            slope = horner(terms.slope, j, z[j, p]) * room.weights[j, p]
            gradient[j, p] = slope * (room.by_weight[j, p] - mean[p]) - z[j, p]
    if terms.minds:
        for j in range(num_attributes):
            for p in range(width):
                room.by_extra[LEARNING, p] += terms.salience[j] * room.by_step[j, p]
        for c in range(room.by_cell.shape[0]):
            for p in range(width):
                room.by_extra[BELIEF_SD, p] += room.by_cell[c, p] * z[cells + c, p]
                gradient[cells + c, p] = room.by_cell[c, p] * x[BELIEF_SD, p] - z[cells + c, p]
    for e in range(E):
        sd, row = terms.sd[e], num_attributes + e
        if e in (LAPSE, LEARNING):
            for p in range(width):
                gradient[row, p] = sd * x[e, p] * (_ONE - x[e, p]) * room.by_extra[e, p] - z[row, p]
        elif e in (RELIANCE, INERTIA, ASPIRATION, HAZARD):
            for p in range(width):
                gradient[row, p] = sd * room.by_extra[e, p] - z[row, p]
        else:
            for p in range(width):
                gradient[row, p] = sd * x[e, p] * room.by_extra[e, p] - z[row, p]
    for j in range(num_attributes if terms.curved else 0):
        sd = terms.aspiration_sd[j]
        for p in range(width):
            share = (_ONE / room.inverse[j, p] - _LEAST) / _SPAN
            slope = sd * _SPAN * share * (_ONE - share)
            gradient[first + j, p] = slope * room.by_aspiration[j, p] - z[first + j, p]
    if places(terms)[2] > cells + (room.by_cell.shape[0] if terms.minds else 0):
        for p in range(width):
            gradient[gradient.shape[0] - 1, p] = -z[gradient.shape[0] - 1, p]
