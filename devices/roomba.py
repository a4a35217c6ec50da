"""A Roomba or Create 2 over the Open Interface: emulator, real serial port, or any URL that pyserial opens.

The host steers: every 60 ms the planner's wheel speeds go out as one drive direct command, and the frames that came
back (one every 15 ms) go to the planner and to the meter. The robot has no dead man, so the port is held by a guard
process that stops it when this process dies (firmware_bridge.bridge).

Sources: "iRobot Create 2 Open Interface Specification"; docs/roomba.md.
"""

import contextlib
import threading
from dataclasses import dataclass, replace
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from devices.device import LinkLost, Progress, Readback, Realised, Refused, Rung
from devices.home.meter import Meter
from devices.home.planners import SIDE_BRUSH, decide, new_plan, planned_s
from devices.home.plant import TICK_S, End
from devices.home.simulate import why_ended
from devices.home.types import PROGRAMMES, Context, Outcome, Settings
from devices.line import Line, checked, lay_out, prepared
from devices.steered import TICKS_A_CALL, progress, warm_up
from firmware_bridge import oi
from firmware_bridge.bridge_client import Tap
from firmware_bridge.link_state import LinkState
from firmware_bridge.plant import Sensors

HELLO_S = 2.0  # until the first frame after open
STALE_S = 0.5  # without a frame: the wheels are stopped, the run may still go on
LOST_S = 2.0  # without a frame: the link is lost
CONFIRM_TICKS = 5  # 0.3 s for mode and speeds to be read back, and for the motors to show their current
MAX_REVERTS = 300  # fallbacks to passive at drops in one run; a robot that meets more circles beside an open stair
_OVERCURRENT_TICKS = 17  # a second of it: a jammed brush, not a jolt
# What a run tells by light and sound: the power LED (0 green to 255 red, brightness) and a song of a few notes.
STARTED = oi.leds(0, 0, 255) + oi.song(0, ((72, 8), (79, 12))) + oi.play(0)
ENDED = oi.leds(0, 0, 60) + oi.song(1, ((79, 8), (72, 12))) + oi.play(1)
FAILED = oi.leds(0, 255, 255) + oi.song(2, ((48, 24), (0, 8), (48, 24))) + oi.play(2)
_STANDS_TICKS = 50  # 3 s without a turn of the wheels: a cleaning of its own has ended
_CHARGING = (1, 2, 3)  # states of packet 21: reconditioning, full, trickle
_MA_THAT_SHOWS = 40  # a rise of current that is more than noise


class Frame(NamedTuple):
    """One stream frame. The fields' order is that of PACKETS."""

    bumps: int  # bit 0 right, 1 left, 2 and 3 wheel drops
    wall: int
    cliff_left: int
    cliff_front_left: int
    cliff_front_right: int
    cliff_right: int
    overcurrents: int
    dirt: int
    charging: int
    voltage_mv: int
    current_ma: int  # negative while discharging
    temperature_c: int
    charge_mah: int
    capacity_mah: int
    sources: int
    mode: int
    right_mm_s: int  # as last requested
    left_mm_s: int
    left_encoder: int
    right_encoder: int
    left_ma: int
    right_ma: int
    brush_ma: int
    side_ma: int

    @property
    def cliff(self) -> bool:
        return bool(self.cliff_left or self.cliff_front_left or self.cliff_front_right or self.cliff_right)

    @property
    def fan_and_idle_ma(self) -> int:
        """The battery's current that no wheel or brush accounts for. The OI has no packet for the fan."""
        return -self.current_ma - self.left_ma - self.right_ma - self.brush_ma - self.side_ma


PACKETS = (7, 8, 9, 10, 11, 12, 14, 15, 21, 22, 23, 24, 25, 26, 34, 35, 41, 42, 43, 44, 54, 55, 56, 57)
assert len(PACKETS) == len(Frame._fields)


@dataclass
class _Run:
    """One run from its start on."""

    settings: Settings
    plan: NDArray[np.float64]
    planned_s: float
    meter: Meter
    motors: bytes
    frame: Frame  # the last one of the last tick
    began_s: float
    next_s: float  # when the tick under way ends, on the transport's clock
    metered_s: float  # up to when the meter has been told
    preamble: bytes  # goes out before the next drive command
    bumps: int  # bits of packet 7 that the planner has to see
    cliff: bool
    wheels: tuple[int, int] = (0, 0)  # left and right as last commanded
    left_counts: int = 0
    right_counts: int = 0
    overcurrent_ticks: int = 0
    still_ticks: int = 0  # of a cleaning of its own
    stale: bool = False
    end: End | None = None

    @property
    def own(self) -> bool:
        """The robot cleans by itself, the host looks on."""
        return self.settings.pattern in PROGRAMMES


class Roomba:
    """One robot. See `devices.device.Device` for the order of calls."""

    name = "roomba"

    def __init__(self, address: str, tap: Tap | None = None, heartbeat_s: float | None = None) -> None:
        """`emulator` starts one of our own; a path or an URL is a port. heartbeat_s: see firmware_bridge.bridge."""
        self.address = address
        self.message = ""  # why the last run ended in a fault, with the remedy
        self.num_garbage = 0  # bytes of the last session's line that were no frames
        self.num_reverts = 0  # fallbacks to passive at a drop, this run
        self.num_odd_modes = 0  # mode bytes that the specification does not know
        self._line = Line("roomba", address, oi.HALT, tap, heartbeat_s)
        self._stopped = threading.Event()
        self._decoder = oi.StreamDecoder(PACKETS)
        self._last: Frame | None = None
        self._heard_s = 0.0
        self._context: Context | None = None
        self._replicate = 0
        self._laid_out = False  # the emulated home is as before a run
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
        """Connect, say hello, listen. After a lost link it tries the same address again and arms nothing."""
        self._line.open()
        self._laid_out = False
        try:
            return self._hello()
        except LinkLost as problem:
            self._line.hang_up(str(problem))  # a robot that does not answer must not keep its port from others
            raise

    def _identity(self) -> dict[str, str]:
        frame = self._last
        assert frame is not None
        return {
            "robot": "Roomba or Create 2",  # the Open Interface has no packet for model, firmware or serial number
            "protocol": "iRobot Open Interface",
            "address": self._line.port,
            "rung": self.rung,
            "battery": f"{frame.charge_mah} of {frame.capacity_mah} mAh, {frame.voltage_mv} mV",
            "temperature": f"{frame.temperature_c} C",
        }

    def _hello(self) -> dict[str, str]:
        """Start the interface and wait for frames; a robot that sleeps is woken once."""
        self._line.greeted()
        self._decoder = oi.StreamDecoder(PACKETS)
        self._last = None
        for attempt in range(2):
            # Safe mode, standing still: in passive mode the robot would fall asleep while the person thinks. On its
            # charger it drops back to passive by itself and goes on charging.
            self._say(oi.START + oi.stream(PACKETS) + oi.SAFE_MODE)
            began_s = self._line.now_s
            while self._line.now_s - began_s < HELLO_S / 2:
                self._listen(TICK_S)
                if self._last is not None:
                    return self._line.identified(self._identity())
            if attempt == 0:
                self._line.wake()
        return self._lose(
            f"{self._line.port} answers nothing: switch the robot on, press CLEAN to wake it, check the cable"
        )

    def _exchange(self, data: bytes, until_s: float, armed: bool = False) -> bytes:
        try:
            return self._line.exchange(data, until_s, self._may_move if armed else None)
        except LinkLost as problem:
            self._note(str(problem))
            raise

    def _may_move(self) -> bool:
        return not self._stopped.is_set()

    def _listen(self, wait_s: float) -> list[Frame]:
        """Frames of the next wait_s, outside of a run."""
        return self._take_in(self._exchange(b"", self._line.now_s + wait_s))

    def _say(self, data: bytes) -> None:
        """Write outside of a run, without waiting."""
        self._take_in(self._exchange(data, 0.0))

    def _take_in(self, came: bytes) -> list[Frame]:
        frames = [Frame._make(values) for values in self._decoder.feed(came)]
        self.num_garbage = self._decoder.num_garbage
        if frames:
            self._last = frames[-1]
            self._heard_s = self._line.now_s
            self._line.heard()
        return frames

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
        self._listen(TICK_S)

    def _lay_out(self) -> None:
        if self._context is not None:
            lay_out(self._line, self._context, self._replicate)
        self._laid_out = True

    def emulator_state(self) -> dict[str, object]:
        """What an emulator in virtual time says of itself; for tests and conformance checks."""
        return self._line.request("s", {})

    def start(self, settings: Settings) -> Readback:
        """Settings and motion in one write, then read back.

        How each field is known: speed is read back (the robot echoes the wheel speeds that the planner derived from
        it). The OI does not echo the motors' duties, so brush and fan are inferred when their current shows, and not
        readable when it does not. Passes, pattern and edge are the host's own steering; the wheels that obey it are the
        evidence, so they are inferred.
        """
        context = prepared("roomba", self._context, self._stopped.is_set())
        if not self._laid_out:  # armed again after a lost link, perhaps on an emulator that was started anew
            self._lay_out()
        self._listen(TICK_S)
        if self._line.now_s - self._heard_s > STALE_S:
            self._hello()
        frame = self._last
        assert frame is not None
        self._check(frame, settings, context)
        own = settings.pattern in PROGRAMMES
        if own:  # its own motors, and a drive command would not be heeded; MAX is the CLEAN that asks for more
            motors = oi.SPOT if settings.pattern == "spot" else oi.MAX if settings.passes > 1 else oi.CLEAN
        else:
            motors = oi.pwm_motors(settings.brush, SIDE_BRUSH, settings.fan)
        run = self._run = _Run(
            settings=settings,
            plan=new_plan(settings, context),
            planned_s=min(planned_s(settings, context), context.run_limit_s),
            meter=Meter(context, settings),
            motors=motors,
            frame=frame,
            began_s=self._line.now_s,
            next_s=self._line.now_s,
            metered_s=self._line.now_s,
            # Halt comes first, so that nothing of an earlier run is left.
            preamble=oi.HALT + oi.SAFE_MODE + (STARTED + motors if own else motors + STARTED),
            bumps=frame.bumps,
            cliff=frame.cliff,
        )
        run.meter.add(0.0, _sensors(frame, frame.bumps, 0, 0))
        self.message, self.num_reverts, self.num_odd_modes, self._laid_out = "", 0, 0, False
        return self._confirm_its_own(run) if run.own else self._confirm(run, frame)

    def _check(self, frame: Frame, settings: Settings, context: Context) -> None:
        """Refuse before anything moves."""
        if not (0 <= settings.fan <= 100 and 0 <= settings.brush <= 100 and 0 < settings.speed <= oi.MAX_WHEEL_MM_S):
            raise Refused(f"{settings} is beyond a Roomba: fan and brush 0 to 100 percent, speed 1 to 500 mm/s")
        if frame.sources or frame.charging in _CHARGING:
            raise Refused("the robot is on its charger: lift it off the dock and set it at the start")
        if frame.bumps & 0b1100:
            raise Refused("a wheel hangs free: set the robot on the floor")
        fill = frame.charge_mah / max(frame.capacity_mah, 1)
        if fill <= context.battery_floor:
            raise Refused(f"battery at {fill:.0%}, the run needs more than {context.battery_floor:.0%}: charge it")

    def _confirm_its_own(self, run: _Run) -> Readback:
        """A cleaning of its own: that the wheels turn in passive mode is all that the interface tells of it."""
        for _ in range(_STANDS_TICKS - 1):
            if run.end is not None or run.left_counts or run.right_counts:
                break
            self._tick(run)
        if run.end is not None or not (run.left_counts or run.right_counts):
            why = self.message or "its wheels do not turn: is it on its charger?"
            self._finish_run(run, "fault", f"the robot did not take the start ({why})")
            raise Refused(self.message)
        how: dict[str, Realised] = dict.fromkeys(Settings.__dataclass_fields__, "not readable")
        return Readback(run.settings, how | {"pattern": "inferred"})

    def _confirm(self, run: _Run, before: Frame) -> Readback:
        """Drive the first ticks until the robot has confirmed what it can."""
        settings = run.settings
        echoed = brush_shows = fan_shows = False
        for _ in range(CONFIRM_TICKS):
            self._tick(run)
            if run.end is not None:
                break
            frame = run.frame
            if frame.mode in (oi.SAFE, oi.FULL) and (frame.left_mm_s, frame.right_mm_s) == run.wheels:
                echoed = True
            elif not run.preamble:
                run.preamble = oi.SAFE_MODE + run.motors
            brush_shows |= frame.brush_ma - before.brush_ma > _MA_THAT_SHOWS
            fan_shows |= frame.fan_and_idle_ma - before.fan_and_idle_ma > _MA_THAT_SHOWS
            if echoed and (brush_shows or not settings.brush) and (fan_shows or not settings.fan):
                break
        if not echoed and run.end in (None, "fault"):
            frame = run.frame
            wheels = f"wheels {frame.left_mm_s}, {frame.right_mm_s} mm/s"
            why = self.message or f"it says mode {oi.mode_name(frame.mode)}, {wheels}"
            self._finish_run(run, "fault", f"the robot did not take the start ({why}): see to it and start again")
            raise Refused(self.message)
        how: dict[str, Realised] = {
            "fan": "inferred" if fan_shows else "not readable",
            "brush": "inferred" if brush_shows else "not readable",
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
            if run.own:
                left = right = 0
                done = run.still_ticks > _STANDS_TICKS
            else:
                bump_left, bump_right, wall = bool(run.bumps & 2), bool(run.bumps & 1), bool(run.frame.wall)
                left, right, done = decide(
                    run.plan, bump_left, bump_right, run.cliff, wall, run.left_counts, run.right_counts
                )
            assert self._context is not None
            num_ticks = round((run.next_s - run.began_s) / TICK_S)
            end = why_ended(self._context, done, num_ticks, run.frame.charge_mah)
            if end is not None:
                return self._finish_run(run, end)
            run.wheels = (left, right)
            data = run.preamble + (b"" if run.own else oi.drive_direct(left, right))
            run.preamble = b""
        # On the wall clock a host that was held up does not hurry after the ticks that it missed.
        run.next_s = max(run.next_s, self._line.now_s - TICK_S) + TICK_S
        frames = self._take_in(self._exchange(data, run.next_s, armed=True))
        if frames:
            self._look(run, frames)
        else:
            self._wait_for_frames(run)
        return None

    def _look(self, run: _Run, frames: list[Frame]) -> None:
        """Tell planner and meter what the tick brought, and see whether the robot still does what it should."""
        before, frame = run.frame, frames[-1]
        bumps = cliff = 0
        for each in frames:
            bumps |= each.bumps
            cliff |= each.cliff
        # The last frame counts, as in the simulator; a contact that came and went between two looks is not missed.
        run.bumps = frame.bumps | (bumps & ~before.bumps)
        run.cliff = frame.cliff or (bool(cliff) and not before.cliff)
        # At 500 mm/s an encoder turns 68 counts a tick: differences of the last frames are unambiguous for a minute.
        left = _wrapped(frame.left_encoder - before.left_encoder)
        right = _wrapped(frame.right_encoder - before.right_encoder)
        run.left_counts += left
        run.right_counts += right
        run.still_ticks = 0 if left or right else run.still_ticks + 1
        run.frame = frame
        # A tick is four frames of 15 ms; after a gap in the line it is more.
        since_s = round((run.next_s - run.metered_s) / oi.STREAM_STEP_S) * oi.STREAM_STEP_S
        run.metered_s = run.next_s
        run.meter.add(since_s, _sensors(frame, run.bumps, run.left_counts, run.right_counts))
        if run.stale:
            run.stale = False
            run.preamble = oi.SAFE_MODE + run.motors  # of its own: the halt has ended it, so it begins anew
        run.overcurrent_ticks = run.overcurrent_ticks + 1 if frame.overcurrents else 0
        if bumps & 0b1100:
            self._finish_run(run, "fault", "a wheel hung free: set the robot on the floor and start again")
        elif frame.mode in (oi.OFF, oi.PASSIVE) and not (run.own and frame.mode == oi.PASSIVE):
            self._recover(run, frame, bool(cliff))
        elif run.overcurrent_ticks > _OVERCURRENT_TICKS:
            what = "main brush" if frame.overcurrents & 4 else "side brush" if frame.overcurrents & 1 else "wheel"
            self._finish_run(run, "fault", f"the {what} is jammed (overcurrent for a second): free it and start again")
        elif frame.mode > oi.FULL:
            self.num_odd_modes += 1  # seen in the field; the next frame tells

    def _recover(self, run: _Run, frame: Frame, cliff: bool) -> None:
        """Safe mode falls back to passive at a drop, by design: safe again, and the next command backs off."""
        if cliff and frame.mode == oi.PASSIVE:
            self.num_reverts += 1
            run.preamble = oi.SAFE_MODE + run.motors
            if self.num_reverts > MAX_REVERTS:
                self._finish_run(run, "fault", f"{MAX_REVERTS} stops at a drop in one run: close off the stairs")
        elif frame.sources or frame.charging in _CHARGING:
            self._finish_run(run, "fault", "the robot met its charger and stopped: take the dock away or set it apart")
        else:
            mode = oi.mode_name(frame.mode)
            self._finish_run(run, "fault", f"the robot fell back to {mode} mode: was a button pressed? Start again")

    def _wait_for_frames(self, run: _Run) -> None:
        silent_s = self._line.now_s - self._heard_s
        if silent_s > LOST_S:
            self._lose(
                f"{self._line.port} has been silent for {silent_s:.1f} s: check cable and robot, then open it again"
            )
        if silent_s > STALE_S:
            self._line.silent(silent_s)
            if not run.stale:
                run.stale = True  # it may still hear us
                self._say(oi.HALT)

    def _finish_run(self, run: _Run, end: End, message: str = "") -> None:
        run.end, self.message = end, message
        self._say(oi.HALT + (FAILED if end == "fault" else ENDED))

    def finish(self) -> Outcome:
        """Motors off and seen to be off, and what the meter makes of the run. Cut short: `stopped`."""
        run = self._run
        assert run is not None, "start comes before finish"
        if run.end is None:
            self._finish_run(run, "stopped")
        if not self._line.lost:
            self._say(oi.HALT)
            self._listen(TICK_S)
            assert self._last is not None
            if self._last.left_mm_s or self._last.right_mm_s:
                self._lose("the robot does not confirm that its wheels stand: lift it up, then open it again")
        assert run.end is not None
        outcome = run.meter.outcome(run.end)
        return replace(outcome, reproducibility=None) if run.own else outcome  # the simulator drives lanes in its place

    def stop(self) -> None:
        """Motors off at once. Idempotent, from any thread, never raises."""
        self._stopped.set()
        self._line.stop()

    def close(self) -> None:
        """Stop, leave the interface, let go of the port, end our own emulator. Idempotent, never raises."""
        self.stop()
        with contextlib.suppress(LinkLost):
            self._say(oi.HALT + oi.PAUSE_STREAM + oi.STOP_OI)
        self._line.close()


def open_device(address: str | None) -> Roomba:
    """The robot at an address: `emulator`, a path, usb:SERIAL, or an URL. ValueError for anything else."""
    return Roomba(checked("roomba", address, "/dev/ttyUSB0"))


def _wrapped(difference: int) -> int:
    """The way an encoder went between two frames: it wraps at 16 bits in both directions."""
    return ((difference + 0x8000) & 0xFFFF) - 0x8000


def _sensors(frame: Frame, bumps: int, left_counts: int, right_counts: int) -> Sensors:
    """A frame as the plain readings that planner and meter know."""
    return Sensors(
        bump_left=bool(bumps & 2),
        bump_right=bool(bumps & 1),
        cliff=frame.cliff,
        wall=bool(frame.wall),
        left_counts=left_counts,
        right_counts=right_counts,
        dirt=frame.dirt,
        voltage_mv=frame.voltage_mv,
        current_ma=-frame.current_ma,
        charge_mah=frame.charge_mah,
        capacity_mah=frame.capacity_mah,
        temperature_c=frame.temperature_c,
        docked=bool(frame.sources & 2),
    )
