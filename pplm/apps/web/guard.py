"""Stands before gradio: lets through what the page needs and nothing else, and asks for the key where there is one.

gradio's app also takes uploads, serves files, fetches addresses, passes on requests, describes an API and lets web
pages from elsewhere read its answers (CORS); the page has no use for these.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from types import NoneType
from typing import Any, Protocol

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pplm.apps.doors.connections import CLIENT_SECONDS
from pplm.apps.doors.key import ApiKey

HEALTH = "/health"
LARGEST_BODY = 128 * 1024
"""Bytes of a request: more than the page's settings can hold in any script."""
_READ = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(static|assets|svelte)/[^%]*"
    r"|/gradio_api/(theme\.css|app_id/?|startup-events|queue/data|heartbeat/\w+)"
)
_CLOSE = {"Connection": "close"}
"""A header of answers to requests whose body is not read to its end."""
_VISITOR = re.compile(r"\w{1,64}", re.ASCII)
"""A session_hash, which gradio's page makes up. Half a character in it makes gradio fail, for other visitors too."""
_SENT = re.compile(r"/gradio_api/(queue/join|run/predict|cancel|reset)/?")
_FIELDS: Mapping[str, tuple[type, ...]] = {
    "data": (list,),
    "event_data": (object,),
    "event_id": (str,),
    "fn_index": (int,),
    "session_hash": (str,),
    "trigger_id": (int, NoneType),
}
"""What gradio's page sends. Other types, and the fields that gradio has for other clients, can make it fail."""
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self'; "
    "form-action 'none'; frame-ancestors {frames}"
)
"""gradio's own scripts are inline and use `eval`; nothing may come from, or go to, anywhere else."""


class Checker(Protocol):
    """Finds what the app behind the guard cannot use."""

    def link(self, pairs: Iterable[tuple[str, str]]) -> str:
        """Return why a query string cannot be used; "" where it can."""

    def values(self, body: Mapping[str, Any]) -> str:
        """Return why a handler's values, `body["data"]`, cannot be used; "" where they can."""


class Guard:
    """Wraps an app.

    Parameters
    ----------
    app
        The app behind the guard.
    checker
        Finds what the app cannot use: wrong values are answered with 400 alone, a wrong link with 400 and the page,
        which shows the reason.
    key
        The key that opens the page: the password of HTTP's basic authentication, with any name, or a bearer token; None
        lets everybody in.
    frames
        Web sites whose pages may show this one inside themselves.

    """

    def __init__(self, app: ASGIApp, checker: Checker, *, key: ApiKey | None, frames: tuple[str, ...] = ()) -> None:
        self._app, self._checker, self._key = app, checker, key
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
            wrong_link = answer is None and scope["path"] == "/" and bool(self._checker.link(_pairs(scope)))
            send = self._with_headers(send, 400 if wrong_link else None)
            if answer is None and scope["method"] == "POST":
                body = await _read(receive)
                answer, receive = self._refused(body), _again(body or b"", receive)
            try:
                await (answer or self._app)(scope, receive, send)
            except RuntimeError as error:
                # gradio ended a stream with 404, as for a visitor that it does not have; the reason has been sent.
                if not isinstance(error.__cause__, HTTPException):
                    raise
                await send({"type": "http.response.body", "body": b""})

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request whose head is refused; None where it is let through."""
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
            return _too_large()
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

    def _refused(self, body: bytes | None) -> Response | None:
        """Return the answer to a body that is refused; None where it is let through."""
        if body is None:
            return PlainTextResponse(f"The body did not arrive within {CLIENT_SECONDS} seconds.", 408, _CLOSE)
        if len(body) > LARGEST_BODY:
            return _too_large()
        try:
            given = json.loads(body)
        except (ValueError, RecursionError):
            return PlainTextResponse("The body must be JSON.", 400)
        values = given.get("data", []) if isinstance(given, dict) else None
        # gradio takes an object for a file, and fetches it from the address that it names.
        if not isinstance(values, list) or not all(_is_plain(value) for value in values):
            return PlainTextResponse("The values must be texts, numbers and lists of texts.", 400)
        visitor = given.get("session_hash", "0")
        if not (isinstance(visitor, str) and _VISITOR.fullmatch(visitor)):
            return PlainTextResponse("The session_hash must be at most 64 letters and digits.", 400)
        why = self._checker.values(given) if "data" in given else ""
        if why:  # gradio's page shows it as HTML
            return JSONResponse({"detail": escape(why, quote=False)}, 400)
        return None if _is_gradios(given) else PlainTextResponse("The body's fields are not those of the page.", 400)

    def _with_headers(self, send: Send, status: int | None) -> Send:
        """Return a `send` that gives an answer our headers, none of CORS, and a status if one is given."""

        async def start(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["status"] = status or message["status"]
                headers = MutableHeaders(scope=message)
                for name in [name for name in headers if name.startswith("access-control-")]:
                    del headers[name]
                for name, value in self._headers.items():
                    headers[name] = value
            await send(message)

        return start


async def _read(receive: Receive) -> bytes | None:
    """Return a request's body, no longer read once it is too large; None where it does not arrive in time."""
    body = b""
    try:
        async with asyncio.timeout(CLIENT_SECONDS):
            while len(body) <= LARGEST_BODY:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body", False):
                    break
    except TimeoutError:
        return None
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first gives the body that was read, then what comes after it."""
    bodies = [body]

    async def read() -> Message:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await receive()

    return read


def _pairs(scope: Scope) -> list[tuple[str, str]]:
    return QueryParams(scope.get("query_string", b"")).multi_items()


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, str) for item in value)
    return value is None or isinstance(value, str | int | float)


def _is_gradios(body: Mapping[str, Any]) -> bool:
    """Return whether a body is such as gradio's page sends: known fields, of their types, no NaN, whole characters."""
    try:
        json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return all(isinstance(own, _FIELDS.get(name, ())) for name, own in body.items())


def _too_large() -> PlainTextResponse:
    return PlainTextResponse(f"The body may have at most {LARGEST_BODY} bytes.", 413, _CLOSE)
