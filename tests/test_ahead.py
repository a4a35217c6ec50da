"""What is compiled is compiled before anything is computed: a run and its replay load the same machine code."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from calib.errors import UserError
from experiments import ahead
from sessions import ROOT, Lab


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with nothing in it."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def compiler(monkeypatch: pytest.MonkeyPatch, code: int = 0) -> list[Any]:
    """In place of the process that compiles; the command lines that were asked for."""
    asked: list[Any] = []

    def run(words: list[str], **_: Any) -> SimpleNamespace:
        asked.append(words)
        if code == 0:
            ahead.done()
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(ahead.subprocess, "run", run)
    return asked


def test_it_is_done_once(empty: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    asked = compiler(monkeypatch)
    ahead.ensure()
    ahead.ensure()
    assert asked == [[sys.executable, "-m", "experiments.warm"]]
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1


def test_another_state_of_the_code_is_compiled_anew(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = compiler(monkeypatch)
    ahead.ensure()
    monkeypatch.setattr(ahead, "code_sha256", lambda: "f" * 64)
    ahead.ensure()
    assert len(asked) == 2


def test_a_compiler_that_fails_is_one_line_and_is_asked_again(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = compiler(monkeypatch, code=1)
    for _ in range(2):
        with pytest.raises(UserError, match=r"^compiling ahead failed: [^\n]+ shows why$"):
            ahead.ensure()
    assert len(asked) == 2


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(UserError, match=r"cannot be written \(Not a directory\): set NUMBA_CACHE_DIR to a folder$"):
        ahead.ensure()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "words"),
    [
        ("2", "run arena --person rational --device simvac --rounds 3 --role tool --audit off"),
        ("1", "run beliefs --person rational --device simvac --rounds 2 --policy per_second --audit off"),
        ("2", "run aspiration --person rational --device simvac --rounds 2 --audit off"),
        ("1", "simulate arena --people 4 --rounds 3 --engine bulk --policy hybrid --jobs 1 --out OUT"),
        ("3", "simulate beliefs --people 5 --rounds 2 --jobs 1 --out OUT"),
        ("1", "sbc --people 4 --rounds 2 --jobs 1"),
    ],
)
def test_after_that_a_command_compiles_nothing(tmp_path: Path, threads: str, words: str) -> None:
    """numba says of every function that it saves: there is none, however many people a thread has."""
    lab = Lab(tmp_path)
    command = lab.command(*words.replace("OUT", str(tmp_path / "out")).split())
    environment = lab.environment | {"NUMBA_DEBUG_CACHE": "1", "NUMBA_NUM_THREADS": threads}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    saved = [line for line in done.stdout.splitlines() if "data saved" in line]
    assert "data loaded" in done.stdout and saved == []
