"""How much memory steering a large model takes, from its tensors' shapes: the table of docs/big_models.md.

python scripts/memory_table.py
python scripts/memory_table.py --measure FOLDER    (measures a Llama-like model here, beside its prediction)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import click

from pplm.cli import run_command
from pplm.files.tables import markdown_table

_MEGABYTE, _GIGABYTE = 1e6, 1e9
_ROOM = 64
"""Least number of spare positions in a new history (`pplm.text.kv_cache.ROOM`)."""
_WINDOW_COPIES = 6
"""Float32 copies of the moved window: its history, its change, their sum, the gradient, the weighted gradient and the
next change."""
_DISTRIBUTIONS = 8
"""Float32 numbers per word of the vocabulary: logits and log-probabilities of both readings, and their gradients."""


@dataclass(frozen=True)
class Shape:
    """A Llama-like model: L layers of width D, V words, an inner width F, H heads of D / H, G heads of keys and values.

    `tied` models use one matrix as input embeddings and as language-model head.
    """

    name: str
    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    head_width: int
    tied: bool = False

    @property
    def kv_width(self) -> int:
        """Numbers of a position's keys, or values, in one layer."""
        return self.kv_heads * self.head_width

    @classmethod
    def of(cls, name: str, config: Any) -> Shape:
        """Read a transformers config of a Llama or Mistral."""
        return cls(
            name=name,
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            inner=config.intermediate_size,
            heads=config.num_attention_heads,
            kv_heads=config.num_key_value_heads,
            vocabulary=config.vocab_size,
            head_width=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            tied=config.tie_word_embeddings,
        )


MODELS = (
    Shape("Llama-3.2-1B", 16, 2048, 8192, 32, 8, 128256, 64, tied=True),
    Shape("Llama-2-7B", 32, 4096, 11008, 32, 32, 32000, 128),
    Shape("Mistral-7B-v0.3", 32, 4096, 14336, 32, 8, 32768, 128),
    Shape("Llama-2-13B", 40, 5120, 13824, 40, 40, 32000, 128),
)
"""The numbers of their published config.json files."""
FORMATS = ("float32", "bfloat16", "int8", "int4")
PRESETS = {"paper": 1.0, "fast": 0.15}
"""The share of the layers that each preset moves."""


@dataclass(frozen=True)
class Need:
    """Bytes by purpose."""

    weights: float
    cache: float
    prompt: float
    steering: float

    @property
    def total(self) -> float:
        """The peak: the prompt is read before the first token is steered, so the two do not add up."""
        return self.weights + self.cache + max(self.prompt, self.steering)


def weight_bytes(shape: Shape, number_format: str) -> float:
    """Return the bytes of all weights; with int8 and int4 all else is in bfloat16."""
    plain = 4 if number_format == "float32" else 2
    matrices = shape.layers * (
        2 * shape.width * (shape.heads * shape.head_width + shape.kv_width) + 3 * shape.width * shape.inner
    )
    rows = shape.layers * (shape.heads * shape.head_width + 2 * shape.kv_width + 2 * shape.width + 2 * shape.inner)
    tables = (1 if shape.tied else 2) * shape.vocabulary * shape.width + (2 * shape.layers + 1) * shape.width
    if number_format == "int8":  # plus a scale and a zero point, 5 bytes for each row
        return matrices + 5 * rows + plain * tables
    if number_format == "int4":  # plus a scale and a least value, 16 bits each, for every 32 weights
        return matrices * (0.5 + 4 / 32) + plain * tables
    return plain * (matrices + tables)


def cache_bytes(shape: Shape, number_format: str, moved: int, prompt: int, new: int) -> float:
    """Return the bytes of the histories of one sample: two copies of the moved layers, one of the others."""
    plain = 4 if number_format == "float32" else 2
    limit = prompt + new
    positions = min(limit, prompt + max(_ROOM, prompt // 2))
    while positions < limit - 1:
        positions = min(limit, positions + max(_ROOM, positions // 2))
    return (shape.layers + moved) * 2 * positions * shape.kv_width * plain


def kept_bytes(shape: Shape, number_format: str, moved: int) -> float:
    """Return the bytes that one reading of the last token keeps for its gradient, without those for the vocabulary.

    Per layer: the inputs of two norms in float32, queries and the attention's output, and three rows of the inner
    layer; products keep nothing, because weights get no gradient. Keys and values are read in place; a batch with
    padding copies them for each head that shares them, which is not counted here.
    """
    plain = 4 if number_format == "float32" else 2
    rows = 2 if moved == shape.layers else 1  # with all layers, both histories are read in one pass
    norms, products = 2 * shape.width * 4, 2 * shape.heads * shape.head_width * plain
    inner = 3 * shape.inner * plain
    return moved * rows * (norms + products + inner)


def need(shape: Shape, number_format: str, share: float, *, prompt: int, new: int, window: int) -> Need:
    """Return the need of one sample of `prompt` and `new` tokens; `window` positions are moved, 0 means all."""
    plain = 4 if number_format == "float32" else 2
    moved, length = math.ceil(share * shape.layers), prompt + new
    read = prompt * plain * ((shape.layers + 1) * shape.width + 3 * shape.inner + 3 * shape.width)
    # A quantised matrix is unpacked for a product: int8 to plain numbers, int4 to bytes and numbers on the way.
    widest = shape.inner * shape.width * {"int8": plain, "int4": 2 * plain + 1}.get(number_format, 0)
    steps = moved * 2 * (window or length) * shape.kv_width * 4 * _WINDOW_COPIES
    history = 2 * 2 * length * shape.kv_width * plain  # gradients of one layer's keys and values
    kept = kept_bytes(shape, number_format, moved)
    return Need(
        weights=weight_bytes(shape, number_format),
        cache=cache_bytes(shape, number_format, moved, prompt, new),
        prompt=read + widest,
        steering=kept + steps + history + widest + _DISTRIBUTIONS * 4 * shape.vocabulary,
    )


def rows(prompt: int, new: int, window: int) -> list[list[str]]:
    """Return the table's cells, GB for weights and total, MB for the rest."""
    cells = []
    for shape in MODELS:
        for number_format in FORMATS:
            for preset, share in PRESETS.items():
                found = need(shape, number_format, share, prompt=prompt, new=new, window=window)
                parts = [f"{part / _MEGABYTE:.0f}" for part in (found.cache, found.prompt, found.steering)]
                gigabytes = [f"{part / _GIGABYTE:.2f}" for part in (found.weights, found.total)]
                cells.append([shape.name, number_format, preset, gigabytes[0], *parts, gigabytes[1]])
    return cells


def measured(folder: str, prompt: int, new: int, quantize: str | None) -> list[list[str]]:
    """Return a row per preset: MB above the loaded model, as predicted and as measured on this machine."""
    import torch

    from attribute_models import BagOfWords
    from pplm import SteeringConfig, generate, load_model
    from pplm.benchmark.memory import peak_memory_mb

    arguments: dict[str, Any] = {"device": "cpu", "quantize": quantize}
    model, tokenizer = load_model(folder, **arguments)
    bag = BagOfWords.load("space", tokenizer)
    ids = torch.arange(prompt).remainder(model.config.vocab_size // 2).add(300).tolist()
    cells = []
    for preset, share in PRESETS.items():
        steering = SteeringConfig.for_attributes([bag], preset=preset)

        def work(steering: SteeringConfig = steering, new: int = new) -> None:
            generate(model, tokenizer, tokenizer.decode(ids), attributes=[bag], steering=steering, seed=0,
                     max_new_tokens=new, min_new_tokens=new)  # fmt: skip

        work(new=2)  # one-time set-up does not count
        found = peak_memory_mb(work, model.device)
        length = len(tokenizer(tokenizer.decode(ids)).input_ids)
        kind = "float32" if quantize is None else quantize
        shape = Shape.of(folder, model.config)
        wanted = need(shape, kind, share, prompt=length, new=new, window=steering.window_length)
        cells.append([preset, kind, f"{(wanted.total - wanted.weights) / _MEGABYTE:.0f}", f"{found:.0f}"])
    return cells


@click.command()
@click.option("--prompt", default=448, show_default=True, help="Tokens of the prompt.")
@click.option("--new", default=64, show_default=True, help="New tokens.")
@click.option("--window", default=5, show_default=True, help="Positions that are moved; 0 means the whole history.")
@click.option("--measure", metavar="FOLDER", default=None, help="Measure the Llama-like model in FOLDER instead.")
@click.option("--quantize", type=click.Choice(["int8", "int4"]), default=None, help="With --measure: how to load it.")
def memory_table(prompt: int, new: int, window: int, measure: str | None, quantize: str | None) -> None:
    """Print a Markdown table of the memory for one sample, or of a measurement beside its prediction."""
    if measure is not None:
        head = ["preset", "numbers", "predicted MB", "measured MB"]
        lines = markdown_table(head, measured(measure, prompt, new, quantize))
    else:
        parts = ["weights GB", "histories MB", "reading the prompt MB", "a steered token MB", "total GB"]
        head = ["model", "numbers", "preset", *parts]
        lines = markdown_table(head, rows(prompt, new, window))
    for line in lines:
        click.echo(line)


if __name__ == "__main__":
    run_command(memory_table)
