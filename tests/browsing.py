"""The dashboard in a real browser, Debian's chromium: fixtures, and what every page of a test must keep to."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from calib.control import ControlClient
from calib.registry import RunnerEntry
from sessions import ARTEFACTS, FIGURES, ROOT, Lab

CHROMIUM = "/usr/bin/chromium"
_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
_PATIENCE_MS = 90_000  # a first session compiles, on a machine that does other things too
expect.set_options(timeout=_PATIENCE_MS)


class Dashboard:
    """A served dashboard with a journal, a data folder and a runtime folder of its own."""

    def __init__(self, lab: Lab, port: tuple[str, ...] = ("--port", "0")) -> None:
        self.lab = lab
        self.data = lab.folder / "out"
        self.data.mkdir(exist_ok=True)
        environment = lab.environment | {"CALIB_JOURNAL": lab.journal, "CALIB_DATA": str(self.data)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dashboard.serve", *port],
            stdout=subprocess.PIPE,
            stderr=(lab.folder / "dashboard.log").open("w"),
            text=True,
            env=environment,
            cwd=ROOT,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"(http://127\.0\.0\.1:(\d+))/\?token=(\S+)", line)
        assert found, line + (lab.folder / "dashboard.log").read_text()
        self.address, self.port, self.token = found.group(1), int(found.group(2)), found.group(3)

    def url(self, path: str = "", **query: str) -> str:
        """An address with its token."""
        words = "&".join(f"{k}={v}" for k, v in {**query, "token": self.token}.items())
        return f"{self.address}/{path}?{words}"

    def runners(self) -> list[RunnerEntry]:
        """The runners that this lab knows."""
        folder = self.lab.folder / "calib"
        return [RunnerEntry(**json.loads(p.read_text())) for p in sorted(folder.glob("*.json"))]

    def close(self) -> None:
        """End the server and everything that pages began: those are processes of their own."""
        self.process.terminate()
        self.process.wait(10)
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("CALIB_RUNTIME_DIR") == str(self.lab.folder):
                    process.kill()


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[Dashboard]:
    """A dashboard of this test alone."""
    found = Dashboard(Lab(tmp_path))
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser a file."""
    if not Path(CHROMIUM).exists():
        pytest.skip("no chromium: install the Debian package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, dashboard: Dashboard) -> Iterator[BrowserContext]:
    """A window of 1440 by 1000. Nothing that a page of it asks for may lie outside this machine."""
    asked: list[str] = []
    window = chromium.new_context(viewport={"width": 1440, "height": 1000})
    window.set_default_timeout(_PATIENCE_MS)
    window.on("request", lambda request: asked.append(request.url))
    yield window
    window.close()
    inside = (dashboard.address, dashboard.address.replace("http", "ws", 1), "data:", "blob:")
    assert asked, "no request was seen"
    assert [url for url in asked if not url.startswith(inside)] == []


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """A tab of that window."""
    return context.new_page()


def until(page: Page, ready: Callable[[], Any], patience_s: float = 60.0) -> Any:
    """What `ready` returns once it returns something; the browser goes on meanwhile."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := ready():
            return found
        page.wait_for_timeout(50)
    raise AssertionError("waited in vain")


def status_of(dashboard: Dashboard) -> dict[str, Any]:
    """The status of the one runner that lives, by a connection of the test's own."""
    entries = dashboard.runners()
    if not entries:
        return {}
    client = ControlClient(entries[0])
    try:
        return dict(client.request({"do": "status"})["status"])
    finally:
        client.close()


def snap(page: Page, name: str) -> None:
    """Screenshots of a page at 1440 and 390 pixels, light and dark, into the artefacts."""
    ARTEFACTS.mkdir(exist_ok=True)
    size = page.viewport_size
    for width, height in ((1440, 1000), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.wait_for_timeout(700)
            page.screenshot(path=ARTEFACTS / f"{name}-{width}-{scheme}.png")
    page.emulate_media(color_scheme="light")
    if size:
        page.set_viewport_size(size)


def note(text: str) -> None:
    """A measured figure, shown at the end of the tests."""
    ARTEFACTS.mkdir(exist_ok=True)
    with FIGURES.open("a") as file:
        file.write(text + os.linesep)
