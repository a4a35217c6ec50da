"""Whether a robot does what the lab relies on: it takes settings, moves, stops at once, stops by itself, measures.

Two parts. What is a matter of time (taking settings, stopping, falling silent) is tried on the wall clock: an emulator
is then a process of its own that is paced, so that it has what a real robot has. One whole run follows, in virtual time
where there is one. The robot moves: beside a real one somebody has to stand.
"""

import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from devices.catalog import make_device
from devices.device import Device, DeviceError, LinkLost
from devices.home.types import OUTCOMES, Context, Outcome, Settings
from firmware_bridge.bridge_client import reap, spawn
from firmware_bridge.clock import ClockJumped

OPEN_S = 15.0  # a robot that sleeps is woken twice
STOP_S = 0.5  # from the stop to wheels that are seen to stand
SILENCE_S = 0.5  # of the host, after which a robot has stopped
CLOCK_S = 0.1  # width of the interval in which the robot's clock less the host's lies


@dataclass(frozen=True)
class Check:
    """One promise. `passed` is None where it could not be tried, and `why` says why."""

    name: str
    passed: bool | None
    measured: float | None
    unit: str
    limit: float | None
    why: str = ""


def selftest(
    spec: str,
    context: Context,
    settings: list[Settings],
    floor_percent: float,
    moves: Callable[[Device], None] = lambda _: None,
) -> Iterator[Check]:
    """The checks one by one, in a context, with the settings of its modes; DeviceError where the robot does not open.

    floor_percent: what a whole run with the first of the settings has to cover at least. moves: is told which robot
    moves from here on, before it is opened.
    """
    with paced(spec) as (address, virtual):
        device = make_device(address)
        moves(device)
        try:
            yield from _in_time(device, context, settings)
        finally:
            device.close()
    device = make_device(spec if virtual else address)
    moves(device)
    try:
        device.open()
        yield from _whole(device, context, settings[0], floor_percent)
    finally:
        device.close()


@contextlib.contextmanager
def paced(spec: str) -> Iterator[tuple[str, bool]]:
    """A SPEC on the wall clock, and whether there is one in virtual time as well."""
    name, _, address = spec.partition(":")
    if address != "emulator":
        yield spec, False
        return
    emulator = spawn("devices.emulate", name, "--json", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    try:
        assert emulator.stdout is not None
        with emulator.stdout:
            line = emulator.stdout.readline()
        if not line:
            raise LinkLost(f"the emulator did not start: try calib devices emulate {name}")
        yield f"{name}:{json.loads(line)['address']}", True
    finally:
        emulator.terminate()
        reap(emulator)


def _in_time(device: Device, context: Context, settings: list[Settings]) -> Iterator[Check]:
    began_s = time.monotonic()
    device.open()
    opened_s = time.monotonic() - began_s
    yield Check("opens", opened_s <= OPEN_S, opened_s, "s", OPEN_S)
    yield from _takes(device, context, settings)
    yield _stops(device, context, settings[0])
    yield _tells_time(device)
    yield _falls_silent(device, context, settings[0])


def _tells_time(device: Device) -> Check:
    """How well its clock is known from what was said so far."""
    clock = getattr(device, "clock", None)
    try:
        found = clock() if clock is not None else None
    except ClockJumped as problem:  # an emulator on a crowded machine is held up now and then
        return Check("clock", None if device.rung == "emulator" else False, None, "s known to", CLOCK_S, str(problem))
    if found is None:
        return Check("clock", None, None, "s", CLOCK_S, "this robot does not tell its time")
    width_s = found.offset_s.high - found.offset_s.low
    drift = found.drift
    why = f"drift {1e6 * drift.low:.0f} to {1e6 * drift.high:.0f} ppm, {found.exchanges} exchanges"
    return Check("clock", width_s <= CLOCK_S, width_s, "s known to", CLOCK_S, why)


def _takes(device: Device, context: Context, settings: list[Settings]) -> Iterator[Check]:
    """Each mode is started, read back and stopped again."""
    taken, known, why = 0, 0, ""
    for each in settings:
        device.prepare(context, 0)
        try:
            readback = device.start(each)
            device.advance()
        except DeviceError as problem:
            why = why or str(problem)
            continue
        finally:
            device.stop()
            with contextlib.suppress(DeviceError, AssertionError):
                device.finish()
        fields = [name for name, how in readback.how.items() if how != "not readable"]
        known += len(fields)
        same = [name for name in fields if getattr(readback.settings, name) == getattr(each, name)]
        taken += same == fields
        if same != fields and not why:
            off = next(name for name in fields if name not in same)
            why = f"{off} {getattr(each, off)} became {getattr(readback.settings, off)}"
    yield Check("modes taken", taken == len(settings), taken, "modes", len(settings), why)
    yield Check("settings known", known > 0, known / len(settings), "of 6 fields", None)


def _stops(device: Device, context: Context, settings: Settings) -> Check:
    """Stopped by another thread in the middle of a drive; timed until it is seen to stand."""
    device.prepare(context, 0)
    device.start(settings)
    device.advance()
    if device.rung == "simulator":
        device.stop()
        ended = device.advance().done
        return Check("stop latency", ended, 0.0, "s", STOP_S, "a simulator has no wheels to wait for")
    stopped_s: list[float] = []

    def stop() -> None:
        stopped_s.append(time.monotonic())
        device.stop()

    timer = threading.Timer(0.3, stop)
    timer.start()
    try:
        while not device.advance().done:
            pass
        timer.join()
        device.finish()  # raises where it is not seen to stand
    finally:
        timer.cancel()
    latency_s = time.monotonic() - stopped_s[0]
    return Check("stop latency", latency_s <= STOP_S, latency_s, "s", STOP_S)


def _falls_silent(device: Device, context: Context, settings: Settings) -> Check:
    """The host says nothing for so long while the robot drives: the run has to be over when it speaks again."""
    name, unit = "dead man", "s of silence"
    if device.rung == "simulator":
        return Check(name, None, None, unit, SILENCE_S, "a simulator moves only when it is asked to")
    device.prepare(context, 0)
    device.start(settings)
    device.advance()
    time.sleep(SILENCE_S)
    why = "it drove on"
    with contextlib.suppress(LinkLost):
        if not device.advance().done:
            device.stop()
            return Check(name, False, SILENCE_S, unit, SILENCE_S, why)
    return Check(name, True, SILENCE_S, unit, SILENCE_S)


def _whole(device: Device, context: Context, settings: Settings, floor_percent: float) -> Iterator[Check]:
    """A run from its start to its end."""
    device.prepare(context, 0)
    device.start(settings)
    while not device.advance().done:
        pass
    outcome = device.finish()
    ended = outcome.end in ("finished", "run_limit")
    yield Check(
        "whole run", ended, float(outcome.z[OUTCOMES.index("duration")]), "min", None, "" if ended else outcome.end
    )
    yield _seen(outcome, "coverage", floor_percent, "%", "coverage floor")
    yield _seen(outcome, "energy", 0.01, "Wh", "battery seen")
    yield _seen(outcome, "bumps", 1.0, "bumps", "bumpers seen")


def _seen(outcome: Outcome, attribute: str, least: float, unit: str, name: str) -> Check:
    at = OUTCOMES.index(attribute)
    value = float(outcome.z[at])
    if outcome.source[at] == "modelled":
        return Check(name, None, value, unit, least, "modelled: this robot does not measure it")
    return Check(name, value >= least, value, unit, least)


def document(spec: str, rung: str, checks: list[Check]) -> dict[str, object]:
    """What `calib devices selftest --json` prints."""
    return {"device": spec, "rung": rung, "checks": [asdict(check) for check in checks]}
