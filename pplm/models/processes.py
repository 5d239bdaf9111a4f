"""The processes that `accelerate launch` started: one device each, sharing out texts and joining what they made.

A library function never starts or joins processes: it takes them, and without any it is one process, to which
everything here does nothing.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pplm.errors import InputError

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
    """The processes that share the work, as one of them sees them; by default one process alone.

    Attributes
    ----------
    count
        Number of processes.
    index
        This process's number, from 0.
    device
        What `accelerate` assigned to this process; for one process the first accelerator, or the CPU.

    """

    def __init__(self) -> None:
        """Make one process, whatever launched it: only `of_launch` joins others."""
        self.count, self.index = 1, 0
        self.device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

    @classmethod
    def of_launch(cls, *, cpu: bool = False) -> Processes:
        """Join the processes of `accelerate launch`; for commands, which hand the result to the library.

        `cpu` leaves accelerators unused; only the first call in a process can choose.
        """
        from accelerate import PartialState

        # Told to look for an accelerator where there is none, each process would take itself for the only one.
        state = PartialState(cpu=cpu or not torch.accelerator.is_available())
        joined = cls()
        joined.count, joined.index, joined.device = state.num_processes, state.process_index, state.device
        if joined.count > 1:
            leave_at_exit()
        return joined

    @property
    def main(self) -> bool:
        """Whether this process is the one that prints and writes what all have made."""
        return self.index == 0

    def own(self, items: Sequence[Item]) -> list[Item]:
        """Return this process's share of a list that is the same in all: every `count`-th item."""
        return list(items[self.index :: self.count])

    def wait(self) -> None:
        """Return when all have come here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def on_main(self, action: Callable[[], object]) -> None:
        """Let the main process act, and all raise the `InputError` it meets: none waits for one that is gone."""
        wrong: str | None = None
        if self.main:
            try:
                action()
            except InputError as error:
                wrong = str(error)
        wrong = self.share(wrong)
        if wrong is not None:
            raise InputError(wrong)

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

    def average_gradients(self, module: nn.Module) -> nn.Module:
        """Return the module so wrapped that its gradients become their mean over the processes."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, device_ids=None if self.device.type == "cpu" else [self.device])
