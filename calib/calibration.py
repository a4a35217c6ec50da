"""From the records of calibration runs to what a robot's modes do, and how far the scenario's map was off.

A record is a JSON object. `head` says of which robot and scenario; `run` what the robot reported of one run of a mode
in a context; `entered` what somebody read off a scale and a sound meter of that run. How to come by these is in
docs/calibrate.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from calib.errors import UserError
from calib.fitted import place
from calib.map_file import Cell
from calib.scenario import Floor, Scenario
from devices.home.plan import survey
from devices.home.sound import emission, loudness, wheel_noise
from devices.home.types import OUTCOMES, Context, Settings

Floats = NDArray[np.float64]

LEAST_READINGS = 3  # of the sound meter in a run
LOUDEST_DBA, FARTHEST_M, MOST_G = 150.0, 100.0, 1e5  # a reading beyond it is a slip of the pen
LEAST_ABOVE_DB = 3.0  # the robot over the background: nearer, half of what is read is background
_DOSE = 0.05  # share by which dust may be more or less than the context has
_LEAST_SD = 0.005  # of an attribute's range, from run to run: no robot is the same to the last digit
_PRIOR_FREEDOM = 2  # that the map's spread counts for beside a cell's own runs
_LEAST_FACTOR = 0.1  # of the map's spread from run to run, where all runs came out alike
_BOUND_SDS = 1.96  # a driver's stated error holds in 95% of runs
RAN = ("finished", "run_limit", "battery")  # ends of runs that count


class Entered(NamedTuple):
    """What was read off instruments for one run; None for what was not."""

    residual_g_m2: tuple[float, float] | None  # and its sd
    level_dba: tuple[float, float] | None  # at 1 m, and its sd


@dataclass(frozen=True)
class Difference:
    """What was measured less what the scenario's map says, and a 95% interval: of one cell, or of a whole attribute."""

    mode: str | None
    context: str | None
    attribute: str
    unit: str
    source: str
    runs: int
    map: float
    measured: float
    difference: float
    low: float
    high: float

    @property
    def is_off(self) -> bool:
        """Whether the interval leaves 0 out."""
        return not self.low <= 0 <= self.high


def residual(dosed_g: float, before_g: float, after_g: float, area_m2: float, scale_sd_g: float) -> tuple[float, float]:
    """Dirt left, g/m2, and its sd: what was spread less what the bin gained. ValueError where that cannot be."""
    if not (all(0 <= read <= MOST_G for read in (dosed_g, before_g, after_g)) and 0 < scale_sd_g <= MOST_G):
        raise ValueError(f"weights are 0 to {MOST_G:g} g, and a scale has an error above 0 g")
    gained_g = after_g - before_g
    if not -3 * scale_sd_g <= gained_g <= dosed_g + 6 * scale_sd_g:
        raise ValueError(f"the bin gained {gained_g:.1f} g of {dosed_g:.1f} g that were spread; weigh again")
    return max(dosed_g - gained_g, 0.0) / area_m2, math.sqrt(3) * scale_sd_g / area_m2


def level_at_1m(
    readings_dba: Sequence[float], background_dba: float, distance_m: float, distance_sd_m: float, meter_sd_db: float
) -> tuple[float, float]:
    """The robot's level at 1 m and its sd, dB(A): energy mean of the readings less the background, free field.

    ValueError for fewer than 3 readings, for what no meter says, or a background that is too loud.
    """
    if len(readings_dba) < LEAST_READINGS:
        raise ValueError(f"{len(readings_dba)} readings of the sound meter; take {LEAST_READINGS} at least")
    for read in (*readings_dba, background_dba):
        if not 0 <= read <= LOUDEST_DBA:
            raise ValueError(f"{read!s:.12} dB(A): a sound meter says 0 to {LOUDEST_DBA:g}; read it again")
    if not (0 < distance_m <= FARTHEST_M and 0 <= distance_sd_m <= distance_m and 0 < meter_sd_db <= LOUDEST_DBA):
        raise ValueError(
            f"the distance is above 0 and up to {FARTHEST_M:g} m, its error at most as large, the meter's above 0 dB"
        )
    energy = float(np.mean(10 ** (np.asarray(readings_dba) / 10)))
    over_db = 10 * math.log10(energy) - background_dba
    if over_db < LEAST_ABOVE_DB:
        raise ValueError(
            f"the robot is {over_db:.1f} dB over the background and {LEAST_ABOVE_DB:g} are needed; "
            "go nearer, or wait for quiet"
        )
    level = 10 * math.log10(energy - 10 ** (background_dba / 10)) + 20 * math.log10(distance_m)
    scatter = float(np.std(readings_dba, ddof=1)) / math.sqrt(len(readings_dba))
    distance_db = 20 / math.log(10) * distance_sd_m / distance_m
    return level, math.sqrt(scatter**2 + distance_db**2 + meter_sd_db**2)


def modelled_level(context: Context, settings: Settings) -> float:
    """What the scenario's sound table says of these settings at 1 m on hard floor, driving straight on, dB(A)."""
    energy = emission(loudness(context), settings.fan, settings.brush, False) + wheel_noise(float(settings.speed))
    return float(10 * math.log10(energy))


def cleanable_m2(context: Context) -> float:
    """Floor that dust can be spread on."""
    return float(survey(context.plan).cleanable_m2)


def entered_of(body: dict[str, Any], context: Context) -> Entered:
    """What an `entered` record comes to. ValueError, in a line, for readings that cannot be."""
    dust, sound = body.get("dust"), body.get("sound")
    due_g = context.dirt_g_m2 * cleanable_m2(context)
    if dust and not (1 - _DOSE) * due_g <= dust["dosed_g"] <= (1 + _DOSE) * due_g:
        raise ValueError(
            f"{dust['dosed_g']!s:.12} g were spread and {due_g:.1f} g belong to {context.name}; run it again"
        )
    return Entered(dust and residual(**dust, area_m2=cleanable_m2(context)), sound and level_at_1m(**sound))


class _Reading(NamedTuple):
    value: float
    error_sd: float
    source: str


def cells_of(scenario: Scenario, z: Floats, plant: Floats, records: Sequence[dict[str, Any]]) -> tuple[Cell, ...]:
    """What the runs say of every mode, context and attribute of the scenario that was measured.

    z (S, X, K, 6) is the scenario's map, `plant` that of the simulated home, which says what is heard in the rooms of a
    robot that is so loud at 1 m.

    The spread from run to run is the map's own, of each cell, times one factor an attribute, found from all cells
    together: three runs alone say little of a spread.
    """
    readings = _readings(scenario, plant, records)
    cells = []
    for attribute in scenario.attributes:
        own = {key: found for key, found in readings.items() if key[2] == attribute.name}
        spread = {key: _map_sd(scenario, z, key, attribute.hi - attribute.lo) for key in own}
        means = {key: float(np.mean([r.value for r in found])) for key, found in own.items()}
        squares = {key: sum((r.value - means[key]) ** 2 for r in found) for key, found in own.items()}
        freedom = sum(len(found) - 1 for found in own.values())
        whole = sum(squares[key] / spread[key] ** 2 for key in own)
        factor = max(math.sqrt(whole / freedom), _LEAST_FACTOR) if freedom else 1.0
        for key, found in own.items():
            prior = _PRIOR_FREEDOM * (factor * spread[key]) ** 2
            variance = (prior + squares[key]) / (_PRIOR_FREEDOM + len(found) - 1)
            cells.append(
                Cell(
                    mode=key[0],
                    context=key[1],
                    attribute=key[2],
                    source=found[0].source,
                    runs=len(found),
                    mean=means[key],
                    run_sd=math.sqrt(variance),
                    error_sd=float(np.mean([r.error_sd for r in found])),
                )
            )
    return tuple(cells)


def _readings(
    scenario: Scenario, plant: Floats, records: Sequence[dict[str, Any]]
) -> dict[tuple[str, str, str], list[_Reading]]:
    """By mode, context and attribute, one a run. What somebody weighed or metered goes before what the robot says."""
    contexts = {c.name: c for c in scenario.contexts}
    entered = {r["number"]: r for r in records if r["type"] == "entered"}
    found: dict[tuple[str, str, str], list[_Reading]] = {}
    for run in records:
        if run["type"] != "run" or run["end"] not in RAN:
            continue
        if run["context"] not in contexts or run["mode"] not in {m.name for m in scenario.modes}:
            raise UserError(f"record of run {run['number']}: {run['mode']} in {run['context']} is not of this scenario")
        context = contexts[run["context"]]
        try:
            read = entered_of(entered.get(run["number"], {}), context)
        except (ValueError, TypeError, KeyError) as problem:
            raise UserError(f"record of run {run['number']}, as entered: {problem}; mend that line") from None
        for attribute in scenario.attributes:
            j, key = OUTCOMES.index(attribute.name), (run["mode"], run["context"], attribute.name)
            if attribute.name == "residual_dirt" and read.residual_g_m2:
                reading = _Reading(*read.residual_g_m2, "entered")
            elif attribute.name == "sound" and read.level_dba:
                level, sd = read.level_dba
                over = level - modelled_level(context, scenario.settings[place(scenario, *key[:2])[0]])
                reading = _Reading(_map_mean(scenario, plant, key) + over, sd, "entered")
            elif run["source"][j] != "modelled":
                reading = _Reading(run["z"][j], run["error"][j] / _BOUND_SDS, "measured")
            else:
                continue
            found.setdefault(key, []).append(reading)
    for key, several in found.items():
        if any(r.source == "entered" for r in several):
            found[key] = [r for r in several if r.source == "entered"]
    return found


def _at(scenario: Scenario, z: Floats, key: tuple[str, str, str]) -> Floats:
    """(K,) the map's replicates of one cell."""
    s, x = place(scenario, key[0], key[1])
    return z[s, x, :, OUTCOMES.index(key[2])]


def _map_mean(scenario: Scenario, z: Floats, key: tuple[str, str, str]) -> float:
    return float(_at(scenario, z, key).mean())


def _map_sd(scenario: Scenario, z: Floats, key: tuple[str, str, str], width: float) -> float:
    return math.hypot(float(_at(scenario, z, key).std(ddof=1)), _LEAST_SD * width)


def differences(scenario: Scenario, z: Floats, cells: Sequence[Cell]) -> list[Difference]:
    """Every cell against the map z (S, X, K, 6), then each attribute over all its cells. At 95%, one in twenty of the
    cells' intervals leaves the truth out by chance."""
    found = []
    for cell in cells:
        value = _map_mean(scenario, z, (cell.mode, cell.context, cell.attribute))
        found.append(_difference(scenario, cell.mode, cell.context, [cell], value))
    for attribute in scenario.attributes:
        own = [c for c in cells if c.attribute == attribute.name]
        if own:
            value = float(np.mean([_map_mean(scenario, z, (c.mode, c.context, c.attribute)) for c in own]))
            found.append(_difference(scenario, None, None, own, value))
    return found


def _difference(
    scenario: Scenario, mode: str | None, context: str | None, cells: Sequence[Cell], value: float
) -> Difference:
    """The instruments err the same way in every cell, so their part does not average out over cells. The degrees of
    freedom of a mean of cells of different spread are Satterthwaite's (1946)."""
    variance = np.array([c.run_sd**2 / c.runs for c in cells])
    of_each = np.array([_PRIOR_FREEDOM + c.runs - 1 for c in cells])
    freedom = variance.sum() ** 2 / np.sum(variance**2 / of_each)
    run_variance = float(variance.sum()) / len(cells) ** 2
    measured = float(np.mean([c.mean for c in cells]))
    error_sd = float(np.mean([c.error_sd for c in cells]))
    half = math.hypot(float(stdtrit(freedom, 0.975)) * math.sqrt(run_variance), _BOUND_SDS * error_sd)
    off = measured - value
    attribute = next(a for a in scenario.attributes if a.name == cells[0].attribute)
    sources = {c.source for c in cells}
    return Difference(
        mode=mode,
        context=context,
        attribute=attribute.name,
        unit=attribute.unit,
        source=cells[0].source if len(sources) == 1 else "measured, entered",
        runs=sum(c.runs for c in cells),
        map=value,
        measured=measured,
        difference=off,
        low=off - half,
        high=off + half,
    )


def floors_missed(scenario: Scenario, z: Floats) -> list[dict[str, Any]]:
    """Which modes do not reach which floors on the mean of a map (S, X, K, 6), and whether that mean was measured."""
    cells = scenario.fitted.cells if scenario.fitted else ()
    known = {(c.mode, c.context, c.attribute) for c in cells}
    found = []
    for floor in scenario.floors:
        for mode in scenario.modes:
            for context in floor.limit.contexts:
                key = (mode.name, context, floor.limit.attribute)
                value = _map_mean(scenario, z, key)
                if not is_reached(floor, value):
                    said = {"mode": mode.name, "context": context, "attribute": floor.limit.attribute, "value": value}
                    found.append(said | {"measured": key in known, "otherwise": floor.otherwise})
    return found


def is_reached(floor: Floor, value: float) -> bool:
    """Whether a value keeps a floor."""
    return floor.limit.at_least <= value <= floor.limit.at_most


def map_notes(start: dict[str, Any]) -> list[str]:
    """What a start document says of a measured map and of modes that miss a floor, in words; else []."""
    notes = []
    if about := start.get("map_measured"):
        modelled = [name for name, how in about["attributes"].items() if how == "modelled"]
        left = f"; {', '.join(modelled)} modelled" if modelled else ""
        notes.append(f"outcome map measured on {about['device']} ({about['rung']}){left}")
    for m in start.get("floors_missed", ()):
        figure = f"{m['attribute']} {m['value']:.1f} ({'measured' if m['measured'] else 'modelled'})"
        notes.append(f"! {m['mode']}, {m['context']}: {figure} misses its floor: a fault of the robot, not of a wish")
    return notes


def refuse_missed_floors(scenario: Scenario, z: Floats) -> None:
    """UserError where a mode misses a floor whose scenario refuses sessions then."""
    for missed in floors_missed(scenario, z):
        if missed["otherwise"] == "refuse":
            raise UserError(
                f"{scenario.file}: floors: {missed['mode']} comes to {missed['value']:.1f} of {missed['attribute']} in "
                f"context {missed['context']}; that is a fault of the robot, not of what somebody wants: mend it and "
                'calibrate again, or write otherwise = "flag"'
            )
