"""What has arrived of a simulation: progress by the parts on the disk, and the results in them so far."""

import contextlib
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from dashboard.jobs import Job
from experiments.analysis_parts import Tally

BUDGET_S = 0.03  # of reading parts in one look


@dataclass(frozen=True)
class Progress:
    """How far a simulation is."""

    done: int  # parts on the disk
    parts: int  # in all
    remaining_s: float | None  # None: nothing tells yet


class Arrivals:
    """The parts of one job, each read once, a few at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._tally = Tally(job.by)
        self._lock = threading.Lock()
        self._written: dict[str, float] = {}  # when, by name
        self._answer: dict[str, Any] | None = None

    def look(self, budget_s: float = BUDGET_S) -> tuple[Progress, dict[str, Any] | None]:
        """Read new parts for that long: the progress and an answer like the analysis's, None before the first part."""
        begun = time.perf_counter()
        folder = self._job.folder / "parts"
        try:
            names = {part.name for part in folder.iterdir() if part.suffix == ".parquet"}
        except OSError:
            names = set()
        with self._lock:
            fresh = sorted(names - self._tally.parts)
            for i, name in enumerate(fresh):
                if i and time.perf_counter() - begun > budget_s:
                    break
                self._tally.add(folder / name)
            if fresh or self._answer is None:
                self._answer = self._answered()
            return Progress(len(names), self._job.parts, self._remaining(folder, names)), self._answer

    def is_complete(self) -> bool:
        """Whether every part of the job is in the answer."""
        return self.num_counted() >= self._job.parts

    def num_counted(self) -> int:
        """Parts that are in the answer."""
        return len(self._tally.parts)

    def _answered(self) -> dict[str, Any] | None:
        groups = self._tally.groups() if self._tally.num_people else []
        codes = {code for group in groups for code in group["events"]}
        events = {code: sum(group["events"].get(code, 0) for group in groups) for code in sorted(codes)}
        return {"n": self._tally.num_people, "events": events, "groups": groups} if groups else None

    def _remaining(self, folder: Path, names: set[str]) -> float | None:
        """From the pace between the first and the last part of this process; parts of an earlier one say nothing."""
        for name in names - self._written.keys():
            with contextlib.suppress(OSError):
                self._written[name] = (folder / name).stat().st_mtime
        own = sorted(t for name, t in self._written.items() if t >= self._job.started and name in names)
        if len(own) < 2 or own[-1] <= own[0]:
            return None
        pace = (len(own) - 1) / (own[-1] - own[0])
        return max((self._job.parts - len(names)) / pace - (time.time() - own[-1]), 0.0)


@lru_cache(maxsize=16)
def arrivals_of(job: Job) -> Arrivals:
    """The one reader of a job, shared by all who look at it."""
    return Arrivals(job)


def duration_words(seconds: float) -> str:
    """A duration as precise as a guess can be."""
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} s"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} min"
    return f"about {seconds / 3600:.1f} h"
