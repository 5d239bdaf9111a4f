"""How to make the page's texts outside of it: a command line and a Python program."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Iterable, Iterator

from attribute_models.naming import BAGS, INLINE
from attribute_models.word_list import read_word_list
from pplm.apps.web.request import PageRequest
from pplm.apps.web.served import SAMPLING, Served
from pplm.models.resources import EMBEDDED_MODEL, shipped_names

_CONVERSATION = "./conversation.jsonl"


def as_command(served: Served, request: PageRequest) -> str:
    """Return the command that generates the texts, each argument quoted for a shell.

    A list of the operator's is not on the visitor's machine, so the command begins by writing its words to a file, and
    likewise the messages of a conversation.
    """
    files: dict[str, str] = {}
    written: list[str] = []
    words = ["pplm", "generate", *_option("--model", served.name, EMBEDDED_MODEL)]
    for name, value in served.options.items():
        words += _option(f"--{name}", value)
    for option, names in (("--bag", request.bags), ("--avoid-bag", request.avoid_bags)):
        for name in names:
            if name not in shipped_names(BAGS, ".txt") and name not in files:
                files[name] = _new_file(name, files.values())
                words_of = read_word_list(served.known.bags[name]).items()
                # printf writes the tabs: a tab that is pasted may make the shell complete a word.
                written.append(_file(r"%s\t%s\n", (str(one) for pair in words_of for one in pair), files[name]))
            words += _option(option, files.get(name, name))
    for option, own in (
        ("--words", request.words),
        ("--avoid-words", request.avoid_words),
        ("--bag-from", request.seeds),
    ):
        words += _option(option, ",".join(own), "")
    for name in request.heads:
        words += _option("--discriminator", name)
    if request.conversation:
        # ASCII, so that nothing in an answer acts on a terminal that the command is pasted into.
        written.append(_file(r"%s\n", [json.dumps(request.messages())], _CONVERSATION))
        words += ["--messages", _CONVERSATION]
    elif request.chat:
        words += ["--chat", *_option("--system", request.system, "")]
    words += ["--num-samples", str(request.samples)]
    if request.names_any:
        words += ["--unsteered-samples", str(request.samples), "--strength", str(request.strength)]
    words += ["--max-new-tokens", str(request.length), "--seed", str(request.seed)]
    if not request.conversation:
        words += [*(["--"] if request.prompt.startswith("-") else []), request.prompt]
    return "\n".join([*written, shlex.join(words)])


def as_python(served: Served, request: PageRequest) -> str:
    """Return a program that prints the texts, the steered ones first; values are written by `repr`."""
    options = "".join(f", {name}={value!r}" for name, value in served.options.items())
    prompt = request.messages() if request.chat else request.prompt
    common = {"num_samples": request.samples, "seed": request.seed, "max_new_tokens": request.length, **SAMPLING}
    attributes = list(_attributes(served, request))
    used = {
        "Avoid": request.avoid_bags + request.avoid_words,
        "BagOfWords": request.bags + request.avoid_bags + request.words + request.avoid_words + request.seeds,
        "Discriminator": request.heads,
    }
    names = [name for name, parts in used.items() if parts]
    lines = ["import pplm", *([f"from attribute_models import {', '.join(names)}"] if names else []), ""]
    lines += [
        f"model, tokenizer = pplm.load_model({served.name!r}{options})",
        f"prompt = {prompt!r}",
        f"settings = dict({', '.join(f'{name}={value!r}' for name, value in common.items())})",
        "unsteered = pplm.generate(model, tokenizer, prompt, **settings)",
    ]
    if attributes:
        lines += [
            "attributes = [",
            *(f"    {one}," for one in attributes),
            "]",
            "steering = pplm.SteeringConfig.for_attributes(",
            f"    attributes, presets=pplm.steering_presets(model), strength={request.strength!r}",
            ")",
            "steered = pplm.generate(model, tokenizer, prompt, attributes=attributes, steering=steering, **settings)",
        ]
    return "\n".join([*lines, f"for text in {'steered + ' if attributes else ''}unsteered:", "    print(text.text)"])


def _attributes(served: Served, request: PageRequest) -> Iterator[str]:
    """Return the attribute models as Python, in the order of `name_attributes`."""
    for name in request.bags:
        yield _bag(served, name)
    for name in request.avoid_bags:
        yield f"Avoid({_bag(served, name)})"
    if request.words:
        yield _own_words(request.words)
    if request.avoid_words:
        yield f"Avoid({_own_words(request.avoid_words)})"
    if request.seeds:
        yield f"BagOfWords.from_seeds({list(request.seeds)!r}, model, tokenizer)"
    for name in request.heads:
        head, _, label = name.rpartition(":")
        yield f"Discriminator.load({head!r}, {label!r})"


def _bag(served: Served, name: str) -> str:
    if name in shipped_names(BAGS, ".txt"):
        return f"BagOfWords.load({name!r}, tokenizer)"
    return f"BagOfWords.from_words({read_word_list(served.known.bags[name])!r}, tokenizer, name={name!r})"


def _own_words(words: tuple[str, ...]) -> str:
    return f"BagOfWords.from_words({list(words)!r}, tokenizer, name={INLINE!r})"


def _new_file(name: str, taken: Collection[str]) -> str:
    """Return a plain file name for a list, which is not among those taken."""
    plain = re.sub("[^A-Za-z0-9]+", "_", name)
    endings = ("", *(f"_{number}" for number in range(2, len(taken) + 2)))
    return next(path for ending in endings if (path := f"./{plain}{ending}.txt") not in taken)


def _file(line: str, parts: Iterable[str], path: str) -> str:
    """Return the command that writes parts into a file, each line filled as its printf format `line` says."""
    return f"printf '{line}' {shlex.join(parts)} > {path}"


def _option(name: str, value: str, default: str | None = None) -> list[str]:
    """Return an option with its value, in one word where the value could be taken for an option; nothing by default."""
    if value == default:
        return []
    return [f"{name}={value}"] if value.startswith("-") else [name, value]
