"""The model card of a trained base model: data, recipe, results and command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pplm.files.tables import markdown_table
from pplm.models.resources import local_path
from pplm.pretraining.request import BaseModelReport, BaseModelRequest
from pplm.pretraining.settings import TrainingSettings
from pplm.pretraining.training_folder import StepReport

RUNNING_MEAN = 50
"""Number of steps over which a reported training loss is averaged, because single steps scatter."""
_POINTS = 8
"""Number of training losses that the card reports."""


def card_text(
    request: BaseModelRequest,
    settings: TrainingSettings,
    prepared: Mapping[str, Any],
    model: Any,
    report: BaseModelReport,
    *,
    training_tokens: int,
) -> str:
    """Return the card in Markdown; licences and limits are for the author to add.

    Parameters
    ----------
    request, settings
        What was asked for.
    prepared
        The training folder's request: sizes of the corpus, and the command that began the run.
    model, report
        The trained model and its report.
    training_tokens
        Length of the training text; the run may have read it several times or only in part.

    """
    config = model.config
    weights = sum(parameter.numel() for parameter in model.parameters())
    tied = "tied" if config.tie_word_embeddings else "untied"
    sources = ", ".join(_name(source) for source in request.sources)
    rows = {
        "data": f"{sources}: {prepared['documents']:,} documents, {prepared['characters']:,} characters, "
        f"{training_tokens:,} tokens",
        "start": _start(request, config.n_embd),
        "run": _run(settings, report, training_tokens),
        "recipe": _recipe(settings, config.n_positions),
        f"loss while training (mean of {RUNNING_MEAN} steps, tokens read)": _curve(report.steps),
        "validation": f"{prepared['validation_documents']:,} documents, {_result(report)}",
        "licence of the data": "*to be filled in by the author*",
        "limits": "a small model: it has no reliable facts and can repeat the biases of its data",
    }
    table = "\n".join(markdown_table(("", ""), rows.items()))
    return (
        f"# {report.output.resolve().name}\n"
        f"A GPT-2 of {weights:,} parameters ({config.n_layer} layers, width {config.n_embd}, {config.n_head} heads, "
        f"{config.n_positions} positions, {tied} embeddings), weights stored in float16, vocabulary of "
        f"{config.vocab_size:,} tokens. Every training document began with the beginning-of-text token "
        f"(id {config.bos_token_id}).\n\n"
        f"{table}\n\n"
        f"```\n{prepared.get('command') or request.command or 'pplm train-base'}\n```\n"
    )


def _start(request: BaseModelRequest, width: int) -> str:
    start = f"continued from {_name(request.init)}" if request.init else "random weights"
    if request.tokenizer:
        start += f", tokenizer of {_name(request.tokenizer)}"
    if request.embeddings_from:
        start += f", embeddings from {_name(request.embeddings_from)} (mean over pieces, PCA to {width})"
    return start


def _run(settings: TrainingSettings, report: BaseModelReport, training_tokens: int) -> str:
    last = report.steps[-1]
    budget = f"{settings.minutes:g} minutes" if settings.minutes else f"{settings.steps:,} steps"
    time = f"{last.seconds / 60:.0f} minutes" if last.seconds >= 120 else f"{last.seconds:.0f} seconds"
    return (
        f"budget {budget}; took {last.step:,} steps, {last.tokens:,} tokens ({last.tokens / training_tokens:.2f} "
        f"epochs), {time}, {report.precision}"
    )


def _recipe(settings: TrainingSettings, num_positions: int) -> str:
    blocks = f"blocks of {num_positions}"
    if settings.block_length < num_positions:
        blocks = (
            f"blocks of {settings.block_length} (random position offset on every second step), {num_positions} in the "
            "last tenth"
        )
    return (
        f"Muon {settings.muon_lr:g} on the body's matrices, AdamW {settings.adamw_lr:g} (betas .9, .95) on the rest; "
        f"warm-up {settings.warmup_steps} steps, linear decay from {settings.plateau:.0%} of the budget to "
        f"{settings.final_lr:.0%}; {settings.tokens_per_step:,} tokens per step in the first half, "
        f"{settings.late_tokens_per_step:,} after; {blocks}; weight decay {settings.weight_decay:g}; gradient norm "
        f"at most {settings.max_grad_norm or 'anything'}; seed {settings.seed}"
    )


def _result(report: BaseModelReport) -> str:
    found = report.validation
    return (
        f"{found.characters:,} characters, {found.tokens:,} tokens: {found.nats_per_token:.3f} nats per token, "
        f"perplexity {found.perplexity:.1f}, **{found.bits_per_character:.3f} bits per character**"
    )


def _curve(steps: Sequence[StepReport]) -> str:
    """Return the running mean of the training loss at a few points of the run."""
    marks = sorted({max(1, round(len(steps) * share / _POINTS)) for share in range(1, _POINTS + 1)})
    points = []
    for mark in marks:
        recent = steps[max(0, mark - RUNNING_MEAN) : mark]
        mean = sum(report.loss for report in recent) / len(recent)
        points.append(f"{mean:.2f} at {steps[mark - 1].tokens:,}")
    return ", ".join(points)


def _name(source: str | Path | None) -> str:
    """Return a file's or folder's name without its place on somebody's disk; a name on the hub as it is."""
    return str(source) if source is None or local_path(source) is None else Path(source).name
