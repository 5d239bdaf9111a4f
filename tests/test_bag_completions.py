"""A bag bound to a language model: how probable the model finds the rest of a word that a text has begun."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from bag_credit import rest, step
from transformers import GPT2LMHeadModel

import pplm
from attribute_models import Avoid, BagOfWords
from attribute_models.completion import completion_probabilities


def test_adapting_to_a_model_happens_once_and_only_where_it_is_needed(gpt2, tokenizer):
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    bound = bag.for_model(gpt2)
    assert bag.completions is None
    assert bound.for_model(gpt2) is bound
    assert [len(c) for c in bound.completions] == [len(e.token_ids) - 1 for e in bound.entries]
    assert (bound.name, bound.entries, bound.openers) == (bag.name, bag.entries, bag.openers)
    single = BagOfWords.from_token_ids([3], 272)
    assert single.for_model(gpt2) is single


@pytest.fixture
def readings(monkeypatch):
    """Collect the models that are asked for completion probabilities."""
    seen = []
    real = completion_probabilities

    def spy(model, *arguments):
        seen.append(model)
        return real(model, *arguments)

    monkeypatch.setattr("attribute_models.bag_of_words.completion_probabilities", spy)
    return seen


def another(gpt2):
    """Return a model of the same vocabulary and other weights."""
    torch.manual_seed(7)
    return pplm.freeze(GPT2LMHeadModel(gpt2.config))


def test_a_model_is_asked_for_completions_once_however_often_a_bag_is_used(gpt2, tokenizer, readings):
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    for attributes in ([bag], [Avoid(bag)], [bag.for_model(gpt2)]):
        pplm.generate(gpt2, tokenizer, ["the", "a"], attributes=attributes, max_new_tokens=1, max_batch_size=1)
    assert len(readings) == 1


def test_a_bag_that_is_bound_to_one_model_is_bound_again_for_another(gpt2, tokenizer, readings):
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    other = another(gpt2)
    first, second = bag.for_model(gpt2), bag.for_model(gpt2).for_model(other)
    assert readings == [gpt2, other]
    assert second.completions == BagOfWords.from_words(["zebra", "moon"], tokenizer).for_model(other).completions
    assert second.completions != first.completions
    assert second.for_model(gpt2) is first


def test_a_bag_is_bound_again_after_the_model_has_been_trained(gpt2, tokenizer, readings):
    bag, model = BagOfWords.from_words(["zebra", "moon"], tokenizer), another(gpt2)
    before = bag.for_model(model)
    model.transformer.h[0].mlp.c_fc.weight.data += 0.1  # as merging an adapter does: unseen by autograd's counters
    after = bag.for_model(model)
    assert after.completions != before.completions
    assert len(readings) == 2


def test_a_bag_does_not_keep_a_model_alive(gpt2, tokenizer):
    bag, model = BagOfWords.from_words(["zebra", "moon"], tokenizer), another(gpt2)
    bound, alive = bag.for_model(model), weakref.ref(model)
    del model
    gc.collect()
    assert alive() is None
    assert bound.completions is not None


def test_a_bound_bag_can_be_copied_and_pickled(gpt2, tokenizer):
    bound = BagOfWords.from_words(["zebra", "moon"], tokenizer).for_model(gpt2)
    for copied in (copy.deepcopy(bound), pickle.loads(pickle.dumps(bound))):  # noqa: S301
        assert copied.completions == bound.completions
        assert copied.for_model(gpt2).completions == bound.completions


def test_the_latest_texts_do_not_travel_with_a_bag(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moonlight", "star"], tokenizer).for_model(gpt2)
    before = len(pickle.dumps(bag))
    bag.log_mass(step(torch.zeros(1, len(tokenizer)), torch.full((1, 5000), 3)))
    assert len(pickle.dumps(bag)) < before + 1000


def test_progress_counts_the_spellings_of_several_tokens(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon", *(f"zebra{n}" for n in range(40))], tokenizer, casing=False)
    steps = []
    bag.for_model(gpt2, avoided=True, on_progress=lambda *step: steps.append(step))
    assert steps == [(32, 81), (64, 81), (81, 81)]


def test_completions_do_not_depend_on_the_batch_they_are_read_in(gpt2, tokenizer):
    words = [f"{a}{b}{'x' * (b % 3)}" for a in ("ab", "cd", "efg") for b in range(15)]
    together = BagOfWords.from_words(words, tokenizer, casing=False).for_model(gpt2, avoided=True)
    assert len(together.entries) > 64
    for number in (0, 33, 65, len(together.entries) - 1):
        sequence = together.entries[number].token_ids
        wanted = [rest(gpt2, sequence, after) for after in range(1, len(sequence))]
        assert together.completions[number] == pytest.approx(wanted, rel=1e-3)


def test_decoding_adapts_a_bag_to_its_model(gpt2, tokenizer):
    """The first loss that is reported is the bound bag's in the unsteered text."""
    bag = BagOfWords.from_words(["zebra", "moon"], tokenizer)
    output = pplm.generate(gpt2, tokenizer, "the", attributes=[bag], max_new_tokens=1, do_sample=False)[0]
    ids = torch.tensor([[gpt2.config.bos_token_id, *tokenizer.encode("the")]])
    wanted = bag.for_model(gpt2).loss(step(gpt2(ids).logits[:, -1], ids)).item()
    assert output.attribute_loss[0][0] == pytest.approx(wanted, rel=1e-4)
