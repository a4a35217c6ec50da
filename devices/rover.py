"""Our own rover: an ATmega328P with open firmware, on its emulator, a serial port, or any URL that pyserial opens.

The host steers: every 60 ms the planner's wheel speeds go out as one drive command with the motors' duties in it. The
firmware has the dead man, the reflexes and the wheels' speed control; it moves only after an explicit arm.

Protocol, wiring, flashing: docs/rover.md; the messages: firmware_bridge/messages.py.
"""

import threading
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from devices.device import LinkLost, Progress, Readback, Realised, Refused
from devices.home.meter import Meter
from devices.home.planners import SIDE_BRUSH, decide, new_plan, planned_s
from devices.home.plant import TICK_S, End
from devices.home.power import CAPACITY_MAH, fill_at
from devices.home.simulate import why_ended
from devices.home.types import Context, Outcome, Settings
from devices.line import Line, checked, lay_out, prepared
from devices.steered import TICKS_A_CALL, progress, warm_up
from firmware_bridge.bridge_client import Tap
from firmware_bridge.clock import Offset
from firmware_bridge.link_state import LinkState
from firmware_bridge.messages import MAX_WHEEL_MM_S, TELEMETRY_MS, Reason, State, Status, Switch, table_hash
from firmware_bridge.plant import Sensors
from firmware_bridge.rover_link import STOP, Link, Telemetry

HELLO_S = 3.0  # opening the port resets an Arduino, and its boot loader takes one to two seconds
STALE_S = 0.5  # without telemetry: the wheels are stopped, the run may still go on
LOST_S = 2.0  # without telemetry: the link is lost
CONFIRM_TICKS = 5  # 0.3 s for the drive command to be read back
_TRIES = 5
_BUMPS = Switch.BUMP_LEFT | Switch.BUMP_RIGHT
_WHY_OFF = {
    Reason.DEAD_MAN: "it heard nothing of the host for 300 ms; was this machine busy? Start again",
    Reason.HELLO: "another program greeted it; let only one use the port",
    Reason.DISARM: "somebody disarmed it; start again",
}


@dataclass
class _Run:
    """One run from its start on."""

    settings: Settings
    plan: NDArray[np.float64]
    planned_s: float
    meter: Meter
    before: Telemetry  # at the start: its encoders count from power-up
    frame: Telemetry  # the last one of the last tick
    began_s: float
    next_s: float  # when the tick under way ends, on the line's clock
    metered_s: float  # up to when the meter has been told
    charge_mah: float  # estimated: the voltage before the run, less what flowed since
    bumps: int = 0  # switches that the planner has to see
    cliff: bool = False
    wheels: tuple[int, int] = (0, 0)  # left and right as last commanded
    stale: bool = False
    end: End | None = None

    @property
    def counts(self) -> tuple[int, int]:
        return (
            self.frame["left_counts"] - self.before["left_counts"],
            self.frame["right_counts"] - self.before["right_counts"],
        )


class Rover:
    """One robot. See `devices.device.Device` for the order of calls."""

    name = "rover"

    def __init__(self, address: str, tap: Tap | None = None, heartbeat_s: float | None = None) -> None:
        """`emulator` starts one of our own; a path or an URL is a port. heartbeat_s: see firmware_bridge.bridge."""
        self.message = ""  # why the last run ended in a fault, with the remedy
        # The guard is a second lock on the door: the firmware stops by itself when nobody speaks.
        self._line = Line("rover", address, STOP, tap, heartbeat_s)
        self.rung = self._line.rung
        self._link = Link()
        self._stopped = threading.Event()
        self._context: Context | None = None
        self._replicate = 0
        self._laid_out = False  # the emulated home is as before a run
        self._run: _Run | None = None

    @property
    def link(self) -> LinkState:
        """How the line stands, and why."""
        return self._line.link

    # --- link ---------------------------------------------------------------------------------------------------------

    def open(self) -> dict[str, str]:
        """Connect, greet, compare tables of messages. After a lost link it tries the same again and arms nothing."""
        self._line.open()
        self.rung = self._line.rung
        self._laid_out = False
        try:
            return self._hello()
        except (LinkLost, Refused) as problem:
            self._line.hang_up(str(problem))  # a robot that does not answer must not keep its port from others
            raise

    def _identity(self) -> dict[str, str]:
        welcome, last = self._link.welcome, self._link.telemetry
        assert welcome is not None and last is not None
        return {
            "robot": "rover",
            "firmware": str(welcome["firmware"]),
            "protocol": f"{welcome['table']:08x}",
            "boot": str(self._link.boot),
            "address": self._line.port,
            "rung": self.rung,
            "battery": f"{last['voltage_mv']} mV",
        }

    def _hello(self) -> dict[str, str]:
        """Greet until it answers and its telemetry comes."""
        self._line.greeted()
        self._link = Link()
        began_s = self._line.now_s
        while self._line.now_s - began_s < HELLO_S:
            self._exchange(self._link.hello(), TICK_S)
            if self._link.welcome is not None and not self._link.fits:
                raise Refused(
                    f"{self._line.port}: the rover's firmware speaks another table of messages "
                    f"({self._link.welcome['table']:08x}, this version has {table_hash():08x}): flash it with "
                    "make -f firmware_bridge/rover/Makefile flash PORT=..."
                )
            if self._link.welcome is not None and self._link.telemetry is not None:
                return self._line.identified(self._identity())
        if self._link.num_bad:
            self._lose(f"{self._line.port} talks, but not as a rover of this version: flash it, see docs/rover.md")
        return self._lose(
            f"{self._line.port} answers nothing: switch the rover on, check the cable, flash its firmware"
        )

    def _exchange(self, data: bytes, wait_s: float) -> list[Telemetry]:
        """Outside of a run: say it, listen for so long."""
        return self._take_in(self._line.exchange(data, self._line.now_s + wait_s if wait_s else 0.0))

    def _take_in(self, came: bytes) -> list[Telemetry]:
        frames = self._link.feed(came, self._line.now_s)
        if frames:
            self._line.heard()
        return frames

    def _restarted(self) -> str:
        """Another boot id than the one that was greeted: it is disarmed, and stays so until it is prepared again."""
        why = f"the rover restarted after boot {self._link.boot} (battery, cable, watchdog): look at it, start again"
        self._line.restarted(why)
        return why

    def _lose(self, why: str) -> NoReturn:
        if self._run is not None and self._run.end is None:
            self._run.end, self.message = "fault", why
        self._line.lose(why)

    # --- a run --------------------------------------------------------------------------------------------------------

    def prepare(self, context: Context, replicate: int) -> None:
        """Lay out an emulated home; a real one is the operator's. A stop from here on holds: `start` then refuses."""
        self._stopped.clear()
        self._context, self._replicate = context, replicate
        warm_up(context)
        self._lay_out()
        self._exchange(b"", TICK_S)
        if self._link.restarted or self.link.state == "handshake":
            self._hello()

    def _lay_out(self) -> None:
        if self._context is not None:
            lay_out(self._line, self._context, self._replicate)
        self._laid_out = True

    def clock(self) -> Offset | None:
        """The rover's clock less the line's, now; None before the first answer."""
        return self._link.clock.offset(self._line.now_s)

    def emulator_state(self) -> dict[str, object]:
        """What an emulator in virtual time says of itself; for tests and conformance checks."""
        return self._line.request("s", {})

    def start(self, settings: Settings) -> Readback:
        """Arm, then settings and motion in one command, read back from the telemetry.

        Fan, brush and speed are read back: telemetry tells what the firmware drives the motors with. Passes, pattern
        and edge are the host's own steering; the wheels that obey it are the evidence, so they are inferred.
        """
        context = prepared("rover", self._context, self._stopped.is_set())
        if self.link.state == "handshake":
            raise Refused(self.link.reason)
        if not self._laid_out:  # armed again after a lost link, perhaps on an emulator that was started anew
            self._lay_out()
        greeted = self._link
        # What was sent while the person thought may lie in the line: the second look is at the present.
        self._exchange(b"", TICK_S)
        if not self._exchange(b"", TICK_S) or self._link.restarted:
            self._hello()
            if self._link.boot != greeted.boot:
                self._link = greeted
                raise Refused(self._restarted())
        frame = self._link.telemetry
        assert frame is not None
        fill = fill_at(frame["voltage_mv"] / 1000, frame["current_ma"] / 1000)
        self._check(frame, fill, settings, context)
        self._arm()
        now_s = self._line.now_s
        run = self._run = _Run(
            settings=settings,
            plan=new_plan(settings, context),
            planned_s=min(planned_s(settings, context), context.run_limit_s),
            meter=Meter(context, settings),
            before=frame,
            frame=frame,
            began_s=now_s,
            next_s=now_s,
            metered_s=now_s,
            charge_mah=fill * CAPACITY_MAH,
            bumps=frame["switches"] & _BUMPS,
        )
        run.meter.add(0.0, _sensors(run))
        self.message, self._laid_out = "", False
        return self._confirm(run)

    def _check(self, frame: Telemetry, fill: float, settings: Settings, context: Context) -> None:
        """Refuse before anything moves."""
        if not (0 <= settings.fan <= 100 and 0 <= settings.brush <= 100 and 0 < settings.speed <= MAX_WHEEL_MM_S):
            raise Refused(f"{settings} is beyond the rover: fan and brush 0 to 100 percent, speed 1 to 500 mm/s")
        if frame["switches"] & Switch.CLIFF:
            raise Refused("the rover sees a drop in front of it: set it on the floor, or look for a loose sensor wire")
        if fill <= context.battery_floor:
            raise Refused(
                f"battery at {fill:.0%} ({frame['voltage_mv']} mV), the run needs more than "
                f"{context.battery_floor:.0%}: charge it"
            )

    def _arm(self) -> None:
        """Lift the latch that the last telemetry told of. Each command is repeated until it is answered."""
        status: Status | None = None
        for _ in range(_TRIES):
            assert self._link.telemetry is not None
            number, data = self._link.command("arm", self._line.now_s, latch=self._link.telemetry["latch"])
            for _ in range(_TRIES):
                self._exchange(data, TICK_S)
                if number in self._link.results:
                    break
            status = self._link.results.get(number)
            if status == Status.DONE:
                return
            # Expired or stale: by a clock or a latch that telemetry has told anew since.
        told = f"it answers {status.name.lower().replace('_', ' ')}" if status is not None else "it answers nothing"
        raise Refused(f"the rover does not arm ({told}): open it again, or switch it off and on")

    def _confirm(self, run: _Run) -> Readback:
        """Drive the first ticks until telemetry says what the firmware does."""
        settings = run.settings
        motors, echoed = False, False
        for _ in range(CONFIRM_TICKS):
            self._tick(run)
            frame = run.frame
            motors = (frame["fan"], frame["brush"]) == (settings.fan, settings.brush)
            echoed = motors and (frame["left_mm_s"], frame["right_mm_s"]) == run.wheels
            if echoed or run.end is not None:
                break
        if not echoed and run.end in (None, "fault"):
            why = self.message or f"wheels {run.frame['left_mm_s']}, {run.frame['right_mm_s']} mm/s"
            self._finish_run(run, "fault", f"the rover did not take the start ({why}): see to it and start again")
            raise Refused(self.message)
        how: dict[str, Realised] = {
            "fan": "read back" if motors else "not readable",
            "brush": "read back" if motors else "not readable",
            "speed": "read back" if echoed else "not readable",
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

    def _tick(self, run: _Run) -> None:
        """Decide, drive for 60 ms, take in what the robot saw."""
        if self._stopped.is_set():
            return self._finish_run(run, "stopped")
        data = b""
        if not run.stale:
            bump_left, bump_right = bool(run.bumps & Switch.BUMP_LEFT), bool(run.bumps & Switch.BUMP_RIGHT)
            wall = bool(run.frame["switches"] & Switch.WALL)
            left, right, done = decide(run.plan, bump_left, bump_right, run.cliff, wall, *run.counts)
            assert self._context is not None
            num_ticks = round((run.next_s - run.began_s) / TICK_S)
            end = why_ended(self._context, done, num_ticks, int(run.charge_mah))
            if end is not None:
                return self._finish_run(run, end)
            run.wheels = (left, right)
            settings = run.settings
            _, data = self._link.command(
                "drive",
                self._line.now_s,
                left_mm_s=left,
                right_mm_s=right,
                fan=settings.fan,
                brush=settings.brush,
                side_brush=SIDE_BRUSH,
            )
        # On the wall clock a host that was held up does not hurry after the ticks that it missed.
        run.next_s = max(run.next_s, self._line.now_s - TICK_S) + TICK_S
        try:
            came = self._line.exchange(data, run.next_s, self._may_move)
        except LinkLost as problem:
            run.end, self.message = "fault", str(problem)
            raise
        frames = self._take_in(came)
        if frames:
            self._look(run, frames)
        elif self._link.restarted:
            self._finish_run(run, "fault", self._restarted())
        else:
            self._wait_for_telemetry(run)
        return None

    def _may_move(self) -> bool:
        return not self._stopped.is_set()

    def _look(self, run: _Run, frames: list[Telemetry]) -> None:
        """Tell planner and meter what the tick brought, and see whether the robot still does what it should."""
        before, run.frame = run.frame, frames[-1]
        bumps = cliff = 0
        for frame in frames:
            bumps |= frame["switches"] & _BUMPS
            cliff |= frame["switches"] & Switch.CLIFF
            run.charge_mah -= frame["current_ma"] * TELEMETRY_MS / 3.6e6
        # The last frame counts, as in the simulator; a contact that came and went between two looks is not missed.
        run.bumps = (run.frame["switches"] & _BUMPS) | (bumps & ~before["switches"])
        run.cliff = bool(run.frame["switches"] & Switch.CLIFF) or bool(cliff & ~before["switches"])
        since_s = round(run.next_s - run.metered_s, 3)  # more than a tick after a gap in the line
        run.metered_s = run.next_s
        run.meter.add(since_s, _sensors(run))
        run.stale = False
        if run.frame["state"] != State.ARMED:
            reason = Reason(run.frame["reason"])
            if reason == Reason.STOP:
                self._finish_run(run, "stopped")
            else:
                why = _WHY_OFF.get(reason, f"it says {reason.name.lower().replace('_', ' ')}")
                self._finish_run(run, "fault", f"the rover stopped by itself: {why}")

    def _wait_for_telemetry(self, run: _Run) -> None:
        silent_s = self._line.now_s - self._link.heard_s
        if silent_s > LOST_S:
            self._lose(
                f"{self._line.port} has been silent for {silent_s:.1f} s (the rover has stopped by itself): check "
                "cable and robot, then open it again"
            )
        if silent_s > STALE_S:
            self._line.silent(silent_s)
            if not run.stale:
                run.stale = True  # it may still hear us
                self._exchange(STOP, 0.0)

    def _finish_run(self, run: _Run, end: End, message: str = "") -> None:
        run.end, self.message = end, message
        self._exchange(STOP, 0.0)

    def finish(self) -> Outcome:
        """Motors off and seen to be off, and what the meter makes of the run. Cut short: `stopped`."""
        run = self._run
        assert run is not None, "start comes before finish"
        if run.end is None:
            self._finish_run(run, "stopped")
        if not self._line.lost:
            for _ in range(_TRIES):
                frames = self._exchange(STOP, TICK_S)
                if self._link.restarted or (frames and frames[-1]["state"] == State.DISARMED):
                    break
            else:
                self._lose("the rover does not confirm that its motors are off: switch it off, then open it again")
        assert run.end is not None
        return run.meter.outcome(run.end)

    def stop(self) -> None:
        """Motors off at once. Idempotent, from any thread, never raises."""
        self._stopped.set()
        self._line.stop()

    def close(self) -> None:
        """Stop, let go of the port, end our own emulator. Idempotent, never raises."""
        self.stop()
        self._line.close()


def open_device(address: str | None) -> Rover:
    """The robot at an address: `emulator`, a path, usb:SERIAL, or an URL. ValueError for anything else."""
    return Rover(checked("rover", address, "/dev/ttyUSB0"))


def _sensors(run: _Run) -> Sensors:
    """Telemetry as the plain readings that planner and meter know."""
    frame = run.frame
    left_counts, right_counts = run.counts
    return Sensors(
        bump_left=bool(run.bumps & Switch.BUMP_LEFT),
        bump_right=bool(run.bumps & Switch.BUMP_RIGHT),
        cliff=run.cliff,
        wall=bool(frame["switches"] & Switch.WALL),
        left_counts=left_counts,
        right_counts=right_counts,
        dirt=frame["dirt"],
        voltage_mv=frame["voltage_mv"],
        current_ma=frame["current_ma"],
        charge_mah=int(run.charge_mah),
        capacity_mah=CAPACITY_MAH,
        temperature_c=25,  # it has no thermometer
        docked=False,  # and no charging contacts
    )
