"""How near the engines' posteriors come to long runs of PyMC on the same answers: `python -m bench.exactness`.

`--engine live`: people of the apartment, comparisons of random pairs of its cards and nothing else. `--engine full`:
whole sessions of the scenario `beliefs`, a mode choice, a run and a question (pair, probe or rating) a round; `exact`:
the same of the scenario `aspiration`, with a mode choice and a pair, or of the one that `--scenario` names. The
reference is the model of calib/model.py, sampled by NUTS with `--draws` in each of four chains. Differences are in
units of its posterior sd; a set is trusted only where R-hat is under 1.01 and nothing diverged.
"""

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray

from calib import evidence as evidence_of
from calib import live
from calib.audit import sample_mind, sample_posterior
from calib.choice import comparison_log_probs
from calib.documents import parameter_draws
from calib.history import RUN, History
from calib.kernel import COMPARISON
from calib.scenario import load_scenario
from calib.setup import Setup, make_setup
from experiments.batch import simulate_sessions
from experiments.people import rational
from experiments.truth import draw_truth

Floats = NDArray[np.float64]
Draws = dict[str, Floats]

Found = tuple[int, int, Draws, Draws, dict[str, float]]  # as `comparisons` says

LEVELS = (0.05, 0.5, 0.95)
FIGURES = ("mean", "sd", "quantile")
_ACCEPT = (0.95, 0.99, 0.998)  # what NUTS aims at, the next where trajectories diverged
_USUAL = {  # scenario, policy, particles
    "live": ("apartment", "random", 4096),
    "full": ("beliefs", "per_second", 2048),
    "exact": ("aspiration", "information_gain", 1024),
}


def apart(ours: Floats, reference: Floats) -> dict[str, float]:
    """How far draws (P,) are from the reference's: mean and worst quantile in its sd, the sd as a share of it."""
    sd = float(reference.std())
    quantiles = np.abs(np.quantile(ours, LEVELS) - np.quantile(reference, LEVELS)) / sd
    return {
        "mean": float(abs(ours.mean() - reference.mean()) / sd),
        "sd": float(abs(ours.std() / sd - 1.0)),
        "quantile": float(quantiles.max()),
        "quantiles": quantiles.tolist(),  # type: ignore[dict-item]
    }


def comparisons(setup: Setup, num: int, rounds: list[int], draws: int) -> Iterator[Found]:
    """Person, answers, our draws, the reference's, its diagnostics; answers come one by one."""
    people, attributes = np.arange(num), setup.num_attributes
    truth, rng = draw_truth(setup, people, {}), np.random.default_rng([setup.seed, 1])
    belief = live.start(setup.prior, people, setup.seed, setup.num_particles)
    kept = evidence_of.empty(num, max(rounds), 2, attributes, 2)
    everybody, seen = np.ones(num, bool), np.zeros(num, np.int64)
    for t in range(1, max(rounds) + 1):
        a, b = setup.cards[setup.pairs[rng.integers(len(setup.pairs), size=num)]].transpose(1, 0, 2)
        gap = np.sum((a - b) * truth.weights, axis=1)
        log_p = comparison_log_probs(np, gap, truth.rationality[:, COMPARISON], truth.about_equal)
        said = np.argmax(log_p + rng.gumbel(size=log_p.shape), axis=1)
        kept = evidence_of.add_comparison(kept, everybody, a, b, said)
        belief, _ = live.update(belief, setup.prior, kept, seen, people, setup.seed, everybody)
        seen = kept.num_answers.copy()
        if t in rounds:
            w, extra = live.intent(belief, attributes), live.draws(belief)[:, attributes - 1 :]
            for i in range(num):
                ours = {a.name: w[i, j] for j, a in enumerate(setup.scenario.attributes)}
                ours |= {"rationality": np.exp(extra[i, COMPARISON]), "about_equal": np.exp(extra[i, 6])}
                for accept in _ACCEPT:
                    how = {"person": i, "draws": draws, "target_accept": accept}
                    found, diagnostics = sample_posterior(setup.prior, kept, 1 + i, **how)
                    if not diagnostics["divergences"]:
                        break
                theirs = of_weights(setup, found["weights"])
                theirs |= {
                    "rationality": flat(found["rationality"])[COMPARISON],
                    "about_equal": flat(found["about_equal"]),
                }
                yield i, t, ours, theirs, diagnostics


def minds(setup: Setup, num: int, rounds: list[int], draws: int) -> Iterator[Found]:
    """As `comparisons`, of whole sessions by the engine full or exact."""
    names = ["learning_rate", "belief_sd", "lapse", "about_equal"] if setup.mind else ["lapse", "about_equal"]
    aspirations = [f"aspiration[{a.name}]" for a in setup.scenario.attributes] if setup.aspirations else []
    for t in rounds:
        sessions = simulate_sessions(replace(setup, max_rounds=t), rational, {}, np.arange(num))
        kept = sessions.state.evidence
        assert isinstance(kept, History)
        believed = evidence_of.as_believed(kept, setup.expectation, setup.learning)
        for i in range(num):
            drawn = parameter_draws(setup, sessions.state, i)
            ours = {name: drawn[name] for name in [*(a.name for a in setup.scenario.attributes), *aspirations, *names]}
            how: dict[str, Any] = {"person": i, "draws": draws, "aspirations": setup.aspirations}
            if setup.mind is not None:
                found, diagnostics = sample_mind(setup.mind, kept, 1 + i, **how)
            else:
                found, diagnostics = sample_posterior(setup.prior, believed, 1 + i, **how)
            theirs = of_weights(setup, found["weights"]) | {name: flat(found[name]) for name in names}
            if aspirations:
                theirs |= dict(zip(aspirations, flat(found["aspirations"]), strict=True))
            diagnostics["answers"] = int(np.sum(kept.kind[i, : kept.num[i]] != RUN))
            diagnostics["smallest_share"] = float(sessions.state.diagnostics.ess[i])
            yield i, t, ours, theirs, diagnostics


def flat(draws: NDArray[Any]) -> Floats:
    """(chains, draws, ...) as (..., draws)."""
    joined = draws.reshape(-1, *draws.shape[2:])
    return np.moveaxis(joined, 0, -1)


def of_weights(setup: Setup, draws: NDArray[Any]) -> Draws:
    """Weights (chains, draws, J) by the name of the attribute."""
    return dict(zip((a.name for a in setup.scenario.attributes), flat(draws), strict=True))


def told(rows: list[dict[str, Any]], names: list[str], rounds: list[int]) -> list[dict[str, Any]]:
    """A line a number of rounds: worst and median over sets and parameters `names`, of the sets that are trusted."""
    lines = []
    for t in rounds:
        some = [r for r in rows if r["rounds"] == t and r["trusted"]]
        line: dict[str, Any] = {"rounds": t, "sets": len(some), "of": sum(r["rounds"] == t for r in rows)}
        for figure in FIGURES:
            values = np.array([r["apart"][name][figure] for r in some for name in names] or [np.nan])
            line[figure] = {"worst": float(values.max()), "median": float(np.median(values))}
        every = np.array([q for r in some for name in names for q in r["apart"][name]["quantiles"]] or [np.nan])
        line["quantile"]["p95"] = float(np.quantile(every, 0.95))
        lines.append(line)
    return lines


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="live", choices=tuple(_USUAL))
    parser.add_argument("--scenario", default=None)
    parser.add_argument("--sets", type=int, default=20, help="people")
    parser.add_argument("--rounds", default="5,20,50")
    parser.add_argument("--draws", type=int, default=10_000, help="of each of four chains")
    parser.add_argument("--particles", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rounds = [int(t) for t in args.rounds.split(",")]
    scenario, policy, particles = _USUAL[args.engine]
    setup = make_setup(
        load_scenario(args.scenario or scenario),
        role="tool",
        policy=policy,
        engine=args.engine,
        num_particles=args.particles or particles,
        max_rounds=max(rounds),
        seed=args.seed,
    )
    rows, found_by = [], comparisons if args.engine == "live" else minds
    for person, t, ours, theirs, diagnostics in found_by(setup, args.sets, rounds, args.draws):
        trusted = diagnostics["r_hat"] < 1.01 and diagnostics["divergences"] == 0
        found = {name: apart(ours[name], theirs[name]) for name in ours}
        rows.append({"person": person, "rounds": t, "trusted": trusted, "apart": found, **diagnostics})
        worst = max(found, key=lambda name: found[name]["quantile"])
        if not args.json:
            print(
                f"person {person}, {t} rounds: worst {worst}, quantile {found[worst]['quantile']:.2f} sd; r_hat "
                f"{diagnostics['r_hat']:.4f}, divergences {diagnostics['divergences']}",
                flush=True,
            )
    weights = [a.name for a in setup.scenario.attributes]
    groups = {"weights": weights, "others": [name for name in rows[0]["apart"] if name not in weights]}
    lines = {group: told(rows, names, rounds) for group, names in groups.items()}
    if args.json:
        print(json.dumps({"engine": args.engine, "particles": setup.num_particles, "groups": lines, "sets": rows}))
        return
    for group, of_rounds in lines.items():
        print(f"\n{group}: difference to PyMC, worst and median over sets and parameters")
        for line in of_rounds:
            figures = ", ".join(f"{f} {line[f]['worst']:.3f} and {line[f]['median']:.3f}" for f in FIGURES)
            p95 = line["quantile"]["p95"]
            print(
                f"  {line['rounds']:>3} rounds, {line['sets']} of {line['of']} sets: {figures}; quantiles p95 {p95:.3f}"
            )


if __name__ == "__main__":
    main()
