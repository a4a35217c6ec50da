"""One conformance check for every policy and for every person model; a new file is checked the moment it exists."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib import live, rounds
from calib.choice import comparison_log_probs
from calib.engines import engine_names
from calib.errors import UserError
from calib.evidence import Evidence, empty_evidence
from calib.kernel import COMPARISON
from calib.policies import load_policy, policy_names
from calib.policies.information_gain import expected_gain
from calib.questions import PAIR
from calib.setup import Setup
from calib.state import State
from calib.streams import stream_key, uniforms
from experiments.batch import simulate_sessions
from experiments.people import load_person, person_names
from experiments.truth import Mind, draw_truth, first_mind

Make = Callable[..., Setup]
ROOT = Path(__file__).parent.parent


def test_every_file_is_found() -> None:
    assert policy_names() and person_names()
    for folder, names in (("calib/policies", policy_names()), ("experiments/people", person_names())):
        files = {p.stem for p in (ROOT / folder).glob("*.py") if not p.stem.startswith("_")}
        assert set(names) == files


def after_some_rounds(setup: Setup, num: int) -> State:
    """People in the middle of the second round, with an answer that is not in the belief yet."""
    model, _ = load_person("rational")
    state = simulate_sessions(replace(setup, max_rounds=1), model, {}, np.arange(num)).state
    state = replace(
        state,
        active=np.ones(num, bool),
        p_aligned=np.full((num, setup.max_rounds + 1), np.nan),
        good_enough=np.full((num, setup.max_rounds + 1), -1, np.int8),
        clocks=np.zeros((num, setup.max_rounds + 1, 5)),
    )
    capacity = empty_evidence(num, 2, state.evidence.features.shape[2], setup.num_attributes)
    wide = [np.concatenate([a, b], axis=1) for a, b in zip(state.evidence[:-1], capacity[:-1], strict=True)]
    state = replace(state, evidence=Evidence(*[*wide, state.evidence.num_answers]))
    state = rounds.begin_round(setup, state)
    return rounds.chosen(setup, state, np.arange(num) % setup.num_modes, np.zeros(num), np.zeros(num))


def news(setup: Setup, state: State) -> np.ndarray:
    likelihood = live.answer_log_likelihood(state.belief, setup.prior, state.evidence, state.in_belief)
    return state.belief.log_weight + likelihood


@pytest.mark.parametrize("name", policy_names())
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_a_policy(lab: Make, name: str, role: str) -> None:
    """Shape, range, the same for any batch, nothing read but its arguments, nothing written to them."""
    setup, num = lab(role=role, policy=name, max_rounds=3, num_particles=128), 9
    state = after_some_rounds(setup, num)
    log_weight = news(setup, state)
    assert np.ptp(log_weight - state.belief.log_weight, axis=1).min() > 0, "the check needs an answer to reweigh by"
    u = uniforms(stream_key(1, "policy"), state.people, 2, 4)
    before = [a.copy() for a in (*state.belief, log_weight, u)]
    policy = load_policy(name)
    np.random.seed(1)  # noqa: NPY002
    pair = policy.choose(setup, state.belief, log_weight, u)
    assert pair.shape == (num,) and np.issubdtype(pair.dtype, np.integer)
    assert ((pair >= -1) & (pair < len(setup.pairs))).all()
    for old, new in zip(before, (*state.belief, log_weight, u), strict=True):
        assert np.array_equal(old, new)
    np.random.seed(2)  # noqa: NPY002
    other = replace(setup, seed=setup.seed + 1)  # its u is the only randomness that it may use
    assert np.array_equal(policy.choose(other, state.belief, log_weight, u), pair)
    order = np.random.default_rng(0).permutation(num)
    for rows in (order, *np.array_split(np.arange(num), 4), np.array([5])):
        belief = live.Belief(*(column[rows] for column in state.belief))
        assert np.array_equal(policy.choose(setup, belief, log_weight[rows], u[rows]), pair[rows])


@pytest.mark.parametrize("name", policy_names())
def test_a_policy_in_a_session(lab: Make, name: str) -> None:
    """What it asks is asked: the cards of the pair are in the evidence."""
    setup = lab(policy=name, max_rounds=2, num_particles=64, role="tool")
    model, _ = load_person("rational")
    state = simulate_sessions(setup, model, {}, np.arange(20)).state
    for i in np.flatnonzero(state.pair >= 0):
        a, b = setup.pairs[state.pair[i]]
        last = state.evidence.num_answers[i] - 1
        assert state.evidence.channel[i, last] == COMPARISON
        assert np.array_equal(state.evidence.features[i, last, :2], setup.cards[[a, b]])


def test_information_gain_by_brute_force(lab: Make) -> None:
    """H(answer) - E H(answer | person) over the weighted particles, pair by pair in numpy, within 1e-9 nats."""
    setup, num = lab(max_rounds=3, num_particles=200), 4
    state = after_some_rounds(setup, num)
    log_weight = news(setup, state)
    found = expected_gain(setup, state.belief, log_weight)
    w = live.intent_at(state.belief.particles, setup.num_attributes)
    extra = state.belief.particles[:, setup.num_attributes - 1 :]
    expected = np.empty_like(found)
    for i in range(num):
        weight = np.exp(log_weight[i])
        weight /= weight.sum()
        for q, (a, b) in enumerate(setup.pairs):
            difference = (setup.cards[a] - setup.cards[b]) @ w[i]
            p = np.exp(comparison_log_probs(np, difference, np.exp(extra[i, COMPARISON]), np.exp(extra[i, 6])))
            mean = weight @ p
            given = -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), axis=1)
            expected[i, q] = -np.sum(mean * np.log(mean)) - weight @ given
    assert found == pytest.approx(expected, abs=1e-9)
    assert (found > -1e-12).all() and (found < np.log(3)).all()
    chosen = load_policy("information_gain").choose(setup, state.belief, log_weight, np.zeros((num, 4)))
    assert np.array_equal(chosen, expected.argmax(axis=1))


def test_information_gain_knows_this_rounds_choice(lab: Make) -> None:
    setup = lab(max_rounds=3, num_particles=200)
    state = after_some_rounds(setup, 4)
    with_news = expected_gain(setup, state.belief, news(setup, state))
    assert not np.allclose(with_news, expected_gain(setup, state.belief, np.zeros((4, 200))))


def test_random_pairs_are_uniform(lab: Make) -> None:
    setup = lab()
    u = uniforms(stream_key(1, "policy"), np.arange(28_000), 1, 4)
    belief = live.evenly(np.zeros((28_000, 9, 1)))
    pairs = load_policy("random").choose(setup, belief, np.zeros((28_000, 1)), u)
    counts = np.bincount(pairs, minlength=28)
    assert counts.min() > 850 and counts.max() < 1150


@pytest.mark.parametrize("name", person_names())
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_a_person_model(lab: Make, name: str, role: str) -> None:
    """Shapes, ranges, the same for any batch, nothing written to what it is given."""
    setup, num = lab(role=role, max_rounds=3, num_particles=64), 30
    model, parameters = load_person(name)
    people = np.arange(num)
    truth = draw_truth(setup, people, parameters)
    mind = first_mind(setup, people, truth)
    state = replace(after_some_rounds(setup, num), kind=np.full(num, PAIR), asked=people % len(setup.pairs))
    u = uniforms(stream_key(2, "person answers"), people, 2, 2 * setup.num_modes + 3)
    images = [a.copy() for a in (*truth, *mind, state.standing, state.f_hat)]
    num_options = setup.num_modes + (role == "advisor")
    ranges = {"choose": num_options, "compare": 3, "good_enough": 2}

    def answers(rows: np.ndarray) -> dict[str, np.ndarray]:
        who = type(truth)(*(a[rows] for a in truth))
        what = Mind(*(a[rows] for a in mind))
        part = take(state, rows)
        return {f: getattr(model, f)(setup, who, what, part, u[rows]) for f in ranges} | {
            "choose_alone": model.choose_alone(setup, who, what, u[rows])
        }

    whole = answers(people)
    for function, most in (ranges | {"choose_alone": setup.num_modes}).items():
        found = whole[function]
        assert found.shape == (num,) and np.issubdtype(found.dtype, np.integer), function
        assert ((found >= 0) & (found < most)).all(), function
    for rows in (np.random.default_rng(0).permutation(num), np.array([7]), *np.array_split(people, 4)):
        for function, found in answers(rows).items():
            assert np.array_equal(found, whole[function][rows]), function
    z = setup.map.z[state.commanded, state.context, 0]
    after = model.experience(setup, truth, mind, state, z)
    assert after.f_hat.shape == mind.f_hat.shape and after.last_mode.shape == (num,)
    assert np.isfinite(after.f_hat).all()
    assert ((after.last_mode >= -1) & (after.last_mode < setup.num_modes)).all()
    for old, new in zip(images, (*truth, *mind, state.standing, state.f_hat), strict=True):
        assert np.array_equal(old, new)


def take(state: State, rows: np.ndarray) -> State:
    """These people only."""

    def one(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value[rows]
        if hasattr(value, "_make"):
            return type(value)(*(one(v) for v in value))
        if isinstance(value, rounds.Estimate):
            return rounds.Estimate(*(v[rows] for v in vars(value).values()))
        return value

    return State(**{k: one(v) for k, v in vars(state).items()})


@pytest.mark.parametrize("engine", engine_names())
@pytest.mark.parametrize("name", person_names())
@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_a_person_model_in_sessions(lab: Make, name: str, role: str, engine: str) -> None:
    setup = lab(role=role, max_rounds=3, engine=engine, num_particles=None if engine == "oracle" else 64)
    model, parameters = load_person(name)
    fixed = {k: 5.0 if k == "rationality" else 0.1 for k in model.PARAMETERS if k in ("rationality", "lapse")}
    sessions = simulate_sessions(setup, model, parameters | fixed, np.arange(12))
    stayed = sessions.reason != "gave_up"
    assert (sessions.last_round[stayed] == 3).all() and (sessions.last_round[~stayed] < 3).all()
    reached = np.arange(4) <= sessions.last_round[:, None]
    assert (np.isfinite(sessions.true_degree) == reached).all()
    assert ((sessions.true_degree[reached] >= 0) & (sessions.true_degree[reached] <= 1 + 1e-12)).all()


def test_good_enough_is_the_acceptance_curve(lab: Make) -> None:
    """40,000 answers at one degree against gamma + (1 - gamma - lapse) F(slope (A - a50)), within 4 standard errors."""
    setup, num = lab(num_particles=2), 40_000
    people = np.arange(num)
    truth = draw_truth(setup, np.zeros(num, np.int64), {})
    state = rounds.begin_session(setup, people)
    standing = np.full((num, 3), setup.mode_setting[0])
    from calib import alignment

    w = truth.weights[:1, :, None]
    degree = alignment.degree(setup, w, alignment.extremes(setup, w), standing[:1])[0, 0]
    curve = replace(setup.scenario.acceptance, a50=float(degree) - 0.03, gamma=0.1, lapse=0.05)
    setup = replace(setup, scenario=replace(setup.scenario, acceptance=curve))
    model, _ = load_person("rational")
    u = uniforms(stream_key(5, "test"), people, 1, 1)
    yes = model.good_enough(setup, truth, first_mind(setup, people, truth), replace(state, standing=standing), u)
    expected = 0.1 + 0.85 / (1 + np.exp(-curve.slope * 0.03))
    assert abs(yes.mean() - expected) < 4 * np.sqrt(expected * (1 - expected) / num)


def test_people_learn_of_the_mode_that_ran_and_of_no_other(lab: Make) -> None:
    setup = lab(num_particles=2)
    state = rounds.begin_session(setup, np.arange(2))
    beyond = setup.num_modes  # a setting of S_ref that is no mode
    state = replace(state, commanded=np.array([2, beyond]))
    z = setup.map.z[[2, beyond], 0, 0]
    model, _ = load_person("rational")
    truth = draw_truth(setup, np.arange(2), {})
    mind = first_mind(setup, np.arange(2), truth)
    after = model.experience(setup, truth, mind, state, z)
    from calib.outcomes import scale

    moved = setup.expectation[2] + setup.learning * (scale(setup.scenario, z[0]) - setup.expectation[2])
    assert after.f_hat[0, 2] == pytest.approx(moved, abs=1e-15)
    assert np.array_equal(np.delete(after.f_hat[0], 2, axis=0), np.delete(setup.expectation, 2, axis=0))
    assert np.array_equal(after.f_hat[1], setup.expectation)
    assert after.last_mode.tolist() == [2, -1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("nobody", r'^--person: "nobody" is not a person model; choose human, [^\n]*rational'),
        ("../truth", r"is not a person model"),
        ("rational,speed=3", r'^--person: rational has no parameter "speed"; it has rationality, [^\n]+$'),
        ("rational,lapse=lots", r'^--person: lapse is "lots", not a number$'),
        ("rational,lapse", r'^--person: lapse is "", not a number$'),
        ("rational,lapse=nan", r"^--person: lapse is [^\n]+$"),
        ("rational,lapse=1.5", r"^--person: lapse is [^\n]+$"),
        ("rational,rationality=-3", r"^--person: rationality is [^\n]+$"),
    ],
)
def test_a_wrong_person_is_refused(spec: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_person(spec)


def test_parameters_of_a_person_are_read() -> None:
    assert load_person("rational,rationality=8,lapse=0.1")[1] == {"rationality": 8.0, "lapse": 0.1}
