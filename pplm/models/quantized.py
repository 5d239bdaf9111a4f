"""Weights in fewer bits: which schemes there are, what each needs, and whether gradients still pass through them.

Steering needs a gradient for the keys and values, never for a weight, so a weight may be any tensor that supports a
product and the product's backward pass. Layers that round their *inputs* as well (dynamic int8) multiply whole numbers,
for which torch has no derivative, so by themselves they pass on no gradient to steer by. `pplm.products` passes on the
gradient of the product of the unrounded inputs instead.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from pplm.errors import InputError, SteeringWarning
from pplm.products import fast_products
from pplm.seeds import torch_seed

Quantize = Literal["int8", "int4", "bnb8", "bnb4"]
_ON_GPU = ("bnb8", "bnb4")
_FEW = 0.5
"""Warn if less than this share of the layers' weights was quantised."""
_PROBE = 4
"""Number of tokens that the logits and gradients are tested on."""


def quantization_config(name: Quantize, device: torch.device) -> Any:
    """Return transformers' configuration of a scheme.

    Raises
    ------
    InputError
        If there is no such scheme, its package is missing, or it needs a GPU and the device is a CPU.

    """
    if name not in get_args(Quantize):
        raise InputError(f"quantize must be one of {', '.join(get_args(Quantize))}; got {name!r}")
    if name in _ON_GPU and device.type == "cpu":
        raise InputError(f"quantize={name!r} needs a GPU, and the device is {device}; use int8 or int4")
    package = "bitsandbytes" if name in _ON_GPU else "torchao"
    if find_spec(package) is None:
        raise InputError(f"quantize={name!r} needs the package {package}; install it with: pip install {package}")
    if name in _ON_GPU:
        from transformers import BitsAndBytesConfig

        return BitsAndBytesConfig(load_in_8bit=name == "bnb8", load_in_4bit=name == "bnb4")
    from transformers import TorchAoConfig

    return TorchAoConfig(_torchao_config(name))


def quantize_loaded(model: Any, name: Quantize) -> None:
    """Quantise a model that is already in memory, layer by layer, as loading would have done.

    Raises
    ------
    InputError
        If the scheme only works while loading.

    """
    if name in _ON_GPU:
        raise InputError(f"quantize={name!r} cannot read a .gguf file; use int8 or int4, or load another format")
    from torchao.quantization import quantize_

    heads = {id(model.get_output_embeddings()), id(model.get_input_embeddings())}
    config: Any = _torchao_config(name)
    quantize_(model, config, filter_fn=lambda module, _: isinstance(module, nn.Linear) and id(module) not in heads)
    model.is_quantized = True  # as transformers marks models that it has quantised


def check_quantized(model: Any, name: Quantize) -> None:
    """Check that weights were quantised, and that finite logits and gradients come out of the result.

    Raises
    ------
    InputError
        If no weight is quantised, the logits are not finite, or the keys and values of a layer receive no finite
        gradient other than zero.

    """
    share = _quantized_share(model)
    kind = type(model).__name__
    if share == 0:
        raise InputError(
            f"quantize={name!r} finds no linear layer (nn.Linear) in {kind} that it could quantise; leave it out"
        )
    if share < _FEW:
        warnings.warn(
            f"quantize={name!r} has quantised {share:.0%} of the weights in the layers of {kind}; the others are not "
            "in linear layers and keep their number format",
            SteeringWarning,
            stacklevel=3,
        )
    # Weight-only int8 sums products with whole numbers up to 127 before scaling: on a CPU this can overflow float16.
    with torch.no_grad(), fast_products(model):
        logits = model(input_ids=_probe_ids(model), past_key_values=DynamicCache(), use_cache=True).logits
    if not logits.isfinite().all():
        dtype = str(logits.dtype).removeprefix("torch.")
        remedy = "with dtype bfloat16 or float32" if dtype == "float16" else "with another scheme, or none"
        raise InputError(
            f"quantize={name!r} with dtype={dtype!r} makes {kind} compute logits that are not finite on "
            f"{logits.device}; load it {remedy}"
        )
    norms = history_gradients(model)
    dead = [number for number, norm in enumerate(norms) if not 0 < norm < float("inf")]
    if dead:
        shown = ", ".join(map(str, dead[:5])) + (", ..." if len(dead) > 5 else "")
        raise InputError(
            f"quantize={name!r} leaves no usable gradient for the history of {len(dead)} of {len(norms)} layers of "
            f"{kind} (layer {shown}), so it cannot be steered; use another scheme, or none"
        )


def history_gradients(model: Any) -> list[float]:
    """Return, for each layer, the norm of a next-token log-probability's gradient in the keys and values before it.

    Empty for a model without a plain cache, which the decoding loop refuses by name.
    """
    ids = _probe_ids(model)
    with torch.no_grad():
        cache = model(input_ids=ids[:, :-1], past_key_values=DynamicCache(), use_cache=True).past_key_values
    if cache is None or {type(layer) for layer in cache.layers} != {DynamicLayer}:
        return []
    layers = [tuple(t.detach().clone().requires_grad_() for t in (layer.keys, layer.values)) for layer in cache.layers]
    with torch.enable_grad(), fast_products(model):
        logits = model(
            input_ids=ids[:, -1:], past_key_values=DynamicCache(ddp_cache_data=layers), use_cache=True
        ).logits
        total = logits.float().log_softmax(-1)[..., 0].sum()
        if not total.requires_grad:
            return [0.0] * len(layers)
        found = torch.autograd.grad(total, [t for pair in layers for t in pair], materialize_grads=True)
    norms = [torch.linalg.vector_norm(gradient, dtype=torch.float32).item() for gradient in found]
    return [float(torch.tensor(pair).norm()) for pair in zip(norms[::2], norms[1::2], strict=True)]


def _probe_ids(model: Any) -> Tensor:
    """Return the ids (1, `_PROBE`) of random tokens, always the same ones."""
    generator = torch.Generator().manual_seed(torch_seed(0))
    size = model.config.get_text_config().vocab_size
    return torch.randint(size, (1, _PROBE), generator=generator).to(model.get_input_embeddings().weight.device)


def _quantized_share(model: Any) -> float:
    """Return the share, 0 to 1, of the values in the layers' matrices that are not plain floating-point numbers."""
    tables = {id(module.weight) for module in (model.get_input_embeddings(), model.get_output_embeddings()) if module}
    matrices = [p for p in model.parameters() if id(p) not in tables and p.dim() > 1]
    quantized = [p for p in matrices if type(p) not in (Tensor, nn.Parameter) or not p.is_floating_point()]
    return sum(p.numel() for p in quantized) / max(1, sum(p.numel() for p in matrices))


def _torchao_config(name: Quantize) -> Any:
    if name == "int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return Int8WeightOnlyConfig()
    from pplm.models.packed_int4 import PackedInt4Config

    return PackedInt4Config()
