"""A robot that moves outside a session (calibration, selftest) is stopped as a session's is: by `calib stop`, Ctrl-C,
SIGTERM."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any, Protocol

from calib.control import ControlServer
from calib.registry import RunnerEntry, register, unregister


class Moving(Protocol):
    """A robot, or whichever of several moves now."""

    def stop(self) -> None:
        """Motors off at once; from any thread, never raises."""
        ...

    def close(self) -> None:
        """Stop and let go of the port."""
        ...


@contextlib.contextmanager
def stoppable(
    device: Moving, name: str, spec: str, doing: str = "calibrating", interrupts: bool = False
) -> Iterator[threading.Event]:
    """For as long as the block runs, in the main thread: the event is set when somebody has stopped the robot.

    The robot first: it is told to stop in the thread or the signal handler that hears of it. At the end it is stopped
    and its port given back, however the block ends. doing: its phase in a status. interrupts: a stop from elsewhere
    ends the block as Ctrl-C does, with KeyboardInterrupt, where nobody looks at the event.
    """
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        device.stop()

    def answer(request: dict[str, Any], _: str) -> dict[str, Any]:
        if request.get("do") == "stop":
            stop()
            if interrupts:
                signal.pthread_kill(main, signal.SIGINT)
            return {"ok": True, "run": name}
        if request.get("do") in ("status", "beat"):
            return {"ok": True, "status": {"run": name, "phase": "finished" if stopped.is_set() else doing}}
        return {"ok": False, "error": "this is no session: it can be stopped, and nothing else"}

    def interrupted(number: int, _: Any) -> None:
        stop()
        raise KeyboardInterrupt

    main = threading.get_ident()
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
