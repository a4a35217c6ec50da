"""The rover's protocol compiled natively, and a bad line to it: for tests and for `python -m bench.rover`.

The compiled part (firmware_bridge/rover/native/harness.cpp) has ASan and UBSan in it: an error there ends it, and the
next request fails.
"""

import struct
import subprocess
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from firmware_bridge.framing import Counts, Frame, Parser, encode
from firmware_bridge.messages import BY_NAME, Reason, State, Status, pack, table_hash, unpack
from firmware_bridge.rover_build import build

_STATE = struct.Struct("<?hhBBBBBBI")
_FRAME = struct.Struct("<BHHB")


class Motors(NamedTuple):
    """What the motors do, and why not."""

    enabled: bool
    left: int  # duty, -1000..1000
    right: int
    fan: int
    brush: int
    side_brush: int
    state: State
    reason: Reason
    latch: int

    @property
    def moving(self) -> bool:
        return any(self[1:6])


class Executed(NamedTuple):
    """A command that was obeyed, at a time of the rover's clock."""

    ms: int
    frame: Frame


class Moved(NamedTuple):
    """The motors began or ceased to turn."""

    ms: int
    moving: bool


class Native:
    """One rover on a desk. Time is what `run` says."""

    def __init__(self) -> None:
        """CannotBuild without a compiler."""
        self._process = subprocess.Popen(
            [str(build("native") / "native")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=-1
        )
        self.parser = Parser()
        self.boot = 0
        self.motors: Motors
        self.events: list[Executed | Moved] = []  # of the last request

    def close(self) -> int:
        """End it: 0, unless a sanitizer found something."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait(20)

    def parse(self, data: bytes) -> tuple[list[Frame], Counts, int]:
        """Bytes to the C++ parser: frames, counts so far, bytes held."""
        answer = self._ask("P", data)
        (number,) = struct.unpack_from("<I", answer)
        place = 4
        frames = []
        for _ in range(number):
            frame, place = _frame(answer, place)
            frames.append(frame)
        *counts, held = struct.unpack_from("<6IB", answer, place)
        return frames, Counts(*counts), held

    def encode(self, frame: Frame) -> bytes:
        """A frame as the C++ side sends it."""
        return self._ask("E", struct.pack("<BHH", *frame[:3]) + frame.payload)

    def start(self, boot: int, reason: Reason = Reason.POWER_UP) -> list[Frame]:
        """A fresh rover at 0 ms, and what it says first."""
        self.boot, self.parser = boot, Parser()
        return self._take(self._ask("B", struct.pack("<HB", boot, reason)))

    def sense(self, left: int = 0, right: int = 0, bumps: int = 0, cliff: bool = False, wall: bool = False) -> None:
        """What the sensors say from now on: encoder counts, bumps (1 left, 2 right), cliff, wall."""
        self._ask("I", struct.pack("<????ii", bool(bumps & 1), bool(bumps & 2), cliff, wall, left, right))

    def run(self, *records: tuple[int, bytes]) -> list[Frame]:
        """Time up to each ms, then the bytes. What the rover sent; `events` and `motors` tell the rest."""
        data = b"".join([struct.pack("<IH", ms, len(line)) + line for ms, line in records])
        return self._take(self._ask("F", data))

    def fuzz(self, seed: int, num_bytes: int) -> dict[str, int]:
        """So many bytes of noise and broken frames, made on the C++ side."""
        answer = self._ask("Z", struct.pack("<II", seed, num_bytes))
        return dict(zip(("bytes", "frames", "bad", "most_held"), struct.unpack("<4I", answer), strict=True))

    def _take(self, answer: bytes) -> list[Frame]:
        *values, state, reason, latch, length = _STATE.unpack_from(answer)
        self.motors = Motors(*values, State(state), Reason(reason), latch)
        place, end = _STATE.size, _STATE.size + length
        self.events = []
        while place < end:
            kind, ms = struct.unpack_from("<cI", answer, place)
            place += 5
            if kind == b"X":
                frame, place = _frame(answer, place)
                self.events.append(Executed(ms, frame))
            else:
                self.events.append(Moved(ms, bool(answer[place])))
                place += 1
        return self.parser.feed(answer[end:])

    def _ask(self, request: str, data: bytes) -> bytes:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(request.encode() + struct.pack("<I", len(data)) + data)
        self._process.stdin.flush()
        head = self._process.stdout.read(4)
        assert len(head) == 4, "the compiled side ended: a sanitizer's words are above"
        return self._process.stdout.read(struct.unpack("<I", head)[0])


def _frame(data: bytes, place: int) -> tuple[Frame, int]:
    id, boot, sequence, size = _FRAME.unpack_from(data, place)
    place += _FRAME.size
    return Frame(id, boot, sequence, data[place : place + size]), place + size


class Spoiler:
    """A bad line: bytes flipped, lost and doubled, each with a chance of its own, and whole frames doubled."""

    def __init__(self, seed: int, rate: float = 1e-3) -> None:
        self._rng = np.random.default_rng(seed)
        self._rate = rate

    def spoil(self, line: bytes) -> tuple[bytes, bool]:
        """What arrives, and whether it is what was sent (once or twice)."""
        chance = self._rng.random((2, len(line)))
        if chance.min() > 3 * self._rate:
            return (line + line, True) if chance[0, 0] > 1 - self._rate * len(line) else (line, True)
        data = np.frombuffer(line, np.uint8).copy()
        flips = chance[0] < self._rate
        data[flips] ^= self._rng.integers(1, 256, flips.sum(), dtype=np.uint8)
        times = np.where(chance[1] < self._rate, 0, np.where(chance[1] < 2 * self._rate, 2, 1))
        out = np.repeat(data, times).tobytes()
        return out, out == line


@dataclass
class Faults:
    """What came of many frames over a bad line. All but `frames`, `spoiled` and `obeyed` have to be 0."""

    frames: int = 0
    spoiled: int = 0
    obeyed: int = 0
    not_sent: int = 0  # obeyed though nobody sent it
    twice: int = 0
    moved_after_stop: int = 0  # motors began to turn after a stop and before an arm
    late_stops: int = 0  # still moving after a stop that came whole
    longest_deafness: int = 0  # whole frames in a row that were not answered
    acks: Counter[Status] = field(default_factory=Counter)


def over_a_bad_line(native: Native, num_frames: int, seed: int, rate: float = 1e-3) -> Faults:
    """Sessions of arm, drive, stop, and drive though stopped, over a line that spoils bytes."""
    found = Faults()
    spoiler = Spoiler(seed, rate)
    rng = np.random.default_rng(seed + 1)
    ms, sequence = 20, 0
    native.start(boot=7)
    deaf = 0
    stopped = True
    hello = pack("hello", table=table_hash(), session=int(rng.integers(1, 0xFFFF)))
    native.run((ms, encode(BY_NAME["hello"].id, 0, sequence, hello)))
    while found.frames < num_frames:
        sent: dict[int, Frame] = {}
        records: list[tuple[int, bytes]] = []
        whole: dict[int, bool] = {}

        def say(name: str, times: int = 1, **values: int) -> None:
            nonlocal ms, sequence
            sequence = (sequence + 1) & 0xFFFF
            frame = Frame(BY_NAME[name].id, native.boot, sequence, pack(name, **values))
            sent[sequence] = frame  # noqa: B023
            for _ in range(times):
                ms += 20
                arrived, intact = spoiler.spoil(encode(*frame))
                whole[sequence] = whole.get(sequence, False) or intact  # noqa: B023
                records.append((ms, arrived))  # noqa: B023
                found.frames += 1
                found.spoiled += not intact

        say("arm", times=3, until_ms=ms + 500, latch=native.motors.latch)
        for _ in range(int(rng.integers(50, 300))):
            if rng.random() < 0.1:
                say("beat", until_ms=ms + 200)
            else:
                left, right, fan = rng.integers(-500, 501), rng.integers(-500, 501), rng.integers(1, 101)
                say(
                    "drive",
                    until_ms=ms + 200,
                    left_mm_s=int(left),
                    right_mm_s=int(right),
                    fan=int(fan),
                    brush=0,
                    side_brush=0,
                )
        stop = (sequence + 1) & 0xFFFF
        say("stop", times=3)
        for _ in range(20):
            say("drive", until_ms=ms + 200, left_mm_s=300, right_mm_s=300, fan=50, brush=50, side_brush=60)
        answered = Counter[int]()
        for frame in native.run(*records):
            if frame.id == BY_NAME["ack"].id:
                ack = unpack(BY_NAME["ack"], frame.payload)
                answered[ack["of"]] += 1
                found.acks[Status(ack["status"])] += 1
        for number, intact in whole.items():
            deaf = deaf + 1 if intact and not answered[number] else 0
            found.longest_deafness = max(found.longest_deafness, deaf)
        done = Counter[int]()
        for event in native.events:
            if isinstance(event, Executed):
                frame = event.frame
                found.obeyed += 1
                found.not_sent += sent.get(frame.sequence) != frame
                done[frame.sequence] += 1
                stopped = frame.id == BY_NAME["stop"].id or (stopped and frame.id != BY_NAME["arm"].id)
            elif event.moving:
                found.moved_after_stop += stopped
        found.twice += sum(count - 1 for count in done.values())
        found.late_stops += whole[stop] and native.motors.moving
    return found
