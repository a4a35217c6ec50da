"""Outcome map and scaled attributes: what settings do in contexts (definitions 2.0 and 2.1)."""

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.fitted import Fit, fit
from calib.scenario import Scenario, digest
from devices.home.types import OUTCOMES, Outcome, context_to_json

Floats = NDArray[np.float64]


class OutcomeMap(NamedTuple):
    """g(s, x) by replicates: z (S, X, K, 6) in the order of OUTCOMES, its source, and the hash of its bytes."""

    z: Floats
    source: str
    sha256: str
    fit: Fit | None = None  # what was measured of it


def scale(scenario: Scenario, z: Floats) -> Floats:
    """phi of raw outcomes (..., 6) -> (..., J): in [0, 1], 1 is better."""
    columns = [OUTCOMES.index(a.name) for a in scenario.attributes]
    lo = np.array([a.lo for a in scenario.attributes])
    hi = np.array([a.hi for a in scenario.attributes])
    less = np.array([a.less_is_better for a in scenario.attributes])
    phi = np.clip((z[..., columns] - lo) / (hi - lo), 0.0, 1.0)
    return np.where(less, 1.0 - phi, phi)


def outcome_map(scenario: Scenario) -> OutcomeMap:
    """The map that the machine believes in: the plant's, or with a planted error, or as it was measured."""
    plant = plant_map(scenario)
    if scenario.map_source == "plant":
        return plant
    z = plant.z + np.array([dict(scenario.planted).get(name, 0.0) for name in OUTCOMES])
    found = fit(scenario, z) if scenario.fitted is not None else None
    z = z if found is None else found.z
    return OutcomeMap(z, scenario.map_source, _sha256(z), found)


def plant_map(scenario: Scenario) -> OutcomeMap:
    """What the simulated home does, from the cache or made now (under a minute on two cores).

    The cache key is what the plant is given and the plant's own source, so that an edit of either makes a new map.
    """
    path = cache_folder() / f"outcomes-{_inputs_sha256(scenario)}.npy"
    try:
        z = np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        from devices.home.simulate import simulate_table

        z = simulate_table(scenario.contexts, scenario.settings, range(scenario.replicates))
        _store(path, z)
    return OutcomeMap(z, "plant", _sha256(z))


def corrected(table: OutcomeMap, setting: int, context: int, outcome: Outcome) -> Outcome:
    """An outcome whose modelled figures are moved by what was measured of this setting in this context.

    They stay modelled; their stated error takes in how well the map is known. Without measurements the same outcome.
    """
    if table.fit is None:
        return outcome
    sd, offset = table.fit.sd[setting, context], table.fit.offset[setting, context]
    modelled = np.array([source == "modelled" for source in outcome.source]) & (sd > 0)
    z = np.where(modelled, np.maximum(outcome.z + offset, 0.0), outcome.z)

    def widened(bound: Floats) -> Floats:
        return np.where(modelled, np.hypot(bound, 1.96 * sd), bound)

    beside = outcome.reproducibility
    return replace(
        outcome,
        z=z,
        error=widened(outcome.error),
        reproducibility=None if beside is None else widened(beside),
    )


def _sha256(z: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(z, "<f8").tobytes()).hexdigest()


def cache_folder() -> Path:
    """Where derived tables are kept; they can be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "calib"


def _store(path: Path, z: Floats) -> None:
    """Write to a name of our own, then rename: a reader sees a whole table or none. A full cache is no error."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            np.save(file, z, allow_pickle=False)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def _inputs_sha256(scenario: Scenario) -> str:
    import devices.home

    folder = Path(devices.home.__file__).parent
    source = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.glob("*.py"))}
    contexts = [context_to_json(c) for c in scenario.contexts]
    return digest([source, contexts, [vars(s) for s in scenario.settings], scenario.replicates])
