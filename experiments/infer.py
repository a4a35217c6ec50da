"""The posterior from choices in a file, by the compiled engine or by PyMC: what the coordinates are, and each alone.

Simplex weights: the choice model of docs/definitions.md, section 2, without learning; attributes count as seen. Free
ones: a logit with a normal prior on every coefficient. Each person is fitted alone; experiments/infer_population.py has
the hierarchical model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.scenario import CHANNELS
from calib.streams import stream_key
from experiments import hamiltonian
from experiments.choice_data import COMPARISON, Choices
from experiments.choice_likelihood import Rows, log_likelihood

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FREE_SD = 10.0  # of the prior of a free coefficient, on the standardised column
PULLS = ("reliance", "inertia")
_PORTION = 300_000_000  # bytes of draws that are held at once


class Prior(NamedTuple):
    """The [population] of a scenario as far as a file of choices can tell of it (docs/scenario.md)."""

    concentration: tuple[float, ...]
    rationality: tuple[tuple[float, float], ...]  # median and sd of the log, by channel
    lapse: tuple[float, float]
    reliance: tuple[float, float]
    inertia: tuple[float, float]
    about_equal: tuple[float, float]


def usual_prior(num_attributes: int) -> Prior:
    """Any weights alike; the rest as in the scenarios that come with the lab, the rationality twice as wide."""
    return Prior((1.0,) * num_attributes, ((10.0, 0.7),) * 3, (0.03, 0.7), (0.5, 0.5), (0.3, 0.3), (0.5, 0.5))


@dataclass(frozen=True, eq=False)
class Form:
    """What the D coordinates of a person are; all of them are real numbers.

    Simplex: J - 1 isometric log ratios, the log of each rationality, logit lapse, reliance, inertia, log threshold of
    about equal. Free: J coefficients of the standardised columns, log threshold. What the file cannot tell is left out.
    """

    free: bool
    attributes: tuple[str, ...]
    channels: tuple[int, ...]  # that occur
    has_channel: bool
    has_mask: tuple[bool, bool]
    scale: Floats  # (J,) sd of the columns; 1 for simplex weights
    prior: Prior

    @cached_property
    def menus(self) -> bool:
        """Whether there are other choices than comparisons."""
        return self.channels != (COMPARISON,)

    @cached_property
    def num_intent(self) -> int:
        """Coordinates of the weights or coefficients; they come first."""
        return len(self.attributes) - (not self.free)

    @cached_property
    def basis(self) -> Floats:
        """(J, J - 1): orthonormal contrasts, from log ratios to centred log weights."""
        num = len(self.attributes)
        upper = np.triu(np.ones((num, num - 1)))
        for j in range(num - 1):
            upper[j + 1, j] = -(j + 1)
        return upper / np.sqrt(np.sum(upper**2, axis=0))

    @cached_property
    def normal(self) -> tuple[Floats, Floats]:
        """Mean and sd of the normal coordinates: all of them with free weights, else those after the log ratios."""
        p = self.prior
        pairs = [(0.0, FREE_SD)] * len(self.attributes) if self.free else []
        if not self.free:
            pairs += [(np.log(p.rationality[c][0]), p.rationality[c][1]) for c in self.channels]
            if self.menus:
                pairs.append((np.log(p.lapse[0] / (1 - p.lapse[0])), p.lapse[1]))
                pairs += [pull for pull, there in zip((p.reliance, p.inertia), self.has_mask, strict=True) if there]
        if COMPARISON in self.channels:
            pairs.append((np.log(p.about_equal[0]), p.about_equal[1]))
        mean, sd = np.array(pairs).T
        return mean, sd

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters that are reported: weights by their column, then the rest."""
        rest: list[str] = []
        if not self.free:
            rest += [f"rationality[{CHANNELS[c]}]" if self.has_channel else "rationality" for c in self.channels]
            if self.menus:
                rest.append("lapse")
                rest += [name for name, there in zip(PULLS, self.has_mask, strict=True) if there]
        if COMPARISON in self.channels:
            rest.append("about_equal")
        return (*self.attributes, *rest)

    @property
    def num_coordinates(self) -> int:
        """D."""
        return len(self.names) - (not self.free)


def form_of(choices: Choices, weights: str, prior: Prior | None = None) -> Form:
    """The form that fits the choices."""
    free = weights == "free"
    return Form(
        free=free,
        attributes=choices.attributes,
        channels=tuple(np.unique(choices.channel).tolist()),
        has_channel=choices.has_channel,
        has_mask=choices.has_mask,
        scale=choices.values.std(axis=0) if free else np.ones(len(choices.attributes)),
        prior=prior or usual_prior(len(choices.attributes)),
    )


def natural(form: Form, x: Floats) -> Floats:
    """The reported parameters (N, names, ...) of coordinates x (N, D, ...)."""
    rest = x[:, form.num_intent :]
    if form.free:
        scale = form.scale.reshape(-1, *[1] * (x.ndim - 2))
        return np.concatenate([x[:, : form.num_intent] / scale, np.exp(rest)], axis=1)
    out = [weights_of(form, x[:, : form.num_intent]), np.exp(rest[:, : len(form.channels)])]
    at = len(form.channels)
    if form.menus:
        pulls = sum(form.has_mask)
        out += [1 / (1 + np.exp(-rest[:, at : at + 1])), rest[:, at + 1 : at + 1 + pulls]]
        at += 1 + pulls
    return np.concatenate([*out, np.exp(rest[:, at:])], axis=1)


def weights_of(form: Form, ratios: Floats) -> Floats:
    """(N, J, ...) on the simplex, of log ratios (N, J - 1, ...)."""
    logs = np.einsum("jd,nd...->nj...", form.basis, ratios)
    shares = np.exp(logs - logs.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


def rows_of(form: Form, choices: Choices) -> Rows:
    """The choices for the compiled likelihood: standardised, the masks that there are as columns."""
    first = np.searchsorted(choices.person, np.arange(len(choices.people) + 1))
    masks = choices.masks[:, np.array(form.has_mask)]
    values = np.ascontiguousarray(np.concatenate([choices.values / form.scale, masks], axis=1))
    return Rows(values, choices.start, choices.chosen, choices.channel, first)


def likelihood_of(form: Form, choices: Choices) -> hamiltonian.Target:
    """Log likelihood and gradient in the coordinates."""
    rows = rows_of(form, choices)
    num_attributes, num_columns, intent = len(form.attributes), rows.values.shape[1], form.num_intent
    last = form.names.index("about_equal") - (not form.free) if COMPARISON in form.channels else None

    def free(x: Floats, who: Ints) -> tuple[Floats, Floats]:
        num, _, points = x.shape
        coefficients = np.empty((num, 3, num_columns, points))
        coefficients[:] = x[:, None, :num_attributes]
        tau = np.exp(x[:, last]) if last is not None else np.ones((num, points))
        value, slope = log_likelihood(rows, who, coefficients, np.zeros((num, points)), tau)
        gradient = np.empty_like(x)
        gradient[:, :num_attributes] = slope.coefficients.sum(axis=1)
        if last is not None:
            gradient[:, last] = slope.about_equal * tau
        return value, gradient

    def simplex(x: Floats, who: Ints) -> tuple[Floats, Floats]:
        num, _, points = x.shape
        w = weights_of(form, x[:, :intent])
        rationality = np.exp(np.minimum(x[:, intent : intent + len(form.channels)], 300.0))
        at = intent + len(form.channels)
        coefficients = np.zeros((num, 3, num_columns, points))
        lapse = np.zeros((num, points))
        for i, c in enumerate(form.channels):
            coefficients[:, c, :num_attributes] = rationality[:, i : i + 1] * w
        if form.menus:
            lapse = 1 / (1 + np.exp(-x[:, at]))
            for m in range(num_columns - num_attributes):
                coefficients[:, :COMPARISON, num_attributes + m] = x[:, at + 1 + m][:, None]
        tau = np.exp(np.minimum(x[:, last], 5.0)) if last is not None else np.ones((num, points))
        value, slope = log_likelihood(rows, who, coefficients, lapse, tau)
        gradient = np.zeros_like(x)
        by_weight = np.zeros_like(w)
        for i, c in enumerate(form.channels):
            own = slope.coefficients[:, c, :num_attributes]
            gradient[:, intent + i] = rationality[:, i] * np.sum(own * w, axis=1)
            by_weight += rationality[:, i : i + 1] * own
        by_log = w * (by_weight - np.sum(w * by_weight, axis=1, keepdims=True))
        gradient[:, :intent] = np.einsum("jd,njp->ndp", form.basis, by_log)
        if form.menus:
            gradient[:, at] = slope.lapse * lapse * (1 - lapse)
            for m in range(num_columns - num_attributes):
                gradient[:, at + 1 + m] = slope.coefficients[:, :COMPARISON, num_attributes + m].sum(axis=1)
        if last is not None:
            gradient[:, last] = slope.about_equal * tau
        return value, gradient

    return free if form.free else simplex


def log_prior(form: Form, x: Floats) -> tuple[Floats, Floats]:
    """Of people who are fitted alone, up to a constant, with its gradient."""
    mean, sd = (v[:, None] for v in form.normal)
    normal = len(mean)
    z = (x[:, -normal:] - mean) / sd
    value = -0.5 * np.sum(z**2, axis=1)
    gradient = np.zeros_like(x)
    gradient[:, -normal:] = -z / sd
    if not form.free:
        # the Dirichlet in log ratios is proportional to prod w^a
        a = np.array(form.prior.concentration)[:, None]
        w = weights_of(form, x[:, : form.num_intent])
        value = value + np.sum(a * np.log(np.maximum(w, 1e-300)), axis=1)
        gradient[:, : form.num_intent] = np.einsum("jd,njp->ndp", form.basis, a - a.sum() * w)
    return value, gradient


def start_of(form: Form, num: int) -> Floats:
    """(N, D): equal weights or coefficients of 0, the rest at the middle of its prior."""
    x = np.zeros((num, form.num_coordinates))
    mean, _ = form.normal
    x[:, -len(mean) :] = mean
    return x


class Fit(NamedTuple):
    """Draws of the reported parameters of some people, (N, names, chains, draws), and how the sampler fared."""

    people: tuple[str, ...]
    draws: Floats
    acceptance: float
    divergences: int


def fit_live(
    form: Form, choices: Choices, seed: int, draws: int, progress: Callable[[float], object] = float
) -> Iterator[Fit]:
    """The posterior of each person alone by the compiled engine, in portions of people that fit into memory.

    `progress` is told the share that is done at least.
    """
    num = len(choices.people)
    portion = max(1, _PORTION // (8 * form.num_coordinates * hamiltonian.CHAINS * draws))
    key = stream_key(seed, "infer")
    for low in range(0, num, portion):
        high = min(low + portion, num)
        part = choices.of(low, high)
        likelihood = likelihood_of(form, part)

        def target(x: Floats, who: Ints, likelihood: hamiltonian.Target = likelihood) -> tuple[Floats, Floats]:
            value, gradient = likelihood(x, who)
            before, slope = log_prior(form, x)
            return value + before, gradient + slope

        def tick(share: float, low: int = low, size: int = high - low) -> None:
            progress((low + share * size) / num)

        found = hamiltonian.sample(target, start_of(form, high - low), key, low, draws, tick)
        rate, diverged = float(found.acceptance.mean()), int(found.divergences.sum())
        yield Fit(part.people, natural(form, found.x), rate, diverged)
