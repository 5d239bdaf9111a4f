"""Try a head: class probabilities of whole texts, pooled as steering pools them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attribute_models.discriminator import Discriminator
from attribute_models.features import extract_features
from attribute_models.settings import FeatureOptions


def classify_texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, discriminator: Discriminator, texts: Sequence[str]
) -> Tensor:
    """Return the probabilities of the head's classes for each text: (N, C).

    Raises
    ------
    InputError
        If a text is empty, or the head was trained on another model and was not loaded with `any_model`.

    """
    head = discriminator.for_model(model)
    features = extract_features(model, tokenizer, texts, options=FeatureOptions((), 0))
    return head.class_logits(features.whole.to(head.weight.device)).softmax(-1)
