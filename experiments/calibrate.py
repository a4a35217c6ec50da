"""Calibration runs: every mode on a robot, as often as asked for, with what somebody weighs and meters beside it.

Every record is on the disk before the next thing happens; a calibration that was broken off goes on where it stood.
Somebody is a person at a terminal, or, in a simulated home in virtual time, one who is simulated: with a kitchen scale
and a sound meter of class 2, errors and all, and without a look at anything else.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import re
import threading
import tomllib
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtri

from calib.calibration import LEAST_READINGS, RAN, cleanable_m2, entered_of
from calib.errors import UserError
from calib.map_file import Cell, Fitted, MapFile, map_toml
from calib.scenario import Mode, Scenario
from calib.streams import stream_key, uniforms
from devices.device import Device, DeviceError, Progress, how_another, known_by
from devices.home.types import OUTCOMES, Context

SCHEMA = 1
SCALE_SD_G = 0.1  # a kitchen scale that shows 0.1 g
METER_SD_DB = 0.7  # a sound meter of class 2, IEC 61672: within 1.4 dB
DISTANCE_SD_M = 0.05
_BACKGROUND_DBA = 35.0
_READINGS = 5
_MOST = 1e6  # of any figure of a run
_STRAIGHT = 0.9  # of its speed, as it gets on: it does not turn


class Stopped(Exception):
    """Somebody has stopped the robot: what was recorded stands."""


class Somebody(Protocol):
    """Who spreads the dust, weighs the bin and reads the sound meter."""

    def before(self, number: int, context: Context, mode: Mode) -> None:
        """Ready for a run; the robot starts when this returns."""
        ...

    def beside(self, progress: Progress) -> None:
        """The run is under way, about once a second."""
        ...

    def after(self, number: int, context: Context, mode: Mode) -> dict[str, Any]:
        """What was read: `dust` and `sound` as calib/calibration.py takes them, what was not left out."""
        ...


class Records:
    """A file of JSON lines that only one process writes. What a kill has torn off its end is left out."""

    def __init__(self, path: Path, head: dict[str, Any]) -> None:
        """Open or begin. UserError for a file of another robot or scenario, or one that is no such file."""
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as problem:
            raise UserError(f"--records: {path} cannot be written ({problem.strerror}); give another file") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._read(head)
        except BlockingIOError:
            os.close(self._file)
            raise UserError(f"--records: {path} is being written by another calibration; wait for its end") from None
        except BaseException:
            os.close(self._file)
            raise

    def _read(self, head: dict[str, Any]) -> None:
        raw = Path(self.path).read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        self.records = parse_records(whole, str(self.path))
        os.ftruncate(self._file, len(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        if not self.records:
            self.append({"type": "head", "schema": SCHEMA, **head})
        for key in ("device", "rung", "scenario_hash"):
            if self.records[0].get(key) != head[key]:
                was = self.records[0].get(key)
                raise UserError(
                    f"--records: {self.path} is of {key} {was!r:.40}, not {head[key]!r:.40}; give a new file"
                )

    def append(self, record: dict[str, Any]) -> None:
        """One record, on the disk when this returns."""
        data = (json.dumps(record) + "\n").encode()
        while data:
            data = data[os.write(self._file, data) :]
        os.fsync(self._file)
        self.records.append(record)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()


_KEYS = {
    "head": ("device", "rung", "scenario_hash"),
    "opened": ("identity",),
    "run": ("number", "mode", "context", "run", "z", "source", "error", "end"),
    "entered": ("number",),
}


def parse_records(raw: bytes, name: str) -> list[dict[str, Any]]:
    """The records of a file's whole lines. UserError, with the line, for what is no record of a calibration."""
    found: list[dict[str, Any]] = []
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            record = json.loads(line)
            keys = _KEYS[record["type"]]
            if any(key not in record for key in keys) or (record["type"] == "head") != (number == 1):
                raise ValueError
            if not _is_whole(record):
                raise ValueError
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{name}: line {number} is no record of a calibration; take another file") from None
        found.append(record)
    return found


def _is_whole(record: dict[str, Any]) -> bool:
    """Whether what is computed with, and looked up by, is of its kind."""
    if record["type"] == "head":
        return True
    if record["type"] == "opened":
        return isinstance(record["identity"], dict)
    if record["type"] == "entered":
        return type(record["number"]) is int
    numbers = [*record["z"], *record["error"]]
    good = all(isinstance(v, int | float) and abs(v) < _MOST for v in numbers)
    good &= all(isinstance(v, str) for v in (record["mode"], record["context"], record["end"], *record["source"]))
    good &= type(record["number"]) is int and type(record["run"]) is int
    return good and len(record["z"]) == len(record["error"]) == len(record["source"]) == len(OUTCOMES)


def missing(
    modes: list[Mode], contexts: list[Context], runs: int, records: list[dict[str, Any]]
) -> Iterator[tuple[int, Context, Mode]]:
    """(run, context, mode) that have yet to run. The modes take turns, each round from the next one on, so that what
    drifts (a battery, a filter) hits all alike. A run that failed is run again."""
    done = {(r["run"], r["context"], r["mode"]) for r in records if r["type"] == "run" and r["end"] in RAN}
    for run in range(runs):
        for context in contexts:
            for i in range(len(modes)):
                mode = modes[(i + run) % len(modes)]
                if (run, context.name, mode.name) not in done:
                    yield run, context, mode


def measure(
    device: Device,
    todo: list[tuple[int, Context, Mode]],
    records: Records,
    somebody: Somebody,
    seed: int,
    stopped: threading.Event,
    tell: Callable[[str], None],
) -> None:
    """The runs that are to do. Stopped when somebody stops the robot, DeviceError when it fails; what was recorded
    stands, and so does the record of a run that was broken off."""
    if not todo:
        return
    identity = device.open()
    known = next((r["identity"] for r in records.records if r["type"] == "opened"), identity)
    if other := how_another(known_by(known), known_by(identity)):
        raise UserError(f"--records: {records.path} is of another robot: {other}; take another file, or that robot")
    records.append({"type": "opened", "identity": identity})
    for i, (run, context, mode) in enumerate(todo):
        number = 1 + sum(r["type"] == "run" for r in records.records)
        tell(f"run {i + 1} of {len(todo)}: {mode.name}, {context.name}")
        somebody.before(number, context, mode)
        if stopped.is_set():
            raise Stopped
        replicate = _replicate(seed, context, mode, run)
        what = _one(device, context, mode, replicate, somebody)
        records.append({"type": "run", "number": number, "run": run, "replicate": replicate, **what})
        if stopped.is_set():
            raise Stopped
        if records.records[-1]["end"] not in RAN:
            raise DeviceError(f"run {number} of {mode.name} ended in a fault: see to the robot, then calibrate again")
        if read := somebody.after(number, context, mode):
            records.append({"type": "entered", "number": number, **read})


def _replicate(seed: int, context: Context, mode: Mode, run: int) -> int:
    """Which of a simulated home's 16 replicates: the runs of a cell are different ones, in an order of its own."""
    cell = np.array([zlib.crc32(f"{mode.name}\n{context.name}".encode())])
    order = np.argsort(uniforms(stream_key(seed, "calibration replicates"), cell, 0, 16)[0])
    return int(order[run % 16])


def _one(device: Device, context: Context, mode: Mode, replicate: int, somebody: Somebody) -> dict[str, Any]:
    device.prepare(context, replicate)
    readback = device.start(mode.settings)
    while not (progress := device.advance()).done:
        somebody.beside(progress)
    outcome = device.finish()
    return {
        "mode": mode.name,
        "context": context.name,
        "commanded": vars(mode.settings),
        "realised": vars(readback.settings),
        "how": dict(readback.how),
        "z": [float(v) for v in outcome.z],
        "source": list(outcome.source),
        "error": [float(v) for v in outcome.error],
        "end": outcome.end,
    }


def fitted_text(scenario: Scenario, device: str, rung: str, records_sha256: str, cells: tuple[Cell, ...]) -> str:
    """The scenario's TOML with the measured map in place of its own, and nothing else changed.

    UserError where [outcome_map] is not written as a table that stands by itself.
    """
    about = MapFile(
        "fitted", max(scenario.replicates, 8), scenario.planted, Fitted(device, rung, records_sha256, cells)
    )
    lines = scenario.text.splitlines(keepends=True)
    heads = [i for i, line in enumerate(lines) if re.match(r"\s*\[", line)]
    own = [i for i in heads if re.match(r"\s*\[\[?\s*outcome_map\b", lines[i])]
    text = ""
    if own:
        end = next((i for i in heads if i > own[-1]), len(lines))
        while end > own[-1] + 1 and re.match(r"\s*(#.*)?$", lines[end - 1]):
            end -= 1  # what is said above the next table belongs to it
        text = "".join(lines[: own[0]]) + map_toml(about) + "".join(lines[end:])
    if not text or _but_the_map(text) != _but_the_map(scenario.text):
        raise UserError(f"{scenario.file}: outcome_map: write it as one [outcome_map] table, not inline or in parts")
    return text


def _but_the_map(text: str) -> dict[str, Any]:
    try:
        return {k: v for k, v in tomllib.loads(text).items() if k != "outcome_map"}
    except tomllib.TOMLDecodeError:
        return {}


class Nobody:
    """No scale and no meter: what the robot cannot measure stays modelled."""

    def before(self, number: int, context: Context, mode: Mode) -> None:
        """Nothing to prepare."""

    def beside(self, progress: Progress) -> None:
        """Nobody looks."""

    def after(self, number: int, context: Context, mode: Mode) -> dict[str, Any]:
        """Nothing was read."""
        return {}


class Simulated:
    """Somebody in a simulated home: reads its instruments, never its truth."""

    def __init__(self, device: Any, seed: int) -> None:
        self._look = device.emulator_state
        self._key = stream_key(seed, "calibration instruments")
        self._off_db, self._off_m = METER_SD_DB * self._normal(0, 0), DISTANCE_SD_M * self._normal(0, 1)
        self._levels: list[float] = []
        self._last: dict[str, Any] | None = None
        self._speed_mm_s = 0

    def _normal(self, number: int, slot: int) -> float:
        return float(ndtri(uniforms(self._key, np.array([number]), slot, 1)[0, 0]))

    def before(self, number: int, context: Context, mode: Mode) -> None:
        """Dust is spread as the context says; the emulated home does it."""
        self._speed_mm_s, self._levels, self._last = mode.settings.speed, [], None

    def beside(self, progress: Progress) -> None:
        """The meter's mean level since the last look, where the robot drove straight on over hard floor."""
        now = self._look()["instruments"] | {"at": progress.pose[:2], "elapsed_s": progress.elapsed_s}
        before, self._last = self._last, now
        if before and now["on_hard_floor"] and before["on_hard_floor"] and now["elapsed_s"] > before["elapsed_s"]:
            on_mm_s = 1000 * math.dist(now["at"], before["at"]) / (now["elapsed_s"] - before["elapsed_s"])
            if on_mm_s < _STRAIGHT * self._speed_mm_s:
                return
            mean = (now["sound_energy"] - before["sound_energy"]) / (now["sound_ticks"] - before["sound_ticks"])
            at = 1.0 + self._off_m
            heard = 10 * math.log10(mean / at**2 + 10 ** (_BACKGROUND_DBA / 10))
            self._levels.append(round(heard + self._off_db, 1))

    def after(self, number: int, context: Context, mode: Mode) -> dict[str, Any]:
        """Bin and readings, spread over the run."""
        bin_g = self._look()["instruments"]["bin_g"]
        dosed = context.dirt_g_m2 * cleanable_m2(context)
        weighed = [round(g + SCALE_SD_G * self._normal(number, slot), 1) for slot, g in ((2, dosed), (3, bin_g))]
        read: dict[str, Any] = {"dust": _dust(max(weighed[0], 0.0), 0.0, max(weighed[1], 0.0))}
        if len(self._levels) >= LEAST_READINGS:
            at = sorted({round(i * (len(self._levels) - 1) / (_READINGS - 1)) for i in range(_READINGS)})
            sound = _sound([self._levels[i] for i in at], _BACKGROUND_DBA, 1.0)
            with contextlib.suppress(ValueError):  # too quiet for the background
                entered_of({"sound": sound}, context)
                read["sound"] = sound
        return read


def _dust(dosed_g: float, before_g: float, after_g: float) -> dict[str, float]:
    return {"dosed_g": dosed_g, "before_g": before_g, "after_g": after_g, "scale_sd_g": SCALE_SD_G}


def _sound(readings_dba: list[float], background_dba: float, distance_m: float) -> dict[str, Any]:
    return {
        "readings_dba": readings_dba,
        "background_dba": background_dba,
        "distance_m": distance_m,
        "distance_sd_m": DISTANCE_SD_M,
        "meter_sd_db": METER_SD_DB,
    }


class AtTerminal:
    """A person who is asked. An empty answer: not measured."""

    def __init__(self, ask: Callable[[str], str], tell: Callable[[str], None]) -> None:
        self._ask = ask
        self._tell = tell
        self._empty_g: float | None = None

    def before(self, number: int, context: Context, mode: Mode) -> None:
        """Dust, bin, place of the robot, place of the meter."""
        area = cleanable_m2(context)
        self._tell(
            f"  Clean the floor, then spread {context.dirt_g_m2 * area:.1f} g of test dust over its {area:.2f} m2"
        )
        self._tell(f"  (carpet {context.carpet_dirt_factor:g} times as thick). Empty the bin and weigh it.")
        self._tell(
            "  Set the robot at its start, the sound meter at a distance that you know. Nobody within reach of it?"
        )
        self._empty_g = self._number("  bin, empty, g")
        self._ask("  Enter starts the robot ")

    def beside(self, progress: Progress) -> None:
        """They read the meter themselves."""

    def after(self, number: int, context: Context, mode: Mode) -> dict[str, Any]:
        """Bin and readings, asked again where they cannot be."""
        read: dict[str, Any] = {}
        for kind, once in (("dust", self._dust), ("sound", self._sound)):
            while (found := once()) is not None:
                try:
                    entered_of({kind: found}, context)
                except ValueError as problem:
                    self._tell(f"  {problem}")
                    continue
                read[kind] = found
                break
        return read

    def _dust(self) -> dict[str, float] | None:
        if self._empty_g is None:
            return None
        after_g = self._number("  bin now, g")
        dosed_g = None if after_g is None else self._number("  dust that was spread, as weighed, g")
        return None if after_g is None or dosed_g is None else _dust(dosed_g, self._empty_g, after_g)

    def _sound(self) -> dict[str, Any] | None:
        readings = self._numbers("  sound meter while it drove on hard floor, dB(A), three or more with spaces")
        if not readings:
            return None
        background, distance = self._number("  the same with the robot off, dB(A)"), self._number("  from how far, m")
        return None if background is None or distance is None else _sound(readings, background, distance)

    def _number(self, question: str) -> float | None:
        while len(found := self._numbers(question)) > 1:
            self._tell("  one number")
        return found[0] if found else None

    def _numbers(self, question: str) -> list[float]:
        while True:
            text = self._ask(f"{question} (empty: not measured): ").replace(",", ".").split()
            try:
                found = [float(word) for word in text]
            except ValueError:
                self._tell(f"  {' '.join(text):.40} is no number; write 52.3")
                continue
            if all(math.isfinite(v) for v in found):
                return found
            self._tell("  a finite number")
