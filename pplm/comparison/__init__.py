"""The paper's comparison: unsteered and steered texts of the same prompts, measured and reported side by side.

`compare` and `sweep` take a `Study`: a model, attributes, prompts, judges and a folder. This package builds on
`pplm.evaluation`, which measures texts of any origin.
"""

from typing import TYPE_CHECKING

from pplm.lazy import lazy_names

if TYPE_CHECKING:
    from pplm.comparison.attributes import Attribute, attribute_set
    from pplm.comparison.budget import Budget
    from pplm.comparison.comparing import compare, sweep
    from pplm.comparison.pool import PoolPlan
    from pplm.comparison.report import Comparison
    from pplm.comparison.settings import ComparisonSettings, SweepSettings
    from pplm.comparison.study import Study
    from pplm.comparison.sweep_report import Sweep
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "Attribute",
    "Budget",
    "Comparison",
    "ComparisonSettings",
    "PoolPlan",
    "Study",
    "Sweep",
    "SweepSettings",
    "attribute_set",
    "compare",
    "sweep",
]
