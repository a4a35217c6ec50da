"""Builds the rover's firmware and what tests run it in, once for each state of the sources, in the user's cache.

`python -m firmware_bridge.rover_build` prints the Debian packages that are missing for it, or nothing.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Literal

SOURCES = Path(__file__).resolve().parent / "rover"
# What a target needs: (a file that shows it, its Debian package).
NEEDS = {
    "native": (("/usr/bin/g++", "g++"), ("/usr/bin/make", "make")),
    "emulator": (
        ("/usr/bin/avr-g++", "gcc-avr"),
        ("/usr/lib/avr/include/avr/io.h", "avr-libc"),
        ("/usr/share/arduino/hardware/arduino/avr/cores/arduino/Arduino.h", "arduino-core-avr"),
        ("/usr/include/simavr/sim_avr.h", "libsimavr-dev"),
        ("/usr/include/libelf.h", "libelf-dev"),
        ("/usr/bin/gcc", "gcc"),
        ("/usr/bin/make", "make"),
    ),
}
Target = Literal["native", "emulator"]


class CannotBuild(Exception):
    """A package is missing or the compiler complains. One line with the remedy."""


def missing(target: Target) -> list[str]:
    """The Debian packages that this machine lacks for a target."""
    return [package for path, package in NEEDS[target] if not Path(path).exists()]


def build(target: Target) -> Path:
    """The folder with `native`, or with `rover.elf`, `rover-hangs.elf` and `host.so`. CannotBuild."""
    folder = _folder(target)
    if folder.exists():
        return folder
    if lacks := missing(target):
        raise CannotBuild(f"the rover's firmware cannot be built here: apt-get install {' '.join(lacks)}")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # make splits names at spaces, which a user's cache may have and this folder has not
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory(dir=folder.parent) as beside:
        words = ["make", "--silent", "--jobs=2", "-f", "Makefile", f"BUILD={made}", target]
        # The make above us, if there is one, has its own jobs and flags.
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        done = subprocess.run(words, capture_output=True, text=True, env=clean, cwd=SOURCES)
        if done.returncode:
            raise CannotBuild(f"the rover's firmware does not build: {' '.join(done.stderr.split())[-300:]}")
        new = Path(beside) / "new"
        shutil.copytree(made, new, ignore=shutil.ignore_patterns("core"))
        try:
            new.rename(folder)
        except OSError:  # somebody else was faster
            if not folder.exists():
                raise
    return folder


def _folder(target: str) -> Path:
    total = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.is_file():
            total.update(path.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "calib" / f"rover-{target}-{total.hexdigest()[:16]}"


if __name__ == "__main__":
    print(*dict.fromkeys([*missing("native"), *missing("emulator")]))
