"""What of a text goes into the model, whatever the tokenizer's template adds to it."""

import copy
import json

import pytest
import torch
from helpers import ids_of
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BatchEncoding, ByT5Tokenizer, PreTrainedTokenizerFast

import pplm
from attribute_models import extract_features
from attribute_models.completion import completion_probabilities
from attribute_models.own_texts import own_texts
from pplm import InputError, SteeringWarning
from pplm.evaluation import JudgedText, PerplexityJudge
from pplm.text.encoding import encode_prompt, encode_texts, encode_with_starts

BOS, SEP = "<|end|>", "<sep>"


@pytest.fixture
def roomy(gpt2):
    """The tiny GPT-2 with rows for more tokens than its tokenizer has."""
    grown = copy.deepcopy(gpt2)
    grown.resize_token_embeddings(280, mean_resizing=False)
    return grown


def with_template(tokenizer, template):
    """Return a tokenizer that puts its text into a template such as "[BOS] $A [SEP]"."""
    backend = Tokenizer.from_str(json.dumps(json.loads(tokenizer.backend_tokenizer.to_str())))
    backend.add_special_tokens([SEP])
    pieces = template.replace("[BOS]", BOS).replace("[SEP]", SEP)
    ids = [(token, backend.token_to_id(token)) for token in (BOS, SEP)]
    backend.post_processor = TemplateProcessing(single=pieces, special_tokens=ids)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=BOS, eos_token=BOS, sep_token=SEP)


@pytest.fixture(params=["$A", "[BOS] $A", "$A [SEP]", "[BOS] $A [SEP]", "$A [BOS]", "[BOS] $A [SEP] [SEP]"])
def templated(request, tokenizer):
    return with_template(tokenizer, request.param)


def test_a_text_begins_once_and_ends_with_its_own_last_token_whatever_the_template(gpt2, tokenizer, templated):
    own = tokenizer("The sea").input_ids
    begin = tokenizer.bos_token_id
    assert encode_prompt(gpt2, templated, "The sea") == [begin, *own]
    assert encode_prompt(gpt2, templated, "The sea", bos=False) == own
    assert encode_texts(gpt2, templated, ["The sea", "moon"])[0] == [begin, *own]
    found = encode_with_starts(gpt2, templated, ["The sea"])[0]
    assert found.ids == [begin, *own]
    assert found.starts == [-1, 0, 1, 2, 3]  # " sea" is one token


def test_special_tokens_that_stand_in_the_text_stay(roomy, templated):
    text = f"{BOS}The sea{SEP}"
    ids = encode_prompt(roomy, templated, text)
    assert ids[0] == templated.bos_token_id
    assert ids[-1] == templated.sep_token_id
    assert ids.count(templated.bos_token_id) == ids.count(templated.sep_token_id) == 1
    assert encode_texts(roomy, templated, [text]) == [ids]
    assert encode_prompt(roomy, templated, text, bos=False) == ids
    twice = encode_prompt(roomy, templated, BOS + text)
    assert twice == [templated.bos_token_id, *ids]  # as the user wrote it


def test_what_else_a_template_puts_in_front_stays(roomy, tokenizer):
    own = tokenizer("The sea").input_ids
    templated = with_template(tokenizer, "[SEP] $A")
    assert encode_prompt(roomy, templated, "The sea") == [tokenizer.bos_token_id, templated.sep_token_id, *own]
    assert encode_prompt(roomy, templated, "The sea", bos=False) == [templated.sep_token_id, *own]


def test_a_slow_tokenizer_s_end_is_left_out_as_well(gpt2):
    slow = ByT5Tokenizer()
    assert slow("ab").input_ids[-1] == slow.eos_token_id
    assert encode_prompt(gpt2, slow, "ab", bos=False) == slow("ab").input_ids[:-1]


def test_a_template_changes_no_text(gpt2, tokenizer, templated):
    arguments = {"max_new_tokens": 5, "seed": 1, "do_sample": True}
    wanted = pplm.generate(gpt2, tokenizer, ["The sea", "moon"], **arguments)
    found = pplm.generate(gpt2, templated, ["The sea", "moon"], **arguments)
    assert [out.token_ids for out in found] == [out.token_ids for out in wanted]


def test_the_text_of_a_chat_template_gets_no_second_beginning(gpt2, tokenizer):
    chat = copy.deepcopy(with_template(tokenizer, "[BOS] $A"))
    chat.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    text = chat.apply_chat_template([{"role": "user", "content": "The sea"}], tokenize=False)
    assert text == f"{BOS}The sea"
    assert encode_prompt(gpt2, chat, text) == encode_prompt(gpt2, tokenizer, "The sea")


CHATML = (
    "{% for m in messages %}{{ '<|end|>' + m['role'] + '\n' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|end|>assistant\n' }}{% endif %}"
)
"""A template whose turns begin with the token that the tokenizer declares as the beginning of a text."""


@pytest.mark.parametrize("separator", [True, False])
def test_a_token_that_opens_a_chat_s_turns_does_not_begin_a_plain_text(roomy, tokenizer, separator):
    chat = copy.deepcopy(tokenizer)
    chat.chat_template = CHATML
    first = []
    if separator:
        chat.add_special_tokens({"additional_special_tokens": ["<|endoftext|>"]})
        first = [chat.convert_tokens_to_ids("<|endoftext|>")]
    assert encode_prompt(roomy, chat, "The sea") == [*first, *tokenizer("The sea").input_ids]
    assert encode_prompt(roomy, chat, "The sea", bos=False) == tokenizer("The sea").input_ids
    whole = chat.apply_chat_template([{"role": "user", "content": "The sea"}], tokenize=False)
    assert encode_prompt(roomy, chat, whole)[0] == tokenizer.bos_token_id


def test_a_template_that_begins_its_text_with_the_declared_token_leaves_it_to_plain_texts(gpt2, tokenizer):
    for template in ("{{ bos_token }}{{ messages }}", "<|end|>[INST]{{ messages[0]['content'] }}", "{{ broken"):
        chat = copy.deepcopy(tokenizer)
        chat.chat_template = template
        assert encode_prompt(gpt2, chat, "The sea") == encode_prompt(gpt2, tokenizer, "The sea")


# --- a beginning that the model does not have --------------------------------------------------------------------


@pytest.fixture(params=[50256, -1])
def astray(gpt2, monkeypatch, request):
    """The model, with a beginning-of-text id that it has no row for."""
    monkeypatch.setattr(gpt2.config, "bos_token_id", request.param)
    return gpt2


def test_a_beginning_beyond_the_vocabulary_is_ignored_with_a_warning(astray, tokenizer):
    with pytest.warns(
        SteeringWarning, match=r"bos_token_id (50256|-1), which is none of the model's 272 tokens; it is ignored"
    ):
        ids = encode_prompt(astray, tokenizer, "The sea")
    assert ids == ids_of(tokenizer, "The sea")  # the tokenizer's fits
    for read in (own_texts, lambda model: completion_probabilities(model, [[1, 2]])):
        with pytest.warns(SteeringWarning, match="bos_token_id"):
            read(astray)


def test_a_text_has_no_beginning_where_no_id_fits(astray, tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "_special_tokens_map", {**tokenizer._special_tokens_map, "bos_token": None})
    with pytest.warns(SteeringWarning, match="bos_token_id"):
        assert encode_prompt(astray, tokenizer, "The sea") == tokenizer("The sea").input_ids


# --- what the model has no row for ------------------------------------------------------------------------------


@pytest.fixture
def larger(tokenizer):
    """The tokenizer with a word more than the model has rows."""
    grown = copy.deepcopy(tokenizer)
    grown.add_tokens("lake")
    return grown


@pytest.mark.parametrize(
    "read",
    [
        lambda *both: encode_prompt(*both, "the lake"),
        lambda *both: encode_texts(*both, ["the sea", "the lake"]),
        lambda *both: encode_with_starts(*both, ["the sea", "the lake"]),
        lambda *both: pplm.generate(*both, "the lake", max_new_tokens=1),
        lambda *both: extract_features(*both, ["the sea", "the lake"]),
        lambda *both: PerplexityJudge(*both, "tiny").judge([JudgedText("the lake", "the")]),
    ],
    ids=["prompt", "texts", "starts", "generation", "features", "perplexity"],
)
def test_a_token_without_an_embedding_is_refused_by_name(gpt2, larger, read):
    with pytest.raises(InputError, match="token 'lake' has the id 272, the model has 272 tokens; use the token"):
        read(gpt2, larger)


# --- what is no text ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", ["", " ", "\n\t "])
def test_an_empty_text_is_refused(gpt2, tokenizer, prompt):
    with pytest.raises(InputError, match="is empty; give at least one word, or leave it out"):
        encode_prompt(gpt2, tokenizer, prompt)
    with pytest.raises(InputError, match=r"text 1 of 2 .* is empty"):
        encode_texts(gpt2, tokenizer, ["moon", prompt])


NO_TEXT = [float("nan"), None, 3, {"role": "user"}, b"moon", torch.tensor([1]), BatchEncoding({"input_ids": [1]}), [1]]


@pytest.mark.parametrize("prompt", NO_TEXT, ids=lambda value: type(value).__name__)
def test_what_is_no_string_is_refused_by_type(gpt2, tokenizer, prompt):
    with pytest.raises(InputError, match=f"the prompt must be a string; got {type(prompt).__name__}; decode"):
        encode_prompt(gpt2, tokenizer, prompt)
    for encode in (encode_texts, encode_with_starts):
        with pytest.raises(InputError, match=f"text 1 of 2 must be a string; got {type(prompt).__name__};"):
            encode(gpt2, tokenizer, ["moon", prompt])


def test_bytes_that_are_no_text_are_refused_in_one_line(gpt2, tokenizer, command):
    for encode in (lambda text: encode_prompt(gpt2, tokenizer, text),
                   lambda text: encode_texts(gpt2, tokenizer, [text]),
                   lambda text: encode_with_starts(gpt2, tokenizer, [text])):  # fmt: skip
        with pytest.raises(InputError, match="holds bytes that are no text; write it in UTF-8"):
            encode("caf\udce9")
    code, _, err = command("generate", "caf\udce9", "--bag", "space")
    assert code == 2
    assert len(err.splitlines()) == 1
    assert "UTF-8" in err


def test_a_prompt_of_which_the_tokenizer_reads_nothing_is_refused(gpt2, tokenizer):
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend["normalizer"] = {"type": "Replace", "pattern": {"Regex": "."}, "content": ""}
    deaf = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(backend)), bos_token=BOS)
    with pytest.raises(InputError, match="no token for anything in the prompt 'moon'"):
        encode_prompt(gpt2, deaf, "moon")
