"""What costs the price of steering and does not steer is warned of; what is broken does not end in a text."""

import copy
import warnings

import pytest
import torch
from helpers import STRONG, decode, new_tokens
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    OpenAIGPTConfig,
    OpenAIGPTLMHeadModel,
    T5Config,
    T5ForConditionalGeneration,
)

import pplm
from attribute_models import Avoid, BagOfWords, Discriminator
from pplm import InputError, SteeringWarning


class Idle:
    """Can act on no text."""

    name = "idle"

    def loss(self, step):
        return 0.0 * step.log_probs[:, 0] + torch.inf


class Detached:
    """Passes no gradient to the history, as a layer with quantised weights may."""

    name = "detached"

    def loss(self, step):
        return -step.log_probs.detach()[:, 5] + 0.0 * step.log_probs[:, 5]


def test_an_attribute_that_acts_at_no_token_of_a_text_is_warned_of_by_name_once(model, bag):
    with pytest.warns(SteeringWarning, match="'idle' could not act at any token of 2 of 2 texts") as found:
        output = decode(model, [[3, 4, 5], [6, 7, 8]], [bag, Idle()])
    assert len(found) == 1
    assert new_tokens(output) == new_tokens(decode(model, [[3, 4, 5], [6, 7, 8]], [bag]))


def test_an_idle_attribute_is_found_also_where_samples_may_be_skipped(model):
    for skips in ({"skip_below": 1.0}, {"skip_weak": 0.5}):
        with pytest.warns(SteeringWarning, match="'idle'"):
            decode(model, [[3, 4, 5]], [Idle()], pplm.SteeringConfig(**{**vars(STRONG), **skips}))


def test_what_is_not_meant_to_act_and_a_text_without_history_are_not_warned_of(model, bag):
    decode(model, [[3, 4, 5], [6, 7, 8]], [bag, (Idle(), 0.0), Avoid(Idle())])  # a warning is an error here
    decode(model, [[3, 4, 5]], [bag, (Detached(), 0.0)])
    decode(model, [[3]], [bag], new=1)


@pytest.mark.parametrize("kl_scale", [0.0, 0.01])
def test_a_gradient_of_exactly_zero_is_warned_of_once_by_name_with_its_likely_reason(model, bag, kl_scale):
    steering = pplm.SteeringConfig(**{**vars(STRONG), "kl_scale": kl_scale})
    for attributes in ([Detached()], [bag, Detached()]):
        with pytest.warns(SteeringWarning, match="'detached' is exactly zero in all layers.*quantised") as found:
            decode(model, [[3, 4, 5, 6]], attributes, steering)
        assert len(found) == 1


def test_a_loss_that_cannot_be_lowered_any_more_is_not_warned_of(gpt2):
    sure = Discriminator.from_weights(torch.zeros(2, 32), torch.tensor([200.0, 0.0]), ["a", "b"], "a")
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteeringWarning)
        decode(gpt2, [[3, 4, 5, 6]], [sure], new=2)


def test_layers_that_pass_no_gradient_on_are_refused_or_warned_of(llama, bag):
    class Cut(torch.autograd.Function):
        """The product of a layer that was only made for reading, with a gradient that is none or zero."""

        @staticmethod
        def forward(ctx, hidden, there_is_one):
            if not there_is_one:
                ctx.mark_non_differentiable(result := hidden.clone())
                return result
            return hidden.clone()

        @staticmethod
        def backward(_, gradient):
            return torch.zeros_like(gradient), None

    model = copy.deepcopy(llama)
    for there_is_one, expected in ((True, pytest.warns(SteeringWarning, match="'bag' is exactly zero")),
                                   (False, pytest.raises(InputError, match="as some int8"))):  # fmt: skip
        hooks = [
            layer.self_attn.o_proj.register_forward_hook(lambda *seen, one=there_is_one: Cut.apply(seen[2], one))
            for layer in model.model.layers
        ]
        with expected:
            decode(model, [[3, 4, 5, 6]], [bag], new=2)
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize(
    "settings",
    [{}, {"skip_below": 100.0}, {"skip_weak": 0.9}, {"step_size": 0}, {"steer_every": 3}, {"grad_length": 0}],
)
def test_steering_that_acts_is_not_warned_of(model, bag, head, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteeringWarning)
        for prompts in ([[3]], [[3, 4, 5], [6, 7, 8, 9]]):
            decode(model, prompts, [bag, (head, 0.0)], pplm.SteeringConfig(**{**vars(STRONG), **settings}))


def broken(value):
    """Return a tiny Llama whose logits of every token are a given number."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=90, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = pplm.freeze(LlamaForCausalLM(config))
    model.model.norm.weight.fill_(value)
    return model


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("steered", [True, False])
@pytest.mark.parametrize("do_sample", [True, False])
@pytest.mark.parametrize("seed", [None, 0])
def test_a_model_that_returns_nan_is_refused_on_every_path(bag, value, steered, do_sample, seed):
    with pytest.raises(InputError, match="the model returned NaN or infinity as the logits of new token 0"):
        decode(broken(value), [[3, 4, 5]], [bag] if steered else [], do_sample=do_sample, loop={"seed": seed})


def test_processors_that_leave_no_token_are_refused(model):
    def nothing_left(input_ids, scores):
        return torch.full_like(scores, -torch.inf)

    with pytest.raises(InputError, match="logits processors left no token"):
        decode(model, [[3, 4, 5]], [], logits_processor=[nothing_left])


@pytest.mark.parametrize("steered", [True, False])
def test_processors_may_leave_a_finished_text_no_token(gpt2, bag, steered):
    prompts, attributes = [[3, 4, 5], [6, 7, 8]], [bag] * steered
    end = new_tokens(decode(gpt2, prompts, attributes))[0][1]

    def nothing_after_the_end(input_ids, scores):
        return scores.masked_fill((input_ids[:, 3:] == end).any(1)[:, None], -torch.inf)

    wanted = decode(gpt2, prompts, attributes, eos_token_id=end)
    found = decode(gpt2, prompts, attributes, eos_token_id=end, logits_processor=[nothing_after_the_end])
    assert torch.equal(found.sequences, wanted.sequences)
    assert len(set(wanted.lengths.tolist())) == 2


def test_steering_that_leaves_no_number_names_the_settings(model):
    class Wild:
        def loss(self, step):
            return (step.log_probs * torch.inf).sum(-1).nan_to_num(posinf=1.0, neginf=1.0) + step.log_probs[:, 0]

    with pytest.raises(InputError, match="steered distribution of new token 0 is not a number; lower step_size"):
        decode(model, [[3, 4, 5]], [Wild()])


START = {"decoder_start_token_id": 0}
TINY = {"vocab_size": 90, "hidden_size": 32, "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MambaForCausalLM(MambaConfig(**TINY, state_size=4)), "is recurrent: it keeps a running state"),
        (
            lambda: OpenAIGPTLMHeadModel(OpenAIGPTConfig(vocab_size=90, n_embd=32, n_layer=2, n_head=4)),
            "keeps no key/value cache, which is what steering moves",
        ),
        (
            lambda: T5ForConditionalGeneration(
                T5Config(
                    vocab_size=90, d_model=32, d_ff=32, d_kv=8, num_layers=2, num_heads=4, decoder_start_token_id=0
                )
            ),
            "is an encoder-decoder",
        ),
    ],
)
def test_models_without_a_history_to_move_are_refused_by_what_they_lack(bag, make, message):
    with pytest.raises(InputError, match=message):
        decode(make(), [[3, 4, 5]], [bag])


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_gradient_checkpointing_in_training_mode_is_refused_with_the_remedy(bag, llama):
    model = LlamaForCausalLM(llama.config)
    model.gradient_checkpointing_enable()
    model.train().requires_grad_(False)
    with pytest.raises(InputError, match=r"call model\.eval\(\)"):
        decode(model, [[3, 4, 5]], [bag])


def test_virtual_tokens_of_an_adapter_are_refused_by_its_name_and_other_adapters_are_let_through(llama, bag):
    """Stands in for peft, whose wrapper replaces the method that prepares its model's inputs."""
    model = copy.deepcopy(llama)

    class PromptTuningConfig:
        is_prompt_learning = True

    class Wrapper:
        active_peft_config = PromptTuningConfig()
        prepare = model.prepare_inputs_for_generation

        def prepare_inputs(self, *args, **kwargs):
            return self.prepare(*args, **kwargs)

    model.prepare_inputs_for_generation = Wrapper().prepare_inputs
    with pytest.raises(InputError, match="PromptTuningConfig puts virtual tokens before the text"):
        decode(model, [[3, 4, 5]], [bag])
    PromptTuningConfig.is_prompt_learning = False
    assert decode(model, [[3, 4, 5]], [bag]).sequences.equal(decode(llama, [[3, 4, 5]], [bag]).sequences)


def prefix(model, rows):
    cache = DynamicCache()
    model(input_ids=torch.tensor([[3, 4, 5]] * rows), past_key_values=cache, use_cache=True)
    return cache


def test_one_cached_row_serves_all_samples_of_a_prompt(model, bag):
    ids = torch.tensor([[3, 4, 5, 6]])
    loop = pplm.steered_decoding([bag], STRONG, seed=0)
    arguments = {"custom_generate": loop, "num_return_sequences": 3, "do_sample": True, "max_new_tokens": 5}
    arguments |= {"pad_token_id": 0, "eos_token_id": None, "attention_mask": torch.ones_like(ids)}
    over_cache = model.generate(ids, past_key_values=prefix(model, 1), **arguments)
    assert over_cache.equal(model.generate(ids, **arguments))


def test_a_cache_of_another_batch_is_refused_with_both_numbers(model, bag):
    with pytest.raises(InputError, match="holds 2 samples, the batch has 3"):
        decode(model, [[3, 4, 5, 6]] * 3, [bag], past_key_values=prefix(model, 2))


def test_a_streamer_given_to_generate_is_warned_of(model, bag):
    class Silent:
        def put(self, value):
            pass

        def end(self):
            pass

    with pytest.warns(SteeringWarning, match="give it to steered_decoding"):
        decode(model, [[3, 4, 5]], [bag], streamer=Silent())
    with warnings.catch_warnings():
        warnings.simplefilter("error", SteeringWarning)
        decode(model, [[3, 4, 5]], [bag], loop={"streamer": Silent()})


def test_stop_strings_go_into_the_loop_with_their_tokenizer(gpt2, tokenizer, bag):
    prompt = tokenizer(" moon sea").input_ids
    free = decode(gpt2, [prompt], [bag], new=8)
    word = tokenizer.decode(new_tokens(free, 8)[0][2])
    output = decode(gpt2, [prompt], [bag], new=8, loop={"stop_strings": [word], "tokenizer": tokenizer})
    assert output.sequences.shape[1] < free.sequences.shape[1]
    assert word in tokenizer.decode(output.sequences[0, len(prompt) :])
    with pytest.raises(InputError, match="stop_strings='x' needs a tokenizer"):
        pplm.steered_decoding([bag], STRONG, stop_strings="x")


def test_a_trace_prints_its_shape_and_not_its_numbers(model, bag):
    text = repr(decode(model, [[3, 4, 5], [6, 7, 8]], [bag]).steering)
    assert text == (
        "SteeringTrace(names=('bag',), tokens=6, iterations=3, attribute_models=1, samples=2, steered=12 of 12)"
    )


class Constant:
    """Depends on the history in name alone: its gradient is exactly zero."""

    name = "constant"

    def __init__(self, value):
        self.value = value

    def loss(self, step):
        return 0.0 * step.log_probs[:, 0] + self.value


@pytest.mark.parametrize("kl_scale", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.filterwarnings("ignore::pplm.SteeringWarning")
def test_a_gradient_of_zero_moves_nothing_whatever_the_kl_weight(model, value, kl_scale):
    steering = pplm.SteeringConfig(**{**vars(STRONG), "kl_scale": kl_scale})
    prompts = [[3, 4, 5, 6], [7, 8]]
    steered, plain = decode(model, prompts, [Constant(value)], steering), decode(model, prompts, [])
    for one, other in zip(steered.logits, plain.logits, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::pplm.SteeringWarning")
def test_a_sample_without_a_gradient_does_not_move_beside_one_that_has_some(model, bag):
    class Half:
        def loss(self, step):
            return bag.loss(step) * torch.tensor([1.0, 0.0])

    steering = pplm.SteeringConfig(**{**vars(STRONG), "kl_scale": 0.5})
    both, plain = decode(model, [[3, 4, 5, 6], [7, 8, 9]], [Half()], steering), decode(model, [[7, 8, 9]], [])
    assert new_tokens(both)[0] != new_tokens(decode(model, [[3, 4, 5, 6]], []))[0]
    assert new_tokens(both)[1] == new_tokens(plain)[0]


def test_an_attribute_whose_loss_is_not_a_number_is_named(model, bag):
    class Broken:
        name = "broken"

        def loss(self, step):
            return step.log_probs[:, 0] * torch.nan

    with pytest.raises(InputError, match="attribute model 'broken' returned a loss that is not a number"):
        decode(model, [[3, 4, 5]], [bag, Broken()])


def test_a_broken_model_is_diagnosed_also_where_a_head_or_a_report_reads_it_first(embedded):
    model, tokenizer = copy.deepcopy(embedded[0]), embedded[1]
    torch.nn.init.constant_(model.transformer.ln_f.weight, torch.nan)
    bag = BagOfWords.load("space", tokenizer)
    head = Discriminator.load("sentiment", "positive", any_model=True)
    for read in (
        lambda: bag.report(model),
        lambda: BagOfWords.from_token_ids([5, 6], len(tokenizer)).report(model),
        lambda: pplm.generate(model, tokenizer, "The lake", attributes=[head], max_new_tokens=2),
    ):
        with pytest.raises(InputError, match="the model returned NaN or infinity as"):
            read()
