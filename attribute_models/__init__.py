"""Attribute models for pplm: what a text is steered towards."""

from typing import TYPE_CHECKING

from pplm.lazy import lazy_names

if TYPE_CHECKING:
    from attribute_models.bag_of_words import BagOfWords
    from attribute_models.classification import classify_texts
    from attribute_models.composition import Avoid
    from attribute_models.discriminator import Discriminator
    from attribute_models.features import Features, extract_features
    from attribute_models.labelled_data import LabelledData, read_labelled
    from attribute_models.settings import FeatureOptions, TrainingConfig
    from attribute_models.training import TrainedDiscriminator, TrainingReport, train_discriminator
    from attribute_models.word_list import read_word_list
    from attribute_models.word_weights import weights_by_probability, weights_by_rarity
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Avoid",
    "BagOfWords",
    "Discriminator",
    "FeatureOptions",
    "Features",
    "LabelledData",
    "TrainedDiscriminator",
    "TrainingConfig",
    "TrainingReport",
    "classify_texts",
    "extract_features",
    "read_labelled",
    "read_word_list",
    "train_discriminator",
    "weights_by_probability",
    "weights_by_rarity",
]
