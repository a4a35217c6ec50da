"""The prior over a person's parameters, in the engine's unconstrained coordinates (calib/kernel.py)."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, ndtri

from calib.kernel import NUM_EXTRA
from calib.scenario import Population
from calib.streams import uniforms

Floats = NDArray[np.float64]


class Prior(NamedTuple):
    """Dirichlet concentration (J,); mean and sd (7,) of the normal coordinates."""

    concentration: Floats
    mean: Floats
    sd: Floats

    def draw(self, key: np.uint64, people: NDArray[np.int64], num: int) -> Floats:
        """(N, D, num) independent draws for each person, by inverse distribution functions of named uniforms."""
        num_attributes = self.concentration.shape[0]
        width = num_attributes + NUM_EXTRA
        out = np.empty((people.shape[0], width - 1, num))
        for chunk in np.array_split(np.arange(people.shape[0]), max(1, people.shape[0] * num // 500_000)):
            u = uniforms(key, people[chunk], 0, width * num).reshape(len(chunk), width, num)
            gamma = np.empty((len(chunk), num_attributes, num))
            for j, shape in enumerate(self.concentration):
                gamma[:, j] = -np.log1p(-u[:, j]) if shape == 1.0 else gammaincinv(shape, u[:, j])
            log_gamma = np.log(np.maximum(gamma, 1e-300))
            out[chunk, : num_attributes - 1] = log_gamma[:, :-1] - log_gamma[:, -1:]
            out[chunk, num_attributes - 1 :] = self.mean[:, None] + self.sd[:, None] * ndtri(u[:, num_attributes:])
        return out


def prior_of(population: Population) -> Prior:
    """The population as a prior."""
    positive = [*population.rationality]
    pairs = [(np.log(median), sd) for median, sd in positive]
    pairs.append((np.log(population.lapse[0] / (1 - population.lapse[0])), population.lapse[1]))
    pairs += [population.reliance, population.inertia]
    pairs.append((np.log(population.about_equal[0]), population.about_equal[1]))
    mean, sd = np.array(pairs, dtype=np.float64).T
    return Prior(np.array(population.concentration), np.ascontiguousarray(mean), np.ascontiguousarray(sd))
