"""What the decoding loop refuses before it starts, by name and with the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import GenerationConfig
from transformers.generation import GenerationMode

from pplm.errors import InputError

_MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def check_decoding_mode(config: GenerationConfig, model_kwargs: Mapping[str, Any]) -> None:
    """Refuse decoding modes and outputs that mean nothing for a steered text, or that would be ignored.

    Raises
    ------
    InputError
        With the name of the setting to remove.

    """
    mode = config.get_generation_mode()
    if mode not in _MODES:
        name = mode.value.replace("_", " ")
        extra = " (prompt_lookup_num_tokens is set)" if config.prompt_lookup_num_tokens is not None else ""
        raise InputError(f"{name}{extra} cannot be steered; use greedy decoding or sampling (num_beams=1)")
    if not config.use_cache:
        raise InputError("use_cache=False cannot be steered: the key/value cache is what steering moves")
    if config.cache_implementation not in (None, "dynamic"):
        raise InputError(f"cache_implementation={config.cache_implementation!r} cannot be steered; leave it out")
    for name in ("output_attentions", "output_hidden_states", "prefill_chunk_size"):
        if getattr(config, name):
            raise InputError(f"{name}={getattr(config, name)!r} is not available while steering; leave it out")
    if model_kwargs.get("inputs_embeds") is not None:
        raise InputError("inputs_embeds cannot be steered; pass input_ids")


def check_length(model: Any, prompt_length: int, max_length: int, horizon_length: int) -> None:
    """Refuse a text that does not fit the model's positions, the discriminator's look-ahead included.

    Raises
    ------
    InputError
        With the number of positions there are and are needed.

    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    needed = max_length + horizon_length - 1
    if positions is not None and needed > positions:
        raise InputError(
            f"max_new_tokens={max_length - prompt_length} after a prompt of {prompt_length} tokens needs {needed} "
            f"positions, the model has {positions}; shorten the prompt or lower max_new_tokens"
        )
