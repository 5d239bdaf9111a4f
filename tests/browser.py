"""Pages in a real browser: Debian's chromium through Playwright, and axe-core for what a reader may stumble over.

Both are missing on most machines, so tests skip there and say why; where `PPLM_EXPECT_ALL` is set they fail instead.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CHROMIUM = Path(os.environ.get("PPLM_CHROMIUM", "/usr/bin/chromium"))
AXE = Path(os.environ.get("PPLM_AXE", "node_modules/axe-core/axe.min.js"))
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # A page that asks for anything outside this machine fails here, whatever the network is like.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
OWN = {"", "127.0.0.1", "localhost"}
"""The hosts a page may ask; "" is a file, or data inside the page."""


def require(found, what):
    """Skip the test, or the module, without something that it needs; where all is expected to be there, fail."""
    if not found and os.environ.get("PPLM_EXPECT_ALL"):
        pytest.fail(f"PPLM_EXPECT_ALL is set, and {what} is missing")
    if not found:
        pytest.skip(f"{what} is missing", allow_module_level=True)


@contextmanager
def started_chromium() -> Iterator:
    """Start the browser. While it runs, `asyncio.run` does not work in this thread: keep it to one module's tests."""
    require(find_spec("playwright"), "the package playwright (the extra `browser`)")
    require(CHROMIUM.is_file(), f"{CHROMIUM} (apt-get install chromium; another place: PPLM_CHROMIUM)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Visitor:
    """A visitor with cookies and storage of their own: opens pages and keeps what went wrong in them."""

    browser: object
    options: dict
    complaints: list[str] = field(default_factory=list)
    forgiven: str = ""
    """What the console may say; nothing where it is empty."""

    def __post_init__(self):
        self.context = self.browser.new_context(**self.options)

    def open(self, address):
        """Open a file or an address; return Playwright's page."""
        page = self.context.new_page()
        page.set_default_timeout(15_000)
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._dialog)
        page.on("request", self._request)
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        return page

    def _console(self, message):
        if message.type == "error" and not (self.forgiven and self.forgiven in message.text):
            self.complaints.append(message.text)

    def _dialog(self, dialog):
        self.complaints.append(f"a dialog opened: {dialog.message}")
        dialog.dismiss()

    def _request(self, request):
        if urlsplit(request.url).hostname not in {*OWN, None}:
            self.complaints.append(f"asked for {request.url}")


def axe_findings(page, exclude=()):
    """Return what axe-core finds serious or critical on a page, one line each; `exclude` are CSS selectors."""
    require(AXE.is_file(), f"axe-core (npm install axe-core, then PPLM_AXE=.../axe.min.js, not {AXE})")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("exclude => axe.run({exclude})", [[selector] for selector in exclude])
    return [
        f"{finding['id']}: {finding['help']}: {node['html']}"
        for finding in found["violations"]
        if finding["impact"] in ("serious", "critical")
        for node in finding["nodes"]
    ]
