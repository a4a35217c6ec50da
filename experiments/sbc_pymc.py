"""Posteriors of one person after the other by NUTS, from PyMC's model compiled once: what they answered is its data.

Compiling takes a quarter of a minute and more, sampling some seconds. PyMC is slow to import: it is loaded when needed.
"""

import logging
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.evidence import Evidence
from calib.live import Belief, evenly
from calib.prior import Prior
from calib.streams import stream_key, uniforms
from experiments.convergence import ess_bulk, r_hat

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CHAINS, TUNE, DRAWS = 4, 400, 500
_TARGET_ACCEPT = 0.9
_DATA = ("features", "recommended", "last", "chosen")  # of the evidence; the rest is the same in every session


def sample_belief(prior: Prior, evidence: Evidence, people: Ints, root_seed: int) -> tuple[Belief, Floats]:
    """NUTS draws as the particles of a live belief, and (N, 3) the smallest ESS, the largest R-hat, the divergences."""
    import nutpie

    dims = prior.concentration.shape[0] - 1 + prior.mean.shape[0]
    particles, effort = np.empty((len(people), dims, CHAINS * DRAWS)), np.empty((len(people), 3))
    seeds = (uniforms(stream_key(root_seed, "sbc nuts"), people, 0, 1)[:, 0] * 2**31).astype(int)
    for i in range(len(people)):
        count = int(evidence.num_answers[i])
        rows = (tuple(map(int, column[i, :count])) for column in (evidence.channel, evidence.num_options))
        compiled = _compiled(*(tuple(map(float, column)) for column in prior), *rows, evidence.features.shape[2])
        trace = nutpie.sample(
            compiled.with_data(**{name: getattr(evidence, name)[i : i + 1, :count] for name in _DATA}),
            draws=DRAWS,
            tune=TUNE,
            chains=CHAINS,
            cores=1,
            seed=int(seeds[i]),
            target_accept=_TARGET_ACCEPT,
            progress_bar=False,
        )
        draws = _coordinates({name: np.asarray(values) for name, values in trace.posterior.items()})
        particles[i] = draws.reshape(dims, -1)
        effort[i] = ess_bulk(draws).min(), r_hat(draws).max(), np.asarray(trace.sample_stats["diverging"]).sum()
    return evenly(particles), effort


def _coordinates(found: dict[str, Floats]) -> Floats:
    """(D, chains, draws) in the coordinates of calib/kernel.py."""
    log_weights = np.log(np.maximum(np.moveaxis(found["weights"], -1, 0), 1e-300))
    singles = [found[name][None] for name in ("logit_lapse", "reliance", "inertia", "log_about_equal")]
    return np.concatenate([log_weights[:-1] - log_weights[-1:], np.moveaxis(found["log_rationality"], -1, 0), *singles])


@lru_cache(maxsize=8)
def _compiled(
    concentration: tuple[float, ...],
    mean: tuple[float, ...],
    sd: tuple[float, ...],
    channel: tuple[int, ...],
    num_options: tuple[int, ...],
    width: int,
) -> Any:
    """calib.model.build_model with variables for what a person was shown and chose."""
    warnings.filterwarnings("ignore", category=UserWarning, module="pytensor")
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
    logging.getLogger("pytensor").setLevel(logging.ERROR)
    import nutpie
    import pytensor

    from calib.model import build_model

    count, num_attributes = len(channel), len(concentration)
    empty = {
        "features": np.zeros((1, count, width, num_attributes)),
        "recommended": np.zeros((1, count, width)),
        "last": np.zeros((1, count, width)),
        "chosen": np.zeros((1, count), np.int64),
    }
    variables: dict[str, Any] = {name: pytensor.shared(empty[name], name=name) for name in _DATA}
    shape = (np.array([num_options]), np.array([channel]), np.array([count]))
    evidence = Evidence(**variables, num_options=shape[0], channel=shape[1], num_answers=shape[2])
    prior = Prior(np.array(concentration), np.array(mean), np.array(sd))
    return nutpie.compile_pymc_model(build_model(prior, evidence), backend="numba")
