"""Attributes that are evaluated together, by name or from a file, and their prompts."""

import pytest

from pplm.comparison.attributes import attribute_set
from pplm.errors import InputError
from pplm.models.resources import data_path


def test_the_paper_s_attributes_have_their_words_labels_and_prompts():
    topics, sentiment = attribute_set("topics"), attribute_set("sentiment")
    assert list(topics.specs) == ["computers", "legal", "military", "politics", "religion", "science", "space"]
    assert all(spec.bags == (name,) and spec.held_out.stem == name for name, spec in topics.specs.items())
    assert (len(topics.prompts()), len(sentiment.prompts())) == (20, 15)
    assert {name: (spec.discriminators, spec.sentiment) for name, spec in sentiment.specs.items()} == {
        side: ((f"sentiment:{side}",), side) for side in ("positive", "negative")
    }
    assert (topics.paper, attribute_set("space").paper, sentiment.paper) == ("topics", "topics", "sentiment")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ("{}", "must be an object"),
        ('{"a": 1}', "attribute 'a' must be an object"),
        ('{"a": {}}', "names nothing to steer with"),
        ('{"a": {"held_out": "x"}}', "names nothing to steer with"),
        ('{"a": {"bags": "space"}}', "has 'bags'; it may have bag, avoid_bag"),
        ('{"a": {"bag": 1}}', "bag must be a text or a list of texts"),
        ('{"a": {"bag": "space", "description": 1}}', "description must be a text"),
        ('{"a": {"bag": "space", "sentiment": "good"}}', "sentiment must be positive or negative"),
    ],
)
def test_a_damaged_file_of_attributes_is_refused_with_the_place(tmp_path, content, message):
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(InputError, match=message):
        attribute_set(str(tmp_path / "mine.json"))


def test_prompts_are_lines_and_an_empty_file_is_refused(tmp_path):
    (tmp_path / "prompts.txt").write_text("\ufeffOne \n\n  two\n", encoding="utf-8")
    assert attribute_set("space").prompts(tmp_path / "prompts.txt") == ("One", "two")
    for content, message in ((b"\n \n", "holds no prompt"), (b"\xff", "not UTF-8")):
        (tmp_path / "prompts.txt").write_bytes(content)
        with pytest.raises(InputError, match=message):
            attribute_set("space").prompts(tmp_path / "prompts.txt")


@pytest.mark.parametrize("name", ["mixtures", "mixtures-gpt2-mini", "mixtures-smollm2"])
def test_the_shipped_mixtures_take_their_held_out_words_from_beside_them(name):
    chosen = attribute_set(str(data_path(f"{name}.json")))
    assert list(chosen.specs) == ["space, praise", "space, blame"]
    for spec in chosen.specs.values():
        assert spec.held_out.is_file()
        assert spec.discriminators[0].split(":")[:2] == ["sentiment", spec.sentiment]
