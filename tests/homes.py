"""Homes for tests: the drafted floor plans, and small rooms drawn on the spot."""

import math
import tomllib
from pathlib import Path

from devices.home.types import Context, FloorPlan

_DRAFT = Path(__file__).parent.parent / "scenarios" / "floor_plans.draft.toml"
SOUND_DBA = ((0, 42.0), (20, 52.0), (40, 57.0), (60, 61.5), (80, 66.0), (100, 70.0))


def drafted() -> dict[str, Context]:
    """The contexts of the draft by name, on their floor plans."""
    raw = tomllib.loads(_DRAFT.read_text())
    plans = {
        name: FloorPlan(
            name=name,
            cell_m=plan["cell_m"],
            rows=tuple(plan["drawing"].strip("\n").split("\n")),
            rooms=plan["rooms"],
            start_m=tuple(plan["start_m"]),
            start_rad=math.radians(plan["start_deg"]),
        )
        for name, plan in raw["plans"].items()
    }
    return {
        entry["name"]: Context(
            **{
                **entry,
                "plan": plans[entry["plan"]],
                "occupied": tuple(entry["occupied"]),
                "sound_dba": tuple((int(fan), float(level)) for fan, level in entry["sound_dba"]),
            }
        )
        for entry in raw["contexts"]
    }
