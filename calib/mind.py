"""The live belief with a mental model: particles of calib/mind_kernel.py, moved after every round.

Iterated batch importance sampling (Chopin 2002): new entries reweigh, particles are resampled, and Hamiltonian Monte
Carlo on the whole history moves them all. Where the new entries would leave too few effective they enter by steps (Del
Moral, Doucet and Jasra 2006), and a surprise is followed by more sweeps: one behind a gate alone fails silently.

Particles lie in blocks of WIDTH, which a thread each may work on; no number depends on who works on what.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import ndtri

from calib.history import PROBE, RUN, History
from calib.live import over_people
from calib.mental import BELIEF_SD, EXTRAS, LEARNING, MindPrior
from calib.mind_kernel import Story, Terms, evaluate, make_room, num_coordinates, parameters, story_of, terms_of
from calib.streams import fold, stream_key, uniform_at, uniforms
from calib.vector import Single, Singles, add_products, empty32, exp32, normal_pool, rows32

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WIDTH = 256  # particles in a block
_POOL = 1 << 20  # normals to draw momenta from
_GATE = 0.5  # of the particles have to stay effective at each step
_FEW, _VERY_FEW = 0.2, 0.05  # below these shares two and four sweeps follow
_LEAPFROGS = 5
_STEP_START, _STEP_LOW, _STEP_HIGH = 0.3, 0.03, 0.5
_TARGET_ACCEPT = 0.8
_MAX_STEPS = 40
_ONE, _HALF, _ZERO = np.float32(1.0), np.float32(0.5), np.float32(0.0)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@dataclass(frozen=True, eq=False)
class Mind:
    """One person's belief: equally weighted particles."""

    particles: Singles  # (B, D, W), B blocks of W
    value: Singles  # (B, W) log density of all that has been taken in
    step: float  # of the moves
    taken: int  # entries of the history that have been taken in

    def thinned(self, every: int) -> "Mind":
        """Every `every`th particle, in one block."""
        if every == 1:
            return self
        flat, value = flattened(self.particles)[:, ::every], self.value.reshape(-1)[::every]
        return Mind(np.ascontiguousarray(flat)[None], value[None], self.step, self.taken)


class _Cells(NamedTuple):
    """f_hat(0) given the probes, a particle's rate and spread, not its projections; f_hat is keep f_hat(0) + past."""

    weights: Floats  # (J, P)
    mean: Floats  # (M, J, P)
    var: Floats
    keep: Floats
    past: Floats


@dataclass(frozen=True)
class Effort:
    """What an update had to do."""

    ess: float  # effective share of the particles under the new entries, before any step
    steps: int  # in which they entered
    sweeps: int
    accept: float  # mean acceptance of the last sweep


def start(prior: MindPrior, person: int, root_seed: int, num_particles: int) -> Mind:
    """Particles from the prior, in equal blocks of WIDTH or a little more."""
    num = max(n for n in range(1, max(num_particles // WIDTH, 1) + 1) if num_particles % n == 0)
    dims, width = num_coordinates(prior), num_particles // num
    key = stream_key(root_seed, "mind prior")
    u = uniforms(key, np.array([person]), 0, num * dims * width).reshape(num, dims, width)
    particles = empty32(num, dims, width)
    particles[:] = ndtri(u)
    value = empty32(num, width)
    value[:] = -0.5 * np.sum(particles.astype(float) ** 2, axis=1)
    return Mind(particles, value, _STEP_START, 0)


class Mover:
    """The compiled parts of one person's update, over blocks on `threads` threads."""

    def __init__(self, prior: MindPrior, root_seed: int, threads: int = 1) -> None:
        self.prior = prior
        self.seed = root_seed
        self.terms = terms_of(prior)
        self.normals = normal_pool(root_seed, "mind normals", _POOL)
        self.key = stream_key(root_seed, "mind moves")
        self.threads = threads

    def update(self, mind: Mind, history: History, person: int, row: int = 0) -> tuple[Mind, Effort]:
        """The belief after all entries of the history's `row`; `person` names the random stream."""
        story = story_of(history, row)
        first_new, particles, value = mind.taken, mind.particles.copy(), mind.value.copy()
        if first_new == story.num:
            return mind, Effort(1.0, 0, 0, 1.0)
        own = under(under(self.key, person), story.num)
        with_probe = bool(np.any(story.kind[first_new : story.num] == PROBE))
        step, reached, steps, sweeps, first_ess, accept = mind.step, 0.0, 0, 0, 1.0, 1.0
        while reached < 1.0:
            whole, new = self._values(particles, story, first_new, 1.0)
            gain = (whole - value) if steps == 0 or with_probe else (1.0 - reached) * new
            ess = effective(gain)
            if steps == 0:
                first_ess = ess
            scale = 1.0
            if ess < _GATE and steps < _MAX_STEPS:
                low, high = reached, 1.0
                for _ in range(10 if with_probe else 30):
                    middle = 0.5 * (low + high)
                    gain = self._gain(particles, story, first_new, middle, reached, value, new, with_probe)
                    low, high = (low, middle) if effective(gain) < _GATE else (middle, high)
                scale = max(low, reached + 1e-6)
                gain = self._gain(particles, story, first_new, scale, reached, value, new, with_probe)
            story.share[first_new : story.num] = scale
            particles = resampled(particles, gain, float(uniform_at(under(own, steps), np.uint64(0))))
            more = 4 if first_ess < _VERY_FEW else 2 if first_ess < _FEW else 1
            for _ in range(more if scale >= 1.0 else 1):
                sweeps += 1
                accept, value = self._sweep(particles, story, first_new, step, under(own, 1000 + sweeps))
                step = min(max(step * float(np.exp(0.5 * (accept - _TARGET_ACCEPT))), _STEP_LOW), _STEP_HIGH)
            reached, steps = scale, steps + 1
        return Mind(particles, value, step, story.num), Effort(first_ess, steps, sweeps, accept)

    def values(self, mind: Mind, history: History, row: int = 0) -> tuple[Singles, Singles]:
        """(B, W) log density of all entries of the history's `row` at each particle; and of the new answers."""
        return self._values(mind.particles, story_of(history, row), mind.taken, 1.0)

    def parameters(self, particles: Singles) -> tuple[Singles, Singles]:
        """Weights (J, P) and normal parameters (E, P), in the order of calib.mental.EXTRAS, of particles (B, D, W)."""
        blocks, _, width = particles.shape
        weights = np.empty((blocks, self.terms.expectation.shape[1], width), np.float32)
        extras = np.empty((blocks, len(EXTRAS), width), np.float32)
        for b in range(blocks):
            parameters(particles[b], self.terms, weights[b], extras[b])
        return flattened(weights), flattened(extras)

    def believed(self, mind: Mind, history: History, person: int, row: int, entry: int) -> Floats:
        """(M, J, P) what they expected at an entry of the history's `row` that is taken in or next.

        A draw with every particle: given one, f_hat(0) is Gaussian with the means and variances that the probes left,
        on the condition that its projections on the weights are the particle's own; runs then move it.
        """
        cells = self._cells(mind, story_of(history, row), entry)
        num_modes, num_attributes = self.prior.expectation.shape
        mean, var, weights = cells.mean, cells.var, cells.weights
        at = int(uniform_at(under(under(stream_key(self.seed, "mind beliefs"), person), entry), np.uint64(0)) * _POOL)
        noise = np.take(self.normals, np.arange(at, at + mean.size), mode="wrap").reshape(mean.shape) * np.sqrt(var)
        first = mean + noise
        xi = flattened(mind.particles)[num_attributes + len(EXTRAS) :]
        for g in range(len(self.terms.salience)):
            own = self.terms.group == g
            pull = var[:, own] * weights[own]  # (M, J_g, P)
            square = np.maximum(np.sum(pull * weights[own], axis=1), 1e-30)
            drawn = np.sum(noise[:, own] * weights[own], axis=1)
            meant = np.sqrt(square) * xi[np.arange(num_modes) * len(self.terms.salience) + g]
            first[:, own] += pull * ((meant - drawn) / square)[:, None]
        return np.asarray(cells.keep * first + cells.past)

    def outlook(self, mind: Mind, history: History, row: int, thin: int) -> tuple[Floats, Floats]:
        """Mean and variance (M, J, P) of what they expect after the history's `row`, at every `thin`th particle."""
        some = mind.thinned(thin)
        flat = flattened(some.particles)
        cells = self._cells(some, story_of(history, row), int(history.num[row]))
        xi, num_groups = flat[self.prior.expectation.shape[1] + len(EXTRAS) :], len(self.terms.salience)
        mean, var = cells.mean.copy(), cells.var.copy()
        for g in range(num_groups):
            own = self.terms.group == g
            pull = cells.var[:, own] * cells.weights[own]
            square = np.maximum(np.sum(pull * cells.weights[own], axis=1), 1e-30)[:, None]
            meant = xi[np.arange(len(mean)) * num_groups + g][:, None]
            mean[:, own] += pull / np.sqrt(square) * meant
            var[:, own] -= pull**2 / square
        return cells.keep * mean + cells.past, cells.keep**2 * np.maximum(var, 0.0)

    def _cells(self, mind: Mind, story: Story, entry: int) -> "_Cells":
        """What the probes left of f_hat(0) and what runs made of it at an entry, all (M, J, P)."""
        prior = self.prior
        weights, extras = (v.astype(np.float64) for v in self.parameters(mind.particles))
        rate = 1 / (1 + np.exp(-extras[LEARNING])) * prior.salience[:, None]  # (J, P)
        num_modes, num_attributes = prior.expectation.shape
        shape = (num_modes, num_attributes, weights.shape[1])
        mean = np.broadcast_to(prior.expectation[..., None], shape).copy()
        var = np.broadcast_to(np.exp(2 * extras[BELIEF_SD]), shape).copy()
        keep, past = np.ones(shape), np.zeros(shape)  # expected now: keep f_hat(0) + past
        then = keep.copy(), past.copy()
        for a in range(max(mind.taken, entry)):
            if a == entry:
                then = keep.copy(), past.copy()
            m, j = int(story.option[a]), int(story.where[a])
            if story.kind[a] == RUN:
                keep[m] *= 1 - rate
                past[m] += rate * (story.first[a, :, None] - past[m])
            elif story.kind[a] == PROBE:
                g, v = keep[m, j], var[m, j]
                gain = v * g / (g * g * v + prior.probe_sd**2)
                mean[m, j] += gain * (float(story.value[a]) - past[m, j] - g * mean[m, j])
                var[m, j] = v * (1 - gain * g)
        if entry >= mind.taken:
            then = keep, past
        return _Cells(weights, mean, var, *then)

    def _gain(
        self,
        particles: Singles,
        story: Story,
        first_new: int,
        scale: float,
        reached: float,
        value: Singles,
        new: Singles,
        with_probe: bool,
    ) -> Singles:
        if not with_probe:
            return np.asarray((scale - reached) * new)
        return np.asarray(self._values(particles, story, first_new, scale)[0] - value)

    def _values(self, particles: Singles, story: Story, first_new: int, scale: float) -> tuple[Singles, Singles]:
        """(B, W) log density with the new entries counted `scale`, and the new answers' own."""
        shares = story.share.copy()
        shares[first_new : story.num] = scale
        told = story._replace(share=shares)
        value, new = np.empty(particles.shape[::2], np.float32), np.empty(particles.shape[::2], np.float32)

        def work(low: int, high: int) -> None:
            _values_blocks(particles[low:high], self.terms, told, first_new, value[low:high], new[low:high])

        over_people(work, len(particles), self.threads)
        return value, new

    def _sweep(
        self, particles: Singles, story: Story, first_new: int, step: float, key: np.uint64
    ) -> tuple[float, Singles]:
        """Move every particle in place; mean acceptance and their values."""
        factor = factor_of(particles)
        accept, value = np.empty(len(particles)), np.empty(particles.shape[::2], np.float32)

        def work(low: int, high: int) -> None:
            _move_blocks(
                particles[low:high],
                self.terms,
                story,
                first_new,
                factor,
                np.float32(step),
                self.normals,
                key,
                low,
                accept[low:high],
                value[low:high],
            )

        over_people(work, len(particles), self.threads)
        return float(accept.mean()), value


def flattened(blocks: Singles) -> Singles:
    """(R, B W) from (B, R, W)."""
    return np.ascontiguousarray(blocks.transpose(1, 0, 2)).reshape(blocks.shape[1], -1)


def under(key: np.uint64, number: int) -> np.uint64:
    """The key of a number under a key."""
    return np.uint64(fold(key, np.uint64(number)))


def effective(gain: Singles) -> float:
    """Effective share of the particles with weights e^gain."""
    weight = np.exp(gain.ravel().astype(float) - float(gain.max()))
    return float(weight.sum() ** 2 / (weight @ weight) / len(weight))


def resampled(particles: Singles, gain: Singles, offset: float) -> Singles:
    """Systematic resampling by weights e^gain over all blocks."""
    blocks, dims, width = particles.shape
    weight = np.cumsum(np.exp(gain.ravel().astype(float) - float(gain.max())))
    num = blocks * width
    marks = (np.arange(num) + offset) / num * weight[-1]
    source = np.minimum(np.searchsorted(weight, marks, side="right"), num - 1)
    out = empty32(blocks, dims, width)
    _gather(particles, source, out)
    return out


@njit(**_EACH)
def _gather(particles: Singles, source: Ints, out: Singles) -> None:
    width = particles.shape[2]
    for b in range(particles.shape[0]):
        for d in range(particles.shape[1]):
            for p in range(width):
                s = source[b * width + p]
                out[b, d, p] = particles[s // width, d, s % width]


@njit(**_EACH)
def _values_blocks(
    particles: Singles, terms: Terms, story: Story, first_new: int, value: Singles, new: Singles
) -> None:
    room = make_room(terms, story, particles.shape[2])
    for b in range(particles.shape[0]):
        evaluate(particles[b], terms, story, first_new, False, room)
        value[b] = room.value
        new[b] = room.new


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _covariance(x: Singles, centre: Singles, d: int, e: int) -> Single:
    out = np.float32(0.0)
    for p in range(x.shape[1]):
        out += (x[d, p] - centre[d]) * (x[e, p] - centre[e])
    return out


@njit(**_EACH)
def factor_of(particles: Singles) -> Singles:
    """Lower Cholesky factor (D, D) of the particles' covariance, with a small ridge."""
    blocks, dims, width = particles.shape
    centre = np.zeros(dims, np.float32)
    for d in range(dims):
        sum_ = 0.0
        for b in range(blocks):
            for p in range(width):
                sum_ += particles[b, d, p]
        centre[d] = sum_ / (blocks * width)
    factor = np.zeros((dims, dims), np.float32)
    for d in range(dims):
        for e in range(d + 1):
            sum_ = 0.0
            for b in range(blocks):
                sum_ += _covariance(particles[b], centre, d, e)
            sum_ /= blocks * width
            if d == e:
                sum_ = sum_ * 1.0001 + 1e-6
            for f in range(e):
                sum_ -= factor[d, f] * factor[e, f]
            factor[d, e] = np.sqrt(max(sum_, 1e-6)) if d == e else sum_ / factor[e, e]
    return factor


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
    value: Singles,
) -> None:
    """One Hamiltonian move of each particle, block by block."""
    num, dims, width = particles.shape
    room = make_room(terms, story, width)
    momentum, there = rows32(dims, width), rows32(dims, width)
    energy, chance = rows32(2, width)[0], np.empty(width, np.float32)
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
            value[b, p] = room.value[p]
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
                value[b, p] = room.value[p]
                for d in range(dims):
                    here[d, p] = there[d, p]
        accept[b] = total / width
