"""Every policy against a slow, plain statement of its definition, on random beliefs."""

from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calib import alignment, live
from calib.choice import comparison_log_probs
from calib.engines import bulk
from calib.kernel import COMPARISON
from calib.policies import (
    expected_utility,
    fixed,
    hybrid,
    load_policy,
    policy_names,
    posterior_regret,
    thompson,
    value_of_information,
    volume_removal,
)
from calib.policies._draws import draws_of, draws_of_single
from calib.setup import Setup
from calib.streams import stream_key, uniforms
from experiments.batch import simulate_sessions
from experiments.people import rational

Make = Callable[..., Setup]
BY_WORTH = (expected_utility, volume_removal, value_of_information, posterior_regret)


class Plain(NamedTuple):
    """One person's weighted particles in double precision."""

    w: np.ndarray  # (J, P)
    weight: np.ndarray  # (P,)
    probability: np.ndarray  # (R, 3, P) of each answer
    utility: np.ndarray  # (Q, P)


def random_belief(setup: Setup, seed: int, num: int, draws: int, spread: float) -> tuple[live.Belief, np.ndarray]:
    """The prior's particles with log weights of that sd."""
    particles = setup.prior.draw(stream_key(seed, "test"), np.arange(num), draws)
    return live.evenly(particles), np.random.default_rng(seed).normal(0, spread, (num, draws))


def plain(setup: Setup, belief: live.Belief, log_weight: np.ndarray, i: int) -> Plain:
    w = live.intent_at(belief.particles, setup.num_attributes)[i]
    extra = belief.particles[i, setup.num_attributes - 1 :]
    weight = np.exp(log_weight[i] - log_weight[i].max())
    utility = setup.cards @ w
    difference = np.array([utility[a] - utility[b] for a, b in setup.pairs])
    log_probs = comparison_log_probs(np, difference, np.exp(extra[COMPARISON]), np.exp(extra[6]))
    return Plain(w, weight / weight.sum(), np.exp(log_probs).transpose(0, 2, 1), utility)


def degrees(setup: Setup, w: np.ndarray, standing: np.ndarray) -> np.ndarray:
    """(P,) degree of settings (X,) at each particle."""
    return alignment.degree(setup, w[None], alignment.extremes(setup, w[None]), standing[None])[0]


def standing(setup: Setup, w: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(X,) settings of the highest expected degree: they are chosen context by context, the others held."""
    out = np.array([np.flatnonzero(setup.feasible[: setup.num_reference, x])[0] for x in range(setup.num_contexts)])
    for x in range(setup.num_contexts):
        worth = []
        for s in np.flatnonzero(setup.feasible[: setup.num_reference, x]):
            out[x] = s
            worth.append((weight @ degrees(setup, w, out), -s))
        out[x] = -max(worth)[1]
    return out


def plain_expected_utility(setup: Setup, person: Plain) -> list[float]:
    better = [np.maximum(person.utility[a], person.utility[b]) for a, b in setup.pairs]
    return [float(person.weight @ u) - 0.5 for u in better]


def plain_volume_removal(setup: Setup, person: Plain) -> list[float]:
    return [min(1 - float(person.weight @ p) for p in answers) for answers in person.probability]


def plain_value_of_information(setup: Setup, person: Plain) -> list[float]:
    def reached(weight: np.ndarray) -> float:
        return float(weight @ degrees(setup, person.w, standing(setup, person.w, weight)))

    now = reached(person.weight)
    return [sum(reached(person.weight * p) for p in answers) - now for answers in person.probability]


def plain_posterior_regret(setup: Setup, person: Plain) -> list[float]:
    utility = np.where(setup.feasible[..., None], setup.phi @ person.w, -np.inf)[: setup.num_reference]  # (S, X, P)
    best = utility.argmax(axis=0).T
    regret = np.array([1 - degrees(setup, person.w, s) for s in best])  # (whose best, who regrets it)

    def expected(weight: np.ndarray) -> float:
        mass = weight.sum()
        return float(weight @ regret @ weight / mass) if mass > 1e-7 else 0.0

    now = expected(person.weight)
    return [now - sum(expected(person.weight * p) for p in answers) for answers in person.probability]


STATEMENTS = {
    expected_utility: plain_expected_utility,
    volume_removal: plain_volume_removal,
    value_of_information: plain_value_of_information,
    posterior_regret: plain_posterior_regret,
}


def setups(lab: Make) -> list[Setup]:
    """With all contexts at stake, and with one that is left out for some of the draws."""
    phi = np.random.default_rng(3).uniform(0.2, 0.8, (20, 3, 3))
    num = len(lab().settings)
    phi = np.resize(phi, (num, 3, 3))
    phi[:, 1] = 0.5 + (phi[:, 1] - 0.5) * 0.08
    return [lab(), lab(phi=phi, noise=0.0)]


@pytest.mark.parametrize("policy", BY_WORTH, ids=lambda p: p.__name__.split(".")[-1])
@pytest.mark.parametrize("which", [0, 1])
def test_worth_is_what_its_definition_says(lab: Make, policy: ModuleType, which: int) -> None:
    """Every pair within 3e-6; the choice is the best of the statement up to that."""
    setup, num = setups(lab)[which], 3
    belief, log_weight = random_belief(setup, 7, num, 24, 1.0)
    if which:
        ends = alignment.extremes(setup, live.intent(belief, setup.num_attributes))
        left = ends.best - ends.worst < alignment.MIN_RANGE
        assert 0 < left[:, 1].mean() < 1, "the check needs a context that counts for some"
    found = policy.worth(setup, draws_of(setup, belief, log_weight))
    chosen = policy.choose(setup, belief, log_weight, np.zeros((num, 4)))
    for i in range(num):
        exact = np.array(STATEMENTS[policy](setup, plain(setup, belief, log_weight, i)))
        assert np.ptp(exact) > 1e-4
        assert found[i] == pytest.approx(exact, abs=3e-6)
        assert chosen[i] == found[i].argmax() and exact[chosen[i]] > exact.max() - 6e-6


@pytest.mark.parametrize("policy", BY_WORTH, ids=lambda p: p.__name__.split(".")[-1])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), draws=st.integers(1, 20), spread=st.sampled_from([0.0, 1.0, 10.0, 300.0]))
def test_worth_on_any_belief(lab: Make, policy: ModuleType, seed: int, draws: int, spread: float) -> None:
    """Few draws, or nearly all weight on one: the same statement, and nothing that is no number."""
    setup = lab()
    belief, log_weight = random_belief(setup, seed, 1, draws, spread)
    found = policy.worth(setup, draws_of(setup, belief, log_weight))[0]
    exact = np.array(STATEMENTS[policy](setup, plain(setup, belief, log_weight, 0)))
    assert found == pytest.approx(exact, abs=5e-6)


@pytest.mark.parametrize("policy", [*BY_WORTH, hybrid, thompson], ids=lambda p: p.__name__.split(".")[-1])
def test_the_first_pair_where_tied(lab: Make, policy: ModuleType) -> None:
    """All cards alike."""
    setup = lab()
    alike = replace(setup, cards=np.repeat(setup.cards[:1], len(setup.cards), axis=0))
    belief, log_weight = random_belief(alike, 1, 5, 50, 1.0)
    u = uniforms(stream_key(1, "policy"), np.arange(5), 1, 4)
    assert policy.choose(alike, belief, log_weight, u).tolist() == [0] * 5


def test_where_all_want_the_same_no_answer_is_worth_anything(lab: Make) -> None:
    setup = lab()
    belief, log_weight = random_belief(setup, 2, 4, 40, 1.0)
    same = live.evenly(np.repeat(belief.particles[:, :, :1], 40, axis=2))
    draws = draws_of(setup, same, log_weight)
    assert np.abs(posterior_regret.worth(setup, draws)).max() == 0
    assert np.abs(value_of_information.worth(setup, draws)).max() < 1e-7


def test_thompson_by_hand(lab: Make) -> None:
    """Two draws by weight, the best card of each; where that is one card, the second draw's next best."""
    setup, num = lab(), 200
    belief, log_weight = random_belief(setup, 4, num, 30, 2.0)
    u = uniforms(stream_key(3, "policy"), np.arange(num), 1, 4)
    found, same = thompson.choose(setup, belief, log_weight, u), 0
    for i in range(num):
        person = plain(setup, belief, log_weight, i)
        upto = np.cumsum(person.weight)
        first, second = (min(int(np.searchsorted(upto, v, side="right")), 29) for v in u[i, :2])
        a, b = person.utility[:, first].argmax(), person.utility[:, second].argmax()
        if a == b:
            same += 1
            b = next(c for c in np.argsort(-person.utility[:, second]) if c != a)
        assert set(setup.pairs[found[i]]) == {a, b}
    assert 20 < same < 180, "the check needs both cases"


def test_the_fixed_design_is_optimal(lab: Make) -> None:
    """By the equivalence theorem x' M^-1 x is at most J, and J where the share is not 0; chance follows the shares."""
    setup = lab()
    share = fixed.design(setup)
    x = setup.cards[setup.pairs[:, 0]] - setup.cards[setup.pairs[:, 1]]
    leverage = np.sum(x * np.linalg.solve((x.T * share) @ x, x.T).T, axis=1)
    assert share.sum() == pytest.approx(1) and leverage.max() < 3 * 1.005
    assert leverage[share > 0.05] == pytest.approx(3, rel=0.005)
    u = uniforms(stream_key(1, "policy"), np.arange(20_000), 1, 4)
    belief, log_weight = random_belief(setup, 1, 1, 2, 0.0)
    drawn = np.bincount(fixed.choose(setup, belief, log_weight, u), minlength=len(share)) / 20_000
    assert np.abs(drawn - share).max() < 4 * np.sqrt(0.25 / 20_000)


def test_hybrid_follows_its_rule(lab: Make) -> None:
    """Value of information from a fifth of eps on, else the posterior regret; some beliefs are wide, others not."""
    setup, num = lab(), 60
    belief, log_weight = random_belief(setup, 9, num, 60, 1.0)
    log_weight *= np.linspace(0, 8, num)[:, None]
    draws = draws_of(setup, belief, log_weight)
    rise, drop = value_of_information.worth(setup, draws), posterior_regret.worth(setup, draws)
    pays = rise.max(axis=1) >= 0.2 * setup.scenario.eps
    assert 5 < pays.sum() < num - 5
    assert (np.argmax(rise, axis=1) != np.argmax(drop, axis=1)).any()
    expected = np.where(pays, np.argmax(rise, axis=1), np.argmax(drop, axis=1))
    assert np.array_equal(hybrid.choose(setup, belief, log_weight, np.zeros((num, 4))), expected)


@pytest.fixture(scope="module")
def after_bulk(lab: Make) -> tuple[Setup, bulk.Belief]:
    """Forty people after six comparisons."""
    setup = lab(engine="bulk", num_particles=256, policy="random")
    return setup, simulate_sessions(setup, rational, {}, np.arange(40)).state.belief


@pytest.mark.parametrize("policy", BY_WORTH, ids=lambda p: p.__name__.split(".")[-1])
def test_both_engines_are_served_alike(after_bulk: tuple[Setup, bulk.Belief], policy: ModuleType) -> None:
    """The same particles in either form, thinned alike: worth within 1e-5."""
    setup, belief = after_bulk
    same = bulk.live_belief(setup, belief)
    thin = live.evenly(np.ascontiguousarray(same.particles[:, :, ::2]))
    exact = policy.worth(setup, draws_of(setup, thin, belief.log_weight[:, ::2].astype(np.float64)))
    found = policy.worth(setup, draws_of_single(setup, belief))
    assert found == pytest.approx(exact, abs=1e-5)
    assert np.array_equal(found.argmax(axis=1), policy.choose_single(setup, belief, np.zeros((40, 4))))


@pytest.mark.parametrize("name", [n for n in policy_names() if hasattr(load_policy(n), "choose_single")])
def test_a_bulk_policy(after_bulk: tuple[Setup, bulk.Belief], name: str) -> None:
    """A pair that there is, the same in any batch, the belief as it was, and nearly always what `choose` would say."""
    setup, belief = after_bulk
    policy, u = load_policy(name), uniforms(stream_key(1, "policy"), np.arange(40), 2, 4)
    before = [column.copy() for column in belief]
    pair = policy.choose_single(setup, belief, u)
    assert pair.shape == (40,) and ((pair >= 0) & (pair < len(setup.pairs))).all()
    for old, new in zip(before, belief, strict=True):
        assert np.array_equal(old, new, equal_nan=True)
    for rows in (slice(3, 4), slice(0, 7), slice(7, 40)):
        assert np.array_equal(policy.choose_single(setup, belief.of(rows.start, rows.stop), u[rows]), pair[rows])
    same = bulk.live_belief(setup, belief)
    thin = live.evenly(np.ascontiguousarray(same.particles[:, :, ::2]))
    other = policy.choose(setup, thin, belief.log_weight[:, ::2].astype(np.float64), u)
    assert np.mean(other == pair) >= 0.9  # the others are ties within rounding
