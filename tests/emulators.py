"""Emulators as processes, for tests."""

import contextlib
import json
import subprocess
from collections.abc import Iterator

from firmware_bridge.bridge_client import reap, spawn


@contextlib.contextmanager
def emulator(*args: str, robot: str = "roomba") -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """An emulator as a process: (address, process)."""
    process = spawn("devices.emulate", robot, "--json", *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        with process.stdout:
            yield json.loads(process.stdout.readline())["address"], process
    finally:
        process.terminate()
        reap(process)
