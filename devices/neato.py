"""A Neato Botvac D3 to D7 over its USB console: emulator, real port, or any URL that pyserial opens.

The host steers as it steers every robot here, by the planners' wheel speeds every 60 ms. But the console takes one
command at a time and 20 a second, and wheels go by distance: so each tick has one command, a wheel move or a question,
and between two readings the wheels' ways are reckoned from the moves that were sent. A move is at most 0.15 m long: a
robot whose cable came out drives no further. While a session lives, moves follow one another without a stop; when it
dies, a guard process disables the wheels (firmware_bridge.bridge).

Sources: see firmware_bridge.neato_console; docs/neato.md.
"""

import contextlib
import threading
from dataclasses import dataclass, field, replace
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from devices.device import LinkLost, Progress, Readback, Realised, Refused, Rung
from devices.home.meter import Meter
from devices.home.planners import HEADING, TARGET, decide, new_plan, planned_s
from devices.home.plant import MM_PER_COUNT, TICK_S, WHEEL_BASE_MM, End
from devices.home.power import CAPACITY_MAH
from devices.home.simulate import why_ended
from devices.home.types import OUTCOMES, PROGRAMMES, Context, Outcome, Settings
from devices.line import Line, checked, lay_out, prepared
from devices.steered import TICKS_A_CALL, progress, warm_up
from firmware_bridge import neato_console as console
from firmware_bridge.bridge_client import Tap
from firmware_bridge.link_state import LinkState
from firmware_bridge.plant import Sensors

assert TICK_S > console.GAP_S
STALE_S = 0.5  # without an answer: its wheels come to the end of their move by themselves
CONFIRM_TICKS = 6  # until the motors are seen to turn as told
MAX_SPEED_MM_S = 450
_TURN_MM_S = 300  # of the wheels while turning in place, as the planners reckon with it
_WALL_MM = 60.0  # the wall sensor sees one nearer than this
_DROP_MM = 120.0  # the floor is 60 below the drop sensors
_MAX_UNSEEN = 8  # ticks that the meter waits at most
_SAME_MM = 2.5  # positions come in whole mm: reckoning and reading that are this near are the same
_MA_THAT_SHOWS = 40
# Between two wheel moves: bumpers and drops in turn, and now and then what changes slowly.
_EVERY = (("GetErr", 79), ("GetCharger", 151), ("GetMotors", 13))
_OF_ITS_OWN = ("GetMotors", "GetDigitalSensors", "GetAnalogSensors", "GetDigitalSensors")  # while it cleans by itself
_ECO_FAN, _INTENSE_FAN = 45, 85  # percent: up to which a fan is meant as Eco, and from where as Intense
_GENTLE_MM_S, _QUICK_MM_S = 250, 350
_ON_THE_SPOT = ("GetMotors", "GetAnalogSensors", "GetDigitalSensors")
# What measures worse than a Roomba, as bounds that 95 of 100 runs keep against the truth, see docs/neato.md.
DIRT_ERROR = 0.1  # of the load: there is no dirt sensor
DURATION_ERROR_MIN = 0.005  # the motors start one after another
ENERGY_ERROR_WH = 0.006
BUMPS_ERROR, BUMPS_ERROR_SHARE = 3.0, 0.04  # a touch between two looks is not seen
BUMPS_ERROR_OWN = 1.5  # of the count: the robot backs off before the next look
# Reproducibility, held against the simulator's run: from the first contact on, which is acted on later, the path is
# another one. Bounds that 95 of 100 runs keep in the arena, the apartment and two homes more, see docs/neato.md; two
# replicates of the simulator are about as far apart.
BESIDE_DIRT = 0.14  # of the load
BESIDE_COVERAGE = 22.0  # points
BESIDE_SOUND_DBA = 5.5  # where people are in one room of several: how long it was in theirs
BESIDE_ENERGY_SHARE = 0.06
BESIDE_BUMPS = 48.0


@dataclass
class _Run:
    """One run from its start on."""

    settings: Settings
    plan: NDArray[np.float64]
    planned_s: float
    meter: Meter
    began_s: float
    next_s: float  # when the tick under way ends, on the transport's clock
    metered_s: float
    charge_mah: float
    left_mm: float = 0.0  # the wheels' ways since the start, reckoned, on the robot's own track
    right_mm: float = 0.0
    base_mm: tuple[float, float] = (0.0, 0.0)  # what the robot's positions were then
    asked_at_mm: tuple[float, float] = (0.0, 0.0)  # the reckoning when the last question was asked
    move: console.Move | None = None
    move_left_s: float = 0.0
    wheels: tuple[int, int] = (0, 0)  # as the planner last wanted them
    contact: tuple[bool, bool, bool] = (False, False, False)  # bump left, right, drop: news for the planner
    cleans: bool = False  # of its own, by the last GetState
    locating: bool = False  # a contact stalls the wheels: where do they stand?
    bumped: tuple[bool, bool] = (False, False)  # as last read, for the meter
    ticks_unseen: int = 0  # since the bumpers were last read
    unsure: list[tuple[float, float, float]] = field(default_factory=list)  # s, mm, mm: what the meter is not told yet
    sure_mm: tuple[float, float] = (0.0, 0.0)  # what it was told last
    wall: bool = False
    voltage_mv: int = 0
    current_ma: int = 0
    motors: dict[str, str] = field(default_factory=dict)  # the last GetMotors
    num_asked: int = 0
    ticks_blind: int = 0  # since the last question
    end: End | None = None

    @property
    def own(self) -> bool:
        """The robot cleans by itself, the host looks on."""
        return self.settings.pattern in PROGRAMMES


class Neato:
    """One robot. See `devices.device.Device` for the order of calls."""

    name = "neato"

    def __init__(self, address: str, tap: Tap | None = None, heartbeat_s: float | None = None) -> None:
        """`emulator` starts one of our own; a path or an URL is a port. heartbeat_s: see firmware_bridge.bridge."""
        self.address = address
        self.message = ""  # why the last run ended in a fault, with the remedy
        self.num_garbage = 0  # bytes of the last session's line that were nobody's answer
        self._line = Line("neato", address, console.HALT, tap, heartbeat_s)
        self._stopped = threading.Event()
        self._reader = console.ReplyReader()
        self._asked = ""  # the command under way
        self._asked_s = 0.0
        self._context: Context | None = None
        self._replicate = 0
        self._laid_out = False
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
        """Connect and ask who is there. After a lost link it tries the same address again and arms nothing."""
        self._line.open()
        self._laid_out = False
        self._reader, self._asked = console.ReplyReader(), ""
        try:
            version = console.table(self.ask("GetVersion"))
            charger = console.table(self.ask("GetCharger"))
        except LinkLost as problem:
            self._line.hang_up(str(problem))  # a robot that does not answer must not keep its port from others
            raise
        identity = {
            "robot": version.get("model", "Neato"),
            "firmware": version.get("software", "unknown"),
            "serial number": version.get("serial number", "unknown"),
            "protocol": "Neato console",
            "address": self._line.port,
            "rung": self.rung,
            "battery": f"{charger.get('fuelpercent', '?')} percent, {charger.get('vbattv', '?')} V",
        }
        return self._line.identified(identity)

    def ask(self, command: str) -> list[str]:
        """One command and its answer, outside of a run. LinkLost after 3 s."""
        self._send(command)
        until_s = self._asked_s + console.PATIENCE_S
        data = f"{command}\n".encode()
        while True:
            lines = self._take_in(self._line.exchange(data, self._line.now_s + TICK_S))
            data = b""
            if lines is not None:
                return lines
            self._note_silence()
            if self._line.now_s > until_s:
                self._lose(f"{self._line.port} does not answer {command}: switch the robot on, check the cable")

    def scan(self) -> tuple[dict[int, console.Ray], float]:
        """A lidar scan by angle, and the laser's turns a second. Outside of a run; the laser must turn."""
        return console.scan(self.ask("GetLDSScan"))

    def _send(self, command: str) -> None:
        self._asked, self._asked_s = command, self._line.now_s

    def _take_in(self, came: bytes) -> list[str] | None:
        lines = self._reader.feed(came, self._asked)
        self.num_garbage = self._reader.num_garbage
        if lines is not None:
            self._asked = ""
            self._line.heard()
        return lines

    def _note_silence(self) -> float:
        """How long an answer has been missing, s."""
        silent_s = self._line.now_s - self._asked_s
        if silent_s > STALE_S:
            self._line.silent(silent_s)
        return silent_s

    def _halt(self) -> None:
        """All off, at once, whatever is under way; nobody waits for the answers."""
        self._asked = ""
        self._take_in(self._line.exchange(console.HALT, 0.0))

    def _lose(self, why: str) -> NoReturn:
        """The run is over. The guard, if it still holds the port, stops the robot; nothing is armed by itself."""
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
        warm_up(context)
        self._lay_out()
        self.ask("GetState")

    def _lay_out(self) -> None:
        if self._context is not None:
            lay_out(self._line, self._context, self._replicate)
        self._laid_out = True

    def emulator_state(self) -> dict[str, object]:
        """What an emulator in virtual time says of itself; for tests and conformance checks."""
        return self._line.request("s", {})

    def start(self, settings: Settings) -> Readback:
        """Motors and motion, one command after another and nothing else between them, then read back.

        How each field is known: the brush's speed and the wheels' are read back from GetMotors. The fan tells its
        revolutions, not the percent that it was told, so it is inferred. Passes, pattern and edge are the host's own
        steering.
        """
        context = prepared("neato", self._context, self._stopped.is_set())
        if not self._laid_out:  # armed again after a lost link, perhaps on an emulator that was started anew
            self._lay_out()
        charge_mah = self._check(settings, context)
        own = settings.pattern in PROGRAMMES
        for command in ("TestMode Off",) if own else ("TestMode On", "SetMotor LWheelEnable RWheelEnable"):
            self._obeyed(command)
        before = console.table(self.ask("GetMotors"))
        analog = console.table(self.ask("GetAnalogSensors"))
        now_s = self._line.now_s
        run = self._run = _Run(
            settings=settings,
            plan=new_plan(settings, context),
            planned_s=min(planned_s(settings, context), context.run_limit_s),
            meter=Meter(context, settings, dirt_sensor=False),
            began_s=now_s,
            next_s=now_s,
            metered_s=now_s,
            charge_mah=charge_mah,
            base_mm=(_figure(before, "LeftWheel_PositionInMM"), _figure(before, "RightWheel_PositionInMM")),
        )
        self.message, self._laid_out = "", False
        self._see_analog(run, analog)
        run.contact = (False, False, False)
        run.meter.add(0.0, self._sensors(run, 0.0, 0.0))
        return self._begin_its_own(run) if run.own else self._confirm(run, before)

    def _check(self, settings: Settings, context: Context) -> float:
        """Refuse before anything moves; the charge, mAh."""
        if not (0 <= settings.fan <= 100 and 0 <= settings.brush <= 100 and 0 < settings.speed <= MAX_SPEED_MM_S):
            raise Refused(f"{settings} is beyond a Neato: fan and brush 0 to 100 percent, speed 1 to 450 mm/s")
        charger = console.table(self.ask("GetCharger"))
        if _figure(charger, "ExtPwrPresent") or _figure(charger, "ChargingActive"):
            raise Refused("the robot is on its charger: lift it off the dock and set it at the start")
        digital = console.table(self.ask("GetDigitalSensors"))
        if _figure(digital, "SNSR_LEFT_WHEEL_EXTENDED") or _figure(digital, "SNSR_RIGHT_WHEEL_EXTENDED"):
            raise Refused("a wheel hangs free: set the robot on the floor")
        if console.number(digital, "SNSR_DUSTBIN_IS_IN") == 0.0:
            raise Refused("the dust bin is out: put it in")
        wrong = console.error_of(self.ask("GetErr"))
        if wrong:
            raise Refused(f"the robot reports {wrong}: see to it, clear it with GetErr Clear and start again")
        fill = _figure(charger, "FuelPercent") / 100
        if fill <= context.battery_floor:
            raise Refused(f"battery at {fill:.0%}, the run needs more than {context.battery_floor:.0%}: charge it")
        return fill * CAPACITY_MAH

    def _obeyed(self, command: str) -> None:
        said = self.ask(command)
        if said:
            raise Refused(f"the robot answers {command} with {' '.join(said)!r}: end what it does and start again")

    def _begin_its_own(self, run: _Run) -> Readback:
        """House or spot cleaning: what the settings can mean to it, then the start, read back.

        The fan is Eco, normal or Intense, the navigation mode Deep for more than one pass, else by the speed. User
        settings are read back, the cleaning by the robot's state; the navigation mode is not told by any command.
        """
        settings = run.settings
        flags = {"EcoMode": settings.fan <= _ECO_FAN, "IntenseClean": settings.fan >= _INTENSE_FAN}
        for name, wanted in flags.items():
            self._obeyed(f"SetUserSettings {name} {'ON' if wanted else 'OFF'}")
        user = console.table(self.ask("GetUserSettings"))
        told = {"EcoMode": user.get("eco mode", ""), "IntenseClean": user.get("intenseclean", "")}
        wrong = [name for name, wanted in flags.items() if told[name].upper() != ("ON" if wanted else "OFF")]
        if wrong:
            self._finish_run(run, "fault", f"the robot did not take {' and '.join(wrong)}: set it by hand, start again")
            raise Refused(self.message)
        slow = "Gentle" if settings.speed < _GENTLE_MM_S else "Quick" if settings.speed >= _QUICK_MM_S else "Normal"
        self._obeyed(f"SetNavigationMode {'Deep' if settings.passes > 1 else slow}")
        run.began_s = run.next_s = run.metered_s = self._line.now_s
        for command in (f"Clean {settings.pattern.capitalize()}", "GetState"):
            if run.end is None:
                self._tick(run, command)
        if run.end is not None or not run.cleans:
            why = (
                self.message or "it does not clean: is it on its charger, or does its firmware refuse with a USB host?"
            )
            self._finish_run(run, "fault", f"the robot did not take the start ({why})")
            raise Refused(self.message)
        how: dict[str, Realised] = dict.fromkeys(Settings.__dataclass_fields__, "not readable")
        return Readback(settings, how | {"fan": "read back", "pattern": "read back"})

    def _confirm(self, run: _Run, before: dict[str, str]) -> Readback:
        """Switch the motors on and drive until the robot has confirmed what it can."""
        settings = run.settings
        commands = [f"SetMotor VacuumOn VacuumSpeed {settings.fan}"] if settings.fan else []
        if settings.brush:
            commands.append(f"SetMotor Brush RPM {console.FULL_BRUSH_RPM * settings.brush // 100}")
        for command in (*commands, "SetMotor SideBrushOn"):
            if run.end is None:
                self._tick(run, command)
        run.began_s = run.next_s
        brush = fan = speed = False
        for _ in range(CONFIRM_TICKS):
            if run.end is not None or (speed and (brush or not settings.brush) and (fan or not settings.fan)):
                break
            move = run.move
            self._tick(run, "" if move is None else "GetMotors")
            rpm = _figure(run.motors, "Brush_RPM")
            brush |= settings.brush > 0 and abs(rpm / console.FULL_BRUSH_RPM * 100 - settings.brush) < 10
            fan |= settings.fan > 0 and (
                _figure(run.motors, "Vacuum_RPM") > 0
                or _figure(run.motors, "Vacuum_mA") - _figure(before, "Vacuum_mA") > _MA_THAT_SHOWS
            )
            if move is not None:
                told = max(abs(move.left_mm), abs(move.right_mm)) / move.lasts_s
                seen = max(abs(_figure(run.motors, f"{side}Wheel_Speed")) for side in ("Left", "Right"))
                speed |= abs(seen - told) < 0.1 * told + 5
        if not speed and run.end in (None, "fault"):
            why = self.message or "its wheels do not turn as told"
            self._finish_run(run, "fault", f"the robot did not take the start ({why}): see to it and start again")
            raise Refused(self.message)
        how: dict[str, Realised] = {
            "fan": "inferred" if fan else "not readable",
            "brush": "read back" if brush else "not readable",
            "speed": "read back" if speed else "not readable",
            "passes": "inferred",
            "pattern": "inferred",
            "edge": "inferred",
        }
        return Readback(settings, how)

    def advance(self) -> Progress:
        """Up to 16 control ticks, 0.96 s."""
        run = self._run
        assert run is not None, "start comes before advance"
        for _ in range(TICKS_A_CALL):
            if run.end is not None:
                break
            self._tick(run)
        return progress(run)

    def _tick(self, run: _Run, command: str = "") -> None:
        """Decide, say one thing, drive for 60 ms, take in what the robot answers. A command given goes first."""
        if self._stopped.is_set():
            return self._finish_run(run, "stopped")
        move = None
        if self._asked:
            command = ""  # one in flight
        elif not command:
            command, move = self._decide(run)
            if run.end is not None:
                return None
        if command:
            self._send(command)
            run.asked_at_mm = (run.left_mm, run.right_mm)
        # On the wall clock a host that was held up does not hurry after the ticks that it missed.
        run.next_s = max(run.next_s, self._line.now_s - TICK_S) + TICK_S
        asked = self._asked
        data = f"{command}\n".encode() if command else b""
        lines = self._take_in(self._exchange(data, run.next_s))
        if move is not None:
            run.move, run.move_left_s = move, move.lasts_s
        self._reckon(run)
        run.ticks_unseen += 1
        if lines is not None:
            self._see(run, asked, lines)
        elif self._asked:
            self._wait_for_answer()
        self._measure(run)
        return None

    def _exchange(self, data: bytes, until_s: float) -> bytes:
        try:
            return self._line.exchange(data, until_s, self._may_move)
        except LinkLost as problem:
            self._note(str(problem))
            raise

    def _may_move(self) -> bool:
        return not self._stopped.is_set()

    def _reckon(self, run: _Run) -> None:
        """Where the wheels are after this tick, if they turn as told."""
        if run.move is None or run.locating:
            return
        dt_s = min(_since(run), run.move_left_s)
        run.left_mm += run.move.left_mm / run.move.lasts_s * dt_s
        run.right_mm += run.move.right_mm / run.move.lasts_s * dt_s
        run.move_left_s -= dt_s
        if run.move_left_s <= 1e-9:
            run.move = None

    def _decide(self, run: _Run) -> tuple[str, console.Move | None]:
        """What to say in this tick: a wheel move when the planner wants another motion, else a question."""
        assert self._context is not None
        if run.own:
            return self._look_on(run, self._context), None
        bump_left, bump_right, drop = (False, False, False) if run.locating else run.contact
        left, right, done = decide(run.plan, bump_left, bump_right, drop, run.wall, *_counts(run.left_mm, run.right_mm))
        num_ticks = round((run.next_s - run.began_s) / TICK_S)
        end = why_ended(self._context, done, num_ticks, int(run.charge_mah))
        if end is not None:
            self._finish_run(run, end)
            return "", None
        if run.locating:
            return "GetMotors", None
        run.contact = (False, False, False)
        run.wheels = (left, right)
        move = self._next_move(run, left, right)
        if move is not None:
            run.ticks_blind += 1
            return move.command(), move
        run.ticks_blind = 0
        run.num_asked += 1
        if left + right <= 0:
            return _ON_THE_SPOT[run.num_asked % len(_ON_THE_SPOT)], None
        for command, every in _EVERY:
            if run.num_asked % every == 0:
                return command, None
        return ("GetDigitalSensors", "GetAnalogSensors")[run.num_asked % 2], None

    def _look_on(self, run: _Run, context: Context) -> str:
        """What to ask next of a robot that cleans by itself; "" when the run is over."""
        num_ticks = round((run.next_s - run.began_s) / TICK_S)
        end = why_ended(context, not run.cleans, num_ticks, int(run.charge_mah))
        if end is not None:
            self._finish_run(run, end)
            return ""
        run.num_asked += 1
        for command, every in (("GetState", 15), *_EVERY[:2]):
            if run.num_asked % every == 0:
                return command
        return _OF_ITS_OWN[run.num_asked % len(_OF_ITS_OWN)]

    def _next_move(self, run: _Run, left: int, right: int) -> console.Move | None:
        """The move to send now, or None while the one under way will do."""
        wanted = console.on_track(left, right, WHEEL_BASE_MM, console.TRACK_MM)
        turning = left == -right
        rest_mm = float(console.MAX_MOVE_MM)
        if turning:  # exactly the rest, so that a host that is late does not turn too far
            rest_mm = abs(run.plan[TARGET] - run.plan[HEADING]) * console.TRACK_MM / 2
        move = run.move
        if move is not None:
            now = (move.left_mm / move.lasts_s, move.right_mm / move.lasts_s)
            off = max(abs(now[0] - wanted[0]), abs(now[1] - wanted[1]))
            soon = run.move_left_s < 2 * TICK_S
            if turning and move.left_mm == -move.right_mm and (now[1] > 0) == (wanted[1] > 0):
                goes_mm = abs(now[0]) * run.move_left_s
                if goes_mm > rest_mm - 2.0 or not soon:
                    return None
            elif not soon and (off < 6.0 or (off < 30.0 and run.ticks_blind > 0)):
                return None
        if turning:  # at full speed, whatever little the planner wants of its last tick
            full = _TURN_MM_S if left > 0 else -_TURN_MM_S
            wanted = console.on_track(full, -full, WHEEL_BASE_MM, console.TRACK_MM)
        return console.move_at(*wanted, rest_mm)

    def _see(self, run: _Run, asked: str, lines: list[str]) -> None:
        """One answer."""
        values = console.table(lines)
        if asked == "GetDigitalSensors":
            self._see_digital(run, values)
        elif asked == "GetAnalogSensors":
            self._see_analog(run, values)
        elif asked == "GetMotors":
            self._see_motors(run, values)
        elif asked == "GetCharger":
            if _figure(values, "ExtPwrPresent"):
                self._finish_run(run, "fault", "the robot met its charger: take the dock away or set it apart")
            fuel_mah = _figure(values, "FuelPercent") / 100 * CAPACITY_MAH
            # Whole percents are coarse: the current, summed up, counts unless they contradict it.
            if abs(fuel_mah - run.charge_mah) > 0.03 * CAPACITY_MAH:
                run.charge_mah = fuel_mah
        elif asked == "GetState":
            state = " ".join(lines)
            run.cleans = "CLEANINGRUNNING" in state
            if "CLEANINGPAUSED" in state:
                self._finish_run(run, "fault", "somebody paused the cleaning: start again")
        elif asked == "GetErr":
            wrong = console.error_of(lines)
            if wrong:
                self._finish_run(run, "fault", f"the robot reports {wrong}: see to it and start again")
        elif lines:  # a move or a motor that was not taken
            self._finish_run(run, "fault", f"the robot answers {asked} with {' '.join(lines)!r}: start again")

    def _see_digital(self, run: _Run, values: dict[str, str]) -> None:
        if _figure(values, "SNSR_LEFT_WHEEL_EXTENDED") or _figure(values, "SNSR_RIGHT_WHEEL_EXTENDED"):
            return self._finish_run(run, "fault", "a wheel hung free: set the robot on the floor and start again")
        run.bumped = (
            any(_figure(values, name) for name in ("LSIDEBIT", "LFRONTBIT", "LLDSBIT")),
            any(_figure(values, name) for name in ("RSIDEBIT", "RFRONTBIT", "RLDSBIT")),
        )
        run.ticks_unseen = 1
        self._meet(run, (*run.bumped, run.contact[2]))
        return None

    def _see_analog(self, run: _Run, values: dict[str, str]) -> None:
        run.voltage_mv = round(_figure(values, "BatteryVoltage", "BatteryVoltageInmV"))
        run.current_ma = round(-_figure(values, "BatteryCurrent"))
        wall_mm = console.number(values, "WallSensor", "WallSensorInMM")
        run.wall = wall_mm is not None and wall_mm < _WALL_MM
        drops = [console.number(values, f"DropSensor{side}", f"{side}DropInMM") for side in ("Left", "Right")]
        self._meet(run, (*run.contact[:2], any(each is not None and each > _DROP_MM for each in drops)))

    def _meet(self, run: _Run, contact: tuple[bool, bool, bool]) -> None:
        """News for the planner, which does not listen while it backs or turns."""
        if sum(run.wheels) > 0:
            run.contact = contact
            run.locating = any(contact)

    def _see_motors(self, run: _Run, values: dict[str, str]) -> None:
        """Positions against the reckoning, as of when they were asked for."""
        run.motors, run.locating = values, False
        left, right = (console.number(values, f"{side}Wheel_PositionInMM") for side in ("Left", "Right"))
        if left is None or right is None:
            return
        if run.own:  # nothing else tells where it is
            run.left_mm, run.right_mm = left - run.base_mm[0], right - run.base_mm[1]
            return
        off_left = left - run.base_mm[0] - run.asked_at_mm[0]
        off_right = right - run.base_mm[1] - run.asked_at_mm[1]
        if max(abs(off_left), abs(off_right)) > _SAME_MM:
            run.left_mm += off_left
            run.right_mm += off_right
            sure_left, sure_right = run.sure_mm
            run.unsure = [
                (s, _no_further(left, sure_left, run.left_mm), _no_further(right, sure_right, run.right_mm))
                for s, left, right in run.unsure
            ]

    def _measure(self, run: _Run) -> None:
        """Tell the meter of this tick as soon as it is known that the wheels turned as reckoned."""
        since_s = _since(run)
        run.metered_s = run.next_s
        run.charge_mah -= run.current_ma * since_s / 3600
        if run.own:
            self._measure_its_own(run, since_s)
            return
        run.unsure.append((since_s, run.left_mm, run.right_mm))
        if run.locating:
            return
        # A reading is of the beginning of its tick: the last tick is still open, and more while nobody looked.
        keep = min(run.ticks_unseen, len(run.unsure), _MAX_UNSEEN) if sum(run.wheels) > 0 else 0
        self._tell_meter(run, len(run.unsure) - keep)

    def _measure_its_own(self, run: _Run, since_s: float) -> None:
        """The way from one reading to the next, in as many steps as there were ticks."""
        run.unsure.append((since_s, 0.0, 0.0))
        (left, right), num = run.sure_mm, len(run.unsure)
        if (run.left_mm, run.right_mm) != run.sure_mm or num >= _MAX_UNSEEN:
            way_left, way_right = (run.left_mm - left) / num, (run.right_mm - right) / num
            run.unsure = [
                (each[0], left + (k + 1) * way_left, right + (k + 1) * way_right) for k, each in enumerate(run.unsure)
            ]
            self._tell_meter(run, num)

    def _tell_meter(self, run: _Run, num_ticks: int) -> None:
        for since_s, left_mm, right_mm in run.unsure[:num_ticks]:
            run.sure_mm = (left_mm, right_mm)
            run.meter.add(since_s, self._sensors(run, left_mm, right_mm))
        del run.unsure[:num_ticks]

    def _sensors(self, run: _Run, left_mm: float, right_mm: float) -> Sensors:
        """What the meter needs."""
        left, right = _counts(left_mm, right_mm)
        return Sensors(
            bump_left=run.bumped[0],
            bump_right=run.bumped[1],
            cliff=False,
            wall=run.wall,
            left_counts=left,
            right_counts=right,
            dirt=0,
            voltage_mv=run.voltage_mv,
            current_ma=run.current_ma,
            charge_mah=int(run.charge_mah),
            capacity_mah=CAPACITY_MAH,
            temperature_c=25,
            docked=False,
        )

    def _wait_for_answer(self) -> None:
        """Meanwhile the wheels come to the end of their move, and stand."""
        silent_s = self._note_silence()
        if silent_s > console.PATIENCE_S:
            why = f"{self._line.port} has been silent for {silent_s:.1f} s"
            self._lose(f"{why}: check cable and robot, then open it again")

    def _finish_run(self, run: _Run, end: End, message: str = "") -> None:
        run.end, self.message = end, message
        self._halt()

    def finish(self) -> Outcome:
        """Motors off and seen to be off, and what the meter makes of the run. Cut short: `stopped`."""
        run = self._run
        assert run is not None, "start comes before finish"
        if run.end is None:
            self._finish_run(run, "stopped")
        if not self._line.lost:
            self._halt()
            values = console.table(self.ask("GetMotors"))
            if _figure(values, "LeftWheel_Speed") or _figure(values, "RightWheel_Speed"):
                self._lose("the robot does not confirm that its wheels stand: lift it up, then open it again")
        assert run.end is not None
        run.unsure = [(s, *(run.sure_mm if run.own else (left, right))) for s, left, right in run.unsure]
        self._tell_meter(run, len(run.unsure))
        outcome = run.meter.outcome(run.end)
        assert self._context is not None
        error = outcome.error.copy()
        error[OUTCOMES.index("residual_dirt")] = DIRT_ERROR * self._context.dirt_g_m2
        error[OUTCOMES.index("duration")] = DURATION_ERROR_MIN
        error[OUTCOMES.index("energy")] += ENERGY_ERROR_WH
        bumps = OUTCOMES.index("bumps")
        error[bumps] = BUMPS_ERROR + (BUMPS_ERROR_OWN if run.own else BUMPS_ERROR_SHARE) * outcome.z[bumps]
        beside = outcome.reproducibility
        if beside is not None:  # the simulator drives lanes where the robot cleans by itself
            beside = None if run.own else _beside(self._context, outcome, error)
        return replace(outcome, error=error, reproducibility=beside)

    def stop(self) -> None:
        """Motors off at once. Idempotent, from any thread, never raises."""
        self._stopped.set()
        self._line.stop()

    def close(self) -> None:
        """Stop, let go of the port, end our own emulator. Idempotent, never raises."""
        self.stop()
        with contextlib.suppress(LinkLost):
            self._halt()
        self._line.close()


def open_device(address: str | None) -> Neato:
    """The robot at an address: `emulator`, a path, usb:SERIAL, or an URL. ValueError for anything else."""
    return Neato(checked("neato", address, "/dev/ttyACM0"))


def _beside(context: Context, outcome: Outcome, error: NDArray[np.float64]) -> NDArray[np.float64]:
    """(6,) The reproducibility of a run that the host steered: at least the error."""
    bounds = dict.fromkeys(OUTCOMES, 0.0) | {
        "residual_dirt": BESIDE_DIRT * context.dirt_g_m2,
        "coverage": BESIDE_COVERAGE,
        "sound": BESIDE_SOUND_DBA if len(context.plan.rooms) > 1 else 0.0,
        "energy": ENERGY_ERROR_WH + BESIDE_ENERGY_SHARE * outcome.z[OUTCOMES.index("energy")],
        "bumps": BESIDE_BUMPS,
    }
    return np.maximum(error, [bounds[name] for name in OUTCOMES])


def _since(run: _Run) -> float:
    """What the meter has not been told yet, s: the same figure whatever the clock stands at."""
    return round(run.next_s - run.metered_s, 6)


def _counts(left_mm: float, right_mm: float) -> tuple[int, int]:
    """The wheels' ways as the encoder counts that planners and meter know."""
    left, right = console.on_track(left_mm, right_mm, console.TRACK_MM, WHEEL_BASE_MM)
    return int(left // MM_PER_COUNT), int(right // MM_PER_COUNT)


def _no_further(way_mm: float, from_mm: float, to_mm: float) -> float:
    """A reckoned way between two that were read: not beyond the second."""
    return from_mm + np.clip(way_mm - from_mm, min(0.0, to_mm - from_mm), max(0.0, to_mm - from_mm))


def _figure(values: dict[str, str], *labels: str) -> float:
    """A number of a table, 0 where it is missing or garbled."""
    found = console.number(values, *labels)
    return 0.0 if found is None else found
