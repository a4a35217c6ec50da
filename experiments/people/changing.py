"""As `rational`, but what they want changes: all at once before the round `change_round`, or before any round with
probability `change_hazard`; or little by little, by `drift_sd` a round in the log ratios of their weights.

Before round 1 nothing changes. Asked whether they changed they say so where the intent was drawn anew; who only drifts
is unsure.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from calib.change import UNSURE
from calib.setup import Setup
from calib.state import State
from calib.streams import stream_key, uniforms
from experiments.people import rational
from experiments.truth import Floats, Ints, Mind, Truth, simplex, with_weights

PARAMETERS: dict[str, float | None] = {
    **rational.PARAMETERS,
    "change_round": 15.0,
    "change_hazard": 0.0,
    "drift_sd": 0.0,
}

choose, choose_alone, compare = rational.choose, rational.choose_alone, rational.compare
good_enough, experience = rational.good_enough, rational.experience


def becomes(setup: Setup, truth: Truth, people: Ints, round_number: int, active: NDArray[np.bool_]) -> Truth:
    """Who they are from this round on."""
    if round_number <= 1:
        return truth
    u = uniforms(stream_key(setup.seed, "person change"), people, round_number, 1)[:, 0]
    anew = active & ((np.rint(truth.own[:, 0]) == round_number) | (u < truth.own[:, 1]))
    drifts = active & (truth.own[:, 2] > 0)
    ratios = np.log(np.maximum(truth.weights, 1e-300))
    ratios = ratios[:, :-1] - ratios[:, -1:]
    if drifts.any():
        u = uniforms(stream_key(setup.seed, "person drift"), people, round_number, ratios.shape[1])
        ratios = ratios + truth.own[:, 2:3] * ndtri(u)
    if anew.any():
        x = setup.prior.draw(stream_key(setup.seed, f"person intent from round {round_number}"), people, 1)
        ratios = np.where(anew[:, None], x[:, : ratios.shape[1], 0], ratios)
    truth = truth._replace(changed=np.where(anew, round_number, truth.changed))
    return with_weights(setup, truth, anew | drifts, simplex(ratios)) if (anew | drifts).any() else truth


def change(setup: Setup, truth: Truth, mind: Mind, state: State, u: Floats) -> Ints:
    """As anybody, but who only drifts is unsure."""
    said = rational.change(setup, truth, mind, state, u)
    return np.where((truth.own[:, 2] > 0) & ~rational.has_changed(truth, state), UNSURE, said)
