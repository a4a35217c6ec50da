"""Degree by round and the six gaps, from parts and from a journal: numpy's own quantiles and means, null for none."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from calib.errors import UserError
from calib.gaps import GAPS
from calib.journal import open_journal
from cli.main import main
from experiments.analysis import Question, analyse
from experiments.analysis_data import only, read_table
from experiments.survival import share_interval
from populations import made_up_rows, write_population
from sessions import Lab, quick_scenario


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two conditions of 300 people in parts of 64."""
    conditions = [made_up_rows(300, i, role=role) for i, role in enumerate(("tool", "advisor"))]
    return write_population(tmp_path / "made-up", *conditions, chunk=64)


def answered(path: Path | str, **question: Any) -> Any:
    return analyse(read_table(str(path), details=True), Question(**question))


def test_degrees_are_the_quantiles_of_those_who_are_still_there(folder: Path) -> None:
    lists = [
        row for part in sorted(folder.glob("parts/c001*")) for row in pq.read_table(part)["true_degree"].to_pylist()
    ]
    group = next(g for g in answered(folder)["groups"] if g["name"] == "advisor")
    assert set(group["degree"]) == {"true", "estimated"}
    for row in group["degree"]["true"]:
        there = [degrees[row["round"]] for degrees in lists if len(degrees) > row["round"]]
        assert row["n"] == len(there)
        assert [row["low"], row["median"], row["high"]] == pytest.approx(np.quantile(there, [0.05, 0.5, 0.95]))
    assert [row["n"] for row in group["degree"]["true"]] == sorted(
        (r["n"] for r in group["degree"]["true"]), reverse=True
    )


def test_gaps_are_means_in_the_order_of_the_identity(folder: Path) -> None:
    table = read_table(str(folder))
    for group in answered(folder)["groups"]:
        assert list(group["gaps"]) == list(GAPS)
        for name, gap in group["gaps"].items():
            values = table.columns[f"gap_{name}"][table.columns["role"] == group["name"]]
            assert gap["estimate"] == pytest.approx(values.mean(), rel=1e-12)
            assert gap["se"] == pytest.approx(values.std(ddof=1) / math.sqrt(len(values)), rel=1e-12)
            assert gap["high"] - gap["low"] == pytest.approx(2 * 1.959963984540054 * gap["se"])


def test_filters_hold_for_the_details_too(folder: Path) -> None:
    table = only(read_table(str(folder), details=True), ["role=tool"])
    assert table.per_round is not None and table.per_round["true_degree"].shape == (300, 13)
    alone = answered(folder, where=("role=tool",))["groups"]
    both = {g["name"]: g for g in answered(folder, group=("role",))["groups"]}
    assert alone[0]["degree"] == both["tool"]["degree"] and alone[0]["gaps"] == both["tool"]["gaps"]


def test_parts_without_the_columns_say_so(tmp_path: Path) -> None:
    bare = write_population(tmp_path / "bare", made_up_rows(40, details=False))
    found = answered(bare)
    assert found["groups"][0]["degree"] is None and found["groups"][0]["gaps"] is None
    assert {f"{bare}: the degree by round is not recorded", f"{bare}: the gaps are not recorded"} <= set(found["notes"])
    assert "degree" not in analyse(read_table(str(bare)), Question())["groups"][0]


def test_a_gap_that_nobody_gives_evidence_of_is_null(tmp_path: Path) -> None:
    rows = made_up_rows(40)
    at = rows.column_names.index("gap_choice")
    nothing = write_population(tmp_path / "p", rows.set_column(at, "gap_choice", [[None] * 40]))
    gaps = answered(nothing)["groups"][0]["gaps"]
    assert gaps["choice"] is None and gaps["menu"]["n"] == 40


def test_the_command_gives_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["analyze", str(folder), "--group", "role", "--where", "policy=random", "--details"]
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == answered(folder, group=("role",), where=("policy=random",))
    assert main(words) == 0
    text = capsys.readouterr().out
    assert "median estimated degree" in text and "mental model" in text


def test_the_models_can_wait(folder: Path) -> None:
    table = read_table(str(folder))
    quick, whole = analyse(table, Question(), models=False), analyse(table, Question())
    assert quick["logrank"] is None and quick["cox"] == [] and whole["logrank"] and whole["cox"]
    assert quick["groups"] == whole["groups"] and quick["contrasts"] == whole["contrasts"]


def test_a_part_outside_of_its_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    shutil.copy(folder / manifest["parts"][0]["file"], tmp_path / "stray.parquet")
    for file in ("../stray.parquet", str(tmp_path / "stray.parquet"), 3):
        manifest["parts"][0]["file"] = file
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(UserError, match="not a manifest"):
            read_table(str(folder))


def test_the_interval_of_a_share_is_wilsons() -> None:
    """Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29."""
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (number, of), limits in published.items():
        assert share_interval(number, of) == pytest.approx(limits, abs=6e-5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A journal with two sessions of an advisor."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    scenario = quick_scenario(lab.folder)
    for person in ("0", "1"):
        lab.json("run", scenario, "--rounds", "4", "--person-number", person)
    return lab


def test_a_journals_details_are_those_of_its_documents(lab: Lab) -> None:
    entries = lab.entries()
    truth = next(e["body"] for e in entries if e["type"] == "truth")
    after = [e["body"]["degree"]["mean"] for e in entries if e["type"] == "round"]
    table = read_table(lab.journal, details=True)
    assert table.per_round is not None
    assert table.per_round["true_degree"][1].tolist() == truth["true_degree"]
    assert table.per_round["estimated_degree"][1, 1:].tolist() == after
    gaps = truth["rounds"][-1]["gaps"]
    assert [table.columns[f"gap_{name}"][1] for name in GAPS] == [gaps[name]["estimate"] for name in GAPS]
    group = answered(lab.journal)["groups"][0]
    assert group["gaps"]["choice_and_mediation"] is None and group["gaps"]["menu"]["n"] == 2


def test_of_real_people_choice_and_mediation_are_known_as_their_sum(lab: Lab, tmp_path: Path) -> None:
    """The same sessions as of people: no truth, so that the machine's estimates are all there is."""
    url = f"sqlite:///{tmp_path}/people.db"
    with open_journal(lab.journal, create=False) as old, open_journal(url) as new:
        for run in old.runs():
            for entry in old.entries(run.run):
                if entry.type != "truth" and entry.body is not None:
                    kind = {"kind": "human"} if entry.type == "start" else {}
                    new.append(run.run, entry.type, entry.body | kind)
    found = answered(url)
    group = found["groups"][0]
    assert group["degree"]["true"] is None and len(group["degree"]["estimated"]) == 5
    assert group["gaps"]["choice"] is None and group["gaps"]["mediation"] is None
    assert group["gaps"]["choice_and_mediation"]["n"] == 2
    assert "gaps: exact of 0 people, of 2 the machine's estimate of them" in found["notes"]
