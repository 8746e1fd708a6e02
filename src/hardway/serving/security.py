"""What every HTTP request has to pass before a handler sees it, and no log may show.

A web page that a user visits can make their browser send requests to this machine. So
the host must be one that no foreign name can resolve to (DNS rebinding), the origin
must be this server, and a body must be declared as JSON, which a page of another origin
cannot do without asking first.
"""

import hmac
import ipaddress
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse

from hardway.serving.api import APIError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

OPEN = {"/", "/health"}  # without a key: the page asks for it


def error_response(error: APIError) -> JSONResponse:
    """Return an error as an HTTP answer in OpenAI's shape."""
    headers = {"x-should-retry": "true", "retry-after": "1"}
    busy = error.status in (429, 503)
    return JSONResponse(error.body(), error.status, headers if busy else None)


class Guard:
    """ASGI middleware: refuse foreign hosts and origins, other bodies, wrong keys."""

    def __init__(self, app: App, host: str, api_key: str | None = None) -> None:
        """``host`` is what the server listens on, and a name it may be called by."""
        self.app, self.api_key = app, api_key
        self.names = {"localhost", host.lower(), socket.gethostname().lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with the reason why not."""
        if scope["type"] == "http":
            try:
                self.check(scope)
            except APIError as error:
                await error_response(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def check(self, scope: Scope) -> None:
        """Raise `APIError` for a request that must not be answered."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self.is_ours(host):
            raise APIError(403, "the Host header names another host", code="bad_host")
        for origin in headers.getlist("origin"):
            if urlsplit(origin).netloc.lower() != host.lower():
                message = "requests of another origin are not answered"
                raise APIError(403, message, code="bad_origin")
        if scope["path"] not in OPEN:
            self.check_key(headers)
        if scope["method"] == "POST":
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json":
                message = "the Content-Type header must be application/json"
                raise APIError(415, message, code="unsupported_media_type")

    def is_ours(self, host: str) -> bool:
        """Return whether a Host header is an address or one of the server's names."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
            if name in self.names:
                return True
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def check_key(self, headers: Headers) -> None:
        """Compare the bearer token with the key, in a time that tells nothing."""
        if self.api_key is None:
            return
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token.strip().encode() if scheme.lower() == "bearer" else b""
        if not hmac.compare_digest(given, self.api_key.encode()):
            message = "the Authorization header must be: Bearer and the server's key"
            raise APIError(401, message, code="invalid_api_key")
