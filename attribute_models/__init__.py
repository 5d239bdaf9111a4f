"""Attribute models for pplm: what a text is steered towards."""

from attribute_models.bag_of_words import BagOfWords
from attribute_models.discriminator import Discriminator

__all__ = ["BagOfWords", "Discriminator"]
