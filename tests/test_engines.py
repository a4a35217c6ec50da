"""Engines against each other and against what is known: the same people, exact degrees, no false declaration."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from calib import alignment, evidence, history, rounds
from calib.engines import engine_names, load_engine
from calib.engines.oracle import told
from calib.errors import UserError
from calib.scenario import Scenario, load_scenario
from calib.setup import Setup, make_setup
from experiments.batch import simulate_sessions
from experiments.people import rational
from experiments.truth import draw_truth
from people_minds import with_beliefs

Make = Callable[..., Setup]
ROOT = Path(__file__).parent.parent


def test_every_engine_is_found_and_says_what_it_is(lab: Make) -> None:
    files = {p.stem for p in (ROOT / "calib" / "engines").glob("*.py") if not p.stem.startswith("_")}
    assert set(engine_names()) == files >= {"live", "oracle"}
    for name in engine_names():
        engine, setup = load_engine(name), lab(engine=name)
        assert engine.TIER in ("intent", "full", "known") and engine.EVIDENCE in (evidence, history, None)
        assert setup.record()["engine"] == {"name": name, "tier": engine.TIER, "particles": setup.num_particles}
        assert setup.engine_label.split("/")[0] == name
    assert lab().engine_label == "live/intent/256"
    for wrong in ("psychic", "../setup", "__init__"):
        with pytest.raises(UserError, match=r"^--engine: [^\n]+ is not an engine; choose [^\n]+$"):
            lab(engine=wrong)


@pytest.mark.parametrize("name", engine_names())
def test_the_same_people_answer_alone_in_the_same_way(lab: Make, small: Scenario, name: str) -> None:
    """Truths, contexts, replicates and what people choose from a menu are those of the live engine, round by round."""
    same = {"role": "tool", "seed": 4, "scenario": with_beliefs(small)}
    live = simulate_sessions(lab(num_particles=64, **same), rational, {}, np.arange(30))
    other = simulate_sessions(lab(engine=name, **same), rational, {}, np.arange(30))
    for column in ("weights", "rationality", "lapse", "luck"):
        assert np.array_equal(getattr(live.truth, column), getattr(other.truth, column)), column
    assert np.array_equal(live.state.f_hat, other.state.f_hat)
    assert np.array_equal(live.state.standing, other.state.standing)
    assert np.array_equal(live.true_degree, other.true_degree)
    assert np.array_equal(live.clocks[:, :, 3], other.clocks[:, :, 3]), "seconds of the robot"


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_the_oracles_degree_is_the_true_degree(lab: Make, role: str) -> None:
    setup = lab(role=role, engine="oracle", max_rounds=6, seed=9)
    sessions = simulate_sessions(setup, rational, {}, np.arange(200))
    w = sessions.truth.weights[:, :, None]
    exact = alignment.degree(setup, w, alignment.extremes(setup, w), sessions.state.standing)[:, 0]
    assert np.array_equal(sessions.true_degree[:, -1], exact)
    for column in range(3):  # mean, 5% and 95%
        assert np.array_equal(sessions.estimate[:, :, column], sessions.true_degree)
    aligned = sessions.true_degree >= 1 - setup.scenario.eps
    assert np.array_equal(sessions.estimate[:, :, 3], aligned.astype(float))
    declared = sessions.times["declared"]
    assert aligned[np.arange(200), declared.rounds][declared.event == 1].all(), "never a false declaration"
    assert (sessions.state.pair == -1).all(), "it asks nothing"
    if role == "advisor":
        assert (sessions.true_degree > 1 - 1e-12).all()


def test_no_engine_advises_better_than_the_oracle_and_people_alone_are_worse() -> None:
    """1,000 people of the apartment, 8 rounds: the mean true degree of the oracle bounds the live engine's."""
    means = {}
    for name, particles in (("oracle", None), ("live", 64)):
        for role in ("advisor", "tool"):
            setup = make_setup(
                load_scenario("apartment"), role=role, engine=name, num_particles=particles, max_rounds=8, seed=6
            )
            num = 1000 if name == "oracle" else 100
            means[name, role] = simulate_sessions(setup, rational, {}, np.arange(num)).true_degree[:, -1].mean()
    assert means["oracle", "advisor"] > means["live", "advisor"] > means["oracle", "tool"]


def test_the_oracle_has_to_be_told(lab: Make) -> None:
    setup = lab(engine="oracle")
    with pytest.raises(AssertionError, match="told the intent"):
        rounds.begin_session(setup, np.arange(3))
    truth = draw_truth(setup, np.arange(3), {})
    state = rounds.begin_session(setup, np.arange(3), told(setup, truth.weights, truth.aspirations))
    assert state.estimate.mean == pytest.approx(np.ones(3), abs=1e-12)
