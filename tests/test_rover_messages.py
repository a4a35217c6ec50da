"""The rover's table of messages and its frames, on the Python side; tests/test_rover_native.py has the C++ side."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge import framing, messages
from firmware_bridge.framing import MAX_ENCODED, Frame, Parser, encode, stuff, unstuff

ROOT = Path(__file__).resolve().parent.parent


def test_the_committed_header_is_that_of_the_table() -> None:
    assert (ROOT / messages.HEADER).read_text() == messages.header(), "run python -m firmware_bridge.messages"


def test_the_hash_is_of_everything_that_both_ends_must_agree_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {messages.table_hash()}
    beat = messages.BY_NAME["beat"]
    others = [
        (*messages.MESSAGES[:-1],),
        (*messages.MESSAGES, beat._replace(id=0x55)),
        (*messages.MESSAGES, beat._replace(fields=(messages.Field("until_ms", "u32", "s"),))),
    ]
    for table in others:
        monkeypatch.setattr(messages, "MESSAGES", table)
        seen.add(messages.table_hash())
    monkeypatch.setattr(messages, "DEAD_MAN_MS", 400)
    assert len(seen | {messages.table_hash()}) == 5


def test_ids_tell_who_speaks() -> None:
    assert len(messages.BY_ID) == len(messages.BY_NAME) == len(messages.MESSAGES)
    assert all((message.id >= 0x80) == (message.sender == "rover") for message in messages.MESSAGES)


def test_every_message_and_status_is_in_the_docs() -> None:
    page = (ROOT / "docs" / "rover.md").read_text()
    assert all(f"`{message.name}`" in page for message in messages.MESSAGES)
    assert all(status.name.lower().replace("_", " ") in page for status in messages.Status)


@pytest.mark.parametrize("message", messages.MESSAGES, ids=lambda message: message.name)
def test_a_message_survives_the_line(message: messages.Message) -> None:
    values = {field.name: 37 + place for place, field in enumerate(message.fields)}
    frame = encode(message.id, 3, 70_000, messages.pack(message.name, **values))
    (came,) = Parser().feed(frame)
    assert came == Frame(message.id, 3, 70_000 & 0xFFFF, messages.pack(message.name, **values))
    assert messages.unpack(message, came.payload) == values


def test_the_crc_is_the_one_of_the_catalogue() -> None:
    assert framing.crc16(b"123456789") == 0x29B1


def test_cobs_by_the_paper() -> None:
    """Cheshire and Baker's own cases, and the edges of a block."""
    whole = bytes(range(1, 255))
    for plain, stuffed in [
        (b"", b"\x01"),
        (b"\0", b"\x01\x01"),
        (b"\x11\x22\0\x33", b"\x03\x11\x22\x02\x33"),
        (b"\x11\0\0\0", b"\x02\x11\x01\x01\x01"),
        (whole, b"\xff" + whole),
        (whole + b"\xff", b"\xff" + whole + b"\x02\xff"),
        (b"\0" + whole, b"\x01\xff" + whole),
        (whole + b"\0", b"\xff" + whole + b"\x01\x01"),
    ]:
        assert stuff(plain) == stuffed
        assert unstuff(stuffed) == plain


@given(st.binary(max_size=600))
def test_cobs_is_its_own_inverse_without_zeros(plain: bytes) -> None:
    stuffed = stuff(plain)
    assert 0 not in stuffed and unstuff(stuffed) == plain
    assert len(stuffed) <= len(plain) + 1 + len(plain) // 254


@given(
    st.lists(st.tuples(st.binary(max_size=20), st.integers(0, 0xFFFF)), max_size=8),
    st.lists(st.integers(1, 9), min_size=1, max_size=9),
)
def test_frames_come_whole_through_any_noise_and_any_chunks(parts: list[tuple[bytes, int]], sizes: list[int]) -> None:
    payload = messages.pack("beat", until_ms=99)
    line = b"".join(noise + encode(6, 2, sequence, payload) for noise, sequence in parts)
    parser = Parser()
    came = []
    place = turn = 0
    while place < len(line):
        step = sizes[turn % len(sizes)]
        came += parser.feed(line[place : place + step])
        place, turn = place + step, turn + 1
    # Noise may happen to be a frame; that a sixteen-bit check lets one pass here has a chance below 1e-4 a run.
    assert [frame.sequence for frame in came] == [sequence for _, sequence in parts]
    assert parser.counts.frames == len(parts)


@given(st.binary(max_size=2_000))
def test_a_parser_never_holds_more_than_a_frame(noise: bytes) -> None:
    parser = Parser()
    for place in range(0, len(noise), 7):
        parser.feed(noise[place : place + 7])
        assert parser.num_held <= MAX_ENCODED
    assert sum(parser.counts) <= len(noise)
    parser.feed(b"\x01" * 100_000)
    assert parser.num_held <= MAX_ENCODED
    assert len(parser.feed(b"\0" + encode(4, 0, 0, b""))) == 1


def test_what_was_wrong_is_counted() -> None:
    good = encode(6, 2, 5, messages.pack("beat", until_ms=7))
    body = unstuff(good.strip(b"\0"))
    assert body is not None
    other = bytes((2,)) + body[1:-2]
    short = body[:-3]
    parser = Parser()
    for line in (
        b"\x07" * 200 + b"\0",
        b"\x09\x01\0",
        good[:8] + bytes((good[8] ^ 1,)) + good[9:],
        b"\0" + stuff(other + framing.crc16(other).to_bytes(2, "little")) + b"\0",
        b"\0" + stuff(short + framing.crc16(short).to_bytes(2, "little")) + b"\0",
        good,
    ):
        parser.feed(line)
    assert parser.counts == framing.Counts(frames=1, overlong=1, broken=1, crc=1, version=1, length=1)
    assert parser.counts.bad == 5
