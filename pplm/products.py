"""Matrix products of a language model on a CPU, by the faster of two libraries.

torch multiplies float32 numbers on a CPU by MKL, which on some CPUs (AMD's among them) takes twice as long as necessary
or, with few rows, uses only one core. torch also comes with oneDNN, but uses it for other number formats. Within
`fast_products` a model's products go to oneDNN; result and gradient are the same up to rounding.
`scripts/products_table.py` measures both.

The products are intercepted by a torch function mode, which acts on the calling thread alone and ends with its `with`
block, also by an exception; no module of the model is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from torch.overrides import TorchFunctionMode

from pplm.private_names import has_linear_pointwise, linear_pointwise

_MIN_WORK, _MIN_WEIGHTS = 2**19, 2**16
"""The least multiplications of a product, and the least numbers in its matrix, that are worth the detour of 10 to 15
microseconds."""
_FEW_ROWS, _STEP = 4, 1024
"""With fewer rows than the first, oneDNN takes twice as long over a transposed matrix whose stored rows have a multiple
of the second numbers: it reads across them, and their addresses compete for few places in the cache."""
_PARTS = 4
"""How many parts such a product is split into; on two cores 2 to 16 parts take the same time."""


def fast_products(model: Any) -> AbstractContextManager[Any]:
    """Return a context in which the larger products of a model's layers are computed by oneDNN.

    Within it no gradient flows to these layers' weight matrices; steering needs none. On accelerators, in half
    precision, under autocast and without oneDNN in torch nothing changes, except that gradients pass through quantised
    layers.
    """
    useful = model.device.type == "cpu" and model.dtype == torch.float32 and _available()
    return _FastProducts() if useful or getattr(model, "is_quantized", False) else nullcontext()


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return rows (M, K) @ matrix (K, N), by oneDNN if that saves time; then no gradient flows to `matrix`."""
    return _Linear.apply(rows, matrix.T, None) if _worthwhile(rows, matrix, 0) else rows @ matrix


class _Linear(torch.autograd.Function):
    """Rows (..., K) @ the transpose of weight (N, K), plus a bias (N,) or None."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        if _is_slow(rows, weight):
            return _by_sums(rows, weight.T, bias)
        return linear_pointwise(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return _Linear.apply(gradients[0].contiguous(), weight.T, None), None, None


class _Quantized(torch.autograd.Function):
    """Rows (..., K) @ the transpose of a quantised weight (N, K), by its own product, plus a bias (N,) or None.

    The gradient is that of a product with the dequantised weight, which is made anew for the backward pass: autograd
    would keep it from the forward pass on, for all layers of the model at once. Products that also quantise their rows
    have no gradient of their own; they get the gradient of a product that does not.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Any, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight)
        return functional.linear(rows, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        return gradients[0] @ weight.dequantize().to(gradients[0].dtype), None, None


class _FastProducts(TorchFunctionMode):
    """Replaces the products of linear layers: `nn.Linear`, and GPT-2's `Conv1D`."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not kwargs:
            if func is functional.linear and len(args) > 1:
                rows, weight, bias = (*args, None)[:3]
                if _worthwhile(rows, weight, 1) and _plain_bias(bias, len(weight)):
                    return _Linear.apply(rows, weight, bias)
                if rows.requires_grad and _can_dequantize(weight):
                    return _Quantized.apply(rows, weight, bias)
            elif func is torch.addmm and _worthwhile(args[1], args[2], 0) and _plain_bias(args[0], args[2].shape[1]):
                return _Linear.apply(args[1], args[2].T, args[0])
        return func(*args, **(kwargs or {}))


def _is_slow(rows: Tensor, weight: Tensor) -> bool:
    """Return whether oneDNN would be slow with rows (..., K) and the transpose of weight (N, K): see `_FEW_ROWS`."""
    few = rows.numel() < _FEW_ROWS * rows.shape[-1]
    return few and not weight.is_contiguous() and len(weight) % _STEP == 0 and weight.shape[1] % _PARTS == 0


def _by_sums(rows: Tensor, matrix: Tensor, bias: Tensor | None) -> Tensor:
    """Return rows (..., K) @ matrix (K, N), plus a bias, as a sum over parts of K, which MKL computes on all cores."""
    parts = rows.reshape(-1, _PARTS, len(matrix) // _PARTS).transpose(0, 1)  # (parts, M, K / parts)
    result = torch.bmm(parts, matrix.unflatten(0, (_PARTS, -1))).sum(0).view(*rows.shape[:-1], matrix.shape[1])
    return result if bias is None else result.add_(bias)


def _available() -> bool:
    return (
        torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and has_linear_pointwise()
        and not torch.compiler.is_compiling()  # compiled parts have products of their own
        and not torch.is_autocast_enabled("cpu")  # which rounds some products and not others
    )


def _worthwhile(rows: Tensor, matrix: Tensor, inner: int) -> bool:
    """Return whether oneDNN should multiply rows (..., K) and a matrix whose dimension `inner` is K."""
    return (
        type(matrix) in (Tensor, Parameter)  # others, such as quantised ones, have products of their own
        and rows.dim() > 1
        and rows.numel() > 0
        and matrix.dim() == 2
        and rows.shape[-1] == matrix.shape[inner]
        and matrix.numel() >= _MIN_WEIGHTS
        and rows.numel() // rows.shape[-1] * matrix.numel() >= _MIN_WORK
        and matrix.layout == torch.strided
        and matrix.is_contiguous()
        and rows.dtype == matrix.dtype == torch.float32
        and rows.device.type == matrix.device.type == "cpu"
        and _available()
    )


def _can_dequantize(weight: Any) -> bool:
    """Return whether a weight is a tensor of a special type with a `dequantize` method of its own."""
    return type(weight) not in (Tensor, Parameter) and type(weight).dequantize is not Tensor.dequantize


def _plain_bias(bias: Tensor | None, size: int) -> bool:
    """Return whether oneDNN adds a bias as torch would; it reads a bias as plain numbers in memory order."""
    return bias is None or (
        type(bias) in (Tensor, Parameter)
        and bias.shape == (size,)
        and bias.is_contiguous()
        and bias.dtype == torch.float32
        and not (bias.requires_grad and torch.is_grad_enabled())
    )
