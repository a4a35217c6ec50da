"""Compile ahead and lay out the maps of the shipped scenarios: `python -m experiments.warm`, once after setting up.

Everything here happens by itself when it is first needed; done ahead, the first session begins at once.
"""

import sys

import numpy as np

from calib.engines import engine_names, load_engine
from calib.policies import policy_names
from calib.scenario import ROLES, load_scenario
from calib.setup import make_setup
from experiments.batch import simulate_sessions
from experiments.people import rational


def main() -> None:
    """Maps first, then two rounds of two people in every role and policy, and under every engine."""
    for name in ("apartment", "arena"):  # beliefs has the apartment's
        print(f"laying out the outcome map of {name} ...", file=sys.stderr, flush=True)
        make_setup(load_scenario(name))
    print("compiling the belief engines ...", file=sys.stderr, flush=True)
    for role in ROLES:
        for policy in policy_names():
            setup = make_setup(load_scenario("arena"), role=role, policy=policy, max_rounds=2, num_particles=64)
            simulate_sessions(setup, rational, {}, np.arange(2))
    for engine in engine_names():
        particles = None if load_engine(engine).TIER == "known" else 64
        setup = make_setup(load_scenario("beliefs"), engine=engine, max_rounds=2, num_particles=particles)
        simulate_sessions(setup, rational, {}, np.arange(2))


if __name__ == "__main__":
    main()
