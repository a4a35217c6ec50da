"""kill -9 of the runner at random moments, many times: `python -m bench.kill_runs --times 200`.

Each time a session is started, killed at a random moment, resumed to its end and replayed. Counts acknowledged events
lost, documents that differ from an unbroken run, and differences of the replay; all must be 0. Exit 1 otherwise.
"""

import argparse
import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from calib.journal import Entry, open_journal

ROOT = Path(__file__).resolve().parent.parent


def calib(folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a command on the journal of this folder."""
    command = [sys.executable, "-m", "cli.main", *words, "--journal", f"sqlite:///{folder}/calib.db", "--json"]
    environment = os.environ | {"CALIB_RUNTIME_DIR": str(folder)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment, cwd=ROOT
    )


def finished(process: "subprocess.Popen[str]") -> dict[str, object]:
    """Its JSON document."""
    out, _ = process.communicate(timeout=600)
    found: dict[str, object] = json.loads(out)
    return found


def started(folder: Path, others: int) -> float:
    """Wait until the journal has a run more than `others`; when that was."""
    while True:
        with (
            contextlib.suppress(sqlite3.Error),
            sqlite3.connect(f"file:{folder}/calib.db?mode=ro", uri=True) as database,
        ):
            if database.execute("select count(*) from runs").fetchone()[0] > others:
                return time.monotonic()
        time.sleep(0.005)


def bodies(entries: list[Entry]) -> list[object]:
    """What an unbroken run and a resumed one must share."""
    return [e.body for e in entries if e.type in ("round", "stop", "truth")]


def main() -> int:
    """Kill, resume, compare, count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--device", default="simvac")
    parser.add_argument("--rounds", default="4")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    lost = different = replayed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = ("run", "apartment", "--device", args.device, "--rounds", args.rounds, "--seed", "3")
        finished(calib(folder, *words))  # warms every cache
        process = calib(folder, *words)
        begun = started(folder, 1)
        whole = str(finished(process)["run"])
        length = time.monotonic() - begun
        url = f"sqlite:///{folder}/calib.db"
        with open_journal(url) as journal:
            unbroken = bodies(journal.entries(whole))
            known = {row.run for row in journal.runs()}
        first = len(known)
        for number in range(args.times):
            process = calib(folder, *words)
            started(folder, len(known))
            time.sleep(chance.uniform(0, 1) * length)
            process.kill()
            process.communicate()
            with open_journal(url) as journal:
                new = [row.run for row in journal.runs() if row.run not in known]
                before = journal.entries(new[0]) if new else []
            if not new:
                continue  # killed before its start document: there is nothing to resume
            run = new[0]
            known.add(run)
            if not any(e.type == "truth" for e in before):
                finished(calib(folder, "resume", run))
            with open_journal(url) as journal:
                after = journal.entries(run)
            lost += [e.digest for e in after[: len(before)]] != [e.digest for e in before]
            different += bodies(after) != unbroken
            replayed += bool(finished(calib(folder, "replay", run))["differences"])
            if (number + 1) % 10 == 0:
                print(f"{number + 1}: {lost} lost, {different} differ, {replayed} replays differ", file=sys.stderr)
    resumed = len(known) - first
    print(
        f"{args.times} kills on {args.device} ({resumed} runs to go on with, {args.times - resumed} killed before they "
        f"began): {lost} lost an acknowledged entry, {different} ended with other numbers, {replayed} replays differ"
    )
    return 1 if lost or different or replayed else 0


if __name__ == "__main__":
    sys.exit(main())
