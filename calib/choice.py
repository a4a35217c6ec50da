"""The choice model, written once (docs/definitions.md 2.3 to 2.5).

`xp` is numpy or pytensor.tensor: simulated people answer from these functions, the PyMC model is built from them, and
the compiled engine (calib/kernel.py) is held to them by a test. All arrays may carry leading axes (people, particles).
"""

import itertools
from typing import Any

import numpy as np


def menu_log_probs(
    xp: Any,
    utility: Any,
    rationality: Any,
    lapse: Any,
    *,
    reliance: Any = 0.0,
    recommended: Any = 0.0,
    inertia: Any = 0.0,
    last: Any = 0.0,
    offered: Any = 1.0,
) -> Any:
    """Log probability of each option, (..., K), for mode choice and for accept or override.

    utility (..., K) as believed; recommended, last and offered are 0/1 masks (..., K); rationality, lapse, reliance
    and inertia are (..., 1). An option that is not offered has log probability -inf. Luce's rule on rationality times
    utility with a lapse of uniform choice among what is offered (McFadden; Evans, Stuhlmueller and Goodman 2016).
    """
    value = menu_values(utility, rationality, reliance, recommended, inertia, last)
    value = xp.where(offered > 0, value, -xp.inf)
    value = xp.exp(value - xp.max(value, axis=-1, keepdims=True))
    share = value / xp.sum(value, axis=-1, keepdims=True)
    offered = offered + xp.zeros_like(share)
    uniform = offered / xp.sum(offered, axis=-1, keepdims=True)
    probability = lapse * uniform + (1 - lapse) * share
    # the inner `where` keeps log away from 0, whose gradient would be nan
    return xp.where(offered > 0, xp.log(xp.where(offered > 0, probability, 1.0)), -xp.inf)


def menu_values(
    utility: Any, rationality: Any, reliance: Any = 0.0, recommended: Any = 0.0, inertia: Any = 0.0, last: Any = 0.0
) -> Any:
    """What the options are worth in log odds, (..., K). With standard Gumbel noise on top the best one is chosen."""
    return rationality * utility + reliance * recommended + inertia * last


def comparison_log_probs(xp: Any, difference: Any, rationality: Any, about_equal: Any) -> Any:
    """Log probability of "a", "b", "about equal", stacked on a new last axis of 3 (Rao and Kupper 1967).

    difference is U(a) - U(b); P(a) = F(r d - tau), P(b) = F(-r d - tau) with F the logistic function, tau > 0. The rest
    is (e^{2 tau} - 1)/((1 + e^{tau - r d})(1 + e^{tau + r d})), which is written so because 1 - P(a) - P(b) cancels.
    """
    scaled = rationality * difference
    log_a = -softplus(xp, about_equal - scaled)
    log_b = -softplus(xp, about_equal + scaled)
    log_equal = xp.log(xp.expm1(2 * about_equal)) + log_a + log_b
    return xp.stack([log_a, log_b, log_equal], axis=-1)


def grade_log_probs(xp: Any, utility: Any, rationality: Any, aspiration: Any, spacing: Any, num_grades: int) -> Any:
    """Log probability of each grade of a run, worst first, on a new last axis (ordered logit; McCullagh 1980).

    P(grade <= k) = F(c_k - r (U - aspiration)), thresholds c_k `spacing` apart and centred. F(x) - F(y) is
    (1 - e^{y - x}) F(x) F(-y): a difference of two would cancel.
    """
    value = rationality * (utility - aspiration)
    middle = (num_grades - 2) / 2
    steps = [(k - middle) * spacing - value for k in range(num_grades - 1)]
    grades = [-softplus(xp, -steps[0])]
    between = xp.log(-xp.expm1(-spacing))
    grades += [between - softplus(xp, -high) - softplus(xp, low) for low, high in itertools.pairwise(steps)]
    return xp.stack([*grades, -softplus(xp, steps[-1])], axis=-1)


def stop_log_prob(
    xp: Any, utility: Any, rationality: Any, aspiration: Any, log_hazard: Any, ticks: Any, stopped: Any
) -> Any:
    """Log probability of letting a run go on for `ticks`, and of stopping it then where `stopped` is 1.

    The hazard a tick of telemetry is e^{log_hazard - r (U - aspiration)} of the outcome as predicted.
    """
    log_rate = log_hazard - rationality * (utility - aspiration)
    return stopped * log_rate - ticks * xp.exp(log_rate)


def probe_log_density(xp: Any, said: Any, f_hat: Any, sd: Any) -> Any:
    """Log density of what a person says they expect of one attribute: Gaussian around what they expect."""
    return -0.5 * ((said - f_hat) / sd) ** 2 - xp.log(sd) - 0.5 * np.log(2 * np.pi)


def softplus(xp: Any, x: Any) -> Any:
    """log(1 + e^x) without overflow."""
    return xp.maximum(x, 0.0) + xp.log1p(xp.exp(-abs(x)))


def learn(xp: Any, f_hat: Any, observed: Any, learning_rate: Any, salience: Any) -> Any:
    """f_hat after one run of the mode: a step towards what was observed (2.4). (..., J), scaled attributes."""
    return f_hat + learning_rate * salience * (observed - f_hat)
