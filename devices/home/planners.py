"""Planners: how a robot that can only feel its way covers a floor. Pure: state and sensors in, wheel speeds out.

They know what a real host knows: switches, sensors, encoder odometry, and how large the floor is. Every 60 ms `decide`
integrates the odometry, asks whether the manoeuvre at hand has ended, and commands the wheels. All state is one array.

A pass is planned by the clock, from area, speed and pattern; the lap along the walls closes each pass. So a run of two
passes begins with exactly the run of one pass, and never leaves more dirt.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.noise import uniform_at
from devices.home.plan import survey
from devices.home.plant import MM_PER_COUNT, TICK_S, WHEEL_BASE_MM
from devices.home.types import PATTERNS, PROGRAMMES, Context, FloorPlan, Settings
from firmware_bridge.plant import Actuators

SIDE_BRUSH = 60  # percent; no setting of its own
# Time of a pass over the time of ideal stripes, area / (swath speed): lanes are orderly but lose time in turns.
_PASS_FACTOR = {"lanes": 1.15, "spiral": 1.0, "wall": 1.0}
_SWATH_M = 0.18
_LAP_FACTOR = 6.0  # a lap's length over the square root of the area: furniture and doors make 1.5 of a square's 4
_TURN_MM_S = 300  # wheels while turning in place, 146 degrees a second
_BACK_MM_S = 150
_SPACING_M = 0.17  # of lanes and of a spiral's turns: 1 cm of overlap
_SEED = np.uint64(20240229)

# Slots of the plan. `PLACES` begins the map of visited places, 0.2 m cells, the start in the middle.
(
    PATTERN, SPEED, PASSES, PASS_TICKS, LAP_TICKS, STAGE, STAGE_TICK, X, Y, HEADING, LEFT, RIGHT, DRAWS, MODE, NEXT,
    LIMIT, NEXT_LIMIT, TARGET, GONE, SINCE, TO_BACK, WAITED, STUCK, AXIS, SIDE, WAY, PHASE, SHORT, FRESH, STALE, RADIUS,
    LOST, SEEKS,
) = range(33)  # fmt: skip
PLACES = 40
_PLACE_M = 0.2
_PROBE_M = 0.3  # beside the robot, where a wall-follower looks for fresh places
_WIDEST_M = 0.75  # a spiral's last radius
_SEARCH_M = 16.0  # along walls without a fresh place before it crosses the room
_NUM_PLACES = 96  # a side: homes up to 9 m from the start, beyond which places count as visited

# Modes: what the wheels do now.
_BACK, _TURN, _STRAIGHT, _FOLLOW, _SPIRAL = 0.0, 1.0, 2.0, 3.0, 4.0
# Phases of a pattern: what the motion is for.
_WORK, _SHIFT, _SEARCH, _CROSS = 0.0, 1.0, 2.0, 3.0
# Events that end a motion.
_NONE, _REACHED, _HIT = 0, 1, 2


def motors(settings: Settings, left_mm_s: int, right_mm_s: int) -> Actuators:
    """The whole command of one tick."""
    return Actuators(left_mm_s, right_mm_s, settings.fan, settings.brush, SIDE_BRUSH)


def planned_s(settings: Settings, context: Context) -> float:
    """How long the plan takes when nothing cuts it short."""
    plan = new_plan(settings, context)
    return float(plan[PASSES] * (plan[PASS_TICKS] + plan[LAP_TICKS]) * TICK_S)


def odometry(plan: NDArray[np.float64], home: FloorPlan) -> tuple[float, float, float]:
    """Where the planner believes the robot to be, m, m, rad in the drawing's frame: the start plus the encoders."""
    cos, sin = math.cos(home.start_rad), math.sin(home.start_rad)
    x = home.start_m[0] + plan[X] * cos - plan[Y] * sin
    y = home.start_m[1] + plan[X] * sin + plan[Y] * cos
    return float(x), float(y), float(home.start_rad + plan[HEADING])


def new_plan(settings: Settings, context: Context) -> NDArray[np.float64]:
    """The planner's state before the first tick."""
    plan = np.zeros(PLACES + _NUM_PLACES**2)
    area = survey(context.plan).cleanable_m2
    speed_m_s = settings.speed / 1000
    pattern = PROGRAMMES.get(settings.pattern, settings.pattern)
    plan[PATTERN] = PATTERNS.index(pattern)
    plan[SPEED] = settings.speed
    plan[PASSES] = settings.passes
    plan[PASS_TICKS] = math.ceil(_PASS_FACTOR[pattern] * area / (_SWATH_M * speed_m_s) / TICK_S)
    plan[LAP_TICKS] = math.ceil(_LAP_FACTOR * math.sqrt(area) / speed_m_s / TICK_S) if settings.edge else 0
    plan[STAGE] = -1.0
    return plan


@njit(cache=True)
def decide(
    plan: NDArray[np.float64],
    bump_left: bool,
    bump_right: bool,
    cliff: bool,
    wall: bool,
    left_counts: int,
    right_counts: int,
) -> tuple[int, int, bool]:
    """One tick: (left mm/s, right mm/s, done). Changes `plan` in place; call it once every TICK_S."""
    _integrate(plan, left_counts, right_counts)
    if not _keep_to_the_clock(plan):
        return 0, 0, True
    _visit(plan)
    event = _watch(plan, bump_left, bump_right, cliff, wall)
    if event != _NONE:
        side = 0.0
        if bump_right and not bump_left:
            side = 1.0
        elif bump_left and not bump_right:
            side = -1.0
        _next_motion(plan, event, side)
    left, right = _wheels(plan, wall)
    return left, right, False


@njit(cache=True)
def _integrate(plan: NDArray[np.float64], left_counts: int, right_counts: int) -> None:
    """Odometry from the start, x ahead; distance since the motion began and since the last turn."""
    left_mm = (left_counts - plan[LEFT]) * MM_PER_COUNT
    right_mm = (right_counts - plan[RIGHT]) * MM_PER_COUNT
    plan[LEFT], plan[RIGHT] = left_counts, right_counts
    turn = (right_mm - left_mm) / WHEEL_BASE_MM
    forward_m = 0.5e-3 * (left_mm + right_mm)
    middle = plan[HEADING] + 0.5 * turn
    plan[X] += forward_m * math.cos(middle)
    plan[Y] += forward_m * math.sin(middle)
    plan[HEADING] += turn
    if plan[MODE] >= _STRAIGHT:
        plan[GONE] += forward_m
        plan[SINCE] += forward_m
    if plan[MODE] == _FOLLOW or plan[MODE] == _SPIRAL:
        plan[LOST] += abs(turn)


@njit(cache=True)
def _keep_to_the_clock(plan: NDArray[np.float64]) -> bool:
    """Count the tick and begin the next stage when it is time: pass, lap, pass, lap. False when all is done."""
    lap = plan[STAGE] % 2.0 == 1.0
    plan[STAGE_TICK] += 1.0
    if plan[STAGE] >= 0.0 and plan[STAGE_TICK] < (plan[LAP_TICKS] if lap else plan[PASS_TICKS]):
        return True
    plan[STAGE] += 1.0
    plan[STAGE_TICK] = 0.0
    if plan[STAGE] % 2.0 == 1.0 and plan[LAP_TICKS] == 0.0:
        plan[STAGE] += 1.0
    if plan[STAGE] >= 2.0 * plan[PASSES]:
        return False
    if plan[STAGE] % 2.0 == 1.0 or plan[PATTERN] == 2.0:
        _move(plan, 0.0, plan[HEADING], _STRAIGHT, 20.0, _CROSS)
    elif plan[PATTERN] == 1.0:
        plan[RADIUS], plan[STALE], plan[FRESH] = 0.12, 0.0, 0.0
        _move(plan, 0.0, plan[HEADING], _SPIRAL, _WIDEST_M, _WORK)
    else:
        plan[SIDE], plan[WAY], plan[SHORT], plan[STALE], plan[FRESH] = 1.0, 1.0, 0.0, 0.0, 0.0
        plan[AXIS] = _square(plan[HEADING])
        _move(plan, 0.0, plan[AXIS], _STRAIGHT, 20.0, _WORK)
    return True


@njit(cache=True)
def _move(plan: NDArray[np.float64], back_m: float, target: float, mode: float, limit: float, phase: float) -> None:
    """Begin a motion: back off, turn to `target`, then `mode` until `limit` (m; for a spiral its radius)."""
    # Back only over floor just crossed, so that a robot between two obstacles does not back into a drop.
    plan[TO_BACK] = min(back_m, max(plan[SINCE], 0.0))
    plan[MODE] = _BACK if plan[TO_BACK] > 0.0 else _TURN
    plan[TARGET] = target
    plan[NEXT], plan[NEXT_LIMIT] = mode, limit
    plan[PHASE] = phase
    plan[WAITED] = 0.0
    plan[SINCE] = 0.0
    plan[LOST] = 0.0
    plan[GONE] = 0.0


@njit(cache=True)
def _draw(plan: NDArray[np.float64]) -> float:
    plan[DRAWS] += 1.0
    return uniform_at(_SEED, np.uint64(int(plan[DRAWS])))


@njit(cache=True)
def _place(plan: NDArray[np.float64], x: float, y: float) -> int:
    """Slot of a place on the visited map, -1 beyond it."""
    ix = math.floor(x / _PLACE_M) + _NUM_PLACES // 2
    iy = math.floor(y / _PLACE_M) + _NUM_PLACES // 2
    if 0 <= ix < _NUM_PLACES and 0 <= iy < _NUM_PLACES:
        return PLACES + iy * _NUM_PLACES + ix
    return -1


@njit(cache=True)
def _mark(plan: NDArray[np.float64], ahead_m: float) -> None:
    place = _place(plan, plan[X] + ahead_m * math.cos(plan[HEADING]), plan[Y] + ahead_m * math.sin(plan[HEADING]))
    if place >= 0:
        plan[place] = 1.0


@njit(cache=True)
def _visit(plan: NDArray[np.float64]) -> None:
    place = _place(plan, plan[X], plan[Y])
    if place >= 0 and plan[place] == 0.0:
        plan[place] = 1.0
        plan[FRESH] += 1.0


@njit(cache=True)
def _watch(plan: NDArray[np.float64], bump_left: bool, bump_right: bool, cliff: bool, wall: bool) -> int:
    """Has the motion at hand ended? Backing and turning lead on by themselves."""
    hit = bump_left or bump_right or cliff
    if plan[MODE] == _BACK:
        plan[WAITED] += 1.0
        plan[TO_BACK] -= 1e-3 * _BACK_MM_S * TICK_S
        if plan[TO_BACK] <= 0.0 or plan[WAITED] > 10.0:
            plan[MODE], plan[WAITED] = _TURN, 0.0
    if plan[MODE] == _TURN:
        plan[WAITED] += 1.0
        if abs(plan[TARGET] - plan[HEADING]) > 0.02 and plan[WAITED] < 80.0:
            return _NONE
        plan[MODE], plan[LIMIT] = plan[NEXT], plan[NEXT_LIMIT]
        return _NONE
    if plan[MODE] < _STRAIGHT:
        return _NONE
    if hit:
        _mark(plan, 0.25)  # nobody will ever stand there
        plan[STUCK] = plan[STUCK] + 1.0 if plan[SINCE] < 0.03 else 0.0
        return _HIT
    if plan[MODE] == _SPIRAL:
        plan[RADIUS] += _SPACING_M * 1e-3 * plan[SPEED] * TICK_S / (2 * math.pi * plan[RADIUS])
        if plan[LOST] > 2 * math.pi:
            # A whole turn over old ground is enough.
            plan[LOST] = 0.0
            plan[STALE] = 1.0 if plan[FRESH] == 0.0 else 0.0
            plan[FRESH] = 0.0
        # The outer side is the right, where the wall sensor looks: a spiral ends before it bumps.
        return _REACHED if wall or plan[RADIUS] > plan[LIMIT] or plan[STALE] > 0.0 else _NONE
    if plan[MODE] == _FOLLOW and wall:
        plan[LOST] = 0.0
    if plan[MODE] == _FOLLOW and plan[SEEKS] > 0.0 and plan[GONE] > plan[SEEKS] and plan[SINCE] > 0.15:
        # Along the wall with eyes to the left: ground not yet visited in this pass?
        left = plan[HEADING] + math.pi / 2
        place = _place(plan, plan[X] + _PROBE_M * math.cos(left), plan[Y] + _PROBE_M * math.sin(left))
        if place >= 0 and plan[place] == 0.0:
            plan[place] = 1.0  # tried: it may lie under a bed
            return _REACHED
    return _REACHED if plan[GONE] > plan[LIMIT] else _NONE


@njit(cache=True)
def _next_motion(plan: NDArray[np.float64], event: int, side: float) -> None:
    """What follows. `side` of the contact: 1 right, 0 both or a drop, -1 left."""
    if event == _HIT and plan[STUCK] >= 5.0:
        # In a corner that the pattern's own turns do not leave: any way out will do.
        turn = (0.5 + _draw(plan)) * math.pi
        plan[STUCK] = 0.0
        gone = plan[GONE]
        _move(plan, 0.02, plan[HEADING] + turn, plan[MODE], plan[LIMIT], plan[PHASE])
        plan[GONE] = gone
    elif plan[MODE] == _FOLLOW and event == _HIT:
        # Turn left, away from a wall on the right: little for a graze, much for a contact on the far side.
        gone = plan[GONE] + 0.15  # so that a nook where it gets nowhere ends soon
        turn = 0.45 if side > 0 else (0.9 if side == 0 else 1.5)
        _move(plan, 0.015, plan[HEADING] + turn, _FOLLOW, plan[LIMIT], plan[PHASE])
        plan[GONE] = gone
    elif plan[STAGE] % 2.0 == 1.0:
        _follow_after(plan, event, side, 1e9, 0.0)
    elif plan[PATTERN] == 0.0:
        _next_lane(plan, event, side)
    elif plan[PATTERN] == 1.0:
        _next_spiral(plan, event, side)
    else:
        _next_wall(plan, event, side)


@njit(cache=True)
def _follow_after(plan: NDArray[np.float64], event: int, side: float, limit: float, seeks_m: float) -> None:
    """Take the wall just hit on the right hand for `limit` m, or after `seeks_m` (unless 0) to the next fresh place."""
    turn = 0.0
    if event == _HIT:
        turn = 0.9 if side > 0 else (1.4 if side == 0 else 1.9)
    plan[SEEKS] = seeks_m
    _move(plan, 0.02, plan[HEADING] + turn, _FOLLOW, limit, _SEARCH)


@njit(cache=True)
def _square(angle: float) -> float:
    """The nearest multiple of a right angle: homes are built square to the start."""
    return math.pi / 2 * math.floor(angle / (math.pi / 2) + 0.5)


@njit(cache=True)
def _next_lane(plan: NDArray[np.float64], event: int, side: float) -> None:
    """Lane, shift, lane back; at a dead end or on old ground search along a wall for a fresh place."""
    if plan[PHASE] == _WORK:
        plan[SHORT] = plan[SHORT] + 1.0 if plan[GONE] < 0.6 else 0.0
        plan[STALE] = plan[STALE] + 1.0 if plan[FRESH] < 1.0 else 0.0
        plan[FRESH] = 0.0
        if plan[STALE] >= 2.0 or plan[SHORT] >= 6.0:
            plan[SHORT], plan[STALE] = 0.0, 0.0
            _follow_after(plan, event, side, _SEARCH_M, 0.5)
            return
        if plan[SHORT] == 3.0:
            # Across a corridor: go along it instead.
            plan[SHORT] = 4.0
            plan[AXIS] += plan[SIDE] * math.pi / 2
            plan[WAY] = 1.0
            _move(plan, 0.02, plan[AXIS], _STRAIGHT, 20.0, _WORK)
            return
        _move(plan, 0.02, plan[AXIS] + plan[SIDE] * math.pi / 2, _STRAIGHT, _SPACING_M, _SHIFT)
    elif plan[PHASE] == _SHIFT:
        if event == _HIT and plan[GONE] < 0.05:
            _follow_after(plan, event, side, _SEARCH_M, 0.5)
        else:
            plan[WAY] = -plan[WAY]
            target = plan[AXIS] if plan[WAY] > 0 else plan[AXIS] + plan[SIDE] * math.pi
            _move(plan, 0.0, target, _STRAIGHT, 20.0, _WORK)
    elif plan[PHASE] == _SEARCH:
        if plan[GONE] < _SEARCH_M:
            # Fresh ground beside the wall: lanes square to the wall, shifting the way the wall was followed.
            plan[AXIS] = _square(plan[HEADING] + math.pi / 2)
            plan[SIDE], plan[WAY] = -1.0, 1.0
            plan[FRESH], plan[STALE], plan[SHORT] = 0.0, 0.0, 0.0
            _move(plan, 0.0, plan[AXIS], _STRAIGHT, 20.0, _WORK)
        else:
            plan[PLACES:] = 0.0  # nothing fresh far and wide: begin again
            _move(plan, 0.0, plan[HEADING] + (0.3 + 0.4 * _draw(plan)) * math.pi, _STRAIGHT, 8.0, _CROSS)
    else:
        _follow_after(plan, event, side, _SEARCH_M, 0.5)


@njit(cache=True)
def _next_spiral(plan: NDArray[np.float64], event: int, side: float) -> None:
    """Spiral out until something is in the way or the ground is old; then travel, and find fresh ground on the way."""
    if plan[PHASE] == _WORK:
        away = math.pi * (0.5 + _draw(plan)) if event == _HIT else math.pi * _draw(plan)
        plan[FRESH] = 0.0
        _move(plan, 0.02, plan[HEADING] + away, _STRAIGHT, 1.0 + 1.5 * _draw(plan), _CROSS)
    elif plan[PHASE] == _SEARCH:
        if plan[GONE] > _SEARCH_M:
            plan[PLACES:] = 0.0
        plan[FRESH] = 1.0
        _move(plan, 0.0, plan[HEADING] + math.pi * (0.35 + 0.3 * _draw(plan)), _STRAIGHT, 0.4, _CROSS)
    elif plan[FRESH] > 0.0 and plan[GONE] > 0.2:
        plan[RADIUS], plan[STALE], plan[FRESH] = 0.12, 0.0, 0.0
        _move(plan, 0.02, plan[HEADING] + (0.6 * math.pi if event == _HIT else 0.0), _SPIRAL, _WIDEST_M, _WORK)
    elif event == _HIT:
        _follow_after(plan, event, side, _SEARCH_M, 3.0)
    else:
        _move(plan, 0.0, plan[HEADING], _STRAIGHT, 20.0, _CROSS)


@njit(cache=True)
def _next_wall(plan: NDArray[np.float64], event: int, side: float) -> None:
    """Along the wall for a while, then across the room to another wall."""
    if plan[PHASE] == _SEARCH:
        _move(plan, 0.0, plan[HEADING] + math.pi * (0.3 + 0.4 * _draw(plan)), _STRAIGHT, 20.0, _CROSS)
    else:
        _follow_after(plan, event, side, 5.0 + 8.0 * _draw(plan), 0.0)


@njit(cache=True)
def _wheels(plan: NDArray[np.float64], wall: bool) -> tuple[int, int]:
    """Wheel speeds of the mode at hand, whole mm/s."""
    speed = int(plan[SPEED])
    if plan[MODE] == _BACK:
        return -_BACK_MM_S, -_BACK_MM_S
    if plan[MODE] == _TURN:
        # The last tick turns exactly the rest.
        error = plan[TARGET] - plan[HEADING]
        wheel = min(_TURN_MM_S, math.ceil(abs(error) * 0.5 * WHEEL_BASE_MM / TICK_S))
        return (-wheel, wheel) if error > 0 else (wheel, -wheel)
    if plan[MODE] == _STRAIGHT or (plan[MODE] == _FOLLOW and plan[LOST] > 5.0):
        # A follower that has turned most of a circle without a wall goes straight until it meets one.
        return speed, speed
    if plan[MODE] == _FOLLOW:
        if wall:
            return _arc(speed, 1.2, True)
        return _arc(speed, 0.5 if plan[LOST] < 0.5 else 0.25, False)
    return _arc(speed, plan[RADIUS], True)


@njit(cache=True)
def _arc(speed: int, radius_m: float, left_hand: bool) -> tuple[int, int]:
    """Both wheels on a circle of that radius of the centre, the outer one at `speed`."""
    half = 0.5e-3 * WHEEL_BASE_MM
    inner = round(speed * (radius_m - half) / (radius_m + half))
    return (inner, speed) if left_hand else (speed, inner)
