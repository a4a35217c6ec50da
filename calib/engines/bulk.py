"""Intent from outcome comparisons alone, for many people: weighted single-precision particles, moved when few are left.

It ignores what people choose from the menu. That costs knowledge and no calibration: its questions depend on
comparisons only, so what it ignores says nothing about which answers it saw. (A tool's standing configuration is what
the person chose: there the weights are calibrated and the degree is understated; docs/engines.md.)

Particles are weights, one rationality and the about-equal threshold: what comparisons touch. An answer multiplies the
weights of the particles. Where fewer than two fifths are left effective, they are resampled and all of them moved by
Hamiltonian Monte Carlo on all answers; where fewer than an eighth would be left, the answer enters by steps. Moves
become rarer as answers tell less, and equal answers share a term, so that a session's cost is linear in its rounds.

A belief's arrays are reused by its successor: hold on to the newest one only.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib import live, questions
from calib.alignment import MIN_RANGE
from calib.comparisons import TAU, Model, Room, gammas_of, log_target, make_room, model_of, move, resample, simplex
from calib.kernel import COMPARISON, NUM_EXTRA
from calib.live import Diagnostics, over_people
from calib.policies import load_policy
from calib.setup import Setup
from calib.state import Estimate, Measured, State
from calib.streams import fold, stream_key, uniform_at, uniforms
from calib.vector import (
    BLOCK,
    POOL,
    Single,
    Singles,
    add_rows,
    dot,
    dot_two,
    empty32,
    exp32,
    largest,
    least,
    normal_pool,
    total,
)

Ints = NDArray[np.int64]

TIER = "intent"
PARTICLES = 256
EVIDENCE = None  # it keeps its own, by pairs of cards
LEARNS_FROM = (questions.PAIR,)
_GATE, _FLOOR = np.float32(0.4), np.float32(0.125)  # shares of the particles that have to stay effective
_STEP_START, _STEP_LOW, _STEP_HIGH = 0.35, 0.04, 0.45
_TARGET_ACCEPT = 0.85
_MAX_STAGES = 40
_ZERO, _HALF, _ONE = (np.float32(v) for v in (0.0, 0.5, 1.0))
_LOW_SHARE, _HIGH_SHARE = np.float32(0.05), np.float32(0.95)
_MIN_RANGE = np.float32(MIN_RANGE)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering


class Belief(NamedTuple):
    """Weighted particles and what the person compared, each distinct answer once."""

    particles: Singles  # (N, J + 2, P) in the coordinates of calib/comparisons.py
    log_weight: Singles  # (N, P), the largest about 0
    step: Singles  # (N,) of the moves
    smallest_ess: Singles  # (N,) so far, as a share of the particles
    cells: NDArray[np.int32]  # (N, C, 3): first card, second card, answer
    times: Singles  # (N, C) how often it was given
    num_cells: Ints  # (N,)
    worst: Singles  # (N, X, P) U_min of each particle in each context, and
    span: Singles  # (N, X, P) U_max - U_min, made again when the particles have moved

    def of(self, low: int, high: int) -> "Belief":
        """The people from `low` up to `high`."""
        return Belief(*(column[low:high] for column in self))  # type: ignore[arg-type]


def start(setup: Setup, people: Ints) -> Belief:
    """Particles from the prior, equally weighted."""
    num, capacity = people.shape[0], min(setup.max_rounds, 3 * len(setup.pairs) + 1)
    particles = empty32(num, setup.num_attributes + 2, setup.num_particles)
    log_weight = empty32(num, setup.num_particles)
    log_weight[:] = 0.0
    key, normals = stream_key(setup.seed, "engine prior"), normal_pool(setup.seed, "engine normals")
    over_people(lambda a, b: _draw_people(normals, key, people[a:b], particles[a:b]), num)
    return Belief(
        particles,
        log_weight,
        np.full(num, _STEP_START, np.float32),
        np.ones(num, np.float32),
        np.zeros((num, capacity, 3), np.int32),
        np.zeros((num, capacity), np.float32),
        np.zeros(num, np.int64),
        empty32(num, setup.num_contexts, setup.num_particles),
        empty32(num, setup.num_contexts, setup.num_particles),
    )


@njit(**_EACH)
def _draw_people(normals: Singles, key: np.uint64, people: Ints, particles: Singles) -> None:
    num, dims, draws = particles.shape
    for i in range(num):
        own = fold(key, np.uint64(people[i]))
        for d in range(dims):
            at = int(uniform_at(own, np.uint64(d)) * (POOL - draws))
            for p in range(draws):
                particles[i, d, p] = normals[at + p]


def live_belief(setup: Setup, belief: Belief) -> live.Belief:
    """The same particles in the coordinates of calib/kernel.py, for a policy that knows no others.

    What comparisons do not touch is at its prior's mean.
    """
    num, _, draws = belief.particles.shape
    extra = setup.num_attributes - 1
    w, others = intent(setup, belief), belief.particles[:, -2:].astype(np.float64)
    particles = np.empty((num, extra + NUM_EXTRA, draws))
    particles[:, :extra] = np.log(np.maximum(w[:, :-1], 1e-30)) - np.log(np.maximum(w[:, -1:], 1e-30))
    particles[:, extra:] = setup.prior.mean[:, None]
    rows = [COMPARISON, TAU]
    moved = setup.prior.mean[rows, None] + setup.prior.sd[rows, None] * others
    particles[:, [extra + r for r in rows]] = moved
    return live.Belief(particles, belief.log_weight.astype(np.float64), belief.step.astype(np.float64))


def intent(setup: Setup, belief: Belief) -> NDArray[np.float64]:
    """(N, J, P) weights of the particles; they count e^log_weight."""
    num, _, draws = belief.particles.shape
    out = np.empty((num, setup.num_attributes, draws), np.float32)
    shape = model_of(setup).shape
    over_people(lambda a, b: _intent_people(belief.particles[a:b], shape, out[a:b]), num)
    return out.astype(np.float64)


@njit(**_EACH)
def _intent_people(particles: Singles, shape: Singles, out: Singles) -> None:
    whole = np.empty(particles.shape[2], np.float32)
    for i in range(particles.shape[0]):
        simplex(particles[i], shape, out[i], whole)


@njit(**_EACH)
def _learn(
    belief: Belief, i: int, pair: Ints, answer: int, model: Model, normals: Singles, key: np.uint64, room: Room
) -> tuple[float, int, float]:
    """Take person i's answer to the pair (2,) of cards into the belief.

    Returns the effective share of the particles after it, the number of moves, and the acceptance of the last. Where
    nothing was moved, room.gammas and room.scale are those of the particles.
    """
    num, accepted, first_share = belief.particles.shape[2], 1.0, 1.0
    x, log_weight, mixed = belief.particles[i], belief.log_weight[i], room.mixed
    cells, times, count = belief.cells[i], belief.times[i], belief.num_cells[i]
    cells[count, 0], cells[count, 1], cells[count, 2] = pair[0], pair[1], answer
    scale, stage = _ZERO, 0
    while True:
        times[count] = _ONE
        log_target(x, model, cells, times, count, count + 1, False, True, False, room)
        rise = _ONE - scale
        ess = _mix(log_weight, room.value, rise, mixed, room.spare)
        if stage == 0:
            first_share = ess / num
        if ess >= _GATE * num or stage >= _MAX_STAGES:
            break
        if ess < _FLOOR * num:
            low, high = _ZERO, rise
            for _ in range(20):
                middle = _HALF * (low + high)
                if _mix(log_weight, room.value, middle, mixed, room.spare) < _FLOOR * num:
                    high = middle
                else:
                    low = middle
            rise = max(low, np.float32(1e-6))
            _mix(log_weight, room.value, rise, mixed, room.spare)
        scale = min(scale + rise, _ONE)
        times[count] = scale
        draw = fold(key, np.uint64(stage))
        room.here[:] = x
        resample(room, draw)
        accepted = move(model, cells, times, count + 1, belief.step[i], normals, draw, room)
        step = belief.step[i] * np.exp(0.7 * (accepted - _TARGET_ACCEPT))
        belief.step[i] = min(max(step, _STEP_LOW), _STEP_HIGH)
        stage += 1
        x[:] = room.here
        log_weight[:] = _ZERO
        if scale >= _ONE:
            mixed[:] = _ZERO
            break
    log_weight[:] = mixed
    belief.num_cells[i] = _merge(cells, times, count)
    return first_share, stage, accepted


@njit(**_EACH)
def _merge(cells: NDArray[np.int32], times: Singles, count: int) -> int:
    """Add the answer in cell `count` to an equal one before it, or keep it; how many cells there are now."""
    times[count] = _ONE
    for k in range(count):
        if cells[k, 0] == cells[count, 0] and cells[k, 1] == cells[count, 1] and cells[k, 2] == cells[count, 2]:
            times[k] += _ONE
            return count
    return count + 1


@njit(**_EACH)
def _mix(log_weight: Singles, log_likelihood: Singles, scale: float, out: Singles, weight: Singles) -> float:
    """out = log_weight + scale * log_likelihood, less its largest; weight = e^out; the effective number of weights."""
    for p in range(out.shape[0]):
        out[p] = log_weight[p] + scale * log_likelihood[p]
    top = largest(out)
    for p in range(out.shape[0]):
        out[p] -= top
        weight[p] = exp32(out[p])
    first = total(weight)
    return first * first / dot(weight, weight)


def question(setup: Setup, state: State) -> Ints:
    """The pair that the policy asks about; one that knows no bulk beliefs is given the belief of a live engine."""
    u = uniforms(stream_key(setup.seed, "policy"), state.people, state.round, 4)
    policy, belief = load_policy(setup.policy), state.belief
    pair: Ints
    if hasattr(policy, "choose_single"):
        pair = policy.choose_single(setup, belief, u)
    else:
        pair = policy.choose(setup, live_belief(setup, belief), belief.log_weight.astype(np.float64), u)
    return pair


def measure(setup: Setup, state: State) -> Measured:
    """The belief with this round's answer, where an advisor then stands, and the degree of what stands."""
    belief: Belief = state.belief
    num = len(state.people)
    diagnostics = Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num))
    out = np.full((num, 6), np.nan)  # a person's figures side by side: a slice is laid out as the whole
    standing = state.standing.copy()
    key = np.uint64(fold(stream_key(setup.seed, "engine moves"), np.uint64(state.round)))
    model, normals, table = model_of(setup), normal_pool(setup.seed, "engine normals"), _table_of(setup)
    advises, aligned = setup.role == "advisor", np.float32(1 - setup.scenario.eps)
    # With no question: no pair. Before the first answer, what the prior's particles can reach is made.
    asked = state.active & (state.pair >= 0)

    def work(a: int, b: int) -> None:
        ran = state.commanded[a:b], state.context[a:b]
        answers = state.pair[a:b], state.answer[a:b], state.people[a:b], state.active[a:b], asked[a:b]
        found = tuple(column[a:b] for column in diagnostics)
        part, made = belief.of(a, b), state.round == 0
        _round(
            part,
            model,
            normals,
            key,
            setup.pairs,
            answers,
            table,
            advises,
            aligned,
            made,
            standing[a:b],
            ran,
            found,
            out[a:b],
        )

    over_people(work, num)
    return Measured(belief, diagnostics, standing, Estimate(*np.ascontiguousarray(out.T)))


class Table(NamedTuple):
    """The outcome map for measuring."""

    phi: Singles  # (S, X, J)
    by_context: Singles  # (X, S, J) the same, with zeros up to a multiple of eight attributes
    feasible: NDArray[np.bool_]  # (S, X)
    context_p: Singles  # (X,)
    num_reference: int


@lru_cache(maxsize=16)
def _table_of(setup: Setup) -> Table:
    phi, context_p = setup.phi.astype(np.float32), setup.context_p.astype(np.float32)
    by_context = np.pad(phi.transpose(1, 0, 2), ((0, 0), (0, 0), (0, -phi.shape[2] % BLOCK)))
    return Table(phi, np.ascontiguousarray(by_context), setup.feasible, context_p, setup.num_reference)


@njit(**_EACH)
def _round(
    belief: Belief,
    model: Model,
    normals: Singles,
    key: np.uint64,
    pairs: Ints,
    answers: tuple[Ints, Ints, Ints, NDArray[np.bool_], NDArray[np.bool_]],
    table: Table,
    advises: bool,
    aligned: float,
    is_first: bool,
    standing: Ints,
    ran: tuple[Ints, Ints],
    found: tuple[NDArray[np.float64], Ints, NDArray[np.float64]],
    out: NDArray[np.float64],
) -> None:
    """Learn and measure, one person after the other: what learning makes of the particles, measuring uses."""
    pair, answer, people, active, asked = answers
    ess, stages, accepted = found
    commanded, context = ran
    num_attributes, num = model.shape.shape[0], belief.particles.shape[2]
    room = make_room(num_attributes, model.cards.shape[0], num)
    for i in range(belief.particles.shape[0]):
        if not active[i]:
            continue
        stage = -1
        if asked[i]:
            own = fold(key, np.uint64(people[i]))
            ess[i], stage, accepted[i] = _learn(belief, i, pairs[pair[i]], answer[i], model, normals, own, room)
            stages[i] = stage
            belief.smallest_ess[i] = min(belief.smallest_ess[i], np.float32(ess[i]))
        if stage == 0:
            for p in range(num):
                room.spare[p] = room.scale[p] / room.rationality[p]
        else:
            gammas_of(belief.particles[i], model.shape, room.gammas, room.spare)
            for p in range(num):
                room.spare[p] = _ONE / room.spare[p]
        for j in range(num_attributes):
            for p in range(num):
                room.gammas[j, p] *= room.spare[p]
        made = is_first or stage > 0
        _measure(belief, i, table, advises, aligned, made, standing[i], commanded[i], context[i], room, out)


@njit(**_EACH)
def _measure(
    belief: Belief,
    i: int,
    table: Table,
    advises: bool,
    aligned: float,
    is_new: bool,
    standing: Ints,
    commanded: int,
    context: int,
    room: Room,
    out: NDArray[np.float64],
) -> None:
    """out (N, 6) in the order of Estimate, of person i with weights in room.gammas; standing (X,) where `advises`."""
    spans, worsts = belief.span[i], belief.worst[i]
    phi, feasible, context_p, by_context = table.phi, table.feasible, table.context_p, table.by_context
    num, dims, nothing = belief.particles.shape[2], phi.shape[2], _ZERO
    weights, value, utility = room.gammas, room.rationality, room.utility
    weight, degree, share, scaled, spare = room.value, room.energy, room.tau, room.threshold, room.spare
    for p in range(num):
        weight[p] = exp32(belief.log_weight[i, p])
        degree[p] = _ZERO
    norm = _ONE / total(weight)
    for p in range(num):
        weight[p] *= norm
        share[p] = _ZERO
    left_out = _ZERO
    for x in range(context_p.shape[0]):
        if is_new:
            _extremes(weights, by_context, feasible, table.num_reference, x, spans, worsts, utility)
        here = context_p[x]
        if least(spans, x) >= _MIN_RANGE:
            for p in range(num):
                scaled[p] = _ONE / spans[x, p]
                share[p] += here
        else:
            for p in range(num):
                left = spans[x, p] < _MIN_RANGE
                scaled[p] = nothing if left else _ONE / spans[x, p]
                share[p] += nothing if left else here
                spare[p] = weight[p] if left else nothing
            left_out += total(spare)
        if advises:
            for p in range(num):
                spare[p] = weight[p] * scaled[p]
            for j in range(0, dims, 2):  # behind an odd last one stand zeros
                value[j], value[j + 1] = dot_two(spare, weights, j)
            standing[x] = _best(value, phi, feasible, table.num_reference, x)
        s = standing[x]
        if feasible[s, x]:
            _utility(weights, by_context, x, s, utility)
            for p in range(num):
                degree[p] += here * ((utility[0, p] - worsts[x, p]) * scaled[p])
        if x == context:
            _utility(weights, by_context, x, commanded, utility)
            for p in range(num):
                trial = (utility[0, p] - worsts[x, p]) * scaled[p]
                spare[p] = trial if scaled[p] > nothing else _ONE
            out[i, 4] = dot(weight, spare) if feasible[commanded, x] else 0.0
    for p in range(num):
        degree[p] = degree[p] / share[p] if share[p] > nothing else _ONE
    for p in range(num):
        spare[p] = weight[p] if degree[p] >= aligned else nothing
    out[i, 0] = dot(weight, degree)
    out[i, 1], out[i, 2] = _interval(degree, weight)
    out[i, 3] = total(spare)
    out[i, 5] = left_out


@njit(**_EACH)
def _utility(weights: Singles, by_context: Singles, x: int, setting: int, out: Singles) -> None:
    """out (1, P) = phi . w, added up in one order everywhere: the best setting has a degree of exactly 1."""
    for p in range(out.shape[1]):
        out[0, p] = _ZERO
    add_rows(by_context[x], setting, 0, weights.shape[0], weights, out, 0)


@njit(**_EACH)
def _extremes(
    weights: Singles,
    by_context: Singles,
    feasible: NDArray[np.bool_],
    num_reference: int,
    x: int,
    spans: Singles,
    worsts: Singles,
    utility: Singles,
) -> None:
    """Rows x of spans and worsts (X, P): U_max - U_min and U_min at each particle over the feasible settings of S_ref.

    Half of what measuring costs: eight attributes are added up in registers, straight into the comparison.
    """
    num, dims, f = utility.shape[1], weights.shape[0], by_context
    for p in range(num):
        spans[x, p] = -np.inf
        worsts[x, p] = np.inf
        utility[0, p] = _ZERO
    for s in range(num_reference):
        if not feasible[s, x]:
            continue
        k = dims - BLOCK
        if k:
            for p in range(num):
                utility[0, p] = _ZERO
            add_rows(f[x], s, 0, k, weights, utility, 0)
        a, b, c, d = f[x, s, k], f[x, s, k + 1], f[x, s, k + 2], f[x, s, k + 3]
        e, g, h, i = f[x, s, k + 4], f[x, s, k + 5], f[x, s, k + 6], f[x, s, k + 7]
        for p in range(num):
            first = (a * weights[k, p] + b * weights[k + 1, p]) + (c * weights[k + 2, p] + d * weights[k + 3, p])
            second = (e * weights[k + 4, p] + g * weights[k + 5, p]) + (h * weights[k + 6, p] + i * weights[k + 7, p])
            u = utility[0, p] + (first + second)
            spans[x, p] = max(spans[x, p], u)
            worsts[x, p] = min(worsts[x, p], u)
    for p in range(num):
        spans[x, p] -= worsts[x, p]


@njit(**_EACH)
def _best(value: Singles, phi: Singles, feasible: NDArray[np.bool_], num_reference: int, x: int) -> int:
    """The setting with the highest expected degree, which is linear in phi; the first where tied."""
    found, most = -1, np.float32(-np.inf)
    for s in range(num_reference):
        if feasible[s, x]:
            worth = _ZERO
            for j in range(phi.shape[2]):
                worth += value[j] * phi[s, x, j]
            if worth > most:
                found, most = s, worth
    return found


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _shares_below(x: Singles, weight: Singles, first: float, second: float) -> tuple[Single, Single]:
    of_first, of_second = _ZERO, _ZERO
    for p in range(x.shape[0]):
        of_first += weight[p] if x[p] <= first else _ZERO
        of_second += weight[p] if x[p] <= second else _ZERO
    return of_first, of_second


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz", "nnan"})
def _range(x: Singles) -> tuple[Single, Single]:
    low, high = x[0], x[0]
    for p in range(x.shape[0]):
        low, high = min(low, x[p]), max(high, x[p])
    return low, high


@njit(**_EACH)
def _interval(x: Singles, weight: Singles) -> tuple[Single, Single]:
    """The 5% and 95% quantiles: the smallest value that at least this share of the weight does not exceed.

    By halving, to 1e-6 of the range. Both at once: a sweep over the particles costs less than its beginning.
    """
    least, most = _range(x)
    low_5, high_5, low_95, high_95 = least, most, least, most
    below, _ = _shares_below(x, weight, least, least)
    if below >= _LOW_SHARE:
        high_5 = least
    if below >= _HIGH_SHARE:
        high_95 = least
    for _ in range(20):
        at_5, at_95 = _HALF * (low_5 + high_5), _HALF * (low_95 + high_95)
        below_5, below_95 = _shares_below(x, weight, at_5, at_95)
        if below_5 >= _LOW_SHARE:
            high_5 = at_5
        else:
            low_5 = at_5
        if below_95 >= _HIGH_SHARE:
            high_95 = at_95
        else:
            low_95 = at_95
    return high_5, high_95
