"""A linear discriminator on the text's mean hidden state (paper, section 4.3).

The loss is the cross-entropy of the wanted class. A head belongs to the language model whose hidden states it reads,
because its weights mean nothing on any other. For how heads are stored see `attribute_models.head_files`.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as serialize
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from transformers import PreTrainedModel

from attribute_models.head_files import (
    CARD_FILE,
    HEAD_FILES,
    WEIGHTS_FILE,
    check_family,
    find_head,
    read_class_means,
    read_head,
    read_published,
    write_class_means,
)
from pplm.errors import InputError, SteeringWarning
from pplm.files.atomic import atomic_folder
from pplm.interface import SteeringStep, WholeText
from pplm.models.fingerprint import public_name, relation, relative_note, same_weights, weight_hashes


@dataclass(frozen=True, eq=False, repr=False)
class Discriminator:
    """A linear head over C classes, and the class that the text is steered towards.

    Attributes
    ----------
    weight, bias
        (C, D) and (C,), float32.
    labels
        The C class names.
    label
        The wanted class; None for a head that only classifies.
    name
        For reports.
    card
        The content of `card.json`.
    any_model
        Accept language models that the head was not trained on.
    others
        Heads of the same name and labels that were trained on other language models; `for_model` takes the one that
        belongs to the model.
    class_means
        (C, L, D) float32: the classes' mean hidden states after each of L layers, for `steering_vectors`; None for a
        head without them.

    """

    weight: Tensor
    bias: Tensor
    labels: tuple[str, ...]
    label: str | None = None
    name: str = "discriminator"
    card: Mapping[str, Any] = field(default_factory=dict)
    any_model: bool = False
    others: tuple[Discriminator, ...] = ()
    class_means: Tensor | None = None

    steering_kind = "discriminator"
    reads_logits = False

    def __post_init__(self) -> None:
        """Check that shapes, labels and values fit together."""
        classes = len(self.labels)
        if self.weight.dim() != 2 or self.weight.shape[0] != classes or self.bias.shape != (classes,):
            raise InputError(
                f"{self.name}: {classes} labels need weight ({classes}, D) and bias ({classes},); got "
                f"{tuple(self.weight.shape)} and {tuple(self.bias.shape)}"
            )
        if classes < 2 or len(set(self.labels)) != classes:
            raise InputError(f"{self.name}: labels must be at least two different names; got {list(self.labels)}")
        if not (self.weight.isfinite().all() and self.bias.isfinite().all()):
            raise InputError(f"{self.name}: weight or bias is not finite; train the head again")
        if self.label is not None and self.label not in self.labels:
            raise InputError(f"{self.name} has no label {self.label!r}; choose one of {', '.join(self.labels)}")
        means = self.class_means
        if means is not None and (means.dim() != 3 or means.shape[::2] != self.weight.shape):
            raise InputError(
                f"{self.name}: class_means must be ({classes}, L, {self.weight.shape[1]}); got {tuple(means.shape)}"
            )

    def __repr__(self) -> str:
        """Name the head, its labels, width and models instead of printing its weights."""
        models = [(head.card.get("base_model") or {}).get("name") for head in (self, *self.others)]
        trained_on = f", trained on {', '.join(map(str, models))}" if any(models) else ""
        labels = f"labels {', '.join(self.labels)}, label {self.label}"
        return f"Discriminator({self.name!r}, {labels}, width {self.weight.shape[1]}{trained_on})"

    @classmethod
    def from_weights(
        cls,
        weight: Tensor,
        bias: Tensor,
        labels: Sequence[str],
        label: str | int | None = None,
        *,
        name: str = "discriminator",
    ) -> Discriminator:
        """Make a head from tensors.

        Parameters
        ----------
        weight, bias
            (C, D) and (C,).
        labels
            C class names.
        label
            The wanted class, by name or by number; None for a head that only classifies.

        """
        names = tuple(str(item) for item in labels)
        if isinstance(label, int | np.integer):
            if not 0 <= label < len(names):
                raise InputError(f"{name} has no class {label}; choose 0 to {len(names) - 1}")
            label = names[int(label)]
        return cls(torch.as_tensor(weight).float(), torch.as_tensor(bias).float(), names, label, name)

    @classmethod
    def load(cls, name_or_path: str | Path, label: str | None = None, *, any_model: bool = False) -> Discriminator:
        """Load a head from its folder, a family of heads from the folder that holds theirs, or a shipped one by name.

        A family has one head for each of several language models, and `for_model` takes the model's own. Every shipped
        name is a family.

        Parameters
        ----------
        name_or_path
            A folder that holds a head, or subfolders with one each; or "sentiment", "clickbait", "subjectivity".
        label
            The wanted class; None for a head that only classifies.
        any_model
            Accept language models that the head was not trained on.

        Raises
        ------
        InputError
            If there is no such head, its files are damaged, it has no such label, or the heads of a family have
            different labels or do not name their models.

        """
        name, folders = find_head(name_or_path)
        heads = []
        for folder in folders:
            weight, bias, labels, card = read_head(folder)
            means = read_class_means(folder)
            heads.append(cls(weight, bias, labels, label, name, card, any_model, class_means=means))
        check_family(name, folders, [head.labels for head in heads], [head.card for head in heads])
        return replace(heads[0], others=tuple(heads[1:]))

    @classmethod
    def from_pt(cls, path: str | Path, labels: Sequence[str], label: str | None = None) -> Discriminator:
        """Load a published `.pt` head: a state dict with `mlp.weight` (C, D) and `mlp.bias` (C,).

        Parameters
        ----------
        path
            The file. Only tensors are read from it; a file that holds code is refused.
        labels
            The C class names in the order of the published vocabulary, which the file does not hold.
        label
            The wanted class; None for a head that only classifies.

        Raises
        ------
        InputError
            If the file cannot be read, is not such a state dict, or the labels do not fit it.

        """
        path = Path(path).expanduser()
        weight, bias = read_published(path)
        if not labels:
            raise InputError(f"head {path} has {len(bias)} classes without names; name them with labels (--labels)")
        return cls.from_weights(weight, bias, labels, label, name=path.stem)

    def save(self, folder: str | Path) -> None:
        """Write the head's files (`attribute_models.head_files`) into a folder: all of them or, on failure, none.

        Raises
        ------
        InputError
            If the folder cannot be written or holds anything but an earlier head, which is replaced; or if this is a
            family.

        """
        if self.others:
            raise InputError(
                f"{self.name} stands for heads of several models; save your model's: head.for_model(model).save(...)"
            )
        with atomic_folder(folder, HEAD_FILES) as new:
            self.write(new)

    def write(self, folder: Path) -> None:
        """Write the files into an existing folder, one by one; `save` writes all or none."""
        tensors = {"weight": self.weight.contiguous(), "bias": self.bias.contiguous()}
        (folder / WEIGHTS_FILE).write_bytes(serialize(tensors))  # save_file would make it readable by its owner alone
        card = {"labels": list(self.labels), **{k: v for k, v in self.card.items() if k != "labels"}}
        text = json.dumps(card, indent=2, ensure_ascii=False, default=methodcaller("item"))  # numbers of NumPy
        (folder / CARD_FILE).write_text(text + "\n", encoding="utf-8")
        if self.class_means is not None:
            write_class_means(folder, self.class_means)

    def for_model(self, model: PreTrainedModel) -> Discriminator:
        """Return the head on the model's device, or refuse a language model that it was not trained on.

        Of a head whose card names no weights (`from_weights`, `from_pt`) only the width is checked. Of a family
        (`others`) the model's own head is taken or, with a warning, that of a relative (`pplm.models.fingerprint`).

        Raises
        ------
        InputError
            Naming both models, or the models that the family has heads for.

        """
        if self.others:
            return self._of_family(model).for_model(model)
        base = self.card.get("base_model") or {}
        trained_on = f"trained on {base['name']}" if base.get("name") else "made for another model"
        width = model.get_input_embeddings().weight.shape[1]
        if width != self.weight.shape[1]:
            raise InputError(
                f"{self.name} was {trained_on}, with hidden states of width {self.weight.shape[1]}; those of "
                f"{public_name(model)} are {width} wide; train a head for this model"
            )
        if self.any_model or not base.get("weights") or same_weights(base["weights"], weight_hashes(model)):
            return replace(self, weight=self.weight.to(model.device), bias=self.bias.to(model.device))
        raise InputError(
            f"{self.name} was {trained_on} (weights {base['weights'].get('float32')}); this model is "
            f"{public_name(model)} (weights {weight_hashes(model)['float32']}); train a head for this model, or use "
            "any_model (--any-model) if you know that they are close relatives"
        )

    def _of_family(self, model: PreTrainedModel) -> Discriminator:
        """Return the family's head for the model, with the same wanted class."""
        heads = [replace(head, others=(), label=self.label) for head in (self, *self.others)]
        relations = [relation(head.card["base_model"], model) for head in heads]
        if "same" in relations:
            return heads[relations.index("same")]
        names = [head.card["base_model"]["name"] for head in heads]
        if "relative" in relations:
            number = relations.index("relative")
            warnings.warn(
                f"{self.name} was {relative_note(names[number], model)}",
                SteeringWarning,
                stacklevel=4,
            )
            return replace(heads[number], any_model=True)
        width = model.get_input_embeddings().weight.shape[1]
        fitting = [head for head in heads if head.any_model and head.weight.shape[1] == width]
        if fitting:
            return fitting[0]
        raise InputError(
            f"{self.name} has no head for {public_name(model)}, only for {', '.join(names)}; use one of these models, "
            "or train a head for yours (pplm train-discriminator)"
        )

    def towards(self, label: str) -> Discriminator:
        """Return the same head with another wanted class."""
        return replace(self, label=label)

    def steering_vectors(self) -> Tensor:
        """Return for each layer the wanted class's mean hidden state minus the mean of the others': (L, D), float32.

        Raises
        ------
        InputError
            If the head has no wanted class, or no mean hidden states.

        """
        wanted = self._wanted()
        if self.class_means is None:
            source = (self.card.get("data") or {}).get("source") or "DATA"
            base = (self.card.get("base_model") or {}).get("name") or "MODEL"
            raise InputError(
                f"{self.name} holds no mean hidden states of its classes; make them by training it again: pplm "
                f"train-discriminator {source} --model {base} --output DIR"
            )
        others = [number for number in range(len(self.labels)) if number != wanted]
        return self.class_means[wanted] - self.class_means[others].mean(0)

    def class_logits(self, hidden_state: Tensor) -> Tensor:
        """Return class logits (B, C) of mean hidden states (B, D)."""
        if hidden_state.shape[-1] != self.weight.shape[1]:
            raise InputError(
                f"{self.name} was trained on hidden states of width {self.weight.shape[1]}, the model's are "
                f"{hidden_state.shape[-1]} wide; train a head for this model"
            )
        # Copies, because tensors made in inference mode cannot take part in autograd.
        weight, bias = self.weight.to(hidden_state.device, copy=True), self.bias.to(hidden_state.device, copy=True)
        return linear(hidden_state.float(), weight, bias)

    def loss(self, step: SteeringStep) -> Tensor:
        """Return -log p(label | text so far and its expected future): (B,), in nats."""
        return self._cross_entropy(step.mean_hidden_state)

    def text_loss(self, text: WholeText) -> Tensor:
        """Return -log p(label | whole text): (B,), in nats."""
        return self._cross_entropy(text.mean_hidden_state)

    def _cross_entropy(self, hidden_state: Tensor) -> Tensor:
        """Return -log p(label) (B,) from mean hidden states (B, D)."""
        wanted, logits = self._wanted(), self.class_logits(hidden_state)
        targets = torch.full(logits.shape[:1], wanted, device=logits.device)
        return cross_entropy(logits, targets, reduction="none")

    def _wanted(self) -> int:
        if self.label is None:
            raise InputError(f"{self.name} has no wanted class; choose one of {', '.join(self.labels)}")
        return self.labels.index(self.label)
