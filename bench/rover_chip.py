"""Trials of the rover's real firmware in simavr, on the chip's own clock: for tests and for `python -m bench.rover`."""

from dataclasses import dataclass

import numpy as np

from bench.rover_native import Spoiler
from firmware_bridge.messages import Status
from firmware_bridge.rover_chip import CYCLES_A_MS, FULL_DUTY, FULL_MM_S, Chip
from firmware_bridge.rover_link import STOP, Link, Telemetry

MOTORS = {"fan": 40, "brush": 30, "side_brush": 60}


class Desk:
    """A chip without a plant and a host that talks to it, both on the chip's clock."""

    def __init__(self, firmware: str = "rover.elf") -> None:
        self.chip = Chip(firmware=firmware)
        self.link = Link()
        self.pass_ms(100)

    @property
    def now_ms(self) -> float:
        return self.chip.cycle / CYCLES_A_MS

    def pass_ms(self, ms: float, data: bytes = b"") -> list[Telemetry]:
        """Say it, let the time go by, hear what came."""
        if data:
            self.chip.send(data)
        self.chip.run(self.chip.cycle + round(ms * CYCLES_A_MS))
        return self.link.feed(self.chip.take(), self.now_ms / 1000)

    def greet(self) -> None:
        """A new session."""
        self.link = Link()
        self.pass_ms(45)
        self.pass_ms(45, self.link.hello())
        assert self.link.fits

    def say(self, name: str, ms: float = 20, **values: int) -> Status | None:
        """A command, and what became of it within that time."""
        number, data = self.link.command(name, self.now_ms / 1000, **values)
        self.pass_ms(ms, data)
        return self.link.results.get(number)

    def arm(self) -> Status | None:
        """Lift whatever holds."""
        assert self.link.telemetry is not None
        return self.say("arm", latch=self.link.telemetry["latch"])

    def drive(self, left: int, right: int, ms: float = 20, **motors: int) -> Status | None:
        """Wheels and motors."""
        return self.say("drive", ms, left_mm_s=left, right_mm_s=right, **{**MOTORS, **motors})


def silence(desk: Desk, rng: np.random.Generator) -> float:
    """Drive at random for a random time, fall silent, perhaps with noise on the line: ms until all motors are off."""
    desk.pass_ms(25)
    assert desk.arm() == Status.DONE
    for _ in range(int(rng.integers(1, 15))):
        left, right = rng.integers(-500, 501, 2)
        desk.drive(int(left), int(right) or 1, ms=float(rng.uniform(5, 120)), fan=int(rng.integers(0, 101)))
    _, data = desk.link.command("beat", desk.now_ms / 1000)
    desk.pass_ms(float(rng.uniform(0, 150)))
    desk.chip.send(data)
    while desk.chip.num_pending:
        desk.pass_ms(0.05)
    heard = desk.chip.heard
    assert desk.chip.moving
    noise = rng.integers(0, 256, 3_000, dtype=np.uint8).tobytes() if rng.random() < 0.5 else b""
    desk.pass_ms(400, noise)
    assert not desk.chip.moving and desk.chip.changed > heard
    return (desk.chip.changed - heard) / CYCLES_A_MS


def silences(times: int, seed: int) -> list[float]:
    """ms from the last valid byte to the last motor's end, of so many silences."""
    desk = Desk()
    desk.greet()
    rng = np.random.default_rng(seed)
    return [silence(desk, rng) for _ in range(times)]


def hang(desk: Desk, after_ms: float) -> tuple[float, bool]:
    """A loop that hangs while it drives: ms until all motors are off, and whether they stayed so for a second.

    For the firmware rover-hangs.elf, where a frame of id 0x7f never returns.
    """
    from firmware_bridge.framing import encode

    desk.greet()
    assert desk.arm() == Status.DONE
    assert desk.drive(300, 300, ms=after_ms) == Status.DONE
    assert desk.chip.moving
    resets = desk.chip.num_resets
    desk.chip.send(encode(0x7F, 0, 0, b""))
    while desk.chip.num_pending:
        desk.pass_ms(0.05)
    heard = desk.chip.heard
    for _ in range(50):
        _, data = desk.link.command("drive", desk.now_ms / 1000, left_mm_s=300, right_mm_s=300, **MOTORS)
        desk.pass_ms(20, data)
    stayed = not desk.chip.moving and desk.chip.num_resets == resets + 1
    return (desk.chip.changed - heard) / CYCLES_A_MS, stayed


@dataclass
class ChipFaults:
    """What came of many frames over a line that is bad both ways. All but `frames` and `obeyed` have to be 0."""

    frames: int = 0
    obeyed: int = 0  # changes of the wheels to another command
    not_sent: int = 0  # wheels that nobody commanded
    twice: int = 0  # back to an older command
    moved_after_stop: int = 0
    deaf: int = 0  # three whole commands in a row without effect


def over_a_bad_line(times: int, seed: int, rate: float = 1e-3) -> ChipFaults:
    """Sessions of drives and stops; the wheels' duties tell which command is obeyed, because no two are alike."""
    found, spoiler, rng = ChipFaults(), Spoiler(seed, rate), np.random.default_rng(seed)
    desk = Desk()
    desk.greet()
    while found.frames < times:
        for _ in range(20):
            if desk.arm() == Status.DONE:
                break
        sent: dict[tuple[int, int], int] = {(0, 0): 0}
        last = missed = 0

        def tell(left: int, right: int, number: int, last: int) -> tuple[int, bool]:
            sent[_duties(left, right)] = number  # noqa: B023
            _, data = desk.link.command("drive", desk.now_ms / 1000, left_mm_s=left, right_mm_s=right, **MOTORS)
            arrived, whole = spoiler.spoil(data)
            desk.chip.send(arrived)
            desk.chip.run(desk.chip.cycle + 20 * CYCLES_A_MS)
            came, _ = spoiler.spoil(desk.chip.take() or b"\0")
            desk.link.feed(came, desk.now_ms / 1000)
            found.frames += 1
            duties = desk.chip.duties()
            obeyed = sent.get((duties.left, duties.right))  # noqa: B023
            if obeyed is None:
                found.not_sent += 1
                return last, whole
            found.twice += 0 < obeyed < last
            found.obeyed += obeyed > last
            return max(obeyed, last), whole

        for number in range(1, int(rng.integers(30, 120))):
            # Unlike duties: the left wheel counts, the right one is any.
            last, whole = tell(100 + 2 * number, int(rng.integers(-500, 501)), number, last)
            missed = missed + 1 if whole and last != number else 0
            found.deaf += missed >= 3
        for _ in range(3):
            desk.pass_ms(5, spoiler.spoil(STOP)[0])
        for number in range(900, 910):
            tell(400, number - 905, number, last)
            found.moved_after_stop += desk.chip.moving
    return found


def _duties(left: int, right: int) -> tuple[int, int]:
    """What a chip without a plant makes of speeds; its encoders stand, and it has no time to wonder."""
    return round(left * FULL_DUTY / FULL_MM_S), round(right * FULL_DUTY / FULL_MM_S)


def stamped_drive(seed: int) -> bytes:
    """Every byte and its cycle of a drive over a bad line, encoders and switches included, as one string."""
    rng, spoiler = np.random.default_rng(seed), Spoiler(seed, 1e-2)
    desk = Desk()
    desk.greet()
    desk.arm()
    out = []
    for turn in range(100):
        _, data = desk.link.command(
            "drive", desk.now_ms / 1000, left_mm_s=int(rng.integers(-500, 501)), right_mm_s=300, **MOTORS
        )
        desk.chip.send(spoiler.spoil(data)[0])
        desk.chip.turn(int(rng.integers(-9, 10)), int(rng.integers(-9, 10)), 5 * CYCLES_A_MS)
        desk.chip.switch(turn % 7 == 3, False, turn % 11 == 5, turn % 5 == 2)
        desk.chip.level(6, int(rng.integers(0, 1024)))
        desk.chip.run(desk.chip.cycle + round(float(rng.uniform(5, 40)) * CYCLES_A_MS))
        came, stamps = desk.chip.take_stamped()
        desk.link.feed(came, desk.now_ms / 1000)
        out.append(came + repr((stamps, desk.chip.duties(), desk.chip.cycle)).encode())
    return b"".join(out)
