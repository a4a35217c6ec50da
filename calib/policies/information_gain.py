"""The pair of outcome cards, or the menu of them, whose answer is expected to tell most about the person.

Expected information gain: entropy of the predicted answer minus the expected entropy given the person (Lindley 1956),
over the weighted particles, for every pair of the pool.
"""

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.comparisons import Model, card_odds, make_room, model_of, natural
from calib.gain import best_of_both, best_pair
from calib.kernel import COMPARISON
from calib.live import Belief, Floats, Ints, intent_at, over_people
from calib.questions import BEST_OF
from calib.setup import Setup
from calib.state import State
from calib.vector import Single, Singles, exp32, log32, rows32, total

_THIN = 2  # of single-precision particles every second one: after resampling neighbours are alike
_ONE, _ZERO = np.float32(1.0), np.float32(0.0)
_LOW, _HIGH = np.float32(1e-30), np.float32(1e30)


def choose(setup: Setup, belief: Belief, log_weight: Floats, u: Floats) -> Ints:
    """The best pair, as calib/gain.py finds it; the first of the pool where tied."""
    return best_pair(belief, log_weight, setup.cards, setup.pairs)


def ask(setup: Setup, state: State, log_weight: Floats, u: Floats) -> Ints:
    """The same among pairs, and menus of cards where the scenario has them."""
    if not setup.pool.menus:
        return choose(setup, state.belief, log_weight, u)
    is_menu, row = best_of_both(state.belief, log_weight, setup.cards, setup.pairs, setup.menus)
    return row + np.where(is_menu, setup.pool.first(BEST_OF), 0)


def expected_gain(setup: Setup, belief: Belief, log_weight: Floats) -> Floats:
    """(N, R) nats that each pair is expected to give, in double precision: what `choose` is held to by a test."""
    num_attributes = setup.num_attributes
    w = intent_at(belief.particles, num_attributes)
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


def choose_single(setup: Setup, belief: Any, u: Floats) -> Ints:
    """As `choose`, from the weighted single-precision particles of a bulk belief, to 1e-5 nats."""
    return np.argmax(expected_gain_single(setup, belief.particles, belief.log_weight), axis=1)


def expected_gain_single(setup: Setup, particles: Singles, log_weight: Singles) -> Floats:
    """(N, R) nats that each pair is expected to give, from particles (N, J + 2, P) as in calib/comparisons.py."""
    model, pairs = model_of(setup), setup.pairs
    out = np.empty((len(particles), len(pairs)))
    over_people(lambda a, b: _gain_single(particles[a:b], log_weight[a:b], model, pairs, out[a:b]), len(particles))
    return out


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def _gain_single(particles: Singles, log_weight: Singles, model: Model, pairs: Ints, out: Floats) -> None:
    num_attributes, num_cards = model.shape.shape[0], model.cards.shape[0]
    draws = (particles.shape[2] + _THIN - 1) // _THIN
    room = make_room(num_attributes, num_cards, draws)
    rows = rows32(2, draws)
    weight, span = rows[0], rows[1]
    up, threshold, down = room.up, room.threshold, rows32(num_cards, draws)
    for i in range(particles.shape[0]):
        for p in range(draws):
            for d in range(num_attributes + 2):
                room.here[d, p] = particles[i, d, p * _THIN]
            weight[p] = log_weight[i, p * _THIN]
        for p in range(draws):
            weight[p] = exp32(weight[p])
        norm = _ONE / total(weight)
        natural(room.here, model, room)
        for p in range(draws):
            weight[p] *= norm
            span[p] = log32(room.threshold[p] * room.threshold[p] - _ONE)
        for card in range(num_cards):
            card_odds(model.cards, card, room.gammas, room.scale, up)
            for p in range(draws):
                down[card, p] = _ONE / up[card, p]
        for q in range(pairs.shape[0]):
            a, b = pairs[q, 0], pairs[q, 1]
            first, second, inner = _pair(up, down, a, b, threshold, span, weight)
            equal = max(_ONE - first - second, _ZERO)
            out[i, q] = -inner - _term(first) - _term(second) - _term(equal)


@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _pair(
    up: Singles, down: Singles, a: int, b: int, threshold: Singles, span: Singles, weight: Singles
) -> tuple[Single, Single, Single]:
    """Weighted means of P(a), of P(b), and of the entropy of the answer, whose logs are those of calib/choice.py."""
    mean_a, mean_b, entropy = _ZERO, _ZERO, _ZERO
    for p in range(weight.shape[0]):
        against = min(max(up[a, p] * down[b, p], _LOW), _HIGH) * threshold[p]
        towards = min(max(up[b, p] * down[a, p], _LOW), _HIGH) * threshold[p]
        first, second = _ONE / (_ONE + towards), _ONE / (_ONE + against)
        minus_a, minus_b = log32(_ONE + towards), log32(_ONE + against)
        equal = max(_ONE - first - second, _ZERO)
        mean_a += weight[p] * first
        mean_b += weight[p] * second
        entropy += weight[p] * (first * minus_a + second * minus_b + equal * (minus_a + minus_b - span[p]))
    return mean_a, mean_b, entropy
