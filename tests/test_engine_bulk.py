"""The bulk engine: its likelihood against the choice model, its posterior against the live engine's on the same
answers, its coverage over 2,000 people."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from calib import alignment, live
from calib.choice import comparison_log_probs
from calib.comparisons import Model, log_target, make_room, model_of
from calib.engines import bulk
from calib.evidence import Evidence, add_comparison, empty_evidence
from calib.kernel import COMPARISON
from calib.policies import information_gain, policy_names
from calib.scenario import load_scenario
from calib.setup import Setup, make_setup
from calib.vector import POOL, add_rows, exp32, log32, normal_pool
from experiments.batch import simulate_sessions
from experiments.people import rational

Make = Callable[..., Setup]
Floats = NDArray[np.float64]


def test_exp_and_log() -> None:
    x = np.linspace(-87, 87, 20_001).astype(np.float32)
    found = np.array([exp32(v) for v in x], np.float64)
    assert np.abs(found / np.exp(x.astype(np.float64)) - 1).max() < 3e-7
    y = np.exp(np.linspace(-80, 80, 20_001)).astype(np.float32)
    exact = np.log(y.astype(np.float64))
    found = np.array([log32(v) for v in y], np.float64)
    assert (np.abs(found - exact) / np.maximum(np.abs(exact), 0.1)).max() < 3e-7


def test_sums_of_rows() -> None:
    rng = np.random.default_rng(0)
    rows, shares = rng.normal(size=(9, 40)).astype(np.float32), rng.normal(size=(2, 9)).astype(np.float32)
    for first in range(9):
        for end in range(first, 10):
            out = np.ones((3, 40), np.float32)
            add_rows(shares, 1, first, end, rows, out, 2)
            assert out[2] == pytest.approx(1 + shares[1, first:end] @ rows[first:end], abs=1e-5)
            assert (out[:2] == 1).all()


def test_the_pool_is_standard_normal() -> None:
    pool = normal_pool(3, "test")
    assert pool.shape == (POOL,) and abs(pool.mean()) < 1e-6 and pool.std() == pytest.approx(1, abs=1e-3)
    runs = pool.reshape(-1, 256).astype(np.float64)
    assert runs.mean(axis=1).std() == pytest.approx(1 / 16, rel=0.15), "a run is a sample"


def test_the_prior_is_that_of_the_population(lab: Make) -> None:
    """800 people's particles: Dirichlet means and variances within 2%, the polynomials' share of it included."""
    setup = lab(engine="bulk", num_particles=256)
    w = bulk.intent(setup, bulk.start(setup, np.arange(800))).transpose(1, 0, 2).reshape(3, -1)
    a = setup.prior.concentration
    share = a / a.sum()
    assert w.mean(axis=1) == pytest.approx(share, rel=0.02)
    assert w.var(axis=1) == pytest.approx(share * (1 - share) / (a.sum() + 1), rel=0.02)


def exact_log_density(setup: Setup, model: Model, z: Floats, cells: NDArray[np.int32], times: Floats) -> Floats:
    """(P,) in double precision, from calib/choice.py."""
    u = np.clip(z[:-2], -5.5, 5.5)
    log_gamma = np.stack([np.polyval(c[::-1].astype(np.float64), v) for c, v in zip(model.shape, u, strict=True)])
    w = np.exp(log_gamma - log_gamma.max(axis=0))
    w /= w.sum(axis=0)
    rationality, tau = (np.exp(float(model.mean[e]) + float(model.sd[e]) * z[e - 2]) for e in range(2))
    total = -0.5 * np.sum(z**2, axis=0)
    for (a, b, answer), n in zip(cells, times, strict=True):
        difference = (setup.cards[a] - setup.cards[b]) @ w
        total += n * comparison_log_probs(np, difference, rationality, tau)[:, answer]
    return total


def test_value_and_gradient_are_those_of_the_choice_model() -> None:
    """51,200 particles with 1 to 12 answers of random counts: 1e-4 an answer; gradients against central differences."""
    setup = make_setup(load_scenario("apartment"), engine="bulk", num_particles=256)
    model, rng = model_of(setup), np.random.default_rng(1)
    room = make_room(setup.num_attributes, len(setup.cards), 256)
    for trial in range(200):
        count = int(rng.integers(1, 13))
        z = rng.normal(size=(setup.num_attributes + 2, 256)).astype(np.float32)
        pairs = setup.pairs[rng.integers(len(setup.pairs), size=count)]
        cells = np.concatenate([pairs, rng.integers(3, size=(count, 1))], axis=1).astype(np.int32)
        times = rng.integers(1, 4, count).astype(np.float32)
        log_target(z, model, cells, times, 0, count, True, True, True, room)
        exact = exact_log_density(setup, model, z.astype(np.float64), cells, times)
        assert np.abs(room.value - exact).max() < 1e-4 * (count + 1), trial
        if trial % 10:
            continue
        for d in range(len(z)):
            ends = []
            for sign in (1, -1):
                moved = z.astype(np.float64)
                moved[d] += sign * 1e-5
                ends.append(exact_log_density(setup, model, moved, cells, times))
            slope = (ends[0] - ends[1]) / 2e-5
            assert np.abs(room.gradient[d] - slope).max() < 1e-3 * (1 + np.abs(slope).max()), (trial, d)


def test_the_gain_is_that_of_the_live_engine(lab: Make) -> None:
    """On the particles that it thins to, pair by pair, within 1e-4 nats; a policy without a bulk form is served too."""
    setup = lab(engine="bulk", num_particles=256, policy="random")
    belief = simulate_sessions(setup, rational, {}, np.arange(20)).state.belief
    same = bulk.live_belief(setup, belief)
    thin = live.evenly(np.ascontiguousarray(same.particles[:, :, ::2]))
    exact = information_gain.expected_gain(setup, thin, belief.log_weight[:, ::2].astype(np.float64))
    found = information_gain.expected_gain_single(setup, belief.particles, belief.log_weight)
    assert found == pytest.approx(exact, abs=1e-4)


def comparisons_of(setup: Setup, belief: bulk.Belief, person: int) -> Evidence:
    """What a person compared, as the live engine reads it."""
    evidence = empty_evidence(1, 40, 2, setup.num_attributes)
    for k in range(belief.num_cells[person]):
        a, b, answer = belief.cells[person, k]
        for _ in range(int(belief.times[person, k])):
            evidence = add_comparison(
                evidence, np.array([True]), setup.cards[[a]], setup.cards[[b]], np.array([int(answer)])
            )
    return evidence


@pytest.mark.slow
def test_the_posterior_is_that_of_the_live_engine_on_the_same_comparisons() -> None:
    """Twelve answers of three people: 8,192 particles against 16,384 of the live engine, means within 0.15 sd."""
    setup = make_setup(load_scenario("apartment"), engine="bulk", num_particles=8192, max_rounds=12, seed=4)
    belief = simulate_sessions(setup, rational, {}, np.arange(3)).state.belief
    w, one = bulk.intent(setup, belief), np.array([0])
    for i in range(3):
        evidence = comparisons_of(setup, belief, i)
        assert evidence.num_answers[0] == 12
        start = live.start(setup.prior, one, 5, 16384)
        found, _ = live.update(start, setup.prior, evidence, one, one, 5, np.array([True]))
        exact = live.intent(found, setup.num_attributes)[0]
        weight = np.exp(belief.log_weight[i].astype(np.float64))
        weight /= weight.sum()
        mean = w[i] @ weight
        assert np.abs((mean - exact.mean(axis=1)) / exact.std(axis=1)).max() < 0.15
        sd = np.sqrt((w[i] - mean[:, None]) ** 2 @ weight)
        assert sd == pytest.approx(exact.std(axis=1), rel=0.15)
        log_r = bulk.live_belief(setup, belief).particles[i, setup.num_attributes - 1 + COMPARISON]
        other = live.draws(found)[0, setup.num_attributes - 1 + COMPARISON]
        assert abs(log_r @ weight - other.mean()) < 0.15 * other.std()


@pytest.mark.slow
@pytest.mark.parametrize("policy", [name for name in policy_names() if name != "full_menu"])
def test_intervals_cover_over_2000_people(policy: str) -> None:
    """Advised people of the apartment after 12 rounds: degree and weights in 88% to 92%, ranks uniform.

    At a level of 0.01 for the policies together.
    """
    setup = make_setup(load_scenario("apartment"), engine="bulk", policy=policy, max_rounds=12, seed=11)
    sessions = simulate_sessions(setup, rational, {}, np.arange(2000))
    belief = sessions.state.belief
    w = bulk.intent(setup, belief)
    weight = np.exp(belief.log_weight.astype(np.float64))
    weight /= weight.sum(axis=1, keepdims=True)
    degrees = alignment.degree(setup, w, alignment.extremes(setup, w), sessions.state.standing)
    true = sessions.true_degree[:, -1]
    off = degrees - true[:, None]
    ties = np.sum(weight * (np.abs(off) <= 1e-5), axis=1)
    ranks = np.sum(weight * (off < -1e-5), axis=1) + ties * np.random.default_rng(0).random(2000)
    assert 0.88 <= np.mean((ranks > 0.05) & (ranks < 0.95)) <= 0.92
    level = 0.01 / len(policy_names())
    assert kstest(ranks, "uniform").pvalue > level
    below = np.sum(weight[:, None] * (w < sessions.truth.weights[:, :, None]), axis=2)
    assert 0.88 <= np.mean((below > 0.05) & (below < 0.95)) <= 0.92
    assert min(kstest(b, "uniform").pvalue for b in below.T) > level / below.shape[1]
    mean = np.sum(weight * degrees, axis=1)
    assert sessions.estimate[:, -1, 0] == pytest.approx(mean, abs=1e-4), "measured as calib/alignment.py measures"
    assert sessions.estimate[:, -1, 3] == pytest.approx(np.sum(weight * (degrees >= 0.95), axis=1), abs=0.02)
    assert 0.0 < belief.smallest_ess.min() < 0.5, "surprises happen, and are logged"


def test_equal_answers_share_a_cell(lab: Make) -> None:
    """The counts of the cells are the answers; a session longer than there are cells does not grow."""
    setup = lab(engine="bulk", num_particles=64, policy="random", max_rounds=120)
    belief = simulate_sessions(setup, rational, {}, np.arange(3)).state.belief

    for i in range(3):
        used = belief.cells[i, : belief.num_cells[i]]
        assert len(np.unique(used, axis=0)) == len(used) <= 3 * len(setup.pairs)
        assert belief.times[i, : belief.num_cells[i]].sum() == 120
