"""The audit of a finished run: its evidence through the PyMC model and NUTS, and how far the live engine is from it.

A process of its own, `python -m calib.audit JOURNAL RUN`: compiling takes tens of seconds and no session may wait
for it. It folds the journal's events, samples, appends one audit document, and prints it as one line of JSON.
"""

import argparse
import json
import sys
import time
from typing import Any

import numpy as np

from calib import alignment
from calib.documents import parameter_draws
from calib.evidence import Evidence, as_believed
from calib.history import History
from calib.mental import BELIEF_SD, INERTIA, LAPSE, LEARNING, RELIANCE, TAU, MindPrior
from calib.prior import Prior
from calib.scenario import CHANNELS
from calib.session import Session
from calib.setup import Setup
from calib.utility import Aspirations, over_knots

CHAINS, TUNE, DRAWS = 4, 1000, 1000
MOST_DRAWS = 4 * DRAWS  # where DRAWS are too few to be trusted


def sample_posterior(
    prior: Prior,
    evidence: Evidence,
    seed: int,
    *,
    person: int = 0,
    draws: int = DRAWS,
    most: int = 0,
    target_accept: float = 0.95,
    aspirations: Aspirations | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """NUTS draws of every parameter of one person, (chains, draws, ...), and the diagnostics of the reference.

    most: so many draws, if more than `draws`, where those are not trustworthy.
    """
    from calib.model import build_model

    names = ["weights", "rationality", "lapse", "reliance", "inertia", "about_equal"]
    names += ["aspirations"] if aspirations else []
    return _sample(build_model(prior, evidence, person, aspirations), names, seed, draws, target_accept, most)


def sample_mind(
    prior: MindPrior,
    history: History,
    seed: int,
    *,
    person: int = 0,
    draws: int = DRAWS,
    most: int = 0,
    target_accept: float = 0.99,
    aspirations: Aspirations | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """As `sample_posterior`, of a person whose mental model is not known, with learning_rate and belief_sd."""
    from calib.model import build_mind_model

    model, names = build_mind_model(prior, history, person, aspirations), ["weights", "extras"]
    names += ["aspirations"] if aspirations else []
    found, diagnostics = _sample(model, names, seed, draws, target_accept, most)
    extras = found["extras"]
    natural = {
        "weights": found["weights"],
        "rationality": np.exp(extras[..., : len(CHANNELS)]),
        "lapse": 1 / (1 + np.exp(-extras[..., LAPSE])),
        "reliance": extras[..., RELIANCE],
        "inertia": extras[..., INERTIA],
        "about_equal": np.exp(extras[..., TAU]),
        "learning_rate": 1 / (1 + np.exp(-extras[..., LEARNING])),
        "belief_sd": np.exp(extras[..., BELIEF_SD]),
    } | ({"aspirations": found["aspirations"]} if aspirations else {})
    return natural, diagnostics


def trustworthy(diagnostics: dict[str, float]) -> bool:
    """Whether a sample can stand as the reference."""
    return diagnostics["r_hat"] < 1.01 and diagnostics["ess_bulk"] > 400 and diagnostics["divergences"] == 0


def _sample(
    model: Any, names: list[str], seed: int, draws: int, target_accept: float, most: int = 0
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    import arviz

    from calib import nuts

    trace = nuts.sample(model, draws=draws, tune=TUNE, chains=CHAINS, seed=seed, target_accept=target_accept)
    found = {name: np.asarray(trace.posterior[name]) for name in names}
    summary = arviz.summary(trace, var_names=names, round_to="none")
    diagnostics = {
        "r_hat": float(summary["r_hat"].max()),
        "ess_bulk": float(summary["ess_bulk"].min()),
        "ess_tail": float(summary["ess_tail"].min()),
        "divergences": nuts.divergences(trace),
    }
    if most > draws and not trustworthy(diagnostics):
        return _sample(model, names, seed, most, target_accept)
    return found, diagnostics


def audit(setup: Setup, session: Session) -> dict[str, Any]:
    """The audit document of a session."""
    begun = time.perf_counter()
    state, kept, seed = session.state, session.state.evidence, setup.seed % 2**32
    if isinstance(kept, History) and setup.mind is not None:
        found, diagnostics = sample_mind(setup.mind, kept, seed, most=MOST_DRAWS, aspirations=setup.aspirations)
    else:
        known = as_believed(kept, setup.expectation, setup.learning) if isinstance(kept, History) else kept
        found, diagnostics = sample_posterior(setup.prior, known, seed, most=MOST_DRAWS, aspirations=setup.aspirations)
    flat = {name: value.reshape(-1, *value.shape[2:]) for name, value in found.items()}
    reference = {a.name: flat["weights"][:, j] for j, a in enumerate(setup.scenario.attributes)}
    reference |= {f"rationality[{c}]": flat["rationality"][:, i] for i, c in enumerate(CHANNELS)}
    columns = ("weights", "rationality", "aspirations")
    reference |= {name: values for name, values in flat.items() if name not in columns}
    w, b = flat["weights"].T[None], flat.get("aspirations", np.empty((1, 0))).T[None]
    reference |= {f"aspiration[{a.name}]": v for a, v in zip(setup.scenario.attributes, b[0], strict=False)}
    live = parameter_draws(setup, state)
    apart = {name: float((live[name].mean() - v.mean()) / v.std()) for name, v in reference.items()}
    w = w if setup.aspirations is None else over_knots(w, b)
    degree = alignment.degree(setup, w, alignment.extremes(setup, w), state.standing)[0]
    names = [a.name for a in setup.scenario.attributes]
    return {
        "engine": "pymc+nutpie",
        "chains": CHAINS,
        "draws": found["weights"].shape[1],
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
        "trustworthy": trustworthy(diagnostics),
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
