"""The live belief engine: iterated batch importance sampling over particles, on an axis of people.

Each update reweighs by the new answers (Chopin 2002). Where that would leave fewer than half of the particles
effective, they are resampled, and every one is moved by Hamiltonian Monte Carlo on all answers so far until where it
stands says little of where it stood (Buchholz, Chopin and Jacob 2021). Where it would leave fewer than a quarter, the
answers enter by steps, each with its own resampling and moves (Del Moral, Doucet and Jasra 2006).

So particles count differently; who needs equally weighted ones reads `draws`. Every loop is over one person's
particles, in a fixed order: in single precision, in blocks of WIDTH.
"""

import itertools
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.evidence import Evidence
from calib.kernel import NUM_EXTRA, Answers, Room, Rows, evaluate, lay_out, log_target, make_room, weights
from calib.prior import Prior
from calib.streams import fold, stream_key, uniform_at
from calib.vector import Single, Singles, add_products, dot_rows, exp32, largest, normal_pool, rows32, total

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTH = 512  # particles in a block: what a move needs of them stays near the processor
_POOL = 1 << 17  # normals to draw momenta from
_ESS_GATE, _ESS_FLOOR = 0.5, 0.25  # shares of the particles: below one they are moved, below the other by steps
_LEAPFROGS = 10
_STEP_START, _STEP_LOW, _STEP_HIGH = 0.35, 0.04, 0.45  # five steps of 0.35 are about a quarter period in whitened units
_TARGET_ACCEPT = 0.85
_MAX_STAGES = 40
_MOST_MOVES = 8
_KEPT = 0.25  # correlation of a coordinate with what it was before the moves, beyond that of chance
_STUCK = 0.004  # share of the particles that may have been refused by every move
_SHORTER, _MOST_SHORTER = 0.5, 4  # of each further move's step to that of the one before
_ZERO, _HALF, _ONE = (np.float32(v) for v in (0.0, 0.5, 1.0))
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering
_SUMS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


class Belief(NamedTuple):
    """Particles (N, D, P) of each person's posterior, which count e^log_weight, and the move's step size (N,)."""

    particles: Floats
    log_weight: Floats  # (N, P), the largest 0; all 0 after a move
    step: Floats


class Diagnostics(NamedTuple):
    """What the last update had to do, one entry a person (N,)."""

    ess: Floats  # with all new answers, before any move, as a share of the particles
    stages: Ints  # steps by which the answers entered, 0 where nothing was moved
    accept: Floats  # mean acceptance of the last move


def start(prior: Prior, people: Ints, root_seed: int, num_particles: int) -> Belief:
    """Particles from the prior."""
    return evenly(prior.draw(stream_key(root_seed, "engine prior"), people, num_particles))


def evenly(particles: Floats) -> Belief:
    """Equally weighted particles (N, D, P), never moved yet."""
    num, _, num_particles = particles.shape
    return Belief(particles, np.zeros((num, num_particles)), np.full(num, _STEP_START))


def update(
    belief: Belief,
    prior: Prior,
    evidence: Evidence,
    since: Ints,
    people: Ints,
    root_seed: int,
    active: NDArray[np.bool_],
) -> tuple[Belief, Diagnostics]:
    """Belief after the answers [since, evidence.num_answers) of each person; people who are not active keep theirs.

    Where nobody has to be moved it shares its particles with the belief before.
    """
    num = people.shape[0]
    log_weight, tired = np.empty(belief.log_weight.shape), np.empty(num, np.bool_)
    diagnostics = Diagnostics(np.ones(num), np.zeros(num, np.int64), np.ones(num))
    num_attributes = prior.concentration.shape[0]

    def reweigh(low: int, high: int) -> None:
        _reweigh_people(
            low,
            high,
            belief.particles,
            belief.log_weight,
            num_attributes,
            evidence,
            since,
            active,
            log_weight,
            tired,
            diagnostics.ess,
        )

    over_people(reweigh, num)
    if not tired.any():
        return Belief(belief.particles, log_weight, belief.step), diagnostics
    particles, step = belief.particles.copy(), belief.step.copy()
    log_weight[tired] = belief.log_weight[tired]
    key, normals = stream_key(root_seed, "engine moves"), normal_pool(0, "engine momenta", _POOL)

    def move(low: int, high: int) -> None:
        _move_people(
            low,
            high,
            particles,
            log_weight,
            step,
            prior,
            normals,
            evidence,
            since,
            people,
            key,
            tired,
            diagnostics,
        )

    over_people(move, num)
    return Belief(particles, log_weight, step), diagnostics


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


def draws(belief: Any) -> Floats:
    """(N, D, P) equally weighted particles of any belief in the coordinates of calib/kernel.py.

    Weighted ones are resampled systematically, from the middle of the first share: nothing is moved by what is read
    here, so that it needs no number of its own.
    """
    particles: Floats = belief.particles
    log_weight = log_weight_of(belief)
    if not log_weight.any():
        return particles
    out = np.empty(particles.shape)
    over_people(lambda a, b: _draw_people(particles[a:b], log_weight[a:b], out[a:b]), len(out))
    return out


def log_weight_of(belief: Any) -> Floats:
    """(N, P) what each particle of any such belief counts, a log."""
    num, _, num_particles = belief.particles.shape
    return np.asarray(getattr(belief, "log_weight", np.zeros((num, num_particles))))


def intent(belief: Any, num_attributes: int) -> Floats:
    """(N, J, P) weights on the attributes at the equally weighted `draws`."""
    return intent_at(draws(belief), num_attributes)


def intent_at(particles: Floats, num_attributes: int) -> Floats:
    """(N, J, P) weights on the attributes at the particles (N, D, P)."""
    num, _, num_particles = particles.shape
    out = np.empty((num, num_attributes, num_particles))
    over_people(lambda low, high: _weights_people(particles[low:high], out[low:high]), num)
    return out


def num_threads() -> int:
    """As many as NUMBA_NUM_THREADS says or the machine has."""
    return int(os.environ.get("NUMBA_NUM_THREADS", os.cpu_count() or 1))


def over_people(work: Callable[[int, int], None], num: int, threads: int | None = None) -> None:
    """work(low, high) on slices of the people, on as many threads as given, as NUMBA_NUM_THREADS or the machine allows.

    The compiled loops release the interpreter lock, and no slice reads another's rows, so slicing changes no number.
    """
    jobs = min(threads or num_threads(), num) if num > 1 else 1
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


@njit(cache=True, nogil=True)
def _single(prior: Prior) -> Prior:
    """In single precision."""
    one = np.float32
    return Prior(prior.concentration.astype(one), prior.mean.astype(one), prior.sd.astype(one))


@njit(**_EACH)
def _reweigh_people(
    low: int,
    high: int,
    particles: Floats,
    before: Floats,
    num_attributes: int,
    evidence: Evidence,
    since: Ints,
    active: NDArray[np.bool_],
    log_weight: Floats,
    tired: NDArray[np.bool_],
    ess_out: Floats,
) -> None:
    """log_weight (N, P) with the new answers, and who has too few effective particles left."""
    num, gain = particles.shape[2], rows32(1, particles.shape[2])[0]
    unused: Any = np.ones(max(num_attributes, NUM_EXTRA), np.float32)
    prior = Prior(unused[:num_attributes], unused[:NUM_EXTRA], unused[:NUM_EXTRA])  # counts nothing in a reweighing
    for i in range(low, high):
        end = evidence.num_answers[i]
        tired[i] = False
        if not active[i] or since[i] == end:
            log_weight[i] = before[i]
            continue
        x = particles[i]
        news = lay_out(_answers(evidence, i), since[i], end, end, 1.0, gain)
        room = make_room(gain, num_attributes, news.features.shape[0], min(WIDTH, num))
        rest = make_room(gain, num_attributes, news.features.shape[0], max(num % WIDTH, 1))
        _reweigh(x, prior, news, room, rest, gain)
        for p in range(num):
            gain[p] += np.float32(before[i, p])
        top = largest(gain)
        for p in range(num):
            log_weight[i, p] = gain[p] - top
        ess = _ess(gain, top)
        ess_out[i] = ess / num
        tired[i] = ess < _ESS_GATE * num


@njit(**_EACH)
def _move_people(
    low: int,
    high: int,
    particles: Floats,
    log_weight: Floats,
    step: Floats,
    prior: Prior,
    normals: Singles,
    evidence: Evidence,
    since: Ints,
    people: Ints,
    key: np.uint64,
    tired: NDArray[np.bool_],
    found: Diagnostics,
) -> None:
    """Resample and move who is tired: log_weight (N, P) is that before the new answers, and then 0."""
    num, num_attributes, single = particles.shape[2], prior.concentration.shape[0], _single(prior)
    rows = rows32(4, num)
    gain, share, held, mixed = rows[0], rows[1], rows[2], rows[3]
    for i in range(low, high):
        if not tired[i]:
            continue
        end = evidence.num_answers[i]
        x, answers = particles[i], _answers(evidence, i)
        own = fold(fold(key, np.uint64(people[i])), np.uint64(end))
        news = lay_out(answers, since[i], end, end, 1.0, gain)
        story = lay_out(answers, 0, end, since[i], 0.0, gain)
        first_new = since[i]
        room = make_room(gain, num_attributes, story.features.shape[0], min(WIDTH, num))
        rest = make_room(gain, num_attributes, story.features.shape[0], max(num % WIDTH, 1))
        for p in range(num):
            held[p] = log_weight[i, p]
        scale, stage = 0.0, 0
        while scale < 1.0:
            _reweigh(x, single, news, room, rest, gain)
            rise = 1.0 - scale
            if _mixed_ess(held, gain, rise, mixed) < _ESS_FLOOR * num and stage < _MAX_STAGES:
                least, most = 0.0, rise
                for _ in range(30):
                    middle = 0.5 * (least + most)
                    if _mixed_ess(held, gain, middle, mixed) < _ESS_FLOOR * num:
                        most = middle
                    else:
                        least = middle
                rise = max(least, 1e-9)
            scale = min(scale + rise, 1.0) if rise < 1.0 - scale else 1.0
            draw = fold(own, np.uint64(stage))
            _mixed_ess(held, gain, rise, mixed)
            top = largest(mixed)
            for p in range(num):
                share[p] = exp32(mixed[p] - top)
            _resample(x, share, uniform_at(draw, np.uint64(0)))
            story.times[first_new:] = scale
            step[i], found.accept[i] = _rejuvenate(x, step[i], single, story, normals, draw, room, rest)
            for p in range(num):
                held[p] = _ZERO
            stage += 1
        log_weight[i] = 0.0
        found.stages[i] = stage


@njit(**_EACH)
def _draw_people(particles: Floats, log_weight: Floats, out: Floats) -> None:
    share = rows32(1, particles.shape[2])[0]
    for i in range(particles.shape[0]):
        out[i] = particles[i]
        alike = True
        for p in range(share.shape[0]):
            alike &= log_weight[i, p] == 0.0
            share[p] = exp32(np.float32(log_weight[i, p]))
        if not alike:
            _resample(out[i], share, 0.5)


@njit(**_EACH)
def _reweigh(x: Floats, prior: Prior, news: Rows, room: Room, rest: Room, gain: Singles) -> None:
    """gain (P,): log likelihood of the new answers at x (D, P)."""
    num, width = x.shape[1], room.value.shape[0]
    end = num - num % width
    for start in range(0, end, width):
        _reweigh_block(x, start, prior, news, room, gain)
    if end < num:
        _reweigh_block(x, end, prior, news, rest, gain)


@njit(**_EACH)
def _reweigh_block(x: Floats, start: int, prior: Prior, news: Rows, room: Room, gain: Singles) -> None:
    dims, width = x.shape[0], room.value.shape[0]
    block = rows32(dims, width)
    for d in range(dims):
        row = x[d, start : start + width]  # an index that might be negative would not be taken several at a time
        for p in range(width):
            block[d, p] = row[p]
    evaluate(block, prior.concentration, prior.mean, prior.sd, news, _ZERO, True, False, room)
    here = gain[start : start + width]
    for p in range(width):
        here[p] = room.value[p]


@njit(**_EACH)
def _mixed_ess(held: Singles, gain: Singles, scale: float, mixed: Singles) -> Single:
    """mixed (P,) = held + scale * gain, and the effective number of particles that count e^mixed."""
    times = np.float32(scale)
    for p in range(gain.shape[0]):
        mixed[p] = held[p] + times * gain[p]
    return _ess(mixed, largest(mixed))


@njit(**_SUMS)
def _ess(log_weight: Singles, top: Single) -> Single:
    first, second = _ZERO, _ZERO
    for p in range(log_weight.shape[0]):
        weight = exp32(log_weight[p] - top)
        first += weight
        second += weight * weight
    return first * first / second


@njit(**_EACH)
def _resample(x: Floats, share: Singles, offset: float) -> None:
    """Systematic resampling of the columns of x (D, P) in place, by the weights `share`, from an offset in (0, 1)."""
    num = x.shape[1]
    whole = 0.0
    for p in range(num):
        whole += share[p]
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
def _rejuvenate(
    x: Floats, step: float, prior: Prior, story: Rows, normals: Singles, key: np.uint64, room: Room, rest: Room
) -> tuple[float, float]:
    """Moves of all particles x (D, P) in place, until they say little of where they stood; step and last acceptance.

    By shorter steps then, while too many have been refused every time.
    """
    dims, num = x.shape
    stood, here, first, rate = rows32(dims, num), rows32(1, num), rows32(1, num)[0], 0.0
    for d in range(dims):
        mean = _mean(x, d)
        for p in range(num):
            stood[d, p] = x[d, p] - mean
    for p in range(num):
        first[p] = x[0, p]
    for m in range(_MOST_MOVES):
        rate = _move(x, step, prior, story, normals, fold(key, np.uint64(1 + m)), room, rest)
        step = min(max(step * np.exp(0.7 * (rate - _TARGET_ACCEPT)), _STEP_LOW), _STEP_HIGH)
        if _kept(x, stood, here) < _KEPT + 2.0 / np.sqrt(num):
            break
    for m in range(_MOST_SHORTER):  # copies in a narrow tail would stay where they are, and gather
        if _never_moved(x[0], first) < _STUCK * num:
            break
        short = _SHORTER ** (1 + m) * step
        _move(x, short, prior, story, normals, fold(key, np.uint64(1 + _MOST_MOVES + m)), room, rest)
    return step, rate


@njit(**_EACH)
def _never_moved(x: Floats, first: Singles) -> int:
    """How many particles still stand where they stood, by a coordinate (P,)."""
    count = 0
    for p in range(x.shape[0]):
        count += np.float32(x[p]) == first[p]
    return count


@njit(**_EACH)
def _kept(x: Floats, stood: Singles, here: Singles) -> float:
    """The largest correlation of a coordinate of x (D, P) with what it was; here (1, P) is room to work in."""
    most = 0.0
    for d in range(x.shape[0]):
        mean = _mean(x, d)
        for p in range(x.shape[1]):
            here[0, p] = x[d, p] - mean
        both = dot_rows(stood, d, here, 0)
        spread = np.float64(dot_rows(stood, d, stood, d)) * dot_rows(here, 0, here, 0)
        most = max(most, abs(both) / np.sqrt(spread + 1e-30))
    return most


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
    num, width, factor, accepted = x.shape[1], room.value.shape[0], _factor(x), 0.0
    end = num - num % width
    for start in range(0, end, width):
        own = fold(key, np.uint64(1 + start // width))
        accepted += _move_block(x, start, step, factor, prior, story, normals, own, room)
    if end < num:
        own = fold(key, np.uint64(1 + end // width))
        accepted += _move_block(x, end, step, factor, prior, story, normals, own, rest)
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
