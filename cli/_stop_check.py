"""The selftest's check of `calib stop`: a session of its own beside the robot, and the command that stops it."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from calib.control import ControlClient
from calib.errors import UserError
from calib.journal import open_journal
from calib.registry import RunnerEntry
from devices.device import Rung
from devices.selftest import STOP_S, Check, paced

NAME = "calib stop"
_PATIENCE_S = 600.0  # of a machine that compiles first


def calib_stop(spec: str, rung: Rung, scenario: str) -> Check:
    """The robot drives and is stopped: from the request until its own readings show it still."""
    if rung == "simulator":
        return Check(NAME, None, None, "s", STOP_S, "a simulator has no wheels to wait for")
    with paced(spec) as (address, _), tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        journal = f"sqlite:///{folder}/calib.db"
        environment = os.environ | {"CALIB_RUNTIME_DIR": name, "CALIB_JOURNAL": journal}
        words = ["run", scenario, "--device", address, "--json", "--pace", "wall" if rung == "hardware" else "100"]
        with (folder / "said").open("w+") as said:
            session = subprocess.Popen(
                [sys.executable, "-m", "cli.main", *words],
                env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said,
            )  # fmt: skip
            try:
                entry = _driving(session, folder)
                if entry is None:
                    said.seek(0)
                    why = "the session did not drive: " + " ".join(said.read().split("\n")[-2:]).strip()
                    return Check(NAME, False, None, "s", STOP_S, why)
                command = [sys.executable, "-m", "cli.main", "stop", entry.run, "--json"]
                subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
                session.wait(_PATIENCE_S)
            finally:
                if session.poll() is None:  # its guard stops the robot
                    session.kill()
                    session.wait()
        with open_journal(journal, create=False) as opened:
            stops = [e.body for e in opened.entries(entry.run, ["stop"]) if e.body is not None]
    return _judged(stops)


def _judged(stops: list[dict[str, object]]) -> Check:
    """Of the closing records of the session, of which there has to be one."""
    if [stop["reason"] for stop in stops] != ["stopped"]:
        return Check(NAME, False, None, "s", STOP_S, f"the run ended as {[stop['reason'] for stop in stops]}")
    detail = stops[0]["detail"]
    took_s = detail.get("stop_latency_s") if isinstance(detail, dict) else None
    if took_s is None:
        return Check(NAME, False, None, "s", STOP_S, "no reading showed the robot still")
    return Check(NAME, took_s <= STOP_S, took_s, "s", STOP_S, "until its own readings showed it still")


def _driving(session: "subprocess.Popen[bytes]", folder: Path) -> RunnerEntry | None:
    """The session's entry as soon as its robot drives; None where it ends before."""
    until_s = time.monotonic() + _PATIENCE_S
    client: ControlClient | None = None
    try:
        while session.poll() is None and time.monotonic() < until_s:
            time.sleep(0.05)
            if client is None:
                files = list((folder / "calib").glob("*.json"))
                if files:
                    entry = RunnerEntry(**json.loads(files[0].read_text()))
                    client = ControlClient(entry)
                continue
            status = client.request({"do": "status"})["status"]
            asked = status.get("pending")
            if asked and asked["question"] == "ready":  # who says --move stands beside it
                client.request({"do": "ready", "number": asked["number"]})
            if status["phase"] == "running" and status["progress"]:
                return entry
    except UserError:  # it has ended meanwhile
        session.wait(_PATIENCE_S)
    finally:
        if client is not None:
            client.close()
    return None
