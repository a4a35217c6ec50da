"""Fine and Gray's model: R's own figures, identities with Cox's model, exact derivatives, the truth of a simulation."""

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from statsmodels.duration.hazard_regression import PHReg

from cli.main import main
from experiments import fine_gray, survival
from experiments.survival import Z95

Floats = NDArray[np.float64]


def drawn(seed: int, num: int = 120, times: int = 12, codes: int = 4) -> tuple[Floats, Any, Floats]:
    """People with tied times, every kind of event and two terms; times=0 draws clocks without ties."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=num), rng.integers(0, 2, num)])
    wait = rng.exponential(5 * np.exp(-0.5 * x[:, 0]))
    return np.ceil(wait).clip(max=times) if times else wait, rng.integers(0, codes, num), x


# R's own figures: the data of the test of cmprsk 2.2, drawn by R's generators.


def marsaglia(seed: int) -> Iterator[float]:
    """R's `runif` after RNGversion("1.6.2") and set.seed: Marsaglia's multiply-with-carry."""
    for _ in range(51):
        seed = (69069 * seed + 1) % 2**32
    a, b = seed, (69069 * seed + 1) % 2**32
    while True:
        a = (36969 * (a & 65535) + (a >> 16)) % 2**32
        b = (18000 * (b & 65535) + (b >> 16)) % 2**32
        yield (((a << 16) % 2**32) ^ (b & 65535)) * 2.328306437080797e-10


def exponential(uniform: Iterator[float]) -> float:
    """R's `rexp` (Ahrens & Dieter 1972)."""
    q = np.cumsum([math.log(2) ** k / math.factorial(k) for k in range(1, 17)])
    whole, u = 0.0, 2 * next(uniform)
    while u <= 1:
        whole, u = whole + q[0], 2 * u
    u -= 1
    if u <= q[0]:
        return whole + u
    least, i = min(next(uniform), next(uniform)), 1
    while u > q[i]:
        least, i = min(least, next(uniform)), i + 1
    return whole + least * q[0]


def test_the_figures_of_cmprsk():
    """97 people and three terms to the printed digits; the errors differ by 1/(Y - 1) for 1/Y, under 0.1 per cent."""
    uniform = marsaglia(2)
    time = np.array([exponential(uniform) for _ in range(100)])
    _, event, _ = (np.array([int(size * next(uniform)) for _ in range(100)]) for size in (3, 3, 2))
    for _ in range(217):  # what 100 normal numbers take, which the model does not use
        next(uniform)
    x = np.array([int(2 * next(uniform)) for _ in range(300)], float).reshape(3, 100).T
    kept = np.setdiff1d(np.arange(100), [0, 9, 19])  # three are missing there
    found = fine_gray.fit(time[kept], event[kept], x[kept])
    assert found is not None
    assert found.coef == pytest.approx([-0.2913, -0.06346, -0.4751], abs=6e-5)
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx([0.3698, 0.3566, 0.3544], rel=1e-3)
    alone = fine_gray.fit(time[kept], event[kept], x[kept, :1])
    assert alone is not None
    assert (round(alone.coef[0], 4), round(math.sqrt(alone.covariance[0, 0]), 3)) == (-0.1753, 0.354)


# Identities with Cox's model.


def robust(time: Floats, status: Any, x: Floats) -> tuple[Floats, Floats, Floats]:
    """Cox by statsmodels with Breslow's ties: coefficients, covariance by the information, and robust."""
    model = PHReg(time, x, status=status, ties="breslow")
    coef = np.zeros(x.shape[1])
    for _ in range(20):  # its own search stops at six digits; its derivatives lead further
        coef = coef - np.linalg.solve(model.hessian(coef), model.score(coef))
    information = np.linalg.inv(-model.hessian(coef))
    residuals = model.score_residuals(coef)
    return coef, information, information @ (residuals.T @ residuals) @ information


@pytest.mark.parametrize("times", [0, 12])
def test_without_competing_events_it_is_cox_by_breslow(times):
    time, event, x = drawn(1, times=times, codes=2)
    found = fine_gray.fit(time, event, x)
    coef, information, _ = robust(time, event, x)
    assert found is not None
    assert found.coef == pytest.approx(coef, abs=1e-9)
    assert found.model_covariance == pytest.approx(information, rel=1e-6)


@pytest.mark.parametrize("times", [0, 12])
def test_without_censoring_who_left_otherwise_is_at_risk_for_ever(times):
    time, event, x = drawn(2, times=times)
    event = np.maximum(event, 1)
    found = fine_gray.fit(time, event, x)
    for_ever = np.where(event == 1, time, time.max() + 1)
    coef, information, sandwich = robust(for_ever, (event == 1).astype(int), x)
    assert found is not None
    assert found.coef == pytest.approx(coef, abs=1e-9)
    assert found.model_covariance == pytest.approx(information, rel=1e-6)
    assert found.covariance == pytest.approx(sandwich, rel=1e-6)


# The definition, written out person by person and time by time.


def written_out(time: Floats, event: Any, x: Floats, counts: Floats) -> Floats:
    """The estimate where person i is counted `counts[i]` times: weighted sums over pairs, nothing sorted or grouped."""

    def uncensored(t: float) -> float:
        """The chance to be uncensored just before t; events come before censorings of the same time."""
        product = 1.0
        for u in np.unique(time[(event == 0) & (time < t)]):
            ends = (time == u) & (event == 0)
            product *= 1 - counts[ends].sum() / (counts[ends].sum() + counts[time > u].sum())
        return product

    g = np.array([uncensored(t) for t in time])
    coef = np.zeros(x.shape[1])
    for _ in range(30):
        score, information = np.zeros(len(coef)), np.zeros((len(coef), len(coef)))
        for i in np.flatnonzero(event == 1):
            weight = np.where(time >= time[i], 1.0, np.where(event > 1, g[i] / g, 0.0)) * counts * np.exp(x @ coef)
            mean = weight @ x / weight.sum()
            score += counts[i] * (x[i] - mean)
            information += counts[i] * (np.einsum("i,ij,ik", weight, x, x) / weight.sum() - np.outer(mean, mean))
        coef = coef + np.linalg.solve(information, score)
    return coef


@pytest.mark.parametrize("times", [0, 6])
def test_the_variance_is_the_sum_of_squared_exact_derivatives(times):
    """What a person adds to the estimate is its derivative in how often they are counted; G is part of that."""
    time, event, x = drawn(3, num=40, times=times)
    found = fine_gray.fit(time, event, x)
    ones = np.ones(len(time))
    assert found is not None and (event == 0).sum() > 5
    assert found.coef == pytest.approx(written_out(time, event, x, ones), abs=1e-9)
    step = 1e-5 * np.eye(len(time))
    slopes = [(written_out(time, event, x, ones + h) - written_out(time, event, x, ones - h)) / 2e-5 for h in step]
    derivative = np.array(slopes)
    assert found.covariance == pytest.approx(derivative.T @ derivative, rel=1e-5)
    person = np.arange(len(time)) // 3
    together = np.add.reduceat(derivative, np.arange(0, len(time), 3), axis=0)
    clustered = fine_gray.fit(time, event, x, person)
    assert clustered is not None
    assert clustered.covariance == pytest.approx(together.T @ together, rel=1e-5)


def test_everybody_twice_is_no_more_evidence():
    time, event, x = drawn(4)
    once = fine_gray.fit(time, event, x)
    twice = fine_gray.fit(np.tile(time, 2), np.tile(event, 2), np.tile(x, (2, 1)), np.tile(np.arange(len(time)), 2))
    assert once is not None and twice is not None
    assert twice.coef == pytest.approx(once.coef, abs=1e-9)
    assert twice.covariance == pytest.approx(once.covariance, rel=1e-8)


people = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=2, max_size=40)


@given(people)
@settings(max_examples=200, deadline=None)
def test_without_terms_the_hazard_is_that_of_aalen_and_johansen(pairs):
    time, event = np.array([t for t, _ in pairs], float), np.array([e for _, e in pairs])
    sample = fine_gray._prepare(time, event, np.zeros((len(time), 1)))
    stays = np.cumprod(1 - fine_gray._sums(sample, np.zeros(1)).hazard)
    counts = survival.count(time, event, [1, 2, 3])
    at = np.searchsorted(np.unique(time), counts.times)
    assert 1 - stays[at] == pytest.approx(survival.incidence(counts, 0).estimate, abs=1e-12)


@given(st.integers(0, 10**6), st.integers(0, 15), st.floats(1e-3, 1e3), st.randoms(use_true_random=False))
@settings(max_examples=50, deadline=None)
def test_order_clock_and_codes_do_not_matter(seed, times, unit, random):
    """Other rows, another unit of time, other names of competing events and groups, another unit of a covariate."""
    time, event, x = drawn(seed, num=60, times=times)
    assume((event == 1).sum() > 8)
    found = fine_gray.fit(time, event, x)
    assert found is not None
    order = np.array(random.sample(range(len(time)), len(time)))
    codes = np.array([0, 1, 3, 7])
    turned = np.array([0.01, -1.0])  # centimetres for metres; the other group is the reference
    again = fine_gray.fit(unit * time[order], codes[event[order]], x[order] / turned + [1000, 1])
    assert again is not None
    assert again.coef == pytest.approx(found.coef * turned, rel=1e-6, abs=1e-8)
    assert again.covariance == pytest.approx(found.covariance * np.outer(turned, turned), rel=1e-6, abs=1e-9)


# The truth of a simulation.


def test_the_estimate_is_unbiased_and_its_interval_covers():
    """Fine and Gray's own design, 2,000 samples of 200 a quarter censored: 93.5 to 96% of the 95% intervals cover.

    F(t | x) = 1 - (1 - p (1 - exp(-t)))^exp(x coef); whoever is not of F leaves at the rate exp(x other).
    """
    rng = np.random.default_rng(31)
    coef, other, p, num = np.array([0.5, 0.5]), np.array([-0.5, 0.5]), 0.6, 2000
    found, covered, errors, censored = [], [], [], []
    for _ in range(num):
        x = rng.normal(size=(200, 2))
        risk = np.exp(x @ coef)
        share = 1 - (1 - p) ** risk
        u = rng.random(200)
        interest = u < share
        of_interest = -np.log1p(-(1 - (1 - np.where(interest, u, 0.0)) ** (1 / risk)) / p)
        wait = np.where(interest, of_interest, rng.exponential(np.exp(-x @ other)))
        watched = rng.uniform(0, 4, 200)
        event = np.where(wait > watched, 0, np.where(interest, 1, 2))
        fit = fine_gray.fit(np.minimum(wait, watched), event, x)
        assert fit is not None
        se = np.sqrt(np.diag(fit.covariance))
        found.append(fit.coef)
        errors.append(se)
        covered.append(np.abs(fit.coef - coef) <= Z95 * se)
        censored.append((event == 0).mean())
    spread = np.std(found, axis=0)
    bias, ratio, coverage = np.mean(found, axis=0) - coef, np.mean(errors, axis=0) / spread, np.mean(covered, axis=0)
    print(f"bias {bias}, se / spread {ratio}, coverage {coverage}, censored {np.mean(censored):.3f}")
    assert np.abs(bias).max() < 0.02
    assert (ratio > 0.94).all() and (ratio < 1.06).all()
    assert (coverage > 0.935).all() and (coverage < 0.96).all()
    assert 0.2 < np.mean(censored) < 0.3


# In the command.


def analysed(folder: Path, rows: list[tuple[Any, ...]], capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    path = folder / "data.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows([("person", "t", "e", "g", "age"), *rows])
    assert main(["analyze", str(path), "--time", "t", "--event", "e", "--group", "g", *words]) == 0
    return capsys.readouterr().out


def rows_of(seed: int, codes: int = 3) -> list[tuple[Any, ...]]:
    time, event, x = drawn(seed, codes=codes)
    return [(i, t, e, "ab"[int(b)], a) for i, (t, e, (a, b)) in enumerate(zip(time, event, x, strict=True))]


def test_the_command_shows_it_beside_cox(tmp_path, capsys):
    rows = rows_of(5)
    found = json.loads(analysed(tmp_path, rows, capsys, "--covariates", "age", "--json"))
    assert [c["term"] for c in found["fine_gray"]] == [c["term"] for c in found["cox"]] == ["age", "g[b]"]
    assert found["fine_gray"][0].keys() == found["cox"][0].keys()
    time, event, x = drawn(5, codes=3)
    expected = fine_gray.fit(time, event, x)
    assert expected is not None
    assert [c["coef"] for c in found["fine_gray"]] == pytest.approx(expected.coef.tolist(), abs=1e-9)
    for i, c in enumerate(found["fine_gray"]):
        assert c["ties"] == "breslow" and c["se"] == pytest.approx(math.sqrt(expected.covariance[i, i]))
        assert c["low"] < c["hazard_ratio"] < c["high"] and 0 < c["p"] < 1
    text = analysed(tmp_path, rows, capsys, "--covariates", "age")
    assert "Cox, of the hazard (efron ties)" in text and "Fine-Gray, of the incidence (breslow ties)" in text


def test_people_in_both_groups_are_counted_as_the_same(tmp_path, capsys):
    """Everybody in both groups, nearly as fast in the other: less doubt of the difference than among strangers."""
    once = [(*row[:3], "a", row[4]) for row in rows_of(6)]
    later = [(i, t + i % 2, e, "b", a) for i, t, e, _, a in once]
    paired = json.loads(analysed(tmp_path, once + later, capsys, "--json"))["fine_gray"][0]
    strangers = [(f"other {i}", *more) for i, *more in later]
    apart = json.loads(analysed(tmp_path, once + strangers, capsys, "--json"))["fine_gray"][0]
    assert paired["coef"] == pytest.approx(apart["coef"], abs=1e-9) and paired["coef"] < 0
    assert paired["se"] < 0.5 * apart["se"]


def test_the_same_people_with_the_same_outcomes_leave_no_error(tmp_path, capsys):
    once = [(*row[:3], "a", row[4]) for row in rows_of(6)]
    found = json.loads(analysed(tmp_path, once + [(*r[:3], "b", r[4]) for r in once], capsys, "--json"))
    term = found["fine_gray"][0]
    assert abs(term["coef"]) < 1e-9 and term["se"] == 0 and term["p"] is None
    assert any(note.startswith("Fine-Gray: g[b] has no error") for note in found["notes"])


def test_it_is_empty_without_competing_events_and_without_terms(tmp_path, capsys):
    found = json.loads(analysed(tmp_path, rows_of(7, codes=2), capsys, "--json"))
    assert found["cox"] and found["fine_gray"] == []
    alone = json.loads(analysed(tmp_path, rows_of(7), capsys, "--where", "g=a", "--json"))
    assert alone["cox"] == alone["fine_gray"] == []


def test_a_term_without_a_finite_estimate_is_null(tmp_path, capsys):
    """Nobody of b aligned: the robust error stays small while the coefficient runs off, the information tells."""
    rows = [(i, t, 2 if g == "b" and e == 1 else e, g, a) for i, t, e, g, a in rows_of(8)]
    found = json.loads(analysed(tmp_path, rows, capsys, "--covariates", "age", "--json"))
    age, group = found["fine_gray"]
    assert age["coef"] is not None and age["se"] > 0
    assert group["term"] == "g[b]" and all(group[k] is None for k in ("coef", "se", "p", "hazard_ratio", "low", "high"))
    assert any(note.startswith("Fine-Gray: g[b] has no finite estimate") for note in found["notes"])


def test_a_group_that_left_before_the_first_alignment_tells_nothing(tmp_path, capsys):
    rows = [(i, 0.5, 0, g, a) if g == "b" else (i, t, e, g, a) for i, t, e, g, a in rows_of(9)]
    age, group = json.loads(analysed(tmp_path, rows, capsys, "--covariates", "age", "--json"))["fine_gray"]
    assert age["coef"] is not None and group["coef"] is None


@pytest.mark.parametrize("unit", [0, 1e300, 1e-200])
def test_a_covariate_that_does_not_vary_or_cannot_be_squared_is_named(unit, tmp_path, capsys):
    rows = [(*row[:4], unit * row[4] if unit else 0.1) for row in rows_of(10)]
    found = json.loads(analysed(tmp_path, rows, capsys, "--covariates", "age", "--json"))
    assert found["cox"] == found["fine_gray"] == []
    assert any(note.startswith("no Cox or Fine-Gray model: a covariate is constant") for note in found["notes"])


def test_a_covariate_in_tiny_units_has_no_ratio_that_overflows(tmp_path, capsys):
    rows = [(i, t, e, g, 1e-4 * t + 1e-5 * a) for i, t, e, g, a in rows_of(11)]
    age = json.loads(analysed(tmp_path, rows, capsys, "--covariates", "age", "--json"))["fine_gray"][0]
    assert age["coef"] < -700 and age["hazard_ratio"] is not None and age["hazard_ratio"] >= 0
