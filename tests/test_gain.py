"""Information gain of pairs and menus in single precision against plain numpy, and the search by screening."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from calib import live
from calib.choice import menu_log_probs
from calib.gain import best_menu, best_pair, gains
from calib.kernel import COMPARISON
from calib.policies.information_gain import expected_gain
from calib.setup import Setup
from calib.streams import stream_key

Make = Callable[..., Setup]
Floats = NDArray[np.float64]


def random_belief(setup: Setup, num: int, draws: int, seed: int = 0) -> tuple[live.Belief, Floats]:
    particles = setup.prior.draw(stream_key(seed, "test"), np.arange(num), draws)
    return live.evenly(particles), np.random.default_rng(seed).normal(0, 1, (num, draws))


def menu_gain(setup: Setup, belief: live.Belief, log_weight: Floats, menus: NDArray[np.int64]) -> Floats:
    """(N, R) by calib/choice.py."""
    w = live.intent(belief, setup.num_attributes)
    extra = belief.particles[:, setup.num_attributes - 1 :]
    weight = np.exp(log_weight)
    weight /= weight.sum(axis=1, keepdims=True)
    out = np.empty((len(w), len(menus)))
    for i, (r, lapse) in enumerate(zip(np.exp(extra[:, COMPARISON]), 1 / (1 + np.exp(-extra[:, 3])), strict=True)):
        for q, menu in enumerate(menus):
            log_p = menu_log_probs(np, (setup.cards[menu] @ w[i]).T, r[:, None], lapse[:, None])
            mean = weight[i] @ np.exp(log_p)
            out[i, q] = weight[i] @ np.sum(np.exp(log_p) * log_p, axis=1) - np.sum(mean * np.log(mean))
    return out


def test_gains_of_pairs_are_those_in_double_precision(lab: Make) -> None:
    setup = lab()
    belief, log_weight = random_belief(setup, 3, 3000)
    found = gains(belief, log_weight, setup.cards, setup.pairs, True)
    assert found == pytest.approx(expected_gain(setup, belief, log_weight), abs=1e-5)


@pytest.mark.parametrize("options", [2, 3, 4])
def test_gains_of_menus_are_those_of_the_choice_model(lab: Make, options: int) -> None:
    setup = lab()
    menus = np.array(list(combinations(range(len(setup.cards)), options)))
    belief, log_weight = random_belief(setup, 2, 500)
    found = gains(belief, log_weight, setup.cards, menus, False)
    assert found == pytest.approx(menu_gain(setup, belief, log_weight, menus), abs=1e-5)


def test_screening_loses_next_to_nothing(lab: Make) -> None:
    """What is found among finalists gives at least 99% of the best question's nats, on average, and never under 97%."""
    setup, share = lab(), []
    menus = np.array(list(combinations(range(len(setup.cards)), 3)))
    for seed in range(10):
        belief, log_weight = random_belief(setup, 4, 2048, seed)
        for pool, best, with_equal in ((setup.pairs, best_pair, True), (menus, best_menu, False)):
            exact = gains(belief, log_weight, setup.cards, pool, with_equal)
            chosen = best(belief, log_weight, setup.cards, pool)
            share.append(exact[np.arange(4), chosen] / exact.max(axis=1))
    assert np.mean(share) > 0.99
    assert np.min(share) > 0.97


def test_a_person_is_asked_the_same_in_any_batch(lab: Make) -> None:
    setup = lab()
    belief, log_weight = random_belief(setup, 7, 600)
    together = best_pair(belief, log_weight, setup.cards, setup.pairs)
    for i in range(7):
        one = live.evenly(belief.particles[i : i + 1])
        assert best_pair(one, log_weight[i : i + 1], setup.cards, setup.pairs)[0] == together[i]
