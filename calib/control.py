"""The runner's loopback server and its client: one JSON object a line, the token first.

A client says {"token": ...} and then requests {"do": NAME, ...}; each is answered by one line {"ok": true, ...} or
{"ok": false, "error": ...}. After {"do": "watch"} the line carries a status whenever something changes.

A status shows the open question with its number. An answer names both, {"do": "answer", "question": "choice",
"number": 7, "value": 2}, and so do {"do": "ready", "number": 8} and {"do": "arm", "number": 9}: a late or doubled
answer is refused, whatever is asked by then.

{"do": "stop"} is for every client. With "asked_s", when it was asked for by the monotonic clock of the machine, the
closing record tells how long the robot took from there.

A client takes the lead by {"do": "lead"}, from whoever had it. With "heartbeat_s" it promises a request at least that
often, {"do": "beat"} if it has nothing else to say; when they stay away the robot stops. Without, it stops when the
client hangs up. With "lease", a word of its own, a page can lead on over a new connection ("renew": true) once the old
one is silent: that is how a reload keeps the lead. Where nobody leads yet, who would renew leads; it robs nobody.
"""

import contextlib
import hmac
import json
import secrets
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from typing import Any

from calib.errors import UserError
from calib.registry import RunnerEntry

_MAX_LINE = 64_000  # a request is a few hundred bytes; a client that sends more is cut off
_IDLE_S = 3600.0
_ADMISSION_S = 5.0  # until the token must have come, whole
_MAX_CLIENTS = 64  # more than a page and its watchers need; each has a thread
_FAREWELL_S = 1.0  # for the watchers to be told the end


class ControlServer:
    """Serves `handle(request, client) -> answer` on 127.0.0.1 from threads of its own, until closed.

    `left(client)` is called once for each client, when its connection ends.
    """

    def __init__(
        self, handle: Callable[[dict[str, Any], str], dict[str, Any]], left: Callable[[str], None] = lambda client: None
    ) -> None:
        self.token = secrets.token_urlsafe(24)
        self._handle = handle
        self._left = left
        self._changed = threading.Condition()
        self._status: dict[str, Any] = {}
        self._version = 0
        self._closed = False
        self._watchers = 0
        self._places = threading.BoundedSemaphore(_MAX_CLIENTS)
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = _IDLE_S

            def handle(self) -> None:
                if not outer._places.acquire(blocking=False):
                    return
                try:
                    outer._serve(self.connection, self.rfile, self.wfile)
                finally:
                    outer._places.release()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that went away in the middle of a line is no news

        self._server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True, name="control").start()

    def publish(self, status: dict[str, Any]) -> None:
        """Show every watcher a new status."""
        with self._changed:
            self._status = status
            self._version += 1
            self._changed.notify_all()

    def close(self) -> None:
        """Let the watchers go and stop serving."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._watchers == 0, _FAREWELL_S)
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, connection: socket.socket, reader: Any, writer: Any) -> None:
        def say(answer: dict[str, Any]) -> None:
            writer.write(json.dumps(answer).encode() + b"\n")
            writer.flush()

        client = secrets.token_hex(4)
        try:
            self._converse(connection, reader, say, client)
        finally:
            self._left(client)

    def _converse(
        self, connection: socket.socket, reader: Any, say: Callable[[dict[str, Any]], None], client: str
    ) -> None:
        admitted = False
        # Not a time-out of the socket: a client that sends a byte now and then would never meet it.
        patience = threading.Timer(_ADMISSION_S, _hang_up, (connection,))
        patience.daemon = True
        patience.start()
        while line := reader.readline(_MAX_LINE):
            try:
                request = json.loads(line)
            except ValueError:
                request = None
            if not isinstance(request, dict):
                say({"ok": False, "error": "not a JSON object on one line"})
                return
            if not admitted:
                token = request.get("token")
                admitted = isinstance(token, str) and hmac.compare_digest(token.encode(), self.token.encode())
                if not admitted:
                    say({"ok": False, "error": "wrong token"})
                    return
                patience.cancel()
                say({"ok": True})
            elif request.get("do") == "watch":
                self._watch(say)
                return
            else:
                say(self._handle(request, client))

    def _watch(self, say: Callable[[dict[str, Any]], None]) -> None:
        with self._changed:
            self._watchers += 1
        try:
            for status in self._statuses():
                say({"ok": True, "status": status})
        finally:
            with self._changed:
                self._watchers -= 1
                self._changed.notify_all()

    def _statuses(self) -> Iterator[dict[str, Any]]:
        seen = -1
        while True:
            with self._changed:
                if self._version == seen and not self._closed:
                    self._changed.wait(timeout=1.0)
                seen, status, closed = self._version, self._status, self._closed
            yield status
            if closed:
                return


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class ControlClient:
    """A connection to a runner. Raises UserError in one line when it cannot be had."""

    def __init__(self, entry: RunnerEntry, timeout_s: float | None = 5.0) -> None:
        try:
            self._socket = socket.create_connection(("127.0.0.1", entry.port), timeout_s)
        except (OSError, OverflowError) as error:
            raise UserError(f"run {entry.run}: its runner (pid {entry.pid}) does not answer ({error})") from None
        self._lines = self._socket.makefile("rwb")
        self.request({"token": entry.token})

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """Send one request and return the answer; UserError if it was refused."""
        answer: dict[str, Any] = {}
        try:
            self._lines.write(json.dumps(body).encode() + b"\n")
            self._lines.flush()
            answer = json.loads(self._lines.readline() or b"{}")
        except (OSError, ValueError) as error:
            raise UserError(f"the runner does not answer ({error})") from None
        if not answer.get("ok"):
            raise UserError(f"the runner refused: {answer.get('error', 'it closed the connection')}")
        return answer

    def watch(self) -> Iterator[dict[str, Any]]:
        """Statuses until the runner ends, however it ends."""
        with contextlib.suppress(OSError, ValueError):
            self._socket.settimeout(None)
            self._lines.write(b'{"do": "watch"}\n')
            self._lines.flush()
            for line in self._lines:
                yield json.loads(line)["status"]

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self._lines.close()
        self._socket.close()
