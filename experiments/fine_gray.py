"""Fine and Gray's proportional subdistribution hazards of alignment (J. Am. Stat. Assoc. 94, 1999): numpy alone.

The model is of F, the cumulative incidence of event 1: log(-log(1 - F(t | x))) = log H(t) + x coef, with H left open.
Whoever leaves by another event stays at risk for ever, weighted at time t by G(t-)/G(own time-): the chance to be still
uncensored at t. G is the Kaplan-Meier estimate of censoring, one for all: being censored may not depend on the terms.
Events come before censorings of the same time, for G too: at risk of being censored is who has had no event by then.
So the hazard without terms gives the Aalen-Johansen estimate exactly. Tied times by Breslow's method.

Everything is a sum up to or from a time over the K distinct times of the sample: after one sort a Newton step costs
N P^2, whether people share their times (rounds) or not (seconds).
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.timing import ADMINISTRATIVE, ALIGNED

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_STEPS = 60  # where a term separates the aligned, each step adds about 1 to its coefficient: known long before
CLOSE = 1e-10  # twice the log-likelihood still to gain; the step that is taken then squares the distance
FLAT = 1e-13  # of the largest information: a direction with less has none, and a variance without bound


class Fit(NamedTuple):
    """Coefficients of P terms; both covariances are (P, P)."""

    coef: Floats  # (P,)
    covariance: Floats  # robust, with the error of the estimated weights
    model_covariance: Floats  # inverse information: large where the likelihood is flat, which the robust one may hide


class _Sample(NamedTuple):
    """N people in the order of their times, and what stays the same at every coefficient."""

    x: Floats  # (N, P), centred and scaled
    first: Ints  # (K,) place of the first person of each distinct time
    place: Ints  # (N,) which of the K times is a person's own
    aligned: Floats  # (K,) events of interest at each time
    censored: Floats  # (K,)
    stayed: Floats  # (K,) at risk of being censored at each time
    uncensored: Floats  # (K,) G just before each time; never 0, because somebody was there
    competed: Floats  # (N,) 1/G just before the own time of who left by another event; 0 for all others
    is_aligned: NDArray[np.bool_]  # (N,)
    is_censored: NDArray[np.bool_]  # (N,)


class _Sums(NamedTuple):
    """The risk set at each time at one coefficient."""

    risk: Floats  # (N,) exp(x coef), up to a common factor
    hazard: Floats  # (K,) increment of the baseline's cumulative subdistribution hazard, over that factor
    mean: Floats  # (K, P) mean of x over the weighted risk set
    log_likelihood: float
    gradient: Floats  # (P,)
    information: Floats  # (P, P)


def fit(time: Floats, event: Ints, x: Floats, person: NDArray[Any] | None = None) -> Fit | None:
    """The estimate for times (N,), event codes (N,) and terms x (N, P); None where no maximum is found.

    Event 1 is of interest, 0 is censored, every other code competes. x has full rank, a constant counted, and somebody
    has event 1. The variance is the sum over people of their squared influence on the estimate, by their events and by
    their share in G: that of `cmprsk::crr`, but exact where censorings are tied. Rows of one `person` (N,) are added up
    before they are squared, so that people who are in several rows count as the same.
    """
    centre, scale = x.mean(axis=0), x.std(axis=0)
    sample = _prepare(time, event, (x - centre) / scale)
    coef = np.zeros(x.shape[1])
    found = _sums(sample, coef)
    for _ in range(MOST_STEPS):
        step = np.linalg.pinv(found.information, rcond=FLAT, hermitian=True) @ found.gradient
        close = float(step @ found.gradient) < CLOSE
        lowest = found.log_likelihood - 1e-10 * (1 + abs(found.log_likelihood))  # no lower, but for rounding
        ahead = _sums(sample, coef + step)
        while ahead.log_likelihood < lowest and np.abs(step).max() > 1e-9:
            step = step / 2
            ahead = _sums(sample, coef + step)
        coef, found = coef + step, ahead
        if close:
            break
    else:
        return None
    size, axes = np.linalg.eigh(found.information)
    inverse = (axes / np.maximum(size, FLAT * size[-1])) @ axes.T
    influence = _influence(sample, found) @ inverse / scale
    if person is not None:
        who = np.unique(person, return_inverse=True)[1][np.argsort(time, kind="stable")]
        influence = np.stack([np.bincount(who, weights=column) for column in influence.T], axis=1)
    return Fit(coef / scale, influence.T @ influence, inverse / np.outer(scale, scale))


def _prepare(time: Floats, event: Ints, x: Floats) -> _Sample:
    order = np.argsort(time, kind="stable")
    event = event[order]
    _, first, place = np.unique(time[order], return_index=True, return_inverse=True)
    is_aligned, is_censored = event == ALIGNED, event == ADMINISTRATIVE
    aligned, censored = (np.add.reduceat(which.astype(float), first) for which in (is_aligned, is_censored))
    stayed = len(time) - np.append(first[1:], len(time)) + censored
    share = np.divide(censored, stayed, out=np.zeros(len(first)), where=stayed > 0)
    uncensored = np.concatenate([[1.0], np.cumprod(1.0 - share)[:-1]])
    competed = np.where(is_aligned | is_censored, 0.0, 1.0 / uncensored[place])
    return _Sample(x[order], first, place, aligned, censored, stayed, uncensored, competed, is_aligned, is_censored)


def _sums(sample: _Sample, coef: Floats) -> _Sums:
    score = sample.x @ coef
    highest = score.max()
    risk = np.exp(score - highest)
    total = _at_risk(sample, risk[:, None])[:, 0]
    # At a coefficient far out the sum may underflow; the likelihood is then so low that the step is halved.
    total = np.maximum(total, 1e-300)
    hazard = sample.aligned / total
    mean = _at_risk(sample, risk[:, None] * sample.x) / total[:, None]
    log_likelihood = float((score[sample.is_aligned] - highest).sum() - (sample.aligned * np.log(total)).sum())
    gradient = sample.x[sample.is_aligned].sum(axis=0) - sample.aligned @ mean
    # The second moments of every risk set, each weighted by its hazard, are those of everybody by their own total.
    weight = risk * _own_total(sample, hazard[:, None])[:, 0]
    information = sample.x.T @ (weight[:, None] * sample.x) - mean.T @ (sample.aligned[:, None] * mean)
    return _Sums(risk, hazard, mean, log_likelihood, gradient, information)


def _at_risk(sample: _Sample, value: Floats) -> Floats:
    """(K, C) the weighted sum of (N, C) over everybody at risk just before each time."""
    there = _from(np.add.reduceat(value, sample.first, axis=0))
    left = np.add.reduceat(value * sample.competed[:, None], sample.first, axis=0)
    return there + sample.uncensored[:, None] * (np.cumsum(left, axis=0) - left)


def _own_total(sample: _Sample, value: Floats) -> Floats:
    """(N, C) the sum of (K, C) over the times at which a person is at risk, weighted as they are."""
    later = sample.uncensored[:, None] * value
    until, after = np.cumsum(value, axis=0), _from(later) - later
    return until[sample.place] + sample.competed[:, None] * after[sample.place]


def _influence(sample: _Sample, found: _Sums) -> Floats:
    """(N, P) what each person adds to the error of the gradient: by their own events, and by their share in G."""
    own = _own_total(sample, np.column_stack([found.hazard, found.hazard[:, None] * found.mean]))
    value = -found.risk[:, None] * (sample.x * own[:, :1] - own[:, 1:])
    value[sample.is_aligned] += (sample.x - found.mean[sample.place])[sample.is_aligned]
    # A censoring at one time lowers the later weights of all who had left by another event up to it.
    weight = found.risk * sample.competed
    left = np.add.reduceat(np.column_stack([weight, weight[:, None] * sample.x]), sample.first, axis=0)
    left = np.cumsum(left, axis=0)
    hazard = sample.uncensored * found.hazard
    ahead = np.column_stack([hazard, hazard[:, None] * found.mean])
    ahead = _from(ahead) - ahead
    pull = left[:, 1:] * ahead[:, :1] - left[:, :1] * ahead[:, 1:]
    # Where all who stayed are censored nobody aligns later: the pull is 0.
    remain = np.maximum(sample.stayed - sample.censored, 1.0)[:, None]
    drift = np.cumsum(pull * (sample.censored / np.maximum(sample.stayed, 1.0))[:, None] / remain, axis=0)
    drift = np.concatenate([np.zeros_like(drift[:1]), drift])
    value -= drift[sample.place + sample.is_censored]
    value[sample.is_censored] += (pull / remain)[sample.place[sample.is_censored]]
    return value


def _from(value: Floats) -> Floats:
    """(K, C) the sum from each time on."""
    return np.asarray(np.cumsum(value[::-1], axis=0)[::-1], np.float64)
