"""Tokenizers are told apart by what their ids stand for, and a bag is refused where its ids mean something else."""

import copy
from dataclasses import replace

import pytest
import torch
from helpers import STRONG, decode
from tokenizers import Tokenizer
from transformers import GPT2LMHeadModel, PreTrainedTokenizerFast

import pplm
from attribute_models import Avoid, BagOfWords
from pplm import InputError
from pplm.attached import Attached, attach
from pplm.models.fingerprint import content_hash, tokenizer_fingerprint
from pplm.models.loading import load_tokenizer

REQUEST = {"max_new_tokens": 1, "do_sample": False, "steering": STRONG}


def permuted(tokenizer):
    """Return a tokenizer of the same size in which " moon" and " star" have changed places."""
    text = tokenizer.backend_tokenizer.to_str()
    for one, other in (("Ġmoon", "#"), ("Ġstar", "Ġmoon"), ("#", "Ġstar")):
        text = text.replace(f'"{one}":', f'"{other}":')
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(text), eos_token="<|end|>", bos_token="<|end|>")


def larger(tokenizer):
    """Return a tokenizer with two tokens more, which no model has rows for."""
    more = copy.deepcopy(tokenizer)
    more.add_tokens(["zebra", "<fill>"])
    return more


@pytest.fixture
def own_model(gpt2):
    """A model that may be changed."""
    return pplm.freeze(GPT2LMHeadModel(gpt2.config))


def test_two_loads_of_a_tokenizer_have_one_fingerprint(embedded):
    assert tokenizer_fingerprint(load_tokenizer("gpt2-mini")) == tokenizer_fingerprint(embedded[1])


def test_padding_a_chat_template_and_added_tokens_leave_the_fingerprint(tokenizer):
    changed = larger(tokenizer)
    changed.add_special_tokens({"pad_token": "<|pad|>"})
    changed.padding_side, changed.chat_template = "left", "{{ messages }}"
    changed(["a", "b c"], padding=True, truncation=True, max_length=2)
    assert tokenizer_fingerprint(changed) == tokenizer_fingerprint(tokenizer)


def test_other_ids_for_the_same_tokens_are_another_fingerprint(tokenizer, embedded):
    prints = {tokenizer_fingerprint(one) for one in (tokenizer, permuted(tokenizer), embedded[1])}
    assert len(prints) == 3


def test_what_is_steered_by_is_told_apart_also_where_it_is_avoided(tokenizer, head):
    sky, sea = (BagOfWords.from_words([word], tokenizer) for word in ("moon", "sea"))
    steered_by = [sky, sea, Avoid(sky), Avoid(sea), head, replace(head, weight=-head.weight)]
    assert len({content_hash(one) for one in steered_by}) == 6
    assert content_hash(Avoid(BagOfWords.from_words(["moon"], tokenizer))) == content_hash(Avoid(sky))


def test_a_vocabulary_is_hashed_once(tokenizer, monkeypatch):
    own = copy.deepcopy(tokenizer)
    first = tokenizer_fingerprint(own)
    monkeypatch.setattr(type(own), "get_vocab", lambda _: pytest.fail("hashed again"))
    assert tokenizer_fingerprint(own) == first


def test_a_loaded_model_carries_the_fingerprint_of_its_tokenizer(embedded):
    from pplm.attached import attached

    assert attached(embedded[0]).tokenizer == tokenizer_fingerprint(embedded[1])


@pytest.mark.parametrize("kind", [lambda bag: bag, Avoid])
def test_generate_refuses_a_bag_of_another_tokenizer(gpt2, tokenizer, kind):
    bag = kind(BagOfWords.from_words(["moon"], permuted(tokenizer)))
    with pytest.raises(InputError, match=r"'(avoid )?bag' was made with another tokenizer"):
        pplm.generate(gpt2, tokenizer, "the", attributes=[bag], **REQUEST)


def test_the_loop_refuses_a_bag_of_another_tokenizer_than_the_loaded_one(own_model, tokenizer):
    bag = BagOfWords.from_words(["moon"], permuted(tokenizer))
    decode(own_model, [[5, 17]], [bag], new=1)  # nothing is known of a model that was not loaded
    attach(own_model, Attached(tokenizer=tokenizer_fingerprint(tokenizer)))
    with pytest.raises(InputError, match="'bag' was made with another tokenizer"):
        decode(own_model, [[5, 17]], [bag], new=1)
    decode(own_model, [[5, 17]], [BagOfWords.from_words(["moon"], tokenizer)], new=1)


def test_the_embedded_model_refuses_a_bag_of_a_smaller_vocabulary(embedded, tokenizer):
    model, own = embedded
    bag = BagOfWords.from_words(["moon"], tokenizer)
    with pytest.raises(InputError, match="made with another tokenizer"):
        pplm.generate(model, own, "the", attributes=[bag], **REQUEST)
    ids = own("The lake", return_tensors="pt")
    with pytest.raises(InputError, match="made with another tokenizer"):
        model.generate(**ids, max_new_tokens=1, custom_generate=pplm.steered_decoding([bag]))


def test_a_tokenizer_that_was_not_loaded_with_the_model_is_refused_also_with_a_bag_of_its_own(own_model, tokenizer):
    other = permuted(tokenizer)
    bag = BagOfWords.from_words(["moon"], other)
    attach(own_model, Attached(tokenizer=tokenizer_fingerprint(tokenizer)))
    with pytest.raises(InputError, match="tokenizer is not the one that was loaded with the model"):
        pplm.generate(own_model, other, "the", attributes=[bag], **REQUEST)
    with pytest.raises(InputError, match="bag of words 'bag' was made with another tokenizer"):
        bag.report(own_model)
    with pytest.raises(InputError, match="the bag of seed words was made with another tokenizer"):
        BagOfWords.from_seeds(["moon"], own_model, other)


def test_tokens_beyond_the_models_rows_are_refused_only_where_a_bag_uses_them(gpt2, tokenizer):
    more = larger(tokenizer)
    bag = BagOfWords.from_words(["moon"], more)
    assert bag.vocab_size > gpt2.config.vocab_size
    text = pplm.generate(gpt2, more, "the", attributes=[bag], **REQUEST)[0]
    plain = BagOfWords.from_words(["moon"], tokenizer)
    assert text.token_ids == pplm.generate(gpt2, tokenizer, "the", attributes=[plain], **REQUEST)[0].token_ids
    outside = BagOfWords.from_words(["moon", "<fill>"], more)
    with pytest.raises(InputError, match=r"vocabulary of 274 tokens, the model has 272 and lacks token 273"):
        pplm.generate(gpt2, more, "the", attributes=[outside], **REQUEST)


def test_a_bag_of_token_ids_fits_any_tokenizer(gpt2, tokenizer, bag):
    assert bag.tokenizer_fingerprint is None
    assert torch.isfinite(torch.tensor(pplm.generate(gpt2, tokenizer, "the", attributes=[bag], **REQUEST)[0].kl)).all()
