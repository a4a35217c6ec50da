"""The chance in a simulated home: numbers that are a function of a key and a counter, and of nothing else.

SplitMix64's finaliser (Steele et al. 2014) over counters, as everywhere in this project: no state to carry, so a
step can be repeated, skipped or run on any worker and still sees its own numbers.
"""

import hashlib
import json
from dataclasses import asdict

import numpy as np
from numba import njit

from devices.home.types import Context

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MUL_1 = np.uint64(0xBF58476D1CE4E5B9)
_MUL_2 = np.uint64(0x94D049BB133111EB)

# What changes the verdict on a run, or its name, but not the world in which it happens.
_NOT_PHYSICAL = ("name", "sound_dba", "run_limit_s", "battery_floor")


def world_key(context: Context, replicate: int) -> np.uint64:
    """The 64-bit key of one laid-out world. Settings are no part of it: they are compared in the same worlds."""
    raw = asdict(context)
    for field in _NOT_PHYSICAL:
        del raw[field]
    del raw["plan"]["name"]
    text = json.dumps([raw, int(replicate)], sort_keys=True)
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


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
