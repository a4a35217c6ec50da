"""The live belief engine: iterated batch importance sampling over particles, on an axis of people.

Each update reweighs by the new answers, resamples, and moves every particle by Hamiltonian Monte Carlo on all answers
so far (Chopin 2002). An ESS gate tempers the new answers: where they would leave fewer than half of the particles
effective, they enter by steps, each with its own resampling and move (Del Moral, Doucet and Jasra 2006). Particles
are equally weighted after an update. Every loop is over one person's particles, in a fixed order: in single precision,
in blocks of WIDTH.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.evidence import Evidence
from calib.kernel import Answers, Room, Rows, evaluate, lay_out, log_target, make_room, weights
from calib.prior import Prior
from calib.streams import fold, stream_key, uniform_at
from calib.vector import Single, Singles, add_products, dot_rows, exp32, largest, normal_pool, rows32, total

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTH = 512  # particles in a block: what a move needs of them stays near the processor
_POOL = 1 << 17  # normals to draw momenta from
_ESS_GATE = 0.5  # of the particles; below it the answers enter by steps
_LEAPFROGS = 5
_STEP_START, _STEP_LOW, _STEP_HIGH = 0.35, 0.04, 0.45  # five steps of 0.35 are about a quarter period in whitened units
_TARGET_ACCEPT = 0.85
_MAX_STAGES = 40
_ZERO, _HALF, _ONE = (np.float32(v) for v in (0.0, 0.5, 1.0))
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering
_SUMS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


class Belief(NamedTuple):
    """Equally weighted particles (N, D, P) of each person's posterior, and the move's step size (N,)."""

    particles: Floats
    step: Floats


class Diagnostics(NamedTuple):
    """What the last update had to do, one entry a person (N,)."""

    ess: Floats  # of the first reweighing by all new answers, before any tempering, as a share of the particles
    stages: Ints  # tempering steps, 1 where the gate stayed open
    accept: Floats  # mean acceptance of the last move


def start(prior: Prior, people: Ints, root_seed: int, num_particles: int) -> Belief:
    """Particles from the prior."""
    key = stream_key(root_seed, "engine prior")
    return Belief(prior.draw(key, people, num_particles), np.full(people.shape[0], _STEP_START))


def update(
    belief: Belief,
    prior: Prior,
    evidence: Evidence,
    since: Ints,
    people: Ints,
    root_seed: int,
    active: NDArray[np.bool_],
) -> tuple[Belief, Diagnostics]:
    """Belief after the answers [since, evidence.num_answers) of each person; people who are not active keep theirs."""
    num = people.shape[0]
    particles, step = belief.particles.copy(), belief.step.copy()
    diagnostics = Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num))
    key, normals = stream_key(root_seed, "engine moves"), normal_pool(0, "engine momenta", _POOL)
    single = Prior(*(column.astype(np.float32) for column in prior))  # type: ignore[arg-type]

    def work(low: int, high: int) -> None:
        _update_people(
            particles[low:high],
            step[low:high],
            single,
            normals,
            evidence.of(low, high),
            since[low:high],
            people[low:high],
            key,
            active[low:high],
            *(column[low:high] for column in diagnostics),
        )

    over_people(work, num)
    return Belief(particles, step), diagnostics


def answer_log_likelihood(belief: Belief, prior: Prior, evidence: Evidence, since: Ints) -> Floats:
    """(N, P) log likelihood of the answers [since, count) at each particle: what an update would reweigh by."""
    num = since.shape[0]
    out = np.empty((num, belief.particles.shape[2]))

    def work(low: int, high: int) -> None:
        _likelihood_people(
            belief.particles[low:high],
            prior,
            evidence.of(low, high),
            since[low:high],
            out[low:high],
        )

    over_people(work, num)
    return out


def intent(belief: Belief, num_attributes: int) -> Floats:
    """(N, J, P) weights of the particles."""
    num, _, num_particles = belief.particles.shape
    out = np.empty((num, num_attributes, num_particles))
    over_people(lambda low, high: _weights_people(belief.particles[low:high], out[low:high]), num)
    return out


def num_threads() -> int:
    """As many as NUMBA_NUM_THREADS says or the machine has."""
    return int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))


def over_people(work: Callable[[int, int], None], num: int, threads: int | None = None) -> None:
    """work(low, high) on slices of the people, on as many threads as given, as NUMBA_NUM_THREADS or the machine allows.

    The compiled loops release the interpreter lock, and no slice reads another's rows, so slicing changes no number.
    """
    jobs = min(threads or num_threads(), num)
    if jobs <= 1:
        if num:
            work(0, num)
        return
    edges = np.linspace(0, num, jobs + 1).astype(int)
    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work, int(a), int(b)) for a, b in itertools.pairwise(edges)]:
            done.result()


@njit(cache=True, nogil=True)
def _answers(evidence: Evidence, i: int) -> Answers:
    """The answers of one person."""
    e = evidence
    return Answers(e.features[i], e.recommended[i], e.last[i], e.num_options[i], e.channel[i], e.chosen[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _weights_people(particles: Floats, out: Floats) -> None:
    for i in range(particles.shape[0]):
        weights(particles[i], out.shape[1], out[i])


@njit(cache=True, nogil=True, error_model="numpy")
def _likelihood_people(
    particles: Floats,
    prior: Prior,
    evidence: Evidence,
    since: Ints,
    out: Floats,
) -> None:
    unused = np.empty((1, 1))
    for i in range(particles.shape[0]):
        log_target(
            particles[i],
            prior,
            _answers(evidence, i),
            since[i],
            since[i],
            evidence.num_answers[i],
            1.0,
            0.0,
            False,
            out[i],
            unused,
        )


@njit(**_EACH)
def _update_people(
    particles: Floats,
    step: Floats,
    prior: Prior,
    normals: Singles,
    evidence: Evidence,
    since: Ints,
    people: Ints,
    key: np.uint64,
    active: NDArray[np.bool_],
    ess_out: Floats,
    stages_out: Ints,
    accept_out: Floats,
) -> None:
    num, num_attributes = particles.shape[2], prior.concentration.shape[0]
    gain, share = rows32(1, num)[0], rows32(1, num)[0]
    for i in range(particles.shape[0]):
        end = evidence.num_answers[i]
        if not active[i] or since[i] == end:
            continue
        x, answers = particles[i], _answers(evidence, i)
        own = fold(fold(key, np.uint64(people[i])), np.uint64(end))
        news = lay_out(answers, since[i], end, end, 1.0, gain)
        story = lay_out(answers, 0, end, since[i], 0.0, gain)
        first_new = since[i]
        room = make_room(gain, num_attributes, story.features.shape[0], min(WIDTH, num))
        rest = make_room(gain, num_attributes, story.features.shape[0], max(num % WIDTH, 1))
        scale, stage = 0.0, 0
        while scale < 1.0:
            _reweigh(x, prior, news, room, rest, gain)
            top, rise = largest(gain), 1.0 - scale
            ess = _ess(gain, top, rise)
            if stage == 0:
                ess_out[i] = ess / num
            if ess < _ESS_GATE * num and stage < _MAX_STAGES:
                low, high = 0.0, rise
                for _ in range(30):
                    middle = 0.5 * (low + high)
                    if _ess(gain, top, middle) < _ESS_GATE * num:
                        high = middle
                    else:
                        low = middle
                rise = max(low, 1e-9)
            scale = min(scale + rise, 1.0) if rise < 1.0 - scale else 1.0
            draw = fold(own, np.uint64(stage))
            for p in range(num):
                share[p] = exp32(np.float32(rise) * (gain[p] - top))
            _resample(x, share, draw)
            story.times[first_new:] = scale
            rate = _move(x, step[i], prior, story, normals, draw, room, rest)
            step[i] = min(max(step[i] * np.exp(0.7 * (rate - _TARGET_ACCEPT)), _STEP_LOW), _STEP_HIGH)
            accept_out[i] = rate
            stage += 1
        stages_out[i] = stage


@njit(**_EACH)
def _reweigh(x: Floats, prior: Prior, news: Rows, room: Room, rest: Room, gain: Singles) -> None:
    """gain (P,): log likelihood of the new answers at x (D, P)."""
    num, none = x.shape[1], _ZERO
    for start in range(0, num, WIDTH):
        here = rest if num - start < WIDTH else room
        width = here.value.shape[0]
        block = rows32(x.shape[0], width)
        for d in range(x.shape[0]):
            for p in range(width):
                block[d, p] = x[d, start + p]
        evaluate(block, prior.concentration, prior.mean, prior.sd, news, none, True, False, here)
        for p in range(width):
            gain[start + p] = here.value[p]


@njit(**_SUMS)
def _ess(gain: Singles, top: Single, scale: float) -> Single:
    first, second, times = _ZERO, _ZERO, np.float32(scale)
    for p in range(gain.shape[0]):
        weight = exp32(times * (gain[p] - top))
        first += weight
        second += weight * weight
    return first * first / second


@njit(**_EACH)
def _resample(x: Floats, share: Singles, key: np.uint64) -> None:
    """Systematic resampling of the columns of x (D, P) in place, by the weights `share`."""
    num = x.shape[1]
    whole = 0.0
    for p in range(num):
        whole += share[p]
    offset = uniform_at(key, np.uint64(0))
    source = np.empty(num, np.int64)
    at, reached = 0, np.float64(share[0])
    for p in range(num):
        mark = (p + offset) / num * whole
        while at < num - 1 and reached < mark:
            at += 1
            reached += share[at]
        source[p] = at
    taken = np.empty(num)
    for d in range(x.shape[0]):
        for p in range(num):
            taken[p] = x[d, source[p]]
        for p in range(num):
            x[d, p] = taken[p]


@njit(**_EACH)
def _factor(x: Floats) -> Singles:
    """Lower Cholesky factor (D, D) of the particles' covariance, a small ridge on it; zeros up to an even number."""
    dims, num = x.shape
    centred, factor = rows32(dims, num), np.zeros((dims + dims % 2, dims + dims % 2), np.float32)
    for d in range(dims):
        mean = _mean(x, d)
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


@njit(**_SUMS)
def _mean(x: Floats, d: int) -> float:
    out = 0.0
    for p in range(x.shape[1]):
        out += x[d, p]
    return out / x.shape[1]


@njit(**_EACH)
def _move(
    x: Floats, step: float, prior: Prior, story: Rows, normals: Singles, key: np.uint64, room: Room, rest: Room
) -> float:
    """One Hamiltonian move of all particles x (D, P) in place, whitened by their covariance; mean acceptance."""
    num, factor, accepted = x.shape[1], _factor(x), 0.0
    for start in range(0, num, WIDTH):
        here = rest if num - start < WIDTH else room
        own = fold(key, np.uint64(1 + start // WIDTH))
        accepted += _move_block(x, start, step, factor, prior, story, normals, own, here)
    return accepted / num


@njit(**_EACH)
def _move_block(
    x: Floats,
    start: int,
    step: float,
    factor: Singles,
    prior: Prior,
    story: Rows,
    normals: Singles,
    key: np.uint64,
    room: Room,
) -> float:
    """A block's move; the sum of its chances of acceptance."""
    (dims, _), even, width = x.shape, factor.shape[0], room.value.shape[0]
    concentration, mean, sd = prior
    value, gradient = room.value, room.gradient
    momentum, there, white = rows32(even, width), rows32(even, width), rows32(even, width)
    spare = rows32(4, width)
    energy, draw, square, inverse = spare[0], spare[1], spare[2], spare[3]
    upper = np.ascontiguousarray(factor.T)
    half = _HALF * upper
    for p in range(width):  # each trajectory has a step of its own; momentum is kept times the step
        size = np.float32(step * (0.7 + 0.6 * uniform_at(key, np.uint64(p))))
        draw[p], square[p], inverse[p] = size, size * size, _ONE / (size * size)
    counter = np.uint64(width)
    for d in range(even):
        at = int(uniform_at(key, counter + np.uint64(d)) * (normals.shape[0] - width))
        for p in range(width):
            momentum[d, p] = draw[p] * normals[at + p] if d < dims else _ZERO
            there[d, p] = x[d, start + p] if d < dims else _ZERO
    evaluate(there, concentration, mean, sd, story, _ONE, True, True, room)
    for p in range(width):
        energy[p] = value[p]
    _take_kinetic(energy, momentum, inverse)
    _push(half, gradient, square, white, momentum)
    for leap in range(_LEAPFROGS):
        add_products(factor, momentum, there)
        last = leap == _LEAPFROGS - 1
        evaluate(there, concentration, mean, sd, story, _ONE, last, True, room)
        _push(half if last else upper, gradient, square, white, momentum)
    for p in range(width):
        energy[p] = value[p] - energy[p]
    _take_kinetic(energy, momentum, inverse)
    counter += np.uint64(even)
    for p in range(width):  # a trajectory that left the floats has no energy and is refused
        energy[p] = exp32(min(energy[p], _ZERO)) if energy[p] == energy[p] else _ZERO
        draw[p] = np.float32(uniform_at(key, counter + np.uint64(p)))
    for d in range(dims):
        for p in range(width):
            x[d, start + p] = there[d, p] if draw[p] < energy[p] else x[d, start + p]
    return total(energy)


@njit(**_EACH)
def _take_kinetic(energy: Singles, momentum: Singles, inverse: Singles) -> None:
    for d in range(momentum.shape[0]):
        for p in range(energy.shape[0]):
            energy[p] -= _HALF * momentum[d, p] * momentum[d, p] * inverse[p]


@njit(**_EACH)
def _push(factor: Singles, gradient: Singles, square: Singles, white: Singles, momentum: Singles) -> None:
    """Momentum by the gradient (D, P), whitened, over the squared step of each particle."""
    for d in range(momentum.shape[0]):
        for p in range(square.shape[0]):
            white[d, p] = _ZERO
    add_products(factor, gradient, white)
    for d in range(momentum.shape[0]):
        for p in range(square.shape[0]):
            momentum[d, p] += square[p] * white[d, p]
