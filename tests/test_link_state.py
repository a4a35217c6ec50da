"""How a link stands: every way through the table, and what the drivers make of it on emulators."""

import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.catalog import make_device
from devices.device import Device, LinkLost, Refused
from devices.emulate import free_room
from devices.home.types import Settings
from emulators import emulator
from firmware_bridge.link_state import CLOSED, TABLE, Event, LinkState, State, retry_after_s, step
from firmware_bridge.rover_build import missing
from firmware_bridge.transport import ask_clock, connect_clock

SETTINGS = Settings(fan=60, brush=50, speed=300, passes=1, pattern="lanes", edge=False)
CONTEXT = replace(free_room(), run_limit_s=6.0)
EVENTS = st.lists(st.sampled_from(get_args(Event)), max_size=30)


@given(EVENTS)
def test_from_lost_to_ready_only_by_opening_and_handshake(events: list[Event]) -> None:
    link, way = CLOSED, [CLOSED.state]
    for number, event in enumerate(events):
        link, effects = step(link, event, f"{number}")
        if (way[-1], event) in TABLE:
            assert link.reason == f"{number}", "the reason is that of the event which led here"
        else:
            assert not effects
        if link.state == "ready" and way[-1] not in ("ready", "stale"):
            assert way[-1] == "handshake" and event == "identified"
            assert "opening" in way, "nobody is asked before the port is open"
            since = len(way) - 1 - way[::-1].index("lost") if "lost" in way else 0
            assert "opening" in way[since:], "after a lost link the port is opened anew"
        if link.state in ("lost", "handshake") and way[-1] in ("ready", "stale") and event != "greeted":
            assert effects == ("stop",), "whatever moved is stopped"
        way.append(link.state)


def test_the_table_names_every_state_and_event_and_every_state_can_be_left() -> None:
    assert {state for state, _ in TABLE} == set(get_args(State)) == {after for after, _ in TABLE.values()}
    assert {event for _, event in TABLE} == set(get_args(Event))
    assert all(effects in ((), ("stop",)) for _, effects in TABLE.values())


def test_back_off_doubles_up_to_eight_seconds() -> None:
    assert [retry_after_s(n) for n in range(1, 8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert retry_after_s(10_000) == 8.0


# --- drivers on emulators ---------------------------------------------------------------------------------------------


def states(device: Device, until: str, num_calls: int = 12) -> list[str]:
    """Drive on until the link is in this state; the states on the way."""
    seen: list[str] = []
    for _ in range(num_calls):
        with contextlib.suppress(LinkLost):
            device.advance()
        if not seen or seen[-1] != device.link.state:
            seen.append(device.link.state)
        if seen[-1] == until:
            return seen
    raise AssertionError(f"{until} never came: {seen}, {device.link}")


def test_a_closed_robot_an_absent_one_and_a_busy_one_say_why(tmp_path: Path) -> None:
    device = make_device(f"roomba:{tmp_path}/none")
    assert device.link == CLOSED
    with pytest.raises(LinkLost):
        device.open()
    assert device.link.state == "lost" and "does not open" in device.link.reason
    device.close()
    assert device.link == CLOSED
    with emulator("--pty", str(tmp_path / "robot"), "--virtual") as (address, _):
        first, second = make_device(f"roomba:{address}"), make_device(f"roomba:{address}")
        first.open()
        assert first.link == LinkState("ready", "Roomba or Create 2 answers")
        with pytest.raises(Refused):
            second.open()
        assert second.link.state == "lost" and "in use by process" in second.link.reason
        first.close()
        second.open()
        assert second.link.state == "ready"
        second.close()
        assert second.link == CLOSED


@pytest.mark.parametrize("robot", ["roomba", "neato", "rover", "valetudo"])
def test_a_cable_that_is_pulled_is_lost_and_nothing_moves_until_it_is_told_again(robot: str, tmp_path: Path) -> None:
    if robot == "rover" and missing("emulator"):
        pytest.skip("no avr-gcc or simavr: the rover's emulator is left out, see docs/rover.md")
    with emulator("--pty", str(tmp_path / "robot"), "--virtual", robot=robot) as (address, _):
        device = make_device(f"{robot}:fault://disconnect_s=2.5/{address}")
        device.open()
        assert device.link.state == "ready"
        device.prepare(CONTEXT, 0)
        device.start(SETTINGS)
        assert states(device, "lost")[-1] == "lost"
        assert "cut" in device.link.reason
        device.open()
        assert device.link.state == "ready"
        device.stop()  # as the session does before it asks who arms it
        assert not moves(device), "what a robot went on with alone ends here"
        with pytest.raises(Refused, match="prepare it again"):
            device.start(SETTINGS)
        if robot != "valetudo":  # whose `advance` only looks on
            assert device.advance().done and not moves(device), "the run is over"
        device.prepare(CONTEXT, 0)
        assert not moves(device)
        device.start(SETTINGS)
        assert moves(device)
        device.close()


def moves(device: Device) -> bool:
    """What the emulated robot's motors do, once the line has brought what was sent."""
    device._line.exchange(b"", device._line.now_s + 0.09)  # type: ignore[attr-defined]
    return device.emulator_state()["actuators"] != [0, 0, 0, 0, 0]  # type: ignore[attr-defined]


def test_a_roomba_without_a_word_is_stale_then_lost_and_ready_only_when_it_is_opened(tmp_path: Path) -> None:
    with emulator("--pty", str(tmp_path / "robot"), "--virtual") as (address, _):
        device = make_device(f"roomba:{address}")
        device.open()
        device.prepare(CONTEXT, 0)
        device.start(SETTINGS)
        told(address, b"f", {"mute": True})
        assert states(device, "lost") == ["stale", "lost"]
        assert "silent for 2." in device.link.reason
        told(address, b"f", {"mute": False})
        for _ in range(3):
            with pytest.raises(LinkLost):
                device.prepare(CONTEXT, 0)
            assert device.link.state == "lost"
        device.open()
        assert device.link.state == "ready"
        device.close()


def told(address: str, kind: bytes, payload: dict[str, object]) -> None:
    with connect_clock(address) as watcher:
        ask_clock(watcher, kind, 0, 0, json.dumps(payload).encode())


@pytest.mark.skipif(bool(missing("emulator")), reason="no avr-gcc or simavr: see docs/rover.md")
def test_a_rover_that_restarted_after_it_was_prepared_does_not_start(tmp_path: Path) -> None:
    """The watchdog's reset on the chip: another boot id, and the person's order was for the one before."""
    with emulator("--pty", str(tmp_path / "robot"), "--virtual", robot="rover") as (address, _):
        device = make_device(f"rover:{address}")
        device.open()
        device.prepare(CONTEXT, 0)
        told(address, b"f", {"reset": True})
        for _ in range(2):
            with pytest.raises(Refused, match="restarted after boot"):
                device.start(SETTINGS)
            assert device.link.state == "handshake" and "restarted" in device.link.reason
        assert not moves(device)
        device.prepare(CONTEXT, 0)
        assert device.link.state == "ready" and not moves(device)
        device.start(SETTINGS)
        told(address, b"f", {"reset": True})
        assert states(device, "handshake")[-1] == "handshake"
        assert device.finish().end == "fault" and "restarted" in device.message
        assert not moves(device)
        device.close()
