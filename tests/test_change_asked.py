"""Somebody at the terminal and at the page is asked whether they changed or were misread."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from sessions import ROOT, Lab, page_lab, quick_scenario, type_in, until

TABLE = "[change]\nhazard = 0.5\nask_at = 0.5\nevery = 2\nanswer_error = 0\nhypotheses = 4\n\n[effort]\nchange = 6\n"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return page_lab(tmp_path, monkeypatch)


@contextmanager
def asked(lab: Lab) -> Iterator["subprocess.Popen[str]"]:
    """A run of somebody at the terminal who is asked: half of the rounds bring a change, says the scenario."""
    file = Path(quick_scenario(lab.folder))
    file.write_text(file.read_text().replace("[effort]\n", TABLE))
    words = ("run", str(file), "--person", "human", "--pace", "virtual", "--rounds", "8", "--seed", "1")
    with lab.going(*words, "--audit", "off") as process:
        until(process, "u  neither, or I am not sure")
        yield process


def answers(lab: Lab) -> list[int]:
    """What the journal holds of answers to the question."""
    bodies = [e["body"] for e in lab.entries()]
    return [b["value"] for b in bodies if b.get("event") == "Answer" and b["question"] == "change"]


def of_round(lab: Lab) -> list[dict[str, Any]]:
    """What the round documents say of questions about a change."""
    return [
        e["body"]["change"]["asked"] for e in lab.entries() if e["type"] == "round" and e["body"]["change"]["asked"]
    ]


def test_bad_answers_at_the_terminal_are_not_understood_and_a_good_one_counts(lab: Lab) -> None:
    with asked(lab) as process:
        for word in ("perhaps", "1", ""):
            type_in(process, word)
            until(process, "not understood")
        assert answers(lab) == []
        type_in(process, "m")
        until(process, "changed or misread: misread")
        type_in(process, "q")
        assert process.wait(60) == 0
    assert answers(lab) == [1]
    said = of_round(lab)[0]
    assert said["answer"] == "misread" and said["p_changed"] >= 0.5
    assert lab.json("replay", lab.last_run())["differences"] == []


def test_a_killed_run_asks_again_and_goes_on(lab: Lab) -> None:
    with asked(lab) as process:
        process.kill()
        process.wait(30)
    with lab.going("resume", lab.last_run(), "--audit", "off") as process:
        until(process, "u  neither, or I am not sure")
        type_in(process, "c")
        until(process, "changed or misread: changed")
        type_in(process, "q")
        assert process.wait(60) == 0
    assert answers(lab) == [0]
    assert lab.json("replay", lab.last_run())["differences"] == []


def test_at_the_page(lab: Lab) -> None:
    with asked(lab):
        page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        page.query_params["run"], page.query_params["lease"] = lab.last_run(), "mine"
        page.run()
        assert not page.exception
        assert "did you change what you want, or did I misread you?" in "".join(s.value for s in page.subheader)
        labels = {str(b.key): b.label for b in page.button if str(b.key).startswith("change-")}
        assert list(labels.values()) == ["I changed", "You misread me", "Neither, or not sure"]
        page.button(key=list(labels)[2]).click().run()
        assert not page.exception
        end = time.monotonic() + 60
        while time.monotonic() < end and not answers(lab):
            time.sleep(0.1)
    assert answers(lab) == [2]
