"""From equally weighted particles of intent to where the machine stands and the degree of that."""

from typing import Any

import numpy as np

from calib import alignment, live
from calib.setup import Setup
from calib.state import Estimate, Floats, Measured, State


def measured(setup: Setup, state: State, belief: Any, diagnostics: live.Diagnostics) -> Measured:
    """What an engine says after a round; `belief.particles` are in the coordinates of calib/kernel.py."""
    w = alignment.intent(setup, belief)
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
