"""Stop the robot now: of one run, or of every run on this machine."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib stop`."""
    parser.add_argument("run", nargs="?", metavar="RUN", help="a run's id or its beginning; without it, every run")


def main(args: argparse.Namespace) -> int:
    """Ask each runner to stop its robot; where one does not answer, end it, and its bridge stops the robot."""
    import json
    from concurrent.futures import ThreadPoolExecutor

    from calib.registry import find_runner, runners
    from calib.stopping import NOT_STOPPED, stop_runner

    chosen = [find_runner(args.run)] if args.run else runners()
    with ThreadPoolExecutor(max(len(chosen), 1)) as pool:  # at once: one that hangs must not keep the others moving
        hows = list(pool.map(stop_runner, chosen))
    results = [{"run": e.run, "device": e.device, "how": how} for e, how in zip(chosen, hows, strict=True)]
    if args.json:
        print(json.dumps({"stopped": results}))
    elif not results:
        print("no run is going on")
    else:
        for r in results:
            print(f"run {r['run']} on {r['device']}: {r['how']}")
    return 3 if any(how.startswith(NOT_STOPPED) for how in hows) else 0
