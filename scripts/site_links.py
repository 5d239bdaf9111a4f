"""A hook of mkdocs (mkdocs.yml) that makes README.md the site's first page and keeps links to files working.

Pages in docs/ link to files outside it (`../SECURITY.md`, `../pplm/products.py`), as GitHub needs them. Here the
Markdown files in `PAGES` become pages, other files that a page links to are copied to `source/`, and the links are
adapted. A link to a file that is not in the repository is left as it is, and mkdocs reports it.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md")
"""Markdown outside docs/ that the site shows, under the same paths."""
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")
FENCE = re.compile(r"^(```.*?^```$)", re.MULTILINE | re.DOTALL)


def site_path(path: str) -> str:
    """Return the path of a repository file in the site's source."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return path if path in PAGES else f"source/{path}"


def linked_files(text: str, folder: str) -> set[str]:
    """Return the files of the repository that a page in `folder` links to."""
    targets = {match[2] for match in LINK.finditer(FENCE.sub("", text)) if "://" not in match[2]}
    paths = {posixpath.normpath(posixpath.join(folder, target)) for target in targets}
    return {path for path in paths if (ROOT / path).is_file()}


def relinked(text: str, folder: str, own: str) -> str:
    """Return a page's text, its links from the repository's `folder` made relative to its site path `own`."""

    def link(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, match[2]))
        if "://" in match[2] or not (ROOT / path).is_file():
            return match[0]
        target = posixpath.relpath(site_path(path), posixpath.dirname(own) or ".")
        return f"{match[1]}{target}{match[3] or ''}{match[4]}"

    parts = FENCE.split(text)
    return "".join(part if number % 2 else LINK.sub(link, part) for number, part in enumerate(parts))


def repository_path(file: File) -> str:
    """Return the repository file that a page is made from."""
    return file.src_uri if file.src_uri in PAGES else f"docs/{file.src_uri}"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages and files that lie outside docs/."""
    for path in PAGES:
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    linked: set[str] = set()
    for page in files.documentation_pages():
        linked |= linked_files(page.content_string, posixpath.dirname(repository_path(page)))
    for path in sorted(linked):
        if not path.startswith("docs/") and path not in PAGES:
            files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Adapt a page's links to the site."""
    own = repository_path(page.file)
    return relinked(markdown, posixpath.dirname(own), page.file.src_uri)
