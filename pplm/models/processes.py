"""The processes that `accelerate launch` started: one device each, sharing out texts and joining what they made.

Without `accelerate launch` there is one process, and everything here does nothing.
"""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


@cache
def leave_at_exit() -> None:
    """Have this process leave the group of its siblings before Python shuts down.

    A thread of the group that is still at work then would abort the process although all its work is done (on two
    busy cores that befell two runs in eight); described in https://github.com/pytorch/pytorch/pull/179291.
    """
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Processes:
    """The processes that share the work, as one of them sees them.

    Attributes
    ----------
    count
        Number of processes.
    index
        This process's number, from 0.
    device
        What `accelerate` assigned to this process.

    """

    def __init__(self, *, cpu: bool = False) -> None:
        """Join the siblings; `cpu` leaves accelerators unused, and only the first call of a process can say so."""
        from accelerate import PartialState

        # Told to look for an accelerator where there is none, each process would think that it is alone.
        self._state = PartialState(cpu=cpu or not torch.accelerator.is_available())
        self.count, self.index = self._state.num_processes, self._state.process_index
        self.device = self._state.device
        if self.count > 1:
            leave_at_exit()

    @property
    def main(self) -> bool:
        """Whether this process is the one that prints and writes what all have made."""
        return self.index == 0

    def own(self, items: Sequence[Item]) -> list[Item]:
        """Return this process's share of a list that is the same in all: every `count`-th item."""
        return list(items[self.index :: self.count])

    def wait(self) -> None:
        """Go on when all have come here."""
        self._state.wait_for_everyone()

    def share(self, mine: Any) -> Any:
        """Return the main process's object everywhere."""
        if self.count == 1:
            return mine
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([mine])[0]

    def join(self, mine: Sequence[Item]) -> list[Item]:
        """Return the items of all processes, process by process, everywhere."""
        if self.count == 1:
            return list(mine)
        from accelerate.utils import gather_object

        return gather_object(list(mine))

    def sum(self, mine: Tensor) -> Tensor:
        """Add up tensors of which each row is zero in all processes but one."""
        if self.count == 1:
            return mine
        from accelerate.utils import reduce

        return reduce(mine.to(self.device), "sum").cpu()
