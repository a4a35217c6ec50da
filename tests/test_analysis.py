"""`calib analyze`: published tables to every digit, a real journal, parts, and bad data in one clear line each."""

import csv
import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from cli.main import main
from experiments.analysis import analyse
from experiments.analysis_data import read_table
from experiments.analysis_groups import Question
from sessions import Lab, quick_scenario

# Weeks in remission of 21 pairs of children with leukaemia (Freireich et al. 1963; Gehan 1965).
TREATED = [(t, 1) for t in (6, 6, 6, 7, 10, 13, 16, 22, 23)]
TREATED += [(t, 0) for t in (6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35)]
PLACEBO = [(t, 1) for t in (1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23)]


def write(folder: Path, header: str, *rows: str) -> str:
    path = folder / "data.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


@pytest.fixture
def remissions(tmp_path: Path) -> str:
    rows = [f"{t},{e},6-MP" for t, e in TREATED] + [f"{t},{e},placebo" for t, e in PLACEBO]
    return write(tmp_path, "weeks,relapse,arm", *rows)


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]):
    """The one line that a command refuses with."""

    def run(*words: str) -> str:
        assert main(["analyze", *words]) == 2
        out, err = capsys.readouterr()
        assert not out and err.startswith("calib analyze: ") and err.count("\n") == 1
        return err

    return run


@pytest.fixture
def found(capsys: pytest.CaptureFixture[str]):
    """The JSON of a command."""

    def run(*words: str) -> Any:
        assert main(["analyze", *words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def rounded(rows: list[dict[str, Any]], key: str, digits: int) -> list[float]:
    return [round(row[key], digits) for row in rows]


def test_freireichs_remissions_come_out_as_published(remissions, found):
    efron = found(remissions, "--time", "weeks", "--event", "relapse", "--group", "arm")
    assert [g["name"] for g in efron["groups"]] == ["6-MP", "placebo"]
    assert (efron["n"], efron["events"]) == (42, {"0": 12, "1": 30, "2": 0, "3": 0})
    treated, placebo = efron["groups"]
    assert rounded(treated["km"], "t", 0) == [6, 7, 10, 13, 16, 22, 23]
    assert rounded(treated["km"], "estimate", 4) == [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    # The log(-log) limits that Stata prints for these data.
    assert rounded(treated["km"], "low", 4) == [0.6197, 0.5631, 0.5032, 0.4316, 0.3675, 0.2678, 0.1881]
    assert rounded(treated["km"], "high", 4) == [0.9516, 0.9228, 0.8894, 0.8491, 0.8049, 0.7468, 0.6801]
    assert (treated["median"], placebo["median"]) == (23, 8)
    assert round(efron["logrank"]["chi2"], 2) == 16.79 and efron["logrank"]["df"] == 1
    assert efron["logrank"]["p"] == pytest.approx(4.17e-5, rel=0.01)
    assert [c["ties"] for c in efron["cox"]] == ["efron"]
    assert (round(efron["cox"][0]["coef"], 2), round(efron["cox"][0]["se"], 3)) == (1.57, 0.412)
    assert efron["cox"][0]["term"] == "arm[placebo]"
    breslow = found(remissions, "--time", "weeks", "--event", "relapse", "--group", "arm", "--ties", "breslow")
    assert (round(breslow["cox"][0]["coef"], 2), round(breslow["cox"][0]["se"], 3)) == (1.51, 0.41)


def test_freireichs_restricted_means(remissions, found):
    """6-MP to week 35: 23.3 with 2.83, as R's survfit prints; the default tau is 23, the smaller last time."""
    words = (remissions, "--time", "weeks", "--event", "relapse")
    alone = found(*words, "--where", "arm=6-MP")["groups"][0]["rmst"]
    assert (alone["tau"], round(alone["estimate"], 1), round(alone["se"], 2)) == (35, 23.3, 2.83)
    both = found(*words, "--group", "arm")
    assert [g["rmst"]["tau"] for g in both["groups"]] == [23, 23]
    # Nobody on placebo was censored: the mean of the times, and its error with divisor n.
    times = np.array([t for t, _ in PLACEBO], float)
    placebo = both["groups"][1]["rmst"]
    assert placebo["estimate"] == pytest.approx(times.mean(), abs=1e-12)
    assert placebo["se"] == pytest.approx(times.std() / np.sqrt(21), abs=1e-12)
    contrast = both["contrasts"][0]
    treated = both["groups"][0]["rmst"]
    assert (contrast["a"], contrast["b"], contrast["tau"]) == ("6-MP", "placebo", 23)
    assert contrast["rmst_difference"]["estimate"] == pytest.approx(treated["estimate"] - placebo["estimate"])
    assert contrast["rmst_difference"]["se"] == pytest.approx(np.hypot(treated["se"], placebo["se"]))


def test_competing_events_leave_no_kaplan_meier(tmp_path, found):
    path = write(tmp_path, "t,e", "1,1", "2,1", "2,2", "3,1", "3,0", "5,2", "6,0")
    group = found(path, "--time", "t", "--event", "e")["groups"][0]
    assert group["name"] == "all" and group["km"] is None and group["median"] is None
    last = {row["event"]: row["estimate"] for row in group["cif"]}
    assert last == {1: pytest.approx(3 / 7), 2: pytest.approx(1 / 7 + 3 / 14)}


def test_covariates_of_numbers_and_words(tmp_path, found):
    rng = np.random.default_rng(3)
    rows = [
        f"{rng.integers(1, 20)},{rng.integers(0, 2)},{a},{site}" for a, site in zip(range(60), itertools.cycle("xyz"))
    ]
    path = write(tmp_path, "t,e,age,site", *rows)
    cox = found(path, "--time", "t", "--event", "e", "--covariates", "age,site")["cox"]
    assert [c["term"] for c in cox] == ["age", "site[y]", "site[z]"]
    assert all(c["low"] < c["hazard_ratio"] < c["high"] for c in cox)


def test_the_table_and_its_last_line(remissions, capsys):
    assert main(["analyze", remissions, "--time", "weeks", "--event", "relapse", "--group", "arm"]) == 0
    out = capsys.readouterr().out
    assert "log-rank: chi2 16.79, df 1, p < 0.0001" in out
    assert out.splitlines()[-1].startswith("Not shown: ")


# What is thin and works.


def test_all_censored_works(tmp_path, found):
    path = write(tmp_path, "t,e,g", "3,0,a", "5,0,a", "4,0,b")
    result = found(path, "--time", "t", "--event", "e", "--group", "g")
    assert result["groups"][0]["cif"] == [] and result["groups"][0]["km"] == []
    assert result["groups"][0]["rmst"] == {"tau": 4, "estimate": 4, "se": None, "low": None, "high": None}
    assert result["logrank"] is None and result["cox"] == []
    assert any("nobody aligned" in note for note in result["notes"])


def test_one_event_works(tmp_path, found):
    path = write(tmp_path, "t,e,g", "3,1,a", "5,0,a", "4,0,b")
    result = found(path, "--time", "t", "--event", "e", "--group", "g")
    assert result["groups"][0]["cif"][0]["estimate"] == 0.5
    assert result["logrank"]["df"] == 1
    assert result["cox"][0]["coef"] is None
    assert any("no finite estimate" in note for note in result["notes"])


def test_one_person_works(tmp_path, found):
    group = found(write(tmp_path, "t,e", "3,1"), "--time", "t", "--event", "e")["groups"][0]
    assert group["median"] == 3 and group["cif"] == [{"t": 3, "event": 1, "estimate": 1, "low": None, "high": None}]


# What is wrong is refused, with the place.

BAD_CELLS = {
    "-1,1,a": "line 3: -1 is a negative time in column t",
    ",1,a": "line 3: the time is missing (column t)",
    "nan,1,a": "line 3: the time is missing (column t)",
    "inf,1,a": "line 3: the time is 'inf', not a number (column t)",
    "soon,1,a": "line 3: the time is 'soon', not a number (column t)",
    "3,,a": "line 3: the event is missing (column e)",
    "3,0.5,a": "line 3: 0.5 is no event code in column e",
    "3,-1,a": "line 3: -1 is no event code in column e",
    "3,yes,a": "line 3: the event is 'yes', not a number (column e)",
    "3,1,": "line 3: no group (column g)",
    "3,1": "line 3: 2 cells, the first line names 3 columns",
}


@pytest.mark.parametrize("row", BAD_CELLS)
def test_a_bad_cell_is_named_by_its_line(row, tmp_path, said):
    path = write(tmp_path, "t,e,g", "2,1,a", row)
    assert f"{path}, {BAD_CELLS[row]}" in said(path, "--time", "t", "--event", "e", "--group", "g")


BAD_FILES = {
    "": "the file is empty",
    "t,e\n": "no row below the line of names",
    "t,t\n1,1\n": "two columns are called 't'",
    't,e\n"1,1\n': "not a CSV file",
    "x,e\n1,1\n": "no column 't'; it has x, e",
}


@pytest.mark.parametrize("text", BAD_FILES)
def test_a_bad_file_is_refused(text, tmp_path, said):
    path = tmp_path / "data.csv"
    path.write_text(text)
    assert BAD_FILES[text] in said(str(path), "--time", "t", "--event", "e")


def test_other_paths_are_refused(tmp_path, said):
    assert "no such file or folder" in said(str(tmp_path / "none.csv"))
    (tmp_path / "x.csv").write_bytes(b"t,e\n\xff\xfe,1\n")
    assert "not a text file in UTF-8" in said(str(tmp_path / "x.csv"))
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    assert "give the folder of the parts" in said(str(tmp_path / "x.parquet"))
    path = write(tmp_path, "t,e", "3,1", "5,0")
    assert "name two of its columns with --time and --event: t, e" in said(path)
    words = (path, "--time", "t", "--event", "e")
    assert "watched up to 5 only" in said(*words, "--tau", "6")
    assert "give a time above 0" in said(*words, "--tau", "0")
    assert "no row is left" in said(*words, "--where", "e=7")
    assert "COLUMN=VALUE" in said(*words, "--where", "e")


def test_a_person_counts_once_in_a_group(tmp_path, said, found):
    path = write(tmp_path, "person,t,e,g", "p1,3,1,a", "p2,4,1,a", "p1,5,0,b", "p2,2,1,b")
    words = (path, "--time", "t", "--event", "e")
    assert f"{path}, line 4: person p1 is in group all twice" in said(*words)
    assert found(*words, "--group", "g")["contrasts"][0]["shared_people"] == 2
    path = write(tmp_path, "person,t,e", "p1,3,1", ",4,1")
    assert f"{path}, line 3: no person" in said(path, "--time", "t", "--event", "e")


def test_kinds_and_scenarios_are_not_mixed_silently(tmp_path, said, found):
    path = write(tmp_path, "t,e,kind,scenario_hash", "3,1,human,h1", "4,1,simulated,h1", "5,0,simulated,h2")
    words = (path, "--time", "t", "--event", "e")
    assert "different values of kind in one table (human, simulated)" in said(*words)
    assert "--mix-scenarios" in said(*words, "--mix-kinds")
    assert found(*words, "--mix-kinds", "--mix-scenarios")["n"] == 3
    assert found(*words, "--where", "kind=human")["n"] == 1


# The lab's own data.


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two roles of twelve simulated people, in two parts."""
    folder = tmp_path_factory.mktemp("population")
    words = ["simulate", quick_scenario(folder), "--people", "12", "--role", "tool,advisor", "--rounds", "6"]
    words += ["--policy", "random", "--particles", "64", "--jobs", "1", "--out", str(folder / "out"), "--json"]
    assert main(words) == 0
    return folder / "out"


@pytest.fixture
def parts(population: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(population, tmp_path / "parts"))


def test_parts_by_condition_and_version(population, found):
    result = found(str(population))
    assert (result["version"], result["time"], result["group_by"]) == ("true", "true_rounds", ["role"])
    assert [(g["name"], g["n"]) for g in result["groups"]] == [("advisor", 12), ("tool", 12)]
    assert result["contrasts"][0]["shared_people"] == 12
    declared = found(str(population), "--version", "declared")
    columns = read_table(str(population)).columns
    for group in declared["groups"]:
        said_so = (columns["role"] == group["name"]) & (columns["declared_event"] == 1)
        assert group["declarations"] == said_so.sum() == group["events"]["1"]
        expected = columns["declared_falsely"][said_so].mean() if said_so.any() else None
        assert group["false_declaration_rate"] == expected
    assert found(str(population), "--time", "attention_s")["time"] == "attention_s"


def test_the_details_of_the_parts_are_no_conditions(population, tmp_path, found):
    """Lists of degrees are left alone, gaps are numbers; exported with everything as CSV the answer is the same."""
    result = found(str(population), "--covariates", "gap_menu")
    assert [c["term"] for c in result["cox"]] == ["gap_menu", "role[tool]"]
    assert "true_degree" not in read_table(str(population)).columns
    rows = [
        row
        for part in sorted(population.glob("parts/*.parquet"))
        for row in pa.parquet.ParquetFile(part).read(use_threads=False).to_pylist()
    ]
    file = tmp_path / "rows.csv"
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    exported = found(str(file), "--covariates", "gap_menu")
    assert exported["group_by"] == result["group_by"] == ["role"]
    assert exported["groups"] == result["groups"] and exported["cox"] == result["cox"]


def test_who_gave_up_competes(tmp_path):
    """Impatient people leave unaligned: their incidence, no Kaplan-Meier, and all that happened sums to one."""
    words = ["simulate", quick_scenario(tmp_path), "--people", "40", "--person", "impatient", "--policy", "random"]
    words += ["--particles", "64", "--rounds", "12", "--jobs", "1", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 0
    group = analyse(read_table(str(tmp_path / "out")), Question())["groups"][0]
    assert group["events"]["2"] > 0 and group["km"] is None
    last = {row["event"]: row["estimate"] for row in group["cif"]}
    assert set(last) == {1, 2} and 0 < last[1] + last[2] <= 1 + 1e-12


def test_parts_refuse_what_they_do_not_hold(population, said):
    assert "nobody has a time of version verified" in said(str(population), "--version", "verified")
    assert "belongs to another version" in said(str(population), "--version", "accepted", "--time", "attention_s")
    assert "group by policy,role" in said(str(population), "--group", "policy")


def test_a_folder_is_what_its_manifest_says(parts, said):
    manifest = parts / "manifest.json"
    listed = json.loads(manifest.read_text())["parts"]
    part = parts / listed[0]["file"]
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    assert f"{part}: a damaged part" in said(str(parts))
    table = pa.parquet.ParquetFile(pa.BufferReader(whole)).read(use_threads=False)
    pa.parquet.write_table(table.slice(1), part)
    assert f"{part}: not the part that the manifest lists" in said(str(parts))
    part.unlink()
    assert f"{part}: the manifest lists this part and it is not there" in said(str(parts))
    manifest.write_text("{}")
    assert "not a manifest" in said(str(parts))
    manifest.unlink()
    assert "no manifest.json" in said(str(parts))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A journal with three sessions of two people in two roles."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    scenario = quick_scenario(lab.folder)
    for role, person in (("advisor", "0"), ("tool", "0"), ("advisor", "1")):
        lab.json("run", scenario, "--rounds", "5", "--role", role, "--person-number", person)
    return lab


def test_a_journal_of_runs(lab, found):
    result = found(lab.journal)
    assert (result["n"], result["version"], result["group_by"]) == (3, "true", ["role"])
    assert [(g["name"], g["n"]) for g in result["groups"]] == [("advisor", 2), ("tool", 1)]
    truths = [e["body"]["time"] for e in lab.entries() if e["type"] == "truth"]
    last = analyse(read_table(lab.journal), Question(where=("person=1 of seed 0",)))
    assert last["events"][str(truths[0]["event"])] == 1
    # The file itself, another version, another clock.
    assert found(str(lab.folder / "calib.db"))["groups"] == result["groups"]
    attention = found(lab.journal, "--version", "accepted", "--time", "attention_s")
    assert attention["time"] == "accepted_attention_s"
    assert "false_declaration_rate" in attention["groups"][0]


def test_a_journal_tells_sessions_of_one_person_apart(lab, said):
    assert "person 0 of seed 0 is in group simvac twice: group by device,role" in said(lab.journal, "--group", "device")
    assert "nobody has a time of version verified" in said(lab.journal, "--version", "verified")


def test_an_open_run_is_counted_and_left_out(lab, tmp_path, found, said):
    from calib.journal import open_journal

    copy = tmp_path / "calib.db"
    with open_journal(lab.journal, create=False) as journal:
        body = journal.entries(journal.runs()[0].run, ["start"])[0].body
    shutil.copy(lab.folder / "calib.db", copy)
    with open_journal(f"sqlite:///{copy}") as journal:
        journal.append("unfinished", "start", body)
    assert "runs left out: 1 open" in found(str(copy))["notes"]
    with open_journal(f"sqlite:///{tmp_path}/empty.db") as journal:
        journal.append("unfinished", "start", body)
    assert "no finished run in this journal" in said(str(tmp_path / "empty.db"))
