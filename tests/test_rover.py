"""The rover's driver over its emulator: what it sends, what it reads back, and every way a run can end."""

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.device import Device, LinkLost, Refused
from devices.emulate import free_room
from devices.home.planners import SIDE_BRUSH
from devices.home.power import battery_step, fill_at
from devices.home.simulate import simulate
from devices.home.types import Context, Outcome, Settings
from devices.rover import LOST_S, TICK_S, Rover, open_device
from firmware_bridge import messages
from firmware_bridge.bridge_client import reap, spawn
from firmware_bridge.framing import Parser, encode
from firmware_bridge.messages import BY_ID, BY_NAME, Status, pack, table_hash
from firmware_bridge.rover_build import missing
from firmware_bridge.rover_link import STOP, Link
from firmware_bridge.transport import ask_clock, connect_clock

pytestmark = pytest.mark.skipif(
    bool(missing("emulator")), reason="no avr-gcc or simavr: the rover's emulator is left out, see docs/rover.md"
)
SETTINGS = Settings(fan=60, brush=50, speed=300, passes=1, pattern="lanes", edge=False)
CONTEXT = replace(free_room(), run_limit_s=6.0)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator in virtual time for all tests that leave it alive."""
    process, path = start_emulator(tmp_path_factory.mktemp("rover") / "robot")
    yield path
    process.terminate()
    reap(process)


def start_emulator(path: Path) -> tuple["subprocess.Popen[bytes]", str]:
    args = ("rover", "--pty", str(path), "--virtual", "--json")
    process = spawn("devices.emulate", *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        return process, json.loads(process.stdout.readline())["address"]


@pytest.fixture
def robot(address: str) -> Iterator[Rover]:
    """The driver, opened; whatever was broken is mended afterwards."""
    device = Rover(address)
    device.open()
    yield device
    device.close()
    ask(address, b"f", {"switches": 0, "gains": [1.0, 1.0], "mute": False})


def ask(address: str, kind: bytes, payload: dict[str, object]) -> dict[str, Any]:
    """The emulator's side channel, beside any session."""
    with connect_clock(address) as watcher:
        return dict(json.loads(ask_clock(watcher, kind, 0, 0, json.dumps(payload).encode())[2]))


def run(device: Rover, context: Context = CONTEXT, settings: Settings = SETTINGS, replicate: int = 0) -> Outcome:
    device.prepare(context, replicate)
    device.start(settings)
    while not device.advance().done:
        pass
    return device.finish()


def actuators(device: Rover) -> object:
    """What the pins say once the line has brought what was sent."""
    device._exchange(b"", TICK_S)
    return device.emulator_state()["actuators"]


def sent(log: list[tuple[str, bytes]]) -> list[str]:
    """The names of the messages that went out."""
    parser = Parser()
    return [BY_ID[frame.id].name for way, data in log if way == "sent" for frame in parser.feed(data)]


def test_it_is_a_device_with_its_rung(robot: Rover) -> None:
    as_device: Device = robot
    assert (as_device.name, as_device.rung) == ("rover", "emulator")


@pytest.mark.parametrize("address", [None, "", "ttyUSB0", "COM3"])
def test_an_address_that_is_none_is_refused_before_anything_opens(address: str | None) -> None:
    with pytest.raises(ValueError, match="rover:emulator"):
        open_device(address)


def test_a_session_in_messages(address: str) -> None:
    log: list[tuple[str, bytes]] = []
    device = Rover(address, tap=lambda way, now_s, data: log.append((way, data)))
    identity = device.open()
    assert identity["protocol"] == f"{table_hash():08x}" and int(identity["boot"]) >= 1
    device.prepare(CONTEXT, 0)
    assert sent(log) == ["hello"]  # nothing that could move it
    log.clear()
    readback = device.start(SETTINGS)
    assert sent(log) == ["arm", "drive"]
    assert readback.settings == SETTINGS
    assert readback.how == {
        "fan": "read back",
        "brush": "read back",
        "speed": "read back",
        "passes": "inferred",
        "pattern": "inferred",
        "edge": "inferred",
    }
    assert device.emulator_state()["actuators"][2:] == [60, 50, SIDE_BRUSH]  # type: ignore[index]
    device.advance()
    log.clear()
    device.stop()
    device.finish()
    assert set(sent(log)) == {"stop"}
    device.close()


@pytest.mark.parametrize(("pattern", "stairs"), [("lanes", True), ("wall", False)])
def test_an_emulated_run_is_the_simulators_run(robot: Rover, pattern: str, stairs: bool) -> None:
    """Through bytes, pins and wheel control: the same bumps, the same time, the rest within what is stated."""
    rows = list(free_room().plan.rows)
    if stairs:  # ahead of the robot, a drop
        for row in range(10, 40):
            rows[row] = rows[row][:35] + "!!!!" + rows[row][39:]
    context = replace(free_room(), plan=replace(free_room().plan, rows=tuple(rows)), run_limit_s=30.0)
    settings = replace(SETTINGS, pattern=pattern, edge=True)  # type: ignore[arg-type]
    truth = simulate(context, settings, 3)
    measured = run(robot, context, settings, 3)
    assert measured.end == truth.end
    assert measured.z[5] == truth.z[5] and measured.z[2] == pytest.approx(truth.z[2], abs=1e-9)
    assert (abs(measured.z - truth.z) <= measured.error).all()
    assert (robot._link.num_bad, robot._link.num_gaps, robot.message) == (0, 0, "")


def test_the_same_run_again_gives_the_same_outcome(robot: Rover) -> None:
    first, second = run(robot, replicate=2), run(robot, replicate=2)
    assert first.z.tobytes() == second.z.tobytes()


def test_stop_from_another_thread_ends_the_run_and_nothing_moves_after_it(robot: Rover) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    thread = threading.Thread(target=robot.stop)
    thread.start()
    while not robot.advance().done:
        pass
    thread.join()
    robot.stop()
    assert actuators(robot) == [0, 0, 0, 0, 0]
    assert robot.finish().end == "stopped"
    assert run(robot).end == "run_limit"  # a deliberate start arms it again


def test_a_stop_from_elsewhere_ends_the_run(robot: Rover) -> None:
    """Whoever shares the line: a stop needs no session."""
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    robot._line.exchange(STOP, 0.0)
    assert robot.advance().done and robot.finish().end == "stopped"


def test_what_is_not_ready_is_refused(robot: Rover) -> None:
    robot.prepare(CONTEXT, 0)
    with pytest.raises(Refused, match="500 mm/s"):
        robot.start(replace(SETTINGS, speed=501))
    ask(robot._line.port, b"f", {"switches": 4})
    with pytest.raises(Refused, match="drop"):
        robot.start(SETTINGS)
    robot.prepare(replace(CONTEXT, battery=0.2, battery_floor=0.25), 0)
    ask(robot._line.port, b"f", {"switches": 0})
    with pytest.raises(Refused, match="charge it"):
        robot.start(SETTINGS)
    assert actuators(robot) == [0, 0, 0, 0, 0]


def test_a_restart_in_the_middle_of_a_run_is_a_fault_and_arms_nothing(robot: Rover) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    robot.advance()
    boot = robot._link.boot
    ask(robot._line.port, b"f", {"reset": True})
    while not robot.advance().done:
        pass
    assert robot.finish().end == "fault" and "restarted" in robot.message
    assert actuators(robot) == [0, 0, 0, 0, 0]
    assert run(robot).end == "run_limit"
    assert robot._link.boot == boot + 1


def test_the_dead_man_ends_a_run_of_a_host_that_was_held_up(robot: Rover) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    robot._line.exchange(b"", robot._line.now_s + 0.36)
    assert robot.advance().done
    assert robot.finish().end == "fault" and "300 ms" in robot.message


def test_a_rover_that_falls_silent_is_lost_and_stands_by_itself(robot: Rover) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    robot.advance()
    ask(robot._line.port, b"f", {"mute": True})
    began_s = robot._line.now_s
    with pytest.raises(LinkLost, match="silent"):
        while True:
            robot.advance()
    assert robot._line.now_s - began_s < LOST_S + 2 * TICK_S
    state = ask(robot._line.port, b"s", {})
    assert state["actuators"] == [0, 0, 0, 0, 0]
    ask(robot._line.port, b"f", {"mute": False})
    robot.open()
    assert run(robot).end == "run_limit"


def test_noise_on_the_line_is_nobodys_error(robot: Rover) -> None:
    robot.prepare(CONTEXT, 0)
    robot.start(SETTINGS)
    for _ in range(4):
        ask(robot._line.port, b"f", {"noise": "00ff01" * 30})
        robot.advance()
    while not robot.advance().done:
        pass
    assert robot.finish().end == "run_limit"
    assert robot._link.num_bad > 0 and robot.message == ""


def test_another_table_of_messages_says_what_to_flash(robot: Rover, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.rover.table_hash", lambda: 1)
    monkeypatch.setattr("firmware_bridge.rover_link.table_hash", lambda: 1)
    with pytest.raises(Refused, match="flash it with make"):
        robot.open()


def test_a_bad_line_costs_ticks_and_nothing_else(address: str) -> None:
    """Through the fault proxy, both ways: the run goes on, and what was obeyed was said."""
    device = Rover(f"fault://flip=0.001,drop=0.001,duplicate=0.01,seed=4/{address}")
    try:
        device.open()
        assert run(device).end == "run_limit"
        assert device._link.num_bad + device._link.num_gaps > 0 and device.message == ""
    finally:
        device.close()


def test_a_log_of_the_raw_traffic_replays(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALIB_TRAFFIC", str(tmp_path))
    outcomes = []
    for spec in (address, "replay://"):
        device = Rover(spec if spec == address else spec + str(next(tmp_path.iterdir())))
        device.open()
        outcomes.append(run(device).z.tobytes())
        device.close()
        monkeypatch.delenv("CALIB_TRAFFIC", raising=False)
    assert outcomes[0] == outcomes[1]


def test_an_emulator_that_dies_is_a_lost_link(tmp_path: Path) -> None:
    process, path = start_emulator(tmp_path / "robot")
    device = Rover(path)
    device.open()
    device.prepare(CONTEXT, 0)
    device.start(SETTINGS)
    process.send_signal(signal.SIGKILL)
    reap(process)
    with pytest.raises(LinkLost):
        while True:
            device.advance()
    device.close()


def test_the_link_knows_answers_gaps_and_restarts() -> None:
    """Pure: two ends without a line."""
    link = Link(session=8)

    def rover(name: str, number: int, boot: int = 3, **values: int) -> bytes:
        return encode(BY_NAME[name].id, boot, number, pack(name, **values))

    def telemetry(number: int, now_ms: int, boot: int = 3) -> bytes:
        zeros = dict.fromkeys((field.name for field in BY_NAME["telemetry"].fields), 0)
        return rover("telemetry", number, boot, **{**zeros, "now_ms": now_ms})

    link.feed(rover("welcome", 5, table=1, session=7, firmware=1, now_ms=0), 0.0)
    assert link.welcome is None  # an answer to somebody else's hello
    link.feed(rover("welcome", 6, table=table_hash(), session=8, firmware=1, now_ms=0), 0.0)
    assert link.fits and link.boot == 3
    assert len(link.feed(telemetry(7, 100) + telemetry(10, 160), 1.0)) == 2
    assert link.num_gaps == 2 and link.rover_ms(1.5) == 660
    number, data = link.command("beat", 1.5)
    (frame,) = Parser().feed(data)
    assert messages.unpack(BY_NAME["beat"], frame.payload)["until_ms"] == 910 and frame.boot == 3
    link.feed(rover("ack", 11, of=number, status=1, now_ms=0), 1.6)
    assert link.results == {number: Status.EXPIRED}
    assert link.feed(telemetry(0, 5, boot=4), 2.0) == [] and link.restarted


def test_charge_by_voltage_is_the_packs_own_curve() -> None:
    for share in np.linspace(0.02, 0.98, 13):
        charge, _, voltage, current = battery_step(share * 2600, 25.0, 12.0, False, 0.0)
        assert fill_at(voltage, current) == pytest.approx(charge / 2600, abs=1e-6)
