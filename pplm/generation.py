"""`generate`: prompts in, `Generation` objects out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Integral
from typing import Any

from transformers import (
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.generation import BaseStreamer

from pplm.attached import attached, steering_presets
from pplm.batching import in_batches
from pplm.checks import check_seeds, check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.generated_text import Generation, cut_texts
from pplm.interface import AttributeModel, WeightedAttribute, bind_attributes, weigh_attributes
from pplm.models.fingerprint import tokenizer_fingerprint
from pplm.presets import PresetName
from pplm.rerank import Rerank, check_rankable, check_rerank, keep_best
from pplm.text.aims import wanted_levels, warn_of_missed
from pplm.text.chat_template import Message
from pplm.text.decoding import SteeredOutput, steered_decoding
from pplm.text.prompts import list_prompts, pad_left, read_prompt
from pplm.text.steerable import check_generate, check_one_device


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: str | Sequence[str] | Sequence[Message] | Sequence[Sequence[Message]],
    *,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
    steering: SteeringConfig | None = None,
    preset: PresetName | None = None,
    num_samples: int = 1,
    seed: int | Sequence[int] | None = None,
    bos: bool = True,
    max_batch_size: int | None = None,
    rerank: Rerank | None = None,
    prompt_indices: Sequence[int] | None = None,
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
        One or more texts; different lengths are padded on the left, which does not change any of them. Or one or more
        conversations: lists of messages `{"role": "user", "content": "..."}`, which the tokenizer's chat template turns
        into prompts. The completion is then the answer, which ends where the template ends a turn, and the mean hidden
        state that discriminators read counts the messages' contents and the answer, never the template's own tokens.
    attributes
        Attribute models, or (model, weight) pairs. None at all gives plain, unsteered texts.
    steering
        Settings; None takes a preset.
    preset
        "paper", "fast", or None for the model's own settings, else the dial at its usual strength; see
        `SteeringConfig.for_attributes`.
    num_samples
        Samples per prompt. More than one, or several candidates of `rerank`, turn `do_sample` on.
    seed
        Makes every sample reproducible by (seed, prompt index, sample index): in float32 whatever the batch, in half
        precision only in batches of the same size, because rounding differs between sizes. One for all prompts, or
        one for each. None draws from torch's global generator.
    bos
        Begin every text with the model's beginning-of-text token where the tokenizer does not do so itself. It
        counts as a position. A conversation begins as its template has it.
    max_batch_size
        Texts that are generated at once; None takes all. With `seed` and in float32 it does not change any text. Where
        memory runs out, it is halved with a warning (without `seed` the texts are then others).
    rerank
        Draw several candidates for every sample and keep the best by the attribute models' likelihood of the whole
        text. Candidate 0 is the text that plain generation gives.
    prompt_indices
        The numbers that name the prompts' random streams; None counts from 0. With them several calls, or several
        processes, can share out one list of prompts.
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
        If a prompt is no text or conversation, empty or too long, or a setting cannot be used; if the tokenizer has no
        chat template for messages, or it refuses them; with `rerank`, if an attribute model cannot read whole texts.

    """
    results, bound, steering = generate_unjudged(
        model,
        tokenizer,
        prompts,
        attributes=attributes,
        steering=steering,
        preset=preset,
        num_samples=num_samples,
        seed=seed,
        bos=bos,
        max_batch_size=max_batch_size,
        rerank=rerank,
        prompt_indices=prompt_indices,
        streamer=streamer,
        stop_strings=stop_strings,
        **generate_arguments,
    )
    warn_of_missed(bound, steering, [text.levels for text in results])
    return results


def generate_unjudged(
    model: Any,
    tokenizer: Any,
    prompts: Any,
    *,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
    steering: SteeringConfig | None = None,
    preset: PresetName | None = None,
    num_samples: int = 1,
    seed: int | Sequence[int] | None = None,
    bos: bool = True,
    max_batch_size: int | None = None,
    rerank: Rerank | None = None,
    prompt_indices: Sequence[int] | None = None,
    streamer: BaseStreamer | None = None,
    stop_strings: str | Sequence[str] | None = None,
    on_output: Callable[[SteeredOutput], None] | None = None,
    **generate_arguments: Any,
) -> tuple[list[Generation], tuple[WeightedAttribute, ...], SteeringConfig]:
    """Do what `generate` does, but for its warning of targets that the texts missed, which is one of many calls' too.

    `on_output` is shown each batch as it comes out of decoding, before it is cut into texts.

    Returns
    -------
    The texts, the bound attribute models and the settings that steered them.

    """
    prompts = list_prompts(prompts)
    numbers = list(range(len(prompts)) if prompt_indices is None else prompt_indices)
    check_rerank(rerank)
    candidates = 1 if rerank is None else rerank.candidates
    seeds = check_seeds(seed, len(prompts))
    check_call(model, tokenizer, num_samples, max_batch_size, generate_arguments)
    if not prompts:
        raise InputError("prompts is empty; give at least one")
    if not len(numbers) == len(prompts) == len({n for n in numbers if isinstance(n, Integral) and n >= 0}):
        raise InputError(f"prompt_indices must be {len(prompts)} different numbers of at least 0; got {numbers}")
    weighted = weigh_attributes(attributes)
    steering = SteeringConfig.resolve(steering, preset, [a.model for a in weighted], steering_presets(model))
    if weighted:
        wanted_levels(steering.target, weighted)  # refuses names that are no attribute's
    arguments = _with_sampling(generate_arguments, num_samples, candidates)
    if candidates > 1 and streamer is not None:
        raise InputError("a streamer would show candidates that are not kept; leave out streamer or rerank")
    encoded = [read_prompt(model, tokenizer, prompt, bos=bos) for prompt in prompts]
    fingerprint = tokenizer_fingerprint(tokenizer)
    if attached(model).tokenizer not in (None, fingerprint):
        raise InputError("tokenizer is not the one that was loaded with the model; pass both as loaded")
    bound = bind_attributes(weighted, model, tokenizer=fingerprint)
    if rerank is not None:
        check_rankable(bound)
    rows = [(p, s, c) for p in range(len(prompts)) for s in range(num_samples) for c in range(candidates)]

    def run(batch: Sequence[tuple[int, int, int]]) -> list[Generation]:
        streams = [(numbers[p], s, c) for p, s, c in batch]
        own = [encoded[row[0]] for row in batch]
        drawn_by = None if seeds is None else [seeds[row[0]] for row in batch]
        input_ids, attention_mask, content_mask = pad_left(own, _pad_id(model, tokenizer))
        loop = steered_decoding(
            bound,
            steering,
            seed=drawn_by,
            sample_ids=streams,
            streamer=streamer,
            stop_strings=stop_strings,
            tokenizer=tokenizer,
            content_mask=content_mask,
        )
        output = model.generate(
            input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            custom_generate=loop,
            **_for_transformers(arguments, model, _pad_id(model, tokenizer), encoded[0].ends),
        )
        if on_output is not None:
            on_output(output)
        return cut_texts(output, tokenizer, own, streams, drawn_by, bool(bound) and steering.moves)

    results = in_batches(rows, max_batch_size, run)
    if rerank is not None:
        results = keep_best(model, tokenizer, bound, results, [encoded[row[0]] for row in rows], rerank)
    return results, bound, steering


def _with_sampling(arguments: dict[str, Any], num_samples: int, candidates: int) -> dict[str, Any]:
    """Return the arguments with sampling turned on where one prompt gets several texts, unless it was turned off."""
    config = arguments.get("generation_config")
    given = _first(arguments.get("do_sample"), getattr(config, "do_sample", None))
    if given or num_samples * candidates == 1:
        return arguments
    if given is not None:
        what, remedy = (
            (f"{candidates} greedy candidates", "leave out rerank")
            if candidates > 1
            else (f"num_samples={num_samples} greedy texts", "1 sample")
        )
        raise InputError(f"{what} would all be the same; use do_sample=True or {remedy}")
    if config is None:
        return {**arguments, "do_sample": True}
    config = copy.deepcopy(config)
    config.do_sample = True
    return {**arguments, "generation_config": config}


def check_call(
    model: Any, tokenizer: Any, num_samples: int, max_batch_size: int | None, arguments: dict[str, Any]
) -> None:
    """Refuse arguments of `generate` that no prompt can be generated with, before attribute models are bound.

    Raises
    ------
    InputError
        With the argument, its value and the remedy.

    """
    for name, part, method in (("model", model, "generate"), ("tokenizer", tokenizer, "decode")):
        if not hasattr(part, method):
            raise InputError(f"{name} must be one of transformers, as load_model returns it; got {type(part).__name__}")
    check_generate(model)
    check_one_device(model)
    counts = {"num_samples": num_samples, "max_batch_size": max_batch_size}
    for name, value in (counts | {"max_new_tokens": arguments.get("max_new_tokens")}).items():
        if value is not None:
            check_whole(name, value, 1)
    misplaced = {field.name for field in fields(SteeringConfig)} & set(arguments)
    if misplaced:
        name = min(misplaced)
        how = "SteeringConfig.for_attributes(attributes, " if name in ("strength", "target") else "SteeringConfig("
        raise InputError(f"{name} is a setting of steering; write steering={how}{name}={arguments[name]!r})")
    config = arguments.get("generation_config")
    if not isinstance(config, GenerationConfig | None):
        raise InputError(f"generation_config must be a transformers.GenerationConfig; got {config!r}")
    several = [getattr(place, "num_return_sequences", None) for place in (config, model.generation_config)]
    if _first(arguments.get("num_return_sequences"), *several) not in (None, 1):
        raise InputError("num_return_sequences is called num_samples here")
    if arguments.get("assistant_model") is not None:
        raise InputError("assisted generation (assistant_model) cannot be steered; leave it out")


def _first(*values: Any) -> Any:
    """Return the first value that is given, as transformers looks for a setting: arguments, config, model's config."""
    return next((value for value in values if value is not None), None)


def _for_transformers(arguments: dict[str, Any], model: Any, pad_id: int, ends: Sequence[int]) -> dict[str, Any]:
    """Add what we need to the caller's arguments; inside a copy of a given config, as transformers wants it.

    `ends`, which end a conversation's answer, join the model's own ends of text, but not the caller's `eos_token_id`.
    """
    config = copy.deepcopy(arguments.get("generation_config"))
    added: dict[str, Any] = {"return_dict_in_generate": True}
    if ends and "eos_token_id" not in arguments:
        eos = _first(getattr(config, "eos_token_id", None), model.generation_config.eos_token_id)
        added["eos_token_id"] = [*_ids(eos), *ends]
    if config is None:
        # Some models' own configs turn the cache off (MPT), which matters to training alone.
        return {"pad_token_id": pad_id, "use_cache": True, **arguments, **added}
    if config.pad_token_id is None:
        added["pad_token_id"] = pad_id
    for name, value in added.items():
        setattr(config, name, value)
    return {**arguments, "generation_config": config}


def _pad_id(model: Any, tokenizer: Any) -> int:
    """Return an id of the model's to fill with; padding is masked by position, so any will do.

    A tokenizer's own may be beyond the model's rows, if it was added to the tokenizer alone.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    candidates = (tokenizer.pad_token_id, *_ids(model.generation_config.eos_token_id), 0)
    return next(token for token in candidates if token is not None and token < rows)


def _ids(eos: Any) -> list[int]:
    """Return a setting that is None, one id or several as a list."""
    return [] if eos is None else eos if isinstance(eos, list) else [eos]
