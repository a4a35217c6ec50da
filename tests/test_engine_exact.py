"""The engine that holds for any utility: against the engine live and against NUTS, its predictions, its sessions."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from calib import live, rounds
from calib.audit import sample_posterior
from calib.documents import parameter_draws
from calib.engines import exact, load_engine
from calib.evidence import as_believed
from calib.policies import policy_names
from calib.scenario import Scenario, load_scenario
from calib.setup import Setup
from calib.state import State
from calib.utility import value
from experiments.batch import simulate_sessions
from experiments.expand import documents
from experiments.people import rational
from halfway import before_measuring
from people_minds import with_aspirations, with_beliefs

Make = Callable[..., Setup]


@pytest.fixture
def aspiring(lab: Make, small: Scenario) -> Make:
    """aspiring(**make_setup): the small scenario, whose people are content with enough."""

    def make(beliefs: bool = False, **how: object) -> Setup:
        scenario = with_aspirations(with_beliefs(small) if beliefs else small)
        if beliefs:
            asked = {**scenario.effort_s, "expect": 6.0, "rate": 4.0}
            scenario = replace(scenario, asks_beliefs=True, asks_ratings=True, effort_s=asked)
        return lab(scenario=scenario, **({"num_particles": 256} | how))

    return make


def apart(setup: Setup, state: State, reference: dict[str, np.ndarray]) -> dict[str, float]:
    """By parameter how far its mean is from the reference's, in sds of that."""
    mine = parameter_draws(setup, state)
    return {name: float((mine[name].mean() - v.mean()) / v.std()) for name, v in reference.items()}


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_what_the_history_says_is_what_was_believed(lab: Make, role: str) -> None:
    """Evidence made of it afterwards is what the engine live gathers in the session with the same people."""
    how = {"role": role, "policy": "random", "max_rounds": 6, "num_particles": 64, "seed": 3}
    setup = lab(engine="exact", **how)
    mine = simulate_sessions(setup, rational, {}, np.arange(3)).state
    made = as_believed(mine.evidence, setup.expectation, setup.learning)
    if role == "advisor":  # proposals differ from those of another engine: each fills its own evidence
        assert (made.num_answers == 12).all() and (made.recommended.sum(axis=2)[:, :12:2] == 1).all()
        return
    theirs = simulate_sessions(lab(engine="live", **how), rational, {}, np.arange(3)).state.evidence
    for name in ("recommended", "last", "num_options", "channel", "chosen", "num_answers"):
        ours, other = getattr(made, name), getattr(theirs, name)
        if ours.ndim > 1:
            ours, other = ours[:, :12], other[:, :12]
        assert np.array_equal(ours[..., : other.shape[-1]], other), name
    assert np.allclose(made.features[:, :12], theirs.features[:, :12], atol=1e-12)


def test_with_linear_utility_it_believes_what_live_does(lab: Make) -> None:
    """The same tool's answers through both, 2,048 particles each: means within 0.15 sd, spreads within 12%."""
    how = {"role": "tool", "policy": "random", "max_rounds": 12, "num_particles": 2048, "seed": 5}
    setup, other = lab(engine="exact", **how), lab(engine="live", **how)
    mine, theirs = (simulate_sessions(s, rational, {}, np.arange(3)) for s in (setup, other))
    for person in range(3):
        one, two = (parameter_draws(s, r.state, person) for s, r in ((setup, mine), (other, theirs)))
        assert set(one) == set(two)
        for name, v in two.items():
            assert abs(one[name].mean() - v.mean()) < 0.15 * v.std(), (person, name)
            assert one[name].std() == pytest.approx(v.std(), rel=0.12), (person, name)
    assert np.allclose(mine.estimate, theirs.estimate, atol=0.05)


@pytest.mark.slow
def test_aspirations_are_those_of_nuts(aspiring: Make) -> None:
    setup = aspiring(max_rounds=12, num_particles=1024, seed=8)
    state = simulate_sessions(setup, rational, {}, np.array([1])).state
    known = as_believed(state.evidence, setup.expectation, setup.learning)
    found, diagnostics = sample_posterior(setup.prior, known, 3, aspirations=setup.aspirations)
    assert diagnostics["r_hat"] < 1.02
    flat = {name: v.reshape(-1, *v.shape[2:]) for name, v in found.items()}
    names = [a.name for a in setup.scenario.attributes]
    reference = {name: flat["weights"][:, j] for j, name in enumerate(names)}
    reference |= {f"aspiration[{name}]": flat["aspirations"][:, j] for j, name in enumerate(names)}
    off = apart(setup, state, reference)
    assert max(map(abs, off.values())) < 0.15, off


@pytest.mark.parametrize("beliefs", [False, True])
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_predictions_are_what_the_update_weighs_by(aspiring: Make, role: str, beliefs: bool) -> None:
    """The chance of both answers of a round is the particles' mean likelihood, by the compiled kernel."""
    setup = aspiring(beliefs, role=role, num_particles=512, max_rounds=3)
    for t in (1, 3):
        state = before_measuring(setup, np.arange(2), t)
        found = exact.predict(setup, state)
        assert np.allclose(found.probability.sum(axis=2), [1.0, 1.0, 0.0])
        for i in range(2):
            new = exact.mover_of(setup).new_answers(exact.held_of(state, i), state.evidence, i)
            both = np.prod([found.probability[i, k, found.answer[i, k]] for k in range(2)])
            assert np.log(np.mean(np.exp(new.astype(float)))) == pytest.approx(np.log(both), abs=2e-4)


def test_particles_are_the_same_twice(aspiring: Make) -> None:
    """What policies read is what moves, and what is judged on a few knots is near what it is."""
    setup = aspiring(True, max_rounds=3)
    state = simulate_sessions(setup, rational, {}, np.arange(2)).state
    belief, flat = state.belief, exact._flat(setup)
    w = live.intent_at(belief.particles, 3)
    assert np.allclose(w.sum(axis=1), 1) and np.all((belief.aspirations > 0.2) & (belief.aspirations < 1))
    exactly = np.einsum("njp,nqjp->nqp", w, value(np, setup.cards[None, :, :, None], belief.aspirations[:, None]))
    few = exact._flat_belief(setup, belief)
    assert few.particles.shape[1] == flat.num_attributes - 1 + 7
    meant = live.intent_at(few.particles, flat.num_attributes)
    assert np.max(np.abs(np.einsum("njp,qj->nqp", meant, flat.cards) - exactly)) < 0.012
    assert flat.pool == setup.pool
    for i in range(2):
        own = exact.own_parameters(setup, belief, i)
        assert {"learning_rate", "belief_sd", "aspiration[sound]", "aspiration", "spacing"} <= set(own)


@pytest.mark.parametrize("policy", policy_names())
@pytest.mark.parametrize("beliefs", [False, True])
def test_every_policy_asks_about_aspiring_people(aspiring: Make, policy: str, beliefs: bool) -> None:
    setup = aspiring(beliefs, policy=policy, num_particles=128, max_rounds=3)
    state = simulate_sessions(setup, rational, {}, np.arange(2)).state
    assert np.all(state.asked[state.kind >= 0] >= 0)
    assert np.all(state.kind >= 0) or policy == "per_second"


def test_a_person_is_the_same_in_any_batch(aspiring: Make) -> None:
    setup = aspiring(num_particles=128, max_rounds=3)
    together = simulate_sessions(setup, rational, {}, np.arange(5))
    alone = simulate_sessions(setup, rational, {}, np.array([3]))
    assert np.array_equal(together.estimate[3:4], alone.estimate)
    assert np.array_equal(together.state.belief.held[3:4], alone.state.belief.held)


def test_what_is_expected_is_read_off_the_particles(aspiring: Make) -> None:
    """Where beliefs are known it is the one f_hat; where not, the outlook after a run is nearer to what was seen."""
    setup = aspiring(max_rounds=3)
    state = simulate_sessions(setup, rational, {}, np.arange(2)).state
    assert np.allclose(exact.outlook(setup, state, 1, 4)[0], state.f_hat[1][..., None], atol=1e-6)
    setup = aspiring(True, role="tool", max_rounds=2, num_particles=1024)
    state = rounds.measure(setup, before_measuring(setup, np.arange(1), 1))
    now = exact.outlook(setup, state, 0, 1)[0]
    assert exact.believed(setup, state).shape == (1, 4, 3, 1024)
    mode = state.last_mode[0]
    moved = np.abs(now[mode] - state.seen[0][:, None]) < np.abs(
        exact.believed(setup, state)[0, mode] - state.seen[0][:, None]
    )
    assert moved.all()


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_documents_of_a_session(aspiring: Make, role: str) -> None:
    """Aspirations stand in the belief and in the truth; the gaps add up; nothing is off in the honesty figures."""
    setup = aspiring(role=role, max_rounds=4)
    found = documents(setup, "rational", 1)
    last = [d["body"] for d in found if d["type"] == "round"][-1]
    names = {f"aspiration[{a.name}]" for a in setup.scenario.attributes}
    assert names < set(last["belief"]) and "learning_rate" not in last["belief"]
    assert all(0.2 < last["belief"][name]["mean"] < 1 for name in names)
    stop, truth = (next(d["body"] for d in found if d["type"] == kind) for kind in ("stop", "truth"))
    assert set(truth["person"]["aspirations"]) == {a.name for a in setup.scenario.attributes}
    assert stop["identified"]["mental_model"] is None and stop["honesty"]["prequential"]["answers"] == 8
    assert [r["attribute"] for r in stop["regret"]] == [a.name for a in setup.scenario.attributes]


def test_ranks_of_the_truth_are_uniform_where_nothing_is_approximate(aspiring: Make) -> None:
    """120 people of 4 rounds: weights and aspirations, each rank among 19 draws, in four bins."""
    setup = aspiring(max_rounds=4, num_particles=256, seed=21)
    sessions = simulate_sessions(setup, rational, {}, np.arange(120))
    picked = np.arange(6, 256, 13)[:19]
    w = live.intent_at(sessions.state.belief.particles, 3)
    for draws, truth in ((w, sessions.truth.weights), (sessions.state.belief.aspirations, sessions.truth.aspirations)):
        ranks = np.sum(draws[:, :, picked] < truth[:, :, None], axis=2)
        for j in range(3):
            assert chisquare(np.bincount(ranks[:, j] // 5, minlength=4)).pvalue > 1e-3


def test_the_shipped_scenario_is_served_by_it() -> None:
    scenario = load_scenario("aspiration")
    assert scenario.utility == "aspiration" and load_engine("exact").UTILITIES == ("linear", "aspiration")
    apartment = load_scenario("apartment")
    assert scenario.settings == apartment.settings and scenario.contexts == apartment.contexts
