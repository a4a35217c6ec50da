"""A robot under Valetudo: HTTP in any pieces, presets of its own, starts that are seen to be obeyed, stops."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.scenario import load_scenario
from devices.device import LinkLost, Refused
from devices.emulate import free_room
from devices.home.plant import Home, outcome_z
from devices.home.types import FloorPlan, Settings
from devices.valetudo import Valetudo, _cleanable_m2, _Run, nearest_fan, open_device
from emulators import emulator
from firmware_bridge import valetudo_rest as rest
from firmware_bridge.emulators.valetudo import Emulator

SETTINGS = Settings(fan=55, brush=90, speed=400, passes=1, pattern="lanes", edge=False)
WALL, FLOOR = "#" * 15, "#" + "a" * 13 + "#"
CLOSET = replace(free_room(), plan=FloorPlan("closet", 0.1, (WALL, *[FLOOR] * 13, WALL), {"a": "a"}, (0.75, 0.75), 0.0))


@given(st.data())
def test_requests_and_answers_come_whole_in_any_pieces(data: st.DataObject) -> None:
    """Three requests one after another, cut anywhere as their answers are; then two at once, cut anywhere."""
    robot, client = Emulator(), rest.Client()
    for method, path, body, status in (
        ("GET", rest.ATTRIBUTES, None, 200),
        ("PUT", f"{rest.CAPABILITIES}/{rest.FAN}/preset", {"name": "turbo"}, 400),
        ("GET", f"{rest.CAPABILITIES}/{rest.FAN}/presets", None, 200),
    ):
        asked = client.ask(method, path, body)
        at = data.draw(st.integers(0, len(asked)))
        answer = robot.feed(asked[:at]) + robot.feed(asked[at:])
        cut = data.draw(st.integers(0, len(answer) - 1))
        assert client.feed(answer[:cut]) is None
        reply = client.feed(answer[cut:])
        assert reply is not None and reply.status == status
    assert reply.body == ["low", "medium", "high", "max"]
    both = rest.STOP + rest.Client().ask("PUT", rest.CONTROL, {"action": "start"})
    at = data.draw(st.integers(0, len(both)))
    answers = robot.feed(both[:at]) + robot.feed(both[at:])
    assert answers.count(b"HTTP/1.1 200") == 2 and robot.status == "cleaning", "in the order in which they came"


@given(st.binary(max_size=300))
def test_any_bytes_are_survived_by_both_ends(junk: bytes) -> None:
    robot, client = Emulator(), rest.Client()
    client.ask("GET", rest.ATTRIBUTES)
    try:
        client.feed(junk)
    except rest.Garbled as problem:
        assert "\n" not in str(problem)
    robot.feed(junk)
    robot.feed(b"\r\n\r\n" + bytes(1))
    assert robot.status == "idle"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", f"{rest.CAPABILITIES}/{rest.FAN}/preset", {"name": "loud"}, 400),
        ("PUT", f"{rest.CAPABILITIES}/{rest.FAN}/preset", ["max"], 400),
        ("PUT", rest.CONTROL, {"action": "dance"}, 400),
        ("PUT", f"{rest.CAPABILITIES}/{rest.SEGMENTS}", {"action": "start_segment_action", "segment_ids": ["7"]}, 400),
        ("GET", f"{rest.CAPABILITIES}/NoSuchCapability", None, 404),
        ("DELETE", rest.CONTROL, None, 404),
        ("GET", "/", None, 404),
    ],
)
def test_the_robot_refuses_what_it_does_not_have(method: str, path: str, body: Any, status: int) -> None:
    robot, client = Emulator(), rest.Client()
    reply = client.feed(robot.feed(client.ask(method, path, body)))
    assert reply is not None and reply.status == status and robot.status == "idle"


def test_a_client_of_somebody_elses_meets_the_robot_and_it_cleans_on_without_one() -> None:
    """Python's own HTTP client, over TCP: presets, start, state; it goes on when nobody asks, until it is stopped."""
    with emulator("--tcp", "127.0.0.1:0", robot="valetudo") as (address, _):
        url = address.replace("socket", "http") + rest.API + "/robot"

        def ask(path: str, body: Any = None) -> Any:
            data = None if body is None else json.dumps(body).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(url + path, data, headers, method="GET" if body is None else "PUT")
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)

        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask(f"/capabilities/{rest.FAN}/preset", {"name": "loud"})
        ask(f"/capabilities/{rest.FAN}/preset", {"name": "max"})
        ask("/capabilities/BasicControlCapability", {"action": "start"})
        before = ask(f"/capabilities/{rest.STATISTICS}")
        time.sleep(1.5)
        assert ask("/state/attributes")[0]["value"] == "cleaning", "no dead man: it goes on"
        after = ask(f"/capabilities/{rest.STATISTICS}")
        assert after[1]["value"] > before[1]["value"]
        ask("/capabilities/BasicControlCapability", {"action": "stop"})
        assert ask("/state/attributes")[0]["value"] == "idle"


# --- the driver -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def opened() -> Iterator[Valetudo]:
    robot = open_device("emulator")
    robot.open()
    yield robot
    robot.close()


@pytest.fixture
def robot(opened: Valetudo) -> Iterator[Valetudo]:
    """With all its capabilities, in a closet."""
    opened.open()
    opened._line.request("f", {"without": [], "error": "", "deaf": False})
    opened.open()
    opened.prepare(CLOSET, 1)
    return opened


def test_a_preset_that_does_not_take_is_no_start(robot: Valetudo) -> None:
    robot._line.request("f", {"deaf": True})
    with pytest.raises(Refused, match="did not take the setting"):
        robot.start(replace(SETTINGS, fan=100))
    assert robot.emulator_state()["status"] == "idle"


def test_more_passes_than_it_makes_are_refused_and_two_take_longer(robot: Valetudo) -> None:
    with pytest.raises(Refused, match=r"4 passes are more than this robot makes \(3\)"):
        robot.start(replace(SETTINGS, passes=4))
    times = []
    for passes in (1, 2):
        robot.prepare(CLOSET, 1)
        readback = robot.start(replace(SETTINGS, passes=passes, fan=70))
        assert readback.settings.fan == 75 and readback.how["fan"] == "read back", "the preset that is nearest"
        while not robot.advance().done:
            pass
        times.append(robot.finish().z[2])
    assert 1.5 < times[1] / times[0] < 3.0
    robot._line.request("f", {"without": [rest.SEGMENTS]})
    robot.open()
    robot.prepare(CLOSET, 1)
    with pytest.raises(Refused, match=r"makes \(1\)"):
        robot.start(replace(SETTINGS, passes=2))


def test_a_robot_with_less_is_driven_as_far_as_it_goes(robot: Valetudo) -> None:
    robot._line.request("f", {"without": [rest.FAN, rest.STATISTICS]})
    identity = robot.open()
    assert identity["fan"] == "not to be set"
    robot.prepare(CLOSET, 1)
    assert robot.start(SETTINGS).how["fan"] == "not readable"
    robot.advance()
    robot.stop()
    assert robot.advance().done
    outcome = robot.finish()
    assert outcome.end == "stopped" and outcome.source[1] == "modelled" and outcome.error[1] == 100.0
    assert robot.emulator_state()["actuators"] == [0, 0, 0, 0, 0]


def test_an_error_of_the_robot_ends_the_run_with_its_words(robot: Valetudo) -> None:
    robot.start(SETTINGS)
    robot._line.request("f", {"error": "brush jammed"})
    assert robot.advance().done
    assert robot.finish().end == "fault" and "brush jammed" in robot.message
    robot.prepare(CLOSET, 1)
    with pytest.raises(Refused, match="brush jammed"):
        robot._line.request("f", {"error": "brush jammed"})
        robot.start(SETTINGS)


def test_what_is_no_valetudo_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "PATIENCE_S", 0.5)
    with pytest.raises(ValueError, match="say valetudo:http"):
        open_device("192.168.1.7")
    with pytest.raises(LinkLost, match="does not open"):
        open_device("http://127.0.0.1:9").open()
    with emulator("--tcp", "127.0.0.1:0") as (address, _), pytest.raises((Refused, LinkLost)):
        robot = open_device(address.replace("socket", "http"))
        try:
            robot.open()  # a Roomba: it says nothing to HTTP
        finally:
            robot.close()


def test_the_nearest_preset_is_the_quieter_of_two() -> None:
    assert nearest_fan(["low", "high", "max"], 55) == "low"
    assert nearest_fan(["max", "min"], 100) == "max"
    with pytest.raises(Refused, match="no known meaning"):
        nearest_fan(["breeze"], 50)


def test_the_stated_errors_hold_against_the_truth() -> None:
    """Of 72 figures (12 runs in two homes, whole or cut at the limit) at most five lie beyond their bound."""
    beyond = 0
    contexts = [load_scenario("apartment").contexts[0], load_scenario("arena").contexts[0]]
    for context, fan, passes, replicate in product(contexts, (35, 55, 100), (1, 2), (0,)):
        plain = getattr(context, "context", context)
        home, robot = Home(plain, replicate), Emulator()
        robot.lay_out(home)
        robot.presets[rest.FAN] = nearest_fan(["low", "medium", "high", "max"], fan)
        robot._start(passes)
        elapsed_s = 0.0
        while robot.status == "cleaning" and elapsed_s < plain.run_limit_s:
            robot.advance(0.24, home)
            elapsed_s += 0.24
        area = robot._answer("GET", f"{rest.CAPABILITIES}/{rest.STATISTICS}", None)[1][1]["value"]
        run = _Run(replace(SETTINGS, fan=fan, passes=passes), 0.0, elapsed_s, "finished")
        outcome = Valetudo("emulator")._outcome(run, plain, 100 * area / 1e4 / _cleanable_m2(plain))
        beyond += int(np.sum(np.abs(outcome.z - outcome_z(home.world, home.state)) > outcome.error + 1e-9))
    assert beyond <= 5
