"""Whether what was predicted happened as often: reliability in ten bins, its error, and what a perfect forecaster gets.

The expected calibration error (ECE) is the mean over all cases of |predicted - observed| of their bin. It is never 0:
with few cases a bin is off by chance. So predictions are also taken at their word: outcomes drawn from them again and
again (a parametric bootstrap) give the error that a perfect forecaster of the same predictions would show.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 10
RESAMPLES = 500


class Reliability(NamedTuple):
    """Sums by bin of the predicted probability, from [0, 0.1) to [0.9, 1]."""

    cases: Ints  # (10,)
    predicted: Floats  # (10,) sum of the probabilities
    happened: Ints  # (10,)
    resampled: Ints  # (R, 10) what happened where outcomes were drawn from the predictions

    def plus(self, other: "Reliability") -> "Reliability":
        """Of all cases of both."""
        return Reliability(
            self.cases + other.cases,
            self.predicted + other.predicted,
            self.happened + other.happened,
            self.resampled + other.resampled,
        )


def nothing() -> Reliability:
    """Of no case."""
    zeros = np.zeros(BINS, np.int64)
    return Reliability(zeros, np.zeros(BINS), zeros, np.zeros((RESAMPLES, BINS), np.int64))


def tally(probability: Floats, answer: Ints, u: Floats, is_case: NDArray[np.bool_]) -> Reliability:
    """N answers among K options each. Every option with is_case (N, K) is a case: it was the answer or was not.

    probability (N, K), rows add up to 1; answer (N,), the option that it was; u (N, R) uniforms for drawing it again.
    """
    num, num_options = probability.shape
    place = np.where(is_case, np.minimum((probability * BINS).astype(np.int64), BINS - 1), BINS)  # BINS: no case
    cumulative = np.cumsum(probability, axis=1)
    cumulative /= cumulative[:, -1:]
    drawn = np.zeros(u.shape, np.int64)
    for k in range(num_options - 1):
        drawn += u >= cumulative[:, k, None]
    drawn_place = np.take_along_axis(place, drawn, axis=1) + np.arange(u.shape[1]) * (BINS + 1)
    resampled = np.bincount(drawn_place.ravel(), minlength=u.shape[1] * (BINS + 1)).reshape(-1, BINS + 1)
    predicted = np.bincount(place.ravel(), np.where(is_case, probability, 0.0).ravel(), minlength=BINS + 1)[:BINS]
    return Reliability(
        np.bincount(place.ravel(), minlength=BINS + 1)[:BINS],
        predicted.astype(np.float64),
        np.bincount(place[np.arange(num), answer], minlength=BINS + 1)[:BINS],
        resampled[:, :BINS],
    )


def calibration_error(found: Reliability) -> float | None:
    """The ECE, None without a case."""
    total = int(found.cases.sum())
    return float(np.abs(found.predicted - found.happened).sum() / total) if total else None


def perfect_error(found: Reliability) -> dict[str, float] | None:
    """Mean and 90% interval of the ECE that a perfect forecaster of the same predictions would show."""
    total = int(found.cases.sum())
    if not total:
        return None
    errors = np.abs(found.predicted - found.resampled).sum(axis=1) / total
    low, high = np.quantile(errors, [0.05, 0.95])
    return {"mean": float(errors.mean()), "low": float(low), "high": float(high)}


def tally_event(probability: Floats, happened: NDArray[np.bool_], u: Floats) -> Reliability:
    """N events with a probability (N,) each; happened (N,), u (N, R)."""
    both = np.stack([probability, 1 - probability], axis=1)
    return tally(both, np.where(happened, 0, 1), u, np.tile([True, False], (len(both), 1)))


def bins(found: Reliability) -> list[dict[str, float | int]]:
    """Each bin that has a case: mean predicted, share that happened, and the 90% band of a perfect forecaster."""
    rows: list[dict[str, float | int]] = []
    for b in np.flatnonzero(found.cases):
        cases = int(found.cases[b])
        low, high = np.quantile(found.resampled[:, b] / cases, [0.05, 0.95])
        rows.append(
            {
                "cases": cases,
                "predicted": float(found.predicted[b] / cases),
                "observed": float(found.happened[b] / cases),
                "low": float(low),
                "high": float(high),
            }
        )
    return rows
