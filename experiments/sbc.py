"""Simulation-based calibration: people drawn from the engine's prior, whole sessions, and where their truth then lies.

If people are drawn from the prior, answer by the model, and the engine computes the posterior, then the rank of the
truth among posterior draws is uniform, 90% intervals hold it in 90% of the people, and what is predicted with
probability p happens in a share p of the cases. Departures are faults of the engine, or of the number of its draws.

Any engine of calib/engines that infers is calibrated on its own sessions. `pymc` is NUTS on PyMC's model of the same
evidence, the sessions being those of the engine that it is the reference of; it takes seconds a person.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib import alignment, live
from calib.engines import engine_names, load_engine
from calib.errors import UserError
from calib.evidence import Evidence
from calib.scenario import CHANNELS, load_scenario_text
from calib.setup import Setup
from calib.state import State
from calib.streams import stream_key, uniforms
from calib.utility import LINEAR, over_knots
from experiments.batch import Sessions, simulate_sessions
from experiments.parts import Part, Plan, make_plan, setup_of_condition
from experiments.people import load_person
from experiments.population import in_processes
from experiments.sbc_ranks import histogram, num_thinned, ranks, shares, thinned, uniform_p
from experiments.sbc_reliability import (
    RESAMPLES,
    Reliability,
    bins,
    calibration_error,
    nothing,
    perfect_error,
    tally,
    tally_event,
)
from experiments.truth import TRAITS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUTS = "pymc"
_REFERENCE_OF = "live"  # whose sessions NUTS looks at
DEGREE = "degree"
_CHUNK, _CHUNK_NUTS = 64, 4  # people in a part: what is in memory at once, and a step of the progress bar
_AT_ONCE = 8  # people whose intents over knots of aspirations are in memory at once
_THIN, _THIN_NUTS = 10, 50  # one draw in so many is ranked among


@dataclass(frozen=True)
class Task:
    """What is calibrated: a plan with one condition, for NUTS with one round more, which is predicted only."""

    plan: Plan
    nuts: bool

    @property
    def engine(self) -> str:
        """As the user named it."""
        return NUTS if self.nuts else self.plan.engine

    @property
    def setup(self) -> Setup:
        """Of the sessions."""
        return setup_of_condition(self.plan, 0)

    @property
    def rounds(self) -> int:
        """After which the posterior is looked at."""
        return self.setup.max_rounds - int(self.nuts)


class Found(NamedTuple):
    """Of N people what is kept of their sessions."""

    names: tuple[str, ...]  # K parameters
    num_draws: int  # that a rank is among
    ranks: NDArray[np.int16]  # (N, K)
    shares: Floats  # (N, K) of the posterior below the truth
    p_aligned: Floats  # (N,) P(A >= 1 - eps) after the last round
    aligned: NDArray[np.bool_]  # (N,)
    alignment: Reliability  # of p_aligned
    choices: Reliability  # of predicted answers
    effort: Floats  # (N, 3) of NUTS: smallest ESS, largest R-hat, divergences; else (N, 0)


def engines() -> list[str]:
    """What can be calibrated: engines that infer, and NUTS."""
    return [*(name for name in engine_names() if load_engine(name).TIER != "known"), NUTS]


def make_task(
    scenario_file: str,
    scenario_text: str,
    *,
    engine: str,
    people: int,
    seed: int,
    role: str,
    policy: str,
    max_rounds: int | None,
    particles: int | None,
) -> Task:
    """A task; UserError for anything that is none."""
    if engine not in engines():
        reason = "infers nothing, so there is nothing to calibrate" if engine in engine_names() else "is not an engine"
        raise UserError(f'--engine: "{engine}" {reason}; choose {", ".join(engines())}')
    nuts = engine == NUTS
    if nuts and particles is not None:
        raise UserError(f"--particles: the engine {NUTS} has none; leave it out")
    if nuts and load_scenario_text(scenario_text, scenario_file).beliefs is not None:
        raise UserError(f"--engine: {NUTS} takes beliefs for known, and people of {scenario_file} differ in them")
    if nuts and load_scenario_text(scenario_text, scenario_file).utility != LINEAR:
        raise UserError(f"--engine: {NUTS} holds for linear utility, and that of {scenario_file} is not; take exact")
    plan = make_plan(
        scenario_file,
        scenario_text,
        roles=[role],
        policies=[policy],
        people_specs=["rational"],
        people=people,
        seed=seed,
        max_rounds=max_rounds,
        stop_rule="max_rounds",
        particles=particles,
        chunk=_CHUNK_NUTS if nuts else _CHUNK,
        engine=_REFERENCE_OF if nuts else engine,
    )
    task = Task(plan, nuts)
    return replace(task, plan=replace(plan, max_rounds=task.setup.max_rounds + 1)) if nuts else task


def calibrate(task: Task, jobs: int, done: Callable[[int], None]) -> Found:
    """Everybody, in `jobs` processes; `done(people)` after each part. The same for any number of jobs."""
    parts = task.plan.parts
    if jobs == 1 or len(parts) == 1:
        found = {}
        for part in parts:
            found[part] = calibrate_part(task, part)
            done(part[2] - part[1])
    else:
        found = {}
        for part, piece in in_processes(partial(calibrate_part, task), parts, jobs):
            found[part] = piece
            done(part[2] - part[1])
    return _joined([found[part] for part in parts])


def _joined(pieces: list[Found]) -> Found:
    choices, alignments = nothing(), nothing()
    for piece in pieces:
        choices, alignments = choices.plus(piece.choices), alignments.plus(piece.alignment)
    return Found(
        pieces[0].names,
        pieces[0].num_draws,
        np.concatenate([piece.ranks for piece in pieces]),
        np.concatenate([piece.shares for piece in pieces]),
        np.concatenate([piece.p_aligned for piece in pieces]),
        np.concatenate([piece.aligned for piece in pieces]),
        alignments,
        choices,
        np.concatenate([piece.effort for piece in pieces]),
    )


def calibrate_part(task: Task, part: Part) -> Found:
    """The people of one part: their sessions, and their truth among the draws."""
    setup, people = task.setup, np.arange(part[1], part[2])
    model, parameters = load_person(task.plan.conditions[0][2])
    engine = load_engine(setup.engine)
    seen: list[State] = []  # for NUTS: after its last round, and with the answers of the next one
    choices = nothing()

    def watch(state: State, taken_in: bool) -> None:
        nonlocal choices
        if task.nuts:
            if state.round == task.rounds + int(not taken_in):
                seen.append(state)
        elif not taken_in and hasattr(engine, "predict"):
            choices = choices.plus(_forecast(setup, state))

    sessions = simulate_sessions(setup, model, parameters, people, watch)
    state, effort = sessions.state, np.zeros((len(people), 0))
    if task.nuts:
        from experiments.sbc_pymc import sample_belief

        (state, asked), kept = seen, seen[0].evidence
        assert isinstance(kept, Evidence)
        evidence = kept._replace(num_answers=state.in_belief)  # the array goes on counting in the next round
        belief, effort = sample_belief(setup.prior, evidence, people, setup.seed)
        state = replace(state, belief=belief)
        if hasattr(engine, "predict"):
            choices = _forecast(setup, replace(asked, belief=belief))
    draws, log_weight = _posterior(setup, state)
    truth = _truth(setup, sessions, task.rounds)
    names = tuple(name for name in draws if name in truth)
    num = num_thinned(log_weight.shape[1], _THIN_NUTS if task.nuts else _THIN)
    u = uniforms(stream_key(setup.seed, "sbc ranks"), people, 0, 1 + 2 * len(names))
    picked = thinned(log_weight, num, u[:, 0])
    rank, share = np.empty((len(people), len(names)), np.int16), np.empty((len(people), len(names)))
    for k, name in enumerate(names):
        some = np.take_along_axis(draws[name], picked, axis=1)
        rank[:, k] = ranks(some, truth[name], u[:, 1 + 2 * k])
        share[:, k] = shares(draws[name], log_weight, truth[name], u[:, 2 + 2 * k])
    least = 1 - setup.scenario.eps
    p_aligned = np.mean(draws[DEGREE] >= least, axis=1) if task.nuts else sessions.estimate[:, task.rounds, 3]
    aligned = truth[DEGREE] >= least
    again = uniforms(stream_key(setup.seed, "sbc alignment"), people, 0, RESAMPLES)
    of_alignment = tally_event(p_aligned, aligned, again)
    return Found(names, num, rank, share, p_aligned, aligned, of_alignment, choices, effort)


def _forecast(setup: Setup, state: State) -> Reliability:
    """Of the answers that a state holds and its belief does not."""
    predicted = load_engine(setup.engine).predict(setup, state)
    found, key = nothing(), stream_key(setup.seed, "sbc answers")
    for kind in range(predicted.answer.shape[1]):
        rows = np.flatnonzero(state.active & (predicted.answer[:, kind] >= 0))
        p = predicted.probability[rows, kind]
        u = uniforms(key, state.people[rows], state.round * predicted.answer.shape[1] + kind, RESAMPLES)
        found = found.plus(tally(p, predicted.answer[rows, kind], u, p > 0))  # p is 0 where there is no option
    return found


def _posterior(setup: Setup, state: State) -> tuple[dict[str, Floats], Floats]:
    """Draws (N, P) of every parameter that the engine infers and of the degree of what stands, and log weights (N, P).

    A parameter that it holds at one value is not inferred and left out.
    """
    engine, belief = load_engine(setup.engine), state.belief
    weighted = getattr(belief, "log_weight", None)
    if hasattr(engine, "live_belief"):
        belief = engine.live_belief(setup, belief)
    w, extra = live.intent_at(belief.particles, setup.num_attributes), belief.particles[:, setup.num_attributes - 1 :]
    draws = {a.name: w[:, j] for j, a in enumerate(setup.scenario.attributes)}
    draws |= {f"rationality[{channel}]": np.exp(extra[:, c]) for c, channel in enumerate(CHANNELS)}
    draws |= {"lapse": 1 / (1 + np.exp(-extra[:, 3]))}
    draws |= {"reliance": extra[:, 4], "inertia": extra[:, 5], "about_equal": np.exp(extra[:, 6])}
    if hasattr(engine, "own_parameters"):
        own = [engine.own_parameters(setup, belief, i) for i in range(len(w))]
        draws |= {name: np.stack([of_person[name] for of_person in own]) for name in own[0]}
    draws = {name: values for name, values in draws.items() if np.ptp(values) > 0}
    draws[DEGREE] = np.empty((len(w), w.shape[2]))
    for at in (slice(i, i + _AT_ONCE) for i in range(0, len(w), _AT_ONCE)):
        meant = w[at] if setup.aspirations is None else over_knots(w[at], belief.aspirations[at])
        draws[DEGREE][at] = alignment.degree(setup, meant, alignment.extremes(setup, meant), state.standing[at])
    log_weight = np.zeros((len(w), w.shape[2])) if weighted is None else weighted.astype(np.float64)
    return draws, log_weight


def _truth(setup: Setup, sessions: Sessions, after: int) -> dict[str, Floats]:
    """(N,) each, by the names of a posterior; the degree is of what stood `after` so many rounds."""
    truth = sessions.truth
    found = {a.name: truth.weights[:, j] for j, a in enumerate(setup.scenario.attributes)}
    found |= {f"rationality[{channel}]": truth.rationality[:, c] for c, channel in enumerate(CHANNELS)}
    found |= {name: getattr(truth, name) for name in TRAITS if name != "rationality"}
    names = ("rationality[rating]", "aspiration", "spacing")
    found |= {name: truth.rating[:, i] for i, name in enumerate(names)}
    found |= {name: truth.stopping[:, i] for i, name in enumerate(("rationality[stop]", "hazard"))}
    named = [f"aspiration[{a.name}]" for a in setup.scenario.attributes]
    found |= dict(zip(named, truth.aspirations.T, strict=False))  # there are none where utility is linear
    return found | {DEGREE: sessions.true_degree[:, after]}


def document(task: Task, found: Found) -> dict[str, Any]:
    """What `calib sbc --json` prints."""
    setup, people = task.setup, len(found.ranks)
    p_values = [uniform_p(found.ranks[:, k], found.num_draws) for k in range(len(found.names))]
    inside = np.mean((found.shares >= 0.05) & (found.shares <= 0.95), axis=0)
    asked = hasattr(load_engine(setup.engine), "predict")
    body: dict[str, Any] = {
        "engine": task.engine,
        "people": people,
        "parameters": [
            {"name": name, "coverage_90": float(share), "rank_p": p}
            for name, share, p in zip(found.names, inside, p_values, strict=True)
        ],
        "rank_p_bonferroni": min(1.0, min(p_values) * len(p_values)),
        "choice_ece": calibration_error(found.choices) if asked else None,
        "choice_ece_expected": perfect_error(found.choices) if asked else None,
        "aligned_ece": calibration_error(found.alignment),
        "aligned_ece_expected": perfect_error(found.alignment),
        "choice_bins": bins(found.choices),
        "aligned_bins": bins(found.alignment),
        "draws": found.num_draws,
        "rank_bins": len(histogram(found.ranks[:, 0], found.num_draws)),
        "scenario": setup.scenario.name,
        "scenario_hash": setup.scenario.hash,
        "role": setup.role,
        "policy": setup.policy,
        "rounds": task.rounds,
        "seed": setup.seed,
        "particles": None if task.nuts else setup.num_particles,
        "diagnostics": None,
    }
    if task.nuts:
        body["diagnostics"] = {
            "smallest_ess": float(found.effort[:, 0].min()),
            "largest_r_hat": float(found.effort[:, 1].max()),
            "divergences": int(found.effort[:, 2].sum()),
        }
    return body
