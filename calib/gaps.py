"""Why it is off: the six gaps (definitions 4), all under one outcome map, for a known intent or for posterior draws."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.alignment import valued
from calib.setup import Setup

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

GAPS = ("capability", "menu", "mental_model", "choice", "mediation", "execution")


class Gaps(NamedTuple):
    """The terms of U(z_ach) - U(r), (N, P) each; they add up to it exactly."""

    capability: Floats
    menu: Floats
    mental_model: Floats
    choice: Floats
    mediation: Floats
    execution: Floats


def gaps(setup: Setup, w: Floats, f_hat: Floats, context: Ints, alone: Ints, commanded: Ints, realised: Ints) -> Gaps:
    """The six gaps of one round.

    w (N, V, P) as in calib/alignment.py; f_hat (N, M, J) at the time of the choice, or (N, M, J, P) of each draw;
    context (N,); alone, commanded, realised (N,) setting numbers: the person's answer without the recommendation, what
    was commanded, what was read back. The best of each set is taken among the settings that keep all hard limits, so
    that the first three gaps are never negative.
    """
    value = setup.value[:, context].transpose(1, 0, 2)  # (N, S, V)
    feasible = setup.feasible[:, context].T  # (N, S)
    utility = _utilities(value, w)  # (N, S, P)
    allowed = np.where(feasible[:, :, None], utility, -np.inf)
    achievable = allowed.max(axis=1)
    best = allowed[:, : setup.num_reference].max(axis=1)
    of_modes = allowed[:, setup.mode_setting]  # (N, M, P)
    best_mode = of_modes.max(axis=1)
    expected = valued(setup, f_hat) if f_hat.ndim == 3 else np.moveaxis(valued(setup, np.moveaxis(f_hat, 2, 3)), 3, 2)
    believed = np.where(feasible[:, setup.mode_setting, None], _utilities(expected, w), -np.inf)
    pick = believed.argmax(axis=1)  # (N, P)
    believed_best = np.take_along_axis(of_modes, pick[:, None, :], axis=1)[:, 0]
    rows = np.arange(len(context))
    u_alone, u_commanded, u_realised = (utility[rows, s] for s in (alone, commanded, realised))
    return Gaps(
        achievable - best,
        best - best_mode,
        best_mode - believed_best,
        believed_best - u_alone,
        u_alone - u_commanded,
        u_commanded - u_realised,
    )


def _utilities(features: Floats, w: Floats) -> Floats:
    """(N, K, P) from features (N, K, V) or (N, K, V, P) and weights (N, V, P), a sum over V in a fixed order."""
    features = features if features.ndim == 4 else features[..., None]
    out = np.zeros((features.shape[0], features.shape[1], w.shape[2]))
    for j in range(w.shape[1]):
        out += features[:, :, j] * w[:, None, j]
    return out
