"""Analyse and Simulate in a real browser: a deep link, 100,000 people, a simulation from its start to its analysis."""

import re
import time

import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from browsing import Dashboard, note, snap
from populations import made_up_rows, write_population

pytestmark = [pytest.mark.slow, pytest.mark.alone]

MOST_POINTS = 2000


def chart_rows(page: Page) -> list[int]:
    """How many rows each chart of the page is sent, filled as it is sent them."""
    found: list[int] = []

    def look(payload: bytes | str) -> None:
        if not isinstance(payload, bytes):
            return
        chart = ForwardMsg.FromString(payload).delta.new_element.vega_lite_chart
        for data in [chart.data, *(named.data for named in chart.datasets)]:
            if data.data:
                found.append(pa.ipc.open_stream(data.data).read_all().num_rows)

    page.on("websocket", lambda socket: socket.on("framereceived", look))
    return found


def test_a_deep_link_opens_the_very_view(page: Page, dashboard: Dashboard) -> None:
    write_population(dashboard.data / "both", made_up_rows(300, 1, role="tool"), made_up_rows(300, 2, role="advisor"))
    page.goto(dashboard.url("analyse", source="both", version="declared", where="role=advisor", tau="6"))
    # The versions of time have commands too, which may be drawn first.
    command = page.get_by_text("calib analyze").first
    expect(command).to_have_text(re.compile(r"--version declared --where role=advisor --tau 6\s*$"))
    assert "token" not in page.url and "version=declared" in page.url
    before = (command.text_content() or "").strip()
    page.reload()
    expect(command).to_have_text(before)


def test_a_hundred_thousand_people_open_and_no_chart_gets_more_points_than_it_can_show(
    page: Page, dashboard: Dashboard
) -> None:
    halves = (made_up_rows(50_000, 1, role="tool"), made_up_rows(50_000, 2, role="advisor"))
    write_population(dashboard.data / "large", *halves, chunk=10_000)
    rows = chart_rows(page)
    begun = time.monotonic()
    # A clock with as many distinct values as people: the hardest curve to thin out.
    page.goto(dashboard.url("analyse", source="large", time="attention_s"))
    expect(page.get_by_text("calib analyze").first).to_be_attached()
    expect(page.locator(".vega-embed canvas, .vega-embed svg").nth(3)).to_be_visible()
    note(f"Analyse with 100,000 people on a clock: {time.monotonic() - begun:.1f} s to its fourth chart")
    page.wait_for_timeout(1000)
    assert rows and max(rows) <= MOST_POINTS, rows
    snap(page, "analyse-large")


def test_a_simulation_from_the_page_comes_out_in_the_analysis(page: Page, dashboard: Dashboard) -> None:
    page.goto(dashboard.url("simulate"))
    page.get_by_label("People in each condition").fill("60")
    page.get_by_label("People in each condition").press("Enter")
    command = page.locator("code").first
    expect(command).to_contain_text("--people 60")
    page.get_by_label("At most so many rounds").fill("4")
    page.get_by_label("At most so many rounds").press("Enter")
    expect(command).to_contain_text("--rounds 4")
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("It is finished.")).to_be_visible()
    snap(page, "simulate")
    page.goto(dashboard.url("analyse"))
    expect(page.get_by_text("calib analyze").first).to_be_attached()
    expect(page.locator(".vega-embed canvas, .vega-embed svg").first).to_be_visible()
    page.wait_for_timeout(1500)
    snap(page, "analyse")
    assert len(list(dashboard.data.glob("*/manifest.json"))) == 1
