"""How often a model reads a token for each new one: what a method costs on any machine.

A row of a pass is one reading; a batch of B texts that is read once gives each text one. Gradients that flow back
through a pass count like the pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pplm.pooling import model_body


@dataclass
class Readings:
    """Rows read so far, forward and backward counted alike; the pass over a prompt counts once a row."""

    rows: int = 0


@contextmanager
def count_readings(model: Any) -> Iterator[Readings]:
    """Count the rows that a causal language model's body reads inside a `with` block.

    Included are the dozen single rows with which the first padded batch of a model tries how it treats padding.
    """
    readings = Readings()

    def on_forward(body: Any, inputs: Any, output: Any) -> None:  # noqa: ARG001 - a forward hook of torch
        hidden = output[0]
        rows = len(hidden)

        def on_backward(gradient: Tensor) -> None:  # noqa: ARG001 - counted, not changed
            readings.rows += rows

        readings.rows += rows
        if hidden.requires_grad:
            hidden.register_hook(on_backward)

    handle = model_body(model).register_forward_hook(on_forward)
    try:
        yield readings
    finally:
        handle.remove()
