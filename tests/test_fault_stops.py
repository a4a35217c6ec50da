"""The guard itself is killed or suspended while a robot drives: its second stops the wheels.

Once each, and however long a loaded machine takes; `python -m bench.fault_stops --times 50` holds the 500 ms.
"""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from bench.fault_stops import ROBOTS, cable_out, paced, stopped_after
from devices.emulate import free_room
from devices.home.plant import Home
from firmware_bridge import oi
from firmware_bridge.bridge_client import BridgeClient, reap, spawn
from firmware_bridge.ports import LinkDown, is_running
from firmware_bridge.transport import ask_clock, connect_clock


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_guard_that_is_killed_or_hangs_has_a_second(robot: str, tmp_path: Path) -> None:
    Home(free_room(), 0)  # compiled before anything is forked
    with paced(robot, tmp_path) as watched:
        for how in (signal.SIGKILL, signal.SIGSTOP):
            assert stopped_after(robot, watched, "guard", how, 0.1) < 10.0


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_guard_whose_second_is_killed_stops_the_robot_and_ends(tmp_path: Path) -> None:
    args = ("roomba", "--pty", str(tmp_path / "robot"), "--virtual", "--json")
    process = spawn("devices.emulate", *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        address = json.loads(process.stdout.readline())["address"]
    client = BridgeClient(address, oi.HALT, 0.0)
    client.exchange(oi.START + oi.SAFE_MODE + oi.drive_direct(200, 200), client.now_s + 0.06, True)
    (second,) = children(client.process.pid)
    os.kill(second, signal.SIGTERM)  # of no effect: it ends with the guard
    client.exchange(b"", client.now_s + 0.06, True)
    os.kill(second, signal.SIGKILL)
    with pytest.raises(LinkDown, match="watches the guard"):
        for _ in range(1000):
            client.exchange(b"", client.now_s + 0.06, True)
    client.process.wait(30)
    with connect_clock(address) as watcher:
        assert json.loads(ask_clock(watcher, b"s", 0, 0, b"")[2])["actuators"] == [0, 0, 0, 0, 0]
    client.close()
    again = BridgeClient(address, oi.HALT, 0.0)  # the port is free
    (second,) = children(again.process.pid)
    again.close()
    assert not is_running(second)
    process.terminate()
    reap(process)


def test_what_no_host_can_stop() -> None:
    assert cable_out("neato", 300, 0.1) <= 0.151
    assert cable_out("roomba", 300, 0.1) > 2.0
