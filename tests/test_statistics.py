"""What the lab claims of many people, on the shipped scenario: a calibrated belief, a hard case, a machine that learns.

Fixed seeds; the tolerances are those of the claims. 256 particles: enough for calibration, a quarter of a session's.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from calib import alignment, live, rounds
from calib.scenario import load_scenario
from calib.setup import Setup, make_setup
from experiments.batch import Sessions, simulate_sessions
from experiments.people import rational
from experiments.truth import draw_truth

NUM_PEOPLE, NUM_ROUNDS, NUM_PARTICLES = 2000, 12, 256


@dataclass(frozen=True)
class Population:
    """2,000 advised people after twelve rounds."""

    setup: Setup
    sessions: Sessions


def sessions_of(policy: str, num: int, role: str = "advisor") -> tuple[Setup, Sessions]:
    """The first people of one population."""
    setup = make_setup(
        load_scenario("apartment"),
        role=role,
        policy=policy,
        seed=11,
        max_rounds=NUM_ROUNDS,
        num_particles=NUM_PARTICLES,
    )
    return setup, simulate_sessions(setup, rational, {}, np.arange(num))


@pytest.fixture(scope="module")
def population() -> Population:
    """Simulated once for this file."""
    return Population(*sessions_of("random", NUM_PEOPLE))


def ranks(draws: NDArray[np.float64], truth: NDArray[np.float64], seed: int = 0) -> NDArray[np.float64]:
    """Share of draws (N, P) below the truth (N,), ties broken at random: uniform if the belief is calibrated."""
    below = np.sum(draws < truth[:, None] - 1e-12, axis=1)
    ties = np.sum(np.abs(draws - truth[:, None]) <= 1e-12, axis=1)
    return (below + np.random.default_rng(seed).integers(0, ties + 1)) / draws.shape[1]


def test_the_true_degree_ranks_uniformly_and_its_intervals_cover(population: Population) -> None:
    setup, state = population.setup, population.sessions.state
    w = live.intent(state.belief, setup.num_attributes)
    draws = alignment.degree(setup, w, alignment.extremes(setup, w), state.standing)
    found = ranks(draws, population.sessions.true_degree[:, NUM_ROUNDS])
    assert kstest(found, "uniform").pvalue > 0.01
    assert 0.88 <= np.mean((found > 0.05) & (found < 0.95)) <= 0.92


def test_every_weight_ranks_uniformly(population: Population) -> None:
    w = live.intent(population.sessions.state.belief, population.setup.num_attributes)
    truth = population.sessions.truth.weights
    p = [kstest(ranks(w[:, j], truth[:, j]), "uniform").pvalue for j in range(truth.shape[1])]
    assert min(p) > 0.01 / len(p)


def test_the_advisor_learns_what_people_mean(population: Population) -> None:
    degree = population.sessions.true_degree
    before, after = np.median(degree[:, 0]), np.median(degree[:, NUM_ROUNDS])
    assert after >= 0.90
    assert after >= before + 0.10


@pytest.mark.parametrize("name", ["apartment"])
def test_the_scenario_is_a_hard_case(name: str) -> None:
    """The prior alone does not serve people, some mode serves most of them, and no mode serves many."""
    setup = make_setup(load_scenario(name), seed=5, num_particles=4096)
    num = 3000
    truth = draw_truth(setup, np.arange(num), {})
    w = truth.weights[:, :, None]
    ends = alignment.extremes(setup, w)
    aligned = 1 - setup.scenario.eps
    prior_only = rounds.begin_session(setup, np.array([0])).standing
    assert np.median(alignment.degree(setup, w, ends, np.repeat(prior_only, num, axis=0))) <= 0.80
    utility = np.einsum("mxj,nj->nmx", setup.phi[setup.mode_setting], truth.weights)
    utility = np.where(setup.feasible[setup.mode_setting][None], utility, -1.0)
    best = setup.mode_setting[utility.argmax(axis=1)]
    assert np.mean(alignment.degree(setup, w, ends, best) >= aligned) >= 0.70
    for mode in setup.mode_setting:
        alone = alignment.degree(setup, w, ends, np.full((num, setup.num_contexts), mode))
        assert np.mean(alone >= aligned) <= 0.35


def test_information_gain_aligns_in_fewer_rounds_than_chance(population: Population) -> None:
    """Paired people; the difference of restricted mean rounds at twelve, with a 95% interval that excludes zero."""
    num = 1000
    _, gained = sessions_of("information_gain", num)
    difference = restricted(gained)[:num] - restricted(population.sessions)[:num]
    mean, error = difference.mean(), difference.std(ddof=1) / np.sqrt(num)
    assert mean + 1.96 * error < 0


def restricted(sessions: Sessions) -> NDArray[np.float64]:
    """(N,) rounds to true sustained alignment, at most the last round at which it could be confirmed."""
    times = sessions.times["true"]
    return np.where(times.event == 1, times.rounds, NUM_ROUNDS - 3).astype(float)
