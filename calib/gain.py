"""The question of a pool whose answer is expected to tell most about the person, over the particles of a live belief.

A question is a pair of outcome cards, which may be about equal, or a menu of cards of which the best is named
(definitions 2.5; a menu has the lapse of 2.3). It is worth the expected information gain: entropy of the predicted
answer minus the expected entropy given the person (Lindley 1956), in single precision to 1e-5 nats.

All questions are judged on few particles, the best of them on more and the best of those on most (`_STAGES`).
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib.kernel import COMPARISON, weights
from calib.live import Belief, Floats, over_people
from calib.vector import Single, Singles, add_rows, exp32, largest, log32, rows32

Ints = NDArray[np.int64]

_STAGES = ((64, 32), (512, 8), (2048, 1))  # particles, and questions that are left
_LAPSE, _TAU = 3, 6  # rows behind the log ratios in calib/kernel.py's coordinates
_CLIP = np.float32(60.0)  # of r U, as in calib/comparisons.py
_ZERO, _ONE = np.float32(0.0), np.float32(1.0)
_EACH = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}  # without reordering
_FAST = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}


class Odds(NamedTuple):
    """What P particles would answer."""

    up: Singles  # (Q, P) e^{r U} of each card
    other: Singles  # (P,) of pairs e^tau, of menus the lapse
    share: Singles  # (P,) weights, adding up to 1
    spare: Singles  # (2, P)


def best_pair(belief: Belief, log_weight: Floats, cards: Floats, pairs: Ints) -> Ints:
    """(N,) rows of pairs (R, 2) of the cards (Q, J), "about equal" being an answer; the first where tied."""
    return _best(belief, log_weight, cards, pairs, True)[0]


def best_menu(belief: Belief, log_weight: Floats, cards: Floats, menus: Ints) -> Ints:
    """(N,) rows of menus (R, K) of the cards (Q, J), of which the best is named; the first where tied."""
    return _best(belief, log_weight, cards, menus, False)[0]


def best_of_both(belief: Belief, log_weight: Floats, cards: Floats, pairs: Ints, menus: Ints) -> tuple[Ints, Ints]:
    """(N,) whether a menu tells most, 0 or 1, and its row or the pair's."""
    (pair, of_pair), (menu, of_menu) = (
        _best(belief, log_weight, cards, pool, pool is pairs) for pool in (pairs, menus)
    )
    better = of_menu > of_pair
    return better.astype(np.int64), np.where(better, menu, pair)


def gains(belief: Belief, log_weight: Floats, cards: Floats, pool: Ints, with_equal: bool) -> Floats:
    """(N, R) nats that each question of the pool gives, on all particles."""
    num, num_attributes = len(log_weight), cards.shape[1]
    out, centred = np.empty((num, len(pool)), np.float32), (cards - 0.5).astype(np.float32)

    def work(a: int, b: int) -> None:
        _gains_people(belief.particles[a:b], log_weight[a:b], num_attributes, centred, pool, with_equal, out[a:b])

    over_people(work, num)
    return out.astype(np.float64)


def _best(belief: Belief, log_weight: Floats, cards: Floats, pool: Ints, with_equal: bool) -> tuple[Ints, Singles]:
    """(N,) the best question of the pool, and its nats."""
    num = len(log_weight)
    out, nats = np.empty(num, np.int64), np.empty(num, np.float32)

    def work(a: int, b: int) -> None:
        _best_people(a, b, belief.particles, log_weight, cards, pool, with_equal, out, nats)

    over_people(work, num)
    return out, nats


@njit(**_EACH)
def _best_people(
    low: int,
    high: int,
    particles: Floats,
    log_weight: Floats,
    cards: Floats,
    pool: Ints,
    with_equal: bool,
    out: Ints,
    nats: Singles,
) -> None:
    num, num_attributes, found = particles.shape[2], cards.shape[1], np.empty(len(pool), np.float32)
    centred = (cards - 0.5).astype(np.float32)
    for i in range(low, high):
        left = np.arange(len(pool))
        for draws, most in _STAGES:
            if len(left) > most or most == 1:
                step = max(1, num // draws)
                odds = _odds(particles[i], log_weight[i], num_attributes, centred, with_equal, step)
                _gains(odds, pool, left, with_equal, found)
                if step == 1 or most == 1:
                    break
                left = np.sort(left[np.argsort(-found[: len(left)])[:most]])
        best = np.argmax(found[: len(left)])
        out[i], nats[i] = left[best], found[best]


@njit(**_EACH)
def _gains_people(
    particles: Floats,
    log_weight: Floats,
    num_attributes: int,
    cards: Singles,
    pool: Ints,
    with_equal: bool,
    out: Singles,
) -> None:
    every = np.arange(len(pool))
    for i in range(particles.shape[0]):
        odds = _odds(particles[i], log_weight[i], num_attributes, cards, with_equal, 1)
        _gains(odds, pool, every, with_equal, out[i])


@njit(**_EACH)
def _odds(x: Floats, log_weight: Floats, num_attributes: int, cards: Singles, with_equal: bool, step: int) -> Odds:
    """Of every `step`th particle of x (D, P)."""
    num_cards, draws, extra = cards.shape[0], (x.shape[1] + step - 1) // step, num_attributes - 1
    here, w, up, rows = rows32(extra, draws), rows32(num_attributes, draws), rows32(num_cards, draws), rows32(5, draws)
    rationality, other, share = rows[0], rows[1], rows[2]
    of_r = extra + COMPARISON
    of_other = extra + (_TAU if with_equal else _LAPSE)
    for d in range(extra):
        row = x[d, ::step]
        for p in range(draws):
            here[d, p] = row[p]
    of_one, of_two, of_three = x[of_r, ::step], x[of_other, ::step], log_weight[::step]
    for p in range(draws):
        rationality[p], other[p], share[p] = of_one[p], of_two[p], of_three[p]
    weights(here, num_attributes, w)
    whole, top = _ZERO, largest(share)
    for p in range(draws):
        rationality[p], share[p] = exp32(rationality[p]), exp32(share[p] - top)
    if with_equal:
        for p in range(draws):
            other[p] = exp32(min(exp32(other[p]), _CLIP))
    else:
        for p in range(draws):
            other[p] = _ONE / (_ONE + exp32(-other[p]))
    for p in range(draws):
        whole += share[p]
    for p in range(draws):
        share[p] /= whole
    for card in range(num_cards):
        for p in range(draws):
            up[card, p] = _ZERO
        add_rows(cards, card, 0, num_attributes, w, up, card)
        for p in range(draws):
            up[card, p] = exp32(min(max(rationality[p] * up[card, p], -_CLIP), _CLIP))
    return Odds(up, other, share, rows[3:5])


@njit(**_EACH)
def _gains(odds: Odds, pool: Ints, which: Ints, with_equal: bool, out: Singles) -> None:
    """out[n]: nats from the question which[n] of the pool."""
    up, other, share, spare = odds
    draws, options = share.shape[0], pool.shape[1]
    each = _ONE / np.float32(options)
    if with_equal:
        for p in range(draws):
            spare[0, p] = log32(other[p] * other[p] - _ONE)
    for n in range(which.shape[0]):
        q = which[n]
        if with_equal:
            first, second, entropy = _pair(up, pool[q, 0], pool[q, 1], other, spare, share)
            equal = max(_ONE - first - second, _ZERO)
            out[n] = -_term(first) - _term(second) - _term(equal) - entropy
            continue
        for p in range(draws):
            spare[0, p] = _ZERO
        for k in range(options):
            card = pool[q, k]
            for p in range(draws):
                spare[0, p] += up[card, p]
        for p in range(draws):
            spare[0, p] = (_ONE - other[p]) / spare[0, p]
        gain = _ZERO
        for k in range(options):
            chance, inner = _option(up, pool[q, k], other, spare, share, each)
            gain += inner - _term(chance)
        out[n] = gain


@njit(**_EACH)
def _term(p: Single) -> Single:
    return p * log32(p) if p > _ZERO else _ZERO


@njit(**_FAST)
def _pair(
    up: Singles, a: int, b: int, threshold: Singles, spare: Singles, share: Singles
) -> tuple[Single, Single, Single]:
    """Weighted means of P(a), of P(b), and of the entropy of the answer."""
    mean_a, mean_b, entropy = _ZERO, _ZERO, _ZERO
    for p in range(share.shape[0]):
        first = up[a, p] / (up[a, p] + threshold[p] * up[b, p])
        second = up[b, p] / (up[b, p] + threshold[p] * up[a, p])
        log_a, log_b = log32(first), log32(second)
        equal = max(_ONE - first - second, _ZERO)
        mean_a += share[p] * first
        mean_b += share[p] * second
        entropy -= share[p] * (first * log_a + second * log_b + equal * (log_a + log_b + spare[0, p]))
    return mean_a, mean_b, entropy


@njit(**_FAST)
def _option(
    up: Singles, card: int, lapse: Singles, spare: Singles, share: Singles, each: Single
) -> tuple[Single, Single]:
    """Weighted means of an option's probability, and of that times its log."""
    chance, inner = _ZERO, _ZERO
    for p in range(share.shape[0]):
        q = each * lapse[p] + spare[0, p] * up[card, p]
        chance += share[p] * q
        inner += share[p] * q * log32(q)
    return chance, inner
