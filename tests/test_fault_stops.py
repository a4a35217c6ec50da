"""Sessions and their guards are killed or suspended while a robot drives: the wheels stop, and the journal says why.

Once each, and however long a loaded machine takes; `python -m bench.fault_stops --times 50` and `python -m
bench.session_stops --times 50` hold the 500 ms.
"""

import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.fault_stops import cable_out, paced, stopped_after
from bench.session_stops import TRIALS, Drive, Driven, House, begin, closed, driven, ended, house_of
from calib.journal import open_journal
from calib.left_open import KILLED
from calib.registry import left_behind
from calib.stopping import stop_runner
from devices.emulate import free_room
from devices.home.plant import Home
from test_link_runs import rfc2217_server


@pytest.mark.parametrize(("robot", "how"), [("roomba", signal.SIGKILL), ("neato", signal.SIGSTOP)])
def test_a_guard_that_is_killed_or_hangs_has_a_second(robot: str, how: signal.Signals, tmp_path: Path) -> None:
    Home(free_room(), 0)  # compiled before anything is forked
    with paced(robot, tmp_path) as watched:
        assert stopped_after(robot, watched, "guard", how, 0.1) < 10.0


@pytest.mark.parametrize("whom", ["session", "guard"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_roomba_behind_a_terminal_server_is_stopped_too(how: signal.Signals, whom: str, tmp_path: Path) -> None:
    """Without a file to share the second writes through its own copy of the guard's connection."""
    Home(free_room(), 0)
    with paced("roomba", tmp_path) as watched, rfc2217_server(watched.address) as address:
        assert stopped_after("roomba", watched._replace(address=address), whom, how, 0.1) < 10.0


def test_what_no_host_can_stop() -> None:
    assert cable_out("neato", 300, 0.1) <= 0.151
    assert cable_out("roomba", 300, 0.1) > 2.0


def test_robots_lost_before_and_after_a_pages_fault_are_told_apart() -> None:
    """By the rate beside a page that leads: many after the fault speak against it, as many before do not."""
    before, after, neither = Drive(10, 12, 14, 11), Drive(10, 12, 14, 13), Drive(10, 12, 14, None)
    assert driven([before, after, neither]) == Driven(1 + 2 + 2, 0 + 1 + 2, 1, 1)
    assert driven([Drive(10, 12, 14, 15)]) == Driven(2, 2, 0, 0), "lost once the trial was over"
    assert driven([Drive(10, 12, 14, 9)]) == Driven(0, 0, 0, 0), "lost before its page was drawn"
    assert driven([]).chance == 1.0
    assert Driven(50, 50, 0, 7).chance == pytest.approx(0.5**7)
    assert Driven(50, 50, 10, 10).chance > 0.5
    assert Driven(20, 80, 2, 8).chance > 0.5


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """A robot on the wall clock, and a folder for the journal of its sessions."""
    Home(free_room(), 0)
    monkeypatch.setenv("CALIB_RUNTIME_DIR", str(tmp_path))
    with house_of(request.param, tmp_path) as found:
        yield found


@pytest.mark.slow
@pytest.mark.parametrize("house", ["roomba"], indirect=True)
def test_a_killed_session_is_closed_by_the_next_one_on_its_robot(house: House) -> None:
    killed = begin(house)
    killed.process.kill()
    killed.process.wait()
    assert [entry.run for entry in left_behind()] == [killed.entry.run]
    following = begin(house)
    assert closed(house, killed.entry.run, "stopped", KILLED) == []
    assert left_behind() == []
    assert stop_runner(following.entry) == "stopped"
    assert ended(following, 0) == []
    assert closed(house, following.entry.run, "stopped", "client") == []
    with open_journal(house.journal, create=False) as journal:
        (stop,) = (e.body for e in journal.entries(following.entry.run, ["stop"]))
    assert stop is not None and stop["detail"]["stop_latency_s"] > 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("house", "victim", "how"),
    [("neato", "session", signal.SIGSTOP), ("roomba", "guard", signal.SIGKILL), ("rover", "cable", signal.SIGKILL)],
    indirect=["house"],
)
def test_the_journal_says_what_stopped_the_robot(house: House, victim: str, how: signal.Signals) -> None:
    (trial,) = TRIALS[victim](house, 1, how, random.Random(1))
    assert trial.wrong == ()
    assert trial.rest_s < 10.0
