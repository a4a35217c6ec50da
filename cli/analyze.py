"""Analyse times to alignment: cumulative incidence, restricted means, their differences, log-rank, Cox, Fine-Gray."""

import argparse
from typing import Any

NAMES = {"1": "aligned", "2": "gave up", "3": "device failure", "0": "censored"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib analyze`."""
    add = parser.add_argument
    add("path", metavar="PATH", help="a journal (URL or file), a folder of `calib simulate`, or a CSV file")
    add(
        "--time",
        metavar="COL",
        help="column of the time; of the lab's own data also a clock, attention_s (default: rounds)",
    )
    add(
        "--event",
        metavar="COL",
        help="column of the event: 1 aligned, 2 gave up, 3 device failure, 0 administrative end",
    )
    add("--group", metavar="COL", help="compare by this column, or several: A,B (default: the conditions that vary)")
    add("--covariates", metavar="A,B", help="columns of the Cox and Fine-Gray models; words become one term each")
    add("--version", choices=("true", "declared", "accepted", "verified"), help="which time to alignment")
    add("--tau", type=float, metavar="T", help="restrict means to T (default: the smallest last time over the groups)")
    add(
        "--ties",
        choices=("efron", "breslow"),
        default="efron",
        help="tied times in the Cox model (default: %(default)s)",
    )
    add(
        "--where",
        action="append",
        default=[],
        metavar="COL=VALUE",
        help="only these rows; also COL!=VALUE; repeat for more",
    )
    add("--details", action="store_true", help="also the degree by round and the six gaps of each group")
    add("--mix-kinds", action="store_true", help="analyse human, pilot and simulated people together")
    add("--mix-scenarios", action="store_true", help="analyse sessions of different scenarios together")


def main(args: argparse.Namespace) -> int:
    """Print the analysis."""
    import json

    from experiments.analysis import Question, analyse
    from experiments.analysis_data import read_table

    question = Question(
        time=args.time,
        event=args.event,
        group=_names(args.group) if args.group is not None else None,
        covariates=_names(args.covariates or ""),
        version=args.version,
        tau=args.tau,
        ties=args.ties,
        where=tuple(args.where),
        mix_kinds=args.mix_kinds,
        mix_scenarios=args.mix_scenarios,
    )
    found = analyse(read_table(args.path, args.details), question)
    if args.json:
        print(json.dumps(found, allow_nan=False))
        return 0
    _show(found)
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _show(found: dict[str, Any]) -> None:
    from cli._table import show

    version = f"{found['version']} " if found["version"] else ""
    print(f"{found['n']} people, {version}time to alignment in column {found['time']} of {found['source']}\n")
    codes = [code for code in ("1", "2", "3") if found["events"][code] or code == "1"]
    codes += [code for code in found["events"] if code not in NAMES] + ["0"]
    tau = found["groups"][0]["rmst"]["tau"]
    declared = any(g["declarations"] is not None for g in found["groups"])
    rows: list[list[object]] = []
    for g in found["groups"]:
        rate = None if g["false_declaration_rate"] is None else f"{g['false_declaration_rate']:.3f}"
        counts = [g["events"].get(code, 0) for code in codes]
        rows.append(
            [g["name"], g["n"], *counts, _round(g["median"]), *_estimate(g["rmst"]), *([rate] if declared else [])]
        )
    shown = [NAMES.get(code, f"event {code}") for code in codes]
    show(
        ("group", "n", *shown, "median", f"mean to {tau:g}", "se", "95% interval", "false declarations")[
            : len(rows[0])
        ],
        rows,
    )
    if found["contrasts"]:
        print()
        differences = [[f"{c['a']} - {c['b']}", *_estimate(c["rmst_difference"])] for c in found["contrasts"]]
        show(("difference of means", "estimate", "se", "95% interval"), differences)
    for name, model in (("Cox, of the hazard", "cox"), ("Fine-Gray, of the incidence", "fine_gray")):
        if found[model]:
            print()
            terms = [
                [c["term"], _round(c["coef"]), _round(c["se"]), _round(c["hazard_ratio"]), _p(c["p"])]
                for c in found[model]
            ]
            show((f"{name} ({found[model][0]['ties']} ties)", "coefficient", "se", "hazard ratio", "p"), terms)
    if "gaps" in found["groups"][0]:
        _show_details(found["groups"])
    print()
    if found["logrank"]:
        test = found["logrank"]
        print(f"log-rank: chi2 {test['chi2']:.2f}, df {test['df']}, p {_p(test['p'])}")
    for note in found["notes"]:
        print(f"note: {note}")
    print(_not_shown(found))


def _show_details(groups: list[dict[str, Any]]) -> None:
    from cli._table import show

    for kind in ("true", "estimated"):
        degrees = [
            [g["name"], r["round"], r["n"], *(f"{r[name]:.3f}" for name in ("median", "low", "high"))]
            for g in groups
            for r in (g["degree"] or {}).get(kind) or ()
        ]
        if degrees:
            print()
            show(("group", "round", "n", f"median {kind} degree", "5%", "95%"), degrees)
    gaps = [
        [g["name"], name.replace("_", " "), *(("no evidence", None, None) if gap is None else _estimate(gap))]
        for g in groups
        for name, gap in (g["gaps"] or {}).items()
    ]
    if gaps:
        print()
        show(("group", "gap", "mean", "se", "95% interval"), gaps)


def _not_shown(found: dict[str, Any]) -> str:
    parts = ["who leaves unaligned counts as not aligned to the end of the mean"]
    if any(c["shared_people"] for c in found["contrasts"]):
        parts.append("log-rank and Cox take people who are in two groups for different people")
    if len(found["contrasts"]) > 1:
        parts.append("intervals and tests are not adjusted for their number")
    return f"Not shown: what happened after the first alignment; {'; '.join(parts)}."


def _estimate(value: dict[str, Any]) -> list[str | None]:
    interval = None if value["low"] is None else f"{_round(value['low'])} to {_round(value['high'])}"
    return [_round(value["estimate"]), _round(value["se"]), interval]


def _round(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _p(value: float | None) -> str | None:
    return None if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"
