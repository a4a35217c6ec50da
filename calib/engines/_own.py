"""What engines with a mental model infer of a person beside what `live` does, on its natural scales."""

import numpy as np

from calib.mental import OWN
from calib.setup import Setup
from calib.state import Floats


def of_mind(setup: Setup, own: Floats) -> dict[str, Floats]:
    """(P,) draws by name, of own (7, P) as EXTRAS has those of OWN; ratings and cutting short where people do so."""
    x = dict(zip(OWN, own, strict=True))
    found = {"learning_rate": 1 / (1 + np.exp(-x["learning_rate"])), "belief_sd": np.exp(x["belief_sd"])}
    if setup.pool.ratings:
        found |= {name: np.exp(x[name]) for name in ("rationality[rating]", "spacing")}
    if setup.learns_from_cuts:
        found |= {name: np.exp(x[name]) for name in ("rationality[stop]", "hazard")}
    if setup.pool.ratings or setup.learns_from_cuts:
        found["aspiration"] = x["aspiration"]
    return found
