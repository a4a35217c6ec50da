"""Fixtures: a small scenario with a made-up outcome map, so that tests of the core are exact and need no simulation."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from calib.outcomes import OutcomeMap
from calib.scenario import Scenario, load_scenario, load_scenario_text
from calib.setup import Setup, make_setup
from devices.home.types import OUTCOMES
from people_minds import with_beliefs
from sessions import FIGURES

pytest_plugins = ["browsing"]

SMALL = """
[scenario]
name = "small"
version = "1"
title = "Two rooms and four modes"

[thresholds]
eps = 0.05
horizon = 2
delta = 0.1

[protocol]
max_rounds = 6
questions_per_round = 1
good_enough_from = 2
good_enough_every = 2
ready = false
run_every = 1
reconnect_s = 30

[attributes.residual_dirt]
unit = "g/m2"
direction = "less"
lo = 0
hi = 100

[attributes.coverage]
unit = "%"
direction = "more"
lo = 0
hi = 100

[attributes.sound]
unit = "dB(A)"
direction = "less"
lo = 0
hi = 100

[[limits]]
attribute = "sound"
at_most = 80
contexts = ["night"]

[sound]
fan_dba = [[0, 40], [100, 70]]

[floor_plans.flat]
cell_m = 0.1
start_m = [0.3, 0.3]
start_deg = 0
rooms = { a = "attic", b = "bath" }
drawing = '''
########
#aaabbB#
#aaabbB#
#aaabbB#
#aaabbB#
########
'''

[[contexts]]
name = "day"
p = 0.5
floor_plan = "flat"
dirt_g_m2 = 4
carpet_dirt_factor = 2
hour = 10
occupied = []
battery = 1.0
run_limit_s = 600
battery_floor = 0.15

[[contexts]]
name = "evening"
p = 0.3
floor_plan = "flat"
dirt_g_m2 = 6
carpet_dirt_factor = 2
hour = 19
occupied = ["attic"]
battery = 1.0
run_limit_s = 600
battery_floor = 0.15

[[contexts]]
name = "night"
p = 0.2
floor_plan = "flat"
dirt_g_m2 = 4
carpet_dirt_factor = 2
hour = 23
occupied = ["attic", "bath"]
battery = 0.6
run_limit_s = 600
battery_floor = 0.15

[[modes]]
name = "eco"
label = "Eco"
description = "Saves energy."
settings = { fan = 10, brush = 20, speed = 200, passes = 1, pattern = "lanes", edge = false }
expectation = { residual_dirt = 60, coverage = 60, sound = 20 }

[[modes]]
name = "standard"
label = "Standard"
description = "For every day."
settings = { fan = 50, brush = 20, speed = 200, passes = 1, pattern = "lanes", edge = false }
expectation = { residual_dirt = 40, coverage = 70, sound = 45 }

[[modes]]
name = "deep"
label = "Deep"
description = "Everything, twice."
settings = { fan = 90, brush = 20, speed = 200, passes = 2, pattern = "lanes", edge = false }
expectation = { residual_dirt = 10, coverage = 90, sound = 85 }

[[modes]]
name = "edges"
label = "Edges"
description = "Along the walls."
settings = { fan = 30, brush = 20, speed = 200, passes = 1, pattern = "wall", edge = true }
expectation = { residual_dirt = 50, coverage = 50, sound = 40 }

[default]
mode = "standard"

[reference_set]
fan = [10, 50, 90]
brush = [20]
speed = [200]
passes = [1, 2]
pattern = ["lanes"]
edge = [false]

[dense_set]
fan = [10, 50, 90]
brush = [20]
speed = [200]
passes = [3]
pattern = ["lanes"]
edge = [true]

[outcome_map]
source = "plant"
replicates = 4

[mental_model]
learning_rate = 0.4

[mental_model.salience]
residual_dirt = 0.8
coverage = 0.5
sound = 1.0

[population.concentration]
residual_dirt = 1.0
coverage = 0.8
sound = 1.5

[population.rationality]
mode_choice = { median = 12, sd_log = 0.5 }
accept_override = { median = 15, sd_log = 0.4 }
comparison = { median = 20, sd_log = 0.5 }

[population.lapse]
median = 0.03
sd_logit = 0.7

[population.reliance]
mean = 0.5
sd = 0.5

[population.inertia]
mean = 0.3
sd = 0.3

[population.about_equal]
median = 0.5
sd_log = 0.5

[acceptance]
gamma = 0.02
lapse = 0.02
slope = 25
a50 = 0.85

[effort]
choose = 12
decide = 8
compare = 10
good_enough = 4
ready = 15

[questions]
num_cards = 8

[engine]
particles = 256
"""


def made_up_map(scenario: Scenario, phi: NDArray[np.float64] | None = None, noise: float = 4.0) -> OutcomeMap:
    """A map whose scaled outcomes average to phi (S, X, J), by default fixed random ones, with replicates around it.

    Replicates come in pairs of opposite deviations, so that their mean is phi up to rounding where nothing is clipped.
    """
    rng = np.random.default_rng(5)
    num_settings, num_contexts = len(scenario.settings), len(scenario.contexts)
    if phi is None:
        phi = rng.uniform(0.1, 0.9, (num_settings, num_contexts, len(scenario.attributes)))
    assert scenario.replicates % 2 == 0
    half = rng.normal(0.0, noise, (num_settings, num_contexts, scenario.replicates // 2, len(OUTCOMES)))
    z = np.concatenate([half, -half], axis=2)
    z[..., OUTCOMES.index("duration")] = 5.0 + rng.uniform(0, 10, z.shape[:3])
    for j, attribute in enumerate(scenario.attributes):
        column = OUTCOMES.index(attribute.name)
        share = 1 - phi[..., j] if attribute.less_is_better else phi[..., j]
        deviation = z[..., column] / 100.0 if attribute.name != "duration" else 0.0
        z[..., column] = attribute.lo + (attribute.hi - attribute.lo) * (share[..., None] + deviation)
    return OutcomeMap(z, "plant", "0" * 64)


@pytest.fixture(scope="session")
def small_text() -> str:
    """The small scenario as its TOML."""
    return SMALL


@pytest.fixture(scope="session")
def small() -> Scenario:
    """The small scenario: three attributes, three contexts (a sound limit at night), four modes, S_ref and more."""
    return load_scenario_text(SMALL, "small.toml")


@pytest.fixture(scope="session")
def lab(small: Scenario) -> Callable[..., Setup]:
    """lab(phi=None, scenario=small, noise=4, protocol={}, **make_setup): a Setup on a made-up map."""

    def make(
        phi: NDArray[np.float64] | None = None,
        scenario: Scenario = small,
        noise: float = 4.0,
        protocol: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Setup:
        scenario = replace(scenario, protocol=replace(scenario.protocol, **(protocol or {})))
        if kwargs.get("engine") == "full" and scenario.beliefs is None:
            scenario = with_beliefs(scenario)
        return make_setup(scenario, table=made_up_map(scenario, phi, noise), **kwargs)

    return make


@pytest.fixture(scope="session")
def flat(lab: Callable[..., Setup]) -> Callable[..., Setup]:
    """As `lab`, with the apartment as it is shipped, limits aside: the same people and menu, made-up outcomes."""
    apartment = replace(load_scenario("apartment"), limits=())

    def make(**kwargs: Any) -> Setup:
        return lab(scenario=apartment, noise=2.0, **kwargs)

    return make


def pytest_addoption(parser: pytest.Parser) -> None:
    """A robot of yours for the conformance suite."""
    parser.addoption("--port", metavar="ROBOT:ADDRESS", help="test_devices_conformance.py on this robot, which moves")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the browser tests measured, after everything else."""
    if FIGURES.exists():
        terminalreporter.section("measured in the browser")
        terminalreporter.write(FIGURES.read_text())


def pytest_sessionstart(session: pytest.Session) -> None:
    """Figures are of one session of tests."""
    if not hasattr(session.config, "workerinput"):
        FIGURES.unlink(missing_ok=True)
