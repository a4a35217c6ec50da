"""Reading for the alignment-time analysis: a CSV file, a folder of Parquet parts or a journal, as one table of columns.

A table of the lab (journal, parts, or their export as CSV) has a row a person and condition with the columns of
`calib simulate`. Every other CSV is plain: the caller names its columns.
"""

import csv
import hashlib
import json
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import UserError
from calib.gaps import GAPS
from calib.state import CLOCKS

Column = NDArray[Any]

VERSIONS = ("true", "declared", "accepted", "verified")
PER_ROUND = ("true_degree", "estimated_degree")  # lists of the parts, an entry a round
# The columns of the lab's rows that are no conditions.
_ROW = {
    *("person", "run", "kind", "rung", "scenario", "scenario_hash", "engine", "event", "seed"),
    *(f"{version}_event" for version in VERSIONS),
    *(f"{version}_{clock}" for version in VERSIONS for clock in CLOCKS),
    *("true_degree_final", "declared_falsely", "degree_final"),
    *("true_degree", "estimated_degree", "degree_low", "degree_high"),
    *(f"gap_{name}" for name in (*GAPS, "choice_and_mediation")),
    "gaps_known",
    *("answers", "log_score", "log_baseline", "alarm", "alarm_round", "highest_log_e"),
    *("surprise_p", "to_drop", "utility_licence"),
    *CLOCKS,
}
_OF_A_RUN = ("kind", "rung", "device", "scenario", "scenario_hash", "role", "policy", "person_model", "seed")


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of equal length; text, or numbers with nan where nothing is known."""

    source: str
    columns: dict[str, Column]
    where: Callable[[int], str]  # a row's place as messages call it
    conditions: tuple[str, ...]  # of a table of the lab; () for a plain one
    ours: bool
    notes: tuple[str, ...] = ()
    # (num_rows, T + 1) each, nan after a person's last round; None unless asked for, {} where none are recorded
    per_round: dict[str, Column] | None = None

    @property
    def num_rows(self) -> int:
        """How many rows."""
        return len(next(iter(self.columns.values()), []))

    def column(self, name: str) -> Column:
        """A column, or a UserError that says which there are."""
        if name not in self.columns:
            listed = ", ".join(self.columns)
            raise UserError(f"{self.source}: no column {name!r}; it has {listed}: name one of these")
        return self.columns[name]


def read_table(path: str, details: bool = False) -> Table:
    """The table at a path or a journal's URL; with `details` also the degrees by round and a journal's gaps."""
    if "://" in path:
        return read_journal(path, details)
    file = Path(path)
    if not file.exists():
        raise UserError(
            f"{path}: there is no such file or folder; give a journal, a CSV file or a folder of Parquet parts"
        )
    if file.is_dir():
        return read_parts(file, details)
    if file.suffix == ".parquet":
        raise UserError(f"{path}: give the folder of the parts, whose manifest says which parts there should be")
    try:
        with file.open("rb") as stream:
            start = stream.read(16)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): look at its permissions") from None
    if start.startswith(b"SQLite format 3"):
        return read_journal(f"sqlite:///{file}", details)
    return replace(read_csv(file), per_round={} if details else None)


def read_csv(file: Path) -> Table:
    """A comma-separated file with a line of names; cells stay text."""
    rows, lines = [], []
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            header = [name.strip() for name in next(reader, [])]
            for row in reader:
                if not row:
                    continue  # an empty line, as editors leave one at the end
                if len(row) != len(header):
                    raise UserError(
                        f"{file}, line {reader.line_num}: {len(row)} cells, "
                        f"the first line names {len(header)} columns: mend the line"
                    )
                rows.append(row)
                lines.append(reader.line_num)
    except UnicodeDecodeError:
        raise UserError(f"{file}: not a text file in UTF-8: save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{file}: not a CSV file ({error}): save it as CSV, separated by commas") from None
    if not header:
        raise UserError(f"{file}: the file is empty: its first line names the columns")
    double = next((name for i, name in enumerate(header) if name in header[:i]), None)
    if double is not None:
        raise UserError(f"{file}, line 1: two columns are called {double!r}: rename one")
    if not rows:
        raise UserError(f"{file}: no row below the line of names: give it data")
    columns = {name: np.char.strip(np.array([row[i] for row in rows])) for i, name in enumerate(header)}
    ours = {"person", "kind", "scenario_hash"} <= set(columns) and any(f"{v}_event" in columns for v in VERSIONS)
    return Table(str(file), columns, lambda i: f"{file}, line {lines[i]}", _conditions(columns) if ours else (), ours)


def read_parts(folder: Path, details: bool = False) -> Table:
    """The Parquet parts that the folder's manifest lists; with `details` also the true and estimated degrees."""
    # On its own a leaf: only a folder needs it.
    import pyarrow as pa
    import pyarrow.parquet

    tables: list[Any] = []
    places: list[Path] = []
    for listed in _listed(folder):
        part, rows = folder / listed["file"], listed.get("rows")
        if not part.is_file():
            raise UserError(
                f"{part}: the manifest lists this part and it is not there: simulate again into the same folder"
            )
        try:
            content = part.read_bytes()
            # Without pyarrow's thread pool (read_table starts it even so): now and then it aborts Python at its exit.
            file = pa.parquet.ParquetFile(pa.BufferReader(content))
            # A column of lists is no column of a table; unless it is asked for it is not even decoded.
            nested = {field.name for field in file.schema_arrow if pa.types.is_nested(field.type)}
            wanted = [n for n in file.schema_arrow.names if n not in nested or (details and n in PER_ROUND)]
            table = file.read(wanted, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{part}: a damaged part ({reason}): delete it and simulate again into the same folder"
            ) from None
        if listed.get("sha256") not in (None, hashlib.sha256(content).hexdigest()):
            raise UserError(
                f"{part}: not the part that the manifest lists: delete it and simulate again into the same folder"
            )
        if rows is not None and rows != table.num_rows:
            raise UserError(
                f"{part}: {table.num_rows} rows, the manifest says {rows}: "
                "delete it and simulate again into the same folder"
            )
        if tables and set(table.column_names) != set(tables[0].column_names):
            raise UserError(f"{part}: other columns than the parts before it: do not mix parts of two simulations")
        tables.append(table)
        places.append(part)
    if not sum(table.num_rows for table in tables):
        raise UserError(f"{folder}: no rows in its parts: simulate at least one person")
    lists = [name for name in tables[0].column_names if name in PER_ROUND]
    columns = {
        name: np.concatenate([_from_arrow(table.column(name)) for table in tables])
        for name in tables[0].column_names
        if name not in lists
    }
    per_round = {name: _padded([table.column(name) for table in tables]) for name in lists} if details else None
    ends = np.cumsum([table.num_rows for table in tables])

    def where(i: int) -> str:
        part = int(np.searchsorted(ends, i, side="right"))
        return f"{places[part]}, row {i - (ends[part - 1] if part else 0) + 1}"

    return Table(str(folder), columns, where, _conditions(columns), ours=True, per_round=per_round)


def _padded(lists: Sequence[Any]) -> Column:
    """(N, T + 1) float32 from columns of lists, nan where a list has ended."""
    lengths = [column.combine_chunks().value_lengths().fill_null(0).to_numpy() for column in lists]
    values = np.full((sum(map(len, lengths)), max(int(n.max(initial=0)) for n in lengths)), np.nan, np.float32)
    first = 0
    for column, n in zip(lists, lengths, strict=True):
        within = np.arange(values.shape[1]) < n[:, None]
        values[first : first + len(n)][within] = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
        first += len(n)
    return values


def _from_arrow(column: Any) -> Column:
    import pyarrow as pa

    if pa.types.is_null(column.type):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values: Column = column.to_numpy()
        return values
    # One text object for all equal cells: a million people share one scenario's hash.
    coded = column.cast(pa.string()).fill_null("").combine_chunks().dictionary_encode()
    return np.array(coded.dictionary.to_pylist(), object)[coded.indices.to_numpy()]


def _listed(folder: Path) -> list[dict[str, Any]]:
    """The manifest's parts: `file`, and where it says so `rows` and `sha256`."""
    file = folder / "manifest.json"
    if not file.is_file():
        raise UserError(
            f"{folder}: no manifest.json, so nobody knows which parts belong together: "
            "run the same `calib simulate` again, it goes on where it was interrupted"
        )
    try:
        parts: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["parts"]
        if not all((folder / part["file"]).resolve().is_relative_to(folder.resolve()) for part in parts):
            raise ValueError("a part lies in the folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{file}: not a manifest with a list of parts: simulate again into a new folder") from None
    if not parts:
        raise UserError(f"{file}: lists no part: run the same `calib simulate` again")
    return parts


def read_journal(url: str, details: bool = False) -> Table:
    """The finished runs of a journal, a row each; with `details` also the degrees by round and the gaps of the last."""
    from calib.journal import EntryType, open_journal

    types: tuple[EntryType, ...] = ("start", "stop", "truth", *(("round",) if details else ()))
    rows: list[dict[str, Any]] = []
    degrees: dict[str, list[list[float]]] = {name: [] for name in PER_ROUND}
    left_out = {"open": 0, "erased": 0}
    with open_journal(url, create=False) as journal:
        source = journal.where
        for run in journal.runs():
            if run.state in left_out:
                left_out[run.state] += 1
                continue
            found = [e for e in journal.entries(run.run, types) if e.body is not None]
            bodies = {e.type: e.body for e in found if e.body is not None}
            if "start" not in bodies or "stop" not in bodies:
                continue
            start, truth = bodies["start"], bodies.get("truth")
            row = {"run": run.run} | _row(start, bodies["stop"], truth, run.run)
            if details:
                degrees["true_degree"].append(truth["true_degree"] if truth else [])
                after = [e.body["degree"]["mean"] for e in found if e.type == "round" and e.body is not None]
                degrees["estimated_degree"].append([start["prior_only"]["mean"], *after])
                row |= _gaps(bodies.get("round"), truth)
            rows.append(row)
    if not rows:
        raise UserError(f"{source}: no finished run in this journal: `calib run` makes one")
    columns = {name: _plain(np.array([row[name] for row in rows], object)) for name in rows[0]}
    runs = columns["run"]
    counted = " and ".join(f"{number} {state}" for state, number in left_out.items() if number)
    notes = (f"runs left out: {counted}",) if counted else ()
    conditions = ("device", "role", "policy", "person_model")
    per_round = {name: _rows_of(lists) for name, lists in degrees.items()} if details else None

    def where(i: int) -> str:
        return f"{source}, run {runs[i]}"

    return Table(source, columns, where, conditions, ours=True, notes=notes, per_round=per_round)


def _rows_of(lists: list[list[float]]) -> Column:
    """(N, T + 1) from lists of different lengths, nan where a list has ended."""
    values = np.full((len(lists), max(map(len, lists))), np.nan)
    for row, known in zip(values, lists, strict=True):
        row[: len(known)] = known
    return values


def _gaps(last: dict[str, Any] | None, truth: dict[str, Any] | None) -> dict[str, Any]:
    """The gaps of the last round: exact where the truth is known, else estimated; None without evidence."""
    exact = truth["rounds"][-1]["gaps"] if truth and truth["rounds"] else None
    found = exact or (last["gaps"] if last else {})
    names = (*GAPS, "choice_and_mediation")
    gaps = {name: (found.get(name) or {}).get("estimate") for name in names}
    if gaps["choice"] is not None:  # the sum is for those of whom nothing else is known
        gaps["choice_and_mediation"] = None
    known = "exact" if exact else "estimated" if last else None
    return {f"gap_{name}": value for name, value in gaps.items()} | {"gaps_known": known}


def _row(start: dict[str, Any], stop: dict[str, Any], truth: dict[str, Any] | None, run: str) -> dict[str, Any]:
    row = {name: start.get(name) for name in _OF_A_RUN}
    # Simulated people are told apart by seed and number; a human without a pseudonym is taken for somebody new.
    simulated = None if start.get("person") is None else f"{start['person']} of seed {start['seed']}"
    row["person"] = start.get("participant") or simulated or run
    times = dict(stop["time"]) | ({"true": truth["time"]} if truth else {})
    for version in VERSIONS:
        found = times.get(version) or {}
        row[f"{version}_event"] = found.get("event")
        row |= {f"{version}_{clock}": found.get(clock) for clock in CLOCKS}
    row["declared_falsely"] = None
    if truth and row["declared_event"] == 1:
        at = int(times["declared"]["rounds"])
        row["declared_falsely"] = truth["true_degree"][at] < 1 - start["eps"]
    return row


def _plain(values: Column) -> Column:
    """Numbers where all that is known is a number (nan elsewhere), otherwise text ("" where nothing is known)."""
    if values.dtype.kind in "iufb":
        return values
    known = [v is not None for v in values]
    if all(isinstance(v, int | float | np.number | np.bool_) for v in values[known]):
        return np.array([np.nan if v is None else float(v) for v in values])
    return np.array(["" if v is None else str(v) for v in values])


def _conditions(columns: dict[str, Column]) -> tuple[str, ...]:
    return tuple(name for name in columns if name not in _ROW)


def only(table: Table, conditions: Sequence[str]) -> Table:
    """The rows for which every COLUMN=VALUE or COLUMN!=VALUE holds."""
    kept = np.ones(table.num_rows, bool)
    for condition in conditions:
        name, equals, value = condition.partition("=")
        if not equals:
            raise UserError(f"--where {condition}: give COLUMN=VALUE or COLUMN!=VALUE")
        compare = operator.ne if name.endswith("!") else operator.eq
        kept &= compare(as_text(table.column(name.removesuffix("!").strip())), value.strip())
    if not kept.any():
        raise UserError(f"{table.source}: no row is left by --where {' '.join(conditions)}: look at the values")
    rows = np.flatnonzero(kept)
    columns = {name: values[rows] for name, values in table.columns.items()}
    per_round = table.per_round and {name: values[rows] for name, values in table.per_round.items()}
    return replace(table, columns=columns, where=lambda i: table.where(int(rows[i])), per_round=per_round)


def as_text(values: Column) -> Column:
    """Every value as a message or a group's name shows it; "" where nothing is known."""
    if values.dtype.kind in "UO":
        return values
    distinct, place = np.unique(values, return_inverse=True)
    return np.array(["" if v != v else f"{v:.15g}" if distinct.dtype.kind == "f" else str(v) for v in distinct])[place]


def as_numbers(table: Table, name: str, what: str) -> NDArray[np.float64]:
    """The column as finite numbers, or a UserError that names the first row where it is none."""
    values = table.column(name)
    if values.dtype.kind in "iufb":
        numbers = values.astype(float)
    else:
        try:
            numbers = values.astype(float)
        except ValueError:
            numbers = np.array([_number(v) for v in values])
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        i = int(bad[0])
        cell = str(values[i]).strip()
        problem = f"the {what} is {cell!r}, not a number" if cell and cell != "nan" else f"the {what} is missing"
        raise UserError(f"{table.where(i)}: {problem} (column {name}): fill it in or leave the row out")
    return numbers


def _number(cell: object) -> float:
    try:
        return float(str(cell))
    except ValueError:
        return float("nan")
