"""The selftest: whole on a simulator and on an emulator, and red where a robot does not do what it was told."""

import contextlib
import json
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import devices.selftest
from calib.registry import runners
from calib.scenario import load_scenario
from calib.stopping import stop_runner
from cli._stop_check import calib_stop
from cli.main import main
from devices.device import Progress, Readback
from devices.home.types import Settings
from devices.selftest import Check, selftest
from devices.simvac import Simvac
from sessions import Lab, page_lab, until, wait_for


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab whose runners this process sees too."""
    return page_lab(tmp_path, monkeypatch)


def below(pid: int) -> list[psutil.Process]:
    """The processes that it has started, and theirs."""
    return psutil.Process(pid).children(recursive=True)


def words(process: psutil.Process) -> list[str]:
    """Its command line; empty where it has just ended."""
    try:
        return process.cmdline()
    except psutil.NoSuchProcess:  # a zombie is one
        return []


def lives(process: psutil.Process) -> bool:
    """Whether it runs; one that has ended may wait to be fetched."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    return False


def tried(monkeypatch: pytest.MonkeyPatch, device: Simvac, floor: float = 40.0) -> dict[str, Check]:
    """The checks of a device by their names, with the modes of the arena."""
    monkeypatch.setattr(devices.selftest, "make_device", lambda spec: device)
    scenario = load_scenario("arena")
    modes = [mode.settings for mode in scenario.modes]
    return {check.name: check for check in selftest("simvac", scenario.contexts[0], modes, floor)}


def test_a_simulator_passes_what_can_be_tried_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "selftest", "simvac", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["device"], found["rung"]) == ("simvac", "simulator")
    checks = {check["name"]: check for check in found["checks"]}
    assert all({"name", "passed", "measured", "unit", "limit"} <= set(check) for check in found["checks"])
    assert {name for name, check in checks.items() if check["passed"]} >= {"opens", "modes taken", "coverage floor"}
    for name in ("dead man", "calib stop"):
        assert checks[name]["passed"] is None and checks[name]["why"]


def test_an_emulator_passes_but_in_virtual_time_nobody_minds_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its guard waits for ever there, so it drives on: that is what a robot without a dead man looks like."""
    monkeypatch.setattr(devices.selftest, "paced", lambda spec: nullcontext((spec, True)))
    for limit in ("OPEN_S", "STOP_S"):
        monkeypatch.setattr(devices.selftest, limit, 300.0)  # of a crowded machine
    scenario = load_scenario("arena")
    modes = [mode.settings for mode in scenario.modes]
    checks = {check.name: check for check in selftest("neato:emulator", scenario.contexts[0], modes, 40.0)}
    for name in ("opens", "modes taken", "stop latency", "whole run", "coverage floor", "battery seen", "bumpers seen"):
        assert checks[name].passed, checks[name]
    assert checks["dead man"].passed is False and checks["dead man"].why == "it drove on"
    assert checks["clock"].passed is None


def test_calib_stop_is_timed_by_the_robots_own_readings() -> None:
    check = calib_stop("rover:emulator", "emulator", "arena")
    assert (check.name, check.unit, check.limit) == ("calib stop", "s", 0.5)
    assert check.measured is not None, check
    assert check.measured > 0.0 and check.passed == (check.measured <= 0.5)


def test_a_stop_from_elsewhere_ends_the_selftest_wherever_it_is(lab: Lab) -> None:
    """While it drives itself, and while the session beside it does."""
    for done in ("opens", "bumpers seen"):  # the check before
        with lab.going("devices", "selftest", "roomba:emulator") as process:
            told = until(process, f" {done} ")
            (entry,) = wait_for(runners)
            assert entry.run == f"selftest-{process.pid}" and entry.device == "roomba:emulator"
            if done == "bumpers seen":
                wait_for(lambda pid=process.pid: any("cli.main" in words(each) for each in below(pid)))
            started = below(process.pid)
            assert stop_runner(entry) == "stopped"
            more, err = process.communicate(timeout=60)
        assert process.returncode == 130 and "Traceback" not in err, err
        assert "calib stop" not in told + more
        assert runners() == []
        assert started
        wait_for(lambda started=started: not any(lives(each) for each in started))


def test_a_session_that_does_not_drive_cannot_be_stopped(tmp_path: Path) -> None:
    check = calib_stop(f"roomba:{tmp_path}/nobody", "hardware", "arena")
    assert check.passed is False and "did not drive" in check.why and "nobody" in check.why


class Stuck(Simvac):
    """Its fan stays where it is, and it hears no stop."""

    def start(self, settings: Settings) -> Readback:
        readback = super().start(replace(settings, fan=20))
        return Readback(replace(readback.settings, fan=20), readback.how)

    def stop(self) -> None:
        pass


class Slow(Simvac):
    """It takes its time to open, and its runs end in nothing."""

    def open(self) -> dict[str, str]:
        time.sleep(0.02)
        return super().open()

    def advance(self) -> Progress:
        return replace(super().advance(), done=True)


def test_a_fan_that_stays_and_a_stop_that_is_not_heard_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    checks = tried(monkeypatch, Stuck())
    assert checks["modes taken"].passed is False and "fan" in checks["modes taken"].why
    assert checks["stop latency"].passed is False


def test_a_floor_that_is_missed_and_a_run_that_ends_early_are_red(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tried(monkeypatch, Simvac(), 99.5)["coverage floor"].passed is False
    monkeypatch.setattr(devices.selftest, "OPEN_S", 0.01)
    checks = tried(monkeypatch, Slow())
    assert checks["opens"].passed is False
    assert checks["whole run"].passed is False and checks["whole run"].why == "stopped"
    assert checks["coverage floor"].passed is False


def test_a_real_robot_is_moved_only_when_that_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "selftest", "roomba:/dev/ttyUSB7"]) == 2
    assert "say --move" in capsys.readouterr().err
    assert main(["devices", "selftest", "toaster"]) == 2
    assert "is not a robot" in capsys.readouterr().err
