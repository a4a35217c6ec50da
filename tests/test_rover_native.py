"""The firmware's protocol, compiled natively with ASan and UBSan, against the Python side and against bad lines."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.rover_native import Executed, Moved, Native, over_a_bad_line
from firmware_bridge.framing import MAX_ENCODED, Frame, Parser, encode
from firmware_bridge.messages import (
    BY_NAME,
    CONTROL_MS,
    DEAD_MAN_MS,
    MAX_AHEAD_MS,
    MESSAGES,
    Reason,
    State,
    Status,
    Switch,
    pack,
    table_hash,
    unpack,
)
from firmware_bridge.rover_build import missing

pytestmark = pytest.mark.skipif(bool(missing("native")), reason="no g++: the rover's native tests are left out")
MM_PER_COUNT = 0.444564


@pytest.fixture(scope="module")
def native() -> Iterator[Native]:
    """The compiled side; at its end no sanitizer may have spoken."""
    made = Native()
    yield made
    assert made.close() == 0


def frame(name: str, sequence: int, boot: int = 7, **values: int) -> bytes:
    return encode(BY_NAME[name].id, boot, sequence, pack(name, **values))


def drive(sequence: int, until_ms: int, left: int = 200, right: int = 200, boot: int = 7, fan: int = 50) -> bytes:
    return frame(
        "drive", sequence, boot, until_ms=until_ms, left_mm_s=left, right_mm_s=right, fan=fan, brush=20, side_brush=60
    )


def told(frames: list[Frame], name: str) -> list[dict[str, int]]:
    """The messages of one kind among what the rover sent."""
    return [unpack(BY_NAME[name], each.payload) for each in frames if each.id == BY_NAME[name].id]


def statuses(frames: list[Frame]) -> list[Status]:
    return [Status(ack["status"]) for ack in told(frames, "ack")]


@pytest.fixture
def armed(native: Native) -> Native:
    """A rover at 20 ms, greeted and armed by sequence number 1."""
    native.start(boot=7)
    native.run((10, frame("hello", 0, boot=0, table=table_hash(), session=5)))
    latch = native.motors.latch
    assert statuses(native.run((20, frame("arm", 1, until_ms=200, latch=latch)))) == [Status.DONE]
    return native


payloads = st.sampled_from(MESSAGES).flatmap(
    lambda message: st.tuples(st.just(message.id), st.binary(min_size=message.size, max_size=message.size))
)


@given(payloads, st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
@settings(max_examples=200)
def test_both_sides_write_the_same_bytes(native: Native, what: tuple[int, bytes], boot: int, sequence: int) -> None:
    made = Frame(what[0], boot, sequence, what[1])
    line = native.encode(made)
    assert line == encode(*made)
    assert native.parse(line)[0] == [made] == Parser().feed(line)


pieces = st.one_of(
    st.binary(max_size=60),
    st.builds(lambda what, sequence: encode(what[0], 3, sequence, what[1]), payloads, st.integers(0, 0xFFFF)),
    st.builds(
        lambda what, place, byte: (
            (line := bytearray(encode(what[0], 3, 1, what[1])))[: place % len(line)]
            + bytes((byte,))
            + line[place % len(line) + 1 :]
        ),
        payloads,
        st.integers(0, 60),
        st.integers(0, 255),
    ),
)


@given(st.lists(pieces, max_size=12))
@settings(max_examples=300)
def test_both_sides_read_the_same_frames_and_count_the_same_noise(native: Native, parts: list[bytes]) -> None:
    line = b"\0" + b"".join(map(bytes, parts))
    python = Parser()
    start = native.parse(b"\0")[1]
    expected = python.feed(line)
    frames, counts, held = native.parse(line)
    assert frames == expected and held == python.num_held <= MAX_ENCODED
    assert [after - before for after, before in zip(counts, start, strict=True)] == list(python.counts)
    native.parse(b"\0")


def test_it_tells_who_it_is_and_moves_only_when_armed(native: Native) -> None:
    (hello,) = native.start(boot=9, reason=Reason.WATCHDOG)
    assert hello.boot == 9 and told([hello], "welcome")[0]["table"] == table_hash()
    out = native.run((40, b""))
    assert [t["now_ms"] for t in told(out, "telemetry")] == [20, 40]
    assert native.motors.state == State.DISARMED and native.motors.reason == Reason.WATCHDOG
    # Nobody greeted yet: nothing is obeyed.
    assert statuses(native.run((50, frame("arm", 1, 9, until_ms=99, latch=native.motors.latch)))) == [
        Status.OTHER_TABLE
    ]
    out = native.run((60, frame("hello", 0, 0, table=table_hash(), session=3)))
    assert told(out, "welcome")[0]["session"] == 3
    assert statuses(native.run((70, drive(1, 100, boot=9)))) == [Status.DISARMED]
    latch = native.motors.latch
    assert statuses(native.run((80, frame("arm", 2, 9, until_ms=99, latch=latch)))) == [Status.DONE]
    assert not native.motors.moving and native.motors.enabled
    assert statuses(native.run((90, drive(3, 100, boot=9)))) == [Status.DONE]
    assert native.motors[1:6] == (320, 320, 50, 20, 60)


def test_another_table_is_told_and_nothing_is_obeyed(native: Native) -> None:
    native.start(boot=7)
    out = native.run((10, frame("hello", 0, boot=0, table=table_hash() ^ 1, session=4)))
    assert told(out, "welcome")[0]["table"] == table_hash()
    arm = frame("arm", 1, until_ms=99, latch=native.motors.latch)
    assert statuses(native.run((20, arm))) == [Status.OTHER_TABLE]


def test_a_command_is_obeyed_once_and_answered_as_often_as_it_comes(armed: Native) -> None:
    line = drive(2, 100)
    assert statuses(armed.run((30, line + line + line))) == [Status.DONE] * 3
    assert [event.frame.sequence for event in armed.events if isinstance(event, Executed)] == [2]
    # Long after, it is only known to be old.
    armed.run(*[(30 + n, frame("beat", 2 + n, until_ms=500)) for n in range(1, 12)])
    assert statuses(armed.run((60, line))) == [Status.STALE]


def test_commands_have_an_order_an_expiry_a_boot_and_bounds(armed: Native) -> None:
    for line, status in [
        (drive(5, 100), Status.DONE),
        (drive(4, 100), Status.STALE),  # overtaken
        (drive(6, 29), Status.EXPIRED),
        (drive(7, 30 + MAX_AHEAD_MS + 1), Status.EXPIRED),  # a clock that is not ours
        (drive(8, 100, boot=6), Status.OTHER_BOOT),
        (drive(9, 100, left=501), Status.BAD_VALUE),
        (drive(10, 100, right=-501), Status.BAD_VALUE),
        (drive(11, 100, fan=101), Status.BAD_VALUE),
        (encode(0x7E, 7, 12, b""), Status.UNKNOWN),
        (encode(BY_NAME["ack"].id, 7, 12, bytes(7)), Status.UNKNOWN),
        (drive(12, 100), Status.DONE),
    ]:
        assert statuses(armed.run((30, line))) == [status], line


def test_the_clock_may_wrap(native: Native) -> None:
    """Arithmetic of sequence numbers modulo 2**16; the clock's is checked by its type."""
    native.start(boot=7)
    native.run((10, frame("hello", 0xFFFD, boot=0, table=table_hash(), session=5)))
    native.run((20, frame("arm", 0xFFFE, until_ms=200, latch=native.motors.latch)))
    for sequence in (0xFFFF, 0, 1):
        assert statuses(native.run((30, drive(sequence, 100)))) == [Status.DONE]


@pytest.mark.parametrize(
    "noise",
    [b"", b"\x55" * 500, drive(1, 10_000), drive(9, 30), frame("beat", 3, 8, until_ms=900)],
    ids=["silence", "noise", "a repeat", "too late", "of another boot"],
)
def test_the_dead_man_stops_it_whatever_else_is_on_the_line(armed: Native, noise: bytes) -> None:
    """Noise, repeats, what has expired or is meant for another boot is no sign of life."""
    armed.run((100, drive(2, 150)))
    assert armed.motors.moving
    armed.run(*[(ms, noise) for ms in range(110, 100 + DEAD_MAN_MS, 20)])
    armed.run((100 + DEAD_MAN_MS + CONTROL_MS, b""))
    assert Moved(100 + DEAD_MAN_MS, False) in armed.events
    assert (armed.motors.state, armed.motors.reason) == (State.DISARMED, Reason.DEAD_MAN)
    # It stays so when the host is heard again, until it is armed.
    assert statuses(armed.run((500, drive(20, 600)))) == [Status.DISARMED]
    armed.run((510, frame("arm", 21, until_ms=600, latch=armed.motors.latch)))
    armed.run((520, drive(22, 600)))
    assert armed.motors.moving


def test_a_host_that_says_so_much_as_a_beat_keeps_it_going(armed: Native) -> None:
    armed.run((30, drive(2, 100)))
    for n in range(10):
        ms = 250 * (n + 1)
        armed.run((ms, frame("beat", 3 + n, until_ms=ms)))
        assert armed.motors.moving


def test_a_stop_needs_nothing_and_holds_against_an_arm_that_did_not_know_of_it(armed: Native) -> None:
    armed.run((30, drive(2, 100)))
    early = frame("arm", 900, until_ms=1_000, latch=armed.motors.latch)
    for number, stop in enumerate([encode(4, 0, 0, b""), encode(4, 1234, 50_000, b""), frame("stop", 3)]):
        assert statuses(armed.run((40, stop))) == [Status.DONE]
        assert (armed.motors.state, armed.motors.reason, armed.motors.moving) == (State.DISARMED, Reason.STOP, False)
        assert statuses(armed.run((50, drive(100 + number, 150)))) == [Status.DISARMED]
    # Sent before the stop, or repeated after it: not lifted. Named, it is.
    assert statuses(armed.run((60, early))) == [Status.STALE]
    assert statuses(armed.run((70, frame("arm", 901, until_ms=99, latch=armed.motors.latch)))) == [Status.DONE]


def test_a_repeated_stop_is_one_stop(armed: Native) -> None:
    before = armed.motors.latch
    armed.run((30, frame("stop", 2)), (31, frame("stop", 2)), (32, frame("stop", 2)))
    assert armed.motors.latch == before + 1
    assert len(armed.events) == 1


def test_a_new_session_begins_disarmed_and_its_repeated_hello_changes_nothing(armed: Native) -> None:
    armed.run((30, drive(2, 100)))
    hello = frame("hello", 700, boot=0, table=table_hash(), session=6)
    armed.run((40, hello))
    assert (armed.motors.state, armed.motors.reason) == (State.DISARMED, Reason.HELLO)
    armed.run((50, frame("arm", 701, until_ms=99, latch=armed.motors.latch)))
    assert len(told(armed.run((60, hello)), "welcome")) == 1
    assert armed.motors.state == State.ARMED


def test_a_cliff_stops_what_goes_forward_until_the_next_command(armed: Native) -> None:
    armed.run((30, drive(2, 100)))
    armed.sense(cliff=True)
    out = armed.run((50, b""))
    assert armed.motors[1:3] == (0, 0) and armed.motors.fan == 50
    assert told(out, "telemetry")[-1]["switches"] == Switch.CLIFF | Switch.CLIFF_HOLDS
    armed.run((60, drive(3, 100)))
    assert armed.motors[1:3] == (0, 0)
    armed.sense()
    armed.run((80, b""))
    assert armed.motors[1:3] == (0, 0)  # the drop is out of sight, the command still the old one
    armed.run((90, drive(4, 100, -150, -150)))
    assert armed.motors[1:3] == (-240, -240)
    armed.sense(cliff=True)
    armed.run((120, b""))
    assert armed.motors[1:3] == (-240, -240)


def test_a_bumper_stops_what_nobody_answers(armed: Native) -> None:
    armed.sense(bumps=1)
    for n in range(5):  # a host that sees it may slide along
        armed.run((30 + 60 * n, drive(2 + n, 500)))
        armed.run((80 + 60 * n, b""))
        assert armed.motors[1:3] == (320, 320)
    out = armed.run((30 + 60 * 4 + 80 + CONTROL_MS + 20, b""))
    assert armed.motors[1:3] == (0, 0)
    assert told(out, "telemetry")[-1]["switches"] == Switch.BUMP_LEFT | Switch.BUMP_HOLDS
    armed.sense()
    armed.run((380, b""))
    assert armed.motors[1:3] == (0, 0)  # let go of, and the command is still the old one
    armed.run((400, drive(9, 500, -150, -150)))
    assert armed.motors[1:3] == (-240, -240)


@pytest.mark.parametrize("share", [0.7, 0.9, 1.0, 1.2])
@pytest.mark.parametrize("speed", [100, 300, 500])
def test_wheels_keep_their_speed_with_motors_that_are_not_the_nominal_ones(
    armed: Native, share: float, speed: int
) -> None:
    """Motors with a lag of 40 ms that turn at `share` of what the feed-forward expects, the right one nominal."""
    travelled, speeds = [0.0, 0.0], [0.0, 0.0]
    late = 0.0
    for ms in range(25, 5_000, CONTROL_MS):
        line = drive(2 + ms, ms + 100, speed, speed) if ms % 60 == 0 else b""
        armed.run((ms, line))
        for wheel, (duty, gain) in enumerate(zip(armed.motors[1:3], (share, 1.0), strict=True)):
            speeds[wheel] += (duty * 0.625 * gain - speeds[wheel]) * CONTROL_MS / 40
            travelled[wheel] += speeds[wheel] * CONTROL_MS / 1000
        armed.sense(*[int(mm // MM_PER_COUNT) for mm in travelled])
        if ms == 4_000:
            late = travelled[0]
    reached = (travelled[0] - late) / 0.995
    within = 0.022 * speed + 3 * MM_PER_COUNT / 0.24
    assert abs(reached - min(speed, 625 * share)) <= within
    assert armed.motors.right == round(speed * 1.6)  # a nominal motor is left alone


def test_a_wheel_that_is_held_does_not_wind_up(armed: Native) -> None:
    armed.sense(bumps=3)
    for n in range(40):
        armed.run((30 + 60 * n, drive(2 + n, 60 * n + 200)))
    assert armed.motors[1:3] == (320, 320)


def test_nothing_wrong_comes_of_a_bad_line(native: Native) -> None:
    """A short run of `python -m bench.rover line`, with ten times its errors."""
    found = over_a_bad_line(native, 20_000, seed=3, rate=1e-2)
    assert found.spoiled > 2_000 and found.obeyed > 5_000
    assert (found.not_sent, found.twice, found.moved_after_stop, found.late_stops) == (0, 0, 0, 0)
    assert found.longest_deafness <= 3


def test_noise_breaks_nothing(native: Native) -> None:
    native.start(boot=2)
    found = native.fuzz(seed=1, num_bytes=1_000_000)
    assert found["bytes"] >= 1_000_000 and found["bad"] > 10_000 and found["most_held"] <= MAX_ENCODED
