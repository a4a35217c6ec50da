"""A robot's clock beside the host's: offset and drift, with intervals that hold whatever the delays are.

An exchange is a question sent at `sent`, stamped by the robot and answered by `came`. The robot's clock is taken to run
evenly, d = h + offset + drift (h - at), and the stamp to lie between the two: no delay is negative. Each exchange then
bounds offset and drift from both sides, whichever way was the slower, and all of them leave a polygon (as in Duda,
Harrus, Haddad and Bernard 1987). Its extremes are the interval, which covers the truth unless the clock did not run
evenly; its middle is the estimate.
"""

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

MAX_DRIFT = 0.01  # a ceramic resonator's 0.5%, and as much again
_KEPT = 256  # exchanges


class ClockJumped(Exception):
    """No evenly running clock gives these stamps: it was set, or the robot has restarted."""


class Interval(NamedTuple):
    """An estimate between its bounds."""

    estimate: float
    low: float
    high: float


class Offset(NamedTuple):
    """The robot's clock less the host's."""

    offset_s: Interval  # at the time that was asked for
    drift: Interval  # seconds a second; 1e-6 is one ppm
    exchanges: int


def offset_of(exchanges: ArrayLike, at_s: float, resolution_s: float = 0.0, max_drift: float = MAX_DRIFT) -> Offset:
    """Of exchanges (n, 3): sent, the robot's stamp, came, in s; the stamp was cut off to its resolution.

    ValueError without an exchange or where an answer came before its question; ClockJumped where nothing fits.
    """
    from scipy.optimize import linprog  # slow to load, and most sessions never ask

    sent, stamp, came = np.asarray(exchanges, float).reshape(-1, 3).T
    if not len(sent) or np.any(came < sent) or not np.all(np.isfinite([sent, stamp, came])):
        raise ValueError("exchanges of a clock are rows of sent, stamp and came, in s, with sent before came")
    # Unknown are the offset at `at_s` and the drift: offset + drift (sent - at) <= stamp - sent, and so on.
    least, most = stamp - came, stamp + resolution_s - sent
    left = np.block(
        [[np.ones((len(sent), 1)), (sent - at_s)[:, None]], [-np.ones((len(sent), 1)), (at_s - came)[:, None]]]
    )
    right, centre = np.concatenate([most, -least]), float(np.median((least + most) / 2))
    right -= np.concatenate([np.full(len(sent), centre), np.full(len(sent), -centre)])  # the solver likes small numbers
    found = []
    for goal in ((1, 0), (-1, 0), (0, 1), (0, -1)):
        solved = linprog(goal, A_ub=left, b_ub=right, bounds=[(None, None), (-max_drift, max_drift)])
        if solved.x is None:
            raise ClockJumped("the robot's clock does not run evenly: it was set, or the robot has restarted")
        found.append(float(solved.x[0] + centre if goal[0] else solved.x[1]))
    offset = Interval((found[0] + found[1]) / 2, found[0], found[1])
    return Offset(offset, Interval((found[2] + found[3]) / 2, found[2], found[3]), len(sent))


class Clock:
    """The exchanges with one robot since it started."""

    def __init__(self, resolution_s: float = 0.0) -> None:
        self._resolution_s = resolution_s
        self._kept: deque[tuple[float, float, float]] = deque()

    def add(self, sent_s: float, stamp_s: float, came_s: float) -> None:
        """One exchange more. Of too many, the quicker one of every two neighbours is kept."""
        self._kept.append((sent_s, stamp_s, came_s))
        if len(self._kept) > _KEPT:
            rows = list(self._kept)
            self._kept = deque(
                min(pair, key=lambda row: row[2] - row[0]) for pair in zip(rows[::2], rows[1::2], strict=False)
            )

    def forget(self) -> None:
        """The robot has restarted."""
        self._kept.clear()

    def offset(self, at_s: float) -> Offset | None:
        """At a time of the host; None before the first exchange. ClockJumped as `offset_of`."""
        return offset_of(list(self._kept), at_s, self._resolution_s) if self._kept else None
