"""What a round does to the state, by hand: context, what stands, clocks, questions, reasons to stop."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from calib import rounds
from calib.setup import Setup
from calib.state import State

Make = Callable[..., Setup]
ZERO = np.zeros(1)


def choose(setup: Setup, state: State, context: int, option: int) -> State:
    """One person's choice in this context."""
    state = rounds.begin_round(setup, state)
    state = replace(state, context=np.array([context]))
    return rounds.chosen(setup, state, np.array([option]), ZERO, ZERO)


def test_contexts_come_as_often_as_their_p_and_replicates_equally(lab: Make) -> None:
    setup = lab(num_particles=2)
    state = rounds.begin_round(setup, rounds.begin_session(setup, np.arange(20_000)))
    counts = np.bincount(state.context, minlength=3)
    assert chisquare(counts, setup.context_p * 20_000).pvalue > 0.001
    assert chisquare(np.bincount(state.replicate, minlength=4)).pvalue > 0.001


def test_with_a_tool_the_last_choice_for_a_context_stands_else_the_default(lab: Make) -> None:
    setup = lab(role="tool", num_particles=16)
    state = rounds.begin_session(setup, np.arange(1))
    assert state.standing.tolist() == [[setup.default] * 3]
    for context, mode, expected in ((0, 2, [2, 1, 1]), (2, 0, [2, 1, 0]), (0, 3, [3, 1, 0])):
        state = rounds.measure(setup, choose(setup, state, context, mode))
        assert state.standing.tolist() == [expected]
        assert state.commanded.tolist() == [mode] and state.proposal.tolist() == [-1]


def test_an_advisor_proposes_what_stands_and_an_override_stands_nowhere(lab: Make) -> None:
    setup = lab(role="advisor", num_particles=16)
    state = rounds.begin_session(setup, np.arange(1))
    before = state.standing.copy()
    round_1 = rounds.begin_round(setup, state)
    assert round_1.proposal[0] == before[0, round_1.context[0]]
    taken = rounds.chosen(setup, round_1, np.array([setup.num_modes]), ZERO, ZERO)
    overridden = rounds.chosen(setup, round_1, np.array([2]), ZERO, ZERO)
    assert taken.commanded[0] == round_1.proposal[0]
    assert overridden.commanded[0] == setup.mode_setting[2]
    assert np.array_equal(overridden.standing, before)


def test_five_clocks_by_hand(lab: Make) -> None:
    setup = lab(role="tool", num_particles=16)
    state = rounds.begin_session(setup, np.arange(2))
    for number in (1, 2):
        state = rounds.begin_round(setup, state)
        state = rounds.chosen(setup, state, np.array([0, 1]), np.array([3.0, 4.0]), np.array([5.0, 6.0]))
        z = setup.map.z[state.commanded, state.context, 0]
        state = rounds.outcome(setup, state, z, np.array([60.0, 90.0]), np.array([61.0, 92.0]))
        state = rounds.good_enough(state, np.array([1, 0]), np.array([2.0, 2.0]), np.array([2.0, 2.0]))
        if number == 1:
            state = rounds.stop_people(state, np.array([False, True]))
    # rounds, attention, wall, robot, effort; cumulative, and the second person left after round 1
    assert state.clocks[0, :3].tolist() == [[0] * 5, [1, 5, 68, 60, 2], [2, 10, 136, 120, 4]]
    assert state.clocks[1, :3].tolist() == [[0] * 5, [1, 6, 100, 90, 2], [0] * 5]
    assert state.good_enough[:, :3].tolist() == [[-1, 1, 1], [-1, 0, -1]]
    assert state.evidence.num_answers.tolist() == [2, 1]


def test_good_enough_is_asked_by_the_protocol(lab: Make) -> None:
    setup = lab(protocol={"good_enough_from": 3, "good_enough_every": 2})
    assert [t for t in range(1, 10) if rounds.asks_good_enough(setup, t)] == [3, 5, 7, 9]


@pytest.mark.parametrize(
    ("stop_rule", "answer", "p", "number", "expected"),
    [
        ("max_rounds", 1, 1.0, 3, ""),
        ("max_rounds", 1, 1.0, 6, "max_rounds"),
        ("accepted", 0, 1.0, 3, ""),
        ("accepted", 1, 0.0, 3, "accepted"),
        ("accepted", 1, 0.0, 6, "accepted"),
        ("declared", 1, 0.89, 3, ""),
        ("declared", 0, 0.9, 3, "declared"),
        ("declared", 0, 0.5, 6, "max_rounds"),
    ],
)
def test_reasons_to_stop(lab: Make, stop_rule: str, answer: int, p: float, number: int, expected: str) -> None:
    setup = lab(stop_rule=stop_rule, num_particles=2)
    state = rounds.begin_session(setup, np.arange(1))
    state.p_aligned[0, number], state.good_enough[0, number] = p, answer
    state = replace(state, round=number)
    assert rounds.finished(setup, state).tolist() == [expected]
    assert rounds.finished(setup, rounds.stop_people(state, np.array([True]))).tolist() == [""]


def test_the_estimate_is_of_the_particles(lab: Make) -> None:
    """Mean, 5% and 95%, and P(A >= 1 - eps) over the particles' degrees of what stands."""
    from calib import alignment, live

    setup = lab(role="tool", num_particles=64)
    state = rounds.measure(setup, choose(setup, rounds.begin_session(setup, np.arange(1)), 0, 2))
    w = live.intent(state.belief, 3)
    degrees = alignment.degree(setup, w, alignment.extremes(setup, w), state.standing)[0]
    estimate = state.estimate
    assert estimate.mean[0] == pytest.approx(degrees.mean(), abs=1e-15)
    assert [estimate.low[0], estimate.high[0]] == pytest.approx(np.quantile(degrees, [0.05, 0.95]))
    assert estimate.p_aligned[0] == np.mean(degrees >= 0.95) == state.p_aligned[0, 1]
    assert state.in_belief.tolist() == [1] and state.diagnostics.stages[0] >= 1
