"""The simulated vacuum as a Device: one run from open to close."""

from threading import Thread

import pytest

from devices.device import Device, DeviceError, Refused
from devices.home.simulate import simulate
from devices.home.types import Settings
from devices.simvac import open_device
from homes import drafted

ARENA = drafted()["arena-spill"]
CHOSEN = Settings(80, 60, 300, 1, "lanes", True)


def test_a_run_from_open_to_close():
    device: Device = open_device(None)
    assert (device.name, device.rung) == ("simvac", "simulator")
    device.open()
    device.prepare(ARENA, 3)
    readback = device.start(CHOSEN)
    assert readback.settings == CHOSEN
    assert readback.how == dict.fromkeys(("fan", "brush", "speed", "passes", "pattern", "edge"), "read back")
    elapsed_s, progress = 0.0, device.advance()
    while not progress.done:
        assert 0 < progress.elapsed_s - elapsed_s <= 1.0
        assert 0 < progress.fraction <= 1
        elapsed_s, progress = progress.elapsed_s, device.advance()
    assert progress.fraction == 1
    outcome = device.finish()
    device.close()
    whole = simulate(ARENA, CHOSEN, 3)
    assert outcome.z.tobytes() == whole.z.tobytes()  # a live run is the very run of the outcome table
    assert outcome.end == whole.end
    assert progress.bumps == outcome.z[5]


def test_the_next_run_needs_its_own_preparation_and_starts_afresh():
    device = open_device(None)
    outcomes = []
    for _ in range(2):
        device.prepare(ARENA, 0)
        device.start(CHOSEN)
        with pytest.raises(Refused, match="call prepare"):
            device.start(CHOSEN)
        while not device.advance().done:
            pass
        outcomes.append(device.finish().z.tobytes())
    assert outcomes[0] == outcomes[1]


def test_the_pose_is_the_robots_own_estimate_in_the_drawing():
    device = open_device(None)
    device.prepare(ARENA, 0)
    device.start(CHOSEN)
    x, y, _ = device.advance().pose
    start_x, start_y = ARENA.plan.start_m
    assert (x, y) == pytest.approx((start_x, start_y + 0.27), abs=0.01)  # 15 ticks ahead, facing north


def test_stop_ends_the_run_from_any_thread_and_as_often_as_you_like():
    device = open_device(None)
    device.stop()  # nothing runs: nothing happens
    device.prepare(ARENA, 0)
    device.start(CHOSEN)
    device.advance()
    threads = [Thread(target=device.stop) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress = device.advance()
    assert progress.done
    assert progress.elapsed_s < 1.0  # it did not move after the stop
    outcome = device.finish()
    assert outcome.end == "stopped"
    assert outcome.z[2] * 60 == pytest.approx(progress.elapsed_s)
    device.stop()
    assert device.finish().end == "stopped"


def test_a_run_that_ended_by_itself_keeps_its_end_when_stopped():
    device = open_device(None)
    device.prepare(ARENA, 0)
    device.start(Settings(80, 60, 400, 1, "spiral", False))
    while not device.advance().done:
        pass
    device.stop()
    assert device.finish().end == "finished"


def test_wrong_calls_are_refused_with_a_remedy():
    device = open_device(None)
    with pytest.raises(Refused, match="call prepare"):
        device.start(CHOSEN)
    with pytest.raises(Refused, match="call prepare and start"):
        device.advance()
    with pytest.raises(DeviceError, match=r"0\.\.15"):
        device.prepare(ARENA, 16)
    with pytest.raises(ValueError, match="no address"):
        open_device("/dev/ttyUSB0")
