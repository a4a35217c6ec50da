"""Dirt: how it lies, and how brushes and suction take it up.

Each floor cell holds loose dirt, which one crossing mostly takes, and bound dirt (trodden in, or deep in the pile), for
which time under the brush counts; that is why a second pass matters. Both decay exponentially while a cell is under the
main brush, at a rate that depends on fan, brush and floor; speed enters through the time that a cell spends there.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.noise import fold, uniform_at
from devices.home.plan import CARPET_FLOOR, DIRT_M, HARD_FLOOR

# The main brush: a bar of 0.18 m across the axle, its opening 0.06 m deep (so 0.2 s over a point at 300 mm/s).
BAR_HALF_WIDTH_M = 0.09
BAR_HALF_DEPTH_M = 0.03
# The side brush: a disc ahead and to the right that reaches 1 cm beyond the rim, into the corner along a wall.
SIDE_X_M, SIDE_Y_M, SIDE_RADIUS_M = 0.11, -0.12, 0.06

BOUND_HARD = 0.2  # share of bound dirt on hard floor
BOUND_CARPET = 0.35
PATCH_M = 0.5  # typical size of a dirty patch
PATCH_LOG_SD = 0.8  # a patch of one sd more holds 2.2 times as much


@njit(cache=True)
def lay_dirt(
    floor: NDArray[np.uint8], key: np.uint64, mean_g_m2: float, carpet_factor: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Loose and bound dirt, g a cell, (Y, X). Patchy, carpet `carpet_factor` times hard floor.

    The whole is scaled so that the mean over the cleanable floor is exactly `mean_g_m2`: patches and carpet move dirt
    about, they do not add any.
    """
    height, width = floor.shape
    loose, bound = np.zeros((height, width)), np.zeros((height, width))
    patches = fold(key, np.uint64(1))
    grain = fold(key, np.uint64(2))
    columns = int(width * DIRT_M / PATCH_M) + 2
    rows = int(height * DIRT_M / PATCH_M) + 2
    lattice = np.empty((rows, columns))
    for k in range(rows * columns):
        # Three uniforms: near enough to a normal, and bounded.
        total = 0.0
        for j in range(3):
            total += uniform_at(patches, np.uint64(3 * k + j)) - 0.5
        lattice[k // columns, k % columns] = 2.0 * total
    whole = 0.0
    cells = 0
    for iy in range(height):
        for ix in range(width):
            if floor[iy, ix] != HARD_FLOOR and floor[iy, ix] != CARPET_FLOOR:
                continue
            v, u = (iy + 0.5) * DIRT_M / PATCH_M, (ix + 0.5) * DIRT_M / PATCH_M
            j, i = int(v), int(u)
            fv, fu = v - j, u - i
            level = (1 - fv) * ((1 - fu) * lattice[j, i] + fu * lattice[j, i + 1])
            level += fv * ((1 - fu) * lattice[j + 1, i] + fu * lattice[j + 1, i + 1])
            amount = math.exp(PATCH_LOG_SD * level) * (0.5 + uniform_at(grain, np.uint64(iy * width + ix)))
            share = BOUND_HARD
            if floor[iy, ix] == CARPET_FLOOR:
                amount *= carpet_factor
                share = BOUND_CARPET
            loose[iy, ix] = amount * (1 - share)
            bound[iy, ix] = amount * share
            whole += amount
            cells += 1
    if whole > 0.0:
        scale = mean_g_m2 * cells * DIRT_M**2 / whole
        loose *= scale
        bound *= scale
    return loose, bound


@njit(cache=True)
def pickup_rates(fan: int, brush: int, carpet: bool) -> tuple[float, float]:
    """Decay rates (1/s) of loose and bound dirt under the main brush.

    Invented, not measured: orders of magnitude from single-crossing pickups of robot vacuums, about 80 to 95% of loose
    debris on hard floor and 30 to 70% of embedded sand on carpet over several crossings. On hard floor suction does
    nearly all; out of a pile dirt comes only where the brush beats it loose *and* the air carries it off.
    """
    suction = (fan / 100.0) ** 1.1
    beating = brush / 100.0
    if carpet:
        loose = 0.6 + 9.0 * suction * (0.15 + 0.85 * beating)
        return loose, 0.15 + 3.4 * suction * beating
    loose = 0.8 + 11.0 * suction * (0.8 + 0.2 * beating)
    return loose, 0.3 + 2.6 * suction * (0.5 + 0.5 * beating)


@njit(cache=True)
def cells_under(
    height: int, width: int, x: float, y: float, cos: float, sin: float, side: bool, out: NDArray[np.int64]
) -> tuple[int, int]:
    """The cells under the main brush, then those under the side brush: (how many are main, how many in all).

    Written into `out` (64, 2) as [y, x] indices. A cell counts when its centre lies under the brush; one may be under
    both and then stands there twice.
    """
    count = 0
    reach_x = abs(cos) * BAR_HALF_DEPTH_M + abs(sin) * BAR_HALF_WIDTH_M
    reach_y = abs(sin) * BAR_HALF_DEPTH_M + abs(cos) * BAR_HALF_WIDTH_M
    first_x, last_x = _span(x, reach_x, width)
    first_y, last_y = _span(y, reach_y, height)
    for iy in range(first_y, last_y):
        dy = (iy + 0.5) * DIRT_M - y
        for ix in range(first_x, last_x):
            dx = (ix + 0.5) * DIRT_M - x
            if abs(dx * cos + dy * sin) <= BAR_HALF_DEPTH_M and abs(dy * cos - dx * sin) <= BAR_HALF_WIDTH_M:
                out[count, 0], out[count, 1] = iy, ix
                count += 1
    main = count
    if side:
        sx = x + SIDE_X_M * cos - SIDE_Y_M * sin
        sy = y + SIDE_X_M * sin + SIDE_Y_M * cos
        first_x, last_x = _span(sx, SIDE_RADIUS_M, width)
        first_y, last_y = _span(sy, SIDE_RADIUS_M, height)
        for iy in range(first_y, last_y):
            dy = (iy + 0.5) * DIRT_M - sy
            for ix in range(first_x, last_x):
                dx = (ix + 0.5) * DIRT_M - sx
                if dx * dx + dy * dy <= SIDE_RADIUS_M**2:
                    out[count, 0], out[count, 1] = iy, ix
                    count += 1
    return main, count


@njit(cache=True)
def _span(middle: float, reach: float, size: int) -> tuple[int, int]:
    """Indices [first, last) of the cells whose centres lie within reach of the middle."""
    first = math.ceil((middle - reach) / DIRT_M - 0.5)
    last = math.floor((middle + reach) / DIRT_M - 0.5) + 1
    return max(first, 0), min(last, size)
