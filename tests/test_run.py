"""Whole sessions through the command line: repeatable, replayable, and the same on simulator and emulator."""

from pathlib import Path
from typing import Any

import arviz
import numpy as np
import pytest

from calib import nuts
from calib.audit import _sample, audit, trustworthy
from calib.journal import open_journal
from calib.outcomes import scale
from calib.replay import differences, events_of, fold, recorded_actions, run_entries, setup_of
from devices.home.types import OUTCOMES
from sessions import Lab, quick_scenario


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab of its own."""
    return Lab(tmp_path)


def documents(lab: Lab, run: str) -> list[dict[str, Any]]:
    """What a run recorded, but for the name of the emulator's port, which is new every time."""
    found = [e for e in lab.entries(run) if e["type"] != "audit"]
    found[0]["body"]["identity"].pop("address", None)
    return found


def test_the_same_seed_gives_the_same_documents(lab: Lab) -> None:
    command = ("run", "--device", "simvac", "--person", "rational", "--seed", "7", "--rounds", "12")
    first, second = lab.json(*command), lab.json(*command)
    assert first["run"] != second["run"]
    assert documents(lab, first["run"]) == documents(lab, second["run"])
    assert {**first, "run": ""} == {**second, "run": ""}
    other = lab.json(*command[:-4], "--seed", "8", "--rounds", "12")
    assert documents(lab, other["run"]) != documents(lab, first["run"])


def test_the_contract_of_the_summary(lab: Lab) -> None:
    found = lab.json("run", "--rounds", "3", "--seed", "1")
    contract = "run kind rung device scenario scenario_hash role policy seed rounds stop_reason setting mode degree"
    contract += " true_degree time gaps audit journal"
    assert set(contract.split()) <= set(found)
    assert set(found["degree"]) == {"mean", "low", "high", "p_aligned"}
    assert set(found["time"]) == {"true", "declared", "accepted", "verified"}
    assert set(found["time"]["true"]) == {"event", "rounds", "attention_s", "wall_s", "robot_s", "effort"}
    assert list(found["gaps"]) == ["capability", "menu", "mental_model", "choice", "mediation", "execution"]
    assert found["degree"]["low"] <= found["degree"]["mean"] <= found["degree"]["high"] <= 1 + 1e-12


@pytest.mark.parametrize("role", ["tool", "advisor"])
def test_replay_finds_no_difference_over_twenty_seeds(lab: Lab, role: str) -> None:
    """Ten seeds a role here, in one process; the emulator has its own twenty below."""
    from cli.main import main

    for seed in range(10):
        words = ["run", "--rounds", "4", "--seed", str(seed), "--role", role, "--audit", "off"]
        assert main([*words, "--journal", lab.journal]) == 0
    with open_journal(lab.journal) as journal:
        for row in journal.runs():
            assert replayed(journal, row.run) == []
            assert journal.verify(row.run) == []


def test_the_truth_document_agrees_with_the_rounds(lab: Lab) -> None:
    """Six gaps that add up, luck in the scenario's order of attributes, a degree for every round and before."""
    run = lab.json("run", "--rounds", "4", "--seed", "2")["run"]
    entries = lab.entries(run)
    start = entries[0]["body"]
    truth = next(e["body"] for e in entries if e["type"] == "truth")
    setup = setup_of(start)
    w = np.array([truth["person"]["weights"][a.name] for a in setup.scenario.attributes])
    assert len(truth["true_degree"]) == 5
    for document, known in zip(rounds(lab, run), truth["rounds"], strict=True):
        z = np.array([document["outcome"][name]["value"] for name in OUTCOMES])
        x = [c.name for c in setup.scenario.contexts].index(document["context"])
        expected = w @ (scale(setup.scenario, z) - setup.phi[document["setting"], x])
        assert known["luck"] == pytest.approx(expected, abs=1e-12)
        utility = np.where(setup.feasible[:, x], setup.phi[:, x] @ w, -np.inf)
        total = sum(gap["estimate"] for gap in known["gaps"].values())
        assert total == pytest.approx(utility.max() - setup.phi[document["setting"], x] @ w, abs=1e-12)


def test_replay_sees_a_changed_number(lab: Lab) -> None:
    run = lab.json("run", "--rounds", "2")["run"]
    with open_journal(lab.journal) as journal:
        entries = run_entries(journal, run)
    body = next(e for e in entries if e.type == "round").body
    assert body is not None
    body["degree"]["mean"] += 1e-15
    start = entries[0].body
    assert start is not None
    found = differences(entries, fold(setup_of(start), start, events_of(entries)))
    assert [d["path"] for d in found] == ["round.degree.mean"]


def test_replay_on_another_platform_does_what_the_machine_did(lab: Lab) -> None:
    """With another policy every question would be another one; with the actions forced the documents are the same."""
    run = lab.json("run", "--rounds", "4", "--seed", "3")["run"]
    with open_journal(lab.journal) as journal:
        entries = run_entries(journal, run)
    start = entries[0].body
    assert start is not None and recorded_actions(entries) is None
    elsewhere = {**start, "policy": "random"}
    free = fold(setup_of(elsewhere), elsewhere, events_of(entries))
    assert any("belief" in d["path"] for d in differences(entries, free))
    entries[0].body["platform"] = "another"  # type: ignore[index]
    forced = fold(setup_of(elsewhere), elsewhere, events_of(entries), forced=recorded_actions(entries))
    assert {d["path"] for d in differences(entries, forced)} == {"start.policy", "start.platform"}


def test_the_emulated_roomba_is_repeatable_replayable_and_agrees_with_the_simulator(lab: Lab) -> None:
    scenario = quick_scenario(lab.folder)
    for seed in range(6):
        words = ("run", scenario, "--rounds", "2", "--seed", str(seed), "--role", "tool")
        emulated = lab.json(*words, "--device", "roomba:emulator")
        simulated = lab.json(*words, "--device", "simvac")
        assert (emulated["rung"], simulated["rung"]) == ("emulator", "simulator")
        with open_journal(lab.journal) as journal:
            assert replayed(journal, emulated["run"]) == []
        compared = 0
        for a, b in zip(rounds(lab, emulated["run"]), rounds(lab, simulated["run"]), strict=True):
            if a["setting"] != b["setting"]:
                break  # a measurement within its error may tip the person's next choice; before that all is alike
            compared += 1
            assert a["end"] == b["end"]
            for name in OUTCOMES:
                left, right = a["outcome"][name], b["outcome"][name]
                assert abs(left["value"] - right["value"]) <= left["error"] + 1e-9, (seed, name, left, right)
                assert right["source"] == "simulated"
                assert left["source"] in ("measured", "modelled")
        assert compared >= 1
        if seed < 2:
            again = lab.json(*words, "--device", "roomba:emulator")
            assert documents(lab, again["run"]) == documents(lab, emulated["run"])


def test_every_field_says_how_it_is_known(lab: Lab) -> None:
    run = lab.json("run", quick_scenario(lab.folder), "--rounds", "1", "--device", "roomba:emulator")["run"]
    document = rounds(lab, run)[0]
    assert set(document["how"]) == {"fan", "brush", "speed", "passes", "pattern", "edge"}
    assert set(document["how"].values()) <= {"read back", "inferred", "not readable"}
    assert document["how"]["speed"] == "read back"
    assert document["realised"] == document["commanded"]


def test_the_audit_agrees_with_the_live_engine(lab: Lab) -> None:
    run = lab.json("run", "--rounds", "6", "--seed", "5")["run"]
    with open_journal(lab.journal) as journal:
        entries = run_entries(journal, run)
    start = entries[0].body
    assert start is not None
    setup = setup_of(start)
    found = audit(setup, fold(setup, start, events_of(entries)).session)
    assert found["diagnostics"]["r_hat"] < 1.02
    assert found["diagnostics"]["divergences"] <= 4
    assert found["weights_apart_sd"] <= 0.15
    assert np.isclose(sum(found["parameters"][a.name]["mean"] for a in setup.scenario.attributes), 1.0)


def test_a_sample_too_short_to_be_trusted_is_drawn_anew_and_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(_: object, *, draws: int, chains: int, seed: int, **how: object) -> arviz.InferenceData:
        weights = np.random.default_rng(seed).dirichlet(np.ones(3), (chains, draws))
        return arviz.from_dict({"weights": weights}, sample_stats={"diverging": np.zeros((chains, draws), dtype=bool)})

    monkeypatch.setattr(nuts, "sample", drawn)
    short, diagnostics = _sample(None, ["weights"], 1, 60, 0.9)
    assert short["weights"].shape == (4, 60, 3) and not trustworthy(diagnostics)
    longer, diagnostics = _sample(None, ["weights"], 1, 60, 0.9, most=600)
    assert longer["weights"].shape == (4, 600, 3) and trustworthy(diagnostics)
    enough, _ = _sample(None, ["weights"], 1, 500, 0.9, most=600)
    assert enough["weights"].shape == (4, 500, 3)


def rounds(lab: Lab, run: str) -> list[dict[str, Any]]:
    """The round documents of a run."""
    return [e["body"] for e in lab.entries(run) if e["type"] == "round"]


def replayed(journal: Any, run: str) -> list[dict[str, Any]]:
    """The differences of a run's replay."""
    entries = run_entries(journal, run)
    start = entries[0].body
    assert start is not None
    return differences(entries, fold(setup_of(start), start, events_of(entries)))
