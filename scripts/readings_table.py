"""How often a steered token reads all weights, for models too large for this machine: a table of docs/speed.md.

python scripts/readings_table.py
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from pplm import SteeringConfig
from pplm.cli import run_command
from pplm.files.tables import markdown_table
from pplm.text.split import moved_layers


@dataclass(frozen=True)
class Shape:
    """A model as the numbers of weights that a token reads: of each layer, and of the language-model head."""

    name: str
    layers: int
    layer_weights: int
    head_weights: int

    @classmethod
    def gpt2(cls, name: str, layers: int, width: int) -> Shape:
        """Return a GPT-2. Each layer has four matrices: queries, keys and values; the attention's output; up; down."""
        return cls(name, layers, 12 * width**2, 50257 * width)

    @classmethod
    def llama(cls, name: str, layers: int, width: int, inner: int, kv_width: int, vocabulary: int) -> Shape:
        """Return a Llama. Each layer has seven matrices; those of keys and values are `kv_width` wide."""
        return cls(name, layers, 2 * width * (width + kv_width) + 3 * width * inner, vocabulary * width)

    def readings(self, steering: SteeringConfig, *, head: bool) -> float:
        """Return how often all weights are read for one steered token of a few samples.

        With fewer layers than all: once for the unsteered reading, then for each iteration the moved layers and the
        language-model head forward and backward, and both once more after the last. A discriminator (`head`) that looks
        at no future leaves the language-model head out of its iterations. With all layers, the unsteered reading shares
        the pass of the first iteration.
        """
        whole = self.layers * self.layer_weights + self.head_weights
        if not steering.layers:
            ahead = steering.horizon_length * head  # forward and backward, and forward once after the last step
            return (2 * steering.num_iterations + 1) * (1 + ahead)
        upper = moved_layers(steering.layers, self.layers) * self.layer_weights
        iteration = upper + self.head_weights * (not head)
        return (whole + 2 * steering.num_iterations * iteration + upper + self.head_weights) / whole


SHAPES = (
    Shape.gpt2("GPT-2 small (124M)", 12, 768),
    Shape.gpt2("GPT-2 medium (355M)", 24, 1024),
    Shape.llama("1B (Llama 3.2)", 16, 2048, 8192, 512, 128256),
    Shape.llama("7B (Llama 2)", 32, 4096, 11008, 4096, 32000),
    Shape.llama("13B (Llama 2)", 40, 5120, 13824, 5120, 32000),
)


class _Head:
    steering_kind = "discriminator"


@click.command()
def readings_table() -> None:
    """Print a Markdown table for the default settings of a model without its own, and for the preset paper."""
    columns: list[tuple[str, Any]] = [(kind, preset) for preset in (None, "paper") for kind in ("bag", "head")]
    rows = []
    for shape in SHAPES:
        cells = []
        for kind, preset in columns:
            steering = SteeringConfig.for_attributes([_Head()] if kind == "head" else [], preset=preset)
            cells.append(f"{shape.readings(steering, head=kind == 'head'):.2f}")
        rows.append([shape.name, *cells])
    click.echo("\n".join(markdown_table(["", *(f"{kind}, {preset or 'the dial'}" for kind, preset in columns)], rows)))


if __name__ == "__main__":
    run_command(readings_table)
