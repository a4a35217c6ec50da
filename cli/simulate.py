"""Simulate many people headlessly: conditions crossed, Parquet parts with a manifest, resumable."""

import argparse

COMPUTES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib simulate`."""
    add = parser.add_argument
    add(
        "scenario", nargs="?", default="apartment", metavar="SCENARIO", help="a TOML file or a shipped name (apartment)"
    )
    add("--people", type=int, default=200, metavar="N", help="people in each condition (200)")
    add("--role", default="advisor", metavar="A,B", help="roles, crossed with the other lists (advisor)")
    add("--policy", default="information_gain", metavar="A,B", help="policies (information_gain)")
    add("--person", action="append", default=None, metavar="SPEC", help="a person model; again for more (rational)")
    add("--rounds", type=int, default=None, metavar="N", help="at most so many rounds (the scenario's)")
    add("--until", default="max_rounds", metavar="RULE", help="max_rounds, accepted or declared (max_rounds)")
    add("--engine", default=None, metavar="NAME", help="what the machine believes and from what (the scenario's)")
    add("--particles", type=int, default=None, metavar="N", help="of each belief (the engine's, or the scenario's)")
    add("--seed", type=int, default=0, metavar="N", help="root of every random stream (0)")
    add("--jobs", type=int, default=0, metavar="J", help="processes (one a core)")
    add("--scheduler", default=None, metavar="ADDRESS", help="of a Dask cluster, instead of processes here")
    add("--chunk", type=int, default=None, metavar="N", help="people in a part; changes no number (the engine's)")
    add(
        "--out",
        default=None,
        metavar="DIR",
        help="where the parts go; what is there already is kept (out/SCENARIO-SEED)",
    )


def main(args: argparse.Namespace) -> int:
    """Simulate what is missing and print what there is."""
    import json
    import os
    import sys
    import time
    from pathlib import Path

    from calib.errors import UserError
    from calib.scenario import load_scenario
    from calib.setup import usual_engine
    from experiments.honesty_report import of_population
    from experiments.parts import make_plan, usual_chunk
    from experiments.population import simulate_population

    if args.jobs < 0:
        raise UserError(f"--jobs: {args.jobs} is no number of processes; give 1 or more, or 0 for one a core")
    if args.jobs and args.scheduler is not None:
        raise UserError("--jobs counts processes here and --scheduler names a cluster: give one of them")
    scenario = load_scenario(args.scenario)
    engine = args.engine or usual_engine(scenario)
    plan = make_plan(
        scenario.file,
        scenario.text,
        roles=args.role.split(","),
        policies=args.policy.split(","),
        people_specs=args.person or ["rational"],
        people=args.people,
        seed=args.seed,
        max_rounds=args.rounds,
        stop_rule=args.until,
        engine=engine,
        particles=args.particles,
        chunk=usual_chunk(engine) if args.chunk is None else args.chunk,
    )
    out = Path(args.out or f"out/{scenario.name}-{args.seed}")
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    total = args.people * len(plan.conditions)
    columns = (TextColumn("people"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    ran: list[int] = []  # person-rounds of the parts that were computed now
    begun = time.perf_counter()
    with Progress(*columns, console=Console(file=sys.stderr), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("people", total=total)
        jobs = args.jobs or os.cpu_count() or 1
        manifest = simulate_population(
            plan, out, jobs, lambda people: bar.advance(task, people), scheduler=args.scheduler, ran=ran.append
        )
    seconds = time.perf_counter() - begun
    found = {
        "people": args.people,
        "rounds_per_s": sum(ran) / seconds,
        "parts": len(manifest["parts"]),
        "rows": manifest["rows"],
        "data_sha256": manifest["data_sha256"],
        "out": str(out),
        "honesty": of_population(out, manifest),
    }
    if args.json:
        print(json.dumps(found))
    else:
        print(f"{found['rows']} rows in {found['parts']} parts in {out}, data {found['data_sha256'][:12]}")
        for c in found["honesty"]:
            print(
                f"  {c['role']}, {c['policy']}, {c['person_model']}: predicted better than without learning by "
                f"{c['gain']['mean']:+.1f} ± {c['gain']['se']:.1f} nats; no intent explains {c['alarms']} of "
                f"{c['people']} (at most {c['false_alarm_rate_at_most']:.0%} of people as modelled)"
            )
    return 0
