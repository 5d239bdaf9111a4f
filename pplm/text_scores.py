"""How good finished texts are: how likely to have an attribute, and how probable for the language model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pplm.batching import in_batches
from pplm.interface import WeightedAttribute, WholeText
from pplm.products import fast_products
from pplm.text.encoding import mask_arguments, pad_right

_TEXTS_AT_ONCE = 8
"""Texts per forward pass: the logits of all their positions are kept, which take much memory in a large vocabulary."""


@dataclass(frozen=True)
class TextScore:
    """How good a finished text is.

    Attributes
    ----------
    attributes
        How likely each of A attribute models finds that the text has its attribute: minus its `text_loss`, in nats.
    fluency
        How probable the unsteered language model finds the completion: the mean log-probability of its tokens, in nats;
        -inf if it has none. 0 where it was not asked for.

    """

    attributes: tuple[float, ...]
    fluency: float

    def total(self, weights: Sequence[float]) -> float:
        """Return the weighted sum over the attribute models."""
        # 0 times infinity would be NaN.
        return sum(weight * value for value, weight in zip(self.attributes, weights, strict=True) if weight)


def score_texts(
    model: Any,
    mixtures: Sequence[Sequence[WeightedAttribute]],
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    *,
    in_content: Sequence[Sequence[bool] | None] | None = None,
    fluency: bool = True,
) -> list[list[TextScore]]:
    """Score N whole texts by each of several mixtures of attribute models, reading every text once.

    Where memory runs out, fewer texts are read at once; one that does not fit alone scores -inf, with a warning.

    Parameters
    ----------
    model
        The language model, unsteered.
    mixtures
        Attribute models bound to it (`bind_attributes`).
    prompts, completions
        Token ids of N texts, the beginning-of-text token with the prompts.
    in_content
        Which of each prompt's tokens count in the mean hidden state (`Prompt`); None for all of them.
    fluency
        Whether to measure it as well, which takes time in a large vocabulary.

    Returns
    -------
    list of list of TextScore
        For each mixture, N scores. A model of weight 0 is not asked: its score is 0.

    """
    asked = [attribute for attributes in mixtures for attribute in attributes]

    def run(batch: Sequence[tuple[Sequence[int], Sequence[int], Sequence[bool] | None]]) -> list[tuple[float, ...]]:
        text = _read(model, *zip(*batch, strict=True))
        nothing = text.logits.new_zeros(text.logits.shape[0])
        own = [-attribute.text_loss(text) if attribute.weight else nothing for attribute in asked]
        last = _fluency(text) if fluency else nothing
        return list(zip(*(column.tolist() for column in (*own, last)), strict=True))

    rows = list(zip(prompts, completions, in_content or [None] * len(prompts), strict=True))
    found = in_batches(rows, _TEXTS_AT_ONCE, run, without=(-math.inf,) * (len(asked) + 1))
    scores, start = [], 0
    for attributes in mixtures:
        own = slice(start, start + len(attributes))
        scores.append([TextScore(tuple(row[own]), row[-1]) for row in found])
        start += len(attributes)
    return scores


def _fluency(text: WholeText) -> torch.Tensor:
    """Return `TextScore.fluency` of each text, (B,)."""
    new = text.ahead[:, :-1] & text.attention_mask[:, 1:].bool()
    means = text.logits.new_full((len(new),), -torch.inf)
    for row in range(len(new)):  # one at a time, because the log-probabilities take as much memory as the logits
        if places := new[row].nonzero()[:, 0].tolist():
            log_probs = text.logits[row, places].log_softmax(-1)
            tokens = text.input_ids[row, 1:][places]
            means[row] = log_probs.gather(1, tokens[:, None]).mean()
    return means


@torch.no_grad()
def _read(
    model: Any,
    prompts: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    in_content: Sequence[Sequence[bool] | None],
) -> WholeText:
    rows = [[*prompt, *completion] for prompt, completion in zip(prompts, completions, strict=True)]
    input_ids, mask = pad_right(rows, model.device)
    arguments = {"use_cache": False, "output_hidden_states": True, "return_dict": True, **mask_arguments(mask)}
    with fast_products(model):
        outputs = model(input_ids=input_ids, **arguments)
    prompt_lengths = torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    content_mask = None
    if any(own is not None for own in in_content):
        content_mask = mask.clone()
        for row, own in zip(content_mask, in_content, strict=True):
            if own is not None:
                row[: len(own)] = torch.tensor(own, device=model.device)
    return WholeText(input_ids, mask, prompt_lengths, outputs.logits.float(), outputs.hidden_states[-1], content_mask)
