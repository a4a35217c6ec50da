"""The guard itself is killed or suspended while a robot drives: its second stops the wheels.

Once each, and however long a loaded machine takes; `python -m bench.fault_stops --times 50` holds the 500 ms.
"""

import signal
from pathlib import Path

import pytest

from bench.fault_stops import cable_out, paced, stopped_after
from devices.emulate import free_room
from devices.home.plant import Home


@pytest.mark.parametrize(("robot", "how"), [("roomba", signal.SIGKILL), ("neato", signal.SIGSTOP)])
def test_a_guard_that_is_killed_or_hangs_has_a_second(robot: str, how: signal.Signals, tmp_path: Path) -> None:
    Home(free_room(), 0)  # compiled before anything is forked
    with paced(robot, tmp_path) as watched:
        assert stopped_after(robot, watched, "guard", how, 0.1) < 10.0


def test_what_no_host_can_stop() -> None:
    assert cable_out("neato", 300, 0.1) <= 0.151
    assert cable_out("roomba", 300, 0.1) > 2.0
