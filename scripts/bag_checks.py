"""Does steering write words of two tokens in full, and does it avoid a word? A table of docs/results.md.

python scripts/bag_checks.py --bag kitchen --avoid the
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from attribute_models import Avoid, BagOfWords, read_word_list
from pplm import Generation, SteeringConfig, generate, load_model, steering_presets
from pplm.cli import run_command
from pplm.cli.options import model_options
from pplm.cli.steering_options import given_steering, steering_options
from pplm.evaluation import dist_n, repeat_rate, word_share
from pplm.files.tables import markdown_table
from pplm.models.resources import data_path


@click.command()
@click.option(
    "--bag", "bag_name", default="kitchen", show_default=True, help="Its words of exactly two tokens are used."
)
@click.option("--avoid", "avoided", default="the", show_default=True, help="A frequent word to steer away from.")
@click.option("--num-prompts", default=10, show_default=True)
@click.option("--num-samples", default=5, show_default=True)
@click.option("--seed", default=0, show_default=True)
@model_options
@steering_options
def bag_checks(bag_name: str, avoided: str, num_prompts: int, num_samples: int, seed: int, **options: Any) -> None:
    """Print a Markdown table: shares of the words, of first tokens without the second, and of the avoided word."""
    given, model_name = given_steering(options), options.pop("model_name")
    model, tokenizer = load_model(model_name, **options)
    prompts = data_path("prompts", "topics.txt").read_text(encoding="utf-8").splitlines()[:num_prompts]
    two = [word for word in read_word_list(bag_name) if len(tokenizer.encode(f" {word}")) == 2]
    rising = BagOfWords.from_words(two, tokenizer, name=f"{bag_name}, two tokens")
    avoiding = Avoid(BagOfWords.from_words([avoided], tokenizer, name=avoided))

    def texts(attributes: Sequence[Any]) -> list[Generation]:
        steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model), **given)
        return generate(model, tokenizer, prompts, attributes=attributes, steering=steering, num_samples=num_samples,
                        seed=seed, max_new_tokens=50, do_sample=True, top_k=10)  # fmt: skip

    plain, risen, avoided_texts = texts([]), texts([rising]), texts([avoiding])
    pairs = {tuple(entry.token_ids) for entry in rising.entries if len(entry.token_ids) == 2}
    click.echo(f"{model_name}, {len(prompts)} prompts x {num_samples} samples\n{len(two)} words: {' '.join(two)}\n")
    rows = []
    for name, runs, measure in (
        ("words of two tokens", (plain, risen), lambda texts: _share(texts, two)),
        ("first pieces without the rest", (plain, risen), lambda texts: _abandoned(texts, pairs)),
        (f"the avoided word {avoided!r}", (plain, avoided_texts), lambda texts: _share(texts, [avoided])),
    ):
        before, after = (measure(run) for run in runs)
        completions = [text.completion for text in runs[1]]
        rows.append([name, f"{before:.3%}", f"{after:.3%}", f"{dist_n(completions, 3):.3f}",
                     f"{repeat_rate(completions):.2%}"])  # fmt: skip
    click.echo("\n".join(markdown_table(["", "unsteered", "steered", "dist-3", "immediate repeats"], rows)))


def _share(texts: Sequence[Generation], words: Sequence[str]) -> float:
    return word_share([text.completion for text in texts], words)


def _abandoned(texts: Sequence[Generation], pairs: set[tuple[int, ...]]) -> float:
    """Return the share of tokens that begin a word of two tokens but are not followed by its second token."""
    firsts = {pair[0] for pair in pairs}
    steps = [pair for text in texts for pair in zip(text.token_ids, text.token_ids[1:], strict=False)]
    return sum(a in firsts and (a, b) not in pairs for a, b in steps) / len(steps)


if __name__ == "__main__":
    run_command(bag_checks)
