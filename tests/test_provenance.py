"""The hash of the code: every source that can change a number is in it, and nothing else."""

import shutil
from pathlib import Path

from calib.provenance import code_sha256, sources_sha256

ROOT = Path(__file__).resolve().parent.parent


def test_an_edit_of_any_kind_of_source_is_another_hash(tmp_path: Path) -> None:
    """Python, and the rover's firmware, which its emulator runs; what is built or noted beside them is none."""
    for package in ("calib", "devices", "firmware_bridge", "experiments"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    before = sources_sha256(tmp_path)
    assert before == code_sha256(), "of this very tree"
    (tmp_path / "firmware_bridge" / "rover" / "notes.txt").write_text("flash it")
    assert sources_sha256(tmp_path) == before
    found = {before}
    for name in ("calib/choice.py", "firmware_bridge/rover/wheel.h", "firmware_bridge/rover/rover.cpp"):
        with (tmp_path / name).open("a") as file:
            file.write("\n")
        found.add(sources_sha256(tmp_path))
    assert len(found) == 4
