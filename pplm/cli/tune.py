"""`pplm tune`: find the settings that suit a model, and keep them for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pplm.cli.attributes import attribute_options, load_attributes, take_choice
from pplm.cli.options import budget_options, join_processes, model_options
from pplm.cli.outputs import FILE, FOLDER, check_outputs, overwrite_option
from pplm.comparison.budget import Budget
from pplm.errors import InputError
from pplm.files.progress import progress_bar
from pplm.tuning.settings import TuneSettings


@click.command("tune")
@click.option(
    "--strength",
    type=float,
    default=TuneSettings.strength,
    show_default=True,
    help="How strongly all candidates steer (above 0, at most 1); lowered if that exceeds --budget or --repeat-budget.",
)
@click.option("--texts", type=int, default=TuneSettings.texts, show_default=True, help="Texts per candidate, at most.")
@click.option(
    "--minutes",
    type=float,
    default=TuneSettings.minutes,
    show_default=True,
    help="Limit in minutes; lowering --strength may take a quarter more. If it ends the comparison early, another run "
    "can choose differently.",
)
@click.option(
    "--new-tokens", type=int, default=TuneSettings.new_tokens, show_default=True, help="Length of a text, in tokens."
)
@click.option(
    "--prompts",
    type=FILE,
    default=None,
    metavar="FILE",
    help="Prompts, one per line.  [default: 20 neutral openings]",
)
@click.option(
    "--judge",
    "judge_name",
    default=None,
    metavar="MODEL",
    help="Another language model, which judges perplexity: a hub id, a folder or a .gguf file.  [default: none; "
    "fluency is then measured by repeated words alone]",
)
@budget_options
@click.option(
    "--seed", type=int, default=TuneSettings.seed, show_default=True, help="The same seed gives the same texts."
)
@click.option(
    "--max-batch-size",
    type=int,
    default=TuneSettings.max_batch_size,
    show_default=True,
    help="Texts generated at once; lower it when memory runs out.",
)
@click.option(
    "--output",
    type=FOLDER,
    default=None,
    metavar="FOLDER",
    help="Write the settings to steering.json in this folder, such as that of the model.  [default: the user's cache, "
    "where every command finds them for these weights]",
)
@click.option("--no-save", is_flag=True, help="Only print the table and the choice.")
@attribute_options
@overwrite_option
@model_options
def tune_command(
    model_name: str,
    device: str,
    dtype: Any,
    quantize: Any,
    judge_name: str | None,
    output: Path | None,
    no_save: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Find the settings with which a model shows most of an attribute, and keep them for it.

    Takes some minutes to compare how many layers to move, and in how many iterations, at the same --strength. Prints
    a table and the choice. Later commands with this model and this kind of attribute (bags, words to avoid,
    discriminators, or these together) start from it.
    """
    from pplm.comparison.attributes import AttributeSet
    from pplm.evaluation.perplexity_judge import PerplexityJudge
    from pplm.models.loading import load_model
    from pplm.models.presets_file import preset_path, tuned_presets
    from pplm.tuning import tune, tuning_report

    choice = take_choice(options)
    if not choice.names_any:
        raise InputError("tune needs an attribute; add --bag space, or --discriminator sentiment:positive")
    if no_save and output is not None:
        raise InputError(f"--no-save keeps nothing; leave it out, or --output {output}")
    check_outputs({"--save-bag": choice.save_bag}, overwrite=overwrite)
    options["budget"] = Budget(options["budget"], options.pop("repeat_budget"))
    file = options.pop("prompts")
    if file is not None:
        options["prompts"] = AttributeSet({}, None).prompts(file)
    settings = TuneSettings(**options)
    processes, place = join_processes(device)
    if processes.count > 1:
        raise InputError("pplm tune runs in one process; start it without accelerate launch")
    model, tokenizer = load_model(model_name, device=place, dtype=dtype, quantize=quantize)
    if not no_save:
        preset_path(model, output)  # refuses now a place that could not be written later
    judge = None if judge_name is None else PerplexityJudge.load(judge_name, device=place)
    attributes = load_attributes(choice, model, tokenizer)
    with progress_bar("tuning") as on_progress:
        found = tune(model, tokenizer, attributes, settings, judge=judge, on_progress=on_progress)
    click.echo(tuning_report(found))
    if no_save:
        return
    if not found.within_budget:
        raise InputError(
            "nothing is saved: no strength that was tried stays within the budget; start from a lower --strength, or "
            "raise --budget or --repeat-budget"
        )
    click.echo(f"written to {found.save(model, output)}; delete it to forget the choice", err=True)
    if output is not None and found.kind in tuned_presets(model).fast:
        click.echo(f"settings tuned earlier come first: delete {preset_path(model)} to use the new ones", err=True)
