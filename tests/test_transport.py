"""Transports: virtual time that repeats byte for byte, ports with one owner, emulators that vanish."""

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from emulators import emulator
from firmware_bridge import oi, ports
from firmware_bridge.transport import SerialTransport, VirtualTransport, ask_clock, connect_clock, open_transport

PACKETS = (7, 35, 41, 42, 43, 44)
DRIVING = oi.START + oi.SAFE_MODE + oi.stream(PACKETS) + oi.drive_direct(200, 180)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One in virtual time for all tests that leave it alive."""
    with emulator("--pty", str(tmp_path_factory.mktemp("transport") / "robot"), "--virtual") as (path, _):
        yield path


def run_of_a_minute(address: str) -> bytes:
    line = open_transport(address, os.getpid())
    assert isinstance(line, VirtualTransport)
    line.write(DRIVING)
    came = b""
    for tick in range(1, 1001):
        line.wait_until(tick * 0.06)
        came += line.read()
        line.write(oi.drive_direct(200, 100 + tick % 200))
    line.close()
    return came


def test_two_runs_in_virtual_time_give_the_same_bytes(tmp_path: Path) -> None:
    runs = []
    for name in ("a", "b"):
        with emulator("--pty", str(tmp_path / name), "--virtual", "--seed", "5") as (address, _):
            runs.append(run_of_a_minute(address))
    assert runs[0] == runs[1]
    assert len(oi.StreamDecoder(PACKETS).feed(runs[0])) == 4000


def test_time_stands_still_unless_asked_but_bytes_are_obeyed(address: str) -> None:
    line = open_transport(address, os.getpid())
    assert isinstance(line, VirtualTransport)
    began_s = line.now_s
    line.write(DRIVING)
    assert line.request(b"s", {})["requested"] == [0, 0, 180, 200]
    line.wait_until(began_s + 0.3)
    assert len(oi.StreamDecoder(PACKETS).feed(line.read())) == 20
    line.write(oi.HALT)
    state = line.request(b"s", {})
    assert state["actuators"] == [0, 0, 0, 0, 0] and state["now_s"] == line.now_s == pytest.approx(began_s + 0.3)
    assert "error" in line.request(b"p", {"context": {}}) and "error" in line.request(b"f", {"nonsense": 1})
    line.close()


def test_a_second_opener_is_refused_with_the_owners_pid(address: str) -> None:
    line = open_transport(address, 4242)
    for other in (address, os.path.realpath(address)):
        with pytest.raises(ports.PortBusy, match="process 4242") as refusal:
            SerialTransport(other, os.getpid())
        assert refusal.value.pid == 4242 and "\n" not in str(refusal.value)
    line.close()
    open_transport(address, os.getpid()).close()


def test_a_port_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    for address in (str(tmp_path / "none"), "socket://127.0.0.1:1", "nonsense://x"):
        with pytest.raises(ports.LinkDown) as problem:
            open_transport(address, os.getpid())
        assert "\n" not in str(problem.value)


def test_an_emulator_that_dies_is_a_pulled_cable(tmp_path: Path) -> None:
    path = str(tmp_path / "robot")
    with emulator("--pty", path, "--virtual") as (address, process):
        line = open_transport(address, os.getpid())
        line.write(DRIVING)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(ports.LinkDown):
            line.wait_until(line.now_s + 1.0)
        line.close()
        with pytest.raises(ports.LinkDown):
            open_transport(address, os.getpid())
    # Another one takes the dead one's place at the same path.
    with emulator("--pty", path, "--virtual") as (address, _):
        open_transport(address, os.getpid()).close()


def test_a_path_that_is_in_use_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "robot"
    path.write_text("mine")
    assert subprocess.run(command(path), capture_output=True).returncode == 2
    assert path.read_text() == "mine"
    with emulator("--pty", str(tmp_path / "other")) as (address, _):
        refused = subprocess.run(command(Path(address)), capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1


def command(path: Path) -> list[str]:
    import sys

    return [sys.executable, "-m", "devices.emulate", "roomba", "--pty", str(path)]


def frames_from(line: SerialTransport, num_frames: int) -> list[tuple[int, ...]]:
    decoder, frames = oi.StreamDecoder(PACKETS), []
    give_up_s = line.now_s + 30.0
    while len(frames) < num_frames and line.now_s < give_up_s:
        line.wait_until(line.now_s + 0.03)
        frames += decoder.feed(line.read())
    return frames


@pytest.mark.parametrize("kind", ["pty", "tcp"])
def test_a_paced_emulator_serves_one_client_after_another(kind: str, tmp_path: Path) -> None:
    args = ("--pty", str(tmp_path / "robot")) if kind == "pty" else ("--tcp", "127.0.0.1:0")
    with emulator(*args) as (address, process):
        assert ports.emulator_at(address)["pid"] == process.pid  # type: ignore[index]
        for _ in range(2):
            line = open_transport(address, os.getpid())
            assert isinstance(line, SerialTransport)
            line.write(DRIVING)
            frames = frames_from(line, 10)
            assert frames[-1][1:4] == (oi.SAFE, 180, 200)
            line.write(oi.STOP_OI)
            line.drain()
            line.close()
        process.terminate()
        assert process.wait(20) == 0
    assert not os.path.lexists(tmp_path / "robot") and ports.emulator_at(address) is None


def test_a_watcher_reads_the_state_beside_the_session(address: str) -> None:
    line = open_transport(address, os.getpid())
    line.write(DRIVING)
    line.wait_until(line.now_s + 0.6)
    with connect_clock(address) as watcher:
        now_us, _, state = ask_clock(watcher, b"s", 0, 0, b"")
    assert now_us == round(line.now_s * 1e6) and json.loads(state)["requested"] == [0, 0, 180, 200]
    with connect_clock(address) as stranger:  # somebody who speaks another language is let go
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(40))
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(100) == b""
    line.wait_until(line.now_s + 0.3)
    assert len(oi.StreamDecoder(PACKETS).feed(line.read())) == 60
    line.close()
