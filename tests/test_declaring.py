"""Rules that declare: when each says so, and how often it is wrong."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calib.setup import Setup
from experiments import declaring
from experiments.batch import simulate_sessions
from experiments.declaring import Rule, compared, first_round, judged, reference, rules
from experiments.people import rational

Make = Callable[..., Setup]


def estimate(*rows: list[tuple[float, float, float, float]]) -> np.ndarray:
    return np.array(rows)


def test_each_rule_on_a_case_by_hand() -> None:
    nan = float("nan")
    e = estimate(
        [(0.5, 0.1, 0.9, 0.1), (0.9, 0.8, 0.99, 0.89), (0.91, 0.86, 0.95, 0.9), (0.915, 0.9, 0.94, 0.97)],
        [(0.5, 0.1, 0.9, 0.1), (0.6, 0.2, 0.9, 0.2), (nan, nan, nan, nan), (nan, nan, nan, nan)],
    )
    at = {(r.name, r.parameter): first_round(r.says(e)).tolist() for r in rules(0.1)}
    assert at["eps_delta", 0.1] == [2, -1] and at["eps_delta", 0.05] == [3, -1] and at["eps_delta", 0.2] == [1, -1]
    assert at["interval_width", 0.2] == [1, -1] and at["interval_width", 0.1] == [2, -1]
    assert at["fixed_rounds", 5.0] == [-1, -1]
    assert at["no_change", 0.02] == [-1, -1], "the first of three steps was large"
    found = judged(rules(0.1)[0], e, np.array([[0.9, 0.9, 0.94, 1.0], [1.0, 1.0, nan, nan]]), 0.05)
    assert (found["declarations"], found["false_declaration_rate"], found["median_round"]) == (1, 1.0, 2.0)
    never = judged(rules(0.1)[4], e, np.ones((2, 4)), 0.05)
    assert never["false_declaration_rate"] is None and never["declarations"] == 0


@given(arrays(np.bool_, (3, 6)))
def test_the_first_round_is_the_first(says: np.ndarray) -> None:
    for row, at in zip(says, first_round(says), strict=True):
        true = [t for t in range(1, 6) if row[t]]
        assert at == (true[0] if true else -1)


@given(st.integers(1, 5), st.integers(1, 3))
def test_a_still_estimate_is_declared_after_three_steps(length: int, start: int) -> None:
    mean = np.concatenate([np.linspace(0, 1, start + 1), np.full(length + 3, 1.0)])
    e = np.repeat(mean[None, :, None], 4, axis=2)
    rule = next(r for r in rules(0.1) if r.name == "no_change")
    assert first_round(rule.says(e))[0] == start + 3


def test_the_posterior_is_wrong_as_often_as_it_says(lab: Make) -> None:
    """2,000 people under bulk: at most delta, give or take three standard errors; a fixed round of the rest."""
    setup = lab(engine="bulk", max_rounds=12, seed=2)
    found = {(r["rule"], r["parameter"]): r for r in compared(setup, "rational", 2000)}
    ours, blind = found["eps_delta", 0.1], found["fixed_rounds", 5.0]
    assert ours["declarations"] > 800
    assert ours["false_declaration_rate"] < 0.1 + 3 * np.sqrt(0.09 / ours["declarations"])
    sessions = simulate_sessions(setup, rational, {}, np.arange(2000))
    assert blind["declarations"] == 2000
    assert blind["false_declaration_rate"] == np.mean(sessions.true_degree[:, 5] < 0.95)
    prior = next(r for r in compared(setup, "rational,rationality=1", 500) if r["rule"] == "eps_delta")
    assert prior["false_declaration_rate"] > ours["high"], "a misjudged rationality is reported, not hidden"


def test_a_reference_is_made_once(lab: Make, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declaring, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(declaring, "REFERENCE_PEOPLE", 50)
    setup = lab(max_rounds=4)
    found = reference(setup)
    assert found["people"] == 50 and found["engine"].startswith("bulk/") and found["rule"] == "eps_delta"
    monkeypatch.setattr(declaring, "compared", None)
    assert reference(setup) == found
    assert isinstance(rules(0.1)[0], Rule)
    assert reference(lab(policy="full_menu")) is None, "bulk learns nothing from that"
