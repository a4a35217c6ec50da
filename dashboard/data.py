"""Where the pages find data: populations and CSV files in the data folder, and the journal. Nothing else is read.

CALIB_DATA names the folder (default `out`), CALIB_JOURNAL the journal's URL, both as the command line takes them.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from calib.errors import JournalError, UserError

_DEFAULT_JOURNAL = "sqlite:///./calib.db"  # that of every command
JOURNAL = "journal"  # this source is the journal; every other one is a path in the data folder


@dataclass(frozen=True)
class Source:
    """Something that can be analysed."""

    name: str  # as the address of a page holds it
    path: str  # as `calib analyze` takes it
    changed: float  # seconds since the epoch


def data_folder() -> Path:
    """The folder that pages read, as it was given."""
    return Path(os.environ.get("CALIB_DATA") or "out")


def journal_url() -> str:
    """The journal that pages read, without a password: it is shown, and handed to the commands that are started."""
    from calib.journal_store import without_password

    return without_password(os.environ.get("CALIB_JOURNAL") or _DEFAULT_JOURNAL)


def journal_words(url: str) -> str:
    """What a command that is shown needs to find this journal; a URL may hold what is nobody else's to read."""
    return "" if url == _DEFAULT_JOURNAL else " --journal JOURNAL"


def inside(name: str) -> Path:
    """The path of a name in the data folder. UserError for one that leads out of it or that is no path at all."""
    folder, given = data_folder(), Path(name)
    outside = UserError(f"{name!r} is not in the data folder {folder}: name something inside of it")
    if not name.strip() or given.is_absolute() or ".." in given.parts or "\0" in name:
        raise outside
    try:
        real, allowed = (folder / given).resolve(), folder.resolve()
    except (OSError, RuntimeError):  # a name that is too long, a loop of links
        raise outside from None
    if not real.is_relative_to(allowed) or real == allowed:
        raise outside
    return folder / given


def path_of(source: str) -> str:
    """What `calib analyze` is given for a source. UserError where it is none, or leads out of the data folder."""
    if source == JOURNAL:
        return journal_url()
    path = inside(source)
    found = f"{source!r}: there is no such population in {data_folder()}; choose one of the list"
    try:
        if not path.exists():
            raise UserError(found)
        if path.is_dir():
            for part in ("manifest.json", "parts"):
                inside(f"{source}/{part}")  # neither may be a link that leads out
    except OSError:
        raise UserError(found) from None
    return str(path)


def sources() -> list[Source]:
    """Every finished population, every CSV file and the journal, the most recent first."""
    found = []
    for path in _listed():
        file = path / "manifest.json" if path.is_dir() else path
        if path.is_dir() or path.suffix == ".csv":
            try:
                inside(path.name)
                found.append(Source(path.name, str(path), file.stat().st_mtime))
            except (OSError, UserError):
                continue  # unfinished, or a link that leads out
    changed = _journal_changed()
    if changed is not None:
        found.append(Source(JOURNAL, journal_url(), changed))
    return sorted(found, key=lambda source: (-source.changed, source.name))


def unfinished() -> list[str]:
    """Populations without a manifest, by name."""
    return [p.name for p in _listed() if (p / "parts").is_dir() and not (p / "manifest.json").is_file()]


def version_of(source: str) -> str:
    """What changes when the source's data do: the manifest's hash of the data, or that of a list of runs."""
    path = path_of(source)
    if source == JOURNAL:
        from calib.journal import open_journal

        with open_journal(path, create=False) as journal:
            runs = [(row.run, row.state, row.documents) for row in journal.runs()]
        return hashlib.sha256(repr(runs).encode()).hexdigest()
    file = Path(path)
    try:
        if not file.is_dir():
            return f"{file.stat().st_mtime_ns} {file.stat().st_size}"
        text = (file / "manifest.json").read_text(encoding="utf-8")
        return str(json.loads(text)["data_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # reading says what is wrong with it


def _listed() -> list[Path]:
    try:
        return sorted(p for p in data_folder().iterdir() if not p.name.startswith(".") and p.name != JOURNAL)
    except OSError:
        return []


def _journal_changed() -> float | None:
    """When the journal's last run began; None where there is no journal, or none that can be read."""
    from datetime import datetime

    from calib.journal import open_journal

    try:
        with open_journal(journal_url(), create=False) as journal:
            runs = journal.runs()
    except JournalError:
        return None
    return max((datetime.fromisoformat(row.started).timestamp() for row in runs), default=0.0)
