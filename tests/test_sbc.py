"""Simulation-based calibration: its statistics against known answers, whole runs on few people, and that it finds
an engine that is wrong."""

import csv
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from calib import live
from calib.scenario import load_scenario
from cli.main import main
from experiments import batch, sbc
from experiments.batch import simulate_sessions
from experiments.people import rational
from experiments.sbc import calibrate, document, engines, make_task
from experiments.sbc_ranks import histogram, num_thinned, ranks, shares, thinned, uniform_p
from experiments.sbc_reliability import BINS, RESAMPLES, bins, calibration_error, perfect_error, tally, tally_event
from experiments.truth import draw_truth


def task(engine: str = "live", **changes: Any) -> sbc.Task:
    scenario = load_scenario("apartment")
    known: dict[str, Any] = {"people": 70, "seed": 5, "role": "advisor", "policy": "random", "max_rounds": 2}
    known["particles"] = None if engine == "pymc" else 64
    return make_task(scenario.file, scenario.text, engine=engine, **(known | changes))


def run(of: sbc.Task, jobs: int = 1) -> dict[str, Any]:
    return document(of, calibrate(of, jobs, lambda people: None))


# --- ranks ------------------------------------------------------------------------------------------------------------


def test_the_p_value_of_known_ranks() -> None:
    """100 ranks in 20 bins of 5, against scipy on counts written out; fewer bins where few people fill them."""
    even = np.repeat(np.arange(100), 7).astype(np.int16)
    assert uniform_p(even, 99) == 1.0
    heaped = np.concatenate([even, np.zeros(40), np.full(30, 99)]).astype(np.int16)
    counts = [75, *[35] * 18, 65]
    assert histogram(heaped, 99).tolist() == counts
    assert uniform_p(heaped, 99) == pytest.approx(chisquare(counts).pvalue, rel=1e-12)
    assert uniform_p(heaped, 99) < 1e-4
    assert [len(histogram(even[:n], 99)) for n in (700, 200, 199, 100, 50, 40, 20, 3)] == [20, 20, 10, 10, 5, 4, 2, 2]
    assert histogram(np.array([0, 4, 5, 99], np.int16), 99).sum() == 4


def test_a_tie_is_broken_at_random() -> None:
    """A truth among five equal draws, two below and two above takes every rank from 2 to 7."""
    draws = np.tile([0.1, 0.2, 1, 1, 1, 1, 1, 1.1, 1.2], (6, 1))
    u = (np.arange(6) + 0.5) / 6
    assert ranks(draws, np.ones(6), u).tolist() == [2, 3, 4, 5, 6, 7]
    assert ranks(np.ones((2, 19)), np.ones(2), np.array([1e-9, 1 - 1e-9])).tolist() == [0, 19]
    assert ranks(np.ones((1, 19)), np.array([1 - 1e-12]), np.array([0.5])).tolist() == [10], "rounding is no difference"


def test_a_weight_is_a_number_of_draws() -> None:
    rng = np.random.default_rng(0)
    draws, truth, u = rng.normal(size=(50, 8)), rng.normal(size=50), rng.random(50)
    equal = np.zeros((50, 8))
    below = np.sum(draws < truth[:, None], axis=1)
    assert shares(draws, equal, truth, u) == pytest.approx((below + u) / 9)
    times = np.array([1, 3, 1, 1, 2, 1, 4, 3])  # 16 draws of which 8 are distinct
    repeated = np.repeat(draws, times, axis=1)
    log_weight = np.tile(np.log(times), (50, 1)) - 7.0
    apart = np.abs(shares(draws, log_weight, truth, u) - shares(repeated, np.zeros((50, 16)), truth, u))
    assert apart.max() < 1 / 9, "but for what the truth itself counts"


def test_draws_are_picked_at_even_distances() -> None:
    picked = thinned(np.zeros((3, 1024)), 99, np.array([0.0, 0.5, 0.999]))
    assert set(np.diff(picked, axis=1).ravel()) == {10, 11} and picked[0, 0] == 0 and picked[2, -1] <= 1023
    weight = np.array([[0.5, 0.25, 0.125, 0.125]])
    assert np.bincount(thinned(np.log(weight), 16, np.array([0.3]))[0]).tolist() == [8, 4, 2, 2]
    assert [num_thinned(n, 10) for n in (64, 256, 512, 1024, 4096)] == [19, 19, 39, 99, 99]
    assert num_thinned(2000, 50) == 39


def test_ranks_among_draws_of_the_same_distribution_are_uniform() -> None:
    """4,000 people with an atom: draws and truth are 1 with chance 0.4, else uniform."""
    rng = np.random.default_rng(1)
    draws = np.minimum(rng.random((4000, 40)) / 0.6, 1.0)
    truth = draws[:, -1]
    of = draws[:, :39]
    assert uniform_p(ranks(of, truth, rng.random(4000)), 39) > 0.01
    share = shares(of, np.zeros(of.shape), truth, rng.random(4000))
    assert kstest(share, "uniform").pvalue > 0.01
    assert np.mean((share >= 0.05) & (share <= 0.95)) == pytest.approx(0.9, abs=0.015)
    assert uniform_p(ranks(of, truth, np.zeros(4000)), 39) < 1e-9, "a tie that always counts as below is found"


# --- reliability ------------------------------------------------------------------------------------------------------


def test_the_error_by_hand() -> None:
    """Two answers: 0.8, 0.15, 0.05 of which the first was chosen, and 0.4, 0.6 of which the second was not."""
    p = np.array([[0.8, 0.15, 0.05], [0.4, 0.6, 0.0]])
    found = tally(p, np.array([0, 0]), np.full((2, RESAMPLES), 0.5), p > 0)
    assert found.cases.tolist() == [1, 1, 0, 0, 1, 0, 1, 0, 1, 0], "an option that is not there is no case"
    assert found.happened.tolist() == [0, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert calibration_error(found) == pytest.approx((0.2 + 0.15 + 0.05 + 0.6 + 0.6) / 5)
    assert found.resampled[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 1, 0], "0.5 draws the first and the second"
    assert perfect_error(found)["mean"] == pytest.approx((0.2 + 0.15 + 0.05 + 0.4 + 0.4) / 5)
    event = tally_event(np.array([0.0, 0.0, 1.0]), np.array([False, True, True]), np.full((3, RESAMPLES), 0.5))
    assert event.cases.tolist() == [2, *[0] * 8, 1] and calibration_error(event) == pytest.approx(1 / 3)
    empty = tally(np.zeros((0, 3)), np.zeros(0, int), np.zeros((0, RESAMPLES)), np.zeros((0, 3), bool))
    assert calibration_error(empty) is None and perfect_error(empty) is None and bins(empty) == []


def test_a_perfect_forecaster_has_the_expected_error() -> None:
    """300 times 2,000 events: the mean error is the bootstrap's, and 0.022 as definitions say; 90% in its interval."""
    rng = np.random.default_rng(2)
    errors, expected, inside = [], [], []
    for _ in range(300):
        p = rng.random(2000)
        found = tally_event(p, rng.random(2000) < p, rng.random((2000, RESAMPLES)))
        error, perfect = calibration_error(found), perfect_error(found)
        errors.append(error)
        expected.append(perfect["mean"])
        inside.append(perfect["low"] <= error <= perfect["high"])
    noise = np.std(errors) / np.sqrt(300)
    assert np.mean(errors) == pytest.approx(np.mean(expected), abs=4 * noise)
    assert np.mean(expected) == pytest.approx(0.022, abs=0.001)
    assert np.mean(inside) == pytest.approx(0.9, abs=0.06)


def test_menus_of_a_perfect_forecaster_too_and_an_overconfident_one_is_found() -> None:
    rng = np.random.default_rng(3)
    p = rng.dirichlet(np.ones(6) * 0.5, 5000)
    answer = np.array([rng.choice(6, p=row) for row in p])
    u = rng.random((5000, RESAMPLES))
    found = tally(p, answer, u, p > 0)
    perfect = perfect_error(found)
    assert perfect["low"] * 0.8 < calibration_error(found) < perfect["high"] * 1.2
    sure = p**1.6 / np.sum(p**1.6, axis=1, keepdims=True)
    found = tally(sure, answer, u, sure > 0)
    assert calibration_error(found) > perfect_error(found)["high"] + 0.02
    assert sum(row["cases"] for row in bins(found)) == 30_000 and len(bins(found)) == BINS


# --- whole runs -------------------------------------------------------------------------------------------------------


def test_what_can_be_calibrated() -> None:
    assert {"live", "bulk", "full", "pymc"} <= set(engines()) and "oracle" not in engines()


def test_any_number_of_jobs_gives_the_same() -> None:
    """130 people in three parts."""
    alone, together = (run(task(people=130), jobs) for jobs in (1, 2))
    assert alone == together
    assert alone["people"] == 130 and len(alone["parameters"]) == 14
    assert sum(row["cases"] for row in alone["aligned_bins"]) == 130
    assert sum(row["cases"] for row in alone["choice_bins"]) == 130 * 2 * (12 + 3)


def test_the_engine_is_calibrated_and_one_with_a_wrong_prior_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """300 people after 3 rounds. The engine that is wrong thinks people far more alike than they are."""
    of = task(people=300, max_rounds=3, particles=256)
    right = run(of)
    assert right["rank_p_bonferroni"] > 0.01
    assert min(p["coverage_90"] for p in right["parameters"]) > 0.84
    assert right["choice_ece"] < right["choice_ece_expected"]["high"] + 0.01
    assert right["aligned_ece"] < right["aligned_ece_expected"]["high"] + 0.01

    def others(setup, people, parameters):
        prior = setup.prior._replace(concentration=setup.prior.concentration / 4, sd=2.5 * setup.prior.sd)
        return draw_truth(replace(setup, prior=prior), people, parameters)

    monkeypatch.setattr(batch, "draw_truth", others)
    wrong = run(of)
    assert wrong["rank_p_bonferroni"] < 1e-6
    assert min(p["coverage_90"] for p in wrong["parameters"]) < 0.7
    assert wrong["choice_ece"] > wrong["choice_ece_expected"]["high"]


def test_an_engine_is_asked_about_what_it_infers() -> None:
    """`bulk` holds all but weights, one rationality and the threshold at their prior's mean."""
    found = run(task("bulk"))
    names = [p["name"] for p in found["parameters"]]
    assert len(names) == 6 + 3 and {"rationality[comparison]", "about_equal", "degree"} < set(names)
    assert found["choice_ece"] is None and found["choice_ece_expected"] is None and found["choice_bins"] == []


def test_the_engine_with_a_mental_model(tmp_path: Path, small_text: str, capsys: pytest.CaptureFixture) -> None:
    """On a scenario whose people differ in beliefs it is the usual one, and says how they learn."""
    path = tmp_path / "beliefs.toml"
    beliefs = (
        "[mental_model.beliefs]\nspread = { median = 0.1, sd_log = 0.5 }\nlearning_sd_logit = 0.7\nprobe_sd = 0.1\n"
    )
    path.write_text(small_text.replace("[population.concentration]", beliefs + "\n[population.concentration]"))
    words = ["sbc", str(path), "--people", "4", "--rounds", "2", "--particles", "256", "--jobs", "1", "--json"]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["engine"] == "full"
    assert {"learning_rate", "belief_sd", "degree"} < {p["name"] for p in found["parameters"]}
    assert found["choice_ece"] > 0
    assert main([*words, "--engine", "pymc"]) == 2
    assert "--particles" in capsys.readouterr().err
    assert main(["sbc", str(path), "--engine", "pymc", "--people", "4"]) == 2
    assert "differ in them" in capsys.readouterr().err


@pytest.mark.slow
def test_nuts_has_the_live_engines_posterior() -> None:
    """The particles of 4 people after 3 rounds against the live engine's: means within 0.2 sd. Compiled once."""
    from experiments.sbc_pymc import _compiled, sample_belief

    of = task("live", max_rounds=3, particles=2048)
    setup, people = of.setup, np.arange(4)
    state = simulate_sessions(setup, rational, {}, people).state
    belief, effort = sample_belief(setup.prior, state.evidence, people, 3)
    assert _compiled.cache_info().misses == 1
    assert effort[:, 0].min() > 80 and effort[:, 1].max() < 1.1
    reference, found = (live.intent(b, 6) for b in (belief, state.belief))
    assert np.abs((reference.mean(axis=2) - found.mean(axis=2)) / reference.std(axis=2)).max() < 0.25
    extra = np.abs(belief.particles[:, 5:].mean(axis=2) - live.draws(state.belief)[:, 5:].mean(axis=2))
    assert (extra / belief.particles[:, 5:].std(axis=2)).max() < 0.25
    body = run(task("pymc", people=2, max_rounds=3))
    assert _compiled.cache_info().misses == 1
    assert body["engine"] == "pymc" and body["rounds"] == 3 and body["draws"] == 39 and body["particles"] is None
    assert sum(row["cases"] for row in body["choice_bins"]) == 2 * (12 + 3), "the round after the last"
    assert body["diagnostics"]["smallest_ess"] > 50


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_document_the_table_and_the_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = ["sbc", "--people", "24", "--seed", "3", "--rounds", "2", "--particles", "64", "--jobs", "1"]
    assert main([*words, "--json", "--out", str(tmp_path / "report")]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert {"engine", "people", "parameters", "choice_ece", "aligned_ece"} < set(found)
    assert found["engine"] == "live" and found["people"] == 24 and found["rounds"] == 2
    for parameter in found["parameters"]:
        assert set(parameter) == {"name", "coverage_90", "rank_p"}
        assert 0 <= parameter["coverage_90"] <= 1 and 0 <= parameter["rank_p"] <= 1
    for name in ("choice", "aligned"):
        assert 0 < found[f"{name}_ece"] < 1
        assert found[f"{name}_ece_expected"]["low"] <= found[f"{name}_ece_expected"]["mean"]
    report = tmp_path / "report"
    assert json.loads((report / "sbc.json").read_text()) == found
    rows = list(csv.DictReader((report / "people.csv").open()))
    assert len(rows) == 24
    assert all(0 <= int(row["rank sound"]) <= found["draws"] and 0 < float(row["share degree"]) < 1 for row in rows)
    for name in ("ranks.svg", "reliability.svg"):
        ElementTree.parse(report / name)
    before = {path.name: path.read_bytes() for path in report.glob("*.svg")}
    assert main([*words, "--out", str(report)]) == 0
    assert before == {path.name: path.read_bytes() for path in report.glob("*.svg")}, "the same bytes again"
    out = capsys.readouterr().out
    assert "Bonferroni" in out and "perfect forecaster" in out and "rationality[accept_override]" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "psychic"], '--engine: "psychic" is not an engine; choose'),
        (["--engine", "oracle"], '--engine: "oracle" infers nothing, so there is nothing to calibrate; choose'),
        (["--engine", "pymc", "--particles", "64"], "--particles: the engine pymc has none"),
        (["--people", "0"], "--people: 0 is too few"),
        (["--people", "many"], "--people"),
        (["--jobs", "-1"], "--jobs: -1 is no number of processes"),
        (["--seed", "-1"], "--seed: -1 is negative"),
        (["--rounds", "0"], "--rounds: 0 is too few"),
        (["--engine", "pymc", "--rounds", "0"], "--rounds: 0 is too few"),
        (["--particles", "1"], "--particles: 1 is no number of particles"),
        (["--role", "boss"], '--role: "boss" is not a role'),
        (["--policy", "../x"], '--policy: "../x" is not a policy'),
        (["nowhere.toml"], "nowhere.toml"),
        (["--out", "FILE/below"], "--out"),
    ],
)
def test_a_mistake_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture, words: list[str], said: str):
    (tmp_path / "FILE").write_text("")
    words = [str(tmp_path / word) if word.startswith("FILE") else word for word in words]
    assert main(["sbc", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and said in err, err
