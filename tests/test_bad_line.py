"""Lines with faults, and logs of lines: what comes out is what the seed and the log say, and nothing is invented."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulators import emulator
from firmware_bridge import oi, ports
from firmware_bridge.bridge import TRAFFIC
from firmware_bridge.bridge_client import BridgeClient
from firmware_bridge.faults import BANNER, Way, split
from firmware_bridge.traffic import Exchange, Log, read_log
from firmware_bridge.transport import is_virtual, open_transport, split_address

PACKETS = (7, 35, 41, 42, 43, 44)
HELLO = oi.START + oi.SAFE_MODE + oi.stream(PACKETS)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Roomba emulator in virtual time."""
    with emulator("--pty", str(tmp_path_factory.mktemp("line") / "robot"), "--virtual") as (path, _):
        yield path


def through(asked: str, portions: list[bytes]) -> list[bytes]:
    """What comes out at once of portions that are put in one a millisecond, and the rest much later."""
    way = Way(split(f"fault://{asked}/x")[0], 0)
    out = []
    for at, portion in enumerate(portions):
        way.put(portion, at * 1e-3)
        out.append(way.take(at * 1e-3))
    while way.next_s < math.inf:
        out.append(way.take(1e9))
    return out


@given(
    st.lists(st.binary(max_size=40), max_size=30),
    st.sampled_from(
        ["", "delay=0.01", "piece=3", "delay=0.01,piece=1", "stall=0.2,stall_s=0.004", "piece=2,stall=0.5"]
    ),
)
def test_late_and_in_pieces_nothing_is_lost_and_nothing_overtakes(portions: list[bytes], asked: str) -> None:
    assert b"".join(through(asked, portions)) == b"".join(portions)


def test_the_same_seed_spoils_alike_and_as_often_as_it_says() -> None:
    """100,000 bytes: flips and losses within five standard errors of their shares; one bit each."""
    portions = [bytes([k % 256]) * 100 for k in range(1000)]
    assert through("flip=0.01,drop=0.01,seed=3", portions) == through("flip=0.01,drop=0.01,seed=3", portions)
    assert through("flip=0.01,seed=3", portions) != through("flip=0.01,seed=4", portions)
    flipped = [
        a ^ b for a, b in zip(b"".join(through("flip=0.01", portions)), b"".join(portions), strict=True) if a != b
    ]
    assert all(bin(bits).count("1") == 1 for bits in flipped) and len(set(flipped)) == 8
    assert abs(len(flipped) - 1000) < 5 * math.sqrt(990)
    lost = 100_000 - sum(map(len, through("drop=0.01", portions)))
    assert abs(lost - 1000) < 5 * math.sqrt(990)


def test_portions_come_twice_lose_their_end_or_follow_a_banner() -> None:
    portions = [b"abcdefgh"] * 2000
    out = through("duplicate=0.25,cut=0.25,banner=0.25,seed=1", portions)
    text = b"".join(out)
    assert abs(text.count(BANNER) / 2500 - 0.25) < 0.05
    whole = text.replace(BANNER, b"").count(b"abcdefgh")
    assert abs(whole / 2500 - 0.75) < 0.05
    assert 2300 < sum(piece == b"" for piece in out) + text.replace(BANNER, b"").count(b"a") < 2700


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("fault://flip=0.1", "leads to an address"),
        ("fault://flip=2/x", "a share from 0 to 1"),
        ("fault://flip=nan/x", "a share"),
        ("fault://gravity=1/x", "is no fault"),
        ("fault://way=up/x", "to, from or both"),
        ("fault://delay=-1/x", "is a number"),
    ],
)
def test_what_is_no_fault_is_refused_in_one_line(asked: str, said: str) -> None:
    with pytest.raises(ports.LinkDown, match=said) as refused:
        open_transport(asked, os.getpid())
    assert "\n" not in str(refused.value)


def test_an_address_behind_a_bad_line_keeps_its_slashes() -> None:
    assert split_address("fault://drop=0.1//dev/ttyUSB0") == ("fault://drop=0.1/", "/dev/ttyUSB0")
    assert split("fault://drop=0.1,seed=2/socket://host:1")[1] == "socket://host:1"
    assert split_address("/dev/ttyUSB0") == ("", "/dev/ttyUSB0")


def driven(address: str) -> tuple[list[tuple[int, ...]], int]:
    """Frames of 30 s of slow turning behind that address, and the bytes that were none."""
    line, decoder, frames = open_transport(address, os.getpid()), oi.StreamDecoder(PACKETS), []
    try:
        line.write(HELLO)
        for _ in range(500):
            line.write(oi.drive_direct(50, -50))
            line.wait_until(line.now_s + 0.06)
            frames += decoder.feed(line.read())
        line.write(oi.HALT)
    finally:
        line.close()
    return frames, decoder.num_garbage


def test_a_robot_behind_a_bad_line_still_speaks(address: str) -> None:
    """Two bytes in a thousand are spoilt: of 2,000 frames of 25 bytes about 100 are lost, the stream is found again."""
    frames, garbage = driven(f"fault://flip=0.001,drop=0.001,way=from,seed=5/{address}")
    assert 1850 < len(frames) < 1990 and garbage > 0
    assert is_virtual(f"fault://flip=0.001/{address}")


def test_a_cut_line_is_down(address: str) -> None:
    line = open_transport(f"fault://disconnect_s=0.5/{address}", os.getpid())
    try:
        line.write(HELLO)
        with pytest.raises(ports.LinkDown, match="cut"):
            for _ in range(100):
                line.wait_until(line.now_s + 0.015)
    finally:
        line.close()


# --- logs -------------------------------------------------------------------------------------------------------------


def session(address: str, speed: int = 100) -> list[bytes]:
    """What a guard answers in a second of driving, and what its emulator says."""
    client = BridgeClient(address, oi.HALT, 0.0)
    try:
        came = [client.exchange(HELLO, 0.0, False)]
        for _ in range(16):
            came.append(client.exchange(oi.drive_direct(speed, speed), client.now_s + 0.06, True))
        state = client.request("s", {})
        came.append(json.dumps(state, sort_keys=True).encode() + str(client.now_s).encode())
    finally:
        client.close()
    return came


@pytest.fixture
def logged(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[bytes]]:
    """The log of a session, and what came in it."""
    monkeypatch.setenv(TRAFFIC, str(tmp_path / "logs"))
    came = session(address)
    monkeypatch.delenv(TRAFFIC)
    (path,) = (tmp_path / "logs").iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}-\d{3}-\d+\.traffic", path.name)
    return path, came


def test_a_log_replays_to_the_same_driver_and_to_no_other(logged: tuple[Path, list[bytes]]) -> None:
    path, came = logged
    assert sum(map(len, came)) > 1000
    assert session(f"replay://{path}") == came
    with pytest.raises(ports.LinkDown, match=r"record 2 differs: the log has x 91 .*, now it is x 91"):
        session(f"replay://{path}", speed=101)
    about, records = read_log(path)
    kinds = b"".join(record.kind for record in records)
    assert kinds == b"x" * 17 + b"r" + b"h" * 3, "and the guard's own stop"
    assert about["virtual"] is True


def test_a_log_ends_where_it_ends(logged: tuple[Path, list[bytes]]) -> None:
    path, _ = logged
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ports.LinkDown, match="the log ends before record"):
        session(f"replay://{path}")
    path.write_bytes(b"not a log\n")
    with pytest.raises(ports.LinkDown, match="no traffic log"):
        session(f"replay://{path}")
    path.unlink()
    with pytest.raises(ports.LinkDown, match="does not replay: No such file"):
        session(f"replay://{path}")


def test_the_log_of_a_guard_that_was_killed_is_whole(address: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv(TRAFFIC, str(tmp_path))
    client = BridgeClient(address, oi.HALT, 0.0)
    came = [client.exchange(HELLO, client.now_s + 0.06, False) for _ in range(5)]
    client.process.send_signal(signal.SIGKILL)
    client.process.wait()
    client.close()
    (path,) = tmp_path.iterdir()
    assert [record.answered for record in read_log(path)[1]] == came


def test_a_wire_is_written_down_while_a_client_speaks_over_it(tmp_path: Path) -> None:
    """Between a paced robot and a client of its own; what was carried stands in the log, which does not replay."""
    log = tmp_path / "wire.traffic"
    with emulator("--tcp", "127.0.0.1:0") as (robot, _):
        command = [sys.executable, "-m", "cli.main", "devices", "record", robot, "--out", str(log)]
        command += ["--tcp", "127.0.0.1:0", "--json"]
        wire = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert wire.stdout and wire.stderr
        said = wire.stderr.readline()
        line = open_transport(said.partition("connect to ")[2].partition(";")[0], os.getpid())
        line.write(HELLO)
        came = b""
        while len(came) < 250:
            line.wait_until(line.now_s + 0.05)
            came += line.read()
        again = subprocess.run(command, capture_output=True, text=True)
        wire.send_signal(signal.SIGTERM)
        carried = json.loads(wire.communicate()[0])
        line.close()
    assert wire.returncode == 0
    assert again.returncode == 2 and "is there already" in again.stderr
    read = [*command[:5], str(log), "--read", "--json"]
    records = json.loads(subprocess.run(read, capture_output=True, check=True).stdout)["records"]
    assert b"".join(bytes.fromhex(r["asked"]) for r in records) == HELLO
    there_and_back = b"".join(bytes.fromhex(r["answered"]) for r in records)
    assert there_and_back.startswith(came) and carried["from_robot"] == len(there_and_back)
    with pytest.raises(ports.LinkDown, match="a driver replays a guard's log"):
        open_transport(f"replay://{log}", os.getpid())


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20)), min_size=1, max_size=6), st.data())
def test_a_torn_or_spoilt_log_is_read_up_to_there(
    tmp_path_factory: pytest.TempPathFactory, said: list[tuple[bytes, bytes]], data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("torn") / "log"
    log, ends = Log(path, {"now_s": 0.0}), []
    for asked, answered in said:
        log.add(b"x", 1.5, asked, answered)
        ends.append(path.stat().st_size)
    log.close()
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    at = data.draw(st.integers(first, len(whole)))
    path.write_bytes(whole[:at])
    read = list(read_log(path)[1])
    assert read == [Exchange(b"x", 1.5, *pair) for pair, end in zip(said, ends, strict=True) if end <= at]
    if at < len(whole):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        assert list(read_log(path)[1])[: len(read)] == read
        assert len(list(read_log(path)[1])) < len(said)
