"""Puts an emulator on a pty or a TCP port, in virtual time or paced by the wall clock, until SIGTERM.

Virtual time: the emulator moves only when the side channel asks it to (see `transport`). Bytes that come without a
request are obeyed at once, so that a guard's stop works although nobody moves the time. Paced: for foreign clients; a
client may come and go. When this process dies, the pty's other end goes with it, which a host sees as a pulled cable.
"""

import contextlib
import json
import os
import select
import signal
import socket
import termios
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from firmware_bridge import ports
from firmware_bridge.plant import Plant
from firmware_bridge.transport import CLOCK_REPLY, CLOCK_REQUEST, STALL_S, clock_path

MAX_LAG_S = 1.0  # a paced emulator that was held up longer than this lets the time go
MAX_REQUEST_BYTES = 1_000_000  # a drawn home is some 10 kB


class Emulator(Protocol):
    """A robot's bytes over a plant: what every file of `emulators` has under the name Emulator."""

    name: str
    step_us: int

    def feed(self, data: bytes) -> bytes:
        """Obey the host's bytes and answer, without moving time."""
        ...

    def advance(self, dt_s: float, plant: Plant) -> bytes:
        """Move on by a multiple of step_us; what the robot sends meanwhile."""
        ...

    def lay_out(self, plant: Plant) -> None:
        """Another world, the same session."""
        ...

    def state(self) -> dict[str, Any]:
        """What the robot does, told by itself, as plain JSON values."""
        ...

    def fault(self, changes: dict[str, Any]) -> None:
        """Break something. KeyError for an unknown name."""
        ...


PlantMaker = Callable[[dict[str, Any]], Plant]


class Pty:
    """A raw pty under a stable name. Its slave stays open here, so that a client may come and go."""

    def __init__(self, path: str) -> None:
        """FileExistsError when something else than an old link lies at the path."""
        self.address = path
        if os.path.lexists(path) and (not Path(path).is_symlink() or ports.emulator_at(path)):
            raise FileExistsError(f"{path} is taken: choose another path, or stop the emulator that runs there")
        Path(path).unlink(missing_ok=True)
        self.master, self._slave = os.openpty()
        self.tty = os.ttyname(self._slave)
        tty.setraw(self._slave)
        os.set_blocking(self.master, False)
        Path(path).symlink_to(self.tty)
        self.num_dropped = 0
        self.num_received = 0
        self.num_sent = 0

    def files(self) -> list[Any]:
        return [self.master]

    def read(self) -> bytes:
        """What the host has written."""
        try:
            data = os.read(self.master, 65_536)
        except BlockingIOError:
            return b""
        self.num_received += len(data)
        return data

    def write(self, data: bytes) -> None:
        """Send; what nobody reads is dropped and counted, as on a wire."""
        while data:
            try:
                sent = os.write(self.master, data)
            except BlockingIOError:
                self.num_dropped += len(data)
                return
            self.num_sent += sent
            data = data[sent:]

    def forget(self) -> None:
        """A new host begins: nothing of the last one's remains in the line, and counting starts again."""
        termios.tcflush(self._slave, termios.TCIFLUSH)
        self.num_received = 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            if str(Path(self.address).readlink()) == self.tty:
                Path(self.address).unlink()
        os.close(self.master)
        os.close(self._slave)


class Tcp:
    """A TCP port for one client at a time; the next one takes the line over."""

    tty = None

    def __init__(self, host: str, port: int) -> None:
        self._listener = socket.create_server((host, port))
        host, port = self._listener.getsockname()[:2]
        self.address = f"socket://{host}:{port}"
        self._client: socket.socket | None = None
        self.num_dropped = 0

    def files(self) -> list[Any]:
        return [self._listener] if self._client is None else [self._listener, self._client]

    def read(self) -> bytes:
        if readable := select.select([self._listener], [], [], 0)[0]:
            self._hang_up()
            self._client = readable[0].accept()[0]
            self._client.setblocking(False)
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._client is None:
            return b""
        try:
            data = self._client.recv(65_536)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        if not data:
            self._hang_up()
        return data

    def write(self, data: bytes) -> None:
        if self._client is None:
            return
        try:
            sent = self._client.send(data) if data else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._hang_up()
            return
        self.num_dropped += len(data) - sent

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def close(self) -> None:
        self._hang_up()
        self._listener.close()


class _Termination:
    """SIGTERM, and the end of file of the pipe from the process that owns us, as one thing to select on."""

    def __init__(self, owner: Any) -> None:
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        signal.set_wakeup_fd(self._write.fileno())
        signal.signal(signal.SIGTERM, lambda number, frame: None)
        if owner is not None:  # Ctrl-C in a terminal goes to the whole group: the owner decides what ends
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        self.files = [self._read] if owner is None else [self._read, owner]


def serve_paced(
    emulator: Emulator, plant: Plant, line: Pty | Tcp, ready: Callable[[], None], owner: Any = None
) -> None:
    """Run on the wall clock until SIGTERM."""
    end = _Termination(owner)
    step_s = emulator.step_us / 1e6
    emulator.lay_out(plant)
    record = {"device": emulator.name, "address": line.address, "tty": line.tty, "virtual": False}
    with contextlib.closing(line), ports.announced(record):
        ready()
        due = time.monotonic() + step_s
        while True:
            found = select.select([*end.files, *line.files()], [], [], max(0.0, due - time.monotonic()))[0]
            if any(file in found for file in end.files):
                return
            if found:
                line.write(emulator.feed(line.read()))
            now = time.monotonic()
            if now - due > MAX_LAG_S:
                due = now
            while due <= now:
                line.write(emulator.advance(step_s, plant))
                due += step_s


class _Channel:
    """One client of the side channel, with what it has sent of its next request."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.buffer = b""


class VirtualServer:
    """An emulator in virtual time: one pty, one clock, any number of side channels (a session's, a watcher's)."""

    def __init__(self, emulator: Emulator, plant: Plant, make_plant: PlantMaker, line: Pty) -> None:
        self._emulator = emulator
        self._plant = plant
        self._make_plant = make_plant
        self._line = line
        self._now_us = 0
        emulator.lay_out(plant)

    def run(self, ready: Callable[[], None], owner: Any = None) -> None:
        """Serve until SIGTERM or the owner's end."""
        end = _Termination(owner)
        line = self._line
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        short = ports.new_path("clock")
        Path(short).unlink(missing_ok=True)
        listener.bind(short)
        listener.listen()
        public = Path(clock_path(line.address))
        public.unlink(missing_ok=True)
        public.symlink_to(short)
        poll = select.poll()
        for file in (*end.files, line.master, listener):
            poll.register(file, select.POLLIN)
        endings = {file.fileno() for file in end.files}
        channels: dict[int, _Channel] = {}
        try:
            record = {"device": self._emulator.name, "address": line.address, "tty": line.tty, "virtual": True}
            with ports.announced(record):
                ready()
                while True:
                    for number, _ in poll.poll():
                        if number in channels:
                            if not self._serve(channels[number]):
                                poll.unregister(number)
                                channels.pop(number).connection.close()
                        elif number == line.master:
                            line.write(self._emulator.feed(line.read()))
                        elif number in endings:
                            return
                        else:
                            connection = listener.accept()[0]
                            connection.settimeout(STALL_S)
                            channels[connection.fileno()] = _Channel(connection)
                            poll.register(connection, select.POLLIN)
        finally:
            public.unlink(missing_ok=True)
            Path(short).unlink(missing_ok=True)
            listener.close()
            line.close()

    def _serve(self, channel: _Channel) -> bool:
        """The requests that have come whole. False when the client has gone or does not speak this language."""
        try:
            data = channel.connection.recv(65_536)
        except OSError:
            data = b""
        if not data:
            return False
        channel.buffer += data
        while len(channel.buffer) >= CLOCK_REQUEST.size:
            kind, written, time_us, length = CLOCK_REQUEST.unpack_from(channel.buffer)
            if kind not in (b"h", b"a", b"p", b"s", b"f") or length > MAX_REQUEST_BYTES:
                return False
            whole = CLOCK_REQUEST.size + length
            if len(channel.buffer) < whole:
                break
            payload, channel.buffer = channel.buffer[CLOCK_REQUEST.size : whole], channel.buffer[whole:]
            try:
                answer = self._answer(kind, written, time_us, payload)
                channel.connection.sendall(CLOCK_REPLY.pack(self._now_us, self._line.num_sent, len(answer)) + answer)
            except (OSError, _BadRequest):
                return False
        return True

    def _answer(self, kind: bytes, written: int, time_us: int, payload: bytes) -> bytes:
        line, emulator = self._line, self._emulator
        if kind == b"h":
            line.write(emulator.feed(line.read()))
            line.forget()
            return b""
        self._catch_up(written)
        if kind == b"a":
            steps = (time_us - self._now_us) // emulator.step_us
            if steps > 0:
                line.write(emulator.advance(steps * emulator.step_us / 1e6, self._plant))
                self._now_us += steps * emulator.step_us
            return b""
        try:
            request = json.loads(payload or b"{}")
            if kind == b"p":
                self._plant = self._make_plant(request)
                emulator.lay_out(self._plant)
            elif kind == b"f":
                emulator.fault(request)
        except (KeyError, TypeError, ValueError) as problem:
            return json.dumps({"error": f"{type(problem).__name__}: {problem}"}).encode()
        about = {"now_s": self._now_us / 1e6, "num_dropped": line.num_dropped, "instruments": self._plant.instruments()}
        return json.dumps({**emulator.state(), **about}).encode()

    def _catch_up(self, written: int) -> None:
        """Obey all that the host had written when it asked; the kernel may still be carrying it."""
        line = self._line
        until = time.monotonic() + STALL_S
        while line.num_received < written:
            data = line.read()
            if data:
                line.write(self._emulator.feed(data))
            elif not select.select([line.master], [], [], 0.1)[0] and time.monotonic() > until:
                raise _BadRequest


class _BadRequest(Exception):
    """A count of bytes that never come."""
