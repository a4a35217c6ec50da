"""What a record says about the code and the machine that made it."""

import hashlib
import platform
from functools import cache
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("calib", "devices", "firmware_bridge", "experiments")
_SOURCES = (".py", ".h", ".cpp", ".c")  # the rover's firmware too: its emulator runs it


@cache
def code_sha256() -> str:
    """sha256 over the sources that can change a number, in a fixed order."""
    return sources_sha256(Path(__file__).resolve().parent.parent)


def sources_sha256(root: Path) -> str:
    """The same of the sources under a folder."""
    total = hashlib.sha256()
    for package in _PACKAGES:
        for path in sorted(p for p in (root / package).rglob("*") if p.suffix in _SOURCES):
            total.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return total.hexdigest()


@cache
def platform_fingerprint() -> str:
    """Equal fingerprints promise equal bytes; on others numbers agree to 1e-6."""
    libraries = ",".join(f"{name}-{version(name)}" for name in ("numpy", "scipy", "numba"))
    return f"{platform.system()}-{platform.machine()}-{platform.python_version()}-{_processor()}-{libraries}"


def _processor() -> str:
    """The instruction sets that a compiler would choose between."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = next(line for line in lines if line.startswith(("flags", "Features"))).split(":")[1].split()
    except (OSError, StopIteration, IndexError):
        return platform.processor()
    wide = sorted(f for f in flags if f.startswith(("avx", "fma", "sse4", "asimd", "sve")))
    return hashlib.sha256(" ".join(wide).encode()).hexdigest()[:8]
