"""Rules that declare a person aligned, side by side: `python -m bench.declaring`.

The same simulated people under one engine, watched to the last round; of each rule how often it declares, when, and how
often it is wrong. `--person` takes people who are not as the belief assumes: `lapsing`, `rational,rationality=2.5`.
"""

import argparse
import json

from calib.scenario import load_scenario
from calib.setup import make_setup
from cli._table import show
from experiments.declaring import compared


def main() -> None:
    """The table, or with --json the same as a document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scenario", nargs="?", default="apartment")
    parser.add_argument("--engine", default="bulk")
    parser.add_argument("--policy", default="information_gain")
    parser.add_argument("--person", action="append", default=None, metavar="SPEC")
    parser.add_argument("--people", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--particles", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    setup = make_setup(
        load_scenario(args.scenario),
        policy=args.policy,
        engine=args.engine,
        max_rounds=args.rounds,
        seed=args.seed,
        num_particles=args.particles,
    )
    found = {spec: compared(setup, spec, args.people) for spec in args.person or ["rational"]}
    if args.json:
        print(json.dumps({"engine": setup.engine_label, "people": args.people, "persons": found}))
        return
    print(
        f"{setup.scenario.name}, advisor, engine {setup.engine_label}, policy {args.policy}, {args.people} people each"
    )
    for spec, judged in found.items():
        print()
        lines = []
        for r in judged:
            share, at, wrong = f"{r['declarations'] / r['people']:.3f}", r["median_round"], ["", ""]
            if at is not None:
                wrong = [f"{r['false_declaration_rate']:.3f}", f"{r['low']:.3f} to {r['high']:.3f}"]
            lines.append([f"{r['rule']} {r['parameter']:g}", share, "" if at is None else f"{at:g}", *wrong])
        show((spec, "declared", "median round", "false", "95% interval"), lines)


if __name__ == "__main__":
    main()
