"""Reading a token over the history equals reading the whole text."""

import pytest
import torch
import transformers
from helpers import flat

import pplm
from pplm.text.forward import expected_future, forward_last, take_rows
from pplm.text.kv_cache import KeyValueBuffer

IDS = torch.tensor([[5, 9, 33, 71], [8, 2, 64, 12]])


def fed(model, ids, mask=None):
    """Return the outputs of a whole text and the model inputs of its last token."""
    mask = torch.ones_like(ids) if mask is None else mask
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    outputs = model(ids, attention_mask=mask, position_ids=positions, output_hidden_states=True, use_cache=True)
    inputs = {"input_ids": ids[:, -1:], "attention_mask": mask, "position_ids": positions[:, -1:], "use_cache": True}
    return outputs, inputs


def buffer_of(outputs):
    return KeyValueBuffer.of(outputs.past_key_values).unsteered


def certain(tokens, vocab_size):
    """Logits that put all probability on one token a sample."""
    return torch.full((len(tokens), vocab_size), -torch.inf).scatter(1, tokens[:, None], 0.0)


@torch.no_grad()
def test_feeding_the_last_token_over_the_history_equals_feeding_the_whole_text(model):
    outputs, inputs = fed(model, IDS)
    buffer = buffer_of(outputs)
    wanted = [t.clone() for t in flat(buffer.history(slice(0, 4)))]
    last = forward_last(model, inputs, buffer.cache(3))
    torch.testing.assert_close(last.logits, outputs.logits[:, -1])
    torch.testing.assert_close(last.hidden_state, outputs.hidden_states[-1][:, -1])
    for one, other in zip(flat(buffer.history(slice(0, 4))), wanted, strict=True):
        torch.testing.assert_close(one, other)


@torch.no_grad()
def test_the_future_leaves_the_text_s_own_positions_and_the_given_cache_as_they_were(model):
    outputs, inputs = fed(model, IDS)
    buffer = buffer_of(outputs)
    before = [t.clone() for t in flat(buffer.history(slice(0, 4)))]
    expected_future(model, inputs, buffer, 4, outputs.logits[:, -1], 2)
    assert all(torch.equal(a, b) for a, b in zip(before, flat(buffer.history(slice(0, 4))), strict=True))
    assert outputs.past_key_values.get_seq_length() == 4


def test_rows_are_taken_of_inputs_that_have_them_and_of_no_others():
    inputs = {"input_ids": IDS, "logits_to_keep": 1, "cache_position": torch.tensor([3, 4]), "position_ids": IDS[:1]}
    taken = take_rows(inputs, torch.tensor([1, 1, 0]))
    assert taken["input_ids"].tolist() == [IDS[1].tolist(), IDS[1].tolist(), IDS[0].tolist()]
    assert {name: taken[name] for name in taken if name != "input_ids"} == {
        name: inputs[name] for name in inputs if name != "input_ids"
    }


@torch.no_grad()
def test_the_body_s_hidden_state_is_the_last_one_that_the_whole_model_reports(model):
    outputs = model(IDS, output_hidden_states=True)
    assert torch.equal(model.base_model(IDS).last_hidden_state, outputs.hidden_states[-1])


@torch.no_grad()
def test_the_reported_hidden_state_is_what_enters_the_head(model):
    outputs = model(IDS, output_hidden_states=True)
    torch.testing.assert_close(model.lm_head(outputs.hidden_states[-1]), outputs.logits)


@torch.no_grad()
@pytest.mark.parametrize("padding", [0, 2])
def test_a_future_that_is_certain_equals_reading_its_token(model, padding):
    ids = torch.cat([torch.zeros(2, padding, dtype=torch.long), IDS], 1)
    mask = torch.cat([torch.zeros(2, padding, dtype=torch.long), torch.ones_like(IDS)], 1)
    outputs, inputs = fed(model, ids, mask)
    following = torch.tensor([44, 17])
    future = expected_future(
        model, inputs, buffer_of(outputs), IDS.shape[1] + padding, certain(following, model.config.vocab_size), 1
    )
    whole = model(torch.cat([IDS, following[:, None]], 1), output_hidden_states=True)
    torch.testing.assert_close(future, whole.hidden_states[-1][:, -1:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_every_further_position_is_fed_the_expectation_of_the_one_before(model):
    outputs, inputs = fed(model, IDS)
    logits = outputs.logits[:, -1]
    future = expected_future(model, inputs, buffer_of(outputs), 4, logits, 3)
    table = model.get_input_embeddings().weight
    embeds = table[IDS]
    for _ in range(3):
        embeds = torch.cat([embeds, (logits.softmax(-1) @ table)[:, None]], 1)
        whole = model(inputs_embeds=embeds, output_hidden_states=True)
        logits = whole.logits[:, -1]
    assert future.shape == (2, 3, 32)
    # Rounding of three passes, each fed with the one before.
    torch.testing.assert_close(future, whole.hidden_states[-1][:, -3:], atol=1e-4, rtol=1e-4)


def test_the_gradient_flows_through_the_expected_embeddings(model):
    with torch.no_grad():
        outputs, inputs = fed(model, IDS)
    logits = outputs.logits[:, -1].clone().requires_grad_()
    future = expected_future(model, inputs, buffer_of(outputs), 4, logits, 2)
    for position in (0, 1):
        # One number of the state: after a layer norm their sum is a constant.
        (gradient,) = torch.autograd.grad(future[0, position, 0], logits, retain_graph=True)
        assert gradient[0].abs().sum() > 0
        assert gradient[1].eq(0).all()


SIZES = {"vocab_size": 90, "num_attention_heads": 4, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GEMMA = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_key_value_heads": 2, "head_dim": 8}
SCALED = {
    "Gemma": {**SIZES, **GEMMA},
    "BioGpt": {**SIZES, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "scale_embedding": True},
    "XGLM": {**SIZES, "d_model": 32, "ffn_dim": 48, "num_layers": 2, "scale_embedding": True},
}
"""Models whose embedding module multiplies its matrix."""


def scaled(family):
    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**SCALED[family], max_position_embeddings=64)
    return pplm.freeze(getattr(transformers, f"{family}ForCausalLM")(config))


@torch.no_grad()
@pytest.mark.parametrize("family", SCALED)
def test_a_certain_future_equals_reading_its_token_where_the_module_scales_its_embeddings(family):
    model, tokens = scaled(family), torch.tensor([17, 40])
    row = model.get_input_embeddings()(tokens)
    assert (row / model.get_input_embeddings().weight[tokens]).mean() > 5  # the scale is there
    outputs, inputs = fed(model, IDS)
    whole, _ = fed(model, torch.cat([IDS, tokens[:, None]], 1))
    future = expected_future(model, inputs, buffer_of(outputs), 4, certain(tokens, 90), 1)
    torch.testing.assert_close(future[:, 0], whole.hidden_states[-1][:, -1], rtol=0, atol=1e-4)


@torch.no_grad()
def test_an_embedding_that_is_no_multiple_of_its_matrix_is_refused_by_name(llama):
    class Bent(torch.nn.Embedding):
        def forward(self, input_ids):
            return super().forward(input_ids).tanh()

    model = transformers.LlamaForCausalLM(llama.config)
    model.set_input_embeddings(Bent(90, 32))
    outputs, inputs = fed(model, IDS)
    with pytest.raises(pplm.InputError, match="more than a multiple of its row in Bent, so a discriminator"):
        expected_future(model, inputs, buffer_of(outputs), 4, outputs.logits[:, -1], 1)


@torch.no_grad()
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_factor_that_the_model_puts_on_tokens_alone_is_found_and_one_on_embeddings_too_is_not_applied_twice(
    llama, both, dtype
):
    class Scaling(transformers.LlamaModel):
        def forward(self, input_ids=None, inputs_embeds=None, **others):
            given = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
            factor = 7.5 if inputs_embeds is None or both else 1.0
            return super().forward(inputs_embeds=factor * given, **others)

    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(llama.config)
    model.model = Scaling(llama.config)
    model = pplm.freeze(model.to(dtype))
    tokens = torch.tensor([17, 40])
    outputs, inputs = fed(model, IDS)
    whole, _ = fed(model, torch.cat([IDS, tokens[:, None]], 1))
    future = expected_future(model, inputs, buffer_of(outputs), 4, certain(tokens, 90), 1)
    tolerance = 1e-4 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(future[:, 0], whole.hidden_states[-1][:, -1], rtol=0, atol=tolerance)


@torch.no_grad()
def test_a_model_that_needs_the_token_itself_in_every_layer_is_refused(llama):
    class PerLayer(transformers.LlamaModel):
        def forward(self, input_ids=None, **others):
            if input_ids is None:
                raise RuntimeError("inputs_embeds without input_ids")
            return super().forward(input_ids=input_ids, **others)

    model = transformers.LlamaForCausalLM(llama.config)
    model.model = PerLayer(llama.config)
    outputs, inputs = fed(model, IDS)
    with pytest.raises(pplm.InputError, match="discriminator cannot look ahead"):
        expected_future(model, inputs, buffer_of(outputs), 4, outputs.logits[:, -1], 1)
