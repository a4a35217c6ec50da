"""Degree, lift and plain-unit regret against the definitions, by brute force in plain Python."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from calib import alignment
from calib.errors import UserError
from calib.outcomes import OutcomeMap, scale
from calib.scenario import Scenario, load_scenario_text
from calib.setup import Setup, make_setup
from devices.home.types import OUTCOMES

Make = Callable[..., Setup]
Floats = NDArray[np.float64]


def some_weights(num: int, draws: int, dims: int = 3, seed: int = 0) -> Floats:
    """(N, J, P) on the simplex."""
    w = np.random.default_rng(seed).dirichlet(np.ones(dims), (num, draws))
    return np.ascontiguousarray(w.transpose(0, 2, 1))


def utility(setup: Setup, w: Floats, s: int, x: int) -> float:
    return sum(float(a) * float(b) for a, b in zip(w, setup.phi[s, x], strict=True))


def plain_degree(setup: Setup, w: Floats, standing: list[int]) -> tuple[float, int]:
    """Definition 3.1 word by word for one intent w (J,): the degree, and the number of contexts left out."""
    total, weight, left_out = 0.0, 0.0, 0
    for x, p in enumerate(setup.context_p):
        allowed = [utility(setup, w, s, x) for s in range(setup.num_reference) if setup.feasible[s, x]]
        best, worst = max(allowed), min(allowed)
        if best - worst < 0.02:
            left_out += 1
            continue
        weight += p
        if setup.feasible[standing[x], x]:
            total += p * (utility(setup, w, standing[x], x) - worst) / (best - worst)
    return (total / weight if weight else 1.0), left_out


def degree_of(setup: Setup, w: Floats, standing: list[int]) -> float:
    """The degree of one intent (J,)."""
    batch = w[None, :, None]
    return float(alignment.degree(setup, batch, alignment.extremes(setup, batch), np.array([standing]))[0, 0])


def test_scaled_attributes_by_hand(small: Scenario) -> None:
    z = np.zeros((3, len(OUTCOMES)))
    z[:, OUTCOMES.index("residual_dirt")] = [30, -5, 120]
    z[:, OUTCOMES.index("coverage")] = [30, -5, 120]
    assert scale(small, z)[:, 0] == pytest.approx([0.7, 1.0, 0.0])
    assert scale(small, z)[:, 1] == pytest.approx([0.3, 0.0, 1.0])


def test_phi_is_averaged_after_clipping(small: Scenario, lab: Make) -> None:
    """E U, not U of E: replicates of 90 and 130 on a scale to 100 give phi 0.05 for "less", not 0."""
    z = np.array(lab().map.z)
    column = OUTCOMES.index("residual_dirt")
    z[0, 0, :, column] = [90, 130, 90, 130]
    assert make_setup(small, table=OutcomeMap(z, "plant", "")).phi[0, 0, 0] == pytest.approx(0.05)


def test_degree_is_the_definition(lab: Make) -> None:
    setup = lab()
    assert not setup.feasible.all(), "the limit has to matter"
    rng = np.random.default_rng(3)
    w = some_weights(20, 15)
    ends = alignment.extremes(setup, w)
    standing = rng.integers(0, setup.num_reference, (20, 3))
    found = alignment.degree(setup, w, ends, standing)
    for i in range(20):
        for p in range(15):
            expected, _ = plain_degree(setup, w[i, :, p], standing[i].tolist())
            assert found[i, p] == pytest.approx(expected, abs=1e-12)


def test_best_and_worst_are_degree_1_and_0(lab: Make) -> None:
    setup = lab()
    w = np.array([0.2, 0.5, 0.3])
    allowed = [[s for s in range(setup.num_reference) if setup.feasible[s, x]] for x in range(3)]
    best = [max((utility(setup, w, s, x), s) for s in a)[1] for x, a in enumerate(allowed)]
    worst = [min((utility(setup, w, s, x), s) for s in a)[1] for x, a in enumerate(allowed)]
    assert degree_of(setup, w, best) == pytest.approx(1.0, abs=1e-12)
    assert degree_of(setup, w, worst) == pytest.approx(0.0, abs=1e-12)


def test_a_setting_beyond_the_reference_set_changes_nothing(lab: Make, small: Scenario) -> None:
    """Extremes are over S_ref only: outcomes of the dense set may be terrible or perfect."""
    phi = np.random.default_rng(5).uniform(0.2, 0.8, (len(small.settings), 3, 3))
    changed = phi.copy()
    changed[small.num_reference :] = [[[0.0, 0.0, 1.0]] * 3, [[1.0, 1.0, 1.0]] * 3, [[0.0, 0.0, 0.3]] * 3]
    w = np.array([0.2, 0.5, 0.3])
    assert degree_of(lab(phi), w, [0, 1, 1]) == pytest.approx(degree_of(lab(changed), w, [0, 1, 1]), abs=1e-12)


def test_a_bad_mode_on_the_menu_changes_nothing(small_text: str) -> None:
    """A setting of S_ref goes on the menu as a mode: the degree of what stands is the same."""
    bad = """
[[modes]]
name = "bad"
label = "Bad"
description = "Nobody wants this."
settings = { fan = 90, brush = 20, speed = 200, passes = 1, pattern = "lanes", edge = false }
expectation = { residual_dirt = 90, coverage = 5, sound = 99 }

[default]"""
    more = load_scenario_text(small_text.replace("\n[default]", bad), "more.toml")
    less = load_scenario_text(small_text, "less.toml")
    assert set(more.settings[: more.num_reference]) == set(less.settings[: less.num_reference])
    rng = np.random.default_rng(1)
    outcome = {s: rng.uniform(0, 79, (3, 4, len(OUTCOMES))) for s in less.settings}
    setups = [make_setup(s, table=OutcomeMap(np.array([outcome[v] for v in s.settings]), "", "")) for s in (less, more)]
    assert setups[1].num_modes == setups[0].num_modes + 1
    for w in some_weights(20, 1)[:, :, 0]:
        for setting in less.settings[: less.num_reference]:
            a, b = (degree_of(setup, w, [setup.settings.index(setting)] * 3) for setup in setups)
            assert a == pytest.approx(b, abs=1e-12)


def test_a_setting_that_breaks_a_limit_has_degree_0_in_its_context(lab: Make, small: Scenario) -> None:
    phi = np.random.default_rng(2).uniform(0.3, 0.7, (len(small.settings), 3, 3))
    phi[2] = [0.9, 0.9, 0.1]  # sound 90: louder than the 80 allowed at night, and otherwise the best
    setup = lab(phi, noise=0.5)
    assert setup.feasible[2].tolist() == [True, True, False]
    w = np.array([0.6, 0.4, 0.0])
    assert degree_of(setup, w, [2, 2, 2]) == pytest.approx(0.8, abs=1e-12)
    ends = alignment.extremes(setup, w[None, :, None])
    night = alignment.context_degree(setup, w[None, :, None], ends, np.array([2]), np.array([2]))
    day = alignment.context_degree(setup, w[None, :, None], ends, np.array([2]), np.array([0]))
    assert night[0, 0] == 0.0
    assert day[0, 0] == pytest.approx(1.0)
    assert alignment.best_settings(setup, w[None, :, None], ends)[0, 2] != 2


def test_limits_that_leave_a_context_without_a_mode_are_refused(lab: Make, small: Scenario) -> None:
    phi = np.full((len(small.settings), 3, 3), 0.5)
    phi[:, 2, 2] = 0.1
    with pytest.raises(UserError, match=r"^small\.toml: limits: no mode keeps them in context night; [^\n]+$"):
        lab(phi, noise=0.5)


def test_a_context_of_little_range_is_left_out_and_counted(lab: Make, small: Scenario) -> None:
    phi = np.random.default_rng(2).uniform(0.3, 0.7, (len(small.settings), 3, 3))
    phi[:, 0] = 0.5
    phi[0, 0, 0] = 0.5 + 0.019 / 0.5  # with w = 0.5 the range is 0.019, just under 0.02
    setup = lab(phi, noise=0.0)
    w = np.array([0.5, 0.2, 0.3])
    ends = alignment.extremes(setup, w[None, :, None])
    assert alignment.left_out(setup, ends)[0] == 1
    standing = [3, 1, 1]
    expected, left_out = plain_degree(setup, w, standing)
    assert left_out == 1
    assert degree_of(setup, w, standing) == pytest.approx(expected, abs=1e-12)
    assert degree_of(setup, w, [4, 1, 1]) == degree_of(setup, w, standing), "what runs there does not count"
    phi[0, 0, 0] = 0.5 + 0.021 / 0.5
    wider = lab(phi, noise=0.0)
    assert alignment.left_out(wider, alignment.extremes(wider, w[None, :, None]))[0] == 0
    assert degree_of(wider, w, standing) != pytest.approx(expected, abs=0.01)


def test_where_nothing_is_at_stake_the_degree_is_1(lab: Make, small: Scenario) -> None:
    setup = lab(np.full((len(small.settings), 3, 3), 0.5), noise=0.0)
    assert degree_of(setup, np.array([0.5, 0.2, 0.3]), [0, 1, 2]) == 1.0


def test_best_settings_maximise_the_expected_degree(lab: Make) -> None:
    """Argmax over the feasible settings of S_ref of the mean degree over draws, by trying them all."""
    setup = lab()
    w = some_weights(60, 3, seed=8)
    ends = alignment.extremes(setup, w)
    found = alignment.best_settings(setup, w, ends)
    utility_says_otherwise = 0
    for i in range(60):
        for x in range(3):
            allowed = [s for s in range(setup.num_reference) if setup.feasible[s, x]]
            u = np.array([[utility(setup, w[i, :, p], s, x) for p in range(3)] for s in allowed])
            degrees = (u - ends.worst[i, x]) / (ends.best[i, x] - ends.worst[i, x])
            assert found[i, x] == allowed[int(np.argmax(degrees.mean(axis=1)))]
            utility_says_otherwise += found[i, x] != allowed[int(np.argmax(u.mean(axis=1)))]
    assert utility_says_otherwise > 0, "the degree of each draw has its own range"


def test_context_degree_is_the_degree_of_one_context(lab: Make) -> None:
    setup = lab()
    w = some_weights(5, 7)
    ends = alignment.extremes(setup, w)
    for x in range(3):
        alone = replace(setup, context_p=np.eye(3)[x])
        for s in range(setup.num_reference):
            found = alignment.context_degree(setup, w, ends, np.full(5, s), np.full(5, x))
            assert found == pytest.approx(alignment.degree(alone, w, ends, np.full((5, 3), s)), abs=1e-12)


def test_lift_is_1_for_the_best_0_for_the_default_and_negative_for_worse(lab: Make, small: Scenario) -> None:
    phi = np.full((len(small.settings), 3, 3), 0.5)
    phi[0], phi[2] = 0.8, 0.2
    setup = lab(phi, noise=0.0)
    assert setup.default == 1
    w = some_weights(1, 4)
    ends = alignment.extremes(setup, w)
    assert alignment.lift(setup, w, ends, np.array([[0, 0, 0]])) == pytest.approx(1.0)
    assert alignment.lift(setup, w, ends, np.array([[1, 1, 1]])) == pytest.approx(0.0, abs=1e-12)
    assert alignment.lift(setup, w, ends, np.array([[2, 2, 2]])) == pytest.approx(-1.0)
    assert alignment.lift(setup, w, ends, np.array([[0, 1, 1]])) == pytest.approx(setup.context_p[0])


def test_lift_is_null_where_the_default_is_best(lab: Make, small: Scenario) -> None:
    phi = np.full((len(small.settings), 3, 3), 0.5)
    phi[1] = 0.8
    setup = lab(phi, noise=0.0)
    w = some_weights(1, 4)
    assert np.isnan(alignment.lift(setup, w, alignment.extremes(setup, w), np.array([[0, 0, 0]]))).all()


def test_plain_unit_regret_put_back_restores_the_best(lab: Make) -> None:
    """Change one attribute by its regret, in its own unit: the utility is then U_max wherever that was attainable."""
    setup = lab()
    attainable = 0
    for i, w in enumerate(some_weights(30, 1, seed=4)[:, :, 0]):
        standing = np.array([i % setup.num_reference] * 3)
        batch = w[None, :, None]
        ends = alignment.extremes(setup, batch)
        best = float(np.sum(ends.best[0, :, 0] * setup.context_p))
        phi = np.sum(setup.phi[standing, np.arange(3)] * setup.context_p[:, None], axis=0)
        if phi @ w >= best:
            continue
        for j, regret in enumerate(alignment.plain_regret(setup, w[:, None], ends, standing)):
            attribute = setup.scenario.attributes[j]
            if w[j] < 0.01:
                assert regret.median is None
                continue
            assert regret.median is not None
            assert regret.median <= 0 if attribute.less_is_better else regret.median >= 0
            changed = phi.copy()
            step = regret.median / (attribute.hi - attribute.lo)
            changed[j] += -step if attribute.less_is_better else step
            if regret.attainable == 1.0:
                attainable += 1
                assert changed @ w == pytest.approx(best, abs=1e-12)
                assert changed[j] <= 1 + 1e-12
            else:
                assert regret.attainable == 0.0
                assert changed[j] == pytest.approx(1.0), '"more than" what is left of the scale'
                assert changed @ w < best
    assert attainable > 20


def test_plain_unit_regret_of_the_best_is_0_and_null_for_what_nobody_cares_about(lab: Make, small: Scenario) -> None:
    phi = np.full((len(small.settings), 3, 3), 0.4)
    phi[0] = 0.6
    setup = lab(phi, noise=0.0)
    w = np.array([[0.7], [0.295], [0.005]])
    ends = alignment.extremes(setup, w[None])
    dirt, coverage, sound = alignment.plain_regret(setup, w, ends, np.array([0, 0, 0]))
    assert (dirt.median, coverage.median, sound.median) == (pytest.approx(0), pytest.approx(0), None)
    dirt, coverage, _ = alignment.plain_regret(setup, w, ends, np.array([1, 1, 1]))
    assert dirt.median == pytest.approx(-0.2 / 0.7 * 100), "0.2 of utility, in g/m2 on a scale of 100"
    assert (coverage.median, coverage.attainable) == (pytest.approx(60), 0.0)
