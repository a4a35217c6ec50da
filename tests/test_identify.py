"""Choices alone say nothing of intent where beliefs are unknown: who takes beliefs for true is sure and wrong."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from calib import live, rounds
from calib.identify import answers, identified
from calib.scenario import Beliefs, Scenario
from calib.setup import Setup
from experiments.batch import Sessions, simulate_sessions
from experiments.people import rational

Make = Callable[..., Setup]
PEOPLE = np.arange(200)


@pytest.fixture(scope="session")
def vague(small: Scenario) -> Scenario:
    """The small scenario with descriptions that say little (spread 0.4) and people who hardly learn from runs."""
    return replace(small, learning_rate=0.01, beliefs=Beliefs((0.4, 0.1), learning_sd_logit=0.01, probe_sd=0.05))


def lived(lab: Make, vague: Scenario, engine: str, rounds: int, questions: int) -> tuple[Setup, Sessions]:
    setup = lab(
        scenario=vague,
        protocol={"questions_per_round": questions},
        engine=engine,
        role="tool",
        policy="random",
        max_rounds=rounds,
        num_particles=512,
        seed=5,
    )
    return setup, simulate_sessions(setup, rational, {}, PEOPLE)


def coverage_and_error(sessions: Sessions) -> tuple[float, float]:
    """Share of the weights in their 90% intervals; root mean square error of the means."""
    w, truth = live.intent(sessions.state.belief, 3), sessions.truth.weights
    low, high = np.quantile(w, [0.05, 0.95], axis=-1)
    return float(np.mean((low <= truth) & (truth <= high))), float(np.sqrt(np.mean((w.mean(axis=-1) - truth) ** 2)))


def explained(setup: Setup, sessions: Sessions) -> float:
    return float(np.mean([identified(setup, sessions.state, i)["intent"] for i in range(0, 200, 10)]))


@pytest.mark.slow
def test_who_takes_beliefs_for_true_becomes_sure_and_wrong(lab: Make, vague: Scenario) -> None:
    """200 people, 600 weights: coverage of 90% intervals to within 4 points (3.3 standard errors)."""
    found = {}
    for engine in ("live", "full"):
        for num in (5, 30):
            found[engine, num] = lived(lab, vague, engine, num, questions=0)
    cover = {key: coverage_and_error(sessions)[0] for key, (_, sessions) in found.items()}
    assert cover["live", 30] < cover["live", 5] - 0.05, "more answers, less truth"
    assert cover["live", 30] < 0.75
    assert abs(cover["full", 5] - 0.9) < 0.04 and abs(cover["full", 30] - 0.9) < 0.04, cover
    assert explained(*found["live", 30]) > 0.5, "sure"
    assert explained(*found["full", 30]) < 1 / 3, "wide"
    sure, wide = (coverage_and_error(found[engine, 30][1])[1] for engine in ("live", "full"))
    assert sure > wide, "and wrong"


@pytest.mark.slow
def test_twenty_comparisons_repair_it(lab: Make, vague: Scenario) -> None:
    setup, sessions = lived(lab, vague, "full", 20, questions=1)
    cover, error = coverage_and_error(sessions)
    alone = coverage_and_error(lived(lab, vague, "full", 20, questions=0)[1])[1]
    assert abs(cover - 0.9) < 0.04
    assert error < 0.6 * alone
    assert explained(setup, sessions) > 0.6
    assert identified(setup, sessions.state)["answers"] == {"mode_choice": 20, "comparison": 20, "run": 20}


def test_the_line_says_of_what_there_is_evidence(lab: Make, vague: Scenario) -> None:
    start = lab(scenario=vague, engine="full", num_particles=1024)
    nothing = identified(start, rounds.begin_session(start, np.arange(1)))
    assert nothing["speaks_about"] == "neither" and nothing["answers"] == {}
    assert abs(nothing["intent"]) < 0.15 and abs(nothing["mental_model"]) < 0.15
    known = lab(engine="live", max_rounds=6)
    state = simulate_sessions(known, rational, {}, np.arange(1)).state
    found = identified(known, state)
    assert found["mental_model"] is None and found["answers"] == {"accept_override": 6, "comparison": 6}
    assert answers(state) == found["answers"]
    fast = replace(vague, learning_rate=0.97, salience=(1.0, 1.0, 1.0))
    runs = lab(scenario=fast, engine="full", role="tool", max_rounds=6, num_particles=512)
    state = simulate_sessions(runs, rational, {}, np.arange(8)).state
    pinned = [identified(runs, state, i)["mental_model"] for i in range(8)]
    assert min(pinned) > 0.15, "runs that are learned from pin what is expected of the modes that ran"
