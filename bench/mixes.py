"""Whether the intervals of the engine `full` hold for each mix of evidence: `python -m bench.mixes`.

Sessions of the scenario `beliefs`, tool: a mode choice and a run a round, and besides them nothing (`choices`), a
question of what is expected (`probes`), a pair of outcomes (`comparisons`) or a rating of the run (`ratings`). By mix
the coverage of 90% intervals, rank p and the reliability of predictions are printed (docs/sbc.md).
"""

import argparse
import json
import os
from typing import Any

os.environ.setdefault("NUMBA_NUM_THREADS", "1")

from calib.scenario import load_scenario
from experiments.sbc import calibrate, document, make_task

USUAL, PER_SECOND = "information_gain", "per_second"
DEAR, CHEAP = 120, 0.5  # seconds of a question that `per_second` shall not ask, and of one that it shall
NO_PROBES = {"beliefs = true": "beliefs = false", "expect = 6\n": ""}
NO_RATINGS = {"ratings = true": "ratings = false", "rate = 4\n": ""}
DEAR_PAIRS = {"compare = 10": f"compare = {DEAR}"}
MIXES: dict[str, tuple[str, dict[str, str]]] = {  # policy, and what is written otherwise in the scenario
    "choices": (USUAL, NO_PROBES | NO_RATINGS | {"questions_per_round = 1": "questions_per_round = 0"}),
    "probes": (PER_SECOND, NO_RATINGS | DEAR_PAIRS | {"expect = 6": f"expect = {CHEAP}"}),
    "comparisons": (USUAL, NO_PROBES | NO_RATINGS),
    "ratings": (PER_SECOND, NO_PROBES | DEAR_PAIRS | {"rate = 4": f"rate = {CHEAP}"}),
}


def text_of(mix: str) -> str:
    """The scenario's text. ValueError where `beliefs` no longer says what is to be changed."""
    text = load_scenario("beliefs").text
    for was, becomes in MIXES[mix][1].items():
        if was not in text:
            raise ValueError(f'the scenario beliefs has no "{was}" any more')
        text = text.replace(was, becomes)
    return text


def measured(mix: str, people: int, seed: int, rounds: int, particles: int, jobs: int) -> dict[str, Any]:
    """The document of `calib sbc` for a mix."""
    task = make_task(
        f"beliefs, {mix}",
        text_of(mix),
        engine="full",
        people=people,
        seed=seed,
        role="tool",
        policy=MIXES[mix][0],
        max_rounds=rounds,
        particles=particles,
    )
    return document(task, calibrate(task, jobs, lambda _: None))


def told(mix: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    parameters = {p["name"]: p for p in found["parameters"]}
    weights = [parameters[name]["coverage_90"] for name in list(parameters)[:6]]
    every = [p["coverage_90"] for p in parameters.values()]
    choice, aligned = found["choice_ece_expected"]["mean"], found["aligned_ece_expected"]["mean"]
    cells = [
        f"{min(weights):.1%} to {max(weights):.1%}",
        f"{parameters['degree']['coverage_90']:.1%}",
        f"{min(every):.1%} to {max(every):.1%}",
        f"{found['rank_p_bonferroni']:.2g}",
        f"{found['choice_ece']:.4f} ({choice:.4f})",
        f"{found['aligned_ece']:.4f} ({aligned:.4f})",
    ]
    return f"| {mix} | {' | '.join(cells)} |"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--particles", type=int, default=512)
    parser.add_argument("--mix", default=",".join(MIXES), metavar="A,B", help=f"of {', '.join(MIXES)} (all)")
    parser.add_argument("--jobs", type=int, default=0, help="processes; changes no number (one a core)")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    mixes = args.mix.split(",")
    if unknown := sorted(set(mixes) - set(MIXES)):
        parser.error(f"--mix: {', '.join(unknown)}: choose {', '.join(MIXES)}")
    found = {}
    if not args.json:
        print(
            "| mix | weights | degree | all parameters | smallest rank p, Bonferroni | ECE answers | ECE P(aligned) |"
        )
        print("|---|---|---|---|---|---|---|")
    for mix in mixes:
        found[mix] = measured(
            mix, args.people, args.seed, args.rounds, args.particles, args.jobs or os.cpu_count() or 1
        )
        if not args.json:
            print(told(mix, found[mix]), flush=True)
    if args.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
