"""The Open Interface's tables, commands and stream against the specification's own numbers."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import oi

VECTOR = bytes((19, 5, 29, 2, 25, 13, 0, 163))


@pytest.mark.parametrize(
    ("group", "size"),
    [(0, 26), (1, 10), (2, 6), (3, 10), (4, 14), (5, 12), (6, 52), (100, 80), (101, 28), (106, 12), (107, 9)],
)
def test_the_size_of_every_group_is_the_one_that_the_specification_prints(group: int, size: int) -> None:
    assert oi.packet_size(group) == size


def test_drive_direct_sends_the_right_wheel_first() -> None:
    assert oi.drive_direct(left_mm_s=-2, right_mm_s=300) == bytes((145, 0x01, 0x2C, 0xFF, 0xFE))


def test_drive_is_the_example_of_the_specification() -> None:
    assert oi.drive(-200, 500) == bytes((137, 255, 56, 1, 244))


def test_percent_to_pwm_and_back_is_the_identity() -> None:
    assert [oi.percent_of(oi.pwm_of(percent)) for percent in range(-100, 101)] == list(range(-100, 101))
    assert oi.pwm_of(100) == 127


def test_the_stream_vector_of_the_specification() -> None:
    decoder = oi.StreamDecoder((29, 13))
    assert decoder.feed(VECTOR) == [(537, 0)]
    assert decoder.layout.encode((537, 0)) == VECTOR
    assert decoder.num_garbage == 0


def test_a_header_inside_the_data_is_no_header() -> None:
    layout = oi.StreamLayout((29, 13))
    frame = layout.encode((19 * 256 + 5, 19))
    assert oi.StreamDecoder((29, 13)).feed(b"\x13\x05" + frame[:4] + frame + VECTOR) == [(19 * 256 + 5, 19), (537, 0)]


def test_a_stream_of_groups_has_one_id_for_each_group() -> None:
    layout = oi.StreamLayout((106, 7))
    frame = layout.encode((1, 2, 3, 4, 5, 6, 15))
    assert frame[:3] == bytes((19, 15, 106)) and frame[-3:-1] == bytes((7, 15))
    assert oi.StreamDecoder((106, 7)).feed(frame) == [(1, 2, 3, 4, 5, 6, 15)]


PIECES = st.one_of(
    st.tuples(st.just("frame"), st.tuples(st.integers(0, 65535), st.integers(0, 255))),
    # Garbage that ends in a frame's beginning, or holds headers, is the hard kind; so they are drawn often.
    st.tuples(st.just("garbage"), st.binary(max_size=12)),
    st.tuples(st.just("garbage"), st.sampled_from([b"\x13", b"\x13\x05", b"\x13\x05\x1d", b"\x13\x05\x1d\x13\x05"])),
    st.tuples(st.just("garbage"), st.just(b"bl-start\r\nSTR730\r\n")),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_every_intact_frame_is_recovered_from_garbage_in_any_chunks(
    pieces: list[tuple[str, object]], chunks: list[int]
) -> None:
    layout = oi.StreamLayout((29, 13))
    sent = [value for kind, value in pieces if kind == "frame"]
    line = b"".join(layout.encode(value) if kind == "frame" else value for kind, value in pieces)  # type: ignore[arg-type]
    line += bytes(layout.size)  # a quiet tail, so that a false start at the end is decided
    decoder = oi.StreamDecoder((29, 13))
    got: list[tuple[int, ...]] = []
    at = turn = 0
    while at < len(line):
        size = chunks[turn % len(chunks)]
        got += decoder.feed(line[at : at + size])
        assert len(decoder._buffer) < layout.size
        at, turn = at + size, turn + 1
    assert got == sent
    assert decoder.num_garbage + len(decoder._buffer) == len(line) - layout.size * len(sent)
    assert oi.StreamDecoder((29, 13)).feed(line) == sent


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 255)), min_size=4, max_size=12), st.data())
def test_after_a_flipped_byte_the_next_frame_but_one_is_read(
    values: list[tuple[int, int]], data: st.DataObject
) -> None:
    """One byte is wrong: what is read is what was sent, in order, and no more than two frames are lost.

    A false start inside of a damaged frame may take the next one with it, where its checksum happens to fit.
    """
    layout = oi.StreamLayout((29, 13))
    line = bytearray(b"".join(layout.encode(each) for each in values))
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    got = oi.StreamDecoder((29, 13)).feed(bytes(line) + bytes(layout.size))
    hit = at // layout.size
    assert got[:hit] == values[:hit]
    after = values[hit + 2 :]
    assert got[len(got) - len(after) :] == after and len(got) >= len(values) - 2


def test_the_parser_takes_every_opcode_of_the_table_with_its_data() -> None:
    line, names = b"", []
    for opcode in oi.OPCODES.values():
        data = bytearray(opcode.num_fixed)
        if opcode.num_each:
            data[-1] = 3
            data += bytes(3 * opcode.num_each)
        line += bytes((opcode.code, *data))
        names.append((opcode.name, bytes(data)))
    assert [(each.opcode.name, each.data) for each in oi.CommandParser().feed(line)] == names


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 20))
def test_the_parser_does_not_care_about_chunks(line: bytes, size: int) -> None:
    whole, parts = oi.CommandParser(), oi.CommandParser()
    commands = [each for at in range(0, len(line), size) for each in parts.feed(line[at : at + size])]
    assert commands == whole.feed(line)
    assert parts.num_unknown == whole.num_unknown and parts._buffer == whole._buffer
    assert len(whole._buffer) <= 513


def test_halt_gets_through_a_half_sent_command() -> None:
    for opcode in oi.OPCODES.values():
        for missing in range(1, opcode.num_fixed + 1):
            parser = oi.CommandParser()
            parser.feed(bytes((opcode.code,)) + bytes(opcode.num_fixed - missing))
            commands = parser.feed(oi.HALT)
            assert oi.drive_direct(0, 0)[1:] in [each.data for each in commands if each.opcode.code == 145]
            assert bytes(3) in [each.data for each in commands if each.opcode.code == 144]


def test_a_value_that_does_not_fit_is_our_bug_not_a_silent_wrap() -> None:
    with pytest.raises(struct.error):
        oi.StreamLayout((7,)).encode((256,))
