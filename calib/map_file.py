"""The table [outcome_map] of a scenario: where the outcome map comes from that the machine believes in."""

from collections.abc import Sequence
from dataclasses import dataclass

from calib.fields import Fields

SOURCES = ("plant", "planted", "fitted")
_LEAST_REPLICATES = 8  # of a fitted map, whose uncertainty has to lie within them
_MOST = 1e6


@dataclass(frozen=True)
class Cell:
    """What was measured of one attribute of one mode in one context, in the attribute's unit."""

    mode: str
    context: str
    attribute: str
    source: str  # "measured" by the robot, or "entered" from a scale or a sound meter
    runs: int
    mean: float
    run_sd: float  # from run to run
    error_sd: float  # of the instruments, which no number of runs makes smaller


@dataclass(frozen=True)
class Fitted:
    """A map that was measured."""

    device: str
    rung: str
    records_sha256: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class MapFile:
    """What the table says. `planted` is added to the simulated map: an error of the machine's, put there by a study."""

    source: str
    replicates: int
    planted: tuple[tuple[str, float], ...]
    fitted: Fitted | None


def read_map(table: Fields, attributes: Sequence[str], modes: Sequence[str], contexts: Sequence[str]) -> MapFile:
    """The table. UserError for what does not fit together."""
    source = table.text("source", SOURCES)
    replicates = table.integer("replicates", 2 if source != "fitted" else _LEAST_REPLICATES, 16)
    planted: tuple[tuple[str, float], ...] = ()
    if source == "planted" or "planted" in table.rest():
        errors = table.table("planted")
        planted = tuple((name, errors.number(name, -_MOST, _MOST)) for name in attributes if name in errors.rest())
        errors.end()
        if source == "plant" or not planted:
            raise table.wrong("planted", 'goes with source = "planted" or "fitted" and names one attribute at least')
    fitted = None
    if source == "fitted":
        device, rung = table.text("device"), table.text("rung", ("simulator", "emulator", "hardware"))
        records = table.text("records_sha256")
        cells = tuple(_cell(each, attributes, modes, contexts) for each in table.tables("cells"))
        if len({(c.mode, c.context, c.attribute) for c in cells}) < len(cells):
            raise table.wrong("cells", "names an attribute of a mode in a context twice; keep one")
        fitted = Fitted(device, rung, records, cells)
    table.end()
    return MapFile(source, replicates, planted, fitted)


def _cell(table: Fields, attributes: Sequence[str], modes: Sequence[str], contexts: Sequence[str]) -> Cell:
    cell = Cell(
        mode=table.text("mode", tuple(modes)),
        context=table.text("context", tuple(contexts)),
        attribute=table.text("attribute", tuple(attributes)),
        source=table.text("source", ("measured", "entered")),
        runs=table.integer("runs", 1, 10_000),
        mean=table.number("mean", -_MOST, _MOST),
        run_sd=table.number("run_sd", 0, _MOST),
        error_sd=table.number("error_sd", 0, _MOST),
    )
    table.end()
    return cell


def map_toml(map_file: MapFile) -> str:
    """The table as TOML, the inverse of `read_map`."""
    lines = ["[outcome_map]", f'source = "{map_file.source}"', f"replicates = {map_file.replicates}"]
    if map_file.fitted is not None:
        about = map_file.fitted
        lines += [f'device = "{about.device}"', f'rung = "{about.rung}"', f'records_sha256 = "{about.records_sha256}"']
    if map_file.planted:
        lines += ["", "[outcome_map.planted]"] + [f"{name} = {value!r}" for name, value in map_file.planted]
    for c in map_file.fitted.cells if map_file.fitted else ():
        lines += ["", "[[outcome_map.cells]]"]
        lines += [f'{name} = "{getattr(c, name)}"' for name in ("mode", "context", "attribute", "source")]
        lines += [f"{name} = {getattr(c, name)!r}" for name in ("runs", "mean", "run_sd", "error_sd")]
    return "\n".join(lines) + "\n"
