"""What an engine predicts of the answers before it takes them in, against the choice model particle by particle."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import logsumexp

from calib import live, rounds
from calib.choice import comparison_log_probs, menu_log_probs
from calib.engines import load_engine
from calib.setup import Setup
from calib.state import Predicted, State
from halfway import before_measuring

Make = Callable[..., Setup]


def predicted(setup: Setup, state: State) -> Predicted:
    found: Predicted = load_engine(setup.engine).predict(setup, state)
    return found


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_the_prediction_is_the_average_over_the_particles(lab: Make, role: str) -> None:
    """Menu and comparison written out for one particle at a time; options that are not there have none."""
    setup = lab(role=role, num_particles=64, seed=3)
    state = before_measuring(setup, np.arange(5), 3)
    found = predicted(setup, state)
    num_options = setup.num_modes + (role == "advisor")
    assert found.probability.shape == (5, 3, setup.num_modes + 1) and found.answer.shape == (5, 3)
    assert np.sum(found.probability, axis=2) == pytest.approx(np.tile([1.0, 1.0, 0.0], (5, 1)), abs=1e-12)
    assert (found.probability[:, 0, num_options:] == 0).all() and (found.probability[:, 1, 3:] == 0).all()
    w, e = live.intent_at(state.belief.particles, setup.num_attributes), state.evidence
    share = np.exp(state.belief.log_weight)
    assert (np.ptp(share, axis=1) > 0).any(), "the check needs particles that count differently"
    for i in range(5):
        menus, comparisons, weights = [], [], []
        at = int(state.in_belief[i])
        for p in range(64):
            extra = state.belief.particles[i, setup.num_attributes - 1 :, p]
            log_p = menu_log_probs(
                np,
                e.features[i, at, :num_options] @ w[i, :, p],
                np.exp(extra[e.channel[i, at]]),
                1 / (1 + np.exp(-extra[3])),
                reliance=extra[4],
                recommended=e.recommended[i, at, :num_options],
                inertia=extra[5],
                last=e.last[i, at, :num_options],
            )
            difference = (e.features[i, at + 1, 0] - e.features[i, at + 1, 1]) @ w[i, :, p]
            menus.append(np.exp(log_p))
            weights.append(share[i, p] * menus[-1][e.chosen[i, at]])
            comparisons.append(np.exp(comparison_log_probs(np, difference, np.exp(extra[2]), np.exp(extra[6]))))
        assert found.probability[i, 0, :num_options] == pytest.approx(
            np.average(menus, axis=0, weights=share[i]), abs=1e-12
        )
        expected = np.average(comparisons, axis=0, weights=weights)
        assert found.probability[i, 1, :3] == pytest.approx(expected, abs=1e-12)
        assert list(found.answer[i]) == [*e.chosen[i, at : at + 2], -1]


def test_it_predicts_what_the_engine_reweighs_by(lab: Make) -> None:
    """The log probability of a round's answers is the log of the mean likelihood at the particles."""
    setup = lab(seed=8)
    state = before_measuring(setup, np.arange(40), 4)
    found = predicted(setup, state)
    log_p = np.log(np.take_along_axis(found.probability[:, :2], found.answer[:, :2, None], axis=2)[:, :, 0])
    likelihood = live.answer_log_likelihood(state.belief, setup.prior, state.evidence, state.in_belief)
    share = state.belief.log_weight - logsumexp(state.belief.log_weight, axis=1, keepdims=True)
    assert log_p.sum(axis=1) == pytest.approx(logsumexp(share + likelihood, axis=1), abs=1e-9)


def test_a_row_is_the_same_whoever_else_is_in_the_batch(lab: Make) -> None:
    setup = lab(seed=5, num_particles=64)
    together = predicted(setup, before_measuring(setup, np.arange(30), 2))
    for first, last in ((0, 1), (7, 14)):
        alone = predicted(setup, before_measuring(setup, np.arange(first, last), 2))
        assert np.array_equal(alone.probability, together.probability[first:last])
        assert np.array_equal(alone.answer, together.answer[first:last])


def test_rounds_without_an_answer_predict_nothing(lab: Make) -> None:
    """Nobody is asked to compare, and one person has stopped."""
    setup = lab(protocol={"questions_per_round": 0}, num_particles=64)
    state = rounds.begin_round(setup, rounds.begin_session(setup, np.arange(3)))
    state = rounds.stop_people(state, np.array([False, True, False]))
    state = rounds.chosen(setup, state, np.array([0, 1, 4]), np.zeros(3), np.zeros(3))
    found = predicted(setup, state)
    assert found.answer.tolist() == [[0, -1, -1], [-1, -1, -1], [4, -1, -1]]
    assert (found.probability[1] == 0).all() and (found.probability[:, 1:] == 0).all()
