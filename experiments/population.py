"""Populations: conditions crossed, people in chunks, one Parquet part a chunk, and a manifest over them.

A part is a function of the plan alone: whoever computes it, in whatever order and company, gets the same rows. It is
written to a name of its own and renamed: a part is there whole or not at all, and what is there is not computed again.
"""

import fcntl
import hashlib
import itertools
import json
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from calib.errors import UserError
from calib.gaps import GAPS
from calib.provenance import code_sha256, platform_fingerprint
from calib.scenario import load_scenario_text
from calib.setup import Setup, make_setup
from experiments.batch import Sessions, simulate_sessions
from experiments.people import load_person

SCHEMA = 1
CONDITION = ("role", "policy", "person_model")
# The row contract, in its order. A version of time that was not measured is null.
COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("person", pa.int64()),
    *((name, pa.string()) for name in CONDITION),
    *((name, pa.string()) for name in ("kind", "rung", "scenario_hash", "engine")),
    ("event", pa.int64()),
    ("rounds", pa.int64()),
    *((name, pa.float64()) for name in ("attention_s", "wall_s", "robot_s", "effort")),
    *(
        (f"{v}_{what}", pa.int64())
        for v in ("true", "declared", "accepted", "verified")
        for what in ("event", "rounds")
    ),
    ("true_degree_final", pa.float64()),
    ("declared_falsely", pa.bool_()),
)
# After the contract: one person in detail. A list has an entry a completed round, behind one from before the first.
_LISTS = ("true_degree", "estimated_degree", "degree_low", "degree_high")
DETAILS: tuple[tuple[str, pa.DataType], ...] = (
    *((name, pa.list_(pa.float32())) for name in _LISTS),
    *((f"gap_{name}", pa.float64()) for name in GAPS),  # of the last completed round; null without one
)
PRIMARY = "true"  # the version of time that `event` and `rounds` repeat
_LABEL = b"calib.part"  # where a Parquet file says what it is
_RESTARTS = 3  # of a pool whose worker was killed
CHUNKS = {"bulk": 1024, "oracle": 4096}  # people in a part where none are given, others 256
# A part is computed in memory as a whole; every part is a file.
MAX_CHUNK, MAX_PARTS, MAX_ROUNDS, MAX_PARTICLES = 16_384, 1_000_000, 10_000, 1_000_000

Part = tuple[int, int, int]  # condition, first person, last person + 1


@dataclass(frozen=True)
class Plan:
    """What is simulated: plain values, so that a worker needs nothing else."""

    scenario_file: str
    scenario_text: str
    conditions: tuple[tuple[str, str, str], ...]  # in the order of CONDITION
    people: int
    seed: int
    max_rounds: int | None
    stop_rule: str
    engine: str
    particles: int | None
    chunk: int

    @property
    def parts(self) -> list[Part]:
        """Every part, in the order of the rows."""
        edges = [(a, min(a + self.chunk, self.people)) for a in range(0, self.people, self.chunk)]
        return [(c, a, b) for c in range(len(self.conditions)) for a, b in edges]

    def sha256(self) -> str:
        """What makes two plans the same: everything but the chunks, and the code."""
        body = {k: v for k, v in asdict(self).items() if k not in ("chunk", "scenario_file")}
        return hashlib.sha256(json.dumps([body, code_sha256()], sort_keys=True).encode()).hexdigest()


def make_plan(
    scenario_file: str,
    scenario_text: str,
    *,
    roles: list[str],
    policies: list[str],
    people_specs: list[str],
    people: int,
    seed: int,
    max_rounds: int | None,
    stop_rule: str,
    particles: int | None,
    chunk: int,
    engine: str = "live",
) -> Plan:
    """A plan over the crossed conditions; UserError for anything that is none."""
    if people < 1:
        raise UserError(f"--people: {people} is too few; give 1 or more")
    if not 1 <= chunk <= MAX_CHUNK:
        raise UserError(f"--chunk: {chunk} is no number of people for a part; give 1 to {MAX_CHUNK}")
    if max_rounds is not None and max_rounds > MAX_ROUNDS:
        raise UserError(f"--rounds: {max_rounds} is too many; give {MAX_ROUNDS} at most")
    if particles is not None and not 16 <= particles <= MAX_PARTICLES:
        raise UserError(f"--particles: {particles} is no number of particles; give 16 to {MAX_PARTICLES}")
    conditions = tuple(itertools.product(roles, policies, people_specs))
    num_parts = -(-people // chunk) * len(conditions)
    if num_parts > MAX_PARTS:
        raise UserError(
            f"--people: {num_parts} parts; give fewer people or a larger --chunk: {MAX_PARTS} parts at most"
        )
    if len(set(conditions)) < len(conditions):
        raise UserError("--role, --policy or --person names something twice; name each once")
    plan = Plan(scenario_file, scenario_text, conditions, people, seed, max_rounds, stop_rule, engine, particles, chunk)
    for condition in range(len(conditions)):
        setup_of_condition(plan, condition)
        load_person(conditions[condition][2])
    return plan


@lru_cache(maxsize=16)
def setup_of_condition(plan: Plan, condition: int) -> Setup:
    """The setup of one condition, made once in a process."""
    role, policy, _ = plan.conditions[condition]
    return make_setup(
        load_scenario_text(plan.scenario_text, plan.scenario_file),
        role=role,
        policy=policy,
        stop_rule=plan.stop_rule,
        max_rounds=plan.max_rounds,
        seed=plan.seed,
        engine=plan.engine,
        num_particles=plan.particles,
    )


def simulate_part(plan: Plan, part: Part) -> pa.Table:
    """The rows of one part."""
    condition, first, end = part
    setup = setup_of_condition(plan, condition)
    model, parameters = load_person(plan.conditions[condition][2])
    people = np.arange(first, end)
    return _table(plan, condition, setup, people, simulate_sessions(setup, model, parameters, people))


def _table(plan: Plan, condition: int, setup: Setup, people: np.ndarray, sessions: Sessions) -> pa.Table:
    rows, num = np.arange(len(people)), len(people)
    times = sessions.times
    primary = times[PRIMARY]
    clocks = sessions.clocks[rows, np.minimum(primary.rounds, sessions.last_round)]
    declared = times["declared"]
    degree_then = sessions.true_degree[rows, np.minimum(declared.rounds, sessions.last_round)]
    unmeasured = [None] * num
    columns: dict[str, Any] = {"person": people}
    columns |= {name: [plan.conditions[condition][i]] * num for i, name in enumerate(CONDITION)}
    fixed = {
        "kind": "simulated",
        "rung": "simulator",
        "scenario_hash": setup.scenario.hash,
        "engine": setup.engine_label,
    }
    columns |= {name: [value] * num for name, value in fixed.items()}
    columns |= {"event": primary.event, "rounds": primary.rounds}
    columns |= {name: clocks[:, i] for i, name in enumerate(("attention_s", "wall_s", "robot_s", "effort"), 1)}
    for version in ("true", "declared", "accepted"):
        columns |= {f"{version}_event": times[version].event, f"{version}_rounds": times[version].rounds}
    columns |= {"verified_event": unmeasured, "verified_rounds": unmeasured}
    columns["true_degree_final"] = sessions.true_degree[rows, sessions.last_round]
    columns["declared_falsely"] = (declared.event == 1) & (degree_then < 1 - setup.scenario.eps)
    table = {name: pa.array(columns[name], kind) for name, kind in COLUMNS}
    mean, low, high = (sessions.estimate[:, :, i] for i in range(3))
    for name, degrees in zip(_LISTS, (sessions.true_degree, mean, low, high), strict=True):
        table[name] = _lists(degrees, sessions.last_round)
    table |= {f"gap_{name}": pa.array(getattr(sessions.gaps, name), from_pandas=True) for name in GAPS}
    return pa.table(table)


def _lists(values: np.ndarray, last_round: np.ndarray) -> pa.ListArray:
    """Of each row of values (N, T + 1) the entries 0 to its last round."""
    within = np.arange(values.shape[1]) <= last_round[:, None]
    offsets = np.concatenate([[0], np.cumsum(last_round + 1)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values[within].astype(np.float32))


def part_path(folder: Path, part: Part) -> Path:
    """The file of a part."""
    condition, first, end = part
    return folder / "parts" / f"c{condition:03d}-{first:08d}-{end:08d}.parquet"


def part_bytes(plan: Plan, part: Part) -> bytes:
    """A part as a Parquet file with a checksum for every page, which says of what plan and people it is."""
    sink = pa.BufferOutputStream()
    table = simulate_part(plan, part).replace_schema_metadata({_LABEL: _label(plan, part)})
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def completed_rounds(content: bytes) -> int:
    """The person-rounds in a part: its lists of degrees have an entry a round, and one from before the first."""
    degrees = _decoded(content, ["true_degree"]).column("true_degree")
    return int(pyarrow.compute.sum(pyarrow.compute.list_value_length(degrees)).as_py()) - len(degrees)


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
        table = _decoded(content)
        if [(field.name, field.type) for field in table.schema] != [*COLUMNS, *DETAILS]:
            return False
    except Exception:  # what a flipped bit makes of a file fails in many ways
        return False
    if (table.schema.metadata or {}).get(_LABEL) != _label(plan, part):
        raise UserError(f"{path}: is a part of another simulation: move it away and run again")
    return bool(table.num_rows == part[2] - part[1])


def _label(plan: Plan, part: Part) -> bytes:
    return json.dumps([plan.sha256(), *part]).encode()


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
        yield from _in_processes(plan, parts, jobs)


def _in_processes(plan: Plan, parts: list[Part], jobs: int) -> Iterator[tuple[Part, bytes]]:
    """A killed worker breaks its pool; the parts that are missing then go to a new one."""
    left = list(parts)
    for attempt in range(_RESTARTS + 1):
        others = set(active_children())
        with _one_thread():
            pool = ProcessPoolExecutor(min(jobs, len(left)), mp_context=get_context("spawn"), initializer=_serve)
            open_parts = {pool.submit(part_bytes, plan, part): part for part in left}
        try:
            while open_parts:
                ready, _ = wait(open_parts, return_when=FIRST_COMPLETED)
                for future in ready:
                    content = future.result()
                    part = open_parts.pop(future)
                    left.remove(part)
                    yield part, content
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
        return _decoded(path.read_bytes(), columns)
    except (OSError, pa.ArrowException):
        raise UserError(f"{path}: is a damaged part: run again, it is computed again") from None


def _decoded(content: bytes, columns: list[str] | None = None) -> pa.Table:
    # from memory and without threads: a reader's pool that lives at exit can abort the process
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    return file.read(columns, use_threads=False)
