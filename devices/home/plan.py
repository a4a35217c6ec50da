"""A drawn floor plan, surveyed: the grids on which a robot's disc, brushes and wheels are looked up.

Beside the drawing itself: `space`, 2 cm cells, says what happens to a robot whose *centre* is there: obstacles are
grown by its radius, so that only near a wall the exact distance is asked. `floor` and `room`, 5 cm cells, carry dirt
and people. All arrays are indexed [y, x] with y upwards, so row 0 is the bottom of the drawing.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.types import FloorPlan

ROBOT_RADIUS_M = 0.17
SPACE_M = 0.02  # fine enough that a 0.6 m door keeps its 0.26 m of free centre line
DIRT_M = 0.05  # three to four cells under the main brush
# The outer cliff sensors look down 0.15 m beside the centre line: a driven robot keeps about this far from a drop.
CLIFF_KEPT_M = 0.15
_CLIFF_SEEN_M = 0.19  # beyond the sensors' 0.155 m by more than one step and one cell

# Cells of the drawing.
HARD, CARPET, DROP, OBSTACLE, DOCK = 0, 1, 2, 3, 4  # the dock is an obstacle that happens to have contacts
# Bits of `space`.
BLOCKED, NEAR_WALL, NEAR_DROP, REACHABLE = 1, 2, 4, 8
# Cells of `floor`.
NOTHING, HARD_FLOOR, CARPET_FLOOR, OVER_DROP = 0, 1, 2, 3


class Survey(NamedTuple):
    """What the plan says about every place in the home."""

    codes: NDArray[np.uint8]  # (rows, cols) HARD..DOCK, the drawing
    cell_m: float
    space: NDArray[np.uint8]  # bits for the robot's centre, SPACE_M cells
    floor: NDArray[np.uint8]  # NOTHING..OVER_DROP, DIRT_M cells; floor that no brush can reach is NOTHING
    room: NDArray[np.int64]  # index into sorted(plan.rooms), -1 for none, DIRT_M cells
    cleanable_m2: float
    start_x: float
    start_y: float
    start_rad: float


def survey(plan: FloorPlan) -> Survey:
    """The grids of a plan. ValueError with one line where the drawing is wrong; rooms nobody can reach are allowed."""
    return _survey(plan.rows, plan.cell_m, tuple(sorted(plan.rooms)), (*plan.start_m, plan.start_rad), plan.name)


def room_names(plan: FloorPlan) -> tuple[str, ...]:
    """The rooms in the order of the indices in `Survey.room`."""
    return tuple(plan.rooms[letter] for letter in sorted(plan.rooms))


@lru_cache(maxsize=64)
def _survey(
    rows: tuple[str, ...], cell_m: float, letters: tuple[str, ...], start: tuple[float, float, float], name: str
) -> Survey:
    codes, rooms = _read_drawing(rows, cell_m, letters, name)
    if not all(map(math.isfinite, start)):
        raise ValueError(f"floor plan {name}: the start must be three finite numbers")
    height_m, width_m = len(rows) * cell_m, len(rows[0]) * cell_m
    space = _grow(codes, cell_m, _cells(height_m, SPACE_M), _cells(width_m, SPACE_M))
    inside = 0 < start[0] < width_m and 0 < start[1] < height_m
    seed_y, seed_x = int(start[1] / SPACE_M), int(start[0] / SPACE_M)
    if not inside or space[seed_y, seed_x] & BLOCKED or _near_drop(codes, cell_m, start[0], start[1]):
        raise ValueError(
            f"floor plan {name}: the start ({start[0]:g}, {start[1]:g}) m is not {ROBOT_RADIUS_M:g} m clear "
            "of obstacles and drops"
        )
    _flood(codes, cell_m, space, seed_y, seed_x)
    floor, room = _lay_floor(codes, rooms, cell_m, space, _cells(height_m, DIRT_M), _cells(width_m, DIRT_M))
    cleanable = int(np.count_nonzero((floor == HARD_FLOOR) | (floor == CARPET_FLOOR)))
    for array in (codes, space, floor, room):
        array.flags.writeable = False
    return Survey(codes, float(cell_m), space, floor, room, cleanable * DIRT_M**2, *map(float, start))


def _read_drawing(
    rows: tuple[str, ...], cell_m: float, letters: tuple[str, ...], name: str
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    if not rows or not rows[0]:
        raise ValueError(f"floor plan {name}: the drawing is empty")
    if not 0.05 <= cell_m <= 0.5:
        raise ValueError(f"floor plan {name}: cell_m is {cell_m:g}, wanted 0.05 to 0.5")
    for letter in letters:
        if len(letter) != 1 or not "a" <= letter <= "z":
            raise ValueError(f"floor plan {name}: room key {letter!r} is not one lower-case letter")
    codes = np.full((len(rows), len(rows[0])), OBSTACLE, dtype=np.uint8)
    rooms = np.full(codes.shape, -1, dtype=np.int64)
    for i, row in enumerate(rows):
        if len(row) != len(rows[0]):
            raise ValueError(f"floor plan {name}: row {i + 1} has {len(row)} characters, row 1 has {len(rows[0])}")
        y = len(rows) - 1 - i
        for x, char in enumerate(row):
            if char.lower() in letters:
                codes[y, x] = CARPET if char.isupper() else HARD
                rooms[y, x] = letters.index(char.lower())
            elif char == "!":
                codes[y, x] = DROP
            elif char == "@":
                codes[y, x] = DOCK
            elif char not in "#% ":
                raise ValueError(f"floor plan {name}: row {i + 1} column {x + 1} has {char!r}, no room and no symbol")
    return codes, rooms


def _cells(length_m: float, cell_m: float) -> int:
    return math.ceil(length_m / cell_m - 1e-9)


@njit(cache=True)
def nearest(
    codes: NDArray[np.uint8], cell_m: float, x: float, y: float, low: int, high: int
) -> tuple[float, float, float, int]:
    """From a point to the nearest cell coded low..high: dx, dy, distance (m), code. Looks 0.22 m far; else 9 m.

    Everything beyond the drawing is obstacle.
    """
    reach = 0.22
    best, best_x, best_y, best_code = 81.0, 9.0, 0.0, -1
    for iy in range(math.floor((y - reach) / cell_m), math.floor((y + reach) / cell_m) + 1):
        for ix in range(math.floor((x - reach) / cell_m), math.floor((x + reach) / cell_m) + 1):
            code = OBSTACLE
            if 0 <= iy < codes.shape[0] and 0 <= ix < codes.shape[1]:
                code = codes[iy, ix]
            if code < low or code > high:
                continue
            dx = min(max(x, ix * cell_m), (ix + 1) * cell_m) - x
            dy = min(max(y, iy * cell_m), (iy + 1) * cell_m) - y
            square = dx * dx + dy * dy
            if square < best:
                best, best_x, best_y, best_code = square, dx, dy, code
    return best_x, best_y, math.sqrt(best), best_code


@njit(cache=True)
def cast_rays(
    codes: NDArray[np.uint8], cell_m: float, x: float, y: float, angles: NDArray[np.float64]
) -> NDArray[np.float64]:
    """From a point along each angle (rad) to the first cell with an obstacle, m. Beyond the drawing all is obstacle."""
    out = np.empty(angles.size)
    for k in range(angles.size):
        step_x, step_y = math.cos(angles[k]), math.sin(angles[k])
        ix, iy = math.floor(x / cell_m), math.floor(y / cell_m)
        gone = 0.0
        while 0 <= iy < codes.shape[0] and 0 <= ix < codes.shape[1] and codes[iy, ix] < OBSTACLE:
            # To the border of this cell that comes first.
            to_x = to_y = 1e9
            if step_x != 0.0:
                to_x = ((ix + (step_x > 0.0)) * cell_m - x) / step_x
            if step_y != 0.0:
                to_y = ((iy + (step_y > 0.0)) * cell_m - y) / step_y
            gone = min(to_x, to_y)
            if to_x < to_y:
                ix += 1 if step_x > 0.0 else -1
            else:
                iy += 1 if step_y > 0.0 else -1
        out[k] = gone
    return out


@njit(cache=True)
def _near_drop(codes: NDArray[np.uint8], cell_m: float, x: float, y: float) -> bool:
    return nearest(codes, cell_m, x, y, DROP, DROP)[2] < CLIFF_KEPT_M


@njit(cache=True)
def _grow(codes: NDArray[np.uint8], cell_m: float, height: int, width: int) -> NDArray[np.uint8]:
    """`space` without its reachable bit: obstacles grown by the robot's radius, drops by the reach of the sensors."""
    space = np.zeros((height, width), dtype=np.uint8)
    for iy in range(height):
        for ix in range(width):
            x, y = (ix + 0.5) * SPACE_M, (iy + 0.5) * SPACE_M
            clear = nearest(codes, cell_m, x, y, OBSTACLE, DOCK)[2]
            if clear < ROBOT_RADIUS_M:
                space[iy, ix] |= BLOCKED
            if clear < ROBOT_RADIUS_M + SPACE_M:
                # Somewhere in this cell a robot may touch: there the exact distance is asked.
                space[iy, ix] |= NEAR_WALL
            if nearest(codes, cell_m, x, y, DROP, DROP)[2] < _CLIFF_SEEN_M:
                space[iy, ix] |= NEAR_DROP
    return space


@njit(cache=True)
def _flood(codes: NDArray[np.uint8], cell_m: float, space: NDArray[np.uint8], seed_y: int, seed_x: int) -> None:
    """Mark what the centre can reach from the seed without collision and without a drop."""
    height, width = space.shape
    stack = np.empty(height * width, dtype=np.int64)
    stack[0] = seed_y * width + seed_x
    space[seed_y, seed_x] |= REACHABLE
    top = 1
    while top > 0:
        top -= 1
        y, x = stack[top] // width, stack[top] % width
        for side in range(4):
            ny, nx = y + (side == 0) - (side == 1), x + (side == 2) - (side == 3)
            if not (0 <= ny < height and 0 <= nx < width) or space[ny, nx] & (BLOCKED | REACHABLE):
                continue
            if space[ny, nx] & NEAR_DROP and _near_drop(codes, cell_m, (nx + 0.5) * SPACE_M, (ny + 0.5) * SPACE_M):
                continue
            space[ny, nx] |= REACHABLE
            stack[top] = ny * width + nx
            top += 1


@njit(cache=True)
def _lay_floor(
    codes: NDArray[np.uint8],
    rooms: NDArray[np.int64],
    cell_m: float,
    space: NDArray[np.uint8],
    height: int,
    width: int,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """`floor` and `room`. A cell is floor when the rim of a robot somewhere reachable covers its centre."""
    floor = np.zeros((height, width), dtype=np.uint8)
    room = np.full((height, width), -1, dtype=np.int64)
    reach = int(ROBOT_RADIUS_M / SPACE_M) + 1
    for iy in range(height):
        for ix in range(width):
            x, y = (ix + 0.5) * DIRT_M, (iy + 0.5) * DIRT_M
            py, px = min(int(y / cell_m), codes.shape[0] - 1), min(int(x / cell_m), codes.shape[1] - 1)
            code = codes[py, px]
            room[iy, ix] = rooms[py, px]
            if code == DROP:
                floor[iy, ix] = OVER_DROP
            if code > CARPET:
                continue
            cy, cx = int(y / SPACE_M), int(x / SPACE_M)
            for sy in range(max(0, cy - reach), min(space.shape[0], cy + reach + 1)):
                for sx in range(max(0, cx - reach), min(space.shape[1], cx + reach + 1)):
                    away = math.hypot((sx + 0.5) * SPACE_M - x, (sy + 0.5) * SPACE_M - y)
                    if space[sy, sx] & REACHABLE and away <= ROBOT_RADIUS_M:
                        floor[iy, ix] = CARPET_FLOOR if code == CARPET else HARD_FLOOR
    return floor, room
