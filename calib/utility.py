"""Utility of a scaled attribute (docs/definitions.md 2.2): the attribute itself, or concave up to an aspiration.

`aspiration`: v(phi; b) = u (2 - u) with u = min(phi / b, 1): v(0) = 0, and 1 with slope 0 at the person's aspiration b
and above. Even at b = 1 it is concave: `linear` is a utility of its own, not a limit of this one.

U is linear in v, and v at an aspiration between two knots is taken for the mean of its values there, weighted by how
near they are (error under 7e-4). So whatever holds for linear utility holds for intents (N, V, P) over the attributes
at the knots, V = J KNOTS of which 2 J are not 0: that is how outcomes of the map are valued, as E v over its
replicates. What people answer is computed with v itself. `xp` is numpy or pytensor.tensor.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

UTILITIES = LINEAR, ASPIRATION = ("linear", "aspiration")
LEAST = 0.2  # no aspiration is lower, none is above 1
KNOTS, FEW_KNOTS = 33, 9  # of the figures; of the choice of a question, where a hundredth makes no difference


class Aspirations(NamedTuple):
    """Their prior: b = LEAST + (1 - LEAST) F(a), a normal with mean (J,) and sd (J,), F the logistic function."""

    mean: Floats
    sd: Floats


def value(xp: Any, phi: Any, aspiration: Any) -> Any:
    """v of scaled attributes that are not negative."""
    left = 1.0 - xp.minimum(phi / aspiration, 1.0)
    return 1.0 - left * left


def aspiration_of(xp: Any, logit: Any) -> Any:
    """b of a."""
    return LEAST + (1.0 - LEAST) / (1.0 + xp.exp(-logit))


def knots(num: int = KNOTS) -> Floats:
    """(G,) aspirations from LEAST to 1, evenly spaced in their logs."""
    return np.exp(np.linspace(np.log(LEAST), 0.0, num))


def at_knots(phi: Floats, num: int = KNOTS) -> Floats:
    """(..., J G) v of scaled attributes (..., J) at every knot; what people expect may lie outside 0 to 1: clipped."""
    values = value(np, np.clip(phi, 0.0, 1.0)[..., None], knots(num))
    return np.ascontiguousarray(values).reshape(*phi.shape[:-1], -1)


def over_knots(weights: Floats, aspirations: Floats, num: int = KNOTS) -> Floats:
    """(N, J G, P) intents of weights and aspirations (N, J, P): how much each knot counts, adding up to 1."""
    at = (np.log(aspirations / LEAST)) / -np.log(LEAST) * (num - 1)
    first = np.clip(at.astype(np.int64), 0, num - 2)
    share = np.clip(at - first, 0.0, 1.0)
    out = np.zeros((*weights.shape[:2], num, weights.shape[2]))
    np.put_along_axis(out, first[:, :, None], (weights * (1.0 - share))[:, :, None], axis=2)
    np.put_along_axis(out, first[:, :, None] + 1, (weights * share)[:, :, None], axis=2)
    return out.reshape(weights.shape[0], -1, weights.shape[2])
