"""`pplm.generate`: what a text carries, which samples are the same, and what may steer them."""

import copy
import json
import logging

import numpy as np
import pytest
import torch
from helpers import ids_of
from tiny_generation import PROMPTS, run
from transformers import GenerationConfig, MptConfig, MptForCausalLM

import pplm
from pplm import InputError, SteeringConfig
from pplm.text.encoding import encode_prompt


def test_a_generation_carries_everything_about_one_text(gpt2, tokenizer, words, head):
    outs = run(gpt2, tokenizer, attributes=[words, (head, 0.5)], num_samples=2, seed=4, do_sample=True)
    assert [(o.prompt_index, o.sample) for o in outs] == [(i, s) for i in range(3) for s in range(2)]
    for out in outs:
        assert out.prompt == PROMPTS[out.prompt_index]
        assert out.text == out.prompt + out.completion
        assert out.completion == tokenizer.decode(out.token_ids, skip_special_tokens=True)
        assert out.seed == 4
        assert out.steered
        assert 1 <= len(out.token_ids) <= 6
        assert [len(token) for token in out.kl] == [4] * len(out.token_ids)
        assert [len(token) for token in out.attribute_loss] == [4] * len(out.token_ids)
        assert set(out.attribute_losses) == {"sky", "head"}
        for whole, sky, other in zip(out.attribute_loss, *out.attribute_losses.values(), strict=True):
            assert whole == pytest.approx([a + 0.5 * b for a, b in zip(sky, other, strict=True)], rel=1e-4)
        assert all(value >= -1e-4 for token in out.kl for value in token)


def test_a_generation_carries_the_trace_of_its_own_text(gpt2, tokenizer, words, head):
    arguments = {"attributes": [words, head], "num_samples": 2, "seed": 4, "do_sample": True}
    for out in run(gpt2, tokenizer, **arguments):
        length = len(out.token_ids)
        assert out.trace.names == ("sky", "head")
        assert out.trace.attribute_losses.shape == (length, 4, 2, 1)
        assert out.trace.gradient_norms.shape == (length, 3, 2, 1)
        assert out.trace.gradient_cosines.shape == (length, 2, 2, 1)
        assert out.trace.attribute_losses[:, :, 1, 0].tolist() == out.attribute_losses["head"]
        assert out.trace.attribute_loss[:, :, 0].tolist() == out.attribute_loss
        assert "trace" not in repr(out)
        assert "trace" not in out.record()
        assert out.record()["kl"] == out.kl


def test_without_attributes_or_with_settings_that_move_nothing_a_text_is_not_called_steered(gpt2, tokenizer, words):
    plain = run(gpt2, tokenizer)
    still = run(gpt2, tokenizer, attributes=[words], steering=SteeringConfig(step_size=0))
    assert not any(out.steered for out in plain + still)
    assert [out.token_ids for out in plain] == [out.token_ids for out in still]
    assert plain[0].attribute_losses == {}
    assert set(still[0].attribute_losses) == {"sky"}
    assert all(token == [] for token in still[0].kl)


def test_one_prompt_may_be_a_plain_string(gpt2, tokenizer):
    assert [out.prompt for out in run(gpt2, tokenizer, "The sea")] == ["The sea"]


def test_any_collection_of_texts_will_do(gpt2, tokenizer):
    wanted = [out.text for out in run(gpt2, tokenizer, ["a", "b"])]
    for prompts in (("a", "b"), iter(["a", "b"]), np.array(["a", "b"])):
        assert [out.text for out in run(gpt2, tokenizer, prompts)] == wanted


def test_greedy_equals_transformers_own_text(gpt2, tokenizer):
    ids = ids_of(tokenizer, PROMPTS[0])
    wanted = gpt2.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert run(gpt2, tokenizer, PROMPTS[0])[0].token_ids == wanted[0, len(ids) :].tolist()


def test_unseeded_samples_equal_transformers_own_after_the_same_manual_seed(gpt2, tokenizer):
    ids = ids_of(tokenizer, PROMPTS[0])
    torch.manual_seed(7)
    wanted = gpt2.generate(torch.tensor([ids] * 3), max_new_tokens=6, do_sample=True, top_k=9, pad_token_id=0)
    torch.manual_seed(7)
    outs = run(gpt2, tokenizer, PROMPTS[0], num_samples=3, do_sample=True, top_k=9)
    for out, row in zip(outs, wanted[:, len(ids) :].tolist(), strict=True):
        assert out.token_ids == row[: len(out.token_ids)]


def test_a_seed_names_the_same_text_in_any_batch(gpt2, tokenizer, words, head):
    arguments = {"attributes": [words, head], "num_samples": 3, "seed": 11, "do_sample": True, "top_k": 20}
    wanted = run(gpt2, tokenizer, **arguments)
    assert len({out.text for out in wanted}) > 6
    for size in (1, 2, 4, 100):
        found = run(gpt2, tokenizer, max_batch_size=size, **arguments)
        assert [out.token_ids for out in found] == [out.token_ids for out in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert (one.prompt_index, one.sample) == (other.prompt_index, other.sample)
            for a, b in zip(one.attribute_loss + one.kl, other.attribute_loss + other.kl, strict=True):
                assert a == pytest.approx(b, abs=1e-4)


def test_more_samples_leave_the_first_ones_as_they_were(gpt2, tokenizer, words):
    arguments = {"attributes": [words], "seed": 5, "do_sample": True}
    few = run(gpt2, tokenizer, PROMPTS[0], num_samples=2, **arguments)
    many = run(gpt2, tokenizer, PROMPTS[0], num_samples=5, **arguments)
    assert [out.text for out in few] == [out.text for out in many[:2]]
    other = run(gpt2, tokenizer, PROMPTS[0], num_samples=2, **{**arguments, "seed": 6})
    assert [out.text for out in few] != [out.text for out in other]


def test_steered_and_unsteered_samples_of_a_seed_share_their_random_stream(gpt2, tokenizer, words):
    arguments = {"num_samples": 4, "seed": 5, "do_sample": True}
    plain = run(gpt2, tokenizer, **arguments)
    still = run(gpt2, tokenizer, attributes=[words], **{**arguments, "steering": SteeringConfig(step_size=0)})
    assert [out.text for out in plain] == [out.text for out in still]


def test_several_samples_turn_sampling_on(gpt2, tokenizer):
    wanted = [out.text for out in run(gpt2, tokenizer, num_samples=3, seed=2, do_sample=True)]
    assert [out.text for out in run(gpt2, tokenizer, num_samples=3, seed=2)] == wanted
    config = GenerationConfig(max_new_tokens=6)
    found = pplm.generate(gpt2, tokenizer, PROMPTS, num_samples=3, seed=2, generation_config=config)
    assert [out.text for out in found] == wanted
    assert config.do_sample is None
    assert run(gpt2, tokenizer, seed=2)[0].text == run(gpt2, tokenizer, seed=3)[0].text  # one sample stays greedy


def test_generating_leaves_the_caller_s_objects_alone(gpt2, tokenizer, words, caplog):
    config = copy.deepcopy(gpt2.generation_config.to_dict())
    attributes, prompts, criteria = [words], list(PROMPTS), []
    with caplog.at_level(logging.WARNING):
        run(gpt2, tokenizer, prompts, attributes=attributes, stopping_criteria=criteria, stop_strings="moon")
    assert gpt2.generation_config.to_dict() == config
    assert (attributes, prompts, criteria) == ([words], list(PROMPTS), [])
    assert caplog.text == ""


# --- attributes -----------------------------------------------------------------------------------------------------


def test_a_class_of_the_user_s_own_steers_without_registration(gpt2, tokenizer):
    class Letters:
        """Wants tokens of one byte."""

        def loss(self, step):
            return -step.log_probs[:, :256].logsumexp(-1)

    out = run(gpt2, tokenizer, "The sea", attributes=[Letters()])[0]
    assert out.steered
    assert all(token[-1] < token[0] for token in out.attribute_losses["Letters"])


def test_every_entry_point_takes_the_preset_that_came_with_the_model(gpt2, tokenizer, words, tmp_path, command):
    for part in (gpt2, tokenizer):
        part.save_pretrained(tmp_path)
    (tmp_path / "words.txt").write_text("moon\nstar\nsun\n")
    (tmp_path / "steering.json").write_text('{"bag_of_words": {"num_iterations": 2, "step_size": 0.3}}')
    model, tokenizer = pplm.load_model(tmp_path, device="cpu")
    out = pplm.generate(model, tokenizer, "The sea", attributes=[words], max_new_tokens=6)[0]
    assert {len(token) for token in out.kl} == {3}

    ids = torch.tensor([encode_prompt(model, tokenizer, "The sea")])
    arguments = {"max_new_tokens": 6, "do_sample": False, "return_dict_in_generate": True, "pad_token_id": 0}
    decoded = model.generate(ids, custom_generate=pplm.steered_decoding([words]), **arguments)
    assert torch.equal(decoded.steering.kl[: len(out.kl)], out.trace.kl)

    arguments = ["--bag", tmp_path / "words.txt", "--model", tmp_path, "--device", "cpu", "--greedy", "--no-unsteered"]
    lines = tmp_path / "texts.jsonl"
    code, _, _ = command("generate", "The sea", "--max-new-tokens", 6, "--output", lines, *arguments)
    assert code == 0
    assert json.loads(lines.read_text())["kl"] == out.kl


def test_a_model_whose_own_config_turns_the_cache_off_is_steered_all_the_same(tokenizer, words):
    torch.manual_seed(0)
    config = MptConfig(vocab_size=len(tokenizer), d_model=32, n_layers=2, n_heads=4, max_seq_len=64)
    model = pplm.freeze(MptForCausalLM(config))
    assert model.generation_config.use_cache is False
    steered = run(model, tokenizer, "The sea", attributes=[words])[0]
    assert steered.kl[0][-1] > 0
    with pytest.raises(InputError, match=r"use_cache=False \(given, or from the model's own .*; pass use_cache=True"):
        run(model, tokenizer, "The sea", attributes=[words], use_cache=False)
