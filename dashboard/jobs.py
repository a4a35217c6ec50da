"""Simulations that pages started: processes of their own, found again by a reload, a second tab or a new server.

A file a population in the hidden folder `.jobs` of the data folder says which process it is; as in calib/registry.py
a process number counts only together with the time when that process was born.
"""

import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from calib.errors import UserError
from calib.registry import born, locked
from dashboard.data import data_folder
from dashboard.processes import launch
from dashboard.simulation import Simulation, folder_of

State = Literal["running", "finished", "interrupted", "failed"]

# A server in the background ignores SIGINT and leaves that to its children, who could not be interrupted then.
_CALIB = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from cli.main import main; sys.exit(main())"
)
GRACE_S = 5.0  # from an interrupt until a second one kills


@dataclass(frozen=True)
class Job:
    """One process of `calib simulate` and what it is to make."""

    name: str  # of the population
    words: tuple[str, ...]  # the command, `calib` first
    by: tuple[str, ...]  # columns that tell its groups apart
    parts: int  # in all
    pid: int
    born: str
    started: float  # seconds since the epoch

    @property
    def folder(self) -> Path:
        """Where its parts are."""
        return folder_of(self.name)

    def is_alive(self) -> bool:
        """Whether that very process runs."""
        return self.born != "" and born(self.pid) == self.born


def named(simulation: Simulation) -> Simulation:
    """The simulation under a name whose folder is free, or whose job is this very command.

    One that cannot be started keeps its name.
    """
    try:
        simulation.words()
    except UserError:
        return simulation
    for i in itertools.count(1):
        other = replace(simulation, name=simulation.name + (f"-{i}" if i > 1 else ""))
        held = _job_of(_folder() / f"{other.name}.json")
        free = not folder_of(other.name).exists() if held is None else list(held.words) == other.words()
        if free:
            return other
    raise AssertionError("a name is free in the end")


def start(simulation: Simulation) -> Job:
    """Start it. UserError where its folder is being written already or where nothing can be written."""
    return _launch(simulation.name, simulation.words(), simulation.varying, simulation.num_parts)


def resume(job: Job) -> Job:
    """The same command again: it goes on with the parts that are missing."""
    return _launch(job.name, job.words, job.by, job.parts)


def interrupt(job: Job) -> None:
    """Interrupt it and its workers, as Ctrl-C does; parts that are whole stay. Asked again after GRACE_S it kills."""
    if not job.is_alive():
        return
    note = _folder() / f"{job.name}.interrupted"
    asked = note.stat().st_mtime if note.exists() else None
    hard = asked is not None and asked > job.started and time.time() - asked > GRACE_S
    if asked is None or asked <= job.started:
        note.touch()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL if hard else signal.SIGINT)


def is_being_interrupted(job: Job) -> bool:
    """Whether it was asked to end and has not yet."""
    with contextlib.suppress(OSError):
        return job.is_alive() and (_folder() / f"{job.name}.interrupted").stat().st_mtime > job.started
    return False


def jobs() -> list[Job]:
    """Every job that has a file, the most recent first."""
    found = [_job_of(path) for path in _folder().glob("*.json")]
    return sorted((job for job in found if job is not None), key=lambda job: -job.started)


def find(name: str | None, among: Sequence[Job]) -> Job:
    """The job of a population, the first without a name, or a UserError that says which there are."""
    found = {job.name: job for job in among}
    if name is None and among:
        return among[0]
    if name not in found:
        raise UserError(
            f"job={name}: no simulation of this name was started here; there is {', '.join(found) or 'none'}"
        )
    return found[name]


def state(job: Job) -> tuple[State, str]:
    """What became of it, and the line that says why where it did not finish."""
    if job.is_alive():
        return "running", ""
    if '"data_sha256"' in _tail(_folder() / f"{job.name}.out"):
        return "finished", ""
    lines = [line for line in _tail(_folder() / f"{job.name}.err").splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    asked = _folder() / f"{job.name}.interrupted"
    with contextlib.suppress(OSError):
        if asked.stat().st_mtime > job.started:
            return "interrupted", ""
    if last in ("", "interrupted"):
        return "interrupted", "" if last else "its process was ended from outside"
    return "failed", last


def _launch(name: str, words: Sequence[str], by: Sequence[str], parts: int) -> Job:
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder):
            path = folder / f"{name}.json"
            other = _job_of(path)
            if other is not None and other.is_alive():
                raise UserError(f"{folder_of(name)}: is being simulated (pid {other.pid}): wait, or interrupt it first")
            with (folder / f"{name}.out").open("wb") as out, (folder / f"{name}.err").open("wb") as err:
                pid = launch(["-c", _CALIB, *words[1:], "--json"], out, err)
            job = Job(name, tuple(words), tuple(by), parts, pid, born(pid), time.time())
            temporary = folder / f".{name}.{os.getpid()}"
            temporary.write_text(json.dumps(asdict(job)), encoding="utf-8")
            temporary.replace(path)
            return job
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror}): look at its permissions") from None


def _folder() -> Path:
    return data_folder() / ".jobs"


def _job_of(path: Path) -> Job | None:
    """The job of a file, None where it holds none."""
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        job = Job(**{**body, "words": tuple(body["words"]), "by": tuple(body["by"])})
        folder_of(job.name)
    except (OSError, ValueError, TypeError, KeyError, UserError):
        return None
    texts = all(isinstance(text, str) for text in (job.born, *job.words, *job.by))
    numbers = type(job.pid) is int and type(job.parts) is int and isinstance(job.started, int | float)
    whole = texts and numbers and job.words[:2] == ("calib", "simulate") and job.pid > 1 and job.name == path.stem
    return job if whole else None


def _tail(path: Path, most: int = 20_000) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - most, 0))
            return file.read().decode(errors="replace")
    except OSError:
        return ""
