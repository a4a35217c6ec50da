"""Whole runs to robots on the wall clock: over the network, and two robots at once."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calib.control import ControlClient
from calib.registry import RunnerEntry
from emulators import emulator
from sessions import Lab, quick_scenario


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of its own, whose runs are over in seconds of the robot's clock."""
    return Lab(tmp_path)


def short(lab: Lab, **changes: str) -> str:
    return quick_scenario(lab.folder, run_limit_s="5", otherwise='"flag"', **changes)


def test_a_whole_run_over_the_network(lab: Lab) -> None:
    with emulator("--tcp", "127.0.0.1:0") as (address, _):
        assert address.startswith("socket://")
        found = lab.json("run", short(lab, ready="true"), "--device", f"roomba:{address}", "--rounds", "2")
    assert (found["stop_reason"], found["rounds"]) == ("max_rounds", 2)
    documents = [e["body"] for e in lab.entries(found["run"]) if e["type"] == "round"]
    assert [d["end"] for d in documents] == ["run_limit", "run_limit"]
    assert all(d["how"]["speed"] == "read back" and d["outcome"]["coverage"]["value"] > 0 for d in documents)


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """What it returns once it is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


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
