"""The session's end of the guard: a Transport whose port lives in a process that outlives the session."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from firmware_bridge.bridge import ANSWER, REQUEST
from firmware_bridge.ports import LinkDown, PortBusy

HEARTBEAT_S = 0.35  # five control ticks: with what the guard and the robot take, it stands within half a second
_PATIENCE_S = 20.0  # of wall time for an answer beyond what was asked for; the guard's own time-outs are shorter
_ROOT = str(Path(__file__).resolve().parent.parent)

Tap = Callable[[str, float, bytes], None]  # ("sent" or "came", clock, bytes): a raw traffic log


def spawn(module: str, *args: str, **options: Any) -> "subprocess.Popen[bytes]":
    """Start one of our modules as a process of its own session, from any working directory."""
    path = os.pathsep.join(filter(None, (_ROOT, os.environ.get("PYTHONPATH"))))
    return subprocess.Popen(
        [sys.executable, "-m", module, *args],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        **options,
    )


def reap(process: "subprocess.Popen[bytes]", patience_s: float = 3.0) -> None:
    """Wait for a process that was told to end; TERM and then KILL one that does not. Leaves no zombie."""
    for insist in (process.terminate, process.kill):
        try:
            process.wait(patience_s)
            return
        except subprocess.TimeoutExpired:
            insist()
    process.wait()


class BridgeClient:
    """A port held by a guard process of its own, see `bridge`. One thread exchanges; any thread may `stop`."""

    def __init__(self, address: str, halt: bytes, heartbeat_s: float = HEARTBEAT_S, tap: Tap | None = None) -> None:
        """Start the guard and open the port. PortBusy with the owner's pid, or LinkDown."""
        self.address = address
        self._tap = tap
        self._came = b""
        self._now_s = 0.0
        self._inbox = b""
        self._number = 0
        # Reentrant: a signal handler may stop the robot while its own thread is sending.
        self._sending = threading.RLock()
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(_PATIENCE_S)
        self.process = spawn(
            "firmware_bridge.bridge",
            str(theirs.fileno()),
            address,
            str(os.getpid()),
            halt.hex(),
            str(heartbeat_s),
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        theirs.close()
        try:
            self._receive()
        except (LinkDown, PortBusy):
            self.close()
            raise

    @property
    def now_s(self) -> float:
        """The robot's clock as of the last exchange: the emulator's in virtual time, else the wall's."""
        return self._now_s

    def exchange(self, data: bytes, until_s: float, armed: bool, allowed: Callable[[], bool] | None = None) -> bytes:
        """Write, let the clock go on until until_s, return all that came: one control tick in one round trip.

        armed: from now on silence of the session stops the robot. `allowed` is asked under the lock that orders this
        against `stop`; when it says no, the data stay unsent, and nothing can slip out behind a stop.
        """
        with self._sending:
            if allowed is not None and not allowed():
                data, armed = b"", False
            self._send(b"x", armed, until_s, data)
            if data and allowed is not None and not allowed():  # a signal handler stopped between question and sending
                self._send(b"t", False, 0.0, b"")
        if self._tap is not None and data:
            self._tap("sent", self._now_s, data)
        came = self._receive()
        if self._tap is not None and came:
            self._tap("came", self._now_s, came)
        return came

    def write(self, data: bytes) -> None:
        """Send all of it, without a promise to say more soon."""
        self._came += self.exchange(data, 0.0, False)

    def read(self) -> bytes:
        """What has come up to the last wait."""
        data, self._came = self._came, b""
        return data

    def wait_until(self, time_s: float) -> None:
        """Let the clock go on until then."""
        self._came += self.exchange(b"", time_s, False)

    def request(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask an emulator in virtual time something beside the line: p prepare, s state, f faults. ValueError if
        refused."""
        with self._sending:
            self._send(b"r", False, 0.0, json.dumps({"kind": kind, "payload": payload}).encode())
        answer = json.loads(self._receive())
        if "error" in answer:
            raise ValueError(answer["error"])
        return dict(answer)

    def wake(self) -> None:
        """Pulse the wake-up line, where there is one."""
        with self._sending:
            self._send(b"w", False, 0.0, b"")
        self._receive()

    def stop(self) -> None:
        """The guard writes the stop bytes at once. From any thread, never waits for an answer, never raises."""
        with self._sending, contextlib.suppress(LinkDown):
            self._send(b"t", False, 0.0, b"")

    def close(self) -> None:
        """The guard stops the robot, lets go of the port and ends. Idempotent, never raises."""
        if self._socket.fileno() >= 0:
            with self._sending, contextlib.suppress(LinkDown):
                self._send(b"q", False, 0.0, b"")
            self._socket.close()
        reap(self.process)

    def _send(self, kind: bytes, armed: bool, until_s: float, data: bytes) -> None:
        if kind not in b"tq":
            self._number += 1
        try:
            self._socket.sendall(REQUEST.pack(kind, self._number, armed, until_s, len(data)) + data)
        except OSError:
            # Why the guard ended stands in its last words, which are read instead of an answer.
            if kind in b"tq":
                raise LinkDown(f"{self.address}: the guard process is gone; open the robot again") from None

    def _receive(self) -> bytes:
        """The answer to the last request. Answers that an interrupt (Ctrl-C) left unread come before it."""
        late = b""
        while True:
            status, number, data = self._next_answer()
            if status == b"b":
                raise PortBusy(self.address, int(data.partition(b" ")[0]))
            if status == b"d":
                raise LinkDown(data.decode())
            if number == self._number:
                return late + data
            late += data

    def _next_answer(self) -> tuple[bytes, int, bytes]:
        try:
            while True:
                if len(self._inbox) >= ANSWER.size:
                    status, number, now_s, length = ANSWER.unpack_from(self._inbox)
                    whole = ANSWER.size + length
                    if len(self._inbox) >= whole:
                        self._now_s = now_s
                        data, self._inbox = self._inbox[ANSWER.size : whole], self._inbox[whole:]
                        return status, number, data
                came = self._socket.recv(65_536)
                if not came:
                    raise ConnectionResetError
                self._inbox += came
        except OSError as problem:
            why = "does not answer" if isinstance(problem, TimeoutError) else "is gone"
            raise LinkDown(f"{self.address}: the guard process {why}; open the robot again") from None
