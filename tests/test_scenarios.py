"""The scenarios that come with the lab keep what the lab promises of them."""

import numpy as np
import pytest

from calib.scenario import Scenario, load_scenario
from calib.setup import make_setup
from devices.home.meter import Meter
from devices.home.plant import TICK_S, Home
from devices.home.types import OUTCOMES, Outcome
from homes import stepped

NAMES = ("apartment", "arena", "aspiration", "beliefs")
NUM_RUNS = 40


def measured_runs(scenario: Scenario) -> list[tuple[Outcome, Outcome]]:
    """What the meter says and what was so, over settings, contexts and replicates drawn by a fixed seed."""
    chance = np.random.default_rng(4)
    found = []
    for _ in range(NUM_RUNS):
        context = scenario.contexts[chance.integers(len(scenario.contexts))]
        settings = scenario.settings[chance.integers(len(scenario.settings))]
        home, meter = Home(context, int(chance.integers(16))), Meter(context, settings)
        first = True
        for sensors, end in stepped(home, settings):
            meter.add(0.0 if first else TICK_S, sensors)
            first = False
            if end:
                found.append((meter.outcome(end), home.truth(end)))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize("name", NAMES)
def test_the_menu_and_the_sets(name: str) -> None:
    scenario = load_scenario(name)
    assert len(scenario.modes) >= 8
    assert len(scenario.contexts) >= 3
    assert scenario.num_reference >= 48
    assert {m.settings for m in scenario.modes} <= set(scenario.settings[: scenario.num_reference])
    assert scenario.default in scenario.settings[: scenario.num_reference]
    assert len(scenario.settings) > scenario.num_reference
    assert all(m.label and m.description for m in scenario.modes)


@pytest.mark.parametrize("name", NAMES)
def test_the_map_is_the_plant_and_uses_the_whole_scale(name: str) -> None:
    """Every attribute spreads over at least half of its scale: none is decoration."""
    from devices.home.simulate import simulate

    setup = make_setup(load_scenario(name))
    chance = np.random.default_rng(1)
    for _ in range(5):
        s, x, k = (int(chance.integers(n)) for n in setup.map.z.shape[:3])
        again = simulate(setup.scenario.contexts[x], setup.settings[s], k)
        assert np.array_equal(setup.map.z[s, x, k], again.z)
    spread = np.ptp(setup.phi[: setup.num_reference], axis=(0, 1))
    assert np.all(spread >= 0.5), dict(zip([a.name for a in setup.scenario.attributes], spread, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_measuring_is_good_enough_for_the_scales(name: str) -> None:
    """The stated error holds in 95% of runs and is at most 5% of hi - lo, for dirt 15%."""
    scenario = load_scenario(name)
    runs = measured_runs(scenario)
    assert len(runs) == NUM_RUNS
    for attribute in scenario.attributes:
        column = OUTCOMES.index(attribute.name)
        stated = max(measured.error[column] for measured, _ in runs)
        share = stated / (attribute.hi - attribute.lo)
        assert share <= (0.15 if attribute.name == "residual_dirt" else 0.05), attribute.name
        kept = [abs(measured.z[column] - truth.z[column]) <= measured.error[column] for measured, truth in runs]
        assert sum(kept) >= 0.95 * NUM_RUNS, attribute.name


def test_the_arena_is_for_a_robot_in_a_lab() -> None:
    scenario = load_scenario("arena")
    assert scenario.protocol.ready
    assert scenario.protocol.run_every > 1
    assert all(c.run_limit_s == 120 and c.battery_floor > 0 for c in scenario.contexts)
