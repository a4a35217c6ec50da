"""The serial console of a Neato Botvac D3 to D7, said once: lines, replies, moves. Used by driver and emulator alike.

A command is one line of ASCII, ended by LF, in any case, its words as short as they stay unique. The robot echoes it,
answers in CRLF lines and ends with 0x1A. There is no checksum: what does not look like an answer is nobody's answer.
Tables are matched by label, because order and labels vary from firmware to firmware.

Sources: Neato Robotics' "Programmer's Manual" of the USB console, and what users of D3 to D7 have published.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

END: Final = 0x1A
TRACK_MM: Final = 248.0  # between the wheels
MAX_MOVE_MM: Final = 150  # of one wheel in one command: how far a robot drives on whose cable came out
GAP_S: Final = 0.05  # from one command to the next; the console loses what comes faster
PATIENCE_S: Final = 3.0  # for an answer
FULL_BRUSH_RPM: Final = 1400
MAX_LINE: Final = 200
MAX_REPLY: Final = 32_768  # a scan is some 6 kB

COMMANDS: Final[dict[str, str]] = {
    "Help": "Without an argument, this prints a list of all possible cmds.",
    "Clean": "Starts a cleaning by simulating press of start button.",
    "GetAccel": "Get the Accelerometer readings.",
    "GetAnalogSensors": "Get the A2D readings for the analog sensors.",
    "GetButtons": "Get the state of the UI Buttons.",
    "GetCharger": "Get the diagnostic data for the charging system.",
    "GetDigitalSensors": "Get the state of the digital sensors.",
    "GetErr": "Get Error Message.",
    "GetLDSScan": "Get scan packet from LDS.",
    "GetMotors": "Get the diagnostic data for the motors.",
    "GetState": "Get the state of the UI and of the robot.",
    "GetTime": "Get Current Scheduler Time.",
    "GetUserSettings": "Get the user settings.",
    "GetVersion": "Get the version information for the system software and hardware.",
    "PlaySound": "Play the specified sound in the robot.",
    "SetLDSRotation": "Sets LDS rotation on or off. (TestMode Only)",
    "SetLED": "Sets the specified LED to on, off or blink. (TestMode Only)",
    "SetMotor": "Sets the specified motor to run in a direction at a requested speed. (TestMode Only)",
    "SetNavigationMode": "Sets the Navigation Mode.",
    "SetSystemMode": "Set the operation mode of the robot. (TestMode Only)",
    "SetTime": "Sets the current day, hour, and minute for the scheduler clock.",
    "SetUserSettings": "Sets user settings.",
    "TestMode": "Sets TestMode on or off. Some commands can only be run in TestMode.",
}
TEST_MODE_ONLY: Final = frozenset(name for name, text in COMMANDS.items() if text.endswith("(TestMode Only)"))
NAVIGATION_MODES: Final = ("Normal", "Gentle", "Deep", "Quick")

# What a guard writes when nobody drives any more: wheels first, because "SetMotor 0 0 0" is ignored; then the motors;
# and TestMode Off, which ends a cleaning of the robot's own, too. The empty line ends a half-sent command.
HALT: Final = (
    b"\nSetMotor LWheelDisable RWheelDisable\nSetMotor VacuumOff\nSetMotor BrushDisable\n"
    b"SetMotor SideBrushDisable\nTestMode Off\n"
)


def spelled_out(word: str, names: Iterable[str]) -> list[str]:
    """The names that a word may stand for: itself alone, in any case, else all that begin with it."""
    word = word.lower()
    begun = [name for name in names if name.lower().startswith(word)]
    return [name for name in begun if name.lower() == word] or begun


class Move(NamedTuple):
    """One wheel move: whole mm for each wheel, both ending together; the one that goes farther has the speed, mm/s."""

    left_mm: int
    right_mm: int
    speed_mm_s: int

    @property
    def lasts_s(self) -> float:
        return max(abs(self.left_mm), abs(self.right_mm)) / self.speed_mm_s

    def command(self) -> str:
        """As it goes over the line. Nothing longer than MAX_MOVE_MM is ever sent."""
        assert max(abs(self.left_mm), abs(self.right_mm)) <= MAX_MOVE_MM and self.speed_mm_s > 0
        return f"SetMotor LWheelDist {self.left_mm} RWheelDist {self.right_mm} Speed {self.speed_mm_s}"


def move_at(left_mm_s: float, right_mm_s: float, farthest_mm: float = MAX_MOVE_MM) -> Move | None:
    """The move at these wheel speeds whose outer wheel goes that far, MAX_MOVE_MM at most; None below 1 mm/s."""
    fastest = max(abs(left_mm_s), abs(right_mm_s))
    if fastest < 1.0:
        return None
    lasts_s = min(farthest_mm, MAX_MOVE_MM) / fastest
    left_mm, right_mm = round(left_mm_s * lasts_s), round(right_mm_s * lasts_s)
    return Move(left_mm, right_mm, round(fastest)) if left_mm or right_mm else None


def on_track(left: float, right: float, track_mm: float, other_mm: float) -> tuple[float, float]:
    """Both wheels' ways, or speeds, on a robot of another track that makes it go and turn the same."""
    middle, half = (left + right) / 2, (right - left) / 2 * other_mm / track_mm
    return middle - half, middle + half


class LineReader:
    """The robot's side: lines out of bytes in any chunks. A line that is too long is cut, the rest of it dropped."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """The lines that these bytes complete, without their ends. At most MAX_LINE bytes are held back."""
        lines = []
        for byte in data:
            if byte == 0x0A:
                lines.append(self._buffer.decode("ascii", "replace"))
                self._buffer.clear()
            elif byte != 0x0D and len(self._buffer) < MAX_LINE:
                self._buffer.append(byte)
        return lines


class ReplyReader:
    """The host's side: replies out of a byte stream with anything in between.

    A reply runs up to its 0x1A. Its own echo tells whose answer it is: what stands before the echo was noise. Answers
    to what was asked before (a stop is not waited for) are dropped, and so is what begins with no command: noise,
    counted in `num_garbage`. Without an end, MAX_REPLY bytes are held back at most.
    """

    def __init__(self) -> None:
        self.num_garbage = 0
        self._buffer = bytearray()

    def feed(self, data: bytes, asked: str) -> list[str] | None:
        """The lines that answer `asked`, without the echo; None while they have not come."""
        self._buffer += data
        answer = None
        while (end := self._buffer.find(END)) >= 0:
            lines = self._buffer[:end].decode("ascii", "replace").split("\r\n")
            echoes = [n for n, line in enumerate(lines) if asked and line.endswith(asked)]
            if answer is None and echoes:
                answer = [line for line in lines[echoes[-1] + 1 :] if line]
                noise = len("\r\n".join(lines[: echoes[-1] + 1])) - len(asked)
                self.num_garbage += noise
            elif (words := lines[0].split()) and words[0] not in COMMANDS:
                self.num_garbage += end + 1
            del self._buffer[: end + 1]
        if len(self._buffer) > MAX_REPLY:
            self.num_garbage += len(self._buffer) - MAX_REPLY
            del self._buffer[:-MAX_REPLY]
        return answer


def table(lines: Iterable[str]) -> dict[str, str]:
    """Label and value of every line `label,value,...` or `label,unit,value,`, by the label in lower case."""
    found = {}
    for line in lines:
        cells = [cell.strip() for cell in line.split(",")]
        while len(cells) > 2 and not cells[-1]:
            cells.pop()
        if len(cells) >= 2 and cells[0]:
            has_unit = len(cells) == 3 and not _is_number(cells[1]) and _is_number(cells[2])
            found[cells[0].lower()] = cells[2 if has_unit else 1]
    return found


def number(values: dict[str, str], *labels: str) -> float | None:
    """The first of the labels that is there with a number."""
    for label in labels:
        text = values.get(label.lower(), "")
        if _is_number(text):
            return float(text)
    return None


def _is_number(text: str) -> bool:
    return text.removeprefix("-").replace(".", "", 1).isdecimal()


class Ray(NamedTuple):
    """One line of a scan. `error` 0: the distance is one."""

    distance_mm: int
    intensity: int
    error: int


def scan(lines: Iterable[str]) -> tuple[dict[int, Ray], float]:
    """The rays of a GetLDSScan by angle (degrees, 0 ahead, counter-clockwise), and the turns a second of the laser."""
    rays, turns_s = {}, 0.0
    for line in lines:
        cells = line.split(",")
        try:
            if cells[0] == "ROTATION_SPEED":
                turns_s = float(cells[1])
            elif len(cells) == 4 and 0 <= int(cells[0]) < 360:
                rays[int(cells[0])] = Ray(int(cells[1]), int(cells[2]), int(cells[3], 16))
        except ValueError:  # the header, or noise
            continue
    return rays, turns_s


def error_of(lines: Iterable[str]) -> str:
    """What GetErr says is wrong, "" for nothing. 200 is an empty slot; an alert is not an error."""
    said = list(lines)
    for n, line in enumerate(said):
        if line.strip() == "Alert":
            break
        code, dash, text = line.partition(" - ")
        if dash and code.strip().isdecimal() and code.strip() != "200":
            # Some firmware puts the words on the lines that follow.
            return f"{code.strip()} {text.strip() or ' '.join(said[n + 1 : n + 2])}".strip()
    return ""
