"""A simulation as the page asks for it: how many sessions it is, in how many parts, and its exact command."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from calib.errors import UserError
from dashboard.data import JOURNAL, data_folder
from experiments.parts import usual_chunk

_PARTS = 20  # of a condition at least, so that progress is seen, unless parts would get too small
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True)
class Simulation:
    """The arguments of one `calib simulate`."""

    scenario: str  # a shipped name or a TOML file
    roles: tuple[str, ...]
    policies: tuple[str, ...]
    persons: tuple[str, ...]
    engine: str
    people: int  # in each condition
    rounds: int | None  # None: the scenario's
    seed: int
    jobs: int
    name: str  # of its folder in the data folder

    @property
    def num_conditions(self) -> int:
        """Roles, policies and person models, crossed."""
        return len(self.roles) * len(self.policies) * len(self.persons)

    @property
    def num_sessions(self) -> int:
        """Sessions in all."""
        return self.num_conditions * self.people

    @property
    def num_parts(self) -> int:
        """Files in all."""
        return self.num_conditions * -(-self.people // self.chunk)

    @property
    def chunk(self) -> int:
        """People in a part."""
        most = usual_chunk(self.engine)
        return min(max(self.people // _PARTS, most // 16), most)

    @property
    def varying(self) -> tuple[str, ...]:
        """The condition columns that tell groups apart, in the order of a row."""
        lists = {"role": self.roles, "policy": self.policies, "person_model": self.persons}
        return tuple(name for name, values in lists.items() if len(values) > 1)

    def words(self) -> list[str]:
        """The command line. UserError for what cannot be started."""
        for what, values in (("role", self.roles), ("policy", self.policies), ("person model", self.persons)):
            if not values:
                raise UserError(f"no {what} is chosen: choose one or more")
        words = ["calib", "simulate", self.scenario, "--people", str(self.people)]
        words += ["--role", ",".join(self.roles), "--policy", ",".join(self.policies)]
        words += [word for person in self.persons for word in ("--person", person)]
        words += ["--engine", self.engine]
        words += ["--rounds", str(self.rounds)] if self.rounds is not None else []
        words += ["--seed", str(self.seed), "--jobs", str(self.jobs), "--chunk", str(self.chunk)]
        return [*words, "--out", str(folder_of(self.name))]


def folder_of(name: str) -> Path:
    """The folder of a population by its name. UserError where it is no plain name."""
    if not _NAME.fullmatch(name) or name == JOURNAL:
        raise UserError(
            f"{name!r} cannot name a folder: take letters, digits, '.', '-' and '_', a letter or digit first"
        )
    return data_folder() / name


def own_name(scenario: str, seed: int) -> str:
    """The name that a population has unless it is given another: the scenario's and its seed."""
    stem = re.sub(r"[^A-Za-z0-9_.-]", "-", Path(scenario).stem).lstrip("_.-")
    return f"{stem or 'population'}-{seed}"


def num_sessions_words(simulation: Simulation) -> str:
    """How much it is, in words."""
    parts = f"{simulation.num_parts:,} part{'s' if simulation.num_parts != 1 else ''}"
    return (
        f"{simulation.num_conditions} condition{'s' if simulation.num_conditions != 1 else ''} × "
        f"{simulation.people:,} people = {simulation.num_sessions:,} sessions, in {parts}"
    )


def without_program(words: Sequence[str]) -> list[str]:
    """The words after `calib`."""
    assert words[0] == "calib"
    return list(words[1:])
