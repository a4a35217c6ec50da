"""Stopping another process's run: its robot first, whatever has become of its runner."""

import os
import select
import signal
import time

from calib.control import ControlClient
from calib.errors import UserError
from calib.registry import RunnerEntry, is_alive

NOT_STOPPED = "NOT stopped"


def stop_runner(entry: RunnerEntry) -> str:
    """Ask the runner, and end it where it does not answer. Says how it went; NOT_STOPPED begins the one bad answer."""
    asked_s = time.monotonic()
    try:
        client = ControlClient(entry, timeout_s=2.0)
        client.request({"do": "stop", "asked_s": asked_s})
        client.close()
        return "stopped"
    except UserError:
        return _end(entry)


def _end(entry: RunnerEntry) -> str:
    """End a runner that does not answer, and nobody else: the handle is of the very process that wrote the entry."""
    again = f"; `calib resume {entry.run}` goes on" if entry.journal else ""  # a calibration or selftest has none
    try:
        handle = os.pidfd_open(entry.pid)
    except ProcessLookupError:
        return f"its runner had ended{again}"
    try:
        if not is_alive(entry):
            return f"its runner had ended{again}"
        # A suspended process hears SIGTERM once it goes on.
        for numbers, patience_s in (((signal.SIGTERM, signal.SIGCONT), 5.0), ((signal.SIGKILL,), 2.0)):
            for number in numbers:
                signal.pidfd_send_signal(handle, number)
            if select.select([handle], [], [], patience_s)[0]:
                return f"its runner did not answer and was ended{again and again + ' if the record is open'}"
    except ProcessLookupError:
        return f"its runner had ended{again}"
    except PermissionError:
        pass
    finally:
        os.close(handle)
    return f"{NOT_STOPPED}: process {entry.pid} does not answer and cannot be ended; see to the robot"
