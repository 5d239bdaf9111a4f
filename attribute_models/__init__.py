"""Attribute models for pplm: what a text is steered towards."""

from attribute_models.bag_of_words import BagOfWords
from attribute_models.composition import Avoid
from attribute_models.discriminator import Discriminator
from attribute_models.word_list import read_word_list
from attribute_models.word_weights import weights_by_probability, weights_by_rarity

__all__ = ["Avoid", "BagOfWords", "Discriminator", "read_word_list", "weights_by_probability", "weights_by_rarity"]
