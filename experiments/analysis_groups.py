"""From a table to groups of people with their times: what is refused, what is left as it is.

Nothing is pooled silently: kinds, scenarios, and rows of one person are told apart before anything is counted.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import UserError
from calib.state import CLOCKS
from calib.timing import ADMINISTRATIVE, ALIGNED
from experiments import survival
from experiments.analysis_data import VERSIONS, Table, as_numbers, as_text
from experiments.survival import Counts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Column = NDArray[Any]

LARGEST_OF_OURS = 3  # the lab's own event codes end here


@dataclass(frozen=True)
class Question:
    """What is asked of a table; None takes what fits it."""

    time: str | None = None
    event: str | None = None
    group: tuple[str, ...] | None = None
    covariates: tuple[str, ...] = ()
    version: str | None = None
    tau: float | None = None
    ties: str = "efron"
    where: tuple[str, ...] = ()
    mix_kinds: bool = False
    mix_scenarios: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """The people of one group."""

    name: str
    rows: Ints  # (n,) places in the table
    time: Floats  # (n,)
    event: Ints  # (n,)
    causes: list[int]  # 1 first, then the competing codes that occur
    counts: Counts


def refuse_mixture(table: Table, name: str, allowed: bool, flag: str) -> None:
    """One kind, one scenario, unless the flag says otherwise."""
    if allowed or name not in table.columns:
        return
    values = sorted(set(as_text(table.columns[name]).tolist()))
    if len(values) > 1:
        which = "scenario" if name == "scenario_hash" and "scenario" in table.columns else name
        shown = sorted(set(as_text(table.columns[which]).tolist())) if which != name else values
        listed = ", ".join(v[:12] or "none" for v in (shown if len(shown) == len(values) else values))
        raise UserError(
            f"{table.source}: {len(values)} different values of {name} in one table ({listed}): "
            f"choose one with --where {which}=VALUE, or mix them on purpose with {flag}"
        )


def version_of(table: Table, question: Question) -> str | None:
    """The version asked for; of parts the one that `event, rounds` repeat; of a journal the truth where it is known."""
    if question.version or not table.ours:
        return question.version
    if question.event:
        return next((v for v in VERSIONS if question.event == f"{v}_event"), None)
    repeated = [v for v in VERSIONS if _is_primary(table, v)]
    if repeated:
        return repeated[0]
    return "true" if set(as_text(table.columns["kind"]).tolist()) == {"simulated"} else "accepted"


def _is_primary(table: Table, version: str) -> bool:
    pairs = [("event", f"{version}_event"), ("rounds", f"{version}_rounds")]
    return all(
        a in table.columns and b in table.columns and np.array_equal(table.columns[a], table.columns[b])
        for a, b in pairs
    )


def columns_of(table: Table, question: Question, version: str | None) -> tuple[str, str]:
    """The columns of time and event."""
    if not table.ours and version is None and not (question.time and question.event):
        raise UserError(f"{table.source}: name two of its columns with --time and --event: {', '.join(table.columns)}")
    event, time = question.event or f"{version}_event", question.time or f"{version}_rounds"
    if question.event or time not in CLOCKS:
        return time, event
    # A clock of this version: the journal has each by version, parts have them for the primary one.
    if f"{version}_{time}" in table.columns:
        return f"{version}_{time}", event
    if version and not _is_primary(table, version):
        raise UserError(
            f"{table.source}: its {time} belongs to another version than {version}: leave out --time or --version"
        )
    return time, event


def times_of(table: Table, time_name: str, event_name: str, version: str | None) -> tuple[Floats, Ints]:
    """(N,) times and event codes, each of them checked."""
    for name in (event_name, time_name):
        if version and table.ours and not np.any(as_text(table.column(name)) != ""):
            raise UserError(
                f"{table.source}: nobody has a time of version {version}: "
                f"take another --version (the truth is known of simulated people only)"
            )
    event, time = as_numbers(table, event_name, "event"), as_numbers(table, time_name, "time")
    for bad, problem, remedy in (
        (time < 0, f"a negative time in column {time_name}", "times start at 0"),
        ((event != np.floor(event)) | (event < 0), f"no event code in column {event_name}", "codes are 0, 1, 2, ..."),
        (
            (event > LARGEST_OF_OURS) if table.ours else np.zeros(len(event), bool),
            f"an unknown event code in column {event_name}",
            "1 aligned, 2 gave up, 3 device failure, 0 administrative end",
        ),
    ):
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            value = time[i] if "time" in problem else event[i]
            raise UserError(f"{table.where(i)}: {value:g} is {problem}: {remedy}")
    return time, event.astype(np.int64)


def varying(table: Table) -> tuple[str, ...]:
    """Unless told otherwise, a table of the lab is grouped by every condition that varies."""
    return tuple(name for name in table.conditions if len(set(as_text(table.columns[name]).tolist())) > 1)


def labels_of(table: Table, by: Sequence[str]) -> Column:
    """(N,) name of each row's group."""
    if not by:
        return np.full(table.num_rows, "all", object)
    parts = []
    for name in by:
        values = as_text(table.column(name))
        empty = np.flatnonzero(values == "")
        if len(empty):
            raise UserError(f"{table.where(int(empty[0]))}: no group (column {name}): fill it in or leave the row out")
        parts.append(values.astype(object))
    label = parts[0]
    for more in parts[1:]:
        label = label + ", " + more
    return label


def persons_of(table: Table) -> Column | None:
    """(N,) who each row is about, where the table says so."""
    return as_text(table.columns["person"]) if "person" in table.columns else None


def refuse_twice(table: Table, label: Column, by: Sequence[str]) -> None:
    """A person is in a group once: two rows of one person are no two people."""
    persons = persons_of(table)
    if persons is None:
        return
    if (persons == "").any():
        nobody = int(np.flatnonzero(persons == "")[0])
        raise UserError(f"{table.where(nobody)}: no person (column person): fill it in or leave the column out")
    codes = np.unique(persons.astype(object), return_inverse=True)[1]
    groups, group = np.unique(label, return_inverse=True)
    key = codes * len(groups) + group
    first, times = np.unique(key, return_index=True, return_counts=True)[1:]
    if not (times > 1).any():
        return
    again = int(np.setdiff1d(np.arange(len(key)), first)[0])
    more = [name for name in varying(table) if name not in by]
    remedy = f"group by {','.join([*by, *more])}, or " if more else ""
    unit = "--where run!=RUN" if "run" in table.columns else "--where COLUMN=VALUE"
    raise UserError(
        f"{table.where(again)}: person {persons[again]} is in group {label[again]} twice: "
        f"{remedy}leave rows out with {unit}"
    )


def groups_of(label: Column, time: Floats, event: Ints) -> list[Group]:
    """The groups by name, numbers in their order."""
    found = []
    names, place = np.unique(label, return_inverse=True)
    for i in sorted(range(len(names)), key=lambda i: _order(str(names[i]))):
        rows = np.flatnonzero(place == i)
        t, e = time[rows], event[rows]
        causes = [ALIGNED, *sorted(set(e.tolist()) - {ALIGNED, ADMINISTRATIVE})]
        found.append(Group(str(names[i]), rows, t, e, causes, survival.count(t, e, causes)))
    return found


def _order(name: str) -> tuple[int, float, str]:
    try:
        return 0, float(name), name
    except ValueError:
        return 1, 0.0, name


def tau_of(table: Table, groups: list[Group], tau: float | None) -> float:
    """The horizon of the restricted means: no further than every group was watched."""
    if tau is None:
        return min(float(g.time.max()) for g in groups)
    if not (math.isfinite(tau) and tau > 0):
        raise UserError(f"--tau {tau:g}: give a time above 0")
    for g in groups:
        stays = survival.survival(g.counts)
        everyone_left = len(stays) > 0 and stays[-1] < 1e-12
        if tau > g.time.max() and not everyone_left:
            raise UserError(
                f"--tau {tau:g}: group {g.name} of {table.source} was watched up to {g.time.max():g} only: take no more"
            )
    return tau
