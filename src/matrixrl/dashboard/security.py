"""Who may ask, and what a browser may do with the answer.

The server answers GET requests, and POST requests for computations on what the page sends; none
changes a run. Three things are checked first:

- Host: a page of another site that lets its name point here (DNS rebinding) sends its own name.
- Origin and Sec-Fetch-Site: requests that a page of another site makes.
- Token: needed wherever other machines can connect. It is in the address that the command prints,
  and in a cookie afterwards.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "::1")

COOKIE = "matrixrl-token"

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


@dataclass(frozen=True)
class Access:
    """Who may ask.

    Attributes:
      token: that a request must show; None where only this machine can connect.
      host: address that the server is bound to.
      allowed_hosts: further names under which browsers reach it, such as that of a proxy.
      framed_by: origins whose pages may show the dashboard in a frame, such as those of a notebook.
      questions: paths that also answer POST requests with JSON: computations that change nothing.
    """

    token: str | None = None
    host: str = "127.0.0.1"
    allowed_hosts: Sequence[str] = ()
    framed_by: Sequence[str] = ()
    questions: frozenset[str] = frozenset()
    _names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        names = {*LOOPBACK, self.host, *self.allowed_hosts}
        if self.any_address:
            names |= {socket.gethostname(), socket.getfqdn()}
        object.__setattr__(self, "_names", frozenset(name.lower() for name in names))

    @property
    def any_address(self) -> bool:
        """Whether the server is bound to all addresses of this machine."""
        return self.host in ("0.0.0.0", "::", "")

    def is_known_host(self, header: str) -> bool:
        """Returns whether a Host header names this server: by a name that it knows, or, where it is
        bound to all addresses, by an address. An address cannot be made to point elsewhere.
        """
        name = host_name(header)
        if name in self._names:
            return True
        return self.any_address and _is_address(name)

    def policy(self) -> str:
        """Returns the content security policy."""
        frames = " ".join(self.framed_by) or "'none'"
        return (
            "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
            "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; "
            f"frame-ancestors {frames}; require-trusted-types-for 'script'; trusted-types 'none'"
        )


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can connect to an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_name(header: str) -> str:
    """Returns the name in a Host header, in lower case and without the port; empty for one that is
    malformed.
    """
    try:
        parts = urlsplit(f"//{header}")
        parts.port  # noqa: B018  # a malformed port raises
        name = parts.hostname or ""
    except ValueError:
        return ""
    return "" if parts.username is not None or parts.path or parts.query else name.lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Checks every request before the application sees it, and adds headers to every answer.

    Args:
      app: the application.
      access: who may ask.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access
        policy = {"content-security-policy": access.policy()}
        if not access.framed_by:
            policy |= {"x-frame-options": "DENY", "cross-origin-resource-policy": "same-origin"}
        self._headers = [(k.encode(), v.encode()) for k, v in {**HEADERS, **policy}.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no WebSockets
        headers: dict[str, list[str]] = {}
        for key, value in scope["headers"]:
            headers.setdefault(key.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        cookie: list[tuple[bytes, bytes]] = []

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *self._headers, *cookie]}
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is None and self._access.token is not None:
            given = dict(parse_qsl(scope.get("query_string", b"").decode("latin-1"))).get("token")
            if given is not None and self._is_token(given):
                name = self._cookie_name(scope)
                text = f"{name}={self._access.token}; Path=/; HttpOnly; SameSite=Strict"
                cookie.append((b"set-cookie", text.encode()))
            elif not self._has_token(scope, headers):
                refusal = 401, "a token is needed: open the address that `matrixrl dashboard` printed"
        if refusal is None:
            await self._app(scope, receive, guarded)
        else:
            await self._refuse(*refusal, send=guarded)

    def _refusal(self, scope: Scope, headers: dict[str, list[str]]) -> tuple[int, str] | None:
        """Returns status and reason if a request is refused; None if it may be answered."""
        is_question = scope["method"] == "POST" and scope["path"] in self._access.questions
        if scope["method"] not in ("GET", "HEAD") and not is_question:
            return 405, f"{scope['method'][:20]}: only GET; nothing here changes a run"
        # No page of another site can send this type without asking first, which is refused.
        kinds = [kind.split(";")[0].strip().lower() for kind in headers.get("content-type", [])]
        if is_question and kinds != ["application/json"]:
            return 415, "content-type: must be application/json"
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self._access.is_known_host(hosts[0]):
            shown = (hosts or ["(none)"])[0][:100]
            return 421, (
                f"host {shown}: not a name of this server; open it by its address, or start it with --allow-host NAME"
            )
        for origin in headers.get("origin", []):
            try:
                given = urlsplit(origin).netloc.lower()
            except ValueError:
                given = ""
            if given != hosts[0].lower():
                return 403, f"origin {origin[:100]}: a page of another site asks"
        site = (headers.get("sec-fetch-site") or ["none"])[0]
        is_opened = (headers.get("sec-fetch-mode") or [""])[0] == "navigate"
        if site not in ("none", "same-origin") and not is_opened:
            return 403, "a page of another site asks"
        return None

    def _is_token(self, given: str) -> bool:
        assert self._access.token is not None
        return hmac.compare_digest(given.encode(), self._access.token.encode())

    def _has_token(self, scope: Scope, headers: dict[str, list[str]]) -> bool:
        """Returns whether a request shows the token: in its cookie, or as a bearer token."""
        given = [
            text.removeprefix("Bearer ")
            for text in headers.get("authorization", [])
            if text.startswith("Bearer ")
        ]
        for text in headers.get("cookie", []):
            try:
                cookies = SimpleCookie(text)
            except CookieError:
                continue
            if (item := cookies.get(self._cookie_name(scope))) is not None:
                given.append(item.value)
        return any(self._is_token(text) for text in given)

    def _cookie_name(self, scope: Scope) -> str:
        """Returns a name per port: cookies of one host are shared by its ports."""
        server = scope.get("server")
        return f"{COOKIE}-{server[1]}" if server else COOKIE

    async def _refuse(self, status: int, reason: str, send: Send) -> None:
        body = json.dumps({"error": reason}).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
