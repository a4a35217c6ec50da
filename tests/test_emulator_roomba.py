"""The emulated Roomba against the Open Interface's tables: modes, motors, packets, stream."""

import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.home.plant import Home
from firmware_bridge import oi
from firmware_bridge.emulators.roomba import BANNER, Emulator
from firmware_bridge.plant import Actuators, Sensors
from homes import drawn

STEP_S = 0.015
DRIVING = oi.START + oi.SAFE_MODE


STILL = Sensors(False, False, False, False, 0, 0, 7, 15_000, 900, 2_000, 2_600, 25, False)


@dataclass
class Bench:
    """A plant whose sensors the test sets; its wheels turn exactly as told."""

    sensors: Sensors = STILL
    log: list[Actuators] = field(default_factory=list)
    left_mm: float = 0.0
    right_mm: float = 0.0

    def advance(self, dt_s: float, actuators: Actuators) -> Sensors:
        if dt_s:
            self.log.append(actuators)
        self.left_mm += actuators.left_mm_s * dt_s
        self.right_mm += actuators.right_mm_s * dt_s
        left, right = int(self.left_mm / oi.MM_PER_COUNT), int(self.right_mm / oi.MM_PER_COUNT)
        return self.sensors._replace(left_counts=left, right_counts=right)


def robot(data: bytes) -> tuple[Emulator, Bench]:
    emulator, bench = Emulator(), Bench()
    emulator.lay_out(bench)
    emulator.feed(data)
    return emulator, bench


def ask(emulator: Emulator, packet: int) -> bytes:
    return emulator.feed(oi.sensors(packet))


@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("opcode", oi.OPCODES.values(), ids=lambda opcode: opcode.name)
def test_every_opcode_is_heeded_in_its_modes_only(opcode: oi.Opcode, mode: int) -> None:
    emulator, _ = robot((b"", oi.START, DRIVING, oi.START + oi.FULL_MODE)[mode])
    assert emulator.mode == mode
    emulator.feed(bytes((opcode.code, *bytes(opcode.num_fixed))))
    after = opcode.mode_after if mode in opcode.modes and opcode.mode_after is not None else mode
    assert emulator.mode == after
    assert emulator._parser.feed(b"") == [] and not emulator._parser._buffer


def test_drive_direct_reaches_the_wheels_as_whole_mm_s_right_first() -> None:
    emulator, bench = robot(DRIVING + bytes((145, 0x01, 0x2C, 0xFF, 0x9C)))
    emulator.advance(STEP_S, bench)
    assert bench.log[-1][:2] == (-100, 300)
    assert (ask(emulator, 41), ask(emulator, 42)) == (b"\x01\x2c", b"\xff\x9c")


def test_duties_reach_the_motors_as_the_percent_that_was_meant() -> None:
    for percent in range(101):
        emulator, _ = robot(DRIVING + oi.pwm_motors(percent, percent, percent))
        assert emulator.actuators[2:] == (percent, percent, percent)


@pytest.mark.parametrize(
    ("velocity", "radius", "left", "right"),
    [(200, -32768, 200, 200), (200, 32767, 200, 200), (200, 1, -200, 200), (200, -1, 200, -200), (200, 235, 100, 300)],
)
def test_drive_turns_radius_into_wheel_speeds(velocity: int, radius: int, left: int, right: int) -> None:
    emulator, _ = robot(DRIVING + oi.drive(velocity, radius))
    assert emulator.actuators[:2] == (left, right)


def test_the_last_drive_command_persists_for_ever() -> None:
    """No dead man: ten minutes without a byte from the host, and it still drives."""
    emulator, bench = robot(DRIVING + oi.drive_direct(100, 100))
    emulator.advance(600.0, bench)
    assert emulator.mode == oi.SAFE
    assert bench.log[-1][:2] == (100, 100) and len(bench.log) == 40_000


@pytest.mark.parametrize(
    ("mode", "left", "right", "stops"),
    [(oi.SAFE_MODE, 200, 200, True), (oi.SAFE_MODE, -150, -150, False), (oi.FULL_MODE, 200, 200, False)],
)
def test_a_drop_ahead_stops_safe_mode_within_the_step(mode: bytes, left: int, right: int, stops: bool) -> None:
    emulator, bench = robot(oi.START + mode + oi.drive_direct(left, right) + oi.pwm_motors(50, 50, 50))
    bench.sensors = bench.sensors._replace(cliff=True)
    emulator.advance(STEP_S, bench)
    assert (emulator.mode == oi.PASSIVE) == stops
    assert (emulator.actuators == (0, 0, 0, 0, 0)) == stops
    assert ask(emulator, 10) == b"\x01"


def test_a_wheel_drop_and_the_charger_stop_safe_mode() -> None:
    emulator, bench = robot(DRIVING + oi.drive_direct(200, 200))
    emulator.fault({"wheel_drop": 1})
    emulator.advance(STEP_S, bench)
    assert (emulator.mode, ask(emulator, 7)) == (oi.PASSIVE, b"\x04")
    emulator, bench = robot(DRIVING)
    bench.sensors = bench.sensors._replace(docked=True)
    emulator.lay_out(bench)
    emulator.advance(STEP_S, bench)
    assert (emulator.mode, ask(emulator, 34), ask(emulator, 21)) == (oi.PASSIVE, b"\x02", b"\x02")


def test_distance_and_angle_count_since_the_last_read() -> None:
    emulator, bench = robot(DRIVING + oi.drive_direct(200, 200))
    emulator.advance(3.0, bench)
    (first,) = struct.unpack(">h", ask(emulator, 19))
    assert first in (599, 600) and ask(emulator, 19) == b"\0\0"
    emulator.feed(oi.drive_direct(-100, 100))
    emulator.advance(3.0, bench)
    (angle,) = struct.unpack(">h", ask(emulator, 20))
    assert angle == pytest.approx(600 / 235 * 57.2958, abs=1.0)  # counter-clockwise is positive


def test_distance_and_angle_are_wrong_before_firmware_3_3_and_the_encoders_right() -> None:
    emulator, bench = robot(DRIVING + oi.drive_direct(200, 200))
    emulator.fault({"firmware": "3.2"})
    emulator.advance(3.0, bench)
    (distance,) = struct.unpack(">h", ask(emulator, 19))
    (counts,) = struct.unpack(">H", ask(emulator, 43))
    assert abs(distance) < 400 and counts == int(600 / oi.MM_PER_COUNT)


@pytest.mark.parametrize("command", [oi.CLEAN, oi.SPOT, oi.MAX, oi.SEEK_DOCK])
def test_it_cleans_by_itself_in_passive_mode_until_somebody_takes_over(command: bytes) -> None:
    for end in (command, oi.SAFE_MODE, oi.FULL_MODE, oi.HALT, b"\x07", oi.STOP_OI, bytes((133,))):
        emulator, bench = robot(DRIVING + oi.drive_direct(100, 100) + command)
        emulator.advance(3.0, bench)
        assert emulator.mode == oi.PASSIVE and emulator.actuators[:2] != (0, 0) != bench.log[-1][:2]
        assert (emulator.actuators.fan > 0) == (command != oi.SEEK_DOCK)
        emulator.feed(oi.START + oi.drive_direct(0, 0))  # neither ends it
        emulator.advance(STEP_S, bench)
        assert emulator.actuators[:2] != (0, 0)
        emulator.feed(end)
        assert emulator.actuators == (0, 0, 0, 0, 0)


def test_a_cleaning_of_its_own_goes_on_when_the_host_is_silent_and_does_not_fall_asleep() -> None:
    emulator, bench = robot(oi.START + oi.MAX)
    emulator.advance(1_200.0, bench)
    assert emulator.actuators[:2] != (0, 0) and not emulator.asleep
    bench.sensors = bench.sensors._replace(charge_mah=200)
    emulator.advance(2 * STEP_S, bench)
    assert emulator.actuators == (0, 0, 0, 0, 0)
    emulator.advance(300.0, bench)
    assert emulator.asleep


def test_a_spot_ends_by_itself() -> None:
    emulator, bench = robot(oi.START + oi.SPOT)
    emulator.advance(300.0, bench)
    assert (emulator.cleaning, emulator.mode, emulator.actuators) == ("", oi.PASSIVE, (0, 0, 0, 0, 0))


def test_it_finds_a_dock_that_lies_ahead_and_charges() -> None:
    rows = ("#" * 14, *("#" + "a" * 11 + ("@" if 2 <= n <= 5 else "a") + "#" for n in range(8)), "#" * 14)
    home = Home(drawn(*rows, start_m=(0.5, 0.5)), 0)
    emulator = Emulator()
    emulator.lay_out(home)
    emulator.feed(oi.START + oi.SEEK_DOCK)
    emulator.advance(30.0, home)
    assert (emulator.cleaning, ask(emulator, 21), ask(emulator, 34)) == ("", b"\x02", b"\x02")
    emulator.feed(oi.SAFE_MODE)
    emulator.advance(STEP_S, home)
    assert emulator.mode == oi.PASSIVE  # the charger ends safe mode


def test_encoders_wrap_both_ways() -> None:
    emulator, bench = robot(DRIVING + oi.drive_direct(-100, 500))
    emulator.advance(0.3, bench)
    left, right = struct.unpack(">HH", ask(emulator, 43) + ask(emulator, 44))
    assert left == 65_536 - int(30 / oi.MM_PER_COUNT) and right == int(150 / oi.MM_PER_COUNT)
    emulator.advance(60.0, bench)
    (right,) = struct.unpack(">H", ask(emulator, 44))
    assert right == int(30_150 / oi.MM_PER_COUNT) - 65_536


def test_a_new_world_keeps_the_session_and_the_encoder_registers() -> None:
    emulator, bench = robot(DRIVING + oi.stream((43, 35)) + oi.drive_direct(300, 300))
    emulator.advance(1.5, bench)
    before = ask(emulator, 43)
    emulator.feed(oi.drive_direct(0, 0))
    emulator.lay_out(Bench())
    assert ask(emulator, 43) == before and ask(emulator, 19) == b"\0\0"
    assert len(emulator.advance(STEP_S, Bench())) == emulator.stream.size  # type: ignore[union-attr]


def test_a_world_does_not_move_before_the_robot_does() -> None:
    emulator, bench = robot(DRIVING)
    emulator.advance(60.0, bench)
    assert bench.log == []
    emulator.feed(oi.pwm_motors(0, 0, 1))
    emulator.advance(STEP_S, bench)
    emulator.feed(oi.HALT)
    emulator.advance(STEP_S, bench)
    assert len(bench.log) == 2  # and then it goes on, whatever the robot does


@pytest.mark.parametrize("packet", [*oi.PACKETS, *oi.GROUPS])
def test_every_packet_and_group_has_its_size(packet: int) -> None:
    emulator, _ = robot(oi.START)
    assert len(ask(emulator, packet)) == oi.packet_size(packet)
    assert len(emulator.feed(oi.query_list((packet, 35)))) == oi.packet_size(packet) + 1


def test_the_stream_is_byte_exact() -> None:
    emulator, bench = robot(DRIVING + oi.stream((35, 22, 23, 7)))
    bench.sensors = bench.sensors._replace(bump_left=True, bump_right=True)
    emulator.feed(oi.drive_direct(10, 10))
    # 15,000 mV is 58 152; 900 mA out of the battery is -900, 252 124; both bumpers 3.
    body = bytes((19, 10, 35, 2, 22, 58, 152, 23, 252, 124, 7, 3))
    assert emulator.advance(2 * STEP_S, bench) == 2 * (body + bytes((oi.checksum(body),)))
    emulator.feed(oi.PAUSE_STREAM)
    assert emulator.advance(1.5, bench) == b""
    emulator.feed(bytes((150, 1)))
    assert len(emulator.advance(STEP_S, bench)) == 13


def test_a_stream_that_does_not_fit_in_15_ms_is_not_obeyed() -> None:
    emulator, bench = robot(oi.START + bytes((148, 3, 100, 100, 106)))
    assert emulator.advance(STEP_S, bench) == b"" and emulator.num_rejected == 1


def test_songs_displays_and_schedule_are_taken_whole() -> None:
    emulator, bench = robot(DRIVING)
    emulator.feed(bytes((140, 1, 2, 60, 32, 62, 32, 141, 1)) + bytes((164, 72, 69, 76, 79)) + bytes((167, *range(15))))
    assert (ask(emulator, 36), ask(emulator, 37)) == (b"\x01", b"\x01")
    emulator.advance(1.05, bench)
    assert ask(emulator, 37) == b"\0"
    assert emulator.shown == {"digits": b"HELO", "schedule": bytes(range(15))}
    assert emulator.num_rejected == 0 and emulator._parser.num_unknown == 0


def test_reset_prints_the_boot_text_and_turns_the_interface_off() -> None:
    emulator, bench = robot(DRIVING + oi.stream((7,)))
    assert emulator.feed(b"\x07") == BANNER
    assert emulator.mode == oi.OFF and emulator.advance(STEP_S, bench) == b""


def test_passive_mode_sleeps_after_five_minutes_and_then_the_line_is_dead() -> None:
    emulator, bench = robot(oi.START + oi.stream((35,)))
    emulator.advance(299.985, bench)
    emulator.feed(b"\0")  # any byte keeps it awake
    assert len(emulator.advance(299.985, bench)) == 5 * 19_999
    emulator.advance(STEP_S, bench)
    assert emulator.asleep and emulator.feed(oi.START + oi.sensors(35)) == b""
    emulator.fault({"wake": True})
    assert emulator.feed(oi.START + oi.sensors(35)) == b"\x01"


def test_currents_follow_the_motors_and_share_what_the_battery_gives_above_rest() -> None:
    emulator, bench = robot(DRIVING)
    assert ask(emulator, 107)[:8] == bytes(8)
    for fan in (0, 60):
        emulator.feed(oi.drive_direct(300, 150) + oi.pwm_motors(50, 60, fan))
        bench.sensors = bench.sensors._replace(current_ma=1_900)
        emulator.advance(STEP_S, bench)
        left, right, brush, side = struct.unpack(">hhhh", ask(emulator, 107)[:8])
        assert left > right > 0 and brush > 0 and side > 0
        # The fan has no packet of its own: its share is what is missing.
        assert (left + right + brush + side == pytest.approx(1_000, abs=2)) == (fan == 0)


COMMANDS = st.sampled_from([oi.START, oi.SAFE_MODE, oi.FULL_MODE, oi.drive_direct(100, 90), oi.stream((7, 43, 106))])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), COMMANDS), max_size=20), st.lists(st.integers(1, 7), min_size=1))
def test_any_bytes_in_any_chunks_give_the_same_robot(pieces: list[bytes], sizes: list[int]) -> None:
    line = b"".join(pieces)
    whole, bench = robot(b"")
    parts, other = robot(b"")
    said = whole.feed(line)
    got, at, turn = b"", 0, 0
    while at < len(line):
        got += parts.feed(line[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    assert got == said
    assert parts.state() == whole.state()
    assert parts.advance(0.06, other) == whole.advance(0.06, bench)
    assert all(0 <= duty <= 100 for duty in whole.actuators[2:])
