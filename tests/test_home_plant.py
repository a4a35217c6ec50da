"""The simulated home: the laws that every run keeps."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.home.noise import world_key
from devices.home.plan import DIRT_M, DOCK, OBSTACLE, ROBOT_RADIUS_M, nearest
from devices.home.plant import FALLEN, MM_PER_COUNT, REMOVED_G, TICK_S, Home
from devices.home.power import CAPACITY_MAH
from devices.home.sound import CARPET_DB, FRONT_DOOR_DB, WALL_DB
from devices.home.types import Settings
from firmware_bridge.plant import Actuators
from homes import SOUND_DBA, any_settings, drafted, drawn, drive, empty_room, stepped

CONTEXTS = drafted()
ARENA = CONTEXTS["arena-spill"]
STAIRS = drawn(
    "####################",
    *("#aaaaaaaaaaaa!!!!!!#",) * 6,
    *("#aaaaaaaaaaaaaaaaaa#",) * 12,
    "####################",
    start_m=(0.5, 1.7),
)


def grams(home: Home) -> float:
    return float(np.nansum(home.dirt_g_m2()) * DIRT_M**2)


# Driving


def test_encoders_tell_a_straight_drive():
    home = Home(empty_room(4.0), 0)
    x, y, _ = home.pose
    sensors = drive(home, 300, 300, 3.0)
    assert home.pose[0] - x == pytest.approx(0.9, rel=0.005)
    assert home.pose[1] - y == pytest.approx(0.0, abs=0.01)
    assert sensors.left_counts == sensors.right_counts == int(900 / MM_PER_COUNT)


def test_encoders_tell_a_turn():
    home = Home(empty_room(), 0)
    sensors = drive(home, -100, 100, 1.5)
    assert home.pose[2] == pytest.approx((sensors.right_counts - sensors.left_counts) * MM_PER_COUNT / 235.0, abs=0.02)


@pytest.mark.parametrize(("floor", "least", "most"), [("a", 0.1, 1.0), ("A", 0.5, 3.0)])
def test_the_heading_wanders_by_degrees_a_minute_and_more_on_carpet(floor, least, most):
    drifts = []
    for replicate in range(12):
        home = Home(empty_room(4.0, floor), replicate)
        for way in (1, -1) * 10:  # a minute to and fro
            drive(home, 300 * way, 300 * way, 3.0)
        drifts.append(math.degrees(home.pose[2]))
    assert least < np.std(drifts) < most


def test_a_wall_stops_the_robot_and_its_wheels_and_presses_both_switches():
    home = Home(empty_room(2.0), 0)
    sensors = drive(home, 300, 300, 6.0)  # 1.8 m where 0.83 m are free
    assert home.pose[0] == pytest.approx(2.1 - ROBOT_RADIUS_M, abs=0.01)
    assert (sensors.bump_left, sensors.bump_right) == (True, True)
    assert sensors.left_counts * MM_PER_COUNT < 830 + 0.06 * 970  # stalled, but for a little slip


@pytest.mark.parametrize(("heading_deg", "pressed"), [(40, (False, True)), (-40, (True, False)), (0, (True, True))])
def test_a_bump_is_felt_on_its_side(heading_deg, pressed):
    home = Home(empty_room(2.0, start_m=(1.85, 1.1), heading_deg=heading_deg), 0)
    felt = [drive(home, 200, 200, 0.06) for _ in range(12)]
    first = next(s for s in felt if s.bump_left or s.bump_right)
    assert (first.bump_left, first.bump_right) == pressed


def test_backing_into_a_wall_presses_nothing():
    home = Home(empty_room(2.0), 0)
    assert not any(drive(home, -300, -300, 6.0)[:2])


def test_the_wall_sensor_looks_right():
    assert drive(Home(empty_room(2.0, start_m=(1.1, 0.30)), 0), 0, 0, 0.0).wall
    assert not drive(Home(empty_room(2.0, start_m=(1.1, 1.90)), 0), 0, 0, 0.0).wall


def test_a_cliff_stops_the_wheels_until_the_next_command():
    home = Home(STAIRS, 0)
    sensors = drive(home, 300, 300, 6.0)  # nobody reacts
    assert sensors.cliff
    assert home.pose[0] < 1.3 - 0.1
    assert drive(home, 300, 300, 0.06).left_counts == sensors.left_counts
    assert drive(home, -100, -100, 0.06).left_counts < sensors.left_counts  # back is allowed
    assert home.state.body[FALLEN] == 0


@settings(max_examples=25, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_no_planner_drives_over_a_drop(chosen, replicate):
    home = Home(replace(STAIRS, run_limit_s=60.0), replicate)
    for _ in stepped(home, chosen):
        pass
    assert home.state.body[FALLEN] == 0


@settings(max_examples=20, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_no_path_crosses_an_obstacle(chosen, replicate):
    home = Home(replace(ARENA, run_limit_s=60.0), replicate)
    before = home.pose
    for _ in stepped(home, chosen):
        x, y, _ = home.pose
        assert nearest(home.world.codes, home.world.cell_m, x, y, OBSTACLE, DOCK)[2] > ROBOT_RADIUS_M - 1e-5
        # Obstacles are 0.44 m wide to a centre: with both ends free, a stride of 3 cm cannot cross one.
        assert math.hypot(x - before[0], y - before[1]) < 0.03
        before = home.pose


# Dirt


@settings(max_examples=20, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_dirt_is_neither_made_nor_lost(chosen, replicate):
    home = Home(replace(ARENA, run_limit_s=60.0), replicate)
    before = grams(home)
    for _ in stepped(home, chosen):
        pass
    assert home.state.body[REMOVED_G] + grams(home) == pytest.approx(before, rel=1e-9)
    assert before == pytest.approx(ARENA.dirt_g_m2 * home.world.cleanable_m2, rel=1e-9)  # the stated mean, exactly


def test_dirt_is_patchy_and_carpet_holds_more():
    home = Home(CONTEXTS["weekday"], 3)
    dirt = home.dirt_g_m2()
    carpet, hard = dirt[home.world.floor == 2], dirt[home.world.floor == 1]
    assert 1.4 < carpet.mean() / hard.mean() < 2.8  # factor 2, over a few patches
    assert np.std(hard) > 0.4 * np.mean(hard)


@pytest.mark.parametrize(
    ("floor", "worse", "better"),
    [
        ("a", {"fan": 30}, {"fan": 90}),
        ("A", {"fan": 30}, {"fan": 90}),
        ("A", {"brush": 0}, {"brush": 90}),
        ("a", {"speed": 400}, {"speed": 150}),
    ],
)
def test_what_picks_up_more(floor, worse, better):
    def left_behind(fan: int = 60, brush: int = 60, speed: int = 300) -> float:
        home = Home(empty_room(4.0, floor, start_m=(0.5, 2.1)), 0)
        home.advance(3000 / speed // TICK_S * TICK_S, Actuators(speed, speed, fan, brush, 60))
        return grams(home)

    assert left_behind(**better) < left_behind(**worse)


def test_the_brush_matters_on_carpet_far_more_than_on_hard_floor():
    def removed(floor: str, brush: int) -> float:
        home = Home(empty_room(4.0, floor, start_m=(0.5, 2.1)), 0)
        home.advance(9.0, Actuators(300, 300, 60, brush, 0))
        return float(home.state.body[REMOVED_G])

    assert removed("A", 100) / removed("A", 0) > 1.8
    assert removed("a", 100) / removed("a", 0) < 1.25


# Electricity


@settings(max_examples=15, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_energy_is_the_integral_of_volts_and_amperes(chosen, replicate):
    home = Home(replace(ARENA, run_limit_s=60.0), replicate)
    joules = sum(1e-6 * s.voltage_mv * s.current_ma * TICK_S for s, _ in list(stepped(home, chosen))[1:])
    energy_wh = home.truth("finished").z[4]
    assert energy_wh * 3600 == pytest.approx(joules, rel=2e-3)


def test_charge_falls_by_what_flows_and_the_voltage_sags_under_load():
    home = Home(empty_room(), 0)
    idle = home.advance(TICK_S, Actuators(0, 0, 0, 0, 0))
    busy = home.advance(600.0, Actuators(0, 0, 100, 100, 100))
    assert busy.voltage_mv < idle.voltage_mv - 200
    assert idle.charge_mah - busy.charge_mah == pytest.approx(busy.current_ma / 6, rel=0.03)
    assert busy.temperature_c > idle.temperature_c


def test_carpet_costs_more():
    hard, pile = (Home(empty_room(4.0, floor), 0) for floor in "aA")
    for home in (hard, pile):
        home.advance(3.0, Actuators(300, 300, 50, 100, 0))
    assert pile.truth("finished").z[4] > 1.2 * hard.truth("finished").z[4]


def docking(speed: int, heading_deg: float = 0.0) -> Home:
    rows = ("############", *("#aaaaaaaaaa#",) * 4, *("#aaaaaaaaa@#",) * 2, *("#aaaaaaaaaa#",) * 4, "############")
    home = Home(drawn(*rows, start_m=(0.6, 0.6), heading_deg=heading_deg, battery=0.5), 0)
    drive(home, speed, speed, 300 / speed)
    return home


def test_a_robot_that_noses_in_slowly_is_docked_and_charges():
    home = docking(50)
    before = drive(home, 0, 0, 0.06)
    assert before.docked
    assert not (before.bump_left or before.bump_right)
    after = drive(home, 0, 0, 600.0)
    assert before.current_ma < 0
    assert before.charge_mah < after.charge_mah <= CAPACITY_MAH
    assert not drive(home, -50, -50, 0.06).docked


def test_too_fast_or_askew_is_a_bump_and_no_dock():
    assert not drive(docking(100), 0, 0, 0.0).docked
    assert not drive(docking(50, heading_deg=30.0), 0, 0, 0.0).docked


# Sound


def heard(floor: str = "a", fan: int = 60, **changes: object) -> float:
    home = Home(empty_room(2.0, floor, **changes), 0)
    home.advance(0.6, Actuators(0, 0, fan, 0, 0))
    return float(home.truth("finished").z[3])


def test_sound_follows_the_table_of_the_context():
    assert [heard(fan=fan) for fan, _ in SOUND_DBA] == pytest.approx([level for _, level in SOUND_DBA])
    assert heard(fan=50) == pytest.approx(59.25)


def test_carpet_walls_and_the_front_door_take_their_share():
    assert heard("A") == pytest.approx(61.5 + CARPET_DB)
    assert heard(occupied=("room b",)) == pytest.approx(61.5 - WALL_DB)
    assert heard(occupied=("room a", "room b")) == pytest.approx(61.5)  # the loudest occupied room
    assert heard(occupied=()) == pytest.approx(61.5 - FRONT_DOOR_DB)


# Chance


def test_the_same_replicate_is_the_same_world_whatever_the_settings_and_names():
    context = CONTEXTS["weekday"]
    assert world_key(context, 3) == world_key(replace(context, name="other", run_limit_s=60.0), 3)
    assert world_key(context, 3) != world_key(context, 4)
    assert world_key(context, 3) != world_key(replace(context, dirt_g_m2=4.0), 3)
    assert np.array_equal(Home(context, 3).dirt_g_m2(), Home(context, 3).dirt_g_m2(), equal_nan=True)


def test_time_moves_in_whole_steps():
    home = Home(empty_room(), 0)
    home.advance(0.045, Actuators(0, 0, 0, 0, 0))
    assert home.now_s == pytest.approx(0.045)
    with pytest.raises(ValueError, match=r"steps of 0\.015 s"):
        home.advance(0.02, Actuators(0, 0, 0, 0, 0))
    with pytest.raises(ValueError, match="0 to 100 percent"):
        home.advance(0.015, Actuators(0, 0, 101, 0, 0))


def test_an_unknown_occupied_room_is_refused():
    with pytest.raises(ValueError, match="'attic' is occupied but no room"):
        Home(empty_room(occupied=("attic",)), 0)


def test_a_picture_can_be_made_of_the_floor():
    home = Home(empty_room(), 0)
    for _ in stepped(home, Settings(60, 60, 300, 1, "lanes", False)):
        pass
    covered = home.cleaned()
    assert covered.sum() * DIRT_M**2 / home.world.cleanable_m2 == pytest.approx(home.truth("finished").z[1] / 100)
    assert np.nanmean(home.dirt_g_m2()[covered]) < 0.5 * 4.0
