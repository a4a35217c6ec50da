"""One person of a headless population as the documents of a live session, through the very session shell."""

from typing import Any

import numpy as np

from calib.engines import load_engine
from calib.events import CUT_SHORT, Answer, Apply, Ask, Event, Quit, Reading, Ready, Record
from calib.session import Session, begin, has_outcome, step
from calib.setup import Setup
from devices.home.plant import TICK_S
from devices.home.types import OUTCOMES, Settings
from devices.simvac import Simvac
from experiments.batch import ended_by_then, run_outcome
from experiments.live_person import SimulatedPerson, make_person, truth_document
from experiments.people import load_person


def documents(setup: Setup, spec: str, number: int, facts: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Start, rounds, stop and truth of person `number` of the model SPEC, each {"type", "body"}.

    The robot is the outcome map: a run shows the replicate that a live run on the simulator shows. `facts` go into the
    start document as the runner's do (kind, rung, device, ...). ValueError for an engine that keeps no answers.
    """
    if load_engine(setup.engine).EVIDENCE is None:
        raise ValueError(f"the engine {setup.engine} keeps no answers: expand a population of live or full")
    model, parameters = load_person(spec)
    person = make_person(setup, model, parameters, number)
    session, effects = begin(setup, number, facts or {})
    found = [e for e in effects if isinstance(e, Record)]
    while session.phase != "finished":
        wanted = next(e for e in reversed(effects) if isinstance(e, Ask | Apply))
        event = _answer(setup, session, wanted, person)
        before = session
        session, effects = step(setup, session, event)
        if has_outcome(event, session):
            person.saw(before.state, event.z)
        found += [e for e in effects if isinstance(e, Record)]
    bodies: list[dict[str, Any]] = [{"type": r.type, "body": r.body} for r in found]
    rounds = [d["body"] for d in bodies if d["type"] == "round"]
    return [*bodies, {"type": "truth", "body": truth_document(person, session, found[0].body, rounds)}]


def _answer(setup: Setup, session: Session, wanted: Ask | Apply, person: SimulatedPerson) -> Event:
    """What the world of a simulation says to one effect."""
    if isinstance(wanted, Apply):
        z, seconds = run_outcome(setup, session.state)
        seconds, cut_short = ended_by_then(seconds, np.array([person.patience_s(session.state)]))
        settings = setup.settings[wanted.setting]
        return Reading(
            z=_until(setup, session, settings, float(seconds[0])) if cut_short[0] else tuple(map(float, z[0])),
            source=("simulated",) * len(OUTCOMES),
            error=(0.0,) * len(OUTCOMES),
            end=CUT_SHORT if cut_short[0] else "finished",
            realised=settings,
            how=dict.fromkeys(vars(settings), "read back"),
            robot_s=float(seconds[0]),
            wall_s=float(seconds[0]),
        )
    if wanted.question == "ready":
        seconds_ready = setup.scenario.effort_s["ready"]
        return Ready(seconds_ready, seconds_ready)
    answer = person.answer(session.state, wanted.question)
    if answer is None:
        return Quit()
    value, attention_s = answer
    return Answer(wanted.question, value, attention_s, attention_s)


def _until(setup: Setup, session: Session, settings: Settings, seconds: float) -> tuple[float, ...]:
    """What a run has done when it is ended after so many seconds, which the map does not know."""
    device, state = Simvac(), session.state
    device.prepare(setup.scenario.contexts[int(state.context[0])], int(state.replicate[0]))
    device.start(settings)
    while not (progress := device.advance()).done and progress.elapsed_s < seconds - TICK_S / 2:
        pass
    return tuple(float(v) for v in device.finish().z)


def documents_of_row(setup: Setup, row: dict[str, Any]) -> list[dict[str, Any]]:
    """The documents of one row of a population's parts; ValueError where the row is of another setup."""
    held = setup.role, setup.policy, setup.scenario.hash, setup.engine
    if held != (row["role"], row["policy"], row["scenario_hash"], row["engine"].split("/")[0]):
        raise ValueError(f"the row is of {row['role']}, {row['policy']}, {row['engine']}: the setup is another one")
    return documents(setup, row["person_model"], int(row["person"]))
