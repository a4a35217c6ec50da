"""Degree of alignment, its extremes, the best setting under a belief, lift and plain-unit regret (definitions 3).

All functions take intents w (N, V, P): P posterior draws a person, or P = 1 for a known intent. They are the weights
where utility is linear, V = J; else weights over knots of the aspirations (calib/utility.py). Either way
E U(s, x) = w . value[s, x] with `Setup.value` averaged over the map's replicates.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from calib import live
from calib.live import over_people
from calib.outcomes import scale
from calib.setup import Setup
from calib.utility import KNOTS, at_knots, knots, over_knots, value

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_STEPS = 201  # of an attribute's scale, in which a change on v is looked for
MIN_RANGE = 0.02  # a context in which the best and the worst setting differ by less is left out, and counted


def intent(setup: Setup, belief: Any) -> Floats:
    """(N, V, P) of the particles of a belief."""
    w = live.intent(belief, setup.num_attributes)
    return w if setup.aspirations is None else over_knots(w, belief.aspirations)


def known_intent(setup: Setup, weights: Floats, aspirations: Floats) -> Floats:
    """(N, V, 1) of weights (N, J), and of aspirations (N, J) where utility is not linear."""
    w = weights[:, :, None]
    return w if setup.aspirations is None else over_knots(w, aspirations[:, :, None])


def valued(setup: Setup, phi: Floats) -> Floats:
    """(..., V) of scaled attributes (..., J), outcomes or what is expected of them, what utility is linear in."""
    return phi if setup.aspirations is None else at_knots(phi)


class Extremes(NamedTuple):
    """Best and worst E U over the feasible settings of S_ref, (N, X, P)."""

    best: Floats
    worst: Floats


def extremes(setup: Setup, w: Floats) -> Extremes:
    """U_max(x) and U_min(x) of each draw."""
    num, _, draws = w.shape
    best, worst = (np.empty((num, setup.num_contexts, draws)) for _ in range(2))
    phi = setup.value[: setup.num_reference]
    feasible = setup.feasible[: setup.num_reference]
    over_people(lambda a, b: _extremes(w[a:b], phi, feasible, best[a:b], worst[a:b]), num)
    return Extremes(best, worst)


def degree(setup: Setup, w: Floats, ends: Extremes, standing: Ints) -> Floats:
    """A (N, P) of a standing configuration (N, X): one setting number for each context.

    A setting that breaks a hard limit has degree 0 in its context. Contexts with a range under MIN_RANGE are left out
    and p(x) is renormalised; if all are, nothing is at stake and the degree is 1.
    """
    out = np.empty((w.shape[0], w.shape[2]))
    args = setup.value, setup.feasible, setup.context_p
    over_people(
        lambda a, b: _degree(w[a:b], *args, ends.best[a:b], ends.worst[a:b], standing[a:b], out[a:b]), w.shape[0]
    )
    return out


def left_out(setup: Setup, ends: Extremes) -> Floats:
    """(N,) mean number of contexts left out of the degree."""
    return np.sum(ends.best - ends.worst < MIN_RANGE, axis=1).mean(axis=-1)


def best_settings(setup: Setup, w: Floats, ends: Extremes) -> Ints:
    """(N, X) the feasible setting of S_ref with the highest expected degree in each context; the first where tied."""
    out = np.empty((w.shape[0], setup.num_contexts), np.int64)
    phi = setup.value[: setup.num_reference]
    feasible = setup.feasible[: setup.num_reference]
    over_people(lambda a, b: _best(w[a:b], phi, feasible, ends.best[a:b], ends.worst[a:b], out[a:b]), w.shape[0])
    return out


def context_degree(setup: Setup, w: Floats, ends: Extremes, setting: Ints, context: Ints) -> Floats:
    """(N, P) degree of one setting in one context: what ran in this round."""
    rows = np.arange(w.shape[0])
    utility = np.sum(w * setup.value[setting, context][:, :, None], axis=1)
    best, worst = ends.best[rows, context], ends.worst[rows, context]
    span = best - worst
    value = np.where(span < MIN_RANGE, 1.0, (utility - worst) / np.maximum(span, MIN_RANGE))
    return np.where(setup.feasible[setting, context][:, None], value, 0.0)


def lift(setup: Setup, w: Floats, ends: Extremes, standing: Ints) -> Floats:
    """(N, P) (E U(s) - E U(default))/(U_max - E U(default)) over p(x); nan where the default is best."""
    reached = expected_utility(setup, w, standing)
    default = expected_utility(setup, w, np.full_like(standing, setup.default))
    top = np.sum(ends.best * setup.context_p[None, :, None], axis=1)
    room = top - default
    return np.where(room > 1e-9, (reached - default) / np.where(room > 1e-9, room, 1.0), np.nan)


def expected_utility(setup: Setup, w: Floats, standing: Ints) -> Floats:
    """(N, P) E U of a standing configuration over p(x)."""
    phi = setup.value[standing, np.arange(setup.num_contexts)[None, :]]  # (N, X, V)
    return np.sum(np.sum(phi * setup.context_p[None, :, None], axis=1)[:, :, None] * w, axis=1)


class PlainRegret(NamedTuple):
    """What one attribute would have to change by, in its own unit, to make up for all that is missing."""

    attribute: str
    unit: str
    median: float | None  # None: the person hardly cares (w < 0.01 in the median)
    low: float | None
    high: float | None
    attainable: float  # share of draws in which the attribute alone can make up for it; else read "more than"


def plain_regret(setup: Setup, w: Floats, ends: Extremes, standing: Ints) -> list[PlainRegret]:
    """Plain-unit regret of one person, w (V, P), standing (X,): posterior median and 90% interval per attribute."""
    missing = (
        np.sum(ends.best[0] * setup.context_p[:, None], axis=0) - expected_utility(setup, w[None], standing[None])[0]
    )
    missing = np.where(missing > 1e-9, missing, 0.0)  # below it is rounding, not regret
    present = np.sum(setup.phi[standing, np.arange(setup.num_contexts)] * setup.context_p[:, None], axis=0)
    weights = w if setup.aspirations is None else w.reshape(setup.num_attributes, KNOTS, -1).sum(axis=1)
    out = []
    for j, attribute in enumerate(setup.scenario.attributes):
        cares = weights[j] >= 0.01
        if np.mean(cares) < 0.5:
            out.append(PlainRegret(attribute.name, attribute.unit, None, None, None, 0.0))
            continue
        room = 1.0 - present[j]
        if setup.aspirations is None:
            change = missing[cares] / weights[j][cares]
        else:
            of_knots = w.reshape(setup.num_attributes, KNOTS, -1)[j][:, cares]
            change = _change_on_v(setup, of_knots, standing, j, missing[cares])
        span = (attribute.hi - attribute.lo) * (-1.0 if attribute.less_is_better else 1.0)
        low, median, high = np.sort(np.quantile(np.minimum(change, room), [0.05, 0.5, 0.95]) * span)
        out.append(
            PlainRegret(
                attribute.name,
                attribute.unit,
                float(median) + 0.0,
                float(low) + 0.0,
                float(high) + 0.0,
                float(np.mean(change <= room + 1e-12)),
            )
        )
    return out


def _change_on_v(setup: Setup, w: Floats, standing: Ints, j: int, missing: Floats) -> Floats:
    """(P,) by how much attribute j, scaled, has to be better in every run to add `missing` to E U; inf where that is
    beyond its scale. w (G, P) are the intents' parts of this attribute."""
    z = setup.map.z[standing, np.arange(setup.num_contexts)]
    phi = scale(setup.scenario, z)[..., j]  # (X, K)
    steps = np.linspace(0.0, 1.0, _STEPS)
    reached = np.empty((_STEPS, KNOTS))
    for d, step in enumerate(steps):
        at = value(np, np.minimum(phi + step, 1.0)[..., None], knots()).mean(axis=1)
        reached[d] = np.sum(at * setup.context_p[:, None], axis=0)
    gain = np.zeros((_STEPS, w.shape[1]))
    for g in range(KNOTS):
        gain += (reached[:, g] - reached[0, g])[:, None] * w[g]
    after = np.sum(gain < missing - 1e-12, axis=0)
    at = np.clip(after, 1, _STEPS - 1)
    low, high = (np.take_along_axis(gain, k[None], axis=0)[0] for k in (at - 1, at))
    part = np.clip((missing - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    found = np.where(after == 0, 0.0, steps[at - 1] + part * (steps[1] - steps[0]))
    return np.where(after < _STEPS, found, np.inf)


@njit(cache=True, nogil=True, error_model="numpy")
def _extremes(w: Floats, phi: Floats, feasible: NDArray[np.bool_], best: Floats, worst: Floats) -> None:
    num, dims, draws = w.shape
    utility = np.empty(draws)
    for i in range(num):
        for x in range(phi.shape[1]):
            top, bottom = best[i, x], worst[i, x]
            for p in range(draws):
                top[p] = -np.inf
                bottom[p] = np.inf
            for s in range(phi.shape[0]):
                if feasible[s, x]:
                    for p in range(draws):
                        utility[p] = 0.0
                    for j in range(dims):
                        f = phi[s, x, j]
                        for p in range(draws):
                            utility[p] += f * w[i, j, p]
                    for p in range(draws):
                        top[p] = max(top[p], utility[p])
                        bottom[p] = min(bottom[p], utility[p])


@njit(cache=True, nogil=True, error_model="numpy")
def _degree(
    w: Floats,
    phi: Floats,
    feasible: NDArray[np.bool_],
    context_p: Floats,
    best: Floats,
    worst: Floats,
    standing: Ints,
    out: Floats,
) -> None:
    num, dims, draws = w.shape
    for i in range(num):
        for p in range(draws):
            total, weight = 0.0, 0.0
            for x in range(context_p.shape[0]):
                span = best[i, x, p] - worst[i, x, p]
                if span < MIN_RANGE:
                    continue
                weight += context_p[x]
                s = standing[i, x]
                if feasible[s, x]:
                    utility = 0.0
                    for j in range(dims):
                        utility += phi[s, x, j] * w[i, j, p]
                    total += context_p[x] * (utility - worst[i, x, p]) / span
            out[i, p] = total / weight if weight > 0.0 else 1.0


@njit(cache=True, nogil=True, error_model="numpy")
def _best(w: Floats, phi: Floats, feasible: NDArray[np.bool_], best: Floats, worst: Floats, out: Ints) -> None:
    num, dims, draws = w.shape
    value = np.empty(dims)
    for i in range(num):
        for x in range(phi.shape[1]):
            # sum over draws of (w . phi - worst)/span is linear in phi: one vector serves all settings
            for j in range(dims):
                value[j] = 0.0
            for p in range(draws):
                span = best[i, x, p] - worst[i, x, p]
                if span >= MIN_RANGE:
                    for j in range(dims):
                        value[j] += w[i, j, p] / span
            top = -np.inf
            out[i, x] = 0
            for s in range(phi.shape[0]):
                if feasible[s, x]:
                    total = 0.0
                    for j in range(dims):
                        total += value[j] * phi[s, x, j]
                    if total > top:
                        top = total
                        out[i, x] = s
