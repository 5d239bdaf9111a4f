"""What watching costs: time per step with a trace and with `on_token`, beside unwatched texts.

python scripts/trace_cost.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from typing import Any

import click

from attribute_models import BagOfWords, Discriminator
from pplm import SteeringConfig, generate, load_model
from pplm.benchmark import describe_machine
from pplm.cli import run_command
from pplm.files.tables import markdown_table

_PROMPT = "The lake"
_HEAD = ("steered by", "watched by", "ms per step", "processor ms", "more of the processor")
_WAYS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("nobody", {}),
    ("on_token", {"on_token": lambda _: None}),
    ("trace", {"trace": True}),
    ("both", {"trace": True, "on_token": lambda _: None}),
)


@click.command()
@click.option("--samples", default=1, show_default=True, help="Texts at once.")
@click.option("--max-new-tokens", default=50, show_default=True)
@click.option("--repeats", default=5, show_default=True, help="Rounds; each writes every row's texts once.")
@click.option("--strength", default=0.5, show_default=True)
def trace_cost(samples: int, max_new_tokens: int, repeats: int, strength: float) -> None:
    """Print a Markdown table of medians over rounds, for the embedded model."""
    model, tokenizer = load_model(device="cpu")
    bag, head = BagOfWords.load("space", tokenizer), Discriminator.load("sentiment", "positive")
    cases = {"bag": [bag], "head": [head], "bag and head": [bag, head]}
    steering = {name: SteeringConfig.for_attributes(own, strength=strength) for name, own in cases.items()}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for turn in range(repeats + 1):
        for name, attributes in cases.items():
            for way, watching in _WAYS:
                begun, worked = time.perf_counter(), time.process_time()
                texts = generate(model, tokenizer, _PROMPT, attributes=attributes, steering=steering[name], seed=turn,
                                 num_samples=samples, do_sample=True, max_new_tokens=max_new_tokens,
                                 min_new_tokens=max_new_tokens, **watching)  # fmt: skip
                if turn:  # the first round warms up
                    steps = len(texts[0].token_ids)
                    taken = (time.perf_counter() - begun) / steps, (time.process_time() - worked) / steps
                    found.setdefault((name, way), []).append(taken)
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine(model.device).items())
    click.echo(f"{machine}; {samples} texts, {max_new_tokens} tokens, medians of {repeats} rounds\n")
    medians = {case: [statistics.median(own) for own in zip(*taken, strict=True)] for case, taken in found.items()}
    rows = []
    for name in cases:
        for way, _ in _WAYS:
            seconds, processor = medians[name, way]
            more = processor / medians[name, "nobody"][1] - 1
            rows.append([name, way, f"{1000 * seconds:.0f}", f"{1000 * processor:.0f}", f"{more:+.0%}"])
    click.echo("\n".join(markdown_table(_HEAD, rows)))


if __name__ == "__main__":
    run_command(trace_cost)
