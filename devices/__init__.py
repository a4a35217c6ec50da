"""Robots and the simulated home.

numba caches a compiled function by its own file only, and would go on using an old inlined callee of another file.
So the cache has a folder for each state of the sources, named by their hash, set before numba is first imported.
"""

import hashlib
import os
import sys
from pathlib import Path


def _numba_cache() -> None:
    root = Path(__file__).resolve().parent.parent
    total = hashlib.sha256()
    for package in ("devices", "calib"):
        for path in sorted((root / package).rglob("*.py")):
            total.update(path.read_bytes())
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    folder = str(Path(base) / "calib" / f"numba-{total.hexdigest()[:16]}")
    os.environ.setdefault("NUMBA_CACHE_DIR", folder)
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]


_numba_cache()
