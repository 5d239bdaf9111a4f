"""The model card of a trained base model: what it was made from, how, how good it is, and by which command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pplm.pretraining.request import BaseModelReport, BaseModelRequest
from pplm.pretraining.run_folder import StepReport
from pplm.pretraining.settings import TrainingSettings

_RUNNING_MEAN = 50
"""Steps that a reported training loss is the mean of: single steps scatter."""


def card_text(
    request: BaseModelRequest,
    settings: TrainingSettings,
    prepared: Mapping[str, Any],
    model: Any,
    report: BaseModelReport,
) -> str:
    """Return the card in Markdown; licences and limits are for the author to add."""
    config, last = model.config, report.steps[-1]
    weights = sum(parameter.numel() for parameter in model.parameters())
    budget = f"{settings.minutes:g} minutes" if settings.minutes else f"{settings.steps} steps"
    sources = ", ".join(Path(source).name if Path(source).exists() else source for source in request.sources)
    start = f"continued from {_name(request.init)}" if request.init else "from nothing"
    if request.embeddings_from:
        start += f", embeddings from {_name(request.embeddings_from)} (mean over pieces, PCA to {config.n_embd})"
    result = report.validation
    return f"""# {report.output.resolve().name}
A GPT-2 of {weights:,} parameters ({config.n_layer} layers, width {config.n_embd}, {config.n_head} heads,
{config.n_positions} positions, tied embeddings), weights stored in float16, byte-level BPE tokenizer of
{config.vocab_size:,} tokens. Every training document began with `<|endoftext|>`.

| | |
| --- | --- |
| data | {sources}: {prepared["documents"]:,} documents, {prepared["characters"]:,} characters |
| start | {start} |
| run | {budget}: {last.step:,} steps, {last.tokens:,} tokens, {last.seconds / 60:.0f} minutes, {report.precision} |
| recipe | Muon {settings.muon_lr:g} on the body's matrices, AdamW {settings.adamw_lr:g} on the rest; \
warm-up {settings.warmup_steps} steps, linear decay from {settings.plateau:.0%} of the budget to \
{settings.final_lr:.0%}; {settings.tokens_per_step:,} tokens a step in the first half, \
{settings.late_tokens_per_step:,} after; blocks of {settings.block_length} (random position offset on every second \
step), {config.n_positions} in the last tenth |
| loss while training (mean of {_RUNNING_MEAN} steps) | {_curve(report.steps)} |
| validation | {prepared["validation_documents"]:,} documents, {result.characters:,} characters, {result.tokens:,} \
tokens: {result.nats_per_token:.3f} nats a token, perplexity {result.perplexity:.1f}, \
**{result.bits_per_character:.3f} bits per character** |
| licence of the data | *to be filled in by the author* |
| limits | a small model: it knows no facts and can repeat the biases of its data |

```
{request.command or "pplm train-base"}
```
"""


def _name(model: str | None) -> str:
    return Path(model).name if model and Path(model).exists() else str(model)


def _curve(steps: Sequence[StepReport]) -> str:
    """Return the running mean at about eight points of the run."""
    marks = sorted({max(1, round(len(steps) * share / 8)) for share in range(1, 9)})
    points = []
    for mark in marks:
        recent = steps[max(0, mark - _RUNNING_MEAN) : mark]
        mean = sum(report.loss for report in recent) / len(recent)
        points.append(f"{mean:.2f} at {steps[mark - 1].tokens / 1e6:.2f} M tokens")
    return ", ".join(points)
