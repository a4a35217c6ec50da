"""The journal: what happened in every session, append-only and durable, in SQLite or PostgreSQL by URL.

Each run is a chain of entries. An entry's digest covers its salt and body; its chain covers the previous chain, its
number, type and digest. So a body can be erased (body and salt become null) and the chain still verifies. The
time of writing is outside of the chain; times that count stand in the bodies.
What the chain cannot show is a tail that was cut off by someone who also rewrote the `runs` row: note the last chain
value elsewhere (a report, a preregistration) where that matters.

One process writes a run; many processes write the same journal at once.
"""

import hashlib
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

import sqlalchemy as sa

from calib.errors import JournalError
from calib.journal_store import (
    entries,
    explained,
    make_engine,
    participant_runs,
    prepare,
    runs,
    sqlite_path,
    tombstones,
)
from calib.journal_store import migrate as migrate

EntryType = Literal["event", "start", "round", "stop", "audit", "truth"]
TYPES = get_args(EntryType)
# The keys of a start body that a list of runs shows. They outlive an erasure: none of them is about a person.
_SHOWN = ("kind", "rung", "device", "scenario")


@dataclass(frozen=True)
class Entry:
    """One document of a run. `body` and `salt` are None once erased."""

    run: str
    seq: int  # 0, 1, 2, ... within the run
    type: EntryType
    body: dict[str, Any] | None
    salt: str | None  # hex
    digest: str  # hex
    chain: str  # hex
    written_at: str  # ISO 8601, UTC


@dataclass(frozen=True)
class RunRow:
    """One run of the journal, as a list shows it."""

    run: str
    kind: str | None
    rung: str | None
    device: str | None
    scenario: str | None
    started: str  # ISO 8601, UTC
    state: str  # "open", "erased" or the stop reason
    rounds: int
    participant: str | None  # pseudonym
    documents: int


def utc_now() -> str:
    """The wall clock as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def canonical(body: dict[str, Any]) -> str:
    """The one JSON text of a body: sorted keys, no spaces, ASCII, floats that round-trip; or ValueError."""
    _refuse_foreign(body)
    return json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _refuse_foreign(value: object) -> None:
    # json would turn the key 1 into "1" without a word, and a reader would get back another document.
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ValueError(f"a journal body needs text keys, not {key!r}")
            _refuse_foreign(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _refuse_foreign(inner)
    elif not isinstance(value, str | int | float | None):
        raise ValueError(f"a journal body holds plain JSON values, not {type(value).__name__}")


def digest_of(salt: str, body: str) -> str:
    """sha256 of salt and body. A damaged byte that is no UTF-8 counts as itself."""
    return hashlib.sha256(bytes.fromhex(salt) + body.encode("utf-8", "surrogateescape")).hexdigest()


def chain_of(previous: str, seq: int, type: str, digest: str) -> str:
    """sha256 over the previous chain value and what stays of an entry for ever."""
    return hashlib.sha256(f"{previous}\n{seq}\n{type}\n{digest}".encode()).hexdigest()


def _file_at(path: Path | None) -> tuple[int, int] | None:
    """Which file lies at a path."""
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if found else None


def _root(run: str) -> str:
    # The chain starts from the run's name, so that the entries of one run cannot pass for those of another.
    return hashlib.sha256(run.encode()).hexdigest()


class Journal:
    """An open journal. Use as a context manager; safe to share between threads."""

    def __init__(self, engine: sa.Engine, where: str, now: Callable[[], str] = utc_now) -> None:
        self.engine = engine
        self.where = where
        self.now = now
        self._heads: dict[str, tuple[int, str]] = {}  # run -> next seq, last chain, as this writer left them
        self._lock = threading.Lock()
        self._path = sqlite_path(engine)
        self._file = _file_at(self._path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database. Idempotent."""
        self.engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A consistent view; the database's errors come out as a JournalError."""
        with explained(self.where), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """One durable transaction, all or nothing; the database's errors come out as a JournalError."""
        # SQLite goes on writing to a file that has been deleted, and all of it would be lost without a word.
        if _file_at(self._path) != self._file:
            raise JournalError(
                f"journal {self.where}: the file was moved or deleted while it was in use: put it back where it was"
            )
        with explained(self.where), self.engine.execution_options(writes=True).begin() as connection:
            yield connection

    def go_on_after(self, entries: Sequence[Entry]) -> None:
        """Write behind these entries, and only there: refused once another process has written more of the run."""
        self._heads[entries[-1].run] = entries[-1].seq + 1, entries[-1].chain

    def append(self, run: str, type: EntryType, body: dict[str, Any]) -> int:
        """Append one entry and return its number. It is on the disk when this returns."""
        return self.append_many(run, [(type, body)])[0]

    def append_many(self, run: str, documents: Iterable[tuple[EntryType, dict[str, Any]]]) -> list[int]:
        """Append several entries of one run, all or none, and return their numbers."""
        texts = [(type, body, canonical(body)) for type, body in documents]
        assert all(type in TYPES for type, _, _ in texts), f"an entry's type is one of {TYPES}"
        if not texts:
            return []
        with self._lock:
            try:
                with self.writing() as connection:
                    head = self._append(connection, run, texts)
            except sa.exc.IntegrityError as error:
                # This writer's numbers stay as they were: once refused, always refused.
                raise JournalError(
                    f"journal {self.where}: run {run} is being written by another process: "
                    "let it finish or stop it, then open the journal again"
                ) from error
            self._heads[run] = head
        return list(range(head[0] - len(texts), head[0]))

    def _append(
        self, connection: sa.Connection, run: str, texts: Sequence[tuple[EntryType, dict[str, Any], str]]
    ) -> tuple[int, str]:
        _not_erased(connection, self.where, run)
        written_at = self.now()
        seq, chain = self._heads[run] if run in self._heads else self._read_head(connection, run)
        if seq == 0:
            connection.execute(runs.insert().values(run=run, started=written_at))
        rows = []
        for type, body, text in texts:
            # 16 random bytes: without them a digest that outlives its body would let a short body be guessed.
            salt = secrets.token_hex(16)
            digest = digest_of(salt, text)
            chain = chain_of(chain, seq, type, digest)
            rows.append(
                {
                    "run": run,
                    "seq": seq,
                    "type": type,
                    "body": text,
                    "salt": salt,
                    "digest": digest,
                    "chain": chain,
                    "written_at": written_at,
                }
            )
            seq += 1
            if type == "start":
                self._note_start(connection, run, body)
            elif type == "stop":
                reason = _columns_of_stop(body)
                connection.execute(runs.update().where(runs.c.run == run).values(**reason))
        connection.execute(entries.insert(), rows)
        return seq, chain

    def _read_head(self, connection: sa.Connection, run: str) -> tuple[int, str]:
        last = connection.execute(
            sa.select(entries.c.seq, entries.c.chain)
            .where(entries.c.run == run)
            .order_by(entries.c.seq.desc())
            .limit(1)
        ).first()
        return (last.seq + 1, last.chain) if last else (0, _root(run))

    def _note_start(self, connection: sa.Connection, run: str, body: dict[str, Any]) -> None:
        connection.execute(runs.update().where(runs.c.run == run).values(**_columns_of_start(body)))
        participant = body.get("participant")
        if isinstance(participant, str):
            # In the same transaction, so that no crash can leave a run that an erasure would not find.
            link_run(connection, self.where, participant, run)

    def entries(self, run: str, types: Iterable[EntryType] | None = None) -> list[Entry]:
        """The entries of a run in order, all or those of the given types; empty for a run that is not there."""
        query = sa.select(entries).where(entries.c.run == run).order_by(entries.c.seq)
        if types is not None:
            query = query.where(entries.c.type.in_(list(types)))
        with self.reading() as connection:
            return [self._entry(row) for row in connection.execute(query).mappings()]

    def _entry(self, row: sa.RowMapping) -> Entry:
        try:
            body = None if row["body"] is None else json.loads(row["body"])
        except ValueError as error:
            raise JournalError(
                f"journal {self.where}: entry {row['seq']} of run {row['run']} is damaged: "
                "`calib journal verify` lists what else is, a backup is the remedy"
            ) from error
        return Entry(**{**row, "body": body})

    def runs(self) -> list[RunRow]:
        """Every run, oldest first."""
        documents = (
            sa.select(
                entries.c.run,
                sa.func.count().label("documents"),
                sa.func.sum(sa.case((entries.c.type == "round", 1), else_=0)).label("rounds"),
            )
            .group_by(entries.c.run)
            .subquery()
        )
        query = (
            sa.select(
                runs, documents.c.documents, documents.c.rounds, participant_runs.c.pseudonym, tombstones.c.erased_at
            )
            .join(documents, documents.c.run == runs.c.run)
            .outerjoin(participant_runs, participant_runs.c.run == runs.c.run)
            .outerjoin(tombstones, tombstones.c.run == runs.c.run)
            .order_by(runs.c.started, runs.c.run)
        )
        with self.reading() as connection:
            return [
                RunRow(
                    **{name: row[name] for name in ("run", *_SHOWN, "started", "documents", "rounds")},
                    state="erased" if row["erased_at"] else row["stop_reason"] or "open",
                    participant=row["pseudonym"],
                )
                for row in connection.execute(query).mappings()
            ]

    def verify(self, run: str) -> list[str]:
        """What is wrong with a run's chain, one line a problem; empty when all is well."""
        with self.reading() as connection:
            listed = connection.execute(sa.select(runs).where(runs.c.run == run)).mappings().first()
            erased = connection.execute(sa.select(tombstones.c.run).where(tombstones.c.run == run)).first() is not None
            rows = connection.execute(sa.select(entries).where(entries.c.run == run).order_by(entries.c.seq)).mappings()
            return list(_problems(run, rows.all(), dict(listed) if listed else None, erased))


def _columns_of_start(body: dict[str, Any]) -> dict[str, str | None]:
    return {name: body[name] if isinstance(body.get(name), str) else None for name in _SHOWN}


def _columns_of_stop(body: dict[str, Any]) -> dict[str, str]:
    reason = body.get("reason", body.get("stop_reason"))
    return {"stop_reason": reason if isinstance(reason, str) else "stopped"}


def _not_erased(connection: sa.Connection, where: str, run: str) -> None:
    """The name of an erased run is not used again, also where the run had no entry yet."""
    if connection.execute(sa.select(tombstones.c.run).where(tombstones.c.run == run)).first():
        raise JournalError(f"journal {where}: run {run} was erased: start a new run")


def link_run(connection: sa.Connection, where: str, pseudonym: str, run: str) -> None:
    """Note whose run it is; again is no error, another person's run is, and an erased one."""
    gone = sa.select(tombstones.c.id).where(tombstones.c.pseudonym_hash == pseudonym_hash(pseudonym))
    if connection.execute(gone).first():
        raise JournalError(
            f"journal {where}: participant {pseudonym} was erased: enrol the person under another pseudonym"
        )
    _not_erased(connection, where, run)
    owner = connection.execute(sa.select(participant_runs.c.pseudonym).where(participant_runs.c.run == run)).scalar()
    if owner is None:
        connection.execute(participant_runs.insert().values(pseudonym=pseudonym, run=run))
    elif owner != pseudonym:
        raise JournalError(
            f"journal {where}: run {run} belongs to participant {owner}, not to {pseudonym}: use a new run"
        )


def pseudonym_hash(pseudonym: str) -> str:
    """What a tombstone keeps of a person: enough to know the pseudonym again, nothing to read."""
    return hashlib.sha256(pseudonym.encode()).hexdigest()


def _problems(run: str, rows: Sequence[sa.RowMapping], listed: dict[str, Any] | None, erased: bool) -> Iterator[str]:
    if not rows:
        yield f"run {run}: not in this journal"
        return
    chain = _root(run)
    shown: dict[str, str | None] = {}
    for seq, row in enumerate(rows):
        at = f"run {run}, entry {row['seq']}"
        if row["seq"] != seq:
            yield f"{at}: entry {seq} is missing"
            return
        if (row["body"] is None) != (row["salt"] is None) or (row["body"] is None and not erased):
            yield f"{at}: the body or the salt is gone without an erasure"
        elif row["body"] is not None and erased:
            yield f"{at}: the run is erased and the body is still there"
        elif row["body"] is not None:
            if not _intact(row):
                yield f"{at}: the body is not the one that was written"
            elif row["type"] == "start":
                shown |= _columns_of_start(json.loads(row["body"]))
            elif row["type"] == "stop":
                shown |= _columns_of_stop(json.loads(row["body"]))
        chain = chain_of(chain, seq, row["type"], row["digest"])
        if row["chain"] != chain:
            yield f"{at}: the chain is broken"
            return
    if listed is None:
        yield f"run {run}: not in the list of runs"
    elif not erased:
        for name in (*_SHOWN, "stop_reason"):
            if listed[name] != shown.get(name):
                yield f"run {run}: the list of runs says {name} {listed[name]!r}, the documents {shown.get(name)!r}"


def _intact(row: sa.RowMapping) -> bool:
    try:
        return digest_of(row["salt"], row["body"]) == row["digest"]
    except ValueError:  # the salt is no longer hex
        return False


def open_journal(url: str, create: bool = True, now: Callable[[], str] = utc_now) -> Journal:
    """Open a journal to write in, made if missing; with `create=False` it must exist and may be read-only.

    A foreign or newer file stays as it is.
    """
    engine, where = make_engine(url)
    try:
        with explained(where):
            prepare(engine, where, create)
    except BaseException:
        engine.dispose()
        raise
    return Journal(engine, where, now)
