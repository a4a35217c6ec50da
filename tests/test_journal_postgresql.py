"""The journal on PostgreSQL: a real server, the documents and guarantees of SQLite, and the password nowhere."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pg8000.dbapi
import pytest

from calib import journal_store
from calib.errors import JournalError
from calib.journal import Journal, open_journal
from calib.journal_store import migrate, without_password
from calib.participants import enrol, erase_participant, export_participant, list_participants
from cli import _session
from cli.main import main
from postgres import PASSWORD, Server, running_server
from sessions import Lab, quick_scenario

Url = Callable[[], str]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as started:
        yield started


@pytest.fixture(autouse=True)
def no_password_but_the_urls(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PGPASSFILE", "PGUSER", "CALIB_JOURNAL"):
        monkeypatch.setenv(name, "x")  # so that it is put back even where the code under test sets it
        monkeypatch.delenv(name)


@pytest.fixture
def database(server: Server, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a new, empty database."""
    name = f"d{abs(hash(request.node.name)) % 10**9}_{time.monotonic_ns()}"
    server.sql(f"CREATE DATABASE {name}")
    yield name
    server.sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def url(server: Server, database: str) -> str:
    """Of the new database, with its password."""
    return server.url(database)


@pytest.fixture
def lab(url: str, tmp_path: Path) -> Lab:
    """A lab whose journal is there; the password comes by the environment."""
    lab = Lab(tmp_path)
    lab.journal = url.replace(f":{PASSWORD}", "")
    lab.environment["PGPASSWORD"] = PASSWORD
    return lab


def a_session(journal: Journal, run: str = "r1", **start: Any) -> None:
    journal.append(
        run, "start", {"kind": "simulated", "rung": "simulator", "device": "simvac", "scenario": "a", **start}
    )
    journal.append_many(run, [("event", {"n": 1}), ("round", {"x": 0.1 + 0.2, "text": "Grüße \x00 \ud83d\ude00"})])
    journal.append(run, "stop", {"reason": "max_rounds"})


# What it keeps.


def test_it_keeps_what_sqlite_keeps(url: str, tmp_path: Path) -> None:
    stories = []
    for place in (url, f"sqlite:///{tmp_path}/calib.db"):
        with open_journal(place, now=lambda: "2026-01-01T00:00:00.000000+00:00") as journal:
            enrol(journal, "p1", "v1", name="Ada")
            a_session(journal, participant="p1")
            a_session(journal, "r2")
            assert journal.verify("r1") == journal.verify("r2") == []
            found = [(e.seq, e.type, e.body, e.written_at) for e in journal.entries("r1")]
            exported = export_participant(journal, "p1")
            exported["runs"] = [r["run"] for r in exported["runs"]]
            rounds = [e.body for e in journal.entries("r2", ["round", "stop"])]
            stories.append((found, journal.runs(), list_participants(journal), exported, rounds))
    assert stories[0] == stories[1]


def test_a_whole_session_is_the_same_document_by_document(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for the run's id. Then replayed, listed, verified and analysed from there."""
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(tmp_path))

    def calib(*words: str) -> Any:
        assert main([*words, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    words = ("run", quick_scenario(tmp_path), "--rounds", "4", "--seed", "6", "--person-number", "3", "--journal")
    places = (url, f"sqlite:///{tmp_path}/calib.db")
    summaries, stories = [], []
    for place in places:
        summaries.append(calib(*words, place))
        with open_journal(place, create=False) as journal:
            run = summaries[-1].pop("run")
            entries = journal.entries(run)
        stories.append([json.dumps([e.seq, e.type, e.body]).replace(run, "RUN") for e in entries])
        if place == url:
            bare = without_password(url)
            assert summaries[0]["journal"] == bare
            assert calib("replay", run, "--journal", bare)["differences"] == []
            assert [r["run"] for r in calib("runs", "--journal", bare)["runs"]] == [run]
            verified = calib("journal", "verify", "--journal", bare)
            assert (verified["problems"], verified["runs"]) == ([], 1)
            assert calib("journal", "migrate", "--journal", bare)["migrated"] is False
            assert calib("analyze", bare)["n"] == 1
    assert len(stories[0]) > 20
    assert stories[0] == stories[1]
    assert {k for k in summaries[0] if summaries[0][k] != summaries[1][k]} == {"journal"}


def test_a_person_is_enrolled_exported_and_erased(url: str, server: Server, database: str) -> None:
    with open_journal(url) as journal:
        enrol(journal, "p1", "v1", name="Zoe Zebra")
        a_session(journal, participant="p1", note="zebra-words")
        done = erase_participant(journal, "p1")
        assert (done.runs, done.entries, done.names, done.backups) == (1, 4, 1, [])
        assert journal.verify("r1") == [] and journal.runs()[0].state == "erased"
        assert all(e.body is None for e in journal.entries("r1"))
        assert erase_participant(journal, "p1").already is not None
        with pytest.raises(JournalError, match="was erased"):
            enrol(journal, "p1", "v1")
    folder = server.sql(f"SELECT oid FROM pg_database WHERE datname = '{database}'")[0][0]
    server.sql("CHECKPOINT")
    held = [p for p in (server.data / "base" / str(folder)).iterdir() if b"zebra-words" in p.read_bytes()]
    assert held == []


# What it promises.


def test_an_append_is_on_the_disk_before_it_returns(url: str, server: Server) -> None:
    """As far as a power cut can be played: the server is killed, all of it, right after the append."""
    with open_journal(url) as journal:
        a_session(journal)
        for n in range(3):
            journal.append("r2", "event", {"n": n})
            server.kill()
            server.start()
            assert [e.body for e in journal.entries("r2")] == [{"n": i} for i in range(n + 1)]
        with journal.writing() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_commit_is_durable_even_where_the_database_says_off(url: str, server: Server, database: str) -> None:
    server.sql(f"ALTER DATABASE {database} SET synchronous_commit = off")
    with open_journal(url) as journal, journal.writing() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entries SET body = '{}' WHERE seq = 1",
        "UPDATE entries SET body = NULL, salt = NULL WHERE seq = 1",  # not erased
        "UPDATE entries SET seq = 9 WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 3",
        "TRUNCATE entries",
        "INSERT INTO entries SELECT * FROM entries WHERE seq = 1 "
        "ON CONFLICT (run, seq) DO UPDATE SET body = excluded.body || ' '",
    ],
)
def test_the_database_itself_refuses_changes(url: str, server: Server, database: str, change: str) -> None:
    with open_journal(url) as journal:
        a_session(journal)
        with pytest.raises(pg8000.dbapi.DatabaseError, match="append-only"):
            server.sql(change, database)
        assert journal.verify("r1") == []
        server.sql(
            "INSERT INTO tombstones (pseudonym_hash, run, erased_at, reason) VALUES ('h', 'r1', 'now', '')", database
        )
        for statement in ("DELETE FROM tombstones", "UPDATE tombstones SET run = 'r2'", "TRUNCATE tombstones"):
            with pytest.raises(pg8000.dbapi.DatabaseError, match="append-only"):
                server.sql(statement, database)
        with pytest.raises(pg8000.dbapi.DatabaseError, match="append-only"):
            server.sql("UPDATE entries SET body = NULL, salt = NULL, digest = 'x' WHERE seq = 1", database)


def test_a_change_behind_the_triggers_shows_in_the_chain(url: str, server: Server, database: str) -> None:
    with open_journal(url) as journal:
        a_session(journal)
        server.sql("ALTER TABLE entries DISABLE TRIGGER USER", database)
        server.sql("""UPDATE entries SET body = '{"n":2}' WHERE seq = 1""", database)
        assert journal.verify("r1") == ["run r1, entry 1: the body is not the one that was written"]
        server.sql("DELETE FROM entries WHERE seq = 1", database)
        assert journal.verify("r1") == ["run r1, entry 2: entry 1 is missing"]


def test_a_second_writer_of_a_run_is_refused(url: str) -> None:
    with open_journal(url) as first, open_journal(url) as second:
        first.append("r", "event", {"n": 1})
        read = second.entries("r")
        second.go_on_after(read)
        first.append("r", "event", {"n": 2})
        for _ in range(2):
            with pytest.raises(JournalError, match="being written by another process"):
                second.append("r", "event", {"n": 3})
        assert [e.body for e in first.entries("r")] == [{"n": 1}, {"n": 2}]


def test_writers_of_many_runs_and_readers_at_once(url: str) -> None:
    """A reader sees whole transactions only, and nobody waits for a reader."""
    problems: list[str] = []
    writing = threading.Event()
    writing.set()

    def write(number: int) -> None:
        with open_journal(url) as journal:
            for n in range(30):
                journal.append_many(f"r{number}", [("event", {"n": n}), ("event", {"n": n})])

    def read() -> None:
        with open_journal(url, create=False) as journal:
            while writing.is_set():
                for row in journal.runs():
                    problems.extend(journal.verify(row.run))
                    if row.documents % 2:
                        problems.append(f"{row.run} has {row.documents}")

    with open_journal(url):
        pass
    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in (*readers, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    writing.clear()
    for thread in readers:
        thread.join()
    assert problems == []
    with open_journal(url, create=False) as journal:
        assert [row.documents for row in journal.runs()] == [60] * 4
        assert all(journal.verify(row.run) == [] for row in journal.runs())


def test_many_processes_make_one_journal(url: str) -> None:
    threads = [threading.Thread(target=lambda: open_journal(url).close()) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_journal(url, create=False) as journal, journal.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM meta").scalar() == 1


def test_an_older_journal_is_upgraded_and_the_old_one_stays(url: str, server: Server, database: str) -> None:
    with open_journal(url) as journal:
        a_session(journal)
    assert migrate(url) is None
    for statement in (
        "ALTER TABLE entries DISABLE TRIGGER USER",
        "ALTER TABLE entries DROP COLUMN salt",
        "UPDATE meta SET value = '0'",
    ):
        server.sql(statement, database)
    with pytest.raises(JournalError, match=r"older version.*calib journal migrate"):
        open_journal(url)
    backup = migrate(url)
    assert isinstance(backup, str) and backup.startswith("schema calib_backup_v0_")
    assert server.sql(f"SELECT count(*) FROM {backup.removeprefix('schema ')}.entries", database) == [[4]]
    with open_journal(url) as journal:
        assert len(journal.entries("r1")) == 4 and journal.entries("r1")[0].salt == ""
        assert erase_participant_of(journal).backups == [backup]
    with pytest.raises(pg8000.dbapi.DatabaseError, match="append-only"):
        server.sql("DELETE FROM entries", database)
    server.sql("UPDATE meta SET value = '9'", database)
    with pytest.raises(JournalError, match="newer version"):
        open_journal(url)


def erase_participant_of(journal: Journal) -> Any:
    enrol(journal, "p1", "v1")
    return erase_participant(journal, "p1")


# What can be wrong.


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of a command that refuses."""
    assert main(words) == 2
    found = capsys.readouterr()
    lines = found.err.strip().splitlines()
    assert len(lines) == 1 and found.out == "" and PASSWORD not in found.err, found
    return lines[0]


def test_what_is_not_there_is_one_line_without_the_password(
    server: Server, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs(place: str) -> str:
        monkeypatch.delenv("PGPASSWORD", raising=False)
        return said(["runs", "--journal", place], capsys)

    assert "no server answers there" in runs(url.replace(str(server.port), "1"))
    assert "no server answers there" in runs(f"postgresql://owner:{PASSWORD}@/db?host={tmp_path}")
    assert "no such database" in runs(server.url("nowhere"))
    assert "refuses this user or password" in runs(server.url("postgres", "wrong"))
    assert "refuses this user or password" in runs(f"postgresql://owner@127.0.0.1:{server.port}/postgres")
    assert "refuses this user or password" in runs(f"postgresql://zoe:{PASSWORD}@127.0.0.1:{server.port}/postgres")
    assert "names no database" in runs(f"postgresql://owner:{PASSWORD}@127.0.0.1:{server.port}")
    assert "no option colour" in runs(f"{url}?colour=red")
    assert "sslmode is" in runs(f"{url}?sslmode=maybe")
    assert "no database URL" in runs(f"postgresql://owner:{PASSWORD}@127.0.0.1:port/x")
    assert "by pg8000" in runs(url.replace("postgresql:", "postgresql+psycopg:"))
    assert "holds no journal" in runs(url)
    assert said(["analyze", url], capsys)
    with open_journal(url):
        pass
    assert main(["runs", "--journal", url, "--json"]) == 0
    assert PASSWORD not in capsys.readouterr().out


def test_a_database_of_another_program_is_left_alone(
    url: str, server: Server, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server.sql("CREATE TABLE runs (number int)", database)
    server.sql("CREATE TABLE meta (number int)", database)
    with pytest.raises(JournalError, match="of another program"):
        open_journal(url)
    assert server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database) == [[2]]


def test_who_may_only_read_is_refused_before_anything_moves(url: str, server: Server, database: str) -> None:
    with open_journal(url) as journal:
        a_session(journal)
    server.sql(f"CREATE USER guest PASSWORD '{PASSWORD}'")
    try:
        guest = url.replace("owner", "guest")
        with pytest.raises(JournalError, match="this user may not"):
            open_journal(guest)
        server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO guest", database)
        with open_journal(guest, create=False) as journal:
            assert journal.verify("r1") == []
        with pytest.raises(JournalError, match=r"may not write it: ask its owner"):
            open_journal(guest)
        # The grants that docs/journal.md names.
        for grant in (
            "SELECT, INSERT, UPDATE ON ALL TABLES",
            "DELETE ON names, participants, participant_runs",
            "USAGE ON ALL SEQUENCES",
        ):
            scope = "" if "names" in grant else " IN SCHEMA public"
            server.sql(f"GRANT {grant}{scope} TO guest", database)
        with open_journal(guest) as journal:
            enrol(journal, "p2", "v1")
            a_session(journal, "r2", participant="p2")
            with pytest.raises(JournalError, match="the owner of the tables erases again"):
                erase_participant(journal, "p2")
            assert journal.verify("r2") == [] and journal.entries("r2")[0].body is None
        with pytest.raises(pg8000.dbapi.DatabaseError, match="must be owner"):
            server.sql("ALTER TABLE entries DISABLE TRIGGER USER", database, "guest")
    finally:
        server.sql("DROP OWNED BY guest", database)
        server.sql("DROP USER guest")


def test_a_hanging_writer_is_named(url: str, server: Server, database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_store, "BUSY_TIMEOUT_S", 0.3)
    with open_journal(url) as first, open_journal(url) as second:
        first.append("r1", "event", {})
        with first.writing() as connection:
            connection.exec_driver_sql("SELECT 1")
            with pytest.raises(JournalError, match="locked by another connection"):
                second.append("r2", "event", {})
            assert [row.run for row in second.runs()] == ["r1"]
        assert second.append("r2", "event", {}) == 0


def test_without_the_driver_it_says_which_extra(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pg8000", None)
    with pytest.raises(JournalError, match=r"driver is missing.*\[postgresql\]"):
        open_journal(url)


# Where the password may be, and where it may not.


def test_the_password_is_found_where_postgresql_has_it(
    server: Server, url: str, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = without_password(url)
    assert PASSWORD not in bare and os.environ["PGPASSWORD"] == PASSWORD
    with open_journal(bare) as journal:
        assert journal.where == bare
    assert without_password(f"{bare}?password={PASSWORD}") == bare
    monkeypatch.delenv("PGPASSWORD")
    with pytest.raises(JournalError, match="refuses this user or password"):
        open_journal(bare)
    file = tmp_path / "pgpass"
    monkeypatch.setenv("PGPASSFILE", str(file))
    file.write_text(f"# comment\n127.0.0.1:1:*:*:no\n127.0.0.1:{server.port}:*:own\\er:{PASSWORD}\n*:*:*:*:no\n")
    file.chmod(0o600)
    open_journal(bare).close()
    by_socket = f"postgresql://owner@:{server.port}/{database}?host={server.sockets}&sslmode=disable"
    with pytest.raises(JournalError, match="refuses this user or password"):
        open_journal(by_socket)
    file.write_text(f"localhost:*:{database}:*:{PASSWORD}\n")
    open_journal(by_socket).close()
    file.chmod(0o644)
    with pytest.raises(JournalError, match="refuses this user or password"):
        open_journal(bare)


def test_a_session_shows_the_password_nowhere(
    url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given by CALIB_JOURNAL: not in the registry, in a child's command line, in what is said or kept.

    In place of the audit a process that opens the journal with what an audit is given.
    """
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("CALIB_JOURNAL", url)
    seen: list[str] = []
    start, forget = subprocess.Popen, _session.unregister

    def start_in_its_place(command: list[str], **more: Any) -> "subprocess.Popen[str]":
        seen.append(" ".join(command))
        code = "import sys; from calib.journal import open_journal; open_journal(sys.argv[1], create=False)"
        return start([sys.executable, "-c", code, *command[-2:]], **more)

    def look_and_forget(run: str) -> None:
        seen.extend(path.read_text() for path in tmp_path.glob("**/*.json"))
        forget(run)

    monkeypatch.setattr(_session.subprocess, "Popen", start_in_its_place)
    monkeypatch.setattr(_session, "unregister", look_and_forget)
    assert main(["run", quick_scenario(tmp_path), "--rounds", "2", "--audit", "on"]) == 0
    told = capsys.readouterr()
    assert "calib.audit postgresql://owner@" in seen[1] and '"token"' in seen[0]
    assert "the audit failed" not in told.err and f"--journal {without_password(url)}" in told.out
    with open_journal(url, create=False) as journal:
        kept = [e.body for e in journal.entries(journal.runs()[0].run)]
    assert main(["run", "--help"]) == 0
    said = (*seen, told.out, told.err, json.dumps(kept), capsys.readouterr().out)
    assert not [text for text in said if PASSWORD in text]


def test_a_server_that_dies_in_a_session_costs_nothing(lab: Lab, server: Server, tmp_path: Path) -> None:
    """One line and the command that goes on; then it goes on, to the numbers of the unbroken run."""
    words = ("run", quick_scenario(tmp_path), "--rounds", "5", "--seed", "3", "--json")
    whole = lab.json(*words[:-1])["run"]
    os.environ["PGPASSWORD"] = PASSWORD
    with open_journal(lab.journal, create=False) as journal:
        with lab.going(*words) as process:
            until = time.monotonic() + 60
            while len(journal.runs()) < 2 or journal.runs()[-1].documents < 6:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.02)
            server.kill()
            try:
                out, err = process.communicate(timeout=60)
            finally:
                server.start()
        assert process.returncode == 2, err
        assert len(err.strip().splitlines()) == 1 and out == ""
        run = journal.runs()[-1].run
    assert f"`calib resume {run} --journal {lab.journal}` goes on" in err and PASSWORD not in err
    assert "Traceback" not in err
    acknowledged = lab.entries(run)
    lab.json("resume", run)
    after = lab.entries(run)
    assert after[: len(acknowledged)] == acknowledged

    def numbers(of: str) -> list[Any]:
        return [e["body"] for e in lab.entries(of) if e["type"] in ("round", "stop", "truth")]

    assert numbers(run) == numbers(whole)
    assert lab.json("replay", run)["differences"] == []


def test_ctrl_c_closes_the_record_there_too(lab: Lab, tmp_path: Path) -> None:
    with lab.going("run", quick_scenario(tmp_path), "--rounds", "40", "--pace", "20", "--json") as process:
        os.environ["PGPASSWORD"] = PASSWORD
        with open_journal(lab.journal) as journal:
            until = time.monotonic() + 60
            while not journal.runs() or journal.runs()[0].documents < 4:
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 130
            assert journal.runs()[0].state == "stopped" and journal.verify(journal.runs()[0].run) == []
