"""A Neato Botvac D5 as its USB console shows it: lines in, replies out, over any Plant.

Pure: bytes and time in, bytes out, no clock and no port of its own. Lines, labels and moves come from `neato_console`.
Nothing here stops the robot when the host falls silent: a move is driven to its end, a cleaning goes on. Quirks of the
robot that clients have to live with are kept: `SetMotor 0 0 0` is ignored, VacuumSpeed alone fails, TestMode Off
ends a normal cleaning, Clean Stop pauses once and ends twice.

Not emulated: the way home to the dock, maps, no-go lines, and what the cloud does. House and spot cleaning drive a
plain programme of lanes and a spiral, not Neato's own.
"""

import math
from collections.abc import Callable
from typing import Any

from firmware_bridge import neato_console as console
from firmware_bridge import oi
from firmware_bridge.plant import Actuators, Plant, Sensors
from firmware_bridge.programme import Programme

STEP_US = 15_000
STEP_S = STEP_US / 1e6
SIDE_BRUSH = 60  # percent of full duty while it is on
VACUUM = {"eco": 40, "normal": 70, "intense": 100}  # percent in a cleaning of its own
# Speed, mm/s, and distance of lanes, mm, in a cleaning of its own.
NAVIGATION = {"Normal": (300, 170), "Gentle": (180, 170), "Deep": (300, 85), "Quick": (350, 230)}
_VACUUM_RPM = 30  # a percent of vacuum
_IDLE = Actuators(0, 0, 0, 0, 0)
_NO_PLANT = Sensors(False, False, False, False, 0, 0, 0, 16_000, 0, 2_600, 2_600, 25, False)
_WHEEL_FLAGS = ("LWheelEnable", "LWheelDisable", "RWheelEnable", "RWheelDisable")
_MOTOR_FLAGS = ("Brush", "BrushEnable", "BrushDisable", "VacuumOn", "VacuumOff")
_SIDE_FLAGS = ("SideBrushEnable", "SideBrushDisable", "SideBrushOn", "SideBrushOff")
_FLAGS = (*_WHEEL_FLAGS, *_MOTOR_FLAGS, *_SIDE_FLAGS)
_PARAMETERS = ("LWheelDist", "RWheelDist", "Speed", "Accel", "RPM", "VacuumSpeed", "SideBrushPower")
_SETTINGS = {"EcoMode": "Eco Mode", "IntenseClean": "IntenseClean", "ClickSounds": "ClickSounds", "LED": "LED"}
_SETTINGS |= {"BinFullDetect": "Bin Full Detect", "WiFi": "WiFi", "Wall": "Wall Enable"}
_SETTINGS |= {"MelodySounds": "Melody Sounds", "WarningSounds": "Warning Sounds"}
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
_NO_ECHO_MM = 6000  # beyond that the laser sees nothing
_TOO_NEAR_MM = 150


class Emulator:
    """One robot in standby. `feed` it the host's bytes, `advance` it in steps of 15 ms; both return its bytes."""

    name = "neato"
    step_us = STEP_US

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.test_mode = False
        self.cleaning = ""  # "", "House" or "Spot"
        self.paused = False
        self.laser = False
        self.navigation = "Normal"
        self.user = dict.fromkeys(_SETTINGS, "ON") | {"EcoMode": "OFF", "IntenseClean": "OFF", "WiFi": "OFF"}
        self.leds: dict[str, str] = {}
        self.sensors = _NO_PLANT
        self.actuators = _IDLE  # what the motors do now
        # What a test or a person may do to the robot, see `fault`.
        self.wheel_drop = 0
        self.error = self.alert = ""
        self.bin_out = self.usb_refuses = self.mute = self.off = False
        self._noise = b""
        self._reader = console.LineReader()
        self._plant: Plant | None = None
        self._resting = True
        self._enabled = (True, True)
        self._move: console.Move | None = None
        self._moved_s = 0.0
        self._speeds = (0.0, 0.0)  # of the wheels in the last step, mm/s, for GetMotors
        self._carry = (0.0, 0.0)
        self._duties = (0, 0, 0)  # vacuum, brush, side brush in TestMode, percent
        self._base_mm = (0.0, 0.0)
        self._programme: Programme | None = None
        self._clock_s = 0.0  # of the scheduler, since Sunday 0:00

    # --- the world ----------------------------------------------------------------------------------------------------

    def lay_out(self, plant: Plant) -> None:
        """Put the robot into another world. The session goes on: modes, settings and wheel positions stay."""
        left, right = self._positions()
        self.sensors = plant.advance(0.0, _IDLE)
        self._plant, self._resting = plant, True
        self._base_mm = (0.0, 0.0)
        now = self._positions()
        # In whole mm, as they are told: a run does not depend on where the last one ended.
        self._base_mm = (float(round(left - now[0])), float(round(right - now[1])))

    def fault(self, changes: dict[str, Any]) -> None:
        """What a person or a bad line does to a robot.

        wheel_drop (bits: 1 right, 2 left), error and alert (`234 - Please clean my brush`, "" for none), bin_out,
        usb_refuses (no cleaning of its own while a USB host is there), mute (it hears but says nothing), noise
        (hexadecimal, comes before the next reply), wake. KeyError for another name.
        """
        for name, value in changes.items():
            if name == "noise":
                self._noise += bytes.fromhex(value)
            elif name == "wake":
                self.off = False
            elif name in ("wheel_drop", "error", "alert", "bin_out", "usb_refuses", "mute"):
                setattr(self, name, value)
            else:
                raise KeyError(name)
        if self.error or self.wheel_drop:
            self._stop()

    def state(self) -> dict[str, Any]:
        """What the robot does, told by itself; for tests and for people, never part of the console."""
        return {
            "test_mode": self.test_mode,
            "cleaning": self.cleaning,
            "paused": self.paused,
            "navigation": self.navigation,
            "user": dict(self.user),
            "actuators": list(self.actuators),
            "positions_mm": list(self._positions()),
            "sensors": [int(each) for each in self.sensors],
        }

    def advance(self, dt_s: float, plant: Plant) -> bytes:
        """Move on by dt_s, a multiple of 15 ms. The robot never speaks first, so that only noise comes."""
        if plant is not self._plant:
            self.lay_out(plant)
        for _ in range(round(dt_s / STEP_S)):
            self._step(plant)
        out, self._noise = self._noise, b""
        return b"" if self.mute or self.off else out

    def _step(self, plant: Plant) -> None:
        self._clock_s += STEP_S
        left_mm, right_mm = self._steer()
        self._speeds = (left_mm / STEP_S, right_mm / STEP_S)
        # The plant takes whole mm/s of wheels on another track: what rounding leaves is driven in the next step.
        wanted = console.on_track(*self._speeds, console.TRACK_MM, oi.WHEEL_BASE_MM)
        if left_mm or right_mm:
            exact = (wanted[0] + self._carry[0], wanted[1] + self._carry[1])
            wheels = (round(exact[0]), round(exact[1]))
            self._carry = (exact[0] - wheels[0], exact[1] - wheels[1])
        else:
            wheels, self._carry = (0, 0), (0.0, 0.0)
        self.actuators = Actuators(*wheels, *self._motors())
        # As in the other emulators: a world begins to run with the robot's first motion in it.
        if self._resting and self.actuators != _IDLE:
            self._resting = False
        if not self._resting:
            self.sensors = plant.advance(STEP_S, self.actuators)

    def _steer(self) -> tuple[float, float]:
        """How far each wheel turns in this step, mm."""
        if self.cleaning:
            if self.paused or self._programme is None:
                return 0.0, 0.0
            s = self.sensors
            left, right, done = self._programme.steer(
                STEP_S, s.bump_left, s.bump_right, s.cliff, *self._positions(), self.wheel_drop != 0
            )
            if done or s.charge_mah <= 0.1 * s.capacity_mah:
                self.cleaning, self._programme = "", None
                return 0.0, 0.0
            return left * STEP_S, right * STEP_S
        move = self._move
        if move is None:
            return 0.0, 0.0
        # Both wheels end together; a wheel that was held up does not make up for it.
        dt_s = min(STEP_S, move.lasts_s - self._moved_s)
        self._moved_s += dt_s
        if self._moved_s >= move.lasts_s - 1e-9:
            self._move = None
        share = dt_s / move.lasts_s
        left_on, right_on = self._enabled
        return move.left_mm * share * left_on, move.right_mm * share * right_on

    def _motors(self) -> tuple[int, int, int]:
        """Vacuum, main brush and side brush, percent."""
        if not self.cleaning:
            return self._duties
        if self.paused:
            return 0, 0, 0
        level = "eco" if self.user["EcoMode"] == "ON" else "intense" if self.user["IntenseClean"] == "ON" else "normal"
        return VACUUM[level], 100, SIDE_BRUSH

    def _stop(self) -> None:
        """All motors off, whatever they did."""
        self._move, self._duties, self.cleaning, self.paused, self._programme = None, (0, 0, 0), "", False, None
        self.actuators, self._speeds = _IDLE, (0.0, 0.0)

    def _positions(self) -> tuple[float, float]:
        """What the wheel encoders say, mm since power-up."""
        s = self.sensors
        plain = s.left_counts * oi.MM_PER_COUNT, s.right_counts * oi.MM_PER_COUNT
        left, right = console.on_track(*plain, oi.WHEEL_BASE_MM, console.TRACK_MM)
        return left + self._base_mm[0], right + self._base_mm[1]

    # --- the host's lines ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Obey, and answer. Any bytes in any chunks."""
        lines = self._reader.feed(data)
        if self.off:
            return b""
        out = b"".join([self._obey(line) for line in lines])
        if out:
            out, self._noise = self._noise + out, b""
        return b"" if self.mute else out

    def _obey(self, line: str) -> bytes:
        words = line.split()
        said = self._answer(words) if words else []
        return "".join(f"{each}\r\n" for each in [line, *said]).encode("ascii", "replace") + bytes((console.END,))

    def _answer(self, words: list[str]) -> list[str]:
        names = console.spelled_out(words[0], console.COMMANDS)
        if len(names) != 1:
            return [f"{'Ambiguous' if names else 'Unknown'} Cmd: '{words[0]}'"]
        if names[0] in console.TEST_MODE_ONLY and not self.test_mode:
            return ["TestMode must be on to use this command."]
        return _ACTIONS[names[0]](self, words[1:])

    def _help(self, words: list[str]) -> list[str]:
        if not words:
            return ["Help Strlen = 600", *(f"{name} - {text}" for name, text in console.COMMANDS.items())]
        names = console.spelled_out(words[0], console.COMMANDS)
        return [f"{names[0]} - {console.COMMANDS[names[0]]}"] if len(names) == 1 else [f"Unknown Cmd: '{words[0]}'"]

    def _clean(self, words: list[str]) -> list[str]:
        names = console.spelled_out(words[0] if words else "House", ("House", "Spot", "Stop"))
        if len(names) != 1:
            return [f"Invalid Clean option: '{words[0]}'"]
        if names[0] == "Stop":
            if self.cleaning and not self.paused:
                self.paused = True
            else:
                self.cleaning, self.paused, self._programme = "", False, None
            return []
        if self.usb_refuses:
            self.error = "220 - (UI_ERROR_USB_CONNECTED)"
        if self.test_mode or self.error or self.wheel_drop or self.bin_out:
            return ["Cannot start cleaning."]
        if not (self.cleaning and self.paused):  # a paused one goes on
            self.cleaning = names[0]
            speed, lane = NAVIGATION[self.navigation]
            self._programme = Programme(self.cleaning == "Spot", speed, lane, console.TRACK_MM, self._positions())
        self.paused = False
        return []

    def _test_mode(self, words: list[str]) -> list[str]:
        names = console.spelled_out(words[0], ("On", "Off")) if words else []
        if len(names) != 1:
            return ["TestMode requires On or Off"]
        # Either way what runs is ended, a normal cleaning too.
        self._stop()
        self.test_mode, self._enabled, self.laser = names[0] == "On", (True, True), False
        return []

    def _set_motor(self, words: list[str]) -> list[str]:
        given = _arguments(words)
        if isinstance(given, str):
            return [given]
        flags, values = given
        wheels = bool({"LWheelDist", "RWheelDist"} & values.keys())
        vacuum, brush, side = self._duties
        if "Brush" in flags and (wheels or flags & {"VacuumOn", "VacuumOff"}):
            return ["Brush is mutually exclusive with wheels and vacuum."]
        if "VacuumSpeed" in values and "VacuumOn" not in flags:
            return ["VacuumSpeed requires VacuumOn."]
        if not 1 <= values.get("VacuumSpeed", 1) <= 100:
            return ["VacuumSpeed must be 1-100."]
        left_on, right_on = self._enabled
        left_on = "LWheelDisable" not in flags and ("LWheelEnable" in flags or left_on)
        right_on = "RWheelDisable" not in flags and ("RWheelEnable" in flags or right_on)
        self._enabled = (left_on, right_on)
        if not (left_on or right_on):
            self._move = None
        if "Brush" in flags:
            brush = max(0, min(100, round(100 * values.get("RPM", console.FULL_BRUSH_RPM) / console.FULL_BRUSH_RPM)))
        if "BrushDisable" in flags:
            brush = 0
        if "VacuumOn" in flags:
            vacuum = values.get("VacuumSpeed", VACUUM["normal"])
        if "VacuumOff" in flags:
            vacuum = 0
        if "SideBrushOn" in flags:
            side = SIDE_BRUSH
        if flags & {"SideBrushOff", "SideBrushDisable"}:
            side = 0
        self._duties = (vacuum, brush, side)
        if wheels and not self._begin(values):
            return ["Speed must be greater than 0."]
        self.actuators = Actuators(*(self.actuators[:2] if self._move else (0, 0)), *self._duties)
        return []

    def _begin(self, values: dict[str, int]) -> bool:
        """A wheel move in the place of the one under way. Two distances of 0 change nothing at all."""
        left, right, speed = values.get("LWheelDist", 0), values.get("RWheelDist", 0), values.get("Speed", 0)
        if left or right:
            if speed <= 0:
                return False
            if not self.wheel_drop:
                self._move, self._moved_s = console.Move(left, right, speed), 0.0
        return True

    def _set_laser(self, words: list[str]) -> list[str]:
        names = console.spelled_out(words[0], ("On", "Off")) if words else []
        if len(names) != 1:
            return ["SetLDSRotation requires On or Off"]
        self.laser = names[0] == "On"
        return []

    def _set_led(self, words: list[str]) -> list[str]:
        self.leds.update(dict.fromkeys(words, "ON"))
        return []

    def _set_system_mode(self, words: list[str]) -> list[str]:
        names = console.spelled_out(words[0], ("Shutdown", "Hibernate", "Standby")) if words else []
        if len(names) != 1:
            return ["SetSystemMode requires Shutdown, Hibernate or Standby"]
        self._stop()
        self.off = names[0] != "Standby"
        return []

    def _set_navigation(self, words: list[str]) -> list[str]:
        names = console.spelled_out(words[0], console.NAVIGATION_MODES) if words else []
        if len(names) != 1:
            return ["Unknown navigation mode"]
        self.navigation = names[0]
        return []

    def _set_user(self, words: list[str]) -> list[str]:
        names = console.spelled_out(words[0], _SETTINGS) if words else []
        if len(names) != 1:
            return [f"Unknown setting: '{words[0] if words else ''}'"]
        values = console.spelled_out(words[1], ("ON", "OFF")) if len(words) > 1 else []
        if len(values) != 1:
            return ["Value must be ON or OFF"]
        self.user[names[0]] = values[0]
        if values[0] == "ON" and names[0] in ("EcoMode", "IntenseClean"):  # one of them at most
            self.user["IntenseClean" if names[0] == "EcoMode" else "EcoMode"] = "OFF"
        return []

    def _set_time(self, words: list[str]) -> list[str]:
        values: dict[str, int] = {}
        for name, value in zip(words[::2], words[1::2], strict=False):
            found = console.spelled_out(name, ("Day", "Hour", "Min", "Sec"))
            if len(found) != 1 or not value.isdecimal():
                return ["SetTime requires Day 0-6, Hour 0-23, Min 0-59"]
            values[found[0]] = int(value)
        day, hour = values.get("Day", 0) % 7, values.get("Hour", 0) % 24
        self._clock_s = ((day * 24 + hour) * 60 + values.get("Min", 0) % 60) * 60.0 + values.get("Sec", 0) % 60
        return []

    # --- tables -------------------------------------------------------------------------------------------------------

    def _get_time(self, words: list[str]) -> list[str]:
        second = int(self._clock_s)
        clock = f"{second // 3600 % 24}:{second // 60 % 60:02}:{second % 60:02}"
        return [f"{_DAYS[second // 86_400 % 7]} {clock}"]

    def _get_version(self, words: list[str]) -> list[str]:
        return [
            "Component,Major,Minor,Build,Aux",
            "BaseID,0.0,0.0,0,0,",
            "BlowerType,1,BLOWER_ORIG,",
            f"BrushSpeed,{console.FULL_BRUSH_RPM},,",
            "ChassisRev,1,,",
            "LDS Software,V2.7.4,0000000000,",
            "MainBoard Version,4,,",
            "Model,BotVacD5Connected,905-0415,",
            f"Serial Number,EMU{self.seed:05},000000{self.seed:06x},P",
            "SideBrushType,1,SIDE_BRUSH_PRESENT,",
            "Software,4,5,3,189,0",
            f"VacuumPwr,{VACUUM['normal']},,",
        ]

    def _get_charger(self, words: list[str]) -> list[str]:
        s = self.sensors
        fuel = round(100 * s.charge_mah / s.capacity_mah)
        return [
            "Label,Value",
            f"FuelPercent,{fuel}",
            "BatteryOverTemp,0",
            f"ChargingActive,{int(s.docked and fuel < 100)}",
            f"ChargingEnabled,{int(s.docked)}",
            "ConfidentOnFuel,1",
            f"OnReservedFuel,{int(fuel < 15)}",
            f"EmptyFuel,{int(fuel < 5)}",
            "BatteryFailure,0",
            f"ExtPwrPresent,{int(s.docked)}",
            "ThermistorPresent,1",
            f"BattTempCAvg,{s.temperature_c}",
            f"VBattV,{s.voltage_mv / 1000:.2f}",
            f"VExtV,{20.98 if s.docked else 0.0:.2f}",
            "Charger_mAH,0",
            f"Discharge_mAH,{s.capacity_mah - s.charge_mah}",
        ]

    def _get_analog(self, words: list[str]) -> list[str]:
        s = self.sensors
        vacuum, _, side = self.actuators[2:]
        drop_mm = 250 if s.cliff else 60
        values = (
            ("BatteryVoltage", "mV", s.voltage_mv),
            ("BatteryCurrent", "mA", -s.current_ma),
            ("BatteryTemperature", "mC", 1000 * s.temperature_c),
            ("ExternalVoltage", "mV", 20_980 if s.docked else 0),
            ("AccelerometerX", "mG", 39),
            ("AccelerometerY", "mG", -20),
            ("AccelerometerZ", "mG", 950),
            ("VacuumCurrent", "mA", round(13 * vacuum)),
            ("SideBrushCurrent", "mA", side),
            ("MagSensorLeft", "VAL", 0),
            ("MagSensorRight", "VAL", 0),
            ("WallSensor", "mm", 30 if s.wall else 250),
            ("DropSensorLeft", "mm", drop_mm),
            ("DropSensorRight", "mm", drop_mm),
        )
        return ["SensorName,Unit,Value", *(f"{name},{unit},{value}," for name, unit, value in values)]

    def _get_digital(self, words: list[str]) -> list[str]:
        s = self.sensors
        values = (
            ("SNSR_DC_JACK_IS_IN", s.docked),
            ("SNSR_DUSTBIN_IS_IN", not self.bin_out),
            ("SNSR_LEFT_WHEEL_EXTENDED", self.wheel_drop & 2),
            ("SNSR_RIGHT_WHEEL_EXTENDED", self.wheel_drop & 1),
            ("LSIDEBIT", s.bump_left and not s.bump_right),
            ("LFRONTBIT", s.bump_left),
            ("LLDSBIT", 0),
            ("RSIDEBIT", s.bump_right and not s.bump_left),
            ("RFRONTBIT", s.bump_right),
            ("RLDSBIT", 0),
        )
        return ["Digital Sensor Name, Value", *(f"{name},{int(bool(value))}" for name, value in values)]

    def _get_motors(self, words: list[str]) -> list[str]:
        vacuum, brush, side = self.actuators[2:]
        left, right = self._positions()
        rows = ["Parameter,Value", f"Brush_RPM,{console.FULL_BRUSH_RPM * brush // 100}", f"Brush_mA,{3 * brush}"]
        rows += [f"Vacuum_RPM,{_VACUUM_RPM * vacuum}", f"Vacuum_mA,{13 * vacuum}"]
        for side_name, position, speed in (("Left", left, self._speeds[0]), ("Right", right, self._speeds[1])):
            rows += [
                f"{side_name}Wheel_RPM,{round(speed * 60 / (math.pi * 72))}",
                f"{side_name}Wheel_Load%,{round(abs(speed) / 10)}",
                f"{side_name}Wheel_PositionInMM,{round(position)}",
                f"{side_name}Wheel_Speed,{round(speed)}",
            ]
        return [*rows, f"ROTATION_SPEED,{self._laser_turns_s():.2f}", f"SideBrush_mA,{side}"]

    def _get_accel(self, words: list[str]) -> list[str]:
        # A sensor at rest on a level floor: not calibrated, so neither 0 nor 1 g.
        values = (
            "PitchInDegrees,-2.33",
            "RollInDegrees,-1.20",
            "XInG,0.039",
            "YInG,-0.020",
            "ZInG,0.950",
            "SumInG,0.951",
        )
        return ["Label,Value", *values]

    def _get_buttons(self, words: list[str]) -> list[str]:
        return ["Button Name,Pressed", "BTN_SOFT_KEY,0", "BTN_SCROLL_UP,0", "BTN_START,0", "BTN_BACK,0", "BTN_SPOT,0"]

    def _get_err(self, words: list[str]) -> list[str]:
        if words and console.spelled_out(words[0], ("Clear",)):
            self.error = self.alert = ""
            return []
        empty = "200 -  (UI_ALERT_INVALID)"
        return ["Error", self.error or empty, "Alert", self.alert or empty, "USB state ", " NOT connected"]

    def _get_state(self, words: list[str]) -> list[str]:
        if self.cleaning:
            screen = f"{self.cleaning.upper()}CLEANING{'PAUSED' if self.paused else 'RUNNING'}"
            robot = "Standby" if self.paused else f"{self.cleaning}Cleaning"
        else:
            screen, robot = ("TESTMODE", "TestMode") if self.test_mode else ("STANDBY", "Standby")
        return [f"Current UI State is: UIMGR_STATE_{screen}", f"Current Robot State is: ST_C_{robot}"]

    def _get_user(self, words: list[str]) -> list[str]:
        rows = ["Language, EL_NONE "]
        rows += [f"{label}, {self.user[name]} " for name, label in _SETTINGS.items()]
        return [*rows, "Filter Change Time (seconds), 43200 ", "Schedule is Disabled"]

    def _laser_turns_s(self) -> float:
        return 5.0 if self.laser or (self.cleaning and not self.paused) else 0.0

    def _get_scan(self, words: list[str]) -> list[str]:
        ranges = self._plant.scan(360) if self._plant is not None and self._laser_turns_s() else [math.inf] * 360
        rows = ["AngleInDegrees,DistInMM,Intensity,ErrorCodeHEX"]
        for angle, distance_m in enumerate(ranges):
            # A hundredth of noise, different from ray to ray and from look to look, the same for the same look.
            grain = (self.seed * 31 + angle * 17 + self.sensors.left_counts * 7 + self.sensors.right_counts) % 21 - 10
            mm = round(1000 * distance_m * (1 + grain / 2000)) if distance_m < math.inf else 0
            if _TOO_NEAR_MM <= mm <= _NO_ECHO_MM:
                rows.append(f"{angle},{mm},{max(8, 200_000 // mm + grain)},0")
            else:
                rows.append(f"{angle},0,0,8035")
        return [*rows, f"ROTATION_SPEED,{self._laser_turns_s():.2f}"]

    def _nothing(self, words: list[str]) -> list[str]:
        return []


def _arguments(words: list[str]) -> tuple[set[str], dict[str, int]] | str:
    """Flags and parameters of a SetMotor line, spelled out; plain numbers are left, right, speed. Or what is wrong."""
    flags: set[str] = set()
    values: dict[str, int] = {}
    plain = ["LWheelDist", "RWheelDist", "Speed", "Accel"]
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word.removeprefix("-").isdecimal():
            if not plain:
                return f"Invalid argument: '{word}'"
            values[plain.pop(0)] = int(word)
            continue
        names = console.spelled_out(word, (*_FLAGS, *_PARAMETERS))
        if len(names) != 1:
            return f"Invalid argument: '{word}'"
        if names[0] in _FLAGS:
            flags.add(names[0])
        elif at < len(words) and words[at].removeprefix("-").isdecimal():
            values[names[0]] = int(words[at])
            at += 1
        else:
            return f"Missing value for '{names[0]}'"
    return flags, values


_ACTIONS: dict[str, Callable[[Emulator, list[str]], list[str]]] = {
    "Help": Emulator._help,
    "Clean": Emulator._clean,
    "GetAccel": Emulator._get_accel,
    "GetAnalogSensors": Emulator._get_analog,
    "GetButtons": Emulator._get_buttons,
    "GetCharger": Emulator._get_charger,
    "GetDigitalSensors": Emulator._get_digital,
    "GetErr": Emulator._get_err,
    "GetLDSScan": Emulator._get_scan,
    "GetMotors": Emulator._get_motors,
    "GetState": Emulator._get_state,
    "GetTime": Emulator._get_time,
    "GetUserSettings": Emulator._get_user,
    "GetVersion": Emulator._get_version,
    "PlaySound": Emulator._nothing,
    "SetLDSRotation": Emulator._set_laser,
    "SetLED": Emulator._set_led,
    "SetMotor": Emulator._set_motor,
    "SetNavigationMode": Emulator._set_navigation,
    "SetSystemMode": Emulator._set_system_mode,
    "SetTime": Emulator._set_time,
    "SetUserSettings": Emulator._set_user,
    "TestMode": Emulator._test_mode,
}
