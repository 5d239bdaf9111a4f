"""Which models keep a history that steering can move; others are refused, with what they keep instead.

A refusal rests on a property found in the model or in its cache, never on a list of models' names.
"""

from __future__ import annotations

import inspect
import sys
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import Cache, DynamicCache, cache_utils
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from pplm.errors import InputError
from pplm.private_names import is_stateful, layer_type, position_ids

_KEPT = {
    "LinearAttentionCacheLayerMixin": "keeps a running state, of a recurrence or a convolution",
    "DynamicIndexedLayer": "attends only to positions chosen by an index of its own",
    "DummyLayer": "keeps no keys and values of its own",
    "BaseQuantizedLayer": "keeps quantised keys and values",
    "QuantizedLayer": "keeps quantised keys and values",
    "StaticLayer": "has a fixed length",
}
"""What layers of transformers' caches do instead of keeping plain keys and values of every position, by the names of
their classes in `transformers.cache_utils`, some of which older versions lack."""


def check_model(model: Any, cache: Any) -> None:
    """Refuse a model that keeps no history of keys and values, or one that is not its text's alone.

    Parameters
    ----------
    cache
        What `generate` prepared for the model or was given; None if it prepared none.

    Raises
    ------
    InputError
        With the property that stands in the way.

    """
    check_one_device(model)
    name = type(model).__name__
    if model.config.is_encoder_decoder:
        raise InputError(f"{name} is an encoder-decoder; steering needs a decoder-only language model")
    if getattr(model.config, "is_decoder", None) is False and _reads_ahead(model):
        raise InputError(
            f"{name} attends to later positions too, so a new token would change the text before it; load it as a "
            "decoder (is_decoder=True), or use another model"
        )
    parameters = inspect.signature(model.forward).parameters
    if cache is None or ("input_ids" in parameters and "past_key_values" not in parameters):
        raise InputError(f"{name} {_kept_instead(model)}; use another model")
    # peft replaces this method of the model that it wraps by its own, whose object holds the adapter's config.
    adapter = getattr(getattr(model.prepare_inputs_for_generation, "__self__", None), "active_peft_config", None)
    if getattr(adapter, "is_prompt_learning", False):
        raise InputError(
            f"{type(adapter).__name__} puts virtual tokens before the text, whose history is not the text's own; use "
            "another adapter, such as LoRA"
        )


def check_one_device(model: Any) -> None:
    """Refuse a model spread over several devices, or whose weights are fetched from CPU memory or disk when needed.

    Raises
    ------
    InputError
        With the devices that hold weights.

    """
    places = sorted({str(parameter.device) for parameter in model.parameters()})
    if "meta" in places:  # accelerate leaves only the shapes of offloaded weights
        raise InputError(
            f"{type(model).__name__} keeps weights off its device (offloaded to the processor or the disk), which "
            "cannot be steered; load it on one device, in fewer bits if need be (load_model(..., quantize='int8'))"
        )
    if len(places) > 1:
        raise InputError(
            f"{type(model).__name__} lies on several devices ({', '.join(places)}), which cannot be steered; load it "
            "on one, in fewer bits if need be (load_model(..., quantize='int8'))"
        )


def check_generate(model: Any) -> None:
    """Refuse a model that does not decode by transformers' own `generate`, into which steered decoding plugs.

    Raises
    ------
    InputError
        With the property that stands in the way.

    """
    if not hasattr(model.config.get_text_config(decoder=True), "num_hidden_layers"):
        raise InputError(
            f"the config of {type(model).__name__} names no number of layers, so transformers can make no key/value "
            "cache for it; use another model"
        )
    parameters = inspect.signature(model.generate).parameters
    if "inputs" in parameters and "custom_generate" not in parameters:
        raise InputError(
            f"{type(model).__name__} generates by a method of its own, which takes no custom_generate; steering needs "
            "a model that transformers' own generate decodes"
        )


def with_whole_history(cache: Any) -> Any:
    """Return a plain cache in place of an empty one that would forget what lies before a sliding window.

    The model itself masks what a layer must not see, so a cache that keeps the whole history gives the same text.
    Positions that a layer cannot see get a zero gradient in it, so steering leaves them alone there.
    """
    kinds = {type(layer) for layer in getattr(cache, "layers", ())}
    forgets = kinds <= {DynamicLayer, DynamicSlidingWindowLayer} and DynamicSlidingWindowLayer in kinds
    if forgets and type(cache) is DynamicCache and not cache.offloading and cache.get_seq_length() == 0:
        return DynamicCache()
    return cache


def check_window(model: Any, length: int) -> None:
    """Refuse a text of `length` tokens that is longer than a sliding window which the model does not mask itself.

    If a model relies on transformers' cache to forget, a cache that keeps the whole history would change the text.

    Raises
    ------
    InputError
        With the window's length.

    """
    config = model.config.get_text_config(decoder=True)
    window = getattr(config, "sliding_window", None)
    made = {name for name in vars(sys.modules[type(model).__module__]) if name.startswith("create_")}
    if window and length > window and made == {"create_causal_mask"}:
        raise InputError(
            f"{type(model).__name__} leaves it to its cache to forget what is outside its sliding window of {window} "
            f"tokens; keep prompt and new tokens together to at most {window}"
        )


def check_steerable(cache: object) -> None:
    """Refuse a cache whose layers are not plain growing keys and values.

    Sliding-window, quantised, static and recurrent layers subclass or replace `DynamicLayer` and hold something other
    than the whole history, so the exact type counts.

    Raises
    ------
    InputError
        With the name of what was found, and what it keeps.

    """
    if not isinstance(cache, Cache):
        raise InputError(f"past_key_values is {type(cache).__name__}; steering needs a transformers DynamicCache")
    if getattr(cache, "offloading", False):
        raise InputError("past_key_values is offloaded; steering needs a plain DynamicCache (no cache_implementation)")
    other = {number: layer for number, layer in enumerate(cache.layers) if type(layer) is not DynamicLayer}
    # Sliding windows are named last: `with_whole_history` replaces a cache in which nothing else is in the way.
    for number, layer in sorted(other.items(), key=lambda item: type(item[1]) is DynamicSlidingWindowLayer):
        raise InputError(
            f"layer {number} of this model's cache {_kept(layer)} ({type(layer).__name__}); steering needs the keys "
            "and values of every position in every layer (DynamicLayer)"
        )
    if not cache.layers and not isinstance(cache, DynamicCache):
        raise InputError(f"past_key_values is {type(cache).__name__}; steering needs a DynamicCache")


def check_history(model: Any, cache: Cache, read: int) -> None:
    """Refuse a model whose cache, after the prompt was read, does not hold exactly the `read` positions in every layer.

    Raises
    ------
    InputError
        With both numbers or the empty layer, and the usual reason.

    """
    name, kept = type(model).__name__, cache.get_seq_length()
    empty = [number for number, layer in enumerate(cache.layers) if not layer.is_initialized]
    if kept > read:
        raise InputError(
            f"{name} kept {kept} positions in its key/value cache after reading {read}: it puts positions of its own "
            "before the text, and steering needs exactly the text's"
        )
    if kept < read:
        raise InputError(
            f"{name} kept {kept} positions in its key/value cache after reading {read}, and steering needs exactly "
            "those; a model without a cache keeps none, nor does one in training mode with gradient checkpointing "
            "(call model.eval())"
        )
    if empty:
        raise InputError(
            f"layer {empty[0]} of {name} kept no keys and values of the text (cross-attention reads an image instead); "
            "steering needs them in every layer"
        )


_BY_MASK: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Whether a model leaves padding out of the text's positions, as its mask says; found once per model."""


@torch.no_grad()
def check_padding(model: Any, input_ids: Tensor, mask: Tensor | None) -> None:
    """Refuse padding if the model counts it as text, so that a text would depend on its neighbours' lengths.

    To find out, three tokens are read with and without padding before them, the first time a model is given any.

    Parameters
    ----------
    input_ids
        (B, T) left-padded prompts.
    mask
        (B, L), 0 at padding; None where there is none.

    Raises
    ------
    InputError
        If there is padding and both readings differ.

    """
    if mask is None or input_ids.shape != mask.shape or mask.all():
        return
    if model.training:  # dropout makes any two readings differ
        return
    if model not in _BY_MASK:
        padding, rows = input_ids[mask[:, 0].argmin(), :1], model.get_input_embeddings().weight.shape[0]
        # Rounding can send a token to another expert, but hardly in all three tries.
        tries = (padding.new_tensor([rows // n, rows // (n + 1), rows // (n + 2)]) for n in (2, 5, 8))
        _BY_MASK[model] = any(_padding_is_masked(model, tokens, padding) for tokens in tries)
    if not _BY_MASK[model]:
        raise InputError(
            f"{type(model).__name__} counts padding as positions of the text, so prompts of different lengths would "
            "change each other's texts; give prompts of one length, or one text at a time (max_batch_size=1)"
        )


def _padding_is_masked(model: Any, tokens: Tensor, padding: Tensor) -> bool:
    """Return whether (T,) tokens are read alike, up to rounding, with (1,) padding before them and without."""
    real = torch.ones_like(tokens)
    plain = _last_logits(model, tokens[None], real[None])
    padded = _last_logits(model, torch.cat([padding, tokens])[None], torch.cat([real[:1] - 1, real])[None])
    return not _differ(plain, padded, model.dtype)


def _last_logits(model: Any, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Read (1, T) tokens as `generate` does, the last one over a cache; return the logits after it, (V,) float32."""
    arguments = {"past_key_values": DynamicCache(), "use_cache": True}
    for length, new in ((input_ids.shape[1] - 1, None), (input_ids.shape[1], 1)):
        arguments["attention_mask"] = mask[:, :length]
        if "position_ids" in inspect.signature(model.forward).parameters:
            arguments["position_ids"] = position_ids(model, input_ids[:, :length], arguments)
        inputs = model.prepare_inputs_for_generation(input_ids[:, :length], next_sequence_length=new, **arguments)
        logits = model(**inputs, return_dict=True).logits
    return logits[0, -1].float()


@torch.no_grad()
def _reads_ahead(model: Any) -> bool:
    """Return whether a token is read differently if another one follows it; for models that may be encoders."""
    if any(getattr(part, "is_causal", False) for part in model.modules()):
        return False
    rows = model.get_input_embeddings().weight.shape[0]
    tokens = torch.tensor([[rows // 2, rows // 3]], device=model.device)
    alone, followed = (model(input_ids=ids, use_cache=False).logits[0, 0].float() for ids in (tokens[:, :1], tokens))
    return _differ(alone, followed, model.dtype)


def _differ(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    """Return whether two readings differ by more than rounding."""
    rounding = max(1e-3, 8 * torch.finfo(dtype).eps)
    return not bool((one - other).norm() <= rounding * one.norm())


def _kept(layer: Any) -> str:
    """Return what a cache's layer keeps instead of the keys and values of every position."""
    if type(layer) is DynamicSlidingWindowLayer:
        return "forgets what lies before its sliding window"
    kind = layer_type(layer)
    own = f"keeps something of its own, {kind}" if kind else "keeps something of its own"
    return next((text for name, text in _KEPT.items() if isinstance(layer, getattr(cache_utils, name, ()))), own)


def _kept_instead(model: Any) -> str:
    """Return what a model without a key/value cache keeps instead."""
    config = model.config.get_text_config(decoder=True)
    outputs = [name for name in getattr(config, "keys_to_ignore_at_inference", ()) if name != "past_key_values"]
    if is_stateful(model) or "linear_attention" in (getattr(config, "layer_types", None) or ()):
        return "is recurrent: it keeps a running state, not the keys and values of every position that steering moves"
    if outputs:
        return f"keeps its history as {outputs[0]}, not as the keys and values of every position that steering moves"
    return "keeps no key/value cache, which is what steering moves"
