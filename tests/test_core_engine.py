"""The live engine against exact answers: calibration over people, NUTS, and importance sampling after a surprise."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chisquare

from calib import live
from calib.choice import comparison_log_probs
from calib.documents import parameter_draws
from calib.evidence import Evidence, add_comparison, empty_evidence
from calib.kernel import COMPARISON
from calib.live import draws as draws_of
from calib.live import evenly, intent, update
from calib.prior import Prior
from calib.scenario import load_scenario
from calib.setup import Setup, make_setup
from calib.streams import stream_key
from experiments.batch import simulate_sessions
from experiments.people import load_person

Make = Callable[..., Setup]
Floats = NDArray[np.float64]
ONE = np.array([0])
ALL = np.array([True])


def test_the_prior_has_the_moments_of_the_population(lab: Make) -> None:
    """200,000 draws: Dirichlet means and variances, and the normal coordinates, within 5 standard errors."""
    setup, num = lab(), 200_000
    prior = setup.prior
    x = prior.draw(stream_key(1, "test"), np.arange(1), num)
    w = intent(evenly(x), 3)[0]
    share = prior.concentration / prior.concentration.sum()
    variance = share * (1 - share) / (prior.concentration.sum() + 1)
    assert np.abs(w.mean(axis=1) - share).max() < 5 * np.sqrt(variance.max() / num)
    assert w.var(axis=1) == pytest.approx(variance, rel=0.02)
    assert np.abs((x[0, 2:].mean(axis=1) - prior.mean) / prior.sd).max() < 5 / np.sqrt(num)
    assert x[0, 2:].std(axis=1) == pytest.approx(prior.sd, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_ranks_of_the_truth_are_uniform(lab: Make, role: str) -> None:
    """Simulation-based calibration (Talts et al. 2018): 700 people, 6 rounds, choices and comparisons.

    The rank of each true parameter among 63 posterior draws, in 16 bins: p > 0.01 after Bonferroni.
    """
    setup = lab(role=role, max_rounds=6, num_particles=504, seed=21)
    model, _ = load_person("rational")
    sessions = simulate_sessions(setup, model, {}, np.arange(700))
    w = intent(sessions.state.belief, 3)
    extra = draws_of(sessions.state.belief)[:, 2:]
    truth = sessions.truth
    pairs = {f"weight {j}": (w[:, j], truth.weights[:, j]) for j in range(3)}
    pairs |= {f"rationality {c}": (np.exp(extra[:, c]), truth.rationality[:, c]) for c in range(3)}
    pairs |= {"reliance": (extra[:, 4], truth.reliance), "threshold": (np.exp(extra[:, 6]), truth.about_equal)}
    p_values = {}
    for name, (draws, true) in pairs.items():
        ranks = np.sum(draws[:, ::8] < true[:, None], axis=1)
        p_values[name] = chisquare(np.bincount(ranks // 4, minlength=16)).pvalue
    assert min(p_values.values()) > 0.01 / len(p_values), p_values


@pytest.mark.slow
def test_the_live_engine_is_nuts(lab: Make) -> None:
    """One session of ten rounds against 4 x 2,000 draws of the PyMC model: weight means within 0.15 posterior sd."""
    from calib.audit import sample_posterior

    setup = lab(role="advisor", max_rounds=10, num_particles=4096, seed=8)
    model, _ = load_person("rational")
    state = simulate_sessions(setup, model, {}, np.array([17])).state
    reference, diagnostics = sample_posterior(setup.prior, state.evidence, 1, draws=2000)
    assert diagnostics["r_hat"] < 1.01 and diagnostics["ess_bulk"] > 400
    nuts = reference["weights"].reshape(-1, setup.num_attributes)
    draws = parameter_draws(setup, state)
    for j, attribute in enumerate(setup.scenario.attributes):
        found = draws[attribute.name]
        assert abs(found.mean() - nuts[:, j].mean()) < 0.15 * nuts[:, j].std(), attribute.name
        assert found.std() == pytest.approx(nuts[:, j].std(), rel=0.15), attribute.name
    for name in ("reliance", "inertia", "about_equal", "lapse"):
        other = reference[name].ravel()
        assert abs(draws[name].mean() - other.mean()) < 0.15 * other.std(), name
    for c in range(3):
        log_r = np.log(reference["rationality"][..., c].ravel())
        found = draws_of(state.belief)[0, setup.num_attributes - 1 + c]
        assert abs(found.mean() - log_r.mean()) < 0.15 * log_r.std()


def compare(evidence: Evidence, a: list[float], b: list[float], answer: int) -> Evidence:
    return add_comparison(evidence, ALL, np.array([a]), np.array([b]), np.array([answer]))


def importance_sampling(prior: Prior, evidence: Evidence) -> tuple[Floats, Floats, float]:
    """Mean and sd of the weights from 1e6 draws of numpy's own generator, and their effective number."""
    rng = np.random.default_rng(12)
    num = 1_000_000
    w = rng.dirichlet(prior.concentration, num)
    rationality = np.exp(rng.normal(prior.mean[COMPARISON], prior.sd[COMPARISON], num))
    threshold = np.exp(rng.normal(prior.mean[6], prior.sd[6], num))
    log_p = np.zeros(num)
    for k in range(int(evidence.num_answers[0])):
        difference = w @ (evidence.features[0, k, 0] - evidence.features[0, k, 1])
        log_p += comparison_log_probs(np, difference, rationality, threshold)[:, evidence.chosen[0, k]]
    weight = np.exp(log_p - log_p.max())
    weight /= weight.sum()
    mean = weight @ w
    return mean, np.sqrt(weight @ (w - mean) ** 2), float(1 / np.sum(weight**2))


def test_a_surprising_answer_enters_by_steps_and_the_posterior_is_right(lab: Make) -> None:
    """Three answers for the first attribute, then one against it: the gate opens, and the belief is still exact."""
    setup = lab()
    belief = live.start(setup.prior, ONE, 3, 4096)
    evidence = empty_evidence(1, 10, 2, 3)
    done = np.array([0])
    for a, b in (([1.0, 0, 0], [0.0, 1, 0]), ([1.0, 0, 0], [0.0, 0, 1]), ([0.8, 0.1, 0.2], [0.2, 0.6, 0.5])):
        evidence = compare(evidence, a, b, 0)
        belief, diagnostics = update(belief, setup.prior, evidence, done, ONE, 3, ALL)
        done = evidence.num_answers.copy()
    evidence = compare(evidence, [1.0, 0.1, 0.2], [0.0, 0.6, 0.6], 1)  # the second, though it has less of the first
    belief, diagnostics = update(belief, setup.prior, evidence, done, ONE, 3, ALL)
    assert diagnostics.ess[0] < 0.25
    assert diagnostics.stages[0] > 1
    assert diagnostics.accept[0] > 0.5
    particles = belief.particles[0]
    assert not belief.log_weight.any()
    assert len(np.unique(particles, axis=1).T) > 0.8 * 4096, "the set is healthy"
    mean, sd, effective = importance_sampling(setup.prior, evidence)
    assert effective > 2_000, "the reference itself has to be good"
    w = intent(belief, 3)[0]
    assert np.abs((w.mean(axis=1) - mean) / sd).max() < 0.08
    assert w.std(axis=1) == pytest.approx(sd, rel=0.05)


def test_copies_part_also_where_the_usual_step_is_too_long() -> None:
    """The particle of the highest rationality, where the posterior is narrow, counts as much as a tenth of all.

    Every move of the usual length refused 32 of its copies, and only those: they would gather, answer by answer.
    """
    num = 4096
    setup = make_setup(load_scenario("apartment"), engine="live", num_particles=num, seed=1)
    rng, evidence, w = np.random.default_rng(1), empty_evidence(1, 41, 2, 6), [0.45, 0.04, 0.03, 0.32, 0.12, 0.04]
    for _ in range(41):
        a, b = rng.random((2, 6))
        evidence = compare(evidence, list(a), list(b), int((a - b) @ w < 0))
    known = evidence._replace(num_answers=evidence.num_answers - 1)
    belief, _ = update(live.start(setup.prior, ONE, 3, num), setup.prior, known, np.array([0]), ONE, 3, ALL)
    x, log_weight = draws_of(belief), np.zeros((1, num))
    log_weight[0, np.argmax(x[0, 5 + COMPARISON])] = np.log(num / 9)
    heavy = live.Belief(x, log_weight - log_weight.max(), belief.step)
    after, diagnostics = update(heavy, setup.prior, evidence, known.num_answers, ONE, 3, ALL)
    assert diagnostics.stages[0] > 0
    _, copies = np.unique(after.particles[0], axis=1, return_counts=True)
    assert copies.max() < 0.004 * num


def test_while_enough_particles_count_they_are_only_reweighed(lab: Make) -> None:
    """Nothing is moved, and each is drawn about as often as it counts; where one too few count, all are moved."""
    setup, num = lab(), 4096
    first = live.start(setup.prior, ONE, 3, num)
    evidence = compare(empty_evidence(1, 10, 2, 3), [1.0, 0.4, 0.4], [0.0, 0.6, 0.6], 0)
    belief, diagnostics = update(first, setup.prior, evidence, np.array([0]), ONE, 3, ALL)
    assert belief.particles is first.particles and diagnostics.stages[0] == 0
    likelihood = live.answer_log_likelihood(first, setup.prior, evidence, np.array([0]))
    assert belief.log_weight == pytest.approx(likelihood - likelihood.max(), abs=1e-5)
    weight = np.exp(belief.log_weight[0])
    assert diagnostics.ess[0] == pytest.approx(weight.sum() ** 2 / np.sum(weight**2) / num, rel=1e-4)
    drawn = draws_of(belief)[0]
    numbers = {column.tobytes(): p for p, column in enumerate(np.ascontiguousarray(first.particles[0].T))}
    times = np.bincount([numbers[column.tobytes()] for column in np.ascontiguousarray(drawn.T)], minlength=num)
    assert np.abs(times - num * weight / weight.sum()).max() < 1.001
    for k in range(1, 10):
        evidence = compare(evidence, [1.0, 0.1 * k, 0.4], [0.0, 0.6, 0.6], 0)
        before, (belief, diagnostics) = belief, update(belief, setup.prior, evidence, np.array([k]), ONE, 3, ALL)
        if diagnostics.stages[0]:
            break
    assert diagnostics.stages[0] == 1 and 0.25 < diagnostics.ess[0] < 0.5
    assert not belief.log_weight.any() and draws_of(belief) is belief.particles
    assert len(np.unique(belief.particles[0], axis=1).T) > 0.95 * num, "copies have parted"
    assert np.array_equal(before.particles, first.particles), "the belief before is as it was"


def test_draws_are_the_same_whoever_else_is_in_the_batch(lab: Make) -> None:
    setup, num = lab(), 5
    particles = setup.prior.draw(stream_key(1, "test"), np.arange(num), 200)
    log_weight = np.random.default_rng(1).normal(0, 1, (num, 200))
    log_weight[2] = 0.0
    belief = live.evenly(particles)._replace(log_weight=log_weight - log_weight.max(axis=1, keepdims=True))
    together = draws_of(belief)
    assert np.array_equal(together[2], particles[2])
    for i in range(num):
        alone = live.Belief(*(column[i : i + 1] for column in belief))
        assert np.array_equal(draws_of(alone)[0], together[i])


def test_answers_taken_in_together_or_one_by_one_give_the_same_posterior(lab: Make) -> None:
    setup = lab()
    rng = np.random.default_rng(3)
    evidence = empty_evidence(1, 12, 2, 3)
    one_by_one = live.start(setup.prior, ONE, 3, 16384)
    for k in range(10):
        evidence = compare(evidence, rng.random(3).tolist(), rng.random(3).tolist(), int(rng.integers(3)))
        one_by_one, _ = update(one_by_one, setup.prior, evidence, np.array([k]), ONE, 3, ALL)
    together = live.start(setup.prior, ONE, 4, 16384)
    together, diagnostics = update(together, setup.prior, evidence, np.array([0]), ONE, 4, ALL)
    assert diagnostics.stages[0] > 1
    mean, sd, effective = importance_sampling(setup.prior, evidence)
    assert effective > 20_000
    for belief in (one_by_one, together):
        w = intent(belief, 3)[0]
        assert np.abs((w.mean(axis=1) - mean) / sd).max() < 0.05
        assert w.std(axis=1) == pytest.approx(sd, rel=0.025)


def test_an_update_without_news_or_of_somebody_who_stopped_changes_nothing(lab: Make) -> None:
    setup = lab()
    belief = live.start(setup.prior, np.arange(2), 3, 64)
    evidence = empty_evidence(2, 4, 2, 3)
    a, b = np.ones((2, 3)), np.zeros((2, 3))
    evidence = add_comparison(evidence, np.array([True, True]), a, b, np.array([0, 1]))
    since = np.array([0, 1])  # the second has nothing new
    active = np.array([False, True])
    after, diagnostics = update(belief, setup.prior, evidence, since, np.arange(2), 3, active)
    assert np.array_equal(after.particles, belief.particles)
    assert diagnostics.stages.tolist() == [0, 0]
    again, _ = update(belief, setup.prior, evidence, since * 0, np.arange(2), 3, np.array([True, True]))
    assert not np.array_equal(again.particles, belief.particles)


def test_the_likelihood_of_new_answers_is_that_of_the_choice_model(lab: Make) -> None:
    setup = lab()
    belief = live.start(setup.prior, ONE, 3, 500)
    evidence = empty_evidence(1, 4, 2, 3)
    evidence = compare(evidence, [1, 0, 0], [0, 1, 0], 0)
    evidence = compare(evidence, [1, 0.5, 0], [0, 1, 0.2], 2)
    found = live.answer_log_likelihood(belief, setup.prior, evidence, np.array([1]))[0]
    w, x = intent(belief, 3)[0], belief.particles[0]
    difference = np.array([1, -0.5, -0.2]) @ w
    expected = comparison_log_probs(np, difference, np.exp(x[2 + COMPARISON]), np.exp(x[8]))[:, 2]
    assert found == pytest.approx(expected, abs=1e-9)
