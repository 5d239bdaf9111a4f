"""What a user could pick instead of steering: each method does what its equation says, and leaves nothing behind."""

from dataclasses import replace
from weakref import WeakKeyDictionary

import pytest
import torch
from helpers import STRONG, decode

import pplm
from attribute_models import Avoid, BagOfWords
from pplm import InputError
from pplm.comparison.rivals import RIVALS, Request
from pplm.interface import bind_attributes, weigh_attributes
from pplm.pooling import PooledHidden, model_body
from pplm.text.split import decoder_layers

PROMPTS = ("The sea is", " moon", "Cats and a star")
IDS = ([5, 9, 2, 41, 7], [8, 3], [12, 60, 33])
FITS = {"WD": "bag", "FUDGE": "head", "CAA": "head", "PROMPT": "bag"}


@pytest.fixture(scope="module")
def head(head):
    """The shared head with mean hidden states of its classes, large enough to change texts."""
    means = torch.randn(3, 2, 32, generator=torch.Generator().manual_seed(8))
    return replace(head, class_means=means)


@pytest.fixture(scope="module")
def sky(tokenizer):
    return BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="sky")


def rival(method, model, attributes, strength=2.0, *, name="sky", top_k=5):
    weighted = bind_attributes(weigh_attributes(attributes), model)
    return RIVALS[method].of(Request(model, name, weighted, strength, {"top_k": top_k}))


def run(own, model, prompts=IDS, **arguments):
    with own.decoding(model) as more:
        return decode(model, prompts, (), None, **arguments, **more)


def texts(own, model, tokenizer, prompts=PROMPTS, **arguments):
    arguments = {"seed": 4, "max_new_tokens": 6, "do_sample": True, "top_k": 5, "num_samples": 2, **arguments}
    with own.decoding(model) as more:
        made = pplm.generate(model, tokenizer, [own.prompt(text) for text in prompts], **arguments, **more)
    return [text.completion for text in made]


def test_weighted_decoding_adds_a_constant_to_exactly_the_single_token_words(model, bag):
    others = BagOfWords.from_token_ids([23, 30], 90, name="others")
    output = run(rival("WD", model, [bag, (others, 0.5)], 3.0), model, new=3)
    for scores, logits in zip(output.scores, output.logits, strict=True):
        added = torch.zeros(logits.shape[1])
        added[list(bag.token_ids)] = 3.0
        added[[23, 30]] += 1.5
        torch.testing.assert_close(scores - logits, added.expand(3, -1), atol=1e-5, rtol=0)
        assert torch.equal(scores[:, added == 0], logits[:, added == 0])


def test_weighted_decoding_leaves_words_of_several_tokens_alone(gpt2, tokenizer):
    bag = BagOfWords.from_words(["moon", "telescope"], tokenizer, casing=False)
    assert set(rival("WD", gpt2, [bag]).added) == set(bag.token_ids)
    assert len(bag.token_ids) < len({token for entry in bag.entries for token in entry.token_ids})


def brute_force(model, ids, head, strength, k):
    """Return FUDGE's scores of one text (V,): every candidate read behind the whole text, nothing cached."""
    logits = model(torch.tensor([ids])).logits[0, -1]
    scores = torch.full_like(logits, -torch.inf)
    for token in logits.topk(k).indices.tolist():
        hidden = model_body(model)(torch.tensor([[*ids, token]])).last_hidden_state
        mean = PooledHidden.of(hidden, torch.ones(hidden.shape[:2])).mean
        scores[token] = logits[token] + strength * head.class_logits(mean).log_softmax(-1)[0, head.labels.index("b")]
    return scores


@torch.no_grad()
def test_fudge_weighs_the_likeliest_tokens_as_reading_each_text_anew_does(model, head, monkeypatch):
    monkeypatch.setattr("pplm.comparison.rivals.fudge._ROWS_AT_ONCE", 11)  # two texts of five candidates, then one
    with rival("FUDGE", model, [(head, 0.5)], 8.0).decoding(model) as more:
        decode(model, [[4, 4, 6, 8, 2], [9], [7]], (), None, new=2, **more)  # an earlier batch leaves nothing behind
        output = decode(model, IDS, (), None, new=3, **more)
    for row, prompt in enumerate(IDS):
        new = output.sequences[row, -3:].tolist()
        for step, scores in enumerate(output.scores):
            wanted = brute_force(model, [*prompt, *new[:step]], head, 4.0, 5)
            assert int(scores[row].isfinite().sum()) == 5
            torch.testing.assert_close(scores[row], wanted, atol=2e-4, rtol=0)


def watched(model, own):
    """Return what the rival's layer puts out in each pass, the hidden states (B, T, D)."""
    seen = []
    with own.decoding(model) as more:
        layer = decoder_layers(model)[1][own.layer]  # ours is called after the rival's
        handle = layer.register_forward_hook(lambda _, __, output: seen.append(output.clone()))
        decode(model, IDS, (), None, new=3, **more)
        handle.remove()
    return seen


@torch.no_grad()
def test_activation_addition_moves_one_layer_by_exactly_the_vector_where_new_tokens_come_from(model, head):
    own = rival("CAA", model, [head], 1.5)
    vector = 1.5 * (head.class_means[1] - (head.class_means[0] + head.class_means[2]) / 2)[1]
    assert own.layer == 1
    plain, moved = watched(model, replace(own, vector=0 * own.vector)), watched(model, own)
    # The first pass reads the prompt, so that what is moved does not depend on tokens that were chosen.
    torch.testing.assert_close(moved[0][:, -1], plain[0][:, -1] + vector, atol=1e-5, rtol=0)
    assert torch.equal(moved[0][:, :-1], plain[0][:, :-1])
    assert [states.shape[1] for states in moved] == [5, 1, 1]


@torch.no_grad()
def test_activation_addition_is_what_a_model_with_the_vector_in_its_layer_writes(gpt2, head):
    own = rival("CAA", gpt2, [head], 1.5)
    output = run(own, gpt2, IDS[:1], new=3)
    ids, length = output.sequences[:, :-1], len(IDS[0])
    (block,) = (layer for number, layer in enumerate(gpt2.transformer.h) if number == own.layer)

    def add(_, __, hidden):
        moved = hidden.clone()
        moved[:, length - 1 :] += own.vector
        return moved

    handle = block.register_forward_hook(add)
    whole = gpt2(ids).logits[0, length - 1 :]
    handle.remove()
    torch.testing.assert_close(torch.cat(output.logits), whole, atol=1e-4, rtol=0)


def test_a_prompt_line_gives_the_completion_of_the_prefixed_prompt(gpt2, tokenizer, sky, head):
    own = rival("PROMPT", gpt2, [sky], 1.0)
    prefixed = ["About sky:\n" + prompt for prompt in PROMPTS]
    plain = pplm.generate(gpt2, tokenizer, prefixed, seed=4, max_new_tokens=6, do_sample=True, top_k=5, num_samples=2)
    assert texts(own, gpt2, tokenizer) == [text.completion for text in plain]
    assert rival("PROMPT", gpt2, [head.towards("a")], 2.0).prompt("So") == "An a text:\nAn a text:\nSo"


def attributes_for(method, sky, head):
    return [sky] if FITS[method] == "bag" else [head]


@pytest.mark.parametrize("method", RIVALS)
def test_strength_0_gives_the_unsteered_texts_and_the_default_others(gpt2, tokenizer, sky, head, method):
    arguments = {"max_new_tokens": 6, "do_sample": True, "top_k": 5, "num_samples": 2, "seed": 4}
    plain = [text.completion for text in pplm.generate(gpt2, tokenizer, PROMPTS, **arguments)]
    models = attributes_for(method, sky, head)
    assert texts(rival(method, gpt2, models, 0.0), gpt2, tokenizer) == plain
    assert texts(rival(method, gpt2, models, RIVALS[method].default_strength), gpt2, tokenizer) != plain


@pytest.mark.parametrize("method", RIVALS)
def test_a_batch_gives_the_texts_of_single_prompts(gpt2, tokenizer, sky, head, method, monkeypatch):
    # As in a new process: the model is tried with padding at the first batch, and those passes are no text.
    monkeypatch.setattr("pplm.text.steerable._BY_MASK", WeakKeyDictionary())
    own = rival(method, gpt2, attributes_for(method, sky, head), RIVALS[method].default_strength)
    together = texts(own, gpt2, tokenizer)
    for number, prompt in enumerate(PROMPTS):
        alone = texts(own, gpt2, tokenizer, [prompt], prompt_indices=[number], max_batch_size=1)
        assert alone == together[2 * number : 2 * number + 2]


@pytest.mark.parametrize("method", RIVALS)
def test_nothing_stays_in_the_model_also_after_an_error(gpt2, tokenizer, sky, head, method):
    own = rival(method, gpt2, attributes_for(method, sky, head))
    decode(gpt2, IDS, new=1)  # transformers leaves hooks of its own at the first reading
    before = {name: weight.clone() for name, weight in gpt2.state_dict().items()}
    hooks = [list(module._forward_hooks) for module in gpt2.modules()]
    texts(own, gpt2, tokenizer)
    with pytest.raises(KeyboardInterrupt), own.decoding(gpt2):
        raise KeyboardInterrupt
    assert [list(module._forward_hooks) for module in gpt2.modules()] == hooks
    assert all(torch.equal(weight, before[name]) for name, weight in gpt2.state_dict().items())
    assert all(parameter.grad is None for parameter in gpt2.parameters())


def test_each_attribute_model_fits_the_methods_that_have_a_meaning_for_it(sky, head):
    found = {
        name: [method for method, own in RIVALS.items() if own.fits(model)]
        for name, model in {"bag": sky, "head": head, "avoided bag": Avoid(sky), "avoided head": Avoid(head)}.items()
    }
    assert found == {
        "bag": ["WD", "PROMPT"],
        "head": ["FUDGE", "CAA", "PROMPT"],
        "avoided bag": [],
        "avoided head": ["FUDGE"],
    }


@pytest.mark.parametrize(
    ("method", "strength", "message"),
    [
        ("WD", -1, "strength of WD must be a finite number of at least 0; got -1"),
        ("CAA", float("nan"), "strength of CAA must be a finite number"),
        ("FUDGE", "5", "strength of FUDGE must be a finite number of at least 0; got '5'"),
        ("PROMPT", 1.5, "strength of PROMPT counts lines and must be a whole number; got 1.5"),
    ],
)
def test_strengths_outside_their_range_are_refused_by_the_method_s_name(method, strength, message):
    with pytest.raises(InputError, match=message):
        RIVALS[method].check_strength(method, strength)


def test_activation_addition_refuses_a_head_without_vectors_by_the_command_that_makes_them(gpt2, head):
    bare = replace(head, class_means=None)
    with pytest.raises(InputError, match=r"head holds no mean hidden states .* pplm train-discriminator DATA"):
        rival("CAA", gpt2, [bare])
    with pytest.raises(InputError, match="vectors for 5 layers, the model has 2"):
        rival("CAA", gpt2, [replace(head, class_means=torch.zeros(3, 5, 32))])


def test_steering_is_not_what_rivals_do(gpt2, tokenizer, sky):
    """Their arms take no setting of steering: an unsteered trace is recorded."""
    with rival("WD", gpt2, [sky]).decoding(gpt2) as more:
        (text,) = pplm.generate(gpt2, tokenizer, "The sea", steering=STRONG, max_new_tokens=2, **more)
    assert not text.steered
