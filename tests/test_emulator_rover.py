"""The rover's real firmware in simavr: the loop through its pins, and what no fault may bring about.

Everything is asserted on the chip's own clock. The long runs are `python -m bench.rover`.
"""

import argparse
import json
import math
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.rover_chip import Desk, hang, over_a_bad_line, silences, stamped_drive
from devices import emulate
from devices.emulate import free_room
from devices.home.plant import MM_PER_COUNT, Home
from firmware_bridge import rover_build
from firmware_bridge.emulators.rover import Emulator
from firmware_bridge.framing import Parser, encode
from firmware_bridge.messages import BY_NAME, CONTROL_MS, DEAD_MAN_MS, Reason, State, Status, Switch, unpack
from firmware_bridge.plant import Actuators, Sensors
from firmware_bridge.rover_build import missing
from firmware_bridge.rover_chip import CYCLES_A_MS
from firmware_bridge.rover_link import STOP, Link, Telemetry

pytestmark = pytest.mark.skipif(
    bool(missing("emulator")), reason="no avr-gcc or simavr: the rover's emulator is left out, see docs/rover.md"
)


class Rolling:
    """A plant without walls: wheels turn as they are driven."""

    def __init__(self, **sensors: int) -> None:
        self.driven: list[Actuators] = []
        self.still = Sensors(False, False, False, False, 0, 0, 0, 15_000, 900, 2_600, 2_600, 25, False)._replace(
            **sensors
        )
        self._mm = [0.0, 0.0]

    def advance(self, dt_s: float, actuators: Actuators) -> Sensors:
        if dt_s:
            self.driven.append(actuators)
        self._mm[0] += actuators.left_mm_s * dt_s
        self._mm[1] += actuators.right_mm_s * dt_s
        left, right = (int(mm // MM_PER_COUNT) for mm in self._mm)
        return self.still._replace(left_counts=left, right_counts=right)

    def scan(self, num_rays: int) -> list[float]:
        return [9.0] * num_rays

    def instruments(self) -> dict[str, float]:
        return {}


class Host:
    """A session with an emulator in ticks of 60 ms."""

    def __init__(self, plant: Rolling | Home, arm: bool = True) -> None:
        self.robot, self.plant, self.link = Emulator(), plant, Link(5)
        self.now_s = 0.0
        self.tick(self.link.hello())
        if arm:
            assert self.link.telemetry is not None
            assert self.say("arm", latch=self.link.telemetry["latch"]) == Status.DONE

    def tick(self, data: bytes = b"") -> list[Telemetry]:
        self.robot.feed(data)
        self.now_s += 0.06
        return self.link.feed(self.robot.advance(0.06, self.plant), self.now_s)

    def say(self, name: str, **values: int) -> Status | None:
        number, data = self.link.command(name, self.now_s, **values)
        self.tick(data)
        return self.link.results.get(number)

    def drive(self, left: int, right: int, fan: int = 0, brush: int = 0, side_brush: int = 0) -> Telemetry:
        status = self.say("drive", left_mm_s=left, right_mm_s=right, fan=fan, brush=brush, side_brush=side_brush)
        assert status == Status.DONE and self.link.telemetry is not None
        return self.link.telemetry


def test_a_command_moves_the_plant_in_its_tick_and_exactly_as_it_says() -> None:
    plant = Rolling()
    host = Host(plant)
    assert plant.driven == []  # a world begins to run with the first motion in it
    commands = [(500, -500), (1, -1), (333, 211), (-150, -150), (7, 0), (0, 499)]
    for left, right in commands:
        for fan, brush in ((100, 1), (37, 63)):
            told = host.drive(left, right, fan, brush, 60)
            assert (told["left_mm_s"], told["right_mm_s"], told["fan"], told["brush"]) == (left, right, fan, brush)
            assert plant.driven[-4:] == [Actuators(left, right, fan, brush, 60)] * 4
    # The counts of the tick's last step are in the tick's last telemetry.
    expected = [0.06 * 2 * sum(each[wheel] for each in commands) / MM_PER_COUNT for wheel in (0, 1)]
    assert (told["left_counts"], told["right_counts"]) == tuple(math.floor(counts) for counts in expected)
    assert host.link.num_gaps == host.link.num_bad == 0


def test_levels_and_switches_come_through_the_pins() -> None:
    host = Host(Rolling(voltage_mv=14_377, current_ma=2_345, dirt=201), arm=False)
    (*_, told) = host.tick()
    assert abs(told["voltage_mv"] - 14_377) <= 10 and abs(told["current_ma"] - 2_345) <= 2 and told["dirt"] == 201
    assert 300 < told["sound"] < 400  # 35 dB(A) of an idle robot
    for bits, name in enumerate(["", "BUMP_LEFT", "BUMP_RIGHT"]):
        host.robot.fault({"switches": bits})
        (*_, told) = host.tick()
        assert told["switches"] == (Switch[name] if name else 0)
    host.robot.fault({"switches": 12})
    (*_, told) = host.tick()
    assert told["switches"] == Switch.CLIFF | Switch.WALL


def test_encoders_turn_both_ways() -> None:
    host = Host(Rolling())
    for _ in range(5):
        host.drive(300, -300)
    for _ in range(10):
        told = host.drive(-300, 300)
    assert told["left_counts"] == math.floor(-0.3 * 300 / MM_PER_COUNT) and told["right_counts"] == math.floor(
        0.3 * 300 / MM_PER_COUNT
    )


def test_the_wheels_control_makes_up_for_weak_motors() -> None:
    plant = Rolling()
    host = Host(plant)
    host.robot.fault({"gains": [0.8, 1.0]})
    for _ in range(40):
        host.drive(300, 300)
    last = plant.driven[-1]
    assert abs(last.left_mm_s - 300) <= 12 and last.right_mm_s == 300


def test_reflexes_act_in_the_chip_before_the_host_knows() -> None:
    plant = Rolling()
    host = Host(plant)
    host.drive(300, 300)
    host.robot.fault({"switches": 4})
    host.drive(300, 300)
    assert [each.left_mm_s for each in plant.driven[-4:]] == [0] * 4
    host.drive(-150, -150)
    assert plant.driven[-1].left_mm_s == -150


def test_a_restart_is_a_new_boot_with_the_motors_off() -> None:
    plant = Rolling()
    host = Host(plant)
    boot = host.link.boot
    host.drive(300, 300, 50, 50, 50)
    host.robot.fault({"reset": True})
    for _ in range(4):
        _, data = host.link.command("drive", host.now_s, left_mm_s=300, right_mm_s=300, fan=9, brush=9, side_brush=9)
        host.tick(data)
    assert host.link.restarted and plant.driven[-1] == Actuators(0, 0, 0, 0, 0)
    host.link = Link(6)
    host.tick(host.link.hello())
    assert host.link.boot == boot + 1 and host.link.telemetry is not None
    assert host.link.telemetry["state"] == State.DISARMED
    # And it takes its place beside the host's ticks again.
    host.say("arm", latch=host.link.telemetry["latch"])
    host.drive(200, 200)
    assert [each.left_mm_s for each in plant.driven[-4:]] == [200] * 4


def test_a_stop_needs_no_session() -> None:
    host = Host(Home(free_room(), 0))
    host.drive(300, 300, 60, 60, 60)
    (*_, told) = host.tick(STOP)
    assert (told["state"], told["reason"], told["left_mm_s"], told["fan"]) == (State.DISARMED, Reason.STOP, 0, 0)
    assert host.robot.state()["actuators"] == [0, 0, 0, 0, 0]


def test_the_dead_man_of_the_chip_is_in_time() -> None:
    """25 of the 1,000 silences of `python -m bench.rover silences`."""
    found = silences(25, seed=2)
    assert min(found) >= DEAD_MAN_MS - 2 and max(found) <= DEAD_MAN_MS + CONTROL_MS


def test_a_loop_that_hangs_is_reset_and_comes_back_stopped() -> None:
    desk = Desk("rover-hangs.elf")
    for after_ms in (20, 33, 51):
        off_ms, stayed = hang(desk, after_ms)
        assert off_ms < 140 and stayed
        assert desk.link.restarted
    desk.chip.run(desk.chip.cycle + 60 * CYCLES_A_MS)
    *_, last = Parser().feed(desk.chip.take())
    assert unpack(BY_NAME["telemetry"], last.payload)["reason"] == Reason.WATCHDOG


def test_the_same_calls_give_the_same_bytes_in_the_same_cycles() -> None:
    first = stamped_drive(seed=4)
    assert first == stamped_drive(seed=4) == stamped_drive(seed=4)
    assert first != stamped_drive(seed=5)


def test_nothing_wrong_comes_of_a_bad_line() -> None:
    """A short run of `python -m bench.rover chip`."""
    found = over_a_bad_line(600, seed=7)
    assert found.obeyed > 300
    assert (found.not_sent, found.twice, found.moved_after_stop, found.deaf) == (0, 0, 0, 0)


def test_a_machine_without_the_packages_is_told_which(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(rover_build.NEEDS, "emulator", (("/nonexistent", "gcc-avr"), ("/nonexistent", "simavr")))
    parser = argparse.ArgumentParser()
    emulate.add_arguments(parser)
    assert emulate.run(parser.parse_args(["rover", "--pty", str(tmp_path / "robot")])) == 2
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1 and "apt-get install gcc-avr simavr" in told.err


def test_the_command_line_serves_a_foreign_client() -> None:
    import serial

    command = [sys.executable, "-m", "cli.main", "devices", "emulate", "rover", "--json", "--tcp", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["device"] == "rover"
        parser = Parser()
        frames = []
        with serial.serial_for_url(told["address"], timeout=20) as port:
            port.write(encode(BY_NAME["stop"].id, 0, 3, b""))
            while len(frames) < 40:
                frames += parser.feed(port.read(45))
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    numbers = np.array([frame.sequence for frame in frames])
    assert (np.diff(numbers) == 1).all() and parser.counts.bad <= 1  # it may begin in the middle of a frame
    acks = [unpack(BY_NAME["ack"], frame.payload) for frame in frames if frame.id == BY_NAME["ack"].id]
    assert [ack["of"] for ack in acks] == [3]
