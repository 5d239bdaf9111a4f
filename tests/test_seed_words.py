"""Bags grown from seed words, on a vocabulary whose embeddings are set by hand."""

import copy

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import pplm
from attribute_models import BagOfWords
from attribute_models.seed_words import neighbours
from pplm import InputError

SKY = {"moon": 1.0, "moons": 0.99, "planets": 0.95, "planet": 0.9, "star": 0.8, "comet": 0.7}
SEA = {"boat": 1.0, "sailing": 0.9, "sail": 0.8, "wave": 0.7}
NO_WORDS = {"Moon": 1.0, "x": 0.99, "42": 0.99, "com": 0.98}
"""By how far each leans to the axis of its kind; what is no word leans to the sky."""
END = "<|end|>"


@pytest.fixture(scope="module")
def sky():
    """A model without layers that matter: its embeddings are as above, and it continues " com" with "met"."""
    closeness = {**SKY, **SEA, **NO_WORDS}
    vocab = {END: 0, **{f" {word}": number for number, word in enumerate(closeness, start=1)}, "met": 15}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=END))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    config = GPT2Config(vocab_size=16, n_positions=8, n_embd=32, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0,
                        tie_word_embeddings=False)  # fmt: skip
    model = GPT2LMHeadModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" not in name:
                parameter.zero_()
        for number, (word, close) in enumerate(closeness.items(), start=1):
            model.transformer.wte.weight[number, 1 if word in SEA else 0] = close
            model.transformer.wte.weight[number, 1 + number] = (1 - close**2) ** 0.5
        model.lm_head.weight[15, 1 + vocab[" com"]] = 100.0
    return pplm.freeze(model), PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, bos_token=END)


def words(sky, *seeds, size):
    return list(neighbours(seeds, *sky, size=size))


def test_the_nearest_words_come_out_in_order_and_without_inflections(sky):
    assert words(sky, "moon", size=4) == ["moon", "planets", "star", "comet"]
    assert words(sky, "planet", size=4) == ["planet", "moon", "star", "comet"]
    assert words(sky, "boat", size=3) == ["boat", "sailing", "wave"]


def test_other_cases_numbers_single_letters_and_beginnings_of_words_are_left_out(sky):
    every = [word.removesuffix("ing") for word in words(sky, "moon", size=7)]
    assert sorted(every) == ["boat", "comet", "moon", "planets", "sail", "star", "wave"]


def test_a_word_that_the_model_does_not_expect_to_go_on_is_kept(sky):
    model = sky[0]
    axis = model.lm_head.weight.clone()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    try:
        assert words(sky, "moon", size=3) == ["moon", "com", "planets"]
    finally:
        with torch.no_grad():
            model.lm_head.weight.copy_(axis)


def test_seeds_come_first_and_each_brings_its_neighbours(sky):
    assert words(sky, "boat", "moon", size=4) == ["boat", "moon", "sailing", "planets"]
    assert words(sky, "moon", "boat", size=4) == ["moon", "boat", "sailing", "planets"]
    assert words(sky, " wave ", "comet", "wave", size=2) == ["wave", "comet"]


def test_a_seed_of_several_tokens_stands_between_its_pieces(sky):
    assert set(words(sky, "moon boat", size=3)[1:]) == {"moon", "boat"}
    assert words(sky, "boat sail wave", size=4)[1:] == ["boat", "sail", "wave"]


@pytest.mark.parametrize("size", range(2, 8))
def test_the_size_counts_the_seeds_and_no_two_neighbours_share_a_stem(sky, size):
    found = words(sky, "star", "boat", size=size)
    assert len(found) == size
    assert len({word.removesuffix("ing").removesuffix("s") for word in found}) == size


def test_similarity_falls_from_neighbour_to_neighbour(sky):
    similarities = list(neighbours(["moon"], *sky, size=7).values())
    assert similarities[0] == 1.0
    assert similarities[1:] == sorted(similarities[1:], reverse=True)
    assert 1 > similarities[1] > 0 > similarities[-1] >= -1


@pytest.mark.parametrize(
    ("seeds", "size", "needle"),
    [
        ([], 5, r"seeds must be words; got \[\]"),
        (["moon", " "], 5, "seeds must be words"),
        (["moon", "star"], 1, r"at least the number of seeds \(2\); got 1"),
        (["moon"], 0, r"at least the number of seeds \(1\); got 0"),
        (["moon"], 8, "size 8 is more than the 7 different words"),
    ],
)
def test_what_cannot_be_grown_is_refused(sky, seeds, size, needle):
    with pytest.raises(InputError, match=needle):
        BagOfWords.from_seeds(seeds, *sky, size=size)


def test_a_bag_from_seeds_is_named_after_them_and_its_words_weigh_alike(gpt2, tokenizer):
    bag = BagOfWords.from_seeds(["moon", " sun"], gpt2, tokenizer, size=4)
    assert bag.name == "moon+sun"
    assert bag.words[:2] == ("moon", "sun")
    assert set(bag.weights.values()) == {1.0}
    assert len(bag.words) == 4


def test_tokens_that_the_model_has_no_rows_for_are_no_candidates(gpt2, tokenizer):
    more = copy.deepcopy(tokenizer)
    more.add_tokens([" zebra", " giraffe"])
    grown = BagOfWords.from_seeds(["moon"], gpt2, more, size=4)
    assert grown.words == BagOfWords.from_seeds(["moon"], gpt2, tokenizer, size=4).words


def test_the_shipped_model_finds_words_of_the_kind(embedded):
    found = set(words(embedded, "moon", "planet", size=20))
    assert len(found & {"stars", "sun", "earth", "sky", "planetary", "universe", "space", "satellite", "solar"}) >= 2
