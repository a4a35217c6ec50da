"""Analyses that are kept: a source is read once for each state of its data, a question is answered once.

What is returned is shared between the pages of a server: read it, never change it.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from calib.errors import UserError
from calib.state import CLOCKS
from dashboard.data import path_of
from experiments.analysis import analyse
from experiments.analysis_data import VERSIONS, Table, as_text, read_table
from experiments.analysis_groups import Question

Answer = dict[str, Any]

MOST_VALUES = 12  # a column with more different values is not offered as a filter
MANY_TIMES = 1_000  # Cox takes seconds to a minute for more different times than these


@lru_cache(maxsize=4)
def table_of(source: str, state: str) -> Table:
    """The source as a table with its details; `state` is `data.version_of` the source."""
    return read_table(path_of(source), details=True)


@lru_cache(maxsize=64)
def answer(source: str, state: str, question: Question) -> Answer:
    """The analysis without its models; their covariates are looked at nevertheless."""
    table = table_of(source, state)
    for name in question.covariates:
        table.column(name)
    return analyse(table, question, models=False)


@lru_cache(maxsize=64)
def models(source: str, state: str, question: Question) -> Answer:
    """The analysis with log-rank, Cox and Fine-Gray."""
    return analyse(table_of(source, state), question)


@lru_cache(maxsize=64)
def versions(source: str, state: str, question: Question) -> dict[str, Answer | str]:
    """By version of time the analysis, or the line that refuses it. All restricted means are to one tau, the smallest.

    Empty for a table that has no versions of time.
    """
    table = table_of(source, state)
    if not table.ours or question.event is not None:
        return {}
    asked = {version: replace(question, version=version, tau=None) for version in VERSIONS}
    found: dict[str, Answer | str] = {version: _told(source, state, asked[version]) for version in VERSIONS}
    taus = [a["groups"][0]["rmst"]["tau"] for a in found.values() if not isinstance(a, str)]
    taus += [question.tau] if question.tau is not None else []
    for version, known in found.items():
        if not isinstance(known, str) and 0 < min(taus) != known["groups"][0]["rmst"]["tau"]:
            found[version] = _told(source, state, replace(asked[version], tau=float(min(taus))))
    return found


def _told(source: str, state: str, question: Question) -> Answer | str:
    try:
        return analyse(replace(table_of(source, state), per_round=None), question, models=False)
    except UserError as error:
        return str(error)


@lru_cache(maxsize=16)
def choices(source: str, state: str) -> dict[str, list[str]]:
    """What filters offer: `columns` to group by, `where` conditions, `times`, and for a plain table `events`."""
    table = table_of(source, state)
    by = [n for n in table.columns if n not in ("person", "run") and "," not in n] if not table.ours else []
    by = by or [*table.conditions, *(n for n in ("kind", "rung", "scenario", "scenario_hash") if n in table.columns)]
    where = []
    for name in by:
        values = np.unique(as_text(table.columns[name]).astype(str)).tolist()
        if 1 < len(values) <= MOST_VALUES:
            where += [f"{name}={value}" for value in values] + [f"{name}!={value}" for value in values]
    if table.ours:
        return {"columns": by, "where": where, "times": list(CLOCKS), "events": []}
    numeric = [name for name in table.columns if _is_numeric(table, name)]
    return {"columns": by, "where": where, "times": numeric, "events": numeric}


def many_times(found: Answer, table: Table) -> bool:
    """Whether the models of this answer take so long that they wait to be asked for."""
    times = table.columns.get(found["time"])
    return times is not None and len(np.unique(as_text(times).astype(str))) > MANY_TIMES


def _is_numeric(table: Table, name: str) -> bool:
    values = as_text(table.columns[name]).astype(str)
    try:
        values[values != ""].astype(float)
    except ValueError:
        return False
    return True
