"""The journal reads back what was written, notices any change, and says in one line what is wrong with a file."""

import hashlib
import json
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from calib import journal_store
from calib.errors import JournalError, UserError
from calib.journal import Journal, RunRow, canonical, chain_of, digest_of, migrate, open_journal

START = {"kind": "human", "rung": "emulator", "device": "roomba:emulator", "scenario": "apartment", "rounds": 3}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calib.db"


@pytest.fixture
def journal(path: Path):
    with open_journal(f"sqlite:///{path}", now=lambda: "2030-01-02T03:04:05.000000+00:00") as opened:
        yield opened


@contextmanager
def refused(*words: str):
    """A JournalError in one line that has all the words."""
    with pytest.raises(JournalError) as caught:
        yield
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def tamper(path: Path, sql: str, *values: object) -> None:
    """What somebody with another program could do: the triggers are dropped first."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(sql, values)


def a_session(journal: Journal, run: str = "r1") -> None:
    journal.append(run, "start", START)
    journal.append_many(run, [("round", {"t": 1, "degree": 0.1}), ("truth", {"degree": 0.2}), ("round", {"t": 2})])
    journal.append(run, "stop", {"stop_reason": "accepted"})


def test_a_session_reads_back(journal):
    a_session(journal)
    read = journal.entries("r1")
    assert [(entry.seq, entry.type) for entry in read] == [
        (0, "start"),
        (1, "round"),
        (2, "truth"),
        (3, "round"),
        (4, "stop"),
    ]
    assert read[0].body == START
    assert [entry.body["t"] for entry in journal.entries("r1", ["round"])] == [1, 2]
    assert journal.entries("another") == []
    assert journal.runs() == [
        RunRow(
            run="r1",
            kind="human",
            rung="emulator",
            device="roomba:emulator",
            scenario="apartment",
            started="2030-01-02T03:04:05.000000+00:00",
            state="accepted",
            rounds=2,
            participant=None,
            documents=5,
        )
    ]
    assert journal.verify("r1") == []
    assert journal.verify("another") == ["run another: not in this journal"]


def test_the_chain_can_be_computed_by_hand(journal):
    a_session(journal)
    chain = hashlib.sha256(b"r1").hexdigest()
    for entry in journal.entries("r1"):
        body = json.dumps(entry.body, sort_keys=True, separators=(",", ":"))
        assert entry.digest == hashlib.sha256(bytes.fromhex(entry.salt) + body.encode()).hexdigest()
        chain = hashlib.sha256(f"{chain}\n{entry.seq}\n{entry.type}\n{entry.digest}".encode()).hexdigest()
        assert entry.chain == chain


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_canonical_text_round_trips(body):
    text = canonical(body)
    assert json.loads(text) == body
    assert canonical(json.loads(text)) == text  # the sign of -0.0 too, which == would not see
    assert text.isascii()


@pytest.mark.parametrize("body", [{"x": float("nan")}, {"x": [float("inf")]}, {1: "x"}, {"x": {2.0: 1}}, {"x": {1, 2}}])
def test_what_would_not_round_trip_is_a_bug(journal, body):
    with pytest.raises(ValueError):
        journal.append("r1", "round", body)
    assert journal.runs() == []


def test_append_many_is_all_or_nothing(journal):
    a_session(journal)
    with pytest.raises(ValueError):
        journal.append_many("r1", [("event", {"n": 1}), ("event", {"n": float("nan")})])
    with pytest.raises(AssertionError):
        journal.append("r1", "gossip", {})
    assert len(journal.entries("r1")) == 5
    assert journal.append_many("r1", []) == []
    assert journal.append_many("r1", [("event", {}), ("event", {})]) == [5, 6]


@pytest.mark.parametrize(
    ("stop", "state"), [({"reason": "gave_up"}, "gave_up"), ({"stop_reason": "gave_up"}, "gave_up"), ({}, "stopped")]
)
def test_the_state_of_a_run(journal, stop, state):
    journal.append("r1", "start", {**START, "scenario": {"name": "not a text"}})
    assert [(row.state, row.scenario) for row in journal.runs()] == [("open", None)]
    journal.append("r1", "stop", stop)
    journal.append("r1", "audit", {})
    assert [row.state for row in journal.runs()] == [state]
    assert journal.verify("r1") == []


def test_a_run_goes_on_after_reopening(path):
    for n in range(3):
        with open_journal(f"sqlite:///{path}") as journal:
            assert journal.append("r1", "event", {"n": n}) == n
            assert journal.verify("r1") == []


def test_a_second_writer_of_a_run_is_refused(path):
    url = f"sqlite:///{path}"
    with open_journal(url) as one, open_journal(url) as two:
        one.append("r1", "event", {"by": 1})
        two.append("other", "event", {"by": 2})
        two.append("r1", "event", {"by": 2})
        for _ in range(2):
            with refused("run r1", "another process"):
                one.append("r1", "event", {"by": 1})
        one.append("one's own", "event", {})
        assert [entry.body["by"] for entry in one.entries("r1")] == [1, 2]
        assert one.verify("r1") == []


def test_every_connection_is_durable(journal):
    with journal.reading() as first, journal.reading() as second:
        for connection in (first, second):
            pragmas = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete", "busy_timeout")
            }
            assert pragmas == {
                "journal_mode": "wal",
                "synchronous": 2,
                "foreign_keys": 1,
                "secure_delete": 1,
                "busy_timeout": 10_000,
            }


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM entries",
        "DELETE FROM entries WHERE seq = 4",
        "UPDATE entries SET body = '{}'",
        "UPDATE entries SET body = NULL, salt = NULL",  # no tombstone
        "UPDATE entries SET written_at = 'never'",
        "INSERT OR REPLACE INTO entries SELECT run, seq, type, '{}', salt, digest, chain, written_at FROM entries",
        "DELETE FROM runs",
    ],
)
def test_the_database_itself_refuses_changes(journal, path, sql):
    a_session(journal)
    before = journal.entries("r1")
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute(sql)
    assert journal.entries("r1") == before


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("UPDATE entries SET body = replace(body, '0.1', '0.2') WHERE seq = 1", "entry 1: the body is not"),
        ("UPDATE entries SET body = body || ' ' WHERE seq = 1", "entry 1: the body is not"),
        ("UPDATE entries SET salt = substr(digest, 1, 32) WHERE seq = 1", "entry 1: the body is not"),
        ("UPDATE entries SET salt = 'no hex' WHERE seq = 1", "entry 1: the body is not"),
        ("UPDATE entries SET type = 'truth' WHERE seq = 1", "entry 1: the chain is broken"),
        ("UPDATE entries SET digest = chain WHERE seq = 1", "entry 1: the chain is broken"),
        ("UPDATE entries SET chain = digest WHERE seq = 4", "entry 4: the chain is broken"),
        ("UPDATE entries SET body = NULL, salt = NULL WHERE seq = 1", "entry 1: the body or the salt is gone"),
        ("DELETE FROM entries WHERE seq = 2", "entry 3: entry 2 is missing"),
        ("DELETE FROM entries WHERE seq = 4", "stop_reason"),
        ("UPDATE runs SET kind = 'simulated'", "kind"),
        ("DELETE FROM runs", "not in the list of runs"),
    ],
)
def test_the_chain_shows_a_change_behind_its_back(path, sql, word):
    with open_journal(f"sqlite:///{path}") as journal:
        a_session(journal)
        a_session(journal, "r2")
    tamper(path, sql + (" AND run = 'r1'" if "WHERE" in sql else " WHERE run = 'r1'"))
    with open_journal(f"sqlite:///{path}", create=False) as journal:
        problems = journal.verify("r1")
        assert any(word in problem for problem in problems), problems
        assert journal.verify("r2") == []


def test_entries_of_one_run_do_not_pass_for_another(path):
    with open_journal(f"sqlite:///{path}") as journal:
        a_session(journal)
    tamper(path, "UPDATE entries SET run = 'r9'")
    tamper(path, "UPDATE runs SET run = 'r9'")
    with open_journal(f"sqlite:///{path}", create=False) as journal:
        assert "chain is broken" in journal.verify("r9")[0]


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 10_000), mask=st.integers(1, 255))
def test_any_flipped_byte_of_a_body_is_found(place, mask):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "calib.db"
        body = {"answer": "deep", "weights": [0.1, -0.0, 1e-300]}
        with open_journal(f"sqlite:///{path}") as journal:
            journal.append("r1", "round", body)
        content = bytearray(path.read_bytes())
        text = canonical(body).encode()
        begin = content.find(text)
        assert begin > 0
        content[begin + place % len(text)] ^= mask
        path.write_bytes(content)
        with open_journal(f"sqlite:///{path}", create=False) as journal:
            assert journal.verify("r1") == ["run r1, entry 0: the body is not the one that was written"]


def test_a_body_that_is_no_json_any_more(path):
    with open_journal(f"sqlite:///{path}") as journal:
        a_session(journal)
    tamper(path, "UPDATE entries SET body = '{' WHERE seq = 3")
    with (
        open_journal(f"sqlite:///{path}", create=False) as journal,
        refused("entry 3 of run r1 is damaged", "verify", "backup"),
    ):
        journal.entries("r1")


def test_wrong_names(tmp_path):
    with refused("no database URL", "sqlite:///calib.db"):
        open_journal("calib.db")
    with refused("outlive"):
        open_journal("sqlite://")
    with refused("is a folder"):
        open_journal(f"sqlite:///{tmp_path}")
    with refused("does not exist", "make it"):
        open_journal(f"sqlite:///{tmp_path}/missing/calib.db")
    with refused("no such file", "calib run"):
        open_journal(f"sqlite:///{tmp_path}/calib.db", create=False)
    with refused("by pg8000", "write postgresql://"):
        open_journal("postgresql+psycopg2://host/lab")
    with refused("in SQLite or PostgreSQL"):
        open_journal("mysql://host/lab")
    assert list(tmp_path.iterdir()) == []
    assert issubclass(JournalError, UserError)


def _newer(path: Path) -> None:
    with open_journal(f"sqlite:///{path}"):
        pass
    tamper(path, "UPDATE meta SET value = '2'")


def _foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE meta (key, value)")
        connection.execute("INSERT INTO meta VALUES ('schema_version', '1')")


def _foreign_wal(path: Path) -> None:
    _foreign(path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_newer, ("made by a newer version", "update the lab or choose another journal")),
        (_foreign, ("another program", "choose another journal")),
        (_foreign_wal, ("another program", "choose another journal")),
        (lambda path: path.write_text("kind,rounds\nhuman,3\n" * 100), ("not a database", "choose another journal")),
    ],
)
@pytest.mark.parametrize("create", [True, False])
def test_foreign_and_newer_files_are_refused_and_stay_as_they_are(path, make, words, create):
    make(path)
    before = path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode
    with refused(str(path), *words):
        open_journal(f"sqlite:///{path}", create=create)
    with refused(str(path), *words):
        migrate(f"sqlite:///{path}")
    assert (path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode) == before
    assert [inner.name for inner in path.parent.iterdir()] == ["calib.db"]


def test_an_empty_file_becomes_a_journal_only_when_asked(path):
    path.touch()
    with refused("is empty"):
        open_journal(f"sqlite:///{path}", create=False)
    assert path.stat().st_size == 0
    with open_journal(f"sqlite:///{path}") as journal:
        a_session(journal)
    assert path.stat().st_mode & 0o777 == 0o600  # names of people may come in


def test_a_damaged_file(path):
    with open_journal(f"sqlite:///{path}") as journal:
        for n in range(200):
            journal.append("r1", "round", {"n": n, "x": [0.5] * 40})
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(size // 4096 // 2, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xaa" * 4096)
    with (
        refused("damaged", "restore a backup"),
        open_journal(f"sqlite:///{path}", create=False) as journal,
    ):
        journal.verify("r1")


def test_a_full_disk_loses_only_what_was_not_acknowledged(journal):
    a_session(journal)
    with journal.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
    written = 5
    with refused("the disk is full", "free some space"):
        while written < 100:
            journal.append("r1", "event", {"x": "y" * 3000})
            written += 1
    assert 5 < written < 100
    with journal.reading() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 100000")
    assert journal.append("r1", "event", {}) == written  # goes on where it was
    assert journal.verify("r1") == []


def test_locked_by_another_program(path, monkeypatch):
    monkeypatch.setattr(journal_store, "BUSY_TIMEOUT_S", 0.2)
    with open_journal(f"sqlite:///{path}") as journal, closing(sqlite3.connect(path)) as other:
        a_session(journal)
        other.execute("BEGIN IMMEDIATE")
        with refused("locked by another process", "wait"):
            journal.append("r1", "event", {})
        assert len(journal.entries("r1")) == 5  # reading goes on
        other.rollback()
        assert journal.append("r1", "event", {}) == 5


@contextmanager
def as_an_ordinary_user():
    """Root may write anything, so a test of permissions has to step down."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_place(read_only):
    folder = Path(tempfile.mkdtemp())  # not tmp_path, whose parents an ordinary user may not enter
    path = folder / "calib.db"
    try:
        with open_journal(f"sqlite:///{path}") as journal:
            a_session(journal)
        folder.chmod(0o555 if read_only == "folder" else 0o777)
        path.chmod(0o444 if read_only == "file" else 0o666)
        with as_an_ordinary_user():
            with refused("read-only", "copy it to a folder that you can write"):
                open_journal(f"sqlite:///{path}")
            if read_only == "folder":
                with refused("calib.db"):
                    open_journal(f"sqlite:///{path}", create=False)
                with refused("new.db", "may write"):
                    open_journal(f"sqlite:///{folder}/new.db")
            else:
                with open_journal(f"sqlite:///{path}", create=False) as journal:
                    assert len(journal.entries("r1")) == 5
                    with refused("read-only"):
                        journal.append("r1", "event", {})
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def a_version_0_journal(path: Path) -> None:
    """As version 1, but digests without salt."""
    with open_journal(f"sqlite:///{path}") as journal:
        a_session(journal)
    with closing(sqlite3.connect(path)) as connection, connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        chain = hashlib.sha256(b"r1").hexdigest()
        for seq, type, body in connection.execute("SELECT seq, type, body FROM entries ORDER BY seq").fetchall():
            digest = digest_of("", body)
            chain = chain_of(chain, seq, type, digest)
            connection.execute("UPDATE entries SET digest = ?, chain = ? WHERE seq = ?", (digest, chain, seq))
        connection.execute("ALTER TABLE entries DROP COLUMN salt")
        connection.execute("UPDATE meta SET value = '0'")


def test_migration_keeps_everything_and_a_backup(path):
    url = f"sqlite:///{path}"
    a_version_0_journal(path)
    with refused("older version (0)", "calib journal migrate"):
        open_journal(url)
    with closing(sqlite3.connect(path)) as connection:
        before = list(connection.iterdump())
    backup = migrate(url)
    with closing(sqlite3.connect(backup)) as connection:
        assert list(connection.iterdump()) == before
    assert backup.stat().st_mode & 0o777 == 0o600
    with open_journal(url, create=False) as journal:
        assert journal.entries("r1")[0].body == START
        assert journal.verify("r1") == []
        assert journal.append("r1", "audit", {}) == 5
        assert journal.verify("r1") == []
    with closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("DELETE FROM entries")  # the triggers are back
    assert migrate(url) is None
    assert sorted(path.parent.iterdir()) == sorted([path, backup])


def test_a_failed_migration_changes_nothing(path, monkeypatch):
    def broken(connection: sa.Connection) -> None:
        journal_store._salts(connection)
        raise RuntimeError("half way")

    a_version_0_journal(path)
    monkeypatch.setattr(journal_store, "STEPS", [broken])
    with closing(sqlite3.connect(path)) as connection:
        before = list(connection.iterdump())
    with pytest.raises(RuntimeError):
        migrate(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        assert list(connection.iterdump()) == before


def test_there_is_a_step_from_every_older_version():
    assert len(journal_store.STEPS) == journal_store.VERSION


def test_the_tables_suit_another_database():
    for table in journal_store.TABLES.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


def test_a_device_or_a_pipe_is_no_journal_and_keeps_its_mode(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    for path in (pipe, Path("/dev/null")):
        before = path.stat().st_mode
        with pytest.raises(JournalError, match="no ordinary file"):
            open_journal(f"sqlite:///{path}")
        assert path.stat().st_mode == before
