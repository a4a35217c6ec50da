"""A PostgreSQL server of its own for tests: on loopback and a socket, durable, gone with who started it."""

import contextlib
import ctypes
import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pg8000.dbapi
import pytest

PASSWORD = "zebra-s3cret"
_PR_SET_PDEATHSIG = 1


def programs() -> Path:
    """The newest server's programs, where Debian puts them."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    if not found:
        pytest.skip("no PostgreSQL server: install the Debian package postgresql")
    return found[-1].parent


class Server:
    """A cluster in a folder; `start` and `kill` as often as a test wants."""

    def __init__(self, folder: Path) -> None:
        # The server refuses root, and another user cannot look into pytest's folders.
        self.user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        self.folder, self.port = folder, _free_port()
        self.data, self.sockets = folder / "data", folder / "sockets"
        self.process: subprocess.Popen[bytes] | None = None
        self.sockets.mkdir()
        secret = folder / "secret"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (folder, self.sockets, secret):
                shutil.chown(path, self.user)
        words = ["--auth=scram-sha-256", f"--pwfile={secret}", "--username=owner", "--encoding=UTF8", "--locale=C"]
        done = subprocess.run(
            [programs() / "initdb", "-D", self.data, *words], capture_output=True, text=True, **self._as_user()
        )
        assert done.returncode == 0, done.stderr
        secret.unlink()
        self.start()

    def _as_user(self) -> dict[str, Any]:
        return {"user": self.user, "group": self.user, "extra_groups": [], "cwd": "/"} if os.geteuid() == 0 else {}

    def start(self) -> None:
        """Start it and wait until it answers."""
        words = ["-D", self.data, "-k", self.sockets, "-p", str(self.port), "-c", "listen_addresses=127.0.0.1"]
        self.process = subprocess.Popen(
            [programs() / "postgres", *words, "-c", "fsync=on", "-c", "max_connections=40"],
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / "log").open("ab"),
            preexec_fn=_die_with_the_parent,
            **self._as_user(),
        )
        until = time.monotonic() + 60
        while True:
            try:
                self.sql("SELECT 1")
                return
            except pg8000.dbapi.Error:
                assert self.process.poll() is None and time.monotonic() < until, (self.folder / "log").read_text()
                time.sleep(0.1)

    def kill(self) -> None:
        """As a power cut: nobody is told, nothing is tidied up."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for pid in (self.process.pid, *map(int, children)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        """End it, whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()

    def sql(self, text: str, database: str = "postgres", user: str = "owner") -> list[Any]:
        """The rows of one statement, committed at once."""
        with contextlib.closing(
            pg8000.dbapi.connect(user, "127.0.0.1", database, self.port, password=PASSWORD)
        ) as connection:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(text)
            return list(cursor.fetchall()) if cursor.description else []

    def url(self, database: str, password: str = PASSWORD) -> str:
        """Of a database, with the password."""
        return f"postgresql://owner:{password}@127.0.0.1:{self.port}/{database}"


def _die_with_the_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """A server that is gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="calib-postgresql-"))
    server = None
    try:
        server = Server(folder)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(folder, ignore_errors=True)
