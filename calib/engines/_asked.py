"""What the setup's policy asks people, whatever an engine believes of them."""

import numpy as np

from calib.policies import load_policy
from calib.setup import Setup
from calib.state import Floats, Ints, State
from calib.streams import stream_key, uniforms


def asked(setup: Setup, state: State, log_weight: Floats) -> Ints:
    """(N,) numbers in the pool; log_weight (N, P) is what each particle of the state's belief counts by now."""
    policy, u = load_policy(setup.policy), uniforms(stream_key(setup.seed, "policy"), state.people, state.round, 4)
    if hasattr(policy, "ask"):
        return np.asarray(policy.ask(setup, state, log_weight, u))
    return np.asarray(policy.choose(setup, state.belief, log_weight, u))
