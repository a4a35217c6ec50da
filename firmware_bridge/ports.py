"""Who holds which port, and which emulators run: small files that the processes of one machine share.

A port is held by three locks at once, because each alone has a hole: an owner file with the pid under an flock (tells
who), an flock on the device (pyserial's `exclusive`, works across users), and TIOCEXCL (stops programs that know no
flock).
"""

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

USB = "usb:"  # an address by the serial number that the USB plug tells, wherever its port is now


class LinkDown(Exception):
    """The port is gone: cable pulled, peer died, address not there. One line with the remedy."""


class PortBusy(Exception):
    """Another process drives this robot. One line with its pid."""

    def __init__(self, address: str, pid: int) -> None:
        who = f"process {pid}" if pid else "another process"
        super().__init__(f"{address} is in use by {who}: stop that run first (calib stop), or wait for its end")
        self.address = address
        self.pid = pid


def _folder(name: str) -> Path:
    """A folder of this user that all processes of this machine see."""
    own = f"calib-{os.getuid()}"
    if base := os.environ.get("XDG_RUNTIME_DIR"):
        path = Path(base) / own / name
        with contextlib.suppress(OSError):  # left over from another user's session, or read-only
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            return path
    path = Path(tempfile.gettempdir()) / own / name
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


class Claim:
    """The owner file of one port, held until `release` or until this process ends, however it ends."""

    def __init__(self, address: str, pid: int) -> None:
        """Take the port for process `pid`, or raise PortBusy."""
        # A symlink and its target are one port; an URL is its own name.
        real = os.path.realpath(address) if address.startswith("/") else address
        digest = hashlib.sha256(real.encode()).hexdigest()[:16]
        self._fd = os.open(_folder("ports") / f"{digest}.owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = os.pread(self._fd, 32, 0).split()
            os.close(self._fd)
            raise PortBusy(address, int(text[0]) if text and text[0].isdigit() else 0) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{pid}\n".encode(), 0)

    def release(self) -> None:
        """Let go. Idempotent. The file stays: removing it would let two claims hold different files of one name."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1


class UsbPort(NamedTuple):
    """A serial port on USB."""

    path: str
    serial_number: str  # of the plug's chip


def usb_ports() -> list[UsbPort]:
    """The ports that are plugged in now and tell a serial number."""
    from serial.tools.list_ports import comports

    return [UsbPort(port.device, port.serial_number) for port in comports() if port.serial_number]


def usb_serial_number(path: str, found: list[UsbPort]) -> str:
    """What the plug behind a path tells, "" where it tells nothing or is none."""
    real = os.path.realpath(path)
    return next((port.serial_number for port in found if os.path.realpath(port.path) == real), "")


def usb_path(serial_number: str, found: list[UsbPort]) -> str:
    """Where the plug with this serial number is now. LinkDown, in one line, where there is not exactly one port."""
    paths = [port.path for port in found if port.serial_number == serial_number]
    if len(paths) == 1:
        return paths[0]
    if paths:
        raise LinkDown(f"USB serial number {serial_number} has several ports: say one of {', '.join(paths)}")
    others = ", ".join(f"{port.path} ({port.serial_number})" for port in found) or "none"
    raise LinkDown(f"no port has the USB serial number {serial_number}: plug it in; there now: {others}")


def is_running(pid: int) -> bool:
    """Is there a process of this number?"""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def new_path(name: str) -> str:
    """A short path for a socket or a symlink of this process."""
    return str(_folder("emulators") / f"{name}-{os.getpid()}")


@contextlib.contextmanager
def announced(record: dict[str, Any]) -> Iterator[None]:
    """Put an emulator's {"device", "address", ...} where `running` finds it, for as long as the block runs."""
    path = _folder("emulators") / f"{os.getpid()}.json"
    path.write_text(json.dumps({**record, "pid": os.getpid()}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running() -> list[dict[str, Any]]:
    """The emulators of this user that run now, oldest pid first. What dead ones have left behind is removed."""
    found = []
    for path in sorted(_folder("emulators").glob("*.json")):
        try:
            record = json.loads(path.read_text())
        except (OSError, ValueError):  # written or removed at this very moment
            continue
        if is_running(record["pid"]):
            found.append(record)
        else:
            _bury(record)
            path.unlink(missing_ok=True)
    return sorted(found, key=lambda record: record["pid"])


def _bury(record: dict[str, Any]) -> None:
    """Remove a dead emulator's link: its pty's number may belong to somebody's terminal by now."""
    link = Path(record["address"])
    with contextlib.suppress(OSError):
        if link.is_symlink() and str(link.readlink()) == record.get("tty"):
            link.unlink()
            if link.parent == _folder("emulators"):
                link.with_name(link.name + ".clock").unlink(missing_ok=True)
        (_folder("emulators") / f"clock-{record['pid']}").unlink(missing_ok=True)


def emulator_at(address: str) -> dict[str, Any] | None:
    """The record of the running emulator behind an address, or None: then it is taken for hardware."""
    real = os.path.realpath(address) if address.startswith("/") else address
    for record in running():
        known = record["address"]
        if real == (os.path.realpath(known) if known.startswith("/") else known):
            return record
    return None
