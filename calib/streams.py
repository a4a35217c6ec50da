"""Named random streams without state.

A number is a function of (root seed, purpose, person, round, slot) and of nothing else, so that batches, workers,
resumed and replayed runs all see the same one. The key of a purpose comes from numpy's SeedSequence; below it a
counter-based generator (SplitMix64's finaliser, Steele et al. 2014, chained over the words) makes the numbers.
"""

import zlib

import numpy as np
from numba import njit
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MUL_1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL_2 = np.uint64(0x94D049BB133111EB)


def stream_key(root: int, purpose: str) -> np.uint64:
    """The 64-bit key of one purpose under one root seed (root >= 0)."""
    sequence = np.random.SeedSequence(root, spawn_key=(zlib.crc32(purpose.encode()),))
    return np.uint64(sequence.generate_state(1, np.uint64)[0])


@njit(cache=True, inline="always")
def mix(word: np.uint64) -> np.uint64:
    """SplitMix64's finaliser: a bijection of 64-bit words."""
    word = (word ^ (word >> np.uint64(30))) * _MUL_1
    word = (word ^ (word >> np.uint64(27))) * _MUL_2
    return word ^ (word >> np.uint64(31))


@njit(cache=True, inline="always")
def fold(key: np.uint64, word: np.uint64) -> np.uint64:
    """A new key from a key and one more coordinate."""
    return mix((key + _GOLDEN) ^ mix(np.uint64(word) + _GOLDEN))


@njit(cache=True, inline="always")
def uniform_at(key: np.uint64, counter: np.uint64) -> float:
    """The counter-th number in (0, 1) of a key: 53 bits, never 0 and never 1."""
    word = mix(key + np.uint64(counter) * _GOLDEN + _GOLDEN)
    return (np.float64(word >> np.uint64(11)) + 0.5) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def uniforms(key: np.uint64, people: NDArray[np.int64], round_number: int, num_slots: int) -> NDArray[np.float64]:
    """(N, num_slots) numbers in (0, 1): one row a person, the same whatever the batch."""
    out = np.empty((people.shape[0], num_slots))
    for i in range(people.shape[0]):
        own = fold(fold(key, np.uint64(people[i])), np.uint64(round_number))
        for s in range(num_slots):
            out[i, s] = uniform_at(own, np.uint64(s))
    return out
