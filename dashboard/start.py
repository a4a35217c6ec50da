"""Starting a runner as a process of its own: it owns robot and journal, and goes on when the dashboard ends."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calib.registry import registry_folder, runners
from dashboard.processes import launch


@dataclass(frozen=True)
class Started:
    """A process that was started and the file that holds what it says."""

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
    """`calib run WORDS` as a process of its own. OSError."""
    folder = registry_folder() / "logs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    log = folder / f"{time.time_ns()}.log"
    with log.open("wb") as file:
        return Started(launch(["-m", "cli.main", "run", *words], file, file), log)
