"""The Neato console's lines, replies and moves: what a host and a robot must agree on, and noise that they survive."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_bridge import neato_console as console

ANSWER = "GetErr\r\nError\r\n200 -  (UI_ALERT_INVALID)\r\nAlert\r\n200 -  (UI_ALERT_INVALID)\r\n"
LINES = ["Error", "200 -  (UI_ALERT_INVALID)", "Alert", "200 -  (UI_ALERT_INVALID)"]


def test_a_reply_is_what_stands_between_its_echo_and_its_end() -> None:
    reader = console.ReplyReader()
    assert reader.feed(ANSWER.encode(), "GetErr") is None
    assert reader.feed(b"\x1a", "GetErr") == LINES
    assert reader.num_garbage == 0


# No noise ends in the very command that was asked, or a boot text would be an echo.
NOISE = st.binary(max_size=40).filter(lambda noise: b"GetErr" not in noise)


@settings(max_examples=200, deadline=None)
@given(st.lists(NOISE, max_size=4), NOISE, st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_an_answer_is_found_behind_any_noise_in_any_chunks(old: list[bytes], noise: bytes, sizes: list[int]) -> None:
    noise = noise.replace(b"\x1a", b"")
    line = b"".join(each.replace(b"\x1a", b"") + b"\x1a" for each in old) + noise + ANSWER.encode() + b"\x1a"
    reader, got, at, turn = console.ReplyReader(), None, 0, 0
    while at < len(line):
        size = sizes[turn % len(sizes)]
        got = reader.feed(line[at : at + size], "GetErr") or got
        at, turn = at + size, turn + 1
    assert got == LINES


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=5_000), max_size=20))
def test_what_never_ends_is_dropped(pieces: list[bytes]) -> None:
    reader, whole = console.ReplyReader(), console.LineReader()
    for piece in pieces * 3:
        reader.feed(piece.replace(b"\x1a", b"\0"), "GetErr")
        whole.feed(piece.replace(b"\n", b"\0"))
        assert len(reader._buffer) <= console.MAX_REPLY and len(whole._buffer) <= console.MAX_LINE


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.integers(1, 20))
def test_the_robot_does_not_care_about_chunks(line: bytes, size: int) -> None:
    parts, whole = console.LineReader(), console.LineReader()
    got = [each for at in range(0, len(line), size) for each in parts.feed(line[at : at + size])]
    assert got == whole.feed(line) and parts._buffer == whole._buffer


def test_tables_of_two_and_of_three_columns_are_read_by_label() -> None:
    two = console.table(["SensorName,Value", "WallSensorInMM,63,", "BatteryVoltageInmV,16120,"])
    three = console.table(["SensorName,Unit,Value", "WallSensor,mm,63,", "BatteryVoltage,mV,16120,", "Bad,mV,,"])
    assert console.number(two, "WallSensor", "WallSensorInMM") == console.number(three, "WallSensor") == 63
    assert console.number(two, "BatteryVoltage", "batteryvoltageinmv") == 16_120
    assert console.number(three, "Bad") is None and console.number(three, "nothing") is None
    assert console.table(["Eco Mode, ON "]) == {"eco mode": "ON"}
    assert console.table(["Software,4,5,3,189,0"])["software"] == "4"


def test_words_are_as_short_as_they_are_unique() -> None:
    assert console.spelled_out("GETMO", console.COMMANDS) == ["GetMotors"]
    assert len(console.spelled_out("getl", console.COMMANDS)) == 1
    assert len(console.spelled_out("Set", console.COMMANDS)) > 1
    assert console.spelled_out("brush", ("Brush", "BrushEnable")) == ["Brush"]  # itself before what it begins


@pytest.mark.parametrize(
    ("lines", "error"),
    [
        (LINES, ""),
        ([], ""),
        (["Error", "234 - Please clean my brush", "Alert", "200 - (x)"], "234 Please clean my brush"),
        (["Error", "220 - ", "(UI_ERROR_USB_CONNECTED)"], "220 (UI_ERROR_USB_CONNECTED)"),
        (["Error", "200 -  (UI_ALERT_INVALID)", "Alert", "229 - (UI_ALERT_DUST_BIN_FULL)"], ""),
    ],
)
def test_an_error_is_told_and_an_alert_is_none(lines: list[str], error: str) -> None:
    assert console.error_of(lines) == error


@settings(max_examples=300, deadline=None)
@given(st.floats(-500, 500), st.floats(-500, 500), st.floats(0, 1e4))
def test_no_move_is_longer_than_a_robot_may_drive_alone(left: float, right: float, farthest: float) -> None:
    move = console.move_at(left, right, farthest)
    if move is not None:
        assert max(abs(move.left_mm), abs(move.right_mm)) <= min(console.MAX_MOVE_MM, farthest + 1)
        assert move.command().startswith("SetMotor LWheelDist ") and move.lasts_s > 0


def test_a_longer_one_is_never_sent() -> None:
    with pytest.raises(AssertionError):
        console.Move(151, 100, 300).command()


def test_a_track_is_changed_there_and_back() -> None:
    wide = console.on_track(100.0, 250.0, 235.0, 248.0)
    assert sum(wide) == pytest.approx(350.0) and wide[1] - wide[0] == pytest.approx(150 * 248 / 235)
    assert console.on_track(*wide, 248.0, 235.0) == pytest.approx((100.0, 250.0))


def test_a_scan_is_read_by_angle() -> None:
    lines = [
        "AngleInDegrees,DistInMM,Intensity,ErrorCodeHEX",
        "0,2378,82,0",
        "2,0,88,8021",
        "x,1,2,3",
        "ROTATION_SPEED,5.10",
    ]
    rays, turns_s = console.scan(lines)
    assert rays == {0: console.Ray(2378, 82, 0), 2: console.Ray(0, 88, 0x8021)} and turns_s == 5.1
