"""`calib devices calibrate`: what the modes of a scenario do on a robot, measured, as a scenario with that map."""

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib devices calibrate`."""
    add = parser.add_argument
    add("spec", metavar="SPEC", help="roomba:emulator, roomba:/dev/ttyUSB0, simvac, ...")
    add("--scenario", default="arena", help="whose modes and contexts are measured (arena)")
    add("--mode", action="append", default=[], metavar="NAME", help="this mode, may be repeated (all)")
    add("--context", action="append", default=[], metavar="NAME", help="this context, may be repeated (all)")
    add("--runs", type=int, default=3, metavar="N", help="of each mode in each context (3)")
    add("--records", metavar="FILE", help="what was measured, to go on with (SCENARIO-ROBOT.calibration.jsonl)")
    add("--out", metavar="FILE", help="the scenario with the measured map (SCENARIO-ROBOT.toml)")
    add(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of instruments and replicates that are simulated (0)",
    )
    add("--cells", action="store_true", help="print every mode and context, not the attributes alone")
    add("--fit", action="store_true", help="only work out what is on record; the robot is not opened")
    add("--move", action="store_true", help="a real robot may move: somebody stands beside it")


def main(args: argparse.Namespace) -> int:
    """Measure what is missing, work out the map, say how far the scenario's was off."""
    import contextlib

    from calib.errors import UserError
    from calib.provenance import code_sha256
    from calib.scenario import load_scenario
    from cli._session import device_of
    from experiments.calibrate import Records, missing

    scenario = load_scenario(args.scenario)
    device = device_of(args.spec)
    modes = _chosen("mode", args.mode, scenario.modes)
    contexts = _chosen("context", args.context, scenario.contexts)
    if not 1 <= args.runs <= 100:
        raise UserError(f"--runs: {args.runs} is not in 1 to 100")
    if args.seed < 0:
        raise UserError(f"--seed: {args.seed} is negative; give 0 or more")
    robot = args.spec.partition(":")[0]
    out = Path(args.out or f"{scenario.name}-{robot}.toml")
    _refuse_to_lose(out, Path(scenario.file))
    path = Path(args.records or f"{scenario.name}-{robot}.calibration.jsonl")
    if args.fit and not path.exists():
        raise UserError(f"--records: {path} is not there, and --fit only works out what is on record")
    somebody = None if args.fit else _somebody(args, device)
    head = {"device": robot, "rung": device.rung, "scenario": scenario.name, "scenario_hash": scenario.hash}
    head |= {"spec": args.spec, "code_sha256": code_sha256()}
    with contextlib.closing(Records(path, head)) as records:
        if somebody is not None:
            todo = list(missing(modes, contexts, args.runs, records.records))
            if todo and not _measure(args, device, todo, records, somebody):
                return 130
        document = _worked_out(scenario, device, records, out)
    if args.json:
        import json

        print(json.dumps(document))
    else:
        _tell(document, args.cells)
    return 0


def _measure(args: argparse.Namespace, device: Any, todo: list[Any], records: Any, somebody: Any) -> bool:
    """The runs that are to do; False where somebody stopped the robot."""
    import os
    import sys

    from calib.stoppable import stoppable
    from experiments.calibrate import Stopped, measure

    def tell(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with stoppable(device, f"calibration-{os.getpid()}", args.spec) as stopped:
        try:
            measure(device, todo, records, somebody, args.seed, stopped, tell)
        except Stopped:
            tell(f"stopped; {records.path} keeps what was measured, and the same command goes on")
            return False
    return True


def _worked_out(scenario: Any, device: Any, records: Any, out: Path) -> dict[str, Any]:
    """What the records say, with the scenario that has this map written to `out`."""
    from calib.calibration import cells_of, differences, floors_missed
    from calib.errors import UserError
    from calib.outcomes import outcome_map, plant_map
    from calib.scenario import load_scenario_text
    from experiments.calibrate import fitted_text

    table = outcome_map(scenario)
    cells = cells_of(scenario, table.z, plant_map(scenario).z, records.records)
    if not cells:
        raise UserError(f"--records: {records.path} holds no run that counts; measure some, without --fit")
    found = differences(scenario, table.z, cells)
    text = fitted_text(scenario, device.name, device.rung, records.sha256, cells)
    fitted = load_scenario_text(text, str(out))
    new = outcome_map(fitted)
    temporary = out.with_name(out.name + ".new")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(out)
    except OSError as problem:
        raise UserError(f"--out: {out} cannot be written ({problem.strerror}); give another file") from None
    return {
        "device": device.name,
        "rung": device.rung,
        "scenario": scenario.name,
        "scenario_hash": scenario.hash,
        "runs": sum(r["type"] == "run" for r in records.records),
        "records": str(records.path),
        "cells": [_row(d) for d in found if d.mode is not None],
        "attributes": [_row(d) for d in found if d.mode is None],
        "modelled": [a.name for a in scenario.attributes if a.name not in {c.attribute for c in cells}],
        "floors_missed": floors_missed(fitted, new.z),
        "out": str(out),
        "fitted_scenario_hash": fitted.hash,
        "map_sha256": new.sha256,
    }


def _chosen(what: str, names: list[str], known: Any) -> list[Any]:
    from calib.errors import UserError

    by_name = {each.name: each for each in known}
    for name in names:
        if name not in by_name:
            raise UserError(f"--{what}: {name} is no {what} of this scenario; choose of {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(names)] or list(known)


def _refuse_to_lose(out: Path, scenario: Path) -> None:
    """Only an earlier map of our own is written over, and never the scenario that it is compared with."""
    from calib.errors import UserError
    from calib.scenario import load_scenario

    if not out.exists():
        return
    try:
        own = load_scenario(str(out)).fitted is not None
    except UserError:
        own = False
    if not own or (scenario.exists() and out.samefile(scenario)):
        raise UserError(f"--out: {out} is there and would be lost; give a new file")


def _somebody(args: argparse.Namespace, device: Any) -> Any:
    """Who weighs and meters."""
    import sys

    from calib.errors import UserError
    from experiments.calibrate import AtTerminal, Nobody, Simulated
    from firmware_bridge.transport import is_virtual, split_address

    address = args.spec.partition(":")[2]
    if device.rung == "simulator" or split_address(address)[1] == "emulator" or is_virtual(address):
        return Simulated(device, args.seed)
    if device.rung == "hardware":
        if not args.move:
            raise UserError(f"{args.spec} is a real robot, which this moves: clear the floor, stand by it, say --move")
        if not sys.stdin.isatty():
            raise UserError(f"{args.spec} is a real robot: somebody has to spread dust and start runs at a terminal")
    if sys.stdin.isatty():
        return AtTerminal(_ask, lambda text: print(text, file=sys.stderr, flush=True))
    print("no terminal: nobody weighs or meters, dirt and sound stay modelled", file=sys.stderr)
    return Nobody()


def _ask(question: str) -> str:
    import sys

    print(question, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise KeyboardInterrupt
    return line


def _row(difference: Any) -> dict[str, Any]:
    return {**vars(difference), "off": difference.is_off}


def _tell(document: dict[str, Any], cells: bool) -> None:
    from calib.calibration import map_notes
    from cli._table import show

    def number(value: float) -> str:
        return f"{value:.{3 if abs(value) < 10 else 1}f}"

    def figures(row: dict[str, Any]) -> list[str]:
        off = f"{number(row['difference'])} [{number(row['low'])}, {number(row['high'])}]{' off' * row['off']}"
        return [str(row["runs"]), row["source"], number(row["map"]), number(row["measured"]), off]

    columns = ("runs", "source", "map", "measured", "difference [95%]")
    if cells:
        names = ("mode", "context", "attribute")
        show((*names, *columns), [[*(row[name] for name in names), *figures(row)] for row in document["cells"]])
    whole = [[row["attribute"], row["unit"], *figures(row)] for row in document["attributes"]]
    show(("attribute", "unit", *columns), whole)
    off = sum(row["off"] for row in document["cells"])
    print(f"{off} of {len(document['cells'])} cells off at 95%; one in twenty is by chance")
    if document["modelled"]:
        print(f"nobody measured {', '.join(document['modelled'])}: modelled as before")
    for note in map_notes(document):
        print(note)
    print(f"{document['out']}: the scenario with this map; `calib run {document['out']}` uses it")
