"""The raw traffic of a port: written down by the guard that holds it, and replayed to the same driver, strictly.

`CALIB_TRAFFIC=FOLDER`, or `calib run --traffic FOLDER`, makes every guard write what it is asked and what it answers to
a file of its own in that folder. A log is a line of JSON, then records: `RECORD` (kind, clock after it, lengths of what
was asked and of what was answered), both, and a CRC-32 of all that. A record is one write to the kernel: it survives
kill -9 of any process, and a torn last one is told by its checksum and left out.

`replay://FILE` is a port that answers as the log says, at the log's clock, and is down at the first word that differs.
Kinds: x write and wait; r a word beside the line to an emulator in virtual time; k wake; h halt, by the guard itself. A
wire's log (firmware_bridge.relay) has o and i, to and from the robot, and does not replay.
"""

import contextlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from firmware_bridge.bridge import TRAFFIC
from firmware_bridge.ports import LinkDown
from firmware_bridge.transport import REPLAY

RECORD = struct.Struct("<cdII")
_CRC = struct.Struct("<I")
_MOST = 1 << 24  # bytes of one record: more is no log
_VERSION = 1


class Exchange(NamedTuple):
    """One record."""

    kind: bytes
    now_s: float  # the port's clock after it
    asked: bytes
    answered: bytes


class Log:
    """A log that grows. It never raises once it is open: a full disk must not stop the robot's guard."""

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        self.path = path
        self.failed = ""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(self._fd, json.dumps({"calib_traffic": _VERSION, **about}).encode() + b"\n")

    def add(self, kind: bytes, now_s: float, asked: bytes, answered: bytes = b"") -> None:
        """One record more."""
        record = RECORD.pack(kind, now_s, len(asked), len(answered)) + asked + answered
        record += _CRC.pack(zlib.crc32(record))
        if not self.failed:
            try:
                if os.write(self._fd, record) < len(record):
                    self.failed = "the disk is full"
            except OSError as problem:
                self.failed = str(problem)

    def close(self) -> None:
        """Idempotent, never raises."""
        with contextlib.suppress(OSError):
            os.fsync(self._fd)
            os.close(self._fd)


def log_of(address: str, now_s: float, virtual: bool) -> Log | None:
    """A new log of this port in the folder that the environment names; None where it names none.

    OSError where it cannot be written.
    """
    folder = os.environ.get(TRAFFIC)
    if not folder:
        return None
    Path(folder).mkdir(parents=True, exist_ok=True)
    at = time.time()
    name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(at))}-{int(at % 1 * 1e3):03d}-{os.getpid()}.traffic"
    return Log(Path(folder) / name, {"address": address, "now_s": now_s, "virtual": virtual, "unix_s": at})


def read_log(path: Path) -> tuple[dict[str, Any], Iterator[Exchange]]:
    """Its first line and its records, up to the first one that is torn. ValueError where it is no log."""
    file = path.open("rb")
    try:
        about = json.loads(file.readline(65_536))
        assert about["calib_traffic"] == _VERSION
        float(about["now_s"])
    except (ValueError, KeyError, TypeError, AssertionError):
        file.close()
        raise ValueError(f"{path} is no traffic log, or of another version") from None

    def records() -> Iterator[Exchange]:
        with file:
            while len(head := file.read(RECORD.size)) == RECORD.size:
                kind, now_s, num_asked, num_answered = RECORD.unpack(head)
                if max(num_asked, num_answered) > _MOST:
                    return
                body = file.read(num_asked + num_answered)
                if file.read(_CRC.size) != _CRC.pack(zlib.crc32(head + body)):
                    return
                yield Exchange(kind, now_s, body[:num_asked], body[num_asked:])

    return about, records()


class Replay:
    """A port that answers as a log says. LinkDown at the first difference, and where the log ends."""

    virtual = True  # its clock waits for nobody
    replayed = True

    def __init__(self, address: str) -> None:
        self.address = address
        path = Path(address.removeprefix(REPLAY))
        try:
            about, records = read_log(path)
        except (OSError, ValueError) as problem:
            raise LinkDown(f"{path} does not replay: {getattr(problem, 'strerror', None) or problem}") from None
        if about.get("by") == "relay":
            raise LinkDown(f"{path} was recorded on a wire (calib devices record); a driver replays a guard's log")
        self.now_s = float(about["now_s"])
        self._records: Iterator[Exchange] = (record for record in records if record.kind != b"h")
        self._number = 0
        self._asked = b""

    def write(self, data: bytes) -> None:
        """Compared when the answer is read."""
        self._asked += data

    def wait_until(self, time_s: float) -> None:
        """The log says how long it took."""

    def read(self) -> bytes:
        """What was answered to what has been written."""
        asked, self._asked = self._asked, b""
        return self._next(b"x", asked)

    def request(self, kind: bytes, payload: dict[str, Any]) -> dict[str, Any]:
        """What the emulator answered."""
        answer = self._next(b"r", kind + json.dumps(payload, sort_keys=True).encode())
        return dict(json.loads(answer)) if answer else {}

    def drain(self) -> None:
        """Nothing is under way."""

    def wake(self) -> None:
        """As the log says."""
        self._next(b"k", b"")

    def fileno(self) -> int | None:
        """There is none."""
        return None

    def close(self) -> None:
        """Idempotent."""
        self._records = iter(())

    def _next(self, kind: bytes, asked: bytes) -> bytes:
        self._number += 1
        record = next(self._records, None)
        if record is None:
            raise LinkDown(f"{self.address}: the log ends before record {self._number}")
        if (record.kind, record.asked) != (kind, asked):
            raise LinkDown(
                f"{self.address}: record {self._number} differs: the log has {_told(record.kind, record.asked)}, "
                f"now it is {_told(kind, asked)}"
            )
        self.now_s = record.now_s
        return record.answered


def _told(kind: bytes, data: bytes) -> str:
    text = data[:24].hex(" ") + (" ..." if len(data) > 24 else "")
    return f"{kind.decode(errors='replace')} {text or '(nothing)'}"
