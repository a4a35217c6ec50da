"""STOP in a real browser: in the middle of a busy run, by a click and on Escape, each time, wherever one is typing."""

import os
import signal
import time
from datetime import datetime

import pytest
from playwright.sync_api import Page, expect

from browsing import Dashboard, note, status_of, until
from sessions import quick_scenario

pytestmark = [pytest.mark.slow, pytest.mark.alone]


_TIMES = 3


@pytest.mark.parametrize("how", ["click", "Escape"])
def test_stop_stops_a_busy_run_every_time(page: Page, dashboard: Dashboard, how: str) -> None:
    scenario = quick_scenario(dashboard.lab.folder)
    took = []
    for i in range(_TIMES):
        with dashboard.lab.going("run", scenario, "--pace", "2", "--seed", str(i), "--audit", "off"):
            (entry,) = until(page, dashboard.runners)
            page.goto(dashboard.url(run=entry.run, lease=f"tab{i}"))
            until(page, lambda: status_of(dashboard).get("phase") == "running")
            until(page, lambda: page.get_by_text("the robot cleans").count())
            button = page.get_by_role("button", name="STOP")
            expect(button).to_be_enabled()
            clicked = time.time()
            button.click() if how == "click" else page.keyboard.press("Escape")
            expect(page.get_by_text("The session is over")).to_be_visible()
            until(page, lambda: not dashboard.runners())
        stops = [e for e in dashboard.lab.timed_entries(entry.run) if e[1] == "event" and e[2]["event"] == "Stop"]
        assert len(stops) == 1, "one click, one stop"
        took.append(datetime.fromisoformat(stops[0][0]).timestamp() - clicked)
        assert dashboard.lab.entries(entry.run)[-2]["body"]["reason"] == "stopped"
    took.sort()
    median, worst = took[_TIMES // 2] * 1e3, took[-1] * 1e3
    note(f"STOP by {how}, {_TIMES} times: from it to the runner's stop, median {median:.0f} ms, worst {worst:.0f} ms")


@pytest.mark.parametrize("where", ["popover", "field"])
def test_escape_stops_out_of_an_open_popover_and_a_field(page: Page, dashboard: Dashboard, where: str) -> None:
    scenario = quick_scenario(dashboard.lab.folder)
    with dashboard.lab.going("run", scenario, "--pace", "2", "--audit", "off"):
        (entry,) = until(page, dashboard.runners)
        page.goto(dashboard.url(run=entry.run, lease="mine"))
        until(page, lambda: status_of(dashboard).get("phase") == "running")
        expect(page.get_by_text("the robot cleans")).to_be_visible()
        page.get_by_role("button", name="Something else").click()
        field = page.get_by_label("what has changed")
        expect(field).to_be_visible()
        if where == "field":
            field.fill("the dog is")
        page.keyboard.press("Escape")
        expect(page.get_by_text("The session is over: stopped")).to_be_visible(timeout=10_000)
    events = [e["body"]["event"] for e in dashboard.lab.entries() if e["type"] == "event"]
    assert events.count("Stop") == 1, "one key, one stop"


def test_a_runner_that_hangs_is_said_to_and_stop_ends_it(page: Page, dashboard: Dashboard) -> None:
    scenario = quick_scenario(dashboard.lab.folder)
    with dashboard.lab.going("run", scenario, "--pace", "2", "--audit", "off") as process:
        (entry,) = until(page, dashboard.runners)
        page.goto(dashboard.url(run=entry.run, lease="mine"))
        expect(page.get_by_text("the robot cleans")).to_be_visible()
        os.kill(entry.pid, signal.SIGSTOP)
        expect(page.get_by_text("The runner does not answer: what you see is old")).to_be_visible(timeout=20_000)
        expect(page.get_by_text("no contact for")).to_be_visible(timeout=10_000)
        clicked = time.monotonic()
        page.get_by_role("button", name="STOP").click()
        until(page, lambda: process.poll() is not None, 20.0)
        note(f"STOP of a runner that hangs: it had ended after {time.monotonic() - clicked:.1f} s")
        expect(page.get_by_text("did not answer and was ended")).to_be_visible()
