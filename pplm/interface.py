"""What an attribute model is, and what it reads: a step before each new token, and a finished text.

Any object with a method `loss(step) -> (B,)` is an attribute model; it need not be registered or inherit anything.
"""

from __future__ import annotations

import math
import reprlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real
from typing import Any, Protocol, runtime_checkable
from weakref import ref

import torch
from torch import Tensor

from pplm.attached import attached
from pplm.checks import check_range
from pplm.errors import InputError
from pplm.pooling import PooledHidden
from pplm.short_repr import ShortRepr


@dataclass(frozen=True, repr=False)
class SteeringStep(ShortRepr):
    """The texts so far and what the steered model predicts for them, at one iteration before one new token.

    Attributes
    ----------
    input_ids
        (B, T) token ids so far, left-padded.
    attention_mask
        (B, T) bool, False on padding.
    logits
        (B, V) float32, steered logits of the next token; differentiable. (B, 0) if neither the steering nor any
        attribute model needs them.
    pool
        Computes `mean_hidden_state`; called only when that is read, because a look-ahead costs a pass.

    """

    input_ids: Tensor
    attention_mask: Tensor
    logits: Tensor
    pool: Callable[[], Tensor]

    @cached_property
    def log_probs(self) -> Tensor:
        """(B, V) log-probabilities of the next token; differentiable."""
        if self.logits.shape[1] == 0:
            raise InputError(
                "an attribute model with reads_logits = False reads log_probs; remove reads_logits from it"
            )
        return self.logits.log_softmax(-1)

    @cached_property
    def mean_hidden_state(self) -> Tensor:
        """(B, D) mean last-layer hidden state of the text and its expected future; differentiable.

        In a conversation the messages' contents and the answer count; the chat template's own tokens do not.

        The expected future consists of `horizon_length` positions, each fed the expected embedding under the
        distribution before it (paper, section 3.2, footnote on the discriminator's future step).
        """
        return self.pool()


@dataclass(frozen=True, repr=False)
class WholeText(ShortRepr):
    """Finished texts and what the unsteered language model computes for them.

    Attributes
    ----------
    input_ids
        (B, T) token ids of prompts and completions, padded on the right.
    attention_mask
        (B, T) bool, False on padding.
    prompt_lengths
        (B,) number of tokens in each prompt.
    logits
        (B, T, V) float32; at each position, those of the token after it.
    hidden_states
        (B, T, D), last layer.
    content_mask
        (B, T) bool: which positions count in the mean hidden state; None if all real ones do. A chat template's own
        tokens do not count.

    """

    input_ids: Tensor
    attention_mask: Tensor
    prompt_lengths: Tensor
    logits: Tensor
    hidden_states: Tensor
    content_mask: Tensor | None = None

    @cached_property
    def ahead(self) -> Tensor:
        """(B, T) bool: the positions from each prompt's last token on, whose distributions predict new tokens."""
        positions = torch.arange(self.input_ids.shape[1], device=self.input_ids.device)
        return self.attention_mask & (positions >= self.prompt_lengths[:, None] - 1)

    @cached_property
    def log_probs(self) -> Tensor:
        """(B, T, V) log-probabilities of the next token after each position."""
        return self.logits.log_softmax(-1)

    @cached_property
    def mean_hidden_state(self) -> Tensor:
        """(B, D) mean last-layer hidden state of the whole text, its prompt included."""
        mask = self.attention_mask if self.content_mask is None else self.content_mask & self.attention_mask
        return PooledHidden.of(self.hidden_states, mask).mean


@runtime_checkable
class AttributeModel(Protocol):
    """Something that measures, differentiably, how much a text lacks an attribute.

    Optional members:

    - `name`: a str, for reports.
    - `steering_kind`: "bag_of_words" (the default), "avoidance" or "discriminator"; which of the presets' settings
      suit it (`pplm.presets`).
    - `for_model(model)`: called once before decoding; returns the attribute model to use with this language model, or
      raises `InputError`.
    - `tokenizer_fingerprint`: fingerprint (`pplm.models.fingerprint`) of the tokenizer whose token ids it uses; with
      any other tokenizer it is refused.
    - `may_be_idle`: True if it is fine that it never acts on a text, as when what it avoids does not occur; there is
      then no warning.
    - `avoids`: True if the loss is -log(1 - p), p being the probability of what is to be avoided; a target
      (`SteeringConfig.target`) is then an upper bound of p.
    - `reads_logits`: False if `loss` reads the mean hidden state alone; without look-ahead and KL term, steering then
      skips the language-model head.
    - `text_loss(text)`: returns -log p(attribute | whole text), (B,), for a `WholeText`; candidates are ranked by it
      (`Rerank`).
    - `for_explanation(model)`: for `pplm.explain`; returns it word by word (`pplm.explanation.measuring.ReadsWords`),
      even if `for_model` refuses the model.
    - `words_in(token_ids, texts, before)`: for traces; returns which of a text's tokens are part of the attribute's
      words, one bool each, given what each token adds to the text (`texts`) and the text before them.
    - `token_ids`, `steering_vectors()`, `label`: for the rivals of steering (`pplm.comparison.rivals`); tokens to
      raise, one vector (D,) per layer to add to its hidden states, and the wanted class in a word.
    """

    def loss(self, step: SteeringStep) -> Tensor:
        """Return -log p(attribute | text), or anything else to be lowered, per sample: (B,).

        Infinity means that the model cannot act on a sample at this token; only the other attribute models then do.
        """
        ...


@dataclass(frozen=True)
class WeightedAttribute:
    """An attribute model in a mixture: the mixture's loss is the sum of `weight * model.loss(step)`.

    `bound_to` refers to the language model that the attribute model was adapted to (`bind_attributes`), if any.
    """

    name: str
    model: AttributeModel
    weight: float
    bound_to: ref[Any] | None = None

    def loss(self, step: SteeringStep) -> Tensor:
        """Return the model's own loss (B,), unweighted, checked for its shape."""
        loss = self.model.loss(step)
        expected = (step.logits.shape[0],)
        if loss.shape != expected:
            raise InputError(
                f"attribute model {self.name!r}: loss(step) must return one value per sample, shape {expected}; got "
                f"{tuple(loss.shape)}"
            )
        # The KL term has a gradient of its own, so a loss without one would go unnoticed.
        if step.logits.requires_grad and not loss.requires_grad:
            raise InputError(
                f"attribute model {self.name!r}: loss(step) must keep the autograd graph to step.logits or "
                "step.mean_hidden_state; leave out detach(), no_grad() and argmax()"
            )
        return loss

    def bound(self, model: Any, tokenizer: str | None = None) -> WeightedAttribute:
        """Return the attribute with its model adapted to a language model: see `bind_attributes`."""
        if self.bound_to is not None and self.bound_to() is model:
            return self
        for known in (tokenizer, attached(model).tokenizer):
            check_tokenizer(f"attribute {self.name!r}", getattr(self.model, "tokenizer_fingerprint", None), known)
        adapt = getattr(self.model, "for_model", None)
        return replace(self, model=self.model if adapt is None else adapt(model), bound_to=ref(model))

    @property
    def reads_texts(self) -> bool:
        """Whether the model can measure how likely a finished text is to have the attribute (`text_loss`)."""
        return callable(getattr(self.model, "text_loss", None))

    def text_loss(self, text: WholeText) -> Tensor:
        """Return the model's own loss of whole texts (B,), unweighted, checked for its shape."""
        loss = self.model.text_loss(text)  # type: ignore[attr-defined]
        expected = (text.input_ids.shape[0],)
        if loss.shape != expected or loss.isnan().any():
            raise InputError(
                f"attribute model {self.name!r}: text_loss(text) must return one value per text, shape {expected}; got "
                f"{tuple(loss.shape)}{' with some that are not numbers' if loss.shape == expected else ''}"
            )
        return loss


def check_tokenizer(what: str, made_with: str | None, tokenizer: str | None) -> None:
    """Refuse what was made with another tokenizer than the model's, comparing fingerprints; None means unknown.

    Raises
    ------
    InputError
        If both are known and differ; the message begins with `what`.

    """
    if None not in (made_with, tokenizer) and made_with != tokenizer:
        raise InputError(
            f"{what} was made with another tokenizer than the model's; make it again with the tokenizer that belongs "
            "to the model"
        )


def weigh_attributes(
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]],
) -> tuple[WeightedAttribute, ...]:
    """Bring attribute models and (model, weight) pairs into one form, with distinct names.

    Raises
    ------
    InputError
        If something has no `loss` method, or a weight is negative, not finite or larger than float32 holds.

    """
    if isinstance(attributes, AttributeModel) or not isinstance(attributes, Iterable):  # one alone
        attributes = [attributes]
    weighted = []
    seen: Counter[str] = Counter()
    for item in attributes:
        if isinstance(item, WeightedAttribute):
            weighted.append(item)
            seen[item.name] += 1
            continue
        model, weight = item if isinstance(item, tuple) and len(item) == 2 else (item, 1.0)
        if isinstance(model, type) or not isinstance(model, AttributeModel):
            kind = "the class" if isinstance(model, type) else type(model).__name__
            raise InputError(
                f"attributes must be objects that have a method loss(step); got {kind} {reprlib.repr(model)}"
            )
        name = getattr(model, "name", type(model).__name__)
        if not (isinstance(weight, Real) and 0 <= weight < math.inf):
            raise InputError(f"the weight of attribute {name!r} must be a finite number of at least 0; got {weight!r}")
        check_range(f"the weight of attribute {name!r}", weight, 0)
        seen[name] += 1
        weighted.append(WeightedAttribute(name if seen[name] == 1 else f"{name}#{seen[name]}", model, float(weight)))
    return tuple(weighted)


def bind_attributes(
    attributes: Sequence[WeightedAttribute], model: Any, *, tokenizer: str | None = None
) -> tuple[WeightedAttribute, ...]:
    """Let every attribute model adapt itself to the language model (`for_model`), unless it is already bound to it.

    Parameters
    ----------
    tokenizer
        Fingerprint of the tokenizer in use. Attribute models are also checked against the tokenizer that was loaded
        with the model.

    Raises
    ------
    InputError
        If an attribute model refuses the language model, or was made with another tokenizer.

    """
    return tuple(attribute.bound(model, tokenizer) for attribute in attributes)
