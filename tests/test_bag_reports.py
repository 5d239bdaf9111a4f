"""What a bag reports of its words, and how it warns of words that steering cannot begin."""

import pytest
import torch

import pplm
from attribute_models import Avoid, BagOfWords
from attribute_models.entries import Entry
from pplm import InputError

# --- reports ---------------------------------------------------------------------------------------------------


def test_a_report_counts_words_spellings_and_tokens_and_names_the_long_ones(tokenizer):
    report = BagOfWords.from_words(["moon", "zebra", "sun sea"], tokenizer, name="mixed", casing=False).report()
    assert (report.name, report.words, report.spellings, report.mass) == ("mixed", 3, 6, None)
    assert report.long_words == ("zebra", "sun sea")
    letters = set("moon" + "zebra" + "sun") | {" "}
    assert report.tokens == len(letters) + 3  # " moon", " sun", " sea"
    assert str(report) == "bag mixed: 3 words, 2 of them of several tokens"


def test_a_report_of_single_tokens_is_short():
    report = BagOfWords.from_token_ids([3, 4], 10, name="two").report()
    assert (report.words, report.long_words, report.spellings, report.tokens) == (2, (), 2, 2)
    assert str(report) == "bag two: 2 words"


def test_a_report_names_what_cannot_be_spelt():
    report = BagOfWords((Entry("a", (1,)),), 10, unmatched=("b", "c")).report()
    assert report.unmatched == ("b", "c")
    assert str(report) == "bag bag: 1 words; 2 cannot be spelt and are left out: b, c"


def test_the_reported_mass_is_the_mean_over_the_models_own_texts(gpt2):
    from attribute_models.own_texts import own_texts

    report = BagOfWords.from_token_ids([3, 4, 5], 272).report(gpt2)
    wanted = own_texts(gpt2)[1].exp()[:, :, [3, 4, 5]].sum(-1).mean().item()
    assert report.mass == pytest.approx(wanted, rel=1e-4)
    assert str(report) == f"bag bag: 3 words; unsteered mass {wanted:.2%}"


# --- what steering can begin -----------------------------------------------------------------------------------


NEVER = ["quixotic zebra jumps", "zebra", "moon;2"]
"""What the tiny model never expects to be completed."""


@pytest.mark.parametrize("words", [NEVER, NEVER[:1]])
def test_a_bag_of_which_nothing_can_be_begun_is_refused(gpt2, tokenizer, words):
    bag = BagOfWords.from_words(words, tokenizer, name="mine")
    needle = "bag mine: steering can begin none of its words; without quixotic zebra jumps.*list words in the model's"
    with pytest.raises(InputError, match=needle):
        pplm.generate(gpt2, tokenizer, "the", attributes=[bag], max_new_tokens=1)
    for _ in range(2):  # also when the completions are there already
        with pytest.raises(InputError, match=needle):
            gpt2.generate(torch.tensor([[5]]), max_new_tokens=1, custom_generate=pplm.steered_decoding([bag]))


def test_a_bag_that_mostly_cannot_be_begun_is_warned_of(gpt2, tokenizer):
    bag = BagOfWords.from_words([*NEVER, "moon", "sun"], tokenizer, name="mine")
    with pytest.warns(
        pplm.SteeringWarning, match=r"bag mine: steering can begin 2 of its 5 words; without quixotic"
    ) as found:
        pplm.generate(gpt2, tokenizer, "the", attributes=[bag], max_new_tokens=1, max_batch_size=1)
    assert len(found) == 1


def test_words_that_cannot_be_spelt_count_among_those_that_cannot_be_begun(gpt2):
    entries = (Entry("a", (1,)), Entry("b", (2,)))
    BagOfWords(entries, 272, unmatched=("c", "d")).for_model(gpt2)
    with pytest.warns(pplm.SteeringWarning, match=r"can begin 2 of its 5 words; without c, d, e, "):
        BagOfWords(entries, 272, unmatched=("c", "d", "e")).for_model(gpt2)


def test_half_of_the_words_is_enough_and_avoided_words_need_not_be_begun(gpt2, tokenizer):
    BagOfWords.from_words(["moon", "sun", "sea", *NEVER], tokenizer).for_model(gpt2)
    Avoid(BagOfWords.from_words(NEVER, tokenizer)).for_model(gpt2)


def test_the_report_counts_words_whose_later_tokens_alone_are_credited(gpt2, tokenizer):
    report = BagOfWords.from_words(["moon", "zebra"], tokenizer, name="two").for_model(gpt2).report()
    assert report.never_begun == ("zebra",)
    assert str(report) == (
        "bag two: 2 words, 1 of them of several tokens; steering can begin 1 of them, and only completes the other 1, "
        "whose first token is too common to reward"
    )
