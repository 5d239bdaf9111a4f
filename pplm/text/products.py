"""Matrix products of a few rows on a processor, shared out to its cores.

A steered token multiplies one to a few dozen rows with every weight of the model, in several forward and backward
passes. Most of the time goes into reading the weights, and on some processors the library beneath torch (MKL) leaves
that to one core where the rows are few and the numbers float32. Here such a product is split into a batch of parts,
which MKL does share out. Result and gradient are the same but for rounding. The sizes below were measured on two cores
of an AMD EPYC.

The products are caught by a torch function mode, which acts on the calling thread alone and ends with its `with` block,
exceptions included; no module of the model is touched. CONTRIBUTING.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from torch.overrides import TorchFunctionMode

_PARTS = 4
"""Enough to keep the memory bus busy; on two cores 2 to 16 parts take the same time."""
_MAX_THREADS = 8
"""With many more threads than parts, some threads would be idle."""
_MAX_ROWS = 32
"""With more rows the arithmetic takes longer than reading the weights, and torch shares that out itself."""
_FEW_ROWS = 4
"""MKL itself shares out a matrix times at most this many columns."""
_MIN_WEIGHTS = 2**18
"""Minimum matrix size; doubled above `_FEW_ROWS` rows. Sharing out a smaller matrix takes longer than reading it."""


def shared_products(model: Any) -> AbstractContextManager[Any]:
    """Return a context in which a model's layers share products of a few rows out to the processor's cores.

    In it no gradient flows to these layers' weight matrices; steering asks for none. Nothing changes on accelerators,
    in half precision, under autocast, with one thread or with many, and without MKL.
    """
    useful = model.device.type == "cpu" and model.dtype == torch.float32 and _shares()
    return _SharedProducts() if useful else nullcontext()


def product(rows: Tensor, matrix: Tensor, *, transposed: bool = False) -> Tensor:
    """Return rows (M, K) @ matrix (K, N), or @ the transpose of matrix (N, K), shared out where that saves time.

    The gradient to `rows` is shared out as well; where a product is shared out, no gradient flows to `matrix`.
    """
    if _worthwhile(rows, matrix):
        return _Product.apply(rows, matrix, transposed)
    return rows @ (matrix.T if transposed else matrix)


class _Product(torch.autograd.Function):
    """(M, K) x (K, N) -> (M, N) and (M, N) x (K, N) -> (M, K), each the other's gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, matrix: Tensor, transposed: bool) -> Tensor:
        ctx.save_for_backward(matrix)
        ctx.transposed = transposed
        return _by_columns(rows, matrix) if transposed else _by_sums(rows, matrix)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (matrix,) = ctx.saved_tensors
        return _Product.apply(gradients[0], matrix, not ctx.transposed), None, None


def _by_sums(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return rows (M, K) @ matrix (K, N) as the sum over parts of K."""
    whole = len(matrix) // _PARTS * _PARTS
    parts = rows[:, :whole].unflatten(1, (_PARTS, -1)).transpose(0, 1)  # (parts, M, K / parts)
    result = torch.bmm(parts, matrix[:whole].unflatten(0, (_PARTS, -1))).sum(0)
    return result if whole == len(matrix) else result.addmm_(rows[:, whole:], matrix[whole:])


def _by_columns(rows: Tensor, matrix: Tensor) -> Tensor:
    """Return rows (M, K) @ the transpose of matrix (N, K), computed for parts of N."""
    if 1 < len(rows) <= _FEW_ROWS:
        return (matrix @ rows.T).T.contiguous()
    whole = len(matrix) // _PARTS * _PARTS
    parts = matrix[:whole].unflatten(0, (_PARTS, -1)).transpose(1, 2)  # (parts, K, N / parts)
    result = torch.bmm(rows.expand(_PARTS, -1, -1), parts).transpose(0, 1).flatten(1)
    return result if whole == len(matrix) else torch.cat([result, rows @ matrix[whole:].T], dim=1)


class _SharedProducts(TorchFunctionMode):
    """Replaces the products of linear layers: `nn.Linear`, and the `Conv1D` of GPT-2."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not kwargs:
            if func is functional.linear and len(args) > 1:
                rows, weight, *bias = args
                flat = rows.flatten(0, -2) if rows.dim() > 1 else rows[None]
                if _worthwhile(flat, weight):
                    result = _Product.apply(flat, weight, True).view(*rows.shape[:-1], len(weight))
                    return result if not bias or bias[0] is None else result + bias[0]
            elif func is torch.addmm and _worthwhile(args[1], args[2]):
                return _Product.apply(args[1], args[2], False) + args[0]
        return func(*args, **(kwargs or {}))


def _shares() -> bool:
    return (
        torch.backends.mkl.is_available()
        and 1 < torch.get_num_threads() <= _MAX_THREADS
        and not torch.is_autocast_enabled("cpu")  # which rounds some products and not others
    )


def _worthwhile(rows: Tensor, matrix: Tensor) -> bool:
    return (
        type(matrix) in (Tensor, Parameter)  # others, such as quantised ones, have products of their own
        and 0 < rows.shape[0] <= _MAX_ROWS
        and matrix.numel() >= _MIN_WEIGHTS * (1 if rows.shape[0] <= _FEW_ROWS else 2)
        and matrix.layout == torch.strided
        and matrix.is_contiguous()
        and rows.dtype == matrix.dtype == torch.float32
        and rows.device.type == matrix.device.type == "cpu"
        and _shares()
    )
