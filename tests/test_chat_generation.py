"""`pplm.generate` with messages: what is answered, where it ends, and which tokens a head's mean counts."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from helpers import STRONG
from transformers import LogitsProcessor, LogitsProcessorList

import pplm
from attribute_models import BagOfWords
from pplm import InputError, Rerank, SteeringConfig, SteeringWarning
from pplm.interface import bind_attributes, weigh_attributes
from pplm.text.chat_template import encode_messages
from pplm.text_scores import score_texts

ASKED = [{"role": "user", "content": "The sea and the moon"}]
LONGER = [
    {"role": "system", "content": "Be a star"},
    {"role": "user", "content": "The cat"},
    {"role": "assistant", "content": "A sun"},
    {"role": "user", "content": "Why?"},
]
STILL = SteeringConfig(step_size=1e-12, num_iterations=1, horizon_length=0, window_length=0)
"""Steers so little that every state is the unsteered one."""


class Mean:
    """An attribute model that keeps the mean hidden states it was shown, and lowers their sum."""

    steering_kind = "discriminator"

    def __init__(self):
        self.seen = []

    def loss(self, step):
        self.seen.append(step.mean_hidden_state.detach())
        return step.mean_hidden_state.square().mean(1)

    def text_loss(self, text):
        self.seen.append(text.mean_hidden_state)
        return text.mean_hidden_state.square().mean(1)


class Force(LogitsProcessor):
    """Lets a token be drawn alone once a text has a certain length."""

    def __init__(self, token, length):
        self.token, self.length = token, length

    def __call__(self, input_ids, scores):
        if input_ids.shape[1] >= self.length:
            scores = torch.full_like(scores, -torch.inf)
            scores[:, self.token] = 0
        return scores


def answer(chat, messages, **arguments):
    model, tokenizer = chat
    return pplm.generate(model, tokenizer, messages, **{"max_new_tokens": 5, "do_sample": False, **arguments})


def ending(tokenizer, end="<|done|>", after=3):
    """Return arguments that let the answer to `ASKED` end with a token."""
    length = len(encode_messages(tokenizer, ASKED).ids) + after
    return {"logits_processor": LogitsProcessorList([Force(tokenizer.convert_tokens_to_ids(end), length)])}


def states(model, ids):
    return model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1][0]


# --- what is answered, and where it ends -------------------------------------------------------------------------


def test_an_unsteered_answer_is_that_of_transformers(chat):
    model, tokenizer = chat
    inputs = tokenizer.apply_chat_template(LONGER, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    ids = model.generate(**inputs, max_new_tokens=5, do_sample=False, pad_token_id=0)[0, inputs["input_ids"].shape[1] :]
    (found,) = answer(chat, LONGER)
    assert found.token_ids == ids.tolist()
    assert found.completion == tokenizer.decode(ids, skip_special_tokens=True)


def test_the_answer_alone_is_the_completion_and_the_prompt_is_the_last_message(chat):
    (found,) = answer(chat, LONGER)
    assert found.prompt == "Why?"
    assert found.text == f"Why?\n\n{found.completion}"
    assert found.messages == LONGER
    assert "<|" not in found.text
    assert json.loads(json.dumps(found.record()))["messages"] == LONGER


def test_an_answer_ends_where_the_template_ends_a_turn_and_a_text_does_not(chat):
    _, tokenizer = chat
    (found,) = answer(chat, ASKED, **ending(tokenizer))
    assert len(found.token_ids) == 4
    assert found.token_ids[-1] == tokenizer.convert_tokens_to_ids("<|done|>")
    assert found.completion == tokenizer.decode(found.token_ids[:-1])
    text = tokenizer.apply_chat_template(ASKED, add_generation_prompt=True, tokenize=False)
    (plain,) = answer(chat, text, bos=False, **ending(tokenizer))
    assert plain.token_ids[:4] == found.token_ids
    assert len(plain.token_ids) == 5


def test_an_answer_ends_with_the_end_of_text_too_and_at_the_caller_s_own_ends_alone(chat):
    model, tokenizer = chat
    (found,) = answer(chat, ASKED, **ending(tokenizer, tokenizer.eos_token))
    assert len(found.token_ids) == 4
    moon = tokenizer(" moon").input_ids[0]
    assert len(answer(chat, ASKED, eos_token_id=moon, **ending(tokenizer))[0].token_ids) == 5
    config = copy.deepcopy(model.generation_config)
    config.eos_token_id, config.max_new_tokens, config.do_sample = moon, 5, False
    for token in (" moon", "<|done|>"):
        arguments = ending(tokenizer, "Ġmoon" if token == " moon" else token)
        (found,) = pplm.generate(model, tokenizer, ASKED, generation_config=config, **arguments)
        assert len(found.token_ids) == 4


def test_an_end_of_turn_that_is_not_special_is_not_shown(chat):
    model, tokenizer = chat
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|done|>", "<end>").replace("<|turn|>", "#")
    tokenizer.add_tokens(["<end>"])
    grown = copy.deepcopy(model)
    grown.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    (found,) = answer((grown, tokenizer), ASKED, **ending(tokenizer, "<end>"))
    assert len(found.token_ids) == 4
    assert "<end>" not in found.completion
    spy = Mean()
    answer(
        (grown, tokenizer), ASKED, attributes=[spy], steering=STILL, rerank=Rerank(1, 0.0), **ending(tokenizer, "<end>")
    )
    prompt = encode_messages(tokenizer, ASKED)
    counted = torch.tensor([*prompt.in_content, *[True] * 3])
    wanted = states(grown, [*prompt.ids, *found.token_ids[:-1]])[counted].mean(0)
    assert torch.allclose(spy.seen[-1][0], wanted, atol=1e-5)  # nor is it ranked


@pytest.mark.parametrize("settings", [{}, {"horizon_length": 0}, {"skip_weak": 0.9}])
def test_a_batch_of_conversations_equals_single_runs(chat, head, settings):
    steering = replace(STRONG, **settings)
    wanted = [answer(chat, messages, attributes=[head], steering=steering)[0] for messages in (ASKED, LONGER)]
    found = answer(chat, [ASKED, LONGER], attributes=[head], steering=steering)
    assert [text.token_ids for text in found] == [text.token_ids for text in wanted]
    for one, other in zip(found, wanted, strict=True):
        for losses, others in zip(one.attribute_losses["head"], other.attribute_losses["head"], strict=True):
            assert losses == pytest.approx(others, abs=1e-4)
    assert found[0].token_ids != answer(chat, ASKED)[0].token_ids


def test_where_one_conversation_of_two_is_steered_it_is_as_if_alone(chat, head):
    texts = answer(chat, [ASKED, LONGER], attributes=[head], steering=STRONG)
    first = [text.attribute_losses["head"][0][0] for text in texts]
    steering = replace(STRONG, skip_below=sum(first) / 2)
    wanted = [answer(chat, messages, attributes=[head], steering=steering)[0] for messages in (ASKED, LONGER)]
    assert sorted(len(text.attribute_losses["head"][0]) for text in wanted) == [0, 4]
    found = answer(chat, [ASKED, LONGER], attributes=[head], steering=steering)
    for one, other in zip(found, wanted, strict=True):
        assert one.token_ids == other.token_ids
        assert one.attribute_losses["head"][0] == pytest.approx(other.attribute_losses["head"][0], abs=1e-4)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (
            ["The sea", ASKED],
            "prompts mixes texts and conversations; pass texts in one call and conv",
        ),
        ([*ASKED, "The sea"], "prompts mixes texts and messages"),
        ([*ASKED, ASKED], "prompts mixes messages and conversations"),
        ([ASKED, [*ASKED, "The sea"]], "conversation 1, message 1 must be"),
        ([ASKED, []], "conversation 1 holds no message"),
        (ASKED[0], "got dict; pass the text itself instead of its token ids, and a message in a list"),
        ([[5, 6]], "each of prompts must be a text"),
        ([], "prompts is empty"),
    ],
)
def test_prompts_that_could_be_read_in_two_ways_are_refused(chat, prompts, message):
    with pytest.raises(InputError, match=message):
        answer(chat, prompts)


# --- what a head's mean counts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", [ASKED, LONGER])
def test_a_head_is_shown_the_mean_over_the_contents_and_the_answer_alone(chat, messages):
    model, tokenizer = chat
    spy = Mean()
    (found,) = answer(chat, messages, attributes=[spy], steering=STILL)
    prompt = encode_messages(tokenizer, messages)
    ids = [*prompt.ids, *found.token_ids]
    counted = torch.tensor([*prompt.in_content, *[True] * len(found.token_ids)])
    hidden = states(model, ids)
    for number in range(5):
        upto = slice(0, len(prompt.ids) + number)
        wanted = hidden[upto][counted[upto]].mean(0)
        # Two readings of each token: before the step and after.
        for seen in spy.seen[2 * number : 2 * number + 2]:
            assert torch.allclose(seen[0], wanted, atol=1e-5)
    assert not torch.allclose(spy.seen[2][0], hidden[: len(prompt.ids) + 1].mean(0), atol=1e-3)


def test_looking_ahead_the_expected_future_counts_and_the_template_before_it_does_not(chat):
    model, tokenizer = chat
    spy = Mean()
    steering = SteeringConfig(step_size=1e-12, num_iterations=1, horizon_length=1, window_length=0)
    answer(chat, ASKED, attributes=[spy], steering=steering, max_new_tokens=1)
    prompt = encode_messages(tokenizer, ASKED)
    read = model(torch.tensor([prompt.ids]), output_hidden_states=True, use_cache=True)
    expected = read.logits[:, -1].softmax(-1) @ model.get_input_embeddings().weight
    future = model(inputs_embeds=expected[:, None], past_key_values=read.past_key_values, output_hidden_states=True)
    contents = read.hidden_states[-1][0][torch.tensor(prompt.in_content)]
    wanted = torch.cat([contents, future.hidden_states[-1][0]]).mean(0)
    assert torch.allclose(spy.seen[0][0], wanted, atol=1e-5)


def test_without_looking_ahead_a_head_acts_from_the_second_token_on_and_a_bag_from_the_first(chat, head):
    _, tokenizer = chat
    bag = BagOfWords.from_words(["moon", "star"], tokenizer, name="sky")
    steering = SteeringConfig(step_size=0.3, gamma=1.0, norm_rule="current", horizon_length=0)
    (alone,) = answer(chat, ASKED, attributes=[head], steering=steering)
    (plain,) = answer(chat, ASKED)
    assert [len(losses) for losses in alone.attribute_losses["head"]] == [0, 4, 4, 4, 4]
    assert alone.kl[0] == alone.attribute_loss[0] == []
    assert alone.token_ids[0] == plain.token_ids[0]
    (both,) = answer(chat, ASKED, attributes=[head, bag], steering=steering)
    assert [len(losses) for losses in both.attribute_losses["head"]] == [0, 4, 4, 4, 4]
    assert [len(losses) for losses in both.attribute_losses["sky"]] == [4] * 5
    assert max(both.kl[0]) > 0
    (text,) = answer(chat, "The sea", attributes=[head], steering=steering)
    assert [len(losses) for losses in text.attribute_losses["head"]] == [4] * 5


def test_an_answer_too_short_for_a_head_is_warned_of_with_the_reason(chat, head):
    with pytest.warns(
        SteeringWarning, match=r"1 of 1 texts, .*; likely they are answers of one token: without look-ahead"
    ):
        answer(chat, ASKED, attributes=[head], steering=replace(STRONG, horizon_length=0), max_new_tokens=1)


def test_candidates_are_ranked_by_the_mean_over_the_contents_and_the_answer(chat):
    model, tokenizer = chat
    spy = Mean()
    arguments = {"attributes": [spy], "steering": STILL, "do_sample": True, "seed": 0, **ending(tokenizer)}
    (found,) = answer(chat, ASKED, rerank=Rerank(3, 0.0), **arguments)
    prompt = encode_messages(tokenizer, ASKED)
    ids = [*prompt.ids, *found.token_ids[:-1]]
    counted = torch.tensor([*prompt.in_content, *[True] * 3])
    wanted = states(model, ids)[counted].mean(0)
    assert torch.allclose(spy.seen[-1][found.candidate], wanted, atol=1e-5)
    bound = bind_attributes(weigh_attributes([Mean()]), model)
    rows = {"prompts": [prompt.ids] * 2, "completions": [found.token_ids[:-1], found.token_ids[:1]]}
    (scores,) = score_texts(model, [bound], **rows, in_content=[prompt.in_content, None])
    assert scores[0].total([1.0]) == pytest.approx(found.score, abs=1e-5)
    assert scores[1].attributes == pytest.approx(score_texts(model, [bound], **rows)[0][1].attributes, abs=1e-6)


def test_all_positions_counted_is_the_same_as_no_content_mask(chat, head):
    model, tokenizer = chat
    ids = torch.tensor([encode_messages(tokenizer, ASKED).ids] * 2)
    texts = []
    for mask in (None, torch.ones_like(ids).bool(), torch.arange(ids.shape[1]).expand_as(ids) > 3):
        loop = pplm.steered_decoding([head], STRONG, content_mask=mask)
        arguments = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0, "return_dict_in_generate": True}
        texts.append(model.generate(ids, custom_generate=loop, **arguments).steering.attribute_losses)
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    with pytest.raises(InputError, match=r"content_mask has shape \(2, 3\); the prompts of this batch have \(2, "):
        model.generate(ids, custom_generate=pplm.steered_decoding([head], content_mask=ids[:, :3]), max_new_tokens=2)
