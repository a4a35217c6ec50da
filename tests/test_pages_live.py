"""The Live page by AppTest: a run that goes on, one that is over, one that is none; what the form asks for."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from dashboard import floor, link
from dashboard.link import Link
from dashboard.show import literal
from dashboard.start import Started
from devices.home.types import FloorPlan
from sessions import ROOT, Lab, page_lab, quick_scenario


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return page_lab(tmp_path, monkeypatch)


@pytest.fixture
def waiting(lab: Lab) -> Iterator[str]:
    """The id of a run that waits for a person's first choice."""
    with lab.going("run", quick_scenario(lab.folder), "--person", "human", "--pace", "virtual", "--rounds", "3"):
        yield running(lab)


def running(lab: Lab) -> str:
    """The id of the run that goes on, once its question is open."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        for path in lab.folder.glob("calib/*.json"):
            entry = link.entry_of(path.stem)
            if entry is not None:
                seen = Link(entry, "")
                seen.beat()
                seen.close()
                if seen.status.get("pending"):
                    return path.stem
        time.sleep(0.1)
    raise AssertionError("no run began")


def opened(**address: str) -> AppTest:
    """The Live page at an address."""
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for name, value in address.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def html(page: AppTest) -> str:
    """All HTML that the page shows."""
    return "".join(element.proto.body for element in page.get("html"))


def test_a_choice_by_click_is_the_runs_answer(lab: Lab, waiting: str) -> None:
    page = opened(run=waiting, lease="mine")
    assert "this page leads" in page.text[0].value
    assert any(button.label == "STOP" for button in page.button)
    _, *menu = [int(b.key.removeprefix("choice-1-")) for b in page.button if str(b.key).startswith("choice-1-")]
    assert menu == list(range(len(menu))), "the Tab key and a narrow screen follow the menu's order"
    page.button(key="choice-1-3").click().run()
    assert not page.exception
    end = time.monotonic() + 60
    while time.monotonic() < end and not (chosen := answers(lab)):
        time.sleep(0.1)
    assert [(a["question"], a["value"]) for a in chosen] == [("choice", 3)]


def answers(lab: Lab) -> list[dict[str, object]]:
    """What the journal holds of answers."""
    return [e["body"] for e in lab.entries() if e["body"].get("event") == "Answer"]


def test_who_has_no_lease_only_watches_and_may_stop(lab: Lab, waiting: str) -> None:
    page = opened(run=waiting)
    assert "nobody leads" in page.text[0].value
    assert all(button.disabled for button in page.button if str(button.key).startswith("choice-"))
    page.button(key="stop").click().run()
    assert any(warning.value == literal("STOP: stopped") for warning in page.warning)
    assert any("over: stopped" in heading.value for heading in opened(run=waiting).subheader)


def test_the_summary_is_that_of_the_command(lab: Lab) -> None:
    summary = lab.json("run", quick_scenario(lab.folder), "--rounds", "4", "--seed", "3")
    page = opened(run=summary["run"])
    shown = {metric.label: metric.value for metric in page.metric}
    assert shown == {
        "degree of alignment": f"{summary['degree']['mean']:.2f}",
        "P(degree at least 0.95)": f"{summary['degree']['p_aligned']:.2f}",
        "true degree": f"{summary['true_degree']:.3f}",
    }
    for name, gap in summary["gaps"].items():
        assert f"<td>{name.replace('_', ' ')}</td><td>{gap['estimate']:+.3f}</td>" in html(page)
    assert len(page.get("vega_lite_chart")) == 2
    assert f"calib replay {summary['run']}" in page.code[0].value


@pytest.mark.parametrize("run", ["20200101-000000-abcdef", "../../etc/passwd", "<script>alert(1)</script>", "*", " "])
def test_a_run_that_is_none_is_said_in_one_line(lab: Lab, run: str) -> None:
    lab.json("run", quick_scenario(lab.folder), "--rounds", "1")
    page = opened(run=run)
    assert [error.value for error in page.error] == ["There is no run of this name."]
    (lab.folder / "calib.db").unlink()
    page = opened(run=run)
    assert len(page.error) == 1 and "\n" not in page.error[0].value


def test_a_run_that_was_erased_is_said_to_be(lab: Lab) -> None:
    lab.calib("participant", "enrol", "P1", "--consent", "1")
    words = ("--person", "human", "--participant", "P1", "--pace", "virtual")
    with lab.going("run", quick_scenario(lab.folder), *words) as process:
        run = running(lab)
        lab.calib("stop", run)
        process.wait(30)
    lab.calib("participant", "erase", "P1")
    page = opened(run=run)
    assert ["erased" in info.value for info in page.info] == [True] and not page.error and not page.warning


def test_the_form_begins_what_it_says(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr("dashboard.start.start", lambda words: asked.append(list(words)) or [][0])
    page = opened()
    page.selectbox(key="new-scenario").select("arena")
    page.selectbox(key="new-person").select("impatient")
    page.number_input(key="new-seed").set_value(7)
    page.checkbox(key="new-audit").uncheck()
    page.button(key="begin").click().run()
    words = asked[0]
    assert words[0] == "arena" and words[words.index("--person") + 1] == "impatient"
    assert words[words.index("--seed") + 1] == "7" and words[words.index("--audit") + 1] == "off"


def test_a_begun_session_is_opened_though_the_browser_asks_by_its_old_address(
    lab: Lab, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It had sent its question before it heard of the new one."""
    entry = link.entry_of(waiting)
    assert entry is not None
    rerun, asked = st.rerun, []

    def late() -> None:
        asked.append(st.query_params["run"])
        if len(asked) == 1:
            st.query_params.clear()
        rerun()

    monkeypatch.setattr(st, "rerun", late)
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    page.session_state["begun"] = [Started(entry.pid, lab.folder / "none.log")]
    page.run()
    assert asked[:2] == [waiting, waiting] and not page.exception
    assert page.query_params["run"] == waiting and page.session_state["begun"] == []
    assert page.button(key="stop").label == "STOP"


def test_a_session_that_cannot_begin_says_why(lab: Lab) -> None:
    page = opened()
    page.selectbox(key="new-robot").select("real Roomba")
    page.text_input(key="new-port").input("/dev/there-is-none")
    page.button(key="begin").click().run()
    end = time.monotonic() + 60
    while time.monotonic() < end and not page.error:
        time.sleep(0.2)
        page.run()
    assert len(page.error) == 1 and "the session did not begin" in page.error[0].value


def test_the_pictures_path_keeps_its_corners() -> None:
    straight = [(0.1 * i, 1.0) for i in range(20)]
    corner = [*straight, *((1.9, 1.0 + 0.1 * i) for i in range(1, 10))]
    assert floor.simplified(straight) == [straight[0], straight[-1]]
    assert floor.simplified(corner) == [corner[0], (1.9000000000000001, 1.0), corner[-1]]
    assert floor.simplified([]) == [] and floor.simplified(straight[:1]) == straight[:1]


def test_the_names_of_rooms_are_in_proportion_to_a_small_plan() -> None:
    for cells, font in ((4, 11), (40, 24)):  # half a metre each
        plan = FloorPlan("p", 0.5, ("a" * cells,) * 2, {"a": "x"}, (1.0, 0.75), 0.0)
        assert f'font-size="{font}"' in floor.picture(plan, [], None)


def test_a_run_that_is_stopped_in_its_first_round_is_too_short_to_tell(lab: Lab, waiting: str) -> None:
    lab.calib("stop", waiting)
    page = opened(run=waiting)
    assert html(page).count("<td>too short a run to tell</td>") == 2  # declared and accepted


def test_the_picture_escapes_the_names_of_rooms() -> None:
    plan = FloorPlan("p", 0.5, ("####", "#aA#", "####"), {"a": "<script>x</script>"}, (1.0, 0.75), 0.0)
    svg = floor.picture(plan, [(0.6, 0.7), (1.2, 0.7)], (1.2, 0.7, 0.0))
    assert "<script>" not in svg and "&lt;script&gt;" in svg
    assert svg.count("<polyline") == 1 and svg.count("<circle") == 1
