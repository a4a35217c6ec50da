"""The journal's tables, the database below them, and the upgrade of an older one.

Tables and queries are SQLAlchemy Core. What only SQLite has (pragmas, triggers, the backup) stands between the two
marked lines, what only PostgreSQL has in calib/journal_postgresql.py, which is loaded where it is asked for.
"""

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from calib.errors import JournalError
from calib.journal_postgresql import LOST

VERSION = 1
BUSY_TIMEOUT_S = 10.0  # an append takes under a millisecond: who waits longer waits for somebody who hangs


TABLES = sa.MetaData()
_HASH, _TIME, _NAME = sa.String(64), sa.String(40), sa.String(200)

meta = sa.Table("meta", TABLES, sa.Column("key", _NAME, primary_key=True), sa.Column("value", sa.Text, nullable=False))
runs = sa.Table(
    "runs",
    TABLES,
    sa.Column("run", _NAME, primary_key=True),
    sa.Column("started", _TIME, nullable=False),
    *(sa.Column(name, sa.Text) for name in ("kind", "rung", "device", "scenario", "stop_reason")),
)
entries = sa.Table(
    "entries",
    TABLES,
    sa.Column("run", _NAME, sa.ForeignKey("runs.run"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("type", sa.String(16), nullable=False),
    sa.Column("body", sa.Text),
    sa.Column("salt", sa.String(32)),
    sa.Column("digest", _HASH, nullable=False),
    sa.Column("chain", _HASH, nullable=False),
    sa.Column("written_at", _TIME, nullable=False),
)
participants = sa.Table(
    "participants",
    TABLES,
    sa.Column("pseudonym", _NAME, primary_key=True),
    sa.Column("consent_version", _NAME, nullable=False),
    sa.Column("consented_at", _TIME, nullable=False),
    sa.Column("created_at", _TIME, nullable=False),
)
names = sa.Table(
    "names",
    TABLES,
    sa.Column("pseudonym", _NAME, sa.ForeignKey("participants.pseudonym"), primary_key=True),
    sa.Column("name", sa.Text),
    sa.Column("contact", sa.Text),
)
participant_runs = sa.Table(
    "participant_runs",
    TABLES,
    sa.Column("run", _NAME, primary_key=True),  # a run has one person
    sa.Column("pseudonym", _NAME, nullable=False, index=True),
)
tombstones = sa.Table(
    "tombstones",
    TABLES,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("pseudonym_hash", _HASH, nullable=False, index=True),
    sa.Column("run", _NAME, unique=True),  # null in the row of the person
    sa.Column("erased_at", _TIME, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)


def make_engine(url: str) -> tuple[sa.Engine, str]:
    """The engine of a URL and the name that messages call it by, without a password. Nothing is opened or made yet."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError) as error:
        shown = re.sub(r"(?<=://).*@", "***@", url)
        hint = (
            f"write sqlite:///{url} for a file"
            if shown == url
            else "a password's signs are written as %40 and the like"
        )
        raise JournalError(f"journal {shown}: no database URL: {hint}") from error
    if parsed.get_backend_name() == "sqlite":
        return _make_sqlite_engine(parsed)
    if parsed.get_backend_name() != "postgresql":
        raise JournalError(f"journal {parsed.render_as_string()}: a journal is in SQLite or PostgreSQL: choose one")
    from calib import journal_postgresql

    try:
        return journal_postgresql.make_postgresql_engine(parsed, BUSY_TIMEOUT_S)
    except ModuleNotFoundError as error:
        where = journal_postgresql.without_password(parsed).render_as_string()
        raise JournalError(
            f"journal {where}: its driver is missing: python -m pip install 'interaction-calibration-lab[postgresql]', "
            "or use sqlite:///./calib.db"
        ) from error


def without_password(url: str) -> str:
    """The URL of a journal as it may be shown and handed on.

    Its password goes into PGPASSWORD of this process, where only this user's processes find it, and its children.
    """
    if not url.startswith("postgresql"):
        return url
    from calib import journal_postgresql

    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        return url  # whoever opens it says what is wrong
    password = journal_postgresql.password_in(parsed)
    if password is not None:
        os.environ["PGPASSWORD"] = password
    return journal_postgresql.without_password(parsed).render_as_string()


def prepare(engine: sa.Engine, where: str, create: bool) -> None:
    """Look before touching: refuse what is not a journal of this version; make the tables of a new one."""
    if engine.dialect.name == "sqlite" and _sqlite_is_new(engine, where, create):
        _create_sqlite(engine)
    version = read_version(engine, where)
    if version is None and engine.dialect.name != "sqlite" and create:
        version = _create_postgresql(engine, where)
    if version is None:
        raise JournalError(f"journal {where}: holds no journal: choose another journal")
    if version < VERSION:
        raise JournalError(f"journal {where}: made by an older version ({version}): run `calib journal migrate`")
    if engine.dialect.name != "sqlite" and create:
        from calib.journal_postgresql import check_writable

        with engine.begin() as connection:
            check_writable(connection, where)


def read_version(engine: sa.Engine, where: str) -> int | None:
    """The schema version; None where there is no journal; a newer one is refused."""
    with engine.begin() as connection:
        return _version_in(connection, where)


def _version_in(connection: sa.Connection, where: str) -> int | None:
    inspector = sa.inspect(connection)
    if not inspector.has_table("meta") or {"key", "value"} - {c["name"] for c in inspector.get_columns("meta")}:
        return None
    text = connection.execute(sa.select(meta.c.value).where(meta.c.key == "schema_version")).scalar()
    if text is None or not text.isdecimal():
        return None
    if int(text) > VERSION:
        raise JournalError(
            f"journal {where}: made by a newer version (schema {text}, this is {VERSION}): "
            "update the lab or choose another journal"
        )
    return int(text)


def _create_tables(connection: sa.Connection) -> None:
    TABLES.create_all(connection)
    connection.execute(meta.insert().values(key="schema_version", value=str(VERSION)))


def _create_postgresql(engine: sa.Engine, where: str) -> int:
    from calib.journal_postgresql import create_triggers

    with engine.execution_options(writes=True).begin() as connection:
        version = _version_in(connection, where)  # another process may have made it meanwhile
        if version is not None:
            return version
        taken = sorted(set(sa.inspect(connection).get_table_names()) & set(TABLES.tables))
        if taken:
            raise JournalError(
                f"journal {where}: has a table {taken[0]} of another program: give the journal a database of its own"
            )
        _create_tables(connection)
        create_triggers(connection)
    return VERSION


# The database's error by the beginning of its SQLite name -> what is wrong, and what to do.
_REMEDIES = {
    "SQLITE_READONLY": "the file or its folder is read-only: copy it to a folder that you can write",
    "SQLITE_CANTOPEN": "it cannot be opened: check that you may write the file and its folder",
    "SQLITE_FULL": "the disk is full, nothing was written: free some space and go on",
    "SQLITE_IOERR": "the disk failed: check the disk, and what is left of the journal with `calib journal verify`",
    "SQLITE_NOTADB": "not a database: choose another journal",
    "SQLITE_CORRUPT": "the file is damaged: restore a backup, or save what is left with `sqlite3 FILE .recover`",
    "SQLITE_BUSY": "locked by another process: wait for it or end it, then try again",
    "SQLITE_LOCKED": "locked by another connection: wait for it, then try again",
}


@contextmanager
def explained(where: str) -> Iterator[None]:
    """Turn the database's errors into one line that says what to do. Broken rules of the schema pass through."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except LOST as error:
        raise JournalError(f"journal {where}: the connection was lost: look at the server, then try again") from error
    except (sa.exc.DBAPIError, sqlite3.DatabaseError) as error:
        cause = error.orig if isinstance(error, sa.exc.DBAPIError) else error
        if isinstance(cause, sqlite3.Error):
            if isinstance(error, sa.exc.ProgrammingError | sa.exc.InterfaceError):
                raise
            name = getattr(cause, "sqlite_errorname", "")
            known = next((text for begin, text in _REMEDIES.items() if name.startswith(begin)), None)
            remedy: str | None = known or str(cause).splitlines()[0]
        else:
            from calib.journal_postgresql import remedy_of

            remedy = remedy_of(cause) if cause is not None else str(error)
        if remedy is None:
            raise
        raise JournalError(f"journal {where}: {remedy}") from error


# ---- only SQLite, from here to the next line ----

# In the file's header: tells a journal from any other SQLite file before anything is written. The letters "CALB".
_APPLICATION_ID = 0x43414C42

_UNTOUCHED = " AND ".join(
    f"NEW.{name} IS OLD.{name}" for name in ("run", "seq", "type", "digest", "chain", "written_at")
)
_TRIGGERS = {
    "entries_no_delete": "BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END",
    # INSERT OR REPLACE deletes without firing the trigger above.
    "entries_no_replace": (
        "BEFORE INSERT ON entries WHEN EXISTS (SELECT 1 FROM entries WHERE run = NEW.run AND seq = NEW.seq) "
        "BEGIN SELECT RAISE(ABORT, 'the entry exists'); END"
    ),
    "entries_only_erase": (
        f"BEFORE UPDATE ON entries WHEN NOT (NEW.body IS NULL AND NEW.salt IS NULL AND {_UNTOUCHED} "
        "AND EXISTS (SELECT 1 FROM tombstones WHERE run = OLD.run)) "
        "BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END"
    ),
    "tombstones_no_delete": "BEFORE DELETE ON tombstones BEGIN SELECT RAISE(ABORT, 'a tombstone stays'); END",
    "tombstones_no_update": "BEFORE UPDATE ON tombstones BEGIN SELECT RAISE(ABORT, 'a tombstone stays'); END",
}


def _make_sqlite_engine(url: sa.URL) -> tuple[sa.Engine, str]:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise JournalError(f"journal {url}: a journal must outlive the process: write sqlite:///FILE")
    if url.query:
        raise JournalError(f"journal {url}: a SQLite journal takes no options: write sqlite:///{url.database}")
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_S})
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    return engine, url.database


def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
    # The module's own transactions start too late: a read before the first write would be outside of them.
    connection.isolation_level = None
    # A damaged byte must come out as a damaged byte and be found by the digest.
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    for pragma in ("foreign_keys = ON", "synchronous = FULL", "secure_delete = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _on_begin(connection: sa.Connection) -> None:
    # A writer waits for the write lock here; one that began as a reader would later be refused without waiting.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def sqlite_path(engine: sa.Engine) -> Path | None:
    """The file of a SQLite journal, None for another database."""
    return Path(engine.url.database or "") if engine.dialect.name == "sqlite" else None


def _sqlite_is_new(engine: sa.Engine, where: str, create: bool) -> bool:
    path = Path(engine.url.database or "")
    if path.is_dir():
        raise JournalError(f"journal {where}: is a folder: name a file in it")
    if not path.parent.is_dir():
        raise JournalError(
            f"journal {where}: the folder {path.parent} does not exist: make it or choose another journal"
        )
    if not path.exists():
        if create:
            return True
        raise JournalError(f"journal {where}: there is no such file: `calib run` makes one, or choose another journal")
    if not path.is_file():  # a device or a pipe: opening one may hang, and making it ours would take it from everybody
        raise JournalError(f"journal {where}: is no ordinary file: choose another journal")
    with engine.begin() as connection:
        application = connection.exec_driver_sql("PRAGMA application_id").scalar()
        is_empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
    if is_empty and not application:
        # An empty file, or one that another process is just about to fill: its lock decides.
        if create:
            return True
        raise JournalError(f"journal {where}: is empty: `calib run` fills one, or choose another journal")
    if application != _APPLICATION_ID:
        raise JournalError(f"journal {where}: a database of another program: choose another journal")
    if create and not all(os.access(place, os.W_OK, effective_ids=True) for place in (path, path.parent)):
        # SQLite would open it silently for reading and fail at the first append, with a robot on its way.
        raise JournalError(f"journal {where}: {_REMEDIES['SQLITE_READONLY']}")
    return False


def _create_sqlite(engine: sa.Engine) -> None:
    path = Path(engine.url.database or "")
    with engine.connect():  # makes the file
        pass
    with engine.execution_options(writes=True).begin() as connection:
        if not sa.inspect(connection).has_table("meta"):
            # Answers and names of people: for the owner of the file alone, until the owner says otherwise.
            path.chmod(0o600)
            connection.exec_driver_sql(f"PRAGMA application_id = {_APPLICATION_ID}")
            _create_tables(connection)
            _create_triggers(connection)
    _use_wal(path)


def _use_wal(path: Path) -> None:
    # The switch needs the file alone and does not wait by itself; two processes may be making the same journal.
    give_up = time.monotonic() + BUSY_TIMEOUT_S
    with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if not error.sqlite_errorname.startswith("SQLITE_BUSY") or time.monotonic() > give_up:
                    raise
                time.sleep(0.01)


def _create_triggers(connection: sa.Connection) -> None:
    for name, rule in _TRIGGERS.items():
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {rule}")


def scrub(engine: sa.Engine, where: str) -> None:
    """Make erased bytes leave the files too: the write-ahead log is emptied and the file is written anew."""
    path = sqlite_path(engine)
    if path is None:
        from calib.journal_postgresql import scrub_postgresql

        with explained(where):
            scrub_postgresql(engine, where)
        return
    with explained(where), closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection:
        connection.execute("VACUUM")
        busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    if busy:
        raise JournalError(
            f"journal {where}: erased, but another process still reads old pages of the file: end it, then erase again"
        )


def backups(engine: sa.Engine) -> list[Path | str]:
    """The copies that `migrate` left beside a journal, files or schemas. An erasure does not reach them."""
    path = sqlite_path(engine)
    if path is None:
        from calib.journal_postgresql import backup_schemas

        return [*backup_schemas(engine)]
    return [*sorted(path.parent.glob(f"{path.stem}.backup-*{path.suffix}"))]


def _back_up(path: Path, version: int) -> Path:
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    target = path.with_name(f"{path.stem}.backup-v{version}-{moment}{path.suffix}")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
        target.chmod(0o600)
        source.backup(copy)
    return target


def _migrate_sqlite(engine: sa.Engine, path: Path, version: int) -> Path:
    with engine.execution_options(writes=True).begin() as connection:
        backup = _back_up(path, version)  # under the write lock: nothing can be appended after the copy
        for name in _TRIGGERS:
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {name}")
        _climb(connection, version)
        _create_triggers(connection)
    _use_wal(path)
    return backup


# ---- end of what only SQLite has ----


def _salts(connection: sa.Connection) -> None:
    """0 -> 1: digests are salted. Older entries keep theirs, with an empty salt, so their chains stay as they are."""
    connection.exec_driver_sql("ALTER TABLE entries ADD COLUMN salt VARCHAR(32)")
    connection.exec_driver_sql("UPDATE entries SET salt = ''")


def migrate(url: str) -> Path | str | None:
    """Bring an older journal up to date and return its backup, a file or a schema; None where it is current."""
    engine, where = make_engine(url)
    path = sqlite_path(engine)
    try:
        with explained(where):
            if path is not None:
                _sqlite_is_new(engine, where, create=False)
            version = read_version(engine, where)
            if version is None:
                raise JournalError(f"journal {where}: holds no journal: choose another journal")
            if version == VERSION:
                return None
            if path is not None:
                return _migrate_sqlite(engine, path, version)
            return _migrate_postgresql(engine, version)
    finally:
        engine.dispose()


def _migrate_postgresql(engine: sa.Engine, version: int) -> str:
    from calib.journal_postgresql import back_up, create_triggers, drop_triggers

    with engine.execution_options(writes=True).begin() as connection:
        backup = back_up(connection, version)
        drop_triggers(connection)
        _climb(connection, version)
        create_triggers(connection)
    return backup


def _climb(connection: sa.Connection, version: int) -> None:
    for step in STEPS[version:]:
        step(connection)
    connection.execute(meta.update().where(meta.c.key == "schema_version").values(value=str(VERSION)))


# STEPS[n] leads from version n to n + 1. A step spells out its own SQL: the tables above are those of today.
STEPS: list[Callable[[sa.Connection], None]] = [_salts]
