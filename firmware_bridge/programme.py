"""How an emulated robot cleans by itself: lanes through the house, a spiral on the spot. No maker's own programme.

Pure: switches and wheel positions in, wheel speeds out. It stands in for what nobody can read, so that a host that only
starts, watches and stops a cleaning has something that moves, bumps, takes its time and ends.
"""

import math

_TURN_MM_S = 200.0
_BACK_MM = 30.0
_LANES_TO_A_DEAD_END = 3  # so short that it is better to turn the whole pattern
_SPOT_MM = 1000.0  # the spiral's last radius


class Programme:
    """One cleaning: `steer` it step by step until it says done."""

    def __init__(
        self,
        spot: bool,
        speed_mm_s: float,
        lane_mm: float,
        track_mm: float,
        positions_mm: tuple[float, float],
        lasts_s: float = 2700.0,
    ) -> None:
        """A spot or a house at this speed, lanes so far apart; positions_mm: where the wheels stand now."""
        self._spot = spot
        self._speed = speed_mm_s
        self._lane_mm = lane_mm
        self._track_mm = track_mm
        self._lasts_s = lasts_s
        self._side = 1.0
        self._short = 0
        self._elapsed_s = 0.0
        self._radius_mm = 120.0
        self._from = positions_mm
        # What is still to be driven: (kind, mm of the wheels' mean or of each wheel against the other).
        self._way: list[tuple[str, float]] = [("ahead", math.inf)]

    def steer(
        self, dt_s: float, bump_left: bool, bump_right: bool, cliff: bool, left_mm: float, right_mm: float, lifted: bool
    ) -> tuple[float, float, bool]:
        """(left mm/s, right mm/s, done) for the next dt_s."""
        self._elapsed_s += dt_s
        if lifted or self._elapsed_s > self._lasts_s:
            return 0.0, 0.0, True
        if self._spot:
            return self._spiral(dt_s, bump_left or bump_right or cliff)
        kind, length = self._way[0]
        gone_left, gone_right = left_mm - self._from[0], right_mm - self._from[1]
        gone = abs(gone_right - gone_left) / 2 if kind == "turn" else abs(gone_left + gone_right) / 2
        hit = kind in ("ahead", "shift") and (bump_left or bump_right or cliff)
        if hit or gone >= abs(length):
            self._way.pop(0)
            self._from = (left_mm, right_mm)
            if hit:
                self._turn_back(kind, gone)
            elif not self._way:
                self._way = [("ahead", math.inf)]
        kind, length = self._way[0]
        if kind == "turn":
            wheel = math.copysign(_TURN_MM_S, length)
            return -wheel, wheel, False
        speed = -_TURN_MM_S if kind == "back" else self._speed
        return speed, speed, False

    def _turn_back(self, kind: str, gone_mm: float) -> None:
        quarter = self._side * math.pi / 2 * self._track_mm / 2
        self._short = self._short + 1 if gone_mm < 2 * self._lane_mm else 0
        if self._short > _LANES_TO_A_DEAD_END:
            self._short = 0
            self._way = [("back", _BACK_MM), ("turn", 0.77 * quarter), ("ahead", math.inf)]
        elif kind == "shift":  # along a wall: back the way it came
            self._way = [("back", _BACK_MM), ("turn", quarter), ("ahead", math.inf)]
            self._side = -self._side
        else:
            self._way = [("back", _BACK_MM), ("turn", quarter), ("shift", self._lane_mm), ("turn", quarter)]
            self._way.append(("ahead", math.inf))
            self._side = -self._side

    def _spiral(self, dt_s: float, hit: bool) -> tuple[float, float, bool]:
        self._radius_mm += self._lane_mm * self._speed * dt_s / (2 * math.pi * self._radius_mm)
        half = self._track_mm / 2
        inner = self._speed * (self._radius_mm - half) / (self._radius_mm + half)
        return inner, self._speed, hit or self._radius_mm > _SPOT_MM
