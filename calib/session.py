"""The session: `step(setup, session, event) -> session, effects`, the thin event shell over calib/rounds.py.

Pure: no clock, no port, no person, no truth. What the world has to do comes out as effects; what the world did comes in
as events (calib/events.py). Folding the journal's events through `step` gives the same documents again.

    choosing -> (operator) -> running -> asking -> (wondering) -> satisfied -> ...   any -> paused -> unarmed ...
    running -> unarmed where the person who leads has gone silent
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, TypeGuard

import numpy as np

from calib import change, documents, rounds
from calib.events import (
    Answer,
    Apply,
    Arm,
    Ask,
    ChangedMind,
    Disarm,
    Effect,
    Event,
    Finish,
    LeadHandedOver,
    LeadLost,
    LinkBack,
    LinkLost,
    Prepare,
    Quit,
    Reading,
    Ready,
    Record,
    Stop,
    Tick,
)
from calib.questions import KINDS
from calib.setup import Setup
from calib.state import State
from devices.home.types import OUTCOMES

Phase = Literal["choosing", "operator", "running", "asking", "wondering", "satisfied", "paused", "unarmed", "finished"]
_QUESTION = {
    "choosing": "choice",
    "operator": "ready",
    "wondering": "change",
    "satisfied": "good_enough",
}


@dataclass(frozen=True, eq=False)
class Session:
    """One live session: a batch of one, the phase, and what the round under way has gathered for its document."""

    phase: Phase
    state: State
    round: documents.RoundNotes
    interrupted: Phase | None = None  # what a lost link interrupted
    lost_for_s: float = 0.0
    awaits_lead: bool = False  # unarmed because who leads went silent: that has no time-out, the robot is well
    stop_reason: str | None = None
    completed: int = 0  # rounds whose document is written
    marks: tuple[dict[str, Any], ...] = ()  # faults, changes of mind and of lead, each with its round


def begin(setup: Setup, person: int, facts: dict[str, Any]) -> tuple[Session, list[Effect]]:
    """A new session of person number `person`; `facts` (device, kind, identity, ...) go into the start document."""
    state = rounds.begin_session(setup, np.array([person]))
    session = Session("choosing", state, documents.RoundNotes())
    start = Record("start", documents.start(setup, state, person, facts))
    session, effects = _next_round(setup, session)
    return session, [start, *effects]


def step(setup: Setup, session: Session, event: Event) -> tuple[Session, list[Effect]]:
    """The session after one event, and what the world is to do. An event that does not fit changes nothing."""
    if session.phase == "finished":
        return session, []
    match event:
        case Stop():
            took = {} if event.stop_latency_s is None else {"stop_latency_s": event.stop_latency_s}
            return _finish(setup, session, "stopped", {"by": event.by, **took})
        case Quit():
            return _finish(setup, session, event.reason, {})
        case LinkLost():
            return _lost(session, event)
        case LeadLost():
            return _lead_lost(setup, session, event)
        case Tick():
            return _tick(setup, session, event)
        case LinkBack() if session.phase == "paused":
            # from here on it is the operator who is waited for, as long again
            return replace(session, phase="unarmed", lost_for_s=0.0), [Disarm(), _ask_arm(setup, session)]
        case Arm() if session.phase == "unarmed":
            return _armed(setup, session)
        case ChangedMind() | LeadHandedOver():
            mark = {"mark": type(event).__name__, "round": session.state.round, **vars(event)}
            state = change.volunteered(session.state) if isinstance(event, ChangedMind) else session.state
            return replace(session, state=state, marks=(*session.marks, mark)), []
        case Ready() if session.phase == "operator":
            state = rounds.spend(session.state, attention_s=event.attention_s, wall_s=event.wall_s, effort=1.0)
            return _run(setup, replace(session, state=state))
        case Reading() if session.phase == "running":
            return _reading(setup, session, event)
        case Answer() if _open_question(session) == event.question:
            return _answer(setup, session, event)
    return session, []


def has_outcome(event: Event, after: Session) -> TypeGuard[Reading]:
    """Whether an event shows the person what the run did; `after` is the session that has taken it."""
    return isinstance(event, Reading) and not event.is_cut_short and after.phase != "paused"


def waiting_for(setup: Setup, session: Session) -> list[Effect]:
    """The effects that a resumed session has to perform again to go on where it stood. Nothing here moves by itself:
    a run under way is asked for anew by Apply, and the runner only resumes when its user says so."""
    prepare = _prepare(session.state)
    if session.phase == "choosing":
        return [prepare, _offer(setup, session)]
    if session.phase == "running":
        return [prepare, _apply(session.state)]
    if session.phase == "operator":
        return [prepare, Ask("ready", {})]
    if session.phase == "asking":
        return [prepare, _question(setup, session)]
    if session.phase == "wondering":
        return [prepare, Ask("change", change.shown(session.state))]
    if session.phase == "satisfied":
        return [prepare, Ask("good_enough", documents.standing(setup, session.state))]
    if session.phase == "unarmed":
        return [_ask_arm(setup, session)]
    return []


def _next_round(setup: Setup, session: Session) -> tuple[Session, list[Effect]]:
    state = rounds.begin_round(setup, session.state)
    session = replace(session, phase="choosing", state=state, round=documents.RoundNotes(f_hat=state.f_hat))
    return session, [_prepare(state), _offer(setup, session)]


def _prepare(state: State) -> Prepare:
    return Prepare(int(state.context[0]), int(state.replicate[0]))


def _offer(setup: Setup, session: Session) -> Ask:
    return Ask("choice", documents.offer(setup, session.state))


def _apply(state: State) -> Apply:
    return Apply(int(state.commanded[0]))


def _ask_arm(setup: Setup, session: Session) -> Ask:
    within_s = None if session.awaits_lead else setup.scenario.protocol.reconnect_s
    reasons = [mark["reason"] for mark in session.marks if "reason" in mark]
    return Ask("arm", {"within_s": within_s, "reason": reasons[-1]})


def _question(setup: Setup, session: Session) -> Ask:
    kind, asked = int(session.state.kind[0]), int(session.state.asked[0])
    return Ask(KINDS[kind], documents.question(setup, kind, asked))


def _open_question(session: Session) -> str | None:
    if session.phase == "asking":
        return KINDS[session.state.kind[0]]
    return _QUESTION.get(session.phase)


def _answer(setup: Setup, session: Session, event: Answer) -> tuple[Session, list[Effect]]:
    value = np.array([event.value])
    times = np.array([event.attention_s]), np.array([event.wall_s])
    notes = session.round
    if event.question == "choice":
        if not 0 <= event.value < rounds.options(setup, session.state).shape[1]:
            return session, []
        state = rounds.chosen(setup, session.state, value, *times)
        notes = replace(notes, option=event.value)
        session = replace(session, state=state, round=notes)
        protocol = setup.scenario.protocol
        if not rounds.is_run(setup, state.round):
            return _card_instead_of_run(setup, session)
        if protocol.ready:
            return replace(session, phase="operator"), [Ask("ready", {})]
        return _run(setup, session)
    if session.phase == "asking":
        if not 0 <= event.value < rounds.num_answers(setup, session.state):
            return session, []
        state = rounds.answered(setup, session.state, int(session.state.kind[0]), value, *times)
        return _measure(setup, replace(session, state=state, round=replace(notes, answer=event.value)))
    if event.question == "change":
        if not 0 <= event.value < len(change.ANSWERS):
            return session, []
        return _satisfied(setup, replace(session, state=rounds.change_told(setup, session.state, value, *times)))
    if event.value not in (0, 1):
        return session, []
    state = rounds.good_enough(session.state, value, *times)
    return _end_round(setup, replace(session, state=state))


def _run(setup: Setup, session: Session) -> tuple[Session, list[Effect]]:
    return replace(session, phase="running"), [_apply(session.state)]


def _card_instead_of_run(setup: Setup, session: Session) -> tuple[Session, list[Effect]]:
    """A round without a run: the person sees the card of the map's mean outcome."""
    state = session.state
    z = setup.map.z[state.commanded[0], state.context[0]].mean(axis=0)
    reading = Reading(
        z=tuple(float(v) for v in z),
        source=("modelled",) * len(OUTCOMES),
        error=(0.0,) * len(OUTCOMES),
        end="card",
        realised=None,
        how={},
        robot_s=0.0,
        wall_s=0.0,
    )
    return _reading(setup, session, reading)


def _reading(setup: Setup, session: Session, event: Reading) -> tuple[Session, list[Effect]]:
    if event.end in ("fault", "stopped"):  # no outcome of these settings: nobody learns from it
        return _lost(session, LinkLost(f"the run ended by itself: {event.end}"))
    z, robot_s, wall_s = (np.array([v], dtype=np.float64) for v in (event.z, event.robot_s, event.wall_s))
    state = rounds.outcome(setup, session.state, z, robot_s, wall_s, np.array([event.is_cut_short]))
    state = rounds.question(setup, state)
    session = replace(session, state=state, round=replace(session.round, reading=event))
    if state.kind[0] >= 0:
        return replace(session, phase="asking"), [_question(setup, session)]
    return _measure(setup, session)


def _measure(setup: Setup, session: Session) -> tuple[Session, list[Effect]]:
    state = rounds.measure(setup, session.state)
    session = replace(session, state=state)
    if change.asks(setup, state)[0]:
        return replace(session, phase="wondering"), [Ask("change", change.shown(state))]
    return _satisfied(setup, session)


def _satisfied(setup: Setup, session: Session) -> tuple[Session, list[Effect]]:
    state = session.state
    if rounds.asks_good_enough(setup, state.round):
        return replace(session, phase="satisfied"), [Ask("good_enough", documents.standing(setup, state))]
    return _end_round(setup, session)


def _end_round(setup: Setup, session: Session) -> tuple[Session, list[Effect]]:
    record = Record("round", documents.round_document(setup, session.state, session.round))
    session = replace(session, completed=session.state.round)
    reason = str(rounds.finished(setup, session.state)[0])
    if reason:
        session, effects = _finish(setup, session, reason, {})
    else:
        session, effects = _next_round(setup, session)
    return session, [record, *effects]


def _finish(setup: Setup, session: Session, reason: str, detail: dict[str, Any]) -> tuple[Session, list[Effect]]:
    session = replace(session, phase="finished", stop_reason=reason)
    body = documents.stop(setup, session.state, session.completed, reason, detail, session.marks)
    return session, [Disarm(), Record("stop", body), Finish(reason)]


def _lost(session: Session, event: LinkLost) -> tuple[Session, list[Effect]]:
    mark = {"mark": "LinkLost", "round": session.state.round, "reason": event.reason}
    session = replace(session, marks=(*session.marks, mark), awaits_lead=False)
    if session.phase in ("paused", "unarmed"):
        return replace(session, phase="paused"), [Disarm()]
    return replace(session, phase="paused", interrupted=session.phase, lost_for_s=0.0), [Disarm()]


def _lead_lost(setup: Setup, session: Session, event: LeadLost) -> tuple[Session, list[Effect]]:
    """A run that nobody watches any more is over; it begins again when somebody arms it. A question waits anyway."""
    mark = {"mark": "LeadLost", "round": session.state.round, "reason": event.reason}
    session = replace(session, marks=(*session.marks, mark))
    if session.phase != "running":
        return session, []
    session = replace(session, phase="unarmed", interrupted="running", awaits_lead=True)
    return session, [Disarm(), _ask_arm(setup, session)]


def _tick(setup: Setup, session: Session, event: Tick) -> tuple[Session, list[Effect]]:
    """Only waiting for a lost robot, and then for somebody to arm it, has a time-out."""
    if session.phase not in ("paused", "unarmed") or session.awaits_lead:
        return session, []
    waited = session.lost_for_s + event.elapsed_s
    session = replace(session, lost_for_s=waited)
    if waited >= setup.scenario.protocol.reconnect_s:
        return _finish(setup, session, "device_failure", {"waited_s": waited})
    return session, []


def _armed(setup: Setup, session: Session) -> tuple[Session, list[Effect]]:
    phase = session.interrupted or "choosing"
    session = replace(session, phase=phase, interrupted=None, lost_for_s=0.0, awaits_lead=False)
    return session, waiting_for(setup, session)
