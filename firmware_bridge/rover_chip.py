"""The rover's ATmega328P in simavr, running its real firmware: `firmware_bridge/rover/simavr/host.c` seen from Python.

Time is the chip's own cycles, 16,000 a millisecond, and goes on only in `run`: the same calls give the same bytes.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_uint, c_uint64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from firmware_bridge.rover_build import build

CYCLES_A_MS = 16_000
_ROOM = 65_536
FULL_DUTY = 1_000
FULL_MM_S = 625  # of a nominal motor at full duty

_CALLS: dict[str, tuple[list[Any], Any]] = {
    "open": ([c_char_p, c_uint64], c_void_p),
    "close": ([c_void_p], None),
    "run": ([c_void_p, c_uint64], c_int),
    "send": ([c_void_p, c_char_p, c_uint], c_uint),
    "take": ([c_void_p, c_char_p, POINTER(c_uint64)], c_uint),
    "turn": ([c_void_p, c_int, c_int, c_uint64], None),
    "switches": ([c_void_p, c_int], None),
    "level": ([c_void_p, c_int, c_uint], None),
    "motors": ([c_void_p, POINTER(c_int)], None),
    "reset": ([c_void_p], None),
    "cycle": ([c_void_p], c_uint64),
    "heard": ([c_void_p], c_uint64),
    "changed": ([c_void_p], c_uint64),
    "moving": ([c_void_p], c_int),
    "num_resets": ([c_void_p], c_int),
    "pending": ([c_void_p], c_uint),
}


@cache
def _library(path: Path) -> ctypes.CDLL:
    library = ctypes.CDLL(str(path))
    for name, (arguments, result) in _CALLS.items():
        function = getattr(library, f"rover_{name}")
        function.argtypes, function.restype = arguments, result
    return library


class Duties(NamedTuple):
    """What the pins tell the motors."""

    enabled: bool
    left: int  # -1000..1000
    right: int
    fan: int  # percent
    brush: int
    side_brush: int


class Chip:
    """One chip. After any reset it starts on a multiple of grid_ms."""

    def __init__(self, grid_ms: int = 60, firmware: str = "rover.elf") -> None:
        """CannotBuild where the compiler or simavr is missing."""
        folder = build("emulator")
        self._library = _library(folder / "host.so")
        self._host = self._library.rover_open(str(folder / firmware).encode(), grid_ms * CYCLES_A_MS)
        if not self._host:
            raise RuntimeError(f"simavr does not load {folder / firmware}")
        self._bytes = ctypes.create_string_buffer(_ROOM)
        self._stamps = (c_uint64 * _ROOM)()
        self._duties = (c_int * 6)()

    @property
    def cycle(self) -> int:
        """Now."""
        return int(self._library.rover_cycle(self._host))

    def run(self, until: int) -> None:
        """Up to a cycle."""
        if self._library.rover_run(self._host, until):
            raise RuntimeError("the emulated chip has crashed")

    def send(self, data: bytes) -> None:
        """To the line, from now on, a byte each 87 us."""
        self._library.rover_send(self._host, data, len(data))

    def take(self) -> bytes:
        """What came from the line since the last call."""
        number = self._library.rover_take(self._host, self._bytes, None)
        return self._bytes.raw[:number]

    def take_stamped(self) -> tuple[bytes, list[int]]:
        """The same with the cycle of each byte."""
        number = self._library.rover_take(self._host, self._bytes, self._stamps)
        return self._bytes.raw[:number], list(self._stamps[:number])

    def turn(self, left: int, right: int, within: int) -> None:
        """The encoders turn by so many counts within so many cycles."""
        self._library.rover_turn(self._host, left, right, within // max(abs(left), abs(right), 1))

    def switch(self, bump_left: bool, bump_right: bool, cliff: bool, wall: bool) -> None:
        """The digital inputs."""
        self._library.rover_switches(self._host, bump_left | bump_right << 1 | cliff << 2 | wall << 3)

    def level(self, channel: int, reading: int) -> None:
        """An analog input, so that the converter reads this, 0..1023."""
        millivolts = -(-max(0, min(reading, 1023)) * 5000 // 1023)
        self._library.rover_level(self._host, channel, millivolts)

    def duties(self) -> Duties:
        """What the motors are told now."""
        self._library.rover_motors(self._host, self._duties)
        enabled, left, right, *others = self._duties
        return Duties(bool(enabled), left, right, *[round(each * 100 / 255) for each in others])

    def reset(self) -> None:
        """Power off and on, or the reset pin."""
        self._library.rover_reset(self._host)

    @property
    def heard(self) -> int:
        """The cycle in which the line's last byte went in."""
        return int(self._library.rover_heard(self._host))

    @property
    def moving(self) -> bool:
        """Some motor is driven."""
        return bool(self._library.rover_moving(self._host))

    @property
    def changed(self) -> int:
        """The cycle in which `moving` last changed."""
        return int(self._library.rover_changed(self._host))

    @property
    def num_resets(self) -> int:
        """Starts so far, but for the first."""
        return int(self._library.rover_num_resets(self._host))

    @property
    def num_pending(self) -> int:
        """Bytes on the line that have not gone in."""
        return int(self._library.rover_pending(self._host))

    def close(self) -> None:
        """Free it. Idempotent."""
        if self._host:
            self._library.rover_close(self._host)
            self._host = None

    def __del__(self) -> None:
        if getattr(self, "_host", None):
            self.close()
