"""The iRobot Open Interface, said once: opcodes, packets, commands and the stream. Used by driver and emulator alike.

Sources: "iRobot Create 2 Open Interface (OI) Specification based on the iRobot Roomba 600" (commands, packets, stream);
115200 8N1, 16-bit values big-endian and two's complement.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

OFF, PASSIVE, SAFE, FULL = range(4)
MODE_NAMES = ("off", "passive", "safe", "full")

STREAM_STEP_S: Final = 0.015
STREAM_HEADER: Final = 19
MAX_STREAM_BYTES: Final = 172  # what 115200 baud carries in 15 ms
MM_PER_COUNT: Final = math.pi * 72.0 / 508.8
WHEEL_BASE_MM: Final = 235.0
MAX_WHEEL_MM_S: Final = 500

_ANY, _AWAKE, _MOVING = frozenset((0, 1, 2, 3)), frozenset((1, 2, 3)), frozenset((2, 3))


class Opcode(NamedTuple):
    """One command: its code, how many data bytes follow, the modes that heed it, the mode after it (None: the same)."""

    code: int
    name: str
    num_fixed: int  # data bytes that always follow
    num_each: int  # further data bytes for each unit of the last fixed byte; 0 for commands of fixed length
    modes: frozenset[int]
    mode_after: int | None


OPCODES: Final[dict[int, Opcode]] = {
    row[0]: Opcode(*row)
    for row in (
        (7, "reset", 0, 0, _ANY, OFF),
        (128, "start", 0, 0, _ANY, PASSIVE),
        (129, "baud", 1, 0, _AWAKE, None),
        (130, "control", 0, 0, _AWAKE, SAFE),
        (131, "safe", 0, 0, _AWAKE, SAFE),
        (132, "full", 0, 0, _AWAKE, FULL),
        (133, "power", 0, 0, _AWAKE, PASSIVE),
        (134, "spot", 0, 0, _AWAKE, PASSIVE),
        (135, "clean", 0, 0, _AWAKE, PASSIVE),
        (136, "max", 0, 0, _AWAKE, PASSIVE),
        (137, "drive", 4, 0, _MOVING, None),
        (138, "motors", 1, 0, _MOVING, None),
        (139, "leds", 3, 0, _MOVING, None),
        (140, "song", 2, 2, _AWAKE, None),
        (141, "play", 1, 0, _MOVING, None),
        (142, "sensors", 1, 0, _AWAKE, None),
        (143, "seek dock", 0, 0, _AWAKE, PASSIVE),
        (144, "pwm motors", 3, 0, _MOVING, None),
        (145, "drive direct", 4, 0, _MOVING, None),
        (146, "drive pwm", 4, 0, _MOVING, None),
        (148, "stream", 1, 1, _AWAKE, None),
        (149, "query list", 1, 1, _AWAKE, None),
        (150, "pause or resume stream", 1, 0, _AWAKE, None),
        (162, "scheduling leds", 2, 0, _MOVING, None),
        (163, "digit leds raw", 4, 0, _MOVING, None),
        (164, "digit leds ascii", 4, 0, _MOVING, None),
        (165, "buttons", 1, 0, _AWAKE, None),
        (167, "schedule", 15, 0, _AWAKE, None),
        (168, "set day and time", 3, 0, _AWAKE, None),
        (173, "stop", 0, 0, _ANY, OFF),
    )
}

# id -> struct code of the value: B u8, b i8, H u16, h i16.
PACKETS: Final[dict[int, str]] = (
    dict.fromkeys(range(7, 19), "B")
    | {19: "h", 20: "h", 21: "B", 22: "H", 23: "h", 24: "b", 25: "H", 26: "H", 27: "H"}
    | dict.fromkeys(range(28, 32), "H")
    | {32: "B", 33: "H", 34: "B", 35: "B", 36: "B", 37: "B", 38: "B", 39: "h", 40: "h", 41: "h", 42: "h"}
    | {43: "H", 44: "H", 45: "B"}
    | dict.fromkeys(range(46, 52), "H")
    | {52: "B", 53: "B", 54: "h", 55: "h", 56: "h", 57: "h", 58: "B"}
)

# Group packets: one id for a run of packets, sent as their values in order without ids between.
GROUPS: Final[dict[int, range]] = {
    0: range(7, 27),
    1: range(7, 17),
    2: range(17, 21),
    3: range(21, 27),
    4: range(27, 35),
    5: range(35, 43),
    6: range(7, 43),
    100: range(7, 59),
    101: range(43, 59),
    106: range(46, 52),
    107: range(54, 59),
}


def mode_name(mode: int) -> str:
    """For messages. A byte beyond the four modes has been seen in the field."""
    return MODE_NAMES[mode] if mode < len(MODE_NAMES) else f"{mode} (unknown)"


def members(packet: int) -> tuple[int, ...]:
    """The plain packets behind an id: itself, or a group's. KeyError for an id that the table does not know."""
    if packet in GROUPS:
        return tuple(GROUPS[packet])
    PACKETS[packet]
    return (packet,)


def packet_size(packet: int) -> int:
    """Bytes of a packet's or group's value."""
    return struct.calcsize(">" + "".join(PACKETS[each] for each in members(packet)))


def checksum(data: bytes) -> int:
    """The byte that makes the sum of data and itself 0 modulo 256."""
    return -sum(data) & 0xFF


# --- commands ---------------------------------------------------------------------------------------------------------

START = bytes((128,))
SAFE_MODE = bytes((131,))
FULL_MODE = bytes((132,))
STOP_OI = bytes((173,))
CLEAN, SPOT, MAX, SEEK_DOCK = (bytes((code,)) for code in (135, 134, 136, 143))
PAUSE_STREAM = bytes((150, 0))


def drive_direct(left_mm_s: int, right_mm_s: int) -> bytes:
    """Both wheel speeds. On the wire the RIGHT wheel comes first. struct.error beyond 16 bits."""
    return struct.pack(">Bhh", 145, right_mm_s, left_mm_s)


def drive(velocity_mm_s: int, radius_mm: int) -> bytes:
    """An arc; radius -1 turns clockwise on the spot, 1 counter-clockwise, -32768 or 32767 goes straight."""
    return struct.pack(">Bhh", 137, velocity_mm_s, radius_mm)


def pwm_motors(brush: int, side_brush: int, fan: int) -> bytes:
    """Brush, side brush and suction in percent of full duty; negative turns a brush backwards."""
    return struct.pack(">BbbB", 144, pwm_of(brush), pwm_of(side_brush), pwm_of(fan))


def leds(bits: int, power_colour: int, power_intensity: int) -> bytes:
    """Debris 1, spot 2, dock 4, check 8; colour 0 green to 255 red."""
    return bytes((139, bits, power_colour, power_intensity))


def song(number: int, notes: Sequence[tuple[int, int]]) -> bytes:
    """Define song 0 to 4: up to 16 notes of a MIDI number (31 to 127, else a rest) and 64ths of a second."""
    assert 0 <= number <= 4 and 1 <= len(notes) <= 16
    return bytes((140, number, len(notes), *(each for note in notes for each in note)))


def play(number: int) -> bytes:
    """Play a song that was defined. In passive mode, and while another one plays, it is not heeded."""
    return bytes((141, number))


def sensors(packet: int) -> bytes:
    """Ask once for a packet or group; the answer has no header and no checksum."""
    return bytes((142, packet))


def query_list(packets: Sequence[int]) -> bytes:
    """Ask once for several packets."""
    return bytes((149, len(packets), *packets))


def stream(packets: Sequence[int]) -> bytes:
    """Ask for these packets every 15 ms from now on."""
    size = 3 + sum(1 + packet_size(each) for each in packets)
    assert size <= MAX_STREAM_BYTES, f"{size} bytes do not fit in 15 ms"
    return bytes((148, len(packets), *packets))


def pwm_of(percent: int) -> int:
    """Percent of full duty as the OI's -127..127. One step of the PWM is less than 1 %, so rounding back is exact."""
    return round(percent * 127 / 100)


def percent_of(pwm: int) -> int:
    """The inverse of `pwm_of`: the identity on whole percents, -100..100."""
    return round(pwm * 100 / 127)


# Safe mode, which ends a cleaning of the robot's own; drive 0, motors 0: what a guard writes when nobody drives any
# more. The zeros in front are no opcodes and are dropped;
# but when the robot still waits for the data of a half-sent command (15 bytes at most, a schedule), they are that data,
# and an opcode of ours is never taken for a count of bytes to come.
HALT: Final = bytes(15) + SAFE_MODE + drive_direct(0, 0) + pwm_motors(0, 0, 0)


# --- the robot's side: commands out of bytes --------------------------------------------------------------------------


class Command(NamedTuple):
    """One command as it came over the line, complete."""

    opcode: Opcode
    data: bytes


class CommandParser:
    """Commands out of bytes in any chunks. A byte that is no opcode is dropped and counted, as the robot does."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.num_unknown = 0

    def feed(self, data: bytes) -> list[Command]:
        """The commands that these bytes complete. The buffer never holds more than one command (at most 513 bytes)."""
        buffer = self._buffer
        buffer += data
        commands: list[Command] = []
        at = 0
        while at < len(buffer):
            opcode = OPCODES.get(buffer[at])
            if opcode is None:
                self.num_unknown += 1
                at += 1
                continue
            size = 1 + opcode.num_fixed
            if len(buffer) - at < size:
                break
            if opcode.num_each:
                size += opcode.num_each * buffer[at + opcode.num_fixed]
                if len(buffer) - at < size:
                    break
            commands.append(Command(opcode, bytes(buffer[at + 1 : at + size])))
            at += size
        del buffer[:at]
        return commands


# --- the host's side: frames out of the stream ------------------------------------------------------------------------


class StreamLayout:
    """The one shape that frames have for a list of packets: `19 N id value id value ... checksum`."""

    def __init__(self, packets: Sequence[int]) -> None:
        self.packets = tuple(packets)
        self.flat = tuple(each for packet in packets for each in members(packet))
        body = "".join("B" + "".join(PACKETS[each] for each in members(packet)) for packet in packets)
        self._struct = struct.Struct(">BB" + body + "B")
        self.size = self._struct.size
        self.head = bytes((STREAM_HEADER, self.size - 3, packets[0]))
        self._ids: list[tuple[int, int]] = []  # (place among the unpacked fields, id)
        self._values: list[int] = []
        place = 2
        for packet in packets:
            self._ids.append((place, packet))
            count = len(members(packet))
            self._values.extend(range(place + 1, place + 1 + count))
            place += 1 + count
        # The usual case, no groups: ids and values alternate, and slices are several times faster than indexing.
        self._plain = self.flat == self.packets

    def encode(self, values: Iterable[int]) -> bytes:
        """One frame with these values, in the order of `flat`. struct.error when a value does not fit its packet."""
        if self._plain:
            body = [0] * (2 * len(self.packets))
            body[::2], body[1::2] = self.packets, values
        else:
            body, rest = [], iter(values)
            for packet in self.packets:
                body.append(packet)
                body.extend(next(rest) for _ in members(packet))
        frame = self._struct.pack(STREAM_HEADER, self.size - 3, *body, 0)
        return frame[:-1] + bytes((checksum(frame),))

    def decode(self, frame: bytes) -> tuple[int, ...] | None:
        """The values in the order of `flat`, or None when N, an id or the checksum is wrong."""
        if len(frame) != self.size or sum(frame) & 0xFF:
            return None
        fields = self._struct.unpack(frame)
        if fields[1] != self.size - 3 or fields[0] != STREAM_HEADER:
            return None
        if self._plain:
            return fields[3:-1:2] if fields[2:-1:2] == self.packets else None
        if any(fields[place] != packet for place, packet in self._ids):
            return None
        return tuple(fields[place] for place in self._values)


class StreamDecoder:
    """Frames of one layout out of a byte stream with anything in between (boot text, halves of frames, noise).

    19 may occur inside the data, so a header alone means nothing: N, the ids and the checksum decide, and after a false
    start the search goes on at the very next byte. What is not part of a frame is counted in `num_garbage` and dropped.
    Less than one frame's length of bytes is held back.
    """

    def __init__(self, packets: Sequence[int]) -> None:
        self.layout = StreamLayout(packets)
        self.num_garbage = 0
        self.num_frames = 0
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[int, ...]]:
        """The values of every frame that these bytes complete, in the order of `layout.flat`."""
        buffer = self._buffer + data if self._buffer else data
        layout, size, head = self.layout, self.layout.size, self.layout.head
        frames: list[tuple[int, ...]] = []
        at, end = 0, len(buffer)
        while at < end:
            if buffer.startswith(head, at):
                if end - at < size:
                    break
                values = layout.decode(buffer[at : at + size])
                if values is not None:
                    frames.append(values)
                    at += size
                    continue
                following = at + 1
            else:
                following = at
            found = buffer.find(head, following)
            if found < 0:  # the header's own first bytes may stand at the very end: they wait for the rest
                found = max(end - 2, following)
                while found < end and not head.startswith(buffer[found:]):
                    found += 1
                self.num_garbage += found - at
                at = found
                break
            self.num_garbage += found - at
            at = found
        self._buffer = buffer[at:]
        self.num_frames += len(frames)
        return frames
