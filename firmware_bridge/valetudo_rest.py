"""Valetudo's REST as bytes: what its server and its clients say to each other, over any transport.

Valetudo is open firmware on robots of several makers. Robots have subsets of its capabilities, and presets of their
own, so both are read from the robot. HTTP itself is h11's. Source: Valetudo's API version 2, see docs/valetudo.md.
"""

import json
from typing import Any, NamedTuple

import h11

API = "/api/v2"
CAPABILITIES = f"{API}/robot/capabilities"
ATTRIBUTES = f"{API}/robot/state/attributes"
CONTROL = f"{CAPABILITIES}/BasicControlCapability"
FAN, WATER, MODE = "FanSpeedControlCapability", "WaterUsageControlCapability", "OperationModeControlCapability"
SEGMENTS, STATISTICS = "MapSegmentationCapability", "CurrentStatisticsCapability"
# What a preset's name says of the suction motor, percent of full duty. The robot's own figures are nobody's to know.
FAN_PERCENT = {"off": 0, "min": 20, "low": 35, "medium": 55, "high": 75, "turbo": 90, "max": 100}
PATIENCE_S = 5.0
_MOST = 1 << 20  # bytes of a body: a map has more, and is never asked for


class Reply(NamedTuple):
    """An answer; `body` is JSON, or the text that was none."""

    status: int
    body: Any


class Garbled(Exception):
    """Bytes that are no HTTP."""


class Client:
    """One request under way at a time."""

    def __init__(self) -> None:
        self._http: h11.Connection | None = None
        self._status = 0
        self._body = b""

    def ask(self, method: str, path: str, body: Any = None) -> bytes:
        """The bytes of a request. What is still missing of an earlier answer is given up."""
        self._http, self._status, self._body = h11.Connection(h11.CLIENT), 0, b""
        data = b"" if body is None else json.dumps(body).encode()
        headers = [("Host", "robot"), ("Accept", "application/json"), ("Content-Length", str(len(data)))]
        if data:
            headers.append(("Content-Type", "application/json"))
        out = self._http.send(h11.Request(method=method, target=path, headers=headers))
        out = (out or b"") + ((self._http.send(h11.Data(data)) or b"") if data else b"")
        return out + (self._http.send(h11.EndOfMessage()) or b"")

    def feed(self, data: bytes) -> Reply | None:
        """The answer, once it is whole. Garbled where it is none, or too long."""
        if self._http is None:
            return None  # nobody asked: what a guard's stop was answered
        try:
            if data:
                self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Response):
                    self._status = event.status_code
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > _MOST:
                        raise Garbled(f"an answer of more than {_MOST} bytes")
                elif isinstance(event, h11.EndOfMessage):
                    self._http = None
                    return Reply(self._status, _json(self._body))
                elif event is h11.NEED_DATA or event is h11.PAUSED:
                    return None
        except h11.RemoteProtocolError as problem:
            self._http = None
            raise Garbled(f"what came is no HTTP ({problem})") from None


class Server:
    """The robot's side: whole requests out of bytes, answers into bytes."""

    def __init__(self) -> None:
        self._http = h11.Connection(h11.SERVER)
        self._request: tuple[str, str] | None = None
        self._body = b""

    def feed(self, data: bytes, answer: Any) -> bytes:
        """What is answered: `answer(method, path, body)` gives (status, body) for each whole request."""
        out = b""
        try:
            if data:
                self._http.receive_data(data)
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.Request):
                    self._request, self._body = (event.method.decode(), event.target.decode("latin-1")), b""
                elif isinstance(event, h11.Data):
                    self._body += event.data
                    if len(self._body) > _MOST:
                        return out + self._refuse(413, "too long")
                elif isinstance(event, h11.EndOfMessage) and self._request is not None:
                    out += self._said(*answer(*self._request, _json(self._body)))
                    if self._http.our_state is h11.MUST_CLOSE:
                        self._http = h11.Connection(h11.SERVER)
                    else:
                        self._http.start_next_cycle()
                else:
                    return out
        except h11.RemoteProtocolError as problem:
            return out + self._refuse(problem.error_status_hint or 400, str(problem))

    def _refuse(self, status: int, why: str) -> bytes:
        """An answer to what was no request; the next bytes begin a new one."""
        self._http, self._request = h11.Connection(h11.SERVER), None
        body = json.dumps(why).encode()
        head = f"HTTP/1.1 {status} Bad Request\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        return head.encode() + body

    def _said(self, status: int, body: Any) -> bytes:
        data = b"" if body is None else json.dumps(body).encode()
        headers = [("Content-Length", str(len(data))), ("Content-Type", "application/json; charset=utf-8")]
        out = self._http.send(h11.Response(status_code=status, headers=headers)) or b""
        out += (self._http.send(h11.Data(data)) or b"") if data else b""
        return out + (self._http.send(h11.EndOfMessage()) or b"")


def _json(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode(errors="replace")


STOP = Client().ask("PUT", CONTROL, {"action": "stop"})  # a guard's stop bytes
