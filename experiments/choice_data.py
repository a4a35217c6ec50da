"""Choices read from a CSV file in long format: a row an option, checked in columns, with the line of every mistake.

The columns `person`, `round`, `option`, `chosen` are needed, `channel` may be there, every other one is an attribute. A
choice is a person's round; its rows may stand anywhere in the file.
"""

import csv
import hashlib
import io
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calib.errors import UserError
from calib.scenario import CHANNELS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

NEEDED = ("person", "round", "option", "chosen")
MASKS = ("recommended", "last")  # with simplex weights these columns are the pulls of the choice model
COMPARISON = CHANNELS.index("comparison")


@dataclass(frozen=True, eq=False)
class Choices:
    """Q choices of N people in R rows; a person's choices stand together, and so do a choice's rows."""

    source: str
    sha256: str  # of the file
    attributes: tuple[str, ...]  # J
    values: Floats  # (R, J)
    masks: Floats  # (R, 2), 1 where an option was recommended, and where it ran last
    has_mask: tuple[bool, bool]  # whether the file tells of either
    options: NDArray[Any]  # (R,) names
    start: Ints  # (Q + 1,) first row of each choice, and R
    chosen: Ints  # (Q,) option within the choice; in a comparison 0 first, 1 second, 2 about equal
    channel: Ints  # (Q,) number of a channel in calib.scenario.CHANNELS
    has_channel: bool  # whether the file names channels
    rounds: NDArray[Any]  # (Q,) names
    people: tuple[str, ...]  # N, in the order of the file; one called "all" where they are pooled
    person: Ints  # (Q,)

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return len(self.values)

    def of(self, low: int, high: int) -> "Choices":
        """The people from `low` up to `high`."""
        a, b = np.searchsorted(self.person, [low, high])
        rows = slice(self.start[a], self.start[b])
        return Choices(
            source=self.source,
            sha256=self.sha256,
            attributes=self.attributes,
            values=self.values[rows],
            masks=self.masks[rows],
            has_mask=self.has_mask,
            options=self.options[rows],
            start=self.start[a : b + 1] - self.start[a],
            chosen=self.chosen[a:b],
            channel=self.channel[a:b],
            has_channel=self.has_channel,
            rounds=self.rounds[a:b],
            people=self.people[low:high],
            person=self.person[a:b] - low,
        )


def read_choices(path: str, weights: str = "simplex", pool: bool = False, wanted: Sequence[str] = ()) -> Choices:
    """The choices of a file, checked. `wanted` names the attributes, () takes every column that is left.

    With simplex weights attributes must lie in 0..1, and the columns `recommended` and `last` are no attributes.
    """
    table = _Table(path)
    for name in NEEDED:
        table.text(name)  # refuses a file without it
    known = (*NEEDED, "channel", *(MASKS if weights == "simplex" else ()))
    others = tuple(name for name in table.header if name not in known)
    for name in wanted:
        if name not in others:
            raise UserError(f"{path}: {name!r} is no column of an attribute; there are {', '.join(others) or 'none'}")
    attributes = tuple(wanted) or others
    if not attributes:
        raise UserError(f"{path}: no column of an attribute beside {', '.join(known)}: add one for each attribute")

    person, people = table.codes("person")
    round_, rounds = table.codes("round")
    option, options = table.codes("option")
    key = person * len(rounds) + round_
    order = np.argsort(key, kind="stable")
    sorted_key = key[order]
    start = np.flatnonzero(np.r_[True, sorted_key[1:] != sorted_key[:-1], True])
    first = order[start[:-1]]  # a row of each choice

    def choice_name(i: int) -> str:
        return f"round {rounds[round_[i]]} of person {people[person[i]]}"

    inside = sorted_key * len(options) + option[order]
    again = np.argsort(inside, kind="stable")
    double = np.flatnonzero(np.diff(inside[again]) == 0)
    if len(double):
        i = int(np.min(order[again[double + 1]]))
        raise table.wrong(i, f"option {options[option[i]]} is there twice in {choice_name(i)}", "take one row out")

    channel, has_channel = np.zeros(len(first), np.int64), "channel" in table.header
    if has_channel:
        row_channel = table.among(
            "channel", {name: c for c, name in enumerate(CHANNELS)}, f"one of {', '.join(CHANNELS)}"
        )
        channel = row_channel[first]
        mixed = np.flatnonzero(row_channel[order] != np.repeat(channel, np.diff(start)))
        if len(mixed):
            i = int(np.min(order[mixed]))
            raise table.wrong(i, f"{choice_name(i)} has two channels", "give all of its rows the same")

    size = np.diff(start)
    alone = np.flatnonzero(size < 2)
    if len(alone):
        i = int(np.min(first[alone]))
        raise table.wrong(i, f"{choice_name(i)} has one option only", "add the others, or leave the round out")
    pairs = channel == COMPARISON
    crowd = np.flatnonzero(pairs & (size != 2))
    if len(crowd):
        i = int(np.min(first[crowd]))
        raise table.wrong(i, f"a comparison is of two options and {choice_name(i)} has more", "mend its rows")

    answers = {"": 0, "0": 0, "1": 1, "false": 0, "true": 1}
    mark = table.among("chosen", answers, "1 for the option that was chosen, else 0", numbers=True)[order]
    marks = np.add.reduceat(mark, start[:-1])
    many = np.flatnonzero(marks > 1)
    if len(many):
        i = int(np.min(first[many]))
        raise table.wrong(i, f"{choice_name(i)} has {marks[many[0]]} options chosen", "mark one with 1")
    none = np.flatnonzero((marks == 0) & ~pairs)
    if len(none):
        i = int(np.min(first[none]))
        remedy = "mark one with 1, or leave the round out (only a comparison may be left open: about equal)"
        raise table.wrong(i, f"{choice_name(i)} has no option chosen", remedy)
    chosen = np.full(len(first), 2)
    hits = np.flatnonzero(mark)
    choice_of_row = np.repeat(np.arange(len(first)), size)
    chosen[choice_of_row[hits]] = hits - start[choice_of_row[hits]]

    values = np.empty((len(order), len(attributes)))
    for j, name in enumerate(attributes):
        column = table.numbers(name)
        if weights == "simplex" and (np.min(column) < 0 or np.max(column) > 1):
            i = int(np.flatnonzero((column < 0) | (column > 1))[0])
            problem = f"{name} is {column[i]:g}, and simplex weights need attributes in 0..1 with 1 better"
            raise table.wrong(i, problem, "scale the column, or give --weights free")
        if weights == "free" and np.ptp(column) == 0:
            raise UserError(f"{path}: column {name} is the same in every row and tells nothing: leave it out")
        if weights == "free" and not 1e-100 < np.ptp(column) < 1e100:
            raise UserError(f"{path}: column {name} spans {np.ptp(column):g}: give it in another unit")
        values[:, j] = column[order]
    masks, has_mask = np.zeros((len(order), 2)), [False, False]
    for m, name in enumerate(MASKS):
        if weights == "simplex" and name in table.header:
            said = table.among(name, answers, "1 for the option that was, else 0", numbers=True)
            masks[:, m], has_mask[m] = said[order], True
    person_of = person[first]
    return Choices(
        source=path,
        sha256=table.sha256,
        attributes=attributes,
        values=values,
        masks=masks,
        has_mask=(has_mask[0], has_mask[1]),
        options=options[option[order]],
        start=start,
        chosen=chosen,
        channel=channel,
        has_channel=has_channel,
        rounds=rounds[round_[first]],
        people=("all",) if pool else tuple(people.tolist()),
        person=np.zeros_like(person_of) if pool else person_of,
    )


class _Table:
    """Columns of text, and which line of the file a row is."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            content = Path(path).read_bytes()
        except FileNotFoundError:
            raise UserError(f"{path}: there is no such file; give a CSV file of choices") from None
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}): give a CSV file of choices") from None
        self.sha256 = hashlib.sha256(content).hexdigest()
        content = content.removeprefix(b"\xef\xbb\xbf")
        try:
            content.decode("utf-8")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            raise UserError(f"{path}, line {line}: not a text in UTF-8: save the file as CSV in UTF-8") from None
        first, _, _ = content.partition(b"\n")
        self.header = [name.strip() for name in next(csv.reader(io.StringIO(first.decode("utf-8").rstrip("\r"))), [])]
        if not any(self.header):
            raise UserError(f"{path}: the file is empty: its first line names the columns")
        for i, name in enumerate(self.header):
            if not name:
                raise UserError(f"{path}, line 1: column {i + 1} has no name: give it one")
            if name in self.header[:i]:
                raise UserError(f"{path}, line 1: two columns are called {name!r}: rename one")
        self._content = content
        self._columns = self._parse(content)
        if not self._columns.num_rows:
            raise UserError(f"{path}: no row below the line of names: give it choices")

    def _parse(self, content: bytes) -> Any:
        import pyarrow as pa
        import pyarrow.csv

        broken: list[tuple[str, int]] = []

        def skip(row: Any) -> str:
            broken.append((row.text, row.actual_columns))
            return "skip"

        try:
            table = pa.csv.read_csv(
                pa.BufferReader(content),
                # Without pyarrow's thread pool: now and then it aborts Python at its exit.
                read_options=pa.csv.ReadOptions(
                    use_threads=False, column_names=self.header, skip_rows=1, block_size=1 << 24
                ),
                parse_options=pa.csv.ParseOptions(invalid_row_handler=skip),
                convert_options=pa.csv.ConvertOptions(
                    column_types={name: pa.string() for name in self.header}, check_utf8=False
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV file" in str(error):
                raise UserError(f"{self.path}: no row below the line of names: give it choices") from None
            reason = str(error).splitlines()[0]
            raise UserError(f"{self.path}: not a CSV file ({reason}): save it as CSV, separated by commas") from None
        if broken:
            text, cells = broken[0]
            line = next(n for n, said in enumerate(self._lines(), 1) if said.rstrip("\r") == text.rstrip("\r"))
            raise UserError(
                f"{self.path}, line {line}: {cells} cells, the first line names {len(self.header)} columns: "
                "mend the line"
            )
        return table

    def wrong(self, row: int, problem: str, remedy: str) -> UserError:
        """The error for a row."""
        full = (n for n, said in enumerate(self._lines(), 1) if said.strip("\r"))  # empty lines are no rows
        line = next(itertools.islice(full, row + 1, None))
        return UserError(f"{self.path}, line {line}: {problem}: {remedy}")

    def _lines(self) -> list[str]:
        return self._content.decode("utf-8").split("\n")

    def text(self, name: str) -> Any:
        """A column of text without blanks around it."""
        import pyarrow.compute as pc

        if name not in self.header:
            raise UserError(
                f"{self.path}: no column {name!r}; it has {', '.join(self.header)}: name one so, commas between"
            )
        return pc.utf8_trim_whitespace(self._columns.column(name).combine_chunks())

    def codes(self, name: str) -> tuple[Ints, NDArray[Any]]:
        """A number for each row and the texts that they stand for, in the order of the file; none may be empty."""
        coded = self.text(name).dictionary_encode()
        texts = np.array(coded.dictionary.to_pylist(), object)
        numbers: Ints = coded.indices.to_numpy().astype(np.int64)
        if "" in texts:
            row = int(np.flatnonzero(numbers == list(texts).index(""))[0])
            raise self.wrong(row, f"the {name} is missing", "fill it in or leave the round out")
        return numbers, texts

    def among(self, name: str, known: dict[str, int], said: str, numbers: bool = False) -> Ints:
        """A number for each row by its text, which must be one of `known`, or where so asked a number equal to one."""
        coded = self.text(name).dictionary_encode()
        found = np.array([_known(text, known, numbers) for text in coded.dictionary.to_pylist()])
        values: Ints = found[coded.indices.to_numpy()]
        bad = np.flatnonzero(values < 0)
        if len(bad):
            row = int(bad[0])
            cell = coded[row].as_py()
            raise self.wrong(row, f"{name} is {cell!r}" if cell else f"{name} is missing", f"write {said}")
        return values

    def numbers(self, name: str) -> Floats:
        """A column of finite numbers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        text = self.text(name)
        try:
            values: Floats = pc.cast(text, pa.float64()).to_numpy()
        except pa.ArrowInvalid:
            values = np.array([_number(cell) for cell in text.to_pylist()])
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            row = int(bad[0])
            cell = text[row].as_py()
            problem = f"{name} is {cell!r}, not a finite number" if cell else f"{name} is missing"
            raise self.wrong(row, problem, "fill it in or leave the round out")
        return values


def _known(text: str, known: dict[str, int], numbers: bool) -> int:
    if text.lower() in known:
        return known[text.lower()]
    value = _number(text) if numbers else float("nan")
    return int(value) if value in (0.0, 1.0) else -1


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
