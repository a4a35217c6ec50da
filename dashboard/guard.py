"""Who may talk to the dashboard: pages of this machine's own address, with the token that was printed at the start.

An ASGI middleware in front of everything that Streamlit serves, its socket included. The token comes once in the
address, becomes a cookie that no script can read, and leaves the address again.
"""

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

_HEALTH = "/_stcore/health"  # says "ok" and nothing else


class Guard:
    """Lets a request through to `app` if its Host, its Origin and its token are right; else 403 or a refused socket."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self.app = app
        self._token = token
        self._cookie = f"calib_{port}"  # browsers keep cookies by host, whatever the port
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or socket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        answer = self._refusal(scope)
        if answer is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await answer(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer instead; None where the request may pass."""
        headers = Headers(scope=scope)
        if headers.get("host", "") not in self._hosts:
            return PlainTextResponse("this dashboard answers to 127.0.0.1 and localhost only\n", 403)
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            return PlainTextResponse("this dashboard answers to its own pages only\n", 403)
        if scope["path"] == _HEALTH or self._is_token(self._cookie_of(headers)):
            return self._without_token(scope) if b"token=" in scope.get("query_string", b"") else None
        query = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1")))
        if scope["type"] == "http" and scope["method"] == "GET" and self._is_token(query.get("token", "")):
            return self._without_token(scope)
        return PlainTextResponse(
            "this dashboard wants its token: open the address that was printed when it began\n", 403
        )

    def _is_token(self, word: str) -> bool:
        return hmac.compare_digest(word.encode(), self._token.encode())

    def _cookie_of(self, headers: Headers) -> str:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return ""
        return morsel.value if morsel else ""

    def _without_token(self, scope: Scope) -> Response | None:
        """To the same address without the token, with the cookie. A socket's address is left as it is."""
        if scope["type"] != "http" or scope["method"] != "GET":
            return None
        pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        kept = [(name, value) for name, value in pairs if name != "token"]
        if len(kept) == len(pairs):
            return None
        # One slash: an address that begins with two would lead to another host.
        path = "/" + scope["path"].lstrip("/\\")
        answer = RedirectResponse(path + ("?" + urlencode(kept) if kept else ""), 303)
        if self._is_token(dict(pairs).get("token", "")):
            answer.set_cookie(self._cookie, self._token, httponly=True, samesite="strict", path="/")
        answer.headers["Referrer-Policy"] = "no-referrer"
        return answer
