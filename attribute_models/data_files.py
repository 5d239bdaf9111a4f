"""Texts and labels from the hub or from a file: finds their columns, also in a file without a header."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from pplm.errors import InputError
from pplm.files.rows import FORMATS, is_index, load_hub, read_rows

TEXT_NAMES = (
    "text", "sentence", "content", "review", "review_text", "body", "comment", "tweet", "message", "document",
    "headline", "title", "phrase", "utterance", "question", "texte", "satz", "texto",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "class", "sentiment", "category", "target", "polarity", "topic", "tag", "stars", "rating",
    "score", "emotion", "klasse", "etiqueta",
)  # fmt: skip
"""Names by which a column is recognised, in any letter case; the earliest name in the tuple wins."""
_NAME = re.compile(r"\w+([ .-]\w+)?")
_PEEK = 200
"""Rows that are looked at to find the columns: a JSON object may lack some."""

Columns = tuple[str | None, str | None]
"""The text and the label column as the user names them; None looks for a well-known name."""
Labelled = tuple[list[str], list[str | None], tuple[str, ...] | None]
"""Texts, their labels (None where one is missing), and the class names in the data set's own order, if it has one."""


def read_labels(data: str | Path, wanted: Columns, *, config: str | None, split: str | None) -> Labelled:
    """Read a hub data set or a local file; see `attribute_models.labelled_data.read_labelled`."""
    if not str(data).strip():
        raise InputError("data names nothing; give a file, a folder or a hub data set's id")
    path = Path(data).expanduser()
    if path.is_file():
        if config or split:
            raise InputError(f"config and split belong to a hub data set, but {data} is a file; leave them out")
        return _from_file(path, wanted)
    named = path.suffix in (*FORMATS, ".txt") or path.is_absolute() or str(data).startswith((".", "~"))
    if named and not path.exists():
        raise InputError(f"data file {data} does not exist")
    table = load_hub(str(data), config, split or "train")
    text, label = _choose(table.column_names, wanted, str(data))
    names = getattr(table.features[label], "names", None)
    return _checked(zip(table[text], table[label], strict=True), text, label, names)


def _from_file(path: Path, wanted: Columns) -> Labelled:
    kind = path.suffix.lower().replace(".txt", ".tsv")
    rows = read_rows(path, kind=kind, names=partial(_headerless, wanted, path))
    first = list(islice(rows, _PEEK))
    if not first:
        raise InputError(f"data file {path} is empty; write a label, a tab and a text on each line")
    text, label = _choose(dict.fromkeys(name for _, row in first for name in row), wanted, str(path))
    pairs = ((row.get(text), row.get(label)) for _, row in chain(first, rows))
    return _checked(pairs, text, label, _class_names(path, label) if kind == ".parquet" else None)


def _class_names(path: Path, label: str) -> list[str] | None:
    """Return the class names from a parquet file's metadata, where `datasets` keeps them; None if there are none."""
    from pyarrow.parquet import read_schema  # slow to import

    written = json.loads((read_schema(path).metadata or {}).get(b"huggingface", "{}"))
    return written.get("info", {}).get("features", {}).get(label, {}).get("names")


def _headerless(wanted: Columns, path: Path, sample: Sequence[Sequence[str]]) -> list[str] | None:
    """Return names for the two columns of a file without a header, None if it has one.

    The column with fewer different values is the label.
    """
    separator = "comma" if path.suffix.lower() == ".csv" else "tab"
    if len(sample[0]) < 2:
        raise InputError(f"data file {path} has one column; write a label, a {separator} and a text on every line")
    names = [field.strip() for number, field in enumerate(sample[0]) if number or not is_index(field)]
    known = len(names) > 2 or any(name.lower() in (*TEXT_NAMES, *LABEL_NAMES) for name in names)
    if any(name in names for name in wanted) or (known and all(map(_NAME.fullmatch, names))):
        return None
    if len(names) != 2:
        raise InputError(f"data file {path} has {len(names)} columns and no header; name them on its first line")
    first, second = (len({row[i] for row in sample if len(row) == 2}) for i in (0, 1))
    return ["label", "text"] if first <= second else ["text", "label"]


def _choose(columns: Iterable[str], wanted: Columns, data: str) -> tuple[str, str]:
    """Return the names of the text and the label column: the wanted ones, else well-known ones."""
    names = list(columns)
    there = f"{data} has the columns {', '.join(names)}"
    for name in wanted:
        if name is not None and name not in names:
            raise InputError(f"there is no column {name!r}: {there}")
    text = wanted[0] or _known(names, TEXT_NAMES, wanted[1])
    label = wanted[1] or _known(names, LABEL_NAMES, text)
    if len(names) == 2:
        text = text or next((name for name in names if label and name != label), None)
        label = label or next((name for name in names if text and name != text), None)
    if text is None or label is None:
        missing = "--text-column" if text is None else "--label-column"
        raise InputError(f"no column has a well-known name; name yours with {missing}: {there}")
    if text == label:
        raise InputError(f"text and label are both column {text!r}: {there}")
    return text, label


def _known(names: Sequence[str], known: Sequence[str], taken: str | None) -> str | None:
    by_name = {name.strip().lower(): name for name in reversed(names) if name != taken}
    return next((by_name[name] for name in known if name in by_name), None)


def _checked(pairs: Iterable[tuple[Any, Any]], text: str, label: str, class_names: Sequence[str] | None) -> Labelled:
    texts: list[str] = []
    labels: list[str | None] = []
    for pair in pairs:
        for name, value in zip((text, label), pair, strict=True):
            if isinstance(value, list | dict | bytes):
                raise InputError(
                    f"column {name!r} holds {type(value).__name__}s; it must hold one text or label per row"
                )
        texts.append("" if pair[0] is None else str(pair[0]))
        labels.append(_name(pair[1], class_names))
    return texts, labels, class_names and tuple(class_names)  # type: ignore[return-value]


def _name(value: Any, class_names: Sequence[str] | None) -> str | None:
    """Return a label as text; None if there is none, which data sets with class names write as -1."""
    if value is None or (class_names is not None and value == -1):
        return None
    if class_names is not None:
        return class_names[value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)
