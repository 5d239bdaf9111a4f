"""What a user could pick instead of steering: four methods that use the attribute models, but no gradients.

Each is a small class with its paper's equation; docs/rivals.md describes them for users.
"""

from __future__ import annotations

from collections.abc import Mapping

from pplm.comparison.rivals.activation_addition import ActivationAddition
from pplm.comparison.rivals.fudge import Fudge
from pplm.comparison.rivals.prompt_line import PromptLine
from pplm.comparison.rivals.rival import Request, Rival
from pplm.comparison.rivals.weighted_decoding import WeightedDecoding

RIVALS: Mapping[str, type[Rival]] = {
    "WD": WeightedDecoding,
    "FUDGE": Fudge,
    "CAA": ActivationAddition,
    "PROMPT": PromptLine,
}
"""The rivals, by their name in `--methods`."""

__all__ = ["RIVALS", "Request", "Rival"]
