"""Attacks on the control port of a session with a person: wrong, late, doubled and foreign answers; hangers-on."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from calib.control import ControlClient
from calib.errors import UserError
from calib.registry import RunnerEntry
from sessions import Lab, quick_scenario, wait_for


class Led:
    """A run that waits for a person, and a client of it."""

    def __init__(self, lab: Lab, process: "subprocess.Popen[str]") -> None:
        self.lab = lab
        self.process = process
        path = wait_for(lambda: list(lab.folder.glob("calib/*.json")))[0]
        self.entry = RunnerEntry(**json.loads(path.read_text()))
        self.client = ControlClient(self.entry)

    def status(self) -> dict[str, Any]:
        """What a watcher sees now."""
        return dict(self.client.request({"do": "status"})["status"])

    def asked(self, question: str) -> int:
        """The number of this question, once it is open."""
        pending = wait_for(lambda: (p := self.status().get("pending")) and p["question"] == question and p)
        return int(pending["number"])

    def refused(self, **request: Any) -> str:
        """Why a request is refused."""
        with pytest.raises(UserError) as caught:
            self.client.request(request)
        return str(caught.value)


@pytest.fixture
def led(tmp_path: Path) -> Iterator[Led]:
    """A person's session on the simulator, whose standard input is at its end."""
    lab = Lab(tmp_path)
    scenario = quick_scenario(tmp_path, ready=True)
    with lab.going("run", scenario, "--person", "human", "--pace", "virtual", "--rounds", "4", "--json") as process:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        yield Led(lab, process)


def test_an_answer_is_for_one_question_and_given_once(led: Led) -> None:
    first = led.asked("choice")  # a watcher sees the first question before anything is answered
    for value in (-1, 10, 10**300, 1.0, 3.7, float("nan"), float("inf"), True, None, "2", [1]):
        error = led.refused(do="answer", question="choice", number=first, value=value)
        assert "no answer to it" in error and len(error) < 200
    assert "not open" in led.refused(do="answer", question="choice", value=1)
    assert "not open" in led.refused(do="answer", question="comparison", number=first, value=1)
    for early in ("ready", "arm"):
        assert "not open" in led.refused(do=early, number=first)
    led.client.request({"do": "answer", "question": "choice", "number": first, "value": 1})
    assert "not open" in led.refused(do="answer", question="choice", number=first, value=1)
    ready = led.asked("ready")
    assert "not open" in led.refused(do="ready", number=first)
    led.client.request({"do": "ready", "number": ready})
    assert "not open" in led.refused(do="ready", number=ready)
    comparison = led.asked("comparison")
    led.client.request({"do": "answer", "question": "comparison", "number": comparison, "value": 2})
    again = led.asked("choice")
    assert again > comparison
    assert "not open" in led.refused(do="answer", question="choice", number=first, value=1)
    events = [e["body"]["event"] for e in led.lab.entries() if e["type"] == "event"]
    assert events == ["Answer", "Ready", "Reading", "Answer"]


def test_who_watches_leads_or_hangs_on(led: Led) -> None:
    number = led.asked("choice")
    watcher = subprocess.Popen(
        led.lab.command("attach", led.entry.run, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=led.lab.environment,
        cwd=Path(__file__).parent.parent,
    )
    assert watcher.stderr is not None
    assert "asked: choice" in watcher.stderr.readline()
    second = ControlClient(led.entry)
    second.request({"do": "lead"})
    assert "another client leads" in led.refused(do="answer", question="choice", number=number, value=1)
    second.request({"do": "answer", "question": "choice", "number": number, "value": 1})
    led.asked("ready")

    hangers = [socket.create_connection(("127.0.0.1", led.entry.port)) for _ in range(200)]
    for junk in (b"\0" * 100_000 + b"\n", b"[" * 60_000 + b"\n", b'{"token": "\\ud800"}\n', b"\xff\n", b"{}\n"):
        with socket.create_connection(("127.0.0.1", led.entry.port)) as stranger:
            stranger.sendall(junk)
    assert led.status()["phase"] == "operator"  # who is in stays in
    began = time.monotonic()
    hangers[0].settimeout(20)
    hangers[0].sendall(b"{")
    assert hangers[0].recv(1) == b""  # no token in time
    assert time.monotonic() - began < 15
    for hanger in hangers:
        hanger.close()
    assert led.lab.json("stop")["stopped"][0]["how"] == "stopped"
    out, err = led.process.communicate(timeout=30)
    assert json.loads(out)["stop_reason"] == "stopped"
    assert "standard input has ended" in err
    out, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 0, err
    last = json.loads(out)
    assert (last["phase"], last["stop_reason"]) == ("finished", "stopped")


def test_a_watcher_of_a_killed_runner_is_told_what_to_do(led: Led) -> None:
    led.asked("choice")
    watcher = subprocess.Popen(
        led.lab.command("attach", led.entry.run),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=led.lab.environment,
        cwd=Path(__file__).parent.parent,
    )
    assert watcher.stdout is not None
    assert "choosing" in watcher.stdout.readline()
    led.process.kill()
    _, err = watcher.communicate(timeout=30)
    assert watcher.returncode == 2
    assert len(err.strip().splitlines()) == 1 and f"calib resume {led.entry.run}" in err
