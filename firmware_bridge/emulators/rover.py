"""The rover: its real firmware in simavr, over any Plant.

The plant closes the loop: the duties of the pins move it, its encoders turn the chip's interrupt pins edge by edge, its
switches and levels are the chip's inputs. Time is the chip's.

Host and plant move in steps of 15 ms, the firmware reports every 20 ms of its own clock. The three are laid beside each
other so that what the host says at a multiple of 60 ms moves the plant in the next four steps, and what they brought is
told before the next multiple: a run takes the very steps that it takes in the simulator.
"""

from typing import Any

from firmware_bridge.plant import Actuators, Plant, Sensors
from firmware_bridge.rover_chip import CYCLES_A_MS, FULL_DUTY, FULL_MM_S, Chip, Duties

STEP_MS = 15
_GRID_MS = 60  # of steps and reports together
_AHEAD_MS = 7  # the chip's clock before the host's: a report that begins at 0 ms is on the line by then
_PLANT_MS = 5  # after a step begins: the host's command is in force
_TURN_MS = 2  # the plant's counts come within that time, before the report
_IDLE = Actuators(0, 0, 0, 0, 0)
_NO_PLANT = Sensors(False, False, False, False, 0, 0, 0, 16_000, 300, 2_600, 2_600, 25, False)
_SOUND, _DIRT, _VOLTAGE, _CURRENT = 0, 1, 6, 7


class Emulator:
    """One rover, switched on. `feed` it the host's bytes, `advance` it in steps of 15 ms."""

    name = "rover"
    step_us = STEP_MS * 1000

    def __init__(self, seed: int = 0, firmware: str = "rover.elf") -> None:
        """CannotBuild where the compiler or simavr is missing."""
        self.seed = seed
        self.chip = Chip(_GRID_MS, firmware)
        self.sensors = _NO_PLANT
        self.actuators = _IDLE
        # What a test or a person may do to the robot, see `fault`.
        self.gains = [1.0, 1.0]
        self.switches = 0
        self.mute = False
        self._noise = b""
        self._plant: Plant | None = None
        self._resting = True
        self._resets = 0
        self._now_ms = 0
        self._show()
        self._run(0)

    def lay_out(self, plant: Plant) -> None:
        """Put the robot into another world. The chip notices nothing but other sensors."""
        self.sensors = plant.advance(0.0, _IDLE)
        self._plant = plant
        self._resting = True
        self._show()

    def feed(self, data: bytes) -> bytes:
        """The host's bytes, onto the line. The chip hears them as time goes on, so there is no answer yet."""
        self.chip.send(data)
        return b""

    def advance(self, dt_s: float, plant: Plant) -> bytes:
        """Move on by dt_s, a multiple of 15 ms, and return what the chip sent."""
        if plant is not self._plant:
            self.lay_out(plant)
        for _ in range(round(dt_s * 1000 / STEP_MS)):
            self._run(_PLANT_MS)
            self._step(plant)
            self._run(STEP_MS)
            self._now_ms += STEP_MS
        came, self._noise = self._noise + self.chip.take(), b""
        return b"" if self.mute else came

    def fault(self, changes: dict[str, Any]) -> None:
        """What a person or a bad line does to a robot.

        reset; gains (left and right, of motors that are not the nominal ones); switches (bits held: bump left 1, bump
        right 2, cliff 4, wall 8); mute (it hears but is not heard); noise (hexadecimal, comes before the next frame);
        wake. KeyError for another name.
        """
        for name, value in changes.items():
            if name == "reset":
                self.chip.reset()
            elif name == "noise":
                self._noise += bytes.fromhex(value)
            elif name in ("gains", "switches", "mute"):
                setattr(self, name, value)
                self._show()
            elif name != "wake":
                raise KeyError(name)

    def state(self) -> dict[str, Any]:
        """What the pins say; for tests and for people, never part of the protocol."""
        return {
            "actuators": list(self._commanded(self.chip.duties())),
            "sensors": [int(each) for each in self.sensors],
            "num_resets": self.chip.num_resets,
            "num_pending": self.chip.num_pending,
        }

    def _run(self, ms: int) -> None:
        self.chip.run((self._now_ms + ms + _AHEAD_MS) * CYCLES_A_MS)
        if self.chip.num_resets != self._resets:
            self._resets = self.chip.num_resets
            self._show()

    def _step(self, plant: Plant) -> None:
        before, self.actuators = self.sensors, self._commanded(self.chip.duties())
        # A world begins to run with the robot's first motion in it: while the person thinks nothing drains or drifts,
        # so that a run in an emulator takes the same steps as one in the simulator.
        if self._resting and self.actuators != _IDLE:
            self._resting = False
        if self._resting:
            return
        now = self.sensors = plant.advance(STEP_MS / 1000, self.actuators)
        self._show()
        left, right = now.left_counts - before.left_counts, now.right_counts - before.right_counts
        self.chip.turn(left, right, _TURN_MS * CYCLES_A_MS)

    def _commanded(self, duties: Duties) -> Actuators:
        left, right = (
            round(duty * gain * FULL_MM_S / FULL_DUTY)
            for duty, gain in zip((duties.left, duties.right), self.gains, strict=True)
        )
        if not duties.enabled:
            left = right = 0
        return Actuators(left, right, duties.fan, duties.brush, duties.side_brush)

    def _show(self) -> None:
        """Put the sensors onto the chip's pins, by the wiring of docs/rover.md."""
        chip, s, held = self.chip, self.sensors, self.switches
        chip.switch(
            s.bump_left or bool(held & 1), s.bump_right or bool(held & 2), s.cliff or bool(held & 4), s.wall or held > 7
        )
        chip.level(_VOLTAGE, s.voltage_mv // 20)
        chip.level(_CURRENT, s.current_ma // 4)
        chip.level(_DIRT, 4 * s.dirt + 2)
        # A microphone beside the fan, 50 dB(A) a volt. Invented: no scenario speaks of what the robot itself hears.
        heard_dba = 35.0 + 0.35 * self.actuators.fan + 0.05 * self.actuators.brush
        chip.level(_SOUND, round(heard_dba * 0.02 / 5 * 1023))
