"""List ports and robots, run a robot's emulator, write down what goes over a wire."""

import argparse
from collections.abc import Iterator
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib devices list|emulate|record|selftest|calibrate`."""
    from cli._calibrate import add_arguments as add_calibrate_arguments
    from devices.emulate import add_arguments as add_emulate_arguments

    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    listed = actions.add_parser("list", help="serial ports, emulators that run now, robots under Valetudo")
    listed.add_argument(
        "--valetudo",
        metavar="URL",
        action="append",
        default=[],
        help="http://HOST of a robot to ask who it is; may be repeated (those of CALIB_VALETUDO, with commas between)",
    )
    add_emulate_arguments(actions.add_parser("emulate", help="a robot's bytes on a pty or a TCP port, until SIGTERM"))
    record = actions.add_parser(
        "record", help="raw traffic of a port to a file, by listening or between it and a client"
    )
    add = record.add_argument
    add("address", metavar="ADDRESS", help="a port: /dev/ttyUSB0, socket://HOST:PORT, fault://flip=0.001/ADDRESS, ...")
    add("--out", metavar="FILE", help="a new file (ADDRESS's last name and the time, .traffic)")
    add("--seconds", type=float, metavar="S", help="so long (until Ctrl-C)")
    client = record.add_mutually_exclusive_group()
    client.add_argument("--pty", metavar="PATH", help="a client may speak to the robot through a pty of this name")
    client.add_argument("--tcp", metavar="HOST:PORT", help="or through a TCP port; port 0 takes a free one")
    selftest = actions.add_parser(
        "selftest", help="modes taken, stop latency, dead man, coverage floor: the robot moves"
    )
    selftest.add_argument("spec", metavar="SPEC", help="simvac, roomba:emulator, roomba:/dev/ttyUSB0, ...")
    selftest.add_argument("--scenario", default="arena", help="whose first context and modes are tried (arena)")
    selftest.add_argument(
        "--floor", type=float, metavar="PERCENT", help="to be covered at least (the scenario's, or 40)"
    )
    selftest.add_argument("--move", action="store_true", help="a real robot may move: somebody stands beside it")
    add_calibrate_arguments(
        actions.add_parser("calibrate", help="the outcome map of each mode from measured runs: the robot moves")
    )
    client.add_argument("--read", action="store_true", help="print the records of the log at ADDRESS instead")


def main(args: argparse.Namespace) -> int:
    """Do what `args.action` says."""
    if args.action == "list":
        return _list(args)
    if args.action == "record":
        return _read(args) if args.read else _record(args)
    if args.action == "selftest":
        return _selftest(args)
    if args.action == "calibrate":
        from cli import _calibrate

        return _calibrate.main(args)
    from devices.emulate import run

    return run(args)


def _list(args: argparse.Namespace) -> int:
    import json

    from devices.catalog import device_names
    from firmware_bridge import ports

    asked = _valetudo_urls(args.valetudo)
    rows = [
        {
            "address": port.device,
            "kind": "serial",
            # None for a port that is no USB device.
            "usb": f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else None,
            "serial_number": port.serial_number,
            "description": port.description,
        }
        for port in _serial_ports()
    ]
    rows += [
        {
            "address": record["address"],
            "kind": "emulator",
            "usb": None,
            "serial_number": None,
            "description": f"{record['device']}, {_pace(record['virtual'])}, process {record['pid']}",
        }
        for record in ports.running()
    ]
    rows += [
        {"address": url, "kind": "valetudo", "usb": None, "serial_number": None, "description": ""} for url in asked
    ]
    _look_at_valetudos(rows)
    if args.json:
        print(json.dumps({"robots": device_names(), "ports": rows}))
        return 0
    print(f"robots: {', '.join(device_names())}")
    if not rows:
        print("no serial ports and no emulators: plug a robot in, or `calib devices emulate roomba`")
        print("robots in the network are asked by address: `calib devices list --valetudo http://HOST`")
        return 0
    from cli._table import show

    columns = ("address", "kind", "usb", "serial_number", "description")
    show(columns, [[row[name] for name in columns] for row in rows])
    return 0


def _valetudo_urls(given: list[str]) -> list[str]:
    """The addresses to ask: those given, or the environment's."""
    import os
    from urllib.parse import urlsplit

    from calib.errors import UserError

    urls = given or [url.strip() for url in os.environ.get("CALIB_VALETUDO", "").split(",") if url.strip()]
    for url in urls:
        try:
            fits = url.startswith("http://") and bool(urlsplit(url).hostname) and (urlsplit(url).port or 80) > 0
        except ValueError:  # a port that is no number
            fits = False
        if not fits:
            raise UserError(
                f"--valetudo: {url!r:.80} is no http://HOST[:PORT]; give the address of the robot's Valetudo"
            )
    return urls


def _look_at_valetudos(rows: list[dict[str, Any]]) -> None:
    """All at once: each has a second."""
    from concurrent.futures import ThreadPoolExecutor

    from firmware_bridge.valetudo_look import look, port_of

    known = [row for row in rows if row["kind"] == "valetudo" or str(row["description"]).startswith("valetudo,")]
    ports = sorted({port_of(row["address"]) for row in known})  # an emulator may be named by its URL too
    with ThreadPoolExecutor(max(1, len(ports))) as pool:
        seen = dict(zip(ports, pool.map(look, ports), strict=True))
    for row in known:
        found = seen[port_of(row["address"])]
        row["serial_number"] = found.get("serial_number") or None
        row["description"] = ": ".join(filter(None, (row["description"], found["description"])))


def _record(args: argparse.Namespace) -> int:
    import json
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    from calib.errors import UserError
    from devices.device import LinkLost, Refused
    from firmware_bridge import ports
    from firmware_bridge.relay import relay
    from firmware_bridge.serve import Pty, Tcp

    name = args.address.rstrip("/").rpartition("/")[2].replace(":", "-") or "port"
    path = Path(args.out or f"{name}-{time.strftime('%Y%m%dT%H%M%S')}.traffic")
    if path.exists():
        raise UserError(f"--out: {path} is there already; give a new file")
    line: Pty | Tcp | None = None
    try:
        if args.tcp:
            host, _, port = args.tcp.rpartition(":")
            line = Tcp(host or "127.0.0.1", int(port))
        elif args.pty:
            line = Pty(str(Path(args.pty).absolute()))
    except (OSError, ValueError) as problem:
        raise UserError(f"{args.tcp or args.pty} cannot be served: {problem}") from None
    over: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: over.append(number))

    def ready() -> None:
        client = f"; a client may connect to {line.address}" if line is not None else ""
        print(f"recording {args.address} to {path}{client}; Ctrl-C ends it", file=sys.stderr, flush=True)

    try:
        carried = relay(args.address, os.getpid(), path, line, args.seconds, ready, lambda: bool(over))
    except ports.PortBusy as problem:
        raise Refused(str(problem)) from None
    except ports.LinkDown as problem:
        raise LinkLost(str(problem)) from None
    except OSError as problem:
        raise UserError(f"--out: {path} cannot be written: {problem.strerror}") from None
    if args.json:
        print(json.dumps({"address": args.address, "file": str(path), **carried._asdict()}))
    else:
        print(f"{carried.seconds:.1f} s, {carried.to_robot} bytes to the robot, {carried.from_robot} from it: {path}")
    return 0


class _NowMoving:
    """The robot that the selftest moves now; it opens one after the other."""

    device: Any = None

    def is_now(self, device: Any) -> None:
        self.device = device

    def stop(self) -> None:
        if self.device is not None:
            self.device.stop()

    def close(self) -> None:
        if self.device is not None:
            self.device.close()


def _selftest(args: argparse.Namespace) -> int:
    import json
    import os

    from calib.errors import UserError
    from calib.scenario import load_scenario
    from calib.stoppable import stoppable
    from cli._stop_check import calib_stop
    from devices.catalog import make_device
    from devices.selftest import Check, document, selftest

    scenario = load_scenario(args.scenario)
    try:
        rung = make_device(args.spec).rung
    except ValueError as problem:
        raise UserError(str(problem)) from None
    if rung == "hardware" and not args.move:
        raise UserError(
            f"{args.spec} is a real robot, which the selftest moves: clear the floor, stand by it, say --move"
        )
    context = scenario.contexts[0]
    own = [f.limit for f in scenario.floors if f.limit.attribute == "coverage" and context.name in f.limit.contexts]
    floor = max((limit.at_least for limit in own), default=40.0) if args.floor is None else args.floor
    found: list[Check] = []
    robot = _NowMoving()

    def checks() -> "Iterator[Check]":
        yield from selftest(args.spec, context, [m.settings for m in scenario.modes], floor, robot.is_now)
        yield calib_stop(args.spec, rung, args.scenario)

    with stoppable(robot, f"selftest-{os.getpid()}", args.spec, "selftest", interrupts=True):
        for check in checks():
            found.append(check)
            if not args.json:
                print(_told(check), flush=True)
    if args.json:
        print(json.dumps(document(args.spec, rung, found)))
    return 3 if any(check.passed is False for check in found) else 0


def _told(check: Any) -> str:
    verdict = {True: "passed", False: "FAILED", None: "not tried"}[check.passed]
    measured = "" if check.measured is None else f"{check.measured:.3g} {check.unit}"
    limit = "" if check.limit is None else f" (limit {check.limit:g})"
    return f"{verdict:9}  {check.name:15} {measured}{limit}" + (f"  {check.why}" if check.why else "")


def _read(args: argparse.Namespace) -> int:
    import json
    from pathlib import Path

    from calib.errors import UserError
    from firmware_bridge.traffic import read_log

    try:
        about, records = read_log(Path(args.address))
    except (OSError, ValueError) as problem:
        raise UserError(getattr(problem, "strerror", None) or str(problem)) from None
    rows = [
        {
            "kind": r.kind.decode(errors="replace"),
            "now_s": r.now_s,
            "asked": r.asked.hex(),
            "answered": r.answered.hex(),
        }
        for r in records
    ]
    if args.json:
        print(json.dumps({"about": about, "records": rows}))
        return 0
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    for row in rows:
        print(f"{row['now_s']:14.6f} {row['kind']} > {row['asked'] or '-'} < {row['answered'] or '-'}")
    return 0


def _pace(virtual: bool) -> str:
    return "in virtual time" if virtual else "paced by the wall clock"


def _serial_ports() -> list[Any]:
    from serial.tools.list_ports import comports

    return sorted(comports())
