"""The runner's loopback server and its client: one JSON object a line, the token first.

A client says {"token": ...} and then requests {"do": NAME, ...}; each is answered by one line {"ok": true, ...} or
{"ok": false, "error": ...}. After {"do": "watch"} the line carries a status whenever something changes.
"""

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


class ControlServer:
    """Serves `handle(request, client) -> answer` on 127.0.0.1 from threads of its own, until closed."""

    def __init__(self, handle: Callable[[dict[str, Any], str], dict[str, Any]]) -> None:
        self.token = secrets.token_urlsafe(24)
        self._handle = handle
        self._changed = threading.Condition()
        self._status: dict[str, Any] = {}
        self._version = 0
        self._closed = False
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            timeout = _IDLE_S

            def handle(self) -> None:
                outer._serve(self.rfile, self.wfile)

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
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, reader: Any, writer: Any) -> None:
        def say(answer: dict[str, Any]) -> None:
            writer.write(json.dumps(answer).encode() + b"\n")
            writer.flush()

        client = secrets.token_hex(4)
        admitted = False
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
                say({"ok": True})
            elif request.get("do") == "watch":
                for status in self._statuses():
                    say({"ok": True, "status": status})
                return
            else:
                say(self._handle(request, client))

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


class ControlClient:
    """A connection to a runner. Raises UserError in one line when it cannot be had."""

    def __init__(self, entry: RunnerEntry, timeout_s: float | None = 5.0) -> None:
        try:
            self._socket = socket.create_connection(("127.0.0.1", entry.port), timeout_s)
        except OSError as error:
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
        """Statuses until the runner ends."""
        self._socket.settimeout(None)
        self._lines.write(b'{"do": "watch"}\n')
        self._lines.flush()
        for line in self._lines:
            yield json.loads(line)["status"]

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()
