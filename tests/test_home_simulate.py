"""Whole runs: the compiled loop is the stepped one, and a table is its runs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from devices.home.plant import Home
from devices.home.simulate import simulate, simulate_table
from devices.home.types import OUTCOMES, Settings
from homes import any_settings, drafted, stepped

CONTEXTS = drafted()
ARENA = CONTEXTS["arena-spill"]
DEEP, QUICK = Settings(90, 80, 250, 2, "lanes", True), Settings(40, 20, 400, 1, "spiral", False)


@settings(max_examples=15, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_simulate_is_home_and_decide_step_for_step(chosen, replicate):
    home = Home(ARENA, replicate)
    ends = [end for _, end in stepped(home, chosen)]
    whole = simulate(ARENA, chosen, replicate)
    assert whole.end == ends[-1]
    assert whole.z.tobytes() == home.truth("finished").z.tobytes()


def test_simulate_is_home_and_decide_in_the_flat_too():
    home = Home(CONTEXTS["night"], 5)
    for _ in stepped(home, QUICK):
        pass
    assert simulate(CONTEXTS["night"], QUICK, 5).z.tobytes() == home.truth("finished").z.tobytes()


def test_the_truth_is_known_without_error():
    outcome = simulate(ARENA, QUICK, 0)
    assert outcome.source == ("simulated",) * len(OUTCOMES)
    assert not outcome.error.any()


@settings(max_examples=10, deadline=None)
@given(any_settings, st.integers(0, 15))
def test_the_same_seed_gives_the_same_bytes(chosen, replicate):
    assert simulate(ARENA, chosen, replicate).z.tobytes() == simulate(ARENA, chosen, replicate).z.tobytes()


def test_replicates_differ():
    assert len({simulate(ARENA, QUICK, k).z.tobytes() for k in range(16)}) == 16


def test_a_run_ends_at_the_limit_or_when_the_battery_is_low():
    limited = simulate(replace(ARENA, run_limit_s=30.0), DEEP, 0)
    assert (limited.end, limited.z[2]) == ("run_limit", pytest.approx(0.5))
    empty = simulate(replace(ARENA, battery=0.11, battery_floor=0.1), DEEP, 0)
    assert empty.end == "battery"
    assert empty.z[2] < 2.0


def test_a_table_is_its_runs_for_any_number_of_workers():
    contexts, chosen = [CONTEXTS["arena-clean"], ARENA], [DEEP, QUICK]
    table = simulate_table(contexts, chosen, range(3), workers=2)
    assert table.shape == (2, 2, 3, len(OUTCOMES))
    assert table.tobytes() == simulate_table(contexts, chosen, range(3), workers=1).tobytes()
    assert np.array_equal(table[1, 0, 2], simulate(contexts[0], QUICK, 2).z)


def test_the_outcomes_do_not_all_move_on_one_axis():
    chosen = [
        Settings(fan, brush, speed, passes, pattern, edge)
        for pattern in ("lanes", "spiral", "wall")
        for fan, brush in ((25, 0), (30, 80), (60, 50), (100, 20))
        for speed, passes, edge in ((400, 1, False), (250, 1, True), (350, 2, False), (200, 2, False))
    ]
    z = simulate_table([CONTEXTS["weekday"]], chosen, range(2))[:, 0].mean(axis=1)
    pairs = np.abs(np.corrcoef(z.T)[np.triu_indices(len(OUTCOMES), 1)])
    assert pairs.max() < 0.93
    assert (pairs < 0.3).sum() >= 3
    assert 4 <= z[:, 2].min() < 7 < 20 < z[:, 2].max() <= 25
