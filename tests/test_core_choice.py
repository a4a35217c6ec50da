"""The choice model gives the probabilities of the definitions, and simulated people answer with them."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import chisquare

from calib import rounds
from calib.choice import comparison_log_probs, learn, menu_log_probs, softplus
from calib.kernel import ACCEPT_OVERRIDE, COMPARISON, MODE_CHOICE
from calib.questions import PAIR
from calib.setup import Setup
from calib.state import State
from calib.streams import stream_key, uniforms
from experiments.people import load_person
from experiments.truth import Mind, Truth

ONE = np.ones(1)


def test_luces_rule_by_hand() -> None:
    """Two options a utility of 0.1 apart at rationality 10: odds of e to 1."""
    p = np.exp(menu_log_probs(np, np.array([0.6, 0.5]), 10 * ONE, 0 * ONE))
    assert p == pytest.approx([math.e / (1 + math.e), 1 / (1 + math.e)], rel=1e-14)


def test_lapse_mixes_with_a_uniform_choice_among_what_is_offered() -> None:
    p = np.exp(menu_log_probs(np, np.array([0.6, 0.5, 9.0]), 10 * ONE, 0.3 * ONE, offered=np.array([1.0, 1.0, 0.0])))
    assert p[:2] == pytest.approx([0.15 + 0.7 * math.e / (1 + math.e), 0.15 + 0.7 / (1 + math.e)], rel=1e-14)
    assert p[2] == 0.0


def test_reliance_and_inertia_are_log_odds() -> None:
    """By hand: values 0, 0.5 (recommended) and 0.25 (ran last)."""
    p = np.exp(
        menu_log_probs(
            np,
            np.zeros(3),
            20 * ONE,
            0 * ONE,
            reliance=0.5 * ONE,
            recommended=np.array([0.0, 1.0, 0.0]),
            inertia=0.25 * ONE,
            last=np.array([0.0, 0.0, 1.0]),
        )
    )
    total = 1 + math.exp(0.5) + math.exp(0.25)
    assert p == pytest.approx([1 / total, math.exp(0.5) / total, math.exp(0.25) / total], rel=1e-14)


def test_menu_probabilities_sum_to_one_also_for_extreme_rationality() -> None:
    rng = np.random.default_rng(1)
    utility = rng.random((500, 9))
    rationality = 10.0 ** rng.uniform(-3, 9, (500, 1))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        p = np.exp(menu_log_probs(np, utility, rationality, rng.uniform(0.001, 0.5, (500, 1))))
    assert np.isfinite(p).all()
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12


def test_extreme_rationality_always_takes_the_best() -> None:
    p = np.exp(menu_log_probs(np, np.array([0.3, 0.30001, 0.2]), 1e12 * ONE, 0.03 * ONE))
    assert p == pytest.approx([0.01, 0.98, 0.01], rel=1e-12)


def test_rao_kupper_by_hand() -> None:
    """P(a) = F(r d - tau), P(b) = F(-r d - tau), the rest is "about equal"."""
    p = np.exp(comparison_log_probs(np, np.array(0.1), 20.0, 0.5))
    a, b = 1 / (1 + math.exp(-1.5)), 1 / (1 + math.exp(2.5))
    assert p == pytest.approx([a, b, 1 - a - b], rel=1e-13)


def test_rao_kupper_identities() -> None:
    rng = np.random.default_rng(2)
    d, r, tau = rng.uniform(-1, 1, 2000), rng.uniform(0.1, 50, 2000), rng.uniform(0.01, 3, 2000)
    p = np.exp(comparison_log_probs(np, d, r, tau))
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-12
    swapped = np.exp(comparison_log_probs(np, -d, r, tau))
    assert swapped[:, [1, 0, 2]] == pytest.approx(p, rel=1e-12)
    # Rao and Kupper: P(a)/(P(b) + P(equal)) = e^{r d - tau}, and a tie has P(a) P(b) (e^{2 tau} - 1)
    assert p[:, 0] / (p[:, 1] + p[:, 2]) == pytest.approx(np.exp(r * d - tau), rel=1e-9)
    assert p[:, 2] == pytest.approx(p[:, 0] * p[:, 1] * np.expm1(2 * tau), rel=1e-12)


def test_a_comparison_does_not_overflow() -> None:
    with np.errstate(over="raise", invalid="raise"):
        log_p = comparison_log_probs(np, np.array([1.0, -1.0, 0.0]), 1e6, np.array([1e-8, 30.0, 30.0]))
    assert np.isfinite(log_p).all()
    assert np.exp(log_p).sum(axis=1) == pytest.approx(1.0, abs=1e-9)


def test_softplus_and_learning_by_hand() -> None:
    assert softplus(np, np.array([-800.0, 0.0, 800.0])) == pytest.approx([0.0, math.log(2), 800.0])
    after = learn(np, np.array([0.2, 0.8]), np.array([0.7, 0.3]), 0.4, np.array([1.0, 0.5]))
    assert after == pytest.approx([0.2 + 0.4 * 0.5, 0.8 - 0.4 * 0.5 * 0.5])


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_people_choose_as_the_engine_expects(lab: Callable[..., Setup], role: str) -> None:
    """20,000 answers of one and the same person: frequencies against the engine's features and choice model."""
    setup, num = lab(role=role), 20_000
    state, truth, mind = twins(setup, num)
    model, _ = load_person("rational")
    u = uniforms(stream_key(3, "test choices"), np.arange(num), 1, 2 * setup.num_modes + 3)
    options = model.choose(setup, truth, mind, state, u)
    # the same noise without the proposal: who did not take it chose what they would have chosen anyway
    alone = model.choose_alone(setup, truth, mind, u)
    sober = (u[:, 0] >= truth.lapse) & (options < setup.num_modes)
    assert np.array_equal(options[sober], alone[sober])
    features = rounds.options(setup, state)[0]
    proposed, numbers = rounds.proposed_option(setup, state)[0], np.arange(len(features))
    log_p = menu_log_probs(
        np,
        features @ truth.weights[0],
        truth.rationality[0, [ACCEPT_OVERRIDE if role == "advisor" else MODE_CHOICE]],
        truth.lapse[:1],
        reliance=truth.reliance[:1],
        recommended=(numbers == proposed).astype(float),
        inertia=truth.inertia[:1],
        last=(numbers == mind.last_mode[0]).astype(float),
    )
    counts = np.bincount(options, minlength=len(features))
    assert chisquare(counts, np.exp(log_p) * num).pvalue > 0.001


def test_people_compare_as_the_engine_expects(lab: Callable[..., Setup]) -> None:
    setup, num = lab(), 20_000
    state, truth, mind = twins(setup, num)
    model, _ = load_person("rational")
    pair = 5
    a, b = setup.pairs[pair]
    state = replace(state, kind=np.full(num, PAIR), asked=np.full(num, pair))
    u = uniforms(stream_key(4, "test comparisons"), np.arange(num), 1, 1)
    answers = model.compare(setup, truth, mind, state, u)
    difference = (setup.cards[a] - setup.cards[b]) @ truth.weights[0]
    p = np.exp(comparison_log_probs(np, difference, truth.rationality[0, COMPARISON], truth.about_equal[0]))
    assert chisquare(np.bincount(answers, minlength=3), p * num).pvalue > 0.001


def twins(setup: Setup, num: int) -> tuple[State, Truth, Mind]:
    """One person many times over in the first round, all with the same proposal in the same context."""
    setup = replace(setup, num_particles=2)  # the belief does not matter here
    state = rounds.begin_round(setup, rounds.begin_session(setup, np.arange(num)))
    same = np.full(num, 1)
    state = replace(state, context=0 * same, last_mode=same, proposal=4 * same if setup.role == "advisor" else -same)
    truth = Truth(
        weights=np.tile([0.5, 0.3, 0.2], (num, 1)),
        aspirations=np.empty((num, 0)),
        rationality=np.tile([6.0, 8.0, 4.0], (num, 1)),
        lapse=np.full(num, 0.1),
        reliance=np.full(num, 0.7),
        inertia=np.full(num, 0.4),
        about_equal=np.full(num, 0.6),
        learning_rate=np.full(num, 0.4),
        belief_sd=np.zeros(num),
        rating=np.zeros((num, 3)),
        stopping=np.zeros((num, 2)),
        luck=np.full((num, 2), 0.5),
        best=np.ones((num, setup.num_contexts)),
        worst=np.zeros((num, setup.num_contexts)),
        own=np.zeros((num, 0)),
        changed=np.zeros(num, np.int64),
    )
    return state, truth, Mind(np.repeat(setup.expectation[None], num, axis=0), same)
