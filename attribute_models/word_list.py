r"""Read and write word lists, shipped or the user's own.

A list is UTF-8 text with one word or phrase per line, which may be quoted, and optionally a tab and a weight. A `#`
that stands alone, between white space or the ends of the line, begins a comment; `#nasa` is a word, and `\#` is a
plain number sign. Two other forms are read because they have only one possible meaning: JSON, and weights after a
space, a comma or the like. Anything else that looks like another program's list is refused: its lines, read as
phrases, would steer towards nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from pplm.errors import InputError
from pplm.files.atomic import atomic_file
from pplm.files.reading import parse_json, read_text
from pplm.models.resources import data_path, local_path, shipped_names
from pplm.short_repr import quoted

_FOLDER = "bags_of_words"
_COMMENT = re.compile(r"(?:^|\s)#(?:\s.*)?$")
_ESCAPED = re.compile(r"\\(\\*#)")
_TO_ESCAPE = re.compile(r"(?<![^\s\\])#(?=\s|$)|(?<=\\)#")
"""Number signs that would be read as a comment or an escape; they are written with a backslash in front."""
_WEIGHED = re.compile(
    r"(?P<word>.*?\S)(?P<mark>\s*(?:(?<!\d)[,:=]|;)\s*|\s+)"
    r'"?(?P<weight>[-+]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?)"?'
)
_HEADER = re.compile(r'("?)[\w ]+\1\s*[,;\t]\s*("?)(?:weight|score|value|count|frequency)s?\2', re.IGNORECASE)
_QUOTED = re.compile(r'^(?:"((?:[^"]|"")*)"|\'([^\']*)\'|\u201c([^\u201d]*)\u201d)$')
_FOREIGN = re.compile(r"[,;|]$|[;|]|^(?:[-*\u2022]|\d+[.)])\s")
"""Marks of another program's list: separators at a line's end or inside it, bullets or numbers at its beginning."""
_TO_QUOTE = re.compile(r'[,;:="|\u201c]|^(?:[\[{\']|[-*\u2022]\s|\d+[.)]\s)|\d$')
"""Words that match this could be read as something other than a word."""
_FORM = (
    "write one word or phrase per line, optionally followed by a tab and its weight, and put a phrase that holds such "
    "marks in quotes"
)


def read_word_list(name_or_path: str | Path) -> dict[str, float]:
    """Read a list in its order: every word or phrase with its weight, 1 where none is given.

    Besides `word<TAB>weight`, a number at the end of a line is a weight if it has a decimal point, or if every line
    ends in a number (`moon 0.5`, `moon;2`, csv with or without a header); otherwise it belongs to the phrase, as in
    `area 51`. A JSON list of words and a JSON object of words and weights are read too.

    Parameters
    ----------
    name_or_path
        The name of a shipped list, such as "space", or the path of a text file.

    Raises
    ------
    InputError
        If there is no such list, or it cannot be read, is not UTF-8, holds no word, holds a weight that is not a
        positive number or a word with two different weights, or is a list in another form, such as several words
        separated by commas on one line.

    """
    path = _find(name_or_path)
    text = read_text("word list", path)
    brackets = text.strip()[:1] + text.strip()[-1:]
    words: dict[str, float] = {}
    for place, word, weight_text in _json_entries(text, path) if brackets in ("[]", "{}") else _lines(text, path):
        where = f"word list {path}, {place}"
        weight = number(weight_text.strip() or "1")
        if not (math.isfinite(weight) and weight > 0):
            raise InputError(
                f"{where}: the weight {weight_text.strip()!r} is not a number above 0; write word<TAB>weight"
            )
        if not word or words.setdefault(word, weight) != weight:
            problem = f"{word!r} already has another weight; keep one" if word else "an empty word; remove it"
            raise InputError(f"{where}: {problem}")
    if not words:
        raise InputError(f"word list {path} is empty; write one word per line")
    return words


def write_word_list(path: str | Path, words: Mapping[str, float]) -> None:
    """Write a list from which `read_word_list` reads the same words and weights; weights of 1 are left out.

    Raises
    ------
    InputError
        If a word is empty, holds a tab, a line break or a NUL, or has space around it, or the file cannot be written.

    """
    lines = []
    for word, weight in words.items():
        if word.splitlines() != [word] or {"\t", "\0"} & set(word) or word.strip() != word or word.startswith("\ufeff"):
            raise InputError(
                f"word list {path} cannot hold {word!r}; take out its tabs, line breaks, NULs and outer space"
            )
        quoted = '"' + word.replace('"', '""') + '"' if _TO_QUOTE.search(word) else word
        lines.append(_TO_ESCAPE.sub(r"\\#", quoted) + ("" if weight == 1 else f"\t{float(weight)!r}"))
    try:
        with atomic_file(Path(path)) as new:
            new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    except (OSError, UnicodeEncodeError) as error:
        reason = getattr(error, "strerror", error)
        raise InputError(f"word list {path} cannot be written: {reason}; choose another place") from error


def _lines(text: str, path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, word, weight) for each line of a text; refuse what looks like a list of another form."""
    stripped = [_ESCAPED.sub(r"\1", _COMMENT.sub("", line)).strip() for line in text.splitlines()]
    lines = {at: line for at, line in enumerate(stripped, start=1) if line}
    plain = {at for at, line in lines.items() if "\t" not in line and not _QUOTED.match(line)}
    found = {at: _WEIGHED.fullmatch(line) if at in plain else None for at, line in lines.items()}
    first, *others = lines or [0]
    if others and _HEADER.fullmatch(lines[first]) and all(found[at] or "\t" in lines[at] for at in others):
        del lines[first], found[first]
    marks = {at: match["mark"].strip() if match else "" for at, match in found.items()}
    every = all(found.values()) and (len(found) > 1 or any(marks.values()))
    listed = all(at in plain and re.search("[,;]", line) for at, line in lines.items())
    for at, line in lines.items():
        word, _, weight = line.partition("\t")
        match, mark = found[at], marks[at]
        if match and (every or "." in match["weight"]):
            word, weight = match["word"], match["weight"]
            unclear = bool(mark) and mark in word and not _QUOTED.match(word)
        else:
            unclear = (listed and (match is None or len(lines) == 1)) or mark not in ("", ",")
            unclear = unclear or (at in plain and bool(_FOREIGN.search(line)))
        if unclear:
            raise InputError(f"word list {path}, line {at}: {quoted(line)} may be several words or columns; {_FORM}")
        yield f"line {at}", _QUOTED.sub(_unquoted, word.strip()).strip(), weight


def _json_entries(text: str, path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield (place, word, weight) for a JSON list of words, a list of [word, weight] pairs, or an object of weights."""
    try:
        entries = parse_json(text, object_pairs_hook=list)
    except ValueError as error:
        raise InputError(f"word list {path} has the brackets of JSON, but {error}; repair it, or {_FORM}") from error
    for number, entry in enumerate(entries, start=1):
        match (entry, "") if isinstance(entry, str) else entry:
            case [str(word), weight]:
                yield f"entry {number}", word.strip(), str(weight)
            case _:
                raise InputError(
                    f"word list {path}, entry {number}: {entry!r} is not a word; write a JSON list of words or an "
                    "object of words and their weights"
                )


def _unquoted(match: re.Match[str]) -> str:
    return match[match.lastindex or 0].replace('""', '"')


def number(text: str) -> float:
    """Return a text as a number, NaN if it is not one."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _find(name_or_path: str | Path) -> Path:
    name = str(name_or_path)
    names = shipped_names(_FOLDER, ".txt")
    if name in names:
        return data_path(_FOLDER, f"{name}.txt")
    path = local_path(name)
    if path is None:
        raise InputError(f"bag of words {name!r} is neither a file nor a shipped list ({', '.join(names)})")
    if path.is_dir():
        raise InputError(f"word list {name} is a folder; name a text file with one word per line")
    return path
