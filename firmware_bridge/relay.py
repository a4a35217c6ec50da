"""A wire between a client that somebody else wrote and a robot, all of it written down: `calib devices record`.

Without a client it listens. It never writes a byte of its own: a robot that obeys its last command for ever goes on
when the client has gone. A fault:// address makes the wire a bad one.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from firmware_bridge.serve import Pty, Tcp
from firmware_bridge.traffic import Log
from firmware_bridge.transport import open_transport, readable

_LOOK_S = 0.002  # at what cannot be waited for
_WAIT_S = 0.05


class Carried(NamedTuple):
    """What has gone through."""

    seconds: float
    to_robot: int  # bytes
    from_robot: int


def relay(
    address: str,
    owner_pid: int,
    path: Path,
    line: Pty | Tcp | None,
    seconds: float | None,
    ready: Callable[[], None] = lambda: None,
    ended: Callable[[], bool] = lambda: False,
) -> Carried:
    """Carry bytes until the time is over or `ended` says so; the log holds what came until then, whatever happens.

    PortBusy or LinkDown, and OSError where the log cannot be written (it must be a new file).
    """
    transport = open_transport(address, owner_pid)
    try:
        about = {"address": address, "now_s": transport.now_s, "virtual": transport.virtual, "unix_s": time.time()}
        log = Log(path, {**about, "by": "relay"})
    except OSError:
        transport.close()
        raise
    ready()
    began_s, there, back = transport.now_s, 0, 0
    try:
        while not ended() and (seconds is None or transport.now_s - began_s < seconds):
            port = transport.fileno()
            files = [*(line.files() if line is not None else []), *([] if port is None else [port])]
            readable(files, _LOOK_S if port is None else _WAIT_S)
            if line is not None and (data := line.read()):
                there += len(data)
                log.add(b"o", transport.now_s, data)
                transport.write(data)
            if transport.virtual:
                transport.wait_until(transport.now_s + _WAIT_S)
            if came := transport.read():
                back += len(came)
                log.add(b"i", transport.now_s, b"", came)
                if line is not None:
                    line.write(came)
        return Carried(transport.now_s - began_s, there, back)
    finally:
        log.close()
        transport.close()
        if line is not None:
            line.close()
