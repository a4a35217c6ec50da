"""Whether chains agree and what their draws are worth: rank-normalised R-hat and effective sample sizes.

Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021). All take draws (..., chains, draws); a test holds them to arviz.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Floats = NDArray[np.float64]


def r_hat(draws: Floats) -> Floats:
    """The larger one of R-hat for location and for spread, (...); near 1 where the chains agree."""
    middle = np.median(draws, axis=(-2, -1), keepdims=True)
    return np.maximum(_r_hat(_normal(_split(draws))), _r_hat(_normal(_split(np.abs(draws - middle)))))


def ess_bulk(draws: Floats) -> Floats:
    """How many independent draws would tell the centre as well, (...)."""
    return _ess(_normal(_split(draws)))


def ess_tail(draws: Floats) -> Floats:
    """The same for the 5% and the 95% quantile, the smaller one, (...)."""
    low, high = np.quantile(draws, [0.05, 0.95], axis=(-2, -1))
    return np.minimum(*(_ess(_split((draws <= q[..., None, None]).astype(float))) for q in (low, high)))


def _split(draws: Floats) -> Floats:
    half = draws.shape[-1] // 2
    return np.concatenate([draws[..., :half], draws[..., draws.shape[-1] - half :]], axis=-2)


def _normal(draws: Floats) -> Floats:
    flat = draws.reshape(*draws.shape[:-2], -1)
    rank = np.argsort(np.argsort(flat, axis=-1, kind="stable"), axis=-1) + 1.0
    return np.asarray(ndtri((rank - 0.375) / (flat.shape[-1] + 0.25))).reshape(draws.shape)


def _spread(draws: Floats) -> tuple[Floats, Floats]:
    """Mean variance within a chain, and the pooled estimate of the variance."""
    num = draws.shape[-1]
    within = draws.var(axis=-1, ddof=1).mean(axis=-1)
    return within, within * (num - 1) / num + draws.mean(axis=-1).var(axis=-1, ddof=1)


def _r_hat(draws: Floats) -> Floats:
    within, pooled = _spread(draws)
    return np.sqrt(pooled / np.where(within > 0, within, 1.0))


def _ess(draws: Floats) -> Floats:
    chains, num = draws.shape[-2:]
    within, pooled = _spread(draws)
    centred = draws - draws.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(centred, 2 * num, axis=-1)
    covariance = np.fft.irfft(np.abs(spectrum) ** 2, axis=-1)[..., :num].mean(axis=-2) / num
    pooled = np.where(pooled > 0, pooled, 1.0)[..., None]
    rho = 1 - (within[..., None] - covariance * num / (num - 1)) / pooled
    rho[..., 0] = 1.0
    pairs = rho[..., : num // 2 * 2].reshape(*rho.shape[:-1], -1, 2).sum(axis=-1)  # Geyer: positive and falling
    pairs = np.minimum.accumulate(pairs, axis=-1)
    pairs = np.where(np.minimum.accumulate(pairs > 0, axis=-1), pairs, 0.0)
    total = chains * num
    time = np.maximum(2 * pairs.sum(axis=-1) - 1, 1 / np.log10(total))
    return total / time
