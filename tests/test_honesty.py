"""Honesty figures: exact small cases, an alarm that keeps its rate and finds misfits, and the same numbers again."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product

import numpy as np
import pytest

from calib import checks, honesty
from calib.consistency import Consistency, consistency, dominates, licence, to_drop
from calib.engines import load_engine
from calib.setup import Setup
from experiments.batch import Sessions, simulate_sessions
from experiments.expand import documents
from experiments.honesty import COLUMNS, honesty_columns
from experiments.people import load_person

Make = Callable[..., Setup]
A, B, EQUAL = 0, 1, 2
# Five cards of two attributes: none of the first four dominates another, the last is worse than all of them.
CARDS = np.array([[0.1, 0.9], [0.4, 0.6], [0.6, 0.4], [0.9, 0.1], [0.05, 0.05]])
PAIRS = np.array([(a, b) for a in range(5) for b in range(a + 1, 5)])


def said_of(*answers: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pair and answer of (first card, second card, answer), the first card the smaller number."""
    numbers = {tuple(pair): i for i, pair in enumerate(PAIRS.tolist())}
    asked = [numbers[a, b] for a, b, _ in answers]
    return np.array(asked, np.int64), np.array([answer for _, _, answer in answers], np.int64)


def consistency_of(*answers: tuple[int, int, int]) -> Consistency:
    return consistency(PAIRS, CARDS, *said_of(*answers))


def sessions_of(setup: Setup, spec: str, num: int) -> Sessions:
    model, parameters = load_person(spec)
    return simulate_sessions(setup, model, parameters, np.arange(num))


# --- consistency ------------------------------------------------------------------------------------------------------


def test_three_cards_in_a_circle() -> None:
    """0 > 1 > 2 > 0: one triad, it is cyclic, and one answer has to go."""
    found = consistency_of((0, 1, A), (1, 2, A), (0, 2, B))
    assert (found.triads, found.cyclic_triads, found.independent_cycles, found.to_drop) == (1, 1, 1, 1)
    assert found.exact and found.chances == 1
    straight = consistency_of((0, 1, A), (1, 2, A), (0, 2, A))
    assert (straight.triads, straight.cyclic_triads, straight.to_drop) == (1, 0, 0)


def test_about_equal_closes_no_circle() -> None:
    found = consistency_of((0, 1, A), (1, 2, A), (0, 2, EQUAL))
    assert (found.comparisons, found.strict, found.triads, found.independent_cycles, found.to_drop) == (3, 2, 0, 0, 0)


def test_a_repeated_question_answered_otherwise() -> None:
    """Twice 0 > 1 and once 1 > 0: two repetitions, one against the first answer, one to drop."""
    found = consistency_of((0, 1, A), (0, 1, B), (0, 1, A))
    assert (found.repeated, found.contradictory, found.to_drop, found.independent_cycles) == (2, 1, 1, 0)


def test_a_dominated_card_was_preferred() -> None:
    """Card 4 is worse on both attributes. To prefer it directly or around a corner contradicts every such utility."""
    found = consistency_of((0, 4, B), (1, 4, A))
    assert (found.dominance, found.dominated, found.to_drop) == (2, 1, 1)
    around = consistency_of((0, 1, A), (0, 4, B))
    assert (around.dominated, around.to_drop) == (1, 1)
    assert dominates(CARDS).sum() == 4 and dominates(CARDS)[:4, 4].all()


def test_the_fewest_answers_to_drop_are_those_of_the_best_order() -> None:
    """Random answers among five cards against all 120 orders that keep the dominated card last; ties aside."""
    rng = np.random.default_rng(4)
    better = dominates(CARDS)
    orders = [order for order in permutations(range(5)) if order[-1] == 4]
    for _ in range(60):
        asked = rng.integers(0, len(PAIRS), 12)
        said = rng.integers(0, 3, (12, 1))
        strict = said[:, 0] < 2
        winner = PAIRS[asked, np.minimum(said[:, 0], 1)][strict]
        loser = PAIRS[asked, 1 - np.minimum(said[:, 0], 1)][strict]
        rank = [np.argsort(order) for order in orders]
        fewest = min(int(np.sum(r[winner] > r[loser])) for r in rank)
        assert to_drop(PAIRS, better, asked, said)[0] == fewest


def test_above_sixteen_cards_in_circles_there_is_a_bound() -> None:
    """A circle through 18 cards: one answer goes, and the figure says that it is a bound."""
    cards = np.column_stack([np.linspace(0, 1, 18), np.linspace(1, 0, 18)])
    pairs = np.array([(a, b) for a in range(18) for b in range(a + 1, 18)])
    numbers = {tuple(pair): i for i, pair in enumerate(pairs.tolist())}
    asked = np.array([numbers[i, i + 1] for i in range(17)] + [numbers[0, 17]])
    found = consistency(pairs, cards, asked, np.array([A] * 17 + [B]))
    assert not found.exact and 1 <= found.to_drop <= 18
    assert (found.independent_cycles, found.triads) == (1, 0)


def test_the_licence() -> None:
    straight, circle = consistency_of((0, 4, A)), consistency_of((0, 1, A), (1, 2, A), (0, 2, B))
    assert licence(straight, False, 1.0) == "yes"
    assert licence(straight, True, 1.0) == "no"
    assert licence(circle, False, 0.4) == licence(circle, False, None) == "partly"
    assert licence(circle, False, 0.01) == "no"
    nothing = consistency_of((0, 1, A), (2, 3, A))  # no answer could have contradicted another
    assert nothing.chances == 0 and licence(nothing, False, 1.0) is None


# --- alarm ------------------------------------------------------------------------------------------------------------


def one_answer(options: int, answer: int, kind: int, gap: np.ndarray, menu: np.ndarray) -> float:
    """log e after one answer of which the model thought every option as likely."""
    start = checks.start(None, 1, len(menu), len(gap), 1)._replace(menu=menu[None])
    probability = np.zeros((1, 3, max(len(menu), 3)))
    probability[0, kind, :options] = 1 / options
    answers = np.full((1, 3), -1)
    answers[0, kind] = answer
    after = checks.observe(start, 1, probability, probability, answers, np.array([0]), gap[None])
    assert after.log_score == pytest.approx(-np.log(options)) and after.num_answers[0] == 1
    return float(after.log_e[0])


@pytest.mark.parametrize("gap", [[0.3, -0.2, 0.0], [0.01, 0.0, -0.01], [0.4, 0.3, 0.2]])
def test_the_alternatives_are_distributions(gap: list[float]) -> None:
    """E[e] under the model is 1 after one answer: every alternative's probabilities sum to one. e begins at 1."""
    menu = np.array([[0.2, 0.9, 0.5], [0.8, 0.1, 0.5], [0.4, 0.4, 0.4], [0.21, 0.88, 0.52]])
    for kind, options in ((0, 4), (1, 3)):
        mean = np.mean([np.exp(one_answer(options, a, kind, np.array(gap), menu)) for a in range(options)])
        assert mean == pytest.approx(1.0, abs=1e-12)


def test_rules_by_hand() -> None:
    """Two cards: better by 0.3 on the first attribute, worse on the other two. Majority says the second card."""
    rules = checks.comparison_rules(np.array([[0.3, -0.12, -0.2]]))[0]
    names = checks._rule_names(3)[1:]
    majority = rules[[name == "majority" for name in names]]
    assert (majority == [False, True, False]).all()
    by_order = rules[[name == "lexicographic" for name in names]]
    first_pair = by_order[0::6]  # attribute 0, then 1, for each just noticeable difference
    assert (first_pair == [True, False, False]).all()
    second_first = by_order[2::6]  # attribute 1, then 0: 0.12 tells below 0.15 only, then attribute 0 decides
    assert second_first.tolist() == [[False, True, False]] * 2 + [[True, False, False]] * 2
    none = checks.comparison_rules(np.zeros((1, 3)))[0]
    assert none[[name == "lexicographic" for name in names]].all(), "no order of two attributes tells"
    assert (none[[name == "majority" for name in names]] == [False, False, True]).all()


def test_people_as_modelled_raise_the_alarm_hardly_ever(lab: Make) -> None:
    """500 people, 12 rounds: at most alpha, and 3.3 standard errors; and they are predicted better than unlearnt."""
    setup = lab(role="advisor", policy="random", max_rounds=12, num_particles=256, seed=31)
    found = sessions_of(setup, "rational", 500).state.checks
    assert found is not None
    rate = np.mean(found.raised >= 0)
    assert rate <= checks.ALPHA + 3.3 * np.sqrt(checks.ALPHA * (1 - checks.ALPHA) / 500)
    assert ((found.raised >= 0) == (found.highest >= np.log(20))).all()
    gain = found.log_score - found.log_baseline
    assert gain.mean() > 3.3 * gain.std() / np.sqrt(500)


@pytest.mark.parametrize(("spec", "power"), [("clicking", 0.6), ("intransitive", 0.9), ("lexicographic", 0.7)])
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_planted_misfits_raise_it(flat: Make, spec: str, role: str, power: float) -> None:
    """40 people, 20 rounds, a menu and people as in the apartment."""
    setup = flat(role=role, policy="random", max_rounds=20, num_particles=256, seed=5)
    found = sessions_of(setup, spec, 40).state.checks
    assert found is not None
    assert np.mean(found.raised >= 0) >= power


# --- posterior predictive check ---------------------------------------------------------------------------------------


def test_replicates_are_drawn_from_the_probabilities() -> None:
    """One answer, three options, 4,000 draws: shares within 4 standard errors, and the exact p value of the rarest."""
    share = np.array([0.7, 0.25, 0.05])
    probability = np.repeat(share[None, :, None], 4000, axis=2)
    made = checks.replicate(1, 0, probability, np.array([2]), np.array([False]))
    for option, expected in enumerate(share):
        error = np.sqrt(expected * (1 - expected) / 4000)
        assert abs(np.mean(made.said == option) - expected) < 4 * error
    assert made.against is None
    assert abs(made.surprise - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000)
    assert checks.replicate(1, 0, probability, np.array([0]), np.array([False])).surprise == 1.0


def test_answers_against_the_drawn_utility() -> None:
    """Ten comparisons, each answered against odds of nine to one: no replicate does that, half of them do so once."""
    probability = np.tile(np.array([0.85, 0.1, 0.05])[None, :, None], (10, 1, 2000))
    wrong = checks.replicate(3, 1, probability, np.full(10, B), np.ones(10, bool))
    assert wrong.against == 0.0 and wrong.surprise < 0.01
    right = checks.replicate(3, 1, probability, np.full(10, A), np.ones(10, bool))
    assert right.against == 1.0


def test_all_answers_at_draws_of_the_posterior(lab: Make) -> None:
    """Every round's answers in order, probabilities that sum to one, and the posterior thinned to 128 draws."""
    setup = lab(max_rounds=4, seed=2)
    state = sessions_of(setup, "rational", 3).state
    found = load_engine("live").answered(setup, state, 1)
    assert found.probability.shape == (8, setup.num_modes + 1, 128)
    assert np.sum(found.probability, axis=1) == pytest.approx(np.ones((8, 128)), abs=1e-12)
    assert found.is_comparison.tolist() == [False, True] * 4
    assert found.answer.tolist() == state.evidence.chosen[1, :8].tolist()


# --- sessions, rows and bad cases -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_a_row_does_not_depend_on_the_batch(lab: Make, role: str) -> None:
    """Of 30 people together and in other companies: every column of the honesty figures."""
    setup = lab(role=role, max_rounds=5, num_particles=64, seed=12)
    model, _ = load_person("rational")
    together = honesty_columns(setup, simulate_sessions(setup, model, {}, np.arange(30)).state)
    assert list(together) == [name for name, _ in COLUMNS]
    for first, last in ((3, 4), (11, 18)):
        alone = honesty_columns(setup, simulate_sessions(setup, model, {}, np.arange(first, last)).state)
        for name in together:
            assert alone[name].to_pylist() == together[name].to_pylist()[first:last], name


def test_a_session_says_what_a_row_says(lab: Make) -> None:
    """The documents of one person of a population carry the same figures, and the same again when made again."""
    setup = lab(max_rounds=5, num_particles=64, seed=6)
    model, parameters = load_person("clicking")
    state = simulate_sessions(setup, model, parameters, np.arange(4)).state
    bodies = documents(setup, "clicking", 3)
    assert bodies == documents(setup, "clicking", 3)
    stop = next(d["body"] for d in bodies if d["type"] == "stop")
    assert stop["honesty"] == honesty.figures(setup, state, 3)
    last = [d["body"] for d in bodies if d["type"] == "round"][-1]
    assert last["prequential"] == stop["honesty"]["prequential"] and last["alarm"] == stop["honesty"]["alarm"]
    assert last["prequential"]["answers"] == 10
    alarm = stop["honesty"]["alarm"]
    assert alarm["raised"] == (alarm["highest_log_e"] >= alarm["threshold_log_e"]) == (alarm["says"] is not None)


def test_without_comparisons_there_is_no_evidence_of_consistency(lab: Make) -> None:
    setup = lab(protocol={"questions_per_round": 0}, max_rounds=3, num_particles=64)
    found = honesty.figures(setup, sessions_of(setup, "rational", 1).state)
    assert found is not None
    assert found["consistency"] is None and found["utility_licence"] is None
    assert found["predictive_check"]["against_p"] is None and found["predictive_check"]["to_drop_p"] is None
    assert found["prequential"]["answers"] == 3


def test_one_answer_and_none(lab: Make) -> None:
    setup = lab(protocol={"questions_per_round": 0}, max_rounds=1, num_particles=64)
    sessions = sessions_of(setup, "rational", 2)
    found = honesty.figures(setup, sessions.state)
    assert found is not None and found["prequential"]["answers"] == 1
    assert found["prequential"]["log_score"] == pytest.approx(found["prequential"]["baseline"], abs=0.3)
    assert not found["alarm"]["raised"], "one answer cannot be worth twenty to one"
    assert sessions.state.checks is not None
    nobody = replace(sessions.state, checks=sessions.state.checks._replace(num_answers=np.zeros(2, np.int64)))
    assert honesty.prequential(nobody) is None and honesty.alarm(nobody) is None


@pytest.mark.parametrize("engine", ["bulk", "oracle"])
def test_engines_that_predict_nothing_have_no_figures(lab: Make, engine: str) -> None:
    setup = lab(engine=engine, max_rounds=2)
    state = sessions_of(setup, "rational", 5).state
    assert honesty.figures(setup, state) is None
    columns = honesty_columns(setup, state)
    assert all(column.null_count == 5 for column in columns.values())


def test_attributes_of_one_alone() -> None:
    """A single attribute has one order, and menus and comparisons have the same number of rules."""
    for num_attributes, (menus, cards) in product((1, 2, 4), [(2, 3)]):
        menu = checks.menu_rules(np.random.default_rng(0).random((menus, 5, num_attributes)))
        pair = checks.comparison_rules(np.random.default_rng(1).random((cards, num_attributes)))
        assert menu.shape[1] == pair.shape[1] == len(checks._rule_names(num_attributes)) - 1


def test_the_terminal_says_it_beside_the_degree(lab: Make, capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence only where the alarm is up; what was not asked is not reported."""
    from cli._terminal import Screen

    setup = lab(max_rounds=2, num_particles=64, seed=9)
    found = honesty.figures(setup, sessions_of(setup, "rational", 1).state)
    assert found is not None and found["utility_licence"] is None and not found["alarm"]["raised"]

    def words(alarm: bool, compared: bool) -> str:
        screen = Screen(setup, quiet=False)
        up = {"raised": alarm, "says": checks.WORDS if alarm else None, "round": 2 if alarm else None}
        shown = found | {"alarm": found["alarm"] | up, "consistency": found["consistency"] if compared else None}
        screen._alarm(shown)
        screen._honesty(shown)
        return capsys.readouterr().out

    assert checks.WORDS in words(True, True) and "since round 2; at most 5% of people as modelled" in words(True, True)
    assert checks.WORDS not in words(False, True) and "nothing alarming" in words(False, True)
    assert "utility licence    no evidence: 0 of" in words(False, True)
    assert "utility licence" not in words(False, False)
