"""The server's routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pplm.apps.doors.key import ApiKey
from pplm.apps.server.errors import DEFECT, ApiError, of_validation, refused
from pplm.apps.server.guard import Guard
from pplm.apps.server.jobs import Job, Piece
from pplm.apps.server.limits import Limits
from pplm.apps.server.metrics import Counted, Metrics
from pplm.apps.server.notices import noticing
from pplm.apps.server.reception import Reception
from pplm.apps.server.replies import Reply
from pplm.apps.server.schema import ChatRequest, CompletionRequest
from pplm.apps.server.waiting import WaitingRoom
from pplm.errors import InputError

PATHS = ("/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics")
LAST_SECONDS = 3
"""How long the worker may take for its last token when the server stops."""
_LEFT = 499
"""The status of a request whose client has left; nobody reads it."""


class Desk:
    """Takes requests, lets them wait for their turn, and replies."""

    def __init__(self, reception: Reception, room: WaitingRoom, limits: Limits, metrics: Metrics) -> None:
        self._reception, self._room, self._limits, self._metrics = reception, room, limits, metrics

    async def serve(self, body: CompletionRequest | ChatRequest, request: Request) -> Response:
        """Return the reply to a request, whole or as a stream that begins with its first token."""
        begun = time.monotonic()
        job = await self._enter(body, begun + self._limits.max_seconds)
        watch = asyncio.create_task(_until_left(request, job))
        handed_on = False
        try:
            first = await self._first(job)
            self._metrics.first_token.observe(time.monotonic() - begun)
            reply = Reply(body, job)
            if body.stream:
                handed_on = True
                return StreamingResponse(self._stream(reply, first, job, begun), media_type="text/event-stream")
            while await job.next() is not None:
                pass
            self._note(job, begun)
            return JSONResponse(reply.whole())
        finally:
            await _cancel(watch)
            if not handed_on:
                self._leave(job)

    async def _enter(self, body: CompletionRequest | ChatRequest, deadline: float) -> Job:
        self._room.reserve()
        try:
            order = await run_in_threadpool(self._reception.read, body)
            job = Job(order, deadline)
        finally:
            self._room.release()
        self._room.enter(job)
        return job

    async def _first(self, job: Job) -> Piece | None:
        """Return the first piece of a request's texts, or refuse the request when its time is up."""
        try:
            async with asyncio.timeout(self._limits.max_seconds):
                return await job.next()
        except TimeoutError:
            job.end()
            seconds = self._limits.max_seconds
            raise ApiError(503, f"no token came within {seconds} seconds; try again later") from None

    async def _stream(self, reply: Reply, first: Piece | None, job: Job, begun: float) -> AsyncIterator[str]:
        try:
            async for event in reply.events(first):
                yield event
            self._note(job, begun)
        finally:
            self._leave(job)

    def _leave(self, job: Job) -> None:
        if job.left or not job.over:
            self._metrics.left.inc()
        self._room.leave(job)

    def _note(self, job: Job, begun: float) -> None:
        self._metrics.seconds.observe(time.monotonic() - begun)
        self._metrics.prompt_tokens.inc(job.prompt_tokens)


def make_app(
    reception: Reception,
    room: WaitingRoom,
    limits: Limits,
    metrics: Metrics,
    *,
    hosts: Sequence[str],
    key: ApiKey | None = None,
    origins: Sequence[str] = (),
) -> FastAPI:
    """Return the server's app.

    Parameters
    ----------
    reception, room, limits, metrics
        Its parts; the room starts to work with the app and stops with it.
    hosts
        Host names that requests may use.
    key
        The key that requests have to give; None asks for none.
    origins
        Origins of web pages that may call it from a browser (CORS).

    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        with noticing():
            room.start()
            yield
            await run_in_threadpool(room.stop, LAST_SECONDS)

    # FastAPI's pages about the interface would load scripts from other hosts.
    app = FastAPI(title="pplm", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.room = room
    _add_routes(app, Desk(reception, room, limits, metrics), reception, room, metrics)
    _add_errors(app)
    app.add_middleware(Guard, key=key, max_body=limits.max_body)
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), allow_methods=["GET", "POST"],
                           allow_headers=["Authorization", "Content-Type"])  # fmt: skip
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
    app.add_middleware(Counted, metrics=metrics, paths=PATHS)
    return app


def _add_routes(app: FastAPI, desk: Desk, reception: Reception, room: WaitingRoom, metrics: Metrics) -> None:
    since = int(time.time())

    def model(name: str) -> dict[str, Any]:
        own = {"id": name, "object": "model", "created": since, "owned_by": "pplm"}
        return {**own, "steering": reception.models[name] or {}}

    @app.post("/v1/completions")
    async def completions(body: CompletionRequest, request: Request) -> Response:
        return await desk.serve(body, request)

    @app.post("/v1/chat/completions")
    async def chat(body: ChatRequest, request: Request) -> Response:
        return await desk.serve(body, request)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model(name) for name in reception.models]}

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str) -> dict[str, Any]:
        if name not in reception.models:
            served = ", ".join(reception.models)
            raise ApiError(404, f"the model is not served here; choose one of {served}", "model", "model_not_found")
        return model(name)

    @app.get("/health")
    async def health() -> JSONResponse:
        works = room.works
        return JSONResponse({"status": "ok" if works else "stopped"}, 200 if works else 503)

    @app.get("/metrics")
    async def numbers() -> Response:
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(ApiError)
    async def of_ours(_: Request, error: ApiError) -> JSONResponse:
        return JSONResponse(error.body(), error.status, error.headers)

    @app.exception_handler(RequestValidationError)
    async def of_pydantic(_: Request, error: RequestValidationError) -> JSONResponse:
        found = of_validation(list(error.errors()))
        return JSONResponse(found.body(), found.status)

    @app.exception_handler(InputError)
    async def of_input(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse(refused(str(error)).body(), 400)

    @app.exception_handler(HTTPException)
    async def of_http(_: Request, error: HTTPException) -> JSONResponse:
        found = ApiError(error.status_code, str(error.detail))
        return JSONResponse(found.body(), found.status, error.headers)

    @app.exception_handler(Exception)
    async def of_a_defect(_: Request, error: Exception) -> JSONResponse:  # noqa: ARG001 - it is logged
        return JSONResponse(ApiError(500, DEFECT).body(), 500)


async def _until_left(request: Request, job: Job) -> None:
    """Wait until the client leaves, then end its job."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.left = True
    job.end(ApiError(_LEFT, "the client has left"))


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
