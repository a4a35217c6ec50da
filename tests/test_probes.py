"""Belief probes: what can be said, what it means, and who is asked; the policy that weighs channels by the second."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from calib import probes
from calib.engines import full
from calib.errors import UserError
from calib.history import PROBE
from calib.policies import per_second, posterior_regret
from calib.policies._draws import Draws
from calib.scenario import Attribute, Scenario, load_scenario_text
from calib.setup import Setup
from experiments.batch import simulate_sessions
from experiments.expand import documents
from experiments.people import rational
from people_minds import with_beliefs

Make = Callable[..., Setup]


@pytest.fixture(scope="session")
def asks(small: Scenario) -> Scenario:
    """The small scenario, where beliefs are asked about and a probe takes half of a comparison's time."""
    return replace(with_beliefs(small), asks_beliefs=True, effort_s={**small.effort_s, "expect": 5.0})


def test_values_run_past_the_scale_as_far_as_the_unit_goes() -> None:
    sound, share = Attribute("sound", "dB(A)", True, 40, 60), Attribute("coverage", "%", False, 50, 90)
    assert probes.values(sound)[[0, -1]].tolist() == [35.0, 65.0] and len(probes.values(sound)) == 31
    assert probes.values(share)[-1] == 100.0 and probes.values(share)[0] == 40.0
    assert probes.scaled(sound, np.array([40.0, 60.0, 65.0])).tolist() == [1.0, 0.0, -0.25]
    assert np.all(probes.values(Attribute("bumps", "count", True, 1, 21)) >= 0)


def test_what_is_nearest_is_said_and_heard(asks: Scenario) -> None:
    for number in range(12):
        attribute = asks.attributes[probes.where(asks, number)[1]]
        table = probes.scaled(attribute, probes.values(attribute))
        heard = probes.said(asks, np.full(len(table), number), probes.nearest(attribute, table))
        assert np.array_equal(heard, table)
        assert probes.shown(asks, number)["values"] == sorted(probes.shown(asks, number)["values"])


def test_a_scenario_that_asks_has_to_know_how_beliefs_differ(small_text: str) -> None:
    text = small_text.replace("num_cards = 8", "num_cards = 8\nbeliefs = true")
    with pytest.raises(UserError, match=r"^small.toml: questions.beliefs: is true [^\n]+; add mental_model.beliefs$"):
        load_scenario_text(text, "small.toml")
    own = "[mental_model.beliefs]\nspread = { median = 0.2, sd_log = 0.4 }\nlearning_sd_logit = 0.5\nprobe_sd = 0.05\n"
    text = text.replace("[mental_model.salience]", own + "\n[mental_model.salience]")
    with pytest.raises(UserError, match=r"^small.toml: effort.expect: is missing"):
        load_scenario_text(text, "small.toml")
    found = load_scenario_text(text.replace("good_enough = 4\n", "good_enough = 4\nexpect = 6\n"), "small.toml")
    assert found.asks_beliefs and found.effort_s["expect"] == 6


def test_a_session_asks_both_and_says_what_was_said(lab: Make, asks: Scenario) -> None:
    """As a tool early choices are about beliefs, so that some probes are worth more than some comparisons."""
    setup = lab(scenario=asks, engine="full", role="tool", policy="per_second", num_particles=512, max_rounds=6)
    found = [d["body"] for d in documents(setup, "rational", 2) if d["type"] == "round"]
    told = [r["probe"] for r in found if r["probe"]]
    assert all((r["probe"] is None) != (r["comparison"] is None) for r in found)
    assert told, "no probe in six rounds"
    for said in told:
        attribute = next(a for a in asks.attributes if a.name == said["attribute"])
        assert said["value"] == probes.values(attribute)[said["answer"]]
    clock = [r["clocks"]["attention_s"] for r in found]
    spent = np.diff([0.0, *clock])
    for r, seconds in zip(found, spent, strict=True):
        assert seconds == pytest.approx(12 + (5 if r["probe"] else 10) + (4 if r["good_enough"] is not None else 0))


def test_probes_enter_the_belief(lab: Make, asks: Scenario) -> None:
    """Where nothing but probes is asked, the history holds them and expectations are known better than before."""
    only = replace(asks, effort_s={**asks.effort_s, "compare": 120.0, "expect": 1.0})
    setup = lab(scenario=only, engine="full", role="tool", policy="per_second", num_particles=512, max_rounds=6)
    state = simulate_sessions(setup, rational, {}, np.arange(3)).state
    kept = state.evidence
    assert all(np.sum(kept.kind[i, : kept.num[i]] == PROBE) == 6 for i in range(3))
    for i in range(3):
        said = {(kept.option[i, a], kept.where[i, a]) for a in np.flatnonzero(kept.kind[i] == PROBE)}
        var = full.outlook(setup, state, i, 1)[1].mean(axis=-1)
        probed = np.array([var[m, j] for m, j in said])
        rest = np.array([var[m, j] for m in range(4) for j in range(3) if (m, j) not in said])
        assert probed.max() < np.median(rest)


def test_nothing_is_asked_that_buys_too_little(lab: Make, asks: Scenario) -> None:
    setup = lab(scenario=replace(asks, worth_of_second=1.0), engine="full", policy="per_second", num_particles=256)
    state = simulate_sessions(setup, rational, {}, np.arange(2)).state
    assert (state.pair == -1).all() and (state.probe == -1).all()


def test_a_probe_of_what_is_known_is_worth_nothing_and_of_what_tells_all_most(lab: Make, asks: Scenario) -> None:
    """Two kinds of people; one cell's expectation tells them apart exactly, another's is the same for both."""
    setup = lab(scenario=asks, engine="full", num_particles=256)
    weights = np.zeros((1, 3, 64), np.float32)
    weights[0, 0, :32], weights[0, 2, 32:] = 1.0, 1.0
    even = np.full((1, 64), 1 / 64, np.float32)
    draws = Draws(weights, np.full((1, 64), 200.0, np.float32), np.full((1, 64), 1.01, np.float32), even)
    mean, sd = np.zeros((4, 3, 64)), np.full((4, 3, 64), 0.01)
    mean[1, 2, 32:] = 1.0
    worth = per_second.probe_worth(setup, draws, mean, sd).reshape(4, 3)
    assert worth[1, 2] == worth.max() > 0.01
    assert np.abs(np.delete(worth.ravel(), 5)).max() < 1e-6
    best = posterior_regret.worth(setup, draws).max()  # nothing tells more than who somebody is
    assert worth[1, 2] == pytest.approx(best, rel=0.05) or worth[1, 2] > best
