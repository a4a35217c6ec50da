"""Infer what people mean from choices in a file: weights of attributes, rationality, or a logit's coefficients."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib infer`."""
    add = parser.add_argument
    add(
        "file",
        metavar="FILE",
        help="CSV, a row an option: person, round, option, chosen, a column for each attribute; channel if you like",
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
    add("--population", metavar="FILE.toml", help="write the population that was fitted, as [population] of a scenario")
    add("--draws", type=int, metavar="N", help="draws of each chain that are kept (250; pymc 1000)")
    add("--seed", type=int, default=0, metavar="N", help="root of the sampler's chance (0)")
    add("--out", metavar="FILE.nc", help="the draws and the data as ArviZ InferenceData, netCDF")


def main(args: argparse.Namespace) -> int:
    """Print the posterior."""
    import json
    import sys

    from calib.errors import UserError
    from experiments.infer_file import infer

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

    found = infer(
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
    if args.json:
        print(json.dumps(found, allow_nan=False))
        return 0
    _show(found)
    return 0


def _show(found: dict[str, Any]) -> None:
    from cli._table import show

    d = found["diagnostics"]
    print(f"{d['choices']} choices of {d['people']} people, engine {found['engine']}, weights {found['weights']}\n")
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
