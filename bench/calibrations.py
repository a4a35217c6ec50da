"""Whether a calibration's intervals hold what they promise: `python -m bench.calibrations --times 200`.

Each time every mode of the arena runs on the simulator, three times in one context, beside somebody with a kitchen
scale and a sound meter of their own errors, against a map with a planted error. Counted is how often the 95% intervals,
of whole attributes and of single modes, hold the error that was planted. Exit 1 below 90% for an attribute.
"""

import argparse
import sys
import tempfile
import threading
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from calib.calibration import cells_of, differences
from calib.outcomes import outcome_map, plant_map
from calib.scenario import load_scenario
from devices.catalog import make_device
from experiments.calibrate import Records, Simulated, measure, missing

PLANTED = {"residual_dirt": 0.8, "coverage": -6.0, "duration": 0.05, "sound": 4.0, "energy": 0.06, "bumps": 5.0}
_LEAST = 0.9


def main() -> int:
    """One line an attribute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--device", default="simvac", metavar="SPEC", help="simvac, roomba:emulator, ... (simvac)")
    args = parser.parse_args()
    scenario = replace(load_scenario("arena"), map_source="planted", planted=tuple(PLANTED.items()))
    table, plant = outcome_map(scenario), plant_map(scenario)
    whole: dict[str, list[bool]] = defaultdict(list)
    single: dict[str, list[bool]] = defaultdict(list)
    todo = list(missing(list(scenario.modes), [scenario.contexts[0]], 3, []))
    head = {"device": args.device, "rung": "simulator", "scenario_hash": scenario.hash}
    device = make_device(args.device)
    for seed in range(args.times):
        with tempfile.TemporaryDirectory() as folder:
            records = Records(Path(folder) / "runs.jsonl", head)
            measure(device, todo, records, Simulated(device, seed), seed, threading.Event(), lambda text: None)
            records.close()
        for found in differences(scenario, table.z, cells_of(scenario, table.z, plant.z, records.records)):
            held = found.low <= -PLANTED[found.attribute] <= found.high
            (whole if found.mode is None else single)[found.attribute].append(held)
    device.close()
    for name in PLANTED:
        shares = [sum(held[name]) / len(held[name]) for held in (whole, single)]
        of_all, of_modes = (f"{100 * share:.1f}%" for share in shares)
        print(f"{name:14} planted {PLANTED[name]:+g}: {of_all} over all modes, {of_modes} a mode")
    return 1 if min(sum(held) / len(held) for held in whole.values()) < _LEAST else 0


if __name__ == "__main__":
    sys.exit(main())
