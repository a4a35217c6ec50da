"""What has arrived of a simulation: progress by the parts on the disk, and the results in them so far."""

import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dashboard.jobs import Job
from experiments.analysis_parts import Tally

BUDGET_S = 0.05  # of reading parts in one look


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
        self._answer: dict[str, Any] | None = None

    def look(self, budget_s: float = BUDGET_S) -> tuple[Progress, dict[str, Any] | None]:
        """Read new parts for that long: the progress and an answer like the analysis's, None before the first part."""
        begun = time.perf_counter()
        found = {}
        try:
            for part in (self._job.folder / "parts").iterdir():
                if part.suffix == ".parquet":
                    found[part.name] = part
            written = {name: part.stat().st_mtime for name, part in found.items()}
        except OSError:
            written = {}
        with self._lock:
            before = len(self._tally.parts)
            for name in sorted(found.keys() - self._tally.parts):
                if time.perf_counter() - begun > budget_s:
                    break
                self._tally.add(found[name])
            if len(self._tally.parts) > before or self._answer is None:
                self._answer = self._answered()
            return Progress(len(found), self._job.parts, self._remaining(list(written.values()))), self._answer

    def num_counted(self) -> int:
        """Parts that are in the answer."""
        return len(self._tally.parts)

    def _answered(self) -> dict[str, Any] | None:
        groups = self._tally.groups() if self._tally.num_people else []
        codes = {code for group in groups for code in group["events"]}
        events = {code: sum(group["events"].get(code, 0) for group in groups) for code in sorted(codes)}
        return {"n": self._tally.num_people, "events": events, "groups": groups} if groups else None

    def _remaining(self, written: list[float]) -> float | None:
        """From the pace between the first and the last part of this process; parts of an earlier one say nothing."""
        own = sorted(t for t in written if t >= self._job.started)
        if len(own) < 2 or own[-1] <= own[0]:
            return None
        pace = (len(own) - 1) / (own[-1] - own[0])
        return max((self._job.parts - len(written)) / pace - (time.time() - own[-1]), 0.0)


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
