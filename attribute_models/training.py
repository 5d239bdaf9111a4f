"""Train a discriminator: one pass over the texts, then a linear head in seconds (paper, section 4.3).

During steering a head sees unfinished texts. So it is trained on whole texts and on beginnings of random length, and
graded on whole texts and on their first tokens.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribute_models.class_means import extract_class_means
from attribute_models.confusion_plot import plot_confusion
from attribute_models.discriminator import Discriminator
from attribute_models.feature_cache import default_cache_dir
from attribute_models.features import Features, extract_features
from attribute_models.grades import Grades, grade
from attribute_models.head_files import HEAD_FILES, PLOT_FILE
from attribute_models.labelled_data import LabelledData
from attribute_models.linear_head import LinearFit, fit_linear_head
from attribute_models.settings import ClassMeansOptions, TrainingConfig
from pplm.files.atomic import atomic_folder
from pplm.files.progress import OnProgress
from pplm.models.fingerprint import identity
from pplm.models.processes import Processes

POOLING = "mean over all positions of the last layer's hidden states, the beginning-of-text token included"
WHOLE = "whole texts"


@dataclass(frozen=True)
class TrainingReport:
    """What a training did, and how good its head is.

    Attributes
    ----------
    splits
        Number of texts by split.
    class_counts
        Number of texts by label.
    left_out
        Rows left out, by reason: empty, unlabelled, duplicates, contradictory; see `LabelledData`.
    folded_labels
        Labels that were read as another one, which differs only in case or white space, with their numbers of rows.
    truncated
        Number of texts longer than the model's context, of which only the beginning was read.
    test
        Grades on the test split, for "whole texts", "first 5 tokens", ...
    majority
        Accuracy on the test split of always predicting its most frequent class.
    l2, validation_losses
        The penalty chosen, and the validation loss of each penalty that was tried.
    features_from_cache
        Whether the features came from the cache on disk, without a pass of the language model.
    feature_seconds, fit_seconds
        Wall-clock time of reading the texts (class means included) and of fitting the head.

    """

    splits: Mapping[str, int]
    class_counts: Mapping[str, int]
    left_out: Mapping[str, int]
    folded_labels: Mapping[str, int]
    truncated: int
    test: Mapping[str, Grades]
    majority: float
    l2: float
    validation_losses: Mapping[float, float]
    features_from_cache: bool
    feature_seconds: float
    fit_seconds: float


@dataclass(frozen=True, eq=False)
class TrainedDiscriminator:
    """A trained head and its report."""

    discriminator: Discriminator
    report: TrainingReport

    def save(self, folder: str | Path) -> None:
        """Write the head's files and, if matplotlib is installed, `confusion.png`: all of them or none.

        Raises
        ------
        InputError
            If the folder cannot be written, or holds anything but an earlier head, which is replaced.

        """
        with atomic_folder(folder, HEAD_FILES) as new:
            self.discriminator.write(new)
            plot_confusion(self.report.test[WHOLE].confusion, self.discriminator.labels, new / PLOT_FILE)


def train_discriminator(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    data: LabelledData,
    *,
    config: TrainingConfig | None = None,
    name: str = "discriminator",
    citation: str | None = None,
    cache_dir: str | Path | None = "default",
    on_progress: OnProgress | None = None,
    processes: Processes | None = None,
) -> TrainedDiscriminator:
    """Train a linear head on the mean hidden states of labelled texts.

    Parameters
    ----------
    model, tokenizer
        As `pplm.load_model` returns them; the model is not changed.
    data
        From `read_labelled` or `LabelledData.from_texts`.
    config
        None takes the defaults.
    name
        Name of the head, for reports.
    citation
        Where the texts come from; written into the card.
    cache_dir
        Folder of cached features; "default" is `features` in the cache (`pplm.models.resources`), None caches nothing.
    on_progress
        Called with (texts read, all texts) while the language model reads them.
    processes
        Processes that share the reading; None is one process.

    Raises
    ------
    InputError
        If a class has too few texts, or hidden states are not finite.

    """
    config = config or TrainingConfig()
    parts = dict(
        zip(
            ("train", "validation", "test"),
            map(torch.from_numpy, data.split((config.validation_fraction, config.test_fraction), config.seed)),
            strict=True,
        )
    )
    started = time.perf_counter()
    reading: dict[str, Any] = {
        "batch_tokens": config.batch_tokens,
        "cache_dir": default_cache_dir() if cache_dir == "default" else cache_dir,
        "processes": processes,
    }
    features = extract_features(
        model, tokenizer, data.texts, options=config.features, on_progress=on_progress, **reading
    )
    means = None
    if config.class_mean_texts:
        options = ClassMeansOptions(config.class_mean_texts)
        means = extract_class_means(model, tokenizer, data, options=options, **reading)
    read = time.perf_counter()
    targets = torch.from_numpy(data.targets)
    fit = fit_linear_head(
        _examples(features, targets, parts["train"]),
        _examples(features, targets, parts["validation"]),
        _class_weights(targets[parts["train"]], len(data.labels), config.balance_classes),
        l2=config.l2,
        max_iterations=config.max_iterations,
    )
    head = Discriminator.from_weights(fit.weight, fit.bias, data.labels, name=name)
    report = TrainingReport(
        splits={part: len(rows) for part, rows in parts.items()},
        class_counts=data.class_counts,
        left_out={reason: getattr(data, reason) for reason in ("empty", "unlabelled", "duplicates", "contradictory")},
        folded_labels=data.folded_labels,
        truncated=features.truncated,
        test=_grade(head, features, targets, parts["test"]),
        majority=torch.bincount(targets[parts["test"]]).max().item() / len(parts["test"]),
        l2=fit.l2,
        validation_losses=fit.validation_losses,
        features_from_cache=features.from_cache,
        feature_seconds=read - started,
        fit_seconds=time.perf_counter() - read,
    )
    card = _card(model, data, config, report, fit, citation)
    return TrainedDiscriminator(replace(head, card=card, class_means=means), report)


def _examples(features: Features, targets: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return one row for each of N whole texts and R random beginnings of it: (N (1 + R), D), and the rows' classes."""
    pieces = torch.cat([features.whole[rows][:, None], features.random[rows]], dim=1)
    return pieces.flatten(0, 1), targets[rows].repeat_interleave(pieces.shape[1])


def _class_weights(targets: Tensor, classes: int, balance: bool) -> Tensor:
    counts = torch.bincount(targets, minlength=classes).float()
    return len(targets) / (classes * counts) if balance else torch.ones(classes)


def _grade(head: Discriminator, features: Features, targets: Tensor, rows: Tensor) -> dict[str, Grades]:
    views = {f"first {n} tokens": features.prefix(n) for n in features.options.prefix_lengths}
    return {
        view: grade(head.class_logits(pooled[rows]).softmax(-1), targets[rows])
        for view, pooled in {**views, WHOLE: features.whole}.items()
    }


def _card(
    model: Any, data: LabelledData, config: TrainingConfig, report: TrainingReport, fit: LinearFit, citation: str | None
) -> dict[str, Any]:
    """Return how the head was made, without dates and paths, so that the same training gives the same card."""
    return {
        "labels": list(data.labels),
        "base_model": {**identity(model), "width": fit.weight.shape[1]},
        "pooling": POOLING,
        "data": {
            "source": data.source,
            "citation": citation,
            "fingerprint": data.fingerprint,
            "texts": len(data),
            "by_label": dict(report.class_counts),
            "splits": dict(report.splits),
            "left_out": dict(report.left_out),
            "folded_labels": dict(report.folded_labels),
            "truncated": report.truncated,
        },
        "test": {view: _rounded(grades) for view, grades in report.test.items()},
        "test_majority_class": round(report.majority, 4),
        "settings": {**asdict(config), "l2": fit.l2, "l2_choices": list(config.l2)},
        "versions": {"python": platform.python_version()}
        | {package: version(package) for package in ("pplm", "torch", "transformers")},
    }


def _rounded(grades: Grades) -> dict[str, Any]:
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in asdict(grades).items()}
