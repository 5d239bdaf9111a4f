"""What sparse steering saves and costs: the table of `steer_every`, `skip_below` and `skip_weak` in docs/speed.md.

python scripts/sparse_table.py --bag space
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import click

from attribute_models import BagOfWords
from pplm import Generation, SteeringConfig, generate, load_model, steering_presets
from pplm.cli import run_command
from pplm.cli.options import comma_list, model_options
from pplm.cli.steering_options import given_steering, steering_options
from pplm.evaluation import dist_n, repeat_rate, word_share
from pplm.files.tables import markdown_table
from pplm.models.resources import data_path


@click.command()
@click.option("--bag", "bag_name", default="space", show_default=True, help="A shipped list or a text file.")
@click.option("--every", default="2,3,5", show_default=True, callback=comma_list(int), help="Values of steer_every.")
@click.option("--below", default="2,4,6", show_default=True, callback=comma_list(float), help="Values of skip_below.")
@click.option("--weak", default=".5,.7", show_default=True, callback=comma_list(float), help="Values of skip_weak.")
@click.option("--num-prompts", default=10, show_default=True)
@click.option("--num-samples", default=5, show_default=True)
@click.option("--max-new-tokens", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
@model_options
@steering_options
def sparse_table(
    bag_name: str, every: Sequence[int], below: Sequence[float], weak: Sequence[float], num_prompts: int,
    num_samples: int, max_new_tokens: int, seed: int, **options: Any,
) -> None:  # fmt: skip
    """Print a Markdown table; each processor time is divided by that of an unsteered run just before it."""
    given, model_name = given_steering(options), options.pop("model_name")
    model, tokenizer = load_model(model_name, **options)
    bag = BagOfWords.load(bag_name, tokenizer)
    dense = SteeringConfig.for_attributes([bag], presets=steering_presets(model), **given)
    prompts = data_path("prompts", "topics.txt").read_text(encoding="utf-8").splitlines()[:num_prompts]
    words = [word.lower() for word in bag.words]

    def texts(attributes: Sequence[Any], steering: SteeringConfig) -> tuple[list[Generation], float]:
        start = time.process_time()  # unlike wall time, it does not count what other programs do
        found = generate(model, tokenizer, prompts, attributes=attributes, steering=steering, num_samples=num_samples,
                         seed=seed, max_new_tokens=max_new_tokens, do_sample=True, top_k=10)  # fmt: skip
        return found, time.process_time() - start

    settings = {"every token": dense}
    settings |= {f"steer_every={k}": replace(dense, steer_every=k) for k in every}
    settings |= {f"skip_below={value:g}": replace(dense, skip_below=value) for value in below}
    settings |= {f"skip_weak={value:g}": replace(dense, skip_weak=value) for value in weak}
    click.echo(f"{model_name}, bag {bag_name}, {len(prompts)} prompts x {num_samples} samples, {dense}\n")
    head = ["", "tokens steered", "processor time / unsteered", "bag words", "immediate repeats", "dist-3"]
    rows = []
    texts([], dense)  # warm-up
    for name, steering in settings.items():
        plain, seconds = texts([], steering)
        steered, steered_seconds = texts([bag], steering)
        if name == "every token":
            rows.append(["unsteered", "0%", "1", *_measures(plain, words)])
        share, times = _share_steered(steered), steered_seconds / seconds
        rows.append([name, f"{share:.0%}", f"{times:.1f}", *_measures(steered, words)])
    click.echo("\n".join(markdown_table(head, rows)))


def _measures(texts: Sequence[Generation], words: Sequence[str]) -> list[str]:
    completions = [text.completion for text in texts]
    return [f"{word_share(completions, words):.2%}", f"{repeat_rate(completions):.2%}", f"{dist_n(completions, 3):.3f}"]


def _share_steered(texts: Sequence[Generation]) -> float:
    tokens = [bool(losses) for text in texts for losses in text.attribute_loss]
    return sum(tokens) / len(tokens) if tokens else math.nan


if __name__ == "__main__":
    run_command(sparse_table)
