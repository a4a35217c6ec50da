"""The live belief with a mental model: the same for any threads, honest about weights, and right where it is exact."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from calib import history, mental, mind
from calib.history import COMPARISON, PROBE, History
from calib.mental import MindPrior
from experiments.minds import live_through
from test_mind_kernel import ALL, random_history, random_prior, weights_of

Floats = NDArray[np.float64]


def after(
    prior: MindPrior, h: History, ends: list[int], *, num: int = 1024, seed: int = 0, person: int = 0, threads: int = 1
) -> tuple[mind.Mind, list[mind.Effort]]:
    """The belief after each of the rounds that end there, and what each update took."""
    mover, belief, efforts = mind.Mover(prior, seed, threads), mind.start(prior, person, seed, num), []
    for end in ends:
        belief, effort = mover.update(belief, h._replace(num=np.array([end])), person)
        efforts.append(effort)
    return belief, efforts


def draws(belief: mind.Mind) -> Floats:
    """(D, P) coordinates of all particles."""
    return belief.particles.transpose(1, 0, 2).reshape(belief.particles.shape[1], -1).astype(float)


def test_threads_change_no_number_and_seeds_and_people_do() -> None:
    rng = np.random.default_rng(0)
    prior = random_prior(rng, 5, 4, "two")
    h = random_history(rng, prior, 30, (0, 1, 2, 3, 4, 5, 6))
    one, _ = after(prior, h, [10, 20, 30], threads=1)
    two, _ = after(prior, h, [10, 20, 30], threads=3)
    assert np.array_equal(one.particles, two.particles)
    assert np.array_equal(one.value, two.value)
    assert not np.array_equal(one.particles, after(prior, h, [10, 20, 30], seed=1)[0].particles)
    assert not np.array_equal(one.particles, after(prior, h, [10, 20, 30], person=1)[0].particles)


def test_nothing_new_changes_nothing_and_no_older_belief_is_written() -> None:
    rng = np.random.default_rng(1)
    prior = random_prior(rng, 4, 3, "one")
    h = random_history(rng, prior, 12, (0, 2, 5, 6))
    belief, _ = after(prior, h, [6])
    before = belief.particles.copy()
    same, effort = mind.Mover(prior, 0).update(belief, h._replace(num=np.array([6])), 0)
    assert same is belief
    assert effort.steps == 0
    mind.Mover(prior, 0).update(belief, h, 0)
    assert np.array_equal(belief.particles, before)


def test_the_value_of_a_particle_is_its_density() -> None:
    """What the next reweighing starts from: the density of everything so far, by a second evaluation."""
    rng = np.random.default_rng(2)
    prior = random_prior(rng, 5, 4, "two")
    h = random_history(rng, prior, 24, (0, 1, 2, 3, 4, 5, 6))
    belief, _ = after(prior, h, [8, 16, 24], num=512)
    value, _ = mind.Mover(prior, 0).values(belief, h)
    assert belief.value == pytest.approx(value, abs=2e-3)


def test_without_answers_the_prior_stays() -> None:
    """Runs alone say nothing about anybody: every coordinate stays standard normal through twelve sweeps."""
    rng = np.random.default_rng(3)
    prior = random_prior(rng, 4, 3, "one")
    h = random_history(rng, prior, 12, (history.RUN,))
    belief, efforts = after(prior, h, list(range(1, 13)), num=4096)
    assert min(e.ess for e in efforts) > 0.99
    for row in draws(belief):
        assert stats.kstest(row, "norm").pvalue > 1e-4


def test_probes_alone_are_a_gaussian_update_of_the_spread_and_nothing_else() -> None:
    """With no run, n probes of distinct cells say only how far beliefs are spread: one dimension, by quadrature."""
    rng = np.random.default_rng(4)
    prior = random_prior(rng, 5, 4, "one")
    h = history.empty_history(1, 20, 4)
    gaps = rng.normal(0, 0.6, 20)
    for i in range(20):
        m, j = divmod(i, 4)
        said = np.array([prior.expectation[m, j] + gaps[i]])
        h = history.add(h, ALL, PROBE, option=np.array([m]), where=np.array([j]), value=said)
    belief, _ = after(prior, h, list(range(2, 21, 2)), num=4096)
    found = draws(belief)[4 + mental.BELIEF_SD]
    z = np.linspace(-6, 6, 4001)
    scale = np.sqrt(np.exp(2 * (prior.mean[mental.BELIEF_SD] + prior.sd[mental.BELIEF_SD] * z)) + prior.probe_sd**2)
    log_p = -0.5 * z**2 + stats.norm.logpdf(gaps[:, None], 0, scale).sum(axis=0)
    p = np.exp(log_p - log_p.max())
    mean = np.sum(p * z) / p.sum()
    sd = np.sqrt(np.sum(p * (z - mean) ** 2) / p.sum())
    assert found.mean() == pytest.approx(mean, abs=0.1 * sd)
    assert found.std() == pytest.approx(sd, rel=0.1)


def test_comparisons_alone_are_the_posterior_of_importance_sampling() -> None:
    rng = np.random.default_rng(5)
    prior = random_prior(rng, 4, 4, "one")
    h = random_history(rng, prior, 10, (COMPARISON,))
    belief, _ = after(prior, h, list(range(1, 11)), num=4096)
    w = np.array([weights_of(prior, z) for z in draws(belief).T])
    drawn = rng.dirichlet(prior.concentration, 400_000)
    x = rng.normal(prior.mean, prior.sd, (400_000, len(prior.mean)))
    log_p = np.zeros(len(drawn))
    for a in range(10):
        scaled = np.exp(x[:, COMPARISON]) * (drawn @ (h.first[0, a] - h.second[0, a]))
        tau = np.exp(x[:, mental.TAU])
        win, lose = -np.logaddexp(0, tau - scaled), -np.logaddexp(0, tau + scaled)
        log_p += [win, lose, win + lose + np.log(np.expm1(2 * tau))][h.option[0, a]]
    p = np.exp(log_p - log_p.max())
    p /= p.sum()
    mean = p @ drawn
    sd = np.sqrt(p @ (drawn - mean) ** 2)
    assert np.abs(w.mean(axis=0) - mean).max() < 0.12 * sd.min()
    assert w.std(axis=0) == pytest.approx(sd, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("probes", "comparisons"), [(0, 0), (6, 6)])
def test_nine_in_ten_weights_lie_in_their_interval(probes: int, comparisons: int) -> None:
    """150 people of 8 rounds: 90% of 600 weights, four standard errors allowed; ranks of the first weight uniform."""
    inside, ranks = [], []
    for person in range(150):
        rng = np.random.default_rng([6, person])
        prior = random_prior(np.random.default_rng(60), 6, 4, "two")
        h, ends, truth = live_through(rng, prior, 8, probes, comparisons)
        belief, _ = after(prior, h, ends, num=512, person=person)
        w = np.array([weights_of(prior, z) for z in draws(belief).T])
        low, high = np.quantile(w, [0.05, 0.95], axis=0)
        inside.append((low <= truth) & (truth <= high))
        ranks.append(np.mean(w[:, 0] < truth[0]))
    assert np.mean(inside) == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 450))  # three free weights a person
    assert stats.kstest(ranks, "uniform").pvalue > 0.01
