"""Starting a runner as a process of its own: it owns robot and journal, and goes on when the dashboard ends."""

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calib.registry import registry_folder, runners


@dataclass(frozen=True)
class Started:
    """A process that was started and the file that holds what it says."""

    command: tuple[str, ...]  # after `calib`
    pid: int
    log: Path

    def run(self) -> str | None:
        """The id of its run, once it has one."""
        return next((e.run for e in runners() if e.pid == self.pid), None)

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return not Path(f"/proc/{self.pid}").exists()

    def last_line(self) -> str:
        """The last line that it said: its error, where it ended before its run began."""
        with contextlib.suppress(OSError):
            lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
            if lines:
                return lines[-1][:500]
        return "it ended without a word"


def start(words: Sequence[str]) -> Started:
    """`calib run WORDS` in a session of its own, so that no Ctrl-C of the dashboard reaches it. OSError."""
    command = ("run", *words)
    folder = registry_folder() / "logs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = folder / f"{time.time_ns()}.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *command],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    # Nobody else waits for it, and until somebody does it stays in the table of processes.
    threading.Thread(target=process.wait, daemon=True, name=f"reaper of {process.pid}").start()
    return Started(command, process.pid, log)
