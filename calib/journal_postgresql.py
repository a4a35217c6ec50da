"""What only a journal on PostgreSQL has: how the server is reached, its transactions and triggers, its errors.

A password is never part of a name that is shown or handed on. It comes from the URL, from PGPASSWORD, or from the
password file of PostgreSQL's own tools (PGPASSFILE, ~/.pgpass).
"""

import getpass
import logging
import os
import re
import ssl
import stat
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from calib.errors import JournalError

# A connection that broke, where a driver lets the socket's errors through as they are.
LOST = (ConnectionError, TimeoutError, struct.error)
NETWORK_TIMEOUT_S = 30.0  # an answer that takes longer does not come
_LOCK = 0x43414C42  # of all writers of a journal, the letters "CALB"
_OPTIONS = ("host", "password", "sslmode")
_TLS = ("disable", "require", "verify-ca", "verify-full")


def without_password(url: sa.URL) -> sa.URL:
    """The URL as it may be shown."""
    query = {k: v for k, v in url.query.items() if k != "password"}
    return sa.URL.create(url.drivername, url.username, None, url.host, url.port, url.database, query)


def password_in(url: sa.URL) -> str | None:
    """The password that a URL carries."""
    inside = url.query.get("password")
    return url.password or (inside if isinstance(inside, str) else None)


def make_postgresql_engine(url: sa.URL, lock_timeout_s: float) -> tuple[sa.Engine, str]:
    """The engine of a URL and its name without a password; nothing is opened yet. ModuleNotFoundError: no pg8000."""
    where = without_password(url).render_as_string()
    if url.drivername not in ("postgresql", "postgresql+pg8000"):
        raise JournalError(f"journal {where}: the lab speaks to PostgreSQL by pg8000: write postgresql://...")
    if not url.database:
        raise JournalError(f"journal {where}: names no database: write postgresql://USER@HOST/DATABASE")
    unknown = sorted(set(url.query) - set(_OPTIONS))
    if unknown:
        raise JournalError(f"journal {where}: no option {unknown[0]}: there are host and sslmode")
    arguments = _arguments(url, where) | {"startup_params": {"lock_timeout": str(int(lock_timeout_s * 1000))}}
    # Asked before it is used: a connection may have died since its last use, with the server or with a router.
    engine = sa.create_engine("postgresql+pg8000://", connect_args=arguments, pool_pre_ping=True)
    # What the pool logs of a connection that died comes out as one line of ours as well.
    logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)
    sa.event.listen(engine, "connect", _on_connect)
    sa.event.listen(engine, "begin", _on_begin)
    _let_the_pool_see_losses(engine)
    return engine, where


def _let_the_pool_see_losses(engine: sa.Engine) -> None:
    """pg8000 lets some socket errors through as they are, and the pool would keep a connection that is gone."""
    dialect: Any = engine.dialect
    ping = dialect.do_ping

    def do_ping(connection: Any) -> bool:
        try:
            return bool(ping(connection))
        except LOST as error:
            raise dialect.loaded_dbapi.InterfaceError("network error") from error

    dialect.do_ping = do_ping


def _arguments(url: sa.URL, where: str) -> dict[str, Any]:
    """Of pg8000's connect."""
    asked = url.query.get("host")
    host = asked if isinstance(asked, str) else url.host or "localhost"
    port = url.port or 5432
    user = url.username or os.environ.get("PGUSER") or getpass.getuser()
    mode = url.query.get("sslmode", "disable")
    if mode not in _TLS:
        raise JournalError(f"journal {where}: sslmode is {', '.join(_TLS[:-1])} or {_TLS[-1]}, not {mode}")
    password = password_in(url) or os.environ.get("PGPASSWORD") or _from_file(host, port, str(url.database), user)
    found: dict[str, Any] = {"user": user, "database": url.database, "password": password or "", "port": port}
    found |= {"timeout": NETWORK_TIMEOUT_S, "application_name": "calib"}
    if host.startswith("/"):  # a folder of sockets, as in PostgreSQL's own tools
        return found | {"unix_sock": f"{host}/.s.PGSQL.{port}"}
    if mode != "disable":
        context = ssl.create_default_context()
        context.check_hostname = mode == "verify-full"
        context.verify_mode = ssl.CERT_NONE if mode == "require" else ssl.CERT_REQUIRED
        found["ssl_context"] = context
    return found | {"host": host}


def _from_file(host: str, port: int, database: str, user: str) -> str | None:
    """The password of the first line that fits; a file that others may read is not believed, as everywhere."""
    path = Path(os.environ.get("PGPASSFILE") or Path("~/.pgpass").expanduser())
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return None
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    wanted = ("localhost" if host.startswith("/") else host, str(port), database, user)
    for line in lines:
        fields = [re.sub(r"\\(.)", r"\1", field) for field in re.split(r"(?<!\\):", line, maxsplit=4)]
        fits = len(fields) == 5 and all(field in ("*", want) for field, want in zip(fields, wanted, strict=False))
        if fits and not line.startswith("#"):
            return fields[4]
    return None


def _on_connect(connection: Any, _record: object) -> None:
    # A commit is on the disk when it returns, whatever the server does for others.
    cursor = connection.cursor()
    cursor.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    connection.commit()


def _on_begin(connection: sa.Connection) -> None:
    # Writers go one after the other, as in SQLite; a reader sees one moment and hinders nobody.
    writes = connection.get_execution_options().get("writes")
    connection.exec_driver_sql(
        f"SELECT pg_advisory_xact_lock({_LOCK})"
        if writes
        else "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
    )


_TRIGGERS = (
    """
    CREATE OR REPLACE FUNCTION calib_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'UPDATE' AND TG_TABLE_NAME = 'entries' THEN
            IF NEW.body IS NULL AND NEW.salt IS NULL
                AND (NEW.run, NEW.seq, NEW.type, NEW.digest, NEW.chain, NEW.written_at)
                    IS NOT DISTINCT FROM (OLD.run, OLD.seq, OLD.type, OLD.digest, OLD.chain, OLD.written_at)
                AND EXISTS (SELECT 1 FROM tombstones WHERE run = OLD.run) THEN
                RETURN NEW;
            END IF;
        END IF;
        RAISE EXCEPTION 'the journal is append-only' USING ERRCODE = 'restrict_violation';
    END $$
    """,
    *(
        f"CREATE TRIGGER {table}_{name} BEFORE {when} EXECUTE FUNCTION calib_append_only()"
        for table in ("entries", "tombstones")
        for name, when in (
            ("append_only", f"UPDATE OR DELETE ON {table} FOR EACH ROW"),
            ("no_truncate", f"TRUNCATE ON {table} FOR EACH STATEMENT"),
        )
    ),
)


def create_triggers(connection: sa.Connection) -> None:
    """Entries and tombstones are written once; an entry may lose body and salt where its run has a tombstone."""
    for statement in _TRIGGERS:
        connection.exec_driver_sql(statement)


def drop_triggers(connection: sa.Connection) -> None:
    """Before an upgrade."""
    for table in ("entries", "tombstones"):
        for name in ("append_only", "no_truncate"):
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table}_{name} ON {table}")


def check_writable(connection: sa.Connection, where: str) -> None:
    """JournalError where a session would fail at its first append, or where a commit would not be on a disk."""
    query = "SELECT pg_is_in_recovery(), current_setting('fsync'), has_table_privilege('entries', 'INSERT')"
    standby, fsync, granted = connection.exec_driver_sql(query).one()
    if standby:
        raise JournalError(f"journal {where}: the server is a standby, which nobody can write: name the primary")
    if fsync != "on":
        raise JournalError(f"journal {where}: the server runs with fsync off and would lose what it took: turn it on")
    if not granted:
        raise JournalError(f"journal {where}: this user may not write it: ask its owner for INSERT and UPDATE")


# SQLSTATE, or the beginning of one -> what is wrong, and what to do.
_REMEDIES = {
    "28": "the server refuses this user or password: set PGPASSWORD or ~/.pgpass (mode 600), or mend the user's name",
    "3D000": "the server has no such database: make it with `createdb`, or name another one",
    "42501": "this user may not do that: ask the owner of the database to grant it",
    "53100": "the server's disk is full, nothing was written: free some space and go on",
    "53300": "the server takes no more connections: end some, then try again",
    "55P03": "locked by another connection: wait for it or end it, then try again",
    "57014": "the server cancelled it: try again",
    "57P": "the server is starting or stopping: wait for it, then try again",
    "25006": "the server takes no writes now: name the primary, or wait until it does",
    "22001": "a text is too long for its column, nothing was written: shorten it",
    "08": "the connection was lost: look at the server, then try again",
    "XX": "the server found damaged data: restore a backup",
}


def remedy_of(cause: BaseException) -> str | None:
    """What to do about an error of the driver; None where it is a broken rule of the schema, or a bug of ours."""
    told: Any = cause.args[0] if cause.args else ""
    below = cause.__context__
    while below is not None and not isinstance(told, dict):
        # What the server said may be hidden below a failure to take leave of it.
        told = below.args[0] if below.args and isinstance(below.args[0], dict) else told
        below = below.__context__
    if isinstance(told, dict):
        code = str(told.get("C", ""))
        known = next((text for begin, text in _REMEDIES.items() if code.startswith(begin)), None)
        if known is None and not code.startswith(("23", "42")):
            return str(told.get("M", code)).splitlines()[0]
        return known
    if str(told).startswith(("Can't create a connection", "communication error")):
        return "no server answers there: start it, or mend host and port"
    return "the connection was lost: look at the server, then try again"


def scrub_postgresql(engine: sa.Engine, where: str) -> None:
    """Write the tables anew, without what was erased. The server's log, replicas and backups are not reached."""
    with engine.begin() as connection:
        query = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = 'entries'::regclass"
        is_owner = connection.exec_driver_sql(query).scalar()
    if not is_owner:
        raise JournalError(
            f"journal {where}: erased, but the bytes stay in the server's files until the owner of the tables "
            "erases again or says VACUUM FULL"
        )
    raw = engine.raw_connection()
    try:
        driver: Any = raw.driver_connection
        raw.rollback()  # a vacuum stands outside of any transaction
        driver.autocommit = True
        try:
            for table in ("entries", "names", "participants", "participant_runs"):
                raw.cursor().execute(f"VACUUM FULL {table}")
        finally:
            driver.autocommit = False
    finally:
        raw.close()


def backup_schemas(engine: sa.Engine) -> list[str]:
    """The copies that an upgrade left in the database."""
    with engine.begin() as connection:
        names = sa.inspect(connection).get_schema_names()
    return [f"schema {name}" for name in names if name.startswith("calib_backup_")]


def back_up(connection: sa.Connection, version: int) -> str:
    """Copy all tables of the journal into a schema beside them, in the transaction of the upgrade."""
    schema = f"calib_backup_v{version}_{datetime.now(UTC):%Y%m%dt%H%M%S%f}"
    tables = sa.inspect(connection).get_table_names()
    connection.exec_driver_sql(f"CREATE SCHEMA {schema}")
    for table in tables:
        quoted = connection.dialect.identifier_preparer.quote(table)
        connection.exec_driver_sql(f"CREATE TABLE {schema}.{quoted} AS TABLE {quoted}")
    return f"schema {schema}"
