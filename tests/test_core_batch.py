"""People are an axis: nobody's numbers depend on who else is computed, nor on whether a session is live or headless."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from calib import alignment
from calib.documents import accepted_time, declared_time
from calib.engines import engine_names
from calib.events import Answer, Apply, Arm, Ask, Event, LinkBack, LinkLost, Quit, Reading, Ready, Record
from calib.evidence import Evidence
from calib.outcomes import scale
from calib.session import begin, step
from calib.setup import Setup
from calib.state import CLOCKS
from devices.home.types import OUTCOMES
from experiments.batch import Sessions, simulate_sessions
from experiments.live_person import make_person, truth_document
from experiments.people import load_person, person_names

Make = Callable[..., Setup]


def per_person(sessions: Sessions) -> dict[str, Any]:
    """Every array of a batch that has an axis of people."""
    state = sessions.state
    arrays = {f"truth.{k}": v for k, v in sessions.truth._asdict().items()}
    arrays |= {f"evidence.{k}": v for k, v in state.evidence._asdict().items()}
    arrays |= {f"belief.{k}": v for k, v in state.belief._asdict().items()}
    arrays |= {f"diagnostics.{k}": v for k, v in state.diagnostics._asdict().items()}
    arrays |= {f"gaps.{k}": v for k, v in sessions.gaps._asdict().items()}
    arrays |= {f"estimate.{k}": v for k, v in vars(state.estimate).items()}
    names = ("context", "replicate", "proposal", "f_hat", "last_mode", "standing", "commanded", "pair", "p_aligned")
    arrays |= {k: getattr(state, k) for k in (*names, "good_enough", "clocks")}
    arrays |= {k: getattr(sessions, k) for k in ("true_degree", "estimate", "last_round", "reason")}
    arrays |= {f"{k}.{f}": getattr(v, f) for k, v in sessions.times.items() for f in ("event", "rounds")}
    return arrays


@pytest.mark.parametrize("engine", engine_names())
@pytest.mark.parametrize(("role", "stop_rule"), [("tool", "max_rounds"), ("advisor", "accepted")])
def test_batches_of_1_7_and_1000_give_each_person_the_same_bits(
    flat: Make, role: str, stop_rule: str, engine: str
) -> None:
    particles = None if engine == "oracle" else 64
    setup = flat(role=role, stop_rule=stop_rule, max_rounds=3, engine=engine, num_particles=particles, seed=11)
    model, _ = load_person("rational")

    def run(people: range) -> dict[str, Any]:
        return per_person(simulate_sessions(setup, model, {}, np.array(people)))

    whole = run(range(1000))
    for people in (range(1), range(500, 501), range(999, 1000), range(7), range(123, 130)):
        part = run(people)
        for name, values in part.items():
            assert values.tobytes() == np.ascontiguousarray(whole[name][people.start : people.stop]).tobytes(), name


def test_the_number_of_threads_changes_nothing(flat: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = flat(max_rounds=2, num_particles=64)
    model, _ = load_person("rational")
    runs = []
    for threads in ("1", "3"):
        monkeypatch.setenv("NUMBA_NUM_THREADS", threads)
        runs.append(per_person(simulate_sessions(setup, model, {}, np.arange(20))))
    for name in runs[0]:
        assert runs[0][name].tobytes() == runs[1][name].tobytes(), name


def live_session(setup: Setup, number: int, faults: tuple[int, ...] = (), spec: str = "rational") -> dict[str, Any]:
    """One person through the event shell, the robot reading the map; in the rounds of `faults` the cable goes."""
    model, parameters = load_person(spec)
    person = make_person(setup, model, parameters, number)
    session, effects = begin(setup, number, {})
    records = [e for e in effects if isinstance(e, Record)]
    faults_left = set(faults)
    while session.phase != "finished":
        wanted = next(e for e in reversed(effects) if isinstance(e, Ask | Apply))
        events: list[Event] = []
        if isinstance(wanted, Apply):
            if session.state.round in faults_left:
                faults_left.remove(session.state.round)
                events += [LinkLost("cable"), LinkBack(), Arm("operator")]
            z = setup.map.z[wanted.setting, session.state.context[0], session.state.replicate[0]]
            seconds = round(float(z[OUTCOMES.index("duration")]) * 60, 6)
            nothing = (0.0,) * len(OUTCOMES)
            settings = setup.settings[wanted.setting]
            outcome = tuple(map(float, z))
            events.append(Reading(outcome, ("simulated",) * 6, nothing, "finished", settings, {}, seconds, seconds))
        elif wanted.question == "ready":
            events.append(Ready(setup.scenario.effort_s["ready"], setup.scenario.effort_s["ready"]))
        else:
            answer = person.answer(session.state, wanted.question)
            events.append(Answer(wanted.question, *answer, answer[1]) if answer else Quit())
        for event in events:
            before = session
            session, effects = step(setup, session, event)
            records += [e for e in effects if isinstance(e, Record)]
            if isinstance(event, Reading):
                person.saw(before.state, event.z)
    rounds = [r.body for r in records if r.type == "round"]
    truth = truth_document(person, session, records[0].body, rounds)
    return {"session": session, "rounds": rounds, "truth": truth, "person": person, "stop": records[-1].body}


def evidence_of(evidence: Evidence, i: int) -> list[Any]:
    return [column[i].tolist() for column in evidence]


@pytest.mark.parametrize("protocol", [{}, {"ready": True}, {"run_every": 3}, {"ready": True, "run_every": 2}])
@pytest.mark.parametrize(
    ("role", "stop_rule"), [("tool", "max_rounds"), ("advisor", "accepted"), ("advisor", "declared")]
)
def test_a_live_session_is_a_batch_of_one(flat: Make, role: str, stop_rule: str, protocol: dict[str, Any]) -> None:
    """Standing, degree, clocks, evidence, belief, times: the same bits; true degrees and times too."""
    protocol = {"ready": False, "run_every": 1, **protocol}
    setup = flat(role=role, stop_rule=stop_rule, max_rounds=6, num_particles=128, seed=2, protocol=protocol)
    model, _ = load_person("rational")
    batch = simulate_sessions(setup, model, {}, np.arange(4))
    for i in (0, 3):
        live = live_session(setup, i)
        state, rounds = live["session"].state, live["rounds"]
        last = int(batch.last_round[i])
        assert len(rounds) == last
        assert live["stop"]["reason"] == batch.reason[i]
        assert evidence_of(state.evidence, 0) == evidence_of(batch.state.evidence, i)
        assert state.standing[0].tolist() == batch.state.standing[i].tolist()
        for own, of_all in zip(state.belief, batch.state.belief, strict=True):
            assert own[0].tobytes() == of_all[i].tobytes()
        assert state.f_hat[0].tobytes() == batch.state.f_hat[i].tobytes()
        assert live["person"].mind.f_hat[0].tobytes() == batch.state.f_hat[i].tobytes()
        assert state.clocks[0, : last + 1].tobytes() == batch.clocks[i, : last + 1].tobytes()
        for t, document in enumerate(rounds, 1):
            degree = [document["degree"][k] for k in ("mean", "low", "high", "p_aligned")]
            assert degree == batch.estimate[i, t].tolist()
            assert [document["clocks"][k] for k in CLOCKS] == batch.clocks[i, t].tolist()
        assert live["truth"]["true_degree"] == batch.true_degree[i, : last + 1].tolist()
        true, by = batch.times["true"], (state, last, str(batch.reason[i]))
        assert (live["truth"]["time"]["event"], live["truth"]["time"]["rounds"]) == (true.event[i], true.rounds[i])
        for name, time in (("declared", declared_time(setup, *by)), ("accepted", accepted_time(setup, *by))):
            assert (time.event[0], time.rounds[0]) == (batch.times[name].event[i], batch.times[name].rounds[i])
            found = live["stop"]["time"][name]
            assert (found["event"], found["rounds"]) == (batch.times[name].event[i], batch.times[name].rounds[i])


@pytest.mark.parametrize("role", ["tool", "advisor"])
@pytest.mark.parametrize("spec", [*person_names(), "impatient,hazard=0.5"])
def test_every_person_model_is_the_same_live_and_in_a_batch(flat: Make, spec: str, role: str) -> None:
    setup = flat(role=role, max_rounds=6, num_particles=64, seed=4)
    batch = simulate_sessions(setup, *load_person(spec), np.arange(5))
    for i in range(5):
        live = live_session(setup, i, spec=spec)
        assert live["stop"]["reason"] == batch.reason[i]
        assert len(live["rounds"]) == batch.last_round[i]
        assert evidence_of(live["session"].state.evidence, 0) == evidence_of(batch.state.evidence, i)
        for t, document in enumerate(live["rounds"], 1):
            degree = [document["degree"][k] for k in ("mean", "low", "high", "p_aligned")]
            assert degree == batch.estimate[i, t].tolist()
        assert live["truth"]["true_degree"] == batch.true_degree[i, : batch.last_round[i] + 1].tolist()
        true = batch.times["true"]
        assert (live["truth"]["time"]["event"], live["truth"]["time"]["rounds"]) == (true.event[i], true.rounds[i])


def test_a_fault_on_the_way_changes_no_number(flat: Make) -> None:
    setup = flat(max_rounds=4, num_particles=128, seed=5)
    smooth, rough = live_session(setup, 1), live_session(setup, 1, faults=(1, 3))
    assert [r["degree"] for r in smooth["rounds"]] == [r["degree"] for r in rough["rounds"]]
    assert [r["clocks"] for r in smooth["rounds"]] == [r["clocks"] for r in rough["rounds"]]
    assert len(rough["stop"]["marks"]) == 2 and smooth["stop"]["marks"] == []


def test_a_true_gap_adds_up_to_what_is_lost(flat: Make) -> None:
    """The exact gaps of a live round against the true intent, with luck beside them."""
    setup = flat(max_rounds=5, num_particles=64, seed=3)
    live = live_session(setup, 2)
    w = live["person"].truth.weights[0]
    names = [c.name for c in setup.scenario.contexts]
    for document, truth in zip(live["rounds"], live["truth"]["rounds"], strict=True):
        x = names.index(document["context"])
        u = setup.phi[:, x] @ w
        total = sum(v["estimate"] for v in truth["gaps"].values())
        assert total == pytest.approx(u[setup.feasible[:, x]].max() - u[document["setting"]], abs=1e-12)
        z = np.array([v["value"] for v in document["outcome"].values()])
        assert truth["luck"] == pytest.approx(scale(setup.scenario, z) @ w - u[document["setting"]], abs=1e-12)


def test_a_person_depends_on_seed_and_number_only(flat: Make) -> None:
    setup = flat(seed=1)
    model, _ = load_person("rational")
    a = make_person(setup, model, {}, 5).truth
    b = make_person(flat(seed=1, role="tool", policy="random", max_rounds=2), model, {}, 5).truth
    c = make_person(flat(seed=2), model, {}, 5).truth
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(a.weights, c.weights)
    fixed = make_person(setup, model, {"rationality": 8.0, "lapse": 0.0}, 5).truth
    assert (fixed.rationality == 8).all() and fixed.lapse == 0 and np.array_equal(fixed.weights, a.weights)


def test_the_advisors_standing_is_the_best_under_the_belief(flat: Make) -> None:
    setup = flat(max_rounds=2, num_particles=64)
    model, _ = load_person("rational")
    state = simulate_sessions(setup, model, {}, np.arange(3)).state
    from calib.live import intent

    w = intent(state.belief, setup.num_attributes)
    assert np.array_equal(state.standing, alignment.best_settings(setup, w, alignment.extremes(setup, w)))
