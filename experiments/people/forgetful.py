"""As `rational`, but what was learned fades: after every round beliefs go back towards the descriptions."""

from calib.setup import Setup
from calib.state import State
from experiments.people import rational
from experiments.truth import Floats, Mind, Truth

PARAMETERS: dict[str, float | None] = {**rational.PARAMETERS, "forgetting": 0.3}

choose, choose_alone, compare = rational.choose, rational.choose_alone, rational.compare
good_enough = rational.good_enough


def experience(setup: Setup, truth: Truth, mind: Mind, state: State, z: Floats) -> Mind:
    """They learn, and forget the share `forgetting` of all that differs from the descriptions."""
    after = rational.experience(setup, truth, mind, state, z)
    faded = after.f_hat + truth.own[:, 0, None, None] * (setup.expectation - after.f_hat)
    return Mind(_where(state, faded, mind.f_hat), after.last_mode)


def _where(state: State, new: Floats, old: Floats) -> Floats:
    """Those who have left stay as they were."""
    kept = old.copy()
    kept[state.active] = new[state.active]
    return kept
