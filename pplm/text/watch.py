"""Warns about steering that takes its full time and does nothing."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from pplm.errors import SteeringWarning
from pplm.interface import WeightedAttribute

_IDLE_BAG = "its words are in another language than the text, or too rare to be begun: see its report, and add words"
_IDLE_HEAD = "they are answers of one token: without look-ahead (horizon_length 0) it acts from the second on"


class SteeringWatch:
    """Collects, for a batch of B texts, whether attribute models act and gradients arrive; warns once about each.

    Parameters
    ----------
    attributes
        The A attribute models; those of weight 0 are not meant to act.
    batch
        B.
    device
        The device of the losses.

    """

    def __init__(self, attributes: Sequence[WeightedAttribute], batch: int, device: torch.device) -> None:
        self._attributes = attributes
        self._acted = torch.zeros(len(attributes), batch, dtype=torch.bool, device=device)
        self._asked = torch.zeros(batch, dtype=torch.bool, device=device)
        self.broke = torch.zeros(len(attributes), dtype=torch.bool, device=device)  # whose loss was not a number
        self.awaits_gradients = True  # until the first token that an attribute model acts on

    def losses(self, acted: Tensor, index: Tensor) -> None:
        """Note which of the A attribute models acted, (A, N) bool, on the N samples in `index`."""
        self._asked[index] = True
        self._acted[:, index] |= acted

    def broken(self) -> list[str]:
        """Return the names of the attribute models whose loss was not a number."""
        return [a.name for a, broke in zip(self._attributes, self.broke.tolist(), strict=True) if broke]

    def gradients(self, norms: Tensor, took_part: Tensor, layers: Tensor, first: int) -> None:
        """Check the attribute models' gradient norms (A, N) at the first token that any of them is to steer.

        `took_part` (A, N) marks the samples on which each can act with a loss other than 0: at a loss of 0, a gradient
        of 0 is as it should be. `layers` (G, N) are the norms of the whole gradient in each of the moved layers, of
        which `first` is the first one's number.
        """
        if not self.awaits_gradients or not bool(took_part.any()):
            return
        self.awaits_gradients = False
        dead = took_part.any(1) & ~(took_part & (norms != 0)).any(1)
        for attribute, is_dead in zip(self._attributes, dead.tolist(), strict=True):
            if is_dead and attribute.weight:
                warnings.warn(
                    f"the gradient of attribute {attribute.name!r} is exactly zero in all layers, so it moves nothing; "
                    "likely the model's layers pass no gradient on (as some quantised layers), or its loss does not "
                    "depend on the text; load the weights in another format, or check the attribute model",
                    SteeringWarning,
                    stacklevel=2,
                )

        silent = ((layers == 0) | ~took_part.any(0)).all(1).tolist()
        if any(silent) and not all(silent):
            numbers = [first + number for number, is_silent in enumerate(silent) if is_silent]
            shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
            warnings.warn(
                f"no gradient reaches the keys and values of {len(numbers)} of {len(silent)} moved layers (layer "
                f"{shown}), so they stay where they are; likely these layers pass no gradient on (as some quantised "
                "layers); load the weights in another format, or move only the last layers (setting: layers)",
                SteeringWarning,
                stacklevel=2,
            )

    @property
    def idle(self) -> list[tuple[str, ...]]:
        """For each text, the names of the attribute models that were meant to act and could not at any token so far."""
        meant = [a.weight and not getattr(a.model, "may_be_idle", False) for a in self._attributes]
        return [
            tuple(a.name for a, own, is_idle in zip(self._attributes, meant, text, strict=True) if own and is_idle)
            for text in (~self._acted & self._asked).T.tolist()
        ]

    def warn_of_idle(self) -> None:
        """Warn of every attribute model that `idle_attributes` reports."""
        for told in idle_attributes(self._attributes, self.idle):
            warnings.warn(told, SteeringWarning, stacklevel=2)


def idle_attributes(attributes: Sequence[WeightedAttribute], idle: Sequence[Collection[str]]) -> list[str]:
    """Return a message for each attribute model that could not act at any token of one or more texts.

    Parameters
    ----------
    attributes
        All attribute models.
    idle
        For each text, the names of those that could not act.

    """
    told: list[str] = []
    for attribute in attributes:
        if texts := sum(attribute.name in names for names in idle):
            # A head lacks at most a token of its own: before a chat's answer begins, none of its positions count.
            head = getattr(attribute.model, "steering_kind", None) == "discriminator"
            told.append(
                f"attribute {attribute.name!r} could not act at any token of {texts} of {len(idle)} texts, "
                f"so it did not steer them; likely {_IDLE_HEAD if head else _IDLE_BAG}"
            )
    return told
