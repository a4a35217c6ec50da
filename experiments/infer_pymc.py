"""The same posteriors by PyMC and NUTS, built from calib/choice.py: the reference for the compiled engine.

All people are in one model, independent of each other. PyMC is slow to import: load this module only where needed.
"""

import numpy as np
from numpy.typing import NDArray

from calib.choice import comparison_log_probs, menu_log_probs
from experiments.choice_data import COMPARISON, Choices
from experiments.infer import FREE_SD, PULLS, Fit, Form
from experiments.infer_population import DEGREES, Population, hyperprior, population_of

Floats = NDArray[np.float64]

CHAINS, TUNE, DRAWS = 4, 1000, 1000


def build_model(form: Form, choices: Choices, hierarchical: bool = False):  # type: ignore[no-untyped-def]  # PyMC has no types
    """The model; every parameter has a leading axis of people, weights are (N, J), rationality (N, channels)."""
    import pymc as pm
    import pytensor.tensor as pt

    num = len(choices.people)
    prior = form.prior
    values, masks, offered = _padded(choices)
    person, channel, chosen = choices.person, choices.channel, choices.chosen
    pairs, menus = np.flatnonzero(channel == COMPARISON), np.flatnonzero(channel != COMPARISON)

    def pull(name: str, there: bool, own: tuple[float, float], mask: Floats):  # type: ignore[no-untyped-def]
        return (pm.Normal(name, *own, shape=num)[person[menus]][:, None], mask[menus]) if there else (0.0, 0.0)

    with pm.Model() as model:
        shared = decentred(form, num) if hierarchical else None
        if form.free:
            standard = (
                pm.Normal("standardised", 0.0, FREE_SD, shape=(num, len(form.attributes))) if shared is None else shared
            )
            weights = pm.Deterministic("weights", standard / form.scale)
            rationality = pt.ones((num, 3))
        else:
            if shared is None:
                weights = pm.Dirichlet("weights", np.tile(prior.concentration, (num, 1)))
                median, sd = np.array([prior.rationality[c] for c in form.channels]).T
                logs = pm.Normal("log_rationality", np.log(median), sd, shape=(num, len(form.channels)))
            else:
                ratios, logs = shared[:, : form.num_intent], shared[:, form.num_intent :]
                weights = pm.Deterministic("weights", pm.math.softmax(pt.dot(ratios, form.basis.T), axis=1))
            by_channel = pm.Deterministic("rationality", pt.exp(logs))
            columns = [form.channels.index(c) if c in form.channels else 0 for c in range(3)]
            rationality = by_channel[:, columns]
        utility = pt.sum(pt.as_tensor(values) * weights[person][:, None, :], axis=-1)
        own = rationality[person, channel]
        if len(menus):
            lapse = 0.0
            if not form.free:
                at = np.log(prior.lapse[0] / (1 - prior.lapse[0]))
                logit = pm.Normal("logit_lapse", at, prior.lapse[1], shape=num)
                lapse = pm.Deterministic("lapse", pm.math.sigmoid(logit))[person[menus]][:, None]
            reliance, recommended = pull("reliance", form.has_mask[0], prior.reliance, masks[..., 0])
            inertia, last = pull("inertia", form.has_mask[1], prior.inertia, masks[..., 1])
            log_p = menu_log_probs(
                pt,
                utility[menus],
                own[menus][:, None],
                lapse,
                reliance=reliance,
                recommended=recommended,
                inertia=inertia,
                last=last,
                offered=offered[menus],
            )
            pm.Potential("menus", pt.sum(log_p[np.arange(len(menus)), chosen[menus]]))
        if len(pairs):
            log_tau = pm.Normal("log_about_equal", np.log(prior.about_equal[0]), prior.about_equal[1], shape=num)
            tau = pm.Deterministic("about_equal", pt.exp(log_tau))
            difference = utility[pairs, 0] - utility[pairs, 1]
            log_p = comparison_log_probs(pt, difference, own[pairs], tau[person[pairs]])
            pm.Potential("comparisons", pt.sum(log_p[np.arange(len(pairs)), chosen[pairs]]))
    return model


def fit_pymc(
    form: Form, choices: Choices, seed: int, draws: int = DRAWS, hierarchical: bool = False
) -> tuple[Fit, Population | None]:
    """NUTS draws of everybody, and of the population where the model is hierarchical."""
    from calib import nuts

    model = build_model(form, choices, hierarchical)
    trace = nuts.sample(model, draws=draws, tune=TUNE, chains=CHAINS, seed=seed, target_accept=0.9)
    found = trace.posterior
    parts = [np.asarray(found["weights"])]
    if not form.free:
        parts.append(np.asarray(found["rationality"]))
    singles = ["lapse", *PULLS, "about_equal"]
    parts += [np.asarray(found[name])[..., None] for name in singles if name in form.names]
    fit = Fit(
        choices.people,
        np.ascontiguousarray(np.concatenate(parts, axis=3).transpose(2, 3, 0, 1)),
        nuts.acceptance(trace),
        nuts.divergences(trace),
    )
    if not hierarchical:
        return fit, None
    mean, covariance = (np.asarray(found[f"population_{name}"]) for name in ("mean", "covariance"))
    return fit, population_of(form, np.moveaxis(mean, -1, 0), np.moveaxis(covariance, (-2, -1), (0, 1)))


def decentred(form: Form, num: int):  # type: ignore[no-untyped-def]
    """(N, H) coordinates that come from the population of experiments/infer_population.py, decentred.

    Sigma's inverse is C C', C the scales of the mixture times Bartlett's triangle.
    """
    import pymc as pm
    import pytensor.tensor as pt
    from pytensor.tensor.slinalg import solve_triangular

    centre, centre_sd, scale = hyperprior(form)
    dims = len(centre)
    mean = pm.Normal("population_mean", centre, centre_sd, shape=dims)
    wide = pm.InverseGamma("wide", 0.5, scale**-2.0, shape=dims)
    diagonal = pm.ChiSquared("diagonal", DEGREES + dims - 1 - np.arange(dims), shape=dims)
    triangle = pt.diag(pt.sqrt(diagonal))
    if dims > 1:
        below = pm.Normal("below", 0.0, 1.0, shape=dims * (dims - 1) // 2)
        triangle = pt.set_subtensor(triangle[np.tril_indices(dims, -1)], below)
    # the prior scatter is 2 nu / wide on the diagonal, and C its inverse root times the triangle
    root = pt.sqrt(wide / (2 * DEGREES))[:, None] * triangle
    inverse = solve_triangular(root, pt.eye(dims), lower=True)
    pm.Deterministic("population_covariance", pt.dot(inverse.T, inverse))
    z = pm.Normal("z", 0.0, 1.0, shape=(num, dims))
    return mean + pt.dot(z, inverse)


def _padded(choices: Choices) -> tuple[Floats, Floats, Floats]:
    """Values (Q, K, J), masks (Q, K, 2) and which options there are (Q, K)."""
    size = np.diff(choices.start)
    choice = np.repeat(np.arange(len(size)), size)
    option = np.arange(choices.num_rows) - choices.start[choice]
    shape = (len(size), int(size.max()))
    values, masks, offered = np.zeros((*shape, len(choices.attributes))), np.zeros((*shape, 2)), np.zeros(shape)
    values[choice, option], masks[choice, option], offered[choice, option] = choices.values, choices.masks, 1.0
    return values, masks, offered
