"""The simulated home under a robot vacuum: drive, contacts, drops, dirt, sound and battery, 15 ms at a time.

All of it is one compiled `step` over plain arrays; `Home` wears it as a Plant for an emulator, `simulate` loops over it.
The robot is a disc, so it can always turn where it stands and a collision depends on its centre alone.
"""

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.dirt import cells_under, lay_dirt, pickup_rates
from devices.home.noise import fold, uniform_at, world_key
from devices.home.plan import (
    BLOCKED,
    CARPET_FLOOR,
    DIRT_M,
    DOCK,
    HARD_FLOOR,
    NEAR_DROP,
    NOTHING,
    OBSTACLE,
    OVER_DROP,
    SPACE_M,
    nearest,
    room_names,
    survey,
)
from devices.home.power import CAPACITY_MAH, battery_step, load_w
from devices.home.sound import emission, heard_dba, loudness
from devices.home.types import OUTCOMES, Context, Outcome
from firmware_bridge.plant import Actuators, Sensors

PLANT_DT_S = 0.015  # the Open Interface's own 15 ms beat
PLAN_EVERY = 4  # steps from one planner command to the next, 60 ms: one tick
TICK_S = PLANT_DT_S * PLAN_EVERY
WHEEL_BASE_MM = 235.0
MM_PER_COUNT = 0.444564
DIRT_FULL_SCALE_G_S = 6.0  # pickup rate at a dirt reading of 255: what a spill on carpet gives at full speed

# White slip of a driven wheel a step, uniform in +-: the heading wanders 0.5 degrees a square-root minute on hard
# floor and 1.5 on carpet, at 300 mm/s.
_SLIP_HARD, _SLIP_CARPET = 0.009, 0.027
_STALL_SLIP = 0.06  # a blocked wheel turns up to this share of what it is told
_DOCKING_MM_S = 60.0
_DOCKING_COS = math.cos(math.radians(20.0))
# The four cliff sensors under the front edge: 0.155 m from the centre, at +-20 and +-60 degrees.
_CLIFF_M = 0.155
_CLIFF_COS = (math.cos(math.radians(20.0)), math.cos(math.radians(60.0)))
_CLIFF_SIN = (math.sin(math.radians(20.0)), math.sin(math.radians(60.0)))
_WALL_RAD = math.radians(-65.0)  # the wall sensor looks out there, right of the bumper
_WALL_REACH_M = 0.05  # clearance from rim to wall at which it still sees it
_BOTH_SIN = math.sin(math.radians(15.0))  # a contact this near the middle presses both bump switches

# Slots of `State.body`.
STEPS, X, Y, HEADING, LEFT_MM, RIGHT_MM, HELD_LEFT, HELD_RIGHT, LATCHED, CLIFF, DOCKED, FALLEN = range(12)
CHARGE_MAH, TEMPERATURE, VOLTAGE, CURRENT, ENERGY_J, SOUND, BUMPS, WAS_BUMPED, DIRT, REMOVED_G, COVERED = range(12, 23)
NUM_BODY = 23


class World(NamedTuple):
    """What does not change during a run."""

    codes: NDArray[np.uint8]  # the five grids of plan.Survey
    cell_m: float
    space: NDArray[np.uint8]
    floor: NDArray[np.uint8]
    room: NDArray[np.int64]
    cleanable_m2: float
    occupied: NDArray[np.bool_]  # (R,) people in the room
    loud: NDArray[np.float64]  # (101, 2), see sound.loudness


class State(NamedTuple):
    """What changes, in place."""

    body: NDArray[np.float64]  # (NUM_BODY,)
    loose: NDArray[np.float64]  # (Y, X) g a cell
    bound: NDArray[np.float64]  # (Y, X) g a cell
    covered: NDArray[np.bool_]  # (Y, X) a brush has been here
    sound: NDArray[np.float64]  # (R,) energy emitted while in each room, summed over ticks
    under: NDArray[np.int64]  # (64,) scratch
    keys: NDArray[np.uint64]  # (2,) of slip and of the dirt sensor


def make_world(context: Context) -> World:
    """The unchanging part of a home. ValueError with one line for a bad drawing or an unknown room."""
    grids = survey(context.plan)
    rooms = room_names(context.plan)
    for name in context.occupied:
        if name not in rooms:
            raise ValueError(f"context {context.name}: {name!r} is occupied but no room of plan {context.plan.name}")
    occupied = np.array([name in context.occupied for name in rooms])
    return World(
        grids.codes,
        grids.cell_m,
        grids.space,
        grids.floor,
        grids.room,
        grids.cleanable_m2,
        occupied,
        loudness(context),
    )


def make_state(context: Context, world: World, replicate: int) -> State:
    """The home before the run: dirt laid, robot at the start, battery as the context says."""
    key = world_key(context, replicate)
    loose, bound = lay_dirt(
        world.floor, np.uint64(fold(key, np.uint64(1))), context.dirt_g_m2, context.carpet_dirt_factor
    )
    body = np.zeros(NUM_BODY)
    body[X], body[Y] = context.plan.start_m
    body[HEADING] = context.plan.start_rad
    body[CHARGE_MAH] = context.battery * CAPACITY_MAH
    body[TEMPERATURE] = 25.0
    idle_w = load_w(0, 0, 0, 0.0, 0.0, False)
    _, _, body[VOLTAGE], body[CURRENT] = battery_step(body[CHARGE_MAH], 25.0, idle_w, False, 0.0)
    keys = np.array([fold(key, np.uint64(2)), fold(key, np.uint64(3))], dtype=np.uint64)
    sound = np.zeros(len(world.occupied))
    covered = np.zeros(world.floor.shape, dtype=np.bool_)
    return State(body, loose, bound, covered, sound, np.zeros(64, dtype=np.int64), keys)


@njit(cache=True)
def is_blocked(space: NDArray[np.uint8], x: float, y: float) -> bool:
    """Would a robot centred there stand in an obstacle?"""
    iy, ix = int(y / SPACE_M), int(x / SPACE_M)
    return x < 0 or y < 0 or iy >= space.shape[0] or ix >= space.shape[1] or (space[iy, ix] & BLOCKED) != 0


@njit(cache=True)
def _over_drop(floor: NDArray[np.uint8], x: float, y: float) -> bool:
    iy, ix = int(y / DIRT_M), int(x / DIRT_M)
    return 0 <= iy < floor.shape[0] and 0 <= ix < floor.shape[1] and floor[iy, ix] == OVER_DROP


@njit(cache=True)
def _look_down(world: World, b: NDArray[np.float64]) -> None:
    """Cliff sensors, and whether a wheel has left the floor."""
    b[CLIFF] = 0.0
    if not world.space[int(b[Y] / SPACE_M), int(b[X] / SPACE_M)] & NEAR_DROP:
        return
    cos, sin = math.cos(b[HEADING]), math.sin(b[HEADING])
    for k in range(2):
        ahead, beside = _CLIFF_M * _CLIFF_COS[k], _CLIFF_M * _CLIFF_SIN[k]
        for side in (-beside, beside):
            if _over_drop(world.floor, b[X] + ahead * cos - side * sin, b[Y] + ahead * sin + side * cos):
                b[CLIFF] = 1.0
    for half in (-0.5e-3 * WHEEL_BASE_MM, 0.5e-3 * WHEEL_BASE_MM):
        if _over_drop(world.floor, b[X] - half * sin, b[Y] + half * cos):
            b[FALLEN] = 1.0


@njit(cache=True)
def _touch(world: World, b: NDArray[np.float64], x: float, y: float, forward_mm: float) -> None:
    """A contact at the place that was refused: which bump switch, or the dock's contacts."""
    dx, dy, away, code = nearest(world.codes, world.cell_m, x, y, OBSTACLE, DOCK)
    if away <= 0.0:  # deeper than its own radius: never at 6 mm a step, but a division must not depend on that
        dx, dy, away = math.cos(b[HEADING]), math.sin(b[HEADING]), 1.0
    cos, sin = math.cos(b[HEADING]), math.sin(b[HEADING])
    ahead, beside = (dx * cos + dy * sin) / away, (dy * cos - dx * sin) / away
    if code == DOCK and ahead >= _DOCKING_COS and 0.0 < forward_mm <= _DOCKING_MM_S * PLANT_DT_S:
        b[DOCKED] = 1.0
        return
    if ahead <= 0.0:  # no switch behind
        return
    # A pressed bumper springs back in one tick, so that a host that looks every 60 ms sees every bump.
    if beside > -_BOTH_SIN:
        b[HELD_LEFT] = PLAN_EVERY
    if beside < _BOTH_SIN:
        b[HELD_RIGHT] = PLAN_EVERY


@njit(cache=True)
def _drive(world: World, b: NDArray[np.float64], key: np.uint64, left: float, right: float, carpet: bool) -> None:
    """Wheels turn for one step (mm/s); the robot follows unless something stands in the way."""
    left_mm, right_mm = left * PLANT_DT_S, right * PLANT_DT_S
    slip = _SLIP_CARPET if carpet else _SLIP_HARD
    count = np.uint64(2 * int(b[STEPS]))
    chance_left = 2.0 * uniform_at(key, count) - 1.0
    chance_right = 2.0 * uniform_at(key, count + np.uint64(1)) - 1.0
    ground_left, ground_right = left_mm * (1.0 + slip * chance_left), right_mm * (1.0 + slip * chance_right)
    forward_mm = 0.5 * (ground_left + ground_right)
    turn = (ground_right - ground_left) / WHEEL_BASE_MM
    middle = b[HEADING] + 0.5 * turn
    b[HEADING] += turn
    x = b[X] + 1e-3 * forward_mm * math.cos(middle)
    y = b[Y] + 1e-3 * forward_mm * math.sin(middle)
    if forward_mm != 0.0 and is_blocked(world.space, x, y):
        _touch(world, b, x, y, forward_mm)
        # Turning goes on, advancing does not: the wheels stall but for a little slip.
        stalled = 0.5 * (left_mm + right_mm)
        left_mm -= stalled * (1.0 - _STALL_SLIP * 0.5 * (1.0 + chance_left))
        right_mm -= stalled * (1.0 - _STALL_SLIP * 0.5 * (1.0 + chance_right))
    elif forward_mm != 0.0:
        b[X], b[Y] = x, y
        b[DOCKED] = 0.0
    b[LEFT_MM] += left_mm
    b[RIGHT_MM] += right_mm


@njit(cache=True)
def _sweep(world: World, state: State, fan: int, brush: int, side_brush: int) -> None:
    """One tick of brushes and suction where the robot stands now, and the dirt sensor's reading of it."""
    b = state.body
    cos, sin = math.cos(b[HEADING]), math.sin(b[HEADING])
    main, side = cells_under(world.floor.shape, b[X], b[Y], cos, sin, side_brush > 0, state.under)
    loose_hard, bound_hard = pickup_rates(fan, brush, False)
    loose_carpet, bound_carpet = pickup_rates(fan, brush, True)
    keep_loose = (math.exp(-loose_hard * TICK_S), math.exp(-loose_carpet * TICK_S))
    keep_bound = (math.exp(-bound_hard * TICK_S), math.exp(-bound_carpet * TICK_S))
    # The side brush flicks loose dirt into the suction, at a third of the main brush's rate; in a pile it finds little.
    flick = 0.33 * side_brush / 100.0
    keep_flicked = (math.exp(-loose_hard * TICK_S * flick), math.exp(-loose_carpet * TICK_S * flick * 0.25))
    floor, loose, bound, covered = world.floor.ravel(), state.loose.ravel(), state.bound.ravel(), state.covered.ravel()
    picked = 0.0
    for i in range(main + side):
        k = state.under[i]
        if floor[k] == NOTHING or floor[k] == OVER_DROP:
            continue
        pile = 1 if floor[k] == CARPET_FLOOR else 0
        if i < main:
            kept, stuck = loose[k] * keep_loose[pile], bound[k] * keep_bound[pile]
        else:
            kept, stuck = loose[k] * keep_flicked[pile], bound[k]
        picked += (loose[k] - kept) + (bound[k] - stuck)
        loose[k], bound[k] = kept, stuck
        if not covered[k]:
            covered[k] = True
            b[COVERED] += 1.0
    b[REMOVED_G] += picked
    # The sensor counts impacts: 10% noise, and rounding by chance so that a faint rate is not lost to quantisation.
    count = np.uint64(2 * int(b[STEPS]))
    rate = 255.0 * picked / TICK_S / DIRT_FULL_SCALE_G_S
    rate *= 1.0 + 0.1 * (2.0 * uniform_at(state.keys[1], count) - 1.0)
    b[DIRT] = min(255.0, math.floor(rate + uniform_at(state.keys[1], count + np.uint64(1))))


@njit(cache=True)
def step(world: World, state: State, left: int, right: int, fan: int, brush: int, side_brush: int) -> None:
    """Move the home on by PLANT_DT_S under constant actuators (mm/s, mm/s, percent, percent, percent)."""
    b = state.body
    tick_ends = int(b[STEPS]) % PLAN_EVERY == PLAN_EVERY - 1
    if int(b[STEPS]) % PLAN_EVERY == 0:
        b[LATCHED] = 0.0
    # The cliff reflex is built in: no forward motion towards a drop, and then none at all until the next command.
    if (b[CLIFF] > 0.0 and left + right > 0) or b[FALLEN] > 0.0:
        b[LATCHED] = 1.0
    if b[LATCHED] > 0.0:
        left, right = 0, 0
    for slot in (HELD_LEFT, HELD_RIGHT):
        if b[slot] > 0.0:
            b[slot] -= 1.0
    carpet = world.floor[int(b[Y] / DIRT_M), int(b[X] / DIRT_M)] == CARPET_FLOOR
    if left != 0 or right != 0:
        _drive(world, b, state.keys[0], float(left), float(right), carpet)
        _look_down(world, b)
    power = load_w(fan, brush, side_brush, float(left), float(right), carpet)
    b[CHARGE_MAH], b[TEMPERATURE], b[VOLTAGE], b[CURRENT] = battery_step(
        b[CHARGE_MAH], b[TEMPERATURE], power, b[DOCKED] > 0.0, PLANT_DT_S
    )
    b[ENERGY_J] += max(b[VOLTAGE] * b[CURRENT], 0.0) * PLANT_DT_S
    if tick_ends:
        _sweep(world, state, fan, brush, side_brush)
        loud = emission(world.loud, fan, brush, carpet)
        b[SOUND] += loud
        room = world.room[int(b[Y] / DIRT_M), int(b[X] / DIRT_M)]
        if room >= 0:
            state.sound[room] += loud
        bumped = b[HELD_LEFT] > 0.0 or b[HELD_RIGHT] > 0.0
        if bumped and b[WAS_BUMPED] == 0.0:
            b[BUMPS] += 1.0
        b[WAS_BUMPED] = 1.0 if bumped else 0.0
    b[STEPS] += 1.0


@njit(cache=True)
def sense(world: World, state: State) -> tuple[bool, bool, bool, bool, int, int]:
    """What steers: bump left, bump right, cliff, wall, left and right counts."""
    b = state.body
    look = b[HEADING] + _WALL_RAD
    wall = is_blocked(world.space, b[X] + _WALL_REACH_M * math.cos(look), b[Y] + _WALL_REACH_M * math.sin(look))
    left_counts = int(math.floor(b[LEFT_MM] / MM_PER_COUNT))
    right_counts = int(math.floor(b[RIGHT_MM] / MM_PER_COUNT))
    return b[HELD_LEFT] > 0.0, b[HELD_RIGHT] > 0.0, b[CLIFF] > 0.0, wall, left_counts, right_counts


@njit(cache=True)
def outcome_z(world: World, state: State) -> NDArray[np.float64]:
    """(6,) The true outcome so far, in the order of OUTCOMES."""
    b = state.body
    z = np.empty(6)
    cells = world.cleanable_m2 / DIRT_M**2
    z[0] = (state.loose.sum() + state.bound.sum()) / world.cleanable_m2
    z[1] = 100.0 * b[COVERED] / cells
    z[2] = b[STEPS] * PLANT_DT_S / 60.0
    z[3] = heard_dba(state.sound, b[SOUND], float(int(b[STEPS]) // PLAN_EVERY), world.occupied)
    z[4] = b[ENERGY_J] / 3600.0
    z[5] = b[BUMPS]
    return z


class Home:
    """One home with a robot in it, as a Plant. Deterministic from (context, replicate); keeps its own clock.

    The same replicate is the same dirt and the same slips whatever the settings, so settings are compared fairly.
    """

    def __init__(self, context: Context, replicate: int) -> None:
        self.context = context
        self.world = make_world(context)
        self.state = make_state(context, self.world, replicate)

    @property
    def now_s(self) -> float:
        """The home's clock."""
        return float(self.state.body[STEPS]) * PLANT_DT_S

    @property
    def pose(self) -> tuple[float, float, float]:
        """Where the robot truly is: m, m, rad."""
        x, y, heading = self.state.body[[X, Y, HEADING]]
        return float(x), float(y), float(heading)

    def advance(self, dt_s: float, actuators: Actuators) -> Sensors:
        """Move on by dt_s, a multiple of PLANT_DT_S (0 only reads), and read the sensors."""
        steps = round(dt_s / PLANT_DT_S)
        if steps < 0 or abs(steps * PLANT_DT_S - dt_s) > 1e-9 * max(1.0, dt_s):
            raise ValueError(f"a home moves in steps of {PLANT_DT_S} s, asked for {dt_s!r} s")
        if not all(0 <= duty <= 100 for duty in actuators[2:]):
            raise ValueError(f"fan and brushes take 0 to 100 percent, asked for {actuators[2:]}")
        for _ in range(steps):
            step(self.world, self.state, *actuators)
        return self._sensors()

    def _sensors(self) -> Sensors:
        b = self.state.body
        return Sensors(
            *sense(self.world, self.state),
            dirt=int(b[DIRT]),
            voltage_mv=round(1000 * b[VOLTAGE]),
            current_ma=round(1000 * b[CURRENT]),
            charge_mah=int(b[CHARGE_MAH]),
            capacity_mah=CAPACITY_MAH,
            temperature_c=round(b[TEMPERATURE]),
            docked=bool(b[DOCKED]),
        )

    def truth(self, end: Literal["finished", "run_limit", "battery", "stopped", "fault"]) -> Outcome:
        """What the run truly did, known without error because it is simulated."""
        return true_outcome(outcome_z(self.world, self.state), end)

    def cleaned(self) -> NDArray[np.bool_]:
        """(Y, X) Where a brush has been, 5 cm cells, row 0 at the bottom of the drawing."""
        return self.state.covered.copy()

    def dirt_g_m2(self) -> NDArray[np.float64]:
        """(Y, X) Dirt left, NaN where there is no cleanable floor."""
        floor = self.world.floor
        is_floor = (floor == HARD_FLOOR) | (floor == CARPET_FLOOR)
        return np.where(is_floor, (self.state.loose + self.state.bound) / DIRT_M**2, np.nan)


def true_outcome(z: NDArray[np.float64], end: Any) -> Outcome:
    """An Outcome that the simulator vouches for."""
    return Outcome(z=z, source=("simulated",) * len(OUTCOMES), error=np.zeros(len(OUTCOMES)), end=end)
