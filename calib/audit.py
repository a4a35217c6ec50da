"""The audit of a finished run: its evidence through the PyMC model and NUTS, and how far the live engine is from it.

A process of its own, `python -m calib.audit JOURNAL RUN`: compiling takes tens of seconds and no session may wait
for it. It folds the journal's events, samples, appends one audit document, and prints it as one line of JSON.
"""

import argparse
import json
import logging
import sys
import time
import warnings
from typing import Any

import numpy as np

from calib import alignment
from calib.documents import parameter_draws
from calib.evidence import Evidence
from calib.prior import Prior
from calib.scenario import CHANNELS
from calib.session import Session
from calib.setup import Setup

CHAINS, TUNE, DRAWS = 4, 1000, 1000


def sample_posterior(
    prior: Prior, evidence: Evidence, seed: int, *, person: int = 0, draws: int = DRAWS, target_accept: float = 0.95
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """NUTS draws of every parameter of one person, (chains, draws, ...), and the diagnostics of the reference."""
    warnings.filterwarnings("ignore", category=UserWarning, module="pytensor")
    warnings.filterwarnings("ignore", category=FutureWarning, module="arviz")
    logging.getLogger("pytensor").setLevel(logging.ERROR)
    import arviz
    import nutpie

    from calib.model import build_model

    model = build_model(prior, evidence, person)
    compiled = nutpie.compile_pymc_model(model, backend="numba")
    trace = nutpie.sample(
        compiled,
        draws=draws,
        tune=TUNE,
        chains=CHAINS,
        cores=2,
        seed=seed,
        target_accept=target_accept,
        progress_bar=False,
    )
    names = ["weights", "rationality", "lapse", "reliance", "inertia", "about_equal"]
    found = {name: np.asarray(trace.posterior[name]) for name in names}
    summary = arviz.summary(trace, var_names=names, round_to="none")
    diagnostics = {
        "r_hat": float(summary["r_hat"].max()),
        "ess_bulk": float(summary["ess_bulk"].min()),
        "ess_tail": float(summary["ess_tail"].min()),
        "divergences": int(np.asarray(trace.sample_stats["diverging"]).sum()),
    }
    return found, diagnostics


def audit(setup: Setup, session: Session) -> dict[str, Any]:
    """The audit document of a session."""
    begun = time.perf_counter()
    state = session.state
    found, diagnostics = sample_posterior(setup.prior, state.evidence, setup.seed % 2**32)
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in found.items()}
    reference = {a.name: flat["weights"][:, j] for j, a in enumerate(setup.scenario.attributes)}
    reference |= {f"rationality[{c}]": flat["rationality"][:, i] for i, c in enumerate(CHANNELS)}
    reference |= {name: flat[name] for name in ("lapse", "reliance", "inertia", "about_equal")}
    live = parameter_draws(setup, state)
    apart = {name: float((live[name].mean() - v.mean()) / v.std()) for name, v in reference.items()}
    w = flat["weights"].T[None]
    degree = alignment.degree(setup, w, alignment.extremes(setup, w), state.standing)[0]
    names = [a.name for a in setup.scenario.attributes]
    return {
        "engine": "pymc+nutpie",
        "chains": CHAINS,
        "draws": DRAWS,
        "answers": int(state.evidence.num_answers[0]),
        "parameters": {name: {"mean": float(v.mean()), "sd": float(v.std())} for name, v in reference.items()},
        "live": {name: {"mean": float(v.mean()), "sd": float(v.std())} for name, v in live.items()},
        "degree": {
            "mean": float(degree.mean()),
            "low": float(np.quantile(degree, 0.05)),
            "high": float(np.quantile(degree, 0.95)),
            "p_aligned": float(np.mean(degree >= 1 - setup.scenario.eps)),
        },
        "apart_sd": apart,
        "weights_apart_sd": max(abs(apart[name]) for name in names),
        "diagnostics": diagnostics,
        "trustworthy": diagnostics["r_hat"] < 1.01
        and diagnostics["ess_bulk"] > 400
        and diagnostics["divergences"] == 0,
        "seconds": time.perf_counter() - begun,
    }


def main(argv: list[str] | None = None) -> int:
    """Audit one run of a journal."""
    from calib.journal import open_journal
    from calib.replay import events_of, fold, run_entries, setup_of

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("journal")
    parser.add_argument("run")
    args = parser.parse_args(argv)
    with open_journal(args.journal) as journal:
        entries = run_entries(journal, args.run)
        start = entries[0].body
        assert start is not None
        setup = setup_of(start)
        folded = fold(setup, start, events_of(entries))
        body = audit(setup, folded.session)
        journal.append(entries[0].run, "audit", body)
    print(json.dumps(body))
    return 0


if __name__ == "__main__":
    sys.exit(main())
