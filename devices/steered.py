"""What the robots that this host steers, tick by tick, have in common: roomba, neato, rover."""

from typing import Protocol

from devices.device import Progress
from devices.home.meter import Meter
from devices.home.planners import decide, new_plan
from devices.home.plant import End
from devices.home.simulate import why_ended
from devices.home.types import Context, Settings

TICKS_A_CALL = 16  # of 60 ms, 0.96 s: `advance` drives on for at most a second


class Run(Protocol):
    """One run from its start on, as far as its progress goes."""

    planned_s: float
    meter: Meter
    began_s: float
    next_s: float  # when the tick under way ends, on the transport's clock
    end: End | None


def warm_up(context: Context) -> None:
    """Compile what a tick needs: a robot that drives must not wait for a compiler."""
    plan = new_plan(Settings(0, 0, 100, 1, "lanes", False), context)
    decide(plan, False, False, False, False, 0, 0)
    why_ended(context, False, 0, 1)


def progress(run: Run) -> Progress:
    """Where the run stands."""
    elapsed_s = round(run.next_s - run.began_s, 6)  # the same figure whatever the clock stood at
    fraction = 1.0 if run.end == "finished" else min(elapsed_s / run.planned_s, 1.0)
    return Progress(elapsed_s, fraction, run.meter.pose, run.meter.bumps, run.end is not None)
