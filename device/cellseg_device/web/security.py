"""Who may ask for what: every request passes here before anything else looks at it.

| what is tried                                   | what stops it                                             |
|-------------------------------------------------|-----------------------------------------------------------|
| another site's name that leads here (rebinding) | only this computer's names and addresses in `Host`        |
| another site's page that posts here             | a POST needs an `Origin` equal to `Host`                  |
| somebody else in the network                    | a token, then a cookie that no script reads               |
| guessing the token                              | ten tries a minute from an address                        |
| a script in an image's name                     | a policy by which only this server's own files run        |
| filling the memory                              | a body's size is limited before it is read                |
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections import OrderedDict, deque
from collections.abc import Collection, Mapping
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY_BYTES = 1 << 20
MOST_TRIES, TRIES_S = 10, 60.0
_MOST_ADDRESSES = 1000
_COOKIE_DAYS = 90

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all, browsers send no origin with a form either
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# A redirect would not do: a browser that came from another site would not send a strict cookie with what follows it
_WELCOME = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=/">'
    '<title>cellseg</title><p><a href="/">Go on to the results</a></p></html>'
)


class Guard:
    """Passes on the requests that are allowed, and answers the others.

    Parameters
    ----------
    app : ASGI application
    names : collection of str
        Names in `Host` that lead here, in small letters; the address that a request came to does always.
    token : str or None
        What to show once; None lets everybody in.
    larger : mapping of str to int
        By path, how many bytes may be sent there, where that is not `MOST_BODY_BYTES`.
    """

    def __init__(
        self, app: ASGIApp, *, names: Collection[str], token: str | None, larger: Mapping[str, int] | None = None
    ) -> None:
        self._app, self._names, self._token = app, frozenset(names), token
        self._larger = dict(larger or {})
        self._tries = _Tries()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":  # the start and the end of the server
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, _Body(receive, self._most_bytes(scope)).receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is not passed on; None for one that is."""
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0], scope):
            return PlainTextResponse("This name does not lead here: use the address that 'serve' printed.", 400)
        if scope["method"] not in ("GET", "HEAD") and not _is_same_origin(headers):
            return PlainTextResponse("This was asked for by another site's page.", 403)
        length = headers.get("content-length", "0")
        most = self._most_bytes(scope)
        if not length.isdecimal() or int(length) > most:
            return PlainTextResponse(_too_large(most), 413)
        return None if self._token is None else self._unless_known(scope, headers, self._token)

    def _most_bytes(self, scope: Scope) -> int:
        return self._larger.get(scope["path"], MOST_BODY_BYTES)

    def _is_own(self, host: str, scope: Scope) -> bool:
        """Whether a name or an address in `Host` is this computer's."""
        name = _without_port(host)
        if name in self._names:
            return True
        server = scope.get("server")
        try:
            return server is not None and ipaddress.ip_address(name) == _plain(server[0])
        except ValueError:
            return False

    def _unless_known(self, scope: Scope, headers: Headers, token: str) -> Response | None:
        """Return the answer to somebody who has not shown the token before."""
        name, right = _cookie_name(scope), _cookie(token)
        given = cookie_parser(headers.get("cookie", "")).get(name, "")
        if hmac.compare_digest(given.encode(), right.encode()):
            return None
        shown = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=20).get("token")
        if not shown:
            return PlainTextResponse("Open the address with '?token=' that 'cellseg-device serve' printed.", 401)
        client = scope["client"][0] if scope.get("client") else ""
        if self._tries.are_too_many(client):
            return PlainTextResponse("Too many wrong tokens: wait a minute.", 429, {"Retry-After": f"{TRIES_S:.0f}"})
        if not hmac.compare_digest(shown[0].encode(), token.encode()):
            self._tries.note(client)
            return PlainTextResponse("This is not the token.", 401)
        welcome = HTMLResponse(_WELCOME)
        welcome.set_cookie(name, right, max_age=_COOKIE_DAYS * 86_400, httponly=True, samesite="strict")
        return welcome


class _Tries:
    """Wrong tokens of the last minute, by the address they came from."""

    def __init__(self) -> None:
        self._times: OrderedDict[str, deque[float]] = OrderedDict()

    def are_too_many(self, client: str) -> bool:
        """Whether an address has to wait."""
        times = self._times.get(client)
        return times is not None and len(times) >= MOST_TRIES and time.monotonic() - times[0] < TRIES_S

    def note(self, client: str) -> None:
        """Note a wrong token."""
        self._times.setdefault(client, deque(maxlen=MOST_TRIES)).append(time.monotonic())
        self._times.move_to_end(client)
        while len(self._times) > _MOST_ADDRESSES:
            self._times.popitem(last=False)


class _Body:
    """The body of a request, as far as it is not too long."""

    def __init__(self, receive: Receive, most: int) -> None:
        self._receive, self._bytes, self._most = receive, 0, most

    async def receive(self) -> Message:
        """Return the next part; raise HTTPException where that is too much."""
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._most:
            raise HTTPException(413, _too_large(self._most))
        return message


def _too_large(most: int) -> str:
    return f"More than {most >> 20} MB is not taken."


def _without_port(host: str) -> str:
    """Return the name or the address in `Host`, in small letters; empty if it is none."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        port = port.removeprefix(":") if bracket else "x"
    else:
        name, _, port = host.partition(":")
    return name.lower() if not port or port.isdecimal() else ""


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; of an IPv4 address within IPv6 the former."""
    found = ipaddress.ip_address(address.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


def _is_same_origin(headers: Headers) -> bool:
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site") == "same-origin"
    scheme, _, place = origin.partition("://")
    return scheme in ("http", "https") and place.lower() == headers["host"].lower()


def _cookie_name(scope: Scope) -> str:
    """Return the cookie's name: browsers give the cookies of a host to all its ports."""
    server = scope.get("server")
    return f"cellseg-{server[1] if server else 0}"


def _cookie(token: str) -> str:
    """Return the cookie's value, from which nobody learns the token."""
    return hmac.new(token.encode(), b"cellseg page", hashlib.sha256).hexdigest()
