"""A model in two parts: lower layers that are read once per token, and upper layers that are read again and again.

While only the upper layers' keys and values move, a new token's activations below them are the same for both histories
and for every iteration. Reading a model in parts must work with any architecture, and must not be noticed by anybody
else who uses the model. So stand-ins replace the lower decoder layers in a shallow copy of the module tree: copies of
the modules on the way to them, which share every weight, buffer and hook with the user's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from pplm.errors import InputError
from pplm.private_names import shallow_copy, tree_map


class SplitModel:
    """Two shallow copies of a model: `whole` runs all layers and records the lower ones' outputs, `upper` replays them.

    Parameters
    ----------
    model
        A decoder-only model; shared, not changed.
    lower
        How many layers, from the first, are read once per token (1 to all but one).

    Attributes
    ----------
    outputs
        What each lower layer returned when `whole` last ran, and will return in `upper`.

    """

    def __init__(self, model: Any, lower: int) -> None:
        self.lower, self.outputs = lower, [None] * lower
        name, layers = decoder_layers(model)
        own, others = list(layers[:lower]), list(layers[lower:])
        record = [_stand_in(layer, partial(self._record, number, layer)) for number, layer in enumerate(own)]
        replay = [_stand_in(layer, partial(self._replay, number)) for number, layer in enumerate(own)]
        self.whole = _with_layers(model, name, [*record, *others])
        self.upper = _with_layers(model, name, [*replay, *others])

    def _record(self, number: int, layer: nn.Module, *arguments: Any, **keywords: Any) -> Any:
        outputs = layer.forward(*arguments, **keywords)
        self.outputs[number] = tree_map(lambda item: item.detach() if isinstance(item, Tensor) else item, outputs)
        return outputs

    def _replay(self, number: int, *_: Any, **__: Any) -> Any:
        return self.outputs[number]


def moved_layers(layers: int | float, count: int) -> int:
    """Return how many of `count` layers `SteeringConfig.layers` moves, counted from the last.

    Raises
    ------
    InputError
        If it is more than there are.

    """
    if layers > count:
        raise InputError(f"layers is {layers}, the model has {count}; lower it, or use 0 for all layers")
    return math.ceil(layers * count) if isinstance(layers, float) else layers or count


def decoder_layers(model: Any) -> tuple[str, nn.ModuleList]:
    """Return the name of the list of a model's decoder layers in the module tree, and the list.

    Raises
    ------
    InputError
        If the model does not keep its decoder layers in one list.

    """
    count = model.config.get_text_config(decoder=True).num_hidden_layers
    # Only within the text decoder: an image encoder may have as many layers.
    own = model.get_decoder()
    within = next((f"{name}." for name, module in model.named_modules() if module is own and name), "")
    lists = [(name, m) for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count]
    lists = [(name, m) for name, m in lists if name.startswith(within)] or lists
    # Each layer may itself hold a list of as many experts or heads, so only the outermost lists count.
    depth = min((name.count(".") for name, _ in lists), default=0)
    found = [(name, module) for name, module in lists if name.count(".") == depth]
    if len(found) != 1:
        raise InputError(
            f"{type(model).__name__} does not keep its {count} layers in one list; move all of them (layers=0, or "
            "the preset paper)"
        )
    return found[0]


def _stand_in(layer: nn.Module, forward: Callable[..., Any]) -> nn.Module:
    own = shallow_copy(layer)
    own.__dict__["forward"] = forward
    return own


def _with_layers(model: Any, name: str, layers: Sequence[nn.Module]) -> Any:
    """Return a shallow copy of a module tree with other layers in the list called `name`."""
    head, _, rest = name.partition(".")
    own = shallow_copy(model)
    own.add_module(head, _with_layers(own.get_submodule(head), rest, layers) if rest else nn.ModuleList(layers))
    return own
