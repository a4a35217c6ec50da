"""The meter: what a host can tell of a run from telemetry alone, and how wrong it may be.

It never sees the truth. Clock, volts, amperes and bump switches it measures; coverage it measures by odometry on the
drawn plan, pulled straight where robot and drawing disagree (the robot cannot stand in a wall; a bump means that one is
there). Residual dirt and sound it models: from the dirt sensor against the nominal load, and from the context's sound
table and the room of the odometry pose. A robot without a dirt sensor is taken to pick up, where the odometry says that
it is, what these settings take of the nominal load spread evenly.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.dirt import BOUND_CARPET, BOUND_HARD, cells_under, pickup_rates
from devices.home.plan import (
    CARPET_FLOOR,
    DIRT_M,
    DOCK,
    HARD_FLOOR,
    NEAR_WALL,
    OBSTACLE,
    ROBOT_RADIUS_M,
    SPACE_M,
    nearest,
    survey,
)
from devices.home.planners import SIDE_BRUSH
from devices.home.plant import DIRT_FULL_SCALE_G_S, MM_PER_COUNT, WHEEL_BASE_MM, End, World, make_world
from devices.home.sound import emission, heard_dba, wheel_noise
from devices.home.types import Context, Outcome, Settings
from firmware_bridge.plant import Sensors

# A bump finds the drawn wall within this reach of where the odometry believes it, and takes this share of the shift:
# wanted, the pose forgives the odometry's drift; unwanted, a chair that is not drawn pulls it only half astray.
_FIND_M = 0.15
_TRUST = 0.7
_SIDE_RAD = math.radians(40.0)  # a single bump switch covers 15 to 82 degrees of its side

# Slots of the running sums.
X, Y, HEADING, LEFT, RIGHT, TIME_S, ENERGY_J, PICKED_G, BUMPS, BUMPED, COVERED, SOUND, SAMPLES = range(13)


class Sums(NamedTuple):
    """What the meter carries, in place."""

    sums: NDArray[np.float64]  # (13,)
    covered: NDArray[np.bool_]  # (Y, X)
    sound: NDArray[np.float64]  # (R,) energy while in each room
    under: NDArray[np.int64]  # (64, 2) scratch
    loud: NDArray[np.float64]  # (2,) energy emitted by these settings on hard floor and carpet
    loose: NDArray[np.float64]  # (Y, X) g a cell, as modelled; (0, 0) for a robot with a dirt sensor
    bound: NDArray[np.float64]
    rates: NDArray[np.float64]  # (3, 2) 1/s of loose, bound and flicked dirt on hard floor and carpet


@njit(cache=True)
def _correct(codes: NDArray[np.uint8], cell_m: float, space: NDArray[np.uint8], s: NDArray[np.float64]) -> None:
    """Put a pose that stands in an obstacle beside it."""
    iy, ix = int(s[Y] / SPACE_M), int(s[X] / SPACE_M)
    if not (0 <= iy < space.shape[0] and 0 <= ix < space.shape[1]) or space[iy, ix] & NEAR_WALL:
        dx, dy, away, _ = nearest(codes, cell_m, s[X], s[Y], OBSTACLE, DOCK)
        if 0.0 < away < ROBOT_RADIUS_M:
            s[X] -= dx / away * (ROBOT_RADIUS_M - away)
            s[Y] -= dy / away * (ROBOT_RADIUS_M - away)


@njit(cache=True)
def _find_wall(codes: NDArray[np.uint8], cell_m: float, s: NDArray[np.float64], side: float) -> None:
    """A bump: the nearest drawn contact towards the pressed side; move the pose part of the way to it."""
    look = s[HEADING] + side * _SIDE_RAD
    cos, sin = math.cos(look), math.sin(look)
    gone = 0.0
    while gone < _FIND_M:
        if nearest(codes, cell_m, s[X] + gone * cos, s[Y] + gone * sin, OBSTACLE, DOCK)[2] < ROBOT_RADIUS_M + 0.005:
            s[X] += _TRUST * gone * cos
            s[Y] += _TRUST * gone * sin
            return
        gone += 0.01


@njit(cache=True)
def _add(
    world: World,
    m: Sums,
    dt_s: float,
    bump_left: bool,
    bump_right: bool,
    left_counts: int,
    right_counts: int,
    dirt: int,
    voltage_mv: int,
    current_ma: int,
    side_brush: bool,
) -> None:
    s = m.sums
    if s[SAMPLES] == 0.0:
        s[LEFT], s[RIGHT] = left_counts, right_counts
    left_mm, right_mm = (left_counts - s[LEFT]) * MM_PER_COUNT, (right_counts - s[RIGHT]) * MM_PER_COUNT
    s[LEFT], s[RIGHT] = left_counts, right_counts
    s[SAMPLES] += 1.0
    turn = (right_mm - left_mm) / WHEEL_BASE_MM
    middle, forward_m = s[HEADING] + 0.5 * turn, 0.5e-3 * (left_mm + right_mm)
    s[X] += forward_m * math.cos(middle)
    s[Y] += forward_m * math.sin(middle)
    s[HEADING] += turn
    _correct(world.codes, world.cell_m, world.space, s)
    bumped = bump_left or bump_right
    if bumped and s[BUMPED] == 0.0:
        s[BUMPS] += 1.0
        _find_wall(world.codes, world.cell_m, s, (1.0 if bump_left else 0.0) - (1.0 if bump_right else 0.0))
    s[BUMPED] = 1.0 if bumped else 0.0
    s[TIME_S] += dt_s
    s[ENERGY_J] += max(1e-6 * voltage_mv * current_ma, 0.0) * dt_s
    s[PICKED_G] += dirt / 255.0 * DIRT_FULL_SCALE_G_S * dt_s
    if dt_s == 0.0:
        return
    floor = world.floor
    iy = min(max(int(s[Y] / DIRT_M), 0), floor.shape[0] - 1)
    ix = min(max(int(s[X] / DIRT_M), 0), floor.shape[1] - 1)
    wheels = wheel_noise(0.5 * (abs(left_mm) + abs(right_mm)) / dt_s)
    loud = (m.loud[1 if floor[iy, ix] == CARPET_FLOOR else 0] + wheels) * dt_s
    s[SOUND] += loud
    if world.room[iy, ix] >= 0:
        m.sound[world.room[iy, ix]] += loud
    cos, sin = math.cos(s[HEADING]), math.sin(s[HEADING])
    main, both = cells_under(floor.shape[0], floor.shape[1], s[X], s[Y], cos, sin, side_brush, m.under)
    for i in range(both):
        iy, ix = m.under[i, 0], m.under[i, 1]
        if floor[iy, ix] != HARD_FLOOR and floor[iy, ix] != CARPET_FLOOR:
            continue
        if not m.covered[iy, ix]:
            m.covered[iy, ix] = True
            s[COVERED] += 1.0
        if m.loose.size > 0:
            s[PICKED_G] += _pick(m, iy, ix, 1 if floor[iy, ix] == CARPET_FLOOR else 0, i < main, dt_s)


@njit(cache=True)
def _pick(m: Sums, iy: int, ix: int, pile: int, under_main: bool, dt_s: float) -> float:
    """What the brush over this cell takes of the modelled dirt in dt_s, g."""
    loose = m.loose[iy, ix] * math.exp(-m.rates[0 if under_main else 2, pile] * dt_s)
    bound = m.bound[iy, ix] * math.exp(-m.rates[1, pile] * dt_s) if under_main else m.bound[iy, ix]
    picked = m.loose[iy, ix] - loose + m.bound[iy, ix] - bound
    m.loose[iy, ix], m.bound[iy, ix] = loose, bound
    return picked


class Meter:
    """Measures one run in one context with one setting. Add telemetry every 60 ms, the first time before any motion."""

    def __init__(self, context: Context, settings: Settings, dirt_sensor: bool = True) -> None:
        self._context = context
        self._world = make_world(context)
        grids = survey(context.plan)
        sums = np.zeros(13)
        sums[X], sums[Y], sums[HEADING] = grids.start_x, grids.start_y, grids.start_rad
        loud = np.array([emission(self._world.loud, settings.fan, settings.brush, pile) for pile in (False, True)])
        num_rooms = len(self._world.occupied)
        covered = np.zeros(grids.floor.shape, dtype=np.bool_)
        loose, bound = (np.zeros((0, 0)), np.zeros((0, 0))) if dirt_sensor else _even_load(context, grids.floor)
        # As the plant has them: the side brush flicks loose dirt at a third of the rate, a quarter of that on carpet.
        hard, pile = (pickup_rates(settings.fan, settings.brush, carpet) for carpet in (False, True))
        flick = 0.33 * SIDE_BRUSH / 100
        rates = np.array([[hard[0], pile[0]], [hard[1], pile[1]], [flick * hard[0], 0.25 * flick * pile[0]]])
        under = np.zeros((64, 2), dtype=np.int64)
        self._sums = Sums(sums, covered, np.zeros(num_rooms), under, loud, loose, bound, rates)

    @property
    def pose(self) -> tuple[float, float, float]:
        """Where the host believes the robot to be: m, m, rad in the drawing's frame."""
        x, y, heading = self._sums.sums[[X, Y, HEADING]]
        return float(x), float(y), float(heading)

    @property
    def bumps(self) -> int:
        """Bumps so far."""
        return int(self._sums.sums[BUMPS])

    def add(self, dt_s: float, sensors: Sensors) -> None:
        """Take in the telemetry at the end of dt_s; dt_s = 0 for the reading before the start."""
        _add(
            self._world,
            self._sums,
            dt_s,
            sensors.bump_left,
            sensors.bump_right,
            sensors.left_counts,
            sensors.right_counts,
            sensors.dirt,
            sensors.voltage_mv,
            sensors.current_ma,
            SIDE_BRUSH > 0,
        )

    def outcome(self, end: End) -> Outcome:
        """The outcome of what was added so far, with stated errors, for a robot that drives as the simulator does."""
        s, world = self._sums.sums, self._world
        nominal = self._context.dirt_g_m2
        z = np.array(
            [
                max(nominal - s[PICKED_G] / world.cleanable_m2, 0.0),
                100.0 * s[COVERED] * DIRT_M**2 / world.cleanable_m2,
                s[TIME_S] / 60.0,
                heard_dba(self._sums.sound, s[SOUND], s[TIME_S], world.occupied),
                s[ENERGY_J] / 3600.0,
                s[BUMPS],
            ]
        )
        error = np.array([0.01 * nominal, 2.0, 0.002, 0.75, 0.002 + 0.005 * z[4], 1.0])
        return Outcome(
            z,
            ("modelled", "measured", "measured", "modelled", "measured", "measured"),
            error,
            end,
            reproducibility=None if end in ("stopped", "fault") else error,  # the simulator's run goes to its end
        )


def _even_load(context: Context, floor: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loose and bound dirt, g a cell (Y, X): the nominal load, `carpet_dirt_factor` times as much on carpet."""
    hard, pile = floor == HARD_FLOOR, floor == CARPET_FLOOR
    load = hard + context.carpet_dirt_factor * pile
    load *= context.dirt_g_m2 * DIRT_M**2 * np.count_nonzero(hard | pile) / load.sum()
    share = np.where(pile, BOUND_CARPET, BOUND_HARD)
    return load * (1 - share), load * share
