"""Floor plans: what a drawing means, and what is said of a bad one."""

import numpy as np
import pytest

from devices.home.plan import BLOCKED, CARPET_FLOOR, HARD_FLOOR, ROBOT_RADIUS_M, SPACE_M, room_names, survey
from homes import drafted, drawn, empty_room

CLOSED = ("######", "#aaaa#", "#aaaa#", "#aaaa#", "#aaaa#", "######")


def test_a_robot_can_stand_a_radius_away_from_a_wall_and_no_nearer():
    grids = survey(empty_room(2.0).plan)
    middle = grids.space[round(1.1 / SPACE_M)]
    free = np.flatnonzero(middle & BLOCKED == 0) * SPACE_M
    assert free.min() == pytest.approx(0.1 + ROBOT_RADIUS_M, abs=SPACE_M)
    assert free.max() == pytest.approx(2.1 - ROBOT_RADIUS_M, abs=2 * SPACE_M)


def test_all_of_a_room_is_cleanable_but_its_corners():
    grids = survey(empty_room(2.0).plan)
    # A disc of radius r leaves (4 - pi) r^2 in the four corners: 0.025 m2.
    assert 3.9 < grids.cleanable_m2 < 4.0


def test_floor_behind_too_narrow_a_door_is_not_cleanable():
    rows = ("###########", *("#aaaa#bbbb#",) * 4, "#aaaabbbbb#", "#aaaabbbbb#", *("#aaaa#bbbb#",) * 4, "###########")
    grids = survey(drawn(*rows, start_m=(0.3, 0.6)).plan)  # a gap of 0.2 m
    assert (grids.floor[:, grids.room[10] == 1] == 0).all()
    assert grids.cleanable_m2 == pytest.approx(0.4, abs=0.05)


def test_upper_case_is_carpet():
    assert (survey(empty_room(1.0, "A").plan).floor == CARPET_FLOOR).any()
    assert not (survey(empty_room(1.0, "A").plan).floor == HARD_FLOOR).any()


@pytest.mark.parametrize(
    ("rows", "start_m", "message"),
    [
        (("####", "#aa?", "####"), (0.2, 0.2), r"row 2 column 4 has '\?', no room and no symbol"),
        (("####", "#aa", "####"), (0.2, 0.2), "row 2 has 3 characters, row 1 has 4"),
        ((), (0.2, 0.2), "the drawing is empty"),
        (CLOSED, (0.2, 0.3), r"the start \(0.2, 0.3\) m is not 0.17 m clear"),
        (CLOSED, (5.0, 0.3), r"the start \(5, 0.3\) m is not 0.17 m clear"),
        (("######", "#aaaa#", "#aaa!#", "#aaaa#", "#aaaa#", "######"), (0.3, 0.3), "not 0.17 m clear"),
    ],
)
def test_a_bad_drawing_is_refused_in_one_line(rows, start_m, message):
    with pytest.raises(ValueError, match=message) as refused:
        survey(drawn(*rows, start_m=start_m).plan)
    assert "\n" not in str(refused.value)


def test_the_drafted_homes_are_as_described():
    contexts = drafted()
    flat, arena = survey(contexts["weekday"].plan), survey(contexts["arena-clean"].plan)
    assert 22 <= flat.cleanable_m2 <= 26
    assert 3 <= arena.cleanable_m2 <= 4
    assert room_names(contexts["weekday"].plan) == ("bedroom", "hall", "kitchen", "living")
    for index in range(4):  # every room can be reached, and living room and bedroom have a carpet
        assert ((flat.room == index) & (flat.floor == HARD_FLOOR)).sum() > 400
    with_carpet = [i for i in range(4) if ((flat.room == i) & (flat.floor == CARPET_FLOOR)).any()]
    assert with_carpet == [0, 3]
