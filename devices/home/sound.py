"""Sound: what the robot emits, and what the people at home hear of it.

Levels add as energies, so everything here carries 10^(L/10). A run's figure is the energy mean (Leq) in the loudest
occupied room. With nobody at home someone still hears it, on the landing: the emission less a front door.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.types import Context

WALL_DB = 14.0  # from room to room with doors open: between an open door (10) and a light wall (25 and more)
FRONT_DOOR_DB = 26.0  # an ordinary flat's entrance door
CARPET_DB = -1.0  # carpet takes up some of what leaves below
_BRUSH_DBA = (48.0, 14.0)  # main brush alone: just turning, and what full duty adds


def loudness(context: Context) -> NDArray[np.float64]:
    """Emission at 1 m on hard floor as an energy, (101, 2): by percent, column 0 the fan, column 1 the main brush."""
    fans = [fan for fan, _ in context.sound_dba]
    levels = [level for _, level in context.sound_dba]
    percent = np.arange(101)
    out = np.zeros((101, 2))
    out[:, 0] = 10 ** (np.interp(percent, fans, levels) / 10)
    out[1:, 1] = 10 ** ((_BRUSH_DBA[0] + _BRUSH_DBA[1] * percent[1:] / 100) / 10)
    return out


@njit(cache=True)
def emission(loud: NDArray[np.float64], fan: int, brush: int, carpet: bool) -> float:
    """Energy emitted now by fan and brush."""
    energy = loud[fan, 0] + loud[brush, 1]
    return energy * 10 ** (CARPET_DB / 10) if carpet else energy


@njit(cache=True)
def wheel_noise(speed_mm_s: float) -> float:
    """Energy emitted by wheels and gears: 58 dB(A) at 300 mm/s, rising with the cube of the speed of the rims."""
    share = speed_mm_s / 300.0
    return 10**5.8 * share * share * share


@njit(cache=True)
def heard_dba(in_room: NDArray[np.float64], total: float, ticks: float, occupied: NDArray[np.bool_]) -> float:
    """Leq of the loudest occupied room, dB(A), from energies summed over ticks: while in each room, and over all."""
    if ticks == 0.0 or total == 0.0:
        return 0.0
    loudest = 0.0
    anyone = False
    for r in range(in_room.shape[0]):
        if occupied[r]:
            anyone = True
            loudest = max(loudest, in_room[r] + (total - in_room[r]) * 10 ** (-WALL_DB / 10))
    if not anyone:
        loudest = total * 10 ** (-FRONT_DOOR_DB / 10)
    return 10.0 * math.log10(loudest / ticks)
