"""Estimators for times with competing events: numpy alone, on counts, any leading axes for many samples at once.

A sample is (time, event): event 0 is an administrative end (censored), every other code a cause that ends the wait.
Events come before censorings of the same time. Variances are the delta method on the increments of the cumulative
hazards, multinomial at each time (Greenwood's formula where there is one cause; Marubini & Valsecchi 1995 for several).
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

Z95 = 1.959963984540054  # two-sided 95%


class Counts(NamedTuple):
    """A sample as counts at its K distinct event times, in order; C causes."""

    times: Floats  # (..., K)
    at_risk: Floats  # (..., K), just before the time
    events: Floats  # (..., C, K), by cause


class Incidence(NamedTuple):
    """Cumulative incidence of one cause and its standard error, (..., K) each."""

    estimate: Floats
    se: Floats


def count(time: Floats, event: Ints, causes: Sequence[int]) -> Counts:
    """The counts of one sample; `causes` holds every code but 0 that occurs."""
    times = np.unique(time[event > 0])
    at_risk = len(time) - np.searchsorted(np.sort(time), times, side="left")
    events = [np.bincount(np.searchsorted(times, time[event == c]), minlength=len(times)) for c in causes]
    return Counts(times, at_risk.astype(float), np.array(events, float).reshape(len(causes), len(times)))


def survival(counts: Counts) -> Floats:
    """(..., K) share still without any event just after each time (Kaplan-Meier over all causes)."""
    return np.asarray(np.cumprod(1.0 - _share(counts, counts.events.sum(axis=-2)), axis=-1), np.float64)


def incidence(counts: Counts, cause: int) -> Incidence:
    """Aalen-Johansen estimate for the cause at that place of the axis C."""
    _, p_cause, before, c = _increments(counts, cause)
    f = np.cumsum(before * p_cause, axis=-1)
    # sum over earlier times of A - 2 B (F - F_k) + C (F - F_k)^2, its squares multiplied out so that one pass is enough
    a_k = _over(p_cause * (1 - p_cause) * before**2, counts.at_risk)
    b_k = _over(before * p_cause, counts.at_risk)
    variance = np.cumsum(a_k + 2 * b_k * f + c * f**2, axis=-1)
    variance -= 2 * f * np.cumsum(b_k + c * f, axis=-1)
    variance += f**2 * np.cumsum(c, axis=-1)
    # Rounding leaves some 1e-17 where the exact value is 0.
    variance = np.where(variance > 1e-15, variance, 0.0)
    return Incidence(np.minimum(f, 1.0), np.sqrt(variance))


def restricted_mean(counts: Counts, cause: int, tau: float) -> tuple[Floats, Floats]:
    """Restricted mean time without alignment, and the standard error of this estimate; (...) each.

    The mean of min(T, tau), where T is the time to the cause and infinite for whoever leaves by another one:
    integral from 0 to tau of 1 - F(u) du, F the cause's cumulative incidence. Where no competing event occurs it is the
    area under the Kaplan-Meier curve. Who gave up counts as not aligned up to tau: it is not the mean time until a
    session ends. tau has to be a time up to which somebody was observed.
    """
    _, p_cause, before, c = _increments(counts, cause)
    left = np.maximum(tau - counts.times, 0.0)
    gain = before * p_cause * left
    later = np.cumsum(gain[..., ::-1], axis=-1)[..., ::-1] - gain  # integral of F(u) - F_k from t_k to tau
    weight = before * left
    variance = _over(p_cause * (1 - p_cause) * weight**2 - 2 * weight * p_cause * later, counts.at_risk) + c * later**2
    return tau - gain.sum(axis=-1), np.sqrt(np.maximum(variance.sum(axis=-1), 0.0))


def restricted_mean_influence(
    counts: Counts, cause: int, tau: float, time: Floats, event: Ints, causes: Sequence[int]
) -> Floats:
    """(N,) what each member of one sample adds to the error of its restricted mean; the sum of squares is se^2.

    The product of two samples' values, summed over people who are in both, is the covariance of their restricted means.
    """
    p, p_cause, before, _ = _increments(counts, cause)
    left = np.maximum(tau - counts.times, 0.0)
    gain = before * p_cause * left
    later = np.cumsum(gain[::-1])[::-1] - gain
    other = -_over(later, 1 - p)  # what an event of any cause takes from the incidence still to come
    drift = np.cumsum(_over(p_cause * before * left + p * other, counts.at_risk))
    seen = np.searchsorted(counts.times, time, side="right")  # event times passed while under observation
    value = -np.concatenate([[0.0], drift])[seen]
    happened = np.isin(event, causes)
    k = seen[happened] - 1
    own = np.where(event[happened] == causes[cause], (before * left)[k], 0.0)
    value[happened] += (own + other[k]) / counts.at_risk[k]
    return -value


def median(counts: Counts, cause: int) -> float | None:
    """The first time by which half have had the cause; None where the estimate stays below one half."""
    reached = np.flatnonzero(incidence(counts, cause).estimate >= 0.5 - 1e-12)
    return float(counts.times[reached[0]]) if len(reached) else None


def interval(found: Incidence) -> tuple[Floats, Floats]:
    """Pointwise 95% interval of a cumulative incidence F by log(-log(1 - F)); nan where F is 0 or 1 or has no error.

    The transform of 1 - F, so that it is Kaplan-Meier's log(-log) interval where no competing event occurs.
    """
    stays = 1.0 - found.estimate
    with np.errstate(divide="ignore", invalid="ignore"):
        width = Z95 * found.se / (stays * np.abs(np.log(stays)))
        low, high = 1.0 - stays ** np.exp(-width), 1.0 - stays ** np.exp(width)
    known = (found.estimate > 1e-12) & (stays > 1e-12) & (found.se > 0)
    return np.where(known, low, np.nan), np.where(known, high, np.nan)


def share_interval(number: int, of: int) -> tuple[float, float]:
    """95% interval of a share by Wilson's score, which also holds near 0 and 1."""
    share, z2 = number / of, Z95**2 / of
    middle, half = share + z2 / 2, Z95 * math.sqrt(share * (1 - share) / of + z2 / (4 * of))
    return max((middle - half) / (1 + z2), 0.0), min((middle + half) / (1 + z2), 1.0)


def _increments(counts: Counts, cause: int) -> tuple[Floats, Floats, Floats, Floats]:
    p = _share(counts, counts.events.sum(axis=-2))
    p_cause = _share(counts, counts.events[..., cause, :])
    after = np.cumprod(1.0 - p, axis=-1)
    before = np.concatenate([np.ones_like(after[..., :1]), after[..., :-1]], axis=-1)
    # Where the last one leaves, nothing can follow that this term would multiply.
    return p, p_cause, before, _over(p, (1.0 - p) * counts.at_risk)


def _share(counts: Counts, events: Floats) -> Floats:
    return _over(events, counts.at_risk)


def _over(top: Floats, bottom: Floats) -> Floats:
    """top / bottom, 0 where bottom is 0."""
    return np.divide(top, bottom, out=np.zeros(np.broadcast_shapes(top.shape, bottom.shape)), where=bottom > 0)
