"""The Device protocol: one robot that takes settings, runs, and says what happened.

Errors, as a tree:

    DeviceError            a robot or its link failed; the message carries the remedy; exit code 3
    +-- LinkLost           the line is dead or silent; the run is over, nothing may move
    +-- Refused            the robot is there but will not do this (busy port, wrong mode, low battery)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from devices.home.types import Context, Outcome, Settings
from firmware_bridge.link_state import LinkState

Rung = Literal["simulator", "emulator", "hardware"]
Realised = Literal["read back", "inferred", "not readable"]


class DeviceError(Exception):
    """A robot or its link failed. The message says what, where and what to do."""


class LinkLost(DeviceError):
    """The line is dead or silent."""


class Refused(DeviceError):
    """The robot is there but will not do this."""


@dataclass(frozen=True)
class Readback:
    """The settings as the robot confirms them, and field by field how it is known."""

    settings: Settings
    how: dict[str, Realised]  # one entry for each field of Settings


@dataclass(frozen=True)
class Progress:
    """Where a run stands, for a page or a terminal. `pose` is the robot's own estimate, never the truth."""

    elapsed_s: float
    fraction: float  # of the planned run, 0..1
    pose: tuple[float, float, float]  # m, m, rad
    bumps: int
    done: bool


# What a robot is known by; the rest of an identity (battery, address) changes.
_NAMES = ("robot", "firmware", "protocol", "serial number", "usb serial number")


def known_by(identity: Mapping[str, Any]) -> dict[str, str]:
    """What an identity says of who the robot is, as far as it is known."""
    return {name: identity[name] for name in _NAMES if identity.get(name, "unknown") != "unknown"}


def how_another(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """By what the robot that answers now, as `known_by` says it, is not the one from before; "" where it may be."""
    for name in _NAMES:
        if name in before and name in now and now[name] != before[name]:
            return f"its {name} is {now[name]} and was {before[name]}"
    return ""


class Device(Protocol):
    """One robot. `open` and `prepare` never move it; only `start` does, and `stop` always may be called.

    The order is open, then for each run: prepare, start, advance until `done`, finish. Any call may raise DeviceError.
    A stop after prepare holds: start refuses until the next prepare.
    """

    name: str
    rung: Rung
    message: str  # why the last run ended in a fault, with the remedy; empty where it did not

    @property
    def link(self) -> LinkState:
        """How the line stands as of the last exchange, and why."""
        ...

    def open(self) -> dict[str, str]:
        """Connect and return the robot's identity (firmware, serial number, whatever it tells)."""
        ...

    def prepare(self, context: Context, replicate: int) -> None:
        """Make ready for a run in this context. Simulated worlds are laid out; a real home is the operator's."""
        ...

    def start(self, settings: Settings) -> Readback:
        """One atomic start: settings and motion together, read back."""
        ...

    def advance(self) -> Progress:
        """Drive on for at most one second of robot time."""
        ...

    def finish(self) -> Outcome:
        """Motors off, and what the run did."""
        ...

    def stop(self) -> None:
        """Motors off at once. Idempotent, from any thread, never raises."""
        ...

    def close(self) -> None:
        """Stop and let go of the port. Idempotent."""
        ...
