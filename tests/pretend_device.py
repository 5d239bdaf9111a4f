"""A pretend accelerator: tensors whose numbers lie on the CPU, and which call themselves another device.

What a GPU would do without being asked is visible here on any machine: an operation that mixes devices is refused, and
every copy between host and device, and every other operation that makes the host wait for the device, is counted with
the line that asked for it. A process that has imported this module has the device "pretend" for good, which torch's
own functions notice: use it in a process of its own.
"""

import sys
from collections import Counter
from functools import cache

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretend"
_setup_privateuseone_for_python_backend(NAME)
# Numbers from Python become a tensor on the CPU, which is then copied, as for a real accelerator.
torch._C._set_only_lift_cpu_tensors(True)

DEVICE = torch.device(NAME, 0)
_aten = torch.ops.aten
_COPIES = {_aten._to_copy.default, _aten.copy_.default}
_INDEXING = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}
_WAITING = {
    _aten._local_scalar_dense.default: "item",
    _aten.nonzero.default: "nonzero",
    _aten.masked_select.default: "masked_select",
    _aten.equal.default: "equal",
    _aten._unique2.default: "unique",
    _aten.unique_consecutive.default: "unique_consecutive",
    _aten.repeat_interleave.Tensor: "repeat_interleave",
    _aten.bincount.default: "bincount",
    _aten.multinomial.default: "multinomial",  # it checks the probabilities on the host
}
"""Operations whose result, or its shape, the host waits for."""
_ASKING = ("pplm", "attribute_models", "transformers")
"""Packages that can have asked for an operation."""


class MixedDevicesError(RuntimeError):
    """An operation on tensors of the CPU and of the pretend device together."""


class PretendTensor(torch.Tensor):
    """A tensor on the pretend device; `on_cpu` holds its numbers."""

    @staticmethod
    def __new__(cls, real):
        """Wrap a tensor of the CPU."""
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            real.shape,
            strides=real.stride(),
            storage_offset=real.storage_offset(),
            dtype=real.dtype,
            device=DEVICE,
        )
        tensor.on_cpu = real
        return tensor

    def __repr__(self, **_):
        """Show the numbers, without a copy to the host."""
        return f"pretend {self.on_cpu!r}"

    def tolist(self):
        """Copy the numbers to the host; torch refuses this to subclasses."""
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _current.run(func, args, kwargs or {})


class PretendDevice(TorchDispatchMode):
    """In its context tensors can be made on, and moved to, the device "pretend"."""

    def __init__(self):
        super().__init__()
        self._waits = Counter()

    def counted(self, work):
        """Return what `work()` returns, and (what, "package/file.py:line") -> how often the host waited meanwhile."""
        self._waits = Counter()
        return work(), self._waits

    def __enter__(self):
        global _current
        _current = self
        return super().__enter__()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return self.run(func, args, kwargs or {})

    def run(self, func, args, kwargs):
        """Refuse, count, and let the CPU compute."""
        if _is_composite(func):  # such as `to`, which inference mode passes on as it is
            with self:
                return func.decompose(*args, **kwargs)
        tensors = _tensors([*args, *kwargs.values()])
        ours = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
        if ours:
            _refuse_mixture(func, args, tensors)
            self._count_waits(func, args)
        there = _result_is_ours(func, args, kwargs, ours)
        if func in _COPIES:
            source = args[0] if func is _aten._to_copy.default else args[1]
            if isinstance(source, PretendTensor) != there and source.numel():  # a copy of nothing does not wait
                self._note("to the device" if there else "to the host")
        if there and "device" in kwargs:
            kwargs = {**kwargs, "device": torch.device("cpu")}
        result = func(*map(_on_cpu, args), **{name: _on_cpu(value) for name, value in kwargs.items()})
        return _wrapped(result, {id(tensor.on_cpu): tensor for tensor in ours}) if there else result

    def _count_waits(self, func, args):
        if func in _WAITING or (func is _aten.isin.Tensor_Tensor and args[1].numel() >= 10 * args[0].numel() ** 0.145):
            self._note(_WAITING.get(func, "isin"))  # which sorts and counts where there is much to compare with
        if func in _INDEXING:
            for index in args[1]:
                if index is not None and not isinstance(index, PretendTensor):
                    self._note("index to the device")
                elif index is not None and index.dtype == torch.bool:
                    self._note("bool index")

    def _note(self, what):
        self._waits[what, _asked_for_at()] += 1


_current = PretendDevice()


@cache
def _is_composite(func):
    return func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd)


def _tensors(values):
    """Return the tensors among values and in lists of them."""
    flat = [item for value in values for item in (value if isinstance(value, list | tuple) else [value])]
    return [item for item in flat if isinstance(item, torch.Tensor)]


def _on_cpu(value):
    """Return the values of our tensors, alone or in lists."""
    if isinstance(value, list | tuple):
        return [_on_cpu(item) for item in value]
    return value.on_cpu if isinstance(value, PretendTensor) else value


def _wrapped(value, given):
    """Return a result as tensors of ours; what works in place returns the very tensor that it was given."""
    if isinstance(value, list | tuple):
        return type(value)(_wrapped(item, given) for item in value)
    if not isinstance(value, torch.Tensor):
        return value
    return given[id(value)] if id(value) in given else PretendTensor(value)


def _result_is_ours(func, args, kwargs, ours):
    """Say whether the result of an operation lies on the pretend device."""
    if kwargs.get("device") is not None:
        return torch.device(kwargs["device"]).type == NAME
    return isinstance(args[0], PretendTensor) if func is _aten.copy_.default else bool(ours)


def _refuse_mixture(func, args, tensors):
    """Refuse tensors of the CPU beside ours, where a GPU would: numbers and indices may come from the host."""
    if func in _COPIES:
        return
    allowed = [] if func not in _INDEXING or not isinstance(args[0], PretendTensor) else args[1]
    for tensor in tensors:
        if isinstance(tensor, PretendTensor) or tensor.dim() == 0 or any(tensor is other for other in allowed):
            continue
        raise MixedDevicesError(f"{func} mixes devices: {tuple(tensor.shape)} is on the CPU; at {_asked_for_at()}")


def _asked_for_at():
    """Return "package/file.py:line" of the innermost caller that is no part of torch; "autograd" in its threads."""
    frame = sys._getframe(1)
    while frame is not None:
        package = frame.f_globals.get("__name__", "").split(".")[0]
        if package in _ASKING:
            path = frame.f_code.co_filename
            return f"{path[path.rindex(f'/{package}/') + 1 :]}:{frame.f_lineno}"
        frame = frame.f_back
    return "autograd"
