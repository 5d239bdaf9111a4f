"""Add the classes' mean hidden states to a head that was trained without them, from the data it was trained on.

    python scripts/add_class_means.py DATA HEAD_FOLDER --model gpt2-mini

The head itself stays as it is. `pplm evaluate --methods CAA` adds differences of these means.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from attribute_models import read_labelled
from attribute_models.class_means import extract_class_means
from attribute_models.head_files import CARD_FILE, write_class_means
from attribute_models.settings import ClassMeansOptions
from pplm import InputError, load_model
from pplm.cli import run_command
from pplm.models.fingerprint import same_weights, weight_hashes


@click.command()
@click.argument("data")
@click.argument("head", metavar="HEAD_FOLDER", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--model", "model_name", default="gpt2-mini", show_default=True, help="The model it was trained on.")
@click.option("--texts", default=ClassMeansOptions.texts_per_class, show_default=True, help="At most, of each class.")
def add_class_means(data: str, head: Path, model_name: str, texts: int) -> None:
    """Write the mean hidden states of DATA's classes into HEAD_FOLDER, and their number of texts into its card."""
    card_file = head / CARD_FILE
    if not card_file.is_file():
        raise InputError(f"{head} has no {CARD_FILE}; name the folder of a trained head")
    card = json.loads(card_file.read_text(encoding="utf-8"))
    labelled = read_labelled(data)
    if labelled.fingerprint != card["data"]["fingerprint"] or list(labelled.labels) != card["labels"]:
        raise InputError(f"{data} is not the data that {head} was trained on; give the same file and labels")
    model, tokenizer = load_model(model_name)
    if not same_weights(card["base_model"]["weights"], weight_hashes(model)):
        raise InputError(f"{head} was not trained on {model_name}; name its own model with --model")
    options = ClassMeansOptions(texts)
    write_class_means(head, extract_class_means(model, tokenizer, labelled, options=options))
    card["settings"]["class_mean_texts"] = texts
    card_file.write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(add_class_means)
