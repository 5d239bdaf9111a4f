import copy
import json
import logging

import numpy as np
import pytest
import torch
from helpers import STRONG
from transformers import GenerationConfig, MptConfig, MptForCausalLM, TextStreamer

import pplm
from attribute_models import BagOfWords, Discriminator
from pplm import InputError, SteeringConfig
from pplm.text.encoding import encode_prompt

TWO_EACH = GenerationConfig(num_return_sequences=2, do_sample=True)
PROMPTS = ["The sea is", " moon", "Cats and a star over the sea"]


@pytest.fixture(scope="module")
def words(tokenizer):
    return BagOfWords.from_words(["moon", "star", "sun"], tokenizer, name="sky")


def run(gpt2, tokenizer, prompts=PROMPTS, **arguments):
    defaults = {"steering": STRONG, "max_new_tokens": 6}
    return pplm.generate(gpt2, tokenizer, prompts, **{**defaults, **arguments})


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


def test_greedy_equals_transformers_own_text(gpt2, tokenizer):
    ids = [tokenizer.bos_token_id, *tokenizer(PROMPTS[0]).input_ids]
    wanted = gpt2.generate(torch.tensor([ids]), max_new_tokens=6, do_sample=False, pad_token_id=0)
    assert run(gpt2, tokenizer, PROMPTS[0])[0].token_ids == wanted[0, len(ids) :].tolist()


def test_unseeded_samples_equal_transformers_own_after_the_same_manual_seed(gpt2, tokenizer):
    ids = [tokenizer.bos_token_id, *tokenizer(PROMPTS[0]).input_ids]
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


# --- attributes ------------------------------------------------------------------------------------------------


def test_a_class_of_the_user_s_own_steers_without_registration(gpt2, tokenizer):
    class Letters:
        """Wants tokens of one byte."""

        def loss(self, step):
            return -step.log_probs[:, :256].logsumexp(-1)

    out = run(gpt2, tokenizer, "The sea", attributes=[Letters()])[0]
    assert out.steered
    assert all(token[-1] < token[0] for token in out.attribute_losses["Letters"])


def test_a_loss_of_the_wrong_shape_is_refused(gpt2, tokenizer):
    class Wrong:
        def loss(self, step):
            return step.log_probs

    with pytest.raises(InputError, match=r"'Wrong'.* shape \(3,\); got \(3, "):
        run(gpt2, tokenizer, attributes=[Wrong()])


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
    with pytest.raises(InputError, match=r"use_cache=False, given or of the model's own .*; pass use_cache=True"):
        run(model, tokenizer, "The sea", attributes=[words], use_cache=False)


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        (lambda t: t("The sea", return_tensors="pt"), "got BatchEncoding; pass the text itself"),
        (lambda t: t("The sea", return_tensors="pt").input_ids, "got Tensor; pass the text itself"),
        (lambda _: {"prompt": "The sea"}, "got dict; pass the text itself"),
        (lambda _: [5, 6], "each of prompts must be a text .*; got int 5; leave it out or write it as text"),
        (lambda _: ["The sea", float("nan")], "got float nan; leave it out or write it as text"),
        (lambda _: {"a", "b"}, "prompts must be in an order, which a set has not"),
        (lambda _: 7, "got int; pass the text itself"),
        (lambda _: b"The sea", "got bytes; pass the text itself"),
        (lambda _: [{"role": "user", "content": "Hi"}], "the tokenizer has no chat template"),
        (lambda _: ["The \udcff sea"], r"'The \\udcff sea' holds bytes that are no text; write it in UTF-8"),
    ],
)
def test_what_is_no_text_is_refused_as_a_prompt_by_its_type(gpt2, tokenizer, prompts, message):
    with pytest.raises(InputError, match=message) as error:
        run(gpt2, tokenizer, prompts(tokenizer))
    assert "\n" not in str(error.value)


def test_any_collection_of_texts_will_do(gpt2, tokenizer):
    wanted = [out.text for out in run(gpt2, tokenizer, ["a", "b"])]
    for prompts in (("a", "b"), iter(["a", "b"]), np.array(["a", "b"])):
        assert [out.text for out in run(gpt2, tokenizer, prompts)] == wanted


def test_several_samples_turn_sampling_on(gpt2, tokenizer):
    wanted = [out.text for out in run(gpt2, tokenizer, num_samples=3, seed=2, do_sample=True)]
    assert [out.text for out in run(gpt2, tokenizer, num_samples=3, seed=2)] == wanted
    config = GenerationConfig(max_new_tokens=6)
    found = pplm.generate(gpt2, tokenizer, PROMPTS, num_samples=3, seed=2, generation_config=config)
    assert [out.text for out in found] == wanted
    assert config.do_sample is None
    assert run(gpt2, tokenizer, seed=2)[0].text == run(gpt2, tokenizer, seed=3)[0].text  # one sample stays greedy


@pytest.mark.parametrize("prompt", ["", " ", "\n\t "])
def test_an_empty_prompt_is_refused_before_anything_is_generated(gpt2, tokenizer, prompt):
    with pytest.raises(InputError, match=r"the prompt .* is empty"):
        run(gpt2, tokenizer, ["The sea", prompt])


def test_no_prompt_at_all_is_refused(gpt2, tokenizer):
    with pytest.raises(InputError, match="prompts is empty"):
        run(gpt2, tokenizer, [])


def test_a_prompt_that_does_not_fit_is_refused_with_both_lengths(gpt2, tokenizer):
    with pytest.raises(InputError, match=r"max_new_tokens=6 after a prompt of 61 tokens needs 67 positions, .* 64"):
        run(gpt2, tokenizer, ["x" * 60])


def test_several_greedy_samples_are_refused(gpt2, tokenizer):
    for arguments in ({"do_sample": False}, {"generation_config": GenerationConfig(max_new_tokens=6, do_sample=False)}):
        with pytest.raises(InputError, match="num_samples=2 greedy texts would all be the same"):
            run(gpt2, tokenizer, num_samples=2, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_new_tokens": "6"}, "max_new_tokens must be a whole number of at least 1; got '6'"),
        ({"prompt_indices": ["a", "b", "c"]}, "prompt_indices must be 3 different numbers of at least 0; got"),
        ({"attributes": None}, r"have a method loss\(step\); got NoneType None"),
        ({"generation_config": {"max_new_tokens": 3}}, "generation_config must be a transformers.GenerationConfig"),
        ({"num_samples": 0}, "num_samples must be a whole number of at least 1; got 0"),
        ({"max_batch_size": 0}, "max_batch_size must be a whole number of at least 1; got 0"),
        ({"num_return_sequences": 2, "do_sample": True}, "num_return_sequences is called num_samples"),
        (
            {"generation_config": GenerationConfig(num_return_sequences=2, do_sample=True)},
            "num_return_sequences is called",
        ),
        ({"seed": -1, "do_sample": True}, "seed must be a whole number"),
        ({"num_beams": 2}, "beam search"),
        ({"num_samples": "4"}, "num_samples must be a whole number of at least 1; got '4'"),
        ({"num_samples": True}, "num_samples must be a whole number of at least 1; got True"),
        ({"seed": "1"}, "seed must be a whole number of at least 0; got '1'"),
        ({"steering": {"step_size": 0.1}}, r"steering must be a SteeringConfig, .*; got \{'step_size': 0.1\}"),
        ({"step_size": 0.1}, r"step_size is a setting of steering; write steering=SteeringConfig\(step_size=0.1\)"),
        ({"rerank": 10}, r"rerank must be a Rerank; got 10; write rerank=Rerank\(candidates=10\)"),
        ({"attributes": ["space"]}, r"objects that have a method loss\(step\); got str"),
    ],
)
def test_requests_that_mean_nothing_are_refused(gpt2, tokenizer, arguments, message):
    with pytest.raises(InputError, match=message):
        run(gpt2, tokenizer, **arguments)


def test_a_model_or_tokenizer_that_is_none_is_refused_by_type(gpt2, tokenizer):
    for model in ("gpt2-mini", None, tokenizer):
        with pytest.raises(InputError, match=f"model must be one of transformers.* got {type(model).__name__}"):
            run(model, tokenizer)
    for other in ("gpt2-mini", None, gpt2):
        with pytest.raises(InputError, match=f"tokenizer must be one of transformers.* got {type(other).__name__}"):
            run(gpt2, other)


def test_an_assistant_model_is_refused(gpt2, tokenizer):
    with pytest.raises(InputError, match="assistant_model"):
        run(gpt2, tokenizer, assistant_model=gpt2)


def test_a_discriminator_of_another_width_is_refused_with_both_widths(gpt2, tokenizer):
    wide = Discriminator.from_weights(torch.ones(2, 48), torch.zeros(2), ["a", "b"], "a", name="wide")
    with pytest.raises(InputError, match=r"wide was made for another model, .* of width 48; .* 32 wide"):
        run(gpt2, tokenizer, attributes=[wide])


def test_a_bag_of_a_larger_vocabulary_is_refused(gpt2, tokenizer):
    with pytest.raises(InputError, match="5000 tokens"):
        run(gpt2, tokenizer, attributes=[BagOfWords.from_token_ids([4999], 5000)])


def test_generating_leaves_the_caller_s_objects_alone(gpt2, tokenizer, words, caplog):
    config = copy.deepcopy(gpt2.generation_config.to_dict())
    attributes, prompts, criteria = [words], list(PROMPTS), []
    with caplog.at_level(logging.WARNING):
        run(gpt2, tokenizer, prompts, attributes=attributes, stopping_criteria=criteria, stop_strings="moon")
    assert gpt2.generation_config.to_dict() == config
    assert (attributes, prompts, criteria) == ([words], list(PROMPTS), [])
    assert caplog.text == ""
