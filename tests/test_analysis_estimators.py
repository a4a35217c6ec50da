"""The estimators against exact answers: a table by hand in fractions, identities, the truth of simulations."""

from fractions import Fraction as F

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.duration.survfunc import CumIncidenceRight, SurvfuncRight

from experiments import survival
from experiments.survival import Counts


def sample(*pairs: tuple[float, int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([t for t, _ in pairs], float), np.array([e for _, e in pairs])


def test_competing_risks_by_hand():
    """Seven people; at 2 one aligns and one gives up, at 3 a censoring comes after the event of the same time."""
    time, event = sample((1, 1), (2, 1), (2, 2), (3, 1), (3, 0), (5, 2), (6, 0))
    counts = survival.count(time, event, [1, 2])
    assert counts.times.tolist() == [1, 2, 3, 5]
    assert counts.at_risk.tolist() == [7, 6, 4, 2]
    stays = [F(6, 7), F(6, 7) * F(4, 6), F(4, 7) * F(3, 4), F(3, 7) * F(1, 2)]
    aligned = [F(1, 7), F(1, 7) + F(6, 7) / 6, F(2, 7) + F(4, 7) / 4, F(3, 7)]
    gave_up = [F(0), F(6, 7) / 6, F(1, 7), F(1, 7) + F(3, 7) / 2]
    assert survival.survival(counts) == pytest.approx([float(v) for v in stays], abs=1e-15)
    assert survival.incidence(counts, 0).estimate == pytest.approx([float(v) for v in aligned], abs=1e-15)
    assert survival.incidence(counts, 1).estimate == pytest.approx([float(v) for v in gave_up], abs=1e-15)
    # 1 - F is 1 on [0, 1), 6/7 on [1, 2), 5/7 on [2, 3), 4/7 from 3 on.
    mean, _ = survival.restricted_mean(counts, 0, 6.0)
    assert mean == pytest.approx(float(1 + F(6, 7) + F(5, 7) + 3 * F(4, 7)), abs=1e-14)
    assert survival.median(counts, 0) is None
    assert survival.median(survival.count(*sample((1, 1), (2, 1), (3, 2), (4, 0)), [1, 2]), 0) == 2


people = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), min_size=1, max_size=40)


@given(people)
@settings(max_examples=200, deadline=None)
def test_causes_and_survival_sum_to_one(pairs):
    counts = survival.count(*sample(*pairs), [1, 2, 3])
    causes = [survival.incidence(counts, i) for i in range(3)]
    assert sum(c.estimate for c in causes) + survival.survival(counts) == pytest.approx(1.0, abs=1e-12)
    for found in causes:
        assert (np.diff(found.estimate) >= -1e-15).all()
        low, high = survival.interval(found)
        known = ~np.isnan(low)
        assert ((low <= found.estimate) & (found.estimate <= high))[known].all()


@given(people)
@settings(max_examples=200, deadline=None)
def test_without_competing_events_incidence_is_one_minus_kaplan_meier(pairs):
    time, event = sample(*((t, min(e, 1)) for t, e in pairs))
    counts = survival.count(time, event, [1])
    found = survival.incidence(counts, 0)
    assert found.estimate == pytest.approx(1 - survival.survival(counts), abs=1e-12)
    if event.any():
        theirs = SurvfuncRight(time, event)
        assert found.estimate == pytest.approx(1 - theirs.surv_prob, abs=1e-12)
        greenwood = np.nan_to_num(theirs.surv_prob_se)  # 0 * inf where everybody has left
        assert found.se == pytest.approx(greenwood, abs=1e-7)


def test_incidence_and_errors_are_those_of_statsmodels():
    rng = np.random.default_rng(5)
    time, event = rng.integers(1, 12, 400).astype(float), rng.integers(0, 4, 400)
    counts = survival.count(time, event, [1, 2, 3])
    theirs = CumIncidenceRight(time, event)
    for i in range(3):
        found = survival.incidence(counts, i)
        assert found.estimate == pytest.approx(theirs.cinc[i], abs=1e-13)
        assert found.se[:-1] == pytest.approx(theirs.cinc_se[i][:-1], abs=1e-12)


def test_without_censoring_the_errors_are_those_of_a_share_and_of_a_mean():
    rng = np.random.default_rng(6)
    time, event = rng.integers(1, 10, 300).astype(float), rng.integers(1, 4, 300)
    counts = survival.count(time, event, [1, 2, 3])
    found = survival.incidence(counts, 0)
    assert found.se == pytest.approx(np.sqrt(found.estimate * (1 - found.estimate) / 300), abs=1e-12)
    waits = np.where(event == 1, np.minimum(time, 7.0), 7.0)
    mean, se = survival.restricted_mean(counts, 0, 7.0)
    assert mean == pytest.approx(waits.mean(), abs=1e-12)
    assert se == pytest.approx(waits.std() / np.sqrt(300), abs=1e-12)


@given(people)
@settings(max_examples=200, deadline=None)
def test_the_influences_of_people_make_up_the_standard_error(pairs):
    time, event = sample(*pairs)
    counts = survival.count(time, event, [1, 2, 3])
    tau = float(time.max())
    influence = survival.restricted_mean_influence(counts, 0, tau, time, event, [1, 2, 3])
    assert influence.sum() == pytest.approx(0.0, abs=1e-9)
    assert np.sqrt((influence**2).sum()) == pytest.approx(survival.restricted_mean(counts, 0, tau)[1], abs=1e-9)


def test_with_giving_up_linked_by_frailty_one_minus_kaplan_meier_overstates():
    """100,000 people: the incidence is the share that truly aligned by each time, to 0.005; 1 - KM is 0.05 too high."""
    rng = np.random.default_rng(11)
    num = 100_000
    frailty = rng.gamma(2.0, 0.5, num)  # the impatient are quick at both
    aligned_at, gave_up_at = rng.exponential(10 / frailty), rng.exponential(12 / frailty)
    watched = rng.uniform(5, 40, num)
    time = np.minimum(np.minimum(aligned_at, gave_up_at), watched)
    event = np.select([time == aligned_at, time == gave_up_at], [1, 2], 0)
    counts = survival.count(time, event, [1, 2])
    found = survival.incidence(counts, 0).estimate
    as_if_censored = survival.count(time, (event == 1).astype(int), [1])
    kaplan_meier = 1 - survival.survival(as_if_censored)
    for t in (10.0, 20.0, 30.0):
        # The gamma frailty in closed form: E exp(-z h t) = (1 + h t / 2)^-2, and 1/10 of every 11/60 aligns.
        truth = (1 / 10) / (11 / 60) * (1 - (1 + (11 / 60) * t / 2) ** -2)
        at = found[np.searchsorted(counts.times, t, side="right") - 1]
        naive = kaplan_meier[np.searchsorted(as_if_censored.times, t, side="right") - 1]
        assert at == pytest.approx(truth, abs=0.005)
        assert naive > truth + 0.05


def replicates(rng: np.random.Generator, num: int, size: int) -> Counts:
    """Samples of exponential waits: 0.10 to align, 0.05 to give up, censored from 4 to 24; (num, size)."""
    ends, watched = rng.exponential(1 / 0.15, (num, size)), rng.uniform(4, 24, (num, size))
    event = np.where(ends > watched, 0, np.where(rng.random((num, size)) < 2 / 3, 1, 2))
    time = np.minimum(ends, watched)
    order = np.argsort(time, axis=1)
    time, event = np.take_along_axis(time, order, 1), np.take_along_axis(event, order, 1)
    at_risk = np.broadcast_to(np.arange(size, 0, -1.0), (num, size))
    return Counts(time, at_risk, np.stack([event == 1, event == 2], axis=1).astype(float))


def test_the_standard_error_of_a_restricted_mean_is_honest():
    """5,000 samples of 200: the mean error is within 5% of the spread, the 95% interval covers 94 to 96%."""
    num, tau = 5000, 12.0
    counts = replicates(np.random.default_rng(20), num, 200)
    mean, se = survival.restricted_mean(counts, 0, tau)
    # F(u) = 2/3 (1 - exp(-0.15 u)), integrated to tau.
    truth = tau - 2 / 3 * (tau - (1 - np.exp(-0.15 * tau)) / 0.15)
    assert mean.mean() == pytest.approx(truth, abs=4 * mean.std() / np.sqrt(num))
    ratio = se.mean() / mean.std()
    coverage = (np.abs(mean - truth) <= survival.Z95 * se).mean()
    print(f"standard error / spread {ratio:.4f}, coverage {coverage:.4f}")
    assert 0.95 < ratio < 1.05
    assert 0.94 < coverage < 0.96
    # The difference of two independent groups, as contrasts have it.
    other, other_se = survival.restricted_mean(replicates(np.random.default_rng(21), num, 200), 0, tau)
    covers = (np.abs(mean - other) <= survival.Z95 * np.hypot(se, other_se)).mean()
    assert 0.94 < covers < 0.96


def test_the_interval_of_an_incidence_covers():
    """5,000 samples of 200 at one time: log(-log(1 - F)) covers 94 to 96%."""
    counts = replicates(np.random.default_rng(22), 5000, 200)
    low, high = survival.interval(survival.incidence(counts, 0))
    at = (counts.times <= 8.0).sum(axis=1) - 1
    rows = np.arange(len(at))
    truth = 2 / 3 * (1 - np.exp(-0.15 * 8.0))
    coverage = ((low[rows, at] <= truth) & (truth <= high[rows, at])).mean()
    print(f"coverage {coverage:.4f}")
    assert 0.94 < coverage < 0.96


def test_paired_people_are_counted_as_the_same():
    """2,000 studies of 100 people who are in both groups: the covariance of their influences gives the spread."""
    rng = np.random.default_rng(23)
    tau, differences, errors, naive = 8.0, [], [], []
    for _ in range(2000):
        frailty = rng.gamma(1.0, 1.0, 100)
        means, variance, influences = [], 0.0, []
        for scale in (8.0, 6.0):
            waits, watched = rng.exponential(scale / frailty), rng.uniform(tau, 2 * tau, 100)
            time, event = np.minimum(waits, watched), (waits <= watched).astype(int)
            counts = survival.count(time, event, [1])
            mean, se = survival.restricted_mean(counts, 0, tau)
            means.append(mean)
            variance += se**2
            influences.append(survival.restricted_mean_influence(counts, 0, tau, time, event, [1]))
        differences.append(means[0] - means[1])
        naive.append(np.sqrt(variance))
        errors.append(np.sqrt(variance - 2 * influences[0] @ influences[1]))
    spread = np.std(differences)
    assert np.mean(errors) == pytest.approx(spread, rel=0.05)
    assert np.mean(naive) > 1.1 * spread
