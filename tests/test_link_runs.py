"""Whole runs over every kind of line to a robot on the wall clock, two robots at once, and one that goes and comes."""

import contextlib
import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
import serial.rfc2217

from calib.control import ControlClient
from calib.errors import UserError
from calib.registry import RunnerEntry
from calib.runner import Runner
from cli.main import main
from emulators import emulator
from sessions import Lab, quick_scenario, wait_for


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of its own, whose runs are over in seconds of the robot's clock."""
    return Lab(tmp_path)


def short(lab: Lab, **changes: str) -> str:
    return quick_scenario(lab.folder, run_limit_s="5", otherwise='"flag"', **changes)


class Port(serial.Serial):
    """A pty as an RFC 2217 server sees a port: it has no lines beside its data."""

    dtr = rts = property(lambda self: True, lambda self, level: None)  # type: ignore[assignment]
    cts = dsr = ri = cd = property(lambda self: True)  # type: ignore[assignment]


@contextlib.contextmanager
def rfc2217_server(path: str) -> Iterator[str]:
    """A serial port served as a terminal server does, one client after another: its address."""
    ended = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while not ended.is_set():
            if not select.select([listener], [], [], 0.1)[0]:
                continue
            client = listener.accept()[0]
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with client, Port(path, timeout=0) as port, client.makefile("wb", 0) as out:
                manager = serial.rfc2217.PortManager(port, out)
                while not ended.is_set():
                    found = select.select([client, port], [], [], 0.1)[0]
                    try:
                        if client in found:
                            data = client.recv(1024)
                            if not data:
                                break
                            port.write(b"".join(manager.filter(data)))
                        if port in found:
                            client.sendall(b"".join(manager.escape(port.read(4096))))
                    except OSError:
                        break

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        thread.join()
        listener.close()


@contextlib.contextmanager
def reached_by(kind: str, tmp_path: Path) -> Iterator[str]:
    """A paced Roomba at an address of this kind."""
    if kind == "socket":
        with emulator("--tcp", "127.0.0.1:0") as (address, _):
            yield address
    else:
        with emulator("--pty", str(tmp_path / "robot")) as (path, _), rfc2217_server(path) as address:
            yield address


@pytest.mark.parametrize("kind", ["socket", "rfc2217"])
def test_a_whole_run_over_the_network(lab: Lab, tmp_path: Path, kind: str) -> None:
    with reached_by(kind, tmp_path) as address:
        words = (
            "run",
            short(lab, ready="true", decide="0.1", compare="0.1"),
            "--device",
            f"roomba:{address}",
            "--rounds",
            "1",
            "--json",
        )
        with lab.going(*words) as process:
            entry = wait_for(lambda: entry_at(lab, address))
            while process.poll() is None:  # over rfc2217 nobody can tell that it is no real robot: somebody is asked
                with contextlib.suppress(UserError):
                    say_ready(entry)
                time.sleep(0.1)
            found = json.loads(process.communicate()[0])
    assert (found["stop_reason"], found["rounds"]) == ("max_rounds", 1)
    documents = [e["body"] for e in lab.entries(found["run"]) if e["type"] == "round"]
    assert [d["end"] for d in documents] == ["run_limit"]
    assert all(d["how"]["speed"] == "read back" and d["outcome"]["coverage"]["value"] > 0 for d in documents)


def test_a_robot_on_the_wall_clock_is_not_waited_for_while_it_drives(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who sleeps says nothing meanwhile, and a robot stops by itself where it hears nothing for 300 ms."""
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(lab.folder))
    asked_s: list[float] = []
    plain = Runner._sleep

    def sleep(runner: Runner, seconds: float) -> None:
        if runner._may_move:
            asked_s.append(seconds)
        plain(runner, seconds)

    monkeypatch.setattr(Runner, "_sleep", sleep)
    with emulator("--pty", str(tmp_path / "robot")) as (address, _):
        words = ["run", short(lab, decide="0.1", compare="0.1"), "--device", f"roomba:{address}", "--rounds", "1"]
        assert main([*words, "--pace", "wall", "--audit", "off", "--json", "--journal", lab.journal]) == 0
    assert asked_s and max(asked_s) <= 0.0


def entry_at(lab: Lab, address: str) -> RunnerEntry | None:
    """The runner whose robot is at this address."""
    entries = [RunnerEntry(**json.loads(path.read_text())) for path in lab.folder.glob("calib/*.json")]
    return next((entry for entry in entries if entry.device.endswith(address)), None)


def status(entry: RunnerEntry) -> dict[str, Any]:
    client = ControlClient(entry)
    try:
        return dict(client.request({"do": "status"})["status"])
    finally:
        client.close()


def say_ready(entry: RunnerEntry) -> None:
    client = ControlClient(entry)
    try:
        asked = client.request({"do": "status"})["status"].get("pending")
        if asked and asked["question"] == "ready":
            client.request({"do": "ready", "number": asked["number"]})
    finally:
        client.close()


def test_two_robots_at_once_one_runner_a_port(lab: Lab, tmp_path: Path) -> None:
    """One journal, two runs; a third on a held port is refused; a stop of one leaves the other alone."""
    scenario = short(lab)

    def words(address: str, rounds: int) -> tuple[str, ...]:
        return ("run", scenario, "--device", f"roomba:{address}", "--rounds", str(rounds), "--json")

    with (
        emulator("--pty", str(tmp_path / "left")) as (left, _),
        emulator("--pty", str(tmp_path / "right")) as (right, _),
        lab.going(*words(left, 50)) as one,
        lab.going(*words(right, 2)) as other,
    ):
        first, second = (wait_for(lambda at=at: entry_at(lab, at)) for at in (left, right))
        wait_for(lambda: status(first)["phase"] == "running" and status(second)["phase"] == "running")
        assert status(first)["link"] == {"state": "ready", "reason": "Roomba or Create 2 answers"}
        refused = lab.calib(*words(left, 1), check=3)
        assert "in use by process" in refused.stderr and refused.stderr.count("\n") == 1
        assert [s["run"] for s in lab.json("stop", first.run)["stopped"]] == [first.run]
        stopped, finished = (json.loads(p.communicate(timeout=120)[0]) for p in (one, other))
    assert stopped["stop_reason"] == "stopped"
    assert (finished["stop_reason"], finished["rounds"]) == ("max_rounds", 2)
    assert {row["run"] for row in lab.json("runs")["runs"]} == {first.run, second.run}


def test_a_robot_that_goes_and_comes_back_is_armed_by_a_person_or_not_at_all(lab: Lab, tmp_path: Path) -> None:
    """The whole way of a link: ready, lost, and ready again, as `calib attach` shows it."""
    path = str(tmp_path / "robot")
    words = ("run", short(lab), "--device", f"roomba:{path}", "--rounds", "2", "--json")
    with contextlib.ExitStack() as robots:
        _, process = robots.enter_context(emulator("--pty", path))
        with lab.going(*words) as run:
            entry = wait_for(lambda: entry_at(lab, path))
            wait_for(lambda: status(entry)["phase"] == "running")
            process.kill()
            process.wait()
            paused = wait_for(lambda: (s := status(entry))["phase"] == "paused" and s["link"]["state"] == "lost" and s)
            assert paused["link"]["reason"]
            robots.enter_context(emulator("--pty", path))
            unarmed = wait_for(lambda: (s := status(entry))["phase"] == "unarmed" and s.get("pending") and s)
            assert unarmed["link"]["state"] == "ready" and unarmed["pending"]["question"] == "arm"
            before = len(lab.entries(entry.run))
            time.sleep(1.5)
            assert "Apply" not in {e["body"].get("event") for e in lab.entries(entry.run)[before:]}
            assert status(entry)["phase"] == "unarmed", "nothing arms by itself"
            leader = ControlClient(entry)
            leader.request({"do": "lead"})
            leader.request({"do": "arm", "number": unarmed["pending"]["number"]})
            found = json.loads(run.communicate(timeout=120)[0])
            leader.close()
    assert (found["stop_reason"], found["rounds"]) == ("max_rounds", 2)
    events = [e["body"]["event"] for e in lab.entries(entry.run) if e["type"] == "event"]
    assert events.index("LinkLost") < events.index("LinkBack") < events.index("Arm")
