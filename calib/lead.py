"""Who leads a run, whether they are there, and how long the open question has been before their eyes.

A leader may promise a sign of life, hold a lease by which its page comes back over another connection, and hide its
page. Times are seconds of one clock, given as `now`. Whoever calls from several threads holds a lock.
"""

from dataclasses import dataclass
from typing import Any

_HEARTBEAT_S = (0.5, 60.0)  # what a leader may promise
_SILENT_S = 2.5  # a leader without a request for so long may be renewed by a page that holds its lease
_ATTENTION_LIMIT_S = 120.0  # definitions 5: at most this much a question


@dataclass
class Lead:
    """The lead of one run. Without a client it is led from the terminal, or by nobody."""

    client: str | None = None
    is_lost: bool = False  # who leads has broken their promise, or hung up
    _lease: str | None = None
    _heartbeat_s: float | None = None  # the promise
    _heard_at: float = 0.0
    _asked_at: float = 0.0
    _hidden_s: float = 0.0  # of the open question, up to when it was hidden last
    _hidden_since: float | None = None  # None: it is on the screen
    _page_hidden: bool = False  # as the leading page says

    def take(self, request: dict[str, Any], client: str, now: float) -> bool:
        """The client leads; False where it only renews its page's lead. ValueError where it may not."""
        lease, heartbeat_s, renew = request.get("lease"), request.get("heartbeat_s"), bool(request.get("renew"))
        if heartbeat_s is not None and not (type(heartbeat_s) in (int, float) and heartbeat_s > 0):
            raise ValueError(f"heartbeat_s: {heartbeat_s!r:.40} is no number of seconds")
        before = self.client
        if renew and before is not None:
            if not isinstance(lease, str) or lease != self._lease:
                raise ValueError("another client leads; take the lead first")
            if before != client and now - self._heard_at < _SILENT_S:
                raise ValueError("another page with this lease leads; take the lead first")
        self.client, self.is_lost = client, False
        self._lease = lease if isinstance(lease, str) else None
        self._heartbeat_s = None if heartbeat_s is None else min(max(heartbeat_s, _HEARTBEAT_S[0]), _HEARTBEAT_S[1])
        self._heard_at = now
        if before != client:
            self._page_hidden = False  # that was the other's page
        self._note_hidden(now)
        return before != client and (before is None or not renew)

    def give_to_terminal(self, now: float) -> None:
        """Whoever sits at the terminal leads, and sees it."""
        self.client, self._lease, self._heartbeat_s = None, None, None
        self.is_lost = self._page_hidden = False
        self._note_hidden(now)

    def hear(self, client: str, now: float) -> None:
        """A request of a client: from the one who leads it is the sign of life."""
        if client == self.client:
            self._heard_at, self.is_lost = now, False
            self._note_hidden(now)

    def miss(self, now: float) -> str | None:
        """Why the lead is lost, said once, where the promised sign of life stays away."""
        if self._heartbeat_s is None or self.is_lost or now - self._heard_at < self._heartbeat_s:
            return None
        self._lose(now)
        return f"no sign of life from the leading page for {self._heartbeat_s:g} s"

    def hang_up(self, client: str, now: float) -> str | None:
        """Why the lead is lost, where the client that closes its connection led. One that has promised a sign of life
        may come back by another connection until it misses that."""
        if client != self.client or self._heartbeat_s is not None or self.is_lost:
            return None
        self._lose(now)
        return "who led has hung up"

    def show(self, visible: bool, now: float) -> None:
        """The leading page is seen, or not."""
        self._page_hidden = not visible
        self._note_hidden(now)

    def ask(self, now: float) -> None:
        """A question is shown: attention counts from here."""
        self._asked_at, self._hidden_s = now, 0.0
        self._hidden_since = None if self._hidden_since is None else now

    def attention_s(self, now: float) -> float:
        """Seconds since the question was shown, as far as they count: before somebody's eyes, and not for ever."""
        hidden_s = self._hidden_s + (0.0 if self._hidden_since is None else now - self._hidden_since)
        return min(max(now - self._asked_at - hidden_s, 0.0), _ATTENTION_LIMIT_S)

    def _lose(self, now: float) -> None:
        self.is_lost = True
        self._note_hidden(now)

    def _note_hidden(self, now: float) -> None:
        hidden = self._page_hidden or self.is_lost
        if self._hidden_since is not None and not hidden:
            self._hidden_s += now - self._hidden_since
            self._hidden_since = None
        elif self._hidden_since is None and hidden:
            self._hidden_since = now
