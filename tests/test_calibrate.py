"""The outcome map from measured runs: instruments, estimates, the fitted map, and what a session does with it."""

import json
import math
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calib.calibration import (
    cells_of,
    cleanable_m2,
    differences,
    entered_of,
    floors_missed,
    level_at_1m,
    modelled_level,
    residual,
)
from calib.errors import UserError
from calib.map_file import Cell, Fitted, MapFile, map_toml
from calib.outcomes import corrected, outcome_map, plant_map
from calib.registry import runners
from calib.scenario import Scenario, load_scenario, load_scenario_text
from calib.setup import make_setup
from calib.stoppable import stoppable
from calib.stopping import stop_runner
from devices.catalog import make_device
from devices.device import Progress
from devices.home.types import OUTCOMES, Outcome
from experiments import oracle
from experiments.batch import simulate_sessions
from experiments.calibrate import Records, Simulated, Stopped, fitted_text, measure, missing, parse_records
from experiments.people import load_person
from experiments.truth import draw_truth, world
from in_line import neato_in_line
from sessions import Lab

HEAD = {"device": "simvac", "rung": "simulator", "scenario": "small", "scenario_hash": "0" * 64}
DIRT, COVERAGE, SOUND = (OUTCOMES.index(name) for name in ("residual_dirt", "coverage", "sound"))
PLANTED = {"residual_dirt": 0.8, "coverage": -6.0, "duration": 0.05, "sound": 4.0, "energy": 0.06, "bumps": 5.0}


def planted_text(text: str, errors: dict[str, float] = PLANTED) -> str:
    """A scenario whose map is wrong by so much."""
    return with_map(text, MapFile("planted", 16, tuple(errors.items()), None))


def with_map(text: str, about: MapFile) -> str:
    before, after = text.split("[outcome_map]\n")
    lines = after.splitlines(keepends=True)
    end = next(i for i, line in enumerate(lines) if line.startswith("["))
    return before + map_toml(about) + "\n" + "".join(lines[end:])


def fitted(text: str, *cells: Cell, planted: tuple[tuple[str, float], ...] = ()) -> Scenario:
    about = MapFile("fitted", 16, planted, Fitted("roomba", "hardware", "f" * 64, cells))
    return load_scenario_text(with_map(text, about), "fitted.toml")


def cell(mode: str, attribute: str, mean: float, run_sd: float = 1.0, error_sd: float = 0.5, runs: int = 4) -> Cell:
    return Cell(mode, "day", attribute, "measured", runs, mean, run_sd, error_sd)


# --- instruments ----------------------------------------------------------------------------------------------------


def test_dust_that_is_not_in_the_bin_is_on_the_floor() -> None:
    assert residual(16.0, 120.0, 132.0, 4.0, 0.1) == (1.0, pytest.approx(0.1 * math.sqrt(3) / 4))
    assert residual(16.0, 120.0, 136.1, 4.0, 0.1)[0] == 0.0  # the scale's error, not dust out of nothing
    for dosed, before, after in ((16, 120, 140), (16, 120, 110), (-1, 120, 121)):
        with pytest.raises(ValueError):
            residual(dosed, before, after, 4.0, 0.1)


def test_dust_that_does_not_belong_to_the_context_measures_nothing(small: Scenario) -> None:
    """4 g/m2 in the first context: what was spread has to be that, or the map's dirt is not what lay there."""
    context = small.contexts[0]
    due_g = context.dirt_g_m2 * cleanable_m2(context)
    dust = {"dosed_g": due_g, "before_g": 100.0, "after_g": 100.0 + due_g / 2, "scale_sd_g": 0.1}
    read = entered_of({"dust": dust}, context).residual_g_m2
    assert read is not None and read[0] == pytest.approx(context.dirt_g_m2 / 2)
    with pytest.raises(ValueError, match="belong to day"):
        entered_of({"dust": dust | {"dosed_g": 0.9 * due_g}}, context)


def test_a_level_is_the_energy_mean_without_the_background_at_one_metre() -> None:
    level, sd = level_at_1m([60.0, 60.0, 60.0], 50.0, 2.0, 0.1, 0.7)
    assert level == pytest.approx(10 * math.log10(1e6 - 1e5) + 20 * math.log10(2))
    assert sd == pytest.approx(math.hypot(20 / math.log(10) * 0.05, 0.7))
    mean = level_at_1m([50.0, 60.0, 70.0], 0.0, 1.0, 0.0, 0.7)[0]
    assert mean == pytest.approx(10 * math.log10((1e5 + 1e6 + 1e7) / 3), abs=1e-5)  # not 60, the mean of the levels
    with pytest.raises(ValueError, match="take 3 at least"):
        level_at_1m([60.0, 60.0], 40.0, 1.0, 0.0, 0.7)
    with pytest.raises(ValueError, match="over the background"):
        level_at_1m([52.0, 52.0, 52.0], 50.0, 1.0, 0.0, 0.7)


@given(st.lists(st.floats(45, 95), min_size=3, max_size=9), st.floats(0.3, 5.0), st.floats(0, 40))
def test_twice_as_far_away_is_six_decibels(readings: list[float], distance: float, background: float) -> None:
    near, far = (level_at_1m(readings, background, d, 0.0, 0.7)[0] for d in (distance, 2 * distance))
    assert far - near == pytest.approx(20 * math.log10(2))


def test_a_meter_reads_what_the_sound_table_says_of_a_simulated_robot() -> None:
    """While it drives straight on over hard floor: within the meter's own error and a little for the turns."""
    scenario = load_scenario("arena")
    device = make_device("simvac")
    somebody = Simulated(device, seed=3)
    for mode in scenario.modes[:4]:
        context = scenario.contexts[0]
        device.prepare(context, 1)
        somebody.before(1, context, mode)
        device.start(mode.settings)
        while not (progress := device.advance()).done:
            somebody.beside(progress)
        read = somebody.after(1, context, mode)["sound"]
        level, sd = level_at_1m(**read)
        assert abs(level - modelled_level(context, mode.settings)) < 2.6 * sd, mode.name


# --- the map --------------------------------------------------------------------------------------------------------


def test_what_was_measured_stands_and_its_uncertainty_is_in_the_covariance(small_text: str) -> None:
    scenario = fitted(small_text, cell("eco", "coverage", 61.0), cell("deep", "coverage", 82.0))
    plant, found = plant_map(scenario), outcome_map(scenario)
    assert found.source == "fitted" and found.sha256 != plant.sha256 and found.fit is not None
    at = scenario.settings.index(scenario.modes[0].settings)
    z = found.z[at, 0, :, COVERAGE]
    assert z.mean() == pytest.approx(61.0)
    # Run to run 1.0; of the mean 1/4 from the runs and 0.25 from the instruments. The wave is orthogonal to nothing in
    # particular, so the sum of the two variances is met up to the replicates' chance correlation with it.
    assert found.fit.sd[at, 0, COVERAGE] == pytest.approx(math.sqrt(1 / 4 + 0.25))
    assert z.var(ddof=1) == pytest.approx(1.0 + 0.5, rel=0.8)
    assert np.array_equal(found.z[..., SOUND], plant.z[..., SOUND]), "nobody measured sound"
    assert np.all(found.z[..., COVERAGE] <= 100)


def test_settings_that_nobody_measured_move_with_those_that_were(small_text: str) -> None:
    """Three modes 5 below the simulation: another setting is expected 5 below, less surely than what was measured."""
    base = load_scenario_text(small_text, "small.toml")
    mean = plant_map(base).z.mean(axis=2)
    cells = []
    for mode in base.modes[:3]:
        value = float(mean[base.settings.index(mode.settings), 0, COVERAGE]) - 5.0
        cells.append(cell(mode.name, "coverage", value, run_sd=0.1, error_sd=0.0))
    fit = outcome_map(fitted(small_text, *cells)).fit
    assert fit is not None
    other = ~fit.measured[..., COVERAGE]
    assert fit.offset[..., COVERAGE][other] == pytest.approx(-5.0, abs=0.05)
    assert fit.sd[..., COVERAGE][other].min() > fit.sd[..., COVERAGE][~other].max()


def test_a_fit_is_the_conditional_mean_of_a_gaussian(small_text: str) -> None:
    """Best linear unbiased prediction against the textbook: a Gaussian with a nearly flat prior on the common mean."""
    from calib.fitted import _alike, _restricted, _spread_out

    at = np.array([[0, 0], [1, 0], [1, 2], [4, 1]])
    found, variance = np.array([1.0, -2.0, 0.5, 3.0]), np.array([0.3, 0.1, 0.5, 0.2])
    offset, sd = _spread_out(at, found, variance, (6, 3), 10.0)
    scatter = np.geomspace(0.05, 1.0, 25) * 10.0
    tau2 = max((_restricted(found, t**2 * _alike(*at.T, at) + np.diag(variance)), t**2) for t in scatter)[1]
    every = np.array([(s, x) for s in range(6) for x in range(3)])
    prior = tau2 * _alike(*every.T, every) + 1e5
    rows = [int(np.flatnonzero((every == a).all(axis=1))[0]) for a in at]
    gain = prior[:, rows] @ np.linalg.inv(prior[np.ix_(rows, rows)] + np.diag(variance))
    assert offset.ravel() == pytest.approx(gain @ found, abs=1e-3)
    assert sd.ravel() ** 2 == pytest.approx(np.diag(prior - gain @ prior[rows]), abs=1e-3)


def test_a_fitted_scenario_says_what_the_first_one_said(small: Scenario, tmp_path: Path) -> None:
    cells = (cell("eco", "coverage", 61.25), replace(cell("deep", "sound", 63.5), source="entered"))
    text = fitted_text(small, "rover", "emulator", "a" * 64, cells)
    again = load_scenario_text(text, "again.toml")
    assert again.fitted == Fitted("rover", "emulator", "a" * 64, cells)
    assert replace(again, fitted=None, map_source="plant", text="", file="", replicates=small.replicates) == replace(
        small, text="", file=""
    )
    assert again.hash != small.hash
    inline = replace(small, text=small.text.replace("[outcome_map]\n", 'outcome_map = { source = "plant" }\n[other]\n'))
    with pytest.raises(UserError, match="write it as one"):
        fitted_text(inline, "rover", "emulator", "a" * 64, cells)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ('mode = "eco"', 'mode = "turbo"'),
        ('attribute = "coverage"', 'attribute = "energy"'),
        ("run_sd = 1.0", "run_sd = -1.0"),
        ("runs = 4", "runs = 0"),
        ("replicates = 16", "replicates = 4"),
        ('rung = "hardware"', 'rung = "thought"'),
    ],
)
def test_a_map_that_cannot_be_is_refused(small_text: str, change: str, says: str) -> None:
    text = with_map(
        small_text, MapFile("fitted", 16, (), Fitted("r", "hardware", "f", (cell("eco", "coverage", 61.0),)))
    )
    assert change in text
    with pytest.raises(UserError, match="outcome_map"):
        load_scenario_text(text.replace(change, says), "x.toml")


# --- what a session and a simulation make of it ---------------------------------------------------------------------


def test_modelled_figures_of_a_run_are_moved_and_measured_ones_are_not(small_text: str) -> None:
    scenario = fitted(small_text, cell("eco", "sound", 70.0), cell("eco", "coverage", 61.0))
    table = outcome_map(scenario)
    assert table.fit is not None
    at = scenario.settings.index(scenario.modes[0].settings)
    source: Any = ("modelled", "measured", "measured", "modelled", "measured", "measured")
    z, bound = np.array([2.0, 80.0, 3.0, 55.0, 0.5, 12.0]), np.full(6, 0.1)
    seen = Outcome(z, source, bound, "finished", reproducibility=2 * bound)
    new = corrected(table, at, 0, seen)
    assert new.z[SOUND] == pytest.approx(55.0 + table.fit.offset[at, 0, SOUND])
    assert new.error[SOUND] == pytest.approx(math.hypot(0.1, 1.96 * table.fit.sd[at, 0, SOUND]))
    assert new.reproducibility is not None
    assert new.reproducibility[SOUND] == pytest.approx(math.hypot(0.2, 1.96 * table.fit.sd[at, 0, SOUND]))
    rest = [j for j in range(6) if j != SOUND]
    assert (new.error[rest] == 0.1).all() and (new.reproducibility[rest] == 0.2).all()
    assert np.array_equal(new.z[rest], seen.z[rest]) and new.source == seen.source
    assert corrected(plant_map(scenario), at, 0, seen) is seen


def test_the_truth_is_the_homes_and_not_the_maps(small_text: str) -> None:
    """A planted error misleads the machine: true degrees and what people live through stay the simulated home's."""
    plain = load_scenario_text(small_text, "small.toml")
    wrong = load_scenario_text(planted_text(small_text, {"sound": 25.0, "coverage": -20.0}), "planted.toml")
    wrong = replace(wrong, replicates=plain.replicates)
    setups = [make_setup(s, max_rounds=6, num_particles=128, seed=4) for s in (plain, wrong)]
    assert world(setups[0]) is setups[0]
    assert world(setups[1]).map.sha256 == setups[0].map.sha256 != setups[1].map.sha256
    people = np.arange(12)
    truths = [draw_truth(setup, people, {}) for setup in setups]
    assert all(np.array_equal(a, b) for a, b in zip(*truths, strict=True))
    standing = np.random.default_rng(1).integers(0, setups[0].num_reference, (12, setups[0].num_contexts))
    degrees = [oracle.true_degree(setup, truth, standing) for setup, truth in zip(setups, truths, strict=True)]
    assert np.array_equal(*degrees)
    right, misled = (simulate_sessions(setup, load_person("rational")[0], {}, people) for setup in setups)
    assert misled.true_degree[:, -1].mean() < right.true_degree[:, -1].mean()
    believed = misled.estimate[:, -1, 0].mean() - misled.true_degree[:, -1].mean()
    assert believed > right.estimate[:, -1, 0].mean() - right.true_degree[:, -1].mean(), "and the machine does not know"


def test_a_session_on_a_fitted_map_carries_and_replays_it(lab: Any, small_text: str, tmp_path: Path) -> None:
    here = Lab(tmp_path)
    scenario = fitted(small_text, cell("eco", "coverage", 61.0), cell("deep", "coverage", 82.0))
    file = tmp_path / "fitted.toml"
    file.write_text(scenario.text)
    found = here.json("run", str(file), "--rounds", "2", "--seed", "3")
    assert found["map_source"] == "fitted" and found["map_sha256"] == outcome_map(scenario).sha256
    assert found["scenario_hash"] == scenario.hash
    assert found["map_measured"]["attributes"] == {
        "residual_dirt": "modelled", "coverage": "measured", "sound": "modelled",
    }  # fmt: skip
    assert here.json("replay", found["run"])["differences"] == []
    rows = here.json(
        "simulate", str(file), "--people", "1", "--rounds", "2", "--seed", "3", "--out", str(tmp_path / "o")
    )
    import pyarrow.parquet as parquet

    from calib.journal import open_journal

    part = parquet.read_table(next((tmp_path / "o").rglob("*.parquet"))).to_pylist()[0]
    with open_journal(here.journal, create=False) as journal:
        truth = journal.entries(found["run"], ["truth"])[0].body
    assert rows["people"] == 1 and truth is not None
    assert part["true_degree_final"] == truth["true_degree"][-1], "live and headless live in the same home"


# --- floors ---------------------------------------------------------------------------------------------------------


def floored(text: str, otherwise: str, at_least: float = 70.0) -> str:
    floor = (
        f'[[floors]]\nattribute = "coverage"\nat_least = {at_least}\ncontexts = ["day"]\notherwise = "{otherwise}"\n\n'
    )
    return text.replace("[outcome_map]", floor + "[outcome_map]")


def test_a_missed_floor_is_flagged_or_refuses_a_session(small_text: str, tmp_path: Path) -> None:
    here = Lab(tmp_path)
    text = fitted(small_text, cell("eco", "coverage", 61.0), cell("deep", "coverage", 82.0)).text
    flagged = load_scenario_text(floored(text, "flag"), "floored.toml")
    missed = floors_missed(flagged, outcome_map(flagged).z)
    assert [m["measured"] for m in missed if m["mode"] == "eco"] == [True]
    assert not [m for m in missed if m["mode"] == "deep"]
    (tmp_path / "flag.toml").write_text(floored(text, "flag", 99.9))
    (tmp_path / "refuse.toml").write_text(floored(text, "refuse"))
    found = here.json("run", str(tmp_path / "flag.toml"), "--rounds", "1")
    assert {m["mode"] for m in found["floors_missed"]} >= {"eco", "deep"}
    refused = here.calib("run", str(tmp_path / "refuse.toml"), check=2)
    assert refused.stderr.count("\n") == 1 and "eco comes to 61.0 of coverage" in refused.stderr
    assert len(here.json("runs")["runs"]) == 1, "nothing began"


# --- runs on a robot ------------------------------------------------------------------------------------------------


def todo_of(scenario: Scenario, runs: int, num_modes: int, num_contexts: int) -> list[Any]:
    return list(missing(list(scenario.modes[:num_modes]), list(scenario.contexts[:num_contexts]), runs, []))


def test_a_planted_error_of_the_map_is_found_within_its_own_interval(tmp_path: Path) -> None:
    """On an emulated Roomba, with a kitchen scale and a sound meter. `bench.calibrations` counts many of these."""
    scenario = load_scenario_text(planted_text(load_scenario("arena").text), "planted.toml")
    device = make_device("roomba:emulator")
    records = Records(tmp_path / "runs.jsonl", HEAD | {"device": "roomba", "rung": "emulator"})
    with stoppable(device, "calibration-test", "roomba:emulator") as stopped:
        todo = todo_of(scenario, 3, 3, 1)
        measure(device, todo, records, Simulated(device, 0), 0, stopped, lambda _: None)
    table, plant = outcome_map(scenario), plant_map(scenario)
    cells = cells_of(scenario, table.z, plant.z, records.records)
    assert {c.source for c in cells if c.attribute in ("residual_dirt", "sound")} == {"entered"}
    found = differences(scenario, table.z, cells)
    held = []
    for whole in (d for d in found if d.mode is None):
        error = abs(whole.difference + PLANTED[whole.attribute]) / (whole.high - whole.low)
        assert error < 1.0, f"{whole}: farther off than its interval is wide"
        held.append(error <= 0.5)
    assert sum(held) >= 5, "one of six 95% intervals may miss, two are too many"
    held = [d.low <= -PLANTED[d.attribute] <= d.high for d in found if d.mode]
    assert len(held) == 18 and sum(held) >= 16
    new = load_scenario_text(fitted_text(scenario, "roomba", "emulator", records.sha256, cells), "fitted.toml")
    records.close()
    mended, before = outcome_map(new).z.mean(axis=2), table.z.mean(axis=2)
    error = np.abs(mended - plant.z.mean(axis=2)).mean(axis=(0, 1))
    was = np.abs(before - plant.z.mean(axis=2)).mean(axis=(0, 1))
    assert np.all(error < 0.7 * was), "also where nobody measured"


def test_a_calibration_that_was_broken_off_goes_on_where_it_stood(tmp_path: Path) -> None:
    scenario, path = load_scenario("arena"), tmp_path / "runs.jsonl"
    device = make_device("simvac")
    modes, contexts = list(scenario.modes[:2]), [scenario.contexts[0]]
    records = Records(path, HEAD)
    with pytest.raises(UserError, match="another calibration"):
        Records(path, HEAD)
    never = threading.Event()
    measure(device, list(missing(modes, contexts, 1, [])), records, Simulated(device, 0), 0, never, lambda _: None)
    records.close()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type": "run", "number": 3, "mo')  # killed in the middle of a write
    records = Records(path, HEAD)
    assert path.read_bytes() == whole
    left = list(missing(modes, contexts, 2, records.records))
    assert [(run, mode.name) for run, _, mode in left] == [(1, modes[1].name), (1, modes[0].name)]
    measure(device, left, records, Simulated(device, 0), 0, never, lambda _: None)
    assert list(missing(modes, contexts, 2, records.records)) == []
    numbers = [r["number"] for r in records.records if r["type"] == "run"]
    assert numbers == [1, 2, 3, 4] and path.read_bytes().startswith(whole)
    records.close()
    with pytest.raises(UserError, match="is of scenario_hash"):
        Records(path, HEAD | {"scenario_hash": "1" * 64})


@pytest.mark.parametrize("what", ["serial number", "firmware", "robot"])
def test_records_are_of_one_robot(tmp_path: Path, what: str) -> None:
    """Of one firmware too: another may do something else with the same settings."""
    robot, _ = neato_in_line()
    records = Records(tmp_path / "runs.jsonl", HEAD)
    records.append({"type": "opened", "identity": robot.open() | {what: "another"}})
    never, scenario = threading.Event(), load_scenario("arena")
    with pytest.raises(UserError, match=f"is of another robot: its {what} is .* and was another; "):
        measure(robot, todo_of(scenario, 1, 1, 1), records, Simulated(robot, 0), 0, never, lambda _: None)
    assert len(records.records) == 2
    records.close()


def test_a_stop_from_anywhere_ends_a_calibration_and_keeps_its_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(tmp_path))
    scenario, device = load_scenario("arena"), make_device("simvac")
    records = Records(tmp_path / "runs.jsonl", HEAD)

    class Watching(Simulated):
        def beside(self, progress: Progress) -> None:
            super().beside(progress)
            if progress.elapsed_s > 5 and len(records.records) > 3:
                (entry,) = runners()
                assert stop_runner(entry) == "stopped"

    with stoppable(device, "calibration-1", "simvac") as stopped, pytest.raises(Stopped):
        measure(device, todo_of(scenario, 1, 4, 1), records, Watching(device, 0), 0, stopped, lambda _: None)
    assert runners() == []
    ends = [r["end"] for r in records.records if r["type"] == "run"]
    assert ends[-1] == "stopped" and len(ends) == 2 and "stopped" not in ends[:-1]
    assert len(list(missing(list(scenario.modes[:4]), [scenario.contexts[0]], 1, records.records))) == 3
    records.close()


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "nonsense",
        '{"type": "run"}',
        '{"type": "head", "device": "a", "rung": "b", "scenario_hash": "c"}',
        '{"type": "run", "number": 1, "mode": "a", "context": "b", "run": 0, "z": [1], "source": ["x"], "error": [1], '
        '"end": "finished"}',
        '{"type": "run", "number": 1, "mode": "a", "context": "b", "run": 0, "z": [NaN,1,1,1,1,1], '
        '"source": ["x","x","x","x","x","x"], "error": [1,1,1,1,1,1], "end": "finished"}',
    ],
)
def test_a_line_that_is_no_record_is_named(line: str) -> None:
    head = json.dumps({"type": "head", **HEAD})
    with pytest.raises(UserError, match="line 2 is no record"):
        parse_records(f"{head}\n{line}\n".encode(), "runs.jsonl")


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats()
    | st.text(max_size=3)
    | st.sampled_from(["eco", "day", 10**400, 1e300, 1e-300, 3083.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["dosed_g", "x"]), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.parametrize("read", [-1.0, 151.0, 3083.0, 10**400, math.inf, math.nan])
def test_what_no_sound_meter_says_is_refused(read: float) -> None:
    """3,083 dB(A), a slip of the pen, was an infinite level once."""
    whole: dict[str, Any] = {"readings_dba": [60.0] * 3, "background_dba": 40.0, "distance_m": 1.0}
    whole |= {"distance_sd_m": 0.05, "meter_sd_db": 0.7}
    level_at_1m(**whole)
    for slip in ({"readings_dba": [60.0, read, 60.0]}, {"background_dba": read}):
        with pytest.raises(ValueError, match="a sound meter says 0 to 150"):
            level_at_1m(**whole | slip)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_a_record_says_it_is_worked_out_or_refused_in_a_line(small: Scenario, data: st.DataObject) -> None:
    due_g = small.contexts[0].dirt_g_m2 * cleanable_m2(small.contexts[0])
    dust: dict[str, Any] = {"dosed_g": due_g, "before_g": 5.0, "after_g": 5.0 + due_g / 2, "scale_sd_g": 0.1}
    sound: dict[str, Any] = {"readings_dba": [60.0, 61.0, 60.0], "background_dba": 40.0, "distance_m": 1.0}
    sound |= {"distance_sd_m": 0.05, "meter_sd_db": 0.7}
    run: dict[str, Any] = {"type": "run", "number": 1, "mode": "eco", "context": "day", "run": 0, "z": [1.0] * 6}
    run |= {"source": ["measured"] * 6, "error": [0.1] * 6, "end": "finished"}
    entered = {
        "type": "entered",
        "number": 1,
        "dust": dust,
        "sound": sound | {"distance_sd_m": 0.05, "meter_sd_db": 0.7},
    }
    for record in (run, entered, dust, entered["sound"]):
        if data.draw(st.integers(0, 2)) == 0:
            assert isinstance(record, dict)
            record[data.draw(st.sampled_from(sorted(record)))] = data.draw(_VALUES)
    raw = "".join(f"{json.dumps(r)}\n" for r in ({"type": "head", **HEAD}, run, entered)).encode()
    z = plant_map(small).z
    try:
        for cell in cells_of(small, z, z, parse_records(raw, "runs.jsonl")):
            assert math.isfinite(cell.mean) and cell.run_sd >= 0
    except UserError as refusal:
        assert "\n" not in str(refusal)


@given(st.binary(max_size=200))
def test_any_bytes_are_records_or_refused(raw: bytes) -> None:
    try:
        parse_records(raw, "runs.jsonl")
    except UserError as refusal:
        assert "\n" not in str(refusal)


def test_the_command_never_writes_over_what_is_not_its_own(tmp_path: Path) -> None:
    here = Lab(tmp_path)
    out, records = tmp_path / "mine.toml", tmp_path / "runs.jsonl"
    out.write_text(load_scenario("arena").text)
    words = [
        "devices",
        "calibrate",
        "simvac",
        "--mode",
        "quick",
        "--context",
        "call",
        "--runs",
        "2",
        "--records",
        str(records),
    ]
    assert "would be lost" in here.calib(*words, "--out", str(out), check=2).stderr and not records.exists()
    new = tmp_path / "new.toml"
    first = here.json(*words, "--out", str(new))
    assert first["runs"] == 2 and first["modelled"] == [] and load_scenario(str(new)).fitted is not None
    again = here.json(*words, "--out", str(new), "--fit")
    assert again == first, "the same records, the same map"
    assert "no mode" in here.calib(*words, "--mode", "turbo", check=2).stderr
    assert "--move" in here.calib("devices", "calibrate", "roomba:/dev/ttyNONE", check=2).stderr
