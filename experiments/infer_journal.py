"""`calib infer --journal`: the population behind a journal's sessions, as a document and as a scenario."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib import history, probes
from calib.errors import UserError
from calib.events import CUT_SHORT
from calib.history import ACCEPT_OVERRIDE, KINDS, MODE_CHOICE, RUN, History
from calib.journal import Journal, open_journal
from calib.mental import MindPrior
from calib.outcomes import scale
from calib.replay import setup_of
from calib.scenario import Scenario, load_scenario, load_scenario_text
from calib.setup import Setup, make_setup
from calib.utility import LINEAR
from devices.home.types import OUTCOMES
from experiments import hamiltonian
from experiments.convergence import ess_bulk, ess_tail, r_hat
from experiments.infer_file import describe
from experiments.infer_minds import Evidence, MindFit, MindPopulation, fit_minds, form_of
from experiments.infer_population import population_toml

Floats = NDArray[np.float64]

_ONE = np.array([True])
_LEAST_PEOPLE = 3
_UNMIXED = ("scenario_hash", "kind", "rung")  # of which the sessions of one fit have one value each


def infer_journal(
    url: str,
    *,
    where: Sequence[str] = (),
    engine: str = "live",
    prior: str | None = None,
    draws: int | None = None,
    seed: int = 0,
    population: str | None = None,
    progress: Callable[[float], object] = float,
) -> dict[str, Any]:
    """The population behind a journal's sessions as a document, see docs/infer.md.

    `where` are conditions KEY=VALUE on start documents; `prior` is a scenario whose population and beliefs are the
    prior instead of the runs' own; `population` is where to write that scenario with the population that was fitted.
    """
    if population is not None and not Path(population).parent.is_dir():
        raise UserError(f"--population {population}: its folder does not exist: make it")
    with open_journal(url, create=False) as journal:
        runs = read_runs(journal, where)
        named = journal.where
    setup = setup_of(runs[0][0])
    scenario = setup.scenario if prior is None else _prior_scenario(prior, setup.scenario)
    if {scenario.utility, setup.scenario.utility} != {LINEAR}:
        raise UserError(f"{named}: utility is not linear in these scenarios, and infer holds for linear utility alone")
    evidence = evidence_of(setup, runs, mind_prior(scenario, setup, named), scenario)
    if len(evidence.people) < _LEAST_PEOPLE:
        raise UserError(
            f"{named}: {len(evidence.people)} people are no population: run more sessions, or widen --where"
        )
    if engine == "pymc":
        from experiments.infer_minds_pymc import sample_minds

        fit = sample_minds(evidence, seed, draws or 1000)
    else:
        fit = fit_minds(evidence, seed, draws or hamiltonian.DRAWS, progress)
    found = {"engine": engine, "weights": "simplex"} | summary(evidence, fit, len(runs))
    found |= {"seed": seed, "journal": named} | {key: runs[0][0].get(key) for key in ("scenario", *_UNMIXED)}
    if population is not None:
        text = scenario_toml(scenario, evidence, fit.population)
        Path(population).write_text(text, encoding="utf-8")
    return found


def read_runs(journal: Journal, where: Sequence[str] = ()) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """(start, rounds) of the journal's runs that have a round and meet the conditions, oldest first.

    Open runs count as far as they have come; erased ones are left out. UserError where runs are mixed that do not
    belong together, and where none is left.
    """
    wanted = [_condition(words) for words in where]
    found = []
    for row in journal.runs():
        entries = journal.entries(row.run, ["start", "round"])
        start, rounds = (entries[0].body, [e.body for e in entries[1:]]) if entries else (None, [])
        if start is None or not rounds or entries[0].type != "start":
            continue
        start = {**start, "run": row.run}
        if all((str(start.get(key)) == value) is equal for key, equal, value in wanted):
            found.append((start, [body for body in rounds if body is not None]))
    if not found:
        meets = f" meets {' and '.join(where)}" if where else ""
        raise UserError(f"{journal.where}: no run with a round{meets}: `calib runs` lists what there is")
    for key in _UNMIXED:
        values = sorted({str(start.get(key)) for start, _ in found})
        if len(values) > 1:
            shown = [v[:12] for v in values]
            names = sorted({f"scenario={s['scenario']}" for s, _ in found}) if key == "scenario_hash" else []
            example = names[0] if len(names) > 1 else f"{key}={values[0]}"
            raise UserError(
                f"{journal.where}: runs of different {key} ({', '.join(shown)}) are not mixed: choose some, "
                f"for example --where {example}"
            )
    return found


def _condition(words: str) -> tuple[str, bool, str]:
    match = re.fullmatch(r"(\w+)(!?=)(.*)", words)
    if match is None:
        raise UserError(f"--where {words}: is no condition: write KEY=VALUE or KEY!=VALUE, for example kind=human")
    return match[1], match[2] == "=", match[3]


def _prior_scenario(path: str, runs: Scenario) -> Scenario:
    scenario = load_scenario(path)
    mine, theirs = (([m.name for m in s.modes], [a.name for a in s.attributes]) for s in (scenario, runs))
    if mine != theirs:
        raise UserError(
            f"--prior {path}: has other modes or attributes than the runs: give a scenario that has the same"
        )
    return scenario


def mind_prior(scenario: Scenario, setup: Setup, named: str) -> MindPrior:
    """What a scenario says of people whose sessions were made with a setup of the same modes."""
    if scenario.beliefs is None:
        raise UserError(
            f"{named}: scenario {scenario.name} has no mental_model.beliefs, its people believe the descriptions: give "
            "--prior a scenario with these modes and with that table"
        )
    prior = make_setup(scenario, engine="full", table=setup.map).mind
    assert prior is not None
    return prior


def evidence_of(
    setup: Setup,
    runs: Iterable[tuple[dict[str, Any], list[dict[str, Any]]]],
    prior: MindPrior,
    scenario: Scenario,
) -> Evidence:
    """What (start, rounds) of runs tell; runs of one participant are one person's, one after the other."""
    by_person: dict[str, list[dict[str, Any]]] = {}
    for start, rounds in runs:
        own = by_person.setdefault(str(start.get("participant") or start["run"]), [])
        own += [{**body, "opens": i == 0} for i, body in enumerate(rounds)]
    most = max(len(rounds) for rounds in by_person.values())
    rows = [history_of(setup, rounds, 4 * most) for rounds in by_person.values()]
    whole = History(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))
    attributes, modes = (tuple(v.name for v in values) for values in (scenario.attributes, scenario.modes))
    return Evidence(tuple(by_person), attributes, modes, prior, scenario.population, whole)


def history_of(setup: Setup, rounds: Sequence[dict[str, Any]], capacity: int) -> History:
    """One person's history from round documents: what calib/rounds.py tells the engine `full`."""
    names = [c.name for c in setup.scenario.contexts]
    out, last = history.empty_history(1, capacity, setup.num_attributes, setup.menus.shape[1]), -1
    for body in rounds:
        if body.get("opens"):
            last = -1
        proposal = body["proposal"]
        first = None if proposal is None else setup.phi[proposal, names.index(body["context"])][None]
        channel = MODE_CHOICE if proposal is None else ACCEPT_OVERRIDE
        out = history.add(
            out, _ONE, channel, first=first, option=np.array([body["option"]]), where=np.array([last]), in_place=True
        )
        if watched := body.get("watched"):
            predicted = setup.phi[body["setting"], names.index(body["context"])][None]
            minutes, cut_short = np.array([watched["minutes"]]), np.array([watched["cut_short"]])
            out = history.add_watched(out, _ONE, predicted, minutes, cut_short, in_place=True)
        z = np.array([[body["outcome"][name]["value"] for name in OUTCOMES]])
        mode = setup.setting_mode[[body["setting"]]]
        seen = scale(setup.scenario, z)
        if body["end"] != CUT_SHORT:
            out = history.add_run(out, _ONE, mode, seen, in_place=True)
            last = int(mode[0])
        asked, told, rated, best = (body.get(kind) for kind in ("comparison", "probe", "rating", "best_of"))
        if asked is not None:
            a, b = setup.pairs[asked["pair"]]
            answer = np.array([asked["answer"]])
            out = history.add_comparison(out, _ONE, setup.cards[[a]], setup.cards[[b]], answer, in_place=True)
        if told is not None:
            number = np.array([told["probe"]])
            said = probes.said(setup.scenario, number, np.array([told["answer"]]))
            out = history.add_probe(out, _ONE, *np.divmod(number, setup.num_attributes), said, in_place=True)
        if rated is not None:
            out = history.add_rating(out, _ONE, seen, np.array([rated["answer"]]), in_place=True)
        if best is not None:
            cards = setup.cards[best["cards"]][None]
            out = history.add_best_of(out, _ONE, cards, np.array([best["answer"]]), in_place=True)
    return out


def summary(evidence: Evidence, fit: MindFit, num_runs: int) -> dict[str, Any]:
    """`parameters` and `diagnostics`, the population's first."""
    names, draws = population_draws(evidence, fit.population)
    parameters = describe(names, (None,), draws[None]) + describe(fit.names, evidence.people, fit.people)
    every = np.concatenate([draws, fit.people.reshape(-1, *draws.shape[1:])])
    every = every[every.std(axis=(1, 2)) > 0]
    worst = {
        "r_hat": float(r_hat(every).max()),
        "ess_bulk": float(ess_bulk(every).min()),
        "ess_tail": float(ess_tail(every).min()),
    }
    good = worst["r_hat"] < 1.02 and min(worst["ess_bulk"], worst["ess_tail"]) > 400
    # a divergence in a thousand trajectories is the single precision of the kernel
    few = fit.divergences < 0.001 * draws.shape[1] * draws.shape[2] * (len(evidence.people) + 1)
    trouble = "the sampler had trouble (see r_hat, ess and divergences): take more --draws, or --engine pymc"
    h = evidence.history
    kinds = h.kind[np.arange(h.kind.shape[1]) < h.num[:, None]]
    counts = {f"{name}s": int(np.sum(kinds == k)) for k, name in enumerate(KINDS) if np.any(kinds == k)}
    diagnostics = {
        "people": len(evidence.people),
        "sessions": num_runs,
        "choices": int(np.sum(kinds != RUN)),
        "entries": counts,
        "chains": draws.shape[1],
        "draws": draws.shape[2],
        **worst,
        "acceptance": fit.acceptance,
        "divergences": fit.divergences,
        "trustworthy": bool(good and few),
        "notes": [] if good and few else [trouble],
    }
    return {"parameters": parameters, "diagnostics": diagnostics}


def population_draws(evidence: Evidence, population: MindPopulation) -> tuple[tuple[str, ...], Floats]:
    """Names and draws (names, chains, draws) of what is reported of a population."""
    names = list(population.intent.names)
    names += ["belief_sd", "sd_log[belief_sd]", "learning_rate", "sd_logit[learning_rate]"]
    names += [f"error[{m},{a}]" for m in evidence.modes for a in evidence.attributes]
    mean, sd = population.trait_mean, population.trait_sd
    traits = np.stack([np.exp(mean[0]), sd[0], 1 / (1 + np.exp(-mean[1])), sd[1]])
    error = population.error.reshape(-1, *mean.shape[1:])
    return tuple(names), np.concatenate([population.intent.draws, traits, error])


def scenario_toml(scenario: Scenario, evidence: Evidence, population: MindPopulation) -> str:
    """The scenario with this population in place of its own: the prior of the next person.

    The tables [population] and [mental_model] are written anew. Spreads are those of a person who is still unknown.
    """
    assert scenario.beliefs is not None
    intent = population_toml(form_of(evidence), population.intent)
    mean = population.trait_mean.mean(axis=(1, 2))
    sd = np.sqrt((population.trait_sd**2).mean(axis=(1, 2)) + population.trait_mean.var(axis=(1, 2))).clip(0.001, 10)
    rate = float(np.clip(1 / (1 + np.exp(-mean[1])), 1e-4, 1 - 1e-4))
    lines = [
        "[mental_model]",
        f"learning_rate = {rate:.6g}",
        "",
        "[mental_model.salience]",
        *(f"{a.name} = {s!r}" for a, s in zip(scenario.attributes, scenario.salience, strict=True)),
        "",
        "[mental_model.beliefs]",
        f"spread = {{ median = {max(np.exp(mean[0]), 0.001):.6g}, sd_log = {sd[0]:.6g} }}",
        f"learning_sd_logit = {sd[1]:.6g}",
        f"probe_sd = {scenario.beliefs.probe_sd!r}",
    ]
    before = np.array(scenario.beliefs.error or 0.0)
    error = (before + population.error.mean(axis=(2, 3))).clip(-2, 2)
    for mode, row in zip(scenario.modes, error, strict=True):
        lines += ["", f"[mental_model.beliefs.error.{json.dumps(mode.name)}]"]
        lines += [f"{a.name} = {e:.6g}" for a, e in zip(scenario.attributes, row, strict=True)]
    version = f"{scenario.version}, fitted to {len(evidence.people)} people"
    text = _without(scenario.text, ("population", "mental_model")) + "\n" + intent + "\n" + "\n".join(lines) + "\n"
    text = re.sub(r"(?m)^version\s*=.*$", lambda _: f"version = {json.dumps(version)}", text, count=1)
    new = load_scenario_text(text, scenario.file)
    others = {"file": "", "text": "", "version": "", "population": None, "beliefs": None, "learning_rate": 0.0}
    if replace(new, **others) != replace(scenario, **others):  # type: ignore[arg-type]
        raise UserError(
            f"{scenario.file}: its tables could not be replaced: write [population] and [mental_model] as tables of "
            "their own, each under its header"
        )
    return text


def _without(text: str, tables: tuple[str, ...]) -> str:
    """TOML text without some tables and all in them."""
    kept, taken_out = [], False
    for line in text.splitlines():
        header = re.match(r"\s*\[\[?\s*([\w-]+)", line)
        if header:
            taken_out = header[1] in tables
        if not taken_out:
            kept.append(line)
    return "\n".join(kept).rstrip() + "\n"
