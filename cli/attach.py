"""Watch a run that goes on, or lead it: answer its questions from here."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib attach`."""
    parser.add_argument("run", metavar="RUN", help="a run's id or its beginning (`calib runs` lists them)")
    parser.add_argument("--lead", action="store_true", help="answer its questions from this terminal")


def main(args: argparse.Namespace) -> int:
    """Follow the runner's statuses until it ends."""
    import json
    import sys
    import threading

    from calib.control import ControlClient
    from calib.errors import UserError
    from calib.registry import find_runner

    entry = find_runner(args.run)
    leader = ControlClient(entry) if args.lead else None
    if leader:
        leader.request({"do": "lead"})
        threading.Thread(target=_send, args=(leader, sys.stdin), daemon=True).start()
    shown = None
    for status in ControlClient(entry).watch():
        if status == shown or not status:
            continue
        shown = status
        if args.json:
            print(json.dumps(status), flush=True)
            continue
        degree = status.get("degree")
        text = f"round {status.get('round', 0)}, {status['phase']}"
        if degree:
            text += f", degree {degree['mean']:.3f} [{degree['low']:.2f}, {degree['high']:.2f}]"
        if status.get("pending"):
            text += f", asked: {status['pending']['question']}"
        print(text, flush=True)
        if leader and status.get("pending"):
            print(json.dumps(status["pending"], indent=1), flush=True)
    if shown is None:
        raise UserError(f"run {entry.run}: ended before it could be watched")
    return 0


def _send(leader: object, lines: object) -> None:
    """Typed lines to requests: `choice 3`, `comparison 0`, `good_enough 1`, `ready`, `arm`, `quit`, `stop`."""
    import sys

    from calib.control import ControlClient
    from calib.errors import UserError

    assert isinstance(leader, ControlClient)
    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        request: dict[str, object] = {"do": words[0]}
        if len(words) == 2 and words[1].isdigit():
            request = {"do": "answer", "question": words[0], "value": int(words[1])}
        try:
            leader.request(request)
        except UserError as error:
            print(f"calib attach: {error}", file=sys.stderr)
