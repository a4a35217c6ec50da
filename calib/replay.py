"""A run from its journal: the setup it was made with, its events folded again, and what differs from its documents."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calib.errors import UserError
from calib.events import Answer, Effect, Event, Record, event_from_json
from calib.journal import Entry, Journal
from calib.provenance import platform_fingerprint
from calib.questions import KINDS
from calib.runner import Person
from calib.scenario import load_scenario_text
from calib.session import Session, begin, has_outcome, step
from calib.setup import Setup, make_setup

_DOCUMENTS = ("start", "round", "stop")
_TOLERANCE = 1e-6  # on another platform; on the same one every bit must agree


@dataclass(frozen=True, eq=False)
class Folded:
    """A run as its events make it."""

    session: Session
    documents: list[Record]
    last_effects: list[Effect]


def run_entries(journal: Journal, run: str) -> list[Entry]:
    """The entries of a run, by its id or an unambiguous beginning of it. UserError where there is none."""
    rows = [r.run for r in journal.runs()]
    match = [r for r in rows if r == run] or [r for r in rows if r.startswith(run)]
    if len(match) != 1:
        problem = "fits several runs; write more of it" if match else "is not in this journal; `calib runs` lists them"
        raise UserError(f"run {run}: {problem}")
    found = journal.entries(match[0])
    if any(e.body is None for e in found):
        raise UserError(f"run {run}: was erased at its participant's wish; nothing of it can be computed")
    if not found or found[0].type != "start":
        raise UserError(f"run {run}: has no start document; it ended before it began")
    return found


def setup_of(start: dict[str, Any]) -> Setup:
    """The setup that a start document describes. The scenario's text travels with the run."""
    scenario = load_scenario_text(start["scenario_text"], start["scenario"])
    setup = make_setup(
        scenario,
        role=start["role"],
        policy=start["policy"],
        stop_rule=start["stop_rule"],
        max_rounds=start["max_rounds"],
        seed=start["seed"],
        engine=start["engine"]["name"],
        num_particles=start["engine"]["particles"],
    )
    if setup.map.sha256 != start["map_sha256"]:
        raise UserError(
            "the simulated home of this version gives another outcome map than the run's "
            f"({start['map_sha256'][:12]}); use the version of the lab that made the run"
        )
    return setup


# Where a round document says what was asked.
_ASKED = tuple(zip(KINDS, ("pair", "probe", "rating", "menu"), strict=True))


def fold(
    setup: Setup,
    start: dict[str, Any],
    events: list[Event],
    person: Person | None = None,
    forced: dict[int, dict[str, Any]] | None = None,
) -> Folded:
    """Every event through `step` again. A simulated person is asked again too, so that they end up as they were.

    `forced` holds round documents by round: what the machine did in them is done again, whatever would be computed now.
    Another platform's last bits can tip a tie between two proposals; with the actions forced its numbers stay close.
    """
    computed = {*setup.record(), "schema", "person", "prior_only", "standing"}
    facts = {k: v for k, v in start.items() if k not in computed}
    session, effects = begin(setup, int(start["person"]), facts)
    session = _force(session, forced)
    documents = [e for e in effects if isinstance(e, Record)]
    for event in events:
        before = session
        if person and isinstance(event, Answer):
            person.answer(before.state, event.question)
        session, effects = step(setup, before, event)
        session = _force(session, forced)
        if person and has_outcome(event, session):
            person.saw(before.state, event.z)
        documents += [e for e in effects if isinstance(e, Record)]
    return Folded(session, documents, effects)


def _force(session: Session, forced: dict[int, dict[str, Any]] | None) -> Session:
    """The session with the machine's recorded actions of the round under way."""
    document = (forced or {}).get(session.state.round)
    if document is None or session.phase == "finished":
        return session
    state = session.state
    if document["proposal"] is not None:
        state = replace(state, proposal=np.array([document["proposal"]]))
    for kind, (name, key) in enumerate(_ASKED):
        if state.kind[0] >= 0 and document.get(name):
            state = replace(state, kind=np.array([kind]), asked=np.array([document[name][key]]))
    return replace(session, state=state)


def recorded_actions(entries: list[Entry]) -> dict[int, dict[str, Any]] | None:
    """The round documents by round where they come from another platform, None where they are our own."""
    start = entries[0].body or {}
    if start.get("platform") == platform_fingerprint():
        return None
    return {e.body["round"]: e.body for e in entries if e.type == "round" and e.body is not None}


def events_of(entries: list[Entry]) -> list[Event]:
    """The events among the entries, in order."""
    return [event_from_json(e.body) for e in entries if e.type == "event" and e.body is not None]


def missing_documents(entries: list[Entry], folded: Folded) -> list[Record]:
    """Documents that the events make but the journal has not: a runner was killed between event and document."""
    return folded.documents[sum(e.type in _DOCUMENTS for e in entries) :]


def differences(entries: list[Entry], folded: Folded) -> list[dict[str, Any]]:
    """Where the folded documents and the journal's differ: document, path, recorded and recomputed value."""
    recorded = [e for e in entries if e.type in _DOCUMENTS]
    same_platform = bool(recorded) and (recorded[0].body or {}).get("platform") == platform_fingerprint()
    tolerance = 0.0 if same_platform else _TOLERANCE
    found: list[dict[str, Any]] = []
    for number, (entry, record) in enumerate(zip(recorded, folded.documents, strict=False)):
        if entry.type != record.type:
            found.append({"document": number, "path": "type", "recorded": entry.type, "replayed": record.type})
            continue
        found += [{"document": number, **d} for d in _differ(entry.body, record.body, entry.type, tolerance)]
    # A run that goes on, or was killed, may lack documents at its end: they come, or `resume` writes them.
    is_open = not any(entry.type == "stop" for entry in recorded)
    if len(recorded) > len(folded.documents) or (len(recorded) < len(folded.documents) and not is_open):
        counts = {"recorded": len(recorded), "replayed": len(folded.documents)}
        found.append({"document": min(counts.values()), "path": "documents", **counts})
    return found


def _differ(a: Any, b: Any, path: str, tolerance: float) -> list[dict[str, Any]]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [d for k in keys for d in _differ(a.get(k), b.get(k), f"{path}.{k}", tolerance)]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in _differ(x, y, f"{path}[{i}]", tolerance)]
    if isinstance(a, float) and isinstance(b, float) and math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance):
        return []
    return [] if a == b else [{"path": path, "recorded": a, "replayed": b}]
