"""An emulated robot over the simulated home in this very process: the driver's line without ports and processes."""

from typing import Any

from devices.device import LinkLost, Rung
from devices.home.plant import Home
from devices.home.types import context_from_json
from devices.neato import Neato
from firmware_bridge import neato_console as console
from firmware_bridge.emulators.neato import Emulator
from firmware_bridge.link_state import CLOSED, Event, step


class InLine:
    """Stands where devices.line.Line stands. The home is in reach, and with it the truth about a run."""

    port, virtual = "here", True
    rung: Rung = "emulator"

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.now_s = 0.0
        self.link = CLOSED
        self.cut = False  # the cable is out
        self.home: Home | None = None
        self.sent: list[tuple[float, bytes]] = []
        self.noise = b""  # comes before the next answer

    @property
    def lost(self) -> str:
        return self.link.reason if self.link.state in ("disconnected", "opening", "lost") else ""

    def step(self, event: Event, why: str = "") -> None:
        self.link = step(self.link, event, why)[0]

    def open(self) -> None:
        self.step("open")
        self.step("opened")

    def identified(self, identity: dict[str, str]) -> dict[str, str]:
        self.step("identified")
        return identity

    def heard(self) -> None:
        self.step("heard")

    def silent(self, silent_s: float) -> None:
        self.step("silent", f"silent for {silent_s:.2f} s")

    def exchange(self, data: bytes, until_s: float, may_move: Any = None) -> bytes:
        if self.lost:
            raise LinkLost(self.lost)
        came = b""
        if data and (may_move is None or may_move()):
            self.sent.append((self.now_s, data))
            came = b"" if self.cut else self.noise + self.emulator.feed(data)
            self.noise = b""
        return came + self.let_go_on(until_s - self.now_s)

    def let_go_on(self, time_s: float) -> bytes:
        """Time, whether anybody is there or not."""
        steps = max(0, round(time_s / 0.015))
        self.now_s += steps * 0.015
        came = b"" if self.home is None else self.emulator.advance(steps * 0.015, self.home)
        return b"" if self.cut else came

    def request(self, kind: str, payload: dict[str, Any]) -> dict[str, Any]:
        if kind == "p":
            self.home = Home(context_from_json(payload["context"]), int(payload["replicate"]))
            self.emulator.lay_out(self.home)
        return self.emulator.state()

    def lose(self, why: str) -> None:
        self.step("failed", why)
        self.stop()
        raise LinkLost(why)

    def stop(self) -> None:
        if not self.cut:
            self.emulator.feed(console.HALT)

    def hang_up(self, why: str) -> None:
        self.step("failed", why)

    def close(self) -> None:
        self.step("closed", "the robot is not open")


def neato_in_line(seed: int = 0) -> tuple[Neato, InLine]:
    """An opened driver and its line."""
    robot, line = Neato("emulator"), InLine(Emulator(seed))
    robot._line = line  # type: ignore[assignment]
    robot.open()
    return robot, line
