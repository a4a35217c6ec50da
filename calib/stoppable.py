"""A robot that moves outside a session (calibration) is stopped as a session's is: by `calib stop`, Ctrl-C, SIGTERM."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

from calib.control import ControlServer
from calib.registry import RunnerEntry, register, unregister
from devices.device import Device


@contextlib.contextmanager
def stoppable(device: Device, name: str, spec: str) -> Iterator[threading.Event]:
    """For as long as the block runs, in the main thread: the event is set when somebody has stopped the robot.

    The robot first: it is told to stop in the thread or the signal handler that hears of it. At the end it is stopped
    and its port given back, however the block ends.
    """
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        device.stop()

    def answer(request: dict[str, Any], _: str) -> dict[str, Any]:
        if request.get("do") == "stop":
            stop()
            return {"ok": True, "run": name}
        if request.get("do") in ("status", "beat"):
            return {"ok": True, "status": {"run": name, "phase": "finished" if stopped.is_set() else "calibrating"}}
        return {"ok": False, "error": "this is no session: it can be stopped, and nothing else"}

    def interrupted(number: int, _: Any) -> None:
        stop()
        raise KeyboardInterrupt

    server = ControlServer(answer)
    before = {number: signal.signal(number, interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        register(RunnerEntry(name, os.getpid(), server.port, server.token, spec, ""))
        yield stopped
    finally:
        device.stop()
        device.close()
        for number, handler in before.items():
            signal.signal(number, handler)
        unregister(name)
        server.close()
