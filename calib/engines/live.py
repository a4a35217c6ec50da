"""The engine of a session: every answer counts, and every update moves every particle (calib/live.py)."""

import numpy as np

from calib import alignment, live
from calib.policies import load_policy
from calib.rounds import Estimate, Floats, Ints, Measured, State
from calib.setup import Setup
from calib.streams import stream_key, uniforms

TIER = "intent"
PARTICLES = None
KEEPS_EVIDENCE = True


def start(setup: Setup, people: Ints) -> live.Belief:
    """Particles from the prior."""
    return live.start(setup.prior, people, setup.seed, setup.num_particles)


def question(setup: Setup, state: State) -> Ints:
    """The pair that the policy asks about. It knows this round's choice already."""
    policy = load_policy(setup.policy)
    log_weight = live.answer_log_likelihood(state.belief, setup.prior, state.evidence, state.in_belief)
    u = uniforms(stream_key(setup.seed, "policy"), state.people, state.round, 4)
    pair: Ints = policy.choose(setup, state.belief, log_weight, u)
    return pair


def measure(setup: Setup, state: State) -> Measured:
    """Take the new answers into the belief, let the machine stand where it now would, and estimate the degree."""
    belief, diagnostics = live.update(
        state.belief, setup.prior, state.evidence, state.in_belief, state.people, setup.seed, state.active
    )
    w = live.intent(belief, setup.num_attributes)
    ends = alignment.extremes(setup, w)
    standing = state.standing
    if setup.role == "advisor":
        standing = np.where(state.active[:, None], alignment.best_settings(setup, w, ends), standing)
    draws = alignment.degree(setup, w, ends, standing)
    trial = alignment.context_degree(setup, w, ends, state.commanded, state.context)
    aligned = 1 - setup.scenario.eps
    estimate = Estimate(
        mean=_row_mean(draws),
        low=np.quantile(draws, 0.05, axis=1),
        high=np.quantile(draws, 0.95, axis=1),
        p_aligned=_row_mean((draws >= aligned).astype(np.float64)),
        trial=_row_mean(trial),
        left_out=alignment.left_out(setup, ends),
    )
    return Measured(belief, diagnostics, standing, estimate)


def _row_mean(values: Floats) -> Floats:
    """Mean over the last axis of each row by itself: `mean(axis=1)` may add up in another order for another N."""
    return np.array([row.sum() / row.shape[0] for row in values]) if len(values) else np.zeros(0)
