"""The simulated home under a robot vacuum: drive, contacts, drops, dirt, sound and battery, 15 ms at a time.

All of it is one compiled `advance` over plain arrays; `Home` wears it as a Plant for an emulator, `simulate` loops
over it.
The robot is a disc, so it can always turn where it stands and a collision depends on its centre alone.
"""

import math
from typing import Literal, NamedTuple

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
    NEAR_WALL,
    OBSTACLE,
    OVER_DROP,
    ROBOT_RADIUS_M,
    SPACE_M,
    cast_rays,
    nearest,
    room_names,
    survey,
)
from devices.home.power import CAPACITY_MAH, battery_step, motor_load_w, wheel_load_w
from devices.home.sound import emission, heard_dba, loudness, wheel_noise
from devices.home.types import OUTCOMES, Context, Outcome
from firmware_bridge.plant import Actuators, Sensors

PLANT_DT_S = 0.015  # the Open Interface's own 15 ms beat
PLAN_EVERY = 4  # steps from one planner command to the next, 60 ms: one tick
TICK_S = PLANT_DT_S * PLAN_EVERY
LOOK_TICKS = int(1.0 / TICK_S)  # the most that a device's `advance` may drive: one second
LOOK_S = LOOK_TICKS * TICK_S  # how often somebody who watches a run can end it
WHEEL_BASE_MM = 235.0
MM_PER_COUNT = 0.444564
DIRT_FULL_SCALE_G_S = 6.0  # pickup rate at a dirt reading of 255: what a spill on carpet gives at full speed

# White slip of a driven wheel a step, uniform in +-: the heading wanders 0.5 degrees a square-root minute on hard
# floor and 1.5 on carpet, at 300 mm/s.
_SLIP_HARD, _SLIP_CARPET = 0.009, 0.027
_STALL_SLIP = 0.06  # a blocked wheel turns up to this share of what it is told
_DOCKING_MM_S = 60.0
_DOCKING_COS = math.cos(math.radians(20.0))
# Where the cliff sensors look down under the front edge: 0.155 m from the centre, close enough together that the corner
# of a stair cannot come between two of them and under a wheel.
_CLIFF_M = 0.155
_CLIFF_RAD = np.radians(np.array([-75.0, -45.0, -15.0, 15.0, 45.0, 75.0]))
_CLIFF_AHEAD_M, _CLIFF_BESIDE_M = _CLIFF_M * np.cos(_CLIFF_RAD), _CLIFF_M * np.sin(_CLIFF_RAD)
_WALL_RAD = math.radians(-65.0)  # the wall sensor looks out there, right of the bumper
_WALL_REACH_M = 0.05  # clearance from rim to wall at which it still sees it
_GRAZE = math.sin(math.radians(8.0))  # a contact nearly abeam slides past the bumper
_BOTH_SIN = math.sin(math.radians(15.0))  # a contact this near the middle presses both bump switches

End = Literal["finished", "run_limit", "battery", "stopped", "fault"]
_SIMULATED: tuple[Literal["simulated"], ...] = tuple("simulated" for _ in OUTCOMES)

# Slots of `State.body`.
STEPS, X, Y, HEADING, LEFT_MM, RIGHT_MM, HELD_LEFT, HELD_RIGHT, LATCHED, CLIFF, DOCKED, FALLEN = range(12)
CHARGE_MAH, TEMPERATURE, VOLTAGE, CURRENT, ENERGY_J, SOUND, WORK_J, BUMPS, WAS_BUMPED, DIRT, REMOVED_G, COVERED = range(
    12, 24
)
NUM_BODY = 24
# Slots of `State.tuned`; from KEEP_LOOSE on in pairs, hard floor and carpet.
FAN, BRUSH, SIDE_BRUSH, KEEP_LOOSE, KEEP_BOUND, KEEP_FLICKED, LOAD_W, LOUD = 0, 1, 2, 3, 5, 7, 9, 11


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
    under: NDArray[np.int64]  # (64, 2) scratch
    tuned: NDArray[np.float64]  # (13,) what follows from the motors' duties
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
    idle_w = motor_load_w(0, 0, 0, False)
    _, _, body[VOLTAGE], body[CURRENT] = battery_step(body[CHARGE_MAH], 25.0, idle_w, False, 0.0)
    keys = np.array([fold(key, np.uint64(2)), fold(key, np.uint64(3))], dtype=np.uint64)
    sound = np.zeros(len(world.occupied))
    covered = np.zeros(world.floor.shape, dtype=np.bool_)
    return State(body, loose, bound, covered, sound, np.zeros((64, 2), dtype=np.int64), np.full(13, -1.0), keys)


@njit(cache=True)
def _over_drop(floor: NDArray[np.uint8], x: float, y: float) -> bool:
    iy, ix = int(y / DIRT_M), int(x / DIRT_M)
    return 0 <= iy < floor.shape[0] and 0 <= ix < floor.shape[1] and floor[iy, ix] == OVER_DROP


@njit(cache=True)
def _look_down(floor: NDArray[np.uint8], b: NDArray[np.float64], cos: float, sin: float) -> None:
    """Cliff sensors, and whether a wheel has left the floor."""
    b[CLIFF] = 0.0
    for k in range(_CLIFF_AHEAD_M.size):
        ahead, beside = _CLIFF_AHEAD_M[k], _CLIFF_BESIDE_M[k]
        if _over_drop(floor, b[X] + ahead * cos - beside * sin, b[Y] + ahead * sin + beside * cos):
            b[CLIFF] = 1.0
    for half in (-0.5e-3 * WHEEL_BASE_MM, 0.5e-3 * WHEEL_BASE_MM):
        if _over_drop(floor, b[X] - half * sin, b[Y] + half * cos):
            b[FALLEN] = 1.0


@njit(cache=True)
def _push(
    codes: NDArray[np.uint8], cell_m: float, b: NDArray[np.float64], x: float, y: float, forward_mm: float
) -> tuple[float, float]:
    """Where a robot on its way to (x, y) near obstacles gets to, sliding along what it grazes, and what it feels.

    Sets the bump switches or the dock's contacts.
    """
    dx, dy, away, code = nearest(codes, cell_m, x, y, OBSTACLE, DOCK)
    if away >= ROBOT_RADIUS_M:
        return x, y
    cos, sin = math.cos(b[HEADING]), math.sin(b[HEADING])
    if away <= 0.0:  # deeper than its own radius: never at 6 mm a step, but a division must not depend on that
        dx, dy, away = cos, sin, 1.0
    dx, dy = dx / away, dy / away
    ahead, beside = dx * cos + dy * sin, dy * cos - dx * sin
    # Out of the obstacle along its normal; where that meets another one, stay.
    x, y = x - dx * (ROBOT_RADIUS_M - away), y - dy * (ROBOT_RADIUS_M - away)
    wedged = nearest(codes, cell_m, x, y, OBSTACLE, DOCK)[2] < ROBOT_RADIUS_M - 1e-6
    if wedged:
        x, y = b[X], b[Y]
    if code == DOCK and ahead >= _DOCKING_COS and 0.0 < forward_mm <= _DOCKING_MM_S * PLANT_DT_S:
        b[DOCKED] = 1.0
    elif forward_mm > 0.0 and (ahead > _GRAZE or wedged):
        # A pressed bumper springs back in one tick, so that a host that looks every 60 ms sees every bump.
        if beside > -_BOTH_SIN:
            b[HELD_LEFT] = PLAN_EVERY
        if beside < _BOTH_SIN:
            b[HELD_RIGHT] = PLAN_EVERY
    return x, y


@njit(cache=True)
def tune(world: World, state: State, fan: int, brush: int, side_brush: int) -> None:
    """What depends on the motors' duties alone, worked out once for each change: slots of `State.tuned`."""
    t = state.tuned
    if t[FAN] == fan and t[BRUSH] == brush and t[SIDE_BRUSH] == side_brush:
        return
    t[FAN], t[BRUSH], t[SIDE_BRUSH] = fan, brush, side_brush
    for pile in range(2):
        loose, bound = pickup_rates(fan, brush, pile == 1)
        # The side brush flicks loose dirt to the suction, at a third of the main brush's rate; little out of a pile.
        flick = 0.33 * side_brush / 100.0 * (0.25 if pile else 1.0)
        t[KEEP_LOOSE + pile] = math.exp(-loose * TICK_S)
        t[KEEP_BOUND + pile] = math.exp(-bound * TICK_S)
        t[KEEP_FLICKED + pile] = math.exp(-loose * flick * TICK_S)
        t[LOAD_W + pile] = motor_load_w(fan, brush, side_brush, pile == 1)
        t[LOUD + pile] = emission(world.loud, fan, brush, pile == 1)


@njit(cache=True)
def _sweep(
    floor: NDArray[np.uint8],
    loose: NDArray[np.float64],
    bound: NDArray[np.float64],
    covered: NDArray[np.bool_],
    under: NDArray[np.int64],
    b: NDArray[np.float64],
    t: NDArray[np.float64],
) -> float:
    """One tick of brushes and suction where the robot stands now: grams picked up."""
    cos, sin = math.cos(b[HEADING]), math.sin(b[HEADING])
    main, both = cells_under(floor.shape[0], floor.shape[1], b[X], b[Y], cos, sin, t[SIDE_BRUSH] > 0.0, under)
    picked = 0.0
    for i in range(both):
        iy, ix = under[i, 0], under[i, 1]
        pile = 0
        if floor[iy, ix] == CARPET_FLOOR:
            pile = 1
        elif floor[iy, ix] != HARD_FLOOR:
            continue
        if i < main:
            kept, stuck = loose[iy, ix] * t[KEEP_LOOSE + pile], bound[iy, ix] * t[KEEP_BOUND + pile]
        else:
            kept, stuck = loose[iy, ix] * t[KEEP_FLICKED + pile], bound[iy, ix]
        picked += (loose[iy, ix] - kept) + (bound[iy, ix] - stuck)
        loose[iy, ix], bound[iy, ix] = kept, stuck
        if not covered[iy, ix]:
            covered[iy, ix] = True
            b[COVERED] += 1.0
    return picked


@njit(cache=True)
def _end_tick(b: NDArray[np.float64], loud: float, picked_g: float, key: np.uint64) -> None:
    """What else happens once in PLAN_EVERY steps: sound, the battery, the dirt sensor, the count of bumps."""
    b[SOUND] += loud
    b[CHARGE_MAH], b[TEMPERATURE], b[VOLTAGE], b[CURRENT] = battery_step(
        b[CHARGE_MAH], b[TEMPERATURE], b[WORK_J] / TICK_S, b[DOCKED] > 0.0, TICK_S
    )
    b[ENERGY_J] += max(b[VOLTAGE] * b[CURRENT], 0.0) * TICK_S
    b[WORK_J] = 0.0
    b[REMOVED_G] += picked_g
    # The sensor counts impacts: 10% noise, and rounding by chance so that a faint rate is not lost to quantisation.
    count = np.uint64(2 * int(b[STEPS]))
    rate = 255.0 * picked_g / TICK_S / DIRT_FULL_SCALE_G_S
    rate *= 1.0 + 0.1 * (2.0 * uniform_at(key, count) - 1.0)
    b[DIRT] = min(255.0, math.floor(rate + uniform_at(key, count + np.uint64(1))))
    bumped = b[HELD_LEFT] > 0.0 or b[HELD_RIGHT] > 0.0
    if bumped and b[WAS_BUMPED] == 0.0:
        b[BUMPS] += 1.0
    b[WAS_BUMPED] = 1.0 if bumped else 0.0


@njit(cache=True)
def advance(
    world: World, state: State, left: int, right: int, fan: int, brush: int, side_brush: int, num_steps: int
) -> None:
    """Move the home on by num_steps of PLANT_DT_S under constant actuators (mm/s, mm/s, then percents)."""
    tune(world, state, fan, brush, side_brush)
    steps(
        world.codes, world.cell_m, world.space, world.floor, world.room, state.body, state.tuned, state.loose,
        state.bound, state.covered, state.sound, state.under, state.keys, left, right, num_steps,
    )  # fmt: skip


@njit(cache=True)
def steps(
    codes: NDArray[np.uint8],
    cell_m: float,
    space: NDArray[np.uint8],
    floor: NDArray[np.uint8],
    room: NDArray[np.int64],
    b: NDArray[np.float64],
    t: NDArray[np.float64],
    loose: NDArray[np.float64],
    bound: NDArray[np.float64],
    covered: NDArray[np.bool_],
    sound: NDArray[np.float64],
    under: NDArray[np.int64],
    keys: NDArray[np.uint64],
    left: int,
    right: int,
    num_steps: int,
) -> None:
    """`advance` on arrays taken out of their tuples, with the duties already tuned in.

    A loop over ticks takes them out once: handing the tuples on costs half a microsecond a call in reference counts.
    """
    for _ in range(num_steps):
        phase = int(b[STEPS]) % PLAN_EVERY
        if phase == 0:
            b[LATCHED] = 0.0
        # The cliff reflex is built in: no motion on towards a drop, and then none at all until the next command.
        if (b[CLIFF] > 0.0 and left + right > 0) or b[FALLEN] > 0.0:
            b[LATCHED] = 1.0
        b[HELD_LEFT] = max(b[HELD_LEFT] - 1.0, 0.0)
        b[HELD_RIGHT] = max(b[HELD_RIGHT] - 1.0, 0.0)
        pile = 1 if floor[int(b[Y] / DIRT_M), int(b[X] / DIRT_M)] == CARPET_FLOOR else 0
        watts = t[LOAD_W + pile]
        if b[LATCHED] == 0.0 and (left != 0 or right != 0):
            watts += wheel_load_w(left, right, pile == 1)
            left_mm, right_mm = left * PLANT_DT_S, right * PLANT_DT_S
            slip = _SLIP_CARPET if pile == 1 else _SLIP_HARD
            count = np.uint64(2 * int(b[STEPS]))
            chance_left = 2.0 * uniform_at(keys[0], count) - 1.0
            chance_right = 2.0 * uniform_at(keys[0], count + np.uint64(1)) - 1.0
            ground_left, ground_right = left_mm * (1.0 + slip * chance_left), right_mm * (1.0 + slip * chance_right)
            forward_mm = 0.5 * (ground_left + ground_right)
            turn = (ground_right - ground_left) / WHEEL_BASE_MM
            middle = b[HEADING] + 0.5 * turn
            cos, sin = math.cos(middle), math.sin(middle)
            b[HEADING] += turn
            # A robot that turns where it stands goes nowhere, whatever its wheels slip.
            if left + right != 0:
                x, y = b[X] + 1e-3 * forward_mm * cos, b[Y] + 1e-3 * forward_mm * sin
                # The grown obstacles close the drawing, so a free place's neighbour is always on the grid.
                if space[int(y / SPACE_M), int(x / SPACE_M)] & NEAR_WALL:
                    x, y = _push(codes, cell_m, b, x, y, forward_mm)
                    # The wheels stall by what the robot falls short, but for a little slip.
                    short_mm = forward_mm - 1e3 * ((x - b[X]) * cos + (y - b[Y]) * sin)
                    left_mm -= short_mm * (1.0 - _STALL_SLIP * 0.5 * (1.0 + chance_left))
                    right_mm -= short_mm * (1.0 - _STALL_SLIP * 0.5 * (1.0 + chance_right))
                if b[DOCKED] > 0.0 and forward_mm < 0.0:
                    b[DOCKED] = 0.0
                b[X], b[Y] = x, y
            b[LEFT_MM] += left_mm
            b[RIGHT_MM] += right_mm
            b[CLIFF] = 0.0
            if space[int(b[Y] / SPACE_M), int(b[X] / SPACE_M)] & NEAR_DROP:
                _look_down(floor, b, cos, sin)
        b[WORK_J] += watts * PLANT_DT_S
        if phase == PLAN_EVERY - 1:
            picked_g = _sweep(floor, loose, bound, covered, under, b, t)
            iy, ix = int(b[Y] / DIRT_M), int(b[X] / DIRT_M)
            loud = t[LOUD + (1 if floor[iy, ix] == CARPET_FLOOR else 0)] + wheel_noise(0.5 * (abs(left) + abs(right)))
            if room[iy, ix] >= 0:
                sound[room[iy, ix]] += loud
            _end_tick(b, loud, picked_g, keys[1])
        b[STEPS] += 1.0


@njit(cache=True)
def sense(space: NDArray[np.uint8], b: NDArray[np.float64]) -> tuple[bool, bool, bool, bool, int, int]:
    """What steers, from (world.space, state.body): bump left, bump right, cliff, wall, left and right counts."""
    look = b[HEADING] + _WALL_RAD
    x, y = b[X] + _WALL_REACH_M * math.cos(look), b[Y] + _WALL_REACH_M * math.sin(look)
    wall = (space[int(y / SPACE_M), int(x / SPACE_M)] & BLOCKED) != 0
    left_counts, right_counts = int(b[LEFT_MM] // MM_PER_COUNT), int(b[RIGHT_MM] // MM_PER_COUNT)
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
        advance(self.world, self.state, *actuators, steps)
        return self._sensors()

    def _sensors(self) -> Sensors:
        b = self.state.body
        bump_left, bump_right, cliff, wall, left_counts, right_counts = sense(self.world.space, self.state.body)
        return Sensors(
            bump_left,
            bump_right,
            cliff,
            wall,
            left_counts,
            right_counts,
            dirt=int(b[DIRT]),
            voltage_mv=round(1000 * b[VOLTAGE]),
            current_ma=round(1000 * b[CURRENT]),
            charge_mah=int(b[CHARGE_MAH]),
            capacity_mah=CAPACITY_MAH,
            temperature_c=round(b[TEMPERATURE]),
            docked=bool(b[DOCKED]),
        )

    def scan(self, num_rays: int) -> list[float]:
        """Distances from the robot's middle to what stands around it, m; ray 0 ahead, then counter-clockwise."""
        x, y, heading = self.pose
        angles = heading + 2 * math.pi * np.arange(num_rays) / num_rays
        return [float(each) for each in cast_rays(self.world.codes, self.world.cell_m, x, y, angles)]

    def instruments(self) -> dict[str, float]:
        """bin_g: what lies in the bin. sound_energy: 10^(L/10) at 1 m summed over `sound_ticks` ticks so far, so that
        two looks give the energy mean between them. on_hard_floor: 1 or 0. Errors of reading are the reader's."""
        b = self.state.body
        floor = self.world.floor[int(b[Y] / DIRT_M), int(b[X] / DIRT_M)]
        ticks = int(b[STEPS]) // PLAN_EVERY
        hard = float(floor == HARD_FLOOR)
        return {"bin_g": b[REMOVED_G], "sound_energy": b[SOUND], "sound_ticks": ticks, "on_hard_floor": hard}

    def truth(self, end: End) -> Outcome:
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


def true_outcome(z: NDArray[np.float64], end: End) -> Outcome:
    """An Outcome that the simulator vouches for."""
    return Outcome(z=z, source=_SIMULATED, error=np.zeros(len(OUTCOMES)), end=end)
