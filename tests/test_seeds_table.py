"""The script that puts the comparisons of several seeds together."""

import csv
from functools import partial
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "seeds_table.py"


@pytest.fixture
def call(run_script):
    return partial(run_script, SCRIPT)


def write(path, *rows):
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, ["method", "attribute", "right", "vader", "held_out_texts", "perplexity", "dist_3"]
        )
        writer.writeheader()
        writer.writerows(dict(zip(writer.fieldnames, row, strict=True)) for row in rows)


def test_shares_are_averaged_and_perplexities_by_their_logarithms(call, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    write(
        one / "metrics.csv",
        ("B", "all", 0.4, -1e-18, "", 20, 0.9),
        ("B", "praise", 0.9, 0.9, "", 90, 0.9),
        ("BC", "all", 0.6, 0.25, "", 40, 0.8),
    )
    write(two / "metrics.csv", ("B", "all", 0.5, 0, "", 45, 0.8), ("BC", "all", 0.5, 0.35, "", 10, 0.9))
    code, out, err = call(one, two)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "|  | VADER right | VADER towards the wanted side | perplexity | dist-3 |",
        "| --- | --- | --- | --- | --- |",
        "| B | 45.00% (40.00 to 50.00) | 0.000 (0.000 to 0.000) | 30.0 (20.0 to 45.0) | 0.850 (0.800 to 0.900) |",
        "| BC | 55.00% (50.00 to 60.00) | 0.300 (0.250 to 0.350) | 20.0 (10.0 to 40.0) | 0.850 (0.800 to 0.900) |",
    ]


def test_candidates_have_rows_of_their_own_without_dist_n_and_what_is_not_everywhere_is_named(call, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        write(folder / "metrics.csv", ("B", "all", "", "", 0.1, "", 0.9))
        write(folder / "candidates.csv", ("BC", "all", "", "", 0.3, "", 0.5))
    write(one / "metrics.csv", ("B", "all", "", "", 0.1, "", 0.9), ("BR", "all", "", "", 0.2, "", 0.9))
    code, out, err = call(one, two)
    assert (code, err) == (0, "left out, not in all folders: BR\n")
    assert out.splitlines()[2:] == [
        "| B | 10.00% (10.00 to 10.00) | 0.900 (0.900 to 0.900) |",
        "| all steered candidates | 30.00% (30.00 to 30.00) |  |",
    ]


def test_folders_that_hold_no_comparison_are_refused_in_a_line(call, tmp_path):
    code, out, err = call(tmp_path)
    assert (code, out) == (2, "")
    assert err == f"Error: {tmp_path} has no metrics.csv; name the output folders of pplm evaluate\n"
    (tmp_path / "metrics.csv").write_text("a,b\n1,2\n")
    code, out, err = call(tmp_path)
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "has no columns method and attribute" in err


def test_runs_of_other_attributes_are_not_averaged(call, tmp_path):
    write(tmp_path / "one" / "metrics.csv", ("B", "all", 0.4, 0.1, "", 20, 0.9))
    write(tmp_path / "two" / "metrics.csv", ("B", "all", "", "", 0.2, 20, 0.9))
    code, out, err = call(tmp_path / "one", tmp_path / "two")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "measure different things" in err


@pytest.mark.parametrize("kind", ["topics", "sentiment"])
def test_the_tables_of_the_documentation_come_from_the_numbers_beside_it(call, kind):
    folder = ROOT / "docs" / "evaluation"
    code, out, _ = call(folder / kind, *sorted((folder / "seeds").glob(f"{kind}-*")))
    assert code == 0
    assert len(out.splitlines()) >= 4
    text = (folder / "README.md").read_text(encoding="utf-8")
    for line in out.splitlines():
        assert line in text
