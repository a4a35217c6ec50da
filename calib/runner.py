"""The runner: the one small loop that owns port, clock, person and journal, and performs the session's effects.

It is a process of its own (`calib run`). Everything that may stop it comes in through one queue, and whoever stops it
(page, terminal, signal, crash) has the motors off before anything else happens. An event is in the journal before
the session sees it, so that a killed run goes on where it stood.
"""

import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np

from calib import documents
from calib.control import ControlServer
from calib.errors import JournalError
from calib.events import (
    CUT_SHORT,
    Answer,
    Apply,
    Arm,
    Ask,
    ChangedMind,
    CutShort,
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
    event_to_json,
)
from calib.journal import Journal
from calib.lead import Lead
from calib.outcomes import corrected
from calib.session import Session, begin, has_outcome, step, waiting_for
from calib.setup import Setup
from calib.state import State
from devices.device import Device, DeviceError, Progress, Refused, how_another, known_by
from firmware_bridge.link_state import retry_after_s

_TICK_S = 1.0
_WATCH_S = 0.05  # how often the leader's sign of life is looked for
_DOCUMENTS_AT_ONCE = 50  # in one answer


class Person(Protocol):
    """Somebody simulated: answers what is asked and sees what happened."""

    def answer(self, state: State, question: str) -> tuple[int, float] | None:
        """The answer and the seconds of attention that it took; None where they give up."""
        ...

    def patience_s(self, state: State) -> float:
        """Seconds of the run that is beginning after which they end it, inf where they may not."""
        ...

    def saw(self, state: State, z: tuple[float, ...]) -> None:
        """The outcome of a run."""
        ...


@dataclass(frozen=True)
class Run:
    """What a runner is made of. `person` is None where a human leads from a terminal or page."""

    run: str
    setup: Setup
    device: Device
    journal: Journal
    person: Person | None
    operator: Literal["automatic", "human"]  # who says `ready`: nobody needs to where the world is simulated
    pace: float | None  # robot seconds a second of the clock, 1 for hardware; None where the world is not waited for
    facts: dict[str, Any]
    tell: Callable[[str, dict[str, Any]], None]  # (kind, body): rounds, questions, faults, progress, for a terminal


class Runner:
    """One session on one robot."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.events: queue.Queue[Event] = queue.Queue()
        self.session: Session | None = None
        self._pending: Ask | Apply | None = None
        self._number = 0  # of the last question that was asked
        self._replied = 0  # of the last question that somebody has answered
        self._last_event_at = time.monotonic()
        self._next_try, self._tries = 0.0, 0
        self._lead = Lead()
        self._lead.ask(time.monotonic())
        self._path: tuple[int, list[tuple[float, float]]] = 0, []  # the how many'th drive, its way by odometry
        self._documents: list[dict[str, Any]] = []  # start and rounds, for a page that joins late
        self._moving = threading.Lock()  # held by whoever changes whether the robot may move
        self._may_move = False
        self._stop_asked_s: float | None = None  # of the first stop, by time.monotonic
        self._progress: Progress | None = None
        self._lock = threading.Lock()  # what is asked, whether it is answered, and who leads
        self.is_recording = False  # between an event and its documents in the journal
        self._ended = threading.Event()
        self.server = ControlServer(self._request, self._hung_up)

    # --- from any thread ------------------------------------------------------------------------------------------

    def stop(self, by: str, asked_s: float | None = None) -> None:
        """Robot first, then the session. From any thread or signal handler, any number of times.

        asked_s: when it was asked for, on the monotonic clock that the processes of a machine share.
        """
        heard_s = time.monotonic()
        self.run.device.stop()
        if self._stop_asked_s is None:
            self._stop_asked_s = heard_s if asked_s is None else min(asked_s, heard_s)
        self.events.put(Stop(by))

    def cut_short(self, by: str) -> None:
        """The run under way ends here, the session goes on. ValueError where there is none, or it may not be cut."""
        if not self.run.setup.learns_from_cuts:
            raise ValueError("runs of this session cannot be cut short (questions.cut_short); say stop to end it")
        if self.run.person is not None:
            raise ValueError("a simulated person watches the run; say stop to end it")
        with self._moving:
            if not self._may_move:
                raise ValueError("no run is under way")
            self.run.device.stop()
            self.events.put(CutShort(by))

    def post(self, event: Event) -> None:
        """An event from a terminal or page that answers no question: it gives up, changes its mind, takes the lead."""
        self.events.put(event)

    def reply(self, question: str, value: int, number: int, by: str) -> None:
        """The answer to the open question of this name and number, of which there is one. ValueError for any other.

        A question is answered once and by its number, so that an answer that was late, or sent twice, never answers
        the next question. Questions `ready` and `arm` have no value.
        """
        with self._lock:
            pending = self.pending()
            if pending is None or (pending.question, self._number) != (question, number):
                raise ValueError("that question is not open")
            if self.run.person is not None and question not in ("ready", "arm"):
                raise ValueError("a simulated person answers that")
            event: Event
            if question == "ready":
                event = Ready(self.attention_s(), 0.0)
            elif question == "arm":
                event = Arm(by)
            elif type(value) is int and 0 <= value < _num_answers(pending):
                event = Answer(pending.question, value, self.attention_s(), 0.0)
            else:
                raise ValueError(f"{value!r:.40} is no answer to it: give a whole number below {_num_answers(pending)}")
            self._replied = self._number
            if by == "terminal" and self._lead.is_lost:  # who sits here leads; else no run would ever start
                self._lead.give_to_terminal(time.monotonic())
                self.events.put(LeadHandedOver(by))
            self.events.put(event)

    def attention_s(self) -> float:
        """Seconds of attention that the open question has had."""
        return self._lead.attention_s(time.monotonic())

    def pending(self) -> Ask | None:
        """The question that waits for an answer."""
        return self._pending if isinstance(self._pending, Ask) and self._replied != self._number else None

    def asked(self) -> tuple[Ask | None, int]:
        """The question that waits for an answer, and its number."""
        with self._lock:
            return self.pending(), self._number

    def _request(self, request: dict[str, Any], client: str) -> dict[str, Any]:
        """One request of a control client."""
        what = request.get("do")
        if what == "stop":
            asked_s = request.get("asked_s")
            self.stop(f"client {client}", asked_s if type(asked_s) is float and math.isfinite(asked_s) else None)
            return {"ok": True, "run": self.run.run}
        with self._lock:
            self._lead.hear(client, time.monotonic())
        if what in ("status", "beat"):
            return {"ok": True, "status": self.status()}
        if what == "documents":
            first = _whole(request.get("from"))
            return {"ok": True, "documents": self._documents[first : first + _DOCUMENTS_AT_ONCE]}
        if what == "path":
            drive, path = self._path
            return {"ok": True, "drive": drive, "points": path[_whole(request.get("from")) :]}
        if what == "lead":
            return self._take_lead(request, client)
        if what in ("answer", "ready", "arm", "quit", "changed_mind", "cut_short", "visible"):
            if self._lead.client not in (None, client):
                return {"ok": False, "error": "another client leads; take the lead first"}
            return self._post_request(what, request, client)
        return {"ok": False, "error": f"no such request: {what!r}"}

    def _take_lead(self, request: dict[str, Any], client: str) -> dict[str, Any]:
        with self._lock:
            try:
                handed_over = self._lead.take(request, client, time.monotonic())
            except ValueError as error:
                return {"ok": False, "error": str(error)}
        if handed_over:
            self.post(LeadHandedOver(client))
        return {"ok": True, "client": client, "pending": self._shown()}

    def _watch_lead(self) -> None:
        """In a thread of its own: where the leader's sign of life stays away, the robot first, then the session."""
        while not self._ended.wait(_WATCH_S):
            with self._lock:
                reason = self._lead.miss(time.monotonic())
            self._stop_for_lead(reason)

    def _hung_up(self, client: str) -> None:
        """A client's connection is closed."""
        with self._lock:
            reason = None if self._ended.is_set() else self._lead.hang_up(client, time.monotonic())
        self._stop_for_lead(reason)

    def _stop_for_lead(self, reason: str | None) -> None:
        if reason is None:
            return
        with self._moving:
            if self._may_move:
                self.run.device.stop()
            self.events.put(LeadLost(reason))

    def _post_request(self, what: str, request: dict[str, Any], client: str) -> dict[str, Any]:
        if what == "quit":
            self.post(Quit())
        elif what == "visible":
            with self._lock:
                self._lead.show(request.get("visible") is not False, time.monotonic())
        elif what == "changed_mind":
            self.post(ChangedMind(str(request.get("note", ""))[:500]))
        else:
            question = request.get("question") if what == "answer" else what
            if question in ("ready", "arm") and what == "answer":
                return {"ok": False, "error": f"that question is not open to answers: say {question}"}
            try:
                if what == "cut_short":
                    self.cut_short(f"client {client}")
                else:
                    self.reply(str(question), request.get("value", 0), request.get("number", 0), f"client {client}")
            except ValueError as error:
                return {"ok": False, "error": str(error)}
        return {"ok": True}

    def status(self) -> dict[str, Any]:
        """What a watcher sees."""
        session = self.session
        if session is None:
            return {"run": self.run.run, "phase": "opening", "link": self.run.device.link._asdict()}
        estimate = session.state.estimate
        return {
            "run": self.run.run,
            "phase": session.phase,
            "round": session.state.round,
            "stop_reason": session.stop_reason,
            "degree": {
                "mean": float(estimate.mean[0]),
                "low": float(estimate.low[0]),
                "high": float(estimate.high[0]),
                "p_aligned": float(estimate.p_aligned[0]),
            },
            "pending": self._shown(),
            "progress": vars(self._progress) if self._progress else None,
            "context": self.run.setup.scenario.contexts[int(session.state.context[0])].name,
            "outcome": _seen(self.run.setup, session),
            "predicted": self._predicted(),
            "documents": len(self._documents),
            "lead": self._lead.client,
            "lead_silent": self._lead.is_lost,
            "link": self.run.device.link._asdict(),
        }

    def _shown(self) -> dict[str, Any] | None:
        pending, number = self.asked()
        return {"question": pending.question, "number": number, **pending.shown} if pending else None

    # --- the loop, in one thread ----------------------------------------------------------------------------------

    def go(self, resumed: Session | None, person_number: int) -> Session:
        """Run to the end and return the last session. DeviceError only from the first connection."""
        run = self.run
        threading.Thread(target=self._watch_lead, daemon=True, name="lead").start()
        try:
            identity = run.device.open()
            if resumed is None:
                session, effects = begin(run.setup, person_number, {**run.facts, "identity": identity})
            else:
                session, effects = resumed, waiting_for(run.setup, resumed)
                written = run.journal.entries(run.run, ["start", "round"])
                _refuse_another(written[0].body, identity)
                self._documents = [{"type": e.type, **e.body} for e in written if e.body is not None]
            self.session = session
            self._last_event_at = time.monotonic()
            self.is_recording = True
            self._perform(effects)
            self.is_recording = False
            self.server.publish(self.status())
            if session.phase in ("paused", "unarmed"):
                self._arm_resumed()
            while self.session.phase != "finished":
                event = self._next_event()
                if event is not None:
                    self._take(event)
            return self.session
        except BaseException as error:
            run.device.stop()
            self._close_after(error)
            raise
        finally:
            self._ended.set()
            run.device.close()
            self.server.publish(self.status())
            self.server.close()

    def _close_after(self, error: BaseException) -> None:
        """A closing record after a crash, as far as the journal still takes one."""
        if self.session is None or self.session.phase == "finished" or self.is_recording:
            return
        if isinstance(error, JournalError):  # perhaps a document is missing: resume writes it and goes on
            return
        with contextlib.suppress(Exception):
            self._take(Stop(f"crash: {type(error).__name__}: {error}"))

    def _take(self, event: Event) -> None:
        """Journal first, then the session, then the world."""
        assert self.session is not None
        self.is_recording = True
        self.run.journal.append(self.run.run, "event", event_to_json(event))
        before = self.session
        self.session, effects = step(self.run.setup, before, event)
        if (seen := _seen(self.run.setup, self.session)) and not before.round.reading:
            self.run.tell("outcome", seen)
        if self.run.person and has_outcome(event, self.session):
            self.run.person.saw(before.state, event.z)
        if isinstance(event, LinkLost):
            self._tries, self._next_try = 0, time.monotonic()
            self._pending = None
            self.run.tell("lost", {"reason": event.reason, "waits_s": self.run.setup.scenario.protocol.reconnect_s})
        self._perform(effects)
        self.is_recording = False
        self.server.publish(self.status())

    def _arm_resumed(self) -> None:
        """A run that was killed while its robot was lost: the robot answers, and saying `resume` is the arming."""
        assert self.session is not None
        if self.session.phase == "paused":
            self._take(LinkBack())
        self._take(Arm("resume"))

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Record():
                    self.run.journal.append(self.run.run, effect.type, effect.body)
                    if effect.type != "stop":
                        self._documents.append({"type": effect.type, **effect.body})
                    self.run.tell(effect.type, effect.body)
                case Disarm():
                    self.run.device.stop()
                    self._pending = None
                case Prepare():
                    context = self.run.setup.scenario.contexts[effect.context]
                    try:
                        self.run.device.prepare(context, effect.replicate)
                    except DeviceError as error:
                        self.events.put(LinkLost(str(error)))
                case Ask() | Apply():
                    with self._lock:
                        self._pending = effect
                        self._number += 1
                        self._lead.ask(time.monotonic())
                    if isinstance(effect, Ask):
                        shown = {"question": effect.question, "number": self._number, **effect.shown}
                        self.run.tell("ask", shown)
                case Finish():
                    self._pending = None

    def _next_event(self) -> Event | None:
        """The next thing that happens: what others posted comes first, then what is pending is done."""
        with contextlib.suppress(queue.Empty):
            return self._timed(self.events.get_nowait())
        pending, session = self._pending, self.session
        assert session is not None
        if isinstance(pending, Apply):
            return self._drive(pending)
        if session.phase in ("paused", "unarmed"):
            return self._wait_for_robot(session)
        if pending is not None and pending.question == "ready" and self.run.operator == "automatic":
            return self._timed(Ready(self.run.setup.scenario.effort_s["ready"], 0.0))
        if pending is not None and self.run.person is not None and pending.question != "ready":
            answer = self.run.person.answer(session.state, pending.question)
            if answer is None:
                return Quit()
            value, attention_s = answer
            if self.run.pace:
                self._sleep(attention_s / self.run.pace)
                if not self.events.empty():
                    return None
            return self._timed(Answer(pending.question, value, attention_s, 0.0))
        with contextlib.suppress(queue.Empty):
            return self._timed(self.events.get(timeout=_TICK_S))
        return None

    def _timed(self, event: Event) -> Event:
        """The event with its wall time since the one before: the real clock, or in virtual time what it took."""
        now = time.monotonic()
        since, self._last_event_at = now - self._last_event_at, now
        if not isinstance(event, Answer | Ready | Reading):
            return event
        took = event.robot_s if isinstance(event, Reading) else event.attention_s
        wall_s = since if self.run.person is None or self.run.pace == 1.0 else took
        return type(event)(**{**vars(event), "wall_s": wall_s})

    def _drive(self, effect: Apply) -> Event | None:
        """One run from its atomic start to its reading. A stop or a lost link ends it at once."""
        device, pace, person, session = self.run.device, self.run.pace, self.run.person, self.session
        assert session is not None
        patience_s = person.patience_s(session.state) if person else math.inf
        try:
            with self._moving:
                if not self.events.empty():  # whatever came since, nothing starts over it
                    return None
                if self._lead.is_lost:
                    return LeadLost("who leads has given no sign of life since the question")
                self._may_move, self._path = True, (self._path[0] + 1, [])
                # Before the start, which drives already: a robot on the wall clock is never ahead of it then, and is
                # not waited for. It would hear nothing meanwhile.
                begun = time.monotonic()
                readback = device.start(self.run.setup.settings[effect.setting])
            told, end = -1.0, None
            self._tell_running(effect)
            while end is None:
                event = None if self.events.empty() else self.events.get_nowait()
                if isinstance(event, Stop | Quit | LinkLost | LeadLost):
                    device.stop()
                    return self._stands(event) if isinstance(event, Stop) else event
                if event is not None:
                    self._take_aside(event)
                if isinstance(event, CutShort):
                    end = CUT_SHORT  # it stands already: `advance` only tells how far it came
                progress = self._progress = device.advance()
                self._path[1].append((round(progress.pose[0], 3), round(progress.pose[1], 3)))
                if progress.elapsed_s >= told + 1.0 or progress.done:
                    told = progress.elapsed_s
                    self.run.tell("progress", vars(progress))
                    if pace:
                        self.server.publish(self.status())
                if end is not None or (progress.done and self._ends_by_itself()):
                    break
                if progress.elapsed_s >= patience_s and not progress.done:
                    end = CUT_SHORT
                elif pace and device.rung != "hardware":
                    self._sleep(begun + progress.elapsed_s / pace - time.monotonic())
            context = int(session.state.context[0])
            outcome = corrected(self.run.setup.map, effect.setting, context, device.finish())
        except DeviceError as error:
            device.stop()
            return LinkLost(str(error))
        finally:
            with self._moving:
                self._may_move = False
        self._pending = None
        if outcome.end == "fault" and device.message:  # no outcome of these settings; the session is told why
            return LinkLost(f"the run ended by itself: {device.message}")
        beside = None if device.rung == "hardware" else outcome.reproducibility  # there is no simulator in a real home
        reading = Reading(
            z=tuple(float(v) for v in outcome.z),
            source=tuple(outcome.source),
            error=tuple(float(v) for v in outcome.error),
            end=CUT_SHORT if end and outcome.end == "stopped" else outcome.end,
            realised=readback.settings,
            how=dict(readback.how),
            robot_s=round(float(progress.elapsed_s), 6),  # as a population's clock says it, whatever the device adds up
            wall_s=0.0,
            reproducibility=None if beside is None else tuple(float(v) for v in beside),
        )
        return self._timed(reading)

    def _stands(self, stop: Stop) -> Stop:
        """The stop, with how long it took until a reading showed the robot still. One that does not show it is lost."""
        if self.run.device.rung == "simulator":  # has no wheels to wait for
            return stop
        try:
            self.run.device.finish()
        except DeviceError as error:
            self._take_aside(LinkLost(str(error)))
            return stop
        asked_s = self._stop_asked_s
        return stop if asked_s is None else Stop(stop.by, round(time.monotonic() - asked_s, 6))

    def _tell_running(self, effect: Apply) -> None:
        """Who may cut a run short is told what it is predicted to do."""
        if (predicted := self._predicted()) is not None:
            self.run.tell("running", {"setting": effect.setting, "predicted": predicted})

    def _predicted(self) -> list[dict[str, Any]] | None:
        """The outcome card of the run under way, where it may be cut short."""
        setup, session = self.run.setup, self.session
        if session is None or session.phase != "running" or not setup.learns_from_cuts:
            return None
        z = setup.map.z[session.state.commanded[0], session.state.context[0]].mean(axis=0)
        return documents.card(setup.scenario, z)

    def _ends_by_itself(self) -> bool:
        """Whether a run that is done was not ended by a stop whose event still waits to be taken. From here on it has
        ended: a leader that falls silent while its outcome is read spoils nothing."""
        with self._moving:
            self._may_move = self._may_move and not self.events.empty()
            return self.events.empty()

    def _take_aside(self, event: Event) -> None:
        """An event during a run that does not end it (a change of mind, of lead) keeps the run pending."""
        pending = self._pending
        self._take(event)
        self._pending = pending

    def _wait_for_robot(self, session: Session) -> Event | None:
        """Reconnect with back-off; nothing is armed by it. Time that passes is an event, for the time-out."""
        now = time.monotonic()
        if session.phase == "paused" and now >= self._next_try:
            self._tries += 1
            self._next_try = now + retry_after_s(self._tries)
            try:
                self.run.device.open()
                return LinkBack()
            except DeviceError as error:
                self.run.tell("retry", {"reason": str(error)})
        begun = time.monotonic()
        wait_s = min(_TICK_S, max(self._next_try - begun, 0.0)) if session.phase == "paused" else _TICK_S
        with contextlib.suppress(queue.Empty):
            return self._timed(self.events.get(timeout=wait_s))
        return Tick(time.monotonic() - begun)

    def _sleep(self, seconds: float) -> None:
        """Sleep in pieces, so that whatever is posted is seen soon."""
        until = time.monotonic() + seconds
        while self.events.empty() and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.02))


def _refuse_another(start: dict[str, Any] | None, identity: dict[str, str]) -> None:
    """A run goes on with the robot that it began with: outcomes of two robots would stand in one history."""
    before = (start or {}).get("identity") or {}
    if how := how_another(known_by(before), known_by(identity)):
        raise Refused(f"another robot answers, {how}: put the first one back, or begin a new run")


def _seen(setup: Setup, session: Session) -> dict[str, Any] | None:
    """What the person has seen of this round's run, or of the card instead of it; None before. A run that was cut short
    has no card."""
    reading = session.round.reading
    if reading is None:
        return None
    shown = None if reading.is_cut_short else documents.card(setup.scenario, np.array(reading.z))
    return {"card": shown, "end": reading.end}


def _whole(value: Any) -> int:
    """A whole number from 0; 0 for anything else."""
    return value if type(value) is int and value >= 0 else 0


def _num_answers(ask: Ask) -> int:
    """How many answers a question has: 0, 1, ... below it. The proposal comes after the modes."""
    if ask.question == "choice":
        return len(ask.shown["modes"]) + (ask.shown["proposal"] is not None)
    for several in ("values", "grades", "cards"):
        if several in ask.shown:
            return len(ask.shown[several])
    return {"comparison": 3, "good_enough": 2, "change": 3}.get(ask.question, 0)
