"""People in the journal: consent in, everything out, and an erasure that reaches the bytes of the files."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from calib.errors import JournalError
from calib.journal import migrate, open_journal
from calib.participants import (
    Participant,
    enrol,
    erase_participant,
    export_participant,
    link,
    list_participants,
)
from test_journal import a_version_0_journal, refused

NOW = "2030-01-02T03:04:05.000000+00:00"


@pytest.fixture
def journal(tmp_path):
    with open_journal(f"sqlite:///{tmp_path}/calib.db", now=lambda: NOW) as opened:
        yield opened


def a_run_of(journal, pseudonym, run, secret="quiet please"):
    journal.append(run, "start", {"kind": "human", "device": "simvac", "participant": pseudonym})
    for n in range(20):
        # Long bodies too: SQLite keeps those in pages of their own.
        journal.append(run, "round", {"answer": secret * (1 if n % 2 else 300), "n": n})
    journal.append(run, "stop", {"stop_reason": "accepted"})


def test_enrol_and_list(journal):
    enrol(journal, "p1", "v1", name="Ada")
    enrol(journal, "p1", "v1")
    enrol(journal, "p2", "v2")
    link(journal, "p2", "r1")
    link(journal, "p2", "r1")
    assert list_participants(journal) == [Participant("p1", "v1", NOW, 0), Participant("p2", "v2", NOW, 1)]
    with refused("r1", "belongs to participant p2"):
        link(journal, "p1", "r1")
    with refused("p9", "not enrolled", "calib participant enrol p9"):
        link(journal, "p9", "r2")
    for bad in ("", " p", "p\n1", "x" * 201):
        with refused("pseudonym"):
            enrol(journal, bad, "v1")


def test_an_export_holds_everything(journal):
    enrol(journal, "p1", "v1", name="Ada", contact="ada@example.org")
    enrol(journal, "p2", "v1", name="Bob")
    a_run_of(journal, "p1", "r1")  # found by its start, without an explicit link
    a_run_of(journal, "p2", "r2")
    journal.append("r3", "event", {"note": "before the link"})
    link(journal, "p1", "r3")
    held = json.loads(json.dumps(export_participant(journal, "p1")))
    assert held["consent"] == {"version": "v1", "at": NOW}
    assert (held["name"], held["contact"]) == ("Ada", "ada@example.org")
    assert [(part["run"], len(part["entries"])) for part in held["runs"]] == [("r1", 22), ("r3", 1)]
    assert held["runs"][1]["entries"][0]["body"] == {"note": "before the link"}
    assert "Bob" not in json.dumps(held)
    with refused("p9", "not in this journal"):
        export_participant(journal, "p9")


def test_names_never_reach_the_entries(journal, tmp_path):
    enrol(journal, "p1", "v1", name="Ada Byron")
    a_run_of(journal, "p1", "r1")
    with closing(sqlite3.connect(tmp_path / "calib.db")) as connection:
        holders = [
            table
            for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            if any("Ada Byron" in map(str, row) for row in connection.execute(f"SELECT * FROM {table}"))
        ]
    assert holders == ["names"]


def test_an_erasure_leaves_tombstones_and_valid_chains(journal):
    for person in ("p1", "p2"):
        enrol(journal, person, "v1", name=f"Name of {person}")
        a_run_of(journal, person, f"run of {person[1]}")
    before = journal.entries("run of 2")
    chains = [entry.chain for entry in journal.entries("run of 1")]
    done = erase_participant(journal, "p1")
    assert (done.runs, done.entries, done.names, done.already) == (1, 22, 1, None)
    gone = journal.entries("run of 1")
    assert [entry.chain for entry in gone] == chains
    assert all(entry.body is None and entry.salt is None for entry in gone)
    assert journal.verify("run of 1") == journal.verify("run of 2") == []
    assert journal.entries("run of 2") == before
    assert [(row.run, row.state, row.participant, row.device) for row in journal.runs()] == [
        ("run of 1", "erased", None, "simvac"),
        ("run of 2", "accepted", "p2", "simvac"),
    ]
    assert [person.pseudonym for person in list_participants(journal)] == ["p2"]

    again = erase_participant(journal, "p1")
    assert (again.runs, again.entries, again.names, again.already) == (0, 0, 0, NOW)
    with refused("p1", "was erased on", NOW):
        export_participant(journal, "p1")
    with refused("p1", "was erased", "another pseudonym"):
        enrol(journal, "p1", "v1")
    with refused("run of 1", "was erased", "new run"):
        journal.append("run of 1", "round", {})
    with refused("p1", "was erased"):
        journal.append("run of 3", "start", {"participant": "p1"})
    with refused("p9", "not in this journal"):
        erase_participant(journal, "p9")


def test_an_erasure_that_fails_half_way_does_nothing(journal, tmp_path):
    enrol(journal, "p1", "v1", name="Ada")
    a_run_of(journal, "p1", "r1")
    with closing(sqlite3.connect(tmp_path / "calib.db")) as connection:
        connection.execute("CREATE TRIGGER stuck BEFORE DELETE ON participants BEGIN SELECT RAISE(ABORT, 'no'); END")
    before = export_participant(journal, "p1")
    with pytest.raises(Exception, match="no"):
        erase_participant(journal, "p1")
    assert export_participant(journal, "p1") == before


def _files_with(folder: Path, secret: str) -> set[str]:
    return {path.name for path in folder.iterdir() if secret.encode() in path.read_bytes()}


def test_the_bytes_are_gone_from_the_files(journal, tmp_path):
    secret, name, other = "zebra-secret-51", "Ada-secret-name", "the other one's words"
    with open_journal(f"sqlite:///{tmp_path}/calib.db") as runner:  # another process's journal stays open
        enrol(journal, "pseudonym-77", "v1", name=name)
        a_run_of(journal, "pseudonym-77", "r1", secret)
        a_run_of(runner, "p2", "r2", other)
        with closing(sqlite3.connect(tmp_path / "calib.db")) as connection:
            connection.execute("PRAGMA wal_checkpoint")  # into the main file too, as after a long day
        a_run_of(journal, "pseudonym-77", "r3", secret)
        assert _files_with(tmp_path, secret) == {"calib.db", "calib.db-wal"}
        assert _files_with(tmp_path, name) and _files_with(tmp_path, "pseudonym-77")
        erase_participant(journal, "pseudonym-77")
        for planted in (secret, name, "pseudonym-77"):
            assert _files_with(tmp_path, planted) == set()
        assert _files_with(tmp_path, other) == {"calib.db"}
        runner.append("r2", "event", {})
        assert runner.verify("r2") == journal.verify("r1") == []


def test_what_another_program_deleted_without_overwriting_is_gone_too(journal, tmp_path):
    enrol(journal, "p1", "v1", name="first-secret-name " * 20)
    with closing(sqlite3.connect(tmp_path / "calib.db")) as connection, connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("UPDATE names SET name = 'Ada'")
        connection.execute("DELETE FROM names")
    with closing(sqlite3.connect(tmp_path / "calib.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert _files_with(tmp_path, "first-secret-name") == {"calib.db"}
    erase_participant(journal, "p1")
    assert _files_with(tmp_path, "first-secret-name") == set()


def test_a_reader_that_holds_old_pages_is_told_and_a_repeat_finishes(journal, tmp_path, monkeypatch):
    monkeypatch.setattr("calib.journal_store.BUSY_TIMEOUT_S", 0.2)
    enrol(journal, "p1", "v1")
    a_run_of(journal, "p1", "r1", "zebra-secret-52")
    with closing(sqlite3.connect(tmp_path / "calib.db", isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchone()
        with refused("erased, but another process", "erase again"):
            erase_participant(journal, "p1")
        assert journal.entries("r1")[0].body is None
    assert erase_participant(journal, "p1").already == NOW
    assert _files_with(tmp_path, "zebra-secret-52") == set()


def test_old_backups_are_named(tmp_path):
    path = tmp_path / "calib.db"
    a_version_0_journal(path)
    backup = migrate(f"sqlite:///{path}")
    with open_journal(f"sqlite:///{path}") as journal:
        enrol(journal, "p1", "v1")
        link(journal, "p1", "r1")
        assert erase_participant(journal, "p1").backups == [backup]
        assert journal.verify("r1") == []


def test_a_start_with_someone_elses_run_is_refused_whole(journal):
    enrol(journal, "p1", "v1")
    link(journal, "p1", "r1")
    with pytest.raises(JournalError, match="belongs to participant p1"):
        journal.append("r1", "start", {"participant": "p2"})
    assert journal.runs() == []
    assert journal.append("r1", "start", {"participant": "p1"}) == 0
