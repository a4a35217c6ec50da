"""Calibrate an engine on simulated people: ranks of the truth, coverage of intervals, reliability of predictions."""

import argparse
from typing import Any

COMPUTES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib sbc`."""
    add = parser.add_argument
    add(
        "scenario", nargs="?", default="apartment", metavar="SCENARIO", help="a TOML file or a shipped name (apartment)"
    )
    add("--people", type=int, default=None, metavar="N", help="people drawn from the engine's prior (1000; pymc 100)")
    add("--seed", type=int, default=0, metavar="N", help="root of every random stream (0)")
    add("--engine", default=None, metavar="NAME", help="an engine that infers, or pymc: NUTS (the scenario's)")
    add("--role", default="advisor", metavar="NAME", help="tool or advisor (advisor)")
    add("--policy", default="information_gain", metavar="NAME", help="which questions are asked (information_gain)")
    add("--rounds", type=int, default=None, metavar="N", help="after which the posterior is looked at (the scenario's)")
    add("--particles", type=int, default=None, metavar="N", help="of each belief (the engine's, or the scenario's)")
    add("--jobs", type=int, default=0, metavar="J", help="processes; changes no number (one a core)")
    add("--out", default=None, metavar="DIR", help="also the ranks as CSV, the document, and figures as SVG")


def main(args: argparse.Namespace) -> int:
    """Print how calibrated the engine is."""
    import json
    import os
    import sys
    import time
    from pathlib import Path

    from calib.errors import UserError
    from calib.scenario import load_scenario
    from calib.setup import usual_engine
    from experiments.sbc import NUTS, calibrate, document, make_task

    if args.jobs < 0:
        raise UserError(f"--jobs: {args.jobs} is no number of processes; give 1 or more, or 0 for one a core")
    scenario = load_scenario(args.scenario)
    task = make_task(
        scenario.file,
        scenario.text,
        engine=args.engine or usual_engine(scenario),
        people=(100 if args.engine == NUTS else 1000) if args.people is None else args.people,
        seed=args.seed,
        role=args.role,
        policy=args.policy,
        max_rounds=args.rounds,
        particles=args.particles,
    )
    out = None if args.out is None else Path(args.out)
    if out is not None:
        from experiments.sbc_report import claim

        claim(out)
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("people"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    begun = time.perf_counter()
    with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
        shown = bar.add_task("people", total=task.plan.people)
        found = calibrate(task, args.jobs or os.cpu_count() or 1, lambda people: bar.advance(shown, people))
    body = document(task, found) | {"seconds": time.perf_counter() - begun}
    if out is not None:
        from experiments.sbc_report import write_report

        body["out"] = str(out)
        write_report(out, body, found)
    if args.json:
        print(json.dumps(body, allow_nan=False))
    else:
        _show(body)
    return 0


def _show(d: dict[str, Any]) -> None:
    from cli._table import show

    people, num = d["people"], len(d["parameters"])
    kind = "" if d["particles"] is None else f" with {d['particles']} particles"
    print(
        f"engine {d['engine']}{kind}: {people} people of {d['scenario']}, role {d['role']}, policy {d['policy']}, "
        f"after {d['rounds']} rounds, seed {d['seed']}, {d['seconds']:.0f} s\n"
    )
    rows = [[p["name"], f"{p['coverage_90']:.1%}", f"{p['rank_p']:.3f}"] for p in d["parameters"]]
    show(("parameter", "in its 90% interval", "rank p"), rows)
    noise = 1.645 * (0.09 / people) ** 0.5
    print(f"\nintervals: 90% is expected, give or take {noise:.1%} by chance with {people} people (nine times in ten)")
    print(
        f"ranks: among {d['draws']} draws, chi-square over {d['rank_bins']} bins. The smallest of {num} p-values times "
        f"{num} (Bonferroni): {d['rank_p_bonferroni']:.3f}" + (" !" if d["rank_p_bonferroni"] < 0.01 else "")
    )
    for name, what in (("choice", "predicted answers"), ("aligned", "P(aligned)")):
        if d[f"{name}_ece"] is None:
            print(f"reliability of {what}: this engine predicts none")
            continue
        e = d[f"{name}_ece_expected"]
        print(
            f"reliability of {what}: ECE {d[f'{name}_ece']:.4f}; a perfect forecaster has {e['mean']:.4f} "
            f"[{e['low']:.4f}, {e['high']:.4f}]"
        )
    if d["diagnostics"]:
        g = d["diagnostics"]
        print(
            f"chains: smallest ESS {g['smallest_ess']:.0f}, largest R-hat {g['largest_r_hat']:.3f}, "
            f"{g['divergences']} divergences, {d['seconds'] / people:.1f} s a person"
        )
    if "out" in d:
        print(f"ranks and figures are in {d['out']}")
