"""Populations in parts: the same rows whatever the jobs, the chunks, the kills; never two simulations in one folder."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from calib.errors import UserError
from calib.scenario import load_scenario
from experiments.batch import simulate_sessions
from experiments.people import rational
from experiments.population import (
    COLUMNS,
    Plan,
    make_plan,
    part_path,
    setup_of_condition,
    simulate_part,
    simulate_population,
)
from sessions import Lab


def plan_of(**changes: Any) -> Plan:
    """Forty people of the arena in four conditions, small beliefs."""
    scenario = load_scenario("arena")
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
    assert table.column_names == [name for name, _ in COLUMNS]
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


def test_a_part_is_a_function_of_the_plan() -> None:
    plan = plan_of(people=9, chunk=5)
    one, two = (simulate_part(plan, plan.parts[1]) for _ in range(2))
    assert one.equals(two)
