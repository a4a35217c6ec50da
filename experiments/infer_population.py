"""The hierarchical model: people's intent and rationality come from one normal population, which is learnt with them.

x_i ~ N(mu, Sigma) over the coordinates of intent (log ratios of weights, or standardised coefficients) and, with
simplex weights, log rationality. Each chain alternates a Hamiltonian move of every person with exact draws of mu and
Sigma, whose prior gives every sd a half-t with 2 degrees of freedom and every correlation a uniform one (Huang and
Wand 2013), and with a stretch of all people along one coordinate, without which narrow populations mix badly.
Lapse, pulls and the threshold of about equal keep the prior of people who are fitted alone.
"""

import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, ndtri, polygamma
from scipy.stats import qmc

from calib.errors import UserError
from calib.fields import Fields
from calib.scenario import CHANNELS
from calib.streams import stream_key
from experiments import hamiltonian
from experiments.choice_data import Choices
from experiments.infer import FREE_SD, Fit, Form, Prior, likelihood_of, natural, start_of, weights_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

WARM_UP = 400
THINNING, FREE_THINNING = 12, 4  # narrow populations of weights mix slowly
DEGREES = 2.0  # of the half-t of an sd; 2 makes correlations uniform
SD_SCALE, FREE_SD_SCALE = 1.0, 2.5  # of that half-t: log ratios and logs, standardised coefficients
MEAN_SD = {"ratio": 2.0, "log rationality": 1.0}  # of the prior of mu with simplex weights
_NEW_PEOPLE = 256  # by which moments of weights over people are taken


class Population(NamedTuple):
    """What is learnt of everybody: draws of what is reported, and of the coordinates."""

    names: tuple[str, ...]
    draws: Floats  # (names, chains, draws)
    mean: Floats  # (H, chains, draws)
    covariance: Floats  # (H, H, chains, draws)


def num_shared(form: Form) -> int:
    """H: the coordinates that come from the population, which are the first ones."""
    return form.num_intent + (0 if form.free else len(form.channels))


def hyperprior(form: Form) -> tuple[Floats, Floats, Floats]:
    """(H,) mean and sd of the normal prior of mu, and the scale of the half-t of each sd."""
    if form.free:
        num = form.num_intent
        return np.zeros(num), np.full(num, FREE_SD), np.full(num, FREE_SD_SCALE)
    medians = [form.prior.rationality[c][0] for c in form.channels]
    mean = np.concatenate([np.zeros(form.num_intent), np.log(medians)])
    sd = np.array([MEAN_SD["ratio"]] * form.num_intent + [MEAN_SD["log rationality"]] * len(medians))
    return mean, sd, np.full(len(mean), SD_SCALE)


def fit_hierarchical(
    form: Form, choices: Choices, seed: int, draws: int, progress: Callable[[float], object] = float
) -> tuple[Fit, Population]:
    """Everybody's posterior under the population, and the population's, by the compiled engine."""
    num, shared = len(choices.people), num_shared(form)
    likelihood = likelihood_of(form, choices)
    mean, sd = (v[len(form.normal[0]) - (form.num_coordinates - shared) :, None] for v in form.normal)
    centre, centre_sd, scale = hyperprior(form)
    points = hamiltonian.CHAINS
    mu = np.repeat(centre[None], points, 0)
    precision = np.repeat(np.diag(scale**-2.0)[None], points, 0)

    def target(x: Floats, who: Ints) -> tuple[Floats, Floats]:
        value, gradient = likelihood(x, who)
        # the search for modes takes another number of points, all under the first chain's population
        many = points if x.shape[2] == points else 1
        apart = x[:, :shared] - mu[:many].T
        pull = (precision[:many] @ apart.transpose(2, 1, 0)).transpose(2, 1, 0)
        z = (x[:, shared:] - mean) / sd
        value = value - 0.5 * np.sum(apart * pull, axis=1) - 0.5 * np.sum(z**2, axis=1)
        gradient[:, :shared] -= pull
        gradient[:, shared:] -= z / sd
        return value, gradient

    key, rng = stream_key(seed, "infer"), np.random.default_rng([seed, 1])
    who = np.arange(num)
    mode, covariance = hamiltonian.find_mode(target, start_of(form, num))
    own = np.zeros((1, form.num_coordinates, form.num_coordinates))  # what the prior adds to the curvature
    own[0, range(shared, form.num_coordinates), range(shared, form.num_coordinates)] = sd[:, 0] ** -2.0
    own[0, :shared, :shared] = precision[0]
    size, axes = np.linalg.eigh(np.linalg.inv(covariance) - own)
    told = (axes * np.maximum(size, 0.0)[:, None, :]) @ axes.transpose(0, 2, 1)  # by the answers

    def whitening() -> Floats:
        """(N, P, D, D): a chain's population may be narrow, so that each has its own."""
        all_ = np.repeat(own, points, 0)
        all_[:, :shared, :shared] = precision
        return np.asarray(np.linalg.cholesky(np.linalg.inv(told[:, None] + all_)))

    x = mode[:, :, None] + hamiltonian.times(whitening(), rng.normal(size=(*mode.shape, points)))
    chains = hamiltonian.Chains(x, *target(x, who), whitening(), np.full(num, 0.5))
    wide = np.full((points, shared), 1.0)  # the scales of Huang and Wand's mixture
    kept = np.empty((num, form.num_coordinates, points, draws))
    kept_mu, kept_sigma = np.empty((shared, points, draws)), np.empty((shared, shared, points, draws))
    acceptance, divergences, stretch = 0.0, 0, np.full(shared, 0.3)
    stride = FREE_THINNING if form.free else THINNING
    total = WARM_UP + stride * draws
    for sweep in range(total):
        mu, sigma, wide = draw_population(rng, chains.x[:, :shared], wide, centre, centre_sd, scale, precision)
        precision = np.asarray(np.linalg.inv(sigma))
        value, gradient = target(chains.x, who)
        chains = chains._replace(value=value, gradient=gradient, factor=whitening())
        if sweep % 2:
            # people and population stretched together (Yu and Meng 2011): only the likelihood and Sigma's prior change
            d = sweep // 2 % shared
            log_s = stretch[d] * rng.normal(size=points)
            there = chains.x.copy()
            there[:, d] = mu[:, d] + np.exp(log_s) * (there[:, d] - mu[:, d])
            before, after = (likelihood(x, who)[0].sum(axis=0) for x in (chains.x, there))
            shrink = np.expm1(-2 * log_s) * DEGREES / wide[:, d] * precision[:, d, d]
            log_rate = after - before - (DEGREES + shared - 1) * log_s - shrink
            taken = np.log(rng.random(points)) < log_rate
            factor = np.ones((points, shared))
            factor[taken, d] = np.exp(log_s[taken])
            sigma = sigma * factor[:, :, None] * factor[:, None]
            precision = precision / factor[:, :, None] / factor[:, None]
            x = np.where(taken, there, chains.x)
            chains = hamiltonian.Chains(x, *target(x, who), whitening(), chains.step)
            if sweep < WARM_UP:
                stretch[d] *= np.exp((taken.mean() - 0.4) * 0.5)
        chains, rate, diverged = hamiltonian.move(target, chains, key, 0, who, 1000 + sweep)
        progress((sweep + 1) / total)
        if sweep < WARM_UP:
            chains = chains._replace(step=hamiltonian.adapt(chains.step, rate - diverged / 2, sweep))
            continue
        acceptance += float(rate.mean()) / (total - WARM_UP)
        divergences += int(diverged.sum())
        at, left = divmod(sweep - WARM_UP, stride)
        if left == stride - 1:
            kept[..., at] = chains.x
            kept_mu[..., at], kept_sigma[..., at] = mu.T, sigma.transpose(1, 2, 0)
    fit = Fit(choices.people, natural(form, kept), acceptance, divergences)
    return fit, population_of(form, kept_mu, kept_sigma)


def draw_population(
    rng: np.random.Generator,
    x: Floats,
    wide: Floats,
    centre: Floats,
    centre_sd: Floats,
    scale: Floats,
    precision: Floats,
) -> tuple[Floats, Floats, Floats]:
    """mu (P, H), Sigma (P, H, H) and the mixture's scales (P, H) given people x (N, H, P), each chain its own."""
    num, dims, points = x.shape
    by_chain = x.transpose(2, 0, 1)
    inverse = np.linalg.inv(num * precision + np.diag(centre_sd**-2.0))
    pull = np.einsum("pde,pe->pd", precision, by_chain.sum(axis=1)) + centre / centre_sd**2
    root = np.linalg.cholesky(inverse)
    mu = np.einsum("pde,pe->pd", inverse, pull) + np.einsum("pde,pe->pd", root, rng.normal(size=(points, dims)))
    apart = by_chain - mu[:, None]
    scatter = apart.transpose(0, 2, 1) @ apart + 2 * DEGREES * np.eye(dims) / wide[:, None]
    # Sigma's inverse is Wishart: Bartlett's triangle, (P, H, H)
    triangle = np.tril(rng.normal(size=(points, dims, dims)), -1)
    freedom = DEGREES + dims - 1 + num - np.arange(dims)
    triangle[:, np.arange(dims), np.arange(dims)] = np.sqrt(rng.chisquare(freedom, (points, dims)))
    half = np.linalg.cholesky(np.linalg.inv(scatter)) @ triangle
    sigma = np.linalg.inv(half @ half.transpose(0, 2, 1))
    sigma = 0.5 * (sigma + sigma.transpose(0, 2, 1))
    rate = DEGREES * np.diagonal(np.linalg.inv(sigma), axis1=1, axis2=2) + scale**-2.0
    return mu, sigma, rate / rng.gamma((DEGREES + dims) / 2, size=(points, dims))


def population_of(form: Form, mean: Floats, covariance: Floats) -> Population:
    """What is reported of a population, from draws of its mean (H, ...) and covariance (H, H, ...)."""
    shape, names = mean.shape[1:], form.attributes
    flat, root = mean.reshape(len(mean), -1), np.moveaxis(covariance.reshape(*covariance.shape[:2], -1), 2, 0)
    pairs = [(i, j) for i in range(len(names)) for j in range(i)]
    if form.free:
        centre = (flat / form.scale[:, None]).T
        moments = root / np.outer(form.scale, form.scale)
    else:
        new = new_people(form, flat, root)  # (S, J, people)
        centre = new.mean(axis=2)
        apart = new - centre[:, :, None]
        moments = apart @ apart.transpose(0, 2, 1) / new.shape[2]
    sds = np.sqrt(np.diagonal(moments, axis1=1, axis2=2))
    found = [*centre.T, *sds.T, *(moments[:, i, j] / (sds[:, i] * sds[:, j]) for i, j in pairs)]
    labels = [*names, *(f"sd[{name}]" for name in names), *(f"correlation[{names[j]},{names[i]}]" for i, j in pairs)]
    for k in range(form.num_intent, len(mean)):
        label = form.names[len(names) + k - form.num_intent]
        found += [np.exp(flat[k]), np.sqrt(root[:, k, k])]
        labels += [label, f"sd_log[{label}]"]
    return Population(tuple(labels), np.array(found).reshape(len(found), *shape), mean, covariance)


def new_people(form: Form, mean: Floats, covariance: Floats) -> Floats:
    """(S, J, people) weights of people who might come next, for draws of the population (H, S) and (S, H, H)."""
    num = form.num_intent
    if not num:
        return np.ones((mean.shape[1], 1, _NEW_PEOPLE))
    spread = ndtri(qmc.Sobol(num, seed=0).random(_NEW_PEOPLE).clip(1e-9, 1 - 1e-9)).T
    root = np.linalg.cholesky(covariance[:, :num, :num])
    return weights_of(form, mean[:num].T[:, :, None] + root @ spread)


def population_toml(form: Form, population: Population) -> str:
    """The population as the [population] of a scenario, as near as that comes.

    Weights become the Dirichlet with the same mean logarithms, rationality log-normal with the spread of a new person
    (people's and what is not known of them). The rest, and channels that the file does not have, are the prior's.
    """
    mean = population.mean.reshape(len(population.mean), -1)
    covariance = np.moveaxis(population.covariance.reshape(*population.covariance.shape[:2], -1), 2, 0)
    weights = new_people(form, mean, covariance)
    concentration = dirichlet(np.log(np.maximum(weights, 1e-12)).mean(axis=(0, 2)))
    p = form.prior
    rationality = list(p.rationality)
    for k, c in enumerate(form.channels, form.num_intent):
        spread = np.sqrt(covariance[:, k, k].mean() + mean[k].var())
        rationality[c] = (float(np.exp(mean[k].mean())), float(spread))
    lines = ["# Fitted by `calib infer --hierarchical`.", "[population.concentration]"]
    lines += [
        f"{_key(name)} = {a:.6g}" for name, a in zip(form.attributes, concentration.clip(0.05, 1000), strict=True)
    ]
    lines += ["", "[population.rationality]"]
    lines += [
        f"{CHANNELS[c]} = {{ median = {median:.6g}, sd_log = {np.clip(sd, 0.001, 10):.6g} }}"
        for c, (median, sd) in enumerate(rationality)
    ]
    for name, keys in _REST.items():
        first, second = getattr(p, name)
        lines += ["", f"[population.{name}]", f"{keys[0]} = {first:.6g}", f"{keys[1]} = {second:.6g}"]
    return "\n".join(lines) + "\n"


def dirichlet(mean_log: Floats) -> Floats:
    """The concentration whose mean logarithms are these (J,): the nearest Dirichlet, by maximum likelihood (Minka)."""
    a = np.ones(len(mean_log))
    for _ in range(10_000):
        goal = mean_log + digamma(a.sum())
        new = np.where(goal > -2.22, np.exp(goal) + 0.5, -1 / (goal + np.euler_gamma))
        for _ in range(6):
            new = np.maximum(new - (digamma(new) - goal) / polygamma(1, new), 1e-6)
        if np.max(np.abs(new - a)) < 1e-9:
            break
        a = new
    return a


_REST = {
    "lapse": ("median", "sd_logit"),
    "reliance": ("mean", "sd"),
    "inertia": ("mean", "sd"),
    "about_equal": ("median", "sd_log"),
}


def read_prior(path: str, attributes: Sequence[str]) -> Prior:
    """The [population] of a scenario or of a file that `population_toml` wrote, for these attributes.

    Shares of a few among the attributes of a Dirichlet are Dirichlet too, with the same concentrations.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise UserError(f"--prior {path}: cannot be read ({why}): give a TOML file with [population]") from None
    try:
        table = Fields(tomllib.loads(text), path).table("population")
    except ValueError as error:
        raise UserError(f"--prior {path}: is not TOML: {error}: mend that line") from None
    weights, rationality = table.table("concentration"), table.table("rationality")
    concentration = tuple(weights.number(name, 0.05, 1000) for name in attributes)

    def pair(own: Fields, keys: tuple[str, str], low: float, high: float) -> tuple[float, float]:
        return own.number(keys[0], low, high), own.number(keys[1], 0.001, 10)

    bounds = {"lapse": (1e-6, 1 - 1e-6), "reliance": (-100, 100), "inertia": (-100, 100), "about_equal": (1e-6, 1e6)}
    rest: dict[str, Any] = {name: pair(table.table(name), keys, *bounds[name]) for name, keys in _REST.items()}
    return Prior(
        concentration,
        tuple(pair(rationality.table(c), ("median", "sd_log"), 1e-6, 1e6) for c in CHANNELS),
        **rest,
    )


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
