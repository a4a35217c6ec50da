"""The hierarchical model of whole sessions in PyMC: the definition, sampled by NUTS for a few dozen people.

The likelihood is that of one person (calib/model.py), of all people at once. PyMC is slow to import: load this module
only where needed.
"""

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from calib.mental import BELIEF_SD, EXTRAS, LEARNING
from calib.model import add_answers
from experiments.infer_minds import (
    ERROR_SD,
    MEAN_SD,
    SD_SCALE,
    TRAITS,
    Evidence,
    MindFit,
    MindPopulation,
    form_of,
    person_names,
)
from experiments.infer_population import population_of
from experiments.infer_pymc import CHAINS, TUNE, decentred


def build_minds_model(evidence: Evidence) -> pm.Model:
    """The model, decentred: intent and rationality, error, traits, and everybody's f_hat before the first run."""
    form, prior, num = form_of(evidence), evidence.prior, len(evidence.people)
    num_modes, num_attributes = prior.expectation.shape
    channels = list(form.channels)
    with pm.Model() as model:
        shared = decentred(form, num)
        weights = pm.Deterministic(
            "weights", pm.math.softmax(pt.dot(shared[:, : form.num_intent], form.basis.T), axis=1)
        )
        error = pm.Normal("error", 0.0, ERROR_SD, shape=(num_modes, num_attributes))
        trait_mean = pm.Normal("trait_mean", prior.mean[list(TRAITS)], MEAN_SD, shape=2)
        trait_sd = pm.HalfNormal("trait_sd", SD_SCALE, shape=2)
        traits = trait_mean + trait_sd * pm.Normal("trait", 0.0, 1.0, shape=(num, 2))
        others = [e for e in range(len(EXTRAS)) if e not in (*channels, *TRAITS)]
        rest = pm.Normal("rest", prior.mean[others], prior.sd[others], shape=(num, len(others)))
        columns = {e: rest[:, k] for k, e in enumerate(others)}
        columns |= {c: shared[:, form.num_intent + k] for k, c in enumerate(channels)}
        columns |= {BELIEF_SD: traits[:, 0], LEARNING: traits[:, 1]}
        extras = pm.Deterministic("extras", pt.stack([columns[e] for e in range(len(EXTRAS))], axis=1))
        spread = pm.Normal("spread", 0.0, 1.0, shape=(num, num_modes, num_attributes))
        f_hat = prior.expectation + error + pt.exp(extras[:, BELIEF_SD])[:, None, None] * spread
        add_answers(prior, evidence.history, weights, extras, f_hat)
    return model


def sample_minds(
    evidence: Evidence, seed: int, draws: int = 1000, tune: int = TUNE, target_accept: float = 0.9
) -> MindFit:
    """NUTS draws of the population and of everybody."""
    from calib import nuts

    model = build_minds_model(evidence)
    trace = nuts.sample(model, draws=draws, tune=tune, chains=CHAINS, cores=1, seed=seed, target_accept=target_accept)
    found, form = trace.posterior, form_of(evidence)

    def of(name: str) -> np.ndarray:
        """Draws with chains and draws behind."""
        return np.ascontiguousarray(np.moveaxis(np.asarray(found[name]), (0, 1), (-2, -1)))

    intent = population_of(form, of("population_mean"), of("population_covariance"))
    population = MindPopulation(intent, of("error"), of("trait_mean"), of("trait_sd"))
    weights, extras = of("weights"), of("extras")
    rate = 1 / (1 + np.exp(-extras[:, [LEARNING]]))
    natural = [weights, np.exp(extras[:, list(form.channels)]), np.exp(extras[:, [BELIEF_SD]]), rate]
    draws_of_all = np.concatenate(natural, axis=1)
    return MindFit(population, person_names(form), draws_of_all, nuts.acceptance(trace), nuts.divergences(trace))
