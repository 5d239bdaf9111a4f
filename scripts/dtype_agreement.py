"""What a lower number format does to steering: its losses beside those in float32, on the same texts.

python scripts/dtype_agreement.py --bag space
python scripts/dtype_agreement.py --discriminator sentiment:positive
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import click

from pplm import SteeringConfig, load_model, steering_presets
from pplm.benchmark import Agreement, Deviation, describe_machine, dtype_agreement
from pplm.cli import run_command
from pplm.cli.attributes import attribute_options, load_attributes, take_choice
from pplm.cli.options import comma_list, device_option
from pplm.cli.outputs import FILE, check_outputs, overwrite_option, write_json
from pplm.cli.steering_options import given_steering, steering_options
from pplm.errors import InputError
from pplm.files.tables import markdown_table
from pplm.models.resources import EMBEDDED_MODEL, data_path


@click.command()
@attribute_options
@click.option("--model", "model_name", default=EMBEDDED_MODEL, show_default=True, help="As in pplm generate.")
@device_option
@click.option("--dtype", "dtypes", default="bfloat16,float16", show_default=True, callback=comma_list(str),
              help="Number formats to compare with float32, separated by commas.")  # fmt: skip
@click.option("--prompts", type=click.File(encoding="utf-8"), default=str(data_path("prompts", "topics.txt")),
              help="A text file, one prompt per line.")  # fmt: skip
@click.option("--num-prompts", default=5, show_default=True, help="Use only the first N prompts.")
@click.option("--num-samples", default=2, show_default=True, help="Texts per prompt.")
@click.option("--max-new-tokens", default=30, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_path", type=FILE, default=None, help="Write machine, settings and rows to this file.")
@overwrite_option
@steering_options
def agreement_table(
    model_name: str,
    device: str,
    prompts: TextIO,
    num_prompts: int,
    json_path: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Print a Markdown table of the losses' absolute differences from float32, in nats."""
    choice, given = take_choice(options), given_steering(options)
    check_outputs({"--json": json_path}, overwrite=overwrite)
    model, tokenizer = load_model(model_name, device=device)
    attributes = load_attributes(choice, model, tokenizer)
    if not attributes:
        raise InputError("no attribute given; add --bag space, --discriminator sentiment:positive or another")
    steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model), **given)
    lines = [line.strip() for line in prompts if line.strip()][:num_prompts]
    rows = dtype_agreement(model, tokenizer, lines, attributes, steering=steering, **options)
    click.echo(f"{model_name}, {len(lines)} prompts x {options['num_samples']} samples x "
               f"{options['max_new_tokens']} tokens, {steering}\n")  # fmt: skip
    _show(rows)
    if json_path is not None:
        settings = {"model": model_name, "machine": describe_machine(model.device), "steering": asdict(steering)}
        shown = [{**asdict(row), "median_same_tokens": row.median_same_tokens} for row in rows]
        write_json("--json", json_path, {**settings, "prompts": lines, **options, "rows": shown})


def _show(rows: list[Agreement]) -> None:
    head = ["dtype", "over", "tokens", "attribute loss in float32", "mean difference", "largest", "KL in float32",
            "mean difference", "largest"]  # fmt: skip
    cells = [[row.dtype, row.span, str(row.tokens), *_shown(row.attribute_loss), *_shown(row.kl)] for row in rows]
    click.echo("\n".join([*markdown_table(head, cells), ""]))
    for row in {row.dtype: row for row in rows}.values():
        same = f"{row.median_same_tokens:g} (median; least {min(row.same_tokens)}, most {max(row.same_tokens)})"
        click.echo(f"tokens that {row.dtype} writes before a text differs from float32's: {same}")


def _shown(deviation: Deviation) -> list[str]:
    return [f"{deviation.reference:.3f}", f"{deviation.mean:.2g}", f"{deviation.largest:.2g}"]


if __name__ == "__main__":
    run_command(agreement_table)
