"""Which of a caller's arguments go to transformers' `generate`, and which are refused before that."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from transformers import GenerationConfig

from pplm.checks import check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.text.steerable import check_generate, check_one_device


def with_sampling(arguments: dict[str, Any], num_samples: int, candidates: int) -> dict[str, Any]:
    """Return the arguments with sampling turned on if a prompt gets several texts.

    Raises
    ------
    InputError
        If several texts are asked for and sampling is explicitly off, so that they would all be the same.

    """
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
    """Refuse arguments that make `generate` impossible whatever the prompts, before attribute models are bound.

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
    """Return the first value that is not None; transformers looks in the arguments, the config, the model's config."""
    return next((value for value in values if value is not None), None)


def for_transformers(arguments: dict[str, Any], model: Any, pad_id: int, ends: Sequence[int]) -> dict[str, Any]:
    """Return the caller's arguments with what we need added, inside a copy of `generation_config` if one is given.

    `ends`, the tokens that end a conversation's answer, are added to the model's or the config's end-of-text tokens,
    but not to an `eos_token_id` among the caller's arguments.
    """
    config = copy.deepcopy(arguments.get("generation_config"))
    added: dict[str, Any] = {"return_dict_in_generate": True}
    if ends and "eos_token_id" not in arguments:
        eos = _first(getattr(config, "eos_token_id", None), model.generation_config.eos_token_id)
        added["eos_token_id"] = [*_ids(eos), *ends]
    if config is None:
        # Some models' own configs (MPT) turn the cache off, which makes sense only in training.
        return {"pad_token_id": pad_id, "use_cache": True, **arguments, **added}
    if config.pad_token_id is None:
        added["pad_token_id"] = pad_id
    for name, value in added.items():
        setattr(config, name, value)
    return {**arguments, "generation_config": config}


def pad_id_of(model: Any, tokenizer: Any) -> int:
    """Return a token id to pad with; padding is masked by position, so any id that the model has will do.

    The tokenizer's own padding id may be beyond the model's rows, if it was added to the tokenizer alone.
    """
    rows = model.get_input_embeddings().weight.shape[0]
    candidates = (tokenizer.pad_token_id, *_ids(model.generation_config.eos_token_id), 0)
    return next(token for token in candidates if token is not None and token < rows)


def _ids(eos: Any) -> list[int]:
    """Return a setting that is None, one id or several as a list."""
    return [] if eos is None else eos if isinstance(eos, list) else [eos]
