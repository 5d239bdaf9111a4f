"""Stands before gradio: lets through what the page needs and nothing else, and asks for the key where there is one.

gradio's app also takes uploads, serves files, passes on requests and describes an API; the page has no use for these.
"""

from __future__ import annotations

import base64
import binascii
import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pplm.apps.doors.key import ApiKey

HEALTH = "/health"
LARGEST_BODY = 64 * 1024
"""Bytes of a request: many times what the page's settings can hold."""
_READ = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(static|assets|svelte)/[^%]*"
    r"|/gradio_api/(theme\.css|app_id/?|startup-events|queue/data|heartbeat/\w+)"
)
_SENT = re.compile(r"/gradio_api/(queue/join|run/predict|cancel|reset)/?")
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'none'; frame-ancestors {frames}"
)
"""gradio's own scripts are inline and use `eval`; nothing may come from, or go to, anywhere else."""


class Guard:
    """Wraps an app.

    Parameters
    ----------
    app
        What is behind it.
    key
        What opens the page, as the password of HTTP's basic authentication, any name with it; None for nobody.
    frames
        Pages that may show this one inside themselves.

    """

    def __init__(self, app: ASGIApp, *, key: ApiKey | None, frames: tuple[str, ...] = ()) -> None:
        self._app, self._key = app, key
        own = {
            "Content-Security-Policy": _POLICY.format(frames=" ".join(["'self'", *frames])),
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        self._headers = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            answer = self._refusal(scope)
            await (answer or self._app)(scope, _bounded(receive), self._with_headers(send))

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        """Return the answer to what is not let through."""
        path, headers = scope["path"], Headers(scope=scope)
        if path == HEALTH:
            return PlainTextResponse("ok")
        if self._key is not None and not self._opens(headers.get("authorization")):
            wrong = "This page asks for a key: enter it as the password, with any name."
            return PlainTextResponse(wrong, 401, {"WWW-Authenticate": 'Basic realm="pplm", charset="UTF-8"'})
        if scope["method"] in ("GET", "HEAD") and _READ.fullmatch(path) and ".." not in path:
            return None
        if scope["method"] != "POST" or not _SENT.fullmatch(path):
            return PlainTextResponse("There is nothing here.", 404)
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return PlainTextResponse("The body must be JSON.", 415)
        length = headers.get("content-length", "")
        if not length.isdecimal() or len(length) > 9 or int(length) > LARGEST_BODY:
            return PlainTextResponse(f"The body may have at most {LARGEST_BODY} bytes.", 413, {"Connection": "close"})
        return None

    def _opens(self, authorization: str | None) -> bool:
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "basic":
            return self._key is not None and self._key.opens(authorization)
        try:
            _, _, password = base64.b64decode(given, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return False
        return self._key is not None and self._key.matches(password)

    def _with_headers(self, send: Send) -> Send:
        async def start(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        return start


def _bounded(receive: Receive) -> Receive:
    """Return what breaks off where more is sent than was announced."""
    read = 0

    async def once() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        return {"type": "http.disconnect"} if read > LARGEST_BODY else message

    return once
