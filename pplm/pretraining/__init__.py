"""Make a small GPT-2 from text: what the embedded model was made with, for languages and domains of your own."""

from typing import TYPE_CHECKING

from pplm.lazy import lazy_names

if TYPE_CHECKING:
    from pplm.pretraining.request import BaseModelReport, BaseModelRequest
    from pplm.pretraining.settings import Architecture, TrainingSettings
    from pplm.pretraining.training import train_base_model
    from pplm.pretraining.training_folder import StepReport
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Architecture",
    "BaseModelReport",
    "BaseModelRequest",
    "StepReport",
    "TrainingSettings",
    "train_base_model",
]
