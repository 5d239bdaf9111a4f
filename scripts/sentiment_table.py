"""Does steering with a sentiment head convince independent judges? The sentiment table of docs/results.md.

The data are split in half: a head trained on one half steers, and a head trained on the other half judges. So does
VADER (pip install "pplm[evaluation]"), a list of words that does not depend on the language model.

python scripts/sentiment_table.py sentence_polarity.tsv
"""

from __future__ import annotations

from typing import Any

import click

from attribute_models import classify_texts, read_labelled, train_discriminator
from pplm import SteeringConfig, generate, load_model, steering_presets
from pplm.cli import run_command
from pplm.cli.options import comma_list, model_options
from pplm.cli.steering_options import given_steering, steering_options
from pplm.errors import InputError
from pplm.evaluation import JudgedText, SentimentJudge, dist_n, repeat_rate
from pplm.files.tables import markdown_table
from pplm.models.resources import data_path


@click.command()
@click.argument("data")
@click.option("--labels", default="positive,negative", show_default=True, callback=comma_list(str),
              help="Label of praise, label of blame.")  # fmt: skip
@click.option("--num-prompts", default=10, show_default=True, help="Use the first N of the paper's sentiment prompts.")
@click.option("--num-samples", default=10, show_default=True)
@click.option("--max-new-tokens", default=40, show_default=True)
@click.option("--seed", default=0, show_default=True)
@model_options
@steering_options
def sentiment_table(
    data: str,
    labels: tuple[str, ...],
    num_prompts: int,
    num_samples: int,
    max_new_tokens: int,
    seed: int,
    **options: Any,
) -> None:
    """Print a Markdown table of the judges' numbers for unsteered and steered texts."""
    if len(labels) != 2:
        raise InputError(f"--labels must be two, the label of praise first; got {', '.join(labels)}")
    vader = SentimentJudge()
    given, model_name = given_steering(options), options.pop("model_name")
    model, tokenizer = load_model(model_name, **options)
    texts = read_labelled(data)
    half, other_half = texts.split((0.5,), seed)
    guide = train_discriminator(model, tokenizer, texts.select(half), name="guide").discriminator
    judge = train_discriminator(model, tokenizer, texts.select(other_half), name="judge").discriminator
    prompts = data_path("prompts", "sentiment.txt").read_text(encoding="utf-8").splitlines()[:num_prompts]
    steering = SteeringConfig.for_attributes([guide], presets=steering_presets(model), **given)
    click.echo(f"{model_name}, {len(prompts)} prompts x {num_samples} samples, {steering}\n")
    head = ["steered towards", "VADER, mean", "VADER > 0", "held-out head: p(positive)", "repeats", "dist-3"]
    rows = []
    for label in (None, *labels):
        attributes = [] if label is None else [guide.towards(label)]
        found = generate(model, tokenizer, prompts, attributes=attributes, steering=steering, num_samples=num_samples,
                         seed=seed, max_new_tokens=max_new_tokens, do_sample=True, top_k=10)  # fmt: skip
        scores = [score for (score,) in vader.judge([JudgedText(text.text) for text in found])]
        judged = classify_texts(model, tokenizer, judge, [text.text for text in found])
        probability = float(judged[:, judge.labels.index(labels[0])].mean())
        completions = [text.completion for text in found]
        mean, above = sum(scores) / len(scores), sum(score > 0 for score in scores) / len(scores)
        rows.append([label or "nothing", f"{mean:+.3f}", f"{above:.0%}", f"{probability:.3f}",
                     f"{repeat_rate(completions):.2%}", f"{dist_n(completions, 3):.3f}"])  # fmt: skip
    click.echo("\n".join(markdown_table(head, rows)))


if __name__ == "__main__":
    run_command(sentiment_table)
