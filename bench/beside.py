"""Calibration sessions on an emulated robot beside the simulator: `python -m bench.beside --device neato:emulator`.

The same person and seed on both. For every run on the same setting each figure's distance from the simulator's is held
against two bounds that the round document states of it: its error, which is of measuring, and its reproducibility,
which takes in that a robot may drive otherwise (a Neato, whose console takes one command in 50 ms). They are the same
for a robot that drives step for step as the simulator does. Exit 1 when more than 5% of the figures lie beyond their
reproducibility.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from typing import Any, NamedTuple

from calib.journal import open_journal
from devices.home.types import OUTCOMES

_SHARE = 0.05  # of figures that may lie outside


class Beside(NamedTuple):
    """What sessions on two devices had in common."""

    runs: int  # on the same setting
    tipped: int  # sessions in which a figure within its error tipped the person's next choice
    within_error: dict[str, list[bool]]
    within: dict[str, list[bool]]  # their reproducibility
    degrees: list[float]  # of the robot's sessions less the simulator's, last round in common

    def outside(self) -> tuple[int, int]:
        """How many figures lie beyond their reproducibility, and of how many."""
        held = [h for each in self.within.values() for h in each]
        return len(held) - sum(held), len(held)


def beside(device: str, scenario_name: str, times: int, rounds: int) -> Beside:
    """`times` seeds on `device` and on simvac."""
    within_error: dict[str, list[bool]] = defaultdict(list)
    within: dict[str, list[bool]] = defaultdict(list)
    runs = tipped = 0
    degrees = []
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/calib.db"
        for seed in range(times):
            pairs = zip(*(_rounds(url, d, scenario_name, seed, rounds) for d in (device, "simvac")), strict=True)
            last = 0.0
            for ours, theirs in pairs:
                if ours["setting"] != theirs["setting"]:
                    tipped += 1
                    break
                last = ours["degree"]["mean"] - theirs["degree"]["mean"]
                if ours["realised"] is None:  # a card was shown instead of a run
                    continue
                runs += 1
                for name in OUTCOMES:
                    figure = ours["outcome"][name]
                    off = abs(figure["value"] - theirs["outcome"][name]["value"])
                    within_error[name].append(off <= figure["error"] + 1e-9)
                    within[name].append(off <= figure["reproducibility"] + 1e-9)
            degrees.append(last)
    return Beside(runs, tipped, dict(within_error), dict(within), degrees)


def _rounds(url: str, device: str, scenario: str, seed: int, rounds: int) -> list[dict[str, Any]]:
    words = ("run", scenario, "--device", device, "--person", "rational", "--seed", str(seed), "--rounds", str(rounds))
    command = [sys.executable, "-m", "cli.main", *words, "--audit", "off", "--json", "--journal", url]
    run = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["run"]
    with open_journal(url) as journal:
        return [entry.body for entry in journal.entries(run) if entry.type == "round" and entry.body is not None]


def main() -> int:
    """One line an outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="roomba:emulator", metavar="SPEC")
    parser.add_argument("--scenario", default="arena")
    parser.add_argument("--times", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    found = beside(args.device, args.scenario, args.times, args.rounds)
    print(
        f"{args.device}: {args.times} sessions, {found.runs} runs on the same setting, {found.tipped} sessions tipped"
    )
    for name in OUTCOMES:
        near, inside = sum(found.within_error[name]), sum(found.within[name])
        print(f"{name:14} {inside} of {found.runs} within the stated reproducibility, {near} within the error alone")
    print(f"degree of alignment: at most {max(map(abs, found.degrees)):.3f} apart in the last round in common")
    outside, num = found.outside()
    print(f"{outside} of {num} figures beyond their reproducibility")
    return 1 if found.runs < args.times or outside > _SHARE * num else 0


if __name__ == "__main__":
    sys.exit(main())
