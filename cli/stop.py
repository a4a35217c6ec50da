"""Stop the robot now: of one run, or of every run on this machine."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from calib.registry import RunnerEntry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib stop`."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's id or its beginning; without it, every run")


def main(args: argparse.Namespace) -> int:
    """Ask each runner to stop its robot; where one does not answer, end it, and its bridge stops the robot."""
    import json
    from concurrent.futures import ThreadPoolExecutor

    from calib.registry import find_runner, runners

    chosen = [find_runner(args.run)] if args.run else runners()
    with ThreadPoolExecutor(max(len(chosen), 1)) as pool:  # at once: one that hangs must not keep the others moving
        hows = list(pool.map(_stop, chosen))
    results = [{"run": e.run, "device": e.device, "how": how} for e, how in zip(chosen, hows, strict=True)]
    if args.json:
        print(json.dumps({"stopped": results}))
    elif not results:
        print("no run is going on")
    else:
        for r in results:
            print(f"run {r['run']} on {r['device']}: {r['how']}")
    return 3 if any(how.startswith("NOT stopped") for how in hows) else 0


def _stop(entry: "RunnerEntry") -> str:
    from calib.control import ControlClient
    from calib.errors import UserError

    try:
        client = ControlClient(entry, timeout_s=2.0)
        client.request({"do": "stop"})
        client.close()
        return "stopped"
    except UserError:
        return _end(entry)


def _end(entry: "RunnerEntry") -> str:
    """End a runner that does not answer, and nobody else: the handle is of the very process that wrote the entry."""
    import os
    import select
    import signal

    from calib.registry import is_alive

    again = f"`calib resume {entry.run}` goes on"
    try:
        handle = os.pidfd_open(entry.pid)
    except ProcessLookupError:
        return f"its runner had ended; {again}"
    try:
        if not is_alive(entry):
            return f"its runner had ended; {again}"
        # A suspended process hears SIGTERM once it goes on.
        for numbers, patience_s in (((signal.SIGTERM, signal.SIGCONT), 5.0), ((signal.SIGKILL,), 2.0)):
            for number in numbers:
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience_s)[0]:
                return f"its runner did not answer and was ended; {again} if the record is open"
    except ProcessLookupError:
        return f"its runner had ended; {again}"
    except PermissionError:
        pass
    finally:
        os.close(handle)
    return f"NOT stopped: process {entry.pid} does not answer and cannot be ended; see to the robot"
