"""Labelled texts, from every kind of file that they come in."""

import json

import datasets
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import pplm
from attribute_models import LabelledData, read_labelled

ROWS = [("praise", "What a day."), ("blame", "It broke twice."), ("praise", "So kind!"), ("blame", "Never again.")]


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def rows_of(data):
    return {(data.labels[target], text) for text, target in zip(data.texts, data.targets, strict=True)}


def test_the_published_form_without_a_header_is_read_as_it_is(tmp_path):
    path = write(tmp_path / "a.tsv", [f"{label}\t{text}" for label, text in ROWS])
    assert rows_of(read_labelled(path)) == set(ROWS)


def test_a_headerless_file_with_the_text_first_is_told_by_its_few_labels(tmp_path):
    path = write(tmp_path / "a.tsv", [f"{text}\t{label}" for label, text in ROWS])
    assert rows_of(read_labelled(path)) == set(ROWS)


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet"])
def test_every_file_form_gives_the_same_rows_by_well_known_column_names(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    columns = {"review": [t for _, t in ROWS], "id": list("1234"), "Sentiment": [name for name, _ in ROWS]}
    table = pyarrow.table(columns)
    if kind == "parquet":
        pyarrow.parquet.write_table(table, path)
    elif kind == "jsonl":
        write(path, [json.dumps(row) for row in table.to_pylist()])
    else:
        separator = {"tsv": "\t", "csv": ","}[kind]
        write(path, [separator.join(columns), *(separator.join(row.values()) for row in table.to_pylist())])
    assert rows_of(read_labelled(path)) == set(ROWS)


def test_quotes_commas_and_words_like_null_stay_in_the_text(tmp_path):
    tsv = write(tmp_path / "a.tsv", ["label\ttext", 'x\tHe said "no, never.', "y\tNA", "x\tnull"])
    csv = write(tmp_path / "a.csv", ["label,text", 'x,"He said ""no, never."', "y,NA", "x,null"])
    expected = {("x", 'He said "no, never.'), ("y", "NA"), ("x", "null")}
    assert rows_of(read_labelled(tsv)) == rows_of(read_labelled(csv)) == expected


def test_labels_keep_spaces_and_unicode(tmp_path):
    path = write(
        tmp_path / "a.tsv", ["très bien\tUn.", "pas du tout\tDeux.", "très bien\tTrois.", "pas du tout\tFünf."]
    )
    assert read_labelled(path).labels == ("pas du tout", "très bien")


def test_class_names_and_missing_labels_of_a_data_set_are_honoured(tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "a"])})
    rows = {"text": ["one", "two", "three", "four", "five"], "label": [0, 1, 0, 1, -1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "train.parquet")
    data = read_labelled(tmp_path / "train.parquet")
    assert data.labels == ("z", "a")
    assert data.unlabelled == 1
    assert rows_of(data) == {("z", "one"), ("a", "two"), ("z", "three"), ("a", "four")}


def test_empty_duplicate_and_contradictory_texts_are_left_out_and_counted():
    texts = ["Fine.", " fine. ", "", "  ", "Both", "both", "Bad.", "Worse.", "none"]
    labels = ["x", "x", "x", "y", "x", "y", "y", "y", None]
    data = LabelledData.from_texts(texts, labels)
    assert data.texts == ("Fine.", "Bad.", "Worse.")
    assert (data.empty, data.duplicates, data.contradictory, data.unlabelled) == (2, 1, 2, 1)


def test_labels_that_differ_only_in_case_or_white_space_are_one_class_and_are_counted(tmp_path):
    labels = ["pos", "POS ", "pos", "Neg", "neg", "neg", "very  good", "very good", "Very good", "very good"]
    lines = [f"{label}\ttext {number}" for number, label in enumerate(labels)]
    data = read_labelled(write(tmp_path / "a.tsv", lines))
    assert data.labels == ("neg", "pos", "very good")
    assert data.class_counts == {"neg": 3, "pos": 3, "very good": 4}
    assert data.folded_labels == {"POS ": 1, "Neg": 1, "very  good": 1, "Very good": 1}


def test_labels_that_all_have_the_same_spelling_are_not_counted_as_joined():
    data = LabelledData.from_texts(list("abcd"), ["Good ", "Good ", "bad", "bad"])
    assert (data.labels, data.folded_labels) == (("Good", "bad"), {})


def test_a_text_under_two_spellings_of_a_label_is_a_duplicate_and_not_a_contradiction():
    data = LabelledData.from_texts(["a", "a", "b", "c"], ["x", "X", "x", "y"])
    assert (data.duplicates, data.contradictory, data.texts) == (1, 0, ("a", "b", "c"))


def test_class_names_that_differ_only_in_case_are_one_class_in_the_data_set_s_order():
    data = LabelledData.from_texts(list("abcd"), ["z", "Z", "z", "a"], class_names=["Z", "a", "unused", "z"])
    assert (data.labels, data.targets.tolist()) == (("z", "a"), [0, 0, 0, 1])


def test_a_blank_label_is_no_label():
    assert LabelledData.from_texts(list("abcde"), ["x", "x", "y", "y", " "]).unlabelled == 1


@pytest.mark.parametrize(
    ("name", "lines"),
    [("a.csv", [",text,label", "0,one,x", "1,two,y", "2,three,x", "3,four,y"]),
     ("a.csv", [",label,body", "0,x,one", "1,y,two", "2,x,three", "3,y,four"]),
     ("a.tsv", ["\tlabel\ttext", "7\tx\tone", "7\ty\ttwo", "8\tx\tthree", "8\ty\tfour"])],
)  # fmt: skip
def test_the_column_in_which_pandas_numbers_the_rows_is_no_obstacle(tmp_path, name, lines):
    expected = {("x", "one"), ("y", "two"), ("x", "three"), ("y", "four")}
    assert rows_of(read_labelled(write(tmp_path / name, lines))) == expected


def test_what_is_wrong_in_a_long_file_is_named_with_its_line(tmp_path):
    lines = [f"{'xy'[number % 2]}\ttext {number}" for number in range(1000)]
    with pytest.raises(pplm.InputError, match=r"a\.tsv, line 801 does not have 2 fields"):
        read_labelled(write(tmp_path / "a.tsv", [*lines[:800], "x only", *lines[800:]]))


def test_a_json_column_that_the_first_row_lacks_is_found(tmp_path):
    rows = [
        {"label": "x"},
        {"text": "one", "label": "x"},
        {"text": "two", "label": "y"},
        {"text": "three", "label": "y"},
    ]
    data = read_labelled(write(tmp_path / "a.jsonl", [json.dumps(row) for row in rows]))
    assert (data.empty, data.texts) == (1, ("one", "two", "three"))


def test_no_text_is_in_two_splits_even_if_the_file_repeats_it():
    texts = [f"Text {number % 50}" for number in range(100)]
    data = LabelledData.from_texts(texts, [str(number % 2) for number in range(100)])
    parts = data.split((0.2, 0.2), seed=1)
    seen = [{data.texts[row].casefold() for row in part} for part in parts]
    assert data.duplicates == 50
    assert [len(part) for part in seen] == [30, 10, 10]
    assert len(set.union(*seen)) == 50


def test_splits_are_stratified_and_follow_the_seed():
    data = LabelledData.from_texts([f"t{n}" for n in range(200)], ["rare" if n < 20 else "common" for n in range(200)])
    parts = data.split((0.1, 0.2), seed=3)
    assert [np.bincount(data.targets[part]).tolist() for part in parts] == [[126, 14], [18, 2], [36, 4]]
    again, other = data.split((0.1, 0.2), seed=3), data.split((0.1, 0.2), seed=4)
    assert all((a == b).all() for a, b in zip(parts, again, strict=True))
    assert not (parts[1] == other[1]).all()


def test_a_class_of_three_texts_is_in_every_split():
    data = LabelledData.from_texts([f"t{n}" for n in range(43)], ["rare"] * 3 + ["common"] * 40)
    assert [(data.targets[part] == 1).sum() for part in data.split((0.1, 0.1), seed=0)] == [1, 1, 1]
    assert [(data.targets[part] == 1).sum() for part in data.split((0.4, 0.5), seed=0)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("a.tsv", ["x\tone", "x\ttwo"], "one class only, 'x'"),
        ("a.tsv", ["label\ttext", "x\t ", "y\t"], "no usable text (2 empty"),
        ("a.csv", ["a,b,c", "1,2,3"], "has the columns a, b, c"),
        ("a.tsv", ["one", "two"], "one column"),
        ("a.tsv", ["x\tone", "y\ttwo", "z\tthree\tmore"], "line 3 does not have 2 fields"),
        ("a.jsonl", ['{"text": "one", "label": '], "line 1 is not JSON"),
        ("a.parquet", ["nonsense"], "cannot be read"),
        ("a.xlsx", ["nonsense"], "must end in"),
        ("a.tsv", [], "is empty"),
        ("a.jsonl", ['{"text": ["one"], "label": "x"}'], "must hold one text"),
    ],
)
def test_unusable_files_are_told_in_one_line(tmp_path, name, lines, message):
    with pytest.raises(pplm.InputError) as caught:
        read_labelled(write(tmp_path / name, lines))
    assert message in str(caught.value)


def test_a_file_that_is_not_utf8_is_told(tmp_path):
    (tmp_path / "a.tsv").write_bytes("x\tcafé\ny\tthé\n".encode("latin-1"))
    with pytest.raises(pplm.InputError, match="not UTF-8"):
        read_labelled(tmp_path / "a.tsv")


def test_a_missing_file_and_an_unknown_column_are_told_with_what_is_there(tmp_path):
    with pytest.raises(pplm.InputError, match="does not exist"):
        read_labelled(tmp_path / "none.tsv")
    path = write(tmp_path / "a.csv", ["text,label", "one,x", "two,y"])
    with pytest.raises(pplm.InputError, match=r"no column 'mood': .*columns text, label"):
        read_labelled(path, label_column="mood")


def test_a_label_with_fewer_texts_than_splits_is_named():
    data = LabelledData.from_texts(["a", "b", "c", "d", "e"], ["x", "x", "x", "x", "rare one"])
    with pytest.raises(pplm.InputError, match="'rare one' has 1 text"):
        data.split((0.1, 0.1), seed=0)


def test_as_many_labels_as_texts_is_refused():
    with pytest.raises(pplm.InputError, match="4 texts under 4 labels"):
        LabelledData.from_texts(list("abcd"), list("wxyz"))
