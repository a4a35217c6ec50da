"""The engine with a mental model in sessions and populations: what it takes in, what it believes, that it is honest."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import chisquare

from calib import live, rounds
from calib.engines import full, load_engine
from calib.errors import UserError
from calib.history import ACCEPT_OVERRIDE, COMPARISON, MODE_CHOICE, RUN
from calib.setup import Setup
from experiments.batch import simulate_sessions
from experiments.expand import documents
from experiments.people import rational
from halfway import before_measuring

Make = Callable[..., Setup]


def test_a_scenario_that_says_nothing_of_beliefs_is_refused(lab: Make) -> None:
    assert lab().engine == "live" and lab(engine="full").engine == "full"
    with pytest.raises(UserError, match=r"^small.toml: mental_model.beliefs is missing; [^\n]+--engine live$"):
        full.check(lab())


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_the_history_holds_what_happened(lab: Make, role: str) -> None:
    setup = lab(engine="full", role=role, num_particles=64, max_rounds=3)
    kept = simulate_sessions(setup, rational, {}, np.arange(4)).state.evidence
    for i in range(4):
        kinds = kept.kind[i, : kept.num[i]]
        assert sum(kinds == COMPARISON) == 3
        assert sum(kinds == (ACCEPT_OVERRIDE if role == "advisor" else MODE_CHOICE)) == 3
        assert sum(kinds == RUN) == 3 or role == "advisor", "a proposal need not be a mode"


def test_particles_are_the_same_twice(lab: Make) -> None:
    """What policies read is what moves: weights on the simplex and every parameter on its scale."""
    setup = lab(engine="full", num_particles=512, max_rounds=4)
    state = simulate_sessions(setup, rational, {}, np.arange(2)).state
    mover = full.mover_of(setup)
    for i in range(2):
        w, extras = mover.parameters(state.belief.mind[i])
        assert np.allclose(live.intent(state.belief, 3)[i], w, atol=1e-6)
        assert np.allclose(state.belief.particles[i, 2:5], extras[:3])
        own = full.own_parameters(setup, state.belief, i)
        assert np.all((own["learning_rate"] > 0) & (own["learning_rate"] < 1) & (own["belief_sd"] > 0))


def test_a_person_is_the_same_in_any_batch(lab: Make) -> None:
    setup = lab(engine="full", num_particles=128, max_rounds=3)
    together = simulate_sessions(setup, rational, {}, np.arange(5))
    alone = simulate_sessions(setup, rational, {}, np.array([3]))
    assert np.array_equal(together.estimate[3:4], alone.estimate)
    assert np.array_equal(together.state.belief.mind[3:4], alone.state.belief.mind)


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_predictions_are_what_the_update_weighs_by(lab: Make, role: str) -> None:
    """The chance of both answers of a round is the particles' mean likelihood, by the compiled kernel."""
    setup = lab(engine="full", role=role, num_particles=512, max_rounds=3)
    for t in (1, 2, 3):
        state = before_measuring(setup, np.arange(3), t)
        found = full.predict(setup, state)
        assert np.allclose(found.probability.sum(axis=2), [1.0, 1.0, 0.0])
        for i in range(3):
            new = full.mover_of(setup).values(full.mind_of(state, i), state.evidence, i)[1]
            both = np.prod([found.probability[i, k, found.answer[i, k]] for k in range(2)])
            assert np.log(np.mean(np.exp(new.astype(float)))) == pytest.approx(np.log(both), abs=2e-4)


def test_a_session_tells_the_gaps_by_what_was_believed(lab: Make) -> None:
    """The mental-model gap is an interval, because beliefs are not known, and the documents hold how people learn."""
    setup = lab(engine="full", role="tool", num_particles=512, max_rounds=4)
    found = [d["body"] for d in documents(setup, "rational", 1) if d["type"] == "round"]
    assert {"learning_rate", "belief_sd"} < set(found[-1]["belief"])
    gap = found[-1]["gaps"]["mental_model"]
    assert 0 <= gap["low"] <= gap["estimate"] <= gap["high"] and gap["high"] > gap["low"]
    assert found == [d["body"] for d in documents(setup, "rational", 1) if d["type"] == "round"]


@pytest.mark.slow
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_ranks_of_the_truth_are_uniform(lab: Make, role: str) -> None:
    """Simulation-based calibration: 400 people, 6 rounds. Weights, learning rate, spread; Bonferroni at 0.01."""
    setup = lab(engine="full", role=role, max_rounds=6, num_particles=512, seed=3)
    sessions = simulate_sessions(setup, rational, {}, np.arange(400))
    belief, truth = sessions.state.belief, sessions.truth
    pairs = {f"weight {j}": (live.intent(belief, 3)[:, j], truth.weights[:, j]) for j in range(3)}
    pairs["learning rate"] = 1 / (1 + np.exp(-belief.own[:, 0])), truth.learning_rate
    pairs["spread"] = np.exp(belief.own[:, 1]), truth.belief_sd
    p_values = {}
    for name, (draws, true) in pairs.items():
        ranks = np.sum(draws[:, ::8] < true[:, None], axis=1)  # 0 to 64
        p_values[name] = chisquare(np.bincount(np.minimum(ranks // 8, 7), minlength=8)).pvalue
    assert min(p_values.values()) > 0.01 / len(p_values), p_values


def test_beliefs_are_those_of_the_prior_before_anything_happened(lab: Make) -> None:
    """f_hat reads out around the descriptions with the spread of the prior, whatever the weights."""
    setup = lab(engine="full", num_particles=4096)
    state = rounds.begin_session(setup, np.arange(3))
    f_hat = load_engine("full").believed(setup, state)
    spread = np.sqrt(np.mean(np.exp(2 * state.belief.own[:, 1]), axis=-1))
    assert np.allclose(f_hat.mean(axis=-1), setup.expectation, atol=5 * spread.max() / 64)
    assert np.allclose(f_hat.std(axis=-1), spread[:, None, None], rtol=0.12)
