"""Make a small GPT-2 from text: what the embedded model was made with, for languages and domains of your own."""

from pplm.pretraining.request import BaseModelReport, BaseModelRequest
from pplm.pretraining.settings import Architecture, TrainingSettings
from pplm.pretraining.training import train_base_model
from pplm.pretraining.training_folder import StepReport

__all__ = [
    "Architecture",
    "BaseModelReport",
    "BaseModelRequest",
    "StepReport",
    "TrainingSettings",
    "train_base_model",
]
