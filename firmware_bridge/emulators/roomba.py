"""A Roomba (Create 2, 500 to 800 series) as its serial port shows it: the Open Interface's bytes over any Plant.

Pure: bytes and time in, bytes out, no clock and no port of its own. Tables and framing come from `oi`; behaviour from
the "iRobot Create 2 Open Interface (OI) Specification". Nothing here stops the robot when the host falls silent,
because nothing in a Roomba does: the last drive command persists for ever.

Cleaning of its own (clean, spot, max) and seeking the dock drive a plain programme of lanes and a spiral, not iRobot's.
How distance and angle are wrong in firmware before 3.3 is not known: here they are halved.

Not emulated: sounds, the dock's infrared, and the seconds that a reset takes.
"""

import math
import struct
from collections.abc import Callable
from typing import Any

from firmware_bridge import oi
from firmware_bridge.plant import Actuators, Plant, Sensors
from firmware_bridge.programme import Programme

STEP_US = 15_000
SLEEP_STEPS = 20_000  # five minutes in passive mode without a byte from the host
BANNER = (
    b"bl-start\r\nSTR730\r\nbootloader id: #x47175347 4C636FFF\r\nbootloader info rev: #xF000\r\n"
    b"bootloader rev: #x0001\r\n2007-05-14-1715-L   \r\nRoomba by iRobot!\r\nstr730\r\n2012-03-22-1549-L   \r\n"
    b"battery-current-zero 252\r\n\r\n"
)
# Of its own: speed, mm/s; duties of fan, brush and side brush; how long it lasts, s.
PROGRAMMES = {"clean": (300, (100, 100, 60), 2700.0), "max": (300, (100, 100, 60), math.inf)}
PROGRAMMES |= {"spot": (300, (100, 100, 60), 600.0), "seek dock": (55, (0, 0, 0), 3600.0)}
_LOW_CHARGE = 0.1  # ends a cleaning
_IDLE = Actuators(0, 0, 0, 0, 0)
_NO_PLANT = Sensors(False, False, False, False, 0, 0, 0, 16_000, 0, 2_600, 2_600, 25, False)


class Emulator:
    """One robot, off and awake. `feed` it the host's bytes, `advance` it in steps of 15 ms; both return its bytes."""

    name = "roomba"
    step_us = STEP_US

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.mode = oi.OFF
        self.asleep = False
        self.requested = (0, 0, 0, 0)  # packets 39-42: velocity, radius, right, left as last commanded
        self.actuators = _IDLE  # what the motors do now
        self.sensors = _NO_PLANT
        self.stream: oi.StreamLayout | None = None
        self.streaming = False
        self.songs: dict[int, bytes] = {}
        self.playing = 0
        self.shown: dict[str, bytes] = {}  # LEDs, displays, schedule and clock as last set
        self.baud_code = 11
        self.num_rejected = 0  # commands that the mode or their data forbid
        self.cleaning = ""  # what it does of its own: clean, spot, max, seek dock
        self._programme: Programme | None = None
        # What a test or a person may do to the robot, see `fault`.
        self.firmware = "3.8"
        self.wheel_drop = 0
        self.buttons = 0
        self.overcurrents = 0
        self.mode_byte: int | None = None
        self.mute = False
        self._noise = b""
        self._parser = oi.CommandParser()
        self._plant: Plant | None = None
        self._resting = True
        self._rest_ma = 0
        self._encoder_base = (0, 0)
        self._distance_mm = 0.0
        self._angle_deg = 0.0
        self._quiet_steps = 0
        self._song_s = 0.0
        self._buttons_s = 0.0

    # --- the world ----------------------------------------------------------------------------------------------------

    def lay_out(self, plant: Plant) -> None:
        """Put the robot into another world. The session goes on: mode, stream and encoder registers stay."""
        left, right = self._encoders()
        self.sensors = plant.advance(0.0, _IDLE)
        self._rest_ma = self.sensors.current_ma
        self._encoder_base = (left - self.sensors.left_counts, right - self.sensors.right_counts)
        self._plant = plant
        self._resting = True
        self._distance_mm = self._angle_deg = 0.0

    def fault(self, changes: dict[str, Any]) -> None:
        """What a person or a bad line does to a robot.

        wheel_drop (0-3), buttons and overcurrents (bits as in packets 18 and 14), mode_byte (None: the true one), mute
        (it hears but sends nothing), noise (hexadecimal, comes before the next frame), wake, asleep (also what a line
        looks like after long docking), firmware ("3.2": distance and angle are wrong). KeyError for another name.
        """
        for name, value in changes.items():
            if name == "noise":
                self._noise += bytes.fromhex(value)
            elif name == "wake":
                self.asleep = False
            elif name in ("wheel_drop", "buttons", "overcurrents", "mode_byte", "mute", "asleep", "firmware"):
                setattr(self, name, value)
            else:
                raise KeyError(name)

    def state(self) -> dict[str, Any]:
        """What the robot does, told by itself; for tests and for people, never part of the interface."""
        return {
            "mode": self.mode,
            "asleep": self.asleep,
            "cleaning": self.cleaning,
            "requested": list(self.requested),
            "actuators": list(self.actuators),
            "sensors": [int(each) for each in self.sensors],
            "num_unknown": self._parser.num_unknown,
            "num_rejected": self.num_rejected,
        }

    def advance(self, dt_s: float, plant: Plant) -> bytes:
        """Move on by dt_s, a multiple of 15 ms, and return what the stream sent."""
        if plant is not self._plant:
            self.lay_out(plant)
        return b"".join([self._step(plant) for _ in range(round(dt_s * 1e6 / STEP_US))])

    def _step(self, plant: Plant) -> bytes:
        if self._programme is not None:
            self._clean_on(self._programme)
        before, actuators = self.sensors, self.actuators
        # A world begins to run with the robot's first motion in it: while the person thinks nothing drains or drifts,
        # so that a run in an emulator takes the same steps as one in the simulator.
        if self._resting and actuators != _IDLE:
            self._resting = False
        if not self._resting:
            now = self.sensors = plant.advance(oi.STREAM_STEP_S, actuators)
            left = (now.left_counts - before.left_counts) * oi.MM_PER_COUNT
            right = (now.right_counts - before.right_counts) * oi.MM_PER_COUNT
            right_share = 0.5 if _is_before(self.firmware, 3, 3) else 1.0
            self._distance_mm += right_share * (left + right) / 2
            self._angle_deg += right_share * math.degrees((right - left) / oi.WHEEL_BASE_MM)
        if self.mode == oi.SAFE and (
            self.wheel_drop
            or self.sensors.docked
            or (self.sensors.cliff and actuators.left_mm_s + actuators.right_mm_s > 0)
        ):
            self._set_mode(oi.PASSIVE)
        self._count_down()
        out, self._noise = self._noise, b""
        if self.streaming and self.stream is not None and self.mode != oi.OFF and not self.asleep:
            out += self._frame(self.stream)
        return b"" if self.mute else out

    def _clean_on(self, programme: Programme) -> None:
        """One step of a cleaning of its own, or its end."""
        s = self.sensors
        mm = (s.left_counts * oi.MM_PER_COUNT, s.right_counts * oi.MM_PER_COUNT)
        left, right, done = programme.steer(
            oi.STREAM_STEP_S, s.bump_left, s.bump_right, s.cliff, *mm, self.wheel_drop != 0
        )
        low = self.cleaning != "seek dock" and s.charge_mah < _LOW_CHARGE * s.capacity_mah
        if done or low or s.docked:
            self._end_cleaning()
        else:
            self.actuators = Actuators(round(left), round(right), *PROGRAMMES[self.cleaning][1])

    def _end_cleaning(self) -> None:
        self.cleaning, self._programme, self.actuators = "", None, _IDLE

    def _begin_cleaning(self, what: str) -> bytes:
        """As the robot's own button: a cleaning under way is ended instead."""
        begun = not self.cleaning and not self.wheel_drop
        self._end_cleaning()
        if begun:
            speed, _, lasts_s = PROGRAMMES[what]
            s = self.sensors
            mm = (s.left_counts * oi.MM_PER_COUNT, s.right_counts * oi.MM_PER_COUNT)
            self.cleaning = what
            self._programme = Programme(what == "spot", speed, 170, oi.WHEEL_BASE_MM, mm, lasts_s)
        return b""

    def _count_down(self) -> None:
        self._song_s = max(0.0, self._song_s - oi.STREAM_STEP_S)
        if self._buttons_s > 0:
            self._buttons_s -= oi.STREAM_STEP_S
            if self._buttons_s <= 0:
                self.buttons = 0
        self._quiet_steps = self._quiet_steps + 1 if self.mode == oi.PASSIVE and not self.cleaning else 0
        if self._quiet_steps >= SLEEP_STEPS:
            self._set_mode(oi.OFF)
            self.asleep = True

    # --- the host's bytes ---------------------------------------------------------------------------------------------

    def feed(self, data: bytes) -> bytes:
        """Obey, and return the answers to queries. Any bytes in any chunks; asleep, the robot hears nothing."""
        if self.asleep:
            return b""
        if data:
            self._quiet_steps = 0
        out = b"".join([self._obey(opcode, args) for opcode, args in self._parser.feed(data)])
        return b"" if self.mute else out

    def _obey(self, opcode: oi.Opcode, data: bytes) -> bytes:
        if self.mode not in opcode.modes:
            self.num_rejected += 1
            return b""
        act = _ACTIONS.get(opcode.code)
        out = act(self, data) if act else b""
        if opcode.mode_after is not None and not (self.cleaning and opcode.mode_after == self.mode == oi.PASSIVE):
            self._set_mode(opcode.mode_after)
        return out

    def _set_mode(self, mode: int) -> None:
        """Off and passive let go of the motors; safe and full take over, and end a cleaning of its own."""
        self.mode = mode
        self._quiet_steps = 0
        if self.cleaning and mode != oi.PASSIVE:
            self._end_cleaning()
        if mode in (oi.OFF, oi.PASSIVE):
            if not self.cleaning:
                self.actuators = _IDLE
            self.requested = (0, 0, 0, 0)
        if mode == oi.OFF:
            self.streaming = False

    def _reset(self, data: bytes) -> bytes:
        self._set_mode(oi.OFF)
        self.stream, self.songs, self.shown, self.baud_code = None, {}, {}, 11
        self._distance_mm = self._angle_deg = self._song_s = 0.0
        return BANNER

    def _baud(self, data: bytes) -> bytes:
        if data[0] <= 11:
            self.baud_code = data[0]
        else:
            self.num_rejected += 1
        return b""

    def _drive(self, data: bytes) -> bytes:
        velocity, radius = struct.unpack(">hh", data)
        velocity, turn = _clip(velocity, 500), _clip(radius, 2000)
        if radius in (-32768, 32767):
            right = left = velocity
        elif radius in (-1, 1):
            right, left = velocity * radius, -velocity * radius
        elif radius == 0:  # not in the specification: straight, as the robot takes it
            right = left = velocity
        else:
            share = oi.WHEEL_BASE_MM / 2 / turn
            right = _clip(round(velocity * (1 + share)), 500)
            left = _clip(round(velocity * (1 - share)), 500)
        self.requested = (velocity, radius, 0, 0)
        return self._wheels(left, right)

    def _drive_direct(self, data: bytes) -> bytes:
        right, left = struct.unpack(">hh", data)
        right, left = _clip(right, oi.MAX_WHEEL_MM_S), _clip(left, oi.MAX_WHEEL_MM_S)
        self.requested = (0, 0, right, left)
        return self._wheels(left, right)

    def _drive_pwm(self, data: bytes) -> bytes:
        right, left = (round(_clip(each, 255) * oi.MAX_WHEEL_MM_S / 255) for each in struct.unpack(">hh", data))
        self.requested = (0, 0, 0, 0)
        return self._wheels(left, right)

    def _wheels(self, left: int, right: int) -> bytes:
        self.actuators = self.actuators._replace(left_mm_s=left, right_mm_s=right)
        return b""

    def _motors(self, data: bytes) -> bytes:
        bits = data[0]
        side, vacuum, main = (100 if bits & bit else 0 for bit in (1, 2, 4))
        self.actuators = self.actuators._replace(fan=vacuum, brush=main, side_brush=side)
        return b""

    def _pwm_motors(self, data: bytes) -> bytes:
        main, side, vacuum = struct.unpack(">bbB", data)
        # The plant's brushes know no direction; -128 is a full turn backwards like -127.
        main, side = (min(100, abs(oi.percent_of(each))) for each in (main, side))
        fan = oi.percent_of(min(vacuum, 127))
        self.actuators = self.actuators._replace(fan=fan, brush=main, side_brush=side)
        return b""

    def _song(self, data: bytes) -> bytes:
        if data[0] <= 4 and 1 <= data[1] <= 16:
            self.songs[data[0]] = data[2:]
        else:
            self.num_rejected += 1
        return b""

    def _play(self, data: bytes) -> bytes:
        if data[0] in self.songs and self._song_s == 0.0:
            self.playing = data[0]
            self._song_s = sum(self.songs[data[0]][1::2]) / 64  # note lengths are in 1/64 s
        else:
            self.num_rejected += 1
        return b""

    def _query(self, data: bytes) -> bytes:
        return self._values([data[0]])

    def _query_list(self, data: bytes) -> bytes:
        return self._values(data[1:])

    def _values(self, packets: list[int] | bytes) -> bytes:
        """Bare values, one after another. Nothing at all is sent for an id that the table does not know."""
        out = b""
        for packet in packets:
            try:
                flat = oi.members(packet)
            except KeyError:
                self.num_rejected += 1
                continue
            out += struct.pack(">" + "".join(oi.PACKETS[each] for each in flat), *[self._read(each) for each in flat])
        return out

    def _set_stream(self, data: bytes) -> bytes:
        packets = tuple(data[1:])
        known = all(packet in oi.PACKETS or packet in oi.GROUPS for packet in packets)
        if known and packets and 3 + sum(1 + oi.packet_size(each) for each in packets) <= oi.MAX_STREAM_BYTES:
            self.stream, self.streaming = oi.StreamLayout(packets), True
        else:
            # An empty list ends the stream; an unknown id or too many bytes for 15 ms are not obeyed.
            self.streaming = self.streaming and bool(packets)
            self.num_rejected += bool(packets)
        return b""

    def _resume(self, data: bytes) -> bytes:
        self.streaming = bool(data[0]) and self.stream is not None
        return b""

    def _power_down(self, data: bytes) -> bytes:
        self._end_cleaning()
        return b""

    def _press(self, data: bytes) -> bytes:
        self.buttons, self._buttons_s = data[0], 1 / 6  # released by itself after a sixth of a second
        return b""

    # --- packets ------------------------------------------------------------------------------------------------------

    def _frame(self, layout: oi.StreamLayout) -> bytes:
        return layout.encode([_READERS[packet](self) for packet in layout.flat])

    def _read(self, packet: int) -> int:
        return _READERS[packet](self)

    def _encoders(self) -> tuple[int, int]:
        """Cumulative counts since power-up, before the wrap to 16 bits."""
        base = self._encoder_base
        return base[0] + self.sensors.left_counts, base[1] + self.sensors.right_counts

    def _take_distance(self) -> int:
        whole = _clip(int(self._distance_mm), 32767)
        self._distance_mm -= whole
        return whole

    def _take_angle(self) -> int:
        whole = _clip(int(self._angle_deg), 32767)
        self._angle_deg -= whole
        return whole

    def _motor_ma(self, packet: int) -> int:
        """What the plant's one current has over that at rest, shared out by what each motor nominally draws, W.

        The fan has its share too but no packet, so it shows in the battery's current alone, as in the robot.
        """
        a = self.actuators
        above_rest = self.sensors.current_ma - self._rest_ma
        if above_rest <= 0 or a == _IDLE:
            return 0
        left, right = abs(a.left_mm_s) / 100, abs(a.right_mm_s) / 100
        brush, side = a.brush / 20, a.side_brush / 83
        part = (left, right, brush, side)[packet - 54]
        return _clip(round(above_rest * part / (left + right + brush + side + 20 * (a.fan / 100) ** 1.6)), 32767)

    def _light(self, packet: int) -> int:
        """Light bumper signals from left to right: strong at a contact, faint noise of the room otherwise."""
        s = self.sensors
        noise = (self.seed * 31 + packet * 17 + s.left_counts + s.right_counts) % 23
        if (packet <= 48 and s.bump_left) or (packet >= 49 and s.bump_right):
            return 2_400 + noise
        return (700 if packet == 51 and s.wall else 8) + noise

    def _light_bits(self) -> int:
        return sum(1 << place for place in range(6) if self._light(46 + place) > 200)


def _clip(value: int, limit: int) -> int:
    return max(-limit, min(limit, value))


def _show(name: str) -> Callable[[Emulator, bytes], bytes]:
    def act(robot: Emulator, data: bytes) -> bytes:
        robot.shown[name] = data
        return b""

    return act


def _is_before(firmware: str, major: int, minor: int) -> bool:
    return tuple(int(each) for each in firmware.split(".")[:2]) < (major, minor)


_ACTIONS: dict[int, Callable[[Emulator, bytes], bytes]] = {
    133: Emulator._power_down,
    134: lambda robot, data: robot._begin_cleaning("spot"),
    135: lambda robot, data: robot._begin_cleaning("clean"),
    136: lambda robot, data: robot._begin_cleaning("max"),
    143: lambda robot, data: robot._begin_cleaning("seek dock"),
    7: Emulator._reset,
    129: Emulator._baud,
    137: Emulator._drive,
    138: Emulator._motors,
    139: _show("leds"),
    140: Emulator._song,
    141: Emulator._play,
    142: Emulator._query,
    144: Emulator._pwm_motors,
    145: Emulator._drive_direct,
    146: Emulator._drive_pwm,
    148: Emulator._set_stream,
    149: Emulator._query_list,
    150: Emulator._resume,
    162: _show("scheduling leds"),
    163: _show("digits raw"),
    164: _show("digits"),
    165: Emulator._press,
    167: _show("schedule"),
    168: _show("day and time"),
}

_READERS: dict[int, Callable[[Emulator], int]] = dict.fromkeys(oi.PACKETS, lambda robot: 0)
_READERS |= {
    7: lambda r: r.sensors.bump_right | r.sensors.bump_left << 1 | r.wheel_drop << 2,
    8: lambda r: int(r.sensors.wall),
    # Two of the four cliff sensors look ahead; the plant tells of a drop under the front edge.
    10: lambda r: int(r.sensors.cliff),
    11: lambda r: int(r.sensors.cliff),
    14: lambda r: r.overcurrents,
    15: lambda r: r.sensors.dirt & 0xFF,
    18: lambda r: r.buttons & 0xFF,
    19: Emulator._take_distance,
    20: Emulator._take_angle,
    21: lambda r: 2 if r.sensors.docked else 0,
    22: lambda r: min(65535, r.sensors.voltage_mv),
    23: lambda r: _clip(-r.sensors.current_ma, 32767),
    24: lambda r: _clip(r.sensors.temperature_c, 127),
    25: lambda r: min(65535, r.sensors.charge_mah),
    26: lambda r: min(65535, r.sensors.capacity_mah),
    27: lambda r: 90 if r.sensors.wall else 0,
    28: lambda r: 2_800,
    29: lambda r: 5 if r.sensors.cliff else 2_800,
    30: lambda r: 5 if r.sensors.cliff else 2_800,
    31: lambda r: 2_800,
    34: lambda r: 2 if r.sensors.docked else 0,
    35: lambda r: r.mode if r.mode_byte is None else r.mode_byte,
    36: lambda r: r.playing,
    37: lambda r: int(r._song_s > 0),
    38: lambda r: len(r.stream.packets) if r.stream is not None else 0,
    39: lambda r: r.requested[0],
    40: lambda r: r.requested[1],
    41: lambda r: r.requested[2],
    42: lambda r: r.requested[3],
    43: lambda r: (r._encoder_base[0] + r.sensors.left_counts) & 0xFFFF,
    44: lambda r: (r._encoder_base[1] + r.sensors.right_counts) & 0xFFFF,
    45: Emulator._light_bits,
    58: lambda r: int(r.actuators.left_mm_s + r.actuators.right_mm_s > 0),
}
_READERS |= {packet: lambda r, p=packet: r._light(p) for packet in range(46, 52)}  # type: ignore[misc]
_READERS |= {packet: lambda r, p=packet: r._motor_ma(p) for packet in range(54, 58)}  # type: ignore[misc]
