"""The Simulate page: the exact command, a process of its own that is found again, progress, interrupt and resume."""

import json
import os
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from calib.errors import UserError
from calib.registry import born
from dashboard import arrivals, figures, jobs, rows
from dashboard.arrivals import Arrivals, arrivals_of, duration_words
from dashboard.jobs import Job
from dashboard.simulation import Simulation, folder_of, own_name
from experiments import survival
from experiments.analysis import Question, analyse
from experiments.analysis_data import read_table
from experiments.analysis_parts import Tally, counts_of
from populations import made_up_rows, write_population
from test_pages_analyse import commands, seen, told

ROOT = Path(__file__).resolve().parent.parent
SMALL = Simulation("arena", ("tool", "advisor"), ("random",), ("rational",), "live", 40, 4, 3, 1, "arena-3")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty data folder below a working directory; what was started in it is ended."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CALIB_DATA", raising=False)
    (tmp_path / "out").mkdir()
    yield tmp_path / "out"
    for job in jobs.jobs():
        if job.is_alive():
            os.killpg(job.pid, 9)
            wait_for(lambda job=job: not job.is_alive())
    arrivals_of.cache_clear()


def wait_for(true: Callable[[], bool], seconds: float = 240) -> None:
    """Until it holds; the first simulation after a change of the code compiles."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it took too long"
        time.sleep(0.05)


def opened(**address: str) -> AppTest:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    page.switch_page("pages/simulate.py")
    for key, value in address.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def a_job(words: str, name: str = "fake") -> Job:
    """A process that is no simulation, under a job's file."""
    process = subprocess.Popen([sys.executable, "-c", words], start_new_session=True)
    folder = Path("out/.jobs")
    folder.mkdir(parents=True, exist_ok=True)
    command = ("calib", "simulate", "arena", "--out", f"out/{name}")
    job = Job(name, command, (), 10, process.pid, born(process.pid), time.time())
    (folder / f"{name}.json").write_text(json.dumps(vars(job)))
    return job


def test_it_says_beforehand_what_it_will_do(data: Path) -> None:
    page = opened()
    page.selectbox(key="simulate-scenario").select("arena").run()
    page.multiselect(key="simulate-persons").set_value(["rational", "impatient"]).run()
    page.number_input(key="simulate-people").set_value(1000).run()
    page.number_input(key="simulate-jobs").set_value(2).run()
    page.number_input(key="simulate-seed").set_value(9).run()
    assert any("4 conditions × 1,000 people = 4,000 sessions, in 80 parts" in m.value for m in page.markdown)
    line = "calib simulate arena --people 1000 --role tool,advisor --policy information_gain --person rational "
    assert commands(page) == [line + "--person impatient --engine live --seed 9 --jobs 2 --chunk 50 --out out/arena-9"]
    page.selectbox(key="simulate-engine").select("oracle").run()
    assert "--engine oracle" in commands(page)[0] and any("in 16 parts" in m.value for m in page.markdown)
    assert not list(data.iterdir()), "looking starts nothing and writes nothing"


def test_what_cannot_be_started_is_one_line(data: Path) -> None:
    page = opened()
    page.multiselect(key="simulate-roles").set_value([]).run()
    assert told(page) == ["no role is chosen: choose one or more"]
    page.multiselect(key="simulate-roles").set_value(["tool"]).run()
    for name in ("../outside", "/tmp/x", "a b", ".jobs", "journal", "-x"):
        page.text_input(key="simulate-name").set_value(name).run()
        assert len(told(page)) == 1 and "cannot name a folder" in told(page)[0]
    assert told(opened(job="../../etc"))[0].startswith("job=../../etc: no simulation of this name")


def test_scenarios_of_the_data_folder_are_offered(data: Path) -> None:
    (data / "mine.toml").write_text((ROOT / "scenarios" / "arena.toml").read_text())
    page = opened()
    assert page.selectbox(key="simulate-scenario").options == [
        "apartment",
        "arena",
        "aspiration",
        "beliefs",
        "out/mine.toml",
    ]
    page.selectbox(key="simulate-scenario").select("out/mine.toml").run()
    assert "calib simulate out/mine.toml" in commands(page)[0] and "out/mine-0" in commands(page)[0]


def test_from_start_over_interrupt_and_resume_to_the_analysis(data: Path) -> None:
    """The whole way, each step on a page of its own as after a reload or in a second tab."""
    page = opened()
    page.selectbox(key="simulate-scenario").select("arena").run()
    page.multiselect(key="simulate-policies").set_value(["random"]).run()
    for key, value in (("people", 600), ("rounds", 4), ("jobs", 1), ("seed", 3)):
        page.number_input(key=f"simulate-{key}").set_value(value).run()
    page.button(key="simulate-start").click().run()
    assert not page.exception and not page.error
    job = jobs.find("arena-3", jobs.jobs())
    assert job.is_alive() and os.getsid(job.pid) == job.pid, "a process of its own, in a session of its own"
    assert (job.parts, job.by) == (40, ("role",))
    with pytest.raises(UserError, match="is being simulated"):
        jobs.resume(job)
    wait_for(lambda: len(list(job.folder.glob("parts/*.parquet"))) >= 3 or not job.is_alive())
    second = opened(job="arena-3")
    assert any("--seed 3" in line and "out/arena-3" in line for line in commands(second))
    assert second.get("vega_lite_chart"), "results stand there as parts arrive"
    second.button(key="simulate-interrupt").click().run()
    wait_for(lambda: not job.is_alive())
    assert jobs.state(job) == ("interrupted", "")
    done = {path.name: path.stat().st_mtime_ns for path in job.folder.glob("parts/*.parquet")}
    assert 3 <= len(done) < 40
    third = opened()
    assert any("It was interrupted." in seen(w.value) for w in third.warning)
    third.button(key="simulate-resume").click().run()
    again = jobs.find("arena-3", jobs.jobs())
    assert again.pid != job.pid and again.words == job.words
    wait_for(lambda: not again.is_alive())
    assert jobs.state(again) == ("finished", "")
    assert all((job.folder / "parts" / name).stat().st_mtime_ns == then for name, then in done.items())
    last = opened()
    assert last.success and last.get("page_link")
    whole = analyse(read_table("out/arena-3"), Question())
    assert last.dataframe[0].value["people"].tolist() == [g["n"] for g in whole["groups"]] == [600, 600]
    assert last.dataframe[0].value["aligned"].tolist() == [g["events"]["1"] for g in whole["groups"]]
    assert shlex.split(commands(last)[1]) == list(job.words)


def test_the_processs_own_error_is_shown_as_its_line(data: Path) -> None:
    (data / "broken.toml").write_text("[scenario]\nname = 'broken'\n")
    job = jobs.start(replace(SMALL, scenario="out/broken.toml", name="broken-0"))
    wait_for(lambda: not job.is_alive())
    state, line = jobs.state(job)
    assert state == "failed" and line.startswith("calib simulate: ") and "broken.toml" in line
    page = opened(job="broken-0")
    assert told(page) == [line]
    assert page.button(key="simulate-resume")


def test_a_name_that_is_taken_by_another_simulation_is_not_offered(data: Path) -> None:
    assert jobs.named(SMALL).name == "arena-3"
    a_job("", "arena-3")
    assert jobs.named(SMALL).name == "arena-3-2"
    (data / "arena-3-2" / "parts").mkdir(parents=True)
    assert jobs.named(SMALL).name == "arena-3-3"
    assert own_name("out/my scenario.toml", 4) == "my-scenario-4"


def test_a_dead_process_is_nobodys_job(data: Path) -> None:
    """A process number that was given again is not the job's: nobody is signalled on its word."""
    job = replace(a_job("import time; time.sleep(60)"), born="another boot 1")
    try:
        assert not job.is_alive() and jobs.state(job) == ("interrupted", "its process was ended from outside")
        jobs.interrupt(job)
        time.sleep(0.2)
        assert born(job.pid), "the stranger is alive"
    finally:
        os.killpg(job.pid, 9)


def test_who_does_not_listen_is_killed_at_the_second_try(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = a_job("import signal, time; signal.signal(2, signal.SIG_IGN); print(flush=True); time.sleep(60)")
    time.sleep(0.5)
    jobs.interrupt(job)
    assert jobs.is_being_interrupted(job)
    jobs.interrupt(job)
    time.sleep(0.2)
    assert job.is_alive(), "not before its time of grace is over"
    monkeypatch.setattr(jobs, "GRACE_S", 0.0)
    jobs.interrupt(job)
    wait_for(lambda: not job.is_alive(), 10)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "../x"}', '{"words": 3, "by": 2}'])
def test_a_damaged_job_file_is_no_job(data: Path, text: str) -> None:
    (data / ".jobs").mkdir()
    (data / ".jobs" / "x.json").write_text(text)
    assert jobs.jobs() == []
    assert not opened().error


def test_a_job_file_names_a_plain_folder_and_a_simulation(data: Path) -> None:
    job = a_job("")
    path = Path("out/.jobs/fake.json")
    for change in ({"name": "other"}, {"words": ["rm", "-rf"]}, {"pid": 1}, {"pid": -5}, {"started": "now"}):
        path.write_text(json.dumps(vars(job) | change))
        assert jobs.jobs() == []
    with pytest.raises(UserError, match="cannot name a folder"):
        folder_of("..")


def arriving(folder: Path, parts: int) -> Arrivals:
    return Arrivals(Job(folder.name, ("calib", "simulate"), ("role",), parts, 2, "", time.time() - 1))


def test_what_arrives_is_counted_once_and_comes_out_as_the_analysis(data: Path) -> None:
    """Part by part, then the whole against the analysis of the finished population; all that happened sums to one."""
    conditions = [made_up_rows(300, i, role=role) for i, role in enumerate(("tool", "advisor"))]
    folder = write_population(data / "made-up", *conditions, chunk=100)
    parts = sorted((folder / "parts").iterdir())
    later = [(path, path.read_bytes()) for path in parts[2:]]
    for path, _ in later:
        path.unlink()
    reader = arriving(folder, 6)
    progress, answer = reader.look(budget_s=10)
    assert (progress.done, progress.parts) == (2, 6) and answer is not None and answer["n"] == 200
    (folder / "parts" / "c000-x.123.tmp").write_bytes(b"half a part")
    (folder / "parts" / "c000-y.parquet").write_bytes(b"PAR1 damaged")
    for path, content in later:
        path.write_bytes(content)
    _, answer = reader.look(budget_s=10)
    assert answer is not None and answer["n"] == 600
    whole = analyse(read_table(str(folder)), Question(), models=False)
    for group, found in zip(whole["groups"], answer["groups"], strict=True):
        for key in ("name", "n", "events", "cif", "median", "rmst", "watched_to"):
            assert found[key] == pytest.approx(group[key]) if key == "rmst" else found[key] == group[key], key


def test_the_tally_is_the_count_of_the_sample() -> None:
    rng = np.random.default_rng(1)
    time_, event = rng.integers(1, 9, 500), rng.integers(0, 4, 500)
    expected = survival.count(time_.astype(float), event, [1, 2, 3])
    found = counts_of(Counter(zip(time_.tolist(), event.tolist(), strict=True)), [1, 2, 3])
    for a, b in zip(expected, found, strict=True):
        assert np.array_equal(a, b)
    assert Tally(()).groups() == []


def test_a_look_is_short_however_much_has_arrived(data: Path) -> None:
    """A thousand parts of 24 groups: each look, with its chart, within its tenth of a second (of a processor, the
    median of many)."""
    conditions = [
        made_up_rows(2_000, i, details=False, role=role, policy=f"p{i}", person_model=person)
        for i, (role, person) in enumerate((r, p) for r in ("tool", "advisor") for p in "abcdefghijkl")
    ]
    folder = write_population(data / "large", *conditions, chunk=48)
    reader = Arrivals(Job("large", ("calib", "simulate"), ("role", "person_model"), 1008, 2, "", time.time() - 1))
    took, counted = [], 0
    while counted < 1008:
        begun = time.thread_time()
        _, answer = reader.look()
        assert answer is not None
        names = [group["name"] for group in answer["groups"]]
        figures.incidence(rows.incidence(answer, 1), names, "rounds", "aligned")
        took.append(time.thread_time() - begun)
        assert reader.num_counted() > counted
        counted = reader.num_counted()
    assert len(folder.name) and sum(group["n"] for group in answer["groups"]) == 48_000
    assert len(took) > 3 and np.median(took) < 0.1


def test_the_time_left_is_said_when_something_tells(data: Path) -> None:
    folder = data / "slow"
    (folder / "parts").mkdir(parents=True)
    now = time.time()

    def look(*ages: float) -> float | None:
        for path in (folder / "parts").iterdir():
            path.unlink()
        for i, age in enumerate(ages):
            path = folder / "parts" / f"{i}.parquet"
            path.touch()
            os.utime(path, (now - age, now - age))
        job = Job("slow", ("calib", "simulate"), (), 10, 2, "", now - 100)
        return Arrivals(job).look()[0].remaining_s

    assert look() is None and look(50) is None
    # Two of an earlier process tell nothing; of this one three in 20 s, so one in 10 s, and 5 are left.
    assert look(500, 400, 30, 20, 10) == pytest.approx(40, abs=2)
    assert look(500, 400, 30) is None
    assert look(*range(10, 110, 10)) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(3, "a few seconds"), (42, "about 40 s"), (150, "about 2 min"), (3000, "about 50 min"), (9000, "about 2.5 h")],
)
def test_durations_are_as_precise_as_a_guess(seconds: float, words: str) -> None:
    assert duration_words(seconds) == words
    assert arrivals.BUDGET_S < 0.1
