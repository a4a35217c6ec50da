"""Choices alone say nothing of intent where beliefs are unknown: who takes beliefs for true is sure and wrong."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from calib import live, rounds
from calib.identify import answers, identified
from calib.scenario import Beliefs, Scenario
from calib.setup import Setup
from calib.state import State
from experiments.batch import Sessions, simulate_sessions
from experiments.people import rational

Make = Callable[..., Setup]
PEOPLE = np.arange(200)


@pytest.fixture(scope="session")
def vague(small: Scenario) -> Scenario:
    """The small scenario with descriptions that say little (spread 0.4) and people who hardly learn from runs."""
    return replace(small, learning_rate=0.01, beliefs=Beliefs((0.4, 0.1), learning_sd_logit=0.01, probe_sd=0.05))


@dataclass(frozen=True)
class Lived:
    """Sessions of 200 people, with the weights that were believed after some rounds before the last, (N, J, P)."""

    setup: Setup
    sessions: Sessions
    believed: dict[int, NDArray[np.float64]]

    def coverage_and_error(self, after: int) -> tuple[float, float]:
        """Share of the weights in their 90% intervals; root mean square error of the means."""
        w, truth = self.believed[after], self.sessions.truth.weights
        low, high = np.quantile(w, [0.05, 0.95], axis=-1)
        return float(np.mean((low <= truth) & (truth <= high))), float(np.sqrt(np.mean((w.mean(axis=-1) - truth) ** 2)))

    def explained(self) -> float:
        return float(np.mean([identified(self.setup, self.sessions.state, i)["intent"] for i in range(0, 200, 10)]))


@pytest.fixture(scope="module")
def lived(lab: Make, vague: Scenario) -> Callable[..., Lived]:
    """lived(engine, rounds, questions): once for this file, which both tests look at after several rounds."""

    @cache
    def live_through(engine: str, num_rounds: int, questions: int) -> Lived:
        setup = lab(
            scenario=vague,
            protocol={"questions_per_round": questions},
            engine=engine,
            role="tool",
            policy="random",
            max_rounds=num_rounds,
            num_particles=512,
            seed=5,
        )
        believed = {}

        def watch(state: State, taken_in: bool) -> None:
            if taken_in and state.round in (5, 20, 30):
                believed[state.round] = live.intent(state.belief, 3).copy()

        return Lived(setup, simulate_sessions(setup, rational, {}, PEOPLE, watch), believed)

    return live_through


@pytest.mark.slow
def test_who_takes_beliefs_for_true_becomes_sure_and_wrong(lived: Callable[..., Lived]) -> None:
    """200 people, 600 weights: coverage of 90% intervals to within 4 points (3.3 standard errors)."""
    found = {engine: lived(engine, 30, questions=0) for engine in ("live", "full")}
    cover = {(engine, after): of.coverage_and_error(after)[0] for engine, of in found.items() for after in (5, 30)}
    assert cover["live", 30] < cover["live", 5] - 0.05, "more answers, less truth"
    assert cover["live", 30] < 0.75
    assert abs(cover["full", 5] - 0.9) < 0.04 and abs(cover["full", 30] - 0.9) < 0.04, cover
    assert found["live"].explained() > 0.5, "sure"
    assert found["full"].explained() < 1 / 3, "wide"
    sure, wide = (found[engine].coverage_and_error(30)[1] for engine in ("live", "full"))
    assert sure > wide, "and wrong"


@pytest.mark.slow
def test_twenty_comparisons_repair_it(lived: Callable[..., Lived]) -> None:
    repaired, alone = lived("full", 20, questions=1), lived("full", 30, questions=0)
    cover, error = repaired.coverage_and_error(20)
    assert abs(cover - 0.9) < 0.04
    assert error < 0.6 * alone.coverage_and_error(20)[1]
    assert repaired.explained() > 0.6
    answered = identified(repaired.setup, repaired.sessions.state)["answers"]
    assert answered == {"mode_choice": 20, "comparison": 20, "run": 20}


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
