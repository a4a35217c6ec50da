"""A robot under Valetudo, over REST: `valetudo:http://HOST`, or an emulator.

The robot cleans by itself; the host sets what can be set, starts it, watches its state and stops it. What the robot
has is read from it: fan presets, operation mode, rooms that it may clean more than once. What it does not let be set
(brush, speed, pattern, edge) is its own, and is read back as not readable; more passes than it can make are refused.

A connection is closed by the robot after some seconds of silence, so it is opened anew before each run. While the robot
cleans a guard holds it (firmware_bridge.bridge), whose stop bytes are the request to stop.

Sources: see firmware_bridge.valetudo_rest; docs/valetudo.md.
"""

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import Any, Literal, NoReturn

import numpy as np

from devices.device import LinkLost, Progress, Readback, Realised, Refused, Rung
from devices.home.plan import CARPET_FLOOR, DIRT_M, HARD_FLOOR, survey
from devices.home.plant import End
from devices.home.simulate import simulate
from devices.home.types import OUTCOMES, Context, Outcome, Settings
from devices.line import Line, lay_out, prepared
from firmware_bridge import valetudo_rest as rest
from firmware_bridge.bridge_client import Tap
from firmware_bridge.link_state import LinkState
from firmware_bridge.valetudo_look import port_of

Source = Literal["measured", "modelled", "entered", "simulated"]

TICK_S = 0.24  # between two looks at its state
STALE_S = 1.0  # without an answer: it cleans on, and is asked on
_TICKS_A_CALL = 4
_START_S = 10.0  # until it says that it cleans
_BRUSH, _SPEED = 90, 300  # of its own, as the model takes them
_OVER = ("docked", "idle", "returning")
# Bounds that 95 of 100 runs of the emulator keep against the truth, see docs/valetudo.md.
DURATION_ERROR_MIN = 0.03
COVERAGE_ERROR = 6.0
MODELLED_ERROR = {"residual_dirt": 0.35, "sound": 6.0, "energy": 0.3, "bumps": 1.1}  # of the load; dB(A); shares


@dataclass
class _Run:
    """One run from its start on."""

    settings: Settings  # as realised
    began_s: float
    elapsed_s: float = 0.0
    end: End | None = None


class Valetudo:
    """One robot. See `devices.device.Device` for the order of calls."""

    name = "valetudo"

    def __init__(self, address: str, tap: Tap | None = None, heartbeat_s: float | None = None) -> None:
        """`emulator` starts one of our own; http://HOST[:PORT] is a robot."""
        self.address = address
        self.message = ""  # why the last run ended in a fault, with the remedy
        self._line = Line("valetudo", port_of(address), rest.STOP, tap, heartbeat_s)
        self._client = rest.Client()
        self._stopped = threading.Event()
        self._attributes: list[dict[str, Any]] = []
        self._context: Context | None = None
        self._replicate = 0
        self._laid_out = False
        self._has: tuple[str, ...] = ()
        self._presets: dict[str, list[str]] = {}
        self._run: _Run | None = None

    @property
    def rung(self) -> Rung:
        """Emulator or hardware."""
        return self._line.rung

    @property
    def link(self) -> LinkState:
        """How the line stands, and why."""
        return self._line.link

    # --- link ---------------------------------------------------------------------------------------------------------

    def open(self) -> dict[str, str]:
        """Connect and ask who is there, and what it can."""
        self._laid_out = False
        self._connect()
        try:
            who = self._who()
            self._has = tuple(str(name) for name in self.ask("GET", rest.CAPABILITIES))
            self._presets = {
                name: [str(preset) for preset in self.ask("GET", f"{rest.CAPABILITIES}/{name}/presets")]
                for name in (rest.FAN, rest.MODE)
                if name in self._has
            }
            _, level = self._state()
        except (Refused, TypeError, AttributeError) as problem:
            why = f"{self.address} is no Valetudo that this driver knows: {problem}"
            self._line.hang_up(why)
            raise Refused(why) from None
        except LinkLost as problem:
            self._line.hang_up(str(problem))
            raise
        if "BasicControlCapability" not in self._has:
            why = f"{self.address} has no BasicControlCapability: it cannot be started from here"
            self._line.hang_up(why)
            raise Refused(why)
        identity = {
            **who,
            "protocol": "Valetudo REST",
            "address": self._line.port,
            "rung": self.rung,
            "battery": f"{level} percent",
            "fan": ", ".join(self._presets.get(rest.FAN, ["not to be set"])),
        }
        return self._line.identified(identity)

    def _who(self) -> dict[str, str]:
        robot = self.ask("GET", f"{rest.API}/robot")
        version = self.ask("GET", f"{rest.API}/valetudo/version")
        system = self.ask("GET", f"{rest.API}/valetudo")
        return {
            "robot": f"{robot.get('manufacturer', '?')} {robot.get('modelName', '?')}",
            "firmware": f"Valetudo {version.get('release', '?')}",
            "serial number": str(system.get("systemId", "unknown")),
        }

    def _reconnect(self) -> None:
        """A new connection, to the same robot: an address may be another one's by now."""
        self._connect()
        self._line.identified(self._who())

    def _connect(self) -> None:
        self._line.open()
        self._client = rest.Client()

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request and the body of its answer. Refused with the robot's words, LinkLost after five seconds."""
        return self._ask(method, path, body, 0.0)

    def _ask(self, method: str, path: str, body: Any, at_least_s: float, driving: bool = False) -> Any:
        """The same, not before `at_least_s` are over."""
        began_s = self._line.now_s
        data, reply = self._client.ask(method, path, body), None
        until_s = began_s + (at_least_s or 0.03)
        try:
            while True:
                came = self._line.exchange(data, until_s, self._may_move if driving else None)
                data = b""
                reply = self._client.feed(came) if reply is None else reply
                if reply is not None:
                    self._line.heard()
                elif self._line.now_s - began_s > STALE_S:
                    self._line.silent(self._line.now_s - began_s)
                if driving and self._stopped.is_set():
                    return None  # what was asked may never have been sent
                if reply is not None and self._line.now_s > began_s + at_least_s - 1e-6:  # sums of floats
                    break
                if self._line.now_s - began_s > rest.PATIENCE_S:
                    self._lose(f"{self._line.port} does not answer: see whether the robot is on and in the network")
                until_s = max(until_s, self._line.now_s) + 0.03
        except rest.Garbled as problem:
            self._lose(f"{self._line.port}: {problem}: give the address of the robot's Valetudo")
        except LinkLost as problem:
            self._note(str(problem))
            raise
        if reply.status >= 400:
            raise Refused(f"the robot answers {path.rpartition('/')[2]} with {reply.status}, {reply.body!r:.100}")
        return reply.body

    def _may_move(self) -> bool:
        return not self._stopped.is_set()

    def _state(self, at_least_s: float = 0.0, driving: bool = False) -> tuple[str, int]:
        """Status, and the battery's percent."""
        self._attributes = self._ask("GET", rest.ATTRIBUTES, None, at_least_s, driving) or []
        return str(self._of("StatusStateAttribute", "value")), int(self._of("BatteryStateAttribute", "level") or 0)

    def _of(self, kind: str, field: str, named: str | None = None) -> Any:
        """A field of the first attribute of this class, and type if it is named."""
        for each in self._attributes:
            if each.get("__class") == kind and named in (None, each.get("type")):
                return each.get(field)
        return None

    def _lose(self, why: str) -> NoReturn:
        self._note(why)
        self._line.lose(why)

    def _note(self, why: str) -> None:
        if self._run is not None and self._run.end is None:
            self._run.end, self.message = "fault", why

    # --- a run --------------------------------------------------------------------------------------------------------

    def prepare(self, context: Context, replicate: int) -> None:
        """Lay out an emulated home; a real one is the operator's. A stop from here on holds: `start` then refuses."""
        self._stopped.clear()
        self._context, self._replicate = context, replicate
        self._reconnect()
        self._lay_out()

    def _lay_out(self) -> None:
        if self._context is not None:
            lay_out(self._line, self._context, self._replicate)
        self._laid_out = True

    def emulator_state(self) -> dict[str, object]:
        """What an emulator in virtual time says of itself; for tests and conformance checks."""
        return self._line.request("s", {})

    def start(self, settings: Settings) -> Readback:
        """Mode and fan, seen to be taken, and then the start, seen to be obeyed."""
        context = prepared("valetudo", self._context, self._stopped.is_set())
        self._reconnect()
        if not self._laid_out:
            self._lay_out()
        status, level = self._state()
        if status not in ("docked", "idle"):
            raise Refused(f"the robot is {status}{self._why()}: see to it and let it stand before a start")
        if level <= 100 * context.battery_floor:
            raise Refused(f"battery at {level}%, the run needs more than {context.battery_floor:.0%}: charge it")
        passes = self._passes(settings)
        if rest.MODE in self._presets and "vacuum" in self._presets[rest.MODE]:
            self._set(rest.MODE, "operation_mode", "vacuum")
        how: dict[str, Realised] = dict.fromkeys(("fan", "brush", "speed", "pattern", "edge"), "not readable")
        realised = settings
        if rest.FAN in self._presets:
            preset = nearest_fan(self._presets[rest.FAN], settings.fan)
            self._set(rest.FAN, "fan_speed", preset)
            realised, how["fan"] = replace(settings, fan=rest.FAN_PERCENT[preset]), "read back"
        run = self._run = _Run(realised, self._line.now_s)
        self.message, self._laid_out = "", False
        if passes == 1:
            self._order("PUT", rest.CONTROL, {"action": "start"})
        else:
            ids = [segment["id"] for segment in self.ask("GET", f"{rest.CAPABILITIES}/{rest.SEGMENTS}")]
            body = {"action": "start_segment_action", "segment_ids": ids, "iterations": passes, "customOrder": False}
            self._order("PUT", f"{rest.CAPABILITIES}/{rest.SEGMENTS}", body)
        run.began_s = self._line.now_s
        while not self._stopped.is_set():
            status, _ = self._state(0.06, driving=True)
            if status == "cleaning" or self._stopped.is_set():
                break
            if status == "error" or self._line.now_s - run.began_s > _START_S:
                self._finish_run(run, "fault", f"the robot does not clean, it is {status}{self._why()}")
                raise Refused(f"{self.message}: see to it and start again")
        how["passes"] = "inferred"
        run.elapsed_s = round(self._line.now_s - run.began_s, 6)
        return Readback(realised, how)

    def _order(self, method: str, path: str, body: Any) -> None:
        """What sets it in motion: sent only while nobody has stopped."""
        self._ask(method, path, body, 0.0, driving=True)

    def _passes(self, settings: Settings) -> int:
        if settings.passes == 1:
            return 1
        most = 1
        if rest.SEGMENTS in self._has:
            properties = self.ask("GET", f"{rest.CAPABILITIES}/{rest.SEGMENTS}/properties")
            most = int(properties.get("iterationCount", {}).get("max", 1))
        if settings.passes > most:
            raise Refused(f"{settings.passes} passes are more than this robot makes ({most}): take a mode with fewer")
        return settings.passes

    def _set(self, capability: str, kind: str, name: str) -> None:
        """Set a preset and see that it is taken."""
        self.ask("PUT", f"{rest.CAPABILITIES}/{capability}/preset", {"name": name})
        self._state()
        found = self._of("PresetSelectionStateAttribute", "value", kind)
        if found != name:
            raise Refused(f"the robot was told {kind} {name} and says {found}: it did not take the setting")

    def _why(self) -> str:
        for each in self._attributes:
            if described := (each.get("metaData") or {}).get("error_description"):
                return f" ({described})"
        return ""

    def advance(self) -> Progress:
        """Watch for 0.96 s."""
        run, context = self._run, self._context
        assert run is not None and context is not None, "start comes before advance"
        for _ in range(_TICKS_A_CALL):
            if run.end is not None:
                break
            if self._stopped.is_set():
                run.end = "stopped"
                break
            status, level = self._state(TICK_S, driving=True)
            run.elapsed_s = round(self._line.now_s - run.began_s, 6)
            if self._stopped.is_set():
                run.end = "stopped"
            elif status in _OVER:
                run.end = "finished"
            elif status != "cleaning":
                self._finish_run(run, "fault", f"the robot is {status}{self._why()}: see to it and start again")
            elif run.elapsed_s >= context.run_limit_s:
                self._finish_run(run, "run_limit")
            elif level <= 100 * context.battery_floor:
                self._finish_run(run, "battery")
        area = _cleanable_m2(context)
        planned_s = min(60.0 * run.settings.passes * (1.0 + area / 1.5), context.run_limit_s)
        fraction = 1.0 if run.end == "finished" else min(run.elapsed_s / planned_s, 1.0)
        grids = survey(context.plan)
        pose = (float(grids.start_x), float(grids.start_y), float(grids.start_rad))  # it does not tell
        return Progress(run.elapsed_s, fraction, pose, 0, run.end is not None)

    def _finish_run(self, run: _Run, end: End, message: str = "") -> None:
        run.end, self.message = end, message
        with contextlib.suppress(Refused):
            self.ask("PUT", rest.CONTROL, {"action": "stop"})

    def finish(self) -> Outcome:
        """Stopped and seen to stand, and what the robot tells of the run; the rest is modelled."""
        run, context = self._run, self._context
        assert run is not None and context is not None, "start comes before finish"
        if run.end is None:
            run.end = "stopped"
        covered: float | None = None
        if not self._line.lost:
            if self._stopped.is_set():
                self._connect()  # the guard's own words were answered too
            self.ask("PUT", rest.CONTROL, {"action": "stop"})
            if self.link.state == "handshake":
                self._line.identified(self._who())
            status, _ = self._state()
            if status not in (*_OVER, "error"):
                self._lose(f"the robot does not confirm that it stands, it is {status}: lift it up, then open it again")
            if rest.STATISTICS in self._has:
                told = self.ask("GET", f"{rest.CAPABILITIES}/{rest.STATISTICS}")
                area = [float(each["value"]) for each in told if each.get("type") == "area"]
                covered = min(100.0 * area[0] / 1e4 / _cleanable_m2(context), 100.0) if area else None
        return self._outcome(run, context, covered)

    def _outcome(self, run: _Run, context: Context, covered: float | None) -> Outcome:
        as_modelled = replace(run.settings, brush=_BRUSH, speed=_SPEED, pattern="lanes", edge=False)
        whole = simulate(replace(context, run_limit_s=max(run.elapsed_s, 1.0)), as_modelled, 0)
        z = dict(zip(OUTCOMES, whole.z, strict=True))
        error = dict.fromkeys(OUTCOMES, 0.0)
        for name, bound in MODELLED_ERROR.items():
            error[name] = bound * (
                context.dirt_g_m2 if name == "residual_dirt" else 1.0 if name == "sound" else z[name]
            )
        source: dict[str, Source] = dict.fromkeys(OUTCOMES, "modelled")
        z["duration"], error["duration"], source["duration"] = run.elapsed_s / 60, DURATION_ERROR_MIN, "measured"
        error["coverage"] = 100.0
        if covered is not None:
            z["coverage"], error["coverage"], source["coverage"] = covered, COVERAGE_ERROR, "measured"
        assert run.end is not None
        return Outcome(
            np.array([z[name] for name in OUTCOMES]),
            tuple(source[name] for name in OUTCOMES),
            np.array([error[name] for name in OUTCOMES]),
            run.end,
        )

    def stop(self) -> None:
        """At once. Idempotent, from any thread, never raises."""
        self._stopped.set()
        self._line.stop()

    def close(self) -> None:
        """Stop, let go of the connection, end our own emulator. Idempotent, never raises."""
        self.stop()
        self._line.close()


def nearest_fan(presets: list[str], percent: int) -> str:
    """The preset whose name is nearest to a duty; of two the quieter. Refused where no name is known."""
    known = sorted((name for name in presets if name in rest.FAN_PERCENT), key=rest.FAN_PERCENT.__getitem__)
    if not known:
        raise Refused(
            f"the robot's fan presets ({', '.join(presets)}) have no known meaning: name them in docs/valetudo.md"
        )
    return min(known, key=lambda name: abs(rest.FAN_PERCENT[name] - percent))


def open_device(address: str | None) -> Valetudo:
    """The robot at an address: `emulator` or http://HOST[:PORT]. ValueError for anything else."""
    if address is None or not (address == "emulator" or "://" in address or address.startswith("/")):
        raise ValueError(
            f"a valetudo is at emulator or http://host, not at {address!r}: say valetudo:http://192.168.1.7"
        )
    return Valetudo(address)


def _cleanable_m2(context: Context) -> float:
    floor = survey(context.plan).floor
    return float(np.sum((floor == HARD_FLOOR) | (floor == CARPET_FLOOR))) * DIRT_M**2
