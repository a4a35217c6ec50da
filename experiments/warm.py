"""Compile ahead and lay out the maps of the shipped scenarios: `python -m experiments.warm`, once after setting up.

Every command that computes sees to it (experiments/ahead.py).
"""

import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from calib.engines import engine_names, load_engine
from calib.policies import load_policy, policy_names
from calib.scenario import ROLES, Change, Scenario, load_scenario
from calib.setup import make_setup
from devices.catalog import make_device
from devices.device import Device
from experiments.ahead import done
from experiments.batch import simulate_sessions
from experiments.declaring import compared
from experiments.expand import documents
from experiments.infer_file import infer
from experiments.people import rational

_CHANGE = Change(hazard=0.5, ask_at=0.5, every=2, answer_error=0.1, hypotheses=2)
_CHOICES = "person,round,option,chosen,channel,quick,clean\n" + "".join(
    f"p,{t},a,{int(t in (0, 2))},{channel},0.2,0.9\np,{t},b,{int(t == 1)},{channel},0.8,0.1\n"
    for t, channel in enumerate(("mode_choice", "accept_override", "comparison", "comparison"))
)


def main() -> None:
    """Maps first, then two rounds of two people with everything that a scenario, a role or a policy may ask for."""
    arena, beliefs, aspiration = load_scenario("arena"), load_scenario("beliefs"), load_scenario("aspiration")
    for scenario in (load_scenario("apartment"), arena):  # the others have the apartment's
        print(f"laying out the outcome map of {scenario.name} ...", file=sys.stderr, flush=True)
        make_setup(scenario)
    print("compiling the belief engines ...", file=sys.stderr, flush=True)
    menus, changes = (
        replace(arena, menu_size=3),
        replace(arena, change=_CHANGE, effort_s={**arena.effort_s, "change": 6}),
    )
    for role in ROLES:
        for policy in policy_names():
            _live_through(arena, role=role, policy=policy)
            if not hasattr(load_policy(policy), "FULL_MENU"):
                _live_through(arena, role=role, policy=policy, engine="bulk")
        _live_through(beliefs, role=role, policy="per_second")
        _live_through(aspiration, role=role)
        _live_through(menus, role=role, policy="per_second")
        _live_through(menus, role=role)
        _live_through(changes, role=role)
    for engine in engine_names():
        _live_through(beliefs, engine=engine)
    for scenario in (arena, beliefs, aspiration):  # as single sessions, to their ends
        for role in ROLES:
            documents(make_setup(scenario, role=role, max_rounds=3, num_particles=64), "rational", 0)
    for scenario in (arena, beliefs):
        compared(make_setup(scenario, engine="bulk", max_rounds=3), "rational", 4)
    with TemporaryDirectory() as temporary:
        file = Path(temporary) / "choices.csv"
        file.write_text(_CHOICES)
        for weights in ("simplex", "free"):
            infer(str(file), weights=weights, draws=100)
    print("compiling the robots ...", file=sys.stderr, flush=True)
    for address in ("simvac", "roomba:emulator"):
        _drive(make_device(address), arena)
    done()


def _drive(device: Device, scenario: Scenario) -> None:
    """A few seconds of a run."""
    try:
        device.open()
        device.prepare(scenario.contexts[0], 0)
        device.start(scenario.default)
        for _ in range(3):
            device.advance()
        device.stop()
        device.finish()
    finally:
        device.close()


def _live_through(scenario: Scenario, **how: Any) -> None:
    particles = None if load_engine(how.get("engine", "live")).TIER == "known" else 64
    setup = make_setup(scenario, **how, max_rounds=2, num_particles=particles)
    simulate_sessions(setup, rational, {}, np.arange(2))


if __name__ == "__main__":
    main()
