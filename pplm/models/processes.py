"""The processes that `accelerate launch` started: each has one device, and they share texts and join their results.

A library function never starts or joins processes: it takes a `Processes` object as an argument. Without one it runs as
a single process, for which everything here does nothing.
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

    Otherwise a thread of the group that is still running then can abort the process after its work is done (it did in
    two of eight runs on two busy cores); see https://github.com/pytorch/pytorch/pull/179291.
    """
    atexit.register(_leave)


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Processes:
    """The processes that share the work, seen from one of them; by default there is only one.

    Attributes
    ----------
    count
        Number of processes.
    index
        This process's number, from 0.
    device
        The device that `accelerate` assigned to this process; for a single process the first accelerator, or the CPU.

    """

    def __init__(self) -> None:
        """Describe a single process, however it was launched: only `of_launch` joins others."""
        self.count, self.index = 1, 0
        self.device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")

    @classmethod
    def of_launch(cls, *, cpu: bool = False) -> Processes:
        """Join the processes of `accelerate launch`; commands call it and pass the result to the library.

        `cpu` leaves accelerators unused; only the first call in a process can choose that.
        """
        from accelerate import PartialState

        # If accelerate looks for an accelerator where there is none, each process takes itself for the only one.
        state = PartialState(cpu=cpu or not torch.accelerator.is_available())
        joined = cls()
        joined.count, joined.index, joined.device = state.num_processes, state.process_index, state.device
        if joined.count > 1:
            leave_at_exit()
        return joined

    @property
    def main(self) -> bool:
        """Whether this process is the first, which alone prints and writes what all have made."""
        return self.index == 0

    def own(self, items: Sequence[Item]) -> list[Item]:
        """Return this process's share of a list that is the same in all processes: every `count`-th item."""
        return list(items[self.index :: self.count])

    def wait(self) -> None:
        """Wait until all processes have reached this call."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()

    def on_main(self, action: Callable[[], object]) -> None:
        """Run an action in the main process and raise its `InputError` in all: none waits for one that failed."""
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
        """Return the main process's object in every process."""
        if self.count == 1:
            return mine
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([mine])[0]

    def join(self, mine: Sequence[Item]) -> list[Item]:
        """Return the items of all processes, in the order of the processes, in every process."""
        if self.count == 1:
            return list(mine)
        from accelerate.utils import gather_object

        return gather_object(list(mine))

    def sum(self, mine: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, on the CPU; a single process gets its own tensor back."""
        if self.count == 1:
            return mine
        from accelerate.utils import reduce

        return reduce(mine.to(self.device), "sum").cpu()

    def average_gradients(self, module: nn.Module) -> nn.Module:
        """Return the module, wrapped so that its gradients become their mean over the processes."""
        if self.count == 1:
            return module
        return DistributedDataParallel(module, device_ids=None if self.device.type == "cpu" else [self.device])
