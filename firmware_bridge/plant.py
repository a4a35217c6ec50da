"""The plant: what a robot's wheels, brushes and sensors are joined to. An emulator is handed one and moves it."""

from typing import NamedTuple, Protocol


class Actuators(NamedTuple):
    """What the robot's electronics command, held constant over one step."""

    left_mm_s: int  # wheel speed, forward positive
    right_mm_s: int
    fan: int  # suction motor, percent of full duty
    brush: int  # main brush, percent of full duty
    side_brush: int  # percent of full duty


class Sensors(NamedTuple):
    """What the robot's electronics can read after one step. Never the truth about pose or dirt."""

    bump_left: bool
    bump_right: bool
    cliff: bool  # a cliff under the front edge
    wall: bool  # the right-hand wall sensor
    left_counts: int  # wheel encoder, cumulative and signed; 508.8 counts a turn of a 72 mm wheel
    right_counts: int
    dirt: int  # dirt impacts per second, scaled to 0..255
    voltage_mv: int
    current_ma: int  # out of the battery: positive while discharging
    charge_mah: int
    capacity_mah: int
    temperature_c: int
    docked: bool  # on the charging contacts


class Plant(Protocol):
    """A physical world under a robot. Deterministic from what it was made with; keeps its own clock."""

    def advance(self, dt_s: float, actuators: Actuators) -> Sensors:
        """Move the world on by dt_s under constant actuators and read the sensors; dt_s = 0 only reads."""
        ...

    def scan(self, num_rays: int) -> list[float]:
        """How far the nearest obstacle is all around, m; ray 0 ahead, then counter-clockwise. Moves nothing."""
        ...

    def instruments(self) -> dict[str, float]:
        """What somebody with a scale and a sound meter can read of it, exactly; see `devices.home.plant.Home`."""
        ...
