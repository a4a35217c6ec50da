"""Utility that saturates at an aspiration: its shape, the knots that figures are made with, and every figure on it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from calib import alignment, utility
from calib.errors import UserError
from calib.gaps import gaps
from calib.outcomes import scale
from calib.scenario import Scenario, load_scenario, load_scenario_text
from calib.setup import Setup, make_setup, usual_engine
from experiments.batch import simulate_sessions
from experiments.oracle import luck, true_degree
from experiments.people import rational
from experiments.sbc import make_task
from experiments.truth import draw_truth
from people_minds import with_aspirations

Make = Callable[..., Setup]
Floats = NDArray[np.float64]
TABLE = "[population.aspiration]\n" + "".join(
    f"{name} = {{ median = 0.6, sd_logit = 1.0 }}\n" for name in ("residual_dirt", "coverage", "sound")
)
CHANGE = "[change]\nhazard = 0.1\nask_at = 0.5\nevery = 2\nanswer_error = 0.1\nhypotheses = 2\n"


def aspiring(lab: Make, small: Scenario, **how: object) -> Setup:
    return lab(scenario=with_aspirations(small), **({"engine": "oracle"} | how))


def people(setup: Setup, num: int, seed: int = 2) -> tuple[Floats, Floats]:
    """Weights and aspirations (num, J)."""
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(setup.num_attributes), num), rng.uniform(0.2, 1, (num, setup.num_attributes))


def expected(setup: Setup, w: Floats, b: Floats, s: int, x: int) -> float:
    """E U by the definition: v itself, averaged over the replicates."""
    phi = scale(setup.scenario, setup.map.z[s, x])
    return float(np.mean([w @ np.where(p < b, p / b * (2 - p / b), 1.0) for p in phi]))


@pytest.mark.parametrize("b", [0.2, 0.37, 0.8, 1.0])
def test_v_rises_ever_less_to_one_at_the_aspiration(b: float) -> None:
    phi = np.linspace(0, 1, 1001)
    v = utility.value(np, phi, b)
    assert v[0] == 0 and np.all(v[phi >= b] == 1) and np.all(v[phi < b - 1e-3] < 1)
    rise = np.diff(v)
    assert np.all(rise >= 0) and np.all(np.diff(rise) <= 1e-12), "concave"
    assert rise[np.searchsorted(phi, b) - 2] < 0.01 * rise[0], "no kink at the aspiration"
    assert np.max(v - phi) > 0.2, "far from linear even where the aspiration is all there is"


def test_the_knots_are_close_to_v() -> None:
    rng = np.random.default_rng(0)
    phi, b = rng.uniform(0, 1, (5, 40)), rng.uniform(0.2, 1, (1, 40, 300))
    at = utility.over_knots(np.ones((1, 40, 300)) / 40, b)
    assert np.allclose(at.sum(axis=1), 1.0) and at.min() >= 0
    found = utility.at_knots(phi) @ at[0]
    exact = utility.value(np, phi[:, :, None], b).mean(axis=1)
    assert np.max(np.abs(found - exact)) < 2e-4
    one = utility.over_knots(np.ones((1, 1, 300)), b[:, :1])
    off = np.abs(utility.at_knots(phi[:, :1]) @ one[0] - utility.value(np, phi[:, :1], b[0, :1]))
    assert 1e-5 < np.max(off) < 7e-4


def test_degree_and_extremes_are_on_expected_v(lab: Make, small: Scenario) -> None:
    setup = aspiring(lab, small)
    w, b = people(setup, 12)
    intent = alignment.known_intent(setup, w, b)
    ends, rng = alignment.extremes(setup, intent), np.random.default_rng(1)
    standing = rng.integers(0, setup.num_reference, (12, 3))
    found = alignment.degree(setup, intent, ends, standing)[:, 0]
    best = alignment.best_settings(setup, intent, ends)
    for i in range(12):
        total = weight = 0.0
        for x, p in enumerate(setup.context_p):
            u = np.array([expected(setup, w[i], b[i], s, x) for s in range(setup.num_reference)])
            allowed = setup.feasible[: setup.num_reference, x]
            high, low = u[allowed].max(), u[allowed].min()
            assert ends.best[i, x, 0] == pytest.approx(high, abs=7e-4)
            assert u[best[i, x]] > high - 2e-3
            if high - low >= alignment.MIN_RANGE:
                weight += p
                total += p * (u[standing[i, x]] - low) / (high - low) if allowed[standing[i, x]] else 0.0
        assert found[i] == pytest.approx(total / weight, abs=0.02)


def test_regret_in_plain_units_restores_the_best_on_v(lab: Make, small: Scenario) -> None:
    """Every run better by the change makes up for what is missing, and by a little less does not."""
    setup = aspiring(lab, small)
    w, b = people(setup, 30)
    seen, unattainable = 0, 0
    for i in range(30):
        other = alignment.known_intent(setup, w[i - 1 : i] if i else w[-1:], b[i - 1 : i] if i else b[-1:])
        standing = alignment.best_settings(setup, other, alignment.extremes(setup, other))[0]
        intent = alignment.known_intent(setup, w[i : i + 1], b[i : i + 1])
        ends = alignment.extremes(setup, intent)
        top = float(np.sum(ends.best[0, :, 0] * setup.context_p))
        z = scale(small, setup.map.z[standing, np.arange(3)])  # (X, K, J)
        for j, found in enumerate(alignment.plain_regret(setup, intent[0], ends, standing)):
            if found.median is None:
                assert w[i, j] < 0.01
                continue

            def reached(change: float, i: int = i, j: int = j, z: Floats = z) -> float:
                better = np.minimum(z[..., j] + change, 1.0)
                rest = [k for k in range(3) if k != j]
                value = w[i, j] * utility.value(np, better, b[i, j])
                value = value + np.sum(w[i, rest] * utility.value(np, z[..., rest], b[i, rest]), axis=-1)
                return float(np.sum(value.mean(axis=1) * setup.context_p))

            change = abs(found.median) / 100  # scales are 0 to 100
            if found.attainable:
                seen += 1
                assert reached(change) == pytest.approx(max(top, reached(0.0)), abs=2e-3)
            else:
                unattainable += 1
                assert reached(1.0) < top + 1e-3
                assert change == pytest.approx(1 - np.sum(z[..., j].mean(axis=1) * setup.context_p), abs=1e-9)
    assert seen > 10 and unattainable > 5, (seen, unattainable)


def test_gaps_are_on_v_and_add_up(lab: Make, small: Scenario) -> None:
    setup = aspiring(lab, small)
    w, b = people(setup, 9)
    intent = alignment.known_intent(setup, w, b)
    rng = np.random.default_rng(4)
    f_hat, context = rng.uniform(-0.2, 1.2, (9, 4, 3)), rng.integers(0, 3, 9)
    alone, commanded, realised = (rng.integers(0, len(setup.settings), 9) for _ in range(3))
    terms = gaps(setup, intent, f_hat, context, alone, commanded, realised)
    again = gaps(setup, intent, f_hat[..., None], context, alone, commanded, realised)
    assert np.array_equal(np.stack(terms), np.stack(again))
    for i in range(9):
        u = [expected(setup, w[i], b[i], s, context[i]) for s in range(len(setup.settings))]
        allowed = setup.feasible[:, context[i]]
        whole = max(v for v, a in zip(u, allowed, strict=True) if a) - u[realised[i]]
        assert sum(t[i, 0] for t in terms) == pytest.approx(whole, abs=2e-3)
        assert terms.choice[i, 0] + terms.mediation[i, 0] + terms.execution[i, 0] <= whole + 1e-9
        value = utility.value(np, np.clip(f_hat[i], 0, 1), b[i]) @ w[i]
        modes = setup.mode_setting
        pick = modes[np.argmax(np.where(allowed[modes], value, -np.inf))]
        best = max(u[m] for m in modes if allowed[m])
        assert terms.mental_model[i, 0] == pytest.approx(best - u[pick], abs=2e-3)


def test_people_answer_with_v(lab: Make, small: Scenario) -> None:
    """What is believed is clipped; cards and proposals are single outcomes; luck is on v."""
    setup = aspiring(lab, small)
    truth = draw_truth(setup, np.arange(2000), {})
    a = np.log((truth.aspirations - 0.2) / (1 - truth.aspirations))
    share = (np.array([0.5, 0.6, 0.7]) - 0.2) / 0.8
    assert a.mean(axis=0) == pytest.approx(np.log(share / (1 - share)), abs=0.1)
    assert a.std(axis=0) == pytest.approx(np.ones(3), abs=0.06)
    features = np.random.default_rng(0).uniform(-0.3, 1.3, (2000, 4, 3))
    u = rational.believed_utility(truth, features)
    value = utility.value(np, np.clip(features, 0, 1), truth.aspirations[:, None])
    assert np.allclose(u, np.sum(value * truth.weights[:, None], axis=2))
    z = setup.map.z[2, 1].mean(axis=0)[None].repeat(2000, axis=0)
    u = np.sum(truth.weights * utility.value(np, scale(small, z), truth.aspirations), axis=1)
    exact = [expected(setup, truth.weights[i], truth.aspirations[i], 2, 1) for i in range(50)]
    found = luck(setup, truth, z, np.full(2000, 2), np.full(2000, 1))
    assert found[:50] == pytest.approx(u[:50] - np.array(exact), abs=2e-3)
    assert np.all(found > -2e-3), "the mean outcome is worth more than the mean of its values: v is concave"


def test_the_oracle_stands_at_the_best(lab: Make, small: Scenario) -> None:
    setup = aspiring(lab, small, role="advisor")
    sessions = simulate_sessions(setup, rational, {}, np.arange(50))
    assert np.all(sessions.true_degree > 1 - 1e-9)
    linear, truth = lab(engine="oracle"), sessions.truth
    intent = alignment.known_intent(linear, truth.weights, truth.aspirations)
    stands = alignment.best_settings(linear, intent, alignment.extremes(linear, intent))
    assert np.mean(true_degree(setup, truth, stands)) < 0.99, "what linear people would want is not best for these"


def test_a_scenario_says_which_utility(small_text: str) -> None:
    told = small_text.replace('version = "1"', 'version = "1"\nutility = "aspiration"')
    whole = load_scenario_text(told + TABLE, "s.toml")
    assert whole.utility == "aspiration" and whole.population.aspiration == ((0.6, 1.0),) * 3
    assert usual_engine(whole) == "exact"
    linear = load_scenario_text(small_text.replace('version = "1"', 'version = "1"\nutility = "linear"'), "s.toml")
    assert linear.hash == load_scenario_text(small_text, "s.toml").hash != whole.hash
    wrong = {
        told: "population.aspiration: is missing; add it",
        told + TABLE.replace("sound", "smell"): "population.aspiration.sound: is missing",
        told + TABLE.replace("0.6", "1.2"): "residual_dirt: has the median 1.2; an aspiration lies between 0.2 and 1",
        told + TABLE.replace("0.6", "0.2"): "has the median 0.2",
        told + TABLE.replace("1.0", "0"): "sd_logit: is 0; it must lie in",
        told.replace('"aspiration"', '"log"') + TABLE: 'scenario.utility: is "log"; write one of linear, aspiration',
        small_text + TABLE: "population.aspiration: is there and utility is linear",
        told + TABLE + CHANGE: "change: is there and scenario.utility is aspiration",
    }
    for text, message in wrong.items():
        with pytest.raises(UserError) as error:
            load_scenario_text(text, "s.toml")
        assert message in str(error.value) and "\n" not in str(error.value), str(error.value)


def test_the_shipped_scenarios_keep_their_hashes() -> None:
    assert load_scenario("apartment").hash.startswith("09c25bc033db4007")
    assert load_scenario("beliefs").hash.startswith("a25e748baa8b1557")


@pytest.mark.parametrize("engine", ["live", "full", "bulk"])
def test_engines_that_hold_for_linear_utility_say_so(small: Scenario, engine: str) -> None:
    with pytest.raises(UserError, match=r"^--engine: [^\n]+ holds for linear utility, [^\n]+ take --engine exact$"):
        make_setup(with_aspirations(small), engine=engine)


def test_the_reference_of_sbc_says_so_too() -> None:
    path = Path(__file__).parent.parent / "scenarios" / "aspiration.toml"
    rest = {"people": 4, "seed": 0, "role": "tool", "policy": "random", "max_rounds": 2, "particles": None}
    with pytest.raises(UserError, match=r"^--engine: pymc holds for linear utility, [^\n]+; take exact$"):
        make_task(str(path), path.read_text(), engine="pymc", **rest)
