"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_TEXTS = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """One server's numbers; none of them holds what a client wrote."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter("pplm_requests", "Requests by path and status.", ["path", "status"], registry=registry)
        self.seconds = Histogram(
            "pplm_request_seconds", "From a request's arrival to its last token.", buckets=_SECONDS, registry=registry
        )
        self.first_token = Histogram(
            "pplm_first_token_seconds", "From a request's arrival to its first token.", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self.batch_texts = Histogram(
            "pplm_batch_texts", "Texts that were generated at once.", buckets=_TEXTS, registry=registry
        )
        self.prompt_tokens = Counter("pplm_prompt_tokens", "Tokens of prompts that were answered.", registry=registry)
        self.new_tokens = Counter("pplm_new_tokens", "Tokens that were generated.", registry=registry)
        self.left = Counter("pplm_left_requests", "Requests whose clients left before the end.", registry=registry)
        self.turned_away = Counter("pplm_turned_away", "Requests for which there was no place.", registry=registry)
        self.waiting = Gauge("pplm_waiting_requests", "Requests that wait for their turn.", registry=registry)
        self.running = Gauge("pplm_running_requests", "Requests that are being answered.", registry=registry)

    def text(self) -> bytes:
        """Return all numbers in Prometheus' text format."""
        return generate_latest(self._registry)


class Counted:
    """Wraps an app and counts its replies; a path that is not among `paths` counts as "other"."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, paths: Collection[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count its reply by path and status."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        await self._app(scope, receive, counted)
