"""Which sessions run on this machine: one file a runner, readable by its user only, removed at its end."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from calib.errors import UserError


@dataclass(frozen=True)
class RunnerEntry:
    """How to reach a runner: a loopback port and the token that it wants to see first."""

    run: str
    pid: int
    port: int
    token: str
    device: str
    journal: str


def registry_folder() -> Path:
    """Where the files are: the user's own runtime folder."""
    base = os.environ.get("CALIB_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "calib" if base else Path.home() / ".local" / "state" / "calib" / "runs"


def register(entry: RunnerEntry) -> None:
    """Write the entry whole, for this user's eyes only."""
    folder = registry_folder()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = folder / f".{entry.run}.{os.getpid()}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(asdict(entry), file)
    temporary.replace(folder / f"{entry.run}.json")


def unregister(run: str) -> None:
    """Forget a runner. Idempotent."""
    (registry_folder() / f"{run}.json").unlink(missing_ok=True)


def runners() -> list[RunnerEntry]:
    """The runners that live. What a killed runner left behind is removed."""
    found = []
    for path in sorted(registry_folder().glob("*.json")):
        try:
            entry = RunnerEntry(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            continue
        if _alive(entry.pid):
            found.append(entry)
        else:
            path.unlink(missing_ok=True)
    return found


def find_runner(run: str) -> RunnerEntry:
    """The runner of a run, by its id or an unambiguous beginning of it."""
    living = runners()
    match = [e for e in living if e.run == run] or [e for e in living if e.run.startswith(run)]
    if len(match) == 1:
        return match[0]
    names = ", ".join(e.run for e in living) or "none"
    raise UserError(f"{run}: {'fits several runs' if match else 'is not running'}; running now: {names}")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:  # a zombie is dead for our purpose
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except (OSError, IndexError):
        return True
