"""How a link to a robot stands, and why: a pure machine, `step(link, event, why) -> link, effects`.

    disconnected -> opening -> handshake -> ready <-> stale
    opening, handshake, ready, stale -> lost -> opening -> handshake -> ready

`TABLE` is all of it; an event that does not fit changes nothing. Nothing here arms: a link that is ready again only
waits for the session's next order.
"""

from typing import Literal, NamedTuple

State = Literal["disconnected", "opening", "handshake", "ready", "stale", "lost"]
Event = Literal[
    "open",  # a guard is to claim the port
    "opened",  # it has
    "identified",  # the robot has said who it is
    "heard",  # something valid came
    "silent",  # nothing has, for longer than it should take
    "greeted",  # the driver asks once more who is there
    "restarted",  # the robot has another boot id than the one that was greeted
    "failed",  # the line is dead, or nobody fit for this answers
    "closed",  # let go of on purpose
]
Effect = Literal["stop"]


class LinkState(NamedTuple):
    """Where a link stands; `reason` is one line for a person."""

    state: State
    reason: str


TABLE: dict[tuple[State, Event], tuple[State, tuple[Effect, ...]]] = {
    ("disconnected", "open"): ("opening", ()),
    ("opening", "open"): ("opening", ()),
    ("opening", "opened"): ("handshake", ()),
    ("opening", "failed"): ("lost", ()),
    ("opening", "closed"): ("disconnected", ()),
    ("handshake", "open"): ("opening", ()),
    ("handshake", "identified"): ("ready", ()),
    ("handshake", "failed"): ("lost", ("stop",)),
    ("handshake", "closed"): ("disconnected", ()),
    ("ready", "open"): ("opening", ()),
    ("ready", "silent"): ("stale", ()),
    ("ready", "greeted"): ("handshake", ()),
    ("ready", "restarted"): ("handshake", ("stop",)),
    ("ready", "failed"): ("lost", ("stop",)),
    ("ready", "closed"): ("disconnected", ()),
    ("stale", "open"): ("opening", ()),
    ("stale", "heard"): ("ready", ()),
    ("stale", "silent"): ("stale", ()),
    ("stale", "greeted"): ("handshake", ()),
    ("stale", "restarted"): ("handshake", ("stop",)),
    ("stale", "failed"): ("lost", ("stop",)),
    ("stale", "closed"): ("disconnected", ()),
    ("lost", "open"): ("opening", ()),
    ("lost", "closed"): ("disconnected", ()),
}
CLOSED = LinkState("disconnected", "the robot is not open")
NO_LINE = LinkState("ready", "simulated, without a line")
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 8.0


def step(link: LinkState, event: Event, why: str) -> tuple[LinkState, tuple[Effect, ...]]:
    """The link after one event, and what whoever holds the line is to do."""
    found = TABLE.get((link.state, event))
    if found is None:
        return link, ()
    state, effects = found
    return LinkState(state, why), effects


def retry_after_s(num_failed: int) -> float:
    """Back-off: how long to wait after so many failed attempts to open a lost link: 0.5, 1, 2, 4, 8, 8, ... s."""
    return min(_FIRST_RETRY_S * 2.0 ** min(num_failed - 1, 10), _LONGEST_RETRY_S)
