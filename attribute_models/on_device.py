"""What an attribute model keeps on the device of the language model, so that no token waits for a copy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

Made = TypeVar("Made")


class OnDevice(dict[torch.device, Made]):
    """Maps a device to what `make(device)` returns, which is called once for each."""

    def __init__(self, make: Callable[[torch.device], Made]) -> None:
        super().__init__()
        self._make = make

    def __missing__(self, device: torch.device) -> Made:
        # Kept for later, when gradients may be wanted that tensors of a caller's inference mode cannot have.
        with torch.inference_mode(False):
            self[device] = self._make(device)
        return self[device]
