"""Steered beside unsteered texts for one bag: the table "A topic" of docs/results.md, and five unselected texts.

python scripts/topic_table.py --bag space
python scripts/topic_table.py --bag space --model path/to/SmolLM2-135M-Instruct.Q4_1.gguf
"""

from __future__ import annotations

from typing import Any

import click

from attribute_models import BagOfWords
from pplm import SteeringConfig, generate, load_model, steering_presets
from pplm.cli import run_command
from pplm.cli.options import model_options
from pplm.cli.steering_options import given_steering, steering_options
from pplm.evaluation import dist_n, repeat_rate, word_share
from pplm.files.tables import markdown_table
from pplm.models.resources import data_path


@click.command()
@click.option("--bag", "bag_name", default="space", show_default=True, help="A shipped list or a text file.")
@click.option("--prompts", default=str(data_path("prompts", "topics.txt")), help="A text file, one prompt per line.")
@click.option("--num-prompts", default=10, show_default=True, help="Use only the first N prompts.")
@click.option("--num-samples", default=5, show_default=True, help="Texts per prompt, steered and unsteered alike.")
@click.option("--max-new-tokens", default=50, show_default=True)
@click.option("--seed", default=0, show_default=True)
@model_options
@steering_options
def topic_table(
    bag_name: str, prompts: str, num_prompts: int, num_samples: int, max_new_tokens: int, seed: int, **options: Any
) -> None:
    """Print a Markdown table and the first steered text of each of the first five prompts."""
    given, model_name = given_steering(options), options.pop("model_name")
    model, tokenizer = load_model(model_name, **options)
    bag = BagOfWords.load(bag_name, tokenizer)
    steering = SteeringConfig.for_attributes([bag], presets=steering_presets(model), **given)
    with click.open_file(prompts, encoding="utf-8") as file:
        lines = [line.strip() for line in file if line.strip()][:num_prompts]
    rows = {}
    for name, attributes in (("unsteered", []), ("steered", [bag])):
        texts = generate(model, tokenizer, lines, attributes=attributes, steering=steering, num_samples=num_samples,
                         seed=seed, max_new_tokens=max_new_tokens, do_sample=True, top_k=10)  # fmt: skip
        rows[name] = texts
    click.echo(f"{model_name}, bag {bag_name}, {len(lines)} prompts x {num_samples} samples, {steering}\n")
    table = []
    words = [word.lower() for word in bag.words]
    for name, texts in rows.items():
        completions = [text.completion for text in texts]
        share, repeats, dist_3 = word_share(completions, words), repeat_rate(completions), dist_n(completions, 3)
        table.append([name, f"{share:.2%}", f"{repeats:.2%}", f"{dist_3:.3f}"])
    head = ["", "bag words, share of all words", "immediate repeats", "dist-3"]
    click.echo("\n".join([*markdown_table(head, table), ""]))
    for text in rows["steered"][: 5 * num_samples : num_samples]:
        click.echo(f"> {' '.join(text.text.split())}\n")


if __name__ == "__main__":
    run_command(topic_table)
