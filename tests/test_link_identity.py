"""The same robot again, wherever its plug is now, and no other one."""

from pathlib import Path

import pytest

from devices.catalog import make_device
from devices.device import Device, LinkLost, Refused
from devices.emulate import free_room
from emulators import emulator
from firmware_bridge.ports import LinkDown, UsbPort, usb_path, usb_serial_number


def plugged(device: Device, **ports: str) -> None:
    """From now on these plugs are there: serial number and path."""
    found = [UsbPort(path, serial_number) for serial_number, path in ports.items()]
    device._line._list_usb = lambda: found  # type: ignore[attr-defined]


def test_a_plug_is_found_by_its_serial_number(tmp_path: Path) -> None:
    link = tmp_path / "by-id"
    link.symlink_to("/dev/null")
    found = [UsbPort("/dev/null", "A5"), UsbPort("/dev/zero", "B6"), UsbPort("/dev/full", "B6")]
    assert usb_path("A5", found) == "/dev/null" and usb_serial_number(str(link), found) == "A5"
    assert usb_serial_number("/dev/tty", found) == ""
    with pytest.raises(LinkDown, match="several ports: say one of /dev/zero, /dev/full"):
        usb_path("B6", found)
    with pytest.raises(LinkDown, match=r"no port .* C7: plug it in; there now: /dev/null \(A5\)"):
        usb_path("C7", found)


@pytest.mark.parametrize("by", ["serial number", "path"])
def test_a_robot_that_comes_back_at_another_port_is_found_and_what_took_its_port_is_not_taken_for_it(
    tmp_path: Path, by: str
) -> None:
    first, second = str(tmp_path / "ttyUSB0"), str(tmp_path / "ttyUSB1")
    with emulator("--pty", first, "--virtual") as (address, process):
        device = make_device("roomba:usb:A5" if by == "serial number" else f"roomba:{address}")
        plugged(device, A5=first)
        identity = device.open()
        assert (identity["address"], identity["usb serial number"]) == (first, "A5")
        process.kill()
        with pytest.raises(LinkLost):
            device.prepare(free_room(), 0)
    with emulator("--pty", first, "--virtual") as _, emulator("--pty", second, "--virtual") as _:
        plugged(device, B6=first, A5=second)
        assert device.open()["address"] == second
        plugged(device, B6=first)
        with pytest.raises(LinkLost, match="no port has the USB serial number A5"):
            device.open()
        assert device.link.state == "lost"
        device.close()
        if by == "path":  # closed on purpose: what stands at the path now is a new robot
            assert device.open()["usb serial number"] == "B6"
            device.close()


def test_another_robot_at_the_same_address_is_refused_in_one_line(tmp_path: Path) -> None:
    path = str(tmp_path / "robot")
    device = make_device(f"valetudo:{path}")
    with emulator("--pty", path, "--virtual", "--seed", "1", robot="valetudo"):
        assert device.open()["serial number"] == "Emulated1"
        device.prepare(free_room(), 0)
    with emulator("--pty", path, "--virtual", "--seed", "2", robot="valetudo"):
        with pytest.raises(
            Refused, match="another robot answers, its serial number is Emulated2 and was Emulated1"
        ) as e:
            device.open()
        assert "\n" not in str(e.value) and device.link.state == "lost" and device.link.reason == str(e.value)
        with pytest.raises(LinkLost):
            device.emulator_state()  # type: ignore[attr-defined]
    with emulator("--pty", path, "--virtual", "--seed", "1", robot="valetudo"):
        device.open()
        assert device.link.state == "ready"
    device.close()
