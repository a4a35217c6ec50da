"""The host's end of a rover's line: sequence numbers, acknowledgements, the rover's clock, its restarts. Pure.

Bytes and a clock in, bytes and telemetry out. A command that matters is sent again under the same number until
`results` holds its answer: the rover obeys a number once. Drive commands are not repeated: the next tick brings a
newer one.
"""

from zlib import crc32

from firmware_bridge.clock import Clock
from firmware_bridge.framing import Frame, Parser, encode
from firmware_bridge.messages import BY_ID, BY_NAME, Status, pack, table_hash, unpack

STOP = encode(BY_NAME["stop"].id, 0, 0, b"")  # whoever sends it, at any time, however often
VALID_MS = 250  # a command that comes later than this is not obeyed
_NUM_RESULTS = 64

Telemetry = dict[str, int]  # the fields of the message


class Link:
    """One session. `hello` begins it; after a restart of the rover (`restarted`) a new one is needed.

    A session's number must not be that of the one before. Without one given it is drawn from the first telemetry that
    is overheard: two sessions differ, and yet a replayed log says the same words.
    """

    def __init__(self, session: int | None = None) -> None:
        """session: 1..65535."""
        self.session = session
        self.boot = 0
        self.welcome: dict[str, int] | None = None  # the answer to our hello
        self.restarted = False
        self.telemetry: Telemetry | None = None  # the last one
        self.heard_s = 0.0  # when it came
        self.results: dict[int, Status] = {}  # of the last commands, by number
        self.clock = Clock(resolution_s=1e-3)  # the rover's beside the line's
        self.num_gaps = 0  # frames that the rover sent and that did not come
        self._sequence = 0
        self._sent_s: dict[int, float] = {}  # when the last commands went out, by number
        self._obeyed_s: float | None = None  # when the last one that was answered went out
        self._next: int | None = None  # number of the rover's next frame
        self._parser = Parser()

    @property
    def num_bad(self) -> int:
        """Frames of the rover that were noise."""
        return self._parser.counts.bad

    @property
    def fits(self) -> bool:
        """The rover's table of messages is ours."""
        return self.welcome is not None and self.welcome["table"] == table_hash()

    def hello(self) -> bytes:
        """The first words of a session; may be said again. Empty until something was overheard."""
        if self.session is None:
            return b""
        return encode(BY_NAME["hello"].id, 0, 0, pack("hello", table=table_hash(), session=self.session))

    def rover_ms(self, now_s: float) -> int:
        """The rover's clock by its last telemetry."""
        assert self.telemetry is not None, "nothing heard yet"
        return self.telemetry["now_ms"] + round(1000 * (now_s - self.heard_s))

    def command(self, name: str, now_s: float, **values: int) -> tuple[int, bytes]:
        """The next command's number and bytes. What has an expiry is good for VALID_MS."""
        message = BY_NAME[name]
        if any(field.name == "until_ms" for field in message.fields):
            values["until_ms"] = (self.rover_ms(now_s) + VALID_MS) & 0xFFFFFFFF
        self._sequence = (self._sequence + 1) & 0xFFFF
        self._sent_s[self._sequence] = now_s
        if len(self._sent_s) > _NUM_RESULTS:
            del self._sent_s[next(iter(self._sent_s))]
        return self._sequence, encode(message.id, self.boot, self._sequence, pack(name, **values))

    def feed(self, data: bytes, now_s: float) -> list[Telemetry]:
        """The rover's bytes: the telemetry among them."""
        found = []
        for frame in self._parser.feed(data):
            message = BY_ID.get(frame.id)
            if message is None or message.sender != "rover":
                continue
            values = unpack(message, frame.payload)
            if message.name == "welcome" and values["session"] == self.session:
                self.boot, self.welcome, self.restarted, self._next = frame.boot, values, False, None
                self.clock.forget()
                self._obeyed_s = None
            elif message.name == "telemetry" and self.session is None:
                self.session = crc32(frame.payload) % 0xFFFF + 1
            self._count(frame)
            if frame.boot != self.boot:
                self.restarted = self.welcome is not None
            elif message.name == "ack":
                self.results[values["of"]] = Status(values["status"])
                self._obeyed_s = self._sent_s.pop(values["of"], self._obeyed_s)
                if len(self.results) > _NUM_RESULTS:
                    del self.results[next(iter(self.results))]
            elif message.name == "telemetry":
                self.telemetry, self.heard_s = values, now_s
                if self._obeyed_s is not None:  # stamped after the command was heard, and before this
                    self.clock.add(self._obeyed_s, values["now_ms"] / 1e3, now_s)
                    self._obeyed_s = None
                found.append(values)
        return found

    def _count(self, frame: Frame) -> None:
        if self._next is not None and frame.boot == self.boot:
            self.num_gaps += (frame.sequence - self._next) & 0xFFFF
        self._next = (frame.sequence + 1) & 0xFFFF
