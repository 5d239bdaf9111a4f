"""The hidden states that a head is trained on are those that steering pools."""

import copy
import dataclasses

import pytest
import torch
from tiny_training import sentences, tiny_model, tiny_tokenizer

import pplm
from attribute_models import FeatureOptions, extract_features
from pplm.batching import in_like_lengths
from pplm.text.encoding import encode_prompt, encode_texts


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def texts():
    return sentences(24)[0]


class SeeMean:
    """An attribute model that notes the mean hidden states that steering shows it."""

    def __init__(self):
        self.seen = []

    def loss(self, step):
        self.seen.append(step.mean_hidden_state.detach())
        return step.mean_hidden_state.sum(-1)


def test_features_are_the_mean_that_steering_pools_but_for_the_expected_future(model, tokenizer, texts):
    text = texts[0]
    probe = SeeMean()
    steering = pplm.SteeringConfig(step_size=1e-9, num_iterations=1, horizon_length=1)
    pplm.generate(model, tokenizer, text, attributes=[probe], steering=steering, max_new_tokens=1, do_sample=False)
    ids = torch.tensor([encode_prompt(model, tokenizer, text)])
    future = (model(ids).logits[:, -1].softmax(-1) @ model.get_input_embeddings().weight)[:, None]
    embedded = torch.cat([model.get_input_embeddings()(ids), future], dim=1)
    last = model.base_model(inputs_embeds=embedded).last_hidden_state[:, -1]
    whole = extract_features(model, tokenizer, [text]).whole
    length = ids.shape[1]
    torch.testing.assert_close(probe.seen[0], (whole * length + last) / (length + 1), atol=1e-5, rtol=1e-5)


def test_features_are_the_plain_mean_over_all_positions_with_the_beginning_of_text(model, tokenizer, texts):
    features = extract_features(model, tokenizer, texts)
    for text, pooled in zip(texts, features.whole, strict=True):
        ids = encode_prompt(model, tokenizer, text)
        assert ids[0] == 0
        hidden = model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
        torch.testing.assert_close(pooled, hidden[0].mean(0), atol=1e-5, rtol=1e-5)


def test_batches_do_not_change_features(model, tokenizer, texts):
    alone = extract_features(model, tokenizer, texts, batch_tokens=1)
    together = extract_features(model, tokenizer, texts, batch_tokens=10_000)
    torch.testing.assert_close(alone.pooled, together.pooled, atol=1e-5, rtol=1e-5)


def test_features_of_a_prefix_are_the_features_of_the_text_cut_there(model, tokenizer, texts):
    features = extract_features(model, tokenizer, texts, options=FeatureOptions((3, 5), 0))
    for length in (3, 5):
        cut = extract_features(model, tokenizer, [" ".join(text.split()[:length]) for text in texts]).whole
        torch.testing.assert_close(features.prefix(length), cut, atol=1e-5, rtol=1e-5)


def test_random_prefixes_are_prefixes_of_two_tokens_or_more_and_vary(model, tokenizer, texts):
    features = extract_features(model, tokenizer, texts, options=FeatureOptions((), 4))
    assert features.random.shape == (len(texts), 4, 16)
    lengths = []
    for text, pieces in zip(texts, features.random, strict=True):
        words = text.split()
        cuts = extract_features(model, tokenizer, [" ".join(words[:n]) for n in range(2, len(words) + 1)]).whole
        distances = torch.cdist(pieces, cuts)
        assert distances.min(1).values.max() < 1e-3
        lengths += distances.argmin(1).tolist()
    assert len(set(lengths)) > 4


def test_texts_longer_than_the_context_are_truncated_and_counted(model, tokenizer):
    words = ["kind"] * 40
    features = extract_features(model, tokenizer, [" ".join(words), "a kind view"])
    fitting = extract_features(model, tokenizer, [" ".join(words[:23])])
    assert (features.truncated, fitting.truncated) == (1, 0)
    torch.testing.assert_close(features.whole[:1], fitting.whole, atol=1e-5, rtol=1e-5)


def test_a_second_run_reads_the_cache_and_not_the_model(model, tokenizer, texts, tmp_path, monkeypatch):
    first = extract_features(model, tokenizer, texts, cache_dir=tmp_path)

    def refuse(*args, **kwargs):
        raise AssertionError("the model was called")

    monkeypatch.setattr(type(model.base_model), "forward", refuse)
    second = extract_features(model, tokenizer, texts, cache_dir=tmp_path)
    assert (first.from_cache, second.from_cache) == (False, True)
    assert torch.equal(first.pooled, second.pooled)
    with pytest.raises(AssertionError, match="called"):
        extract_features(model, tokenizer, texts, options=FeatureOptions((4,), 0), cache_dir=tmp_path)


def test_other_texts_and_other_weights_do_not_take_each_others_cache(model, tokenizer, texts, tmp_path):
    extract_features(model, tokenizer, texts, cache_dir=tmp_path)
    assert not extract_features(model, tokenizer, texts[::-1], cache_dir=tmp_path).from_cache
    assert not extract_features(tiny_model(seed=1), tokenizer, texts, cache_dir=tmp_path).from_cache
    moved = [texts[0] + texts[1][:2], texts[1][2:], *texts[2:]]  # the same letters in all
    assert not extract_features(model, tokenizer, moved, cache_dir=tmp_path).from_cache
    cuts_otherwise = copy.deepcopy(tokenizer)
    cuts_otherwise.add_tokens(["elsewhere"])
    assert not extract_features(model, cuts_otherwise, texts, cache_dir=tmp_path).from_cache
    assert len(list(tmp_path.iterdir())) == 5


def test_a_damaged_cache_file_is_replaced(model, tokenizer, texts, tmp_path):
    first = extract_features(model, tokenizer, texts, cache_dir=tmp_path)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    again = extract_features(model, tokenizer, texts, cache_dir=tmp_path)
    assert not again.from_cache
    assert torch.equal(first.pooled, again.pooled)
    assert extract_features(model, tokenizer, texts, cache_dir=tmp_path).from_cache


def test_hidden_states_that_are_not_numbers_are_told_and_not_cached(tokenizer, texts, tmp_path):
    broken = tiny_model()
    broken.transformer.ln_f.bias[3] = float("nan")
    with pytest.raises(pplm.InputError, match="24 of 24 texts are not finite"):
        extract_features(broken, tokenizer, texts, cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


def test_texts_are_encoded_as_prompts_are(model, tokenizer, texts):
    assert encode_texts(model, tokenizer, texts) == [encode_prompt(model, tokenizer, text) for text in texts]
    assert encode_texts(model, tokenizer, ["a view"], bos=False) == [encode_prompt(model, tokenizer, "a view")[1:]]
    with pytest.raises(pplm.InputError, match=r"text 1 of 2 .*is empty"):
        encode_texts(model, tokenizer, ["a", " "])


def test_the_model_is_left_as_it_was(model, tokenizer, texts):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    extract_features(model, tokenizer, texts)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_batches_hold_every_text_once_and_keep_to_their_size():
    lengths = [3, 50, 4, 4, 9, 7, 3, 3, 8]
    batches = in_like_lengths(lengths, 20)
    assert sorted(row for batch in batches for row in batch) == list(range(9))
    assert all(len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= 20 for batch in batches)
    assert len(batches) < 6
    assert in_like_lengths([5, 5, 5, 5, 5], 20) == [[0, 1, 2, 3], [4]]  # as many as fit


@pytest.mark.parametrize(
    "options",
    [{"prefix_lengths": (0,)}, {"random_prefixes": -1}, {"prefix_lengths": (5, 2.5)}, {"random_prefixes": 1.5}],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(pplm.InputError, match=next(iter(options))):
        dataclasses.replace(FeatureOptions(), **options)
