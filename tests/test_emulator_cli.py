"""`calib devices list` and `calib devices emulate`: what a user types and what a machine may rely on."""

import json
import signal
import socket
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


def test_robots_under_valetudo_are_listed_with_what_they_say_or_why_not() -> None:
    """Emulators that run, robots by address, one that a run holds; and who looks on stops nobody."""
    import os
    import urllib.request

    from emulators import emulator
    from firmware_bridge import valetudo_rest as rest
    from firmware_bridge.ports import Claim

    with emulator("--tcp", "127.0.0.1:0", "--seed", "7", robot="valetudo") as (address, _), socket.socket() as closed:
        url = address.replace("socket", "http")
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
        start = json.dumps({"action": "start"}).encode()
        headers = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(url + rest.CONTROL, start, headers, method="PUT"), timeout=5)

        def listed(*words: str, **environment: str) -> dict[str, dict[str, str]]:
            command = [*CALIB, "list", "--json", *words]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | environment)
            return {each["address"]: each for each in json.loads(done.stdout)["ports"]}

        for found in (listed("--valetudo", url, "--valetudo", nobody), listed(CALIB_VALETUDO=f"{url}, {nobody}")):
            assert found[url]["kind"] == "valetudo" and found[url]["serial_number"] == "Emulated7"
            assert found[url]["description"] == "Nobody emulated, cleaning, 100 percent"
            assert found[address]["description"].endswith(": Nobody emulated, cleaning, 100 percent")
            assert found[nobody]["description"].startswith("does not answer (")
        claim = Claim(address, os.getpid())
        assert listed("--valetudo", url)[url]["description"] == f"in use by process {os.getpid()}"
        claim.release()
    for wrong in ("192.168.1.7", "http://", "http://robot:none"):
        done = subprocess.run([*CALIB, "list", "--valetudo", wrong], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and "give the address" in done.stderr
