"""Attacks on a journal in use: full disks, files that go away, two writers of one run."""

import json
from pathlib import Path
from typing import Any

import pytest

from calib.errors import JournalError
from calib.journal import Journal, open_journal
from cli.main import main
from sessions import quick_scenario


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a quick run."""
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(tmp_path))
    scenario = quick_scenario(tmp_path)
    return ["run", scenario, "--rounds", "3", "--seed", "3", "--json", "--journal", f"sqlite:///{tmp_path}/calib.db"]


@pytest.mark.parametrize("kind", ["event", "round", "stop", "truth"])
def test_a_journal_that_fails_once_leaves_the_run_whole_for_resume(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A closing record behind a missing document would end the run for good, and no replay would agree with it."""
    assert main(words) == 0
    unbroken = json.loads(capsys.readouterr().out)
    append, seen = Journal.append, []

    def fails(self: Journal, run: str, type: Any, body: dict[str, Any]) -> int:
        seen.append(type)
        if type == kind and seen.count(kind) == (2 if kind in ("event", "round") else 1):
            raise JournalError("journal: the disk is full")
        return append(self, run, type, body)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", fails)
        assert main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.strip().splitlines()) == 1
    with open_journal(words[-1]) as journal:
        run = journal.runs()[-1].run
    assert f"calib resume {run}" in err
    assert main(["replay", run, "--json", "--journal", words[-1]]) == 0
    capsys.readouterr()
    assert main(["resume", run, "--json", "--journal", words[-1]]) == 0
    resumed = json.loads(capsys.readouterr().out)
    assert resumed | {"run": ""} == unbroken | {"run": ""}
    assert main(["replay", run, "--json", "--journal", words[-1]]) == 0


def test_a_journal_that_is_deleted_in_the_middle_is_noticed(tmp_path: Path) -> None:
    with open_journal(f"sqlite:///{tmp_path}/calib.db") as journal:
        journal.append("r", "event", {"n": 1})
        (tmp_path / "calib.db").rename(tmp_path / "away.db")
        with pytest.raises(JournalError, match="moved or deleted"):
            journal.append("r", "event", {"n": 2})
        (tmp_path / "calib.db").write_bytes(b"another file in its place")
        with pytest.raises(JournalError, match="moved or deleted"):
            journal.append("r", "event", {"n": 2})
        (tmp_path / "away.db").replace(tmp_path / "calib.db")
        journal.append("r", "event", {"n": 2})


def test_who_goes_on_with_a_run_writes_behind_what_was_read_or_not_at_all(tmp_path: Path) -> None:
    """Two resumes at once: the one that was slower has folded an older state."""
    url = f"sqlite:///{tmp_path}/calib.db"
    with open_journal(url) as first, open_journal(url) as second:
        first.append("r", "event", {"n": 1})
        read = second.entries("r")
        second.go_on_after(read)
        first.append("r", "event", {"n": 2})
        with pytest.raises(JournalError, match="another process"):
            second.append("r", "event", {"n": 3})
        assert [e.body for e in first.entries("r")] == [{"n": 1}, {"n": 2}]


def test_a_mistyped_journal_is_not_made_by_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "x", "--journal", f"sqlite:///{tmp_path}/typo.db"]) == 2
    assert "no such file" in capsys.readouterr().err
    assert not (tmp_path / "typo.db").exists()


def test_options_in_the_url_are_refused_and_a_password_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "--journal", f"sqlite:///{tmp_path}/calib.db?mode=ro"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert main(["runs", "--journal", "mysql://me:secret@host/db"]) == 2
    assert "secret" not in capsys.readouterr().err


def test_a_pseudonym_that_is_no_text_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/calib.db"
    assert main(["participant", "enrol", "p1", "--consent", "v1", "--journal", url]) == 0
    for action in ("export", "erase"):
        assert main(["participant", action, "\udce4", "--journal", url]) == 2
    assert "not in this journal" in capsys.readouterr().err


@pytest.mark.parametrize("more", [["--rounds", "9" * 24], ["--person-number", "9" * 24]])
def test_huge_numbers_are_refused_in_one_line(
    words: list[str], more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *more]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
