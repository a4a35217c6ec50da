"""The line to a robot without a dead man: a port held by a guard process, or an emulator of our own in virtual time."""

import contextlib
import json
import subprocess
from collections.abc import Callable
from typing import Any, NoReturn

from devices.device import LinkLost, Refused, Rung, how_another, known_by
from devices.home.types import Context, context_to_json
from firmware_bridge import ports
from firmware_bridge.bridge_client import HEARTBEAT_S, BridgeClient, Tap, reap, spawn
from firmware_bridge.link_state import CLOSED, Event, step
from firmware_bridge.transport import is_virtual, split_address


class Line:
    """Bytes to and from one robot. LinkLost from any call once the line is dead, until it is opened again."""

    def __init__(
        self,
        robot: str,
        address: str,
        halt: bytes,
        tap: Tap | None,
        heartbeat_s: float | None,
        list_usb: Callable[[], list[ports.UsbPort]] = ports.usb_ports,
    ) -> None:
        """`emulator` starts one of our own, behind a bad line where fault:// stands before; a path, usb:SERIAL or an
        URL is a port.

        halt: the robot's stop bytes.
        """
        self._before, port = split_address(address)
        self._own = port == "emulator"
        self.port = "" if self._own else address
        self.rung: Rung = "emulator" if self._own or is_virtual(address) or ports.emulator_at(port) else "hardware"
        self.virtual = False
        self.link = CLOSED
        self._list_usb = list_usb
        self._usb = ""  # the serial number of the plug that was opened
        self._known: dict[str, str] = {}  # who has answered there
        self._robot = robot
        self._address = address
        self._halt = halt
        self._tap = tap
        self._heartbeat_s = heartbeat_s
        self._emulator: subprocess.Popen[bytes] | None = None
        self._client: BridgeClient | None = None

    @property
    def lost(self) -> str:
        """Why nothing goes over the line; empty while something does."""
        return self.link.reason if self.link.state in ("disconnected", "opening", "lost") else ""

    def _step(self, event: Event, why: str) -> None:
        self.link, effects = step(self.link, event, why)
        if "stop" in effects:
            self.stop()

    def open(self) -> None:
        """Connect: the handshake is the driver's. Refused where somebody else holds the port, LinkLost where nobody is
        there."""
        self._let_go()
        self._step("open", f"a guard claims {self._address}")
        try:
            self._open()
        except (LinkLost, Refused) as problem:
            self._step("failed", str(problem))
            raise
        self._step("opened", f"the port is open, {self._robot} is asked who it is")

    def _open(self) -> None:
        if self._own:
            self._start_emulator()
        usb = self._find_plug()
        self.virtual = is_virtual(self.port)
        self.rung = "emulator" if self.virtual or ports.emulator_at(split_address(self.port)[1]) else "hardware"
        heartbeat_s = self._heartbeat_s
        if heartbeat_s is None:
            heartbeat_s = 0.0 if self.virtual else HEARTBEAT_S
        try:
            self._client = BridgeClient(self.port, self._halt, heartbeat_s, self._tap)
        except ports.PortBusy as problem:
            raise Refused(str(problem)) from None
        except ports.LinkDown as problem:
            raise LinkLost(str(problem)) from None
        self._usb = usb

    def _find_plug(self) -> str:
        """The plug's serial number, "" where it tells none. One that was open before is looked for wherever it is
        now: /dev/ttyUSB0 may come back as /dev/ttyUSB1, and be another robot's by then."""
        before, port = split_address(self._address)
        if self._own or not port.startswith(("/", ports.USB)):
            return ""
        found = self._list_usb()
        wanted = port.removeprefix(ports.USB) if port.startswith(ports.USB) else self._usb
        if not wanted or ports.usb_serial_number(port, found) == wanted:
            return ports.usb_serial_number(port, found)
        try:
            self.port = before + ports.usb_path(wanted, found)
        except ports.LinkDown as problem:
            raise LinkLost(str(problem)) from None
        return wanted

    def identified(self, identity: dict[str, str]) -> dict[str, str]:
        """The robot has said who it is. Refused where it is not the one that answered when this was opened first."""
        if self._usb:
            identity = {**identity, "usb serial number": self._usb}
        known = known_by(identity)
        if how := how_another(self._known, known):
            why = f"{self.port}: another robot answers, {how}: put the first one back, or begin a new run"
            self.hang_up(why)
            raise Refused(why)
        self._known = known | self._known
        self._step("identified", f"{identity['robot']} answers")
        return identity

    def heard(self) -> None:
        """Something valid came."""
        self._step("heard", "it is heard again")

    def silent(self, silent_s: float) -> None:
        """Nothing has come for so long; what that means for a robot that moves is the driver's."""
        self._step("silent", f"{self.port} has been silent for {silent_s:.1f} s")

    def greeted(self) -> None:
        """The driver asks once more who is there."""
        self._step("greeted", f"{self._robot} is asked who it is")

    def restarted(self, why: str) -> None:
        """The robot began anew since it was greeted: it is stopped, and what it was told before is void."""
        self._step("restarted", why)

    def _start_emulator(self) -> None:
        if self._emulator is None:
            args = (self._robot, "--virtual", "--owned", "--json")
            self._emulator = spawn("devices.emulate", *args, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._emulator.stdout is not None
            line = self._emulator.stdout.readline()
            if not line:
                self._end_emulator()
                raise LinkLost(f"the emulator did not start: try python -m devices.emulate {self._robot} --virtual")
            self.port = self._before + json.loads(line)["address"]
        elif self._emulator.poll() is not None:
            # One that died is a pulled cable: only a deliberate close makes room for a new one.
            raise LinkLost("the emulator has ended: close the robot and open it again")

    def _held(self) -> BridgeClient:
        if self.lost or self._client is None:
            raise LinkLost(f"{self._address}: {self.lost or 'the robot is not open'}")
        return self._client

    @property
    def now_s(self) -> float:
        """The robot's clock as of the last exchange."""
        if self._client is None:
            raise LinkLost(f"{self._address}: {self.lost}")
        return self._client.now_s

    def exchange(self, data: bytes, until_s: float, may_move: Callable[[], bool] | None = None) -> bytes:
        """Write, let the clock go on until until_s, return what came. may_move: it moves, and is asked under the lock
        that orders this against `stop`; without it the session may fall silent afterwards."""
        try:
            return self._held().exchange(data, until_s, may_move is not None, may_move)
        except ports.LinkDown as problem:
            self.lose(str(problem))

    def request(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Ask an emulator in virtual time something beside the line."""
        try:
            return self._held().request(kind, payload)
        except ports.LinkDown as problem:
            self.lose(str(problem))

    def lose(self, why: str) -> NoReturn:
        """The line is dead. The guard, if it still holds the port, stops the robot."""
        self._step("failed", why)
        raise LinkLost(why)

    def wake(self) -> None:
        """Pulse the wake-up line, where there is one. Never raises."""
        if self._client is not None:
            with contextlib.suppress(ports.LinkDown):
                self._client.wake()

    def stop(self) -> None:
        """The guard writes the stop bytes at once. From any thread, never raises."""
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.stop()

    def hang_up(self, why: str) -> None:
        """Nobody fit for this answers: let go of the port. Our own emulator stays."""
        self._step("failed", why)
        self._let_go()

    def close(self) -> None:
        """Let go of the port and end our own emulator. Idempotent, never raises."""
        self._let_go()
        self._step("closed", CLOSED.reason)
        self._usb, self._known = "", {}
        self._end_emulator()

    def _let_go(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _end_emulator(self) -> None:
        if self._emulator is not None:
            for pipe in (self._emulator.stdin, self._emulator.stdout):
                if pipe is not None:
                    pipe.close()
            reap(self._emulator)
            self._emulator = None


def checked(robot: str, address: str | None, example: str) -> str:
    """An address that a robot on a line can have, as it is. ValueError, in one line, for anything else."""
    if address is None or not (address == "emulator" or address.startswith(("/", ports.USB)) or "://" in address):
        raise ValueError(
            f"a {robot} is at emulator, {example}, usb:SERIAL or socket://host:port, not at {address!r}: "
            f"say {robot}:emulator"
        )
    return address


def prepared(robot: str, context: Context | None, stopped: bool) -> Context:
    """The context that a start is for. Refused where nothing is prepared, or was stopped since."""
    if context is None:
        raise Refused(f"{robot}: nothing prepared; call prepare before each start")
    if stopped:
        raise Refused(f"{robot}: was stopped after it was prepared; prepare it again before a start")
    return context


def lay_out(line: Line, context: Context, replicate: int) -> None:
    """Put an emulator in virtual time into this home; a real one is the operator's."""
    if line.virtual:
        line.request("p", {"context": context_to_json(context), "replicate": replicate})
