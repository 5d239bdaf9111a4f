"""What a benchmark measures: one case for every combination of the values in its lists."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any, get_args

from pplm.checks import check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.models.loading import Dtype
from pplm.presets import PresetName, check_preset


@dataclass(frozen=True)
class Case:
    """One row to be measured.

    Attributes
    ----------
    attribute
        The name of an attribute model.
    samples
        Texts generated at once (B).
    prompt_tokens, new_tokens
        Length of each prompt and of what is added to it (N).
    dtype
        Number format of the model's weights.

    """

    attribute: str
    samples: int
    prompt_tokens: int
    new_tokens: int
    dtype: str

    def __str__(self) -> str:
        """Return a name of the case for progress displays."""
        return f"{self.attribute}, {self.samples} x ({self.prompt_tokens} + {self.new_tokens} tokens), {self.dtype}"


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """Lists whose combinations are measured, and how.

    Attributes
    ----------
    attributes
        Names of attribute models.
    samples
        Texts generated at once (>= 1).
    prompt_tokens, new_tokens
        Lengths in tokens (>= 1).
    dtypes
        Number formats of the model's weights: float32, bfloat16, float16.
    repeats
        Timed runs of each case (>= 1), after one that is not timed.
    seed
        Seed of the prompts' random tokens and of sampling (>= 0).
    top_k
        Tokens are drawn from the k likeliest, steered and unsteered alike (>= 0; 0 draws from all, 1 is greedy).
    preset
        The settings to start from: "paper", "fast", or None for what `generate` takes by default.
    steering
        Fields of `SteeringConfig` that replace the preset's.

    Raises
    ------
    InputError
        If a list is empty or names something twice, or a value is outside its range.

    """

    attributes: Sequence[str] = ("bag", "discriminator")
    samples: Sequence[int] = (1, 4, 16)
    prompt_tokens: Sequence[int] = (10,)
    new_tokens: Sequence[int] = (30,)
    dtypes: Sequence[str] = ("float32",)
    repeats: int = 3
    seed: int = 0
    top_k: int = 10
    preset: PresetName | None = None
    steering: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check every list and number."""
        for name in ("attributes", "samples", "prompt_tokens", "new_tokens", "dtypes"):
            values = getattr(self, name)
            if isinstance(values, str) or not values or len(set(values)) != len(values):
                raise InputError(f"{name} must be a list of different values, at least one; got {values!r}")
        for name in ("samples", "prompt_tokens", "new_tokens"):
            for value in getattr(self, name):
                check_whole(name, value, 1)
        for name, low in (("repeats", 1), ("seed", 0), ("top_k", 0)):
            check_whole(name, getattr(self, name), low)
        known = get_args(Dtype)
        for dtype in self.dtypes:
            if dtype not in known:
                raise InputError(f"dtypes must be of {', '.join(known)}; got {dtype!r}")
        unknown = set(self.steering) - {setting.name for setting in fields(SteeringConfig)}
        if unknown:
            raise InputError(f"steering has no setting {min(unknown)!r}; see SteeringConfig for its fields")
        SteeringConfig(**self.steering)
        check_preset(self.preset)

    def cases(self) -> list[Case]:
        """Return all combinations; number formats change fastest, so that they are measured beside each other."""
        lists = (self.attributes, self.samples, self.prompt_tokens, self.new_tokens, self.dtypes)
        return [Case(*combination) for combination in product(*lists)]
