"""The population of sessions by the compiled engine, side by side with NUTS: `python -m bench.minds`.

`--reference FILE` also writes NUTS's means and sds, which a test holds the compiled engine to.
"""

import argparse
import ast
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from calib.history import History
from calib.mental import BELIEF_SD, EXTRAS, LEARNING, MindPrior
from calib.scenario import Population
from experiments.infer_journal import population_draws
from experiments.infer_minds import Evidence, fit_minds
from experiments.minds import live_through

ROOT = Path(__file__).resolve().parent.parent
MODEL = {  # of which the reference is
    "calib/choice.py": ("menu_log_probs", "menu_values", "comparison_log_probs", "probe_log_density", "learn"),
    "calib/model.py": ("add_answers", "_runs"),
    "experiments/infer_pymc.py": ("decentred",),
    "experiments/infer_minds_pymc.py": ("build_minds_model",),
    "experiments/minds.py": ("live_through",),
    "bench/minds.py": ("people",),
}
MODES, ATTRIBUTES = ("eco", "quick", "deep"), ("clean", "fast", "quiet")
ERROR = np.array([[0.2, 0.0, -0.1], [0.0, 0.15, 0.0], [-0.2, 0.0, 0.1]])  # of the people, from the descriptions
SPREAD, RATE = (np.log(0.12), 0.3), (0.4, 0.5)  # mean and sd over people of log spread and logit learning rate
WEIGHTS, RATIONALITY = (6.0, 3.0, 3.0), (20.0, 0.3)


def people(num: int, seed: int, rounds: int = 8, probes: int = 4, comparisons: int = 8) -> Evidence:
    """Sessions of people of a population that is not the prior's."""
    rng = np.random.default_rng(seed)
    expectation = np.array([[0.3, 0.6, 0.8], [0.5, 0.9, 0.4], [0.9, 0.2, 0.2]])
    population = Population(
        concentration=(1.0, 1.0, 1.0),
        rationality=((10.0, 0.7),) * 3,
        lapse=(0.03, 0.7),
        reliance=(0.5, 0.5),
        inertia=(0.3, 0.3),
        about_equal=(0.5, 0.5),
    )
    mean, sd = np.zeros(len(EXTRAS)), np.full(len(EXTRAS), 0.5)
    mean[:5], sd[:5], mean[5], sd[5] = np.log(10.0), 0.7, np.log(0.03 / 0.97), 0.7
    mean[6:9], sd[7] = (0.5, 0.3, np.log(0.5)), 0.3
    mean[LEARNING], sd[LEARNING], mean[BELIEF_SD], sd[BELIEF_SD] = 0.0, 1.0, np.log(0.2), 0.5
    prior = MindPrior(np.ones(3), mean, sd, expectation, np.array([1.0, 0.6, 1.0]), 0.05, 5)
    true_mean, true_sd = mean.copy(), sd.copy()
    true_mean[:3], true_sd[:3] = np.log(RATIONALITY[0]), RATIONALITY[1]
    (true_mean[BELIEF_SD], true_sd[BELIEF_SD]), (true_mean[LEARNING], true_sd[LEARNING]) = SPREAD, RATE
    true = prior._replace(concentration=np.array(WEIGHTS), mean=true_mean, sd=true_sd, expectation=expectation + ERROR)
    rows = [live_through(rng, true, rounds, probes, comparisons)[0] for _ in range(num)]
    whole = History(*(np.concatenate(columns) for columns in zip(*rows, strict=True)))
    return Evidence(tuple(f"p{i}" for i in range(num)), ATTRIBUTES, MODES, prior, population, whole)


def model_sha256() -> str:
    """Of the syntax of what the reference depends on, comments and docstrings apart."""
    total = hashlib.sha256()
    for name, functions in MODEL.items():
        for node in ast.parse((ROOT / name).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name in functions:
                if isinstance(node.body[0], ast.Expr):
                    node.body = node.body[1:]
                total.update(ast.dump(node).encode())
    return total.hexdigest()


def told(evidence: Evidence, fit: Any) -> dict[str, list[float]]:
    """Mean and sd of everything that is reported of the population."""
    names, draws = population_draws(evidence, fit.population)
    return {name: [float(v.mean()), float(v.std())] for name, v in zip(names, draws, strict=True)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=16)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=int, default=1000, help="of each chain of NUTS, and as many before (1000)")
    parser.add_argument("--reference", metavar="FILE", help="write NUTS's figures")
    args = parser.parse_args()
    from experiments.infer_minds_pymc import sample_minds

    evidence = people(args.people, args.seed)
    begun = time.process_time()
    mine = told(evidence, fit_minds(evidence, args.seed))
    middle = time.process_time()
    reference = told(evidence, fit := sample_minds(evidence, args.seed, args.draws, args.draws))
    print(
        f"{args.people} people: {middle - begun:.0f} s of processor time compiled, "
        f"{time.process_time() - middle:.0f} s by NUTS, {fit.divergences} divergences there\n"
    )
    print("| parameter | compiled: mean, sd | NUTS: mean, sd | apart, in sds |\n|---|---|---|---|")
    for name, (mean, sd) in reference.items():
        own = mine[name]
        print(f"| {name} | {own[0]:.3f}, {own[1]:.3f} | {mean:.3f}, {sd:.3f} | {(own[0] - mean) / sd:+.2f} |")
    if args.reference:
        document = {
            "people": args.people,
            "seed": args.seed,
            "draws": args.draws,
            "model_sha256": model_sha256(),
            "found": reference,
        }
        Path(args.reference).write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
