"""Runs one robot's emulator over a simulated home: `python -m devices.emulate roomba [--pty PATH|--tcp HOST:PORT]`.

It starts in the middle of a free room and runs until SIGTERM, paced by the wall clock; with --virtual the session's own
clock moves it, see firmware_bridge.transport.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devices.home.types import Context


def emulators() -> list[str]:
    """The robots that have an emulator: the files of firmware_bridge/emulators."""
    import firmware_bridge.emulators as folder

    return sorted(path.stem for path in Path(folder.__path__[0]).glob("*.py") if path.stem != "__init__")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `emulate`, said once for `python -m devices.emulate` and `calib devices emulate`."""
    parser.add_argument("device", choices=emulators(), help="the robot")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--pty", metavar="PATH", help="a link of this name to the pseudo-terminal (default: a new one)")
    where.add_argument("--tcp", metavar="HOST:PORT", help="a TCP port instead of a pty; port 0 takes a free one")
    parser.add_argument("--virtual", action="store_true", help="time moves only when the session asks (pty only)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="replicate of the room's dirt and slips")
    parser.add_argument("--owned", action="store_true", help=argparse.SUPPRESS)  # end when standard input ends
    parser.add_argument("--json", action="store_true", help="one line with device and address as soon as it answers")


def free_room() -> "Context":
    """A square room of 5 m without furniture, the robot in its middle."""
    from devices.home.types import Context, FloorPlan

    wall, floor = "#" * 52, "#" + "a" * 50 + "#"
    plan = FloorPlan(
        name="free room",
        cell_m=0.1,
        rows=(wall, *[floor] * 50, wall),
        rooms={"a": "room"},
        start_m=(2.6, 2.6),
        start_rad=0.0,
    )
    return Context(
        name="free room",
        plan=plan,
        dirt_g_m2=2.0,
        carpet_dirt_factor=2.0,
        hour=12,
        occupied=(),
        battery=1.0,
        sound_dba=((0, 45.0), (100, 70.0)),
        run_limit_s=3600.0,
        battery_floor=0.15,
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM. 0, or 2 after one line on what is wrong with the arguments."""
    if args.virtual and args.tcp:
        print("--virtual needs a pty: leave out --tcp", file=sys.stderr)
        return 2
    import importlib

    from firmware_bridge import ports
    from firmware_bridge.serve import Pty, Tcp, VirtualServer, serve_paced

    try:  # the port before the compiler, so that a mistake is told at once
        if args.tcp:
            host, _, port = args.tcp.rpartition(":")
            line: Pty | Tcp = Tcp(host or "127.0.0.1", int(port))
        else:
            line = Pty(str(Path(args.pty).absolute()) if args.pty else ports.new_path(args.device))
    except (OSError, ValueError) as problem:
        print(f"{args.tcp or args.pty} cannot be served: {problem}", file=sys.stderr)
        return 2

    from devices.home.plant import Home
    from devices.home.types import context_from_json
    from firmware_bridge.plant import Actuators
    from firmware_bridge.rover_build import CannotBuild

    def make_home(request: dict[str, Any]) -> Home:
        return Home(context_from_json(request["context"]), int(request["replicate"]))

    try:
        emulator = importlib.import_module(f"firmware_bridge.emulators.{args.device}").Emulator(args.seed)
    except CannotBuild as problem:
        line.close()
        print(problem, file=sys.stderr)
        return 2
    # Compiled before anybody is told: a paced robot must not stand still for its first second.
    warm = Home(free_room(), 0)
    warm.advance(0.015, Actuators(1, 1, 1, 1, 1))
    warm.scan(1)
    home = Home(free_room(), args.seed % 16)

    def ready() -> None:
        if args.json:
            print(json.dumps({"device": args.device, "address": line.address}), flush=True)
        else:
            print(f"{args.device} emulator at {line.address}; Ctrl-C ends it", file=sys.stderr, flush=True)

    owner = sys.stdin if args.owned else None
    if args.virtual:
        assert isinstance(line, Pty)
        VirtualServer(emulator, home, make_home, line).run(ready, owner)
    else:
        serve_paced(emulator, home, line, ready, owner)
    return 0


def main() -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(prog="python -m devices.emulate", description=__doc__)
    add_arguments(parser)
    try:
        return run(parser.parse_args())
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
