"""Exact answers about changes of intent, by brute force: every segment between two changes summed over many intents."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, logsumexp, ndtri
from scipy.stats import qmc

from calib.choice import comparison_log_probs, menu_log_probs
from calib.evidence import Evidence
from calib.kernel import COMPARISON
from calib.prior import Prior

Floats = NDArray[np.float64]


class Exact(NamedTuple):
    """T rounds, J attributes."""

    log_evidence: float
    since: Floats  # (T,) P(the last change was before this round | all answers); the first entry: never
    now: Floats  # (J,) mean of the weights after the last round
    after: Floats  # (T, J) the same where the last change was before this round
    before: Floats  # (T, J) mean of the weights in the round before each, given the answers up to that round


def manners(prior: Prior, log_num: int, seed: int) -> Floats:
    """(P, 7) quasi-random normal coordinates of the manner of answering, from the prior."""
    u = np.clip(qmc.Sobol(7, seed=seed).random_base2(log_num), 1e-9, 1 - 1e-9)
    return np.asarray(prior.mean + prior.sd * ndtri(u))


def intents(prior: Prior, log_num: int, seed: int) -> Floats:
    """(I, J) quasi-random weights from the prior."""
    u = np.clip(qmc.Sobol(len(prior.concentration), seed=seed).random_base2(log_num), 1e-12, 1 - 1e-12)
    gamma = gammaincinv(prior.concentration, u)
    return np.asarray(gamma / gamma.sum(axis=1, keepdims=True))


def log_likelihoods(evidence: Evidence, round_of: NDArray[np.int64], w: Floats, x: Floats) -> Floats:
    """(T, I) log likelihood of each round's answers at the weights w (I, J) for one manner x (7,)."""
    out = np.zeros((round_of.max(), len(w)))
    for a, t in enumerate(round_of):
        channel, k = int(evidence.channel[0, a]), int(evidence.num_options[0, a])
        utility = w @ evidence.features[0, a, :k].T
        r = np.exp(x[channel])
        if channel == COMPARISON:
            log_p = comparison_log_probs(np, utility[:, 0] - utility[:, 1], r, np.exp(x[6]))
        else:
            marks = evidence.recommended[0, a, :k], evidence.last[0, a, :k]
            log_p = menu_log_probs(
                np,
                utility,
                r,
                1 / (1 + np.exp(-x[3])),
                reliance=x[4],
                recommended=marks[0],
                inertia=x[5],
                last=marks[1],
            )
        out[t - 1] += log_p[:, evidence.chosen[0, a]]
    return out


def exact(
    prior: Prior, evidence: Evidence, round_of: NDArray[np.int64], hazard: float, log_num: tuple[int, int] = (9, 12)
) -> Exact:
    """Over 2^a manners and 2^b intents: Fearnhead and Liu's recursion given the manner, averaged over it."""
    num_rounds, dims = int(round_of.max()), len(prior.concentration)
    w, xs = intents(prior, log_num[1], 1), manners(prior, log_num[0], 2)
    log_p = np.full((len(xs), num_rounds), -np.inf)  # of all answers and the last change
    after = np.zeros((len(xs), num_rounds, dims))
    up_to, before = np.zeros((len(xs), num_rounds)), np.zeros((len(xs), num_rounds, dims))
    for m, x in enumerate(xs):
        each = log_likelihoods(evidence, round_of, w, x)
        reached = np.full((num_rounds, num_rounds + 1), -np.inf)  # (last change, rounds taken in)
        gone = np.zeros((num_rounds, len(w)))  # log likelihood of the answers since each change
        whole = 0.0
        for t in range(num_rounds):
            before_rows = reached[:t, t]
            start = 0.0 if t == 0 else whole + np.log(hazard)
            keep = before_rows + np.log1p(-hazard)
            for k in range(t + 1):
                earlier = logsumexp(gone[k]) if k < t else np.log(len(w))
                gone[k] += each[t]
                gain = logsumexp(gone[k]) - earlier
                reached[k, t + 1] = (keep[k] if k < t else start) + gain
            whole = float(logsumexp(reached[: t + 1, t + 1]))
            up_to[m, t] = whole
            share = np.exp(reached[: t + 1, t + 1] - whole)
            means = np.exp(gone[: t + 1] - logsumexp(gone[: t + 1], axis=1, keepdims=True)) @ w
            if t + 1 < num_rounds:
                before[m, t + 1] = share @ means
        log_p[m], after[m] = reached[:, num_rounds], means
    evidence_of_manner = logsumexp(log_p, axis=1)
    joint = np.exp(log_p - evidence_of_manner.max())
    since = joint.sum(axis=0)
    then = np.exp(up_to - up_to.max(axis=0))
    earlier = np.zeros((num_rounds, dims))
    for t in range(1, num_rounds):
        earlier[t] = then[:, t - 1] @ before[:, t] / then[:, t - 1].sum()
    weighted = np.einsum("mt,mtj->tj", joint, after)
    return Exact(
        float(logsumexp(evidence_of_manner) - np.log(len(xs))),
        since / since.sum(),
        weighted.sum(axis=0) / since.sum(),
        weighted / since[:, None],
        earlier,
    )
