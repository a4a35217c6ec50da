"""A headless person, expanded, has the documents of the live session on the simulator."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from calib.replay import setup_of
from experiments.expand import documents, documents_of_row
from experiments.parts import make_plan, setup_of_condition
from experiments.people import person_names
from experiments.population import part_path, simulate_population
from sessions import Lab, quick_scenario

ENDS = {"end"}  # a live run says whether it ended by itself or at its limit; the map holds outcomes alone


@pytest.mark.parametrize("spec", [*person_names(), "impatient,hazard=0.5"])
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_live_and_headless_give_the_same_documents(tmp_path: Path, spec: str, role: str) -> None:
    from cli.main import main

    lab = Lab(tmp_path)
    words = ["run", quick_scenario(tmp_path), "--person", spec, "--role", role, "--rounds", "4", "--seed", "6"]
    assert main([*words, "--person-number", "3", "--audit", "off", "--journal", lab.journal]) == 0
    live = [e for e in lab.entries() if e["type"] in ("start", "round", "stop", "truth")]
    start = live[0]["body"]
    headless = documents(setup_of(start), spec, 3, facts=start)
    assert [d["type"] for d in headless] == [e["type"] for e in live]
    for mine, theirs in zip(headless, live, strict=True):
        if mine["type"] == "start":
            continue
        assert without(mine["body"]) == without(theirs["body"])


def without(body: dict[str, Any]) -> dict[str, Any]:
    """A document but for how its run ended."""
    return {k: v for k, v in body.items() if k not in ENDS}


def test_a_row_of_a_population_expands_to_its_own_session(tmp_path: Path) -> None:
    from calib.scenario import load_scenario

    scenario = load_scenario("arena")
    plan = make_plan(
        scenario.file,
        scenario.text,
        roles=["advisor"],
        policies=["random"],
        people_specs=["impatient,hazard=0.3"],
        people=6,
        seed=2,
        max_rounds=5,
        stop_rule="max_rounds",
        particles=64,
        chunk=6,
    )
    simulate_population(plan, tmp_path, 1, lambda people: None)
    rows = pq.ParquetFile(part_path(tmp_path, plan.parts[0])).read(use_threads=False).to_pylist()
    setup = setup_of_condition(plan, 0)
    for row in rows:
        found = documents_of_row(setup, row)
        truth, stop = found[-1]["body"], found[-2]["body"]
        assert truth["true_degree"][-1] == row["true_degree_final"]
        assert (truth["time"]["event"], truth["time"]["rounds"]) == (row["true_event"], row["true_rounds"])
        assert truth["time"]["attention_s"] == row["attention_s"]
        assert truth["time"]["robot_s"] == row["robot_s"]
        assert stop["time"]["declared"]["rounds"] == row["declared_rounds"]
    with pytest.raises(ValueError, match="another one"):
        documents_of_row(setup, {**rows[0], "role": "tool"})
