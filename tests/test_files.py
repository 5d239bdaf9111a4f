"""Tables, whole files and the progress bar."""

import csv
import io
import math

import pytest
from rich.console import Console

from pplm.files import progress
from pplm.files.atomic import atomic_file
from pplm.files.lines import cut_half_line, json_line, write_whole
from pplm.files.progress import progress_bar
from pplm.files.tables import markdown_table, write_csv


def test_a_tables_columns_line_up_and_a_cell_keeps_it_whole():
    assert markdown_table(["name", "b"], [["x|y", "two\nlines"], ["z", ""]]) == [
        "| name | b         |",
        "| ---  | ---       |",
        "| x\\|y | two lines |",
        "| z    |           |",
    ]


def test_a_very_long_cell_does_not_widen_its_column_beyond_reading():
    head, rule, long, short = markdown_table(["a"], [["x" * 100], ["y"]])
    assert len(head) == len(rule) == len(short) == 44
    assert "x" * 100 in long


def test_what_is_no_number_is_an_empty_field_of_a_csv_file(tmp_path):
    rows = [{"a": 1, "b": math.nan, "c": "x,y"}, {"a": None, "b": math.inf, "c": 0.5}]
    write_csv(tmp_path / "a.csv", rows)
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b", "c"], ["1", "", "x,y"], ["", "", "0.5"]]


def write_half(path, error):
    with atomic_file(path) as new:
        new.write_text("half")
        raise error


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path, error):
    with atomic_file(tmp_path / "old") as new:
        new.write_text("whole")
        assert not (tmp_path / "old").exists()
    for name in ("old", "other"):
        with pytest.raises(error):
            write_half(tmp_path / name, error)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"old": "whole"}


def test_a_log_gets_a_line_now_and_then_and_no_bar(capsys, monkeypatch):
    with progress_bar("reading", "texts") as move:
        move(10, 5000)
        monkeypatch.setattr(progress, "_EVERY", 0)
        move(1000, 5000)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("reading: 1,000/5,000 texts")


def test_nothing_is_shown_by_a_process_that_is_not_the_first(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_EVERY", 0)
    with progress_bar("reading", "texts", shown=False) as move:
        move(1, 2)
    assert capsys.readouterr().err == ""


def test_a_terminal_sees_how_far_the_work_is(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=120))
    with progress_bar("training") as move:
        move(1, 2)
        move(0.5, 1, "step 7, loss 3.1")
    assert "training" in screen.getvalue()
    assert "step 7, loss 3.1" in screen.getvalue()


def test_a_line_that_does_not_fit_is_cut_off_again(tmp_path):
    class Full(io.FileIO):
        def write(self, data):
            if len(data) < 9:
                raise OSError(28, "No space left on device")
            return super().write(data[:4])

    with Full(tmp_path / "a", "w") as file:
        file.seek(super(Full, file).write(b"whole\n"))
        with pytest.raises(OSError, match="No space"):
            write_whole(file, b"a longer line\n")
    assert (tmp_path / "a").read_bytes() == b"whole\n"


@pytest.mark.parametrize("half", [1, 70_000, 200_000])
@pytest.mark.parametrize("lines", [0, 2])
def test_of_a_file_of_long_lines_only_the_half_line_is_cut_off(tmp_path, half, lines):
    whole = (b"x" * 80_000 + b"\n") * lines
    (tmp_path / "a.jsonl").write_bytes(whole + b"y" * half)
    cut_half_line(tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == whole


def test_half_a_character_and_what_is_no_number_can_be_written_as_json():
    line = json_line({"text": "\ud83d ☆", "losses": [math.inf, 0.5]})
    assert line == '{"text": "\\ud83d ☆", "losses": [null, 0.5]}\n'.encode()
