"""`pplm classify`: the class probabilities that a head gives to texts."""

from __future__ import annotations

from typing import Any

import click

from attribute_models.naming import load_head
from pplm.cli.attributes import head_options
from pplm.cli.options import model_options


@click.command("classify")
@click.argument("texts", nargs=-1, required=True, metavar="TEXT...")
@click.option(
    "--discriminator",
    "name",
    required=True,
    metavar="DIR",
    help="A trained head: its folder, a folder of such folders, a shipped one (sentiment, clickbait, subjectivity) "
    "or a .pt file.",
)
@head_options
@model_options
def classify_command(
    texts: tuple[str, ...], name: str, labels: str | None, any_model: bool, model_name: str, **placement: Any
) -> None:
    """Print the probability of every label for each TEXT, the likeliest first."""
    from attribute_models import classify_texts
    from pplm.models.loading import load_model

    head = load_head(name, None, labels=labels, any_model=any_model)
    model, tokenizer = load_model(model_name, **placement)
    for text, row in zip(texts, classify_texts(model, tokenizer, head, texts).tolist(), strict=True):
        ranked = sorted(zip(row, head.labels, strict=True), reverse=True)
        click.echo(f"{'  '.join(f'{label} {share:.3f}' for share, label in ranked)}  |  {' '.join(text.split())}")
