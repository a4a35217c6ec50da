"""Populations: conditions crossed, people in chunks, one Parquet part a chunk, and a manifest over them.

A part is written to a name of its own and renamed: it is there whole or not at all, and what is there is not
computed again (experiments/parts.py says what a part is).
"""

import fcntl
import hashlib
import json
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute

from calib.errors import UserError
from calib.provenance import code_sha256, platform_fingerprint
from calib.scenario import load_scenario_text
from experiments.parts import (
    COLUMNS,
    CONDITION,
    DETAILS,
    LABEL,
    PRIMARY,
    Part,
    Plan,
    completed_rounds,
    decoded,
    label,
    part_bytes,
)

Found = TypeVar("Found")

SCHEMA = 1
_RESTARTS = 3  # of a pool whose worker was killed


def part_path(folder: Path, part: Part) -> Path:
    """The file of a part."""
    condition, first, end = part
    return folder / "parts" / f"c{condition:03d}-{first:08d}-{end:08d}.parquet"


def is_there(plan: Plan, folder: Path, part: Part) -> bool:
    """Whether the file of a part is there and whole. UserError where it is another part than its name says."""
    path = part_path(folder, part)
    if not path.exists():
        return False
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}): look at its permissions") from None
    try:
        table = decoded(content)
        if [(field.name, field.type) for field in table.schema] != [*COLUMNS, *DETAILS]:
            return False
    except Exception:  # what a flipped bit makes of a file fails in many ways
        return False
    if (table.schema.metadata or {}).get(LABEL) != label(plan, part):
        raise UserError(f"{path}: is a part of another simulation: move it away and run again")
    return bool(table.num_rows == part[2] - part[1])


def simulate_population(
    plan: Plan,
    folder: Path,
    jobs: int,
    done: Callable[[int], None],
    *,
    scheduler: str | None = None,
    ran: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """All parts of a plan, resuming what is there, then the manifest; `done(people)` after each part. The manifest.

    `ran(rounds)` after each part that was computed now, with the person-rounds that its people completed.

    The parts are computed in `jobs` processes, or by the workers of the Dask scheduler at an address, and written here.
    UserError for a folder that holds something else, is in use or cannot be written, and for lost workers; what is
    written by then is kept.
    """
    with _alone(folder):
        _claim(plan, folder)
        for left_over in (folder / "parts").glob("c[0-9]*.tmp"):  # of a process that was killed while it wrote
            left_over.unlink(missing_ok=True)
        missing = []
        for part in plan.parts:
            if is_there(plan, folder, part):
                done(part[2] - part[1])
            else:
                missing.append(part)
        with closing(_computed(plan, missing, jobs, scheduler)) as computed:
            for part, content in computed:
                _write(part_path(folder, part), content)
                if ran is not None:
                    ran(completed_rounds(content))
                done(part[2] - part[1])
        manifest = _manifest(plan, folder)
        _write(folder / "manifest.json", _json(manifest))
    return manifest


def _manifest(plan: Plan, folder: Path) -> dict[str, Any]:
    paths = [part_path(folder, part) for part in plan.parts]
    return {
        "schema": SCHEMA,
        "plan": {k: v for k, v in asdict(plan).items() if k != "scenario_text"},
        "plan_sha256": plan.sha256(),
        "scenario_text": plan.scenario_text,
        "scenario_hash": load_scenario_text(plan.scenario_text, plan.scenario_file).hash,
        "code_sha256": code_sha256(),
        "platform": platform_fingerprint(),
        "primary": PRIMARY,
        "parts": [
            {
                "file": path.relative_to(folder).as_posix(),
                "rows": part[2] - part[1],
                "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            }
            for part, path in zip(plan.parts, paths, strict=True)
        ],
        "rows": plan.people * len(plan.conditions),
        "data_sha256": data_sha256(paths),
    }


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep every other simulation out of it."""
    with _writing(folder):
        (folder / "parts").mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(f"{folder}: another process simulates into this folder: let it finish") from None
        except BaseException:
            os.close(handle)
            raise
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}): mend it and run again to go on, or choose another --out"
        ) from None


def _write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with _writing(path.parent):
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise


def _json(body: dict[str, Any]) -> bytes:
    return (json.dumps(body, indent=1) + "\n").encode()


def _claim(plan: Plan, folder: Path) -> None:
    """One folder, one plan: parts of another one are never mixed in."""
    path = folder / "plan.json"
    own = {"plan_sha256": plan.sha256(), "chunk": plan.chunk}
    if path.exists():
        try:
            held = json.loads(path.read_text())
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}): look at its permissions") from None
        except ValueError:
            raise UserError(f"{path}: is damaged; choose another --out folder") from None
        if held != own:
            raise UserError(
                f"{folder}: holds another simulation (seed, people, conditions, chunk or code); choose another --out"
            )
    elif any((folder / "parts").glob("*.parquet")):
        raise UserError(f"{folder}: holds Parquet files but no plan.json; choose another --out folder")
    else:
        _write(path, _json(own))


def _computed(
    plan: Plan, parts: list[Part], jobs: int, scheduler: str | None
) -> Generator[tuple[Part, bytes], None, None]:
    """Parts as they get done."""
    if not parts:
        return
    if scheduler is not None:
        try:
            from experiments.cluster import on_cluster
        except ModuleNotFoundError:
            raise UserError(
                "--scheduler: needs the extra `cluster`: python -m pip install 'interaction-calibration-lab[cluster]'"
            ) from None
        yield from on_cluster(plan, parts, scheduler)
    elif jobs == 1 or len(parts) == 1:
        for part in parts:
            yield part, part_bytes(plan, part)
    else:
        yield from in_processes(partial(part_bytes, plan), parts, jobs)


def in_processes(
    compute: Callable[[Part], Found], parts: list[Part], jobs: int
) -> Generator[tuple[Part, Found], None, None]:
    """Parts as they get done. A killed worker breaks its pool; the parts that are missing then go to a new one."""
    left = list(parts)
    for attempt in range(_RESTARTS + 1):
        others = set(active_children())
        with _one_thread():
            pool = ProcessPoolExecutor(min(jobs, len(left)), mp_context=get_context("spawn"), initializer=_serve)
            open_parts = {pool.submit(compute, part): part for part in left}
        try:
            while open_parts:
                ready, _ = wait(open_parts, return_when=FIRST_COMPLETED)
                for future in ready:
                    found = future.result()
                    part = open_parts.pop(future)
                    left.remove(part)
                    yield part, found
            return
        except BrokenProcessPool:
            if attempt == _RESTARTS:
                raise UserError(f"--jobs: workers were killed {attempt + 1} times; run again to go on") from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in set(active_children()) - others:
                worker.terminate()
                worker.join()


@contextmanager
def _one_thread() -> Iterator[None]:
    """A process that is started here computes in one thread."""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve() -> None:
    """A worker leaves interrupts to its parent, and goes when that has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    assert parent is not None

    def leave() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=leave, daemon=True).start()


def data_sha256(paths: list[Path]) -> str:
    """Over the contract columns in their order, rows by condition and person, floats as little-endian f64."""
    table = pa.concat_tables([_read(path, [name for name, _ in COLUMNS]) for path in paths])
    table = table.sort_by([*((name, "ascending") for name in CONDITION), ("person", "ascending")])
    total = hashlib.sha256()
    for name, kind in COLUMNS:
        column = table.column(name)
        if pa.types.is_string(kind):
            total.update("\0".join(column.to_pylist()).encode())
        elif pa.types.is_floating(kind):
            total.update(column.to_numpy().astype("<f8").tobytes())
        else:
            total.update(pa.compute.fill_null(column.cast(pa.int64()), -1).to_numpy().astype("<i8").tobytes())
    return total.hexdigest()


def _read(path: Path, columns: list[str]) -> pa.Table:
    try:
        return decoded(path.read_bytes(), columns)
    except (OSError, pa.ArrowException):
        raise UserError(f"{path}: is a damaged part: run again, it is computed again") from None
