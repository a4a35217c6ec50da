"""The PyMC model: the definition of the belief about one person, built from calib/choice.py.

The live engine (calib/live.py) samples the same posterior with a compiled twin; the audit (calib/audit.py) samples this
graph with NUTS. Parameters: `weights` (J,) on the simplex; `rationality` (3,) by channel; `lapse`, `reliance`,
`inertia`, `about_equal`. PyMC is slow to import: load this module only where it is needed.
"""

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
from calib.history import ACCEPT_OVERRIDE, COMPARISON, MODE_CHOICE, NUM_CHANNELS, PROBE, RATING, RUN, STOP, History
from calib.mental import EXTRAS, MindPrior
from calib.prior import Prior


def build_model(prior: Prior, evidence: Evidence, person: int = 0) -> pm.Model:
    """The model of one person of the evidence, with one observed potential a channel."""
    count = int(evidence.num_answers[person])
    channel = evidence.channel[person, :count]
    menus = np.flatnonzero(channel != COMPARISON)
    pairs = np.flatnonzero(channel == COMPARISON)
    features, chosen = evidence.features[person], evidence.chosen[person]
    mean, sd = prior.mean, prior.sd
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", a=prior.concentration)
        log_rationality = pm.Normal("log_rationality", mean[:3], sd[:3], shape=3)
        logit_lapse = pm.Normal("logit_lapse", mean[3], sd[3])
        reliance = pm.Normal("reliance", mean[4], sd[4])
        inertia = pm.Normal("inertia", mean[5], sd[5])
        log_about_equal = pm.Normal("log_about_equal", mean[6], sd[6])
        rationality = pm.Deterministic("rationality", pt.exp(log_rationality))
        lapse = pm.Deterministic("lapse", pm.math.sigmoid(logit_lapse))
        about_equal = pm.Deterministic("about_equal", pt.exp(log_about_equal))
        if len(menus):
            offered = pt.arange(features.shape[1])[None] < evidence.num_options[person, menus][:, None]
            log_p = menu_log_probs(
                pt,
                pt.sum(pt.as_tensor(features[menus]) * weights, axis=-1),
                rationality[channel[menus]][:, None],
                lapse,
                reliance=reliance,
                recommended=evidence.recommended[person, menus],
                inertia=inertia,
                last=evidence.last[person, menus],
                offered=offered.astype("float64"),
            )
            pm.Potential("menus", pt.sum(log_p[np.arange(len(menus)), chosen[menus]]))
        if len(pairs):
            difference = pt.sum(pt.as_tensor(features[pairs, 0] - features[pairs, 1]) * weights, axis=-1)
            log_p = comparison_log_probs(pt, difference, rationality[COMPARISON], about_equal)
            pm.Potential("comparisons", pt.sum(log_p[np.arange(len(pairs)), chosen[pairs]]))
    return model


def build_mind_model(prior: MindPrior, history: History, person: int = 0) -> pm.Model:
    """The model of one person whose mental model is not known, with one potential a channel.

    Parameters: `weights` (J,); `extras` (E,), normal, in the order of calib.mental.EXTRAS; `f_hat` (M, J) before the
    first run. What they expect after n runs of a mode is (1 - e)^n f_hat + e sum_i (1 - e)^(n - i) phi_i, e the
    learning rate times salience, which is calib.choice.learn repeated.
    """
    count = int(history.num[person])
    kind, first, second = history.kind[person, :count], history.first[person], history.second[person]
    option, where, value = history.option[person, :count], history.where[person, :count], history.value[person, :count]
    num_modes, num_attributes = prior.expectation.shape
    runs, num_runs = _runs(kind, first, option, num_modes)
    with pm.Model() as model:
        weights = pm.Dirichlet("weights", a=prior.concentration)
        extras = pm.Normal("extras", prior.mean, prior.sd, shape=len(EXTRAS))
        spread = pm.Normal("spread", 0.0, 1.0, shape=(num_modes, num_attributes))
        f_hat = pm.Deterministic("f_hat", prior.expectation + pt.exp(extras[mental.BELIEF_SD]) * spread)
        rationality = pt.exp(extras[:NUM_CHANNELS])
        step = pm.math.sigmoid(extras[mental.LEARNING]) * prior.salience  # (J,)

        def expected(at: np.ndarray) -> Any:
            """(len(at), M, J) what they expect at these entries."""
            before = num_runs[at]  # (A, M)
            keep = pt.exp(before[:, :, None] * pt.log1p(-step))
            since = before[:, :, None] - 1 - np.arange(runs.shape[1])  # (A, M, I)
            seen = pt.as_tensor(np.where(since >= 0, 1.0, 0.0))[..., None] * pt.exp(
                np.maximum(since, 0)[..., None] * pt.log1p(-step)
            )
            return keep * f_hat + step * pt.sum(seen * runs, axis=2)

        for channel, name in ((MODE_CHOICE, "choices"), (ACCEPT_OVERRIDE, "decisions")):
            if len(at := np.flatnonzero(kind == channel)):
                utility = pt.sum(expected(at) * weights, axis=-1)
                last = (np.arange(num_modes) == where[at][:, None]).astype(float)
                proposed = np.zeros_like(last)
                if channel == ACCEPT_OVERRIDE:
                    one = np.zeros((len(at), 1))
                    utility = pt.concatenate([utility, pt.sum(first[at] * weights, axis=-1)[:, None]], axis=1)
                    last, proposed = np.hstack([last, one]), np.hstack([proposed, one + 1])
                log_p = menu_log_probs(
                    pt,
                    utility,
                    rationality[channel],
                    pm.math.sigmoid(extras[mental.LAPSE]),
                    reliance=extras[mental.RELIANCE],
                    recommended=proposed,
                    inertia=extras[mental.INERTIA],
                    last=last,
                    offered=np.ones_like(last),
                )
                pm.Potential(name, pt.sum(log_p[np.arange(len(at)), option[at]]))
        if len(at := np.flatnonzero(kind == COMPARISON)):
            difference = pt.sum((first[at] - second[at]) * weights, axis=-1)
            log_p = comparison_log_probs(pt, difference, rationality[COMPARISON], pt.exp(extras[mental.TAU]))
            pm.Potential("comparisons", pt.sum(log_p[np.arange(len(at)), option[at]]))
        if len(at := np.flatnonzero(kind == RATING)):
            utility, r = pt.sum(first[at] * weights, axis=-1), rationality[RATING]
            spacing = pt.exp(extras[mental.SPACING])
            log_p = grade_log_probs(pt, utility, r, extras[mental.ASPIRATION], spacing, prior.num_grades)
            pm.Potential("ratings", pt.sum(log_p[np.arange(len(at)), option[at]]))
        if len(at := np.flatnonzero(kind == STOP)):
            utility, r = pt.sum(first[at] * weights, axis=-1), rationality[STOP]
            log_p = stop_log_prob(
                pt, utility, r, extras[mental.ASPIRATION], extras[mental.HAZARD], value[at], option[at]
            )
            pm.Potential("stops", pt.sum(log_p))
        if len(at := np.flatnonzero(kind == PROBE)):
            believed = expected(at)[np.arange(len(at)), option[at], where[at]]
            pm.Potential("probes", pt.sum(probe_log_density(pt, value[at], believed, pt.as_tensor(prior.probe_sd))))
    return model


def _runs(kind: np.ndarray, first: np.ndarray, option: np.ndarray, num_modes: int) -> tuple[np.ndarray, np.ndarray]:
    """(M, I, J) what was seen of each mode, in order, with zeros behind; (A, M) how often before each entry."""
    at = [np.flatnonzero((kind == RUN) & (option == m)) for m in range(num_modes)]
    runs = np.zeros((num_modes, max([len(a) for a in at] + [1]), first.shape[1]))
    num = np.zeros((len(kind), num_modes), np.int64)
    for m, entries in enumerate(at):
        runs[m, : len(entries)] = first[entries]
        num[:, m] = np.searchsorted(entries, np.arange(len(kind)))
    return runs, num
