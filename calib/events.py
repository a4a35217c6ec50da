"""What the world tells a session (events) and what a session asks of the world (effects). Plain and JSON-able."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from devices.home.types import OUTCOMES, Settings

CUT_SHORT = "cut_short"  # how a run ends that the person who watched it has ended

Question = Literal["choice", "comparison", "probe", "rating", "best_of", "good_enough", "change", "ready", "arm"]


@dataclass(frozen=True)
class Ready:
    """The operator says that the robot stands where the next run begins."""

    attention_s: float
    wall_s: float


@dataclass(frozen=True)
class Answer:
    """A person's answer. attention_s: question shown to answer, page visible; wall_s: since the event before."""

    question: Question
    value: int
    attention_s: float
    wall_s: float


@dataclass(frozen=True)
class Reading:
    """What a run did, z in the order of OUTCOMES, and the settings as the robot confirmed them."""

    z: tuple[float, ...]
    source: tuple[str, ...]
    error: tuple[float, ...]
    end: str
    realised: Settings | None
    how: dict[str, str]
    robot_s: float
    wall_s: float
    reproducibility: tuple[float, ...] | None = None  # see devices.home.types.Outcome; None on hardware and of no run

    @property
    def is_cut_short(self) -> bool:
        """Whether the person ended the run: what it did until then is no outcome of its settings."""
        return self.end == CUT_SHORT


@dataclass(frozen=True)
class CutShort:
    """The person has seen enough of the run under way. The robot stands; the session goes on with its Reading."""

    by: str


@dataclass(frozen=True)
class Stop:
    """Somebody stops the session. stop_latency_s: from the request to the first reading that shows the robot still,
    None where none moved or none showed it."""

    by: str
    stop_latency_s: float | None = None


@dataclass(frozen=True)
class Quit:
    """The person gives up."""

    reason: Literal["gave_up"] = "gave_up"


@dataclass(frozen=True)
class LinkLost:
    """The robot cannot be reached, or ended its run by itself."""

    reason: str


@dataclass(frozen=True)
class LinkBack:
    """The robot answers again. Nothing moves until somebody arms it."""


@dataclass(frozen=True)
class Arm:
    """An operator allows the robot to move again."""

    by: str


@dataclass(frozen=True)
class ChangedMind:
    """The person says that what they want has changed."""

    note: str = ""


@dataclass(frozen=True)
class LeadHandedOver:
    """Another terminal or page answers from now on."""

    to: str


@dataclass(frozen=True)
class LeadLost:
    """Who leads has promised a sign of life and gives none. A robot that moved stands still by now."""

    reason: str


@dataclass(frozen=True)
class Tick:
    """Time passes while the session waits for a lost robot."""

    elapsed_s: float


Event = (
    Ready
    | Answer
    | Reading
    | CutShort
    | Stop
    | Quit
    | LinkLost
    | LinkBack
    | Arm
    | ChangedMind
    | LeadHandedOver
    | LeadLost
    | Tick
)
_EVENTS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Event)}


@dataclass(frozen=True)
class Prepare:
    """Lay out or wait for the home in this context (number) and replicate."""

    context: int
    replicate: int


@dataclass(frozen=True)
class Ask:
    """A question for whoever leads, with what they are shown."""

    question: Question
    shown: dict[str, Any]


@dataclass(frozen=True)
class Apply:
    """One atomic start with this setting (number), run to the end, then a Reading."""

    setting: int


@dataclass(frozen=True)
class Disarm:
    """Motors off, at once."""


@dataclass(frozen=True)
class Record:
    """A document for the journal."""

    type: Literal["start", "round", "stop"]
    body: dict[str, Any]


@dataclass(frozen=True)
class Finish:
    """The session is over."""

    reason: str


Effect = Prepare | Ask | Apply | Disarm | Record | Finish


def event_to_json(event: Event) -> dict[str, Any]:
    """An event as a journal body."""
    return {"event": type(event).__name__, **asdict(event)}


def event_from_json(body: dict[str, Any]) -> Event:
    """The inverse of `event_to_json`. ValueError where the body is no event."""
    try:
        raw = dict(body)
        kind = _EVENTS[raw.pop("event")]
        if kind is Stop:
            raw.setdefault("stop_latency_s", None)
        if kind is Reading:
            for name in ("z", "source", "error"):
                raw[name] = tuple(raw[name])
            if raw.setdefault("reproducibility", None) is not None:
                raw["reproducibility"] = tuple(raw["reproducibility"])
            raw["realised"] = Settings(**raw["realised"]) if raw["realised"] is not None else None
        event: Event = kind(**raw)
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"not an event: {body!r:.200}") from None
    whole = set(raw) == {f.name for f in fields(kind)} and all(_fits(name, v) for name, v in raw.items())
    if not whole or (isinstance(event, Quit) and event != Quit()):
        raise ValueError(f"not an event: {body!r:.200}")
    return event


def _fits(name: str, value: Any) -> bool:
    """Whether a field's value is of its kind: names mean the same in every event."""
    if name == "reproducibility" and value is None:
        return True
    if name in ("z", "error", "reproducibility"):
        return len(value) == len(OUTCOMES) and all(_is_number(v) for v in value)
    if name == "source":
        return len(value) == len(OUTCOMES) and all(isinstance(v, str) for v in value)
    if name.endswith("_s"):
        return _is_number(value) or (name == "stop_latency_s" and value is None)
    if name == "value":
        return isinstance(value, int)
    if name == "question":
        return value in get_args(Question)
    if name == "how":
        return isinstance(value, dict)
    return name == "realised" or isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
