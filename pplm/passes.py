"""Counting the passes through a language model while something else runs.

Counted are calls of the model's body (all but the language-model head) and gradients that flow back into what such a
call returned. One pass is one reading of the weights: a batch of any size is one pass, and so is a batch that carries
steered and unsteered rows together. The pass that reads a prompt counts like any other. Rows measure a method's cost
independently of the machine: a pass over a batch of B texts is one row per text.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pplm.pooling import model_body


@dataclass
class Passes:
    """Passes through a model's body so far."""

    forward: int = 0
    backward: int = 0
    rows: int = 0
    """Rows in these passes, forward and backward counted alike."""

    @property
    def total(self) -> int:
        """Forward and backward passes counted alike."""
        return self.forward + self.backward


@contextmanager
def count_passes(model: Any) -> Iterator[Passes]:
    """Count the passes through a causal language model's body inside a `with` block.

    Included are the four to twelve passes of a single row that find out, at a model's first padded batch, how it treats
    padding (`pplm.text.steerable.check_padding`).
    """
    passes = Passes()

    def on_backward(gradient: Tensor) -> None:
        passes.backward += 1
        passes.rows += len(gradient)

    def on_forward(body: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001
        passes.forward += 1
        # torch's backward hooks on modules do not see outputs that are dataclasses, so the hook is on the tensor.
        hidden = output[0]
        passes.rows += len(hidden)
        if hidden.requires_grad:
            hidden.register_hook(on_backward)

    handle = model_body(model).register_forward_hook(on_forward)
    try:
        yield passes
    finally:
        handle.remove()
