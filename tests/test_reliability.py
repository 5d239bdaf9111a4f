"""Every promise in docs/reliability.md names a test, or a table of cases that a test runs, and it is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="needs a checkout")


def promises():
    """Return the rows of all tables: the promise, and what holds it."""
    lines = PAGE.read_text(encoding="utf-8").splitlines() if PAGE.is_file() else []
    rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines if line.startswith("| ")]
    return [row for row in rows if row[0] not in ("promise", "---")]


def found_in(path):
    return re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize(("promise", "held_by"), promises(), ids=lambda cell: cell[:50])
def test_a_promise_names_tests_that_exist(promise, held_by):
    named = re.findall(r"`(tests/\w+\.py)`", held_by)
    assert named or "`.ci/run`" in held_by
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in named]
    for name in named:
        path = ROOT / name
        assert path.is_file(), name
        if path.name.startswith("test_"):
            assert found_in(path), name
        else:
            users = [
                other for other in path.parent.glob("test_*.py") if f"from {path.stem} import" in other.read_text()
            ]
            assert any(found_in(other) for other in users), f"no test runs {name}"
    if "(slow" in held_by:
        assert any("mark.slow" in text for text in texts)
    for table in re.findall(r"`([A-Z]+)` in", held_by):
        assert any(re.search(rf"^{table}\b", text, flags=re.MULTILINE) for text in texts), table


def test_the_page_has_promises_of_every_kind():
    heads = re.findall(r"^## (.+)$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert {"Bad input", "Long jobs", "Memory", "Numbers", "Security"} <= set(heads)
    assert len(promises()) >= 20
