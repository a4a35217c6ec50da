"""`calib infer`: from a file of choices to a document, by the engine and the model that were asked for."""

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import UserError
from experiments import hamiltonian
from experiments.choice_data import Choices, read_choices
from experiments.convergence import ess_bulk, ess_tail, r_hat
from experiments.infer import Fit, fit_live, form_of
from experiments.infer_population import Population, fit_hierarchical, population_toml, read_prior
from experiments.infer_store import refuse_out, write

Floats = NDArray[np.float64]


def tells_nothing(choices: Choices) -> list[str]:
    """The attributes in which the options of a choice never differ."""
    heads = choices.start[:-1]
    apart = np.maximum.reduceat(choices.values, heads) > np.minimum.reduceat(choices.values, heads)
    return [name for j, name in enumerate(choices.attributes) if not apart[:, j].any()]


def summary(
    names: Sequence[str], fits: Iterable[Fit], choices: Choices, population: Population | None = None
) -> dict[str, Any]:
    """`parameters` and `diagnostics` of fits of some people each, after those of the population where there is one.

    A name carries the person where there are several, or a population beside.
    """
    several = len(choices.people) > 1 or population is not None
    parameters: list[dict[str, Any]] = []
    worst = {"r_hat": 1.0, "ess_bulk": np.inf, "ess_tail": np.inf}
    rate, divergences, shape = 0.0, 0, (0, 0)
    if population is not None:
        everybody = population.draws[None]
        parameters += describe(population.names, (None,), everybody)
        fits = itertools.chain(fits, [Fit((), everybody, 0.0, 0)])
    for fit in fits:
        shape = (fit.draws.shape[2], fit.draws.shape[3])
        if fit.people:
            parameters += describe(names, fit.people if several else (None,), fit.draws)
        moves = fit.draws.std(axis=(2, 3)) > 0  # the weight of a single attribute is 1
        seen = fit.draws[moves]
        if len(seen):
            worst["r_hat"] = max(worst["r_hat"], float(r_hat(seen).max()))
            worst["ess_bulk"] = min(worst["ess_bulk"], float(ess_bulk(seen).min()))
            worst["ess_tail"] = min(worst["ess_tail"], float(ess_tail(seen).min()))
        rate += fit.acceptance * len(fit.people) / len(choices.people)
        divergences += fit.divergences
    notes = [
        f"{name} never differs between the options of a choice: all that is said of it is the prior's"
        for name in tells_nothing(choices)
    ]
    # the bounds of Vehtari et al. (2021); of many chains' R-hats the largest is above 1.01 by chance alone
    bound = 1.01 if len(parameters) <= 20 else 1.02
    trustworthy = worst["r_hat"] < bound and min(worst["ess_bulk"], worst["ess_tail"]) > 400 and divergences == 0
    if not trustworthy:
        notes.append("the sampler had trouble (see r_hat, ess and divergences): take more --draws, or another engine")
    diagnostics = {
        "people": len(choices.people),
        "choices": len(choices.chosen),
        "rows": choices.num_rows,
        "chains": shape[0],
        "draws": shape[1],
        **worst,
        "acceptance": rate,
        "divergences": divergences,
        "trustworthy": trustworthy,
        "notes": notes,
    }
    return {"parameters": parameters, "diagnostics": diagnostics}


def describe(names: Sequence[str], people: Sequence[str | None], draws: Floats) -> list[dict[str, Any]]:
    """Mean, sd and quantiles of draws (N, names, chains, draws), people outside."""
    quantiles = np.quantile(draws, [0.05, 0.5, 0.95], axis=(2, 3))
    mean, sd = draws.mean(axis=(2, 3)), draws.std(axis=(2, 3))
    found: list[dict[str, Any]] = []
    for i, person in enumerate(people):
        for k, name in enumerate(names):
            entry: dict[str, Any] = {"name": name if person is None else f"{name}[{person}]"}
            if person is not None:
                entry |= {"person": person, "parameter": name}
            entry |= {"mean": float(mean[i, k]), "sd": float(sd[i, k])}
            entry |= {f"q{q}": float(quantiles[n, i, k]) for n, q in enumerate(("05", "50", "95"))}
            found.append(entry)
    return found


def infer(
    path: str,
    *,
    engine: str = "live",
    weights: str = "simplex",
    pool: bool = False,
    hierarchical: bool = False,
    wanted: Sequence[str] = (),
    prior: str | None = None,
    draws: int | None = None,
    seed: int = 0,
    out: str | None = None,
    population: str | None = None,
    progress: Callable[[float], object] = float,
) -> dict[str, Any]:
    """The posterior from a file of choices as a document, see docs/infer.md; with `out` the draws as netCDF.

    `prior` is a file with a [population]; `population` is where to write the one that was fitted.
    """
    if hierarchical and pool:
        raise UserError("--hierarchical tells people apart and --pool does not: give one of them")
    if population is not None and (not hierarchical or weights == "free"):
        raise UserError("--population writes weights on the simplex, of --hierarchical: give it without --weights free")
    if prior is not None and weights == "free":
        raise UserError("--prior is of weights on the simplex, and free ones have their own: leave one of them out")
    choices = read_choices(path, weights, pool, wanted)
    if hierarchical and len(choices.people) < 3:
        raise UserError(
            f"{path}: {len(choices.people)} people are no population: leave out --hierarchical, or add people"
        )
    if population is not None and not Path(population).parent.is_dir():
        raise UserError(f"--population {population}: its folder does not exist: make it")
    before = None
    if prior is not None:
        before = read_prior(prior, choices.attributes)
    form = form_of(choices, weights, before)
    chains, draws = (hamiltonian.CHAINS, draws or hamiltonian.DRAWS) if engine == "live" else (4, draws or 1000)
    if out:
        refuse_out(out, form, len(choices.people), chains * draws)
    people = None
    if engine == "pymc":
        from experiments.infer_pymc import fit_pymc

        one, people = fit_pymc(form, choices, seed, draws, hierarchical)
        fits = iter([one])
    elif hierarchical:
        one, people = fit_hierarchical(form, choices, seed, draws, progress)
        fits = iter([one])
    else:
        fits = fit_live(form, choices, seed, draws, progress)
    if out:
        fits = iter(kept := list(fits))
    found = {"engine": engine, "weights": weights} | summary(form.names, fits, choices, people)
    found |= {"seed": seed, "file_sha256": choices.sha256}
    if out:
        about = {"engine": engine, "weights": weights, "pooled": int(pool), "seed": seed}
        about |= {"file": path, "file_sha256": choices.sha256, "diagnostics": found["diagnostics"]}
        write(out, form, kept, choices, about, people)
    if population is not None and people is not None:
        Path(population).write_text(population_toml(form, people), encoding="utf-8")
    return found
