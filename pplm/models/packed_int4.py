"""Weights of 4 bits, two to a byte: a torchao tensor that any device can multiply by and pass gradients through.

torchao's own 4-bit tensors are made for kernels of particular devices: in version 0.18 none but a prototype runs on a
CPU, none passes on a gradient, and most cannot be dequantised. Here a weight matrix is dequantised for the duration of
each product. The module is imported only when a model is quantised, because torchao is optional.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchao.core.config import AOBaseConfig
from torchao.quantization.transform_module import register_quantize_module_handler
from torchao.utils import TorchAOBaseTensor

from pplm.private_names import wrapper_of

GROUP = 32
"""Number of neighbours in a row that share a scale and a least value."""
_LEVELS = 15
"""Steps from the least to the greatest value of a group."""
_SCALES = torch.bfloat16
"""Number format of scales and least values; it adds a tenth of the rounding error of the weights themselves."""


class PackedInt4(TorchAOBaseTensor):
    """A weight matrix (N, K) as 4-bit numbers: weight = least value + scale * number, for each group of `GROUP`.

    Attributes
    ----------
    packed
        (N, K / 2) uint8; each byte holds an even column in its lower 4 bits and the next one in its upper 4.
    scale, least
        (N, K / GROUP) bfloat16.

    """

    tensor_data_names = ["packed", "scale", "least"]  # noqa: RUF012 - torchao's own way to declare them
    tensor_attribute_names = ["dtype"]  # noqa: RUF012

    @staticmethod
    def __new__(cls: type, packed: Tensor, scale: Tensor, least: Tensor, dtype: torch.dtype) -> PackedInt4:
        """Make a tensor with the matrix's shape and number format that holds the parts instead of the numbers."""
        shape = (packed.shape[0], 2 * packed.shape[1])
        return wrapper_of(cls, shape, dtype=dtype, device=packed.device)

    def __init__(self, packed: Tensor, scale: Tensor, least: Tensor, dtype: torch.dtype) -> None:  # noqa: ARG002
        super().__init__()
        self.packed, self.scale, self.least = packed, scale, least

    @classmethod
    def of(cls, weight: Tensor) -> PackedInt4:
        """Round a matrix (N, K), K a multiple of `GROUP`, to the nearest of 16 levels in each group."""
        groups = weight.detach().float().unflatten(1, (-1, GROUP))
        least, greatest = groups.aminmax(dim=2)
        least, scale = least.to(_SCALES), ((greatest - least) / _LEVELS).to(_SCALES)
        steps = (groups - least.float()[..., None]) / scale.float().clamp(min=torch.finfo(_SCALES).tiny)[..., None]
        numbers = steps.round().clamp(0, _LEVELS).to(torch.uint8).flatten(1)
        return cls(numbers[:, ::2] | numbers[:, 1::2] << 4, scale, least, weight.dtype)

    def dequantize(self) -> Tensor:
        """Return the matrix (N, K) in its original number format."""
        numbers = torch.stack([self.packed & _LEVELS, self.packed >> 4], dim=-1)
        groups = numbers.view(*self.scale.shape, GROUP).to(self.dtype)
        scale, least = (t.to(self.dtype)[..., None] for t in (self.scale, self.least))
        return torch.addcmul(least, groups, scale).flatten(1)


@PackedInt4.implements(torch.ops.aten.linear.default)
@PackedInt4.implements_torch_function(nn.functional.linear)
def _linear(func: Any, types: Any, args: Any, kwargs: Any) -> Tensor:  # noqa: ARG001 - torchao's signature
    return nn.functional.linear(args[0], args[1].dequantize(), *args[2:], **(kwargs or {}))


@dataclass
class PackedInt4Config(AOBaseConfig):
    """Asks torchao's `quantize_`, and transformers' `TorchAoConfig`, for `PackedInt4` weights."""


@register_quantize_module_handler(PackedInt4Config)
def _pack(module: nn.Linear, config: PackedInt4Config, **_: Any) -> nn.Module:  # noqa: ARG001 - torchao's signature
    """Pack a linear layer's weight; one whose row length is not a multiple of `GROUP` stays as it is."""
    if module.weight.shape[1] % GROUP == 0:
        module.weight = nn.Parameter(PackedInt4.of(module.weight), requires_grad=False)
    return module
