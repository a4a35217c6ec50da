"""Intent that changes: its definition against enumeration, the bank against it, the question in sessions."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import logsumexp

from calib import change, live, rounds
from calib.change import CHANGED, MISREAD, UNSURE
from calib.errors import UserError
from calib.events import Answer, Ask, ChangedMind
from calib.replay import fold
from calib.scenario import Change, Scenario, load_scenario_text
from calib.session import Session, begin, step, waiting_for
from calib.setup import Setup
from calib.state import Bank, State
from cli._terminal import _value
from exact_change import exact, log_likelihoods
from experiments.batch import Sessions, simulate_sessions
from experiments.expand import documents
from experiments.live_person import make_person
from experiments.people import load_person
from sessions import Lab, quick_scenario
from test_core_kernel import random_evidence, random_prior
from test_core_session import fitting

Make = Callable[..., Setup]
Floats = NDArray[np.float64]
TABLE = """
[change]
hazard = 0.1
ask_at = 0.5
every = 2
answer_error = 0
hypotheses = 8
"""


def changing(scenario: Scenario, **values: Any) -> Scenario:
    """The scenario with a table [change]."""
    usual = {"hazard": 0.1, "ask_at": 1.0, "every": 2, "answer_error": 0.0, "hypotheses": 64}
    return replace(scenario, change=Change(**(usual | values)), effort_s=scenario.effort_s | {"change": 6.0})


def played(setup: Setup, spec: str, people: list[int]) -> Sessions:
    """Their sessions."""
    model, parameters = load_person(spec)
    return simulate_sessions(setup, model, parameters, np.array(people))


def since(bank: Bank, num_rounds: int) -> Floats:
    """(T,) P(the last change was before each round)."""
    out = np.zeros(num_rounds)
    for h in bank.hypotheses:
        out[h.first - 1] = np.exp(h.log_p)
    return out


# --- the definition ------------------------------------------------------------------------------------------------


def graph(model: Any, names: list[str], values: list[Any]) -> list[Floats]:
    """Quantities and the potential of the answers of a PyMC model, where its free variables are as given."""
    import pytensor
    from pytensor.compile.mode import Mode

    outputs, plain = [*(model[name] for name in names), *model.potentials], Mode(linker="py", optimizer=None)
    found = pytensor.function(model.free_RVs, outputs, mode=plain, on_unused_input="ignore")(*values)
    return [np.asarray(v) for v in found]


def test_the_model_of_a_change_at_once_is_the_sum_over_every_way_to_change() -> None:
    """Four rounds: each of the 8 ways to have changed before rounds 2, 3, 4, by hand, to 1e-9."""
    from calib.model import build_changing_model

    rng, hazard, round_of = np.random.default_rng(1), 0.2, np.array([1, 1, 2, 3, 4, 4])
    prior, evidence = random_prior(rng, 3), random_evidence(rng, 6, 3, 4, [1, 2])
    model = build_changing_model(prior, evidence, round_of, hazard)
    w, x = rng.dirichlet(prior.concentration, 4), prior.mean + prior.sd * rng.normal(size=7)
    found, potential = graph(model, ["since"], [w, x[:3], *x[3:7]])
    each = log_likelihoods(evidence, round_of, w, x)  # (rounds, draws)
    total: dict[int, list[float]] = {k: [] for k in range(4)}
    for ways in itertools.product((False, True), repeat=3):
        last, log_p = 0, each[0, 0]
        for t, anew in enumerate(ways, 1):
            last = t if anew else last
            log_p += np.log(hazard if anew else 1 - hazard) + each[t, last]
        total[last].append(log_p)
    by_last = np.array([logsumexp(total[k]) for k in range(4)])
    assert float(potential) == pytest.approx(logsumexp(by_last), abs=1e-9)
    assert found == pytest.approx(np.exp(by_last - logsumexp(by_last)), abs=1e-9)


def test_the_model_of_drift_is_a_random_walk_of_log_ratios() -> None:
    from calib.model import build_changing_model

    rng, round_of = np.random.default_rng(2), np.array([1, 2, 2, 3, 4])
    prior, evidence = random_prior(rng, 3), random_evidence(rng, 5, 3, 4, [1, 2])
    w, x, steps = (
        rng.dirichlet(prior.concentration),
        prior.mean + prior.sd * rng.normal(size=7),
        rng.normal(size=(3, 2)),
    )
    model = build_changing_model(prior, evidence, round_of, 0.0, drift_sd=0.3)
    path, since_, potential = graph(model, ["by_round", "since"], [w[None], steps, x[:3], *x[3:7]])
    ratios = np.log(w[:2] / w[2]) + 0.3 * np.vstack([np.zeros(2), np.cumsum(steps, axis=0)])
    by_hand = np.exp(np.hstack([ratios, np.zeros((4, 1))]))
    by_hand /= by_hand.sum(axis=1, keepdims=True)
    assert path[0] == pytest.approx(by_hand, abs=1e-12)
    each = log_likelihoods(evidence, round_of, by_hand, x)
    assert float(potential) == pytest.approx(each[np.arange(4), np.arange(4)].sum(), abs=1e-9)
    assert since_ == pytest.approx([1.0])


# --- the bank against it -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["rational", "changing,change_round=5,rationality=40"])
def test_the_bank_is_the_exact_posterior(lab: Make, small: Scenario, spec: str) -> None:
    """Eight rounds of four people: P(last change before round k) within 0.04, weights within 0.025 of sums over
    256 manners and 2,048 intents; also before and after the most likely change."""
    setup = lab(scenario=changing(small), role="advisor", max_rounds=8, seed=3, num_particles=1024)
    sessions = played(setup, spec, [0, 1, 2, 3])
    w = live.intent(sessions.state.belief, 3)
    for i, bank in enumerate(sessions.state.change or ()):
        found = exact(setup.prior, sessions.state.evidence.of(i, i + 1), np.repeat(np.arange(1, 9), 2), 0.1, (8, 11))
        assert np.abs(since(bank, 8) - found.since).max() < 0.04
        assert change.p_changed(bank) == pytest.approx(1 - found.since[0], abs=0.04)
        assert np.abs(w[i].mean(axis=1) - found.now).max() < 0.025
        most = change.likely(bank)
        assert most is not None
        assert np.abs(live.intent(most.belief, 3)[0].mean(axis=1) - found.after[most.first - 1]).max() < 0.05
        assert np.abs(most.before[0] - found.before[most.first - 1]).max() < 0.05


@pytest.mark.slow
def test_the_bank_is_nuts_on_the_model(lab: Make, small: Scenario) -> None:
    """Five rounds of somebody who changes before the third against 4 x 1,000 draws: P within 0.05, weights 0.03."""
    from calib.audit import _sample
    from calib.model import build_changing_model

    setup = lab(scenario=changing(small), role="advisor", max_rounds=5, seed=3, num_particles=2048)
    sessions = played(setup, "changing,change_round=3,rationality=40", [1])
    evidence = sessions.state.evidence
    model = build_changing_model(setup.prior, evidence, np.repeat(np.arange(1, 6), 2), 0.1)
    found, diagnostics = _sample(model, ["since", "weights"], 1, 1000, 0.95)
    assert diagnostics["r_hat"] < 1.02
    reference = found["since"].reshape(-1, 5)
    assert np.abs(since((sessions.state.change or ())[0], 5) - reference.mean(axis=0)).max() < 0.05
    now = np.einsum("dk,dkj->j", reference, found["weights"].reshape(-1, 5, 3)) / len(reference)
    assert np.abs(live.intent(sessions.state.belief, 3)[0].mean(axis=1) - now).max() < 0.03


def test_without_hope_of_a_change_the_belief_is_the_engines_own(lab: Make, small: Scenario) -> None:
    plain = played(lab(role="advisor", seed=4), "rational", [0, 1])
    bank = played(lab(scenario=changing(small, hazard=1e-6), role="advisor", seed=4), "rational", [0, 1])
    assert np.array_equal(live.draws(plain.state.belief), bank.state.belief.particles)
    assert np.array_equal(plain.estimate, bank.estimate, equal_nan=True)
    assert plain.state.change is None


def test_a_bank_does_not_depend_on_who_else_is_there(lab: Make, small: Scenario) -> None:
    setup = lab(scenario=changing(small, ask_at=0.5), role="advisor", seed=5, num_particles=128)
    many, alone = (played(setup, "changing,change_round=3", people) for people in ([0, 1, 2, 3, 4], [3]))
    assert np.array_equal(many.state.belief.particles[3:4], alone.state.belief.particles)
    assert np.array_equal(many.true_degree[3:4], alone.true_degree)
    assert many.state.change and alone.state.change
    assert many.state.change[3].asked == alone.state.change[0].asked
    assert np.array_equal(many.clocks[3:4], alone.clocks)


def test_few_hypotheses_say_nearly_what_all_say(lab: Make, small: Scenario) -> None:
    """Four of at most six: P(changed) within 0.06."""
    all_, few = (
        played(
            lab(scenario=changing(small, hypotheses=n), role="advisor", seed=3, num_particles=512), "rational", [0, 1]
        )
        for n in (64, 4)
    )
    for a, b in zip(all_.state.change or (), few.state.change or (), strict=True):
        assert len(a.hypotheses) == 6 and len(b.hypotheses) == 4
        assert change.p_changed(a) == pytest.approx(change.p_changed(b), abs=0.06)


@pytest.mark.slow
def test_p_changed_is_the_share_of_those_who_changed(lab: Make, small: Scenario) -> None:
    """500 people of the very hazard: in each quarter by P(changed), within 3.5 standard errors; so is the share whose
    last change was in each round, and the 90% intervals of the weights of the end hold 90%."""
    setup = lab(scenario=changing(small, hypotheses=10), role="advisor", max_rounds=8, seed=9, num_particles=256)
    sessions = played(setup, "changing,change_round=0,change_hazard=0.1", list(range(500)))
    changed, banks = sessions.truth.changed, sessions.state.change or ()
    p = np.array([change.p_changed(bank) for bank in banks])
    assert p.max() > 0.95 and p.min() < 0.3, "the answers tell something"
    for quarter in np.array_split(np.argsort(p), 4):
        error = np.sqrt(np.sum(p[quarter] * (1 - p[quarter]))) / len(quarter)
        assert abs(np.mean(changed[quarter] > 0) - p[quarter].mean()) < 3.5 * error
    by_round = np.array([since(bank, 8) for bank in banks])
    for k in range(2, 9):
        error = np.sqrt(np.sum(by_round[:, k - 1] * (1 - by_round[:, k - 1]))) / len(banks)
        assert abs(np.mean(changed == k) - by_round[:, k - 1].mean()) < 3.5 * error
    low, high = np.quantile(live.intent(sessions.state.belief, 3), [0.05, 0.95], axis=2)
    held = (low <= sessions.truth.weights) & (sessions.truth.weights <= high)
    assert np.mean(held) == pytest.approx(0.9, abs=0.03)


# --- the question --------------------------------------------------------------------------------------------------


def asked_state(lab: Make, small: Scenario, error: float = 0.0) -> tuple[Setup, State]:
    """A person in the round in which they are asked."""
    scenario = changing(small, ask_at=0.5, every=2, hazard=0.3, answer_error=error)
    setup = lab(scenario=scenario, role="advisor", seed=5, max_rounds=6, num_particles=128)
    found: list[State] = []

    def watch(state: State, taken_in: bool) -> None:
        if taken_in and not found and change.asks(setup, state)[0]:
            found.append(replace(state, in_place=False))

    model, parameters = load_person("rational")
    simulate_sessions(setup, model, parameters, np.array([1]), watch)
    return setup, found[0]


def test_an_answer_conditions_the_bank(lab: Make, small: Scenario) -> None:
    setup, state = asked_state(lab, small)
    before, zero = (state.change or ())[0], np.zeros(1)

    def after(value: int) -> tuple[State, Bank]:
        told = rounds.change_told(setup, state, np.array([value]), zero + 6, zero + 6)
        return told, (told.change or ())[0]

    state_changed, changed = after(CHANGED)
    _, misread = after(MISREAD)
    state_unsure, unsure = after(UNSURE)
    assert {h.first for h in changed.hypotheses} == {h.first for h in before.hypotheses if h.first > 1}
    assert [h.first for h in misread.hypotheses] == [1]
    assert [h.log_p for h in unsure.hypotheses] == [h.log_p for h in before.hypotheses]
    assert (changed.settled, misread.settled, unsure.settled) == (state.round, state.round, 0)
    assert change.p_changed(changed) == change.p_changed(misread) == 0.0
    assert change.p_changed(unsure) == change.p_changed(before)
    assert np.array_equal(state_unsure.belief.particles, state.belief.particles)
    assert not np.array_equal(state_changed.belief.particles, state.belief.particles)
    assert not change.asks(setup, state_unsure)[0], "not twice in a round"
    spent = state_changed.clocks[0, state.round] - state.clocks[0, state.round]
    assert spent.tolist() == [0, 6, 6, 0, 1]
    assert changed.asked[0][:3] == (state.round, 0, change.p_changed(before))


def test_an_answer_that_may_be_wrong_leaves_the_rest_possible(lab: Make, small: Scenario) -> None:
    setup, state = asked_state(lab, small, error=0.2)
    before = change.p_changed((state.change or ())[0])
    after = change.answered(setup, state, np.array([MISREAD]))
    never = next(h for h in (after.change or ())[0].hypotheses if h.first == 1)
    assert np.exp(never.log_p) == pytest.approx(0.8 * (1 - before) / (0.8 * (1 - before) + 0.2 * before))


def test_who_says_by_themselves_that_they_changed_is_believed(lab: Make, small: Scenario) -> None:
    setup = lab(scenario=changing(small, hazard=0.01), role="advisor", seed=5, num_particles=128)
    session, _ = begin(setup, 1, {"kind": "simulated", "device": "simvac"})
    for _ in range(2):
        session = one_round(setup, session)
    session, _ = step(setup, session, ChangedMind("all different now"))
    session = one_round(setup, session)
    bank = (session.state.change or ())[0]
    assert (bank.settled, bank.volunteered) == (3, False)
    assert {h.first for h in bank.hypotheses} <= {2, 3}


def one_round(setup: Setup, session: Session) -> Session:
    """To the choice of the next round."""
    number = session.state.round
    while session.state.round == number and session.phase != "finished":
        session, _ = step(setup, session, fitting(setup, session))
    return session


def test_a_session_asks_and_its_events_give_the_same_documents_again(lab: Make, small: Scenario) -> None:
    setup = lab(scenario=changing(small, ask_at=0.5, hazard=0.3), role="advisor", seed=5, num_particles=128)
    facts = {"kind": "simulated", "device": "simvac"}
    session, effects = begin(setup, 1, facts)
    events: list[Any] = []
    while session.phase != "finished":
        if session.phase == "wondering":
            refused, nothing = step(setup, session, Answer("change", 3, 5.0, 5.0))
            assert (refused, nothing) == (session, [])
            resumed = fold(setup, {"person": 1, **facts}, events).session
            assert waiting_for(setup, resumed)[1:] == [Ask("change", change.shown(session.state))]
            events.append(Answer("change", CHANGED, 5.0, 5.0))
        else:
            events.append(fitting(setup, session))
        session, effects = step(setup, session, events[-1])
    assert any(isinstance(e, Answer) and e.question == "change" for e in events)
    folded = fold(setup, {"person": 1, **facts}, events)
    assert folded.session.state.change is not None
    asked = [r.body["change"]["asked"] for r in folded.documents if r.type == "round" and r.body["change"]["asked"]]
    assert asked and asked[0]["answer"] == "changed" and asked[0]["p_changed"] >= 0.5
    assert np.array_equal(folded.session.state.belief.particles, session.state.belief.particles)
    assert effects[-2].body == folded.documents[-1].body  # type: ignore[union-attr]


def test_live_and_headless_and_replay_agree_with_the_question_in_it(tmp_path: Path) -> None:
    """A run of the command, its headless twin, and its replay; the truth says when and to what the intent changed."""
    from cli.main import main

    lab, spec = Lab(tmp_path), "changing,change_round=4,rationality=60"
    file = Path(quick_scenario(tmp_path))
    file.write_text(file.read_text().replace("[effort]\n", TABLE + "\n[effort]\nchange = 6\n"))
    words = ["run", str(file), "--person", spec, "--rounds", "8", "--seed", "6", "--person-number", "3"]
    assert main([*words, "--audit", "off", "--journal", lab.journal]) == 0
    entries = [e for e in lab.entries() if e["type"] in ("start", "round", "stop", "truth")]
    from calib.replay import setup_of

    start = entries[0]["body"]
    headless = documents(setup_of(start), spec, 3, facts=start)
    for mine, theirs in zip(headless[1:], entries[1:], strict=True):
        assert {k: v for k, v in mine["body"].items() if k != "end"} == {
            k: v for k, v in theirs["body"].items() if k != "end"
        }
    assert any(e["body"]["change"]["asked"] for e in entries if e["type"] == "round")
    assert [c["round"] for c in entries[-1]["body"]["changes"]] == [4]
    batch = played(setup_of(start), spec, [3])
    assert batch.true_degree[0].tolist() == entries[-1]["body"]["true_degree"]
    assert lab.json("replay", lab.last_run())["differences"] == []


def test_at_the_terminal(lab: Make) -> None:
    setup, asked = lab(), Ask("change", {"since": 3, "answers": list(change.ANSWERS)})
    answers = {word: _value(asked, word, setup) for word in ("c", "m", "u", "changed", "y", "1", "", "misread me")}
    assert answers == {"c": 0, "m": 1, "u": 2, "changed": 0, "y": None, "1": None, "": None, "misread me": None}


# --- off by default; a table is checked ----------------------------------------------------------------------------


def test_without_the_table_nothing_is_another(small: Scenario, lab: Make) -> None:
    assert small.change is None and "change" not in small.effort_s  # nor is its hash: tests/test_channels.py
    model, parameters = load_person("rational")
    found = documents(lab(max_rounds=2), "rational", 1)
    assert not any("change" in d["body"] or "changes" in d["body"] for d in found)
    assert not hasattr(model, "becomes") and parameters == {}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("hazard = 0.1", "hazard = 0.7", "change.hazard: is 0.7; it must lie in 1e-06 to 0.5"),
        ("ask_at = 0.5\n", "", "change.ask_at: is missing"),
        ("every = 2", "every = 1", "change.every: is 1; it must lie in 2 to 200"),
        ("hypotheses = 8", "hypothesis = 8", "change.hypotheses: is missing"),
    ],
)
def test_a_wrong_table_is_refused(small_text: str, old: str, new: str, says: str) -> None:
    text = small_text.replace("[effort]\n", TABLE.replace(old, new) + "\n[effort]\nchange = 6\n")
    with pytest.raises(UserError, match=says.replace(".", r"\.")):
        load_scenario_text(text, "small.toml")


def test_seconds_of_the_question_are_needed(small_text: str) -> None:
    with pytest.raises(UserError, match=r"effort\.change: is missing"):
        load_scenario_text(small_text.replace("[effort]\n", TABLE + "\n[effort]\n"), "small.toml")


@pytest.mark.parametrize("engine", ["bulk", "full"])
def test_an_engine_that_takes_intent_for_fixed_refuses(lab: Make, small: Scenario, engine: str) -> None:
    with pytest.raises(UserError, match=f"--engine: {engine} takes intent for fixed"):
        lab(scenario=changing(small), engine=engine)


# --- people --------------------------------------------------------------------------------------------------------


def test_people_change_when_they_are_said_to(lab: Make, small: Scenario) -> None:
    """The degree under the old intent before round 3, under the new one from it; the oracle is told at once."""
    setup = lab(engine="oracle", role="advisor", seed=2, max_rounds=5)
    sessions = played(setup, "changing,change_round=3", list(range(20)))
    assert (sessions.truth.changed == 3).all()
    assert sessions.true_degree[:, 1:] == pytest.approx(1.0)
    person = make_person(setup, *load_person("changing,change_round=3"), 7)
    before, after = (person.truth_in(t).weights[0] for t in (2, 3))
    assert np.array_equal(after, sessions.truth.weights[7]) and not np.array_equal(before, after)
    assert np.array_equal(before, played(setup, "rational", [7]).truth.weights[0])


def test_drift_and_hazard_have_their_rates(lab: Make) -> None:
    setup = lab(engine="oracle", role="advisor", seed=2, max_rounds=6, policy="random")
    often = played(setup, "changing,change_round=0,change_hazard=0.2", list(range(500)))
    assert np.mean(often.truth.changed > 0) == pytest.approx(1 - 0.8**5, abs=0.06)
    drift, still = (played(setup, f"changing,change_round=0,drift_sd={s}", list(range(500))) for s in (0.1, 0.0))
    assert np.all(drift.truth.changed == 0)
    w = [np.log(s.truth.weights[:, 0] / s.truth.weights[:, 2]) for s in (drift, still)]
    assert np.std(w[0] - w[1]) == pytest.approx(0.1 * np.sqrt(5), rel=0.12)
