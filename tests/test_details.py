"""`generate(..., trace=True)`: what steering did to each token."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from helpers import STRONG, dial, ids_of
from trace_documents import token as token_of_a_document
from transformers import DynamicCache

import pplm
from attribute_models import BagOfWords
from attribute_models.composition import Avoid
from attribute_models.word_marks import mark_tokens, mark_words, pattern_of
from pplm import InputError, SteeringConfig
from pplm.passes import count_passes
from pplm.text.encoding import encode_prompt

PROMPTS = ["The sea is", " moon", "Cats and a star over the sea"]


def run(gpt2, tokenizer, prompts=PROMPTS, **arguments):
    defaults = {"steering": STRONG, "max_new_tokens": 6, "seed": 4, "do_sample": True}
    return pplm.generate(gpt2, tokenizer, prompts, **{**defaults, **arguments})


def numbers(details):
    """Return all numbers of a text's details but the seconds, in one order."""
    found = []

    def collect(value):
        if isinstance(value, dict):
            for name in sorted(value):
                if name != "seconds":
                    collect(value[name])
        elif isinstance(value, list):
            for item in value:
                collect(item)
        else:
            found.append(value)

    collect(details.record())
    return found


def same(one, other):
    """Return whether two texts' details are equal but for rounding and seconds."""
    pairs = zip(numbers(one), numbers(other), strict=True)
    return all(a == pytest.approx(b, abs=2e-5, rel=1e-4) if isinstance(a, float) else a == b for a, b in pairs)


@pytest.mark.filterwarnings("ignore:target")  # that is not reached
@pytest.mark.parametrize("steering", ["fixed", "strength", "target"])
def test_a_trace_changes_no_text_and_nothing_else(gpt2, tokenizer, words, head, steering):
    attributes = [words, (head, 0.5), Avoid(words)]
    settings = {
        "fixed": STRONG,
        "strength": dial(attributes, strength=0.5),
        "target": dial(attributes, target={"sky": 0.2, "head": 0.5}),
    }[steering]
    arguments = {"attributes": attributes, "steering": settings, "num_samples": 2}
    plain, traced = (run(gpt2, tokenizer, trace=trace, **arguments) for trace in (False, True))
    assert [text.record() for text in plain] == [text.record() for text in traced]
    assert all(torch.equal(a.trace.gm_scale, b.trace.gm_scale) for a, b in zip(plain, traced, strict=True))
    assert all(text.details is None for text in plain)
    assert all(len(text.details.tokens) == len(text.token_ids) for text in traced)


def test_without_a_trace_nothing_more_is_read_and_with_one_only_what_heads_look_ahead(gpt2, tokenizer, words, head):
    passes = {}
    run(gpt2, tokenizer, attributes=[words, head], trace=True)  # a model is tried out once
    for name, attributes in (("bag", [words]), ("head", [head])):
        for trace in (False, True):
            with count_passes(gpt2) as counted:
                run(gpt2, tokenizer, attributes=attributes, trace=trace, eos_token_id=None)
            passes[name, trace] = counted.forward
    assert passes["bag", True] == passes["bag", False]
    assert passes["head", True] == passes["head", False] + 2 * 6
    with count_passes(gpt2) as counted:
        run(gpt2, tokenizer, trace=[head], eos_token_id=None)
    assert counted.forward == 6 + 6


def test_tracing_more_attributes_than_steer_changes_no_text(gpt2, tokenizer, words, head):
    plain = run(gpt2, tokenizer, attributes=[words])
    traced = run(gpt2, tokenizer, attributes=[words], trace=[words, head, Avoid(words)])
    assert [text.record() for text in plain] == [text.record() for text in traced]
    assert list(traced[0].details.levels) == ["sky", "head", "avoid sky"]


def test_the_details_of_a_batch_are_those_of_single_runs(gpt2, tokenizer, words, head):
    arguments = {"attributes": [words, head], "steering": dial([words, head]), "num_samples": 2, "trace": True}
    together = run(gpt2, tokenizer, **arguments)
    alone = run(gpt2, tokenizer, max_batch_size=1, **arguments)
    assert all(same(a.details, b.details) for a, b in zip(together, alone, strict=True))
    assert not same(together[0].details, together[1].details)


def test_details_repeat_what_is_known_of_a_token(gpt2, tokenizer, words):
    for text in run(gpt2, tokenizer, attributes=[words], steering=dial([words]), trace=True):
        tokens = text.details.tokens
        assert [token.token_id for token in tokens] == text.token_ids
        assert "".join(token.text for token in tokens) == text.completion
        assert [token.kl for token in tokens] == pytest.approx(text.final_kl)
        assert [token.gm_scale for token in tokens] == pytest.approx(text.trace.gm_scale[:, 0].tolist())
        assert all(token.seconds > 0 for token in tokens)
        for token in tokens:
            level = token.levels["sky"]
            assert level.gain == level.final - level.unsteered


def test_the_record_is_a_text_and_its_tokens_as_traces_hold_them(gpt2, tokenizer, words, head):
    details = run(gpt2, tokenizer, attributes=[words, head], trace=True)[0].details
    record = details.record()
    wanted = token_of_a_document(0, "x", ["sky", "head"], steered=True)
    for token in record["tokens"]:
        assert set(token) == set(wanted)
        assert set(token["levels"]) == {"sky", "head"}
        assert set(token["levels"]["sky"]) == set(wanted["levels"]["sky"])
        assert [set(kind[0]) for kind in token["likeliest"].values()] == [{"token_id", "text", "probability"}] * 2
        assert [len(kind) for kind in token["likeliest"].values()] == [5, 5]
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_levels_and_likeliest_tokens_are_those_of_the_distributions(gpt2, tokenizer, words):
    ids = torch.tensor([ids_of(tokenizer, PROMPTS[0])])
    with torch.no_grad():
        probabilities = gpt2(ids).logits[0, -1].softmax(-1)
    steered = run(gpt2, tokenizer, PROMPTS[0], attributes=[words], trace=True)[0].details.tokens[0]
    plain = run(gpt2, tokenizer, PROMPTS[0], trace=[words])[0].details.tokens[0]
    credited = [tokenizer.encode(f" {word}") for word in ("moon", "star", "sun")]
    assert all(len(own) == 1 for own in credited)
    mass = float(probabilities[[own[0] for own in credited]].sum())
    for token in (steered, plain):
        assert token.levels["sky"].unsteered == pytest.approx(mass, abs=0.02)  # rare beginnings earn a little
        assert token.levels["sky"].unsteered >= mass - 1e-6
        assert [own.token_id for own in token.unsteered] == probabilities.topk(5).indices.tolist()
        assert [own.probability for own in token.unsteered] == pytest.approx(probabilities.topk(5).values.tolist())
        assert token.unsteered[0].text == tokenizer.decode([token.unsteered[0].token_id])
    assert steered.levels["sky"].gain > 1e-3
    assert steered.final != steered.unsteered
    assert plain.levels["sky"].gain == plain.kl == plain.gm_scale == 0
    assert plain.step_length is None
    assert plain.final == plain.unsteered


def test_without_temperature_and_filters_the_final_level_is_what_is_drawn_from(gpt2, tokenizer, words):
    """The mean of many first tokens that are words is the level."""
    texts = run(gpt2, tokenizer, PROMPTS[0], attributes=[words], trace=True, num_samples=400, max_new_tokens=1)
    level = texts[0].details.tokens[0].levels["sky"].final
    share = sum(bool(text.details.tokens[0].words) for text in texts) / len(texts)
    assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / len(texts)))


def test_a_heads_level_is_its_class_probability_with_the_expected_next_token(gpt2, tokenizer, head):
    ids = torch.tensor([ids_of(tokenizer, PROMPTS[0])])
    with torch.no_grad():
        read = gpt2(ids, output_hidden_states=True)
        embeddings = gpt2.transformer.wte(ids)
        expected = read.logits[:, -1].softmax(-1) @ gpt2.transformer.wte.weight
        longer = gpt2(inputs_embeds=torch.cat([embeddings, expected[:, None]], dim=1), output_hidden_states=True)
        wanted = torch.nn.functional.linear(longer.hidden_states[-1].mean(1), head.weight, head.bias).softmax(-1)[0, 1]
        now = torch.nn.functional.linear(read.hidden_states[-1].mean(1), head.weight, head.bias).softmax(-1)[0, 1]
    plain = run(gpt2, tokenizer, PROMPTS[0], trace=[head], max_new_tokens=1)[0].details
    steered = run(gpt2, tokenizer, PROMPTS[0], attributes=[head], trace=True, max_new_tokens=1)[0].details
    for details in (plain, steered):
        assert details.tokens[0].levels["head"].unsteered == pytest.approx(float(wanted), abs=1e-5)
        assert details.levels["head"] == pytest.approx(float(now), abs=1e-5)
    assert steered.tokens[0].levels["head"].gain != 0


def test_padding_changes_no_level_of_a_head(gpt2, tokenizer, head):
    alone = [run(gpt2, tokenizer, prompt, trace=[head], prompt_indices=[n])[0] for n, prompt in enumerate(PROMPTS)]
    together = run(gpt2, tokenizer, trace=[head])
    assert all(same(a.details, b.details) for a, b in zip(alone, together, strict=True))


def test_over_a_callers_cache_an_unsteered_text_has_the_same_levels(gpt2, tokenizer, head):
    whole = run(gpt2, tokenizer, PROMPTS[0], trace=[head])[0]
    cache = DynamicCache()
    with torch.no_grad():
        gpt2(torch.tensor([encode_prompt(gpt2, tokenizer, PROMPTS[0])[:-2]]), past_key_values=cache)
    again = run(gpt2, tokenizer, PROMPTS[0], trace=[head], past_key_values=cache)[0]
    assert again.token_ids == whole.token_ids
    assert same(again.details, whole.details)


def test_with_the_dial_a_texts_levels_are_those_of_the_dial(gpt2, tokenizer, words, head):
    attributes = [words, head, Avoid(words)]
    for text in run(gpt2, tokenizer, attributes=attributes, steering=dial(attributes, strength=0.5), trace=True):
        assert text.details.levels == pytest.approx(text.levels, abs=1e-5)


def test_what_is_avoided_has_the_level_of_what_is_avoided(gpt2, tokenizer, words):
    text = run(gpt2, tokenizer, PROMPTS[0], attributes=[Avoid(words)], trace=[words])[0]
    for token in text.details.tokens:
        assert token.levels["avoid sky"].unsteered == pytest.approx(token.levels["sky"].unsteered, abs=1e-5)
        assert token.levels["avoid sky"].final == pytest.approx(token.levels["sky"].final, abs=1e-5)
    never = Avoid(SimpleNamespace(name="sea", loss=lambda step: torch.full_like(step.logits[:, 0], torch.inf)))
    assert run(gpt2, tokenizer, PROMPTS[0], trace=[never])[0].details.levels == {"avoid sea": 0.0}


def test_a_step_is_as_long_as_its_settings_make_it(gpt2, tokenizer, words):
    steering = SteeringConfig(step_size=0.3, num_iterations=1, gamma=1.0, norm_rule="current", grad_length=2)
    text = run(gpt2, tokenizer, PROMPTS[0], attributes=[words], steering=steering, trace=True)[0]
    wanted = 0.3 * math.sqrt(gpt2.config.n_layer)  # each layer takes a step of its own
    assert [token.step_length for token in text.details.tokens[:2]] == pytest.approx([wanted] * 2, rel=1e-4)
    assert {token.step_length for token in text.details.tokens[2:]} == {None}


@pytest.mark.filterwarnings("ignore:target")
def test_texts_that_skip_a_token_have_no_step_there(gpt2, tokenizer, words):
    steering = dial([words], target=0.005)
    texts = run(gpt2, tokenizer, attributes=[words], steering=steering, trace=True, num_samples=3)
    for text in texts:
        steered = text.trace.kl[:, 0, 0].isfinite().tolist()
        assert [token.step_length is not None for token in text.details.tokens] == steered
    assert {token.step_length is None for text in texts for token in text.details.tokens} == {True, False}


class Squares:
    """Its loss is not -log of a probability."""

    name = "squares"

    def loss(self, step):
        return -step.log_probs[:, 3].exp() - 1


def test_a_loss_that_is_no_probability_has_no_level(gpt2, tokenizer):
    details = run(gpt2, tokenizer, PROMPTS[0], attributes=[Squares()], trace=True)[0].details
    assert details.levels == {"squares": None}
    assert all(token.levels == {"squares": None} for token in details.tokens)


@pytest.mark.parametrize("trace", ["yes", 1, None])
def test_a_wrong_trace_is_refused(gpt2, tokenizer, trace):
    with pytest.raises(InputError, match="trace must be True, False or a list of attribute models; got"):
        run(gpt2, tokenizer, trace=trace)


def test_an_attribute_of_the_same_name_gets_another_one(gpt2, tokenizer, words):
    other = BagOfWords.from_words(["sea"], tokenizer, name="sky")
    assert list(run(gpt2, tokenizer, attributes=[words], trace=[other])[0].details.levels) == ["sky", "sky#2"]


# --- words -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "before", "marked"),
    [
        ([" a", " moon", "."], "", " moon"),
        ([" a", " mo", "on", "."], "", " mo on"),
        ([" a", " moon", "light"], "", ""),
        ([" Moon", " MOON"], "", " Moon"),
        (["on"], "The mo", "on"),
        ([" black", " hole", " hole", " black"], "", " black hole"),
        ([" black", "\n", "hole"], "", " black\nhole"),
        ([" white", " dwarf", " star"], "", " white dwarf star"),
        ([" may", " May"], "", " May"),
        (["", "", "月", "光"], "", "|月|"),
    ],
)
def test_all_tokens_of_a_word_are_marked(texts, before, marked):
    pattern = pattern_of(["moon", "black hole", "white dwarf", "dwarf star", "May", "月"], casing=True)
    marks = mark_words(pattern, texts, before)
    found = "".join(text for text, mark in zip(texts, marks, strict=True) if mark)
    assert found == marked.strip("|").replace(" mo on", " moon")
    if "月" in texts:
        assert marks == [True, True, True, False]


def test_without_casing_a_word_is_found_as_it_is_listed():
    assert mark_words(pattern_of(["moon"], casing=False), [" moon", " Moon"], "") == [True, False]


def test_a_bag_of_token_ids_finds_these(bag):
    assert bag.words_in([5, 11, 7, 61], [" 11", "", "x", "y"]) == [False, True, False, True]
    assert mark_tokens([(1, 2), (2, 3)], [1, 2, 3, 1]) == [True, True, True, False]


def test_tokens_of_words_name_their_bags(gpt2, tokenizer, words):
    sea = BagOfWords.from_words(["sea", "moon"], tokenizer, name="sea")
    texts = run(gpt2, tokenizer, attributes=[words], trace=[sea, Avoid(sea)], num_samples=8, max_new_tokens=12)
    found = {(token.text, token.words) for text in texts for token in text.details.tokens if token.words}
    assert (" moon", ("sky", "sea", "avoid sea")) in found
    assert (" star", ("sky",)) in found
    assert len({token.words for text in texts for token in text.details.tokens}) > 2


def test_chats_are_traced_behind_their_template(chat, head):
    model, tokenizer = chat
    words = BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="sky")
    questions = [[{"role": "user", "content": "Who?"}], [{"role": "user", "content": "What is the moon?"}]]
    arguments = {"attributes": [words, head], "steering": dial([words, head])}
    plain, texts = (run(model, tokenizer, questions, trace=trace, **arguments) for trace in (False, True))
    assert [text.record() for text in texts] == [text.record() for text in plain]
    alone = [
        run(model, tokenizer, [one], trace=True, prompt_indices=[n], **arguments)[0] for n, one in enumerate(questions)
    ]
    assert all(same(a.details, b.details) for a, b in zip(texts, alone, strict=True))
    assert all(text.details.levels == pytest.approx(text.levels, abs=1e-5) for text in texts)


def test_the_best_of_several_candidates_keeps_its_own_details(gpt2, tokenizer, words):
    texts = run(gpt2, tokenizer, attributes=[words], rerank=pplm.Rerank(3, 0.0), trace=True)
    assert any(text.candidate for text in texts)
    assert all([token.token_id for token in text.details.tokens] == text.token_ids for text in texts)
