"""The simulated robot vacuum: physics and no bytes. The lowest rung, and the reference for the others.

Runs on virtual time and never sleeps; pacing is the runner's. A run equals `simulate(context, settings, replicate)`
exactly, because both are the same compiled loop, here a second at a time.
"""

from threading import Lock

from devices.device import DeviceError, Progress, Readback, Realised, Refused, Rung
from devices.home.planners import new_plan, odometry, planned_s
from devices.home.plant import BUMPS, LOOK_TICKS, TICK_S, End, Home
from devices.home.simulate import END_OF_CODE, limits, run_ticks
from devices.home.types import Context, Outcome, Settings
from firmware_bridge.link_state import NO_LINE


class Simvac:
    """A Device over a simulated Home."""

    name = "simvac"
    rung: Rung = "simulator"
    message = ""  # a simulated run has no faults
    link = NO_LINE

    def __init__(self) -> None:
        self._lock = Lock()  # `stop` may come from any thread, in the middle of an `advance`
        self._home: Home | None = None
        self._settings: Settings | None = None
        self._ticks = 0
        self._end: End | None = None
        self._stopped = False

    def open(self) -> dict[str, str]:
        """Nothing to connect to."""
        return {"robot": self.name, "firmware": "none", "plant": "devices.home.plant"}

    def prepare(self, context: Context, replicate: int) -> None:
        """Lay out the home of this context and replicate, 0..15."""
        if not 0 <= replicate < 16:
            raise DeviceError(f"simvac: replicate {replicate} is not one of 0..15; ask for one of those")
        with self._lock:
            self._home = Home(context, replicate)
            self._settings = None
            self._end = None
            self._stopped = False

    def emulator_state(self) -> dict[str, object]:
        """What can be looked up in the simulated home, as an emulator's says it."""
        with self._lock:
            return {"instruments": self._home.instruments()} if self._home else {}

    def start(self, settings: Settings) -> Readback:
        """Take the settings and be ready to move. A simulator knows all its settings: each is read back."""
        with self._lock:
            if self._home is None or self._settings is not None:
                raise Refused("simvac: nothing prepared; call prepare before each start")
            if self._stopped:
                raise Refused("simvac: was stopped after it was prepared; prepare it again before a start")
            self._settings = settings
            self._plan = new_plan(settings, self._home.context)
            self._ticks = 0
        how: dict[str, Realised] = dict.fromkeys(settings.__dataclass_fields__, "read back")
        return Readback(settings=settings, how=how)

    def advance(self) -> Progress:
        """Drive on for one second, or until the run ends."""
        with self._lock:
            home, settings = self._running()
            if self._end is None:
                limit_ticks, floor_mah = limits(home.context)
                self._ticks, code = run_ticks(
                    home.world,
                    home.state,
                    self._plan,
                    settings.fan,
                    settings.brush,
                    limit_ticks,
                    floor_mah,
                    self._ticks,
                    LOOK_TICKS,
                )
                self._end = END_OF_CODE[code]
            elapsed_s = self._ticks * TICK_S
            whole_s = min(planned_s(settings, home.context), home.context.run_limit_s)
            done = self._end is not None
            return Progress(
                elapsed_s=elapsed_s,
                fraction=1.0 if done and self._end != "stopped" else min(elapsed_s / whole_s, 1.0),
                pose=odometry(self._plan, home.context.plan),
                bumps=int(home.state.body[BUMPS]),
                done=done,
            )

    def finish(self) -> Outcome:
        """What the run did. A run that is still going on is stopped first."""
        self.stop()
        with self._lock:
            home, _ = self._running()
            assert self._end is not None
            return home.truth(self._end)

    def stop(self) -> None:
        """End the run where it stands. Idempotent, from any thread; a run that has ended keeps its own end."""
        with self._lock:
            self._stopped = True
            if self._settings is not None and self._end is None:
                self._end = "stopped"

    def close(self) -> None:
        """Stop. There is no port to let go of."""
        self.stop()

    def _running(self) -> tuple[Home, Settings]:
        if self._home is None or self._settings is None:
            raise Refused("simvac: no run; call prepare and start first")
        return self._home, self._settings


def open_device(address: str | None) -> Simvac:
    """The device; it has no address."""
    if address is not None:
        raise ValueError(f"simvac is simulated and has no address, got {address!r}")
    return Simvac()
