"""Reading a TOML table strictly: every key is taken once, with its kind; what is left over is a mistake."""

import difflib
import math
from typing import Any

from calib.errors import UserError


class Fields:
    """One table of a TOML file. `take` removes a key and checks it; `end` refuses the keys that nobody took.

    Every refusal is a UserError of one line: file, key, what is wrong, what to do.
    """

    def __init__(self, raw: Any, file: str, path: str = "") -> None:
        self.file = file
        self.path = path
        if not isinstance(raw, dict):
            raise self.wrong("", f"is {_kind(raw)}, not a table; write it as [{path}]")
        self.raw = dict(raw)
        self.taken: list[str] = []

    def wrong(self, key: str, problem: str) -> UserError:
        """The error for a key of this table."""
        where = ".".join(part for part in (self.path, key) if part)
        message = f"{self.file}: {where}: {problem}" if where else f"{self.file}: {problem}"
        return UserError(message.replace("\n", " "))

    def take(self, key: str) -> Any:
        """Any value."""
        self.taken.append(key)
        if key not in self.raw:
            raise self.wrong(key, "is missing; add it (docs/scenario.md lists every key)")
        return self.raw.pop(key)

    def text(self, key: str, among: tuple[str, ...] = ()) -> str:
        """A non-empty string, one of `among` where given."""
        value = self.take(key)
        if not isinstance(value, str) or not value.strip():
            raise self.wrong(key, f"is {_kind(value)}, not a text; put it in quotes")
        if among and value not in among:
            raise self.wrong(key, f'is "{value}"; write one of {", ".join(among)}')
        return value

    def number(self, key: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A finite number within [low, high]."""
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(key, f"is {_kind(value)}, not a number")
        if not is_finite(value):
            raise self.wrong(key, "is not a finite number; write one")
        if not low <= value <= high:
            raise self.wrong(key, f"is {value:g}; it must lie in {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number within [low, high]."""
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(key, f"is {_kind(value)}, not a whole number")
        if not low <= value <= high:
            raise self.wrong(key, f"is {value}; it must lie in {low} to {high}")
        return value

    def flag(self, key: str) -> bool:
        """true or false."""
        value = self.take(key)
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {_kind(value)}; write true or false")
        return value

    def table(self, key: str) -> "Fields":
        """A table inside this one."""
        return Fields(self.take(key), self.file, f"{self.path}.{key}" if self.path else key)

    def tables(self, key: str) -> list["Fields"]:
        """A non-empty list of tables, [[key]]."""
        value = self.take(key)
        if not isinstance(value, list) or not value:
            raise self.wrong(key, f"is empty; give at least one [[{key}]]")
        return [Fields(item, self.file, f"{self.path}.{key}[{i}]".lstrip(".")) for i, item in enumerate(value)]

    def items(self, key: str) -> list[Any]:
        """A non-empty list of plain values."""
        value = self.take(key)
        if not isinstance(value, list) or not value:
            raise self.wrong(key, "is not a list with at least one entry; write [..., ...]")
        return value

    def rest(self) -> list[str]:
        """The keys that nobody has taken yet, in the order of the file."""
        return list(self.raw)

    def end(self) -> None:
        """Refuse what is left over."""
        for key in self.raw:
            near = difflib.get_close_matches(key, self.taken, 1)
            hint = f'; did you mean "{near[0]}"?' if near else "; take it out"
            raise self.wrong(key, f"is not a key of this table{hint}")


def is_finite(value: Any) -> bool:
    """Whether a value is a number that fits a float and is neither infinite nor nan."""
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # TOML's whole numbers may be of any length
        return False


def _kind(value: Any) -> str:
    names = {bool: "true/false", int: "a number", float: "a number", str: "a text", list: "a list", dict: "a table"}
    return names.get(type(value), type(value).__name__)
