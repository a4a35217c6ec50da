"""Named random streams without state.

A number is a function of (root seed, purpose, person, round, slot) and of nothing else, so that batches, workers,
resumed and replayed runs all see the same one. The key of a purpose comes from numpy's SeedSequence; below it a
counter-based generator (SplitMix64's finaliser, Steele et al. 2014, chained over the words) makes the numbers.
"""

import zlib
from functools import lru_cache

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.noise import fold, uniform_at


@lru_cache(maxsize=256)
def stream_key(root: int, purpose: str) -> np.uint64:
    """The 64-bit key of one purpose under one root seed (root >= 0)."""
    sequence = np.random.SeedSequence(root, spawn_key=(zlib.crc32(purpose.encode()),))
    return np.uint64(sequence.generate_state(1, np.uint64)[0])


@njit(cache=True)
def uniforms(key: np.uint64, people: NDArray[np.int64], round_number: int, num_slots: int) -> NDArray[np.float64]:
    """(N, num_slots) numbers in (0, 1): one row a person, the same whatever the batch."""
    out = np.empty((people.shape[0], num_slots))
    for i in range(people.shape[0]):
        own = fold(fold(key, np.uint64(people[i])), np.uint64(round_number))
        for s in range(num_slots):
            out[i, s] = uniform_at(own, np.uint64(s))
    return out
