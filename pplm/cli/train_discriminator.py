"""`pplm train-discriminator`: trains a head on labelled texts, writes it with its card, and prints its grades."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from attribute_models import TrainingConfig
from pplm.cli.options import join_processes, model_options
from pplm.files.atomic import check_replaceable
from pplm.files.lock import folder_lock
from pplm.files.progress import progress_bar

if TYPE_CHECKING:
    from attribute_models import LabelledData, TrainedDiscriminator

_DEFAULTS = TrainingConfig()
_LEFT_OUT = "{duplicates} duplicates, {empty} empty, {unlabelled} without a label, {contradictory} under several labels"


@click.command("train-discriminator")
@click.argument("data")
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="Folder for the head: a new one, or that of an earlier head, which is replaced.",
)
@click.option("--text-column", default=None, help="Column with the texts.  [default: text, sentence, review, ...]")
@click.option("--label-column", default=None, help="Column with the labels.  [default: label, class, sentiment, ...]")
@click.option("--config", "data_config", default=None, help="Configuration of a hub data set.")
@click.option("--split", default=None, help="Split of a hub data set; train+validation joins two.  [default: train]")
@model_options
@click.option(
    "--validation-fraction",
    type=float,
    default=_DEFAULTS.validation_fraction,
    show_default=True,
    help="Share of the texts by which the L2 penalty is chosen.",
)
@click.option(
    "--test-fraction",
    type=float,
    default=_DEFAULTS.test_fraction,
    show_default=True,
    help="Share of the texts on which the head is graded.",
)
@click.option(
    "--seed", type=int, default=_DEFAULTS.seed, show_default=True, help="Seed of the split; same seed, same head."
)
@click.option(
    "--random-prefixes",
    type=int,
    default=_DEFAULTS.random_prefixes,
    show_default=True,
    help="Beginnings of random length that each text adds to the training, because steering shows the head only "
    "beginnings; 0 trains on whole texts alone.",
)
@click.option(
    "--no-balance", is_flag=True, help="Weight each label by its number of texts, instead of all labels equally."
)
@click.option(
    "--batch-tokens",
    type=int,
    default=_DEFAULTS.batch_tokens,
    show_default=True,
    help="Tokens read at once; lower it when memory runs out.",
)
@click.option("--citation", default=None, help="Where the texts come from; written into the head's card.")
@click.option(
    "--cache-dir",
    default="default",
    help="Folder of cached features.  [default: features in $PPLM_CACHE, $XDG_CACHE_HOME/pplm or ~/.cache/pplm]",
)
@click.option("--no-cache", is_flag=True, help="Do not read or write cached features.")
def train_command(
    data: str, output: str, model_name: str, device: str, dtype: Any, quantize: Any, **options: Any
) -> None:
    """Train a discriminator on DATA: a csv, tsv, jsonl or parquet file, or a hub data set id.

    The language model reads every text once, and its hidden states are cached, so that a second training takes
    seconds. Prints how good the head is on texts that it was not trained on. Try the head with `pplm classify`, and
    steer with it: `pplm generate --discriminator DIR:LABEL`. Several devices: `accelerate launch -m pplm
    train-discriminator ...`
    """
    import datasets

    from attribute_models import read_labelled, train_discriminator
    from attribute_models.head_files import HEAD_FILES
    from pplm.models.loading import load_model

    datasets.disable_progress_bars()  # they are about reading the file; ours shows the model's reading
    check_replaceable(output, HEAD_FILES)
    config = TrainingConfig(
        validation_fraction=options["validation_fraction"],
        test_fraction=options["test_fraction"],
        seed=options["seed"],
        random_prefixes=options["random_prefixes"],
        balance_classes=not options["no_balance"],
        batch_tokens=options["batch_tokens"],
    )
    labelled = read_labelled(
        data,
        text_column=options["text_column"],
        label_column=options["label_column"],
        config=options["data_config"],
        split=options["split"],
    )
    labelled.split((config.validation_fraction, config.test_fraction), config.seed)  # refused before a model is loaded
    processes, place = join_processes(device)
    model, tokenizer = load_model(model_name, device=place, dtype=dtype, quantize=quantize)
    shown = progress_bar("reading", "texts", shown=processes.main)
    with folder_lock(output, on_main=processes.on_main), shown as on_progress:
        trained = train_discriminator(
            model,
            tokenizer,
            labelled,
            config=config,
            name=Path(output).name,
            citation=options["citation"],
            on_progress=on_progress,
            processes=processes,
            cache_dir=None if options["no_cache"] else options["cache_dir"],
        )
        if processes.main:
            trained.save(output)
    if processes.main:
        for line in _lines(trained, labelled, output):
            click.echo(line)


def _lines(trained: TrainedDiscriminator, data: LabelledData, output: str) -> Iterator[str]:
    report, labels = trained.report, trained.discriminator.labels
    counts = ", ".join(f"{name} {count}" for name, count in report.class_counts.items())
    yield f"{data.source}: {len(data)} texts ({counts})"
    if report.folded_labels:
        joined = ", ".join(f"{spelling!r} {count}" for spelling, count in report.folded_labels.items())
        yield f"labels joined with one that differs only in case or white space: {joined}"
    yield f"left out: {_LEFT_OUT.format(**report.left_out)}; longer than the context and truncated: {report.truncated}"
    yield f"split: {', '.join(f'{name} {count}' for name, count in report.splits.items())}"
    source = "features from the cache" if report.features_from_cache else "features read by the model"
    yield f"{source} in {report.feature_seconds:.1f} s, head fitted in {report.fit_seconds:.1f} s, L2 {report.l2:g}"
    yield ""
    yield f"{'test split':<18}{'accuracy':>9}{'macro-F1':>9}{'ECE':>7}"
    for view, grades in report.test.items():
        yield f"{view:<18}{grades.accuracy:>9.3f}{grades.macro_f1:>9.3f}{grades.calibration_error:>7.3f}"
    yield f"{'most frequent label':<18}{report.majority:>8.3f}"
    yield ""
    yield f"written to {output}; steer with --discriminator {output}:{labels[0]}"
