"""Stop the robot now: of one run, or of every run on this machine."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib stop`."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's id or its beginning; without it, every run")


def main(args: argparse.Namespace) -> int:
    """Ask each runner to stop its robot; where one does not answer, end it, and its bridge stops the robot."""
    import contextlib
    import json
    import os
    import signal

    from calib.control import ControlClient
    from calib.errors import UserError
    from calib.registry import find_runner, runners

    chosen = [find_runner(args.run)] if args.run else runners()
    results = []
    for entry in chosen:
        try:
            client = ControlClient(entry, timeout_s=2.0)
            client.request({"do": "stop"})
            client.close()
            how = "stopped"
        except UserError as error:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(entry.pid, signal.SIGTERM)
            how = f"signalled ({error})"
        results.append({"run": entry.run, "device": entry.device, "how": how})
    if args.json:
        print(json.dumps({"stopped": results}))
    elif not results:
        print("no run is going on")
    else:
        for r in results:
            print(f"run {r['run']} on {r['device']}: {r['how']}")
    return 0
