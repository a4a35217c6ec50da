"""The Roomba driver over its emulator: what it sends, what it reads back, and every way a run can end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from devices.device import Device, DeviceError, LinkLost, Refused
from devices.emulate import free_room
from devices.home.planners import SIDE_BRUSH
from devices.home.simulate import simulate
from devices.home.types import Context, Outcome, Settings
from devices.roomba import ENDED, FAILED, LOST_S, PACKETS, STARTED, Roomba, _wrapped, open_device
from firmware_bridge import oi
from firmware_bridge.bridge_client import reap, spawn
from firmware_bridge.ports import is_running
from firmware_bridge.transport import ask_clock, connect_clock

SETTINGS = Settings(fan=60, brush=50, speed=300, passes=1, pattern="lanes", edge=False)
CONTEXT = replace(free_room(), run_limit_s=60.0)


def with_stairs(context: Context) -> Context:
    """A drop in the middle of the room's upper half."""
    rows = list(context.plan.rows)
    for row in range(10, 15):
        rows[row] = "#" + "a" * 15 + "!" * 20 + "a" * 15 + "#"
    return replace(context, plan=replace(context.plan, rows=tuple(rows)))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator in virtual time for all tests that leave it alive."""
    process, path = start_emulator(tmp_path_factory.mktemp("roomba") / "robot")
    yield path
    process.terminate()
    reap(process)


def start_emulator(path: Path) -> tuple["subprocess.Popen[bytes]", str]:
    args = ("roomba", "--pty", str(path), "--virtual", "--json")
    process = spawn("devices.emulate", *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        return process, json.loads(process.stdout.readline())["address"]


@pytest.fixture
def robot(address: str) -> Iterator[Roomba]:
    """The driver, opened; whatever was broken is mended afterwards."""
    device = Roomba(address)
    device.open()
    yield device
    device.close()
    ask(address, b"f", {"wheel_drop": 0, "overcurrents": 0, "mode_byte": None, "mute": False})


def ask(address: str, kind: bytes, payload: dict[str, object]) -> dict[str, Any]:
    """The emulator's side channel, beside any session."""
    with connect_clock(address) as watcher:
        return dict(json.loads(ask_clock(watcher, kind, 0, 0, json.dumps(payload).encode())[2]))


def fault(device: Roomba, **changes: object) -> None:
    ask(device.address, b"f", changes)


def run(device: Roomba, context: Context = CONTEXT, settings: Settings = SETTINGS, replicate: int = 0) -> Outcome:
    device.prepare(context, replicate)
    device.start(settings)
    while not device.advance().done:
        pass
    return device.finish()


def test_it_is_a_device_with_its_rung(robot: Roomba) -> None:
    as_device: Device = robot
    assert (as_device.name, as_device.rung) == ("roomba", "emulator")


@pytest.mark.parametrize("address", [None, "", "ttyUSB0", "COM3"])
def test_an_address_that_is_none_is_refused_before_anything_opens(address: str | None) -> None:
    with pytest.raises(ValueError, match="roomba:emulator"):
        open_device(address)


def test_the_start_is_one_write_and_the_transcript_is_the_manuals(address: str) -> None:
    log: list[tuple[str, bytes]] = []
    device = Roomba(address, tap=lambda way, now_s, data: log.append((way, data)))
    device.open()
    device.prepare(CONTEXT, 0)
    sent = [data for way, data in log if way == "sent"]
    assert sent == [oi.START + oi.stream(PACKETS) + oi.SAFE_MODE]  # nothing that could move it
    log.clear()
    readback = device.start(SETTINGS)
    sent = [data for way, data in log if way == "sent"]
    head = oi.HALT + oi.SAFE_MODE + oi.pwm_motors(50, SIDE_BRUSH, 60) + STARTED
    assert sent[0][: len(head)] == head and sent[0][len(head)] == 145 and len(sent[0]) == len(head) + 5
    assert all(len(data) == 5 and data[0] == 145 for data in sent[1:])
    assert readback.settings == SETTINGS
    assert readback.how == {
        "fan": "inferred",
        "brush": "inferred",
        "speed": "read back",
        "passes": "inferred",
        "pattern": "inferred",
        "edge": "inferred",
    }
    assert device.emulator_state()["actuators"][2:] == [60, 50, SIDE_BRUSH]  # type: ignore[index]
    device.close()
    assert log[-1][1].endswith(oi.PAUSE_STREAM + oi.STOP_OI) or log[-1][0] == "came"


def test_a_motor_that_does_not_show_is_not_called_read_back(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    how = robot.start(replace(SETTINGS, fan=0, brush=0)).how
    assert (how["fan"], how["brush"]) == ("not readable", "not readable")


@pytest.mark.parametrize("pattern", ["lanes", "spiral", "wall"])
@pytest.mark.parametrize("stairs", [False, True])
def test_an_emulated_run_is_the_simulators_run(robot: Roomba, pattern: str, stairs: bool) -> None:
    context = replace(with_stairs(free_room()) if stairs else free_room(), run_limit_s=240.0)
    settings = replace(SETTINGS, pattern=pattern, edge=True)  # type: ignore[arg-type]
    truth = simulate(context, settings, 3)
    measured = run(robot, context, settings, 3)
    assert measured.end == truth.end
    assert measured.z[5] == truth.z[5] and measured.z[2] == pytest.approx(truth.z[2], abs=1e-9)
    assert (abs(measured.z - truth.z) <= 2 * measured.error).all()  # a bound for 95% of runs, not for each
    assert measured.reproducibility is not None and (measured.reproducibility == measured.error).all()
    assert (robot.num_reverts > 0) == stairs
    assert (robot.num_garbage, robot.num_odd_modes, robot.message) == (0, 0, "")


def test_the_same_run_again_gives_the_same_outcome(robot: Roomba) -> None:
    """Odometry, meter and session are as new for each run, whatever was before."""
    first, second = run(robot, replicate=2), run(robot, replicate=2)
    assert first.z.tobytes() == second.z.tobytes()


def test_progress_is_at_most_a_second_a_call(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    before = robot.advance()
    after = robot.advance()
    assert 0.5 < after.elapsed_s - before.elapsed_s <= 1.0
    assert 0.0 < before.fraction < after.fraction < 1.0 and not after.done
    robot.stop()
    assert robot.advance().done and robot.finish().end == "stopped"


def test_stop_from_another_thread_ends_the_run_and_nothing_moves_after_it(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    thread = threading.Thread(target=robot.stop)
    thread.start()
    while not robot.advance().done:
        pass
    thread.join()
    robot.stop()
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0]
    assert robot.finish().end == "stopped"
    assert run(robot).end == "run_limit"  # a deliberate start arms it again


def test_an_empty_battery_is_refused(robot: Roomba) -> None:
    robot.prepare(replace(CONTEXT, battery=0.2, battery_floor=0.2), 0)
    with pytest.raises(Refused, match="charge it"):
        robot.start(SETTINGS)
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0]


def test_a_robot_on_its_charger_is_refused(robot: Roomba) -> None:
    frame = robot._last
    assert frame is not None
    for on_charger in (frame._replace(sources=2), frame._replace(charging=2)):
        with pytest.raises(Refused, match="charger"):
            robot._check(on_charger, SETTINGS, CONTEXT)


def test_settings_beyond_the_robot_are_refused(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    with pytest.raises(Refused, match="500 mm/s"):
        robot.start(replace(SETTINGS, speed=501))


def test_a_wheel_that_hangs_is_refused_before_and_a_fault_during_a_run(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    fault(robot, wheel_drop=2)
    with pytest.raises(Refused, match="floor"):
        robot.start(SETTINGS)
    fault(robot, wheel_drop=0)
    robot.start(SETTINGS)
    robot.advance()
    fault(robot, wheel_drop=2)
    assert robot.advance().done and "floor" in robot.message
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0]
    assert robot.finish().end == "fault"


def test_a_button_that_ends_safe_mode_is_a_fault_not_a_restart(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    assert robot._line._client is not None
    robot._line._client.write(oi.START)  # what the robot's own CLEAN button does: passive mode
    assert robot.advance().done
    assert robot.finish().end == "fault" and "passive" in robot.message


def test_a_run_tells_by_light_and_sound_how_it_stands(address: str) -> None:
    log: list[bytes] = []
    device = Roomba(address, tap=lambda way, now_s, data: log.append(data) if way == "sent" else None)
    device.open()
    run(device)
    assert sum(STARTED in data for data in log) == sum(ENDED in data for data in log) == 1
    assert not any(FAILED in data for data in log)
    device.prepare(CONTEXT, 0)
    device.start(SETTINGS)
    fault(device, wheel_drop=1)
    device.advance()
    fault(device, wheel_drop=0)
    assert log[-1] == oi.HALT + FAILED
    device.close()


def test_firmware_that_counts_distance_wrong_changes_nothing(robot: Roomba) -> None:
    """Before 3.3 the packets of distance and angle are wrong: the driver goes by the encoders."""
    right = run(robot, replicate=4)
    fault(robot, firmware="3.2")
    assert run(robot, replicate=4).z.tobytes() == right.z.tobytes()
    fault(robot, firmware="3.8")


@pytest.mark.parametrize(
    ("pattern", "passes", "what"), [("house", 1, "clean"), ("house", 2, "max"), ("spot", 1, "spot")]
)
def test_a_cleaning_of_its_own_is_begun_watched_and_ended(robot: Roomba, pattern: str, passes: int, what: str) -> None:
    settings = replace(SETTINGS, pattern=pattern, passes=passes)  # type: ignore[arg-type]
    robot.prepare(replace(CONTEXT, run_limit_s=300.0 if what == "spot" else 60.0), 0)
    how = robot.start(settings).how
    assert how["pattern"] == "inferred" and how["fan"] == "not readable"
    state = robot.emulator_state()
    assert (state["cleaning"], state["mode"]) == (what, oi.PASSIVE)
    while not robot.advance().done:
        pass
    outcome = robot.finish()
    assert outcome.reproducibility is None
    assert outcome.end == ("finished" if what == "spot" else "run_limit") and outcome.z[1] > 5 and outcome.z[4] > 0.1
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0] and robot.message == ""
    robot.prepare(CONTEXT, 0)
    robot.start(settings)
    robot.stop()
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0]


def test_a_jammed_brush_is_a_fault_after_a_second(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    fault(robot, overcurrents=4)
    assert not robot.advance().done
    assert robot.advance().done and "main brush" in robot.message
    assert robot.finish().end == "fault"


def test_a_robot_that_does_not_take_the_start_is_refused(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    fault(robot, mode_byte=4)
    with pytest.raises(Refused, match="mode 4"):
        robot.start(SETTINGS)
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0]


def test_noise_and_odd_mode_bytes_are_counted_and_nobodys_error(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    fault(robot, noise=b"Flash CRC ok\r\nbattery-current-zero 252\r\n".hex() + "133e07", mode_byte=4)
    robot.advance()
    fault(robot, mode_byte=None)
    assert not robot.advance().done
    assert robot.num_garbage == 43 and robot.num_odd_modes == 16


def test_a_line_that_falls_silent_stops_the_wheels_and_then_the_run(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    robot.advance()
    fault(robot, mute=True)
    robot.advance()
    assert robot._run is not None and robot._run.stale
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0]  # it could hear us all the time
    with pytest.raises(LinkLost, match="silent"):
        for _ in range(round(LOST_S) + 1):
            robot.advance()
    with pytest.raises(LinkLost):
        robot.prepare(CONTEXT, 0)
    assert robot.advance().done and robot.finish().end == "fault"
    with pytest.raises(LinkLost, match="wake"):
        robot.open()


def test_a_short_silence_is_ridden_out(robot: Roomba) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    fault(robot, mute=True)
    robot.advance()
    fault(robot, mute=False)
    progress = robot.advance()
    assert not progress.done and robot.emulator_state()["actuators"][2:] == [60, 50, SIDE_BRUSH]  # type: ignore[index]
    assert robot.finish().z[2] == pytest.approx(progress.elapsed_s / 60)  # the gap is part of the time


def test_a_second_driver_is_refused_with_the_pid(robot: Roomba, address: str) -> None:
    with pytest.raises(Refused, match=f"process {os.getpid()}") as refusal:
        Roomba(address).open()
    assert "\n" not in str(refusal.value)


def test_an_emulator_that_is_killed_is_a_lost_link_until_it_is_back(tmp_path: Path) -> None:
    process, path = start_emulator(tmp_path / "robot")
    device = Roomba(path)
    device.open()
    device.prepare(CONTEXT, 1)
    device.start(SETTINGS)
    device.advance()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(LinkLost):
        device.advance()
    device.stop()
    assert device.advance().done and device.finish().end == "fault"
    with pytest.raises(LinkLost):
        device.open()
    process, _ = start_emulator(tmp_path / "robot")
    device.open()
    assert device.emulator_state()["actuators"] == [0, 0, 0, 0, 0]  # nothing is armed by itself
    with pytest.raises(Refused):
        device.start(SETTINGS)  # the stop holds until the next run is prepared
    device.prepare(CONTEXT, 1)
    device.start(SETTINGS)  # armed again, in the same context
    while not device.advance().done:
        pass
    assert device.finish().z[5] == simulate(CONTEXT, SETTINGS, 1).z[5]
    device.close()
    process.terminate()
    reap(process)


def test_our_own_emulator_is_started_and_ended_with_the_device() -> None:
    device = open_device("emulator")
    assert device.rung == "emulator"
    device.stop()  # before anything is open
    with pytest.raises(DeviceError):
        device.prepare(CONTEXT, 0)
    device.open()
    device.prepare(CONTEXT, 0)
    device.start(SETTINGS)
    emulator, client = device._line._emulator, device._line._client
    assert emulator is not None and client is not None
    emulator.kill()
    with pytest.raises(LinkLost):
        while not device.advance().done:
            pass
    with pytest.raises(LinkLost, match="close the robot"):
        device.open()
    device.close()
    device.close()
    assert emulator.returncode is not None and client.process.returncode is not None  # waited for: no zombies
    assert not is_running(emulator.pid) and not is_running(client.process.pid)
    device.open()
    device.close()


SESSION = """
import sys, time
from devices.emulate import free_room
from devices.home.types import Settings
from devices.roomba import Roomba
robot = Roomba(sys.argv[1])
robot.open()
robot.prepare(free_room(), 0)
robot.start(Settings(60, 50, 300, 1, "lanes", False))
robot.advance()
print("moving", flush=True)
time.sleep(600)
"""


def test_a_session_killed_in_a_run_leaves_a_robot_that_stands(address: str) -> None:
    command = [sys.executable, "-c", SESSION, address]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None and session.stdout.readline() == "moving\n"
        assert ask(address, b"s", {})["requested"] != [0, 0, 0, 0]
        session.kill()
    until = time.monotonic() + 30.0  # a time-out of the test, not a claim about latency
    while ask(address, b"s", {})["actuators"] != [0, 0, 0, 0, 0] and time.monotonic() < until:
        time.sleep(0.02)
    state = ask(address, b"s", {})
    assert (state["requested"], state["actuators"]) == ([0, 0, 0, 0], [0, 0, 0, 0, 0])


def test_a_robot_that_fell_asleep_is_woken(robot: Roomba, address: str) -> None:
    assert robot._line._client is not None
    robot._line._client.write(oi.START + oi.PAUSE_STREAM)
    robot._line._client.wait_until(robot._line._client.now_s + 301.0)
    assert ask(address, b"s", {})["asleep"]
    robot.open()
    assert run(robot).end == "run_limit"


@pytest.fixture(params=["pty", "tcp"])
def paced(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """An emulator on the wall clock: to the driver as good as hardware."""
    where = ("--pty", str(tmp_path / "robot")) if request.param == "pty" else ("--tcp", "127.0.0.1:0")
    process = spawn("devices.emulate", "roomba", "--json", *where, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        yield json.loads(process.stdout.readline())["address"], process
    process.terminate()
    reap(process)


def test_on_the_wall_clock_the_driver_is_the_same(paced: tuple[str, "subprocess.Popen[bytes]"]) -> None:
    address, process = paced
    device = Roomba(address, heartbeat_s=10.0)  # a loaded machine is not the matter here
    device.open()
    assert device.rung == "emulator"
    device.prepare(CONTEXT, 0)
    assert device.start(SETTINGS).how["speed"] == "read back"
    progress = device.advance()
    assert not progress.done and 0.5 < progress.elapsed_s < 30.0
    device.stop()
    assert device.advance().done
    outcome = device.finish()
    assert outcome.end == "stopped" and outcome.z[2] * 60 == pytest.approx(progress.elapsed_s, abs=0.2)
    device.prepare(CONTEXT, 0)
    device.start(SETTINGS)
    process.kill()
    with pytest.raises(LinkLost):
        while not device.advance().done:
            pass
    device.close()


def test_on_the_wall_clock_a_silent_session_is_stopped(paced: tuple[str, "subprocess.Popen[bytes]"]) -> None:
    address, _ = paced
    device = Roomba(address, heartbeat_s=1.0)
    device.open()
    device.prepare(CONTEXT, 0)
    device.start(SETTINGS)
    assert device._line._client is not None
    device._line._client.process.wait(30.0)  # nobody calls advance: the guard stops the robot, lets go and ends
    with pytest.raises(LinkLost, match="silent"):
        device.advance()
    device.open()
    device._listen(0.3)
    assert device._last is not None and (device._last.left_mm_s, device._last.right_mm_s) == (0, 0)
    assert device._last.brush_ma == 0
    device.close()


@pytest.mark.parametrize(("before", "after", "way"), [(65_530, 4, 10), (4, 65_530, -10), (7, 7, 0), (0, 68, 68)])
def test_encoders_that_wrap_both_ways(before: int, after: int, way: int) -> None:
    assert _wrapped(after - before) == way
