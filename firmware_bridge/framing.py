"""The rover's frames: COBS between zero bytes, CRC-16, version, boot id, sequence number.

A frame's body is version u8, message id u8, boot u16, sequence u16, payload, CRC u16, little-endian; the CRC
(CRC-16/CCITT-FALSE: 0x1021, from 0xFFFF) goes over all before it. `boot` is the restart of the rover that the frame
comes from or is meant for, 0 where the host does not know it yet.

COBS: S. Cheshire, M. Baker, "Consistent Overhead Byte Stuffing", 1999. A zero byte ends every frame and none is inside,
so that the parser is in step again at the next one, whatever was on the line. A zero stands before each frame too, so
that noise before it spoils nothing.
"""

import binascii
import struct
from typing import NamedTuple

from firmware_bridge.messages import BY_ID, MESSAGES, VERSION

_HEAD = struct.Struct("<BBHH")
_CRC = struct.Struct("<H")
OVERHEAD = _HEAD.size + _CRC.size
MAX_BODY = OVERHEAD + max(message.size for message in MESSAGES)
MAX_ENCODED = MAX_BODY + 1  # bodies are shorter than 254: one code byte


class Frame(NamedTuple):
    """One frame that came whole."""

    id: int
    boot: int
    sequence: int
    payload: bytes


class Counts(NamedTuple):
    """What a parser has seen. Noise is counted, dropped, and nobody's error."""

    frames: int
    overlong: int  # more bytes without a zero than any frame has
    broken: int  # no COBS, or too short
    crc: int
    version: int
    length: int  # a known message of the wrong length

    @property
    def bad(self) -> int:
        """All that was no frame."""
        return sum(self[1:])


def crc16(data: bytes) -> int:
    """CRC-16/CCITT-FALSE; 0x29B1 for b"123456789"."""
    return binascii.crc_hqx(data, 0xFFFF)


def stuff(body: bytes) -> bytes:
    """COBS of any bytes, without zeros."""
    out = bytearray()
    blocks = body.split(b"\0")
    for number, block in enumerate(blocks):
        while len(block) >= 254:
            out += b"\xff" + block[:254]
            block = block[254:]
            if not block and number == len(blocks) - 1:
                return bytes(out)
        out += bytes((len(block) + 1,)) + block
    return bytes(out)


def unstuff(data: bytes) -> bytes | None:
    """The inverse of `stuff`; None for bytes that it never makes."""
    out = bytearray()
    place = 0
    while place < len(data):
        code = data[place]
        block = data[place + 1 : place + code]
        if code == 0 or len(block) != code - 1 or 0 in block:
            return None
        out += block
        place += code
        if code < 255 and place < len(data):
            out.append(0)
    return bytes(out)


def encode(id: int, boot: int, sequence: int, payload: bytes) -> bytes:
    """A frame as it goes over the line, zeros at both ends."""
    body = _HEAD.pack(VERSION, id, boot, sequence & 0xFFFF) + payload
    return b"\0" + stuff(body + _CRC.pack(crc16(body))) + b"\0"


class Parser:
    """Finds the frames in a stream of bytes, in any chunks. Holds at most MAX_ENCODED bytes."""

    def __init__(self) -> None:
        self._held = b""
        self._overlong = False
        self._counts = [0] * len(Counts._fields)

    @property
    def counts(self) -> Counts:
        """What has been seen so far."""
        return Counts(*self._counts)

    @property
    def num_held(self) -> int:
        """Bytes of a frame that has begun."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete."""
        *ended, rest = data.split(b"\0")
        frames = []
        for piece in ended:
            self._hold(piece)
            if self._held and not self._overlong:
                frame = self._frame(self._held)
                if frame is not None:
                    frames.append(frame)
            self._held, self._overlong = b"", False
        self._hold(rest)
        return frames

    def _hold(self, piece: bytes) -> None:
        if not self._overlong and len(self._held) + len(piece) > MAX_ENCODED:
            self._overlong = True
            self._counts[1] += 1
        self._held = b"" if self._overlong else self._held + piece

    def _frame(self, data: bytes) -> Frame | None:
        body = unstuff(data)
        if body is None or len(body) < OVERHEAD:
            self._counts[2] += 1
            return None
        if crc16(body[:-2]) != _CRC.unpack(body[-2:])[0]:
            self._counts[3] += 1
            return None
        version, id, boot, sequence = _HEAD.unpack_from(body)
        payload = body[_HEAD.size : -2]
        if version != VERSION:
            self._counts[4] += 1
            return None
        if id in BY_ID and BY_ID[id].size != len(payload):
            self._counts[5] += 1
            return None
        self._counts[0] += 1
        return Frame(id, boot, sequence, payload)
