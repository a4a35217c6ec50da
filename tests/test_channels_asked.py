"""Somebody at the terminal and at the page gets every kind of question: bad answers count for nothing, good ones do."""

import time
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from calib.questions import GRADES
from sessions import ROOT, Lab, page_lab, quick_scenario, type_in, until

BELIEFS = (
    "[mental_model.beliefs]\nspread = { median = 0.2, sd_log = 0.4 }\nlearning_sd_logit = 0.5\nprobe_sd = 0.05\n\n"
    "[mental_model.salience]"
)
# What the scenario and the command say, what the question's last line is, answers that are none, one, its number.
KINDS: dict[str, tuple[tuple[str, str], str, str, tuple[str, ...], str, int]] = {
    "rating": (("ratings = true", "rate = 0.1"), "per_second", "5 wholly", ("0", "6", "good"), "4", 3),
    "probe": (("beliefs = true", "expect = 0.1"), "per_second", "a number, about", ("loud", "nan"), "1e9", -1),
    "best_of": (("", ""), "full_menu", "  12  ", ("0", "13", "="), "12", 11),
}


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return page_lab(tmp_path, monkeypatch)


def asked_scenario(folder: Path, question: str, effort: str) -> str:
    """Where a comparison is so dear that the other question is asked."""
    file = Path(quick_scenario(folder))
    text = file.read_text().replace("num_cards = 12", f"num_cards = 12\n{question}")
    if effort:
        text = text.replace("[mental_model.salience]", BELIEFS).replace("compare = 10", f"compare = 120\n{effort}")
    file.write_text(text)
    return str(file)


def answered(lab: Lab, kind: str) -> list[int]:
    bodies = [e["body"] for e in lab.entries()]
    return [b["value"] for b in bodies if b.get("event") == "Answer" and b["question"] == kind]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_question_at_the_terminal_and_at_the_page(lab: Lab, kind: str) -> None:
    adds, policy, shown, wrong, right, number = KINDS[kind]
    words = ("run", asked_scenario(lab.folder, *adds), "--policy", policy, "--person", "human", "--pace", "virtual")
    with lab.going(*words, "--role", "tool", "--rounds", "3", "--seed", "1", "--audit", "off") as process:
        until(process, shown)
        for word in wrong:
            type_in(process, word)
            until(process, "not understood")
        assert answered(lab, kind) == []
        type_in(process, right)
        until(process, "stop to stop")  # the next round's question, to which it types an answer
        found: list[dict[str, Any]] = [e["body"] for e in lab.entries() if e["type"] == "round"]
        said = found[0][kind]
        assert said["answer"] == (number if number >= 0 else answered(lab, kind)[0])
        until(process, shown)
        page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
        page.query_params["run"], page.query_params["lease"] = lab.last_run(), "mine"
        page.run()
        assert not page.exception
        buttons = {str(b.key): b.label for b in page.button if str(b.key).startswith(f"{kind}-")}
        if kind == "rating":
            assert [label.lower() for label in buttons.values()] == list(GRADES)
        elif kind == "best_of":
            assert list(buttons.values()) == ["This one"] * 12
        else:
            assert len(page.select_slider) == 1 and list(buttons.values()) == ["That is what I expect"]
        page.button(key=list(buttons)[-1]).click().run()
        assert not page.exception
        end = time.monotonic() + 60
        while time.monotonic() < end and len(answered(lab, kind)) < 2:
            time.sleep(0.1)
        assert len(answered(lab, kind)) == 2
        type_in(process, "q")
        assert process.wait(60) == 0
    assert lab.json("replay", lab.last_run())["differences"] == []
