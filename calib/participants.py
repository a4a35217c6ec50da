"""People in the journal: consent, names kept apart, everything out on request, erasure.

Entries know a person by pseudonym only. A run's id, device and scenario outlive an erasure: put no person into them.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from calib.errors import JournalError
from calib.journal import Journal, link_run, pseudonym_hash
from calib.journal_store import backups, entries, names, participant_runs, participants, scrub, tombstones


@dataclass(frozen=True)
class Participant:
    """One enrolled person, as a list shows them."""

    pseudonym: str
    consent_version: str
    consented_at: str  # ISO 8601, UTC
    num_runs: int


@dataclass(frozen=True)
class Erasure:
    """What an erasure took away. `already` is the time of an earlier one, the counts are then 0."""

    pseudonym: str
    runs: int
    entries: int
    names: int
    already: str | None
    backups: list[Path | str]  # copies of the journal that the erasure did not reach


def enrol(
    journal: Journal, pseudonym: str, consent_version: str, name: str | None = None, contact: str | None = None
) -> None:
    """Note a person's consent, given now. The same version again is no error, another replaces it."""
    if not pseudonym or not pseudonym.isprintable() or pseudonym != pseudonym.strip() or len(pseudonym) > 200:
        raise JournalError(f"participant {pseudonym!r}: a pseudonym is 1 to 200 printable characters: choose another")
    with journal.writing() as connection:
        if (erased_at := _erased_at(connection, pseudonym)) is not None:
            raise JournalError(f"participant {pseudonym}: was erased on {erased_at}: choose another pseudonym")
        now = journal.now()
        known = connection.execute(_one(participants, pseudonym)).mappings().first()
        consent = {"consent_version": consent_version, "consented_at": now}
        if known is None:
            connection.execute(participants.insert().values(pseudonym=pseudonym, created_at=now, **consent))
        elif known["consent_version"] != consent_version:
            connection.execute(participants.update().where(participants.c.pseudonym == pseudonym).values(**consent))
        given = {key: value for key, value in (("name", name), ("contact", contact)) if value is not None}
        if given and connection.execute(_one(names, pseudonym)).first():
            connection.execute(names.update().where(names.c.pseudonym == pseudonym).values(**given))
        elif given:
            connection.execute(names.insert().values(pseudonym=pseudonym, **given))


def link(journal: Journal, pseudonym: str, run: str) -> None:
    """Note that a run is an enrolled person's. May come before the run's first entry; again is no error."""
    with journal.writing() as connection:
        if _erased_at(connection, pseudonym) is None and not connection.execute(_one(participants, pseudonym)).first():
            raise JournalError(
                f"participant {pseudonym}: not enrolled: `calib participant enrol {pseudonym} --consent VERSION`"
            )
        link_run(connection, journal.where, pseudonym, run)


def list_participants(journal: Journal) -> list[Participant]:
    """Everyone enrolled, by pseudonym; no names."""
    num_runs = (
        sa.select(sa.func.count())
        .where(participant_runs.c.pseudonym == participants.c.pseudonym)
        .scalar_subquery()
        .label("num_runs")
    )
    query = sa.select(
        participants.c.pseudonym, participants.c.consent_version, participants.c.consented_at, num_runs
    ).order_by(participants.c.pseudonym)
    with journal.reading() as connection:
        return [Participant(**row) for row in connection.execute(query).mappings()]


def export_participant(journal: Journal, pseudonym: str) -> dict[str, Any]:
    """Everything held about a person, as one JSON document: consent, name, and all entries of their runs."""
    _check(pseudonym)
    with journal.reading() as connection:
        erased_at = _erased_at(connection, pseudonym)
        person = connection.execute(_one(participants, pseudonym)).mappings().first()
        name = connection.execute(_one(names, pseudonym)).mappings().first()
        own = _runs_of(connection, pseudonym)
    if erased_at is not None:
        raise JournalError(f"participant {pseudonym}: was erased on {erased_at}: nothing is held any more")
    if person is None and not own:
        raise _unknown(pseudonym)
    return {
        "pseudonym": pseudonym,
        "consent": {"version": person["consent_version"], "at": person["consented_at"]} if person else None,
        "created_at": person["created_at"] if person else None,
        "name": name["name"] if name else None,
        "contact": name["contact"] if name else None,
        "runs": [{"run": run, "entries": [asdict(entry) for entry in journal.entries(run)]} for run in own],
    }


def erase_participant(journal: Journal, pseudonym: str, reason: str = "asked by the participant") -> Erasure:
    """Erase a person: name, consent and the bodies of their runs go, tombstones stay, and every chain still verifies.

    The bytes leave the journal's files too. Copies elsewhere (backups, exports, a disk's spare blocks) are not reached.
    """
    _check(pseudonym)
    with journal.writing() as connection:
        already = _erased_at(connection, pseudonym)
        own = _runs_of(connection, pseudonym)
        enrolled = connection.execute(_one(participants, pseudonym)).first() is not None
        if already is None and not own and not enrolled:
            raise _unknown(pseudonym)
        num_entries = num_names = 0
        if already is None:
            stone = {"pseudonym_hash": pseudonym_hash(pseudonym), "erased_at": journal.now(), "reason": reason}
            connection.execute(tombstones.insert(), [{**stone, "run": run} for run in (None, *own)])
            bodies = entries.update().where(entries.c.run.in_(own)).values(body=None, salt=None)
            num_entries = connection.execute(bodies).rowcount
            num_names = connection.execute(names.delete().where(names.c.pseudonym == pseudonym)).rowcount
            connection.execute(participant_runs.delete().where(participant_runs.c.pseudonym == pseudonym))
            connection.execute(participants.delete().where(participants.c.pseudonym == pseudonym))
    # Also when it was erased before: an erasure that met a busy file is finished by repeating it.
    scrub(journal.engine, journal.where)
    return Erasure(pseudonym, len(own), num_entries, num_names, already, backups(journal.engine))


def _check(pseudonym: str) -> None:
    """Bytes of a terminal that are no text cannot be looked for."""
    if not pseudonym.isprintable():
        raise _unknown(repr(pseudonym))


def _one(table: sa.Table, pseudonym: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.pseudonym == pseudonym)


def _runs_of(connection: sa.Connection, pseudonym: str) -> list[str]:
    query = sa.select(participant_runs.c.run).where(participant_runs.c.pseudonym == pseudonym)
    return list(connection.execute(query.order_by(participant_runs.c.run)).scalars())


def _erased_at(connection: sa.Connection, pseudonym: str) -> str | None:
    query = sa.select(tombstones.c.erased_at).where(tombstones.c.pseudonym_hash == pseudonym_hash(pseudonym))
    return connection.execute(query.limit(1)).scalar()


def _unknown(pseudonym: str) -> JournalError:
    return JournalError(f"participant {pseudonym}: not in this journal: `calib participant list` shows who is")
