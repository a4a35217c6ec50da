"""`calib devices list` and `calib devices emulate`: what a user types and what a machine may rely on."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CALIB = [sys.executable, "-m", "cli.main", "devices"]


@pytest.mark.parametrize("where", ["pty", "tcp"])
def test_emulate_says_one_line_serves_a_foreign_client_and_ends_on_sigterm(where: str, tmp_path: Path) -> None:
    import serial

    place = ["--pty", str(tmp_path / "robot")] if where == "pty" else ["--tcp", "127.0.0.1:0"]
    command = [*CALIB, "emulate", "roomba", "--json", "--seed", "3", *place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["device"] == "roomba"
        with serial.serial_for_url(told["address"], baudrate=115_200, timeout=20) as port:
            port.write(bytes((128, 131, 142, 35, 149, 2, 22, 26)))
            assert port.read(1) == b"\x02"
            voltage_mv, capacity_mah = (int.from_bytes(port.read(2), "big") for _ in range(2))
            assert 10_000 < voltage_mv < 18_000 and capacity_mah > 1_000
        listed = subprocess.run([*CALIB, "list", "--json"], capture_output=True, text=True, check=True)
        assert told["address"] in [each["address"] for each in json.loads(listed.stdout)["ports"]]
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "" and process.wait(20) == 0
    listed = subprocess.run([*CALIB, "list"], capture_output=True, text=True, check=True)
    assert told["address"] not in listed.stdout


@pytest.mark.parametrize(
    "wrong",
    [
        ["nobody"],
        ["roomba", "--tcp", "nowhere"],
        ["roomba", "--virtual", "--tcp", "127.0.0.1:0"],
        ["roomba", "--pty", "/nonexistent/robot"],
    ],
)
def test_a_mistake_is_told_in_one_line(wrong: list[str]) -> None:
    done = subprocess.run([*CALIB, "emulate", *wrong], capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1


def test_help_is_quick_because_it_loads_nothing() -> None:
    code = "import sys; from cli.main import main; main(['devices', '--help']); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not {"numpy", "numba", "serial"} & {name.partition(".")[0] for name in done.stderr.split()}
