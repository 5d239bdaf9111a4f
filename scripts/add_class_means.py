"""Add the classes' mean hidden states to a head that was trained without them, from the data it was trained on.

    python scripts/add_class_means.py DATA HEAD_FOLDER --model gpt2-mini

The head itself stays as it is. `pplm evaluate --methods CAA` adds differences of these means.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from attribute_models import read_labelled
from attribute_models.class_means import extract_class_means
from attribute_models.head_files import CARD_FILE, write_class_means
from attribute_models.settings import ClassMeansOptions
from pplm import InputError, load_model
from pplm.models.fingerprint import same_weights, weight_hashes


def main() -> None:
    """Read the arguments, and write the means and the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("head", type=Path)
    parser.add_argument("--model", default="gpt2-mini")
    parser.add_argument("--texts", type=int, default=ClassMeansOptions.texts_per_class, help="texts of each class")
    arguments = parser.parse_args()
    card = json.loads((arguments.head / CARD_FILE).read_text(encoding="utf-8"))
    data, settings = read_labelled(arguments.data), card["settings"]
    if data.fingerprint != card["data"]["fingerprint"] or list(data.labels) != card["labels"]:
        raise InputError(f"{arguments.data} is not the data that {arguments.head} was trained on")
    model, tokenizer = load_model(arguments.model)
    if not same_weights(card["base_model"]["weights"], weight_hashes(model)):
        raise InputError(f"{arguments.head} was not trained on {arguments.model}")
    options = ClassMeansOptions(arguments.texts)
    write_class_means(arguments.head, extract_class_means(model, tokenizer, data, options=options))
    settings["class_mean_texts"] = arguments.texts
    text = json.dumps(card, indent=2, ensure_ascii=False)
    (arguments.head / CARD_FILE).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
