"""Times to alignment while a simulation goes on: parts are counted as they arrive, each is read once.

A tally of (time, event) by condition is all that the curves need, so that a million people cost no more than ten. What
comes out of all parts is what `analyse` says of the finished population in its primary version.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from calib.timing import ADMINISTRATIVE, ALIGNED
from experiments import survival
from experiments.analysis import curves
from experiments.survival import Counts


class Tally:
    """Counts of (time, event) by group; `by` are the condition columns that tell groups apart."""

    def __init__(self, by: Sequence[str]) -> None:
        self.by = tuple(by)
        self.parts: set[str] = set()
        self._seen: dict[str, Counter[tuple[int, int]]] = {}

    def add(self, part: Path) -> None:
        """Count a part; one that was counted, is not there or is no part changes nothing."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if part.name in self.parts:
            return
        try:
            file = pq.ParquetFile(pa.BufferReader(part.read_bytes()))
            columns = file.read([*self.by, "rounds", "event"], use_threads=False).to_pydict()
        except (OSError, KeyError, pa.ArrowException):
            return  # the finished population is read with every check
        self.parts.add(part.name)
        labels = zip(*(columns[name] for name in self.by), strict=True) if self.by else [()] * len(columns["event"])
        for label, time, event in zip(labels, columns["rounds"], columns["event"], strict=True):
            self._seen.setdefault(", ".join(label) or "all", Counter())[time, event] += 1

    @property
    def num_people(self) -> int:
        """Rows so far."""
        return sum(sum(seen.values()) for seen in self._seen.values())

    def groups(self) -> list[dict[str, Any]]:
        """For each group the name, n, events, cif, median, rmst and watched_to of the contract, as far as is known."""
        last = [max(time for time, _ in seen) for seen in self._seen.values()]
        return [_described(name, self._seen[name], float(min(last))) for name in sorted(self._seen)]


def _described(name: str, seen: Counter[tuple[int, int]], tau: float) -> dict[str, Any]:
    by_event: Counter[int] = Counter()
    for (_, event), number in seen.items():
        by_event[event] += number
    causes = [ALIGNED, *sorted(set(by_event) - {ALIGNED, ADMINISTRATIVE})]
    counts = counts_of(seen, causes)
    estimate, se = (float(v) for v in survival.restricted_mean(counts, 0, tau))
    known = any(event == ALIGNED and time < tau for time, event in seen)
    low, high = max(estimate - survival.Z95 * se, 0.0), min(estimate + survival.Z95 * se, tau)
    return {
        "name": name,
        "n": sum(by_event.values()),
        "events": {str(code): by_event[code] for code in sorted({0, 1, 2, 3, *by_event})},
        "cif": curves(counts, causes),
        "median": survival.median(counts, 0),
        "rmst": {
            "tau": tau,
            "estimate": estimate,
            "se": se if known else None,
            "low": low if known else None,
            "high": high if known else None,
        },
        "watched_to": max(time for time, _ in seen),
    }


def counts_of(seen: Counter[tuple[int, int]], causes: Sequence[int]) -> Counts:
    """`survival.count` of a tally: the counts at the event times, people at risk just before each."""
    every = sorted({time for time, _ in seen})
    at = np.array([sum(seen[t, e] for e in {0, *causes}) for t in every], float)
    at_risk = np.cumsum(at[::-1])[::-1]
    events = np.array([[seen[t, cause] for t in every] for cause in causes], float).reshape(len(causes), len(every))
    some = events.any(axis=0)
    return Counts(np.array(every, float)[some], at_risk[some], events[:, some])
