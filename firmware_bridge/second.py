"""The guard's second: a fork of the guard that shares its port and stops the robot when the guard itself is gone.

The guard writes a byte with every sign of life: `a` while the robot may move, `d` while it may not, `q` when it has
stopped the robot and is about to end. The pipe's end without a `q` means that the guard was killed; silence after an
`a` means that it hangs or was suspended. Then the second kills it, so that nothing which it still had to say is said
any more, and writes the stop bytes itself.
"""

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from firmware_bridge.ports import LinkDown

NUM_HALTS = 3  # a byte may be lost on the wire


class SecondGone(Exception):
    """The second was killed: nobody would stop the robot if the guard were next."""


class Second:
    """The guard's end. Fork it before the robot can move."""

    def __init__(
        self, write: Callable[[bytes], None], halt: bytes, silence_s: float, let_go: Callable[[], None]
    ) -> None:
        """write: to the port. silence_s: of an armed guard, 0 for ever. let_go: closes what is the guard's alone."""
        guard = os.getpid()
        beats, self._beats = os.pipe()
        os.set_blocking(self._beats, False)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.close(self._beats)
                for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)  # it ends with the guard, and not before
                let_go()
                if not _ended_well(beats, guard, silence_s) and halt:
                    _halt(write, halt)
            finally:
                os._exit(0)
        os.close(beats)

    def beat(self, armed: bool) -> None:
        """A sign of life. SecondGone when nobody takes it."""
        try:
            os.write(self._beats, b"a" if armed else b"d")
        except OSError:
            raise SecondGone("the process that watches the guard was killed; open the robot again") from None

    def dismiss(self) -> None:
        """The robot stands and the guard ends. Never raises."""
        with contextlib.suppress(OSError):
            os.write(self._beats, b"q")
        with contextlib.suppress(OSError):
            os.close(self._beats)
            os.waitpid(self._pid, 0)


def _ended_well(beats: int, guard: int, silence_s: float) -> bool:
    """Read signs of life until the guard ends. False when it was killed, or is killed here because it is silent."""
    armed = False
    while True:
        if not select.select([beats], [], [], silence_s if armed and silence_s > 0 else None)[0]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(guard, signal.SIGKILL)
            return False
        data = os.read(beats, 4096)
        if not data:
            return False
        if b"q" in data:
            return True
        armed = data.endswith(b"a")


def _halt(write: Callable[[bytes], None], halt: bytes) -> None:
    with contextlib.suppress(LinkDown):
        for turn in range(NUM_HALTS):
            if turn:
                time.sleep(0.015)
            write(halt)
