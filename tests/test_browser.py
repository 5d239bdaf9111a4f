"""What the browser tests rely on: pages that misbehave are noticed."""

import pytest
from browser import Visitor, axe_findings

pytestmark = [pytest.mark.slow, pytest.mark.browser]


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("<script>alert(1)</script>", "a dialog opened"),
        ("<script>nothing.there()</script>", "nothing is not defined"),
        ("<script>console.error('no')</script>", "no"),
        ("<img src='https://example.org/a.png'>", "asked for https://example.org/a.png"),
        ("<p>All is well.</p>", None),
    ],
)
def test_what_a_page_does_wrong_is_noticed(chromium, tmp_path, body, complaint):
    path = tmp_path / "page.html"
    path.write_text(body, encoding="utf-8")
    visitor = Visitor(chromium, {})
    visitor.open(path).wait_for_timeout(100)
    visitor.context.close()
    assert any(complaint in found for found in visitor.complaints) if complaint else visitor.complaints == []


def test_axe_finds_text_that_is_hard_to_read(visitor, tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<html lang=en><title>A</title><main><p style='color:#ccc'>Pale", encoding="utf-8")
    found = axe_findings(visitor().open(path))
    assert len(found) == 1
    assert found[0].startswith("color-contrast")
    assert axe_findings(visitor().open(path), exclude=["p"]) == []
