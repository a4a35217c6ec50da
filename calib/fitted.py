"""The outcome map of a robot that was measured: the simulated map, moved to where the measurements are.

What was measured of a mode stands as it was measured. Everything else (settings that are no mode, contexts in which
nobody measured) moves as far as the measurements say of it: the differences from the simulated map are taken to have a
mean of their own, and to scatter about it by setting, by context and by both, a third of the variance each (kriging;
the variance by restricted maximum likelihood, Patterson & Thompson 1971). An attribute that nobody measured stays as it
is modelled.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calib.scenario import Scenario
from devices.home.types import OUTCOMES

Floats = NDArray[np.float64]

_LEAST_SCATTER = 0.05  # of an attribute's range: modes differ by so much at least, whatever few of them have shown
_PHYSICAL = {name: (0.0, 100.0 if name == "coverage" else np.inf) for name in OUTCOMES if name != "sound"}


class Fit(NamedTuple):
    """A fitted map and what it says of itself."""

    z: Floats  # (S, X, K, 6)
    offset: Floats  # (S, X, 6) fitted mean less the simulated one
    sd: Floats  # (S, X, 6) how well that is known
    measured: NDArray[np.bool_]  # (S, X, 6)


def fit(scenario: Scenario, base: Floats) -> Fit:
    """The map (S, X, K, 6) from the simulated one. Its replicates carry run-to-run spread and what is not known.

    The uncertainty lies in the replicates as one fixed wave an attribute (cosines, orthogonal over the replicates,
    mean 0), the same in every cell: so that it adds to the covariance of z and favours no setting over another.
    """
    assert scenario.fitted is not None
    mean = base.mean(axis=2)
    offset, sd = np.zeros(mean.shape), np.zeros(mean.shape)
    measured = np.zeros(mean.shape, bool)
    deviation = base - mean[:, :, None]
    spread = deviation.std(axis=2, ddof=1)
    for attribute in scenario.attributes:
        j = OUTCOMES.index(attribute.name)
        cells = [c for c in scenario.fitted.cells if c.attribute == attribute.name]
        if not cells:
            continue
        at = np.array([place(scenario, c.mode, c.context) for c in cells])
        found = np.array([c.mean for c in cells]) - mean[at[:, 0], at[:, 1], j]
        variance = np.array([c.run_sd**2 / c.runs + c.error_sd**2 for c in cells])
        offset[:, :, j], sd[:, :, j] = _spread_out(at, found, variance, mean.shape[:2], attribute.hi - attribute.lo)
        offset[at[:, 0], at[:, 1], j], sd[at[:, 0], at[:, 1], j] = found, np.sqrt(variance)
        measured[at[:, 0], at[:, 1], j] = True
        for c, (s, x) in zip(cells, at, strict=True):
            if spread[s, x, j] > 0:
                deviation[s, x, :, j] *= c.run_sd / spread[s, x, j]
    z = (mean + offset)[:, :, None] + deviation + sd[:, :, None] * _waves(scenario.replicates)
    for name, (low, high) in _PHYSICAL.items():
        j = OUTCOMES.index(name)
        z[..., j] = np.where(sd[:, :, None, j] > 0, np.clip(z[..., j], low, high), z[..., j])
    return Fit(z, offset, sd, measured)


def place(scenario: Scenario, mode: str, context: str) -> tuple[int, int]:
    """Where a mode in a context stands in a map: its setting's number and the context's."""
    settings = next(m.settings for m in scenario.modes if m.name == mode)
    return scenario.settings.index(settings), [c.name for c in scenario.contexts].index(context)


def _waves(num_replicates: int) -> Floats:
    """(K, 6) of mean 0 and sample variance 1, orthogonal to each other."""
    k, j = np.arange(num_replicates)[:, None] + 0.5, np.arange(1, len(OUTCOMES) + 1)
    waves = np.cos(np.pi * j * k / num_replicates)
    return np.asarray(waves / waves.std(axis=0, ddof=1))


def _spread_out(
    at: NDArray[np.int64], found: Floats, variance: Floats, shape: tuple[int, ...], width: float
) -> tuple[Floats, Floats]:
    """Offsets (S, X) and their sd from those found (C,) at `at` (C, 2), best linear unbiased."""
    alike = _alike(at[:, 0], at[:, 1], at)
    scatter = np.geomspace(_LEAST_SCATTER, 1.0, 25) * width
    likelihood = [_restricted(found, tau**2 * alike + np.diag(variance)) for tau in scatter]
    tau2 = scatter[int(np.argmax(likelihood))] ** 2
    covariance = tau2 * alike + np.diag(variance)
    ones = np.ones(len(found))
    by_ones, by_found = np.linalg.solve(covariance, ones), np.linalg.solve(covariance, found)
    mean = by_ones @ found / by_ones.sum()
    s, x = (index.ravel() for index in np.indices(shape))
    near = tau2 * _alike(s, x, at)  # (S X, C)
    weight = np.linalg.solve(covariance, near.T).T
    offset = mean + near @ (by_found - mean * by_ones)
    left = tau2 - np.sum(weight * near, axis=1) + (1 - weight @ ones) ** 2 / by_ones.sum()
    return offset.reshape(shape), np.sqrt(np.maximum(left, 0.0)).reshape(shape)


def _alike(s: NDArray[np.int64], x: NDArray[np.int64], at: NDArray[np.int64]) -> Floats:
    """(N, C) correlation of the differences of two cells: by setting, by context, by both, a third each."""
    same_setting, same_context = s[:, None] == at[:, 0], x[:, None] == at[:, 1]
    return (same_setting.astype(float) + same_context + (same_setting & same_context)) / 3


def _restricted(found: Floats, covariance: Floats) -> float:
    """Restricted log likelihood of a common mean, up to a constant."""
    by_ones, by_found = np.linalg.solve(covariance, np.stack([np.ones(len(found)), found], axis=1)).T
    whole = by_ones.sum()
    residual = found @ by_found - (by_ones @ found) ** 2 / whole
    return float(-0.5 * (np.linalg.slogdet(covariance)[1] + np.log(whole) + residual))
