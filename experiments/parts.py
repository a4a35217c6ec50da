"""A part of a population: what is simulated (the plan), and the rows and bytes of one chunk of people in one condition.

A part is a function of the plan alone: whoever computes it, in whatever order and company, gets the same rows.
"""

import hashlib
import itertools
import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from calib.errors import UserError
from calib.gaps import GAPS
from calib.provenance import code_sha256
from calib.scenario import load_scenario_text
from calib.setup import Setup, make_setup
from experiments import honesty
from experiments.batch import Sessions, simulate_sessions
from experiments.people import load_person

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
    *honesty.COLUMNS,
)
PRIMARY = "true"  # the version of time that `event` and `rounds` repeat
LABEL = b"calib.part"  # where a Parquet file says what it is
_CHUNKS = {"bulk": 2048, "oracle": 4096}  # people in a part where none are given
_USUAL_CHUNK = 256  # with every other engine
# A part is computed in memory as a whole; every part is a file.
MAX_CHUNK, MAX_PARTS, MAX_ROUNDS, MAX_PARTICLES = 16_384, 1_000_000, 10_000, 1_000_000

Part = tuple[int, int, int]  # condition, first person, last person + 1


def usual_chunk(engine: str) -> int:
    """People in a part where none are given."""
    return _CHUNKS.get(engine, _USUAL_CHUNK)


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
    return pa.table(table | honesty.honesty_columns(setup, sessions.state))


def _lists(values: np.ndarray, last_round: np.ndarray) -> pa.ListArray:
    """Of each row of values (N, T + 1) the entries 0 to its last round."""
    within = np.arange(values.shape[1]) <= last_round[:, None]
    offsets = np.concatenate([[0], np.cumsum(last_round + 1)]).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, values[within].astype(np.float32))


def part_bytes(plan: Plan, part: Part) -> bytes:
    """A part as a Parquet file with a checksum for every page, which says of what plan and people it is."""
    sink = pa.BufferOutputStream()
    table = simulate_part(plan, part).replace_schema_metadata({LABEL: label(plan, part)})
    pq.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return sink.getvalue().to_pybytes()


def completed_rounds(content: bytes) -> int:
    """The person-rounds in a part: its lists of degrees have an entry a round, and one from before the first."""
    degrees = decoded(content, ["true_degree"]).column("true_degree")
    return int(pyarrow.compute.sum(pyarrow.compute.list_value_length(degrees)).as_py()) - len(degrees)


def label(plan: Plan, part: Part) -> bytes:
    return json.dumps([plan.sha256(), *part]).encode()


def decoded(content: bytes, columns: list[str] | None = None) -> pa.Table:
    # from memory and without threads: a reader's pool that lives at exit can abort the process
    file = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True)
    return file.read(columns, use_threads=False)
