"""Transports: bytes to and from a robot, and the clock that its time-outs are measured on.

Two kinds. `SerialTransport` is any port that pyserial opens, on the wall clock. `VirtualTransport` is an emulator's pty
with a side channel for time: the emulator moves only when `wait_until` asks it to, so that a session runs as fast as
the machine allows and gives the same bytes in every run.

The side channel is a Unix socket at PATH.clock beside the pty's PATH. Request: `CLOCK_REQUEST` (kind, bytes that the
host has written so far, time in us, length of what follows), then JSON or nothing. Answer: `CLOCK_REPLY` (now in us,
bytes that the emulator has sent so far, length), then JSON or nothing. Kinds: h hello (count from here), a advance to a
time, p prepare {...} (lay out a new plant), s the emulator's state, f faults {...}.
"""

import contextlib
import errno
import fcntl
import json
import math
import os
import select
import socket
import struct
import termios
import time
import tty
from typing import Any, Protocol

from firmware_bridge.ports import Claim, LinkDown, PortBusy, running

FAULT, REPLAY = "fault://", "replay://"  # firmware_bridge.faults and .traffic, loaded where they are asked for
CLOCK_REQUEST = struct.Struct("<cQQI")
CLOCK_REPLY = struct.Struct("<QQI")
MAX_WAIT_S = 1.0  # of one advance: a pty holds some 20 kB, which a stream of 172 bytes every 15 ms fills in 1.7 s
_MOST_AT_ONCE = 65_536  # bytes of one look at a port
STALL_S = 5.0  # wall time after which an emulator that does not answer counts as dead


class Transport(Protocol):
    """Bytes and a clock. LinkDown from any call once the port is gone; `close` never raises."""

    @property
    def virtual(self) -> bool:
        """Whether its clock moves only when `wait_until` asks it to."""
        ...

    @property
    def replayed(self) -> bool:
        """Whether it is a log, and nobody is there to be stopped."""
        ...

    @property
    def now_s(self) -> float:
        """This transport's clock; all time-outs are measured on it."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of it."""
        ...

    def read(self) -> bytes:
        """Everything that has come, perhaps nothing."""
        ...

    def wait_until(self, time_s: float) -> None:
        """Let the clock go on until that time."""
        ...

    def fileno(self) -> int | None:
        """For select; None where the port has none."""
        ...

    def drain(self) -> None:
        """Wait until what was written has left."""
        ...

    def wake(self) -> None:
        """Pulse the line that wakes a sleeping robot, where there is one."""
        ...

    def request(self, kind: bytes, payload: dict[str, Any]) -> dict[str, Any]:
        """A word beside the line to an emulator in virtual time."""
        ...

    def close(self) -> None:
        """Let go of the port. Idempotent."""
        ...


class SerialTransport:
    """A port that pyserial opens: /dev/tty..., a pty, socket://, rfc2217://. Wall clock."""

    virtual = replayed = False

    def __init__(self, address: str, owner_pid: int, baud: int = 115_200) -> None:
        """Open and claim the port. PortBusy or LinkDown, each one line."""
        import serial

        self.address = address
        self._claim = Claim(address, owner_pid)
        try:
            # timeout 0: reads return what is there. write_timeout: a peer that no longer reads blocks after 14 kB.
            self._port: Any = serial.serial_for_url(address, do_not_open=True, baudrate=baud, timeout=0)
            if not address.startswith("rfc2217://"):  # which has none, and refuses one
                self._port.write_timeout = 1.0
            is_device = "://" not in address
            if is_device:
                self._port.exclusive = True
            self._port.open()
            self._fd: int | None = self._port.fileno() if is_device else None
            # An emulator keeps its pty's slave open, so there the flag would outlive a killed owner.
            if is_device and self._fd is not None and not os.path.realpath(address).startswith("/dev/pts/"):
                fcntl.ioctl(self._fd, termios.TIOCEXCL)
        except OSError as problem:  # SerialException is one
            self._claim.release()
            held = problem.errno in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(problem)
            if held:
                raise PortBusy(address, 0) from None
            raise LinkDown(f"{address} does not open ({_why(problem)}): check cable, address and permission") from None
        except ValueError as problem:
            self._claim.release()
            raise LinkDown(f"{address} is no port: {problem}") from None

    @property
    def now_s(self) -> float:
        """The wall clock, monotonic."""
        return time.monotonic()

    def fileno(self) -> int | None:
        """For select; None where the port has none (rfc2217)."""
        try:
            return int(self._port.fileno())
        except (OSError, ValueError, AttributeError):
            return None

    def write(self, data: bytes) -> None:
        """Send all of it."""
        try:
            self._port.write(data)
        except OSError as problem:
            raise self._down(problem) from None

    def read(self) -> bytes:
        """Everything that has come, so far as one look goes."""
        found = b""
        try:
            while len(found) < _MOST_AT_ONCE and (more := self._port.read(4096)):  # rfc2217 gives a byte at a time
                found += more
        except OSError as problem:
            raise self._down(problem) from None
        return found

    def wait_until(self, time_s: float) -> None:
        """Sleep until then."""
        time.sleep(max(0.0, time_s - time.monotonic()))

    def drain(self) -> None:
        """Wait until what was written has left. Best effort: not every port can tell."""
        # termios has an error of its own, which is no OSError
        with contextlib.suppress(OSError, termios.error, ValueError, AttributeError, NotImplementedError):
            self._port.flush()

    def wake(self) -> None:
        """Pulse BRC (RTS of iRobot's cable) low, which wakes a sleeping Roomba. A pty has no such line."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for level in (True, False, True):
                self._port.rts = level
                time.sleep(0.1)

    def request(self, kind: bytes, payload: dict[str, Any]) -> dict[str, Any]:
        """LinkDown: the wall clock needs no words beside the line."""
        raise LinkDown(f"{self.address} is no emulator in virtual time")

    def close(self) -> None:
        """Let go of the port."""
        with contextlib.suppress(Exception):
            self._port.close()
        self._claim.release()

    def _down(self, problem: OSError) -> LinkDown:
        return LinkDown(f"{self.address} went away ({_why(problem)}): check the cable and open the robot again")


class VirtualTransport:
    """An emulator's pty with time on its side channel. The clock is the emulator's."""

    virtual, replayed = True, False

    def __init__(self, address: str, owner_pid: int) -> None:
        """Attach to the emulator at PATH. PortBusy or LinkDown, each one line."""
        self.address = address
        self._fd = -1
        self._buffer = bytearray()
        self._written = 0
        # The clock first: only a living emulator answers, and only then is the pty behind PATH still its own.
        try:
            self._clock = connect_clock(address)
        except OSError as problem:
            raise self._absent(problem) from None
        try:
            self._claim = Claim(address, owner_pid)
        except PortBusy:
            self._clock.close()
            raise
        try:
            self._fd = os.open(address, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            tty.setraw(self._fd)
            mode = termios.tcgetattr(self._fd)
            # A read waits for the bytes that were announced, but not for ever.
            mode[6][termios.VMIN], mode[6][termios.VTIME] = 0, int(10 * STALL_S)
            termios.tcsetattr(self._fd, termios.TCSANOW, mode)
            self._now_us, self._received, _ = ask_clock(self._clock, b"h", 0, 0, b"")
        except (OSError, termios.error) as problem:
            self.close()
            if isinstance(problem, OSError) and problem.errno in (errno.EBUSY, errno.EAGAIN):
                raise PortBusy(address, 0) from None
            raise self._absent(problem) from None

    @property
    def now_s(self) -> float:
        """The emulator's clock."""
        return self._now_us / 1e6

    def write(self, data: bytes) -> None:
        """Send all of it; the emulator acts on it at once, without moving time."""
        try:
            sent = 0
            while sent < len(data):
                sent += os.write(self._fd, data[sent:])
        except OSError as problem:
            raise self._down(problem) from None
        self._written += len(data)

    def read(self) -> bytes:
        """What the emulator has sent up to the time last waited for."""
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def wait_until(self, time_s: float) -> None:
        """Let the emulator move exactly until then, and take in all that it sends."""
        target = round(time_s * 1e6)
        while True:
            step = min(target, self._now_us + round(MAX_WAIT_S * 1e6))
            self._now_us, sent, _ = self._ask(b"a", step, b"")
            self._take_in(sent)
            if step >= target:
                return

    def request(self, kind: bytes, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask the emulator something else than time: prepare, state, faults."""
        self._now_us, sent, answer = self._ask(kind, self._now_us, json.dumps(payload).encode())
        self._take_in(sent)
        return dict(json.loads(answer)) if answer else {}

    def drain(self) -> None:
        """Wait until the emulator has obeyed all that was written."""
        self.request(b"s", {})

    def fileno(self) -> int | None:
        """Nobody waits for it: time comes with the bytes."""
        return None

    def wake(self) -> None:
        """The BRC pin of a robot that is not there."""
        self.request(b"f", {"wake": True})

    def close(self) -> None:
        """Let go of the port."""
        self._clock.close()
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._claim.release()

    def _take_in(self, sent: int) -> None:
        """Read the pty until the emulator's own count of bytes is reached."""
        while self._received < sent:
            try:
                data = os.read(self._fd, 65_536)
            except OSError as problem:
                raise self._down(problem) from None
            if not data:
                raise LinkDown(f"{self.address}: bytes that the emulator announced did not come: start it again")
            self._received += len(data)
            self._buffer += data

    def _ask(self, kind: bytes, time_us: int, payload: bytes) -> tuple[int, int, bytes]:
        try:
            return ask_clock(self._clock, kind, self._written, time_us, payload)
        except OSError as problem:
            raise self._down(problem) from None

    def _absent(self, problem: Exception) -> LinkDown:
        why = _why(problem) if isinstance(problem, OSError) else str(problem)
        return LinkDown(f"no emulator at {self.address} ({why}): start one with calib devices emulate --virtual")

    def _down(self, problem: OSError) -> LinkDown:
        return LinkDown(
            f"{self.address} went away ({_why(problem)}): start the emulator again and open the robot again"
        )


class FaultyTransport:
    """A bad line (firmware_bridge.faults) to another transport."""

    replayed = False

    def __init__(self, behind: Transport, plan: dict[str, Any]) -> None:
        from firmware_bridge.faults import Way

        self._behind = behind
        self.virtual = behind.virtual
        to, back = (plan if plan["way"] in (way, "both") else {"seed": 0} for way in ("to", "from"))
        self._to, self._from = Way(to, 0), Way(back, 1)
        self._gone_s = behind.now_s + plan["disconnect_s"] if "disconnect_s" in plan else math.inf

    @property
    def now_s(self) -> float:
        """The clock of the transport behind."""
        return self._behind.now_s

    def write(self, data: bytes) -> None:
        """Send what is left of it, when it is due."""
        self._to.put(data, self.now_s)
        self._flush()

    def read(self) -> bytes:
        """What is left of what has come, as far as it is due."""
        self._flush()
        self._from.put(self._behind.read(), self.now_s)
        return self._from.take(self.now_s)

    def wait_until(self, time_s: float) -> None:
        """Let the clock go on, and send what becomes due meanwhile."""
        while self.now_s < self._to.next_s < time_s:
            self._behind.wait_until(self._to.next_s)
            self._flush()
        self._behind.wait_until(time_s)
        self._flush()

    def fileno(self) -> int | None:
        """None: what is held back cannot be waited for."""
        return None

    def drain(self) -> None:
        """As the transport behind."""
        self._flush()
        self._behind.drain()

    def wake(self) -> None:
        """As the transport behind."""
        self._behind.wake()

    def request(self, kind: bytes, payload: dict[str, Any]) -> dict[str, Any]:
        """As the transport behind: it is no part of the line."""
        return self._behind.request(kind, payload)

    def close(self) -> None:
        """Let go of the port."""
        self._behind.close()

    def _flush(self) -> None:
        if self.now_s >= self._gone_s:
            raise LinkDown("the line was cut, as fault:// asked: open the robot again")
        while portion := self._to.take(self.now_s):
            self._behind.write(portion)


def clock_path(address: str) -> str:
    """Where the side channel of an emulator's pty is."""
    return address + ".clock"


def connect_clock(address: str) -> socket.socket:
    """The side channel of the emulator at this pty. OSError when there is none."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    channel.settimeout(STALL_S)
    try:
        # The socket itself lies at a short path: names of Unix sockets end after some 100 bytes.
        channel.connect(os.path.realpath(clock_path(address)))
    except OSError:
        channel.close()
        raise
    return channel


def ask_clock(
    channel: socket.socket, kind: bytes, written: int, time_us: int, payload: bytes
) -> tuple[int, int, bytes]:
    """One request on a side channel: (now in us, bytes sent so far, answer). OSError when the emulator is gone."""
    channel.sendall(CLOCK_REQUEST.pack(kind, written, time_us, len(payload)) + payload)
    answer = channel.recv(65_536)
    while len(answer) < CLOCK_REPLY.size:
        more = channel.recv(65_536)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the emulator ended")
        answer += more
    now_us, sent, length = CLOCK_REPLY.unpack_from(answer)
    body = answer[CLOCK_REPLY.size :]
    while len(body) < length:
        more = channel.recv(65_536)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the emulator ended")
        body += more
    return now_us, sent, body


def split_address(address: str) -> tuple[str, str]:
    """What stands before the port itself, fault://.../ or nothing, and the port."""
    if not address.startswith(FAULT):
        return "", address
    before, behind = address[len(FAULT) :].partition("/")[::2]
    return f"{FAULT}{before}/", behind


def is_virtual(address: str) -> bool:
    """Whether time at this port moves only when it is asked to: an emulator with a side channel, or a log."""
    port = split_address(address)[1]
    return port.startswith(REPLAY) or (port.startswith("/") and os.path.lexists(clock_path(port)))


def open_transport(address: str, owner_pid: int) -> Transport:
    """The transport that fits an address. PortBusy or LinkDown, each one line.

    Virtual time where a side channel lies beside the port; replay://FILE is a log, fault://.../PORT a bad line.
    """
    running()  # buries the dead: an old link must not lead to somebody's terminal
    if address.startswith(FAULT):
        from firmware_bridge.faults import split

        try:
            plan, behind = split(address)
        except ValueError as problem:
            raise LinkDown(str(problem)) from None
        return FaultyTransport(open_transport(behind, owner_pid), plan)
    if address.startswith(REPLAY):
        from firmware_bridge.traffic import Replay

        return Replay(address)
    if is_virtual(address):
        return VirtualTransport(address, owner_pid)
    return SerialTransport(address, owner_pid)


def readable(files: list[Any], timeout_s: float) -> list[Any]:
    """Those of the files that can be read now or within the time."""
    return select.select(files, [], [], max(0.0, timeout_s))[0]


def _why(problem: OSError) -> str:
    return os.strerror(problem.errno) if problem.errno else str(problem).splitlines()[0]
