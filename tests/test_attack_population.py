"""Populations under attack: damaged and swapped parts, folders that are none, absurd sizes, interrupts, two at once."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calib.errors import UserError
from cli.main import main
from experiments import population
from experiments.parts import Plan
from experiments.population import part_path, simulate_population
from sessions import ROOT, Lab
from test_population import plan_of, simulated

WORDS = ("simulate", "arena", "--people", "40", "--role", "tool,advisor", "--policy", "random,information_gain")
WORDS += ("--rounds", "5", "--particles", "64", "--seed", "3")


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The data's hash of one undisturbed process."""
    return str(simulated(plan_of(), tmp_path_factory.mktemp("reference"))["data_sha256"])


@pytest.fixture
def small() -> Plan:
    """Eight people in two parts of one condition."""
    return plan_of(roles=["tool"], policies=["random"], people=8, chunk=4, max_rounds=2)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def refused(*words: str) -> str:
        assert main(["simulate", "arena", "--particles", "64", *words]) == 2
        told = capsys.readouterr()
        assert told.out == "" and len(told.err.strip().splitlines()) == 1
        return told.err

    return refused


# Parts.


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    """One bit of the first page."""
    content = bytearray(path.read_bytes())
    content[60] ^= 4
    path.write_bytes(content)


def rubbish(path: Path) -> None:
    path.write_bytes(b"PAR1" + bytes(200) + b"PAR1")


@pytest.mark.parametrize("damage", [cut, empty, flip, rubbish])
def test_a_damaged_part_is_computed_again(small: Plan, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    whole = simulated(small, tmp_path)
    first, second = (part_path(tmp_path, part) for part in small.parts)
    kept = second.stat().st_mtime_ns
    damage(first)
    assert simulated(small, tmp_path) == whole
    assert second.stat().st_mtime_ns == kept


def test_every_flipped_byte_is_mended_or_harms_nothing(small: Plan, tmp_path: Path) -> None:
    whole = simulated(small, tmp_path)["data_sha256"]
    path = part_path(tmp_path, small.parts[0])
    content = path.read_bytes()
    for at in range(0, len(content), len(content) // 40):
        broken = bytearray(content)
        broken[at] ^= 0x10
        path.write_bytes(broken)
        try:
            assert simulated(small, tmp_path)["data_sha256"] == whole
        except UserError as error:  # the bit was in the label
            assert "of another simulation" in str(error)
            path.write_bytes(content)


def test_a_part_of_another_plan_or_place_is_refused_and_stays(small: Plan, tmp_path: Path) -> None:
    other = plan_of(roles=["tool"], policies=["random"], people=8, chunk=4, max_rounds=2, seed=4)
    simulated(other, tmp_path / "other")
    simulated(small, tmp_path / "mine")
    mine, next_one = (part_path(tmp_path / "mine", part) for part in small.parts)
    foreign = part_path(tmp_path / "other", other.parts[0]).read_bytes()
    for content in (foreign, next_one.read_bytes()):
        mine.write_bytes(content)
        with pytest.raises(UserError, match=r"is a part of another simulation: move it away"):
            simulated(small, tmp_path / "mine")
        assert mine.read_bytes() == content


def test_a_part_without_a_manifest_goes_on(small: Plan, tmp_path: Path) -> None:
    whole = simulated(small, tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert simulated(small, tmp_path) == whole


# Folders.


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"plan_sha256": 3}', "\x00"])
def test_a_damaged_plan_is_refused(small: Plan, tmp_path: Path, content: str) -> None:
    simulated(small, tmp_path)
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(UserError, match=r"is damaged|holds another simulation"):
        simulated(small, tmp_path)
    (tmp_path / "plan.json").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"is damaged"):
        simulated(small, tmp_path)


def test_an_out_that_is_no_folder(tmp_path: Path, refused: Callable[..., str]) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    assert "cannot be written" in refused("--people", "4", "--out", str(file))
    assert "cannot be written" in refused("--people", "4", "--out", str(file / "below"))
    assert "cannot be written" in refused("--people", "4", "--out", "/proc/population")
    assert file.read_text() == "mine"


def test_a_full_disk_is_one_line_and_keeps_what_there_is(
    small: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = os.fsync
    written: list[int] = []

    def full(handle: int) -> None:
        written.append(handle)
        if len(written) == 3:  # the plan, a part, and no more
            raise OSError(28, "No space left on device")
        sync(handle)

    with monkeypatch.context() as disk:
        disk.setattr(population.os, "fsync", full)
        with pytest.raises(UserError, match=r"cannot be written \(No space left on device\): .* run again to go on"):
            simulated(small, tmp_path)
    assert [p.name for p in tmp_path.glob("parts/*")] == [part_path(tmp_path, small.parts[0]).name]
    assert simulated(small, tmp_path)["rows"] == 8


def test_a_file_that_may_not_grow_is_one_line(tmp_path: Path) -> None:
    """A real limit of the system: no file of this process above two kilobytes."""
    words = [sys.executable, "-m", "cli.main", *WORDS, "--jobs", "1", "--out", str(tmp_path / "out")]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048)),
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "cannot be written (File too large)" in done.stderr
    assert not list((tmp_path / "out").glob("parts/*"))


def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    """As a user who is not root: root may write everywhere."""
    folder = tmp_path / "out"
    folder.mkdir(mode=0o555)
    if os.geteuid() != 0:
        with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
            simulated(plan_of(), folder)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Path, "mkdir", lambda *args, **more: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
        )
        with pytest.raises(UserError, match=r"cannot be written \(Permission denied\)"):
            simulated(plan_of(), folder)


# Words.


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--jobs", "-1"), "--jobs: -1 is no number of processes"),
        (("--people", "0"), "--people: 0 is too few"),
        (("--people", "-5"), "--people: -5 is too few"),
        (("--people", "9" * 30), "parts at most"),
        (("--people", "300000000", "--chunk", "16"), "give fewer people or a larger --chunk"),
        (("--chunk", "0"), "--chunk: 0 is no number of people"),
        (("--chunk", "9" * 12), "--chunk: 999999999999 is no number of people"),
        (("--rounds", "0"), "--rounds: 0 is too few"),
        (("--rounds", "9" * 12), "--rounds: 999999999999 is too many"),
        (("--particles", "1"), "--particles: 1 is no number of particles"),
        (("--particles", "9" * 12), "is no number of particles"),
        (("--seed", "-1"), "--seed: -1 is negative"),
        (("--people", "many"), "invalid int value"),
        (("--role", "tool,tool"), "twice"),
        (("--role", ""), "is not a role"),
    ],
)
def test_absurd_words_are_refused_before_anything_is_made(
    words: tuple[str, ...], line: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    begun = time.monotonic()
    assert line in refused(*words, "--out", str(tmp_path / "out"))
    assert time.monotonic() - begun < 20 and not (tmp_path / "out").exists()


def test_jobs_0_is_one_a_core(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "arena", "--people", "4", "--rounds", "2", "--particles", "64", "--policy", "random", "--json"]
    assert main([*words, "--jobs", "0", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 4


# Interrupts, and two at once.


def begun(out: Path, process: "subprocess.Popen[str]", parts: int = 2) -> None:
    until = time.monotonic() + 120
    while len(list(out.glob("parts/*.parquet"))) < parts:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_in_the_middle_is_130_and_the_next_run_goes_on(reference: str, tmp_path: Path, jobs: str) -> None:
    """Its workers go with it, and so they do with a parent that is killed."""
    out = tmp_path / "out"
    lab = Lab(tmp_path)
    words = (*WORDS, "--chunk", "2", "--jobs", jobs, "--out", str(out), "--json")
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        before = len(list(out.glob("parts/*.parquet")))
        with lab.going(*words) as process:
            begun(out, process, before + 2)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            process.send_signal(number)
            assert process.wait(timeout=60) == code
            assert process.stderr is not None
            assert code != 130 or process.stderr.read() == "interrupted\n"
            until = time.monotonic() + 20
            while any(alive(int(child)) for child in children):
                assert time.monotonic() < until, children
                time.sleep(0.05)
        assert not (out / "manifest.json").exists()
    assert json.loads(lab.calib(*words).stdout)["data_sha256"] == reference
    assert not list(out.glob("**/*.tmp"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def test_two_into_one_folder(reference: str, tmp_path: Path) -> None:
    """The second is told so, whatever it wanted to simulate, and disturbs nothing."""
    out = tmp_path / "out"
    told: list[str] = []

    def second(people: int) -> None:
        if told:
            return
        for words in (WORDS, (*WORDS, "--seed", "4")):
            done = subprocess.run(
                [sys.executable, "-m", "cli.main", *words, "--jobs", "1", "--out", str(out)],
                capture_output=True,
                text=True,
                cwd=ROOT,
            )
            told.append(f"{done.returncode} {done.stderr}")

    found = simulate_population(plan_of(), out, 1, second)
    assert found["data_sha256"] == reference
    assert len(told) == 2
    assert all(line.startswith("2 ") and "another process simulates into this folder" in line for line in told)
    assert all(line.count("\n") == 1 for line in told)


def test_what_a_killed_process_was_writing_is_cleared_away(small: Plan, tmp_path: Path) -> None:
    simulated(small, tmp_path)
    left: Any = part_path(tmp_path, small.parts[0]).with_suffix(".12345.tmp")
    left.write_bytes(b"half a part")
    mine = tmp_path / "parts" / "notes.tmp"
    mine.write_text("not ours")
    simulated(small, tmp_path)
    assert not left.exists() and mine.exists()
