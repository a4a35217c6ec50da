"""Belief probes: "how loud do you expect Deep to be?", answered by one of some values on the attribute's scale.

Values run past both ends of the scale, because what people expect is not clipped (definitions 2.4), and stop where the
unit does: no outcome is below zero and no share above 100%.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.scenario import Attribute, Scenario

Floats = NDArray[np.float64]

_STEPS, _BEYOND = 20, 5  # values in lo to hi, and past each end


def values(attribute: Attribute) -> Floats:
    """(V,) what can be said of an attribute, in its unit, ascending."""
    span = attribute.hi - attribute.lo
    steps = np.arange(-_BEYOND, _STEPS + _BEYOND + 1)
    found = np.round(attribute.lo + span * steps / _STEPS, 2)
    most = 100.0 if attribute.unit == "%" else np.inf
    return found[(found >= 0) & (found <= most)]


def scaled(attribute: Attribute, value: Floats) -> Floats:
    """phi of values in the attribute's unit, not clipped."""
    phi = (value - attribute.lo) / (attribute.hi - attribute.lo)
    return 1.0 - phi if attribute.less_is_better else phi


def nearest(attribute: Attribute, phi: Floats) -> NDArray[np.int64]:
    """Number of the value that lies nearest to phi (N,), the first where tied."""
    return np.argmin(np.abs(scaled(attribute, values(attribute))[None] - phi[:, None]), axis=1)


def shown(scenario: Scenario, number: int) -> dict[str, Any]:
    """The question of probe `number`, modes by attributes: whom it is about, and what can be said."""
    m, j = where(scenario, number)
    mode, attribute = scenario.modes[m], scenario.attributes[j]
    return {
        "probe": number,
        "mode": mode.name,
        "label": mode.label,
        "attribute": attribute.name,
        "unit": attribute.unit,
        "values": [float(v) for v in values(attribute)],
    }


def where(scenario: Scenario, number: int) -> tuple[int, int]:
    """Mode and attribute of a probe."""
    mode, attribute = divmod(number, len(scenario.attributes))
    return mode, attribute


def said(scenario: Scenario, number: NDArray[np.int64], answer: NDArray[np.int64]) -> Floats:
    """(N,) phi of the answers (N,) to the probes (N,); 0 where a number is -1 and nothing was asked."""
    tables = [scaled(a, values(a)) for a in scenario.attributes]
    return np.array([tables[n % len(tables)][a] if n >= 0 else 0.0 for n, a in zip(number, answer, strict=True)])
