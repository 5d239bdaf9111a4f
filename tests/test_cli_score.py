"""`pplm score` on small files."""

import csv
import json
from functools import partial

import pyarrow
import pyarrow.parquet
import pytest

from pplm.evaluation import JudgedText, PerplexityJudge, SentimentJudge, SimilarityJudge, perplexity

NO_JUDGE = "no --judge given: the perplexity column is empty"
ROWS = [
    {"prompt": "The lake", "text": "The lake is cold and deep.", "steered": False},
    {"prompt": "The lake", "text": "The lake has a moon, a moon and stars.", "steered": True},
    {"prompt": "The city", "text": "The city is is wonderful.", "steered": False},
    {"prompt": "The city", "text": "The city of stars, stars.", "steered": True},
]


@pytest.fixture
def run(command):
    return partial(command, "score")


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture
def critic(gpt2, tokenizer, tmp_path):
    """A folder with a tiny model that may judge."""
    gpt2.save_pretrained(tmp_path / "critic")
    tokenizer.save_pretrained(tmp_path / "critic")
    return tmp_path / "critic"


def table(out):
    """Return the rows of a Markdown table as dicts."""
    head, rule, *rows = [[cell.strip() for cell in line[2:-2].split(" | ")] for line in out.splitlines()]
    assert set("".join(rule)) == {"-"}
    return [dict(zip(head, row, strict=True)) for row in rows]


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_of_texts_is_scored_as_one_group(run, tmp_path):
    path = write(tmp_path / "a.csv", 'text\n"the moon, the moon"\nthe the sea\n')
    code, out, err = run(path)
    assert code == 0
    assert table(out) == [
        {"texts": "2", "words": "7", "dist-1": "0.571", "dist-2": "1.000", "dist-3": "1.000", "repeats": "20.00%",
         "repeated-4grams": "0.00%", "perplexity": ""}
    ]  # fmt: skip
    assert NO_JUDGE in err


def test_prompts_are_left_out_where_their_column_is_named(run, texts):
    everything = table(run(texts)[1])[0]
    code, out, err = run(texts, "--prompt-column", "prompt")
    assert code == 0
    assert (everything["words"], table(out)[0]["words"]) == ("25", "17")
    assert "all of each text is scored" not in err
    assert "all of each text is scored; --prompt-column prompt" in run(texts)[2]


def test_groups_stand_in_the_order_of_the_file_and_have_their_own_numbers(run, texts):
    _, out, err = run(texts, "--prompt-column", "prompt", "--by", "steered")
    unsteered, steered = table(out)
    assert (unsteered["steered"], unsteered["texts"], unsteered["words"]) == ("false", "2", "7")
    assert (steered["steered"], steered["texts"], steered["words"]) == ("true", "2", "10")
    assert (unsteered["repeats"], steered["repeats"]) == ("20.00%", "12.50%")
    assert "the groups have 7 to 10 words: dist-n falls with their number" in err


def test_groups_of_like_size_are_compared_without_a_word(run, tmp_path):
    path = write(tmp_path / "a.tsv", "by\ttext\na\tone two\nb\tthree four\n")
    assert "dist-n falls" not in run(path, "--by", "by")[2]


def test_words_on_a_list_are_counted_and_a_shipped_topic_brings_its_held_out_words(run, texts, tmp_path):
    mine = write(tmp_path / "mine.txt", "cold\nis wonderful\n")
    _, out, _ = run(texts, "--prompt-column", "prompt", "--words", mine, "--words", "space")
    row = table(out)[0]
    assert row["mine words"] == "17.65%"  # cold, is wonderful: 3 of 17
    assert row["space words"] == "29.41%"  # moon, moon, stars, stars, stars
    assert row["space held-out"] == "0.00%"
    assert "kitchen held-out" not in table(run(texts, "--words", "kitchen")[1])[0]


def test_a_judge_fills_the_perplexity_column(run, texts, critic):
    code, out, err = run(texts, "--prompt-column", "prompt", "--by", "steered", "--judge", critic, "--device", "cpu")
    assert code == 0
    assert NO_JUDGE not in err
    judge = PerplexityJudge.load(str(critic), device="cpu")
    for row, steered in zip(table(out), (False, True), strict=True):
        judged = judge.judge([JudgedText(r["text"], r["prompt"]) for r in ROWS if r["steered"] is steered])
        assert row["perplexity"] == f"{perplexity(*zip(*judged, strict=True)):.2f}"


def test_sentiment_is_the_mean_of_what_vader_says_of_the_completions(run, texts):
    _, out, _ = run(texts, "--prompt-column", "prompt", "--sentiment", "--by", "steered")
    expected = [value for (value,) in SentimentJudge().judge([JudgedText(r["text"], r["prompt"]) for r in ROWS])]
    assert table(out)[0]["vader"] == f"{(expected[0] + expected[2]) / 2:.3f}"


def test_similarity_is_to_the_description_given(run, texts, monkeypatch):
    def encode(found):
        return [[len(text), 1.0] for text in found]

    seen = []
    monkeypatch.setattr(SimilarityJudge, "load", lambda **options: seen.append(options) or SimilarityJudge(encode, "e"))
    _, out, _ = run(texts, "--similarity", "a text about water", "--device", "cpu")
    assert seen == [{"device": "cpu"}]
    assert float(table(out)[0]["similarity"]) == pytest.approx(1, abs=0.01)


def test_json_holds_the_same_numbers_unrounded_and_null_where_there_is_none(run, texts):
    code, out, _ = run(texts, "--by", "steered", "--sentiment", "--json")
    found = json.loads(out)
    assert code == 0
    assert (found["by"], found["judges"]) == ("steered", ["vaderSentiment"])
    assert [row["group"] for row in found["rows"]] == ["false", "true"]
    assert found["rows"][0]["perplexity"] is None
    assert found["rows"][0]["repeats"] == pytest.approx(1 / 9)
    assert json.loads(run(texts, "--json")[1])["rows"][0]["group"] is None


def test_the_numbers_of_every_text_are_written(run, texts, critic, tmp_path):
    path = tmp_path / "out.csv"
    code, _, err = run(texts, "--prompt-column", "prompt", "--by", "steered", "--judge", critic, "--csv", path)
    assert code == 0, err
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["text"] for row in rows] == [row["text"] for row in ROWS]
    assert [row["group"] for row in rows] == ["false", "true", "false", "true"]
    assert [row["words"] for row in rows] == ["4", "7", "3", "3"]
    assert [float(row["repeats"]) for row in rows] == [0, 0, 0.5, 0.5]
    for row in rows:
        assert float(row["perplexity"]) == pytest.approx(perplexity([float(row["nll"])], [float(row["tokens"])]))


def test_texts_without_a_word_are_told_and_break_nothing(run, tmp_path, critic):
    path = write(tmp_path / "a.csv", 'by,text\na,""\na,one moon\nb,...\n')
    code, out, err = run(path, "--by", "by", "--sentiment", "--judge", critic, "--words", "space")
    assert code == 0
    assert "2 of 3 texts have no word to score" in err
    first, second = table(out)
    assert (first["texts"], first["words"], second["words"]) == ("2", "2", "0")
    assert second["vader"] == second["space words"] == ""


def test_csv_tsv_and_jsonl_of_the_same_texts_score_the_same(run, tmp_path):
    paths = [
        write(tmp_path / "a.csv", '\ufefftext,by\n"A ""moon"", a sea",x\n'),
        write(tmp_path / "a.tsv", 'text\tby\nA "moon", a sea\tx\n'),
        write(tmp_path / "a.jsonl", '\n{"text": "A \\"moon\\", a sea", "by": "x", "more": [1]}\n\n'),
    ]
    found = [run(path, "--by", "by")[1] for path in paths]
    assert found[0] == found[1] == found[2]
    assert table(found[0])[0]["words"] == "4"


def test_a_parquet_file_and_one_with_pandas_row_numbers_are_scored_as_well(run, tmp_path):
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"text": "the moon", "by": "x"}]), tmp_path / "a.parquet")
    numbered = write(tmp_path / "a.csv", ",text,by\n0,the moon,x\n")
    plain = write(tmp_path / "b.csv", "text,by\nthe moon,x\n")
    outputs = [run(path, "--by", "by")[1] for path in (tmp_path / "a.parquet", numbered, plain)]
    assert outputs[0] == outputs[1] == outputs[2]


def test_the_number_format_of_the_judge_is_no_option(run, texts):
    code, _, err = run(texts, "--dtype", "bfloat16")
    assert code == 2
    assert "No such option '--dtype'" in err


def test_a_bar_or_line_break_in_a_group_does_not_break_the_table(run, tmp_path):
    path = write(tmp_path / "a.csv", 'text,by\none,"a|b\nc"\n')
    assert "| a\\|b c |" in run(path, "--by", "by")[1]


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("a.csv", "words\nx\n", (), "has no column 'text'; name one of words with --text-column"),
        ("a.csv", "text\nx\n", ("--by", "method"), "has no column 'method'; name one of text with --by"),
        ("a.csv", "text\nx\n", ("--prompt-column", "p"), "has no column 'p'; name one of text with --prompt-column"),
        ("a.csv", "text,p\na b,b\n", ("--prompt-column", "p"), "line 2: column 'text' does not begin with column 'p'"),
        ("a.csv", "text\n", (), "holds no texts"),
        ("a.csv", "", (), "holds no texts"),
        ("a.csv", "text,a\nx\n", (), "line 2 does not have 2 fields"),
        ("a.csv", "text,a\nx,y,z\n", (), "line 2 does not have 2 fields"),
        ("a.csv", "text,text\nx,y\n", (), "two columns with the same name"),
        ("a.csv", f'text\n"{"x" * 140_000}"\n', (), "line 2 cannot be read: field larger"),
        ("a.jsonl", '{"text": "x"}\n{"text": \n', (), "line 2 is not JSON"),
        ("a.jsonl", "[1]\n", (), "line 1 is not a JSON object"),
        ("a.jsonl", '{"text": null}\n', (), "column 'text' holds null, which is not a text"),
        ("a.txt", "x\n", (), "must end in .csv, .tsv, .jsonl, .json or .parquet"),
        ("a.csv", "text\nx\n", ("--words", "no_such_list"), "'no_such_list' is neither a file nor a shipped list"),
        ("a.csv", "text\nx\n", ("--words", "space", "--words", "space"), "two lists the name 'space words'"),
        ("a.csv", "text\nx\n", ("--judge", "./no_such_model"), "model folder ./no_such_model does not exist"),
        (
            "a.csv",
            "text\nx\n",
            ("--judge", "gpt2-mini", "--batch-size", "0"),
            "batch_size must be a whole number of at least 1",
        ),
        ("a.csv", "text\nx\n", ("--csv", "no_such_folder/out.csv"), "the folder no_such_folder does not exist"),
    ],
)
def test_what_cannot_be_scored_is_one_line_and_exit_code_2(
    run, tmp_path, monkeypatch, name, content, arguments, message
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, content)
    code, out, err = run(name, *arguments)
    assert (code, out) == (2, "")
    (line,) = [line for line in err.splitlines() if line.startswith("Error: ")]
    assert message in line
    assert "Traceback" not in err


def test_a_missing_file_and_a_file_that_is_not_utf_8_are_refused(run, tmp_path):
    assert "cannot be read: No such file" in run(tmp_path / "none.csv")[2]
    (tmp_path / "latin.csv").write_bytes("text\nété\n".encode("latin-1"))
    code, _, err = run(tmp_path / "latin.csv")
    assert code == 2
    assert "is not UTF-8" in err


def test_the_scored_file_is_never_overwritten(run, texts):
    before = texts.read_bytes()
    code, _, err = run(texts, "--csv", texts)
    assert code == 2
    assert "is the file that is scored" in err
    assert texts.read_bytes() == before
