"""NUTS by nutpie over a PyMC model. Slow to import and to compile: load this module only where it is needed."""

import logging
import warnings
from typing import Any


def sample(model: Any, *, draws: int, tune: int, chains: int, seed: int, target_accept: float, cores: int = 2) -> Any:
    """The draws as ArviZ has them: `posterior` and `sample_stats`, (chains, draws, ...) each."""
    warnings.filterwarnings("ignore", category=UserWarning, module="pytensor")
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
    logging.getLogger("pytensor").setLevel(logging.ERROR)
    import nutpie

    return nutpie.sample(
        nutpie.compile_pymc_model(model, backend="numba"),
        draws=draws,
        tune=tune,
        chains=chains,
        cores=cores,
        seed=seed % 2**32,
        target_accept=target_accept,
        progress_bar=False,
    )


def divergences(trace: Any) -> int:
    """How many trajectories of all chains diverged."""
    return int(trace.sample_stats["diverging"].sum())


def acceptance(trace: Any) -> float:
    """Mean acceptance, nan where the sampler does not tell."""
    stats = trace.sample_stats
    return float(stats["mean_tree_accept"].mean()) if "mean_tree_accept" in stats else float("nan")
