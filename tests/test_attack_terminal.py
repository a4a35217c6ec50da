"""Attacks from the terminal: closed streams, readers that go, lines typed ahead, bytes that are no text."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sessions import ROOT, Lab, quick_scenario
from test_faults import children


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of its own."""
    return Lab(tmp_path)


def answers(lab: Lab) -> list[tuple[str, Any]]:
    """The events of the last run, with the values of answers."""
    return [(e["body"]["event"], e["body"].get("value")) for e in lab.entries() if e["type"] == "event"]


@pytest.mark.parametrize("closed", [(1,), (0, 1, 2)])
def test_a_run_needs_no_standard_streams(lab: Lab, closed: tuple[int, ...]) -> None:
    command = lab.command("run", quick_scenario(lab.folder), "--rounds", "1", "--audit", "off")
    code = f"import os; [os.close(n) for n in {closed}]; os.execv({command[0]!r}, {command!r})"
    done = subprocess.run([command[0], "-c", code], env=lab.environment, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert lab.entries()[-1]["type"] == "truth"


def test_a_reader_that_goes_ends_no_session(lab: Lab) -> None:
    with lab.going("run", quick_scenario(lab.folder), "--rounds", "2", "--audit", "off") as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        assert process.stderr.read() == ""
        assert process.wait(60) == 0
    stop = [e["body"] for e in lab.entries() if e["type"] == "stop"]
    assert stop[0]["reason"] == "max_rounds"


def test_lines_typed_ahead_answer_nothing(lab: Lab) -> None:
    """Five lines at once: the first answers the open question; none answers, or starts the robot, after that."""
    words = ("run", quick_scenario(lab.folder, ready=True), "--person", "human", "--pace", "virtual", "--rounds", "2")
    with lab.going(*words, "--audit", "off") as process:
        assert process.stdin is not None and process.stdout is not None
        shown = ""
        while "stop to stop" not in shown:
            shown += process.stdout.readline()
        os.write(process.stdin.fileno(), b"\xff\xfe\n1\n1\n\n\n")
        while "press Enter" not in shown:
            shown += process.stdout.readline()
        process.stdin.write("dance\nq\n")
        process.stdin.flush()
        rest, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert "no question is open: '1' is not used" in shown + rest
    assert "not understood" in rest
    assert answers(lab) == [("Answer", 0), ("Quit", None)]


def test_at_a_terminal_what_comes_with_the_question_was_typed_before_it(lab: Lab) -> None:
    """A terminal keeps what is typed while nobody reads; the process is suspended, so that it all comes at once."""
    ours, theirs = pty.openpty()
    command = lab.command("run", quick_scenario(lab.folder), "--person", "human", "--pace", "virtual", "--rounds", "2")
    process = subprocess.Popen(
        [*command, "--audit", "off"],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=lab.environment,
        cwd=ROOT,
        start_new_session=True,
    )
    try:
        os.write(ours, b"1\n" * 3)  # long before anything is asked
        assert process.stdout is not None
        shown = ""
        while "stop to stop" not in shown:
            shown += process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        os.close(ours)
        os.close(theirs)
    assert "is not used" in shown + rest
    assert answers(lab) == [("Stop", None)]


def test_a_kill_during_the_audit_ends_it_and_keeps_the_run(lab: Lab) -> None:
    words = ("run", quick_scenario(lab.folder), "--rounds", "2", "--audit", "on", "--json")
    with lab.going(*words) as process:
        until = time.monotonic() + 60
        while not (found := children(process.pid, "calib.audit")):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=10)
    assert (process.returncode, json.loads(out)["stop_reason"]) == (130, "max_rounds")
    assert err == "calib run: the audit was interrupted; the run itself is complete\n"
    assert not Path(f"/proc/{found[0]}").exists()
