"""What the decoding loop refuses, by name and with the remedy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

from transformers import GenerationConfig
from transformers.generation import GenerationMode

from pplm.config import SteeringConfig
from pplm.errors import InputError, SteeringWarning
from pplm.interface import WeightedAttribute
from pplm.presets import kind_of

_MODES = (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def check_decoding_mode(config: GenerationConfig, model_kwargs: Mapping[str, Any]) -> None:
    """Refuse decoding modes and outputs that make no sense for a steered text, or that would be ignored.

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
        raise InputError(
            "use_cache=False (given, or from the model's own generation config) cannot be steered: the key/value cache "
            "is what steering moves; pass use_cache=True"
        )
    if config.cache_implementation not in (None, "dynamic"):
        raise InputError(f"cache_implementation={config.cache_implementation!r} cannot be steered; leave it out")
    for name in ("output_attentions", "output_hidden_states", "prefill_chunk_size"):
        if getattr(config, name):
            raise InputError(f"{name}={getattr(config, name)!r} is not available while steering; leave it out")
    if model_kwargs.get("inputs_embeds") is not None:
        raise InputError("inputs_embeds cannot be steered; pass input_ids")


def check_prefix(cache: Any, batch: int) -> None:
    """Give each of B samples a row of a caller's cache; a cache with one row is repeated for all.

    Raises
    ------
    InputError
        If the cache has neither one row nor B.

    """
    rows = cache.layers[0].keys.shape[0] if cache.get_seq_length() else batch
    if rows == 1 < batch:
        cache.batch_repeat_interleave(batch)
    elif rows != batch:
        raise InputError(f"past_key_values holds {rows} samples, the batch has {batch}; give one, or one per sample")


def warn_of_streamer(generate: FrameType | None) -> None:
    """Warn if a streamer was given to transformers' `generate`, whose frame this is.

    `generate` does not pass a streamer on to a custom loop and puts only the prompt into it, so this frame is the only
    place to notice one.
    """
    if generate is not None and generate.f_locals.get("streamer") is not None:
        warnings.warn(
            "a streamer given to model.generate stops after the prompt; give it to "
            "steered_decoding(..., streamer=streamer) instead",
            SteeringWarning,
            stacklevel=4,
        )


def check_length(model: Any, prompt_length: int, max_length: int, horizon_length: int) -> None:
    """Refuse a text that does not fit the model's positions, the discriminator's look-ahead included.

    Raises
    ------
    InputError
        With the number of positions that are needed and that the model has.

    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    needed = max_length + max(horizon_length - 1, 0)
    if positions is not None and needed > positions:
        raise InputError(
            f"max_new_tokens={max_length - prompt_length} after a prompt of {prompt_length} tokens needs {needed} "
            f"positions, the model has {positions}; shorten the prompt or lower max_new_tokens"
        )


def broken_scores(
    token: int,
    steering: SteeringConfig,
    attributes: Sequence[WeightedAttribute],
    broken: Sequence[str],
    *,
    sound: bool,
) -> InputError:
    """Return the error for a new token whose scores are no distribution although the unsteered ones are.

    Parameters
    ----------
    token
        Number of the new token, from 0.
    attributes
        All attribute models.
    broken
        Names of those whose loss was not a number.
    sound
        Whether the fused logits still are a distribution, so that a logits processor is to blame.

    """
    if sound:
        return InputError(
            f"the logits processors left no token to choose as new token {token}; loosen them (temperature, "
            "repetition_penalty, top_p, ...)"
        )
    if broken:
        return InputError(
            f"attribute model {broken[0]!r} returned a loss that is not a number before new token {token}; fix it, or "
            "leave it out"
        )
    kinds = {kind_of(attribute.model) for attribute in attributes}
    if steering.dialled:
        in_use = {} if steering.strength is None else {"strength": steering.strength}
    else:
        in_use = {f"{kind}.step_size": step.step_size for kind, step in steering.steps.items() if kind in kinds}
        if not kinds <= set(steering.steps):
            in_use["step_size"] = steering.step_size
    if steering.kl_scale > 1:
        in_use["kl_scale"] = steering.kl_scale
    in_use |= {f"the weight of {item.name!r}": item.weight for item in attributes if item.weight > 1}
    named = ", ".join(f"{name} (now {value:g})" for name, value in in_use.items())
    return InputError(
        f"the steered distribution of new token {token} is not a number; lower {named} or num_iterations (now "
        f"{steering.num_iterations}); if that does not help, the model's weights hold NaN"
    )
