"""List ports and robots, or run a robot's emulator."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `calib devices list|emulate`."""
    from devices.emulate import add_arguments as add_emulate_arguments

    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="serial ports, and emulators that run now")
    add_emulate_arguments(actions.add_parser("emulate", help="a robot's bytes on a pty or a TCP port, until SIGTERM"))


def main(args: argparse.Namespace) -> int:
    """Do what `args.action` says."""
    if args.action == "list":
        return _list(args)
    from devices.emulate import run

    return run(args)


def _list(args: argparse.Namespace) -> int:
    import json

    from devices.catalog import device_names
    from firmware_bridge import ports

    rows = [
        {
            "address": port.device,
            "kind": "serial",
            # None for a port that is no USB device.
            "usb": f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else None,
            "serial_number": port.serial_number,
            "description": port.description,
        }
        for port in _serial_ports()
    ]
    rows += [
        {
            "address": record["address"],
            "kind": "emulator",
            "usb": None,
            "serial_number": None,
            "description": f"{record['device']}, {_pace(record['virtual'])}, process {record['pid']}",
        }
        for record in ports.running()
    ]
    if args.json:
        print(json.dumps({"robots": device_names(), "ports": rows}))
        return 0
    print(f"robots: {', '.join(device_names())}")
    if not rows:
        print("no serial ports and no emulators: plug a robot in, or `calib devices emulate roomba`")
        return 0
    from cli._table import show

    columns = ("address", "kind", "usb", "serial_number", "description")
    show(columns, [[row[name] for name in columns] for row in rows])
    return 0


def _pace(virtual: bool) -> str:
    return "in virtual time" if virtual else "paced by the wall clock"


def _serial_ports() -> list[Any]:
    from serial.tools.list_ports import comports

    return sorted(comports())
