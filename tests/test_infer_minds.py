"""The population of whole sessions: its likelihood, NUTS, recovery, a journal's way in, the scenario that comes out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.minds import ERROR, RATE, SPREAD, WEIGHTS, model_sha256, people, told
from calib.journal import open_journal
from calib.mental import BELIEF_SD, LEARNING
from calib.replay import setup_of
from calib.scenario import load_scenario, load_scenario_text
from calib.setup import make_setup
from cli.main import main
from experiments.batch import simulate_sessions
from experiments.expand import documents
from experiments.infer_journal import (
    evidence_of,
    history_of,
    infer_journal,
    mind_prior,
    population_draws,
    read_runs,
    scenario_toml,
)
from experiments.infer_minds import (
    ERROR_SD,
    MEAN_SD,
    SD_SCALE,
    Evidence,
    MindFit,
    MindPopulation,
    People,
    Size,
    fit_minds,
    form_of,
)
from experiments.infer_population import population_of
from experiments.people import rational

REFERENCE = Path(__file__).parent / "minds_reference.json"


# --- the likelihood ---------------------------------------------------------------------------------------------------


def coordinates(evidence: Evidence, seed: int) -> list[np.ndarray]:
    """y, traits, rest and xi of people, and an error, for 8 chains."""
    rng, num, points = np.random.default_rng(seed), len(evidence.people), 8
    form, own = form_of(evidence), People(form_of(evidence), evidence)
    cells = evidence.prior.expectation.shape
    centre = evidence.prior.mean[[BELIEF_SD, LEARNING]][:, None]
    y = rng.normal(0, 0.7, (num, form.num_intent + len(form.channels), points))
    y[:, form.num_intent :] += 2.5
    traits = centre + rng.normal(0, 0.4, (num, 2, points))
    rest = rng.normal(size=(num, len(own.others), points))
    return [
        y,
        traits,
        rest,
        rng.normal(size=(num, cells[0] * own.num_groups, points)),
        rng.normal(0, 0.2, (*cells, points)),
    ]


@pytest.mark.parametrize("probes", [0, 4])
def test_an_error_of_the_population_is_another_description(probes: int) -> None:
    """The error enters in closed form; the kernel knows it as another expectation. Probes are Gaussian either way."""
    evidence = people(4, 3, probes=probes)
    y, traits, rest, xi, error = coordinates(evidence, 1)
    error = np.repeat(error[..., :1], 8, axis=2)
    found = People(form_of(evidence), evidence).likelihood(y, traits, rest, xi, error).value
    shifted = evidence.prior._replace(expectation=evidence.prior.expectation + error[..., 0])
    other = People(form_of(evidence), evidence._replace(prior=shifted))
    expected = other.likelihood(y, traits, rest, xi, np.zeros_like(error)).value
    assert found == pytest.approx(expected, abs=2e-3)
    assert np.ptp(expected) > 1


@pytest.mark.parametrize("probes", [0, 4])
def test_gradients_are_numerical_derivatives(probes: int) -> None:
    evidence = people(3, 4, probes=probes)
    own, at = People(form_of(evidence), evidence), coordinates(evidence, 2)
    found, step = own.likelihood(*at), 0.02
    for k, name in enumerate(("y", "traits", "rest", "xi")):
        for d in range(at[k].shape[1]):
            there = [[v.copy() for v in at] for _ in range(2)]
            there[0][k][:, d] += step
            there[1][k][:, d] -= step
            high, low = (own.likelihood(*v).value for v in there)
            gradient = getattr(found, name)[:, d]
            assert (high - low) / (2 * step) == pytest.approx(gradient, abs=0.02 + 0.01 * np.abs(gradient).max()), name
    size = Size(form_of(evidence), evidence)
    rng = np.random.default_rng(5)
    theta = size.start[:, None] + 0.2 * rng.normal(size=(len(size.start), 8))
    y, traits, rest, xi, _ = at
    white, standard = size.places(theta, y, traits)

    def density(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return size.taking_along(own, t, white, standard, rest, xi)

    gradient = density(theta)[1][0]
    for d in range(len(theta)):
        nudge = np.zeros_like(theta)
        nudge[d] = 0.01
        slope = (density(theta + nudge)[0] - density(theta - nudge)[0])[0] / 0.02
        assert slope == pytest.approx(gradient[d], abs=0.05 + 0.02 * np.abs(gradient[d]).max()), d


def test_people_are_where_they_stand() -> None:
    evidence = people(3, 4)
    size, (y, traits, *_) = Size(form_of(evidence), evidence), coordinates(evidence, 2)
    theta = size.start[:, None] + 0.3 * np.random.default_rng(5).normal(size=(len(size.start), 8))
    back = size.placed(theta, *size.places(theta, y, traits))
    assert back[0] == pytest.approx(y) and back[1] == pytest.approx(traits)


# --- the posterior ----------------------------------------------------------------------------------------------------


def test_nuts_finds_the_same_population() -> None:
    """Means within 0.25 sd of the reference's, sds within 35%: some have heavy tails, and both Monte Carlo errors."""
    reference = json.loads(REFERENCE.read_text())
    assert reference["model_sha256"] == model_sha256(), "make it anew: python -m bench.minds --reference " + str(
        REFERENCE
    )
    evidence = people(reference["people"], reference["seed"])
    found = told(evidence, fit_minds(evidence, 5, draws=200))
    assert set(found) == set(reference["found"])
    for name, (mean, sd) in reference["found"].items():
        assert found[name][0] == pytest.approx(mean, abs=0.25 * sd), name
        assert found[name][1] == pytest.approx(sd, rel=0.35), name


def test_without_answers_the_population_is_its_prior() -> None:
    """Both moves of the population, and people who stand in it, against what is known of the prior."""
    evidence = people(4, 1, rounds=1)
    nothing = evidence.history._replace(num=np.zeros(4, np.int64))
    found = fit_minds(evidence._replace(history=nothing), 3, draws=150).population
    assert found.error.std() == pytest.approx(ERROR_SD, rel=0.05) and abs(found.error.mean()) < 0.02
    assert found.trait_mean.std(axis=(1, 2)) == pytest.approx(MEAN_SD, rel=0.1)
    assert found.trait_sd.mean(axis=(1, 2)) == pytest.approx(SD_SCALE * np.sqrt(2 / np.pi), rel=0.1)
    assert found.intent.mean.std(axis=(1, 2)) == pytest.approx([2.0, 2.0], rel=0.1)
    sd = np.sqrt(found.intent.covariance[[0, 1], [0, 1]])
    assert np.median(sd, axis=(1, 2)) == pytest.approx([0.816, 0.816], rel=0.12)  # half-t with 2 degrees of freedom
    correlation = found.intent.covariance[0, 1] / (sd[0] * sd[1])
    assert abs(correlation.mean()) < 0.1 and correlation.std() == pytest.approx(1 / np.sqrt(3), rel=0.1)


def test_the_population_of_other_people_is_found() -> None:
    """32 people whose expectations lie off the descriptions: the error, how they differ, what they want."""
    evidence = people(32, 2)
    fit = fit_minds(evidence, 1, draws=40)
    names, draws = population_draws(evidence, fit.population)
    flat = dict(zip(names, draws.reshape(len(names), -1), strict=True))
    error = fit.population.error.reshape(*ERROR.shape, -1)
    z = (error.mean(axis=2) - ERROR) / error.std(axis=2)
    assert np.abs(z).max() < 3.5 and np.mean(np.abs(z)) < 1.5
    assert np.corrcoef(error.mean(axis=2).ravel(), ERROR.ravel())[0, 1] > 0.8
    assert error.std(axis=2).max() < 0.1  # 0.2 beforehand
    share = np.array(WEIGHTS) / sum(WEIGHTS)
    truths = {"belief_sd": np.exp(SPREAD[0]), "learning_rate": 1 / (1 + np.exp(-RATE[0]))}
    truths |= {"rationality[comparison]": 20.0} | dict(zip(evidence.attributes, share, strict=True))
    for name, truth in truths.items():
        low, high = np.quantile(flat[name], [0.005, 0.995])
        assert low < truth < high, name


# --- from a journal ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_documents_tell_what_the_engine_was_told(role: str) -> None:
    """Choices, runs, comparisons and probes, in order."""
    setup = make_setup(
        load_scenario("beliefs"), role=role, policy="per_second", max_rounds=5, seed=4, num_particles=128
    )
    kept = simulate_sessions(setup, rational, {}, np.array([2])).state.evidence
    rounds = [d["body"] for d in documents(setup, "rational", 2) if d["type"] == "round"]
    found = history_of(setup, rounds, kept.kind.shape[1])
    assert set(kept.kind[0, : kept.num[0]]) >= {5, 6}  # probes and runs
    for name, mine, theirs in zip(kept._fields, found, kept, strict=True):
        assert np.array_equal(mine, theirs), name


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Five simulated sessions of four rounds of people with beliefs, and one in the apartment."""
    url = f"sqlite:///{tmp_path_factory.mktemp('sessions')}/calib.db"
    facts = {"kind": "simulated", "rung": "simulator", "device": "simvac"}
    with open_journal(url) as opened:
        for number in range(6):
            scenario = load_scenario("beliefs" if number < 5 else "apartment")
            setup = make_setup(scenario, policy="random", max_rounds=4, seed=4, num_particles=64)
            told = facts | {"scenario_text": scenario.text}
            for document in documents(setup, "rational", number, told):
                opened.append(f"run{number}", document["type"], document["body"])
    return url


def infer(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main(["infer", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_sessions_become_a_population_and_the_next_scenario(journal: str, tmp_path: Path) -> None:
    path = tmp_path / "people.toml"
    found = infer_journal(journal, where=["scenario=beliefs"], population=str(path), draws=20)
    assert found["scenario"] == "beliefs" and found["kind"] == "simulated" and found["rung"] == "simulator"
    assert found["diagnostics"]["people"] == found["diagnostics"]["sessions"] == 5
    named = {p["name"]: p for p in found["parameters"]}
    assert {"sound", "sd[sound]", "rationality[comparison]", "belief_sd", "sd_logit[learning_rate]"} <= set(named)
    before, after = load_scenario("beliefs"), load_scenario(str(path))
    assert {f"error[{m.name},{a.name}]" for m in before.modes for a in before.attributes} <= set(named)
    assert after.version == "1, fitted to 5 people" and after.beliefs is not None
    assert after.salience == before.salience and after.modes == before.modes
    assert after.learning_rate == pytest.approx(named["learning_rate"]["q50"], rel=0.2)
    for m, mode in enumerate(before.modes):
        for j, attribute in enumerate(before.attributes):
            mean = named[f"error[{mode.name},{attribute.name}]"]["mean"]
            assert after.beliefs.error[m][j] == pytest.approx(mean, rel=1e-5, abs=1e-9)
    mind, own = make_setup(after).mind, make_setup(before).mind
    assert mind is not None and own is not None
    assert mind.expectation - own.expectation == pytest.approx(np.array(after.beliefs.error), abs=1e-12)


def test_what_is_written_is_read_again(small_text: str) -> None:
    """Every number of the population, to six digits."""
    text = small_text.replace(
        "[mental_model.salience]",
        "[mental_model.beliefs]\nspread = { median = 0.2, sd_log = 0.4 }\nlearning_sd_logit = 0.7\nprobe_sd = 0.05\n"
        "[mental_model.beliefs.error.eco]\nsound = 0.25\n[mental_model.salience]",
    )
    scenario = load_scenario_text(text, "mine.toml")
    assert scenario.beliefs is not None and scenario.beliefs.error[0] == (0.0, 0.0, 0.25)
    modes, attributes = len(scenario.modes), len(scenario.attributes)
    error = np.round(np.random.default_rng(1).normal(0, 0.1, (modes, attributes, 1, 1)), 4)
    evidence = _evidence(scenario)
    mean, covariance = np.zeros((attributes - 1 + 2, 1, 1)), 0.25 * np.eye(attributes - 1 + 2)[:, :, None, None]
    traits = np.array([np.log(0.3), 0.5])[:, None, None], np.array([0.5, 0.25])[:, None, None]
    population = MindPopulation(population_of(form_of(evidence), mean, covariance), error, *traits)
    after = load_scenario_text(scenario_toml(scenario, evidence, population), "fitted.toml")
    assert after.beliefs is not None
    assert after.beliefs.spread == (0.3, 0.5) and after.beliefs.learning_sd_logit == 0.25
    assert after.learning_rate == pytest.approx(1 / (1 + np.exp(-0.5)), rel=1e-5)
    total = error[..., 0, 0] + np.array(scenario.beliefs.error)
    assert np.array(after.beliefs.error) == pytest.approx(total, abs=1e-12)
    assert after.population.rationality[2][1] == 0.5 and after.population.lapse == scenario.population.lapse
    assert replace(after, population=scenario.population).modes == scenario.modes


def _evidence(scenario) -> Evidence:
    from calib.history import ACCEPT_OVERRIDE, COMPARISON, empty_history

    history = empty_history(3, 2, len(scenario.attributes))
    history.kind[:] = ACCEPT_OVERRIDE, COMPARISON
    history.num[:] = 2
    attributes, modes = (tuple(v.name for v in values) for values in (scenario.attributes, scenario.modes))
    prior = people(1, 1).prior
    return Evidence(("a", "b", "c"), attributes, modes, prior, scenario.population, history)


def test_runs_of_one_participant_are_one_person(journal: str) -> None:
    with open_journal(journal, create=False) as opened:
        runs = read_runs(opened, ["scenario=beliefs"])
    setup = setup_of(runs[0][0])
    prior = mind_prior(setup.scenario, setup, "here")
    same = [({**start, "participant": "ann" if i < 2 else None}, rounds) for i, (start, rounds) in enumerate(runs)]
    evidence = evidence_of(setup, same, prior, setup.scenario)
    assert len(evidence.people) == 4 and evidence.people[0] == "ann"
    alone = evidence_of(setup, runs, prior, setup.scenario).history
    assert evidence.history.num[0] == alone.num[0] + alone.num[1]
    second = evidence.history.kind[0, alone.num[0] : evidence.history.num[0]]
    assert np.array_equal(second, alone.kind[1, : alone.num[1]])
    assert evidence.history.where[0, alone.num[0]] == -1  # nothing ran before in this session


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "runs of different scenario_hash"),
        (["--where", "scenario=nowhere"], "no run with a round meets scenario=nowhere"),
        (["--where", "scenario=apartment"], "has no mental_model.beliefs"),
        (["--where", "scenario=apartment", "--prior", "beliefs"], "1 people are no population"),
        (["--where", "scenario=apartment", "--prior", "arena"], "has other modes or attributes than the runs"),
        (["--where", "beliefs"], "is no condition"),
        (["--where", "scenario=beliefs", "--population", "no/p.toml"], "its folder does not exist"),
        (["--pool"], "--pool is for choices in a FILE"),
        (["--weights", "free"], "--weights free is for choices in a FILE"),
    ],
)
def test_a_mistake_is_told_in_one_line(journal, capsys, words, said) -> None:
    code, _, err = infer(capsys, "--journal", journal, "--hierarchical", *words)
    assert code == 2 and said in err and err.count("\n") == 1


def test_a_file_or_a_journal(journal, tmp_path, capsys) -> None:
    for words, said in (
        ([], "FILE is missing"),
        (["choices.csv", "--journal", journal], "leave one of them out"),
        (["--journal", journal], "add --hierarchical"),
        (["choices.csv", "--where", "kind=human"], "give it with --journal"),
        (["--journal", f"sqlite:///{tmp_path}/none.db", "--hierarchical"], "there is no such file"),
    ):
        code, _, err = infer(capsys, *words)
        assert code in (2, 3) and said in err and err.count("\n") == 1


def test_kinds_are_not_mixed(journal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_journal(journal, create=False) as opened:
        runs = [row for row in opened.runs() if row.scenario == "beliefs"]
        entries = {row.run: opened.entries(row.run, ["start", "round"]) for row in runs}
        human = entries[runs[0].run][0]
        entries[runs[0].run][0] = replace(human, body={**(human.body or {}), "kind": "human"})
        monkeypatch.setattr(opened, "runs", lambda: runs)
        monkeypatch.setattr(opened, "entries", lambda run, types: list(entries[run]))
        with pytest.raises(Exception, match=r"different kind \(human, simulated\) are not mixed.*--where kind=human"):
            read_runs(opened)
        assert len(read_runs(opened, ["kind=simulated"])) == 4


def test_a_fit_names_everybody() -> None:
    evidence = people(3, 1, rounds=2)
    fit = fit_minds(evidence, 0, draws=20)
    assert isinstance(fit, MindFit) and fit.people.shape[:2] == (3, len(fit.names))
    assert fit.people[:, :3].sum(axis=1) == pytest.approx(np.ones((3, 16, 20)))
