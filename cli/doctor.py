"""Look over this machine: versions, ports, permissions, compilers, browser, and what each missing thing would give."""

import argparse
from dataclasses import asdict, dataclass

# What a library is for; the others are "part of the lab".
_USES = {
    "numba": "compiled sessions and simulations",
    "pymc": "the audit of a run",
    "nutpie": "a faster sampler for PyMC",
    "arviz": "diagnostics and netCDF files of a posterior",
    "pyserial": "robots on a serial port",
    "sqlalchemy": "the journal of sessions",
    "distributed": "simulations on a cluster, `calib simulate --scheduler ADDRESS`",
    "pg8000": "a journal on PostgreSQL",
    "rich": "tables and progress bars in the terminal",
}
# Name, programs that will do, what it gives, how to get it.
_PROGRAMS = (
    ("C++ compiler", ("g++",), "faster PyMC models", "install the package g++"),
    (
        "AVR compiler",
        ("avr-g++",),
        "the rover: its emulator, and flashing it",
        "install gcc-avr avr-libc binutils-avr arduino-core-avr simavr libsimavr-dev libelf-dev, and avrdude to flash",
    ),
    (
        "browser",
        ("chromium", "chromium-browser", "google-chrome"),
        "the browser tests; the dashboard runs in any browser",
        "install the package chromium",
    ),
)


@dataclass(frozen=True)
class Check:
    """One thing looked for. `remedy` is empty when it was found."""

    name: str
    found: bool
    detail: str  # a version, a path, a list of ports
    gives: str
    remedy: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`calib doctor` takes no arguments of its own."""


def main(args: argparse.Namespace) -> int:
    """Print what is here and what is missing. Missing things are no failure."""
    import json

    checks = [_platform(), _python(), *_libraries(), *_serial(), *_programs()]
    if args.json:
        missing = [check.name for check in checks if not check.found]
        print(json.dumps({"checks": [asdict(check) for check in checks], "missing": missing}))
        return 0
    from cli._table import show

    show(("", "name", "detail"), [("ok" if check.found else "--", check.name, check.detail) for check in checks])
    for check in checks:
        if not check.found:
            print(f"missing: {check.name}. It would give: {check.gives}. To get it: {check.remedy}.")
    return 0


# What the lab is, on each platform: where it is tested, and the way round where it is not.
_PLATFORMS = {
    "Darwin": "run the lab in a Linux virtual machine, with the robot at `socket://HOST:PORT`",
    "Windows": "use WSL2, because ports and guards need Linux, with the robot at `socket://HOST:PORT` or its USB "
    "adapter attached to WSL2 (usbipd)",
}


def _platform() -> Check:
    import platform

    system = platform.system()
    gives = "robots on this machine's own ports, emulators, guards that stop a robot when its session dies"
    if system == "Linux":
        wsl = "microsoft" in platform.release().lower()
        hint = ", in WSL2: USB adapters come by usbipd, robots in the network by socket://HOST:PORT" if wsl else ""
        return Check("platform", True, f"Linux, where the lab is tested{hint}", gives, "")
    return Check(
        "platform", False, f"{system}, where the lab is not tested", gives, _PLATFORMS.get(system, "use Linux")
    )


def _python() -> Check:
    import platform
    import sys

    found = sys.version_info[:2] == (3, 11)
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("Python 3.11", found, detail, "the versions that the lock names", "" if found else "run `make run`")


def _libraries() -> list[Check]:
    # Versions come from the installed metadata: importing them all takes more than ten seconds.
    import re
    from importlib.metadata import PackageNotFoundError, requires, version

    from cli.main import DISTRIBUTION

    checks = []
    for requirement in requires(DISTRIBUTION) or []:
        match = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"extra == .(\w+)", requirement)
        if match is None or (extra and extra.group(1) not in ("cluster", "postgresql")):
            continue
        name = match.group()
        remedy = "run `make run`, which installs the lock"
        if extra:
            remedy = f"python -m pip install '{DISTRIBUTION}[{extra.group(1)}]'"
        gives = _USES.get(name.lower(), "part of the lab")
        try:
            checks.append(Check(name, True, version(name), gives, ""))
        except PackageNotFoundError:
            checks.append(Check(name, False, "not installed", gives, remedy))
    return checks


_BY_NET = "name a robot in the network, `--device roomba:socket://HOST:PORT`"


def _serial() -> list[Check]:
    import os
    import sys
    from pathlib import Path

    gives = "a robot on a cable: `--device roomba:/dev/ttyUSB0`"
    kinds = ("ttyUSB*", "ttyACM*", "rfcomm*", "cu.usb*")  # the last as macOS names them
    ports = sorted(str(path) for kind in kinds for path in Path("/dev").glob(kind))
    closed = [port for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if sys.platform != "linux":  # no group stands before a port there
        permission = ("granted" if not closed else f"no access to {', '.join(closed)}", not closed)
        return [
            Check("serial port", bool(ports), ", ".join(ports) or "none plugged in", gives, "" if ports else _BY_NET),
            Check("serial permission", permission[1], permission[0], gives, "" if permission[1] else _BY_NET),
        ]
    allowed = os.geteuid() == 0 or "dialout" in _groups()
    return [
        Check(
            "serial port",
            bool(ports),
            ", ".join(ports) or "none plugged in",
            gives,
            "" if ports else f"plug one in, or {_BY_NET}",
        ),
        Check(
            "serial permission",
            allowed and not closed if ports else allowed,
            f"no access to {', '.join(closed)}" if closed else "granted" if allowed else "not in the group dialout",
            gives,
            "" if allowed and not closed else "`sudo usermod -aG dialout $USER`, then log in again",
        ),
    ]


def _groups() -> set[str]:
    import os

    try:
        import grp
    except ImportError:  # Windows
        return set()
    # A number without a name is common in containers.
    known = {group.gr_gid: group.gr_name for group in grp.getgrall()}
    return {known[gid] for gid in os.getgroups() if gid in known}


def _programs() -> list[Check]:
    import shutil

    checks = []
    for name, programs, gives, remedy in _PROGRAMS:
        path = next(filter(None, map(shutil.which, programs)), None)
        checks.append(Check(name, path is not None, path or "not found", gives, "" if path else remedy))
    return checks
