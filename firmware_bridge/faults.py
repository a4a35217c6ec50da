"""A bad line between any driver and any robot: bytes lost, flipped, doubled, late, in pieces, and text among them.

`fault://flip=0.001,seed=7/ADDRESS` is the robot at ADDRESS behind such a line. The same seed does the same to the same
bytes in the same portions; each direction has a stream of its own. What can be asked for:

drop, flip        share of the bytes that are lost, or have one bit turned
duplicate, cut    share of the portions (what one write or read carries) that come twice, or lose their end
banner            share of the portions before which a line of text is put, as a boot loader or a low battery does
delay             seconds by which a portion may come late at most, evenly spread; the order is kept
piece             bytes that come together at most
stall             share of the portions that are held back for `stall_s` (1), with all that follows
disconnect_s      seconds after which the line is gone
way               `to` the robot or `from` it; both when not said
"""

import math
from collections import deque
from typing import Any

import numpy as np

from firmware_bridge.transport import FAULT

BANNER = b"\r\nbl-start\r\nSTR730\r\nbootloader id: #x47175347 4C636FFF\r\n"  # as a Roomba says on waking
_SHARES = ("drop", "flip", "duplicate", "cut", "banner", "stall")
_AMOUNTS = ("delay", "piece", "stall_s", "disconnect_s", "seed")


def split(address: str) -> tuple[dict[str, Any], str]:
    """What a fault:// address asks for, and the address behind it. ValueError in one line."""
    asked, _, behind = address.removeprefix(FAULT).partition("/")
    if not behind:
        raise ValueError(f"{address}: a line with faults leads to an address: fault://flip=0.001,seed=7/ADDRESS")
    plan: dict[str, Any] = {"seed": 0, "stall_s": 1.0, "way": "both"}
    for word in filter(None, asked.split(",")):
        name, _, value = word.partition("=")
        if name == "way":
            if value not in ("to", "from", "both"):
                raise ValueError(f'{address}: way is to, from or both, not "{value}"')
            plan[name] = value
            continue
        if name not in _SHARES + _AMOUNTS:
            raise ValueError(f'{address}: "{name}" is no fault; choose {", ".join((*_SHARES, *_AMOUNTS, "way"))}')
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf or (name in _SHARES and number > 1):
            raise ValueError(
                f'{address}: {name} is a {"share from 0 to 1" if name in _SHARES else "number"}, not "{value}"'
            )
        plan[name] = int(number) if name in ("seed", "piece") else number
    # An absolute path begins with a slash of its own: fault://drop=0.01//dev/ttyUSB0
    return plan, behind


class Way:
    """One direction: portions in, portions out, each when it is due."""

    def __init__(self, plan: dict[str, Any], number: int) -> None:
        self._rng = np.random.default_rng([int(plan["seed"]), number])
        self._plan = plan
        self._due: deque[tuple[float, bytes]] = deque()
        self._latest_s = -math.inf  # nothing overtakes
        self._stalled_s = -math.inf

    def put(self, data: bytes, now_s: float) -> None:
        """A portion that is on its way from now on."""
        rng, plan = self._rng, self._plan
        if not data:
            return
        if rng.random() < plan.get("stall", 0):
            self._stalled_s = now_s + plan["stall_s"]
        copies = 2 if rng.random() < plan.get("duplicate", 0) else 1
        if rng.random() < plan.get("cut", 0):
            data = data[: int(rng.integers(len(data)))]
        if rng.random() < plan.get("banner", 0):
            data = BANNER + data
        for _ in range(copies):
            late = now_s + rng.uniform(0, plan["delay"]) if plan.get("delay") else now_s
            self._latest_s = max(self._latest_s, late, self._stalled_s)
            spoilt = self._spoilt(data)
            step = plan.get("piece") or max(len(spoilt), 1)
            self._due.extend((self._latest_s, spoilt[at : at + step]) for at in range(0, len(spoilt), step))

    def take(self, now_s: float) -> bytes:
        """The next portion that is due, or nothing; one piece at a time where they are small."""
        if not self._due or self._due[0][0] > now_s:
            return b""
        if self._plan.get("piece"):
            return self._due.popleft()[1]
        out = bytearray()
        while self._due and self._due[0][0] <= now_s:
            out += self._due.popleft()[1]
        return bytes(out)

    @property
    def next_s(self) -> float:
        """When something is due; infinity where nothing waits."""
        return self._due[0][0] if self._due else math.inf

    def _spoilt(self, data: bytes) -> bytes:
        rng, plan = self._rng, self._plan
        values = np.frombuffer(data, np.uint8).copy()
        if share := plan.get("flip", 0):
            turned = rng.random(len(values)) < share
            values[turned] ^= (1 << rng.integers(8, size=int(turned.sum()))).astype(np.uint8)
        if share := plan.get("drop", 0):
            values = values[rng.random(len(values)) >= share]
        return values.tobytes()
