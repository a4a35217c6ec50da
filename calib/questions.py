"""The questions that may follow a run, in one numbered pool: a policy chooses a number, people see the question.

A kind is a channel through which people answer (definitions 2.5). Which of them are in the pool is a matter of the
scenario, of the policy and of what the engine can learn from.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

Kind = Literal["comparison", "probe", "rating", "best_of"]
# In the order of the pool.
KINDS: tuple[Kind, ...] = ("comparison", "probe", "rating", "best_of")
PAIR, PROBE, RATING, BEST_OF = range(len(KINDS))
GRADES = ("not at all", "hardly", "half and half", "mostly", "wholly")  # how far a run was as they would have it


class Pool(NamedTuple):
    """How many questions there are of each kind, in the order of KINDS."""

    pairs: int  # of outcome cards
    probes: int  # of what people expect, modes by attributes (calib/probes.py)
    ratings: int  # 1 where the run that was just seen may be rated
    menus: int  # of outcome cards, of which the best is named

    def first(self, kind: int) -> int:
        """Number of the first question of a kind."""
        return sum(self[:kind])

    def parts(self, number: Ints) -> tuple[Ints, Ints]:
        """Kind, and number within the kind, of questions (N,) of the pool; both -1 where a number is."""
        ends = np.cumsum(self)
        kind = np.where(number >= 0, np.searchsorted(ends, number, side="right"), -1)
        return kind, np.where(number >= 0, number - (ends - np.array(self))[kind], -1)
