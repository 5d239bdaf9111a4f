"""Weights of a bag's words by how likely the model finds them."""

import math

import pytest
import torch

from attribute_models import BagOfWords, weights_by_probability, weights_by_rarity
from attribute_models.own_texts import own_texts
from pplm import InputError

LINES = "The moon and the sun.\nMoonlight, no sun!\nA Black Hole swallows a sun\nsunny sun seas, Chelsea\n"


def test_a_frequent_word_weighs_less_than_a_rare_one(embedded):
    weights = weights_by_probability({"the": 1.0, "moon": 1.0, "zeppelin": 1.0}, *embedded)
    assert weights["the"] < 0.05
    assert weights["moon"] == weights["zeppelin"] == 1.0


def test_words_likelier_than_the_median_weigh_as_much_as_brings_them_down_to_it(gpt2, tokenizer):
    words = ["moon", "sun", "sea", "star", "cat"]
    weights = weights_by_probability(dict.fromkeys(words, 1.0), gpt2, tokenizer)
    # Spellings of several pieces are so improbable here that the single tokens are all of a word's probability.
    average = own_texts(gpt2)[1].exp().mean((0, 1))
    probability = {w: average[tokenizer.convert_tokens_to_ids(f"Ġ{w}")].item() for w in words}
    middle = sorted(probability.values())[2]
    assert weights == pytest.approx({w: min(1.0, middle / p) for w, p in probability.items()}, rel=0.02)
    assert min(weights.values()) < 0.9


def test_listed_weights_are_multiplied_in(gpt2, tokenizer, tmp_path):
    words = {"moon": 1.0, "sun": 1.0, "sea": 1.0}
    tripled = {**words, "moon": 3.0}
    plain, other = (weights_by_probability(w, gpt2, tokenizer) for w in (words, tripled))
    assert other == pytest.approx({**plain, "moon": 3 * plain["moon"]})
    (tmp_path / "lines.txt").write_text(LINES)
    plain, other = (weights_by_rarity(w, tmp_path / "lines.txt") for w in (words, tripled))
    assert other["moon"] == pytest.approx(3 * plain["moon"])


def test_words_that_the_model_hardly_ever_writes_can_be_weighed(gpt2, tokenizer):
    unlikely = "quixotic zebra jumps vexing foxes while wizards brew"
    weights = weights_by_probability({unlikely: 1.0, f"{unlikely} tea": 1.0, "moon": 1.0}, gpt2, tokenizer)
    assert weights[unlikely] == weights[f"{unlikely} tea"] == 1.0
    assert 0 < weights["moon"] < 1e-6
    alone = weights_by_probability({unlikely: 1.0}, gpt2, tokenizer)
    assert BagOfWords.from_words(alone, tokenizer).weights == {unlikely: 1.0}


def test_rarity_is_the_log_of_lines_by_lines_with_the_word(tmp_path):
    (tmp_path / "lines.txt").write_text(LINES)
    words = dict.fromkeys(["sea", "moon", "black hole", "SUN", "hole swallows a"], 1.0)
    assert weights_by_rarity(words, tmp_path / "lines.txt") == pytest.approx(
        {
            "sea": math.log(5 / 1),  # "seas" and "Chelsea" are other words
            "moon": math.log(5 / 2),  # and so is "Moonlight"
            "black hole": math.log(5 / 2),
            "SUN": math.log(5 / 2),  # in every line: log(5 / 5) is 0, so it takes the smallest of the others
            "hole swallows a": math.log(5 / 2),
        }
    )


def test_a_text_that_cannot_weigh_is_refused(tmp_path):
    (tmp_path / "lines.txt").write_text(LINES)
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    for name, words, needle in (
        ("lines.txt", ["sun"], "each of its [0-9] lines holds every word; use a longer text"),
        ("empty.txt", ["sun", "moon"], "holds no text; name one with many lines"),
        ("latin.txt", ["sun"], "is not UTF-8"),
        ("missing.txt", ["sun"], "cannot be read: No such file"),
        (".", ["sun"], "cannot be read: Is a directory"),
    ):
        with pytest.raises(InputError, match=needle):
            weights_by_rarity(dict.fromkeys(words, 1.0), tmp_path / name)


def test_the_models_own_texts_are_the_same_every_time_and_leave_the_random_state_alone(gpt2):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    texts, log_probs = own_texts(gpt2)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(own_texts(gpt2)[0], texts)
    assert texts.shape == log_probs.shape[:2] == (16, 33)
    assert (texts[:, 0] == gpt2.config.bos_token_id).all()
    assert len({tuple(row) for row in texts.tolist()}) == 16
    torch.testing.assert_close(log_probs[0, 4], gpt2(texts[:1, :5]).logits[0, -1].log_softmax(-1))
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(16, 33))


def test_rarity_counts_words_of_a_script_without_spaces_inside_a_line(tmp_path):
    (tmp_path / "lines.txt").write_text("我看见月亮\n月亮很亮\n太阳\n", encoding="utf-8")
    weights = weights_by_rarity({"月亮": 1.0, "太阳": 1.0}, tmp_path / "lines.txt")
    assert weights == pytest.approx({"月亮": math.log(4 / 3), "太阳": math.log(4 / 2)})
