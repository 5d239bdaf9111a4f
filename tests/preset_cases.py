"""Attribute models and a model's own settings, for the tests of presets."""

import torch

from attribute_models import BagOfWords, Discriminator
from pplm import SteeringConfig

BAG = BagOfWords.from_token_ids([1, 2], 10)
HEAD = Discriminator.from_weights(torch.eye(2), torch.zeros(2), ["a", "b"], "a")
OWN = {
    "paper": {"bag_of_words": {"step_size": 0.4}, "mixture": {"step_size": 0.07}},
    "fast": {"bag_of_words": {"step_size": 6.0, "layers": 1, "num_iterations": 1}},
}


def settings(attributes, **given):
    return SteeringConfig.for_attributes(attributes, **given)
