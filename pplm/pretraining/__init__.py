"""Make a small GPT-2 from text: what the embedded model was made with, for languages and domains of your own."""

from pplm.pretraining.request import BaseModelReport, BaseModelRequest
from pplm.pretraining.run_folder import StepReport
from pplm.pretraining.settings import Architecture, TrainingSettings
from pplm.pretraining.training import train_base_model

__all__ = [
    "Architecture",
    "BaseModelReport",
    "BaseModelRequest",
    "StepReport",
    "TrainingSettings",
    "train_base_model",
]
