"""Which robots there are, and a Device from a SPEC like `simvac`, `roomba:emulator`, `roomba:/dev/ttyUSB0`.

A robot is a file in this folder with a function `open_device(address: str | None) -> Device`; making the object opens
no port. The name is checked against the folder before anything is imported.
"""

import importlib
from pathlib import Path

from devices.device import Device


def device_names() -> list[str]:
    """The robots: files of this folder that define `open_device`."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(p.stem for p in files if "\ndef open_device(" in p.read_text(encoding="utf-8"))


def make_device(spec: str) -> Device:
    """The device of a SPEC. ValueError, in one line, for an unknown name or an address that the robot does not take."""
    name, _, address = spec.partition(":")
    if name not in device_names():
        raise ValueError(f'"{name}" is not a robot; choose one of {", ".join(device_names())}')
    device: Device = importlib.import_module(f"devices.{name}").open_device(address or None)
    return device
