"""The session is a pure machine: whatever happens in whatever order, the robot moves only when it may."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

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
    event_from_json,
    event_to_json,
)
from calib.replay import fold
from calib.session import Session, begin, step, waiting_for
from calib.setup import Setup
from devices.home.types import OUTCOMES

Make = Callable[..., Setup]
FACTS = {"kind": "simulated", "device": "simvac"}
QUESTIONS = {"choosing": "choice", "asking": "comparison", "satisfied": "good_enough"}


def reading(setup: Setup, session: Session, end: str = "finished") -> Reading:
    """What the made-up robot reports of the run under way: the map's replicate."""
    state = session.state
    s, x, k = int(state.commanded[0]), int(state.context[0]), int(state.replicate[0])
    z = setup.map.z[s, x, k]
    seconds = round(float(z[OUTCOMES.index("duration")]) * 60, 6)
    zero = (0.0,) * len(OUTCOMES)
    source = ("simulated",) * len(OUTCOMES)
    return Reading(tuple(map(float, z)), source, zero, end, setup.settings[s], {"fan": "read back"}, seconds, seconds)


def fitting(setup: Setup, session: Session, value: int = 0) -> Event:
    """The event that the session waits for."""
    if session.phase == "running":
        return reading(setup, session)
    if session.phase == "operator":
        return Ready(5.0, 6.0)
    if session.phase == "paused":
        return LinkBack()
    if session.phase == "unarmed":
        return Arm("operator")
    question: Any = QUESTIONS[session.phase]
    return Answer(question, value, 3.0, 4.0)


def play(setup: Setup, events: list[Event]) -> tuple[Session, list[Effect]]:
    """All effects of a list of events."""
    session, effects = begin(setup, 3, FACTS)
    for event in events:
        session, more = step(setup, session, event)
        effects = effects + more
    return session, effects


def advance(setup: Setup, session: Session, phase: str) -> tuple[Session, list[Event]]:
    """Fitting events until the session is in a phase."""
    events: list[Event] = []
    while session.phase != phase:
        events.append(fitting(setup, session))
        session, _ = step(setup, session, events[-1])
    return session, events


def frozen(session: Session) -> str:
    """Everything in a session, byte for byte."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [str(value.dtype), value.shape, value.tobytes().hex()]
        if hasattr(value, "_asdict"):
            return {k: plain(v) for k, v in value._asdict().items()}
        if hasattr(value, "__dataclass_fields__"):
            return {k: plain(getattr(value, k)) for k in value.__dataclass_fields__}
        if isinstance(value, tuple | list):
            return [plain(v) for v in value]
        return value

    return json.dumps(plain(session), default=str, sort_keys=True)


def kinds(effects: list[Effect]) -> list[str]:
    return [f"{type(e).__name__}({e.type})" if isinstance(e, Record) else type(e).__name__ for e in effects]


def test_a_session_as_a_transcript(lab: Make) -> None:
    """One round, event by event, with what the world is asked to do."""
    setup = lab(seed=4, max_rounds=2, protocol={"ready": True})
    session, effects = begin(setup, 3, FACTS)
    assert kinds(effects) == ["Record(start)", "Prepare", "Ask"]
    assert effects[2].question == "choice" and effects[2].shown["proposal"] is not None  # type: ignore[union-attr]
    transcript: list[tuple[Event, list[str]]] = [
        (Answer("choice", setup.num_modes, 5, 5), ["Ask"]),
        (Ready(10, 10), ["Apply"]),
    ]
    for event, expected in transcript:
        session, effects = step(setup, session, event)
        assert kinds(effects) == expected
    assert effects == [Apply(int(session.state.proposal[0]))]
    session, effects = step(setup, session, reading(setup, session))
    assert kinds(effects) == ["Ask"] and effects[0].question == "comparison"  # type: ignore[union-attr]
    session, effects = step(setup, session, Answer("comparison", 2, 5, 5))
    assert kinds(effects) == ["Record(round)", "Prepare", "Ask"]
    body = effects[0].body  # type: ignore[union-attr]
    assert body["round"] == 1 and body["accepted"] and body["comparison"]["answer"] == 2
    assert body["clocks"]["attention_s"] == 5 + 10 + 5 and body["clocks"]["effort"] == 3
    assert body["clocks"]["robot_s"] == pytest.approx(body["outcome"]["duration"]["value"] * 60)
    for event in (Answer("choice", 0, 5, 5), Ready(10, 10)):
        session, effects = step(setup, session, event)
    session, _ = step(setup, session, reading(setup, session))
    session, effects = step(setup, session, Answer("comparison", 0, 5, 5))
    assert kinds(effects) == ["Ask"] and effects[0].question == "good_enough"  # type: ignore[union-attr]
    session, effects = step(setup, session, Answer("good_enough", 1, 5, 5))
    assert kinds(effects) == ["Record(round)", "Disarm", "Record(stop)", "Finish"]
    assert effects[-1] == Finish("max_rounds") and session.phase == "finished"


def test_a_round_without_a_run_shows_the_card(lab: Make) -> None:
    """run_every = 3: a run in rounds 1 and 4, the mean outcome of the map in the others, and nothing moves there."""
    setup = lab(role="tool", protocol={"run_every": 3, "questions_per_round": 0}, max_rounds=4)
    session, effects = begin(setup, 3, FACTS)
    applied = []
    while session.phase != "finished":
        number = session.state.round
        session, effects = step(setup, session, fitting(setup, session))
        applied += [number for e in effects if isinstance(e, Apply)]
        for record in effects:
            if isinstance(record, Record) and record.type == "round" and record.body["end"] == "card":
                body = record.body
                names = [c.name for c in setup.scenario.contexts]
                mean = setup.map.z[body["setting"], names.index(body["context"])].mean(axis=0)
                assert [v["value"] for v in body["outcome"].values()] == pytest.approx(mean.tolist())
                assert body["realised"] is None and body["gaps"]["execution"] is None
    assert applied == [1, 4]


def test_a_stop_of_an_older_journal_tells_no_latency() -> None:
    assert event_from_json({"event": "Stop", "by": "x"}) == Stop("x")


def test_a_stop_tells_how_long_the_robot_took(lab: Make) -> None:
    setup = lab()
    session, _ = begin(setup, 3, FACTS)
    for stop, detail in ((Stop("x"), {"by": "x"}), (Stop("x", 0.25), {"by": "x", "stop_latency_s": 0.25})):
        _, effects = step(setup, session, stop)
        assert [e.body["detail"] for e in effects if isinstance(e, Record)] == [detail]


@pytest.mark.parametrize("phase", ["choosing", "operator", "running", "asking", "satisfied", "paused", "unarmed"])
@pytest.mark.parametrize("event", [Stop("page"), Quit()])
def test_stop_and_quit_disarm_first_in_any_phase(lab: Make, phase: str, event: Stop | Quit) -> None:
    setup = lab(protocol={"ready": True})
    session, _ = begin(setup, 3, FACTS)
    if phase in ("paused", "unarmed"):
        session, _ = advance(setup, session, "running")
        session, _ = step(setup, session, LinkLost("cable"))
        if phase == "unarmed":
            session, _ = step(setup, session, LinkBack())
    else:
        session, _ = advance(setup, session, phase)
    assert session.phase == phase
    session, effects = step(setup, session, event)
    reason = "stopped" if isinstance(event, Stop) else "gave_up"
    assert kinds(effects) == ["Disarm", "Record(stop)", "Finish"]
    assert effects[1].body["reason"] == effects[2].reason == session.stop_reason == reason  # type: ignore[union-attr]
    for late in (event, Arm("x"), LinkBack(), Tick(100.0), Answer("choice", 0, 1, 1)):
        assert step(setup, session, late) == (session, [])


@pytest.mark.parametrize("phase", ["choosing", "operator", "running", "asking", "satisfied"])
def test_a_lost_link_disarms_and_an_armed_session_goes_on_where_it_was(lab: Make, phase: str) -> None:
    setup = lab(protocol={"ready": True})
    session, _ = begin(setup, 3, FACTS)
    before, _ = advance(setup, session, phase)
    session, effects = step(setup, before, LinkLost("cable"))
    assert (session.phase, effects) == ("paused", [Disarm()])
    assert step(setup, session, Arm("too early")) == (session, [])
    session, effects = step(setup, session, LinkBack())
    assert (session.phase, effects) == ("unarmed", [Disarm(), Ask("arm", {"within_s": 30.0, "reason": "cable"})])
    session, effects = step(setup, session, Arm("operator"))
    assert session.phase == phase
    assert effects == waiting_for(setup, before)
    assert kinds(effects) == ["Prepare", "Apply" if phase == "running" else "Ask"]
    assert frozen(session).replace(json.dumps(list(session.marks)), "") != ""
    assert session.state is before.state, "a fault changes no number"


def test_losing_the_link_again_while_unarmed_asks_for_a_new_arm(lab: Make) -> None:
    setup = lab()
    session, _ = advance(setup, begin(setup, 3, FACTS)[0], "running")
    for event in (LinkLost("a"), LinkBack(), LinkLost("b")):
        session, effects = step(setup, session, event)
    assert (session.phase, effects) == ("paused", [Disarm()])
    assert step(setup, session, Arm("operator")) == (session, [])
    session, _ = step(setup, session, LinkBack())
    session, effects = step(setup, session, Arm("operator"))
    assert kinds(effects) == ["Prepare", "Apply"]


@pytest.mark.parametrize("phase", ["choosing", "operator", "asking", "satisfied"])
def test_a_silent_leader_leaves_a_question_open(lab: Make, phase: str) -> None:
    setup = lab(protocol={"ready": True})
    before, _ = advance(setup, begin(setup, 3, FACTS)[0], phase)
    session, effects = step(setup, before, LeadLost("silent"))
    assert (session.phase, effects, session.state) == (phase, [], before.state)
    assert session.marks == ({"mark": "LeadLost", "round": before.state.round, "reason": "silent"},)


def test_a_silent_leader_ends_a_run_until_somebody_arms_it(lab: Make) -> None:
    setup = lab()
    before, _ = advance(setup, begin(setup, 3, FACTS)[0], "running")
    session, effects = step(setup, before, LeadLost("silent"))
    assert (session.phase, effects) == ("unarmed", [Disarm(), Ask("arm", {"within_s": None, "reason": "silent"})])
    waiting, effects = step(setup, session, Tick(1e6))
    assert (waiting.phase, effects) == ("unarmed", []), "the robot is well: nobody's absence is a device failure"
    lost, _ = step(setup, waiting, LinkLost("cable"))
    back, effects = step(setup, lost, LinkBack())
    assert effects[1] == Ask("arm", {"within_s": 30.0, "reason": "cable"}), "a lost robot has a time-out again"
    for session in (waiting, back):
        session, effects = step(setup, session, Arm("page"))
        assert (session.phase, kinds(effects)) == ("running", ["Prepare", "Apply"])
        assert session.state is before.state


@pytest.mark.parametrize("end", ["fault", "stopped"])
def test_a_run_that_ended_by_itself_teaches_nothing(lab: Make, end: str) -> None:
    setup = lab()
    before, _ = advance(setup, begin(setup, 3, FACTS)[0], "running")
    session, effects = step(setup, before, reading(setup, before, end))
    assert (session.phase, effects) == ("paused", [Disarm()])
    assert session.state is before.state
    assert session.marks[-1]["mark"] == "LinkLost"


def test_a_lost_robot_is_waited_for_and_then_given_up(lab: Make) -> None:
    setup = lab()
    limit = setup.scenario.protocol.reconnect_s
    session, _ = advance(setup, begin(setup, 3, FACTS)[0], "asking")
    assert step(setup, session, Tick(10 * limit)) == (session, []), "only waiting for a robot has a time-out"
    session, _ = step(setup, session, LinkLost("cable"))
    session, effects = step(setup, session, Tick(limit - 0.5))
    assert (session.phase, effects) == ("paused", [])
    session, effects = step(setup, session, Tick(0.5))
    assert kinds(effects) == ["Disarm", "Record(stop)", "Finish"]
    assert effects[2] == Finish("device_failure")
    assert effects[1].body["time"]["declared"]["event"] in (1, 3)  # type: ignore[union-attr]


def test_the_wait_starts_anew_after_a_robot_was_armed(lab: Make) -> None:
    setup = lab()
    limit = setup.scenario.protocol.reconnect_s
    session, _ = advance(setup, begin(setup, 3, FACTS)[0], "asking")
    for event in (LinkLost("a"), Tick(0.9 * limit), LinkBack(), Arm("operator"), LinkLost("b"), Tick(0.9 * limit)):
        session, _ = step(setup, session, event)
    assert session.phase == "paused"


@pytest.mark.parametrize(
    ("phase", "event"),
    [
        ("choosing", Answer("choice", -1, 1, 1)),
        ("choosing", Answer("choice", 5, 1, 1)),
        ("choosing", Answer("comparison", 0, 1, 1)),
        ("choosing", Ready(1, 1)),
        ("choosing", LinkBack()),
        ("choosing", Arm("operator")),
        ("running", Answer("choice", 0, 1, 1)),
        ("asking", Answer("comparison", 3, 1, 1)),
        ("asking", Answer("good_enough", 1, 1, 1)),
        ("satisfied", Answer("good_enough", 2, 1, 1)),
        ("satisfied", Answer("good_enough", -1, 1, 1)),
    ],
)
def test_an_event_that_does_not_fit_changes_nothing(lab: Make, phase: str, event: Event) -> None:
    setup = lab()
    session, _ = advance(setup, begin(setup, 3, FACTS)[0], phase)
    assert step(setup, session, event) == (session, [])


def test_a_tool_proposes_nothing_so_that_no_proposal_can_be_accepted(lab: Make) -> None:
    setup = lab(role="tool")
    session, effects = begin(setup, 3, FACTS)
    assert effects[2].shown["proposal"] is None  # type: ignore[union-attr]
    assert step(setup, session, Answer("choice", setup.num_modes, 1, 1)) == (session, [])


@pytest.mark.parametrize(("rule_name", "reason"), [("accepted", "accepted"), ("declared", "declared")])
def test_the_protocol_stops_at_its_rule(lab: Make, rule_name: str, reason: str) -> None:
    setup = lab(stop_rule=rule_name, max_rounds=6)
    session, _ = begin(setup, 3, FACTS)
    if rule_name == "declared":
        from dataclasses import replace

        setup = replace(setup, scenario=replace(setup.scenario, delta=0.999))
    while session.phase != "finished":
        session, effects = step(setup, session, fitting(setup, session, 1))
    assert session.stop_reason == reason
    stop = effects[-2].body  # type: ignore[union-attr]
    expected = 2 if rule_name == "accepted" else 1
    assert (
        stop["rounds"] == expected and stop["time"][reason]["event"] == 1 and stop["time"][reason]["rounds"] == expected
    )


def test_marks_carry_their_round_and_change_no_number(lab: Make) -> None:
    setup = lab()
    before, _ = advance(setup, begin(setup, 3, FACTS)[0], "asking")
    session = before
    for event in (ChangedMind("quieter"), LeadHandedOver("page")):
        session, effects = step(setup, session, event)
        assert effects == [] and session.phase == "asking"
    assert session.state is before.state
    assert session.marks == (
        {"mark": "ChangedMind", "round": 1, "note": "quieter"},
        {"mark": "LeadHandedOver", "round": 1, "to": "page"},
    )
    _, effects = step(setup, session, Stop("x"))
    assert effects[1].body["marks"] == list(session.marks)  # type: ignore[union-attr]


numbers = st.floats(0, 1e4, allow_nan=False)
any_answer = st.builds(
    Answer,
    st.sampled_from(["choice", "comparison", "good_enough", "ready", "arm"]),
    st.integers(-2, 9),
    numbers,
    numbers,
)
any_event: st.SearchStrategy[Event] = st.one_of(
    any_answer,
    st.builds(Ready, numbers, numbers),
    st.builds(Stop, st.text(max_size=5)),
    st.builds(Quit),
    st.builds(LinkLost, st.text(max_size=5)),
    st.just(LinkBack()),
    st.builds(Arm, st.text(max_size=5)),
    st.builds(ChangedMind, st.text(max_size=5)),
    st.builds(LeadHandedOver, st.text(max_size=5)),
    st.builds(LeadLost, st.text(max_size=5)),
    st.builds(Tick, st.floats(0, 12, allow_nan=False)),
)


class AnyEvents(RuleBasedStateMachine):
    """Random events, fitting and not, against the promises of the session."""

    make: Make

    @initialize(
        role=st.sampled_from(["tool", "advisor"]),
        ready=st.booleans(),
        run_every=st.sampled_from([1, 2]),
        questions=st.integers(0, 1),
        stop_rule=st.sampled_from(["max_rounds", "accepted"]),
        seed=st.integers(0, 50),
    )
    def begins(self, role: str, ready: bool, run_every: int, questions: int, stop_rule: str, seed: int) -> None:
        protocol = {"ready": ready, "run_every": run_every, "questions_per_round": questions}
        self.setup = self.make(
            role=role, stop_rule=stop_rule, seed=seed, max_rounds=3, num_particles=64, protocol=protocol
        )
        self.session, effects = begin(self.setup, 3, FACTS)
        self.events: list[Event] = []
        self.documents = [e for e in effects if isinstance(e, Record)]
        self.start = self.documents[0].body
        self.may_move = True  # False from LinkLost until an Arm after a LinkBack
        self.link_back = True
        self.waited = 0.0

    def take(self, event: Event) -> None:
        before, image = self.session, frozen(self.session)
        self.session, effects = step(self.setup, before, event)
        self.events.append(event)
        # pure: the old session is untouched and gives the same again
        assert frozen(before) == image
        again, same = step(self.setup, before, event)
        assert frozen(again) == frozen(self.session)
        assert kinds(same) == kinds(effects)
        self.watch(before, event, effects)
        self.documents += [e for e in effects if isinstance(e, Record)]

    def watch(self, before: Session, event: Event, effects: list[Effect]) -> None:
        if before.phase == "finished":
            assert effects == [] and self.session is before
            return
        lost = isinstance(event, LinkLost) or (
            isinstance(event, Reading) and event.end == "fault" and before.phase == "running"
        )
        if isinstance(event, Stop | Quit):
            assert kinds(effects) == ["Disarm", "Record(stop)", "Finish"]
        elif lost:
            self.may_move, self.link_back = False, False
            assert effects == [Disarm()]
        elif isinstance(event, LinkBack):
            self.link_back = True
        elif isinstance(event, Arm) and self.link_back:
            self.may_move, self.waited = True, 0.0
        elif isinstance(event, Tick) and not self.may_move:
            self.waited += event.elapsed_s
            timed_out = self.waited >= self.setup.scenario.protocol.reconnect_s
            assert (self.session.stop_reason == "device_failure") == timed_out
        if any(isinstance(e, Apply) for e in effects):
            assert self.may_move
            assert self.session.phase == "running"
            assert isinstance(event, Answer | Ready | Arm)
        if not effects and self.session.marks == before.marks and not isinstance(event, Tick | LinkBack | Arm):
            assert self.session is before, "what does not fit changes nothing"
        for at, effect in enumerate(effects):
            if isinstance(effect, Finish):
                assert kinds(effects[at - 2 : at]) == ["Disarm", "Record(stop)"]

    @rule(event=any_event)
    def anything_happens(self, event: Event) -> None:
        if isinstance(event, Stop | Quit) and len(self.events) % 4:
            return  # sessions that go on are worth more
        self.take(event)

    @rule(value=st.integers(0, 2), times=st.integers(1, 6))
    def what_it_waits_for(self, value: int, times: int) -> None:
        for _ in range(times):
            if self.session.phase != "finished":
                self.take(fitting(self.setup, self.session, value % 2 if self.session.phase == "satisfied" else value))

    @rule(end=st.sampled_from(["finished", "run_limit", "fault"]))
    def a_reading_comes(self, end: str) -> None:
        self.take(reading(self.setup, self.session, end))

    @invariant()
    def documents_are_in_order(self) -> None:
        if not hasattr(self, "session"):
            return
        types = [d.type for d in self.documents]
        assert types[0] == "start" and types.count("start") == 1
        assert [d.body["round"] for d in self.documents if d.type == "round"] == list(
            range(1, types.count("round") + 1)
        )
        assert types.count("stop") == (1 if self.session.phase == "finished" else 0)
        assert self.session.completed == types.count("round")
        if "stop" in types:
            assert types[-1] == "stop" and self.documents[-1].body["rounds"] == types.count("round")

    def teardown(self) -> None:
        """Folding the same events, also through JSON, gives the same documents."""
        if not hasattr(self, "session"):
            return
        through = [event_from_json(json.loads(json.dumps(event_to_json(e)))) for e in self.events]
        folded = fold(self.setup, copy.deepcopy(self.start), through)
        assert json.dumps([d.body for d in folded.documents]) == json.dumps([d.body for d in self.documents])
        assert frozen(folded.session) == frozen(self.session)


def test_any_order_of_events(lab: Make) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Machine", (AnyEvents,), {"make": staticmethod(lab)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=120, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def test_effects_of_a_session_are_whole(lab: Make) -> None:
    """Prepare names the context and replicate that the round document then records."""
    setup = lab(role="tool", max_rounds=3)
    session, effects = begin(setup, 3, FACTS)
    while session.phase != "finished":
        session, more = step(setup, session, fitting(setup, session))
        effects += more
    prepared = [(setup.scenario.contexts[e.context].name, e.replicate) for e in effects if isinstance(e, Prepare)]
    recorded = [
        (e.body["context"], e.body["replicate"]) for e in effects if isinstance(e, Record) and e.type == "round"
    ]
    assert prepared == recorded and len(recorded) == 3


EVERY_EVENT: list[Event] = [
    Ready(1.5, 2.5),
    Answer("comparison", 2, 1.25, 7.0),
    Stop("terminal"),
    Stop("terminal", 0.125),
    Quit(),
    LinkLost("cable out"),
    LinkBack(),
    Arm("operator"),
    ChangedMind("note"),
    LeadHandedOver("page 2"),
    LeadLost("silent"),
    Tick(1.0),
]


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda e: type(e).__name__)
def test_an_event_survives_json(event: Event) -> None:
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event


def test_a_reading_survives_json(lab: Make) -> None:
    setup = lab()
    session, _ = begin(setup, 3, FACTS)
    whole = reading(setup, session)
    assert event_from_json(json.loads(json.dumps(event_to_json(whole)))) == whole
    beside = replace(whole, reproducibility=whole.error)
    assert event_from_json(json.loads(json.dumps(event_to_json(beside)))) == beside
    old = event_to_json(whole)
    del old["reproducibility"]  # of a journal from before there was one
    assert event_from_json(old) == whole
    bare = Reading(whole.z, whole.source, whole.error, "card", None, {}, 0.0, 0.0)
    assert event_from_json(json.loads(json.dumps(event_to_json(bare)))) == bare


@pytest.mark.parametrize(
    "junk",
    [
        {},
        {"event": "Explode"},
        {"event": None},
        {"event": ["Tick"]},
        {"event": "Tick"},
        {"event": "Tick", "elapsed_s": 1.0, "more": 2},
        {"event": "Tick", "elapsed_s": "long"},
        {"event": "Tick", "elapsed_s": float("nan")},
        {"event": "Answer", "question": "choice", "value": "0", "attention_s": 1, "wall_s": 1},
        {"event": "Answer", "question": "choice", "value": 0.5, "attention_s": 1, "wall_s": 1},
        {"event": "Answer", "question": "why", "value": 0, "attention_s": 1, "wall_s": 1},
        {"event": "Answer", "question": "choice", "value": 0, "attention_s": None, "wall_s": 1},
        {"event": "Stop", "by": 3},
        {"event": "Stop", "by": "x", "stop_latency_s": "1"},
        {"event": "Quit", "reason": "bored"},
        {"event": "Reading", "z": 3},
        [],
        "Stop",
        None,
    ],
)
def test_junk_is_no_event(junk: Any) -> None:
    with pytest.raises(ValueError):
        event_from_json(junk)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("z", 3),
        ("z", [1.0, 2.0]),
        ("z", [1.0] * 5 + [float("nan")]),
        ("z", ["1"] * 6),
        ("source", [1] * 6),
        ("error", None),
        ("reproducibility", 3),
        ("reproducibility", [1.0] * 5),
        ("end", 0),
        ("realised", {"fan": 1}),
        ("realised", 7),
        ("how", []),
        ("robot_s", "1"),
    ],
)
def test_a_reading_of_junk_is_no_event(lab: Make, key: str, value: Any) -> None:
    setup = lab()
    session, _ = begin(setup, 3, FACTS)
    body = json.loads(json.dumps(event_to_json(reading(setup, session))))
    with pytest.raises(ValueError):
        event_from_json({**body, key: value})
