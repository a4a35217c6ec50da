"""Attacks on the files that say which runners live: garbage, foreign processes, hanging runners, no place to write."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from calib import registry
from calib.errors import UserError
from calib.registry import RunnerEntry, born, forget, left_behind, locked, register, runners, unregister
from cli.main import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The registry's folder, empty."""
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(tmp_path))
    path = tmp_path / "calib"
    path.mkdir()
    return path


@pytest.fixture
def innocent() -> Iterator["subprocess.Popen[bytes]"]:
    """A process that has nothing to do with the lab."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def entry(pid: int, run: str = "r1", **changes: object) -> RunnerEntry:
    """An entry whose port nobody serves."""
    return RunnerEntry(**({"run": run, "pid": pid, "port": 1, "token": "t", "device": "d", "journal": "j"} | changes))  # type: ignore[arg-type]


def test_stop_never_ends_a_process_that_only_has_a_dead_runners_number(
    folder: Path, innocent: "subprocess.Popen[bytes]", capsys: pytest.CaptureFixture[str]
) -> None:
    for said in ("", "0 0", "nonsense"):
        (folder / "r1.json").write_text(json.dumps(vars(entry(innocent.pid, born=said))))
        assert main(["stop", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"stopped": []}
        assert innocent.poll() is None
        assert not list(folder.glob("*.json"))


@pytest.mark.parametrize(
    "changes",
    [
        *({"pid": pid} for pid in ("x", 10**30, 0, -1, 1.5, None, True)),
        *({"port": "x"}, {"port": 10**9}, {"run": "other"}, {"token": 3}, {"more": 1}),
    ],
)
def test_a_file_that_is_no_entry_is_none(folder: Path, changes: dict[str, object]) -> None:
    body = vars(entry(os.getpid(), born=born(os.getpid()))) | changes
    (folder / "r1.json").write_text(json.dumps(body))
    assert runners() == []


def test_junk_in_the_folder_hinders_nobody(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.json").write_bytes(os.urandom(100))
    (folder / "b.json").write_text("")
    (folder / "c.json").write_text("[1]")
    (folder / "d.json").mkdir()
    register(entry(os.getpid()))
    assert [e.run for e in runners()] == ["r1"]
    assert main(["stop", "elsewhere"]) == 2
    assert "running now: r1" in capsys.readouterr().err


def test_a_run_has_one_runner_and_only_that_one_takes_its_entry_away(
    folder: Path, innocent: "subprocess.Popen[bytes]"
) -> None:
    register(entry(innocent.pid))
    with pytest.raises(UserError, match=f"going on .pid {innocent.pid}"):
        register(entry(os.getpid()))
    unregister("r1")
    assert [e.pid for e in runners()] == [innocent.pid]
    innocent.kill()
    innocent.wait()
    register(entry(os.getpid()))
    assert [e.pid for e in runners()] == [os.getpid()]
    unregister("r1")
    assert runners() == []


def test_what_a_killed_runner_left_is_kept_until_it_is_forgotten_or_resumed(
    folder: Path, innocent: "subprocess.Popen[bytes]"
) -> None:
    assert left_behind() == []
    for run in ("r1", "r2"):
        register(entry(innocent.pid, run))
    assert left_behind() == []
    innocent.kill()
    innocent.wait()
    assert [e.run for e in left_behind()] == ["r1", "r2"]
    assert runners() == [] and not list(folder.glob("*.json"))
    forget(left_behind()[0])
    assert [e.run for e in left_behind()] == ["r2"]
    register(entry(os.getpid(), "r2"))  # `calib resume`
    assert left_behind() == []
    assert [e.run for e in runners()] == ["r2"]
    unregister("r2")


def test_a_folder_that_cannot_be_written_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CALIB_RUNTIME_DIR", "/dev/null")
    journal = f"sqlite:///{tmp_path}/calib.db"
    assert main(["run", "arena", "--rounds", "1", "--json", "--journal", journal]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1 and "CALIB_RUNTIME_DIR" in err
    assert main(["stop", "--json"]) == 0


def test_a_suspended_runner_is_ended_and_does_not_hold_up_the_stop(folder: Path, tmp_path: Path) -> None:
    code = (
        "import os, time; from calib.control import ControlServer; from calib.registry import *\n"
        "server = ControlServer(lambda request, client: {'ok': True})\n"
        "register(RunnerEntry('r2', os.getpid(), server.port, server.token, 'd', 'j')); print('up', flush=True)\n"
        "time.sleep(60)"
    )
    runner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parent.parent)
    try:
        assert runner.stdout is not None
        assert runner.stdout.readline() == b"up\n"
        runner.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        assert main(["stop", "r2"]) == 0
        assert runner.wait(1) == -signal.SIGTERM
        assert time.monotonic() - began < 5
    finally:
        runner.kill()
        runner.communicate()
    assert runners() == []


def test_who_is_suspended_while_it_changes_the_folder_holds_up_neither_stop_nor_end(
    folder: Path,
    innocent: "subprocess.Popen[bytes]",
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A page in the middle of setting a dead runner's entry aside, say."""
    monkeypatch.setattr(registry, "_PATIENCE_S", 0.05)
    register(entry(innocent.pid))
    register(entry(os.getpid(), "r2"))
    innocent.kill()
    innocent.wait()
    with locked(folder):
        assert [e.run for e in runners()] == ["r2"]
        assert main(["stop", "r1"]) == 2
        assert "running now: r2" in capsys.readouterr().err
        unregister("r2")
        assert runners() == []
        with pytest.raises(UserError, match="another process holds it"):
            register(entry(os.getpid(), "r3"))
    assert [e.run for e in left_behind()] == ["r1"]


def test_a_runtime_folder_of_the_session_that_is_gone_is_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/dev/null")
    assert main(["devices", "list", "--json"]) == 0
