"""Populations in parts: the same rows whatever the jobs, the chunks, the kills; never two simulations in one folder."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq
import pytest

from calib.engines import engine_names, load_engine
from calib.errors import UserError
from calib.gaps import GAPS
from calib.scenario import load_scenario
from experiments.batch import simulate_sessions
from experiments.expand import documents_of_row
from experiments.parts import COLUMNS, DETAILS, Plan, make_plan, setup_of_condition, simulate_part
from experiments.people import impatient, rational
from experiments.population import data_sha256, part_path, simulate_population
from sessions import Lab


def plan_of(**changes: Any) -> Plan:
    """Forty people of the arena in four conditions, small beliefs; of the apartment where what they expect matters."""
    scenario = load_scenario("beliefs" if changes.get("engine") == "full" else "arena")
    asked: dict[str, Any] = {
        "roles": ["tool", "advisor"],
        "policies": ["random", "information_gain"],
        "people_specs": ["rational"],
        "people": 40,
        "seed": 3,
        "max_rounds": 5,
        "stop_rule": "max_rounds",
        "particles": 64,
        "chunk": 16,
    }
    return make_plan(scenario.file, scenario.text, **(asked | changes))


def simulated(plan: Plan, folder: Path, jobs: int = 1) -> dict[str, Any]:
    """The manifest."""
    return simulate_population(plan, folder, jobs, lambda people: None)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One process, chunks of 16."""
    return simulated(plan_of(), tmp_path_factory.mktemp("reference"))


def test_the_data_do_not_depend_on_chunks(reference: dict[str, Any], tmp_path: Path) -> None:
    found = simulated(plan_of(chunk=7), tmp_path)
    assert found["data_sha256"] == reference["data_sha256"]
    assert len(found["parts"]) == 4 * 6
    assert found["rows"] == sum(p["rows"] for p in found["parts"]) == 160


def test_the_data_do_not_depend_on_jobs_or_on_a_killed_worker(reference: dict[str, Any], tmp_path: Path) -> None:
    """Two workers, one of them killed with -9 after the first part."""
    killed = []

    def kill_one(people: int) -> None:
        if not killed:
            children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
            workers = [int(c) for c in children if b"multiprocessing.spawn" in Path(f"/proc/{c}/cmdline").read_bytes()]
            killed.append(workers[0])
            os.kill(workers[0], signal.SIGKILL)

    found = simulate_population(plan_of(), tmp_path, 2, kill_one)
    assert killed
    assert found["data_sha256"] == reference["data_sha256"]


def test_an_interrupted_simulation_goes_on(reference: dict[str, Any], tmp_path: Path) -> None:
    """From the command line, killed in the middle, then run again: parts that were there are not touched."""
    lab = Lab(tmp_path)
    out = tmp_path / "out"
    words = ("simulate", "arena", "--people", "40", "--role", "tool,advisor", "--policy", "random,information_gain")
    words += ("--rounds", "5", "--particles", "64", "--seed", "3", "--chunk", "4", "--jobs", "1", "--out", str(out))
    with lab.going(*words, "--json") as process:
        until = time.monotonic() + 120
        while len(list(out.glob("parts/*.parquet"))) < 3 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.kill()
    before = {p: p.stat().st_mtime_ns for p in out.glob("parts/*.parquet")}
    assert before
    found = lab.json(*words)
    assert all(p.stat().st_mtime_ns == then for p, then in before.items())
    assert found["data_sha256"] == reference["data_sha256"]
    assert set(found) >= {"people", "rounds_per_s", "parts", "rows", "data_sha256", "out"}
    assert found["rounds_per_s"] > 0
    assert lab.json(*words)["rounds_per_s"] == 0, "everything was there"


def test_only_rounds_that_were_run_now_count(tmp_path: Path) -> None:
    """People who stop early ran fewer, one damaged part alone is run again, and where all is there nothing is."""
    plan, ran = plan_of(stop_rule="accepted", max_rounds=12), list[int]()
    simulate_population(plan, tmp_path, 1, lambda people: None, ran=ran.append)
    lengths = [
        sum(len(degrees) - 1 for degrees in pq.read_table(part_path(tmp_path, part))["true_degree"].to_pylist())
        for part in plan.parts
    ]
    assert ran == lengths and 0 < sum(ran) < 4 * 40 * 12
    part_path(tmp_path, plan.parts[3]).write_bytes(b"")
    for expected in (lengths[3:4], []):
        again: list[int] = []
        simulate_population(plan, tmp_path, 1, lambda people: None, ran=again.append)
        assert again == expected


def test_another_seed_gives_other_data_and_never_into_the_same_folder(
    reference: dict[str, Any], tmp_path: Path
) -> None:
    found = simulated(plan_of(seed=4), tmp_path)
    assert found["data_sha256"] != reference["data_sha256"]
    with pytest.raises(UserError, match="another simulation"):
        simulated(plan_of(), tmp_path)


def test_the_rows_are_the_contract_and_the_sessions(tmp_path: Path) -> None:
    plan = plan_of()
    simulated(plan, tmp_path)
    part = plan.parts[-1]
    with part_path(tmp_path, part).open("rb") as file:
        table = pq.read_table(file)
    assert [(f.name, f.type) for f in table.schema] == [*COLUMNS, *DETAILS]
    condition, first, end = part
    setup = setup_of_condition(plan, condition)
    sessions = simulate_sessions(setup, rational, {}, np.arange(first, end))
    rows = table.to_pydict()
    assert rows["person"] == list(range(first, end))
    assert set(rows["kind"]) == {"simulated"} and set(rows["scenario_hash"]) == {setup.scenario.hash}
    assert rows["true_degree_final"] == sessions.true_degree[:, 5].tolist()
    assert rows["declared_rounds"] == sessions.times["declared"].rounds.tolist()
    assert set(rows["verified_event"]) == {None}
    for i, (event, t, falsely) in enumerate(
        zip(rows["declared_event"], rows["declared_rounds"], rows["declared_falsely"], strict=True)
    ):
        assert falsely == (event == 1 and sessions.true_degree[i, t] < 1 - setup.scenario.eps)


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_the_details_of_a_row_are_those_of_its_documents(role: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Degrees by round and the exact gaps of the last completed round; some leave early, some before it all."""
    leaves = impatient.gives_up
    monkeypatch.setattr(impatient, "gives_up", lambda *a: leaves(*a) | (a[1].luck[:, 1] < 0.3))
    plan = plan_of(roles=[role], policies=["random"], people_specs=["impatient,hazard=0.3", "forgetful"], people=12)
    setups = [setup_of_condition(plan, c) for c in range(2)]
    seen = set()
    for part in plan.parts:
        for row in simulate_part(plan, part).to_pylist():
            found = documents_of_row(setups[part[0]], row)
            bodies = [d["body"] for d in found if d["type"] in ("start", "round")]
            truth = found[-1]["body"]
            seen.add(len(bodies) - 1)
            assert row["true_degree"] == as_float32(truth["true_degree"])
            degrees = [body.get("degree") or body["prior_only"] for body in bodies]
            for column, name in (("estimated_degree", "mean"), ("degree_low", "low"), ("degree_high", "high")):
                assert row[column] == as_float32([d[name] for d in degrees])
            if len(bodies) == 1:
                assert all(row[f"gap_{name}"] is None for name in GAPS)
                continue
            gaps = truth["rounds"][-1]["gaps"]
            assert {name: row[f"gap_{name}"] for name in GAPS} == {k: v["estimate"] for k, v in gaps.items()}
    assert {0, 5} < seen


def as_float32(values: list[float]) -> list[float]:
    """What is left of them in a part."""
    return [float(np.float32(v)) for v in values]


def test_the_hash_of_the_data_covers_the_contract_alone(reference: dict[str, Any], tmp_path: Path) -> None:
    """Whoever drops the details, or writes floats of theirs, still holds the same data."""
    plan = plan_of()
    simulated(plan, tmp_path)
    paths = [part_path(tmp_path, part) for part in plan.parts]
    for path in paths:
        table = pq.ParquetFile(path).read(use_threads=False)
        pq.write_table(table.select([name for name, _ in COLUMNS]), path)
    assert data_sha256(paths) == reference["data_sha256"]
    table = pq.ParquetFile(paths[0]).read(use_threads=False)
    wrong = pa.compute.add(table.column("effort"), 1.0)
    pq.write_table(table.set_column(table.column_names.index("effort"), "effort", wrong), paths[0])
    assert data_sha256(paths) != reference["data_sha256"]


def test_bad_folders_and_plans_are_one_line(tmp_path: Path) -> None:
    plan = plan_of(roles=["tool"], policies=["random"], people=8, chunk=8)
    simulated(plan, tmp_path)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(UserError, match=r"plan\.json: is damaged"):
        simulated(plan, tmp_path)
    stray = tmp_path / "stray"
    (stray / "parts").mkdir(parents=True)
    (stray / "parts" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="no plan"):
        simulated(plan, stray)
    with pytest.raises(UserError, match="--people"):
        plan_of(people=0)
    with pytest.raises(UserError, match="twice"):
        plan_of(roles=["tool", "tool"])
    with pytest.raises(UserError, match="--policy"):
        plan_of(policies=["clairvoyant"])
    with pytest.raises(UserError, match=r'^--engine: "clairvoyant" is not an engine; choose [^\n]*live, oracle$'):
        plan_of(engine="clairvoyant")
    with pytest.raises(UserError, match="--particles: the engine oracle infers nothing"):
        plan_of(engine="oracle")


@pytest.mark.parametrize("engine", [e for e in engine_names() if e != "live"])
def test_every_engine_gives_the_same_data_for_any_chunks_and_jobs(engine: str, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"engine": engine, "particles": None if engine == "oracle" else 64}
    one = simulated(plan_of(**asked), tmp_path / "one")
    two = simulated(plan_of(**asked, chunk=7), tmp_path / "two", jobs=2)
    assert one["data_sha256"] == two["data_sha256"]
    assert one["plan"]["engine"] == engine
    label = simulate_part(plan_of(**asked), (0, 0, 4)).to_pydict()["engine"]
    tier = load_engine(engine).TIER
    assert set(label) == {"oracle" if engine == "oracle" else f"{engine}/{tier}/64"}


def test_a_part_is_a_function_of_the_plan() -> None:
    plan = plan_of(people=9, chunk=5)
    one, two = (simulate_part(plan, plan.parts[1]) for _ in range(2))
    assert one.equals(two)
