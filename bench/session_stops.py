"""kill -9 and kill -STOP of what belongs to a session while its robot drives: `python -m bench.session_stops`.

Each trial is a whole `calib run` with a journal, beside an emulator that is paced by the clock. Victims: the session;
its guard; the page that leads it (a dashboard in a browser: the run goes on, and a stop from elsewhere ends it); a
leading page again, where nobody stops the run; the rover's cable. Wheels have to be at rest within 500 ms of the
robot's own clock, for a silent leader 500 ms after the 4 s that it had promised. The journal has to be closed once
and with the right reason, if not by the run then by the next one on that robot. What was suspended must not drive
when it wakes. Exit 1 where one of these was broken.

A busy machine may keep a session from its robot for longer than the robot bears, whatever becomes of a page. Such
trials are begun again, but counted: how many robots were lost a second beside a drawn page, and after its fault. Exit
1 also where those after it are more than chance (1%) makes of the rate before.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import random
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from bench.fault_stops import LIMIT_S, ROBOTS, SETTINGS, SIGNALS, Watched, paced
from calib.control import ControlClient
from calib.errors import UserError
from calib.journal import open_journal
from calib.left_open import KILLED
from calib.registry import RunnerEntry
from calib.replay import differences, events_of, fold, setup_of
from calib.setup import Setup
from calib.stopping import stop_runner
from dashboard.link import HEARTBEAT_S
from devices.catalog import make_device
from devices.emulate import free_room
from firmware_bridge import ports
from firmware_bridge.bridge_client import HEARTBEAT_S as SILENCE_S

ROOT = Path(__file__).resolve().parent.parent
VICTIMS = ("session", "guard", "page", "leader", "cable")
_PATIENCE_S = 60.0
_CHANCE = 0.01  # of a verdict against a page that costs nothing
_DRAWN_S = 2.0  # until a page that leads is drawn: a browser that loads it keeps a small machine busy


class House(NamedTuple):
    """A folder with a journal, and the robot that drives in it."""

    folder: Path
    robot: str
    address: str
    watched: Watched

    @property
    def journal(self) -> str:
        return f"sqlite:///{self.folder}/calib.db"

    @property
    def environment(self) -> dict[str, str]:
        return os.environ | {
            "CALIB_RUNTIME_DIR": str(self.folder),
            "CALIB_JOURNAL": self.journal,
            "CALIB_DATA": str(self.folder),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
        }

    def now_s(self) -> float:
        return self.watched.now_s.value

    def moved_s(self) -> float:
        return self.watched.moved_s.value


class Going(NamedTuple):
    """A session under way."""

    process: "subprocess.Popen[bytes]"
    entry: RunnerEntry


class Trial(NamedTuple):
    """How long the wheels went on, s of the robot's clock, and what was wrong besides."""

    rest_s: float
    wrong: tuple[str, ...]


class Drive(NamedTuple):
    """A session with a page, by one clock, s."""

    led: float  # since when the page has led and is drawn
    fault: float  # when it was killed or suspended
    end: float  # of the trial, which is before anybody stops the robot
    lost: float | None  # when the robot was


class Driven(NamedTuple):
    """How long robots drove while their page led and after its fault, s, and how many were lost in either."""

    before_s: float
    after_s: float
    lost_before: int
    lost_after: int

    @property
    def chance(self) -> float:
        """Of as many losses after the fault, or more, where it makes no difference."""
        num, total_s = self.lost_before + self.lost_after, self.before_s + self.after_s
        share = self.after_s / total_s if total_s else 0.0
        found = range(self.lost_after, num + 1)
        return math.fsum(math.comb(num, k) * share**k * (1 - share) ** (num - k) for k in found)

    def __str__(self) -> str:
        return (
            f"{self.lost_before} robots lost in {self.before_s:.0f} s while their page led, {self.lost_after} in "
            f"{self.after_s:.0f} s after its fault (chance {self.chance:.2g})"
        )


def driven(drives: list[Drive]) -> Driven:
    """The drives together."""
    before_s = after_s = 0.0
    lost_before = lost_after = 0
    for led, fault, end, lost in drives:
        over = end if lost is None else min(lost, end)
        before_s += max(min(fault, over) - led, 0.0)
        after_s += max(over - fault, 0.0)
        if lost is not None:
            lost_before += led <= lost < fault
            lost_after += fault <= lost <= end
    return Driven(before_s, after_s, lost_before, lost_after)


def scenario(folder: Path) -> str:
    """The arena with quick people, a run in every round, and little patience with a lost robot."""
    text = (ROOT / "scenarios" / "arena.toml").read_text()
    for key, value in (("ready", "false"), ("run_every", "1"), ("reconnect_s", "1")):
        text, found = re.subn(rf"^{key} = (true|\d+)$", f"{key} = {value}", text, count=1, flags=re.MULTILINE)
        assert found, key
    head, effort, rest = text.partition("[effort]\n")
    assert effort
    path = folder / "quick.toml"
    path.write_text(head + effort + re.sub(r"^(\w+) = \d+$", r"\1 = 0.1", rest.split("\n[")[0], flags=re.MULTILINE)
                    + "\n[" + "\n[".join(rest.split("\n[")[1:]))  # fmt: skip
    return str(path)


def wait_for(ready: Callable[[], Any], what: str, patience_s: float = _PATIENCE_S) -> Any:
    """What it returns once it is true."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        if found := ready():
            return found
        time.sleep(0.005)
    raise TimeoutError(f"it never came: {what}")


_FALSE_STARTS: list[str] = []  # sessions whose robot was lost though nothing was done to it, and why
_DRIVES: list[Drive] = []  # of the trials of pages


def begin(house: House) -> Going:
    """Start a session and wait until its robot drives; another one where its robot is lost on the way."""
    for _ in range(5):
        if going := _begin(house):
            return going
    raise TimeoutError(f"no session drives: {_FALSE_STARTS[-5:]}")


def _begin(house: House) -> Going | None:
    began_s = house.now_s()
    words = ["run", scenario(house.folder), "--device", f"{house.robot}:{house.address}", "--person", "rational"]
    words += ["--pace", "wall", "--journal", house.journal, "--json"]
    with (house.folder / "session").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", *words],
            stdout=said,
            stderr=said,
            env=house.environment,
            cwd=ROOT,
            start_new_session=True,  # as from a terminal of its own, or from a page
        )

    def entry() -> RunnerEntry | bool:
        if process.poll() is not None:
            return True
        for path in (house.folder / "calib").glob("*.json"):
            with contextlib.suppress(OSError, ValueError):
                found = RunnerEntry(**json.loads(path.read_text()))
                if found.pid == process.pid:
                    return found
        return False

    found = wait_for(entry, "a runner")
    wait_for(lambda: process.poll() is not None or house.moved_s() > began_s + 0.05, "wheels that turn")
    if process.poll() is None and isinstance(found, RunnerEntry):
        return Going(process, found)
    _false_start(house)
    return None


def _false_start(house: House) -> None:
    """Keep the last words of a session that ended by itself, before its trial or in it."""
    said_lines = (house.folder / "session").read_text().splitlines()
    _FALSE_STARTS.append(" ".join(line.strip() for line in said_lines if "lost" in line[:40] or "calib" in line[:6]))


def at_rest(house: House, since_s: float) -> float:
    """Wait until the wheels have stood for a second: how long after since_s they turned last."""
    wait_for(lambda: house.now_s() > max(house.moved_s(), since_s) + 1.0, "wheels at rest")
    return max(0.0, house.moved_s() - since_s)


def ended(going: Going, code: int) -> list[str]:
    """Wait for a session's end. What is wrong with its exit code."""
    try:
        found = going.process.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return ["the session does not end"]
    return [] if found == code else [f"exit code {found}, not {code}"]


def closed(house: House, run: str, reason: str, why: str) -> list[str]:
    """What is wrong with the end of a run in the journal: one closing record, its reason, the words that tell why."""
    with open_journal(house.journal, create=False) as journal:
        entries, wrong = journal.entries(run), journal.verify(run)
    stops = [e.body for e in entries if e.type == "stop" and e.body is not None]
    if len(stops) != 1:
        return [*wrong, f"{len(stops)} closing records"]
    told = str(stops[0]["detail"].get("by", "")) + "".join(f" {mark.get('reason', '')}" for mark in stops[0]["marks"])
    if stops[0]["reason"] != reason:
        wrong.append(f"closed as {stops[0]['reason']}, not {reason}")
    if why not in told:
        wrong.append(f"closed without a word of {why!r}: {told!r}")
    start = entries[0].body
    assert start is not None
    if differences(entries, fold(_setup(start), start, events_of(entries))):
        wrong.append("its replay differs")
    return wrong


_SETUPS: dict[str, Setup] = {}


def _setup(start: dict[str, Any]) -> Setup:
    """Of a run's start; those of one scenario are alike here."""
    text = start["scenario_text"]
    if text not in _SETUPS:
        _SETUPS[text] = setup_of(start)
    return _SETUPS[text]


def guard_of(going: Going) -> int:
    """The process that holds the port."""
    for child in psutil.Process(going.process.pid).children():
        if "firmware_bridge.bridge" in child.cmdline():
            return int(child.pid)
    raise AssertionError("the session has no guard")


def session_killed(house: House, times: int, how: signal.Signals, chance: random.Random) -> Iterator[Trial]:
    """kill -9: the next session on the robot closes the record. kill -STOP: woken, the session ends by itself; every
    second time the next one has the robot by then."""
    before: Going | None = None
    rest_s = 0.0
    for number in range(times + 1):
        going = begin(house)
        wrong: list[str] = []
        if before is not None and how == signal.SIGKILL:
            wrong += closed(house, before.entry.run, "stopped", KILLED)
        elif before is not None:
            before.process.send_signal(signal.SIGCONT)
            wrong += ended(before, 3) + closed(house, before.entry.run, "device_failure", "guard stopped the robot")
        if before is not None:
            yield Trial(rest_s, tuple(wrong))
            before = None
        if number == times:
            stop_runner(going.entry)
            going.process.wait(_PATIENCE_S)
            return
        time.sleep(chance.uniform(0.1, 1.0))
        at_s = house.now_s()
        going.process.send_signal(how)
        rest_s = at_rest(house, at_s)
        if how == signal.SIGKILL:
            going.process.wait()
            before = going
        elif number % 2 and number < times - 1:
            before = going
        else:
            moved_s = house.moved_s()
            going.process.send_signal(signal.SIGCONT)
            wrong = ended(going, 3) + closed(house, going.entry.run, "device_failure", "guard stopped the robot")
            yield Trial(rest_s, (*wrong, *(["it drove again"] if house.moved_s() != moved_s else [])))


def guard_killed(house: House, times: int, how: signal.Signals, chance: random.Random) -> Iterator[Trial]:
    """The session has lost its robot, and says so."""
    for _ in range(times):
        going = begin(house)
        time.sleep(chance.uniform(0.1, 1.0))
        guard, at_s = guard_of(going), house.now_s()
        os.kill(guard, how)
        rest_s = at_rest(house, at_s)
        wrong = ended(going, 3) + closed(house, going.entry.run, "device_failure", "guard process is gone")
        yield Trial(rest_s, tuple(wrong))


def cable_out(house: House, times: int, how: signal.Signals, chance: random.Random) -> Iterator[Trial]:
    """Both ways of the line fall silent for good."""
    with cable(house) as (address, cut):
        for _ in range(times):
            cut.clear()
            going = begin(house._replace(address=address))
            time.sleep(chance.uniform(0.1, 1.0))
            at_s = house.now_s()
            cut.set()
            rest_s = at_rest(house, at_s)
            yield Trial(rest_s, tuple(ended(going, 3) + closed(house, going.entry.run, "device_failure", "silent for")))


@contextlib.contextmanager
def cable(house: House) -> Iterator[tuple[str, threading.Event]]:
    """A TCP port in front of the emulator's pty, and the event that cuts it."""
    listener = socket.create_server(("127.0.0.1", 0))
    cut, over = threading.Event(), threading.Event()
    robot = os.open(house.address, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)

    def carry() -> None:
        client: socket.socket | None = None
        while not over.is_set():
            files: list[Any] = [listener, robot] + ([client] if client else [])
            for file in select.select(files, [], [], 0.05)[0]:
                if file is listener:
                    client = listener.accept()[0]
                    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                elif file is robot:
                    data = os.read(robot, 4096)
                    if client and not cut.is_set():
                        with contextlib.suppress(OSError):
                            client.sendall(data)
                elif file is client:
                    data = b""
                    with contextlib.suppress(OSError):
                        data = client.recv(4096)
                    if not data:
                        client.close()
                        client = None
                    elif not cut.is_set():
                        os.write(robot, data)

    carrier = threading.Thread(target=carry, daemon=True)
    carrier.start()
    address = f"socket://127.0.0.1:{listener.getsockname()[1]}"
    try:
        with ports.announced({"device": house.robot, "address": address, "tty": None, "virtual": False}):
            yield address, cut
    finally:
        over.set()
        carrier.join()
        listener.close()
        os.close(robot)


class Dashboard:
    """A dashboard that is served, with a browser's tab on it."""

    def __init__(self, house: House, browser: Any) -> None:
        self._browser = browser
        with (house.folder / "said").open("ab") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dashboard.serve", "--port", "0"],
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                env=house.environment,
                cwd=ROOT,
                start_new_session=True,
            )
        self._address = ""

    def lead(self, going: Going, lease: str) -> Any | None:
        """Open a run on a page, which then leads it. None where the run has ended before."""
        if not self._address:
            assert self.process.stdout is not None
            self._address = next(w for w in self.process.stdout.readline().split() if w.startswith("http://"))
        head, _, token = self._address.partition("?")
        page = self._browser.new_page()
        page.set_default_timeout(1000 * _PATIENCE_S)
        page.goto(f"{head}?run={going.entry.run}&lease={lease}&{token}")

        def leads() -> bool:
            page.wait_for_timeout(20)
            return client.request({"do": "status"})["status"].get("lead") is not None

        try:
            with contextlib.closing(ControlClient(going.entry)) as client:
                wait_for(leads, "a page that leads")
        except UserError:  # nobody answers there any more
            page.close()
            return None
        return page

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Met(NamedTuple):
    """A session whose page has met its fault."""

    going: Going
    at_s: float  # the fault, by the robot's clock
    led: float  # since when the page has led, drawn, and the fault, by the clock that the journal has
    fault: float


def page_killed(house: House, times: int, how: signal.Signals, chance: random.Random) -> Iterator[Trial]:
    """The run goes on without its page, and `calib stop` stops it."""
    trials = 0
    for met in _pages_killed(house, how, chance):
        going, at_s = met.going, met.at_s
        time.sleep(chance.uniform(0.1, 1.5))
        wait_for(
            lambda at_s=at_s, going=going: house.moved_s() > at_s + 0.05 or going.process.poll() is not None,
            "a robot that drives on",
        )
        if (wrong := _lost(house, met)) is not None:
            if wrong:
                yield Trial(0.0, tuple(wrong))
            continue
        at_s = house.now_s()
        said = stop_runner(going.entry)
        rest_s = at_rest(house, at_s)
        wrong = [] if said == "stopped" else [f"calib stop says: {said}"]
        wrong += ended(going, 0) + closed(house, going.entry.run, "stopped", "client")
        yield Trial(rest_s, tuple(wrong))
        trials += 1
        if trials == times:
            return


def leader_silent(house: House, times: int, how: signal.Signals, chance: random.Random) -> Iterator[Trial]:
    """Nobody stops it: the page's promise of a sign of life is broken, and the runner stops the robot."""
    trials = 0
    for met in _pages_killed(house, how, chance):
        going, at_s = met.going, met.at_s
        wait_for(lambda at_s=at_s: house.now_s() > at_s + HEARTBEAT_S, "4 s")
        if (wrong := _lost(house, met)) is not None:
            if wrong:
                yield Trial(0.0, tuple(wrong))
            continue
        rest_s = max(0.0, at_rest(house, at_s) - HEARTBEAT_S)
        stop_runner(going.entry)
        yield Trial(rest_s, tuple(ended(going, 0) + closed(house, going.entry.run, "stopped", "no sign of life")))
        trials += 1
        if trials == times:
            return


def _lost(house: House, met: Met) -> list[str] | None:
    """None where the session still has its robot, else what is wrong with its end. Either counts as a drive."""
    end, going = time.time(), met.going
    with open_journal(house.journal, create=False) as journal:
        events = journal.entries(going.entry.run, ["event"])
    told = [e.written_at for e in events if e.body is not None and e.body["event"] == "LinkLost"]
    # A robot that is lost to silence was lost when that began.
    lost = datetime.fromisoformat(told[0]).timestamp() - SILENCE_S if told else None
    _DRIVES.append(Drive(met.led, met.fault, end, lost))
    if lost is None and going.process.poll() is None:
        return None
    wrong = ended(going, 3) + closed(house, going.entry.run, "device_failure", "")
    _false_start(house)
    return wrong


def _pages_killed(house: House, how: signal.Signals, chance: random.Random) -> Iterator[Met]:
    """Sessions whose page was killed, for as long as somebody asks."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
        flags += ["--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=flags)
        dashboard = Dashboard(house, browser)
        try:
            for number in itertools.count():
                going, page = _led(house, dashboard, number)
                page.wait_for_timeout(1000 * _DRAWN_S)
                led = time.time()
                page.wait_for_timeout(1000 * chance.uniform(0.1, 1.5))
                at_s, fault = house.now_s(), time.time()
                dashboard.process.send_signal(how)
                yield Met(going, at_s, led, fault)
                page.close()
                if how == signal.SIGSTOP:
                    dashboard.process.send_signal(signal.SIGCONT)
                else:
                    dashboard.close()
                    dashboard = Dashboard(house, browser)
        finally:
            dashboard.close()
            browser.close()


def _led(house: House, dashboard: Dashboard, number: int) -> tuple[Going, Any]:
    """A session that drives and the page that leads it; another one where it ends on the way."""
    for attempt in range(5):
        going = begin(house)
        page = dashboard.lead(going, f"trial{number}-{attempt}")
        if page is not None:
            return going, page
        going.process.wait(_PATIENCE_S)
        _false_start(house)
    raise TimeoutError(f"no session keeps its page: {_FALSE_STARTS[-5:]}")


TRIALS: dict[str, Callable[[House, int, signal.Signals, random.Random], Iterator[Trial]]] = {
    "session": session_killed,
    "guard": guard_killed,
    "page": page_killed,
    "leader": leader_silent,
    "cable": cable_out,
}


@contextlib.contextmanager
def house_of(robot: str, folder: Path) -> Iterator[House]:
    """A robot's emulator, for as long as the block runs."""
    with paced(robot, folder) as watched:
        yield House(folder, robot, watched.address, watched)


def warm_up() -> None:
    """Compiled before anything is forked."""
    warm = make_device("simvac")
    warm.prepare(free_room(), 0)
    warm.start(SETTINGS)
    warm.advance()


def main() -> int:
    """Every robot, victim and signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--robots", nargs="+", choices=ROBOTS, default=ROBOTS)
    parser.add_argument("--victims", nargs="+", choices=VICTIMS, default=VICTIMS)
    parser.add_argument("--signals", nargs="+", choices=("kill", "stop"), default=("kill", "stop"))
    args = parser.parse_args()
    chance = random.Random(args.seed)
    hows = {label: how for label, how in SIGNALS.items() if {"-9": "kill", "-STOP": "stop"}[label] in args.signals}
    warm_up()
    bad = 0
    for robot in args.robots:
        for victim in args.victims:
            if victim == "cable" and robot != "rover":  # of the others only the way is bounded, see bench.fault_stops
                continue
            for label, how in hows.items():
                if victim == "cable" and label != next(iter(hows)):
                    continue
                what = "cable out" if victim == "cable" else f"kill {label} of the {victim}"
                with tempfile.TemporaryDirectory() as name, house_of(robot, Path(name)) as house:
                    try:
                        trials = list(TRIALS[victim](house, args.times, how, chance))
                    finally:
                        _leave_nothing(house)
                bad += _told(f"{robot}: {what}", trials)
    return 1 if bad else 0


def _told(what: str, trials: list[Trial]) -> int:
    if _FALSE_STARTS:
        print(
            f"{what}: {len(_FALSE_STARTS)} sessions lost their robot by themselves and were begun again:",
            *_FALSE_STARTS[:3],
            sep="\n    ",
        )
        _FALSE_STARTS.clear()
    costs = 0
    if _DRIVES:
        found = driven(_DRIVES)
        costs = int(found.chance < _CHANCE)
        print(f"{what}: {found}" + (": the page's fault costs the robot" if costs else ""))
        _DRIVES.clear()
    times = sorted(trial.rest_s for trial in trials)
    late = sum(each > LIMIT_S for each in times)
    wrong = [trial.wrong for trial in trials if trial.wrong]
    print(
        f"{what}, {len(trials)} times: wheels at rest after {1000 * times[len(times) // 2]:.0f} ms (median), "
        f"{1000 * times[-1]:.0f} at most; {late} late, {len(wrong)} with another end than it should have",
        *wrong[:3],
        flush=True,
    )
    return late + len(wrong) + costs


def _leave_nothing(house: House) -> None:
    """A trial that failed leaves no session behind."""
    for path in (house.folder / "calib").glob("*.json"):
        with contextlib.suppress(OSError, ValueError, UserError):
            stop_runner(RunnerEntry(**json.loads(path.read_text())))


if __name__ == "__main__":
    sys.exit(main())
