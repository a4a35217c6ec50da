"""What only a simulation knows: true degree by round, true time to alignment, exact gaps, luck."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib import alignment, timing
from calib.gaps import GAPS, Gaps, gaps
from calib.outcomes import scale
from calib.setup import Setup
from experiments.truth import Truth, intent, world

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def true_degree(setup: Setup, truth: Truth, standing: Ints) -> Floats:
    """(N,) degree of the standing configuration (N, X) under the true intent."""
    ends = alignment.Extremes(truth.best[:, :, None], truth.worst[:, :, None])
    return alignment.degree(world(setup), intent(setup, truth), ends, standing)[:, 0]


def true_gaps(
    setup: Setup, truth: Truth, f_hat: Floats, context: Ints, alone: Ints, commanded: Ints, realised: Ints
) -> Gaps:
    """The six gaps under the true intent, (N, 1) each; `alone` (N,) is the setting chosen without a recommendation."""
    return gaps(world(setup), intent(setup, truth), f_hat, context, alone, commanded, realised)


def luck(setup: Setup, truth: Truth, z: Floats, setting: Ints, context: Ints) -> Floats:
    """(N,) U(z observed) - E U of what ran."""
    seen = alignment.valued(setup, scale(setup.scenario, z))
    return np.sum(intent(setup, truth)[:, :, 0] * (seen - world(setup).value[setting, context]), axis=1)


def true_time(setup: Setup, degrees: Floats, last_round: Ints, ended: Ints) -> timing.Times:
    """Time to sustained alignment from true degrees (N, T + 1) by round."""
    aligned = degrees >= 1 - setup.scenario.eps
    return timing.sustained(aligned, last_round, setup.scenario.horizon, ended)


def time_to_realign(setup: Setup, degrees: Floats, since: Ints, last_round: Ints, ended: Ints) -> timing.Times:
    """Rounds from a change of intent before round `since` (N,) to sustained alignment with the new one, 1 at least."""
    rounds = np.arange(degrees.shape[1])
    aligned = (degrees >= 1 - setup.scenario.eps) & (rounds >= since[:, None])
    times = timing.sustained(aligned, last_round, setup.scenario.horizon, ended)
    return times._replace(rounds=np.maximum(times.rounds - since + 1, 0))


def gaps_to_json(terms: Gaps) -> dict[str, Any]:
    """Exact gaps of one person in the form of the command contract."""
    values = {name: float(getattr(terms, name)[0, 0]) for name in GAPS}
    return {name: {"estimate": v, "low": v, "high": v} for name, v in values.items()}
