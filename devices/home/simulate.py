"""Whole runs at once: the plant and the planner in one compiled loop, step for step what `Home` and `decide` do."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit
from numpy.typing import NDArray

from devices.home.planners import SIDE_BRUSH, decide, new_plan
from devices.home.plant import (
    CHARGE_MAH,
    PLAN_EVERY,
    TICK_S,
    End,
    State,
    World,
    make_state,
    make_world,
    outcome_z,
    sense,
    steps,
    true_outcome,
    tune,
)
from devices.home.power import CAPACITY_MAH
from devices.home.types import Context, Outcome, Settings

_GOES_ON, _FINISHED, _RUN_LIMIT, _BATTERY = 0, 1, 2, 3
END_OF_CODE: tuple[End | None, ...] = (None, "finished", "run_limit", "battery")


@njit(cache=True)
def _end(done: bool, ticks: int, charge_mah: int, limit_ticks: int, floor_mah: float) -> int:
    if done:
        return _FINISHED
    if ticks >= limit_ticks:
        return _RUN_LIMIT
    return _BATTERY if charge_mah <= floor_mah else _GOES_ON


def limits(context: Context) -> tuple[int, float]:
    """Where a run is cut short: after so many ticks, and at so much charge (mAh)."""
    return math.ceil(context.run_limit_s / TICK_S - 1e-9), context.battery_floor * CAPACITY_MAH


def why_ended(context: Context, done: bool, ticks: int, charge_mah: int) -> End | None:
    """None while the run goes on. Asked after each `decide`, with the ticks driven so far and the charge as read."""
    return END_OF_CODE[_end(done, ticks, charge_mah, *limits(context))]


@njit(cache=True, nogil=True)
def run_ticks(
    world: World,
    state: State,
    plan: NDArray[np.float64],
    fan: int,
    brush: int,
    limit_ticks: int,
    floor_mah: float,
    first_tick: int,
    num_ticks: int,
) -> tuple[int, int]:
    """Drive on for at most num_ticks: ticks driven in all, and the code of `END_OF_CODE`."""
    tune(world, state, fan, brush, SIDE_BRUSH)
    codes, cell_m, space, floor, room = world.codes, world.cell_m, world.space, world.floor, world.room
    body, tuned, loose, bound, covered = state.body, state.tuned, state.loose, state.bound, state.covered
    sound, under, keys = state.sound, state.under, state.keys
    tick = first_tick
    while tick < first_tick + num_ticks:
        bump_left, bump_right, cliff, wall, left_counts, right_counts = sense(space, body)
        left, right, done = decide(plan, bump_left, bump_right, cliff, wall, left_counts, right_counts)
        end = _end(done, tick, int(body[CHARGE_MAH]), limit_ticks, floor_mah)
        if end != _GOES_ON:
            return tick, end
        steps(
            codes, cell_m, space, floor, room, body, tuned, loose, bound, covered, sound, under, keys,
            left, right, PLAN_EVERY,
        )  # fmt: skip
        tick += 1
    return tick, _GOES_ON


def simulate(context: Context, settings: Settings, replicate: int) -> Outcome:
    """One whole run. The same arguments give the same bytes."""
    z, end = _run(make_world(context), context, settings, replicate)
    return true_outcome(z, end)


def _run(world: World, context: Context, settings: Settings, replicate: int) -> tuple[NDArray[np.float64], End]:
    state = make_state(context, world, replicate)
    plan = new_plan(settings, context)
    limit_ticks, floor_mah = limits(context)
    _, code = run_ticks(world, state, plan, settings.fan, settings.brush, limit_ticks, floor_mah, 0, limit_ticks + 1)
    end = END_OF_CODE[code]
    assert end is not None, "limit_ticks ends every run"
    return outcome_z(world, state), end


def simulate_table(
    contexts: Sequence[Context], settings: Sequence[Settings], replicates: Sequence[int], workers: int | None = None
) -> NDArray[np.float64]:
    """(S, X, K, 6) outcomes of every setting in every context and replicate. The same for any number of workers."""
    table = np.empty((len(settings), len(contexts), len(replicates), 6))
    worlds = [make_world(context) for context in contexts]

    def fill(cell: tuple[int, int, int]) -> None:
        s, x, k = cell
        table[s, x, k] = _run(worlds[x], contexts[x], settings[s], replicates[k])[0]

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        # list() so that an error in a worker is raised here.
        list(pool.map(fill, np.ndindex(table.shape[:3])))
    return table
