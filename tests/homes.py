"""Homes for tests: the drafted floor plans, small rooms drawn on the spot, and one run seen from outside."""

import math
import tomllib
from collections.abc import Iterator
from pathlib import Path

from hypothesis import strategies as st

from devices.home.planners import decide, motors, new_plan
from devices.home.plant import TICK_S, Home
from devices.home.simulate import why_ended
from devices.home.types import PATTERNS, Context, FloorPlan, Settings
from firmware_bridge.plant import Actuators, Sensors

_DRAFT = Path(__file__).parent.parent / "tests" / "floor_plans.toml"
SOUND_DBA = ((0, 42.0), (20, 52.0), (40, 57.0), (60, 61.5), (80, 66.0), (100, 70.0))

any_settings = st.builds(
    Settings,
    fan=st.integers(0, 100),
    brush=st.integers(0, 100),
    speed=st.integers(100, 450),
    passes=st.integers(1, 3),
    pattern=st.sampled_from(PATTERNS),
    edge=st.booleans(),
)


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


def drawn(
    *rows: str, start_m: tuple[float, float], heading_deg: float = 0.0, cell_m: float = 0.1, **changes: object
) -> Context:
    """A context on a plan drawn here, rooms `a` and `b`; `changes` are fields of Context."""
    plan = FloorPlan("drawn", cell_m, rows, {"a": "room a", "b": "room b"}, start_m, math.radians(heading_deg))
    fields: dict = {
        "name": "drawn",
        "plan": plan,
        "dirt_g_m2": 4.0,
        "carpet_dirt_factor": 2.0,
        "hour": 12,
        "occupied": ("room a",),
        "battery": 1.0,
        "sound_dba": SOUND_DBA,
        "run_limit_s": 120.0,
        "battery_floor": 0.1,
    }
    return Context(**{**fields, **changes})


def empty_room(size_m: float = 2.0, floor: str = "a", **changes: object) -> Context:
    """A square room without furniture, the robot in the middle facing east."""
    n = round(size_m / 0.1)
    rows = ("#" * (n + 2), *("#" + floor * n + "#" for _ in range(n)), "#" * (n + 2))
    return drawn(*rows, **{"start_m": (size_m / 2 + 0.1, size_m / 2 + 0.1), **changes})


def drive(home: Home, left: int, right: int, seconds: float) -> Sensors:
    """Wheels at constant speed, motors off."""
    return home.advance(round(seconds / 0.015) * 0.015, Actuators(left, right, 0, 0, 0))


def stepped(home: Home, settings: Settings) -> Iterator[tuple[Sensors, str | None]]:
    """A run as any driver does it: readings before the start, then after each tick; the last has an end."""
    plan = new_plan(settings, home.context)
    sensors = home.advance(0.0, motors(settings, 0, 0))
    ticks = 0
    while True:
        switches = sensors.bump_left, sensors.bump_right, sensors.cliff, sensors.wall
        left, right, done = decide(plan, *switches, sensors.left_counts, sensors.right_counts)
        end = why_ended(home.context, done, ticks, sensors.charge_mah)
        yield sensors, end
        if end is not None:
            return
        sensors = home.advance(TICK_S, motors(settings, left, right))
        ticks += 1
