"""A run cut short: an answer about its predicted outcome, from scenario to people, belief, session and documents."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from calib.engines import full
from calib.errors import UserError
from calib.events import CUT_SHORT
from calib.history import RUN, STOP, add_watched, empty_history
from calib.mental import ASPIRATION, HAZARD
from calib.mind import Mover
from calib.mind import start as start_mind
from calib.questions import RATING
from calib.scenario import Scenario, load_scenario_text
from calib.setup import Setup
from devices.home.plant import LOOK_S
from experiments.batch import Sessions, ended_by_then, simulate_sessions
from experiments.expand import documents
from experiments.infer_journal import history_of
from experiments.people import person_names, rational
from experiments.truth import draw_truth
from people_minds import with_beliefs
from sessions import ROOT, Lab, page_lab, quick_scenario, type_in, until

Make = Callable[..., Setup]


@pytest.fixture(scope="session")
def watched(small: Scenario) -> Scenario:
    """The small scenario, whose people may cut a run short."""
    return replace(with_beliefs(small), may_cut_short=True)


@pytest.fixture(scope="session")
def setup(lab: Make, watched: Scenario) -> Setup:
    return lab(scenario=watched, engine="full", role="tool", num_particles=512, max_rounds=6)


@pytest.fixture(scope="session")
def sessions(setup: Setup) -> Sessions:
    return simulate_sessions(setup, rational, {}, np.arange(12))


def test_a_scenario_says_whether_runs_may_be_cut(small_text: str, lab: Make, watched: Scenario) -> None:
    with pytest.raises(UserError, match=r"^small.toml: questions.cut_short: is true [^\n]+; add mental_model.beliefs$"):
        load_scenario_text(small_text.replace("num_cards = 8", "num_cards = 8\ncut_short = true"), "small.toml")
    assert watched.hash != replace(watched, may_cut_short=False).hash == with_beliefs(load(small_text)).hash
    assert not lab(scenario=watched, engine="live").learns_from_cuts, "it does not learn from it: nobody is let"


def load(text: str) -> Scenario:
    return load_scenario_text(text, "small.toml")


def test_who_cuts_a_run_short_learns_nothing_of_it(setup: Setup, sessions: Sessions) -> None:
    """Of every round with a run there is one watched run, and what was seen only where it was let go on."""
    kept, cut, runs = sessions.state.evidence, 0, 0
    for i in range(12):
        n = int(kept.num[i])
        kind, option, value = kept.kind[i, :n], kept.option[i, :n], kept.value[i, :n]
        watched = kind == STOP
        assert watched.sum() == sessions.last_round[i] == 6
        cut += int(option[watched].sum())
        runs += int(np.sum(kind == RUN))
        followed = np.append(kind[1:], -1)[watched] == RUN
        assert np.array_equal(followed, option[watched] == 0), "each mode is a setting here"
        assert sessions.clocks[i, 6, 3] == pytest.approx(60 * value[watched].sum())
    assert cut + runs == 72 and 10 <= cut <= 60
    effort = sessions.clocks[:, 6, 4] - (kept.option * (kept.kind == STOP)).sum(axis=1)
    assert np.all(effort == effort[0]), "cutting a run short is one action, the rest is the same for all"


def test_documents_of_one_person_are_those_of_the_population(setup: Setup, sessions: Sessions) -> None:
    """The event shell with simulator and simulated person, and the arrays of many: one history, one belief."""
    kept = sessions.state.evidence
    for i in (0, 7):
        found = [d["body"] for d in documents(setup, "rational", i) if d["type"] == "round"]
        at = np.flatnonzero(kept.kind[i, : kept.num[i]] == STOP)
        assert [r["watched"]["cut_short"] for r in found] == kept.option[i, at].astype(bool).tolist()
        assert [r["watched"]["minutes"] for r in found] == kept.value[i, at].tolist()
        assert [r["end"] == CUT_SHORT for r in found] == kept.option[i, at].astype(bool).tolist()
        assert found[-1]["degree"]["mean"] == sessions.estimate[i, 6, 0]
        assert {"rationality[stop]", "hazard", "aspiration"} <= found[-1]["belief"].keys()
        again = history_of(setup, found, kept.kind.shape[1])
        for name, column in again._asdict().items():
            assert np.array_equal(column[0], getattr(kept, name)[i]), name
        short = [r for r in found if r["end"] == CUT_SHORT]
        assert short and all(r["outcome"]["duration"]["value"] <= r["watched"]["minutes"] + 0.02 for r in short)


def test_luck_is_not_told_of_a_run_that_was_cut(setup: Setup) -> None:
    found = documents(setup, "rational", 0)
    truth = found[-1]["body"]["rounds"]
    assert [t["luck"] is None for t in truth] == [d["body"]["end"] == CUT_SHORT for d in found if d["type"] == "round"]


def test_people_cut_runs_short_at_the_hazard_that_the_model_says(setup: Setup, sessions: Sessions) -> None:
    """20,000 people of one kind: the share that has cut by 2, 10 and 30 minutes within 4 standard errors."""
    num = 20_000
    truth = draw_truth(setup, np.arange(num), {})
    assert np.median(np.log(truth.stopping[:, 1])) == pytest.approx(-6.0, abs=0.05)
    truth = truth._replace(
        weights=np.tile([0.5, 0.3, 0.2], (num, 1)),
        rating=np.tile([8.0, 0.6, 1.2], (num, 1)),
        stopping=np.tile([6.0, 0.05], (num, 1)),
    )
    state = replace(sessions.state, commanded=np.full(num, setup.mode_setting[0]), context=np.zeros(num, np.int64))
    minutes = rational.cut_short(setup, truth, state, np.random.default_rng(0).random((num, 1)))
    utility = float(setup.phi[setup.mode_setting[0], 0] @ [0.5, 0.3, 0.2])
    rate = 0.05 * np.exp(-6.0 * (utility - 0.6))
    for after in (2, 10, 30):
        went_on, cut_short = ended_by_then(np.full(num, 60.0 * after), 60 * minutes)
        share = 1 - np.exp(-rate * after)
        assert cut_short.mean() == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / num) + 0.02 * rate)
        late = went_on[cut_short] - 60 * minutes[cut_short]
        assert np.all((late > -1e-6) & (late <= LOOK_S)), "they end it when they look next"


@pytest.mark.parametrize(("cut_short", "minutes"), [(True, 1.0), (False, 60.0)])
def test_cutting_short_speaks_against_the_predicted_outcome(setup: Setup, cut_short: bool, minutes: float) -> None:
    """The mean utility of what was predicted, beside that of half a million draws of the prior weighed by chance."""
    assert setup.mind is not None
    prior, phi = setup.mind, np.array([0.9, 0.4, 0.1])
    mover, before = Mover(prior, 1, 1), start_mind(prior, 0, 1, 2048)
    history = empty_history(1, 8, 3)
    for _ in range(4):
        history = add_watched(history, np.array([True]), phi[None], np.array([minutes]), np.array([cut_short]))
    after, _ = mover.update(before, history, 0, 0)
    found = float(np.mean(phi @ mover.parameters(after.particles)[0]))
    rng = np.random.default_rng(0)
    utility = rng.dirichlet(prior.concentration, 500_000) @ phi
    extras = prior.mean + prior.sd * rng.standard_normal((500_000, len(prior.mean)))
    log_rate = extras[:, HAZARD] - np.exp(extras[:, STOP]) * (utility - extras[:, ASPIRATION])
    log_p = 4 * (cut_short * log_rate - minutes * np.exp(log_rate))
    expected = np.average(utility, weights=np.exp(log_p - log_p.max()))
    assert found == pytest.approx(expected, abs=0.012)
    assert (expected < utility.mean() - 0.02) if cut_short else (expected > utility.mean() + 0.02)


def test_a_later_answer_is_predicted_from_what_the_cut_has_told(setup: Setup) -> None:
    """The mean likelihood of a round's entries by the compiled kernel: choice, then the run, then the comparison."""
    seen: list[int] = []

    def watch(state: Any, taken_in: bool) -> None:
        if taken_in:
            return
        found = full.predict(setup, state)
        for i in np.flatnonzero(state.kind >= 0).tolist():
            new = full.mover_of(setup).values(full.mind_of(state, i), state.evidence, i)[1].astype(float)
            kept = state.evidence
            alone = [full.mover_of(setup).values(full.mind_of(state, i), only(kept, i, kinds), 0)[1].astype(float)
                     for kinds in ([0], [0, STOP])]  # fmt: skip
            choice, with_cut = (np.mean(np.exp(v)) for v in alone)
            assert found.probability[i, 0, found.answer[i, 0]] == pytest.approx(choice, rel=2e-4)
            expected = np.mean(np.exp(new)) / with_cut
            assert found.probability[i, 1, found.answer[i, 1]] == pytest.approx(expected, rel=2e-3)
            seen.append(int(state.cut_short[i]))

    simulate_sessions(replace(setup, max_rounds=1), rational, {}, np.arange(8), watch)
    assert sorted(set(seen)) == [0, 1], "some cut their first run short, some do not"


def only(history: Any, i: int, kinds: list[int]) -> Any:
    """Of the history of person i the entries of some kinds, in order."""
    at = np.flatnonzero(np.isin(history.kind[i], kinds) & (np.arange(history.kind.shape[1]) < history.num[i]))
    return type(history)(*(column[i : i + 1, at] for column in history[:-1]), np.array([len(at)]))


def test_without_an_outcome_nothing_is_rated(lab: Make, watched: Scenario) -> None:
    effort = {**watched.effort_s, "rate": 1.0, "compare": 120.0}
    rated = replace(watched, asks_ratings=True, effort_s=effort)
    setup = lab(scenario=rated, engine="full", role="tool", policy="per_second", num_particles=256, max_rounds=6)
    asked = {True: 0, False: 0}

    def watch(state: Any, taken_in: bool) -> None:
        for cut_short, kind in zip(state.cut_short, state.kind, strict=True):
            asked[bool(cut_short)] += int(kind == RATING)

    simulate_sessions(setup, rational, {}, np.arange(8), watch)
    assert asked[True] == 0 < asked[False]


@pytest.mark.parametrize("name", person_names())
def test_every_person_model_watches(setup: Setup, name: str) -> None:
    found = [d["body"] for d in documents(replace(setup, max_rounds=2), name, 3) if d["type"] == "round"]
    assert all(r["watched"]["minutes"] > 0 for r in found)


BELIEFS = (
    "[mental_model.beliefs]\nspread = { median = 0.2, sd_log = 0.4 }\nlearning_sd_logit = 0.5\nprobe_sd = 0.05\n\n"
    "[mental_model.salience]"
)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return page_lab(tmp_path, monkeypatch)


def events(house: Lab, name: str) -> list[dict[str, Any]]:
    return [e["body"] for e in house.entries() if e["body"].get("event") == name]


@pytest.mark.slow
@pytest.mark.parametrize("device", ["simvac", "roomba:emulator"])
def test_somebody_at_the_terminal_and_at_the_page_cuts_runs_short(house: Lab, device: str) -> None:
    """The robot stands at once, the session goes on, and the journal says who it was and how far the run came."""
    file = Path(quick_scenario(house.folder))
    text = file.read_text().replace("num_cards = 12", "num_cards = 12\ncut_short = true")
    file.write_text(text.replace("[mental_model.salience]", BELIEFS))
    words = ("run", str(file), "--device", device, "--person", "human", "--pace", "10", "--role", "tool")
    with house.going(*words, "--rounds", "4", "--seed", "1", "--audit", "off") as process:
        until(process, "How shall the robot clean")
        type_in(process, "cut")
        assert "no run is under way" in until(process, "no run is under way")
        until(process, "cut to end this run, stop to end the session")
        time.sleep(1.0)
        type_in(process, "cut")
        until(process, "cut short: there is no outcome of this run")
        until(process, "cut short after")  # the question was answered: the round is over
        until(process, "cut to end this run, stop to end the session")
        page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        page.query_params["run"], page.query_params["lease"] = house.last_run(), "mine"
        page.run()
        assert not page.exception
        assert "What this run is predicted to do" in " ".join(str(h.body) for h in page.get("html"))
        page.button(key="cut-short").click().run()
        assert not page.exception
        end = time.monotonic() + 60
        while time.monotonic() < end and len(events(house, "Reading")) < 2:
            time.sleep(0.1)
        type_in(process, "stop")
        assert process.wait(60) == 0
    readings = events(house, "Reading")
    assert [r["end"] for r in readings] == [CUT_SHORT] * 2
    assert [e["by"].split()[0] for e in events(house, "CutShort")] == ["terminal", "client"]
    assert all(0 < r["robot_s"] < 600 for r in readings)
    watched = [e["body"]["watched"] for e in house.entries() if e["type"] == "round"]
    assert watched[0] == {"minutes": readings[0]["robot_s"] / 60, "cut_short": True}
    assert house.json("replay", house.last_run())["differences"] == []


def test_where_it_is_no_answer_a_run_is_stopped_not_cut(house: Lab) -> None:
    file = quick_scenario(house.folder)
    words = ("run", file, "--person", "human", "--pace", "10", "--role", "tool", "--rounds", "1", "--audit", "off")
    with house.going(*words) as process:
        until(process, "stop to stop")
        type_in(process, "cut")
        until(process, "runs of this session cannot be cut short (questions.cut_short); say stop to end it")
        type_in(process, "stop")
        assert process.wait(60) == 0
    assert events(house, "CutShort") == []
