"""The plain types of a home and of a run in it. They know nothing of people, modes or scenarios."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

PATTERNS = ("lanes", "spiral", "wall")  # how a host steers
# The robot's own cleanings, where it has them; elsewhere the host steers a pattern in their place.
PROGRAMMES = {"house": "lanes", "spot": "spiral"}

# The fixed order of the outcome vector z. A scenario may use some of them, never others.
OUTCOMES = ("residual_dirt", "coverage", "duration", "sound", "energy", "bumps")
UNITS = {
    "residual_dirt": "g/m2",
    "coverage": "%",
    "duration": "min",
    "sound": "dB(A)",
    "energy": "Wh",
    "bumps": "count",
}


@dataclass(frozen=True)
class Settings:
    """What the machine is set to for one run."""

    fan: int  # suction motor, percent of full duty
    brush: int  # main brush, percent of full duty
    speed: int  # mm/s
    passes: int
    pattern: Literal["lanes", "spiral", "wall", "house", "spot"]  # of PATTERNS or PROGRAMMES
    edge: bool  # a lap along the walls at the end of each pass


@dataclass(frozen=True)
class FloorPlan:
    """A home drawn on a grid of square cells, one character a cell, row 0 at the top (largest y).

    A lower-case letter is hard floor of the room of that letter, upper case is carpet; `#` wall, `%` furniture,
    `!` a drop (stairs), `@` the dock (an obstacle), a space is outside. The robot starts at `start_m`, `start_rad`.
    """

    name: str
    cell_m: float
    rows: tuple[str, ...]
    rooms: dict[str, str]  # letter -> name
    start_m: tuple[float, float]  # x to the right, y up, from the lower left corner of the drawing
    start_rad: float


@dataclass(frozen=True)
class Context:
    """The circumstances of a run."""

    name: str
    plan: FloorPlan
    dirt_g_m2: float  # mean dirt before the run
    carpet_dirt_factor: float  # carpet holds this many times the dirt of hard floor
    hour: int
    occupied: tuple[str, ...]  # names of rooms with people in them
    battery: float  # state of charge at the start, 0..1
    sound_dba: tuple[tuple[int, float], ...]  # (fan percent, sound level at 1 m on hard floor), ascending in fan
    run_limit_s: float  # the run ends here at the latest
    battery_floor: float  # and here


@dataclass(frozen=True)
class Outcome:
    """What one run did: z in the order of OUTCOMES, with where each figure comes from and its stated error.

    `error` is a bound that the figure keeps against the truth of this run in at least 95% of runs, in the attribute's
    unit. `reproducibility` (ISO 5725-1: the limit that two results on the same thing, by two instruments, keep in 95 of
    100 cases) holds it against the simulator's run of the same settings in the same simulated home: measuring and
    driving together. It is the error where a robot drives step for step as the simulator does, more where it cannot,
    None where there is nothing to hold it against.
    """

    z: NDArray[np.float64]  # (6,)
    source: tuple[Literal["measured", "modelled", "entered", "simulated"], ...]
    error: NDArray[np.float64]  # (6,)
    end: Literal["finished", "run_limit", "battery", "stopped", "fault"]
    reproducibility: NDArray[np.float64] | None = None  # (6,)


def context_to_json(context: Context) -> dict[str, Any]:
    """A Context as plain JSON values, for the wire to an emulator's plant."""
    from dataclasses import asdict

    return asdict(context)


def context_from_json(raw: dict[str, Any]) -> Context:
    """The inverse of `context_to_json`. KeyError or TypeError where a field is missing."""
    plan = dict(raw["plan"])
    plan["rows"] = tuple(plan["rows"])
    plan["start_m"] = tuple(plan["start_m"])
    sound = tuple((int(fan), float(level)) for fan, level in raw["sound_dba"])
    return Context(**{**raw, "plan": FloorPlan(**plan), "occupied": tuple(raw["occupied"]), "sound_dba": sound})
