"""Stands before the routes: refuses requests without the key, and bodies that are not JSON, too large or too slow."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pplm.apps.doors.connections import CLIENT_SECONDS
from pplm.apps.doors.key import ApiKey
from pplm.apps.server.errors import ApiError

OPEN = ("/health",)
"""Paths that need no key."""
_CLOSE = {"Connection": "close"}
"""A header of answers to requests whose body is not read to its end."""


class Guard:
    """Wraps an app; reads a request's whole body, within bounds, before the app is called.

    A stranger's web page can make a browser send a form or plain text at once, but JSON only after the browser has
    asked the server (CORS); so nothing but JSON is taken.
    """

    def __init__(self, app: ASGIApp, *, key: ApiKey | None, max_body: int, open_paths: Sequence[str] = OPEN) -> None:
        self._app, self._key, self._max_body, self._open = app, key, max_body, open_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer it with an error."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            self._check_key(scope)
            body = await self._body(scope, receive)
        except ApiError as error:
            await JSONResponse(error.body(), error.status, error.headers)(scope, receive, send)
            return
        await self._app(scope, _again(body, receive), send)

    def _check_key(self, scope: Scope) -> None:
        if self._key is None or scope["path"] in self._open:
            return
        if not self._key.opens(Headers(scope=scope).get("authorization")):
            wrong = "give the API key in the header Authorization: Bearer KEY"
            raise ApiError(401, wrong, code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"})

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return b""
        headers = Headers(scope=scope)
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "the body must be JSON; send the header Content-Type: application/json")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or len(length) > 12 or int(length) > self._max_body:
            raise self._too_large()
        body = b""
        try:
            async with asyncio.timeout(CLIENT_SECONDS):
                while True:
                    message = await receive()
                    body += message.get("body", b"")
                    if len(body) > self._max_body:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return body
        except TimeoutError:
            late = f"the body did not arrive within {CLIENT_SECONDS} seconds; send it again"
            raise ApiError(408, late, headers=_CLOSE) from None

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body may have at most {self._max_body} bytes; shorten it", headers=_CLOSE)


def _again(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that first gives the body that was read, then what comes after it."""
    given = False

    async def read() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return read
