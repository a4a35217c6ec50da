"""Which sessions run on this machine: one file a runner, readable by its user only, removed at its end.

A process number alone names nobody: it is given again once its process has ended. So an entry also says when its
process was born, and a file whose process was born at another time is a dead runner's: nobody is signalled on its word.
"""

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from calib.errors import UserError

_LEFT = ".left"  # the ending of a killed runner's entry
_PATIENCE_S = 5.0  # a change takes a millisecond: who holds the folder for longer hangs or is suspended
_LOOK_S = 0.01


@dataclass(frozen=True)
class RunnerEntry:
    """How to reach a runner: a loopback port and the token that it wants to see first."""

    run: str
    pid: int
    port: int
    token: str
    device: str
    journal: str
    born: str = ""  # of the process, see `born`; filled in by `register`


def registry_folder() -> Path:
    """Where the files are: the user's own runtime folder."""
    base = os.environ.get("CALIB_RUNTIME_DIR") or os.environ.get("XDG_RUNTIME_DIR")
    try:
        return Path(base) / "calib" if base else Path.home() / ".local" / "state" / "calib" / "runs"
    except RuntimeError:  # no HOME, and a user whom the system does not know
        raise UserError("no home folder is known: set CALIB_RUNTIME_DIR to a folder that you can write") from None


def register(entry: RunnerEntry) -> None:
    """Write the entry whole, for this user's eyes only. UserError where another process has the run."""
    folder = registry_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(folder, _PATIENCE_S):
            path = folder / f"{entry.run}.json"
            other = _entry_of(path)
            if other is not None and other.pid != entry.pid and is_alive(other):
                raise UserError(f"run {entry.run}: is going on (pid {other.pid}); attach to it or stop it")
            temporary = folder / f".{entry.run}.{os.getpid()}"
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(replace(entry, born=born(entry.pid))), file)
            temporary.replace(path)
            path.with_suffix(_LEFT).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(
            f"{folder}: cannot be written ({error.strerror}), and `calib stop` looks there: "
            "mend it, or set CALIB_RUNTIME_DIR to a folder that you can write"
        ) from None


def unregister(run: str) -> None:
    """Forget this process as a run's runner. Another process's entry stays. Idempotent, never raises."""
    with contextlib.suppress(OSError, UserError), contextlib.ExitStack() as stack:
        folder = registry_folder()
        with contextlib.suppress(TimeoutError):  # nobody takes the entry of a process that lives
            stack.enter_context(locked(folder, _PATIENCE_S))
        path = folder / f"{run}.json"
        entry = _entry_of(path)
        if entry is not None and entry.pid == os.getpid():
            path.unlink(missing_ok=True)


def runners() -> list[RunnerEntry]:
    """The runners that live. What a killed one left behind is set aside; what is no entry at all stays and is none."""
    found = []
    for path in sorted(registry_folder().glob("*.json")):
        entry = _entry_of(path)
        if entry is None:
            continue
        if is_alive(entry):
            found.append(entry)
            continue
        with contextlib.suppress(OSError), locked(path.parent, 0.0):  # else by who looks next: a stop never waits
            if _entry_of(path) == entry:  # not one that took its place meanwhile
                path.replace(path.with_suffix(_LEFT))
    return found


def left_behind() -> list[RunnerEntry]:
    """What runners that were killed have left, until `forget`."""
    runners()
    found = (_entry_of(path) for path in sorted(registry_folder().glob(f"*{_LEFT}")))
    return [entry for entry in found if entry is not None]


def forget(entry: RunnerEntry) -> None:
    """Nothing is left to do for a runner that was killed. Idempotent, never raises."""
    with contextlib.suppress(OSError):
        (registry_folder() / f"{entry.run}{_LEFT}").unlink(missing_ok=True)


def find_runner(run: str) -> RunnerEntry:
    """The runner of a run, by its id or an unambiguous beginning of it."""
    living = runners()
    match = [e for e in living if e.run == run] or [e for e in living if e.run.startswith(run)]
    if len(match) == 1:
        return match[0]
    names = ", ".join(e.run for e in living) or "none"
    raise UserError(f"{run}: {'fits several runs' if match else 'is not running'}; running now: {names}")


def is_alive(entry: RunnerEntry) -> bool:
    """Whether the very process that wrote the entry still runs."""
    return entry.born != "" and born(entry.pid) == entry.born


def born(pid: int) -> str:
    """When a living process began, told apart from all others of its number; empty where there is none."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        stat = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return "" if stat[0] in "ZX" else f"{boot} {stat[19]}"  # a zombie is dead for our purpose
    except (OSError, IndexError):
        return ""


def _entry_of(path: Path) -> RunnerEntry | None:
    """The entry of a file, None where it holds none."""
    try:
        entry = RunnerEntry(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    texts = (entry.run, entry.token, entry.device, entry.journal, entry.born)
    whole = all(isinstance(text, str) for text in texts) and entry.run == path.stem
    numbers = type(entry.pid) is int and type(entry.port) is int
    return entry if whole and numbers and entry.pid > 0 and 0 < entry.port < 65_536 else None


@contextlib.contextmanager
def locked(folder: Path, patience_s: float | None = None) -> Iterator[None]:
    """One process at a time changes the folder. TimeoutError where another one holds it for longer than patience_s."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if patience_s is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        else:
            _lock_within(handle, patience_s)
        yield
    finally:
        os.close(handle)


def _lock_within(handle: int, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise TimeoutError(errno.ETIMEDOUT, "another process holds it and does not let go") from None
        time.sleep(_LOOK_S)
