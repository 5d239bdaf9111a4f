"""The notebooks of examples/, run from the first cell to the last."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from browser import require

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.ipynb"))
SECONDS = 60


def executed(path):
    """Run a notebook; return its cells' outputs."""
    require(find_spec("nbclient") and find_spec("ipykernel"), "nbclient or ipykernel (the extra `notebooks`)")
    import nbformat
    from nbclient import NotebookClient

    book = nbformat.read(path, as_version=4)
    NotebookClient(book, timeout=SECONDS, resources={"metadata": {"path": str(path.parent)}}).execute()
    return [output for cell in book.cells if cell.cell_type == "code" for output in cell.outputs]


def streamed(outputs, name):
    return "".join(one.text for one in outputs if one.output_type == "stream" and one.name == name)


def run(path):
    """Run a notebook; return what it printed, and the kinds of what it showed."""
    outputs = executed(path)
    return streamed(outputs, "stdout"), [kind for one in outputs for kind in one.get("data", {})]


def percentages(printed, pattern):
    return [float(found) for found in re.findall(pattern, printed)]


@pytest.fixture(scope="module")
def books():
    return {path.stem: path for path in EXAMPLES}


@pytest.mark.slow
def test_steering_in_five_minutes_shows_that_the_dial_works(books):
    printed, shown = run(books["steering_in_five_minutes"])
    unsteered, steered = percentages(printed, r"unsteered (.*?)%, steered"), percentages(printed, r", steered (.*?)%")
    assert steered[0] > unsteered[0] + 2
    by_strength = percentages(printed, r"strength [\d.]+: +(.*?)%")
    assert by_strength == sorted(by_strength)
    assert by_strength[0] == unsteered[0]
    assert "text/html" in shown
    assert len(percentages(printed, r"-> +(.*?)%  .* nats  of: ")) == 12
    [plain], [boats] = (
        percentages(printed, pattern) for pattern in (r"boats: unsteered (.*?)%", r"boats: .*, steered (.*?)%")
    )
    assert boats > plain + 2
    assert printed.count("\nunsteered: The film") == printed.count("\nsteered:   The film") == 3


@pytest.mark.slow
def test_your_own_attribute_changes_the_manner_of_the_texts(books):
    printed, _ = run(books["your_own_attribute"])
    [plain] = percentages(printed, r"unsteered: (.*?)%")
    [personal] = percentages(printed, r"personal: (.*?)%")
    [factual] = percentages(printed, r"factual: (.*?)%")
    assert personal > plain + 3
    assert factual < plain
    assert min(percentages(printed, r"tokens +(\d+)%")) > 90


@pytest.mark.slow
@pytest.mark.alone
def test_the_sine_wave_is_held_and_made_faster(books):
    printed, shown = run(books["the_sine_wave"])
    alone, held = percentages(printed, r"10 s: ([\d.]+)")
    assert alone > 100
    assert held < 0.01
    assert percentages(printed, r"steered ([\d.]+) Hz") == [2.5]
    assert shown.count("image/png") == 3


@pytest.mark.slow
def test_a_bar_is_drawn_without_a_warning_that_something_is_not_installed(tmp_path):
    require(find_spec("nbformat") and find_spec("ipywidgets"), "nbformat or ipywidgets (the extra `notebooks`)")
    import nbformat

    cell = nbformat.v4.new_code_cell("import pplm\npplm.load_model()")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "bar.ipynb")
    assert "IProgress" not in streamed(executed(tmp_path / "bar.ipynb"), "stderr")


def test_notebooks_are_kept_without_outputs():
    assert len(EXAMPLES) == 3
    for path in EXAMPLES:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if "outputs" in cell)
