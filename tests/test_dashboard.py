"""Who gets at the dashboard: the loopback address, the right host, its own pages, and who has the token."""

import http.client
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from browsing import Dashboard
from dashboard.serve import free_port
from sessions import Lab


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    """One dashboard for all of these."""
    found = Dashboard(Lab(tmp_path_factory.mktemp("served")))
    try:
        yield found
    finally:
        found.close()


def ask(served: Dashboard, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
    """One request, its headers as given (`_` for `-`)."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in given)
    for name, value in given.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def cookie_of(served: Dashboard) -> str:
    """The cookie that the address with the token gives."""
    answer = ask(served, f"/?token={served.token}&run=x")
    assert (answer.status, answer.getheader("location")) == (303, "/?run=x"), "the token leaves the address"
    cookie = answer.getheader("set-cookie") or ""
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    return cookie.split(";")[0]


def test_the_token_opens_and_nothing_else_does(served: Dashboard) -> None:
    cookie = cookie_of(served)
    assert ask(served, "/", Cookie=cookie).status == 200
    for path in ("/", "/live", "/analyse?path=x", "/static/js/x.js", "/_stcore/host-config", "/media/x", "/?token="):
        answer = ask(served, path)
        assert answer.status == 403 and b"wants its token" in answer.read(), path
    for token in ("x", served.token[:-1], served.token + "x", "%00", "é".encode().hex()):
        assert ask(served, f"/?token={token}").status == 403
    name = cookie.split("=")[0]
    for wrong in (f"{name}=x", f"{name}=", "x=" + served.token, f"{name}={served.token[:-1]}", "=", ";;;", '"'):
        assert ask(served, "/", Cookie=wrong).status == 403
    assert ask(served, f"/?token={served.token}", method="POST").status == 403


def test_a_foreign_host_or_origin_is_refused_even_with_the_token(served: Dashboard) -> None:
    cookie = cookie_of(served)
    for host in ("example.org", f"example.org:{served.port}", f"127.0.0.1.example.org:{served.port}", "127.0.0.1", ""):
        assert ask(served, "/", Host=host, Cookie=cookie).status == 403, host
    assert ask(served, "/", Host=f"localhost:{served.port}", Cookie=cookie).status == 200
    for origin in (
        "http://example.org",
        "null",
        f"http://127.0.0.1:{served.port + 1}",
        f"https://127.0.0.1:{served.port}",
    ):
        assert ask(served, "/", Cookie=cookie, Origin=origin).status == 403, origin
    assert ask(served, "/", Cookie=cookie, Origin=served.address).status == 200


def socket_status(served: Dashboard, *headers: str) -> int:
    """The status with which the pages' socket is answered: 101 where it opens."""
    lines = (
        "GET /_stcore/stream HTTP/1.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        *headers,
    )
    with socket.create_connection(("127.0.0.1", served.port), 10) as line:
        line.sendall("\r\n".join([*lines, "", ""]).encode())
        return int(line.recv(1000).split()[1])


def test_the_socket_is_guarded_as_the_pages_are(served: Dashboard) -> None:
    own, cookie = f"Host: 127.0.0.1:{served.port}", "Cookie: " + cookie_of(served)
    origin = f"Origin: {served.address}"
    assert socket_status(served, own, origin, cookie) == 101
    assert socket_status(served, own, origin) == 403
    assert socket_status(served, own, "Origin: http://example.org", cookie) == 403
    assert socket_status(served, "Host: example.org", origin, cookie) == 403


def test_the_address_without_its_token_leads_nowhere_else(served: Dashboard) -> None:
    for path in ("//example.org/", "/\\example.org/", "///example.org"):
        answer = ask(served, f"{path}?token={served.token}")
        location = answer.getheader("location") or "/"
        assert location.startswith("/") and not location.startswith(("//", "/\\")), location


def test_it_listens_on_loopback_alone(served: Dashboard) -> None:
    listening = {
        fields[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in (line.split() for line in Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == served.port
    }
    assert listening == {f"0100007F:{served.port:04X}"}


def test_of_two_that_start_at_once_each_answers_at_its_own_address(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    with ThreadPoolExecutor(2) as pool:  # neither is told a port
        both = list(pool.map(lambda _: Dashboard(lab, port=()), range(2)))
    try:
        assert both[0].port != both[1].port
        for one in both:
            assert ask(one, f"/?token={one.token}").status == 303
    finally:
        for one in both:
            one.close()


def test_a_taken_port_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert free_port(taken.getsockname()[1]) is None
    for port in (-1, 70_000):
        assert free_port(port) is None
