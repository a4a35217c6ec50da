"""The slower belief that holds for any utility: particles of calib/exact_kernel.py, moved after every round.

As calib/mind.py: new entries reweigh, by steps where they would leave too few particles effective, particles are
resampled, and Hamiltonian Monte Carlo on the whole history moves them all; a surprise is followed by more sweeps. Every
particle carries all that is believed, so that what people expect is read off it.

Particles lie in blocks of WIDTH, which a thread each may work on; no number depends on who works on what.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

from calib.exact_kernel import E, Terms, evaluate, make_room, natural, places
from calib.history import RUN, History
from calib.live import over_people
from calib.mental import BELIEF_SD, EXTRAS, LEARNING
from calib.mind import Effort, effective, factor_of, flattened, resampled, under
from calib.mind_kernel import Story, story_of
from calib.streams import fold, stream_key, uniform_at, uniforms
from calib.vector import Singles, add_products, empty32, exp32, normal_pool, rows32

Floats = NDArray[np.float64]

WIDTH = 128  # particles in a block
_POOL = 1 << 18  # normals to draw momenta from
_GATE = 0.5  # of the particles have to stay effective at each step
_FEW, _VERY_FEW = 0.2, 0.05  # below these shares twice and four times as many sweeps follow
_SWEEPS = 2
_LEAPFROGS = 6
_STEP_START, _STEP_LOW, _STEP_HIGH = 0.3, 0.02, 0.5
_TARGET_ACCEPT = 0.8
_MAX_STEPS = 40
_ONE, _HALF, _ZERO = np.float32(1.0), np.float32(0.5), np.float32(0.0)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@dataclass(frozen=True, eq=False)
class Held:
    """One person's belief: equally weighted particles."""

    particles: Singles  # (B, D, W), B blocks of W
    step: float  # of the moves
    taken: int  # entries of the history that have been taken in


def start(terms: Terms, person: int, root_seed: int, num_particles: int) -> Held:
    """Particles from the prior, in equal blocks of WIDTH or a little more."""
    num = max(n for n in range(1, max(num_particles // WIDTH, 1) + 1) if num_particles % n == 0)
    dims, width = places(terms)[2], num_particles // num
    u = uniforms(stream_key(root_seed, "exact prior"), np.array([person]), 0, num * dims * width)
    particles = empty32(num, dims, width)
    particles[:] = ndtri(u).reshape(num, dims, width)
    return Held(particles, _STEP_START, 0)


class Mover:
    """The compiled parts of one person's update, over blocks on `threads` threads."""

    def __init__(self, terms: Terms, root_seed: int, threads: int = 1) -> None:
        self.terms = terms
        self.normals = normal_pool(root_seed, "exact normals", _POOL)
        self.key = stream_key(root_seed, "exact moves")
        self.threads = threads

    def update(self, held: Held, history: History, person: int, row: int = 0) -> tuple[Held, Effort]:
        """The belief after all entries of the history's `row`; `person` names the random stream."""
        story, particles, first_new = story_of(history, row), held.particles.copy(), held.taken
        if first_new == story.num:
            return held, Effort(1.0, 0, 0, 1.0)
        own = under(under(self.key, person), story.num)
        step, reached, steps, sweeps, first_ess, accept = held.step, 0.0, 0, 0, 1.0, 1.0
        while reached < 1.0:
            new, rise = self._values(particles, story, first_new)[1], 1.0 - reached
            ess = effective(rise * new)
            if steps == 0:
                first_ess = ess
            if ess < _GATE and steps < _MAX_STEPS:
                low, high = 0.0, rise
                for _ in range(30):
                    middle = 0.5 * (low + high)
                    low, high = (low, middle) if effective(middle * new) < _GATE else (middle, high)
                rise = max(low, 1e-6)
            reached = reached + rise if reached + rise < 1.0 - 1e-9 else 1.0
            gain = np.asarray(np.float32(rise) * new)
            particles = resampled(particles, gain, float(uniform_at(under(own, steps), np.uint64(0))))
            story.share[first_new : story.num] = reached
            more = 4 if first_ess < _VERY_FEW else 2 if first_ess < _FEW else 1
            for _ in range(_SWEEPS * more if reached >= 1.0 else 1):
                sweeps += 1
                key = under(own, 1000 + sweeps)
                accept = self._sweep(particles, story, first_new, step, key)
                step = min(max(step * float(np.exp(0.5 * (accept - _TARGET_ACCEPT))), _STEP_LOW), _STEP_HIGH)
            steps += 1
        return Held(particles, step, story.num), Effort(first_ess, steps, sweeps, accept)

    def new_answers(self, held: Held, history: History, row: int = 0) -> Singles:
        """(P,) log likelihood at each particle of the entries that are not taken in."""
        return flattened(self._values(held.particles, story_of(history, row), held.taken)[1][:, None])[0]

    def natural(self, particles: Singles) -> tuple[Floats, Floats, Floats]:
        """Weights (J, P), aspirations (J, P), and normal parameters (E, P) as EXTRAS, of particles (B, D, W)."""
        num_attributes = self.terms.expectation.shape[1]
        x = flattened(particles)
        rows = [rows32(n, x.shape[1]) for n in (num_attributes, num_attributes, E, 1)]
        for block in rows:
            block[:] = _ONE
        natural(x, self.terms, *rows[:3], rows[3][0])
        extras = self.terms.mean[:, None] + self.terms.sd[:, None] * x[num_attributes : num_attributes + E]
        aspirations = np.clip(1 / rows[1].astype(np.float64), 0.0, 1.0)
        return rows[0].astype(np.float64), aspirations, extras.astype(np.float64)

    def expected(self, particles: Singles, history: History, row: int, entries: int) -> Iterator[Floats]:
        """What was expected (M, J, P) before each of the first `entries` of the history's `row`, and after them.

        One array, which goes with the runs.
        """
        terms, x = self.terms, flattened(particles).astype(np.float64)
        num_modes, num_attributes = terms.expectation.shape
        rate = np.full(x.shape[1], float(terms.rate))
        f_hat = np.repeat(terms.expectation.astype(np.float64)[..., None], x.shape[1], axis=2)
        if terms.minds:
            _, cells, _ = places(terms)
            extras = terms.mean[:, None] + terms.sd[:, None] * x[num_attributes : num_attributes + len(EXTRAS)]
            rate = 1 / (1 + np.exp(-extras[LEARNING]))
            first = x[cells : cells + num_modes * num_attributes].reshape(num_modes, num_attributes, -1)
            f_hat += np.exp(extras[BELIEF_SD]) * first
        step = rate * terms.salience.astype(np.float64)[:, None]
        for a in range(entries):
            yield f_hat
            if history.kind[row, a] == RUN:
                mode = history.option[row, a]
                f_hat[mode] += step * (history.first[row, a, :, None] - f_hat[mode])
        yield f_hat

    def _values(self, particles: Singles, story: Story, first_new: int) -> tuple[Singles, Singles]:
        """(B, W) log density, and that of the new answers alone."""
        value, new = np.empty(particles.shape[::2], np.float32), np.empty(particles.shape[::2], np.float32)

        def work(low: int, high: int) -> None:
            _values_blocks(particles[low:high], self.terms, story, first_new, value[low:high], new[low:high])

        over_people(work, len(particles), self.threads)
        return value, new

    def _sweep(self, particles: Singles, story: Story, first_new: int, step: float, key: np.uint64) -> float:
        """Move every particle in place; mean acceptance."""
        factor, accept, size = factor_of(particles), np.empty(len(particles)), np.float32(step)

        def work(low: int, high: int) -> None:
            some = particles[low:high], self.terms, story, first_new
            _move_blocks(*some, factor, size, self.normals, key, low, accept[low:high])

        over_people(work, len(particles), self.threads)
        return float(accept.mean())


@njit(**_EACH)
def _values_blocks(
    particles: Singles, terms: Terms, story: Story, first_new: int, value: Singles, new: Singles
) -> None:
    room = make_room(terms, story, particles.shape[2])
    for b in range(particles.shape[0]):
        evaluate(particles[b], terms, story, first_new, False, room)
        value[b] = room.value
        new[b] = room.new


@njit(**_EACH)
def _move_blocks(
    particles: Singles,
    terms: Terms,
    story: Story,
    first_new: int,
    factor: Singles,
    step: float,
    normals: Singles,
    key: np.uint64,
    first_block: int,
    accept: Floats,
) -> None:
    """One Hamiltonian move of each particle, block by block."""
    num, dims, width = particles.shape
    room = make_room(terms, story, width)
    momentum, there, spare = rows32(dims, width), rows32(dims, width), rows32(2, width)
    energy, chance = spare[0], spare[1]
    for b in range(num):
        own = fold(key, np.uint64(first_block + b))
        size = step * np.float32(0.8 + 0.4 * uniform_at(own, np.uint64(0)))
        lower = size * factor
        upper = np.ascontiguousarray(lower.T)
        half = _HALF * upper
        here = particles[b]
        for d in range(dims):
            at = int(uniform_at(own, np.uint64(1 + d)) * (normals.shape[0] - width))
            for p in range(width):
                momentum[d, p] = normals[at + p]
                there[d, p] = here[d, p]
        evaluate(there, terms, story, first_new, True, room)
        for p in range(width):
            energy[p] = room.value[p]
        for d in range(dims):
            for p in range(width):
                energy[p] -= _HALF * momentum[d, p] * momentum[d, p]
        add_products(half, room.gradient, momentum)
        for leap in range(_LEAPFROGS):
            add_products(lower, momentum, there)
            evaluate(there, terms, story, first_new, True, room)
            add_products(half if leap == _LEAPFROGS - 1 else upper, room.gradient, momentum)
        for p in range(width):
            energy[p] = room.value[p] - energy[p]
        for d in range(dims):
            for p in range(width):
                energy[p] -= _HALF * momentum[d, p] * momentum[d, p]
        total = 0.0
        for p in range(width):
            # a trajectory that left the floats has no energy and is refused
            chance[p] = exp32(min(energy[p], _ZERO)) if energy[p] == energy[p] else _ZERO
            total += chance[p]
        first = np.uint64(1 + dims)
        for p in range(width):
            if np.float32(uniform_at(own, first + np.uint64(p))) < chance[p]:
                for d in range(dims):
                    here[d, p] = there[d, p]
        accept[b] = total / width
