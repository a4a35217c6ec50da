"""A page's line to a runner: it watches or leads, and leading means that its sign of life stays away when it does.

The page's own word, the lease, stands in its address, so that a reload goes on leading. A second tab watches, may stop
and may take over. Whoever is not heard for HEARTBEAT_S leads nothing: the runner stops the robot.
"""

import time
from dataclasses import dataclass, field
from typing import Any

from calib.control import ControlClient
from calib.errors import UserError
from calib.registry import RunnerEntry, runners
from calib.stopping import stop_runner

HEARTBEAT_S = 4.0
REFRESH_S = 0.5  # how often a page asks, and so says that it is there
_LATE_S = 2.0  # a runner on this machine answers in milliseconds
_HUNG_S = 0.5  # one that did not answer is not waited for as long again: the page is to be drawn


def entry_of(run: str) -> RunnerEntry | None:
    """The runner of exactly this run, None where none lives."""
    return next((e for e in runners() if e.run == run), None)


def stop(run: str) -> str:
    """Stop the robot of a run now, by a connection of its own: robot first, whoever leads. Says how it went."""
    entry = entry_of(run)
    return "its runner has ended" if entry is None else stop_runner(entry)


@dataclass
class Link:
    """One page's connection; `status` is the last that came, `documents` and `path` what has been fetched so far."""

    entry: RunnerEntry
    lease: str
    leads: bool = False
    status: dict[str, Any] = field(default_factory=dict)
    documents: list[dict[str, Any]] = field(default_factory=list)
    path: list[tuple[float, float]] = field(default_factory=list)
    ended: bool = False
    heard: int = 0  # statuses that have come: where it stands still, what is shown here grows old
    is_answered: bool = True  # the last request was
    visible: bool = True  # somebody sees this page
    note: str = ""  # what the last click came to; not in the session's state, where setting can interrupt the script
    _client: ControlClient | None = None
    _id: str = ""
    _drive: int = 0
    _asked: float = float("-inf")  # when the last beat ended

    def beat(self, anew: bool = False) -> None:
        """Ask for the status, which is also the leader's sign of life; take the lead where nobody has it.

        The parts of a page that ask within a moment ask once, unless something has just been done (`anew`).
        """
        if not anew and time.monotonic() - self._asked < REFRESH_S / 2:
            return
        self._beat()
        self._asked = time.monotonic()

    def _beat(self) -> None:
        answer = self._say({"do": "beat"})
        if answer is None:
            return
        self.heard += 1
        self.status = answer["status"]
        lead = self.status.get("lead")
        self.leads = bool(self._id) and lead == self._id
        if not self.leads and self.status.get("phase") not in ("opening", "finished"):
            self._ask_for_lead(renew=True)
        self._fetch()

    def take_over(self) -> None:
        """Lead from now on, whoever did."""
        self._ask_for_lead(renew=False)

    def reply(self, question: str, number: int, value: int = 0) -> str:
        """Answer the question of this name and number; what went wrong, or nothing."""
        request = {"do": question} if question in ("ready", "arm") else {"do": "answer", "question": question}
        return self._try({**request, "number": number, "value": value})

    def note_visible(self, visible: bool) -> None:
        """Time away from the page is no attention to the question on it."""
        self.visible = visible
        if self.leads:
            self._try({"do": "visible", "visible": visible})

    def give_up(self) -> str:
        """The person gives up; what went wrong, or nothing."""
        return self._try({"do": "quit"})

    def changed_mind(self, note: str) -> str:
        """The person says that they want something else now; what went wrong, or nothing."""
        return self._try({"do": "changed_mind", "note": note})

    def cut_short(self) -> str:
        """The person has seen enough of the run under way; what went wrong, or nothing."""
        return self._try({"do": "cut_short"})

    def close(self) -> None:
        """Hang up. A leader that hangs up is silent from here on."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask_for_lead(self, renew: bool) -> None:
        if self.lease:
            try:
                answer = self._connection().request(
                    {"do": "lead", "lease": self.lease, "heartbeat_s": HEARTBEAT_S, "renew": renew}
                )
            except UserError:
                return  # somebody else leads
            self._id, self.leads = answer["client"], True
            if not self.visible:  # of a new leader the runner believes that it is seen
                self._try({"do": "visible", "visible": False})

    def _fetch(self) -> None:
        while len(self.documents) < self.status.get("documents", 0):
            answer = self._say({"do": "documents", "from": len(self.documents)})
            if not answer or not answer["documents"]:
                return
            self.documents += answer["documents"]
        answer = self._say({"do": "path", "from": len(self.path)})
        if answer and answer["drive"] != self._drive:
            self._drive, self.path = answer["drive"], []
            answer = self._say({"do": "path", "from": 0})
        if answer:
            self.path += [(x, y) for x, y in answer["points"]]

    def _try(self, request: dict[str, Any]) -> str:
        try:
            self._connection().request(request)
        except UserError as error:
            return str(error).removeprefix("the runner refused: ")
        return ""

    def _say(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """An answer; None where the runner has gone or does not answer, and then the next call connects anew."""
        try:
            answer = self._connection().request(request)
            self.is_answered = True
            return answer
        except UserError:
            self.close()
            self._id, self.leads, self.is_answered = "", False, False
            self.ended = entry_of(self.entry.run) is None
            return None

    def _connection(self) -> ControlClient:
        if self._client is None:
            self._client = ControlClient(self.entry, timeout_s=_LATE_S if self.is_answered else _HUNG_S)
        return self._client
