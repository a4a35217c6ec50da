"""Running the `calib` command as its users do, for tests of whole sessions."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_REPLIES = {"stop to stop": "1", "=  about equal": "1", "(y/n)": "n"}
ROOT = Path(__file__).resolve().parent.parent
ARTEFACTS = ROOT / "artefacts"  # screenshots and measured times, for people to look at
FIGURES = ARTEFACTS / "figures.txt"


class Lab:
    """A folder with a journal and a runtime folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = f"sqlite:///{folder}/calib.db"
        self.environment = os.environ | {"CALIB_RUNTIME_DIR": str(folder), "PYTHONUNBUFFERED": "1"}

    def command(self, *words: str) -> list[str]:
        """The command line of `calib WORDS`."""
        takes_journal = words[0] in ("run", "resume", "replay", "runs", "participant")
        return [sys.executable, "-m", "cli.main", *words, *(["--journal", self.journal] if takes_journal else [])]

    def calib(self, *words: str, check: int | None = 0, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        done = subprocess.run(
            self.command(*words), capture_output=True, text=True, env=self.environment, cwd=ROOT, timeout=timeout
        )
        assert check is None or done.returncode == check, (
            f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    def json(self, *words: str, check: int | None = 0) -> Any:
        """Its one JSON document."""
        return json.loads(self.calib(*words, "--json", check=check).stdout)

    @contextmanager
    def going(self, *words: str) -> Iterator["subprocess.Popen[str]"]:
        """Start it and let it go on; killed at the end of the block."""
        process = subprocess.Popen(
            self.command(*words),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def last_run(self) -> str:
        """The run that was started last."""
        from calib.journal import open_journal

        with open_journal(self.journal, create=False) as journal:
            return journal.runs()[-1].run

    def timed_entries(self, run: str) -> list[tuple[str, str, dict[str, Any]]]:
        """The journal's entries of a run, as (time, type, body)."""
        from calib.journal import open_journal

        with open_journal(self.journal, create=False) as journal:
            return [(e.written_at, e.type, e.body or {}) for e in journal.entries(run)]

    def entries(self, run: str | None = None) -> list[dict[str, Any]]:
        """The journal's entries of a run (the last one), as (type, body)."""
        from calib.journal import open_journal

        with open_journal(self.journal, create=False) as journal:
            run = run or journal.runs()[-1].run
            return [{"type": e.type, "body": e.body} for e in journal.entries(run)]


def page_lab(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose sessions a page of this process sees too."""
    lab = Lab(folder)
    for name, value in (("CALIB_JOURNAL", lab.journal), ("CALIB_RUNTIME_DIR", str(folder)), ("CALIB_GUARDED", "1")):
        monkeypatch.setenv(name, value)
    return lab


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """What it returns once it is true."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("it never came")


def until(process: "subprocess.Popen[str]", words: str) -> str:
    """What is shown up to a line with these words; other questions are answered on the way."""
    assert process.stdin is not None and process.stdout is not None
    shown = ""
    while words not in shown:
        line = process.stdout.readline()
        assert line, shown
        shown += line
        if reply := next((reply for part, reply in _REPLIES.items() if part in line), None):
            type_in(process, reply)
    return shown


def type_in(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdin is not None
    process.stdin.write(word + "\n")
    process.stdin.flush()


def quick_scenario(folder: Path, ready: bool = False, **changes: str) -> str:
    """The arena with a run in every round and other values of some keys: a path to give to `calib run`."""
    text = (ROOT / "scenarios" / "arena.toml").read_text()
    for old, new in (("ready = true", f"ready = {str(ready).lower()}"), ("run_every = 3", "run_every = 1")):
        assert old in text
        text = text.replace(old, new)
    for key, value in changes.items():
        lines = [f"{key} = {value}" if line.startswith(f"{key} =") else line for line in text.splitlines()]
        assert lines != text.splitlines(), f"{key} is not in the scenario, or already {value}"
        text = "\n".join(lines) + "\n"
    path = folder / "quick.toml"
    path.write_text(text)
    return str(path)
