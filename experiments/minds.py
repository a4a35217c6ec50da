"""People with a mental model of their own, drawn from an engine's prior: what they choose, see, say and compare."""

import numpy as np
from numpy.typing import NDArray

from calib import history, mental
from calib.choice import comparison_log_probs, learn, menu_log_probs
from calib.history import COMPARISON, MODE_CHOICE, PROBE, RUN, History
from calib.mental import MindPrior

Floats = NDArray[np.float64]
_ALL = np.array([True])


def live_through(
    rng: np.random.Generator, prior: MindPrior, rounds: int, probes: int, comparisons: int
) -> tuple[History, list[int], Floats]:
    """A person of the prior: what happened in their rounds, how much had by the end of each, and their weights."""
    num_modes, dims = prior.expectation.shape
    w, x = rng.dirichlet(prior.concentration), rng.normal(prior.mean, prior.sd)
    r, lapse, rate = np.exp(x[:5]), 1 / (1 + np.exp(-x[mental.LAPSE])), 1 / (1 + np.exp(-x[mental.LEARNING]))
    f_hat = rng.normal(prior.expectation, np.exp(x[mental.BELIEF_SD]))
    does = rng.random((num_modes, dims))
    out, ends, last = history.empty_history(1, 4 * rounds, dims), [], -1
    for t in range(rounds):
        was_last = (np.arange(num_modes) == last).astype(float)
        log_p = menu_log_probs(np, f_hat @ w, r[MODE_CHOICE], lapse, inertia=x[mental.INERTIA], last=was_last)
        mode = _pick(rng, log_p)
        out = history.add(out, _ALL, MODE_CHOICE, option=np.array([mode]), where=np.array([last]))
        seen, last = np.clip(does[mode] + rng.normal(0, 0.03, dims), 0, 1), mode
        out = history.add(out, _ALL, RUN, first=seen[None], option=np.array([mode]))
        f_hat[mode] = learn(np, f_hat[mode], seen, rate, prior.salience)
        if t < probes:
            m, j = rng.integers(num_modes), rng.integers(dims)
            said = np.array([f_hat[m, j] + rng.normal(0, prior.probe_sd)])
            out = history.add(out, _ALL, PROBE, option=np.array([m]), where=np.array([j]), value=said)
        if t < comparisons:
            a, b = rng.random((2, dims))
            log_p = comparison_log_probs(np, (a - b) @ w, r[COMPARISON], np.exp(x[mental.TAU]))
            answer = np.array([_pick(rng, log_p)])
            out = history.add(out, _ALL, COMPARISON, first=a[None], second=b[None], option=answer)
        ends.append(int(out.num[0]))
    return out, ends, w


def _pick(rng: np.random.Generator, log_p: Floats) -> int:
    p = np.exp(log_p)
    return int(rng.choice(len(p), p=p / p.sum()))
