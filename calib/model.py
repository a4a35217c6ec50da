"""The PyMC model: the definition of the belief about one person, built from calib/choice.py.

The live engine (calib/live.py) samples the same posterior with a compiled twin; the audit (calib/audit.py) samples this
graph with NUTS. Parameters: `weights` (J,) on the simplex; `rationality` (3,) by channel; `lapse`, `reliance`,
`inertia`, `about_equal`. PyMC is slow to import: load this module only where it is needed.
"""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from calib.choice import comparison_log_probs, menu_log_probs
from calib.evidence import Evidence
from calib.kernel import COMPARISON
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
            offered = np.arange(features.shape[1])[None] < evidence.num_options[person, menus][:, None]
            log_p = menu_log_probs(
                pt,
                pt.sum(pt.as_tensor(features[menus]) * weights, axis=-1),
                rationality[channel[menus]][:, None],
                lapse,
                reliance=reliance,
                recommended=evidence.recommended[person, menus],
                inertia=inertia,
                last=evidence.last[person, menus],
                offered=offered.astype(float),
            )
            pm.Potential("menus", pt.sum(log_p[np.arange(len(menus)), chosen[menus]]))
        if len(pairs):
            difference = pt.sum(pt.as_tensor(features[pairs, 0] - features[pairs, 1]) * weights, axis=-1)
            log_p = comparison_log_probs(pt, difference, rationality[COMPARISON], about_equal)
            pm.Potential("comparisons", pt.sum(log_p[np.arange(len(pairs)), chosen[pairs]]))
    return model
