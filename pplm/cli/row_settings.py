"""What a row of a file of prompts sets for itself: `--use-columns`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from attribute_models.naming import BAGS, HEADS, split_weight
from pplm.checks import check_whole
from pplm.cli.attributes import AttributeOptions
from pplm.cli.options import number
from pplm.cli.steering_options import parse_targets
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.files.rows import Row
from pplm.models.resources import local_path, shipped_names
from pplm.presets import SteeringPresets

if TYPE_CHECKING:
    from pplm.cli.prompt_files import FileJob
    from pplm.interface import WeightedAttribute
    from pplm.jobs.requests import Request, Way
    from pplm.rerank import Rerank

_ATTRIBUTES = {"bag": "bags", "avoid_bag": "avoid_bags", "discriminator": "discriminators"}
_FIELDS = tuple(field.name for field in fields(SteeringConfig) if field.name != "steps")
NAMES = (*_ATTRIBUTES, "seed", *_FIELDS)
"""The columns that can be used."""
_YES, _NO = ("true", "yes", "1"), ("false", "no", "0")
_REMEMBERED = 64
"""How many different rows' attributes and steering are kept loaded."""


def check_columns(names: Sequence[str], prompt_column: str) -> None:
    """Refuse names in --use-columns that set nothing, or are the column of the prompts."""
    for name in names:
        if name == prompt_column:
            raise InputError(f"--use-columns {name!r} is the column of the prompts; leave it out, or rename one")
        if name not in NAMES:
            raise InputError(f"--use-columns {name!r} sets nothing; it takes {', '.join(NAMES)}")


def line_of_rows(line: str, columns: Sequence[str], given: Mapping[str, Any]) -> str:
    """Return the line on how texts are steered, changed to what holds where rows set `columns` for themselves."""
    own = [name for name in columns if name != "seed"]
    if not own:
        return line
    if not any(name in _ATTRIBUTES for name in own):
        return f"{line}; rows may change {', '.join(own)}"
    fixed = [f"{name} {value}" for name, value in given.items() if value is not None and name not in own]
    return "; ".join([f"steering: what each row's attributes take (columns {', '.join(own)})", *fixed])


@dataclass(frozen=True)
class RowSettings:
    """The settings of a command, and how rows change them.

    Attributes
    ----------
    choice, given
        The command's attributes, and its fields of steering (`SteeringConfig.for_attributes`).
    counts, rerank
        Unsteered and steered texts per prompt, and how the steered ones are chosen.
    presets
        The model's own.
    load
        Loads the attribute models that a choice names.
    converse, column
        The function that turns a cell into a prompt (None takes it as it is), and the column of that cell.
    used
        The columns that rows may set.
    allow_files
        Whether those columns may name files.

    """

    choice: AttributeOptions
    given: Mapping[str, Any]
    counts: tuple[int, int]
    rerank: Rerank | None
    presets: SteeringPresets
    load: Callable[[AttributeOptions], Sequence[WeightedAttribute]]
    converse: Callable[[Any], Any] | None = None
    column: str = "prompt"
    used: tuple[str, ...] = ()
    allow_files: bool = False

    def of_file(self, job: FileJob) -> RowSettings:
        """Return the same for the rows of a file."""
        return replace(self, column=job.prompts.column, used=job.use_columns, allow_files=job.allow_files)

    def request(self, number_: int, row: Row) -> Request:
        """Return the request of a row; if one of its cells cannot be used, the request carries the error."""
        from pplm.generated_text import Generation
        from pplm.jobs.input_file import copied_columns
        from pplm.jobs.requests import Request

        own_fields = Generation.recorded_fields() | {"error"}
        copied = copied_columns(row, self.column, own_fields, frozenset(self.used))
        choice, seed, error, prompt = self.choice, None, "", row.get(self.column)
        changes: dict[str, Any] = {}
        try:
            if self.column not in row:
                raise InputError(f"this row has no column {self.column!r}; add it, and write the prompt into it")
            prompt = prompt if self.converse is None else self.converse(prompt)
            for name in self.used:
                cell = row.get(name)
                if _is_empty(cell):
                    continue
                value = _read(name, cell)
                if name == "seed":
                    seed = value
                elif name in _ATTRIBUTES:
                    self._check_files(name, value)
                    choice = replace(choice, **{_ATTRIBUTES[name]: value})
                else:
                    changes[name] = value
        except InputError as problem:
            error = str(problem)
        texts = sum(self.counts) if choice.names_any else self.counts[1]
        return Request(number_, prompt, texts, seed, (choice, json.dumps(changes)), copied, error)

    def ways(self) -> Callable[[Any], Sequence[Way]]:
        """Return the function that turns `Request.own` into ways; it remembers the most recently used ones."""
        return lru_cache(_REMEMBERED)(self._ways)

    def _ways(self, own: tuple[AttributeOptions, str]) -> Sequence[Way]:
        from pplm.jobs.requests import Way
        from pplm.rerank import check_rankable

        attributes = self.load(own[0])
        if self.rerank is not None:
            check_rankable(attributes)
        models = [attribute.model for attribute in attributes]
        settings = _changed(self.given, json.loads(own[1]))
        steering = SteeringConfig.for_attributes(models, presets=self.presets, **settings)
        plain = [Way(self.counts[0])] if attributes and self.counts[0] else []
        return [*plain, Way(self.counts[1], attributes, steering, self.rerank)]

    def _check_files(self, name: str, parts: Sequence[str]) -> None:
        if self.allow_files:
            return
        for part in parts:
            if name == "discriminator":
                shipped = part.split(":")[0] in shipped_names(HEADS) and not _is_path(part)
            else:
                shipped = split_weight(part)[0] in shipped_names(BAGS, ".txt")
            if not shipped:
                raise InputError(
                    f"column {name!r} names {part!r}, which is not shipped; add --allow-files to read files"
                )


def unused(columns: Collection[str], used: Collection[str]) -> list[str]:
    """Return the columns that --use-columns could have named and did not."""
    return [name for name in columns if name in NAMES and name not in used]


def _changed(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the command's settings with a row's own: its step_size replaces strength and target, and vice versa."""
    dial = {"strength", "target"}
    replaced = (dial if "step_size" in own else set()) | ({"step_size"} if dial & set(own) else set())
    return {**{name: value for name, value in given.items() if name not in replaced}, **own}


def _is_empty(cell: Any) -> bool:
    """Return whether a cell sets nothing; parquet files of pandas hold NaN there."""
    return cell is None or cell != cell or not _as_written(cell)


def _is_path(text: str) -> bool:
    """Return whether PATH:LABEL:WEIGHT, up to some colon, is a path that exists on this machine."""
    parts = text.split(":")
    return any(local_path(":".join(parts[:size])) is not None for size in range(1, len(parts) + 1))


def _read(name: str, cell: Any) -> Any:
    """Return a cell's value, of the type that the option of that name has."""
    text = _as_written(cell)
    if name in _ATTRIBUTES:
        return tuple(part.strip() for part in text.split("|"))
    if name == "target":
        return parse_targets([part.strip() for part in text.split("|")], "column 'target'")
    kind = int if name == "seed" else get_type_hints(SteeringConfig)[name]
    wanted = "true or false" if kind is bool else "a number"
    try:
        if kind is bool:
            return {**dict.fromkeys(_YES, True), **dict.fromkeys(_NO, False)}[text.lower()]
        if str in map(type, get_args(kind)):
            return text
        value = number(text)
        if kind is int and value == int(value):  # pandas writes 7.0 where another row has no value
            value = int(value)
    except (ValueError, KeyError, OverflowError):
        raise InputError(f"column {name!r} must be {wanted}; got {text!r}; an empty cell sets nothing") from None
    return check_whole("column 'seed'", value) if name == "seed" else value


def _as_written(cell: Any) -> str:
    """Return a cell as a text file would hold it; in JSON, several values may be a list, and targets an object."""
    if isinstance(cell, Mapping):
        cell = [f"{name}={value}" for name, value in cell.items()]
    return "|".join(map(str, cell)) if isinstance(cell, list) else str(cell).strip()
