"""Bad input as a table: one row per case, with what is wanted of it; `test_bad_input.py` runs it.

A row's words are put behind a command's usual ones, which they replace. Its files lie in the folder that the command
runs in, beside `sky.txt` (a bag) and `taste` (a head). More cases: add a `Row` to a table, or a table to `ROWS`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Files = dict[str, bytes | Callable[[Path], object]]


@dataclass(frozen=True)
class Row:
    """One case: what is typed, which files lie there, and what is wanted."""

    name: str
    words: tuple[str, ...]
    """What is typed."""
    says: str = ""
    """A pattern: what a refusal (the thing, then the remedy) or a warning has to say."""
    wanted: Literal["refused", "warns", "works"] = "refused"
    clean: tuple[str, ...] | None = None
    """What is typed for the same texts in the clean form."""
    files: Files = field(default_factory=dict)
    """Content by name; a function gets the path and makes it."""
    command: str = "generate"
    late: bool = False
    """Refused after some work: what was shown before the error may stay on the screen."""
    slow: bool = False


def works(name: str, words: tuple[str, ...], clean: tuple[str, ...] | None = None, **rest) -> Row:
    """Return a row that works, with the texts of its clean form."""
    return Row(name, words, wanted="works", clean=clean, **rest)


def warns(name: str, words: tuple[str, ...], says: str, **rest) -> Row:
    """Return a row that works and warns."""
    return Row(name, words, says, "warns", **rest)


def folder(path: Path) -> None:
    """Make a folder."""
    path.mkdir()


def _each(option: str, says: str, *values: str) -> list[Row]:
    return [Row(f"{option} {value}", (option, value), says) for value in values]


OPTIONS = [
    *_each("--step-size", r"step_size must be .*; got", "nan", "inf", "-inf", "-0.1", "1e39", "1e400"),
    *_each("--step-size", "'--step-size': .* is not a valid float", "far", "", "1,5", "0x10"),
    *_each("--kl-scale", "kl_scale must be .*; got", "nan", "-1", "inf"),
    *_each("--gamma", "gamma must be .*; got", "nan", "-1", "inf", "3"),
    *_each("--gm-scale", "gm_scale must be .*; got", "1.5", "-0.1", "nan"),
    *_each("--strength", "strength must be .*; got", "nan", "-0.1", "inf"),
    *_each("--target", "target must be .*; got", "nan", "2", "-1", "much"),
    *_each("--num-iterations", "not a valid integer", "1.5", "many", "1e3"),
    *_each("--num-iterations", "num_iterations must be .*; got", "-1"),
    *_each("--window-length", "window_length must be .*; got", "-1"),
    *_each("--horizon-length", "horizon_length must be .*; got", "-1"),
    *_each("--grad-length", "grad_length must be .*; got", "-1"),
    *_each("--steer-every", "steer_every must be .*; got", "0", "-1"),
    *_each("--layers", "layers must be .*whole number", "1.5", "nan", "-1"),
    *_each("--layers", "'--layers'", "last"),
    *_each("--norm-rule", "'largest' is not one of 'running_max', 'current'", "largest"),
    *_each("--num-samples", "--num-samples must be at least 1; got", "0", "-3"),
    *_each("--unsteered-samples", "--unsteered-samples must be at least 0; got", "-1"),
    *_each("--max-new-tokens", "--max-new-tokens must be at least 1; got", "0", "-1"),
    *_each("--max-new-tokens", "the model has 64; shorten the prompt or lower", "600", "1000000000000000000000"),
    *_each("--seed", "--seed must be at least 0; got", "-1"),
    *_each("--seed", "'--seed': .* not a valid integer", "1.5", "nan"),
    *_each("--top-k", "--top-k must be at least 0; got", "-1"),
    *_each("--top-p", "--top-p must be above 0 and at most 1; got", "0", "1.1", "nan"),
    *_each("--temperature", "--temperature must be above 0.*; got", "0", "-1", "nan", "inf"),
    *_each("--repetition-penalty", "--repetition-penalty must be above 0.*; got", "0", "nan", "inf"),
    *_each("--max-batch-size", "--max-batch-size must be at least 1; got", "0", "-1"),
    *_each("--rerank", "candidates must be .*at least 1; got", "0"),
    Row("--device toaster", ("--model", "gpt2-mini", "--device", "toaster"),
        "device 'toaster' is not available here; use 'auto' or 'cpu'"),
    *_each("--dtype", "'int8' is not one of 'float32'", "int8"),
    *_each("--bag", "the weight in .* must be", "sky.txt:nan", "sky.txt:-1", "sky.txt:inf", "sky.txt:1e39"),
    *_each("--no-such-option", "No such option '--no-such-option'", "1"),
    Row("an option without its value", ("--step-size",), "'--step-size' requires an argument"),
    Row("greedy and top-k", ("--greedy", "--top-k", "5"), "--greedy takes the likeliest token; leave out --top-k"),
    Row("greedy samples", ("--greedy", "--num-samples", "2"), "--greedy gives one text per prompt; leave out"),
    Row("greedy unsteered", ("--greedy", "--unsteered-samples", "2"), "leave out --unsteered-samples 2"),
    Row("greedy candidates", ("--greedy", "--rerank", "3"), "leave out --rerank 3"),
    Row("variety above 1", ("--rerank", "3", "--min-distinct", "1.5"), "min_distinct must be .*; got 1.5"),
    Row("fluency below 0", ("--rerank", "3", "--fluency", "-1"), "fluency must be .*at least 0; got -1"),
    Row("fluency alone", ("--fluency", "0.5"), "--fluency 0.5 chooses among candidates; add --rerank 10"),
    Row("variety alone", ("--min-distinct", "0.5"), "add --rerank 10 or leave it out"),
    Row("a bag that is not there", ("--bag", "spcae"), r"'spcae' is neither a file nor a shipped list \(.*space"),
    Row("bytes that are no text", ("--bag", "sky\udcff"), "is not UTF-8 text; type it again"),
    Row("a name that colours the terminal", ("--bag", "sky\x1b[31m\x07"), r"'sky\\x1b\[31m\\x07' is neither a file nor"),
    Row("an option that colours the terminal", ("--sky\x1b[31m",), r"'--sky\\x1b\[31m'"),
    Row("an answer without a template", ("--chat",), "--model tiny.*chat template"),
    works("a step in another notation", ("--step-size", "3e-2"), ("--step-size", "0.03")),
    works("a weight of 1", ("--bag", "sky.txt:1"), ("--bag", "sky.txt")),
    *_each("--layers", "layers is .*, the model has 2; lower it, or use 0 for all layers", "3", "1" + "0" * 30),
    works("a window beyond the text", ("--window-length", "1" + "0" * 30), ("--window-length", "0")),
    works("a batch beyond the texts", ("--max-batch-size", "1" + "0" * 30), ()),
    works("top-k beyond the vocabulary", ("--top-k", "1" + "0" * 30), ("--top-k", "0")),
    works("a huge seed", ("--seed", "1" + "0" * 30)),
    works("a huge number of tokens to steer", ("--grad-length", "1" + "0" * 30), ()),
    works("a horizon without a head", ("--horizon-length", "40"), ()),
    warns("a step of 0", ("--step-size", "0"), "nothing steers: step_size is 0; the texts are unsteered"),
    warns("a weight of 0", ("--bag", "sky.txt:0"), "nothing steers: every weight is 0; the texts are unsteered"),
]  # fmt: skip


def _prompt(*prompts: str) -> tuple[str, ...]:
    return ("PROMPT", *prompts)


PROMPTS = [
    Row("no prompt", _prompt(), "Missing argument 'PROMPT...', --messages"),
    *(Row(f"nothing: {text!r}", _prompt(text), "prompt.*empty") for text in ("", "  ", "\n", "\t\r\n", "\u3000")),
    Row("one of several is empty", _prompt("The lake", ""), "prompt.*empty"),
    Row("more words than positions", _prompt("word " * 100), "the model has 64; shorten the prompt or lower"),
    Row("10,000 tokens", _prompt("word " * 2000), "the model has 64; shorten the prompt or lower"),
    Row("half a character", _prompt("a\ud83d"), "is not UTF-8 text; type it again"),
    *(works(f"prompt: {name}", _prompt(text)) for name, text in {
        "emoji": "👩\u200d🚀🌙",
        "right to left": "القمر יָרֵחַ",
        "Chinese": "月亮和星星",
        "combining letters": "e\u0301a\u0308",
        "zero width": "a\u200bb",
        "a byte order mark": "\ufeffThe lake",
        "control characters": "a\x07\x1b[31mb",
        "a NUL": "a\x00b",
        "line breaks of Windows": "The\r\nlake",
        "space around it": "  The lake  ",
        "markup": "[bold]x[/bold] [/] <b> {} %s \\n",
        "one long word": "x" * 50,
        "special tokens alone": "<|end|>",
        "special tokens, several": "<|end|><|end|>",
    }.items()),
    works("a prompt like an option", ("PROMPT", "--", "--lake")),
]  # fmt: skip

BAD_FILES: dict[str, tuple[Files, str]] = {
    "missing": ({}, "exist|is neither a file|No such file"),
    "a folder": ({"FILE": folder}, "folder|directory"),
    "empty": ({"FILE": b""}, "empty|holds no"),
    "blank lines alone": ({"FILE": b"\n \n\r\n"}, "empty|holds no|no usable|one column"),
    "binary": ({"FILE": bytes(range(256)) * 8}, "UTF-8"),
    "UTF-16": ({"FILE": "moon, 月\nstar\n".encode("utf-16")}, "UTF-8"),
    "latin-1": ({"FILE": "café\nmoon\n".encode("latin-1")}, "UTF-8"),
    "a link to itself": ({"FILE": lambda path: path.symlink_to(path.name)}, "link|exist|is neither a file"),
    "NUL characters": ({"FILE": "moon\nstar\n".encode("utf-16-le")}, "NUL|UTF-16|column|JSON|no usable"),
    "a link to nowhere": ({"FILE": lambda path: path.symlink_to("nowhere/at.all")}, "exist|is neither a file|No such file"),
}  # fmt: skip
"""Files that nothing can be read from, whatever is wanted of them: their content and what is said of them."""
READERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "a bag": ("generate", "list.txt", ("--bag", "FILE")),
    "an avoided bag": ("generate", "list.txt", ("--avoid-bag", "FILE")),
    "a file of frequencies": ("generate", "list.txt", ("--bag-weights", "FILE")),
    "conversations": ("generate", "talk.jsonl", ("PROMPT", "--messages", "FILE")),
    "prompts of a job": ("generate", "prompts.txt", ("PROMPT", "--prompts-file", "FILE")),
    "prompts of a job (csv)": ("generate", "prompts.csv", ("PROMPT", "--prompts-file", "FILE")),
    "texts to score (csv)": ("score", "texts.csv", ("FILE",)),
    "texts to score (jsonl)": ("score", "texts.jsonl", ("FILE",)),
    "texts to score (parquet)": ("score", "texts.parquet", ("FILE",)),
    "labelled texts": ("train-discriminator", "data.tsv", ("FILE",)),
    "labelled texts (txt)": ("train-discriminator", "data.txt", ("FILE",)),
    "prompts": ("tune", "prompts.txt", ("--prompts", "FILE")),
    "a base model's text": ("train-base", "corpus.txt", ("FILE",)),
}
"""What reads a file: the command, the file's name and what is typed."""


def _file_rows() -> list[Row]:
    rows = []
    for reader, (command, name, words) in READERS.items():
        for kind, (files, says) in BAD_FILES.items():
            own = dict.fromkeys([name] * bool(files), next(iter(files.values()), b""))
            typed = tuple(name if word == "FILE" else word for word in words)
            said = "cannot be read|parquet|Parquet|folder|directory|exist" if name.endswith("parquet") else says
            rows.append(
                Row(f"{reader}: {kind}", typed, rf"{name}.*({said})|({said}).*{name}", files=own, command=command)
            )
    return rows


FILES = _file_rows()


def _of(command: str, says: str, *cases: tuple[str, ...], files: Files | None = None) -> list[Row]:
    return [Row(f"{command} {' '.join(words)}", words, says, files=files or {}, command=command) for words in cases]


TEXTS: Files = {"texts.csv": b"text\nThe lake\n"}
LABELLED: Files = {"data.tsv": b"a\tone\nb\ttwo\na\tthree\nb\tfour\n"}
COMMANDS = [
    *_of("score", "no column 'body'; name one of text with --text-column", ("texts.csv", "--text-column", "body"), files=TEXTS),
    *_of("score", "batch_size must be .*; got", ("texts.csv", "--judge", "gpt2-mini", "--batch-size", "0"), files=TEXTS),
    *_of("score", "'--batch-size': 'x' is not a valid integer", ("texts.csv", "--batch-size", "x"), files=TEXTS),
    *_of("train-discriminator", "validation_fraction .*must be .*; got", ("data.tsv", "--validation-fraction", "nan"),
         ("data.tsv", "--validation-fraction", "2"), files=LABELLED),
    *_of("train-discriminator", "test_fraction .*must be .*; got", ("data.tsv", "--test-fraction", "-1"), files=LABELLED),
    *_of("train-discriminator", "seed must be .*; got", ("data.tsv", "--seed", "-1"), files=LABELLED),
    *_of("train-discriminator", "batch_tokens must be .*; got", ("data.tsv", "--batch-tokens", "0"), files=LABELLED),
    *_of("train-discriminator", "random_prefixes must be .*; got", ("data.tsv", "--random-prefixes", "-1"), files=LABELLED),
    *_of("tune", "minutes must be .*; got", ("--minutes", "nan"), ("--minutes", "-1"), ("--minutes", "0")),
    *_of("tune", "strength must be .*; got", ("--strength", "0"), ("--strength", "inf")),
    *_of("tune", "new_tokens must be .*; got", ("--new-tokens", "0"),),
    *_of("tune", "budget must be .*; got", ("--budget", "nan"), ("--budget", "-1")),
    *_of("train-base", "minutes must be .*; got", ("sky.txt", "--minutes", "inf"), ("sky.txt", "--minutes", "nan")),
    *_of("train-base", "steps must be .*; got", ("sky.txt", "--steps", "0"), ("sky.txt", "--steps", "-1")),
    *_of("train-base", "muon_lr must be .*; got", ("sky.txt", "--muon-lr", "nan"), ("sky.txt", "--muon-lr", "-1")),
    *_of("train-base", "num_layers must be .*; got", ("sky.txt", "--num-layers", "0")),
    *_of("sine", "seeds must be .*; got", ("--seeds", "0"), ("--seeds", "-1")),
    *_of("sine", "amplitude must be .*; got", ("--amplitude", "nan"), ("--amplitude", "2")),
    *_of("sine", "step_size must be .*; got", ("--step-size", "inf"), ("--step-size", "-1")),
    *_of("sine", "epochs must be .*; got", ("--epochs", "-1")),
    *_of("benchmark", "samples.*", ("--samples", "0"), ("--samples", "x"), ("--samples", "")),
    *_of("benchmark", "repeats must be .*; got", ("--repeats", "0")),
    *_of("benchmark", "new_tokens must be .*; got|new-tokens must be .*; got", ("--new-tokens", "-1")),
    *_of("classify", "Missing option '--discriminator'", ("a text",)),
    *_of("nonsense", "No such command 'nonsense'", ()),
]  # fmt: skip
ROWS = {"options": OPTIONS, "prompts": PROMPTS, "files": FILES, "commands": COMMANDS}
