"""Watch a run that goes on, or lead it: answer its questions from here."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from calib.control import ControlClient


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib attach`."""
    parser.add_argument("run", metavar="RUN", help="a run's id or its beginning (`calib runs` lists them)")
    parser.add_argument("--lead", action="store_true", help="answer its questions from this terminal")


def main(args: argparse.Namespace) -> int:
    """Follow the runner's statuses until it ends. With --json they go to standard error, the last one is the result."""
    import json
    import sys
    import threading

    from calib.control import ControlClient
    from calib.errors import UserError
    from calib.registry import find_runner

    entry = find_runner(args.run)
    leader = ControlClient(entry) if args.lead else None
    asked: dict[str, Any] = {}  # the question as it was last shown here
    if leader:
        leader.request({"do": "lead"})
        threading.Thread(target=_send, args=(leader, asked), daemon=True).start()
    out = sys.stderr if args.json else sys.stdout
    last: dict[str, Any] = {}
    for status in ControlClient(entry).watch():
        if status == last or not status:
            continue
        told, last = _line(last), status
        if _line(status) != told:
            print(_line(status), file=out, flush=True)
        pending = status.get("pending") or {}
        if leader and pending != asked:
            asked.clear()
            asked.update(pending)
            if pending:
                print(json.dumps(pending, indent=1), file=out, flush=True)
    if last.get("phase") != "finished":
        raise UserError(f"run {entry.run}: its runner ended before the session did; `calib resume {entry.run}` goes on")
    if args.json:
        print(json.dumps(last))
    return 3 if last["stop_reason"] == "device_failure" else 0


def _line(status: dict[str, Any]) -> str:
    """A status in one line."""
    if not status:
        return ""
    text = f"round {status.get('round', 0)}, {status['phase']}"
    if degree := status.get("degree"):
        text += f", degree {degree['mean']:.3f} [{degree['low']:.2f}, {degree['high']:.2f}]"
    if pending := status.get("pending"):
        text += f", asked: {pending['question']}"
    elif status["phase"] == "running" and (progress := status.get("progress")):
        text += f", {progress['elapsed_s'] / 60:.1f} min"
    link = status.get("link") or {}
    if link.get("state") not in (None, "ready") and status["phase"] != "finished":
        text += f", link {link['state']}: {link['reason']}"
    if status.get("stop_reason"):
        text += f": {status['stop_reason']}"
    return text


def _send(leader: "ControlClient", asked: dict[str, Any]) -> None:
    """Typed lines to requests: `choice 3`, `comparison 0`, `good_enough 1`, `change 0`, `ready`, `arm`,
    `cut_short`, `quit`, `stop`. An answer is for the question as it stands above; where another has taken its place,
    it is refused."""
    import sys

    from calib.errors import UserError

    for line in sys.stdin:
        words = line.split()
        if not words:
            continue
        request: dict[str, Any] = {"do": words[0], "number": asked.get("number", 0)}
        if len(words) == 2 and words[1].isdecimal():
            request |= {"do": "answer", "question": words[0], "value": int(words[1][:9])}
        try:
            leader.request(request)
        except UserError as error:
            print(f"calib attach: {error}", file=sys.stderr, flush=True)
