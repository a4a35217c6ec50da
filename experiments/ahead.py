"""See to it that everything is compiled before anything is computed, in a process of its own.

Not for speed alone. Of a function that another one calls there are several compiled copies, and a process that compiles
runs other copies than one that loads what was compiled. They differ in the last bit of a sum, so that a run and its
replay would.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from calib.errors import UserError
from calib.provenance import code_sha256


def ensure() -> None:
    """Return once everything is compiled for this state of the code. UserError where that fails."""
    mark = _mark()
    if mark.exists():
        return
    try:
        mark.parent.mkdir(parents=True, exist_ok=True)
        with (mark.parent / "ahead.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # whoever comes meanwhile waits instead of compiling too
            if mark.exists():
                return
            print("once for this version, up to two minutes:", file=sys.stderr, flush=True)
            root = Path(__file__).resolve().parent.parent
            compiled = subprocess.run([sys.executable, "-m", "experiments.warm"], cwd=root, stdout=subprocess.DEVNULL)
    except OSError as error:
        raise UserError(
            f"{mark.parent}: cannot be written ({error.strerror}): set NUMBA_CACHE_DIR to a folder"
        ) from None
    if compiled.returncode:
        raise UserError("compiling ahead failed: `python -m experiments.warm` shows why")


def done() -> None:
    """Note that everything is compiled."""
    mark = _mark()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()


def _mark() -> Path:
    return Path(os.environ["NUMBA_CACHE_DIR"]) / f"ahead-{code_sha256()[:16]}"
