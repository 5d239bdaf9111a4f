"""Read rows of text and label from the hub or from csv, tsv, jsonl and parquet files, through `datasets`."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pplm.errors import InputError

TEXT_NAMES = (
    "text", "sentence", "content", "review", "review_text", "body", "comment", "tweet", "message", "document",
    "headline", "title", "phrase", "utterance", "question", "texte", "satz", "texto",
)  # fmt: skip
LABEL_NAMES = (
    "label", "labels", "class", "sentiment", "category", "target", "polarity", "topic", "tag", "stars", "rating",
    "score", "emotion", "klasse", "etiqueta",
)  # fmt: skip
"""Column names that are taken without asking, best first, in any case."""
_LOADERS = {".csv": "csv", ".tsv": "csv", ".txt": "csv", ".jsonl": "json", ".json": "json", ".parquet": "parquet"}
_NAME = re.compile(r"\w+([ .-]\w+)?")


@dataclass(frozen=True)
class RawRows:
    """Texts and labels as a file or the hub gives them; None where there is no label."""

    texts: list[str]
    labels: list[str | None]
    text_column: str
    label_column: str
    class_names: tuple[str, ...] | None
    """In the data set's own order, where it has one."""


def read_rows(
    data: str | Path, *, text_column: str | None, label_column: str | None, config: str | None, split: str | None
) -> RawRows:
    """Read a hub data set or a local file; see `attribute_models.labelled_data.read_labelled`."""
    import datasets

    path = Path(data).expanduser()
    if not path.exists() and (path.suffix in _LOADERS or path.is_absolute() or str(data).startswith((".", "~"))):
        raise InputError(f"data file {data} does not exist")
    if path.is_file() and (config or split):
        raise InputError(f"config and split belong to a hub data set; {data} is a file")
    with tempfile.TemporaryDirectory() as scratch:  # a local file needs no second copy that outlives the run
        try:
            if path.is_file():
                table = datasets.load_dataset(
                    **_local(path, (text_column, label_column)), split="train", cache_dir=scratch
                )
            else:
                table = datasets.load_dataset(str(data), config, split=split or "train")
        except InputError:
            raise
        except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
            raise InputError(f"data {data} cannot be read: {_reason(error)}") from error
        columns = _choose(table, text_column, label_column, str(data))
        return _rows(table, *columns)


def _local(path: Path, wanted: Sequence[str | None]) -> dict[str, Any]:
    """Return the arguments of `load_dataset` for a file."""
    kind = _LOADERS.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"data file {path} must end in one of {', '.join(_LOADERS)}")
    if path.stat().st_size == 0:
        raise InputError(f"data file {path} is empty; write one label<TAB>text a line")
    if kind != "csv":
        return {"path": kind, "data_files": str(path)}
    return {"path": "csv", "data_files": str(path), **_dialect(path, wanted)}


def _dialect(path: Path, wanted: Sequence[str | None]) -> dict[str, Any]:
    """Say how a csv or tsv file is written: its separator, its quotes, and whether its first line names columns."""
    import datasets

    quoting: Literal[0, 3]
    commas = path.suffix.lower() == ".csv"
    # Texts with tabs between are not quoted: a lone " in the published label<TAB>text form is part of the text.
    quoting, separator = (csv.QUOTE_MINIMAL, ",") if commas else (csv.QUOTE_NONE, "\t")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, delimiter=separator, quoting=quoting)
            sample = [row for row, _ in zip((r for r in rows if r), range(200), strict=False)]
    except UnicodeDecodeError as error:
        raise InputError(f"data file {path} is not UTF-8 ({error}); save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"data file {path} cannot be read: {error}") from error
    if not sample or len(sample[0]) < 2:
        raise InputError(f"data file {path} has one column; write label{separator!r}text on every line")
    header = any(name in sample[0] for name in wanted if name) or _is_header(sample[0])
    names = sample[0] if header else _headerless(sample, path)
    return {
        "sep": separator,
        "quoting": quoting,
        "encoding": "utf-8-sig",
        "keep_default_na": False,  # "null", "NA" and "None" are words
        "names": None if header else names,
        "header": 0 if header else None,
        "features": datasets.Features({name: datasets.Value("string") for name in names}),
    }


def _is_header(fields: Sequence[str]) -> bool:
    known = {*TEXT_NAMES, *LABEL_NAMES}
    named = [field.strip().lower() in known for field in fields]
    return (any(named) and all(_NAME.fullmatch(field.strip()) for field in fields)) or (
        len(fields) > 2 and all(_NAME.fullmatch(field.strip()) for field in fields)
    )


def _headerless(sample: Sequence[Sequence[str]], path: Path) -> list[str]:
    """Name the two columns of a file without a header: the one with fewer different values is the label."""
    if len(sample[0]) != 2:
        raise InputError(f"data file {path} has {len(sample[0])} columns and no header; name them on its first line")
    first, second = (len({row[i] for row in sample if len(row) == 2}) for i in (0, 1))
    return ["label", "text"] if first <= second else ["text", "label"]


def _choose(table: Any, text_column: str | None, label_column: str | None, data: str) -> tuple[str, str]:
    """Return the names of the text and the label column: as told, else by well-known names."""
    names = list(table.column_names)
    there = f"{data} has the columns {', '.join(names)}"
    for wanted in (text_column, label_column):
        if wanted is not None and wanted not in names:
            raise InputError(f"there is no column {wanted!r}: {there}")
    text = text_column or _known(names, TEXT_NAMES, label_column)
    label = label_column or _known(names, LABEL_NAMES, text)
    if len(names) == 2:
        text = text or next((name for name in names if label and name != label), None)
        label = label or next((name for name in names if text and name != text), None)
    if text is None or label is None:
        missing = "--text-column" if text is None else "--label-column"
        raise InputError(f"cannot tell which column to use, name it with {missing}: {there}")
    if text == label:
        raise InputError(f"text and label are both column {text!r}: {there}")
    return text, label


def _known(names: Sequence[str], known: Sequence[str], taken: str | None) -> str | None:
    by_name = {name.strip().lower(): name for name in reversed(names) if name != taken}
    return next((by_name[name] for name in known if name in by_name), None)


def _rows(table: Any, text_column: str, label_column: str) -> RawRows:
    feature = table.features[label_column]
    class_names = tuple(feature.names) if hasattr(feature, "names") else None
    texts = ["" if value is None else value for value in table[text_column]]
    labels = list(table[label_column])
    for name, values in ((text_column, texts), (label_column, labels)):
        strange = next((v for v in values if isinstance(v, list | dict | bytes)), None)
        if strange is not None:
            raise InputError(f"column {name!r} holds {type(strange).__name__}s; it must hold one text or label a row")
    return RawRows([str(t) for t in texts], [_name(v, class_names) for v in labels], text_column, label_column,
                   class_names)  # fmt: skip


def _name(value: Any, class_names: Sequence[str] | None) -> str | None:
    """Return a label as text; None for what the hub calls -1 or leaves out."""
    if value is None or (class_names is not None and value == -1):
        return None
    if class_names is not None:
        return class_names[value]
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def _reason(error: BaseException) -> str:
    """Return the first cause in one short line."""
    while error.__cause__ is not None:
        error = error.__cause__
    reason = " ".join(str(error).split()) or type(error).__name__
    return reason if len(reason) <= 200 else reason[:200] + "..."
