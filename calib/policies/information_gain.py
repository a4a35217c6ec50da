"""The pair of outcome cards whose answer is expected to tell most about the person.

Expected information gain: entropy of the predicted answer minus the expected entropy given the person (Lindley 1956),
over the weighted particles, for every pair of the pool.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.kernel import COMPARISON
from calib.live import Belief, Floats, Ints, intent, over_people
from calib.setup import Setup


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The best pair; the first of the pool where tied."""
    gain = expected_gain(setup, belief, log_weight)
    return np.argmax(gain, axis=1)


def expected_gain(setup: Setup, belief: Belief, log_weight: Floats) -> Floats:
    """(N, R) nats that each pair is expected to give."""
    num_attributes = setup.num_attributes
    w = intent(belief, num_attributes)
    rationality = np.exp(belief.particles[:, num_attributes - 1 + COMPARISON])
    about_equal = np.exp(belief.particles[:, num_attributes - 1 + 6])
    out = np.empty((len(w), len(setup.pairs)))

    def work(a: int, b: int) -> None:
        _gain(w[a:b], rationality[a:b], about_equal[a:b], log_weight[a:b], setup.cards, setup.pairs, out[a:b])

    over_people(work, len(w))
    return out


@njit(cache=True, nogil=True, error_model="numpy")
def _gain(
    w: NDArray[np.float64],
    rationality: Floats,
    about_equal: Floats,
    log_weight: Floats,
    cards: Floats,
    pairs: Ints,
    out: Floats,
) -> None:
    num_cards, dims = cards.shape
    draws = w.shape[2]
    # e^{r U(card)} and e^{tau} once a card and particle: each answer's probability is then two divisions
    up = np.empty((num_cards, draws))
    weight, push = np.empty(draws), np.empty(draws)
    for i in range(w.shape[0]):
        top = np.max(log_weight[i])
        total = 0.0
        for p in range(draws):
            weight[p] = np.exp(log_weight[i, p] - top)
            total += weight[p]
            push[p] = np.exp(about_equal[i, p])
        for p in range(draws):
            weight[p] /= total
        for c in range(num_cards):
            for p in range(draws):
                utility = 0.0
                for j in range(dims):
                    utility += (cards[c, j] - 0.5) * w[i, j, p]
                up[c, p] = np.exp(min(max(rationality[i, p] * utility, -300.0), 300.0))
        for q in range(pairs.shape[0]):
            a, b = pairs[q, 0], pairs[q, 1]
            mean_a, mean_b, mean_e, inner = 0.0, 0.0, 0.0, 0.0
            for p in range(draws):
                first = up[a, p] / (up[a, p] + push[p] * up[b, p])
                second = up[b, p] / (up[b, p] + push[p] * up[a, p])
                equal = max(1.0 - first - second, 0.0)
                mean_a += weight[p] * first
                mean_b += weight[p] * second
                mean_e += weight[p] * equal
                inner += weight[p] * (_term(first) + _term(second) + _term(equal))
            out[i, q] = inner - _term(mean_a) - _term(mean_b) - _term(mean_e)


@njit(cache=True, nogil=True, inline="always")
def _term(p: float) -> float:
    return p * np.log(p) if p > 1e-12 else 0.0
