"""Plug and Play Language Models: steer a frozen language model while it generates.

Shapes are written with one letter per dimension throughout:

|   |                                            |   |                                           |
| - | ------------------------------------------ | - | ----------------------------------------- |
| B | samples in a batch                         | H | attention heads                           |
| T | tokens of a text                           | D | width (of a hidden state, or of a head)   |
| L | positions of a key/value history           | V | vocabulary                                |
| W | positions of the steered window            | I | gradient iterations before one token      |
| N | new tokens                                 | G | groups of tensors (GPT-2: layers)         |
| A | attribute models                           | C | classes of a discriminator                |
"""

from typing import TYPE_CHECKING

from pplm.lazy import lazy_names

if TYPE_CHECKING:
    from pplm.attached import steering_presets
    from pplm.chat import Conversation
    from pplm.config import SteeringConfig
    from pplm.documents import trace_document
    from pplm.errors import InputError, SteeringWarning
    from pplm.explanation.explaining import Explanation, explain
    from pplm.generated_text import Generation
    from pplm.generation import generate
    from pplm.interface import AttributeModel, SteeringStep, WholeText
    from pplm.jobs.stream import generate_stream
    from pplm.models.loading import freeze, load_model
    from pplm.presets import FAST_PRESETS, PAPER_PRESETS, SteeringPresets
    from pplm.rerank import Rerank
    from pplm.steering import Steered, steer
    from pplm.step import Step
    from pplm.text.decoding import SteeredOutput, steered_decoding
    from pplm.text.details import NewToken, TextDetails, TokenDetails
    from pplm.text.trace import SteeringTrace
    from pplm.tuning.choice import tune
    from pplm.tuning.result import Tuned
    from pplm.tuning.settings import TuneSettings
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "FAST_PRESETS",
    "PAPER_PRESETS",
    "AttributeModel",
    "Conversation",
    "Explanation",
    "Generation",
    "InputError",
    "NewToken",
    "Rerank",
    "Steered",
    "SteeredOutput",
    "SteeringConfig",
    "SteeringPresets",
    "SteeringStep",
    "SteeringTrace",
    "SteeringWarning",
    "Step",
    "TextDetails",
    "TokenDetails",
    "TuneSettings",
    "Tuned",
    "WholeText",
    "explain",
    "freeze",
    "generate",
    "generate_stream",
    "load_model",
    "steer",
    "steered_decoding",
    "steering_presets",
    "trace_document",
    "tune",
]
