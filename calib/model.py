"""The PyMC model: the definition of the belief about one person, built from calib/choice.py.

The live engine (calib/live.py) samples the same posterior with a compiled twin; the audit (calib/audit.py) samples this
graph with NUTS. Parameters: `weights` (J,) on the simplex; `rationality` (3,) by channel; `lapse`, `reliance`,
`inertia`, `about_equal`; `aspirations` (J,) where utility saturates at them (calib/utility.py). PyMC is slow to import:
load this module only where it is needed.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from calib import mental
from calib.choice import (
    comparison_log_probs,
    grade_log_probs,
    menu_log_probs,
    probe_log_density,
    stop_log_prob,
)
from calib.evidence import Evidence
from calib.history import (
    ACCEPT_OVERRIDE,
    BEST_OF,
    COMPARISON,
    MODE_CHOICE,
    NUM_CHANNELS,
    PROBE,
    RATING,
    RUN,
    STOP,
    History,
)
from calib.mental import EXTRAS, MindPrior
from calib.prior import Prior
from calib.utility import Aspirations, aspiration_of, value


def build_model(prior: Prior, evidence: Evidence, person: int = 0, aspirations: Aspirations | None = None) -> pm.Model:
    """The model of one person of the evidence, with one observed potential a channel.

    With `aspirations`, their prior, options are worth v of their features; of modes, of what is expected, clipped.
    """
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", a=prior.concentration)
        valued = _valued(_aspirations(aspirations))
        for name, (_, log_p) in _answers(_manner(prior), evidence, person, lambda at: weights[None], valued).items():
            pm.Potential(name, pt.sum(log_p))
    return model


def build_changing_model(
    prior: Prior, evidence: Evidence, round_of: np.ndarray, hazard: float, drift_sd: float = 0.0, person: int = 0
) -> pm.Model:
    """The model of one person whose intent changes; round_of (A,) is the round of each answer, from 1, ascending.

    Change at once: before each round but the first the intent is drawn anew with probability `hazard`. `weights` (T, J)
    are what would be drawn before each round; when the last draw was is summed over exactly, as in Adams and MacKay
    (2007), and `since` (T,) is its distribution, given weights and manner of answering: the first entry says never.
    Drift: the log ratios of weights make a random walk of `drift_sd` a round, a draw goes on from where it fell.
    The manner of answering (rationality, lapse, ...) is kept throughout. Without hazard there is one draw.
    """
    count = int(evidence.num_answers[person])
    round_of, num_attributes = np.asarray(round_of[:count]), len(prior.concentration)
    num_rounds = int(round_of.max(initial=1))
    num_draws = num_rounds if hazard > 0 else 1
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", a=prior.concentration, shape=(num_draws, num_attributes))
        by_round = weights[:, None]  # (draws, rounds or 1, J)
        if drift_sd > 0:
            steps = pm.Normal("steps", 0.0, 1.0, shape=(num_rounds - 1, num_attributes - 1))
            walk = pt.concatenate([pt.zeros((1, num_attributes - 1)), pt.cumsum(drift_sd * steps, axis=0)])
            walk = pt.concatenate([walk, pt.zeros((num_rounds, 1))], axis=1)
            by_round = pm.math.softmax(pt.log(weights)[:, None] + walk[None] - walk[:num_draws, None], axis=-1)
            by_round = pm.Deterministic("by_round", by_round)

        def weights_at(at: np.ndarray) -> Any:
            return by_round[:, round_of[at] - 1] if drift_sd > 0 else by_round

        log_p = pt.zeros((num_draws, num_rounds))
        for at, of_answers in _answers(_manner(prior), evidence, person, weights_at).values():
            member = (round_of[at][:, None] == np.arange(1, num_rounds + 1)).astype(float)
            log_p = log_p + pt.sum(of_answers[:, :, None] * member, axis=1)
        reached = log_p[:1, 0]  # (t,) log P(answers up to round t, last draw before each round up to t)
        for t in range(1, num_rounds):
            if num_draws == 1:
                reached = reached + log_p[:, t]
                continue
            drawn = pt.logsumexp(reached, keepdims=True) + np.log(hazard)
            reached = pt.concatenate([reached + np.log1p(-hazard), drawn]) + log_p[: t + 1, t]
        pm.Deterministic("since", pm.math.softmax(reached))
        pm.Potential("answers", pt.logsumexp(reached))
    return model


def _aspirations(prior: Aspirations | None) -> Any:
    """(J,) a variable of the model under way, None where utility is linear."""
    if prior is None:
        return None
    logits = pm.Normal("logit_aspirations", prior.mean, prior.sd, shape=len(prior.mean))
    return pm.Deterministic("aspirations", aspiration_of(pt, logits))


def _valued(aspirations: Any) -> Callable[[Any], Any]:
    """From features to what U is linear in; aspirations broadcast with them."""
    if aspirations is None:
        return lambda features: features
    return lambda features: value(pt, pt.clip(features, 0.0, 1.0), aspirations)


def _manner(prior: Prior) -> dict[str, Any]:
    """The manner of answering: variables of the model under way."""
    mean, sd = prior.mean, prior.sd
    log_rationality = pm.Normal("log_rationality", mean[:3], sd[:3], shape=3)
    logit_lapse = pm.Normal("logit_lapse", mean[3], sd[3])
    reliance = pm.Normal("reliance", mean[4], sd[4])
    inertia = pm.Normal("inertia", mean[5], sd[5])
    log_about_equal = pm.Normal("log_about_equal", mean[6], sd[6])
    return {
        "rationality": pm.Deterministic("rationality", pt.exp(log_rationality)),
        "lapse": pm.Deterministic("lapse", pm.math.sigmoid(logit_lapse)),
        "about_equal": pm.Deterministic("about_equal", pt.exp(log_about_equal)),
        "reliance": reliance,
        "inertia": inertia,
    }


def _answers(
    manner: dict[str, Any],
    evidence: Evidence,
    person: int,
    weights_at: Callable[[np.ndarray], Any],
    valued: Callable[[Any], Any] = lambda features: features,
) -> dict[str, tuple[np.ndarray, Any]]:
    """By channel the numbers (A,) of its answers and their log probabilities (..., A).

    weights_at(numbers) gives the weights behind them, (..., A or 1, J).
    """
    count = int(evidence.num_answers[person])
    channel = evidence.channel[person, :count]
    menus = np.flatnonzero(channel != COMPARISON)
    pairs = np.flatnonzero(channel == COMPARISON)
    features, chosen = evidence.features[person], evidence.chosen[person]
    found = {}
    if len(menus):
        offered = pt.arange(features.shape[1]) < evidence.num_options[person, menus][:, None]
        log_p = menu_log_probs(
            pt,
            pt.sum(pt.as_tensor(valued(features[menus])) * weights_at(menus)[..., None, :], axis=-1),
            manner["rationality"][np.minimum(channel[menus], COMPARISON)][:, None],
            manner["lapse"],
            reliance=manner["reliance"],
            recommended=evidence.recommended[person, menus],
            inertia=manner["inertia"],
            last=evidence.last[person, menus],
            offered=offered.astype("float64"),
        )
        found["menus"] = menus, log_p[..., np.arange(len(menus)), chosen[menus]]
    if len(pairs):
        a, b = valued(features[pairs, 0]), valued(features[pairs, 1])
        difference = pt.sum(pt.as_tensor(a - b) * weights_at(pairs), axis=-1)
        log_p = comparison_log_probs(pt, difference, manner["rationality"][COMPARISON], manner["about_equal"])
        found["comparisons"] = pairs, log_p[..., np.arange(len(pairs)), chosen[pairs]]
    return found


def build_mind_model(
    prior: MindPrior, history: History, person: int = 0, aspirations: Aspirations | None = None
) -> pm.Model:
    """The model of one person whose mental model is not known, with one potential a channel.

    Parameters: `weights` (J,); `extras` (E,), normal, in the order of calib.mental.EXTRAS; `f_hat` (M, J) before the
    first run. What they expect after n runs of a mode is (1 - e)^n f_hat + e sum_i (1 - e)^(n - i) phi_i, e the
    learning rate times salience, which is calib.choice.learn repeated. With `aspirations`, their prior, as build_model.
    """
    num_modes, num_attributes = prior.expectation.shape
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", a=prior.concentration)
        extras = pm.Normal("extras", prior.mean, prior.sd, shape=len(EXTRAS))
        spread = pm.Normal("spread", 0.0, 1.0, shape=(num_modes, num_attributes))
        f_hat = pm.Deterministic("f_hat", prior.expectation + pt.exp(extras[mental.BELIEF_SD]) * spread)
        b = _aspirations(aspirations)
        of_person = history.of(person, person + 1)
        add_answers(prior, of_person, weights[None], extras[None], f_hat[None], None if b is None else b[None])
    return model


def add_answers(
    prior: MindPrior, history: History, weights: Any, extras: Any, f_hat: Any, aspirations: Any = None
) -> None:
    """One potential a channel, of all N people of the history, to the model that is being built.

    weights (N, J); extras (N, E); f_hat (N, M, J) before the first run; aspirations (N, J) where utility is not linear.
    """
    who, at_ = np.nonzero(np.arange(history.kind.shape[1]) < history.num[:, None])
    kind, first, second, option, where, value, cards = (column[who, at_] for column in history[:7])
    num_modes = prior.expectation.shape[0]
    runs, num_runs = _runs(history, num_modes)
    num_runs = num_runs[who, at_]
    rationality = pt.exp(extras[:, :NUM_CHANNELS])

    def valued(features: Any, at: np.ndarray) -> Any:
        """(A, ..., J) what U is linear in, of features at these entries."""
        if aspirations is None:
            return features
        own = aspirations[who[at]]
        return _valued(own if features.ndim == 2 else own[:, None])(features)

    step = pm.math.sigmoid(extras[:, mental.LEARNING])[:, None] * prior.salience  # (N, J)

    def expected(at: np.ndarray) -> Any:
        """(len(at), M, J) what they expect at these entries."""
        before, own = num_runs[at], who[at]  # (A, M)
        forget = pt.log1p(-step)[own][:, None]  # (A, 1, J)
        keep = pt.exp(before[:, :, None] * forget)
        since = before[:, :, None] - 1 - np.arange(runs.shape[2])  # (A, M, I)
        seen = pt.as_tensor(np.where(since >= 0, 1.0, 0.0))[..., None] * pt.exp(
            np.maximum(since, 0)[..., None] * forget[:, :, None]
        )
        return keep * f_hat[own] + step[own][:, None] * pt.sum(seen * runs[own], axis=2)

    for channel, name in ((MODE_CHOICE, "choices"), (ACCEPT_OVERRIDE, "decisions")):
        if len(at := np.flatnonzero(kind == channel)):
            own = who[at]
            utility = pt.sum(valued(expected(at), at) * weights[own][:, None], axis=-1)
            last = (np.arange(num_modes) == where[at][:, None]).astype(float)
            proposed = np.zeros_like(last)
            if channel == ACCEPT_OVERRIDE:
                one = np.zeros((len(at), 1))
                utility = pt.concatenate(
                    [utility, pt.sum(valued(first[at], at) * weights[own], axis=-1)[:, None]], axis=1
                )
                last, proposed = np.hstack([last, one]), np.hstack([proposed, one + 1])
            log_p = menu_log_probs(
                pt,
                utility,
                rationality[own, channel][:, None],
                pm.math.sigmoid(extras[own, mental.LAPSE])[:, None],
                reliance=extras[own, mental.RELIANCE][:, None],
                recommended=proposed,
                inertia=extras[own, mental.INERTIA][:, None],
                last=last,
                offered=np.ones_like(last),
            )
            pm.Potential(name, pt.sum(log_p[np.arange(len(at)), option[at]]))

    def of_outcome(channel: int) -> tuple[np.ndarray, np.ndarray, Any, Any]:
        at = np.flatnonzero(kind == channel)
        worth = pt.sum(valued(first[at], at) * weights[who[at]], axis=-1)
        return at, who[at], worth, rationality[who[at], channel]

    if np.any(kind == COMPARISON):
        at, own, utility, r = of_outcome(COMPARISON)
        difference = utility - pt.sum(valued(second[at], at) * weights[own], axis=-1)
        log_p = comparison_log_probs(pt, difference, r, pt.exp(extras[own, mental.TAU]))
        pm.Potential("comparisons", pt.sum(log_p[np.arange(len(at)), option[at]]))
    if len(at := np.flatnonzero(kind == BEST_OF)):
        own = who[at]
        log_p = menu_log_probs(
            pt,
            pt.sum(valued(cards[at], at) * weights[own][:, None], axis=-1),
            rationality[own, COMPARISON][:, None],
            pm.math.sigmoid(extras[own, mental.LAPSE])[:, None],
            offered=(np.arange(cards.shape[1]) < where[at][:, None]).astype(float),
        )
        pm.Potential("best_of", pt.sum(log_p[np.arange(len(at)), option[at]]))
    if np.any(kind == RATING):
        at, own, utility, r = of_outcome(RATING)
        spacing = pt.exp(extras[own, mental.SPACING])
        log_p = grade_log_probs(pt, utility, r, extras[own, mental.ASPIRATION], spacing, prior.num_grades)
        pm.Potential("ratings", pt.sum(log_p[np.arange(len(at)), option[at]]))
    if np.any(kind == STOP):
        at, own, utility, r = of_outcome(STOP)
        hazard = extras[own, mental.HAZARD]
        log_p = stop_log_prob(pt, utility, r, extras[own, mental.ASPIRATION], hazard, value[at], option[at])
        pm.Potential("stops", pt.sum(log_p))
    if len(at := np.flatnonzero(kind == PROBE)):
        believed = expected(at)[np.arange(len(at)), option[at], where[at]]
        pm.Potential("probes", pt.sum(probe_log_density(pt, value[at], believed, pt.as_tensor(prior.probe_sd))))


def _runs(history: History, num_modes: int) -> tuple[np.ndarray, np.ndarray]:
    """(N, M, I, J) what was seen of each mode, in order, with zeros behind; (N, A, M) how often before each entry."""
    is_run = (history.kind == RUN) & (np.arange(history.kind.shape[1]) < history.num[:, None])
    of_mode = is_run[:, :, None] & (history.option[:, :, None] == np.arange(num_modes))  # (N, A, M')
    num = np.cumsum(of_mode, axis=1) - of_mode
    runs = np.zeros((len(history.kind), num_modes, max(int(of_mode.sum(axis=1).max()), 1), history.first.shape[2]))
    who, at, mode = np.nonzero(of_mode)
    runs[who, mode, num[who, at, mode]] = history.first[who, at]
    return runs, num
