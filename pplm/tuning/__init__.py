"""`tune`: the settings of the dial that suit one model and kind of attribute, found by comparing texts.

The dial steers every model within the same divergence per token. How much of an attribute that buys depends on how many
layers move, and in how many iterations; the best choice differs from model to model, and is cheap to find.
"""

from typing import TYPE_CHECKING

from pplm.lazy import lazy_names

if TYPE_CHECKING:
    from pplm.tuning.choice import tune
    from pplm.tuning.report import tuning_report
    from pplm.tuning.result import Tuned, TunedRow
    from pplm.tuning.settings import TuneSettings
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = ["TuneSettings", "Tuned", "TunedRow", "tune", "tuning_report"]
