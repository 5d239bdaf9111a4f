"""Where `pplm.generate` begins and ends a text."""

import copy

import torch
from helpers import STRONG
from tiny_generation import PROMPTS, run
from transformers import GenerationConfig, TextStreamer

import pplm
from attribute_models import BagOfWords
from pplm import SteeringConfig
from pplm.text.encoding import encode_prompt

# --- the beginning of a text -----------------------------------------------------------------------------------


def test_the_embedded_model_gets_its_beginning_token(embedded):
    model, tokenizer = embedded
    ids = encode_prompt(model, tokenizer, "The lake")
    assert ids[0] == model.config.bos_token_id
    assert tokenizer.decode(ids[1:]) == "The lake"


def test_the_beginning_token_counts_as_a_position(gpt2, tokenizer, words):
    one = tokenizer.encode(" moon")
    assert len(one) == 1
    with_bos = run(gpt2, tokenizer, " moon", attributes=[words])[0]
    without = run(gpt2, tokenizer, " moon", attributes=[words], bos=False)[0]
    assert [len(token) for token in with_bos.kl[:2]] == [4, 4]
    assert [len(token) for token in without.kl[:2]] == [0, 4]


# --- ends ------------------------------------------------------------------------------------------------------


def test_the_end_token_closes_the_ids_and_is_not_shown(gpt2, tokenizer, words):
    free = run(gpt2, tokenizer, PROMPTS[0], attributes=[words])[0].token_ids
    end = next(token for token in free[1:4] if token not in free[:1])
    outs = run(gpt2, tokenizer, attributes=[words], eos_token_id=end)
    first = outs[0]
    assert first.token_ids == free[: free.index(end) + 1]
    assert len(first.attribute_loss) == len(first.kl) == len(first.token_ids)
    for out in outs:
        assert end not in out.token_ids[:-1]


def test_the_model_s_own_end_token_is_left_out_of_the_text(gpt2, tokenizer):
    wish = BagOfWords.from_token_ids([tokenizer.eos_token_id], len(tokenizer))
    strong = SteeringConfig(step_size=2.0, gamma=1.0, norm_rule="current", num_iterations=5, gm_scale=1.0)
    outs = run(gpt2, tokenizer, ["a", "b", "the sea"], attributes=[wish], steering=strong, max_new_tokens=20)
    ended = [out for out in outs if out.token_ids[-1] == tokenizer.eos_token_id]
    assert ended
    for out in ended:
        assert tokenizer.eos_token not in out.text


def test_a_stop_string_ends_the_text(gpt2, tokenizer, words):
    strong = SteeringConfig(step_size=2.0, gamma=1.0, norm_rule="current")
    arguments = {"attributes": [words], "steering": strong, "max_new_tokens": 20}
    free = run(gpt2, tokenizer, "The sea is", **arguments)[0]
    assert " moon" in free.completion or " star" in free.completion or " sun" in free.completion
    stopped = run(gpt2, tokenizer, "The sea is", stop_strings=[" moon", " star", " sun"], **arguments)[0]
    assert len(stopped.token_ids) < len(free.token_ids)
    assert free.completion.startswith(stopped.completion)
    assert stopped.completion.endswith((" moon", " star", " sun"))


def test_a_streamer_prints_what_is_returned(gpt2, tokenizer, words, capsys):
    streamer = TextStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
    out = run(gpt2, tokenizer, "The sea", attributes=[words], streamer=streamer)[0]
    assert capsys.readouterr().out.rstrip("\n") == out.completion.rstrip("\n")


def test_stopping_criteria_and_a_generation_config_reach_transformers(gpt2, tokenizer, words, caplog):
    config = GenerationConfig(max_new_tokens=3, do_sample=True, top_k=1)
    before = config.to_dict()
    outs = pplm.generate(
        gpt2, tokenizer, PROMPTS, attributes=[words], steering=STRONG, num_samples=2, seed=0, generation_config=config
    )
    assert config.to_dict() == before
    assert "deprecated" not in caplog.text
    assert len(outs) == 6
    assert {len(out.token_ids) for out in outs} <= {1, 2, 3}

    def at_once(ids, *_, **__):
        return torch.ones(len(ids), dtype=torch.bool)

    stops = run(gpt2, tokenizer, stopping_criteria=[at_once])
    assert {len(out.token_ids) for out in stops} == {1}


def test_a_model_whose_own_settings_sample_gives_several_samples(gpt2, tokenizer):
    sampling = copy.copy(gpt2)
    sampling.generation_config = copy.deepcopy(gpt2.generation_config)
    sampling.generation_config.do_sample = True
    assert len({out.text for out in run(sampling, tokenizer, "The sea", num_samples=4, seed=1)}) > 1


# --- padding ---------------------------------------------------------------------------------------------------


def test_a_padding_token_that_the_model_does_not_have_harms_nothing(gpt2, tokenizer, words):
    padded = copy.deepcopy(tokenizer)
    padded.add_special_tokens({"pad_token": "[PAD]"})
    assert padded.pad_token_id == gpt2.config.vocab_size
    arguments = {"attributes": [words], "eos_token_id": list(range(100)), "max_new_tokens": 12}
    found, wanted = (run(gpt2, one, **arguments) for one in (padded, tokenizer))
    assert [out.token_ids for out in found] == [out.token_ids for out in wanted]
    assert len({len(out.token_ids) for out in found}) > 1  # some ended before others
