"""The guard that outlives its session: whatever ends the session, the robot's wheels stop."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_bridge import oi
from firmware_bridge.bridge_client import BridgeClient, reap, spawn
from firmware_bridge.ports import LinkDown, PortBusy, is_running
from firmware_bridge.transport import ask_clock, connect_clock

PACKETS = (7, 35, 41, 42)
DRIVING = oi.START + oi.SAFE_MODE + oi.stream(PACKETS) + oi.drive_direct(200, 180) + oi.pwm_motors(50, 50, 50)
PATIENCE_S = 30.0  # a time-out of the test, not a claim about latency


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Roomba emulator in virtual time that belongs to no session."""
    path = tmp_path_factory.mktemp("bridge") / "robot"
    args = ("roomba", "--pty", str(path), "--virtual", "--json")
    process = spawn("devices.emulate", *args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        yield json.loads(process.stdout.readline())["address"]
    process.terminate()
    reap(process)


def robot(address: str) -> dict[str, Any]:
    """What the emulated robot says of itself."""
    with connect_clock(address) as watcher:
        return dict(json.loads(ask_clock(watcher, b"s", 0, 0, b"")[2]))


def has_stopped(address: str) -> bool:
    """Wait for the wheels and all motors to stand."""
    until = time.monotonic() + PATIENCE_S
    while robot(address)["actuators"] != [0, 0, 0, 0, 0] and time.monotonic() < until:
        time.sleep(0.02)
    state = robot(address)
    return state["requested"] == [0, 0, 0, 0] and state["actuators"] == [0, 0, 0, 0, 0]


@contextlib.contextmanager
def driving(address: str, heartbeat_s: float = 0.0) -> Iterator[BridgeClient]:
    """A session in this process whose robot moves."""
    client = BridgeClient(address, oi.HALT, heartbeat_s)
    try:
        client.exchange(DRIVING, client.now_s + 0.06, True)
        assert robot(address)["requested"] == [0, 0, 180, 200]
        yield client
    finally:
        client.close()


SESSION = """
import sys, time
from firmware_bridge.bridge_client import BridgeClient
from firmware_bridge import oi
client = BridgeClient(sys.argv[1], oi.HALT, 0.0)
client.exchange(bytes.fromhex(sys.argv[2]), client.now_s + 0.06, True)
print(client.process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_session_that_is_killed_leaves_a_robot_that_stands(address: str, how: signal.Signals) -> None:
    command = [sys.executable, "-c", SESSION, address, DRIVING.hex()]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as session:
        assert session.stdout is not None
        guard = int(session.stdout.readline())
        assert robot(address)["actuators"] == [200, 180, 50, 50, 50]
        session.send_signal(how)
        session.wait(PATIENCE_S)
        assert has_stopped(address)
    until = time.monotonic() + PATIENCE_S
    while is_running(guard) and not is_zombie(guard) and time.monotonic() < until:
        time.sleep(0.02)
    assert not is_running(guard) or is_zombie(guard)  # an orphan's corpse is for the machine's first process
    # The port is free again.
    BridgeClient(address, oi.HALT, 0.0).close()


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def test_a_session_that_is_silent_while_the_robot_moves_is_stopped(address: str) -> None:
    with driving(address, heartbeat_s=0.2) as client:
        client.process.wait(PATIENCE_S)
        assert has_stopped(address)
        with pytest.raises(LinkDown, match="silent"):
            client.exchange(b"", client.now_s + 0.06, True)


def test_a_session_that_does_not_drive_may_be_silent(address: str) -> None:
    with driving(address, heartbeat_s=0.2) as client:
        client.exchange(oi.HALT, 0.0, False)
        time.sleep(0.6)
        client.exchange(b"", client.now_s + 0.06, False)


def test_sigterm_to_the_guard_stops_the_robot_without_any_session(address: str) -> None:
    with driving(address) as client:
        client.process.send_signal(signal.SIGINT)  # Ctrl-C is the session's affair
        client.process.send_signal(signal.SIGHUP)
        client.exchange(b"", client.now_s + 0.06, True)
        assert robot(address)["requested"] == [0, 0, 180, 200]
        client.process.send_signal(signal.SIGTERM)
        assert client.process.wait(PATIENCE_S) == 0
        assert has_stopped(address)
        with pytest.raises(LinkDown):
            client.exchange(b"", client.now_s + 0.06, True)


def test_nothing_slips_out_behind_a_stop_from_another_thread(address: str) -> None:
    with driving(address) as client:
        stopped = threading.Event()

        def stop() -> None:
            stopped.set()
            client.stop()

        thread = threading.Thread(target=stop)
        for tick in range(300):
            if tick == 100:
                thread.start()
            data = oi.drive_direct(100 + tick, 100)
            client.exchange(data, client.now_s + 0.06, True, lambda: not stopped.is_set())
        thread.join()
        assert has_stopped(address)


def test_an_answer_that_ctrl_c_left_unread_does_not_shift_the_rest(address: str) -> None:
    with driving(address) as client:
        now_s = client.now_s
        client._send(b"x", True, now_s + 0.06, b"")  # and here the interrupt came
        came = client.exchange(b"", now_s + 0.12, True)
        assert len(oi.StreamDecoder(PACKETS).feed(came)) == 8 and client.now_s == pytest.approx(now_s + 0.12)


def test_a_stop_from_a_signal_handler_comes_after_what_it_interrupts(address: str) -> None:
    answers = [True, False]  # the handler runs between the question and the sending
    with driving(address) as client:
        client.exchange(oi.drive_direct(300, 300), client.now_s + 0.06, True, lambda: answers.pop(0))
        client.exchange(b"", client.now_s + 0.06, False)
        assert has_stopped(address)


def test_a_second_session_is_refused_with_the_pid_of_the_first(address: str) -> None:
    with driving(address), pytest.raises(PortBusy, match=f"process {os.getpid()}") as refusal:
        BridgeClient(address, oi.HALT, 0.0)
    assert refusal.value.pid == os.getpid()


def test_the_line_is_relayed_byte_for_byte(address: str) -> None:
    log: list[tuple[str, bytes]] = []
    client = BridgeClient(address, oi.HALT, 0.0, tap=lambda way, now_s, data: log.append((way, data)))
    client.write(DRIVING)
    client.wait_until(client.now_s + 0.3)
    came = client.read()
    client.close()
    assert len(oi.StreamDecoder(PACKETS).feed(came)) == 20
    assert log[0] == ("sent", DRIVING) and b"".join(data for way, data in log if way == "came") == came


def test_close_is_idempotent_and_leaves_no_process(address: str) -> None:
    with driving(address) as client:
        client.close()
        client.close()
        client.stop()
        assert client.process.returncode == 0
        assert has_stopped(address)


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_guard_whose_second_is_killed_stops_the_robot_and_ends(address: str) -> None:
    with driving(address) as client:
        (second,) = children(client.process.pid)
        os.kill(second, signal.SIGTERM)  # of no effect: it ends with the guard
        client.exchange(b"", client.now_s + 0.06, True)
        os.kill(second, signal.SIGKILL)
        with pytest.raises(LinkDown, match="watches the guard"):
            for _ in range(1000):
                client.exchange(b"", client.now_s + 0.06, True)
        assert client.process.wait(PATIENCE_S) == 0 and has_stopped(address)


def test_a_guard_that_is_killed_is_replaced_by_its_second_for_three_last_words(address: str) -> None:
    with driving(address) as client:
        (second,) = children(client.process.pid)
        client.process.kill()
        assert has_stopped(address)
        until = time.monotonic() + PATIENCE_S
        while is_running(second) and not is_zombie(second) and time.monotonic() < until:
            time.sleep(0.02)
    BridgeClient(address, oi.HALT, 0.0).close()  # the port is free again


def test_the_guard_imports_little() -> None:
    """It stands before the robot moves: no numpy, no compiler, none of the lab's other layers."""
    code = "import sys, firmware_bridge.bridge, firmware_bridge.bridge_client; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    roots = {name.partition(".")[0] for name in modules}
    assert not roots & {"numpy", "numba", "scipy", "asyncio", "devices", "calib", "experiments", "cli"}
