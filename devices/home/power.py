"""Electricity: what the motors draw, and a battery that sags.

Orders of magnitude of a 14.4 V robot vacuum (a pack of about 37 Wh that lasts one to two hours). The figures are
invented; the shape is what matters: the fan is the largest and steepest load, and carpet brakes brush and wheels.
"""

import math

from numba import njit

CAPACITY_MAH = 2600
_RESISTANCE_OHM = 0.15
_CHARGER_W = 33.0
_AMBIENT_C = 24.0
_WARMING_C_W = 0.35  # steady warming per watt of load
_WARMING_S = 900.0
_CARPET_DRAG = 1.8  # of brush and wheels, against hard floor


@njit(cache=True)
def motor_load_w(fan: int, brush: int, side_brush: int, carpet: bool) -> float:
    """Power drawn by electronics, fan and brushes (percent of full duty), W."""
    drag = _CARPET_DRAG if carpet else 1.0
    idle = 3.5  # processor, sensors, radio
    return idle + 20.0 * (fan / 100.0) ** 1.6 + 5.0 * (brush / 100.0) * drag + 1.2 * (side_brush / 100.0)


@njit(cache=True)
def wheel_load_w(left_mm_s: int, right_mm_s: int, carpet: bool) -> float:
    """Power drawn by the wheels, W: 6 at 300 mm/s on hard floor. Friction, and losses that rise with the square."""
    drag = _CARPET_DRAG if carpet else 1.0
    share = (abs(left_mm_s) + abs(right_mm_s)) / 600.0
    return (1.5 * share + 4.5 * share * share) * drag


@njit(cache=True)
def _open_v(fill: float) -> float:
    """Voltage of the pack without a load, at a share of its charge."""
    return 13.0 + 2.6 * fill - 0.9 * math.exp(-18.0 * fill) + 0.5 * math.exp(-18.0 * (1.0 - fill))


def fill_at(voltage_v: float, current_a: float) -> float:
    """The share of charge, 0..1, of a pack that shows this voltage under this current."""
    open_v = voltage_v + _RESISTANCE_OHM * current_a
    low, high = 0.0, 1.0
    for _ in range(30):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _open_v(middle) < open_v else (low, middle)
    return 0.5 * (low + high)


@njit(cache=True)
def battery_step(
    charge_mah: float, temperature_c: float, power_w: float, docked: bool, dt_s: float
) -> tuple[float, float, float, float]:
    """One step of the pack under a load: charge (mAh), temperature (C), terminal voltage (V), current out (A).

    Voltage and current solve V = E - R P / V. On the dock the charger carries the load and fills the pack.
    """
    fill = charge_mah / CAPACITY_MAH
    open_v = _open_v(fill)
    drawn_w = power_w
    if docked:
        drawn_w = power_w - _CHARGER_W if fill < 1.0 else 0.0
    voltage = 0.5 * (open_v + math.sqrt(max(open_v * open_v - 4.0 * _RESISTANCE_OHM * drawn_w, 0.0)))
    current = drawn_w / voltage
    charge = min(max(charge_mah - current * dt_s / 3.6, 0.0), float(CAPACITY_MAH))
    warm = _AMBIENT_C + _WARMING_C_W * abs(drawn_w)
    return charge, temperature_c + (warm - temperature_c) * dt_s / _WARMING_S, voltage, current
