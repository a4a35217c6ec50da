"""The rover's messages, each said once: name, id, direction, fields, units.

`python -m firmware_bridge.messages` writes firmware_bridge/rover/messages.h from this table; a test holds the two
together. Both ends carry the table's hash in their hello: unlike hashes mean that the rover has to be flashed.
Little-endian, fields one after another without gaps.
"""

import hashlib
import struct
from enum import IntEnum
from pathlib import Path
from typing import Literal, NamedTuple

VERSION = 1  # of the framing; in every frame
HEADER = "firmware_bridge/rover/messages.h"

CODES = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i"}
_C_TYPES = {"u8": "uint8_t", "i8": "int8_t", "u16": "uint16_t", "i16": "int16_t", "u32": "uint32_t", "i32": "int32_t"}

MAX_WHEEL_MM_S = 500
DEAD_MAN_MS = 300  # without a valid frame of the host the motors are off until the next arm
CONTROL_MS = 5
TELEMETRY_MS = 20
MAX_AHEAD_MS = 2_000  # a command may be good for this long at most


class State(IntEnum):
    """May the motors turn?"""

    DISARMED = 0
    ARMED = 1


class Reason(IntEnum):
    """Why the motors were last latched off."""

    NONE = 0
    POWER_UP = 1
    WATCHDOG = 2
    HELLO = 3
    DISARM = 4
    STOP = 5
    DEAD_MAN = 6


class Status(IntEnum):
    """What became of a command."""

    DONE = 0
    EXPIRED = 1
    DISARMED = 2  # it needs an arm first
    STALE = 3  # older than one that was obeyed, or an arm that does not know of the last stop
    OTHER_BOOT = 4  # meant for the rover before it restarted
    BAD_VALUE = 5
    UNKNOWN = 6
    OTHER_TABLE = 7  # the hello's hash: flash the rover


class Switch(IntEnum):
    """Bits of telemetry's `switches`."""

    BUMP_LEFT = 1
    BUMP_RIGHT = 2
    CLIFF = 4
    WALL = 8
    BUMP_HOLDS = 16  # the reflex keeps the wheels from going forward
    CLIFF_HOLDS = 32


class Field(NamedTuple):
    """One number of a message."""

    name: str
    kind: str  # of CODES
    unit: str


class Message(NamedTuple):
    """One kind of frame."""

    name: str
    id: int
    sender: Literal["host", "rover"]
    fields: tuple[Field, ...]

    @property
    def format(self) -> str:
        return "<" + "".join(CODES[field.kind] for field in self.fields)

    @property
    def size(self) -> int:
        return struct.calcsize(self.format)


_UNTIL = Field("until_ms", "u32", "ms of the rover's clock; later it is not obeyed")

MESSAGES = (
    Message("hello", 0x01, "host", (Field("table", "u32", "hash"), Field("session", "u16", "any number"))),
    Message("arm", 0x02, "host", (_UNTIL, Field("latch", "u8", "as told by telemetry: the stop that this lifts"))),
    Message("disarm", 0x03, "host", ()),
    Message("stop", 0x04, "host", ()),
    Message(
        "drive",
        0x05,
        "host",
        (
            _UNTIL,
            Field("left_mm_s", "i16", "mm/s"),
            Field("right_mm_s", "i16", "mm/s"),
            Field("fan", "u8", "%"),
            Field("brush", "u8", "%"),
            Field("side_brush", "u8", "%"),
        ),
    ),
    Message("beat", 0x06, "host", (_UNTIL,)),
    Message(
        "welcome",
        0x81,
        "rover",
        (
            Field("table", "u32", "hash"),
            Field("session", "u16", "of the hello that it answers, 0 after power-up"),
            Field("firmware", "u16", "version"),
            Field("now_ms", "u32", "ms"),
        ),
    ),
    Message(
        "ack",
        0x82,
        "rover",
        (
            Field("of", "u16", "sequence number of the command"),
            Field("status", "u8", "Status"),
            Field("now_ms", "u32", "ms"),
        ),
    ),
    Message(
        "telemetry",
        0x83,
        "rover",
        (
            Field("now_ms", "u32", "ms"),
            Field("state", "u8", "State"),
            Field("reason", "u8", "Reason"),
            Field("latch", "u8", "number of times that the motors were latched off"),
            Field("switches", "u8", "Switch"),
            Field("left_counts", "i32", "encoder counts"),
            Field("right_counts", "i32", "encoder counts"),
            Field("left_mm_s", "i16", "mm/s, as obeyed now"),
            Field("right_mm_s", "i16", "mm/s, as obeyed now"),
            Field("fan", "u8", "%, as obeyed now"),
            Field("brush", "u8", "%, as obeyed now"),
            Field("side_brush", "u8", "%, as obeyed now"),
            Field("voltage_mv", "u16", "mV"),
            Field("current_ma", "u16", "mA out of the battery"),
            Field("dirt", "u8", "dirt sensor, 0 to 255"),
            Field("sound", "u16", "0.1 dB(A)"),
            Field("heard", "u16", "sequence number of the last command"),
            Field("bad", "u16", "frames that were noise"),
        ),
    ),
)

BY_ID = {message.id: message for message in MESSAGES}
BY_NAME = {message.name: message for message in MESSAGES}


def table_hash() -> int:
    """32 bits over all that both ends must agree on, constants and enumerations included."""
    enums = [(kind.__name__, [(each.name, int(each)) for each in kind]) for kind in (State, Reason, Status, Switch)]
    limits = (VERSION, MAX_WHEEL_MM_S, DEAD_MAN_MS, CONTROL_MS, TELEMETRY_MS, MAX_AHEAD_MS)
    text = repr((limits, enums, [tuple(message) for message in MESSAGES]))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")


def pack(name: str, **values: int) -> bytes:
    """The fields of a message as bytes. struct.error where a value does not fit, KeyError where one is missing."""
    message = BY_NAME[name]
    assert len(values) == len(message.fields), f"{name} takes {[field.name for field in message.fields]}"
    return struct.pack(message.format, *[values[field.name] for field in message.fields])


def unpack(message: Message, payload: bytes) -> dict[str, int]:
    """The inverse of `pack`. struct.error where the length is wrong."""
    values = struct.unpack(message.format, payload)
    return dict(zip((field.name for field in message.fields), values, strict=True))


_LITTLE_ENDIAN = """\
template <typename T>
T get(const uint8_t* from) {
  uint32_t bits = 0;
  for (uint8_t k = 0; k < sizeof(T); ++k) bits |= static_cast<uint32_t>(from[k]) << (8 * k);
  return static_cast<T>(bits);
}

template <typename T>
void put(uint8_t* to, T value) {
  const uint32_t bits = static_cast<uint32_t>(value);
  for (uint8_t k = 0; k < sizeof(T); ++k) to[k] = static_cast<uint8_t>(bits >> (8 * k));
}"""


def header() -> str:
    """The text of messages.h."""
    lines = [
        "// The rover's messages. Written by `python -m firmware_bridge.messages`; change the table there.",
        "#ifndef ROVER_MESSAGES_H",
        "#define ROVER_MESSAGES_H",
        "",
        "#include <stdint.h>",
        "",
        "namespace rover {",
        "",
        *_LITTLE_ENDIAN.splitlines(),
        "",
        f"constexpr uint32_t TABLE_HASH = 0x{table_hash():08x}u;",
        f"constexpr uint8_t VERSION = {VERSION};",
        f"constexpr int16_t MAX_WHEEL_MM_S = {MAX_WHEEL_MM_S};",
        f"constexpr uint32_t DEAD_MAN_MS = {DEAD_MAN_MS};",
        f"constexpr uint32_t CONTROL_MS = {CONTROL_MS};",
        f"constexpr uint32_t TELEMETRY_MS = {TELEMETRY_MS};",
        f"constexpr uint32_t MAX_AHEAD_MS = {MAX_AHEAD_MS};",
        f"constexpr uint8_t MAX_PAYLOAD = {max(message.size for message in MESSAGES)};",
    ]
    for kind in (State, Reason, Status, Switch):
        lines += ["", f"enum class {kind.__name__} : uint8_t {{"]
        lines += [f"  {each.name} = {int(each)}," for each in kind]
        lines += ["};"]
    for message in MESSAGES:
        lines += ["", *_struct(message)]
    lines += ["", "// Bytes of a message's payload, or -1 for no such message."]
    lines += ["inline int16_t payload_size(uint8_t id) {", "  switch (id) {"]
    lines += [f"    case 0x{m.id:02x}: return {m.size};  // {m.name}" for m in MESSAGES]
    lines += ["    default: return -1;", "  }", "}", "", "}  // namespace rover", "", "#endif", ""]
    return "\n".join(lines)


def _struct(message: Message) -> list[str]:
    """A message as a C++ struct that the one side writes and the other reads."""
    out = [f"struct {message.name.capitalize()} {{"]
    out += [
        f"  static constexpr uint8_t ID = 0x{message.id:02x};",
        f"  static constexpr uint8_t SIZE = {message.size};",
    ]
    out += [f"  {_C_TYPES[field.kind]} {field.name};  // {field.unit}" for field in message.fields]
    if not message.fields:
        return [*out, "};"]
    reads, writes, offset = [], [], 0
    for field in message.fields:
        reads.append(f"    {field.name} = get<{_C_TYPES[field.kind]}>(from + {offset});")
        writes.append(f"    put(to + {offset}, {field.name});")
        offset += struct.calcsize("<" + CODES[field.kind])
    if message.sender == "host":
        return [*out, "  void read(const uint8_t* from) {", *reads, "  }", "};"]
    return [*out, "  void write(uint8_t* to) const {", *writes, "  }", "};"]


if __name__ == "__main__":
    (Path(__file__).resolve().parent.parent / HEADER).write_text(header())
