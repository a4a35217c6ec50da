"""Calibration sessions on an emulated robot beside the simulator: `python -m bench.beside --device neato:emulator`.

The same person and seed on both. For every run on the same setting each figure's distance from the simulator's is held
against the error that the robot states of it, and against that error and the map's own spread of two runs together: the
first is for a robot that drives step for step as the simulator does, the second for one that does not (a Neato, whose
console takes one command in 50 ms). Exit 1 when more than 5% of the figures lie outside the bound that `--bound` names.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np

from calib.journal import open_journal
from calib.outcomes import outcome_map
from calib.scenario import Scenario, load_scenario
from devices.home.types import OUTCOMES

_SHARE = 0.05  # of figures that may lie outside


class Beside(NamedTuple):
    """What sessions on two devices had in common."""

    runs: int  # on the same setting
    tipped: int  # sessions in which a figure within its error tipped the person's next choice
    within_error: dict[str, list[bool]]
    within_spread: dict[str, list[bool]]
    degrees: list[float]  # of the robot's sessions less the simulator's, last round in common

    def outside(self, bound: str) -> tuple[int, int]:
        """How many figures lie outside a bound, `error` or `spread`, and of how many."""
        held = [h for each in (self.within_error if bound == "error" else self.within_spread).values() for h in each]
        return len(held) - sum(held), len(held)


def beside(device: str, scenario_name: str, times: int, rounds: int) -> Beside:
    """`times` seeds on `device` and on simvac."""
    scenario = load_scenario(scenario_name)
    z = outcome_map(scenario).z
    within_error: dict[str, list[bool]] = defaultdict(list)
    within_spread: dict[str, list[bool]] = defaultdict(list)
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
                spread = _spread(scenario, z, ours)
                for j, name in enumerate(OUTCOMES):
                    figure = ours["outcome"][name]
                    off = abs(figure["value"] - theirs["outcome"][name]["value"])
                    within_error[name].append(off <= figure["error"] + 1e-9)
                    within_spread[name].append(
                        off <= math.hypot(figure["error"], 1.96 * math.sqrt(2) * spread[j]) + 1e-9
                    )
            degrees.append(last)
    return Beside(runs, tipped, dict(within_error), dict(within_spread), degrees)


def _spread(scenario: Scenario, z: Any, document: dict[str, Any]) -> Any:
    """(6,) sd from run to run of a round's setting in its context."""
    x = [c.name for c in scenario.contexts].index(document["context"])
    return np.std(z[document["setting"], x], axis=0, ddof=1)


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
    parser.add_argument("--bound", choices=("error", "spread"), default="error")
    args = parser.parse_args()
    found = beside(args.device, args.scenario, args.times, args.rounds)
    print(
        f"{args.device}: {args.times} sessions, {found.runs} runs on the same setting, {found.tipped} sessions tipped"
    )
    for name in OUTCOMES:
        inside, with_spread = sum(found.within_error[name]), sum(found.within_spread[name])
        print(
            f"{name:14} {inside} of {found.runs} within the stated error, {with_spread} with the map's spread of runs"
        )
    print(f"degree of alignment: at most {max(map(abs, found.degrees)):.3f} apart in the last round in common")
    outside, num = found.outside(args.bound)
    print(f"{outside} of {num} figures outside ({args.bound})")
    return 1 if found.runs < args.times or outside > _SHARE * num else 0


if __name__ == "__main__":
    sys.exit(main())
