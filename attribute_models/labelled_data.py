"""Labelled texts for training a head: read, cleaned and split so that no text is in two splits."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from attribute_models.data_files import read_labels
from pplm.errors import InputError
from pplm.short_repr import ShortRepr


@dataclass(frozen=True, repr=False)
class LabelledData(ShortRepr):
    """Cleaned texts with their classes, and how many rows were left out.

    Attributes
    ----------
    texts
        N texts, which all differ in more than case and white space.
    targets
        (N,) class numbers.
    labels
        The class names, in the data set's own order or else sorted; they all differ in more than case and white space.
    source
        Name of the file or hub data set for the card, without its folders.
    empty, unlabelled
        Rows left out because they have no text or no label.
    duplicates
        Rows left out because an earlier one has the same text and label.
    contradictory
        Rows left out because the same text has several labels.
    folded_labels
        Labels that were read as another one, which differs only in case or white space, with their numbers of rows.

    """

    texts: tuple[str, ...]
    targets: np.ndarray
    labels: tuple[str, ...]
    source: str = "given texts"
    empty: int = 0
    unlabelled: int = 0
    duplicates: int = 0
    contradictory: int = 0
    folded_labels: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        labels: Iterable[str | None],
        *,
        class_names: Sequence[str] | None = None,
        source: str = "given texts",
    ) -> LabelledData:
        """Clean texts and their labels, one label per text.

        Texts that differ only in case and white space count once: one that is in both the training and the test split
        would be graded from memory. Labels that differ only in case and white space are one class, named by the most
        frequent spelling. `class_names` sets the order of the classes; None sorts them.

        Raises
        ------
        InputError
            If nothing is left, there is only one class, or there are no more texts than classes.

        """
        counts: Counter[str] = Counter()
        spellings: dict[str, Counter[str]] = defaultdict(Counter)
        by_text: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for text, label in zip(texts, labels, strict=True):
            if not text.strip():
                counts["empty"] += 1
            elif label is None or not label.strip():
                counts["unlabelled"] += 1
            else:
                spellings[_folded(label)][label] += 1
                by_text[_folded(text)].append((text.strip(), _folded(label)))
        kept: list[tuple[str, str]] = []
        for rows in by_text.values():
            if len({label for _, label in rows}) > 1:
                counts["contradictory"] += len(rows)
            else:
                kept.append(rows[0])
                counts["duplicates"] += len(rows) - 1
        usual = {key: found.most_common(1)[0][0] for key, found in spellings.items()}
        name_of = {key: " ".join(spelling.split()) for key, spelling in usual.items()}
        used = {name_of[label] for _, label in kept}
        order = dict.fromkeys(name_of.get(_folded(name)) for name in class_names) if class_names else sorted(used)
        names = tuple(name for name in order if name in used)
        _check(names, len(kept), counts, source)
        number = {name: i for i, name in enumerate(names)}
        targets = np.array([number[name_of[label]] for _, label in kept], dtype=np.int64)
        folded = {s: n for key, found in spellings.items() for s, n in found.items() if s != usual[key]}
        return cls(tuple(text for text, _ in kept), targets, names, source, **counts, folded_labels=folded)

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of texts by label."""
        counts = np.bincount(self.targets, minlength=len(self.labels))
        return {name: int(count) for name, count in zip(self.labels, counts, strict=True)}

    @property
    def fingerprint(self) -> str:
        """A hash of all texts and labels, in their order."""
        digest = hashlib.sha256()
        for text, target in zip(self.texts, self.targets, strict=True):
            digest.update(f"{self.labels[target]}\t{text}\n".encode(errors="surrogatepass"))
        return digest.hexdigest()[:16]

    def select(self, rows: np.ndarray) -> LabelledData:
        """Return the texts of some rows, with the same class numbers."""
        return LabelledData(tuple(self.texts[i] for i in rows), self.targets[rows], self.labels, self.source)

    def split(self, fractions: Sequence[float], seed: int) -> tuple[np.ndarray, ...]:
        """Split the rows at random into disjoint parts; each class is in every part, in the same proportions.

        Parameters
        ----------
        fractions
            Shares of all parts but the first, which gets the rest; each above 0, together below 1.
        seed
            The same seed gives the same parts.

        Returns
        -------
        tuple of arrays
            Sorted row numbers; the rest first, then the parts in the order of `fractions`.

        Raises
        ------
        InputError
            If a class has fewer texts than there are parts, or the fractions are out of range.

        """
        if not all(0 < f < 1 for f in fractions) or not sum(fractions) < 1:
            raise InputError(f"fractions must be above 0 and together below 1; got {list(fractions)}")
        random = np.random.default_rng(seed)
        parts: list[list[np.ndarray]] = [[] for _ in range(len(fractions) + 1)]
        for number, name in enumerate(self.labels):
            rows = random.permutation(np.flatnonzero(self.targets == number))
            if len(rows) < len(parts):
                raise InputError(
                    f"label {name!r} has {len(rows)} text{'s' if len(rows) != 1 else ''}, fewer than the "
                    f"{len(parts)} splits need; add texts or leave the label out"
                )
            sizes = [max(1, round(fraction * len(rows))) for fraction in fractions]
            if sum(sizes) >= len(rows):  # a tiny class: one text for each other part, the rest for the first
                sizes = [1] * len(fractions)
            *others, rest = np.split(rows, np.cumsum(sizes))
            for part, piece in zip(parts, (rest, *others), strict=True):
                part.append(piece)
        return tuple(np.sort(np.concatenate(part)) for part in parts)


def _folded(text: str) -> str:
    """Return a text in one letter case and with single spaces."""
    return " ".join(text.casefold().split())


def read_labelled(
    data: str | Path,
    *,
    text_column: str | None = None,
    label_column: str | None = None,
    config: str | None = None,
    split: str | None = None,
) -> LabelledData:
    """Read and clean labelled texts.

    Parameters
    ----------
    data
        A .csv, .tsv, .txt (tabs), .jsonl, .json or .parquet file, a folder of csv, jsonl or parquet files with column
        names, or a hub data set id. The published form, `label<TAB>text` without a header, works as it is.
    text_column, label_column
        Column names; None takes a column with a well-known name (text, sentence, review, ...; label, class, sentiment,
        ...).
    config, split
        Configuration and split of a hub data set; the split is "train" by default, and "train+validation" joins two.

    Raises
    ------
    InputError
        If the data cannot be read, its columns are not found, there is only one class, or there are no more texts than
        classes.

    """
    texts, labels, names = read_labels(data, (text_column, label_column), config=config, split=split)
    name = Path(data).name if Path(data).expanduser().exists() else str(data)
    source = ", ".join(part for part in (name, config, split) if part)
    return LabelledData.from_texts(texts, labels, class_names=names, source=source)


def _check(names: Sequence[str], rows: int, counts: Counter[str], source: str) -> None:
    if rows == 0:
        raise InputError(
            f"{source} has no usable text ({counts['empty']} empty, {counts['unlabelled']} without a label, "
            f"{counts['contradictory']} under several labels); check the text and the label column"
        )
    if len(names) == 1:
        raise InputError(f"{source} has one class only, {names[0]!r}; a discriminator needs at least two")
    if rows <= len(names):
        raise InputError(
            f"{source} has {rows} texts under {len(names)} labels, too few to learn anything; is the label column "
            "the right one?"
        )
