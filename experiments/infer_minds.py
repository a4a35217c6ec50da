"""The hierarchical model of whole sessions: a population of people whose mental models are not known either.

Intent and rationality come from one normal distribution as in experiments/infer_population.py. What people expect of a
mode before the first run is Gaussian around its description plus the population's error, with a spread of the person's
own; log spread and logit learning rate are normal over people. The definition is experiments/infer_minds_pymc.py.

Each chain alternates a Hamiltonian move of every person (by the kernel of calib/mind_kernel.py, 16 chains in its lanes)
with two of the population: an exact draw with people where they are, and a Hamiltonian move that takes everybody along
where they stand in it. Where answers tell much of each person the first mixes, else the second (Yu and Meng 2011).
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.history import BEST_OF, COMPARISON, MODE_CHOICE, PROBE, RUN, History
from calib.mental import BELIEF_SD, LEARNING, MindPrior
from calib.mind_kernel import E, Story, Terms, evaluate, make_room, num_coordinates, terms_of
from calib.scenario import Population as ScenarioPopulation
from calib.streams import stream_key
from calib.vector import Singles
from experiments import hamiltonian
from experiments.infer import Form, Prior, weights_of
from experiments.infer_population import DEGREES, Population, draw_population, hyperprior, population_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WARM_UP, THINNING = 400, 6
ERROR_SD = 0.2  # of the prior of the error of a mode and attribute, scaled
TRAITS = (BELIEF_SD, LEARNING)  # normal over people, each by itself: log spread, logit learning rate
MEAN_SD = np.array([0.7, 1.5])  # of the prior of their means, around the scenario's
SD_SCALE = np.array([0.5, 1.0])  # of the half-normal prior of their sds
_LOG_GAMMA = 2.0  # slope of a weight's log by its coordinate of the kernel, which ends at 5.5
_START_SD = 0.2  # of the population's coordinates, before anything is learnt of them
_START_SPREAD = 0.3  # of people's coordinates, in sds: far out the hazard of a run that is cut short is astronomical
_PRECISE = 2e4  # of the kernel's own prior: beyond, which is where nobody lives, single precision says nothing
_FAR, _CONDITION = 1e4, 1e10  # of a coordinate, and of a covariance
_LEARNT = (40, 100, 200, 300)  # sweeps after which covariances are learnt


class Evidence(NamedTuple):
    """Whole sessions of N people of one scenario."""

    people: tuple[str, ...]
    attributes: tuple[str, ...]
    modes: tuple[str, ...]
    prior: MindPrior  # the scenario's: what the population does not change, and around what its priors lie
    population: ScenarioPopulation
    history: History

    @property
    def channels(self) -> tuple[int, ...]:
        """Those with a rationality of the population that occur."""
        kinds = self.history.kind[np.arange(self.history.kind.shape[1]) < self.history.num[:, None]]
        # the best of some cards is named as rationally as two are compared
        kinds = np.where(kinds == BEST_OF, COMPARISON, kinds)
        return tuple(c for c in range(MODE_CHOICE, COMPARISON + 1) if np.any(kinds == c))


class MindPopulation(NamedTuple):
    """Draws of the population: of intent and rationality as of choices in a file, and of mental models."""

    intent: Population
    error: Floats  # (M, J, chains, draws)
    trait_mean: Floats  # (2, chains, draws), in the order of TRAITS
    trait_sd: Floats


class MindFit(NamedTuple):
    """What is learnt of everybody."""

    population: MindPopulation
    names: tuple[str, ...]  # of a person's parameters
    people: Floats  # (N, names, chains, draws)
    acceptance: float
    divergences: int


def form_of(evidence: Evidence) -> Form:
    """The coordinates of intent and rationality, as of choices in a file."""
    p = evidence.population
    prior = Prior(p.concentration, p.rationality, p.lapse, p.reliance, p.inertia, p.about_equal)
    ones = np.ones(len(evidence.attributes))
    return Form(False, evidence.attributes, evidence.channels, True, (False, False), ones, prior)


def person_names(form: Form) -> tuple[str, ...]:
    """What is reported of a person."""
    return (*form.names[: len(form.attributes) + len(form.channels)], "belief_sd", "learning_rate")


class Told(NamedTuple):
    """What probes tell of the error of a mode and attribute, all (N, M, J, P); a dash is the derivative by the rate.

    The log density of what was said is share (pull . d - 1/2 weight . d^2), share = 1 / (1 + spread^2 weight).
    """

    weight: Floats
    pull: Floats
    weight_by: Floats
    pull_by: Floats


class Slopes(NamedTuple):
    """Log likelihood (N, P) and its gradients."""

    value: Floats
    y: Floats  # (N, H, P)
    traits: Floats  # (N, 2, P)
    rest: Floats  # (N, R, P)
    xi: Floats  # (N, M G, P)
    error: Floats  # (N, M, J, P)
    along: Floats  # (N, M, J, P) d eta / d error, where eta is xi moved by the error
    told: Floats | None  # (N, M, J, P) share of the first variance that probes left, None where nobody was asked


class People:
    """The likelihood of all answers by people's coordinates.

    y (N, H, P), log ratios and log rationalities; traits (N, 2, P); rest (N, R, P), the other normal parameters,
    standardised; xi (N, M G, P), what modes are worth as believed beyond what the population expects, standardised.
    """

    def __init__(self, form: Form, evidence: Evidence) -> None:
        prior, history = evidence.prior, evidence.history
        self.form, self.prior, self.history = form, prior, history
        self.channels = list(form.channels)
        self.others = [e for e in range(E) if e not in (*self.channels, *TRAITS)]
        plain = prior._replace(mean=np.zeros(E), sd=np.ones(E), concentration=np.ones(len(form.attributes)))
        shape = np.zeros((len(form.attributes), 10), np.float32)
        shape[:, 1] = _LOG_GAMMA
        slope = np.zeros_like(shape)
        slope[:, 0] = _LOG_GAMMA
        self.terms = terms_of(plain)._replace(shape=shape, slope=slope)
        self.group, self.num_groups = self.terms.group, len(self.terms.salience)
        self.num_coordinates = num_coordinates(prior)
        h = history
        first, second, value, cards = (
            np.ascontiguousarray(c, np.float32) for c in (h.first, h.second, h.value, h.cards)
        )
        self.columns = (h.kind, first, second, h.option, h.where, value, cards, h.num)
        inside = np.arange(history.kind.shape[1]) < history.num[:, None]
        self.probed = bool(np.any((history.kind == PROBE) & inside))
        self.member = np.eye(self.num_groups)[self.group]  # (J, G)

    def likelihood(self, y: Floats, traits: Floats, rest: Floats, xi: Floats, error: Floats) -> Slopes:
        """With the population's error (M, J, P)."""
        num, _, points = y.shape
        num_modes, num_attributes = self.prior.expectation.shape
        intent, basis = self.form.num_intent, self.form.basis
        log_w = np.einsum("jd,ndp->njp", basis, y[:, :intent])
        w = weights_of(self.form, y[:, :intent])
        spread, rate = np.exp(traits[:, 0]), 1 / (1 + np.exp(-traits[:, 1]))
        told = self._told(rate) if self.probed else None
        wide = w[:, None]
        share = None if told is None else 1 / (1 + (spread**2)[:, None, None] * told.weight)
        kept = np.broadcast_to(wide, (num, num_modes, *w.shape[1:])) if share is None else share * wide
        length2 = np.einsum("nmjp,jg->nmgp", kept * wide, self.member)
        inverse = 1 / np.sqrt(np.maximum(length2, 1e-24))  # (N, M, G, P)
        of_cell = inverse[:, :, self.group] / spread[:, None, None]
        along = kept * of_cell
        moved = np.einsum("nmjp,jg->nmgp", along * error, self.member)
        eta = xi.reshape(moved.shape) + moved

        z = np.zeros((num, self.num_coordinates, points), np.float32)
        z[:, :num_attributes] = log_w / _LOG_GAMMA
        first = num_attributes + E
        z[:, [num_attributes + c for c in self.channels]] = y[:, intent:]
        z[:, [num_attributes + e for e in TRAITS]] = traits
        mean, sd = (v[self.others, None] for v in (self.prior.mean, self.prior.sd))
        z[:, [num_attributes + e for e in self.others]] = mean + sd * rest
        z[:, first : first + xi.shape[1]] = eta.reshape(xi.shape)
        single, slopes = np.empty((num, points), np.float32), np.empty_like(z)
        _answers(z, self.terms, *self.columns, single, slopes)
        # the kernel's own prior is taken out
        square = 0.5 * np.sum(z.astype(np.float64) ** 2, axis=1)
        value = np.where(square < _PRECISE, single + square, -np.inf)
        slope = slopes.astype(np.float64) + z

        by_extra = slope[:, num_attributes:first]
        by_eta = slope[:, first : first + xi.shape[1]].reshape(moved.shape)
        pull = by_eta[:, :, self.group]  # (N, M, J, P)
        by_w = kept / wide * error * of_cell - moved[:, :, self.group] * kept * inverse[:, :, self.group] ** 2
        by_w = np.sum(pull * by_w, axis=1)
        by_traits = by_extra[:, list(TRAITS)].copy()
        by_traits[:, 0] -= np.sum(by_eta * moved, axis=(1, 2))
        by_error = pull * along
        if told is not None and share is not None:
            said = told.pull * error - 0.5 * told.weight * error**2
            value = value + np.sum(share * said, axis=(1, 2))
            by_error = by_error + share * (told.pull - told.weight * error)
            by_share = said + pull * (
                wide * error * of_cell - 0.5 * moved[:, :, self.group] * (wide * inverse[:, :, self.group]) ** 2
            )
            by_traits[:, 0] -= np.sum(by_share * 2 * share * (1 - share), axis=(1, 2))
            by_rate = -by_share * share**2 * (spread**2)[:, None, None] * told.weight_by
            by_rate += share * (told.pull_by * error - 0.5 * told.weight_by * error**2)
            by_traits[:, 1] += np.sum(by_rate, axis=(1, 2)) * rate * (1 - rate)
        by_log = slope[:, :num_attributes] / _LOG_GAMMA + w * (by_w - np.sum(w * by_w, axis=1, keepdims=True))
        by_y = np.concatenate([np.einsum("jd,njp->ndp", basis, by_log), by_extra[:, self.channels]], axis=1)
        by_rest = sd * by_extra[:, self.others]
        return Slopes(value, by_y, by_traits, by_rest, by_eta.reshape(xi.shape), by_error, along, share)

    def moved(self, along: Floats, error: Floats) -> Floats:
        """(N, M G, P) what the error (M, J, P) adds to xi."""
        moved = np.einsum("nmjp,jg->nmgp", along * error, self.member)
        return np.asarray(moved.reshape(len(along), -1, along.shape[3]))

    def told(self, traits: Floats) -> Told | None:
        """What probes tell at these learning rates; None where nobody was asked."""
        return self._told(1 / (1 + np.exp(-traits[:, 1]))) if self.probed else None

    def _told(self, rate: Floats) -> Told:
        h, (num_modes, num_attributes) = self.history, self.prior.expectation.shape
        shape = (len(rate), num_modes, num_attributes, rate.shape[1])
        out = Told(*(np.zeros(shape) for _ in Told._fields))
        noise = self.prior.probe_sd**-2.0
        _add_probes(
            h.kind, h.first, h.option, h.where, h.value, h.num, self.prior.expectation, self.prior.salience, noise,
            rate, out,
        )  # fmt: skip
        return out


class Size:
    """Where the population's parameters stand in a vector of D real numbers, and their prior.

    mu (H,); log scale (H,) and the triangle below the diagonal of a factor C of the precision, C_de = e^scale_d t_de
    with t_dd = 1; error (M J,) and the means of the traits, standardised; log sds of the traits.
    """

    def __init__(self, form: Form, evidence: Evidence) -> None:
        self.form, self.evidence = form, evidence
        self.centre, self.centre_sd, self.scale = hyperprior(form)
        self.dims = len(self.centre)
        self.shape = evidence.prior.expectation.shape
        self.trait_centre = evidence.prior.mean[list(TRAITS)]
        below = np.tril_indices(self.dims, -1)
        self.below = below
        ends = np.cumsum([0, self.dims, self.dims, len(below[0]), self.shape[0] * self.shape[1], 2, 2])
        self.mu, self.log_scale, self.triangle, self.error, self.trait_mean, self.trait_sd = (
            slice(a, b) for a, b in itertools.pairwise(ends)
        )
        self.start = np.zeros(ends[-1])
        self.start[self.mu] = self.centre
        self.start[self.trait_sd] = np.log(SD_SCALE)

    def factor(self, x: Floats) -> Floats:
        """(H, H, S) factors C of the precision C C' at x (D, S)."""
        t = np.zeros((self.dims, self.dims, x.shape[1]))
        # where a trajectory has flown off there is still an inverse
        t[self.below] = np.clip(x[self.triangle], -_FAR, _FAR)
        t[range(self.dims), range(self.dims)] = 1.0
        return np.asarray(np.exp(np.clip(x[self.log_scale], -15.0, 15.0))[:, None] * t)

    def inverse(self, x: Floats) -> Floats:
        """(S, H, H) inverses of the factors at x (D, S), by substitution: there is one wherever a trajectory flies."""
        factor = self.factor(x)
        out = np.zeros((x.shape[1], self.dims, self.dims))
        for d in range(self.dims):
            out[:, d, d] = 1.0
            out[:, d] -= np.einsum("ks,ske->se", factor[d, :d], out[:, :d])
            out[:, d] /= factor[d, d][:, None]
        return out

    def log_prior(self, x: Floats) -> tuple[Floats, Floats]:
        """(S,) and gradient (D, S). Of Sigma that of Huang and Wand (2013), their mixture integrated out."""
        gradient = np.zeros_like(x)
        z = (x[self.mu] - self.centre[:, None]) / self.centre_sd[:, None]
        value = -0.5 * np.sum(z**2, axis=0)
        gradient[self.mu] = -z / self.centre_sd[:, None]
        # of K = C C' it is |K|^(nu / 2 - 1) prod (nu K_dd + 1 / A_d^2)^-((nu + H) / 2); then the step from K to x
        factor = self.factor(x)
        diagonal = np.sum(factor**2, axis=1)
        power, least = 0.5 * (DEGREES + self.dims), self.scale[:, None] ** -2.0
        value += (DEGREES - 1 + self.dims) * x[self.log_scale].sum(axis=0)
        value -= power * np.log(DEGREES * diagonal + least).sum(axis=0)
        by_diagonal = -power * DEGREES / (DEGREES * diagonal + least)
        gradient[self.log_scale] = DEGREES - 1 + self.dims + 2 * by_diagonal * diagonal
        d, e = self.below
        gradient[self.triangle] = 2 * by_diagonal[d] * factor[d, e] * np.exp(x[self.log_scale])[d]
        for own in (self.error, self.trait_mean):
            value -= 0.5 * np.sum(x[own] ** 2, axis=0)
            gradient[own] = -x[own]
        square = np.exp(2 * x[self.trait_sd]) / SD_SCALE[:, None] ** 2
        value += np.sum(x[self.trait_sd] - 0.5 * square, axis=0)
        gradient[self.trait_sd] = 1 - square
        return value, gradient

    def traits(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean and sd (2, S) of the traits at x (D, S)."""
        return self.trait_centre[:, None] + MEAN_SD[:, None] * x[self.trait_mean], np.exp(x[self.trait_sd])

    def error_of(self, x: Floats) -> Floats:
        """(M, J, S) at x (D, S)."""
        return ERROR_SD * x[self.error].reshape(*self.shape, -1)

    def drawn(
        self,
        rng: np.random.Generator,
        x: Floats,
        y: Floats,
        traits: Floats,
        eta: Floats,
        here: Slopes,
        people: "People",
    ) -> Floats:
        """The population (D, P) given people: y (N, H, P), traits (N, 2, P), eta (N, M G, P).

        Exact, but for the sds of traits, which take some steps.
        """
        new, (num, _, points) = x.copy(), y.shape
        factor = self.factor(x).transpose(2, 0, 1)
        precision = factor @ factor.transpose(0, 2, 1)
        least = DEGREES * np.diagonal(precision, axis1=1, axis2=2) + self.scale**-2.0
        wide = least / rng.gamma((DEGREES + self.dims) / 2, size=(points, self.dims))
        mu, sigma, _ = draw_population(rng, y, wide, self.centre, self.centre_sd, self.scale, precision)
        # of two nearly proportional coordinates numpy may find no inverse: that chain waits for its next draw
        own = np.linalg.cond(sigma) < _CONDITION
        factor = np.linalg.cholesky(np.linalg.inv(sigma[own])).transpose(1, 2, 0)
        scale = factor[range(self.dims), range(self.dims)]
        d, e = self.below
        new[self.mu, own] = mu[own].T
        new[self.log_scale, own], new[self.triangle, own] = np.log(scale), factor[d, e] / scale[d]

        log_sd = x[self.trait_sd].copy()
        centre, centre_sd = self.trait_centre[:, None], MEAN_SD[:, None]
        for _ in range(5):
            weight = num * np.exp(-2 * log_sd) + centre_sd**-2.0
            pull = np.exp(-2 * log_sd) * traits.sum(axis=0) + centre / centre_sd**2
            mean = pull / weight + rng.normal(size=log_sd.shape) / np.sqrt(weight)
            square = np.sum((traits - mean) ** 2, axis=0)

            def log_p(u: Floats, square: Floats = square) -> Floats:
                own = np.exp(2 * u) / SD_SCALE[:, None] ** 2
                return np.asarray((1 - num) * u - 0.5 * np.exp(-2 * u) * square - 0.5 * own)

            there = log_sd + 1.7 / np.sqrt(num) * rng.normal(size=log_sd.shape)
            log_sd = np.where(np.log(rng.random(log_sd.shape)) < log_p(there) - log_p(log_sd), there, log_sd)
        new[self.trait_mean], new[self.trait_sd] = (mean - centre) / centre_sd, log_sd

        num_modes, num_attributes = self.shape
        along = here.along
        same = people.member @ people.member.T  # (J, J) of one group
        told = people.told(traits)
        precision = np.einsum("nmjp,nmkp->pmjk", along, along) * same + ERROR_SD**-2.0 * np.eye(num_attributes)
        wanted = np.sum(eta.reshape(num, num_modes, -1, points)[:, :, people.group] * along, axis=0)
        if told is not None and here.told is not None:
            precision += np.einsum("mjp,jk->pmjk", np.sum(here.told * told.weight, axis=0), np.eye(num_attributes))
            wanted = wanted + np.sum(here.told * told.pull, axis=0)
        covariance = np.linalg.inv(precision)
        mean = np.einsum("pmjk,mkp->mjp", covariance, wanted)
        root = np.linalg.cholesky(covariance)
        error = mean + np.einsum("pmjk,pmk->mjp", root, rng.normal(size=(points, num_modes, num_attributes)))
        new[self.error] = error.reshape(-1, points) / ERROR_SD
        return new

    def places(self, x: Floats, y: Floats, traits: Floats) -> tuple[Floats, Floats]:
        """Where people stand in the population x (D, P), the inverse of `placed`."""
        mean, sd = self.traits(x)
        return np.einsum("dkp,ndp->nkp", self.factor(x), y - x[self.mu]), (traits - mean) / sd

    def taking_along(
        self, people: "People", t: Floats, white: Floats, standard: Floats, rest: Floats, xi: Floats
    ) -> tuple[Floats, Floats]:
        """Density of the population t (D, P) and gradient, with everybody's place in it: white (N, H, P) and so on."""
        value, gradient = self.log_prior(t)
        y, traits = self.placed(t, white, standard)
        own = people.likelihood(y, traits, rest, xi, self.error_of(t))
        gradient[self.mu] += own.y.sum(axis=0)
        factor = self.factor(t)
        inverse = self.inverse(t)
        turned = np.einsum("pkd,ndp->nkp", inverse, own.y)
        self._by_factor(gradient, t, factor, -np.einsum("ndp,nkp->dkp", y - t[self.mu], turned))
        gradient[self.trait_mean] += MEAN_SD[:, None] * own.traits.sum(axis=0)
        gradient[self.trait_sd] += np.sum(own.traits * (traits - self.traits(t)[0]), axis=0)
        gradient[self.error] += ERROR_SD * own.error.sum(axis=0).reshape(-1, t.shape[1])
        return (value + own.value.sum(axis=0))[None], gradient[None]

    def placed(self, x: Floats, white: Floats, standard: Floats) -> tuple[Floats, Floats]:
        """y (N, H, P) and traits (N, 2, P) of people who stand there in the population x (D, P)."""
        inverse = self.inverse(x)
        mean, sd = self.traits(x)
        return x[self.mu] + np.einsum("pkd,nkp->ndp", inverse, white), mean + sd * standard

    def _by_factor(self, gradient: Floats, x: Floats, factor: Floats, by: Floats) -> None:
        """Add to the gradient at x (D, P) what it is by the factor, (H, H, P)."""
        gradient[self.log_scale] += np.sum(factor * by, axis=1)
        d, e = self.below
        gradient[self.triangle] += np.exp(x[self.log_scale])[d] * by[d, e]

    def population(self, x: Floats) -> MindPopulation:
        """What is reported, of draws x (D, chains, draws)."""
        shape = x.shape[1:]
        flat = x.reshape(len(x), -1)
        inverse = self.inverse(flat)
        covariance = np.moveaxis(inverse.transpose(0, 2, 1) @ inverse, 0, 2).reshape(self.dims, self.dims, *shape)
        mean, sd = self.traits(flat)
        error = ERROR_SD * x[self.error].reshape(*self.shape, *shape)
        intent = population_of(self.form, np.ascontiguousarray(x[self.mu]), covariance)
        return MindPopulation(intent, error, mean.reshape(2, *shape), sd.reshape(2, *shape))


def fit_minds(
    evidence: Evidence, seed: int, draws: int = hamiltonian.DRAWS, progress: Callable[[float], object] = float
) -> MindFit:
    """The population, and everybody's posterior under it."""
    form, points = form_of(evidence), hamiltonian.CHAINS
    size, people, num = Size(form, evidence), People(form, evidence), len(evidence.people)
    dims, num_rest, num_xi = size.dims, len(people.others), size.shape[0] * people.num_groups
    ends = np.cumsum([0, dims, 2, num_rest, num_xi])
    of_y, of_traits, of_rest, of_xi = (slice(a, b) for a, b in itertools.pairwise(ends))
    rng, key = np.random.default_rng([seed, 3]), stream_key(seed, "infer minds")
    who, only = np.arange(num), np.arange(1)
    theta = size.start[:, None] + 0.1 * rng.normal(size=(len(size.start), points))

    def person(x: Floats, who: Ints) -> tuple[Floats, Floats]:
        """Of every person, given their chain's population."""
        assert len(who) == num
        y, traits = size.placed(theta, x[:, of_y], x[:, of_traits])
        own = people.likelihood(y, traits, x[:, of_rest], x[:, of_xi], size.error_of(theta))
        inverse, sd = size.inverse(theta), np.exp(theta[size.trait_sd])
        by = [np.einsum("pkd,ndp->nkp", inverse, own.y), sd * own.traits, own.rest, own.xi]
        return own.value - 0.5 * np.sum(x**2, axis=1), np.concatenate(by, axis=1) - x

    # everybody's coordinates are standard normal in their population
    x = _START_SPREAD * rng.normal(size=(num, ends[-1], points))
    factor = np.repeat(np.eye(ends[-1])[None], num, 0)
    chains = hamiltonian.Chains(x, *person(x, who), factor, np.full(num, 0.3))
    root, step = _START_SD * np.eye(len(theta))[None], np.full(1, 0.2)
    names = person_names(form)
    kept, kept_people = np.empty((len(theta), points, draws)), np.empty((num, len(names), points, draws))
    seen: list[tuple[Floats, Floats]] = []
    acceptance, divergences, total = 0.0, 0, WARM_UP + THINNING * draws
    for sweep in range(total):
        warm = sweep < WARM_UP
        with np.errstate(all="ignore"):  # trajectories that fly off are refused
            chains, rate, diverged = hamiltonian.move(person, chains, key, 0, who, 2 * sweep)
        x = chains.x.copy()
        y, traits = size.placed(theta, x[:, of_y], x[:, of_traits])
        here = people.likelihood(y, traits, x[:, of_rest], x[:, of_xi], size.error_of(theta))
        eta = x[:, of_xi] + people.moved(here.along, size.error_of(theta))
        theta = size.drawn(rng, theta, y, traits, eta, here, people)
        x[:, of_y], x[:, of_traits] = size.places(theta, y, traits)
        x[:, of_xi] = eta - people.moved(here.along, size.error_of(theta))

        def along(t: Floats, _: Ints, x: Floats = x) -> tuple[Floats, Floats]:
            return size.taking_along(people, t[0], x[:, of_y], x[:, of_traits], x[:, of_rest], x[:, of_xi])

        own = hamiltonian.Chains(theta[None], *along(theta[None], only), root, step)
        with np.errstate(all="ignore"):
            own, its_rate, its_diverged = hamiltonian.move(along, own, key, 0, only, 2 * sweep + 1)
        theta = own.x[0]
        value, gradient = person(x, who)
        chains = chains._replace(x=x, value=value, gradient=gradient)
        progress((sweep + 1) / total)
        if warm:
            chains = chains._replace(step=hamiltonian.adapt(chains.step, rate - diverged / 2, sweep % 100))
            step = hamiltonian.adapt(step, its_rate - its_diverged / 2, sweep % 100)
            seen.append((own.gradient[0], gradient))
            if sweep + 1 in _LEARNT:
                late = seen[len(seen) // 3 :]
                of_theta, of_people = (np.concatenate([pair[k] for pair in late], axis=-1) for k in (0, 1))
                root = _learnt(of_theta[None], root)
                chains = chains._replace(factor=_learnt(of_people, chains.factor))
                seen.clear()
            continue
        acceptance += float(rate.mean()) / (total - WARM_UP)
        divergences += int(diverged.sum() + its_diverged.sum())
        at, left = divmod(sweep - WARM_UP, THINNING)
        if left == THINNING - 1:
            kept[..., at] = theta
            y, traits = size.placed(theta, x[:, of_y], x[:, of_traits])
            w = weights_of(form, y[:, : form.num_intent])
            natural = [w, np.exp(y[:, form.num_intent :]), np.exp(traits[:, :1]), 1 / (1 + np.exp(-traits[:, 1:]))]
            kept_people[..., at] = np.concatenate(natural, axis=1)
    return MindFit(size.population(kept), names, kept_people, acceptance, divergences)


def _learnt(gradients: Floats, before: Floats) -> Floats:
    """(N, D, D) Cholesky factors of the inverse of what gradients (N, D, S) say of the curvature, whose expectation is
    that of their products; leaning on the factors before."""
    _, dims, size = gradients.shape
    trust = size / (size + 10 * dims)
    curvature = trust * (gradients @ gradients.swapaxes(1, 2)) / size
    curvature += (1 - trust) * np.linalg.inv(before @ before.swapaxes(1, 2))
    return np.asarray(np.linalg.cholesky(np.linalg.inv(curvature)))


@njit(cache=True, nogil=True, error_model="numpy")
def _answers(
    z: Singles, terms: Terms, kind: Ints, first: Singles, second: Singles, option: Ints, where: Ints, said: Singles,
    cards: Singles, num: Ints, value: Singles, gradient: Singles,
) -> None:  # fmt: skip
    """Log density (N, P) of everybody's answers by the kernel, its prior included, and gradient (N, D, P)."""
    share = np.ones(kind.shape[1], np.float32)
    for i in range(z.shape[0]):
        story = Story(kind[i], first[i], second[i], option[i], where[i], said[i], cards[i], share, num[i])
        room = make_room(terms, story, z.shape[2])
        evaluate(z[i], terms, story, num[i], True, room)
        value[i] = room.value
        gradient[i] = room.gradient


@njit(cache=True, nogil=True, error_model="numpy")
def _add_probes(
    kind: Ints, first: Floats, option: Ints, where: Ints, value: Floats, num: Ints, expectation: Floats,
    salience: Floats, noise: float, rate: Floats, out: Told,
) -> None:  # fmt: skip
    """Weight and pull of what probes say of f_hat(0), with their derivatives by the learning rate (N, P)."""
    for i in range(rate.shape[0]):
        for a in range(num[i]):
            if kind[i, a] != PROBE:
                continue
            m, j = option[i, a], where[i, a]
            for p in range(rate.shape[1]):
                step = rate[i, p] * salience[j]
                keep, past, keep_by, past_by = 1.0, 0.0, 0.0, 0.0
                for b in range(a):
                    if kind[i, b] == RUN and option[i, b] == m:
                        seen = first[i, b, j]
                        keep_by = (1 - step) * keep_by - salience[j] * keep
                        keep *= 1 - step
                        past_by = (1 - step) * past_by + salience[j] * (seen - past)
                        past += step * (seen - past)
                gap = value[i, a] - past - keep * expectation[m, j]
                gap_by = -past_by - keep_by * expectation[m, j]
                out.weight[i, m, j, p] += noise * keep * keep
                out.weight_by[i, m, j, p] += 2 * noise * keep * keep_by
                out.pull[i, m, j, p] += noise * keep * gap
                out.pull_by[i, m, j, p] += noise * (keep_by * gap + keep * gap_by)
