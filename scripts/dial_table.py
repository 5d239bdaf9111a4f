"""The divergence that strengths and targets spend and the levels they reach, on the paper's topics: docs/dial.md.

python scripts/dial_table.py
python scripts/dial_table.py --model smollm2
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from statistics import fmean
from typing import Any

import click
import torch

from attribute_models import BagOfWords
from pplm import Generation, SteeringConfig, SteeringWarning, generate, load_model, steering_presets
from pplm.cli import run_command
from pplm.cli.options import comma_list
from pplm.comparison import attribute_set
from pplm.files.tables import markdown_table


@click.command()
@click.option("--model", "model_name", default="gpt2-mini", show_default=True, help="As in pplm generate.")
@click.option("--strengths", default=".2,.5,.8", show_default=True, callback=comma_list(float), help="Strengths.")
@click.option("--targets", default=".02,.04,.08", show_default=True, callback=comma_list(float), help="Targets.")
@click.option("--new-tokens", default=40, show_default=True, help="Length of the new text, in tokens.")
@click.option("--seed", default=12, show_default=True, help="Same seed, same texts.")
@click.option("--threads", default=1, show_default=True, help="CPU threads; another number can change texts.")
def dial_table(model_name: str, strengths: Sequence[float], targets: Sequence[float], **options: Any) -> None:
    """Print the mean divergence per token and the mean level of a text, for each strength and each target.

    One text for each of the 7 topics and 20 prompts.
    """
    torch.set_num_threads(options["threads"])
    warnings.simplefilter("ignore", SteeringWarning)  # missed targets show in the table
    model, tokenizer = load_model(model_name, device="cpu")
    rows = []
    for name, values in {"strength": strengths, "target": targets}.items():
        for value in values:
            texts = _texts(model, tokenizer, {name: value}, options)
            spent = fmean(kl for text in texts for kl in text.final_kl)
            level = fmean(next(iter(text.levels.values())) for text in texts)
            rows.append([f"{name} {value:g}", str(len(texts)), f"{spent:.4f}", f"{level:.4f}"])
    click.echo("\n".join(markdown_table(["", "texts", "nats per token", "level"], rows)))


def _texts(model: Any, tokenizer: Any, dial: dict[str, Any], options: dict[str, Any]) -> list[Generation]:
    topics = attribute_set("topics")
    texts = []
    for name in topics.specs:
        bag = BagOfWords.load(name, tokenizer)
        steering = SteeringConfig.for_attributes([bag], presets=steering_presets(model), **dial)
        request = {"attributes": [bag], "steering": steering, "seed": options["seed"], "do_sample": True, "top_k": 10}
        texts += generate(
            model, tokenizer, topics.prompts(), **request, max_new_tokens=options["new_tokens"], max_batch_size=20
        )
    return texts


if __name__ == "__main__":
    run_command(dial_table)
