"""The compiled twin of the PyMC model of a person with a mental model (calib/model.py), with its gradient.

A choice sees only what a mode is worth as believed, u_m = w . f_hat(m). Given the learning rate, belief probes are
scalar Kalman updates of single cells of f_hat(0), whose posterior stays Gaussian with means A and variances V. So the
part of u_m that comes from f_hat(0), over the attributes g that are learned at one rate, is

    q_mg = sum_j w_j A_mj + sqrt(sum_j w_j^2 V_mj) xi_mg,    xi standard normal,

and a run of the mode moves it by a scalar recursion. That is exact, for linear utility and f_hat(0) that is not
clipped, and has M xi a rate where f_hat(0) has J M cells; f_hat reads out in closed form (`calib.mind.believed`).

Coordinates of a particle are all standard normal under the prior: J of the weights' gamma variables
(calib/comparisons.py), E of calib.mental.EXTRAS, then xi (M, groups). Single precision, loops over particles.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.comparisons import gamma_coefficients, horner
from calib.history import ACCEPT_OVERRIDE, BEST_OF, COMPARISON, MODE_CHOICE, PROBE, RATING, RUN, STOP, History
from calib.mental import (
    ASPIRATION,
    BELIEF_SD,
    EXTRAS,
    HAZARD,
    INERTIA,
    LAPSE,
    LEARNING,
    RELIANCE,
    SPACING,
    TAU,
    MindPrior,
    groups_of,
)
from calib.vector import Single, Singles, exp32, log32, rows32

Ints = NDArray[np.int64]

E = len(EXTRAS)
_ZERO, _HALF, _ONE, _TWO = (np.float32(v) for v in (0.0, 0.5, 1.0, 2.0))
_FAR = np.float32(80.0)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering
_SUM = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


class Terms(NamedTuple):
    """The prior in single precision."""

    shape: Singles  # (J, 10) of log gamma, calib/comparisons.py
    slope: Singles  # (J, 10)
    mean: Singles  # (E,)
    sd: Singles  # (E,)
    expectation: Singles  # (M, J)
    salience: Singles  # (G,) of the groups
    group: Ints  # (J,)
    probe_sd: Single
    num_grades: int


class Story(NamedTuple):
    """One person's history: a row of calib.history.History in single precision, and how much each entry counts."""

    kind: Ints  # (A,)
    first: Singles  # (A, J)
    second: Singles  # (A, J)
    option: Ints  # (A,)
    where: Ints  # (A,)
    value: Singles  # (A,)
    cards: Singles  # (A, K, J)
    share: Singles  # (A,) 1, or less while an answer is let in by steps
    num: int


def terms_of(prior: MindPrior) -> Terms:
    """The prior in single precision."""
    group = groups_of(prior.salience)
    salience = np.array([prior.salience[group == g][0] for g in range(group.max() + 1)], np.float32)
    shape, slope = gamma_coefficients(tuple(prior.concentration))
    mean, sd, expectation = (np.ascontiguousarray(v, np.float32) for v in (prior.mean, prior.sd, prior.expectation))
    noise = np.float32(prior.probe_sd)
    return Terms(shape, slope, mean, sd, expectation, salience, group, noise, prior.num_grades)


def story_of(history: History, person: int) -> Story:
    """One person's row."""
    h, i = history, person
    first, second, value, cards = (
        np.ascontiguousarray(c[i], np.float32) for c in (h.first, h.second, h.value, h.cards)
    )
    share = np.ones(h.kind.shape[1], np.float32)
    return Story(h.kind[i], first, second, h.option[i], h.where[i], value, cards, share, int(h.num[i]))


def num_coordinates(prior: MindPrior) -> int:
    """D, which is even: behind an odd number stands a coordinate that nothing depends on."""
    num_modes, num_attributes = prior.expectation.shape
    num = num_attributes + E + num_modes * (int(groups_of(prior.salience).max()) + 1)
    return num + num % 2


class Room(NamedTuple):
    """Where the kernel works on W particles at once. G groups, C cells that were probed."""

    weights: Singles  # (J, W)
    whole: Singles  # (W,)
    natural: Singles  # (E, W) the extras on their own scales: e^x, or a share for lapse and learning rate
    length: Singles  # (G, W) of the weights of each group
    width: Singles  # (M G, W) sqrt(sum_j w_j^2 V_mj)
    part: Singles  # (M G, W) q
    utility: Singles  # (M + 1, W) u, and of the proposal
    cell: Ints  # (M, J) number of each cell among those that were probed, -1 for the others
    cells: Singles  # (6, C, W) A, V, and both by the learning rate's and the spread's coordinate before their scale
    pull: Singles  # (M G, W) d value / d q at the time that the backward pass has reached
    common: Singles  # (M, W) the same for all groups of a mode, not yet in `pull`
    gains: Singles  # (A, M, W) d log p / d u of each menu
    before: Singles  # (A, G, W) q before each run
    share: Singles  # (M + 1 or more, W) of the options of a menu
    by_weight: Singles  # (J, W) d value / d w
    by_extra: Singles  # (E, W) d value / d natural coordinate
    gradient: Singles  # (D, W)
    value: Singles  # (W,)
    new: Singles  # (W,)
    spare: Singles  # (8, W)


@njit(cache=True, nogil=True)
def make_room(terms: Terms, story: Story, width: int) -> Room:
    """Room for `width` particles at once and this story."""
    num_modes, num_attributes = terms.expectation.shape
    num_groups = terms.salience.shape[0]
    cell = np.full((num_modes, num_attributes), -1, np.int64)
    num_cells, menus, runs, most = 0, 0, 0, num_modes + 1
    for a in range(story.num):
        kind = story.kind[a]
        if kind == PROBE and cell[story.option[a], story.where[a]] < 0:
            cell[story.option[a], story.where[a]] = num_cells
            num_cells += 1
        menus += 1 if kind in (MODE_CHOICE, ACCEPT_OVERRIDE) else 0
        most = max(most, story.where[a]) if kind == BEST_OF else most
        runs += 1 if kind == RUN else 0
    parts = num_modes * num_groups
    dims = num_attributes + E + parts
    gradient = rows32(dims + dims % 2, width)
    gradient[:] = _ZERO
    single = rows32(3, width)
    return Room(
        rows32(num_attributes, width),
        single[0],
        rows32(E, width),
        rows32(num_groups, width),
        rows32(parts, width),
        rows32(parts, width),
        rows32(num_modes + 1, width),
        cell,
        rows32(6 * max(num_cells, 1), width).reshape(6, max(num_cells, 1), width),
        rows32(parts, width),
        rows32(num_modes, width),
        rows32(max(menus, 1) * num_modes, width).reshape(max(menus, 1), num_modes, width),
        rows32(max(runs, 1) * num_groups, width).reshape(max(runs, 1), num_groups, width),
        rows32(most, width),
        rows32(num_attributes, width),
        rows32(E, width),
        gradient,
        single[1],
        single[2],
        rows32(8, width),
    )


@njit(**_EACH)
def evaluate(z: Singles, terms: Terms, story: Story, first_new: int, want_gradient: bool, room: Room) -> None:
    """Log density of particles z (D, W): prior, and entries of the story as much as their share.

    Writes room.value (W,), up to a constant; room.new (W,), the answers from `first_new` on as if they counted whole,
    probes apart; and room.gradient (D, W) where wanted.
    """
    value, new, width = room.value, room.new, room.value.shape[0]
    _natural(z, terms, room)
    for p in range(width):
        value[p] = _ZERO
        new[p] = _ZERO
    for d in range(z.shape[0]):
        for p in range(width):
            value[p] -= _HALF * z[d, p] * z[d, p]
    for e in range(E):
        for p in range(width):
            room.by_extra[e, p] = _ZERO
    for j in range(room.by_weight.shape[0]):
        for p in range(width):
            room.by_weight[j, p] = _ZERO
    _probes(terms, story, room)
    _first_utilities(z, terms, room)
    menu, run = 0, 0
    for a in range(story.num):
        kind, is_new = story.kind[a], a >= first_new
        if kind in (MODE_CHOICE, ACCEPT_OVERRIDE):
            _menu(terms, story, a, menu, is_new, room)
            menu += 1
        elif kind == COMPARISON:
            _comparison(terms, story, a, is_new, room)
        elif kind == BEST_OF:
            _best_of(story, a, is_new, room)
        elif kind == RATING:
            _rating(terms, story, a, is_new, room)
        elif kind == STOP:
            _stop(terms, story, a, is_new, room)
        elif kind == RUN:
            _run(terms, story, a, run, room)
            run += 1
    if want_gradient:
        _backward(z, terms, story, menu, run, room)


@njit(**_EACH)
def parameters(z: Singles, terms: Terms, weights: Singles, extras: Singles) -> None:
    """weights (J, W) and extras (E, W), as calib.mental.EXTRAS scales them, of particles z (D, W)."""
    num_attributes, width = terms.shape.shape[0], z.shape[1]
    whole = np.zeros(width, np.float32)
    for j in range(num_attributes):
        for p in range(width):
            weights[j, p] = exp32(horner(terms.shape, j, z[j, p]))
            whole[p] += weights[j, p]
    for j in range(num_attributes):
        for p in range(width):
            weights[j, p] /= whole[p]
    for e in range(E):
        for p in range(width):
            extras[e, p] = terms.mean[e] + terms.sd[e] * z[num_attributes + e, p]


@njit(**_EACH)
def _natural(z: Singles, terms: Terms, room: Room) -> None:
    num_attributes, width = terms.shape.shape[0], room.value.shape[0]
    weights, whole, natural, mean, sd = room.weights, room.whole, room.natural, terms.mean, terms.sd
    for p in range(width):
        whole[p] = _ZERO
    for j in range(num_attributes):
        for p in range(width):
            gamma = exp32(horner(terms.shape, j, z[j, p]))
            weights[j, p] = gamma
            whole[p] += gamma
    for p in range(width):
        whole[p] = _ONE / whole[p]
    for j in range(num_attributes):
        for p in range(width):
            weights[j, p] *= whole[p]
    for e in range(E):
        row, m, s = num_attributes + e, mean[e], sd[e]
        if e in (RELIANCE, INERTIA, ASPIRATION, HAZARD):
            for p in range(width):
                natural[e, p] = m + s * z[row, p]
        elif e in (LAPSE, LEARNING):
            for p in range(width):
                natural[e, p] = _ONE / (_ONE + exp32(-(m + s * z[row, p])))
        else:
            for p in range(width):
                natural[e, p] = exp32(m + s * z[row, p])
    for g in range(terms.salience.shape[0]):
        for p in range(width):
            room.length[g, p] = _ZERO
    for j in range(num_attributes):
        g = terms.group[j]
        for p in range(width):
            room.length[g, p] += weights[j, p] * weights[j, p]
    for g in range(terms.salience.shape[0]):
        for p in range(width):
            room.length[g, p] = np.sqrt(room.length[g, p])


@njit(**_EACH)
def _probes(terms: Terms, story: Story, room: Room) -> None:
    """Each probe as a scalar Kalman update of its cell, forward with derivatives, and its share of the value."""
    cells, value, width = room.cells, room.value, room.value.shape[0]
    learning, spread = room.natural[LEARNING], room.natural[BELIEF_SD]
    by_learning, by_spread = room.by_extra[LEARNING], room.by_extra[BELIEF_SD]
    keep, past, keep_by, past_by = room.spare[0], room.spare[1], room.spare[2], room.spare[3]
    for m in range(room.cell.shape[0]):
        for j in range(room.cell.shape[1]):
            c = room.cell[m, j]
            if c >= 0:
                for p in range(width):
                    cells[0, c, p] = terms.expectation[m, j]
                    cells[1, c, p] = spread[p] * spread[p]
                    cells[2, c, p] = _ZERO
                    cells[3, c, p] = _ZERO
                    cells[4, c, p] = _ZERO
                    cells[5, c, p] = _TWO * spread[p] * spread[p]
    for a in range(story.num):
        if story.kind[a] != PROBE or story.share[a] <= _ZERO:
            continue
        m, j = story.option[a], story.where[a]
        c, rate, said = room.cell[m, j], terms.salience[terms.group[j]], story.value[a]
        noise = terms.probe_sd * terms.probe_sd / story.share[a]
        # what is expected now is keep * f_hat(0) + past; both by the learning rate
        for p in range(width):
            keep[p] = _ONE
            past[p] = _ZERO
            keep_by[p] = _ZERO
            past_by[p] = _ZERO
        for b in range(a):
            if story.kind[b] == RUN and story.option[b] == m:
                seen = story.first[b, j]
                for p in range(width):
                    step = rate * learning[p]
                    keep_by[p] = (_ONE - step) * keep_by[p] - rate * keep[p]
                    keep[p] *= _ONE - step
                    past_by[p] = (_ONE - step) * past_by[p] + rate * (seen - past[p])
                    past[p] += step * (seen - past[p])
        for p in range(width):
            mean, var, g = cells[0, c, p], cells[1, c, p], keep[p]
            total = g * g * var + noise
            gap = said - past[p] - g * mean
            inverse = _ONE / total
            value[p] -= _HALF * (log32(total) + gap * gap * inverse)
            gain = var * g * inverse
            # by the learning rate, then by the spread, which moves neither keep nor past
            for k in range(2):
                g_by = keep_by[p] if k == 0 else _ZERO
                mean_by, var_by = cells[2 + 2 * k, c, p], cells[3 + 2 * k, c, p]
                gap_by = -(past_by[p] if k == 0 else _ZERO) - g_by * mean - g * mean_by
                total_by = _TWO * g * g_by * var + g * g * var_by
                slope = -_HALF * total_by * inverse - gap * gap_by * inverse
                slope += _HALF * gap * gap * total_by * inverse * inverse
                if k == 0:
                    by_learning[p] += slope
                else:
                    by_spread[p] += slope
                gain_by = (var_by * g + var * g_by) * inverse - gain * total_by * inverse
                cells[2 + 2 * k, c, p] = mean_by + gain_by * gap + gain * gap_by
                cells[3 + 2 * k, c, p] = noise * inverse * (var_by - var * total_by * inverse)
            cells[0, c, p] = mean + gain * gap
            cells[1, c, p] = var * noise * inverse


@njit(**_EACH)
def _first_utilities(z: Singles, terms: Terms, room: Room) -> None:
    """q of every mode and group before the first run, and u."""
    num_modes, num_attributes = terms.expectation.shape
    num_groups, first = terms.salience.shape[0], num_attributes + E
    weights, cells, width = room.weights, room.cells, room.value.shape[0]
    spread = room.natural[BELIEF_SD]
    for m in range(num_modes):
        for g in range(num_groups):
            row, probed = m * num_groups + g, False
            for p in range(width):
                room.part[row, p] = _ZERO
            for j in range(num_attributes):
                if terms.group[j] == g:
                    c = room.cell[m, j]
                    probed = probed or c >= 0
                    if c < 0:
                        for p in range(width):
                            room.part[row, p] += terms.expectation[m, j] * weights[j, p]
                    else:
                        for p in range(width):
                            room.part[row, p] += cells[0, c, p] * weights[j, p]
            if probed:
                for p in range(width):
                    room.width[row, p] = _ZERO
                for j in range(num_attributes):
                    if terms.group[j] == g:
                        c = room.cell[m, j]
                        for p in range(width):
                            var = cells[1, max(c, 0), p] if c >= 0 else spread[p] * spread[p]
                            room.width[row, p] += weights[j, p] * weights[j, p] * var
                for p in range(width):
                    room.width[row, p] = np.sqrt(room.width[row, p])
            else:
                for p in range(width):
                    room.width[row, p] = spread[p] * room.length[g, p]
            for p in range(width):
                room.part[row, p] += room.width[row, p] * z[first + row, p]
        for p in range(width):
            room.utility[m, p] = _ZERO
        for g in range(num_groups):
            for p in range(width):
                room.utility[m, p] += room.part[m * num_groups + g, p]


@njit(**_EACH)
def _menu(terms: Terms, story: Story, a: int, menu: int, is_new: bool, room: Room) -> None:
    """A choice among the modes, and a proposal where there is one; its slopes go to room.gains."""
    num_modes, num_attributes = terms.expectation.shape
    kind, pick, last, counts = story.kind[a], story.option[a], story.where[a], story.share[a]
    utility, share, gains, width = room.utility, room.share, room.gains, room.value.shape[0]
    rationality = room.natural[kind]
    top, total, slope, of_rationality = room.spare[0], room.spare[1], room.spare[2], room.spare[3]
    num = num_modes
    if kind == ACCEPT_OVERRIDE:
        num += 1
        for p in range(width):
            utility[num_modes, p] = _ZERO
        for j in range(num_attributes):
            f = story.first[a, j]
            for p in range(width):
                utility[num_modes, p] += f * room.weights[j, p]
    for p in range(width):
        top[p] = -np.float32(np.inf)
        of_rationality[p] = _ZERO
    for k in range(num):
        if k in (last, num_modes):
            push = room.natural[RELIANCE if k == num_modes else INERTIA]
            for p in range(width):
                share[k, p] = rationality[p] * utility[k, p] + push[p]
                top[p] = max(top[p], share[k, p])
        else:
            for p in range(width):
                share[k, p] = rationality[p] * utility[k, p]
                top[p] = max(top[p], share[k, p])
    _picked(num, pick, counts, is_new, room)
    for k in range(num):
        mine = _ONE if k == pick else _ZERO
        for p in range(width):
            gain = slope[p] * (mine - share[k, p] * total[p])
            of_rationality[p] += gain * utility[k, p]
            share[k, p] = gain
        if k < num_modes:
            for p in range(width):
                gains[menu, k, p] = rationality[p] * share[k, p]
    if last >= 0:
        for p in range(width):
            room.by_extra[INERTIA, p] += share[last, p]
    if kind == ACCEPT_OVERRIDE:
        for p in range(width):
            room.by_extra[RELIANCE, p] += share[num_modes, p]
        for j in range(num_attributes):
            f = story.first[a, j]
            for p in range(width):
                room.by_weight[j, p] += f * rationality[p] * share[num_modes, p]
    for p in range(width):
        room.by_extra[kind, p] += of_rationality[p]


@njit(**_EACH)
def _picked(num: int, pick: int, counts: Single, is_new: bool, room: Room) -> None:
    """A choice among `num` options whose worths are in room.share, the highest of them in the first spare row.

    room.share is then e^(worth - highest), the second spare row one over their sum, the third the slope of the value by
    the log of the picked one's share.
    """
    share, lapse, width = room.share, room.natural[LAPSE], room.value.shape[0]
    top, total, slope, even = room.spare[0], room.spare[1], room.spare[2], _ONE / np.float32(num)
    for p in range(width):
        total[p] = _ZERO
    for k in range(num):
        for p in range(width):
            share[k, p] = exp32(share[k, p] - top[p])
            total[p] += share[k, p]
    for p in range(width):
        total[p] = _ONE / total[p]
        picked = share[pick, p] * total[p]
        probability = lapse[p] * even + (_ONE - lapse[p]) * picked
        log_p = log32(probability)
        room.value[p] += counts * log_p
        room.new[p] += log_p if is_new else _ZERO
        slope[p] = counts * (_ONE - lapse[p]) * picked / probability
        room.by_extra[LAPSE, p] += counts * (even - picked) / probability


@njit(**_EACH)
def _best_of(story: Story, a: int, is_new: bool, room: Room) -> None:
    """The best of some outcome cards: a menu choice with the rationality of comparisons."""
    num, pick, counts, width = story.where[a], story.option[a], story.share[a], room.value.shape[0]
    rationality, share = room.natural[COMPARISON], room.share
    top, total, slope, worth = room.spare[0], room.spare[1], room.spare[2], room.spare[3]
    for p in range(width):
        top[p] = -np.float32(np.inf)
    for k in range(num):
        for p in range(width):
            share[k, p] = _ZERO
        for j in range(room.weights.shape[0]):
            f = story.cards[a, k, j]
            for p in range(width):
                share[k, p] += f * room.weights[j, p]
        for p in range(width):
            share[k, p] *= rationality[p]
            top[p] = max(top[p], share[k, p])
    _picked(num, pick, counts, is_new, room)
    for k in range(num):
        mine = _ONE if k == pick else _ZERO
        for p in range(width):
            share[k, p] = slope[p] * (mine - share[k, p] * total[p])
            worth[p] = rationality[p] * share[k, p]
        for j in range(room.weights.shape[0]):
            f = story.cards[a, k, j]
            for p in range(width):
                room.by_weight[j, p] += f * worth[p]
                room.by_extra[COMPARISON, p] += f * room.weights[j, p] * share[k, p]


@njit(**_EACH)
def _worth(story: Story, a: int, with_second: bool, room: Room, out: Singles) -> None:
    """out (W,) = w . first, less w . second where asked."""
    for p in range(out.shape[0]):
        out[p] = _ZERO
    for j in range(room.weights.shape[0]):
        f = story.first[a, j] - (story.second[a, j] if with_second else _ZERO)
        for p in range(out.shape[0]):
            out[p] += f * room.weights[j, p]


@njit(**_EACH)
def _give(story: Story, a: int, with_second: bool, slope: Singles, room: Room) -> None:
    """by_weight += slope * (first - second)."""
    for j in range(room.weights.shape[0]):
        f = story.first[a, j] - (story.second[a, j] if with_second else _ZERO)
        for p in range(slope.shape[0]):
            room.by_weight[j, p] += f * slope[p]


@njit(**_EACH)
def _comparison(terms: Terms, story: Story, a: int, is_new: bool, room: Room) -> None:
    answer, counts, width = story.option[a], story.share[a], room.value.shape[0]
    rationality, tau = room.natural[COMPARISON], room.natural[TAU]
    gap, slope = room.spare[0], room.spare[1]
    _worth(story, a, True, room, gap)
    by_a, by_b = _ONE if answer != 1 else _ZERO, _ONE if answer != 0 else _ZERO
    equal = _ONE if answer == 2 else _ZERO
    for p in range(width):
        scaled = rationality[p] * gap[p]
        # log F(s) = min(s, 0) - log(1 + e^-|s|)
        for_a, for_b = scaled - tau[p], -scaled - tau[p]
        log_a = min(for_a, _ZERO) - log32(_ONE + exp32(-abs(for_a)))
        log_b = min(for_b, _ZERO) - log32(_ONE + exp32(-abs(for_b)))
        lose_a, lose_b = _ONE / (_ONE + exp32(for_a)), _ONE / (_ONE + exp32(for_b))
        span = exp32(_TWO * tau[p])
        log_p = by_a * log_a + by_b * log_b + equal * log32(span - _ONE)
        room.value[p] += counts * log_p
        room.new[p] += log_p if is_new else _ZERO
        by_scaled = counts * (by_a * lose_a - by_b * lose_b)
        by_tau = equal * _TWO * span / (span - _ONE) - by_a * lose_a - by_b * lose_b
        room.by_extra[TAU, p] += counts * by_tau
        room.by_extra[COMPARISON, p] += by_scaled * gap[p]
        slope[p] = by_scaled * rationality[p]
    _give(story, a, True, slope, room)


@njit(**_EACH)
def _rating(terms: Terms, story: Story, a: int, is_new: bool, room: Room) -> None:
    grade, counts, width, num = story.option[a], story.share[a], room.value.shape[0], terms.num_grades
    rationality, aspiration, spacing = room.natural[RATING], room.natural[ASPIRATION], room.natural[SPACING]
    worth, slope = room.spare[0], room.spare[1]
    _worth(story, a, False, room, worth)
    middle = np.float32(num - 2) * _HALF
    upper, lower = np.float32(grade) - middle, np.float32(grade - 1) - middle  # thresholds, in spacings
    is_last, is_first = grade == num - 1, grade == 0
    between = not is_last and not is_first
    for p in range(width):
        gap = worth[p] - aspiration[p]
        scaled = rationality[p] * gap
        high, low = upper * spacing[p] - scaled, lower * spacing[p] - scaled
        log_high = min(high, _ZERO) - log32(_ONE + exp32(-abs(high)))  # log F(high)
        log_low = min(-low, _ZERO) - log32(_ONE + exp32(-abs(low)))  # log F(-low)
        not_high, not_low = _ONE / (_ONE + exp32(high)), _ONE / (_ONE + exp32(-low))
        apart = exp32(-spacing[p])
        log_p = (_ZERO if is_last else log_high) + (_ZERO if is_first else log_low)
        log_p += log32(_ONE - apart) if between else _ZERO
        room.value[p] += counts * log_p
        room.new[p] += log_p if is_new else _ZERO
        up = _ZERO if is_last else not_high  # by high
        down = _ZERO if is_first else -not_low  # by low
        by_scaled = -counts * (up + down)
        by_spacing = up * upper + down * lower + (apart / (_ONE - apart) if between else _ZERO)
        room.by_extra[SPACING, p] += counts * by_spacing
        room.by_extra[RATING, p] += by_scaled * gap
        room.by_extra[ASPIRATION, p] -= by_scaled * rationality[p]
        slope[p] = by_scaled * rationality[p]
    _give(story, a, False, slope, room)


@njit(**_EACH)
def _stop(terms: Terms, story: Story, a: int, is_new: bool, room: Room) -> None:
    stopped, counts, width, ticks = np.float32(story.option[a]), story.share[a], room.value.shape[0], story.value[a]
    rationality, aspiration, hazard = room.natural[STOP], room.natural[ASPIRATION], room.natural[HAZARD]
    worth, slope = room.spare[0], room.spare[1]
    _worth(story, a, False, room, worth)
    for p in range(width):
        gap = worth[p] - aspiration[p]
        log_rate = min(max(hazard[p] - rationality[p] * gap, -_FAR), _FAR)
        rate = ticks * exp32(log_rate)
        log_p = stopped * log_rate - rate
        room.value[p] += counts * log_p
        room.new[p] += log_p if is_new else _ZERO
        by_rate = counts * (stopped - rate)
        room.by_extra[HAZARD, p] += by_rate
        room.by_extra[STOP, p] -= by_rate * gap
        room.by_extra[ASPIRATION, p] += by_rate * rationality[p]
        slope[p] = -by_rate * rationality[p]
    _give(story, a, False, slope, room)


@njit(**_EACH)
def _run(terms: Terms, story: Story, a: int, run: int, room: Room) -> None:
    """They learn from a run: q moves towards w . phi of each group."""
    m, num_groups, width = story.option[a], terms.salience.shape[0], room.value.shape[0]
    learning, seen = room.natural[LEARNING], room.spare[0]
    for p in range(width):
        room.utility[m, p] = _ZERO
    for g in range(num_groups):
        row, rate = m * num_groups + g, terms.salience[g]
        for p in range(width):
            seen[p] = _ZERO
        for j in range(terms.group.shape[0]):
            if terms.group[j] == g:
                f = story.first[a, j]
                for p in range(width):
                    seen[p] += f * room.weights[j, p]
        for p in range(width):
            room.before[run, g, p] = room.part[row, p]
            room.part[row, p] += rate * learning[p] * (seen[p] - room.part[row, p])
            room.utility[m, p] += room.part[row, p]


@njit(**_EACH)
def _backward(z: Singles, terms: Terms, story: Story, menu: int, run: int, room: Room) -> None:
    """From the slopes of the answers to the gradient."""
    num_modes, num_attributes = terms.expectation.shape
    num_groups, width, _first = terms.salience.shape[0], room.value.shape[0], num_attributes + E
    pull, common, weights, by_weight, by_extra = room.pull, room.common, room.weights, room.by_weight, room.by_extra
    learning, _spread, seen = room.natural[LEARNING], room.natural[BELIEF_SD], room.spare[0]
    for row in range(pull.shape[0]):
        for p in range(width):
            pull[row, p] = _ZERO
    for m in range(num_modes):
        for p in range(width):
            common[m, p] = _ZERO
    for a in range(story.num - 1, -1, -1):
        kind = story.kind[a]
        if kind in (MODE_CHOICE, ACCEPT_OVERRIDE):
            menu -= 1
            for m in range(num_modes):
                for p in range(width):
                    common[m, p] += room.gains[menu, m, p]
        elif kind == RUN:
            run -= 1
            m = story.option[a]
            for g in range(num_groups):
                row, rate = m * num_groups + g, terms.salience[g]
                for p in range(width):
                    seen[p] = _ZERO
                for j in range(num_attributes):
                    if terms.group[j] == g:
                        f = story.first[a, j]
                        for p in range(width):
                            step = rate * learning[p] * (pull[row, p] + common[m, p])
                            by_weight[j, p] += f * step
                            seen[p] += f * weights[j, p]
                for p in range(width):
                    back = pull[row, p] + common[m, p]
                    by_extra[LEARNING, p] += rate * back * (seen[p] - room.before[run, g, p])
                    pull[row, p] = (_ONE - rate * learning[p]) * back
            for p in range(width):
                common[m, p] = _ZERO
    for m in range(num_modes):
        for g in range(num_groups):
            _first_back(z, terms, m, g, room)
    _to_coordinates(z, terms, room)


@njit(**_EACH)
def _first_back(z: Singles, terms: Terms, m: int, g: int, room: Room) -> None:
    """From d value / d q before the first run to xi, weights, learning rate and spread."""
    num_attributes, num_groups, width = terms.group.shape[0], terms.salience.shape[0], room.value.shape[0]
    row, first = m * num_groups + g, terms.group.shape[0] + E + m * num_groups + g
    pull, cells, weights = room.pull[row], room.cells, room.weights
    by_weight, by_extra, spread, bend = room.by_weight, room.by_extra, room.natural[BELIEF_SD], room.spare[1]
    for p in range(width):
        pull[p] += room.common[m, p]
        room.gradient[first, p] = pull[p] * room.width[row, p]
        bend[p] = pull[p] * z[first, p] / max(room.width[row, p], np.float32(1e-20))  # by half the variance
    for j in range(num_attributes):
        if terms.group[j] != g:
            continue
        c = room.cell[m, j]
        if c < 0:
            for p in range(width):
                var = spread[p] * spread[p]
                by_weight[j, p] += pull[p] * terms.expectation[m, j] + bend[p] * weights[j, p] * var
                by_extra[BELIEF_SD, p] += bend[p] * weights[j, p] * weights[j, p] * var
        else:
            for p in range(width):
                w = weights[j, p]
                half = _HALF * bend[p] * w * w
                by_weight[j, p] += pull[p] * cells[0, c, p] + bend[p] * w * cells[1, c, p]
                by_extra[LEARNING, p] += pull[p] * w * cells[2, c, p] + half * cells[3, c, p]
                by_extra[BELIEF_SD, p] += pull[p] * w * cells[4, c, p] + half * cells[5, c, p]


@njit(**_EACH)
def _to_coordinates(z: Singles, terms: Terms, room: Room) -> None:
    """From weights and natural scales to the coordinates, and the prior's own slope."""
    num_attributes, width = terms.group.shape[0], room.value.shape[0]
    weights, by_weight, gradient, mean = room.weights, room.by_weight, room.gradient, room.spare[0]
    for p in range(width):
        mean[p] = _ZERO
    for j in range(num_attributes):
        for p in range(width):
            mean[p] += weights[j, p] * by_weight[j, p]
    for j in range(num_attributes):
        for p in range(width):
            slope = horner(terms.slope, j, z[j, p]) if abs(z[j, p]) < np.float32(5.5) else _ZERO
            gradient[j, p] = slope * weights[j, p] * (by_weight[j, p] - mean[p]) - z[j, p]
    for e in range(E):
        row, sd = num_attributes + e, terms.sd[e]
        natural, by = room.natural[e], room.by_extra[e]
        if e in (RELIANCE, INERTIA, ASPIRATION, HAZARD):
            for p in range(width):
                gradient[row, p] = sd * by[p] - z[row, p]
        elif e in (LAPSE, LEARNING):
            for p in range(width):
                gradient[row, p] = sd * natural[p] * (_ONE - natural[p]) * by[p] - z[row, p]
        elif e == BELIEF_SD:  # collected by the log already
            for p in range(width):
                gradient[row, p] = sd * by[p] - z[row, p]
        else:
            for p in range(width):
                gradient[row, p] = sd * natural[p] * by[p] - z[row, p]
    last = num_attributes + E + room.pull.shape[0]
    for row in range(num_attributes + E, last):
        for p in range(width):
            gradient[row, p] -= z[row, p]
    for row in range(last, gradient.shape[0]):
        for p in range(width):
            gradient[row, p] = -z[row, p]
