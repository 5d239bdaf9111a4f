"""The documentation as a site: it builds without a warning, links that lead nowhere stop it, browsers can read it."""

import re
import subprocess
import sys
import threading
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import axe_findings, require

import attribute_models
import pplm

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow
REPORTS = ("report.html", "frontier.html")
LARGE = ("api/pplm.html", "families.html", "CHANGELOG.html", "evaluation/index.html")
"""Pages that axe is not shown, as it takes minutes for them: they have nothing that others have not."""
DARK = ("index.html", "start.html", "how_it_works.html", "results.html", "api/attribute_models.html")
"""Pages that axe looks at in the dark as well: they have code, tables, pictures and signatures."""


def built(folder, cwd=ROOT):
    """Build the site; return the exit code and what was printed."""
    require(find_spec("mkdocs") and find_spec("material") and find_spec("mkdocstrings"), "mkdocs (the extra `docs`)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(  # noqa: S603
        command, cwd=cwd, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    code, printed = built(folder)
    assert code == 0, printed
    return folder


@pytest.fixture(scope="module")
def served(site):
    """The address at which the site is served."""
    handler = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(site)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


class Paragraphs(HTMLParser):
    """The texts of a page's paragraphs, without code."""

    def __init__(self):
        super().__init__()
        self.found, self.inside = [], []

    def handle_starttag(self, tag, attrs):  # noqa: ARG002
        if tag == "p":
            self.found.append("")
        if tag in ("p", "code"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data):
        if self.inside:
            self.found[-1:] = [self.found[-1] + (data if self.inside[-1] == "p" else "code")] if self.found else []


def unread(html):
    """Return what was meant as a table, list or block in a page and became running text."""
    paragraphs = Paragraphs()
    paragraphs.feed(html)
    return [text for text in paragraphs.found if re.search(r"^\s*(\||[-*] |\d+\. |#+ |```)", text, re.MULTILINE)]


def pages(site):
    return sorted(path.relative_to(site).as_posix() for path in site.rglob("*.html") if path.name != "404.html")


def test_tables_and_lists_of_every_page_are_read_as_such(site):
    assert len(pages(site)) > 30
    assert {page: unread((site / page).read_text("utf-8")) for page in pages(site)} == {
        page: [] for page in pages(site)
    }
    assert unread("<p>Three files:\n| a | b |</p>")
    assert unread("<p>Two of them:\n- <code>one</code></p>")
    assert not unread("<p>A - B, <code>| x |</code></p>")


LEAD_NOWHERE = ("nowhere.md", "dial.md#no-such-heading", "../no_such_file.py", "no_such.png")
LEAD_SOMEWHERE = ("dial.md#strength", "../pplm/products.py", "../SECURITY.md#what-is-trusted", "dial.md")


def test_links_that_lead_nowhere_stop_the_build_and_are_named(tmp_path):
    for name in ("mkdocs.yml", "scripts", "pplm", "attribute_models"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "docs").mkdir()
    for path in (ROOT / "docs").iterdir():
        (tmp_path / "docs" / path.name).symlink_to(path)
    links = [f"[a link]({target})\n" for target in (*LEAD_NOWHERE, *LEAD_SOMEWHERE)]
    (tmp_path / "docs" / "new.md").write_text("# New\n" + "\n".join(links), encoding="utf-8")
    code, printed = built(tmp_path / "out", cwd=tmp_path)
    assert code == 1
    complaints = [line for line in printed.splitlines() if line.startswith("WARNING")]
    assert len(complaints) == len(LEAD_NOWHERE), printed
    assert all("new.md" in line for line in complaints)
    assert all(any(target.strip("./") in line for line in complaints) for target in LEAD_NOWHERE), printed


@pytest.mark.parametrize("package", [pplm, attribute_models])
def test_the_reference_holds_every_exported_name(site, package):
    page = (site / "api" / f"{package.__name__}.html").read_text("utf-8")
    for name in package.__all__:
        assert f'id="{package.__name__}.{name}"' in page, name
    if package is pplm:
        shown = re.sub(r"<[^>]+>", "", page)
        assert "norm to this power (0 to 2)" in shown  # a field's own explanation
        assert "_setting" not in shown


def test_the_readme_is_the_first_page_and_other_files_come_along(site):
    assert "<h1" in (site / "index.html").read_text("utf-8")
    assert (site / "source/pplm/products.py").read_bytes() == (ROOT / "pplm/products.py").read_bytes()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_opens_without_a_complaint_and_can_be_read(site, served, visitor, scheme):
    reader = visitor(color_scheme=scheme)
    for address in pages(site):
        page = reader.open(f"{served}/{address}")
        shown = page.locator("body").get_attribute("data-md-color-scheme")
        assert shown == ("default" if scheme == "light" else "slate")
        if address in DARK or (scheme == "light" and address not in LARGE and not address.endswith(REPORTS)):
            assert axe_findings(page) == [], address
        page.close()


@pytest.mark.browser
def test_the_search_finds_a_page_by_a_word(served, visitor):
    page = visitor().open(f"{served}/index.html")
    page.locator("input[name=query]").fill("windup")
    page.locator(".md-search-result__item a", has_text="controller").first.wait_for()


@pytest.mark.browser
def test_a_phone_shows_the_first_page_without_scrolling_sideways(served, visitor):
    page = visitor(viewport={"width": 390, "height": 800}).open(f"{served}/index.html")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.browser
def test_the_button_that_copies_a_command_covers_none_of_it(served, visitor):
    page = visitor(viewport={"width": 390, "height": 800}).open(f"{served}/start.html")
    page.wait_for_selector("pre .md-code__button")
    assert (
        page.locator("pre:has(.md-code__button)").evaluate_all(
            """all => all.filter(block => {
          const button = block.querySelector(".md-code__button").getBoundingClientRect(), text = document.createRange();
          text.selectNodeContents(block.querySelector("code"));
          return [...text.getClientRects()].some(({ right, bottom, top }) =>
            right > button.left && top < button.bottom && bottom > button.top);
        }).map(block => block.textContent)"""
        )
        == []
    )
