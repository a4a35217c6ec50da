"""Infer what people mean from choices in a file, or a population and its mental models from a journal's sessions."""

import argparse
from collections.abc import Callable
from typing import Any

COMPUTES = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib infer`."""
    add = parser.add_argument
    add(
        "file",
        nargs="?",
        metavar="FILE",
        help="CSV, a row an option: person, round, option, chosen, a column for each attribute; channel if you like",
    )
    add(
        "--journal",
        nargs="?",
        const="",
        metavar="URL",
        help="instead of FILE the sessions of a journal (default: as of `calib runs`), with --hierarchical",
    )
    add(
        "--where",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="only these runs of the journal, by their start documents: kind=human, rung=emulator, scenario=NAME",
    )
    add("--engine", choices=("live", "pymc"), default="live", help="compiled, or the reference by NUTS (live)")
    add(
        "--weights",
        choices=("simplex", "free"),
        default="simplex",
        help="weights that sum to 1, of attributes in 0..1 with 1 better; or coefficients of any columns (simplex)",
    )
    add("--pool", action="store_true", help="all rows as one person (default: each person alone)")
    add("--hierarchical", action="store_true", help="people of one population, which is learnt with them")
    add("--attributes", metavar="A,B", help="only these columns (default: every one that has no other meaning)")
    add("--prior", metavar="FILE.toml", help="a scenario, or what --population wrote: its [population] is the prior")
    add(
        "--population",
        metavar="FILE.toml",
        help="write the population that was fitted: the [population] of a scenario, with --journal a whole scenario",
    )
    add("--draws", type=int, metavar="N", help="draws of each chain that are kept (250; pymc 1000)")
    add("--seed", type=int, default=0, metavar="N", help="root of the sampler's chance (0)")
    add("--out", metavar="FILE.nc", help="the draws and the data as ArviZ InferenceData, netCDF")


def main(args: argparse.Namespace) -> int:
    """Print the posterior."""
    import json
    import sys

    from calib.errors import UserError

    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: give 0 or more")
    if args.draws is not None and not 100 <= args.draws <= 100_000:
        raise UserError(f"--draws {args.draws}: give 100 to 100000")
    shown = -1

    def progress(share: float) -> None:
        nonlocal shown
        if sys.stderr.isatty() and int(100 * share) > shown:
            shown = int(100 * share)
            print(f"\r{shown:3d}%" if shown < 100 else "\r    \r", end="", file=sys.stderr, flush=True)

    found = _of_file(args, progress) if args.journal is None else _of_journal(args, progress)
    if args.json:
        print(json.dumps(found, allow_nan=False))
        return 0
    _show(found)
    return 0


def _of_file(args: argparse.Namespace, progress: Callable[[float], None]) -> dict[str, Any]:
    from calib.errors import UserError
    from experiments.infer_file import infer

    if args.file is None:
        raise UserError("FILE is missing: name a CSV file with choices, or give --journal")
    if args.where:
        raise UserError("--where chooses runs of a journal: give it with --journal")
    return infer(
        args.file,
        engine=args.engine,
        weights=args.weights,
        pool=args.pool,
        hierarchical=args.hierarchical,
        prior=args.prior,
        population=args.population,
        wanted=[name.strip() for name in (args.attributes or "").split(",") if name.strip()],
        draws=args.draws,
        seed=args.seed,
        out=args.out,
        progress=progress,
    )


def _of_journal(args: argparse.Namespace, progress: Callable[[float], None]) -> dict[str, Any]:
    import os

    from calib.errors import UserError
    from cli._arguments import DEFAULT_JOURNAL, journal_url
    from experiments.infer_journal import infer_journal

    if args.file is not None:
        raise UserError(f"{args.file}: choices come from FILE or from --journal: leave one of them out")
    if not args.hierarchical:
        raise UserError("--journal takes people for a sample of one population: add --hierarchical")
    of_files = {"--pool": args.pool, "--attributes": args.attributes, "--out": args.out}
    for flag in [name for name, given in of_files.items() if given] + ["--weights free"] * (args.weights == "free"):
        raise UserError(f"{flag} is for choices in a FILE: leave it out with --journal")
    return infer_journal(
        journal_url(args.journal or os.environ.get("CALIB_JOURNAL") or DEFAULT_JOURNAL),
        where=args.where,
        engine=args.engine,
        prior=args.prior,
        draws=args.draws,
        seed=args.seed,
        population=args.population,
        progress=progress,
    )


def _show(found: dict[str, Any]) -> None:
    from cli._table import show

    d = found["diagnostics"]
    of = (
        f"answers of {d['people']} people in {d['sessions']} sessions"
        if "sessions" in d
        else f"choices of {d['people']} people"
    )
    print(f"{d['choices']} {of}, engine {found['engine']}, weights {found['weights']}\n")
    figures = ("mean", "sd", "q05", "q50", "q95")
    show(
        ("parameter", "mean", "sd", "5%", "50%", "95%"),
        [[p["name"], *(f"{p[name]:.4g}" for name in figures)] for p in found["parameters"]],
    )
    print(
        f"\n{d['chains']} chains of {d['draws']} draws: R-hat {d['r_hat']:.3f}, ESS {d['ess_bulk']:.0f} in the bulk, "
        f"{d['ess_tail']:.0f} in the tails, acceptance {d['acceptance']:.2f}, {d['divergences']} divergences"
    )
    for note in d["notes"]:
        print(f"note: {note}")
