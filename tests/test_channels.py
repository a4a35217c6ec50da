"""Ratings of runs and the best of some outcome cards: from the scenario to people, belief, policy and documents."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calib import live
from calib.choice import grade_log_probs, menu_log_probs
from calib.engines import full
from calib.engines import live as live_engine
from calib.errors import UserError
from calib.gain import gains
from calib.history import BEST_OF as BEST_OF_ENTRY
from calib.history import RATING as RATING_ENTRY
from calib.kernel import BEST_OF as BEST_OF_CHANNEL
from calib.kernel import COMPARISON
from calib.policies import information_gain, per_second, posterior_regret
from calib.policies._draws import draws_of
from calib.questions import BEST_OF, GRADES, PAIR, PROBE, RATING, Pool
from calib.replay import _ASKED
from calib.scenario import Scenario, load_scenario_text
from calib.setup import Setup
from experiments.batch import simulate_sessions
from experiments.expand import documents
from experiments.people import person_names, rational
from people_minds import with_beliefs

Make = Callable[..., Setup]


@pytest.fixture(scope="session")
def rates(small: Scenario) -> Scenario:
    """The small scenario, where a rating is cheap and a comparison dear."""
    effort = {**small.effort_s, "rate": 1.0, "compare": 120.0}
    return replace(with_beliefs(small), asks_ratings=True, effort_s=effort)


@pytest.fixture(scope="session")
def names(small: Scenario) -> Scenario:
    """The small scenario, where the best of three cards may be asked and two cards are hardly ever about equal."""
    return replace(small, menu_size=3, population=replace(small.population, about_equal=(0.001, 0.1)))


def rounds_of(setup: Setup, person: int, spec: str = "rational") -> list[dict[str, Any]]:
    return [d["body"] for d in documents(setup, spec, person) if d["type"] == "round"]


def test_the_pool_is_numbered_kind_by_kind() -> None:
    pool = Pool(pairs=3, probes=2, ratings=1, menus=4)
    kind, within = pool.parts(np.arange(-1, 10))
    assert kind.tolist() == [-1, *[PAIR] * 3, *[PROBE] * 2, RATING, *[BEST_OF] * 4]
    assert within.tolist() == [-1, 0, 1, 2, 0, 1, 0, 0, 1, 2, 3]
    assert [pool.first(k) for k in (PAIR, PROBE, RATING, BEST_OF)] == [0, 3, 5, 6]
    assert Pool(5, 0, 0, 2).parts(np.array([4, 5]))[0].tolist() == [PAIR, BEST_OF], "kinds that are not there have none"


def test_a_scenario_says_what_is_asked(small_text: str) -> None:
    with pytest.raises(UserError, match=r"^small.toml: questions.ratings: is true [^\n]+; add mental_model.beliefs$"):
        load_scenario_text(small_text.replace("num_cards = 8", "num_cards = 8\nratings = true"), "small.toml")
    own = "[mental_model.beliefs]\nspread = { median = 0.2, sd_log = 0.4 }\nlearning_sd_logit = 0.5\nprobe_sd = 0.05\n"
    text = small_text.replace("[mental_model.salience]", own + "\n[mental_model.salience]")
    text = text.replace("num_cards = 8", "num_cards = 8\nratings = true\nbest_of = 3")
    with pytest.raises(UserError, match=r"^small.toml: effort.rate: is missing"):
        load_scenario_text(text, "small.toml")
    found = load_scenario_text(text.replace("good_enough = 4\n", "good_enough = 4\nrate = 3\n"), "small.toml")
    assert found.asks_ratings and found.menu_size == 3
    for wrong, why in (("2", "3 to 8"), ("9", "3 to 8"), ("true", "whole number")):
        with pytest.raises(UserError, match=rf"^small.toml: questions.best_of: [^\n]*{why}"):
            load_scenario_text(small_text.replace("num_cards = 8", f"num_cards = 8\nbest_of = {wrong}"), "small.toml")
    with pytest.raises(UserError, match=r"^small.toml: questions.best_of: is 12, of which 24 cards make 2704156 "):
        load_scenario_text(small_text.replace("num_cards = 8", "num_cards = 24\nbest_of = 12"), "small.toml")


def test_a_file_from_before_keeps_its_hash(small: Scenario) -> None:
    """What the format learnt later and a file leaves out is no part of the hash; what it says is."""
    assert small.hash == "7224cd94ee02a84e2e3f3d3aa118f4882401f1e3b82d28368ced88472d4ac9a5"
    assert len({small.hash, replace(small, menu_size=3).hash, replace(small, menu_size=4).hash}) == 3


def test_ratings_are_asked_and_enter_the_belief(lab: Make, rates: Scenario) -> None:
    setup = lab(scenario=rates, engine="full", role="tool", policy="per_second", num_particles=512, max_rounds=6)
    found = rounds_of(setup, 2)
    graded = [r["rating"] for r in found if r["rating"]]
    assert len(graded) >= 4, "a second of comparing buys less"
    assert all(each["of"] == len(GRADES) and each["answer"] in range(5) for each in graded)
    assert all((r["rating"] is None) != (r["comparison"] is None) for r in found)
    spent = np.diff([0.0, *(r["clocks"]["attention_s"] for r in found)])
    seconds = [12 + (1 if r["rating"] else 120) + (4 if r["good_enough"] is not None else 0) for r in found]
    assert spent == pytest.approx(seconds)
    state = simulate_sessions(setup, rational, {}, np.arange(3)).state
    kept = state.evidence
    for i in range(3):
        at = np.flatnonzero(kept.kind[i, : kept.num[i]] == RATING_ENTRY)
        assert len(at) >= 4
        assert state.kind[i] != RATING or np.array_equal(kept.first[i, at[-1]], state.seen[i])
    assert kept.option[2, : kept.num[2]][kept.kind[2, : kept.num[2]] == RATING_ENTRY].tolist() == [
        r["rating"]["answer"] for r in found if r["rating"]
    ]
    assert {"aspiration", "spacing", "rationality[rating]"} <= found[0]["belief"].keys()


def test_people_grade_as_the_engine_expects(lab: Make, rates: Scenario) -> None:
    """20,000 people of one kind who saw the same: shares of the five grades within 4 standard errors."""
    setup, num = lab(scenario=rates, engine="full", max_rounds=2, num_particles=64), 20_000
    from experiments.truth import draw_truth, first_mind  # after the fixture, which compiles

    truth = draw_truth(setup, np.arange(num), {})
    assert np.median(truth.rating[:, 1]) == pytest.approx(0.7, abs=0.01)
    truth = truth._replace(weights=np.tile([0.5, 0.3, 0.2], (num, 1)), rating=np.tile([8.0, 0.6, 1.2], (num, 1)))
    state = simulate_sessions(lab(max_rounds=1, num_particles=64), rational, {}, np.arange(1)).state
    state = replace(state, seen=np.tile([0.9, 0.5, 0.1], (num, 1)))
    u = np.random.default_rng(0).random((num, 1))
    said = rational.rate(setup, truth, first_mind(setup, np.arange(num), truth), state, u)
    expected = np.exp(grade_log_probs(np, np.array(0.62), 8.0, 0.6, np.array(1.2), len(GRADES)))
    share = np.bincount(said, minlength=len(GRADES)) / num
    assert np.all(np.abs(share - expected) < 4 * np.sqrt(expected * (1 - expected) / num))


def test_grades_are_predicted_as_they_are_weighed(lab: Make, rates: Scenario) -> None:
    """The mean likelihood of a round's answers by the compiled kernel is the product of their predictions."""
    setup = lab(scenario=rates, engine="full", policy="per_second", num_particles=512, max_rounds=3)
    seen: list[float] = []

    def watch(state: Any, taken_in: bool) -> None:
        if taken_in or state.round < 2:
            return
        found = full.predict(setup, state)
        for i in range(3):
            assert state.kind[i] == RATING
            new = full.mover_of(setup).values(full.mind_of(state, i), state.evidence, i)[1].astype(float)
            both = found.probability[i, 0, found.answer[i, 0]] * found.probability[i, 2, found.answer[i, 2]]
            assert np.log(np.mean(np.exp(new))) == pytest.approx(np.log(both), abs=2e-4)
            seen.append(found.probability[i, 2].sum())

    simulate_sessions(setup, rational, {}, np.arange(3), watch)
    assert len(seen) == 6 and np.allclose(seen, 1.0)


@pytest.mark.parametrize("engine", ["live", "full"])
def test_the_best_of_three_is_asked_and_enters_the_belief(lab: Make, names: Scenario, engine: str) -> None:
    scenario = names if engine == "live" else with_beliefs(names)
    setup = lab(scenario=scenario, engine=engine, max_rounds=5, num_particles=512)
    assert setup.menus.shape == (56, 3) and setup.pool == Pool(28, 0, 0, 56)
    found = rounds_of(setup, 1)
    asked = [r["best_of"] for r in found if r["best_of"]]
    assert asked, "three cards never told more than two"
    assert all(each["cards"] == setup.menus[each["menu"]].tolist() and each["answer"] in range(3) for each in asked)
    spent = np.diff([0.0, *(r["clocks"]["attention_s"] for r in found)])
    seconds = [8 + (15 if r["best_of"] else 10) + (4 if r["good_enough"] is not None else 0) for r in found]
    assert spent == pytest.approx(seconds)
    state = simulate_sessions(setup, rational, {}, np.array([1])).state
    kept = state.evidence
    kinds, entry = (kept.channel, BEST_OF_CHANNEL) if engine == "live" else (kept.kind, BEST_OF_ENTRY)
    at = np.flatnonzero(kinds[0, : kept.num_answers[0]] == entry)
    cards = kept.features if engine == "live" else kept.cards
    chosen = kept.chosen if engine == "live" else kept.option
    assert len(at) == len(asked)
    for a, each in zip(at, asked, strict=True):
        assert np.array_equal(cards[0, a, :3], setup.cards[each["cards"]]) and chosen[0, a] == each["answer"]


def test_information_gain_takes_whichever_tells_most(lab: Make, names: Scenario) -> None:
    setup = lab(scenario=names, max_rounds=2, num_particles=1024)
    state = simulate_sessions(setup, rational, {}, np.arange(6)).state
    nothing = np.zeros((6, 1024))
    number = information_gain.ask(setup, state, nothing, np.zeros((6, 4)))
    belief = state.belief
    pairs = gains(belief, nothing, setup.cards, setup.pairs, True)
    menus = gains(belief, nothing, setup.cards, setup.menus, False)
    best = np.maximum(pairs.max(axis=1), menus.max(axis=1))
    own = np.concatenate([pairs, menus], axis=1)[np.arange(6), number]
    assert np.all(own > 0.97 * best)


def test_the_full_menu_is_asked_of_everybody(lab: Make, small: Scenario) -> None:
    setup = lab(policy="full_menu", max_rounds=2, num_particles=128)
    assert setup.menus.tolist() == [list(range(8))]
    asked = [r["best_of"]["cards"] for r in rounds_of(setup, 0)]
    assert asked == [list(range(8))] * 2
    with pytest.raises(UserError, match=r"^--policy: full_menu asks for the best of all cards, .+; use --engine live"):
        lab(policy="full_menu", engine="bulk")
    knows = simulate_sessions(lab(policy="full_menu", engine="oracle"), rational, {}, np.arange(3)).state
    assert (knows.kind < 0).all()


def test_the_best_of_cards_is_predicted_as_the_choice_model_says(lab: Make, names: Scenario) -> None:
    setup = lab(scenario=names, policy="full_menu", max_rounds=2, num_particles=64)
    checked: list[int] = []

    def watch(state: Any, taken_in: bool) -> None:
        if taken_in:
            return
        found = live_engine.predict(setup, state)
        w, x = live.intent_at(state.belief.particles, 3), state.belief.particles[:, 2:]
        for i in range(2):
            first = live.answer_log_likelihood(state.belief, setup.prior, state.evidence, state.in_belief)[i]
            log_p = menu_log_probs(
                np, (setup.cards @ w[i]).T, np.exp(x[i, COMPARISON])[:, None], (1 / (1 + np.exp(-x[i, 3])))[:, None]
            )
            own = log_p[:, found.answer[i, 2]]
            weight = np.exp(state.belief.log_weight[i] + first - own)  # the round's other answer alone
            expected = np.average(np.exp(log_p), axis=0, weights=weight)
            assert found.probability[i, 2] == pytest.approx(expected, abs=1e-9)
            checked.append(i)

    simulate_sessions(setup, rational, {}, np.arange(2), watch)
    assert checked == [0, 1, 0, 1]


def test_options_are_worth_what_pairs_are(lab: Make) -> None:
    """A pair as a question with three options is worth what the pair's own score says."""
    setup = lab(max_rounds=1, num_particles=512)
    state = simulate_sessions(setup, rational, {}, np.arange(1)).state
    draws = draws_of(setup, state.belief, np.zeros((1, 512)))
    worth = posterior_regret.worth(setup, draws)[0]
    a, b = setup.pairs.T
    up = np.exp(draws.rationality[0] * np.einsum("qj,jp->qp", setup.cards, draws.weights[0]).astype(np.float64))
    first, second = up[a] / (up[a] + draws.threshold[0] * up[b]), up[b] / (up[b] + draws.threshold[0] * up[a])
    chance = np.stack([first, second, 1 - first - second], axis=1)
    assert per_second.option_worth(setup, draws, chance) == pytest.approx(worth, rel=2e-3, abs=1e-6)


@pytest.mark.parametrize("name", person_names())
def test_every_person_model_answers_them(lab: Make, names: Scenario, rates: Scenario, name: str) -> None:
    for scenario, engine, policy in ((names, "live", "full_menu"), (rates, "full", "per_second")):
        setup = lab(scenario=scenario, engine=engine, policy=policy, max_rounds=2, num_particles=64)
        found = [r["best_of"] or r["rating"] for r in rounds_of(setup, 3, name)]
        assert all(0 <= each["answer"] < (8 if engine == "live" else len(GRADES)) for each in found)


def test_documents_say_what_was_asked_where_replay_looks() -> None:
    assert [name for name, _ in _ASKED] == ["comparison", "probe", "rating", "best_of"]
