"""What goes wrong in a session: killed runners, pulled cables, second owners, full disks, Ctrl-C. Real processes."""

import json
import os
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from calib.journal import open_journal
from cli.main import main
from sessions import Lab, quick_scenario, wait_for


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of its own."""
    return Lab(tmp_path)


def count(lab: Lab, kind: str) -> int:
    """Entries of one type in the whole journal, read past any writer."""
    path = lab.folder / "calib.db"
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            return int(connection.execute("select count(*) from entries where type = ?", (kind,)).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def numbers(lab: Lab, run: str) -> list[dict[str, Any]]:
    """Round, stop and truth documents of a run."""
    return [e["body"] for e in lab.entries(run) if e["type"] in ("round", "stop", "truth")]


@pytest.mark.parametrize("device", ["simvac", "roomba:emulator"])
def test_killed_at_any_moment_and_resumed_gives_the_unbroken_run(lab: Lab, device: str) -> None:
    """A few moments here; `python -m bench.kill_runs --times 200` does the same at random moments, 200 times."""
    scenario = quick_scenario(lab.folder)
    words = ("run", scenario, "--device", device, "--rounds", "4", "--seed", "3", "--json")
    whole = lab.json(*words[:-1])["run"]
    before = count(lab, "event")
    for more in (1, 5) if device == "simvac" else (1, 4, 7):
        seen = count(lab, "event")
        with lab.going(*words) as process:
            wait_for(
                lambda seen=seen, more=more, process=process: (
                    count(lab, "event") >= seen + more or process.poll() is not None
                )
            )
            process.kill()
            process.wait()
        with open_journal(lab.journal) as journal:
            run = journal.runs()[-1].run
            acknowledged = journal.entries(run)
        if not any(e.type == "stop" for e in acknowledged):
            lab.json("resume", run)
        after = lab.entries(run)
        assert [e["body"] for e in after[: len(acknowledged)]] == [e.body for e in acknowledged]
        assert numbers(lab, run) == numbers(lab, whole)
        assert lab.json("replay", run)["differences"] == []
    assert before > 0


def test_a_run_goes_on_with_the_robot_that_it_began_with(lab: Lab) -> None:
    """Outcomes of two robots do not stand in one history; the refusal costs the run nothing."""
    words = ("run", quick_scenario(lab.folder), "--device", "roomba:emulator", "--rounds", "2", "--seed", "3", "--json")
    with lab.going(*words) as process:
        wait_for(lambda: count(lab, "round") >= 1)
        process.kill()
    before = lab.entries()
    refused = lab.calib("resume", lab.last_run(), "--device", "neato:emulator", check=3)
    assert "another robot answers, its robot is" in refused.stderr and refused.stderr.strip().count("\n") == 0
    assert lab.entries() == before
    assert lab.json("resume", lab.last_run())["rounds"] == 2


def test_a_pulled_cable_pauses_never_arms_by_itself_and_ends_with_device_failure(lab: Lab) -> None:
    scenario = quick_scenario(lab.folder, reconnect_s="2")
    with lab.going("run", scenario, "--device", "roomba:emulator", "--rounds", "12", "--json") as process:
        wait_for(lambda: count(lab, "round") >= 1)
        emulators = children(process.pid, "devices.emulate")
        assert emulators
        for pid in emulators:
            os.kill(pid, signal.SIGKILL)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 3, err
    found = json.loads(out)
    assert found["stop_reason"] == "device_failure"
    assert found["time"]["declared"]["event"] in (1, 3)
    events = [e["body"]["event"] for e in lab.entries() if e["type"] == "event"]
    lost = events.index("LinkLost")
    assert "Reading" not in events[lost:]
    assert "Arm" not in events
    assert "the robot is lost" in err


def test_ctrl_c_stops_the_robot_first_and_closes_the_record(lab: Lab) -> None:
    with lab.going("run", "--pace", "wall", "--rounds", "3", "--json") as process:
        wait_for(lambda: count(lab, "event") >= 1)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert json.loads(out)["stop_reason"] == "stopped"
    last = [e["body"] for e in lab.entries() if e["type"] == "stop"]
    assert last[0]["detail"] == {"by": "SIGINT"}


def test_ctrl_c_twice_still_closes_the_record(lab: Lab) -> None:
    with lab.going("run", "--pace", "wall", "--rounds", "3", "--json") as process:
        wait_for(lambda: count(lab, "event") >= 1)
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 130
    assert count(lab, "stop") == 1


def test_calib_stop_needs_no_page(lab: Lab) -> None:
    with lab.going("run", "--pace", "wall", "--rounds", "3", "--json") as process:
        wait_for(lambda: count(lab, "event") >= 1)
        stopped = lab.json("stop")["stopped"]
        assert [s["how"] for s in stopped] == ["stopped"]
        out, _ = process.communicate(timeout=30)
    assert json.loads(out)["stop_reason"] == "stopped"
    assert process.returncode == 0
    assert lab.json("stop")["stopped"] == []
    assert "is not running" in lab.calib("stop", "nosuchrun", check=2).stderr


def test_the_control_port_refuses_strangers(lab: Lab) -> None:
    """Loopback only, a token first, no more than a line, and no question answered that is not open."""
    import socket

    from calib.control import ControlClient
    from calib.errors import UserError
    from calib.registry import RunnerEntry

    with lab.going("run", "--pace", "wall", "--rounds", "3", "--json"):
        path = wait_for(lambda: list(lab.folder.glob("calib/*.json")))[0]
        assert path.stat().st_mode & 0o077 == 0
        entry = RunnerEntry(**json.loads(path.read_text()))
        with pytest.raises(UserError, match="wrong token"):
            ControlClient(RunnerEntry(**{**vars(entry), "token": "guess"}))
        with socket.create_connection(("127.0.0.1", entry.port)) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n")
            assert b"not a JSON object" in stranger.recv(1000)
        client = ControlClient(entry)
        with pytest.raises(UserError, match="not open"):
            client.request({"do": "answer", "question": "arm", "value": 1})
        with pytest.raises(UserError, match="no such request"):
            client.request({"do": "format"})
        client.request({"do": "stop"})


def test_a_second_run_on_the_same_port_is_refused_with_the_owner(lab: Lab) -> None:
    port = str(lab.folder / "robot")
    with lab.going("devices", "emulate", "roomba", "--pty", port, "--json") as emulator:
        assert emulator.stdout is not None
        address = json.loads(emulator.stdout.readline())["address"]
        scenario = quick_scenario(lab.folder)
        with lab.going("run", scenario, "--device", f"roomba:{address}", "--rounds", "3", "--json") as first:
            wait_for(lambda: list(lab.folder.glob("calib/*.json")))
            wait_for(lambda: count(lab, "start") >= 1 or first.poll() is not None)
            refused = lab.calib("run", scenario, "--device", f"roomba:{address}", "--rounds", "1", "--json", check=3)
            message = json.loads(refused.stdout)["error"]
            assert str(first.pid) in message or any(str(p) in message for p in children(first.pid, "")), message
            assert "\n" not in refused.stderr.strip()


def test_journals_that_cannot_be_written_are_refused_before_anything_moves(lab: Lab) -> None:
    lab.json("run", "--rounds", "1")
    path = lab.folder / "calib.db"
    with sqlite3.connect(path) as connection:
        connection.execute("update meta set value = '99' where key like '%version%'")
    newer = lab.calib("run", "--rounds", "1", "--json", check=2)
    assert "newer" in newer.stderr
    path.write_bytes(b"this is no database at all, but it is longer than a header " * 20)
    assert len(lab.calib("run", "--rounds", "1", "--json", check=2).stderr.strip().splitlines()) == 1


def test_wrong_words_are_refused_in_one_line(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(lab.folder))
    for words in (
        ("--device", "toaster"),
        ("--device", "roomba"),
        ("--device", "simvac:/dev/ttyUSB0"),
        ("--person", "angel"),
        ("--person", "rational,height=2"),
        ("--person", "rational,rationality=tall"),
        ("--role", "king"),
        ("--policy", "../journal"),
        ("--until", "bored"),
        ("--rounds", "0"),
        ("--seed", "-1"),
        ("--kind", "human"),
        ("--person", "human", "--kind", "simulated"),
        ("--person", "human", "--participant", "p9"),
        ("nowhere.toml",),
        ("apartment", "--device", "roomba:/dev/ttyUSB0"),  # its scenario lets the robot go without an operator's word
    ):
        assert main(["run", *words, "--json", "--journal", lab.journal]) == 2, words
        told = capsys.readouterr()
        assert len(told.err.strip().splitlines()) == 1, (words, told.err)
        assert told.out == ""
    done = lab.calib("run", "arena", "--device", "roomba:/dev/ttyNOPE", "--json", check=3)
    assert "error" in json.loads(done.stdout)


def test_a_human_session_in_the_terminal(lab: Lab) -> None:
    lab.calib("participant", "enrol", "p1", "--consent", "v1", "--name", "Ada Lovelace")
    scenario = quick_scenario(lab.folder, ready=True)
    typed = "a\n\n1\nnonsense\n2\n\n=\ny\n"
    words = ("run", scenario, "--person", "human", "--participant", "p1", "--pace", "virtual", "--rounds", "4")
    with lab.going(*words, "--audit", "off") as process:
        assert process.stdin is not None and process.stdout is not None
        shown = ""
        for line in typed.splitlines(keepends=True):
            while not shown.rstrip().endswith(
                ("stop to stop", "about equal", "(y/n)", "press Enter.", "choices above")
            ):
                line_shown = process.stdout.readline()
                assert line_shown, shown + (process.stderr.read() if process.stderr else "")
                shown += line_shown
            process.stdin.write(line)
            process.stdin.flush()
            shown += "\n."
        rest, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopped after 2 rounds: accepted" in rest
    start = lab.entries()[0]["body"]
    assert (start["kind"], start["participant"], start["consent_version"]) == ("human", "p1", "v1")
    assert "Lovelace" not in json.dumps(lab.entries())
    assert lab.json("participant", "export", "p1")["name"] == "Ada Lovelace"
    lab.calib("participant", "erase", "p1")
    assert b"Lovelace" not in (lab.folder / "calib.db").read_bytes()


def children(pid: int, word: str) -> list[int]:
    """Descendants of a process whose command line has the word."""
    found, queue = [], [pid]
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rsplit(") ", 1)[1].split()[1])
        except (OSError, IndexError):
            continue
    while queue:
        here = queue.pop()
        for child, parent in parents.items():
            if parent == here:
                queue.append(child)
                try:
                    line = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                except OSError:
                    continue
                if word in line:
                    found.append(child)
    return found
