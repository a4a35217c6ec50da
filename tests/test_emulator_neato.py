"""The emulated Neato as a client of the real one meets it: echo, tables, test mode, and every quirk that is known."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.emulate import free_room
from devices.home.plant import Home
from firmware_bridge import neato_console as console
from firmware_bridge.emulators.neato import Emulator
from firmware_bridge.plant import Actuators, Sensors

STILL = Sensors(False, False, False, False, 0, 0, 7, 15_000, 900, 1_300, 2_600, 25, False)


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
        left, right = int(self.left_mm // 0.444564), int(self.right_mm // 0.444564)
        return self.sensors._replace(left_counts=left, right_counts=right)

    def scan(self, num_rays: int) -> list[float]:
        return [1.0] * num_rays

    def instruments(self) -> dict[str, float]:
        return {}


def robot(*lines: str) -> tuple[Emulator, Bench]:
    emulator, bench = Emulator(), Bench()
    emulator.lay_out(bench)
    for line in lines:
        assert said(emulator, line) == []
    return emulator, bench


def said(emulator: Emulator, line: str) -> list[str]:
    """The lines of an answer, its echo and its end looked at and taken off."""
    came = emulator.feed(f"{line}\n".encode())
    assert came.startswith(f"{line}\r\n".encode()) and came.endswith(b"\r\n\x1a") and came.count(b"\x1a") == 1
    return came[:-1].decode().split("\r\n")[1:-1]


def values(emulator: Emulator, line: str) -> dict[str, str]:
    return console.table(said(emulator, line))


def test_commands_are_known_in_any_case_by_as_little_as_is_unique() -> None:
    emulator, _ = robot()
    assert said(emulator, "getch") == said(emulator, "GETCHARGER") == said(emulator, "GetCharger")
    assert said(emulator, "Get") == ["Ambiguous Cmd: 'Get'"] and said(emulator, "hover") == ["Unknown Cmd: 'hover'"]
    assert emulator.feed(b"\n") == b"\r\n\x1a"
    assert emulator.feed(b"GetTi") == b"" and emulator.feed(b"me\r\n") == b"GetTime\r\nSunday 0:00:00\r\n\x1a"
    listed = said(emulator, "Help")
    assert all(any(line.startswith(f"{name} - ") for line in listed) for name in console.COMMANDS)
    assert said(emulator, "help setmo") == [f"SetMotor - {console.COMMANDS['SetMotor']}"]


@pytest.mark.parametrize("command", sorted(console.COMMANDS))
def test_every_command_answers_and_some_in_test_mode_only(command: str) -> None:
    emulator, _ = robot()
    answer = said(emulator, command)
    assert (answer == ["TestMode must be on to use this command."]) == (command in console.TEST_MODE_ONLY)


def test_a_wheel_move_ends_by_itself_both_wheels_at_once() -> None:
    emulator, bench = robot("TestMode On", "SetMotor LWheelDist 100 RWheelDist 50 Speed 200")
    emulator.advance(0.495, bench)
    assert emulator.actuators[0] != 0
    emulator.advance(0.3, bench)
    assert emulator.actuators[:2] == (0, 0)
    left, right = emulator.state()["positions_mm"]
    assert left == pytest.approx(100, abs=0.5) and right == pytest.approx(50, abs=0.5)
    assert values(emulator, "GetMotors")["leftwheel_positioninmm"] in ("99", "100")
    said(emulator, "setmotor 30 30 100")  # plain numbers are left, right, speed
    emulator.advance(0.15, bench)
    said(emulator, "SetMotor LWheelDist -60 RWheelDist -60 Speed 100 Accel 100")  # takes the place of the one under way
    emulator.advance(2.0, bench)
    assert emulator.state()["positions_mm"][0] == pytest.approx(100 + 15 - 60, abs=0.5)


def test_a_turn_on_the_spot_goes_by_the_neatos_own_track() -> None:
    emulator, bench = robot("TestMode On", "SetMotor LWheelDist -195 RWheelDist 195 Speed 150")
    emulator.advance(1.5, bench)
    assert (bench.right_mm - bench.left_mm) / 235 == pytest.approx(2 * 195 / 248, abs=0.005)  # a right angle


def test_setmotor_0_0_0_is_ignored_and_disabled_wheels_stand() -> None:
    emulator, bench = robot("TestMode On", "SetMotor 500 500 100")
    assert said(emulator, "SetMotor 0 0 0") == [] == said(emulator, "SetMotor LWheelDist 0 RWheelDist 0 Speed 0")
    emulator.advance(0.3, bench)
    assert bench.log[-1][:2] == (100, 100)
    said(emulator, "SetMotor LWheelDisable RWheelDisable")
    assert emulator.actuators[:2] == (0, 0)
    said(emulator, "SetMotor 500 500 100")
    emulator.advance(0.3, bench)
    assert bench.log[-1][:2] == (0, 0)  # and until they are enabled again
    said(emulator, "SetMotor LWheelEnable RWheelEnable")
    said(emulator, "SetMotor 500 500 100")
    emulator.advance(0.3, bench)
    assert bench.log[-1][:2] == (100, 100)


def test_motors_take_what_the_manual_says_and_no_more() -> None:
    emulator, _ = robot("TestMode On")
    assert said(emulator, "SetMotor VacuumSpeed 60") == ["VacuumSpeed requires VacuumOn."]
    assert said(emulator, "SetMotor VacuumOn VacuumSpeed 101") == ["VacuumSpeed must be 1-100."]
    assert said(emulator, "SetMotor Brush RPM 700 VacuumOn") != [] != said(emulator, "SetMotor Brush 100 100 100")
    assert said(emulator, "SetMotor LWheelDist 100 RWheelDist 100") == ["Speed must be greater than 0."]
    assert said(emulator, "SetMotor Wings") != [] and said(emulator, "SetMotor RPM") != []
    assert emulator.actuators == (0, 0, 0, 0, 0)
    for line in ("SetMotor VacuumOn VacuumSpeed 60", "SetMotor Brush RPM 700", "SetMotor SideBrushOn"):
        assert said(emulator, line) == []
    assert emulator.actuators == (0, 0, 60, 50, 60)
    motors = values(emulator, "GetMotors")
    assert motors["brush_rpm"] == "700" and float(motors["vacuum_rpm"]) > 0
    for line in ("SetMotor VacuumOff", "SetMotor BrushDisable", "SetMotor SideBrushOff"):
        assert said(emulator, line) == []
    assert emulator.actuators == (0, 0, 0, 0, 0)


def test_it_drives_on_when_the_host_is_silent() -> None:
    """No dead man: with the cable out a move goes to its end, and a cleaning of its own goes on for half an hour."""
    emulator, bench = robot("TestMode On", "SetMotor VacuumOn", "SetMotor 10000 10000 100")
    emulator.advance(99.0, bench)
    assert bench.log[-1] == (100, 100, 70, 0, 0)
    emulator, bench = robot("Clean House")
    emulator.advance(1_800.0, bench)
    assert bench.log[-1][:2] != (0, 0) and bench.log[-1][2:] == (70, 100, 60)


def test_test_mode_off_ends_everything_also_a_normal_cleaning() -> None:
    emulator, bench = robot("TestMode On", "SetMotor VacuumOn", "SetMotor 500 500 100", "TestMode Off")
    assert emulator.actuators == (0, 0, 0, 0, 0)
    assert said(emulator, "SetMotor 100 100 100") == ["TestMode must be on to use this command."]
    emulator, bench = robot("Clean House")
    emulator.advance(3.0, bench)
    assert emulator.actuators != (0, 0, 0, 0, 0)
    assert said(emulator, "TestMode Off") == [] and emulator.actuators == (0, 0, 0, 0, 0)
    assert said(emulator, "GetState")[0].endswith("UIMGR_STATE_STANDBY")


def test_clean_stop_pauses_once_and_ends_twice() -> None:
    emulator, bench = robot("Clean")
    emulator.advance(3.0, bench)
    assert said(emulator, "GetState")[0].endswith("HOUSECLEANINGRUNNING")
    said(emulator, "Clean Stop")
    emulator.advance(0.015, bench)
    assert said(emulator, "GetState")[0].endswith("HOUSECLEANINGPAUSED") and emulator.actuators == (0, 0, 0, 0, 0)
    said(emulator, "Clean House")  # goes on
    emulator.advance(0.015, bench)
    assert emulator.actuators[2:] == (70, 100, 60)
    said(emulator, "Clean Stop")
    said(emulator, "Clean Stop")
    emulator.advance(0.015, bench)
    assert said(emulator, "GetState")[0].endswith("STANDBY") and emulator.actuators == (0, 0, 0, 0, 0)


def test_a_spot_ends_by_itself_and_eco_and_intense_exclude_each_other() -> None:
    emulator, bench = robot("SetUserSettings EcoMode ON", "Clean Spot")
    emulator.advance(0.015, bench)
    assert emulator.actuators[2] == 40
    emulator.advance(300.0, bench)
    assert not emulator.cleaning
    said(emulator, "setuser intense on")
    settings_now = values(emulator, "GetUserSettings")
    assert (settings_now["eco mode"], settings_now["intenseclean"]) == ("OFF", "ON")
    assert said(emulator, "SetUserSettings EcoMode maybe") == ["Value must be ON or OFF"]
    assert said(emulator, "SetUserSettings Wings ON") == ["Unknown setting: 'Wings'"]
    said(emulator, "Clean Spot")
    emulator.advance(0.015, bench)
    assert emulator.actuators[2] == 100


@pytest.mark.parametrize("mode", console.NAVIGATION_MODES)
def test_navigation_modes_change_how_the_house_is_driven(mode: str) -> None:
    home = Home(free_room(), 0)
    emulator = Emulator()
    emulator.lay_out(home)
    assert said(emulator, f"SetNavigationMode {mode}") == [] != said(emulator, "SetNavigationMode Turbo")
    said(emulator, "Clean House")
    emulator.advance(240.0, home)
    covered = home.cleaned().sum() * 0.0025
    low, high = {"Normal": (8, 16), "Gentle": (5, 11), "Deep": (4, 11), "Quick": (9, 20)}[mode]
    assert low < covered < high


def test_a_scan_sees_the_room() -> None:
    home = Home(free_room(), 0)  # 5 m square, the robot in the middle
    emulator = Emulator()
    emulator.lay_out(home)
    rays, turns_s = console.scan(said(emulator, "GetLDSScan"))
    assert len(rays) == 360 and turns_s == 0.0 and all(ray.error for ray in rays.values())
    said(emulator, "TestMode On")
    said(emulator, "SetLDSRotation On")
    rays, turns_s = console.scan(said(emulator, "GetLDSScan"))
    assert turns_s == 5.0 and len(rays) == 360 and not any(ray.error for ray in rays.values())
    for angle, distance_mm in ((0, 2500), (90, 2500), (180, 2500), (45, 3535), (27, 2806)):
        assert rays[angle].distance_mm == pytest.approx(distance_mm, rel=0.01)


def test_what_happens_to_a_robot_is_seen() -> None:
    emulator, bench = robot()
    bench.sensors = bench.sensors._replace(bump_left=True, cliff=True, docked=True, wall=True)
    emulator.lay_out(bench)
    digital, analog = values(emulator, "GetDigitalSensors"), values(emulator, "GetAnalogSensors")
    assert (digital["lfrontbit"], digital["rfrontbit"], digital["snsr_dc_jack_is_in"]) == ("1", "0", "1")
    assert float(analog["dropsensorleft"]) > 200 and float(analog["wallsensor"]) < 50
    charger = values(emulator, "GetCharger")
    assert (charger["fuelpercent"], charger["chargingactive"], charger["extpwrpresent"]) == ("50", "1", "1")
    emulator.fault({"error": "234 - Please clean my brush", "wheel_drop": 2, "bin_out": True})
    assert console.error_of(said(emulator, "GetErr")) == "234 Please clean my brush"
    assert said(emulator, "Clean House") == ["Cannot start cleaning."]
    said(emulator, "GetErr Clear")
    assert console.error_of(said(emulator, "GetErr")) == ""
    digital = values(emulator, "GetDigitalSensors")
    assert (digital["snsr_left_wheel_extended"], digital["snsr_dustbin_is_in"]) == ("1", "0")
    with pytest.raises(KeyError):
        emulator.fault({"wings": 1})


def test_some_robots_do_not_clean_with_a_usb_host() -> None:
    emulator, _ = robot()
    emulator.fault({"usb_refuses": True})
    assert said(emulator, "Clean House") == ["Cannot start cleaning."]
    assert "UI_ERROR_USB_CONNECTED" in console.error_of(said(emulator, "GetErr"))


def test_time_runs_and_a_shut_down_robot_is_silent() -> None:
    emulator, bench = robot("SetTime Day 1 Hour 13 Min 5")
    emulator.advance(61.5, bench)
    assert said(emulator, "GetTime") == ["Monday 13:06:01"]
    said(emulator, "TestMode On")
    said(emulator, "SetSystemMode Shutdown")
    assert emulator.feed(b"GetErr\n") == b""


@pytest.mark.parametrize("begun", ["", "SetMo", "SetMotor LWheelDist 150 RWheelDist 150 Spe", "Clean Ho"])
def test_halt_stops_whatever_runs_also_behind_a_half_sent_line(begun: str) -> None:
    for lines in (("TestMode On", "SetMotor VacuumOn", "SetMotor Brush RPM 900", "SetMotor 900 900 300"), ("Clean",)):
        emulator, bench = robot(*lines)
        emulator.advance(0.6, bench)
        assert emulator.actuators != (0, 0, 0, 0, 0)
        emulator.feed(begun.encode())
        emulator.feed(console.HALT)
        assert emulator.actuators == (0, 0, 0, 0, 0)
        emulator.advance(0.6, bench)
        assert emulator.actuators == (0, 0, 0, 0, 0)


COMMANDS = st.sampled_from(
    [b"TestMode On\n", b"SetMotor 100 80 100\n", b"Clean\n", b"GetMotors\n", b"SetMotor Brush\n"]
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=30), COMMANDS), max_size=15), st.lists(st.integers(1, 7), min_size=1))
def test_any_bytes_in_any_chunks_give_the_same_robot(pieces: list[bytes], sizes: list[int]) -> None:
    line = b"".join(pieces)
    whole, bench = robot()
    parts, other = robot()
    heard = whole.feed(line)
    got, at, turn = b"", 0, 0
    while at < len(line):
        got += parts.feed(line[at : at + sizes[turn % len(sizes)]])
        at, turn = at + sizes[turn % len(sizes)], turn + 1
    assert got == heard and parts.state() == whole.state()
    assert parts.advance(0.06, other) == whole.advance(0.06, bench) and parts.state() == whole.state()
    assert all(0 <= duty <= 100 for duty in whole.actuators[2:])
