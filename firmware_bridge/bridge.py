"""The guard: a small process that holds a silent robot's port and stops the robot when the session is gone.

`python -m firmware_bridge.bridge FD ADDRESS OWNER_PID HALT_HEX HEARTBEAT_S` relays for the session over the inherited
socket FD. A Roomba obeys its last command for ever, so somebody must outlive the session that gave it. The guard writes
HALT (the driver's stop bytes) several times and ends when

- the session's end of the socket closes, or the session is no longer its parent (kill -9, crash),
- the session drives (`armed`) and is silent for HEARTBEAT_S of wall time (0: never, for emulators in virtual time,
  whose clock stands still while the session is silent),
- SIGTERM comes (`calib stop`, without any session). Ctrl-C is for the session: the guard ignores SIGINT and SIGHUP.

Killed or suspended itself, its second stops the robot, see `firmware_bridge.second`.

Request: `REQUEST` (kind, number, armed, time until which the clock shall go on, length), then data. Answer: `ANSWER`
(status, number of the request, clock, length), then data. Kinds: x write, wait, answer what came; t stop now, no
answer, also while an x is under way; r ask an emulator; w wake the robot; q quit, no answer. Status: k done, d the link
is down, b the port is busy.

With CALIB_TRAFFIC in the environment all of it is written down (firmware_bridge.traffic).

Imports the standard library and pyserial only: the guard stands before the robot moves, and starts in a tenth of a
second.
"""

import contextlib
import json
import os
import signal
import socket
import struct
import sys
import time
from typing import TYPE_CHECKING, Any

from firmware_bridge.ports import LinkDown, PortBusy
from firmware_bridge.second import NUM_HALTS, Second, SecondGone
from firmware_bridge.transport import Transport, open_transport, readable

if TYPE_CHECKING:
    from firmware_bridge.traffic import Log

TRAFFIC = "CALIB_TRAFFIC"  # environment: the folder of raw traffic logs (firmware_bridge.traffic)
REQUEST = struct.Struct("<cI?dI")
ANSWER = struct.Struct("<cIdI")
_LOOK_S = 1.0  # how often an idle guard looks whether its session still lives
_LAST_RESORT_S = 5  # a port that blocks for ever must not keep the guard alive with it


class _SessionGone(Exception):
    """Closed, silent or dead."""


class Guard:
    """One port and one session."""

    def __init__(self, session: socket.socket, owner_pid: int, halt: bytes, heartbeat_s: float) -> None:
        self._session = session
        self._owner_pid = owner_pid
        self._halt = halt
        self._heartbeat_s = heartbeat_s
        self._armed = False
        self._inbox = b""
        self._number = 0  # of the request under way
        self._transport: Transport
        self._log: Log | None = None

    def run(self, address: str) -> None:
        """Open the port, relay until the session ends, stop the robot. Never raises."""
        try:
            self._transport = open_transport(address, self._owner_pid)
        except PortBusy as problem:
            return self._answer(b"b", f"{problem.pid} {problem}".encode())
        except LinkDown as problem:
            return self._answer(b"d", str(problem).encode())
        why = ""
        halt = b"" if self._transport.replayed else self._halt  # a log has nobody to stop
        self._second = Second(self._transport.write, halt, self._heartbeat_s, self._session.close)
        try:
            self._open_log(address)
            self._answer(b"k", b"")
            while self._serve(*self._next_request()):
                pass
        except (LinkDown, SecondGone, _SessionGone) as problem:
            why = str(problem)
        finally:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.alarm(_LAST_RESORT_S)
            self.halt()
            self._second.dismiss()
            if why:  # a session that was only slow reads this instead of an answer
                self._answer(b"d", why.encode())
            self._transport.close()
            if self._log is not None:
                self._log.close()
        return None

    def halt(self) -> None:
        """Stop the robot, as surely as a one-way line allows: several times, drained. Never raises."""
        if not self._transport.replayed:
            with contextlib.suppress(LinkDown):
                for turn in range(NUM_HALTS):
                    if turn:
                        time.sleep(0.015)
                    self._transport.write(self._halt)
                    self._transport.drain()
                    self._note(b"h", self._halt)
        self._armed = False

    def _open_log(self, address: str) -> None:
        """Where the environment asks for the raw traffic; LinkDown where it cannot be written."""
        if os.environ.get(TRAFFIC):
            from firmware_bridge.traffic import log_of

            try:
                self._log = log_of(address, self._transport.now_s, self._transport.virtual)
            except OSError as problem:
                raise LinkDown(f"{TRAFFIC}: the traffic log cannot be written: {problem}") from None

    def _note(self, kind: bytes, asked: bytes, answered: bytes = b"") -> None:
        if self._log is not None:
            self._log.add(kind, self._transport.now_s, asked, answered)

    def _next_request(self) -> tuple[bytes, bool, float, bytes]:
        silent_since = time.monotonic()
        while True:
            if len(self._inbox) >= REQUEST.size:
                kind, self._number, armed, until_s, length = REQUEST.unpack_from(self._inbox)
                whole = REQUEST.size + length
                if len(self._inbox) >= whole:
                    data, self._inbox = self._inbox[REQUEST.size : whole], self._inbox[whole:]
                    return kind, armed, until_s, data
            guarded = self._armed and self._heartbeat_s > 0
            self._second.beat(self._armed)
            look_s = _LOOK_S
            if guarded:  # the last look ends when the heartbeat is due
                left_s = silent_since + self._heartbeat_s - time.monotonic()
                look_s = min(_LOOK_S, self._heartbeat_s / 4, max(left_s, 0.001))
            self._session.settimeout(look_s)
            with contextlib.suppress(TimeoutError):
                self._receive()
                continue
            silent_s = time.monotonic() - silent_since
            if os.getppid() != self._owner_pid:
                raise _SessionGone("the session died")
            if guarded and silent_s >= self._heartbeat_s:
                raise _SessionGone(
                    f"the guard stopped the robot: the session was silent for {silent_s:.2f} s while it moved; "
                    "open the robot again"
                )

    def _receive(self) -> None:
        try:
            data = self._session.recv(65_536)
        except ConnectionError:
            data = b""
        if not data:
            raise _SessionGone("the session closed its end")
        self._inbox += data

    def _serve(self, kind: bytes, armed: bool, until_s: float, data: bytes) -> bool:
        transport = self._transport
        if kind == b"x":
            self._armed = armed
            self._second.beat(armed)
            if data:
                transport.write(data)
            if transport.virtual:
                if until_s > transport.now_s:
                    transport.wait_until(until_s)
                came = transport.read()
            else:
                came = self._wait(transport, until_s)
            self._note(b"x", data, came)
            self._answer(b"k", came)
        elif kind == b"t":
            self._stop_now()
        elif kind == b"r" and transport.virtual:
            asked = json.loads(data)
            answer = json.dumps(transport.request(asked["kind"].encode(), asked["payload"])).encode()
            self._note(b"r", asked["kind"].encode() + json.dumps(asked["payload"], sort_keys=True).encode(), answer)
            self._answer(b"k", answer)
        elif kind == b"w":
            transport.wake()
            self._note(b"k", b"")
            self._answer(b"k", b"")
        else:  # q
            return False
        return True

    def _stop_now(self) -> None:
        # Twice at once instead of three times spread out: the session's next words follow, and the answer is seen
        # there.
        if not self._transport.replayed:
            self._transport.write(self._halt + self._halt)
            self._note(b"h", self._halt + self._halt)
        self._armed = False
        self._second.beat(False)

    def _wait(self, transport: Transport, until_s: float) -> bytes:
        """What comes until then. A stop, or the session's end, is heard meanwhile."""
        came = bytearray(transport.read())
        while (left_s := until_s - transport.now_s) > 0:
            port = transport.fileno()
            # A port without a file (rfc2217) is looked at every 2 ms instead.
            look_s = min(left_s, self._heartbeat_s / 4 or left_s) if port else 0.002
            found = readable([self._session, port] if port is not None else [self._session], look_s)
            self._second.beat(self._armed)
            if self._session in found:
                self._receive()
                while self._inbox[:1] == b"t" and len(self._inbox) >= REQUEST.size:
                    self._inbox = self._inbox[REQUEST.size :]
                    self._stop_now()
            came += transport.read()
        return bytes(came)

    def _answer(self, status: bytes, data: bytes) -> None:
        now_s = self._transport.now_s if hasattr(self, "_transport") else 0.0
        with contextlib.suppress(OSError):  # nobody listens any more: the next look at the session finds out
            self._session.sendall(ANSWER.pack(status, self._number, now_s, len(data)) + data)


def _end(*_: Any) -> None:
    raise SystemExit


def main(args: list[str]) -> None:
    """See the module's docstring."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    fd, address, owner_pid, halt, heartbeat_s = args
    session = socket.socket(fileno=int(fd))
    guard = Guard(session, int(owner_pid), bytes.fromhex(halt), float(heartbeat_s))
    signal.signal(signal.SIGTERM, _end)
    with contextlib.suppress(SystemExit):
        guard.run(address)


if __name__ == "__main__":
    main(sys.argv[1:])
