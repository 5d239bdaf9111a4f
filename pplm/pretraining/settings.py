"""What is trained and how: two frozen objects that validate themselves; the defaults began the embedded model."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Literal, get_args, get_type_hints

from pplm.checks import check_range, check_type
from pplm.errors import InputError

Precision = Literal["auto", "float32", "bfloat16"]


def _setting(default: Any, low: float, help_text: str, high: float = math.inf) -> Any:
    """Return a field that carries its range and its explanation, which the command line shows."""
    return field(default=default, metadata={"low": low, "high": high, "help": help_text})


class _Checked:
    """Checks every field against its type and the range in its metadata."""

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for item in fields(self):  # type: ignore[arg-type]
            value, kind = getattr(self, item.name), kinds[item.name]
            if NoneType in get_args(kind):
                if value is None:
                    continue
                kind = get_args(kind)[0]
            object.__setattr__(self, item.name, value := check_type(item.name, value, kind))
            if not isinstance(value, str):
                check_range(item.name, value, item.metadata["low"], item.metadata["high"])


@dataclass(frozen=True, kw_only=True)
class Architecture(_Checked):
    """The shape of a new GPT-2.

    Raises
    ------
    InputError
        If a value is out of range or `num_heads` does not divide `width`.
    """

    num_layers: int = _setting(6, 1, "Transformer blocks.")
    width: int = _setting(320, 2, "Length of a hidden state, a multiple of num_heads.")
    num_heads: int = _setting(5, 1, "Attention heads per block.")
    num_positions: int = _setting(512, 8, "Longest text in tokens that the model can read.")
    vocab_size: int = _setting(
        12288,
        257,
        "Tokens of the byte-level BPE tokenizer that is trained on the texts, the end-of-text token included (at least "
        "257).",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.num_heads:
            raise InputError(f"width must be a multiple of num_heads ({self.num_heads}); got {self.width}")


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(_Checked):
    """How long, how fast and in what pieces a model is trained.

    Progress runs from 0 to 1 over the budget: `steps` optimizer steps, or `minutes` of training time, added up over
    all resumptions. Exactly one of the two must be given.

    Raises
    ------
    InputError
        If a value is out of range, or not exactly one budget is given.
    """

    minutes: float | None = _setting(
        None, 0.01, "Budget in minutes of training time; pauses of the process do not count."
    )
    steps: int | None = _setting(None, 1, "Budget in optimizer steps: the same amount of training on any machine.")
    muon_lr: float = _setting(0.02, 0, "Peak learning rate of Muon, for the body's matrices.")
    adamw_lr: float = _setting(1e-3, 0, "Peak learning rate of AdamW, for everything else.")
    weight_decay: float = _setting(0.0, 0, "Weight decay of both optimizers, for matrices (0 turns it off).")
    warmup_steps: int = _setting(60, 0, "Steps over which the learning rate rises (0 starts at the peak).")
    plateau: float = _setting(0.45, 0, "Progress (0 to 1) at which the learning rate begins to fall linearly.", 1)
    final_lr: float = _setting(0.02, 0, "Learning rate at the end, as a share of the peak (0 to 1).", 1)
    tokens_per_step: int = _setting(
        4096,
        1,
        "Tokens per optimizer step in the first half of the budget. Rounded down to whole contexts, split equally over "
        "processes.",
    )
    late_tokens_per_step: int = _setting(8192, 1, "Tokens per optimizer step in the second half of the budget.")
    micro_batch_tokens: int = _setting(4096, 1, "Tokens that one process reads at once; lower it if memory runs out.")
    block_length: int = _setting(
        256,
        1,
        "Tokens per training block; must divide the context length. The last tenth of the budget uses whole contexts; "
        "a value above their length uses them throughout.",
    )
    max_grad_norm: float = _setting(
        1.0, 0, "Scale gradients of a larger norm down to this norm (0 leaves them as they are)."
    )
    precision: Precision = _setting("auto", 0, "Number format of the passes: auto times both and takes the faster.")
    validation_fraction: float = _setting(
        0.005, 0, "Share of the documents (0 to 0.5) that is held out if no validation file is given.", 0.5
    )
    checkpoint_minutes: float = _setting(5.0, 0, "Minutes between checkpoints (0 writes one after every step).")
    seed: int = _setting(0, 0, "Seed of the initial weights and of the order of the blocks.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.minutes is None) == (self.steps is None):
            raise InputError(
                f"give a budget as either minutes or steps; got minutes={self.minutes}, steps={self.steps}"
            )

    def check_context(self, num_positions: int) -> None:
        """Refuse blocks and batches that do not fit a model's context.

        Raises
        ------
        InputError
            If blocks would leave a part of every context unread, or a step or micro-batch is shorter than one context.

        """
        if self.block_length < num_positions and num_positions % self.block_length:
            raise InputError(f"block_length must divide the context of {num_positions}; got {self.block_length}")
        for name in ("tokens_per_step", "late_tokens_per_step", "micro_batch_tokens"):
            if getattr(self, name) < num_positions:
                raise InputError(
                    f"{name} must be at least the context of {num_positions} tokens, which is read as a whole; got "
                    f"{getattr(self, name)}"
                )
