"""A robot under Valetudo as its REST shows it: HTTP in, HTTP out, over any Plant.

Pure: bytes and time in, bytes out. It cleans by itself, in lanes until nothing new comes under it, and goes on when the
host falls silent, as such robots do. Presets and capabilities are those of a middling robot; `fault` takes some away.

Not emulated: maps, the way to the dock (`home` stands ten seconds, then is docked), mopping beyond its names, events.
"""

import math
from typing import Any

from firmware_bridge import oi
from firmware_bridge import valetudo_rest as rest
from firmware_bridge.plant import Actuators, Plant, Sensors
from firmware_bridge.programme import Programme

STEP_US = 15_000
STEP_S = STEP_US / 1e6
BRUSH, SIDE_BRUSH = 90, 60  # percent while it cleans
SPEED_MM_S, LANE_MM = 300.0, 170.0
_IDLE = Actuators(0, 0, 0, 0, 0)
_NO_PLANT = Sensors(False, False, False, False, 0, 0, 0, 16_000, 0, 2_600, 2_600, 25, False)
_HOMING_S = 10.0
_LOOK_EVERY = 8  # steps between two looks at what lies under it
_CELL_M = 0.05
_REACH_M = 0.13  # to each side
_NOTHING_NEW_S, _NEW_M2 = 60.0, 0.2  # it is done after so long without so much
PRESETS = {
    rest.FAN: ("fan_speed", ["low", "medium", "high", "max"]),
    rest.WATER: ("water_grade", ["off", "low", "medium", "high"]),
    rest.MODE: ("operation_mode", ["vacuum", "mop", "vacuum_and_mop"]),
}
_OTHERS = ["BasicControlCapability", rest.SEGMENTS, rest.STATISTICS]
_BUSY = ("cleaning", "returning", "moving", "manual_control")


class Emulator:
    """One robot that stands idle. `feed` it the host's bytes, `advance` it in steps of 15 ms."""

    name = "valetudo"
    step_us = STEP_US

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.status = "idle"
        self.presets = {rest.FAN: "medium", rest.WATER: "low", rest.MODE: "vacuum"}
        self.sensors = _NO_PLANT
        self.actuators = _IDLE
        self.error = ""
        self.without: tuple[str, ...] = ()  # capabilities that this robot has not
        self.deaf = False  # it takes a preset and keeps its own, as some firmware does
        self._server = rest.Server()
        self._plant: Plant | None = None
        self._resting = True
        self._programme: Programme | None = None
        self._left = 0  # iterations still to come
        self._elapsed_s = self._new_s = self._homing_s = 0.0
        self._seen: set[tuple[int, int]] = set()
        self._num_new = 0
        self._pose = (0.0, 0.0, 0.0)
        self._counts = (0, 0)
        self._steps = 0

    def lay_out(self, plant: Plant) -> None:
        """Put the robot into another world; presets stay."""
        self._plant, self._resting = plant, True
        self.sensors = plant.advance(0.0, _IDLE)
        self._stop("idle")
        self._seen, self._pose, self._elapsed_s, self._steps = set(), (0.0, 0.0, 0.0), 0.0, 0
        self._counts = (self.sensors.left_counts, self.sensors.right_counts)

    def fault(self, changes: dict[str, Any]) -> None:
        """error (text, "" for none), without (capabilities), deaf (presets do not take). KeyError for another name."""
        for name, value in changes.items():
            if name == "wake":
                continue
            if name not in ("error", "without", "deaf"):
                raise KeyError(name)
            setattr(self, name, tuple(value) if name == "without" else value)
        if self.error:
            self._stop("error")

    def state(self) -> dict[str, Any]:
        """What the robot does, told by itself; for tests and for people, never part of the API."""
        return {
            "status": self.status,
            "actuators": list(self.actuators),
            "presets": dict(self.presets),
            "sensors": [int(each) for each in self.sensors],
        }

    def advance(self, dt_s: float, plant: Plant) -> bytes:
        """Move on by dt_s, a multiple of 15 ms. It never speaks first."""
        if plant is not self._plant:
            self.lay_out(plant)
        for _ in range(round(dt_s / STEP_S)):
            self._step(plant)
        return b""

    def feed(self, data: bytes) -> bytes:
        """Obey, and answer. Any bytes in any chunks."""
        return self._server.feed(data, self._answer)

    # --- the robot ----------------------------------------------------------------------------------------------------

    def _step(self, plant: Plant) -> None:
        wheels = (0, 0)
        if self.status == "returning":
            self._homing_s += STEP_S
            if self._homing_s >= _HOMING_S:
                self._stop("docked")
        elif self.status == "cleaning" and self._programme is not None:
            self._elapsed_s += STEP_S
            s = self.sensors
            left, right, done = self._programme.steer(
                STEP_S, s.bump_left, s.bump_right, s.cliff, *self._positions(), False
            )
            wheels = (round(left), round(right))
            if done or self._elapsed_s - self._new_s > _NOTHING_NEW_S or s.charge_mah <= 0.1 * s.capacity_mah:
                wheels = (0, 0)
                self._left -= 1
                if self._left > 0:
                    self._begin()
                else:
                    self._stop("idle")
        cleaning = self.status == "cleaning"
        fan = rest.FAN_PERCENT[self.presets[rest.FAN]] if cleaning and self.presets[rest.MODE] != "mop" else 0
        self.actuators = Actuators(*wheels, fan, BRUSH, SIDE_BRUSH) if cleaning else _IDLE
        # As in the other emulators: a world begins to run with the robot's first motion in it.
        if self._resting and self.actuators != _IDLE:
            self._resting = False
        if not self._resting:
            self.sensors = plant.advance(STEP_S, self.actuators)
        if cleaning:
            self._steps += 1
            if self._steps % _LOOK_EVERY == 0:
                self._look()

    def _begin(self) -> None:
        """One way through the house."""
        self._programme = Programme(False, SPEED_MM_S, LANE_MM, oi.WHEEL_BASE_MM, self._positions())
        self._new_s, self._num_new = self._elapsed_s, 0
        self._fresh: set[tuple[int, int]] = set()

    def _look(self) -> None:
        """What lies under it now, by its own reckoning."""
        left, right = self.sensors.left_counts, self.sensors.right_counts
        ways = ((left - self._counts[0]) * oi.MM_PER_COUNT, (right - self._counts[1]) * oi.MM_PER_COUNT)
        self._counts = (left, right)
        x, y, heading = self._pose
        turn, way = (ways[1] - ways[0]) / oi.WHEEL_BASE_MM, (ways[0] + ways[1]) / 2e3
        x, y = x + way * math.cos(heading + turn / 2), y + way * math.sin(heading + turn / 2)
        self._pose = (x, y, heading + turn)
        across = (-math.sin(heading + turn), math.cos(heading + turn))
        before = len(self._fresh)
        num = int(_REACH_M / _CELL_M * 2) + 1
        for k in range(-num, num + 1):
            at = k / num * _REACH_M
            cell = (math.floor((x + at * across[0]) / _CELL_M), math.floor((y + at * across[1]) / _CELL_M))
            self._fresh.add(cell)
            self._seen.add(cell)
        self._num_new += len(self._fresh) - before
        if self._num_new * _CELL_M**2 >= _NEW_M2:
            self._new_s, self._num_new = self._elapsed_s, 0

    def _stop(self, status: str) -> None:
        self.status, self._programme, self._left, self.actuators = status, None, 0, _IDLE

    def _positions(self) -> tuple[float, float]:
        s = self.sensors
        return s.left_counts * oi.MM_PER_COUNT, s.right_counts * oi.MM_PER_COUNT

    # --- the API ------------------------------------------------------------------------------------------------------

    def _answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        path = path.partition("?")[0]
        asked = method, path
        if asked == ("GET", f"{rest.API}/robot"):
            return 200, {"manufacturer": "Nobody", "modelName": "emulated", "implementation": "EmulatedValetudoRobot"}
        if asked == ("GET", f"{rest.API}/valetudo"):
            return 200, {"embedded": True, "systemId": f"Emulated{self.seed}"}
        if asked == ("GET", f"{rest.API}/valetudo/version"):
            return 200, {"release": "2026.02.0", "commit": "emulated"}
        if asked == ("GET", rest.CAPABILITIES):
            return 200, self._capabilities()
        if asked == ("GET", rest.ATTRIBUTES):
            return 200, self._attributes()
        capability, _, rest_of = path.removeprefix(rest.CAPABILITIES + "/").partition("/")
        if not path.startswith(rest.CAPABILITIES + "/") or capability not in self._capabilities():
            return 404, {"message": "Not Found"}
        if capability in PRESETS:
            return self._preset(method, capability, rest_of, body)
        if capability == rest.SEGMENTS:
            return self._segments(method, rest_of, body)
        if capability == rest.STATISTICS and method == "GET":
            area = round(len(self._seen) * (_CELL_M * 100) ** 2)
            return 200, [{"type": "time", "value": round(self._elapsed_s)}, {"type": "area", "value": area}]
        if capability == "BasicControlCapability" and method == "PUT":
            return self._control(body)
        return 404, {"message": "Not Found"}

    def _capabilities(self) -> list[str]:
        return [name for name in [*_OTHERS, *PRESETS] if name not in self.without]

    def _attributes(self) -> list[dict[str, Any]]:
        s = self.sensors
        flag = {"error": "none"}.get(self.status, "none")
        out: list[dict[str, Any]] = [
            {"__class": "StatusStateAttribute", "metaData": {}, "value": self.status, "flag": flag},
            {
                "__class": "BatteryStateAttribute",
                "metaData": {},
                "level": round(100 * s.charge_mah / s.capacity_mah),
                "flag": "charging" if self.status == "docked" else "discharging",
            },
        ]
        if self.error:
            out[0]["metaData"] = {"error_description": self.error}
        for capability, (kind, _) in PRESETS.items():
            if capability not in self.without:
                value = self.presets[capability]
                out.append({"__class": "PresetSelectionStateAttribute", "metaData": {}, "type": kind, "value": value})
        return out

    def _preset(self, method: str, capability: str, what: str, body: Any) -> tuple[int, Any]:
        names = PRESETS[capability][1]
        if (method, what) == ("GET", "presets"):
            return 200, names
        if (method, what) != ("PUT", "preset"):
            return 404, {"message": "Not Found"}
        name = body.get("name") if isinstance(body, dict) else None
        if name not in names:
            return 400, {"message": f"Invalid name {name!r}"}
        if not self.deaf:
            self.presets[capability] = name
        return 200, "OK"

    def _segments(self, method: str, what: str, body: Any) -> tuple[int, Any]:
        if (method, what) == ("GET", ""):
            return 200, [{"id": "1", "name": "all that it knows", "metaData": {}}]
        if (method, what) == ("GET", "properties"):
            return 200, {"iterationCount": {"min": 1, "max": 3}, "customOrderSupport": False}
        if (method, what) != ("PUT", ""):
            return 404, {"message": "Not Found"}
        body = body if isinstance(body, dict) else {}
        if body.get("action") != "start_segment_action" or body.get("segment_ids") != ["1"]:
            return 400, {"message": "Invalid action or segment_ids"}
        iterations = body.get("iterations", 1)
        if not isinstance(iterations, int) or not 1 <= iterations <= 3:
            return 400, {"message": "Invalid iterations"}
        return self._start(iterations)

    def _control(self, body: Any) -> tuple[int, Any]:
        action = body.get("action") if isinstance(body, dict) else None
        if action == "start":
            if self.status == "paused":
                self.status = "cleaning"
                return 200, "OK"
            return self._start(1)
        if action == "stop":
            if self.status in (*_BUSY, "paused"):
                self._stop("idle")
        elif action == "pause":
            if self.status in _BUSY:
                self.status, self.actuators = "paused", _IDLE
        elif action == "home":
            self._stop("returning")
            self._homing_s = 0.0
        else:
            return 400, {"message": f"Invalid action {action!r}"}
        return 200, "OK"

    def _start(self, iterations: int) -> tuple[int, Any]:
        if self.error:
            return 500, {"message": self.error}
        self.status, self._left, self._elapsed_s, self._seen = "cleaning", iterations, 0.0, set()
        self._begin()
        return 200, "OK"
