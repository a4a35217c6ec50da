"""One check for every robot in devices/, the moment its file exists: the promises of devices/device.py."""

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import pytest

from devices.catalog import device_names, make_device
from devices.device import Device, DeviceError
from devices.emulate import free_room
from devices.home.types import FloorPlan, Settings
from firmware_bridge.rover_build import missing

# Where a robot can be had in a test: an emulator of its own, or nothing but itself.
SPECS = {"simvac": "simvac"} | {name: f"{name}:emulator" for name in ("roomba", "neato", "rover", "valetudo")}
SETTINGS = Settings(fan=55, brush=90, speed=400, passes=1, pattern="lanes", edge=False)

WALL, FLOOR = "#" * 15, "#" + "a" * 13 + "#"
# A closet of 1.3 m: cleaned in half a minute.
CLOSET = FloorPlan("closet", 0.1, (WALL, *[FLOOR] * 13, WALL), {"a": "closet"}, (0.75, 0.75), 0.0)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every robot of the folder, or the one that `--port ROBOT:ADDRESS` names: it moves."""
    given = metafunc.config.getoption("--port")
    metafunc.parametrize("device", [given] if given else device_names(), indirect=True)


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[Device]:
    """A device, not opened."""
    spec = SPECS.get(request.param, request.param)
    assert spec != request.param or ":" in spec or spec == "simvac", f"say in SPECS where a test finds a {spec}"
    if spec == "rover:emulator" and missing("emulator"):
        pytest.skip("no avr-gcc or simavr: the rover's emulator is left out, see docs/rover.md")
    made = make_device(spec)
    yield made
    made.close()


def test_a_device(device: Device, request: pytest.FixtureRequest) -> None:
    given = request.config.getoption("--port") is not None  # its room and its clock are not in our hands
    context = replace(free_room(), plan=CLOSET, run_limit_s=30.0 if given else free_room().run_limit_s)
    assert device.name and device.rung in ("simulator", "emulator", "hardware")
    device.stop()  # before anything: no error
    identity = device.open()
    assert all(isinstance(k, str) and isinstance(v, str) for k, v in identity.items())
    assert device.link.state == "ready" and device.link.reason
    with pytest.raises(DeviceError):
        device.start(SETTINGS)  # nothing prepared

    device.prepare(context, 3)
    readback = device.start(SETTINGS)
    assert set(readback.how) == {f.name for f in fields(Settings)}
    assert set(readback.how.values()) <= {"read back", "inferred", "not readable"}
    elapsed, fraction, done = 0.0, 0.0, False
    while not done:
        progress = device.advance()
        # at most a second a call; reading back at the start may have taken the first tick
        assert elapsed <= progress.elapsed_s <= elapsed + (2.0 if given else 1.1)
        assert fraction <= progress.fraction <= 1.0
        elapsed, fraction, done = progress.elapsed_s, progress.fraction, progress.done
    whole = device.finish()
    assert whole.end in (("finished", "run_limit") if given else ("finished",))
    assert elapsed <= context.run_limit_s + 1
    assert np.isfinite(whole.z).all() and (whole.z >= 0).all() and (whole.error >= 0).all()
    assert set(whole.source) <= {"measured", "modelled", "entered", "simulated"}

    device.prepare(context, 3)
    device.start(SETTINGS)
    for _ in range(10):
        device.advance()
    device.stop()
    device.stop()
    assert device.advance().done
    cut = device.finish()
    assert cut.end == "stopped" and cut.z[2] < whole.z[2]

    device.prepare(context, 3)
    device.stop()
    with pytest.raises(DeviceError):
        device.start(SETTINGS)  # a stop between the two holds

    device.prepare(context, 3)
    device.start(SETTINGS)
    while not device.advance().done:
        pass
    again = device.finish()
    if not given:
        assert np.array_equal(again.z, whole.z)  # the same world, the same settings
    device.close()
    device.close()
