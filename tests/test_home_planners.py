"""Planners: what a pattern promises, whatever the floor."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.home.planners import decide, new_plan, planned_s
from devices.home.plant import TICK_S, Home, make_state, make_world
from devices.home.simulate import limits, run_ticks, simulate
from devices.home.types import PATTERNS, Settings
from homes import any_settings, drafted, stepped

CONTEXTS = drafted()
FLAT, ARENA = CONTEXTS["weekday"], CONTEXTS["arena-clean"]


@settings(max_examples=30, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_another_pass_never_leaves_more_dirt(chosen, replicate):
    left = [simulate(ARENA, replace(chosen, passes=passes), replicate).z[0] for passes in (1, 2, 3)]
    assert left == sorted(left, reverse=True)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("edge", [False, True])
def test_two_passes_begin_with_the_run_of_one(pattern, edge):
    once = Settings(60, 60, 300, 1, pattern, edge)
    short, long = (
        [sensors for sensors, _ in stepped(Home(ARENA, 2), replace(once, passes=passes))] for passes in (1, 2)
    )
    assert len(short) < len(long)
    assert short == long[: len(short)]


@settings(max_examples=20, deadline=None)
@given(any_settings)
def test_a_run_takes_the_planned_time(chosen):
    context = replace(ARENA, run_limit_s=3600.0, battery_floor=0.0)
    outcome = simulate(context, chosen, 0)
    assert outcome.end == "finished"
    assert outcome.z[2] * 60 == pytest.approx(planned_s(chosen, context), abs=TICK_S)


@settings(max_examples=50, deadline=None)
@given(any_settings, st.lists(st.tuples(*[st.booleans()] * 4, *[st.integers(-300, 300)] * 2), max_size=300))
def test_wheel_speeds_are_whole_and_within_reach_whatever_the_sensors_say(chosen, readings):
    plan = new_plan(chosen, ARENA)
    for reading in readings:
        left, right, _ = decide(plan, *reading)
        assert isinstance(left, int)
        assert isinstance(right, int)
        assert max(abs(left), abs(right)) <= max(chosen.speed, 300)
    assert np.isfinite(plan).all()


@pytest.mark.parametrize(("pattern", "passes"), [("lanes", 3), ("spiral", 3), ("wall", 1)])
def test_every_room_of_the_flat_is_reached_in_most_runs(pattern, passes):
    world = make_world(FLAT)
    reached = []
    for replicate in range(8):
        state, chosen = make_state(FLAT, world, replicate), Settings(60, 60, 350, passes, pattern, False)
        run_ticks(world, state, new_plan(chosen, FLAT), 60, 60, *limits(FLAT), 0, 10**6)
        floor = (world.floor == 1) | (world.floor == 2)
        shares = [state.covered[floor & (world.room == r)].mean() for r in range(4)]
        reached.append(min(shares) > 0.1)
    assert np.mean(reached) >= 0.75


def test_the_patterns_trade_differently():
    """Lanes cover most, walls bump most, spirals bump least."""
    means = {
        pattern: np.mean([simulate(FLAT, Settings(60, 60, 300, 1, pattern, False), k).z for k in range(8)], axis=0)
        for pattern in PATTERNS
    }
    assert means["lanes"][1] > means["wall"][1] + 5
    assert means["lanes"][1] > means["spiral"][1] + 5
    assert means["wall"][5] > 1.5 * means["lanes"][5]
    assert means["spiral"][5] < means["lanes"][5]


@settings(max_examples=12, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_no_robot_is_trapped_for_long(chosen, replicate):
    """In any two minutes it gets about, if only round a corner of the room."""
    home = Home(replace(FLAT, run_limit_s=400.0), replicate)
    path = np.array([home.pose[:2] for _ in stepped(home, chosen)])
    window = round(120 / TICK_S)
    for i in range(0, max(len(path) - window, 1), window // 4):
        assert np.ptp(path[i : i + window], axis=0).max() > 0.5
