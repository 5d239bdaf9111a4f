"""Where the time of a steered token goes: a table of docs/speed.md.

python scripts/token_time.py
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from time import perf_counter
from typing import Any
from unittest.mock import patch

import click
import torch

from pplm import SteeringConfig, freeze
from pplm.benchmark import describe_machine, random_model
from pplm.cli import run_command
from pplm.cli.benchmark import ATTRIBUTES
from pplm.cli.options import comma_list
from pplm.files.tables import markdown_table
from pplm.interface import bind_attributes, weigh_attributes
from pplm.text.decoding import steered_decoding
from pplm.text.split import decoder_layers, moved_layers

_SEED = 0
PARTS = ("lower layers", "upper layers", "language-model head", "gradients", "attribute model", "all else")
RUNS = {
    "bag, the dial": ("bag", None),
    "bag, paper": ("bag", "paper"),
    "head, the dial": ("discriminator", None),
    "head, paper": ("discriminator", "paper"),
}


class Clock:
    """Adds up the seconds spent in named parts; time in a nested part counts for the inner part alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._open: list[str] = []
        self._since = 0.0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the block's seconds for a part."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Add the time since the last turn to the innermost open part."""
        now = perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function, with its seconds counted for a part."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            with self.part(name):
                return function(*arguments, **keywords)

        return call


@click.command()
@click.option(
    "--model", "model_name", default="random:gpt2", show_default=True, help="random:gpt2 or random:gpt2-medium."
)
@click.option("--samples", default="1,16", show_default=True, callback=comma_list(int), help="Texts at once.")
@click.option("--prompt-tokens", default=10, show_default=True)
@click.option("--new-tokens", default=20, show_default=True)
def token_time(model_name: str, samples: Sequence[int], prompt_tokens: int, new_tokens: int) -> None:
    """Print, for each number of samples, a Markdown table of milliseconds per token and batch."""
    model = freeze(random_model(model_name, device="cpu"))
    click.echo(", ".join(f"{name} {value}" for name, value in describe_machine(model.device).items()))
    for batch in samples:
        prompts = torch.randint(1000, (batch, prompt_tokens), generator=torch.Generator().manual_seed(_SEED))
        unsteered = _seconds(model, prompts, new_tokens, None)
        columns = {title: _parts(model, prompts, new_tokens, *run) for title, run in RUNS.items()}
        rows = [[part, *(f"{1000 * column[part]:.1f}" for column in columns.values())] for part in PARTS]
        totals = {title: sum(column.values()) for title, column in columns.items()}
        rows.append(["together", *(f"{1000 * total:.1f}" for total in totals.values())])
        rows.append(["unsteered tokens", *(f"{total / unsteered:.1f}" for total in totals.values())])
        click.echo(f"\n{batch} samples; an unsteered token of transformers takes {1000 * unsteered:.1f} ms\n")
        click.echo("\n".join(markdown_table(["", *columns], rows)))


def _parts(model: Any, prompts: torch.Tensor, new_tokens: int, attribute: str, preset: Any) -> dict[str, float]:
    """Return the seconds of each part per token and batch."""
    (bound,) = bind_attributes(weigh_attributes([ATTRIBUTES[attribute](model, None)]), model)
    steering = SteeringConfig.for_attributes([bound.model], preset=preset)
    loop = steered_decoding([bound.model], steering, seed=0)
    _seconds(model, prompts, 2, loop)  # warm-up
    clock, layers = Clock(), decoder_layers(model)[1]
    lower = len(layers) - moved_layers(steering.layers, len(layers))
    with ExitStack() as changes:

        def count(target: Any, method: str, name: str) -> None:
            changes.enter_context(patch.object(target, method, clock.timed(name, getattr(target, method))))

        for number, layer in enumerate(layers):
            count(layer, "forward", "lower layers" if number < lower else "upper layers")
        count(model.get_output_embeddings(), "forward", "language-model head")
        count(torch.autograd, "grad", "gradients")
        count(type(bound.model), "loss", "attribute model")
        total = _seconds(model, prompts, new_tokens, loop)
    found = {part: clock.seconds[part] / new_tokens for part in PARTS}
    return {**found, "all else": total - sum(found.values())}


def _seconds(model: Any, prompts: torch.Tensor, new_tokens: int, loop: Any) -> float:
    """Return the seconds per token of a batch."""
    start = perf_counter()
    model.generate(prompts, attention_mask=torch.ones_like(prompts), min_new_tokens=new_tokens,
                   max_new_tokens=new_tokens, do_sample=True, pad_token_id=0, custom_generate=loop)  # fmt: skip
    return (perf_counter() - start) / new_tokens


if __name__ == "__main__":
    run_command(token_time)
