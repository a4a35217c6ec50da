"""The Live page in a real browser: a person's session by clicks, two tabs, a cut connection."""

import contextlib
import json
import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, WebSocketRoute, expect

from browsing import Dashboard, note, snap, status_of, until
from sessions import quick_scenario

pytestmark = [pytest.mark.slow, pytest.mark.alone]


def begin(page: Page, dashboard: Dashboard, robot: str, pace: str, **more: str) -> None:
    """Fill in the form of a new session as a person does."""
    page.goto(dashboard.url())
    expect(page.get_by_text("New session")).to_be_visible()
    for label, value in (("Robot", robot), ("Pace of a simulated world", pace), *more.items()):
        page.get_by_label(label, exact=True).click()
        page.get_by_role("option", name=value, exact=True).click()
    page.get_by_text("More", exact=True).click()
    page.get_by_label("At most so many rounds").fill("5")
    page.get_by_text("Audit with PyMC at the end").click()
    page.get_by_role("button", name="Begin").click()
    expect(page.get_by_role("button", name="STOP")).to_be_visible()


def answer(page: Page, dashboard: Dashboard, asked: set[int]) -> str:
    """Answer the open question, a new one, by a click; which one it was."""
    pending = until(page, lambda: (p := status_of(dashboard).get("pending")) and p["number"] not in asked and p)
    asked.add(pending["number"])
    name, number = pending["question"], pending["number"]
    value = {"choice": number % 11, "comparison": number % 3, "good_enough": 0, "ready": 0, "arm": 0}[name]
    page.locator(f".st-key-{name}-{number}-{value} button").click()
    return str(name)


def test_a_person_leads_five_rounds_on_an_emulated_roomba_and_reloads_in_the_middle(
    page: Page, dashboard: Dashboard
) -> None:
    begin(page, dashboard, "emulated Roomba", "as fast as it goes")
    asked: set[int] = set()
    names = [answer(page, dashboard, asked)]
    expect(page.get_by_text("What the run did")).to_be_visible()
    names += [answer(page, dashboard, asked) for _ in range(3)]
    before = page.url
    page.reload()
    expect(page.get_by_text("this page leads")).to_be_visible()
    assert page.url == before, "the address alone brings the page back"
    snap(page, "live-question")
    page.get_by_text("What it believes about what counts for you").scroll_into_view_if_needed()
    page.mouse.wheel(0, 5000)
    page.wait_for_timeout(500)
    box = page.get_by_role("button", name="STOP").bounding_box()
    assert box is not None and 0 <= box["y"] < 200, "STOP is in reach wherever one has scrolled to"
    names += [answer(page, dashboard, asked) for _ in range(8)]
    expect(page.get_by_text("The session is over")).to_be_visible()
    snap(page, "live-summary")
    entries = dashboard.lab.entries()
    bodies = {kind: [e["body"] for e in entries if e["type"] == kind] for kind in ("start", "round", "stop", "event")}
    (start,), (stop,) = bodies["start"], bodies["stop"]
    assert (start["rung"], start["kind"], stop["reason"], stop["rounds"]) == ("emulator", "pilot", "max_rounds", 5)
    answers = [e for e in bodies["event"] if e["event"] == "Answer"]
    a_round = ["choice", "comparison"]
    assert names == [*a_round, *a_round, "good_enough", *a_round, *a_round, "good_enough", *a_round]
    assert [a["question"] for a in answers] == names
    assert sum(m["mark"] == "LeadHandedOver" for m in stop["marks"]) == 1, "a reload hands no lead over"
    assert all(0 < a["attention_s"] <= 120 for a in answers)
    shown = page.get_by_text(re.compile(r"^90% interval")).inner_text()
    assert shown == f"90% interval {stop['degree']['low']:.2f} to {stop['degree']['high']:.2f}"
    assert dashboard.lab.json("replay", dashboard.lab.last_run())["differences"] == []


def test_a_second_tab_watches_may_stop_and_may_take_over(context: BrowserContext, dashboard: Dashboard) -> None:
    first = context.new_page()
    begin(first, dashboard, "simulated (simvac)", "as fast as it goes")
    expect(first.get_by_text("this page leads")).to_be_visible()
    second = context.new_page()
    second.goto(first.url)  # the very address, its lease included
    expect(second.get_by_text("this page watches")).to_be_visible()
    expect(second.get_by_role("button", name="Take Quick")).to_be_disabled()
    expect(first.get_by_role("button", name="Take Quick")).to_be_enabled()
    first.get_by_role("button", name="Take Quick").click()
    asked = second.get_by_text("Which outcome would you rather have?")
    stolen = second.get_by_text("this page leads")
    expect(asked.or_(stolen).first).to_be_visible()
    if not asked.is_visible():  # a machine so slow that the first was silent for 2.5 s: the same lease, so it may
        first.get_by_role("button", name="Take over").click()
        first.get_by_role("button", name="Take Quick", disabled=False).click()
    expect(asked).to_be_visible()
    second.get_by_role("button", name="Take over").click()
    expect(second.get_by_text("this page leads")).to_be_visible()
    expect(first.get_by_text("this page watches")).to_be_visible()
    expect(first.get_by_role("button", name="About equal")).to_be_disabled()
    second.get_by_role("button", name="About equal", disabled=False).click()
    expect(first.get_by_text("Round 2.")).to_be_visible()
    first.get_by_role("button", name="STOP").click()  # who only watches may stop
    for page in (first, second):
        expect(page.get_by_text("The session is over: stopped")).to_be_visible()


def test_a_cut_connection_stops_the_robot_and_says_how_old_its_data_are(page: Page, dashboard: Dashboard) -> None:
    cut = False
    sockets: list[WebSocketRoute] = []

    def join(socket: WebSocketRoute) -> None:
        if cut:
            socket.close()
        else:
            sockets.append(socket)
            socket.connect_to_server()

    page.route_web_socket(re.compile("_stcore/stream"), join)
    scenario = quick_scenario(dashboard.lab.folder)
    with dashboard.lab.going("run", scenario, "--pace", "1", "--audit", "off"):
        (entry,) = until(page, dashboard.runners)
        page.goto(dashboard.url(run=entry.run, lease="mine"))
        until(page, lambda: status_of(dashboard).get("phase") == "running")
        expect(page.get_by_text("the robot cleans")).to_be_visible()
        expect(page.get_by_text("of the planned run").first).to_be_visible()
        cut, begun = True, time.monotonic()
        sockets[-1].close()
        status = until(page, lambda: (s := status_of(dashboard))["phase"] == "unarmed" and s, 30.0)
        note(f"connection cut: the runner stopped the robot after {time.monotonic() - begun:.1f} s (promise: 4 s)")
        assert "no sign of life" in status["pending"]["reason"]
        expect(page.get_by_text(re.compile(r"no contact for \d+ s: what you see is old"))).to_be_visible()
        page.wait_for_timeout(max(5.0 - (time.monotonic() - begun), 0.1) * 1000)
        snap(page, "live-cut")
        cut = False
        expect(page.get_by_role("button", name="It may move again: arm")).to_be_visible()
        assert status_of(dashboard)["phase"] == "unarmed", "nothing arms itself"
        page.get_by_role("button", name="It may move again: arm").click()
        expect(page.get_by_text("the robot cleans")).to_be_visible()
        expect(page.get_by_text("of the planned run").first).to_be_visible()
        snap(page, "live-running")
        page.get_by_role("button", name="STOP").click()
        expect(page.get_by_text("The session is over: stopped")).to_be_visible()
    marks = next(e["body"] for e in dashboard.lab.entries() if e["type"] == "stop")["marks"]
    assert [m["mark"] for m in marks if "reason" in m] == ["LeadLost"]


def test_a_double_click_begins_one_session_and_its_page_keeps_the_lead_when_it_was_left(
    page: Page, dashboard: Dashboard
) -> None:
    page.goto(dashboard.url())
    expect(page.get_by_text("New session")).to_be_visible()
    page.get_by_text("More", exact=True).click()
    page.get_by_text("Audit with PyMC at the end").click()
    page.get_by_role("button", name="Begin").dblclick()
    expect(page.get_by_text("this page leads")).to_be_visible()
    (entry,) = dashboard.runners()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if f"CALIB_RUNTIME_DIR={dashboard.lab.folder}".encode() in path.read_bytes():
                words = path.with_name("cmdline").read_bytes()
                assert b"cli.main" not in words or path.parent.name == str(entry.pid), "one click too many began a run"
                assert dashboard.token.encode() not in words and entry.token.encode() not in words
    page.get_by_role("link", name="Simulate").click()
    expect(page.get_by_text("People in each condition")).to_be_visible()
    until(page, lambda: status_of(dashboard)["lead_silent"])
    page.get_by_role("link", name="Live").click()
    page.locator(f".st-key-open-{entry.run} button").click()
    expect(page.get_by_text("this page leads")).to_be_visible()
    page.reload()
    expect(page.get_by_text("this page leads")).to_be_visible(timeout=20_000)
    page.go_back()
    page.go_forward()
    expect(page.get_by_text("this page leads")).to_be_visible(timeout=20_000)


def test_a_page_goes_on_with_the_runner_that_resumed_its_run(page: Page, dashboard: Dashboard) -> None:
    words = ("--person", "human", "--pace", "virtual", "--audit", "off")
    with dashboard.lab.going("run", quick_scenario(dashboard.lab.folder), *words) as process:
        (entry,) = until(page, dashboard.runners)
        page.goto(dashboard.url(run=entry.run, lease="mine"))
        expect(page.get_by_text("this page leads")).to_be_visible()
        process.kill()
        expect(page.get_by_text(f"calib resume {entry.run} --journal JOURNAL")).to_be_visible(timeout=10_000)
    with dashboard.lab.going("resume", entry.run):
        expect(page.get_by_text("this page leads")).to_be_visible(timeout=30_000)
        page.get_by_role("button", name="Take Quick").click()
        expect(page.get_by_text("Which outcome would you rather have?")).to_be_visible()


CLOCKS = """
const make = window.setInterval;
window.clocks = [];
window.setInterval = (call, every, ...more) => {
  const clock = make(call, every, ...more);
  window.clocks.push([clock, every]);
  return clock;
};
"""


def test_a_page_that_lost_its_clock_is_drawn_again_and_goes_on_leading(page: Page, dashboard: Dashboard) -> None:
    page.add_init_script(CLOCKS)
    words = ("--person", "human", "--pace", "virtual", "--audit", "off")
    with dashboard.lab.going("run", quick_scenario(dashboard.lab.folder), *words):
        (entry,) = until(page, dashboard.runners)
        page.goto(dashboard.url(run=entry.run, lease="mine"))
        expect(page.get_by_text("this page leads")).to_be_visible()
        page.wait_for_timeout(2000)
        lost = page.evaluate("clocks.filter(c => c[1] === 500).map(c => clearInterval(c[0])).length")
        assert lost >= 1, "Streamlit draws fragments by a clock of half a second"
        page.wait_for_timeout(9000)
        expect(page.locator("[data-age]")).to_have_text(re.compile(r"^data [\d.]+ s old$"))
        assert not status_of(dashboard)["lead_silent"]
    lost = sum(e["body"].get("event") == "LeadLost" for e in dashboard.lab.entries())
    note(f"a page without its clock for 9 s: drawn again, its lead lost {lost} times")


def test_markup_from_a_scenario_or_a_person_is_shown_and_never_run(page: Page, dashboard: Dashboard) -> None:
    attack = "<img src=x onerror=window.caught=1><script>window.caught=1</script>![](http://example.org/x.png)"
    text = Path(quick_scenario(dashboard.lab.folder)).read_text()
    text = re.sub(r'^description = ".*"$', f"description = {json.dumps(attack)}", text, flags=re.M)
    text = re.sub(r'^label = ".*"$', f"label = {json.dumps(attack[:60])}", text, count=1, flags=re.M)
    scenario = dashboard.lab.folder / "attack.toml"
    scenario.write_text(text)
    with dashboard.lab.going("run", str(scenario), "--person", "human", "--pace", "virtual", "--audit", "off"):
        (entry,) = until(page, dashboard.runners)
        page.goto(dashboard.url(run=entry.run, lease="mine"))
        expect(page.get_by_text("this page leads")).to_be_visible()
        expect(page.get_by_text("onerror").first).to_be_visible()
        page.get_by_role("button", name="Something else").click()
        page.get_by_label("what has changed").fill(attack)
        page.get_by_role("button", name="Record that I changed my mind").click()
        expect(page.get_by_text("Recorded.")).to_be_visible()
        page.get_by_role("button", name="STOP").click()
        expect(page.get_by_text("The session is over")).to_be_visible()
        assert page.evaluate("window.caught") is None
    minds = [e["body"]["note"] for e in dashboard.lab.entries() if e["body"].get("event") == "ChangedMind"]
    assert minds == [attack], "kept as it was said"
