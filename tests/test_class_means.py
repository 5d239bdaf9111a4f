"""Mean hidden states by class and layer: those of reading every text alone."""

from dataclasses import replace

import pytest
import torch
from tiny_training import sentences, tiny_model, tiny_tokenizer

from attribute_models import LabelledData, TrainingConfig, train_discriminator
from attribute_models.class_means import extract_class_means
from attribute_models.settings import ClassMeansOptions
from pplm import InputError
from pplm.text.encoding import encode_prompt


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def data():
    return LabelledData.from_texts(*sentences(24), source="mood.tsv")


def alone(model, tokenizer, texts):
    """Return the mean over texts of each text's mean hidden states (L, D), one pass for each."""
    read = []
    for text in texts:
        ids = torch.tensor([encode_prompt(model, tokenizer, text)])
        states = model.base_model(ids, output_hidden_states=True).hidden_states[1:]
        read.append(torch.stack([state[0].mean(0) for state in states]))
    return torch.stack(read).mean(0)


@torch.no_grad()
@pytest.mark.parametrize("batch_tokens", [1, 2048])
def test_the_means_are_those_of_texts_read_alone(model, tokenizer, data, batch_tokens):
    options = ClassMeansOptions(100)
    means = extract_class_means(model, tokenizer, data, options=options, batch_tokens=batch_tokens)
    assert means.shape == (2, 2, 16)
    for number in range(2):
        own = [text for text, target in zip(data.texts, data.targets, strict=True) if target == number]
        torch.testing.assert_close(means[number], alone(model, tokenizer, own))


@torch.no_grad()
def test_only_so_many_texts_of_a_class_are_read_evenly_spread(model, tokenizer, data):
    means = extract_class_means(model, tokenizer, data, options=ClassMeansOptions(3))
    own = [text for text, target in zip(data.texts, data.targets, strict=True) if target == 0]
    torch.testing.assert_close(means[0], alone(model, tokenizer, own[::4]))


def test_a_trained_head_holds_them_unless_they_are_turned_off(model, tokenizer, data, tmp_path):
    trained = train_discriminator(model, tokenizer, data, cache_dir=None).discriminator
    wanted = extract_class_means(model, tokenizer, data, options=ClassMeansOptions())
    assert torch.equal(trained.class_means, wanted)
    assert trained.card["settings"]["class_mean_texts"] == 500
    bound = trained.towards("good").for_model(model)
    assert torch.equal(bound.steering_vectors(), wanted[1] - wanted[0])
    config = TrainingConfig(class_mean_texts=0)
    without = train_discriminator(model, tokenizer, data, config=config, cache_dir=None).discriminator
    assert without.class_means is None
    assert torch.equal(without.weight, trained.weight)
    with pytest.raises(InputError, match="class_mean_texts must be finite and at least 0; got -1"):
        replace(config, class_mean_texts=-1)


def test_other_labels_of_the_same_texts_are_not_taken_from_the_cache(model, tokenizer, data, tmp_path):
    swapped = LabelledData.from_texts(data.texts, ["good" if target == 0 else "bad" for target in data.targets])
    options = {"options": ClassMeansOptions(), "cache_dir": tmp_path}
    first = extract_class_means(model, tokenizer, data, **options)
    assert torch.equal(extract_class_means(model, tokenizer, data, **options), first)
    torch.testing.assert_close(extract_class_means(model, tokenizer, swapped, **options), first.flip(0))
