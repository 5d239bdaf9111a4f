"""Makes the page from its settings, and serves it until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # gradio reads it when it is imported
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr
import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from pplm.apps.doors.address import LOOPBACK, allowed_hosts, listen, url
from pplm.apps.doors.connections import uvicorn_config
from pplm.apps.doors.key import ApiKey
from pplm.apps.web.checker import PageChecker
from pplm.apps.web.guard import Guard
from pplm.apps.web.handlers import Page
from pplm.apps.web.layout import make_page, style
from pplm.apps.web.running import is_writing
from pplm.apps.web.served import Served
from pplm.apps.web.visits import Visits
from pplm.apps.web.waves import WaveTab

_FONTS = ["system-ui", "-apple-system", "Segoe UI", "Noto Sans", "DejaVu Sans", "sans-serif"]
_MONO = ["ui-monospace", "DejaVu Sans Mono", "monospace"]
_CONTRAST = {
    "body_text_color_subdued": "*neutral_600",
    "body_text_color_subdued_dark": "*neutral_300",
    "block_info_text_color": "*neutral_600",
    "block_info_text_color_dark": "*neutral_300",
    "button_primary_background_fill": "*primary_700",
    "button_primary_background_fill_hover": "*primary_800",
    "button_primary_text_color": "white",
    "button_secondary_text_color": "*neutral_800",
    "input_placeholder_color": "*neutral_500",
}
"""gradio's own greys are too pale to be read by everybody."""
_INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the page is served.

    Attributes
    ----------
    host, port
        Where it listens; port 0 takes a free one.
    hosts
        Further host names that browsers may use.
    key
        The key that visitors have to type; None lets everybody in.
    frames
        Addresses of web sites whose pages may show it inside themselves.
    seconds
        How long the texts of one request may take.

    """

    host: str = LOOPBACK
    port: int = 7860
    hosts: tuple[str, ...] = ()
    key: ApiKey | None = None
    frames: tuple[str, ...] = ()
    seconds: float = 120

    def __post_init__(self) -> None:
        """Check the names."""
        allowed_hosts(self.host, self.hosts)


def app_of(served: Served, settings: Settings, *, epochs: int = 200) -> ASGIApp:
    """Return the app that serves the page; `epochs` as for `WaveTab`."""
    page = Page(served, Visits(settings.seconds), WaveTab(epochs))
    blocks, checks = make_page(page)
    theme = gr.themes.Default(primary_hue="blue", neutral_hue="slate", font=_FONTS, font_mono=_MONO).set(**_CONTRAST)
    app = gr.mount_gradio_app(
        FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        blocks,
        path="/",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=1,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme,
        css=style(),
    )
    guarded = Guard(app, PageChecker(page, checks), key=settings.key, frames=settings.frames)
    return TrustedHostMiddleware(
        guarded, allowed_hosts=allowed_hosts(settings.host, settings.hosts), www_redirect=False
    )


def _is_no_end(record: logging.LogRecord) -> bool:
    """Return whether a log record is worth showing: all but those about pages still open when the server ends."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, asyncio.CancelledError) and "graceful shutdown exceeded" not in record.getMessage()


def serve(load: Callable[[], Served], settings: Settings, *, on_ready: Callable[[str], None]) -> None:
    """Serve the page until SIGTERM or an interrupt.

    Parameters
    ----------
    load
        Returns what is served; called once it is certain that the port is free.
    settings
        How it is served.
    on_ready
        Called with the page's address, before the first visitor is let in.

    Raises
    ------
    InputError
        If the port cannot be used, or the model cannot be loaded.

    """
    with listen(settings.host, settings.port) as listener:
        config = uvicorn_config(app_of(load(), settings), places=256, grace_seconds=2)
        logging.getLogger("uvicorn.error").addFilter(_is_no_end)
        on_ready(url(settings.host, listener.getsockname()[1]))
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            if is_writing():  # Python would end that thread in the midst of a token, and abort
                os._exit(0 if sys.exc_info()[0] is None else _INTERRUPTED)
