"""`generate`: prompts in, `Generation` objects out."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import StoppingCriteriaList, StopStringCriteria
from transformers.generation import BaseStreamer

from pplm.batching import in_batches
from pplm.config import SteeringConfig
from pplm.decoding import SteeredOutput, steered_decoding
from pplm.encoding import encode_prompt
from pplm.errors import InputError
from pplm.interface import AttributeModel, bind_attributes, weigh_attributes
from pplm.models import steering_presets
from pplm.sampling import SampleId


@dataclass(frozen=True)
class Generation:
    """One generated text and what steering did to it.

    Attributes
    ----------
    prompt, completion, text
        What was given, what was added, and both together.
    prompt_index, sample
        Which prompt of the call, and which of its samples; with `seed` they name the random stream.
    seed
        As passed to `generate`.
    token_ids
        Of the completion; its last is the end-of-text token if the text ended by itself.
    steered
        Whether attribute models could move this text.
    attribute_losses
        By new token and iteration, before that iteration's update: the weighted sum over attribute models. Empty
        for a token that was not steered.
    losses_by_attribute
        The same for each attribute model alone, unweighted.
    kl
        KL divergence from the unsteered distribution, by new token and iteration, in nats.

    """

    prompt: str
    completion: str
    text: str
    prompt_index: int
    sample: int
    seed: int | None
    token_ids: list[int]
    steered: bool
    attribute_losses: list[list[float]]
    losses_by_attribute: dict[str, list[list[float]]]
    kl: list[list[float]]


def generate(
    model: Any,
    tokenizer: Any,
    prompts: str | Sequence[str],
    *,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
    steering: SteeringConfig | None = None,
    num_samples: int = 1,
    seed: int | None = None,
    bos: bool = True,
    max_batch_size: int | None = None,
    streamer: BaseStreamer | None = None,
    stop_strings: str | Sequence[str] | None = None,
    **generate_arguments: Any,
) -> list[Generation]:
    """Generate `num_samples` texts for each prompt, steered towards the attribute models.

    Parameters
    ----------
    model, tokenizer
        As `load_model` returns them, or any decoder-only model of transformers.
    prompts
        One or more texts; different lengths are padded on the left, which does not change any of them.
    attributes
        Attribute models, or (model, weight) pairs. None at all gives plain, unsteered texts.
    steering
        Settings; None takes the model's own preset for these attributes, or the paper's.
    num_samples
        Samples a prompt; more than one needs `do_sample=True`.
    seed
        Makes every sample reproducible by (seed, prompt index, sample index), whatever the batch. None draws from
        torch's global generator.
    bos
        Begin every text with the model's beginning-of-text token where the tokenizer does not do so itself. It
        counts as a position.
    max_batch_size
        Texts that are generated at once; None takes all. With `seed` it does not change any text. Where memory runs
        out, it is halved with a warning.
    streamer, stop_strings
        As in transformers' `generate`.
    **generate_arguments
        Everything else that transformers' `generate` takes: `max_new_tokens`, `do_sample`, `top_k`, ...

    Returns
    -------
    list of Generation
        Prompt by prompt, sample by sample.

    Raises
    ------
    InputError
        If a prompt is empty, too long, or a setting cannot be used.

    """
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    _check_request(model, prompts, num_samples, max_batch_size, generate_arguments)
    bound = bind_attributes(weigh_attributes(attributes), model)
    attributes = [(attribute.model, attribute.weight) for attribute in bound]
    if steering is None:
        steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model))
    encoded = [encode_prompt(model, tokenizer, prompt, bos=bos) for prompt in prompts]
    rows = [(index, sample) for index in range(len(prompts)) for sample in range(num_samples)]

    def run(batch: Sequence[SampleId]) -> list[Generation]:
        input_ids, attention_mask = _left_pad([encoded[index] for index, _ in batch], _pad_id(model, tokenizer))
        stopping = StoppingCriteriaList(generate_arguments.get("stopping_criteria") or [])
        if stop_strings is not None:
            stopping.append(StopStringCriteria(tokenizer, stop_strings))
        output = model.generate(
            input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            custom_generate=steered_decoding(attributes, steering, seed=seed, sample_ids=batch, streamer=streamer),
            **_for_transformers(generate_arguments, _pad_id(model, tokenizer)),
            stopping_criteria=stopping,
        )
        return _generations(output, tokenizer, prompts, batch, encoded, seed, bool(attributes) and steering.moves)

    return in_batches(rows, max_batch_size, run)


def _check_request(
    model: Any, prompts: Sequence[str], num_samples: int, max_batch_size: int | None, arguments: dict[str, Any]
) -> None:
    if not prompts:
        raise InputError("prompts is empty; give at least one")
    for name, value in (("num_samples", num_samples), ("max_batch_size", max_batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{name} must be at least 1; got {value}")
    if num_samples > 1 and not _in_effect("do_sample", model, arguments):
        raise InputError(
            f"num_samples={num_samples} greedy texts would all be the same; use do_sample=True or 1 sample"
        )
    if _in_effect("num_return_sequences", model, arguments) not in (None, 1):
        raise InputError("num_return_sequences is called num_samples here")
    if arguments.get("assistant_model") is not None:
        raise InputError("assisted generation (assistant_model) cannot be steered; leave it out")


def _in_effect(name: str, model: Any, arguments: dict[str, Any]) -> Any:
    """Return a setting of transformers' `generate` from where it looks: arguments, given config, model's config."""
    places = (getattr(arguments.get("generation_config"), name, None), getattr(model.generation_config, name, None))
    return next((value for value in (arguments.get(name), *places) if value is not None), None)


def _for_transformers(arguments: dict[str, Any], pad_id: int) -> dict[str, Any]:
    """Add what we need to the caller's arguments; inside a copy of a given config, as transformers wants it."""
    others = {name: value for name, value in arguments.items() if name != "stopping_criteria"}
    config = copy.deepcopy(others.get("generation_config"))
    if config is None:
        return {"pad_token_id": pad_id, **others, "return_dict_in_generate": True}
    config.return_dict_in_generate = True
    if config.pad_token_id is None:
        config.pad_token_id = pad_id
    return {**others, "generation_config": config}


def _pad_id(model: Any, tokenizer: Any) -> int:
    """Return an id to fill with; padding is masked by position, so any id will do."""
    eos = model.generation_config.eos_token_id
    candidates = (tokenizer.pad_token_id, eos[0] if isinstance(eos, list) else eos, 0)
    return next(token for token in candidates if token is not None)


def _left_pad(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return ids and mask (B, T) of rows of different length, aligned on the right."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[pad_id] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def _generations(
    output: SteeredOutput,
    tokenizer: Any,
    prompts: Sequence[str],
    batch: Sequence[SampleId],
    encoded: Sequence[Sequence[int]],
    seed: int | None,
    steered: bool,
) -> list[Generation]:
    trace = output.steering
    prompt_length = output.sequences.shape[1] - trace.kl.shape[0]
    generations = []
    for row, (index, sample) in enumerate(batch):
        length = int(output.lengths[row])
        token_ids = output.sequences[row, prompt_length : prompt_length + length].tolist()
        completion = _completion(tokenizer, encoded[index], token_ids)
        generations.append(
            Generation(
                prompt=prompts[index],
                completion=completion,
                text=prompts[index] + completion,
                prompt_index=index,
                sample=sample,
                seed=seed,
                token_ids=token_ids,
                steered=steered,
                attribute_losses=_by_token(trace.attribute_loss[:length, :, row]),
                losses_by_attribute={
                    name: _by_token(trace.attribute_losses[:length, :, number, row])
                    for number, name in enumerate(trace.names)
                },
                kl=_by_token(trace.kl[:length, :, row]),
            )
        )
    return generations


def _completion(tokenizer: Any, prompt_ids: Sequence[int], token_ids: Sequence[int]) -> str:
    """Decode new tokens behind their prompt: some tokenizers drop a leading space of what they decode alone."""
    before = tokenizer.decode(prompt_ids, skip_special_tokens=True)
    whole = tokenizer.decode([*prompt_ids, *token_ids], skip_special_tokens=True)
    if whole.startswith(before):
        return whole[len(before) :]
    return tokenizer.decode(token_ids, skip_special_tokens=True)


def _by_token(values: Tensor) -> list[list[float]]:
    """Turn (N, I) into lists, a token that was not steered (NaN) having none."""
    return [[value for value in token if not math.isnan(value)] for token in values.tolist()]
