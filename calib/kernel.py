"""The compiled twin of the choice model (calib/choice.py) with its prior and gradient, over particles.

A test holds value and gradient against the PyMC graph on random inputs, so an edit of either breaks the build.

Everything is laid out (coordinate, particle) so that the inner loops run over particles and need no reduction: a
person's numbers do not depend on who else is in the batch. numba's wheels have no vector exp, hence `_exp`.

Unconstrained coordinates of a particle, D = J - 1 + 7: J - 1 log ratios of weights to the last weight; log rationality
of the three channels; logit lapse; reliance; inertia; log about-equal threshold.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NUM_EXTRA = 7
MODE_CHOICE, ACCEPT_OVERRIDE, COMPARISON = 0, 1, 2


class Answers(NamedTuple):
    """One person's answers: a row of calib.evidence.Evidence."""

    features: Floats  # (A, K, J)
    recommended: Floats  # (A, K)
    last: Floats  # (A, K)
    num_options: Ints  # (A,)
    channel: Ints  # (A,)
    chosen: Ints  # (A,)


_FLUSH = 4  # answers multiplied before one log: (1e-26)^4 stays far above the smallest float


@njit(cache=True, nogil=True, error_model="numpy")
def _exp(source: Floats, out: Floats, scratch: Floats) -> None:
    """out = e^source elementwise, relative error 2e-13, source clipped to +-700. The arrays may be the same."""
    magic = 6755399441055744.0  # 1.5 * 2^52: adding it leaves the rounded integer in the low bits
    num = source.shape[0]
    for p in range(num):
        x = min(max(source[p], -700.0), 700.0)
        t = x * 1.4426950408889634 + magic
        scratch[p] = t
        n = t - magic
        r = x - n * 0.6931471803691238
        r = r - n * 1.9082149292705877e-10
        y = 2.755731922398589e-07 * r + 2.7557319223985893e-06
        y = y * r + 2.48015873015873e-05
        y = y * r + 0.0001984126984126984
        y = y * r + 0.001388888888888889
        y = y * r + 0.008333333333333333
        y = y * r + 0.041666666666666664
        y = y * r + 0.16666666666666666
        y = y * r + 0.5
        y = y * r + 1.0
        out[p] = y * r + 1.0
    bits = scratch.view(np.int64)
    for p in range(num):
        bits[p] = (bits[p] + 1023) << 52
    for p in range(num):
        out[p] *= scratch[p]


@njit(cache=True, nogil=True, error_model="numpy")
def weights(x: Floats, num_attributes: int, out: Floats) -> None:
    """out (J, P): the weights on the simplex of particles x (D, P)."""
    num = x.shape[1]
    last = num_attributes - 1
    scratch = np.empty(num)
    top = np.zeros(num)
    for j in range(last):
        for p in range(num):
            top[p] = max(top[p], x[j, p])
    total = np.zeros(num)
    for j in range(num_attributes):
        for p in range(num):
            out[j, p] = (x[j, p] if j < last else 0.0) - top[p]
        _exp(out[j], out[j], scratch)
        for p in range(num):
            total[p] += out[j, p]
    for j in range(num_attributes):
        for p in range(num):
            out[j, p] /= total[p]


@njit(cache=True, nogil=True, error_model="numpy")
def log_target(
    x: Floats,
    prior: Any,
    answers: Answers,
    first: int,
    first_new: int,
    end: int,
    new_scale: float,
    prior_scale: float,
    want_gradient: bool,
    value: Floats,
    gradient: Floats,
) -> None:
    """Log density of one person's particles: prior_scale * prior + answers [first, first_new) + new_scale * the rest.

    The rest are the answers [first_new, end). x (D, P), prior a calib.prior.Prior. Writes value (P,) and gradient
    (D, P). The prior is up to a constant: the Dirichlet in log-ratio coordinates is proportional to prod w^a.
    """
    concentration, prior_mean, prior_sd = prior.concentration, prior.mean, prior.sd
    features, recommended, last = answers.features, answers.recommended, answers.last
    num_options, channel, chosen = answers.num_options, answers.channel, answers.chosen
    num = x.shape[1]
    num_attributes = concentration.shape[0]
    extra = num_attributes - 1
    most = features.shape[1]
    scratch = np.empty(num)
    w = np.empty((num_attributes, num))
    weights(x, num_attributes, w)
    rationality = np.empty((3, num))
    for c in range(3):
        _exp(x[extra + c], rationality[c], scratch)
    lapse = np.empty(num)
    _exp(x[extra + 3], lapse, scratch)
    tau = np.empty(num)
    _exp(x[extra + 6], tau, scratch)
    for p in range(num):
        lapse[p] = lapse[p] / (1.0 + lapse[p])
    span = np.empty(num)  # e^{2 tau}
    for p in range(num):
        span[p] = 2.0 * tau[p]
    _exp(span, span, scratch)

    for p in range(num):
        value[p] = 0.0
    for j in range(num_attributes):
        for p in range(num):
            value[p] += prior_scale * concentration[j] * np.log(max(w[j, p], 1e-300))
    for e in range(NUM_EXTRA):
        for p in range(num):
            z = (x[extra + e, p] - prior_mean[e]) / prior_sd[e]
            value[p] -= prior_scale * 0.5 * z * z
    gradient_w = np.zeros((num_attributes, num))  # d/d(log w) is not used: this is d/dw times w, filled at the end
    if want_gradient:
        for d in range(x.shape[0]):
            for p in range(num):
                gradient[d, p] = 0.0

    utility = np.empty((most, num))
    share = np.empty((most, num))
    top = np.empty(num)
    total = np.empty(num)
    old_product = np.ones(num)
    new_product = np.ones(num)
    slope = np.empty(num)
    g_lapse = np.empty(num)
    held_old, held_new = 0, 0
    for a in range(first, end):
        scale = new_scale if a >= first_new else 1.0
        product = new_product if a >= first_new else old_product
        c = channel[a]
        row = rationality[c]
        if c == COMPARISON:
            for p in range(num):
                total[p] = 0.0
            for j in range(num_attributes):
                gap = features[a, 0, j] - features[a, 1, j]
                for p in range(num):
                    total[p] += gap * w[j, p]
            answer = chosen[a]
            for p in range(num):
                share[0, p] = row[p] * total[p] - tau[p]
                share[1, p] = -row[p] * total[p] - tau[p]
            for side in range(2):
                if answer != 1 - side:  # log F(s) = s below -60: what would underflow the product is added at once
                    for p in range(num):
                        value[p] += scale * min(share[side, p] + 60.0, 0.0)
                for p in range(num):
                    share[side, p] = min(max(share[side, p], -60.0), 60.0)
                _exp(share[side], share[side], scratch)
            for p in range(num):
                lose_a = 1.0 / (1.0 + share[0, p])  # F(tau - r d)
                lose_b = 1.0 / (1.0 + share[1, p])
                win_a = share[0, p] * lose_a
                win_b = share[1, p] * lose_b
                if answer == 0:
                    product[p] *= win_a
                    slope[p] = lose_a
                    g_lapse[p] = -lose_a
                elif answer == 1:
                    product[p] *= win_b
                    slope[p] = -lose_b
                    g_lapse[p] = -lose_b
                else:
                    product[p] *= (span[p] - 1.0) * win_a * win_b
                    slope[p] = lose_a - lose_b
                    g_lapse[p] = 2.0 * span[p] / (span[p] - 1.0) - lose_a - lose_b
            if want_gradient:
                for p in range(num):
                    slope[p] *= scale * row[p]
                    gradient[extra + COMPARISON, p] += slope[p] * total[p]
                    gradient[extra + 6, p] += scale * g_lapse[p] * tau[p]
                for j in range(num_attributes):
                    gap = features[a, 0, j] - features[a, 1, j]
                    for p in range(num):
                        gradient_w[j, p] += slope[p] * gap
        else:
            count = num_options[a]
            for p in range(num):
                top[p] = -1e300
                total[p] = 0.0
            for k in range(count):
                for p in range(num):
                    utility[k, p] = 0.0
                for j in range(num_attributes):
                    f = features[a, k, j]
                    for p in range(num):
                        utility[k, p] += f * w[j, p]
                push, stay = recommended[a, k], last[a, k]
                for p in range(num):
                    share[k, p] = row[p] * utility[k, p] + push * x[extra + 4, p] + stay * x[extra + 5, p]
                    top[p] = max(top[p], share[k, p])
            for k in range(count):
                for p in range(num):
                    share[k, p] -= top[p]
                _exp(share[k], share[k], scratch)
                for p in range(num):
                    total[p] += share[k, p]
            for k in range(count):
                for p in range(num):
                    share[k, p] /= total[p]
            pick = chosen[a]
            for p in range(num):
                probability = lapse[p] / count + (1.0 - lapse[p]) * share[pick, p]
                product[p] *= probability
                slope[p] = scale * (1.0 - lapse[p]) * share[pick, p] / probability
                g_lapse[p] = scale * (1.0 / count - share[pick, p]) / probability * lapse[p] * (1.0 - lapse[p])
            if want_gradient:
                for p in range(num):
                    gradient[extra + 3, p] += g_lapse[p]
                for k in range(count):
                    mine = 1.0 if k == pick else 0.0
                    push, stay = recommended[a, k], last[a, k]
                    for p in range(num):
                        g = slope[p] * (mine - share[k, p])
                        gradient[extra + 4, p] += push * g
                        gradient[extra + 5, p] += stay * g
                        share[k, p] = g * row[p]
                        gradient[extra + c, p] += share[k, p] * utility[k, p]
                    for j in range(num_attributes):
                        f = features[a, k, j]
                        for p in range(num):
                            gradient_w[j, p] += share[k, p] * f
        if a >= first_new:
            held_new += 1
            if held_new == _FLUSH:
                for p in range(num):
                    value[p] += new_scale * np.log(max(new_product[p], 1e-300))
                    new_product[p] = 1.0
                held_new = 0
        else:
            held_old += 1
            if held_old == _FLUSH:
                for p in range(num):
                    value[p] += np.log(max(old_product[p], 1e-300))
                    old_product[p] = 1.0
                held_old = 0
    if held_old > 0:
        for p in range(num):
            value[p] += np.log(max(old_product[p], 1e-300))
    if held_new > 0:
        for p in range(num):
            value[p] += new_scale * np.log(max(new_product[p], 1e-300))
    if not want_gradient:
        return
    # from weights to log ratios: dL/dx_j = w_j (G_j - sum_i w_i G_i), and the Dirichlet adds a_j - w_j sum(a)
    for p in range(num):
        total[p] = 0.0
    for j in range(num_attributes):
        for p in range(num):
            total[p] += w[j, p] * gradient_w[j, p]
    all_concentration = np.sum(concentration)
    for j in range(extra):
        for p in range(num):
            gradient[j, p] = w[j, p] * (gradient_w[j, p] - total[p])
            gradient[j, p] += prior_scale * (concentration[j] - all_concentration * w[j, p])
    for e in range(NUM_EXTRA):
        for p in range(num):
            gradient[extra + e, p] -= prior_scale * (x[extra + e, p] - prior_mean[e]) / (prior_sd[e] * prior_sd[e])
