"""Fewer points for the same picture: a chart never gets more than LARGEST rows."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LARGEST = 2_000  # rows of a chart


def kept_steps(values: Sequence[float], most: int) -> NDArray[np.int64]:
    """Places of at most `most` points of a step curve (K,): the first, the last, both sides of its largest jumps, and
    others evenly between. `most` is 2 or more."""
    number = len(values)
    if number <= most:
        return np.arange(number)
    ends = {0, number - 1}
    jumps = np.argsort(-np.abs(np.diff(np.asarray(values, float))), kind="stable")
    kept = set(ends)
    for i in jumps.tolist():
        if len(kept) + 2 > 2 + (most - 2) // 2:
            break
        kept |= {i, i + 1}
    rest = np.linspace(0, number - 1, most).round().astype(int).tolist()
    # Spread what is left over the whole curve, not over its beginning.
    free = [i for i in rest if i not in kept]
    room = most - len(kept)
    step = math.ceil(len(free) / room) if room else len(free) + 1
    kept |= set(free[::step][:room])
    return np.array(sorted(kept))


def share(curves: int) -> int:
    """How many points each of so many curves may have in one chart, 2 at least."""
    return max(LARGEST // max(curves, 1), 2)
