"""The live belief engine: iterated batch importance sampling over particles, on an axis of people.

Each update reweighs by the new answers, resamples, and moves every particle by Hamiltonian Monte Carlo on all answers
so far (Chopin 2002). An ESS gate tempers the new answers: where they would leave fewer than half of the particles
effective, they enter by steps, each with its own resampling and move (Del Moral, Doucet and Jasra 2006). Particles
are equally weighted after an update. Every loop is over one person's particles, in a fixed order.
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
from calib.kernel import Answers, log_target, weights
from calib.prior import Prior
from calib.streams import fold, stream_key, uniform_at

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_ESS_GATE = 0.5  # of the particles; below it the answers enter by steps
_LEAPFROGS = 5
_STEP_START, _STEP_LOW, _STEP_HIGH = 0.35, 0.04, 0.45  # five steps of 0.35 are about a quarter period in whitened units
_TARGET_ACCEPT = 0.85
_MAX_STAGES = 40


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
    key = stream_key(root_seed, "engine moves")

    def work(low: int, high: int) -> None:
        _update_people(
            particles[low:high],
            step[low:high],
            prior,
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


@njit(cache=True, nogil=True, error_model="numpy")
def _update_people(
    particles: Floats,
    step: Floats,
    prior: Prior,
    evidence: Evidence,
    since: Ints,
    people: Ints,
    key: np.uint64,
    active: NDArray[np.bool_],
    ess_out: Floats,
    stages_out: Ints,
    accept_out: Floats,
) -> None:
    num = particles.shape[2]
    for i in range(particles.shape[0]):
        end = evidence.num_answers[i]
        if not active[i] or since[i] == end:
            continue
        x, answers = particles[i], _answers(evidence, i)
        own = fold(fold(key, np.uint64(people[i])), np.uint64(end))
        new = np.empty(num)
        unused = np.empty((1, 1))
        scale, stage = 0.0, 0
        while scale < 1.0:
            log_target(x, prior, answers, since[i], since[i], end, 1.0, 0.0, False, new, unused)
            rise = 1.0 - scale
            ess = _ess(new, rise)
            if stage == 0:
                ess_out[i] = ess / num
            if ess < _ESS_GATE * num and stage < _MAX_STAGES:
                low, high = 0.0, rise
                for _ in range(30):
                    middle = 0.5 * (low + high)
                    if _ess(new, middle) < _ESS_GATE * num:
                        high = middle
                    else:
                        low = middle
                rise = max(low, 1e-9)
            scale = min(scale + rise, 1.0) if rise < 1.0 - scale else 1.0
            draw = fold(own, np.uint64(stage))
            _resample(x, new, rise, draw)
            rate = _move(x, step[i], prior, answers, since[i], end, scale, draw)
            step[i] = min(max(step[i] * np.exp(0.7 * (rate - _TARGET_ACCEPT)), _STEP_LOW), _STEP_HIGH)
            accept_out[i] = rate
            stage += 1
        stages_out[i] = stage


@njit(cache=True, nogil=True, error_model="numpy")
def _ess(log_likelihood: Floats, scale: float) -> float:
    top = np.max(log_likelihood)
    first, second = 0.0, 0.0
    for p in range(log_likelihood.shape[0]):
        weight = np.exp(scale * (log_likelihood[p] - top))
        first += weight
        second += weight * weight
    return first * first / second


@njit(cache=True, nogil=True, error_model="numpy")
def _resample(x: Floats, log_likelihood: Floats, scale: float, key: np.uint64) -> None:
    """Systematic resampling of the columns of x (D, P) in place, by weights exp(scale * log likelihood)."""
    num = x.shape[1]
    cumulative = np.empty(num)
    top = np.max(log_likelihood)
    total = 0.0
    for p in range(num):
        total += np.exp(scale * (log_likelihood[p] - top))
        cumulative[p] = total
    offset = uniform_at(key, np.uint64(0))
    source = np.empty(num, np.int64)
    at = 0
    for p in range(num):
        mark = (p + offset) / num * total
        while at < num - 1 and cumulative[at] < mark:
            at += 1
        source[p] = at
    for d in range(x.shape[0]):
        x[d] = x[d][source]


@njit(cache=True, nogil=True, error_model="numpy")
def _cholesky(x: Floats) -> Floats:
    """Lower factor of the particles' covariance with a small ridge, by plain loops: no BLAS, a fixed order."""
    dims, num = x.shape
    factor = np.zeros((dims, dims))
    mean = np.empty(dims)
    for d in range(dims):
        mean[d] = np.sum(x[d]) / num
    for d in range(dims):
        for e in range(d + 1):
            total = 0.0
            for p in range(num):
                total += (x[d, p] - mean[d]) * (x[e, p] - mean[e])
            factor[d, e] = total / num
        factor[d, d] = factor[d, d] * (1 + 1e-6) + 1e-9
    for d in range(dims):
        for e in range(d + 1):
            total = factor[d, e]
            for f in range(e):
                total -= factor[d, f] * factor[e, f]
            factor[d, e] = np.sqrt(max(total, 1e-12)) if d == e else total / factor[e, e]
    return factor


@njit(cache=True, nogil=True, error_model="numpy")
def _move(
    x: Floats,
    step: float,
    prior: Prior,
    answers: Answers,
    since: int,
    end: int,
    scale: float,
    key: np.uint64,
) -> float:
    """One Hamiltonian move of all particles x (D, P) in place, whitened by their covariance; mean acceptance."""
    dims, num = x.shape
    factor = _cholesky(x)
    momentum = np.empty((dims, num))
    counter = np.uint64(1)
    for d in range(dims):
        for p in range(0, num, 2):  # Box and Muller, a pair at a time
            radius = np.sqrt(-2.0 * np.log(uniform_at(key, counter)))
            angle = 2.0 * np.pi * uniform_at(key, counter + np.uint64(1))
            counter += np.uint64(2)
            momentum[d, p] = radius * np.cos(angle)
            if p + 1 < num:
                momentum[d, p + 1] = radius * np.sin(angle)
    steps = np.empty(num)
    for p in range(num):
        steps[p] = step * (0.7 + 0.6 * uniform_at(key, counter))
        counter += np.uint64(1)
    value, gradient = np.empty(num), np.empty((dims, num))
    white = np.empty((dims, num))
    new_x = x.copy()
    log_target(new_x, prior, answers, 0, since, end, scale, 1.0, True, value, gradient)
    energy = value.copy()
    for d in range(dims):
        for p in range(num):
            energy[p] -= 0.5 * momentum[d, p] * momentum[d, p]
    for _ in range(_LEAPFROGS):
        _whiten(factor, gradient, white)
        for d in range(dims):
            for p in range(num):
                momentum[d, p] += 0.5 * steps[p] * white[d, p]
        for d in range(dims):
            for e in range(d + 1):
                shear = factor[d, e]
                for p in range(num):
                    new_x[d, p] += steps[p] * shear * momentum[e, p]
        log_target(new_x, prior, answers, 0, since, end, scale, 1.0, True, value, gradient)
        _whiten(factor, gradient, white)
        for d in range(dims):
            for p in range(num):
                momentum[d, p] += 0.5 * steps[p] * white[d, p]
    for p in range(num):
        energy[p] = value[p] - energy[p]
    for d in range(dims):
        for p in range(num):
            energy[p] -= 0.5 * momentum[d, p] * momentum[d, p]
    accepted = 0.0
    for p in range(num):
        chance = np.exp(min(energy[p], 0.0))
        if chance == chance:  # a trajectory that left the floats is refused
            accepted += chance
            if uniform_at(key, counter + np.uint64(p)) < chance:
                for d in range(dims):
                    x[d, p] = new_x[d, p]
    return accepted / num


@njit(cache=True, nogil=True, error_model="numpy")
def _whiten(factor: Floats, gradient: Floats, out: Floats) -> None:
    dims, num = gradient.shape
    for d in range(dims):
        for p in range(num):
            out[d, p] = 0.0
        for e in range(d, dims):
            shear = factor[e, d]
            for p in range(num):
                out[d, p] += shear * gradient[e, p]
