"""The one reader of csv, tsv, jsonl and parquet files."""

import itertools
import json
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest

from pplm.errors import InputError
from pplm.files.rows import read_rows

ROWS = [{"text": "A moon, a sea", "label": "x"}, {"text": "été 🌙", "label": "y"}]


def write(path, text, encoding="utf-8"):
    path.write_text(text, encoding=encoding)
    return path


@pytest.fixture(params=["utf-8", "utf-8-sig"])
def files(request, tmp_path):
    """The same rows in every form, with a byte order mark and without."""
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    return [
        write(tmp_path / "a.csv", 'text,label\n"A moon, a sea",x\n\nété 🌙,y\n', request.param),
        write(tmp_path / "a.tsv", "text\tlabel\r\nA moon, a sea\tx\r\nété 🌙\ty\r\n", request.param),
        write(tmp_path / "a.jsonl", "\n".join([lines[0], "", lines[1]]), request.param),
        write(tmp_path / "lines.json", "\n".join(lines), request.param),
        write(tmp_path / "list.json", f"\n[{', '.join(lines)}]", request.param),
        tmp_path / "a.parquet",
    ]


def test_every_form_gives_the_same_rows(files):
    for path in files:
        assert [row for _, row in read_rows(path)] == ROWS, path


def test_rows_come_with_their_line(files):
    assert [[number for number, _ in read_rows(path)] for path in files] == [
        [2, 4], [2, 3], [1, 3], [1, 2], [1, 2], [1, 2]
    ]  # fmt: skip
    path = write(files[0].with_name("b.csv"), 'text\n"two\nlines"\nlast\n')
    assert list(read_rows(path)) == [(3, {"text": "two\nlines"}), (4, {"text": "last"})]


def test_the_numbers_of_rows_that_pandas_writes_are_left_out(tmp_path):
    path = write(tmp_path / "a.csv", ",text,label\n0,one,x\n1,two,y\n")
    assert [row for _, row in read_rows(path)] == [{"text": "one", "label": "x"}, {"text": "two", "label": "y"}]
    write(tmp_path / "a.csv", ",Unnamed: 0,text,label\n0,0,one,x\n")
    assert [row for _, row in read_rows(tmp_path / "a.csv")] == [{"text": "one", "label": "x"}]
    table = pyarrow.table({"text": ["one"], "__index_level_0__": [7]})
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.parquet")) == [(1, {"text": "one"})]


def test_numbers_lists_and_nothing_keep_their_kind_in_json_and_parquet(tmp_path):
    row = {"number": 3, "list": [1, 2], "nothing": None, "yes": True}
    write(tmp_path / "a.jsonl", json.dumps(row))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([row]), tmp_path / "a.parquet")
    assert list(read_rows(tmp_path / "a.jsonl")) == list(read_rows(tmp_path / "a.parquet")) == [(1, row)]


def test_a_file_without_a_header_takes_the_names_it_is_given(tmp_path):
    path = write(tmp_path / "a.txt", "x\tone\ny\ttwo\n")
    seen = []
    rows = read_rows(path, kind=".tsv", names=lambda sample: seen.append(sample) or ["label", "text"])
    assert list(rows) == [(1, {"label": "x", "text": "one"}), (2, {"label": "y", "text": "two"})]
    assert seen == [[["x", "one"], ["y", "two"]]]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_a_long_file_is_read_in_little_memory(tmp_path, kind):
    rows = [{"number": str(number), "text": "word " * 200} for number in range(10_000)]  # 10 MB
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    elif kind == "jsonl":
        write(path, "".join(json.dumps(row) + "\n" for row in rows))
    else:
        separator = {"csv": ",", "tsv": "\t"}[kind]
        write(path, "".join(separator.join(row) + "\n" for row in [rows[0].keys(), *(row.values() for row in rows)]))
    del rows
    next(read_rows(path))  # imports
    tracemalloc.start()
    count = sum(len(row["text"]) == 1000 for _, row in read_rows(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (count, peak < 4e6) == (10_000, True)


def test_what_is_wrong_further_down_does_not_keep_the_first_rows_back(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"text": "one"}\n{"text": "two"}\nnonsense\n')
    assert [row["text"] for _, row in itertools.islice(read_rows(path), 2)] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a,b\n1,2\n3\n", r"a\.csv, line 3 does not have 2 fields"),
        ("a.tsv", "a\tb\n1\t2\t3\n", r"a\.tsv, line 2 does not have 2 fields"),
        ("a.csv", "a,a\n1,2\n", r"a\.csv has two columns with the same name \(a, a\)"),
        ("a.csv", f'a\n"{"x" * 140_000}"\n', r"a\.csv, line 2 cannot be read: field larger"),
        ("a.jsonl", '{"a": 1}\n{"a"\n', r"a\.jsonl, line 2 is not JSON"),
        ("a.jsonl", '{"a": 1}\n[1]\n', r"a\.jsonl, line 2 is not a JSON object"),
        ("a.json", "[1]", r"a\.json, entry 1 is not a JSON object; write a list of objects"),
        ("a.json", '[{"a": 1}', r"a\.json cannot be read"),
        ("a.parquet", "nonsense", r"a\.parquet cannot be read"),
        ("a.xlsx", "", r"a\.xlsx must end in \.csv, \.tsv, \.jsonl, \.json or \.parquet"),
    ],
)
def test_what_cannot_be_read_is_named_with_file_and_line(tmp_path, name, text, message):
    with pytest.raises(InputError, match=message):
        list(read_rows(write(tmp_path / name, text)))


def test_missing_files_and_other_encodings_are_refused(tmp_path):
    for name in ("a.csv", "a.jsonl", "a.parquet"):
        with pytest.raises(InputError, match=rf"{name} cannot be read: No such file"):
            list(read_rows(tmp_path / name))
    with pytest.raises(InputError, match=r"a\.csv is not UTF-8"):
        list(read_rows(write(tmp_path / "a.csv", "text\nété\n", "latin-1")))
