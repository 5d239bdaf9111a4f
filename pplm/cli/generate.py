"""`pplm generate`: steered texts for one or more prompts, beside unsteered ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch
from rich.console import Console
from rich.text import Text
from torch import Tensor
from transformers import StoppingCriteria

from pplm.attached import steering_presets
from pplm.cli.attributes import attribute_options, bag_words, load_attributes, take_choice
from pplm.cli.options import (
    given_rerank,
    given_sampling,
    given_steering,
    join_processes,
    model_options,
    rerank_options,
    sampling_options,
    steering_options,
)
from pplm.cli.outputs import check_writable
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.files.progress import OnProgress, progress_bar
from pplm.generated_text import Generation
from pplm.generation import generate
from pplm.interface import weigh_attributes
from pplm.models.loading import load_model
from pplm.models.processes import Processes
from pplm.rerank import Rerank, check_rankable
from pplm.text.encoding import encode_prompt
from pplm.text.limits import check_length


@click.command("generate")
@click.argument("prompts", nargs=-1, required=True, metavar="PROMPT...")
@attribute_options
@model_options
@click.option("--num-samples", type=int, default=None, help="Steered samples a prompt.  [default: 3; 1 with --greedy]")
@click.option(
    "--unsteered-samples",
    type=int,
    default=1,
    show_default=True,
    help="Unsteered samples a prompt, for comparison; sample i uses steered sample i's random numbers.",
)
@click.option("--no-unsteered", is_flag=True, help="Leave the unsteered samples out.")
@click.option("--max-new-tokens", type=int, default=50, show_default=True, help="Length of the new text, in tokens.")
@click.option("--seed", type=int, default=None, help="Same seed, same texts.  [default: a new one, shown on stderr]")
@click.option("--greedy", is_flag=True, help="Always take the likeliest token; one sample a prompt.")
@sampling_options
@rerank_options
@click.option("--no-bos", is_flag=True, help="Do not put the model's beginning-of-text token before the prompt.")
@click.option(
    "--max-batch-size",
    type=int,
    default=32,
    show_default=True,
    help="Texts generated at once; lower it when memory runs out, or to share few prompts out over many processes.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=None,
    help="Also write every text, with its losses, as one JSON object a line.",
)
@steering_options
def generate_command(
    prompts: tuple[str, ...],
    model_name: str,
    device: str,
    dtype: Any,
    output: Path | None,
    **options: Any,
) -> None:
    """Write texts that begin with PROMPT and lean towards an attribute.

    Prints, for each prompt, an unsteered text and the steered ones. When the text repeats itself, lower
    --step-size or --gm-scale, or add --repetition-penalty 1.2. When the topic does not show, raise --step-size
    or --num-iterations. Several devices: accelerate launch -m pplm generate PROMPT ...
    """  # fmt: skip
    choice = take_choice(options)
    if options["seed"] is not None and options["seed"] < 0:
        raise InputError(f"--seed must be at least 0; got {options['seed']}")
    given = given_steering(options)
    SteeringConfig(**given)  # wrong values are told before a model is loaded
    sampling = _sampling(options)
    rerank = given_rerank(options)
    if rerank is not None and options["greedy"]:
        raise InputError(f"--greedy gives one text a prompt; leave out --rerank {rerank.candidates}")
    counts = _sample_counts(options)
    check_writable("--output", output)
    processes, place = join_processes(device)
    model, tokenizer = load_model(model_name, device=place, dtype=dtype)
    _check_prompts(model, tokenizer, prompts, options, given)
    attributes = load_attributes(choice, model, tokenizer, speak=processes.main)
    if rerank is not None:
        check_rankable(weigh_attributes(attributes))
    if not attributes and processes.main:
        click.echo("no attribute given (--bag, --discriminator, ...): the texts are unsteered", err=True)
    steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model), **given)
    seed = options["seed"]
    if seed is None:
        seed = processes.share(int(torch.randint(2**31, ())))
        if processes.main:
            click.echo(f"seed {seed}", err=True)
    request = {
        "seed": seed,
        "bos": not options["no_bos"],
        "max_batch_size": options["max_batch_size"],
        **sampling,
    }
    plain: tuple[Any, int, None] = ([], counts[0] if attributes else counts[1], None)
    runs = [plain, (attributes, counts[1], rerank)] if attributes else [plain]
    texts = _generate(model, tokenizer, prompts, runs, processes, {"steering": steering, **request})
    if not processes.main:
        return
    _show(texts, len(prompts), bag_words(attributes))
    if output is not None:
        settings = {"steering": asdict(steering), "attributes": _describe(attributes), "model": model_name}
        if rerank is not None:
            settings["rerank"] = asdict(rerank)
        _write(output, texts, settings, unsteered=counts[0] * len(prompts) if attributes else len(texts))


def _generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[str],
    runs: Sequence[tuple[Any, int, Rerank | None]],
    processes: Processes,
    request: dict[str, Any],
) -> list[Generation]:
    """Return the texts of all runs (attribute models, samples a prompt, rerank) in order, whoever generated them."""
    most = max(number * (rerank.candidates if rerank else 1) for _, number, rerank in runs)
    groups = processes.own(_groups(len(prompts), most, request["max_batch_size"]))
    steps = len(groups) * sum(number > 0 for _, number, _ in runs) * request["max_new_tokens"]
    texts: list[Generation] = []
    with progress_bar("steering", "tokens", shown=processes.main) as on_progress:
        count_token = _CountToken(on_progress, steps)
        for attributes, number, rerank in runs:
            own: list[Generation] = []
            for group in groups if number else []:
                own += generate(model, tokenizer, [prompts[i] for i in group], prompt_indices=group,
                                attributes=attributes, num_samples=number, rerank=rerank,
                                stopping_criteria=[count_token], **request)  # fmt: skip
            texts += sorted(processes.join(own), key=lambda text: (text.prompt_index, text.sample))
    return texts


def _groups(prompts: int, texts: int, size: int) -> list[range]:
    """Deal prompts with so many texts each into groups that are generated at once, whatever the processes.

    A text does not depend on its batch but for rounding; the groups are the same in one process and in many, so
    that not even that differs.
    """
    if size < 1:
        raise InputError(f"--max-batch-size must be at least 1; got {size}")
    each = max(1, size // texts)
    return [range(start, min(start + each, prompts)) for start in range(0, prompts, each)]


def _sampling(options: dict[str, Any]) -> dict[str, Any]:
    """Return what goes to transformers' `generate`; wrong combinations are refused."""
    if options["max_new_tokens"] < 1:
        raise InputError(f"--max-new-tokens must be at least 1; got {options['max_new_tokens']}")
    given = given_sampling(options)
    chosen = {"max_new_tokens": options["max_new_tokens"], "do_sample": not options["greedy"]}
    if options["greedy"]:
        draws = [name for name in given if name != "repetition_penalty"]
        if draws:
            raise InputError(f"--greedy takes the likeliest token; leave out --{draws[0].replace('_', '-')}")
        return chosen | given
    return chosen | {"top_k": 10} | given


def _sample_counts(options: dict[str, Any]) -> tuple[int, int]:
    """Return (unsteered, steered) samples a prompt."""
    unsteered, steered = options["unsteered_samples"], options["num_samples"]
    if steered is None:
        steered = 1 if options["greedy"] else 3
    if steered < 1:
        raise InputError(f"--num-samples must be at least 1; got {steered}")
    if unsteered < 0:
        raise InputError(f"--unsteered-samples must be at least 0; got {unsteered}")
    if options["greedy"] and max(steered, unsteered) > 1:
        raise InputError(f"--greedy gives one text a prompt; leave out --num-samples {max(steered, unsteered)}")
    return (0 if options["no_unsteered"] else unsteered), steered


def _check_prompts(
    model: Any, tokenizer: Any, prompts: Sequence[str], options: dict[str, Any], given: dict[str, Any]
) -> None:
    """Refuse what cannot be continued before anything else is said about it."""
    longest = max(len(encode_prompt(model, tokenizer, prompt, bos=not options["no_bos"])) for prompt in prompts)
    check_length(model, longest, longest + options["max_new_tokens"], given.get("horizon_length", 1))


class _CountToken(StoppingCriteria):
    """Never stops anything; transformers calls it once a token, which moves the progress bar."""

    def __init__(self, on_progress: OnProgress, total: int) -> None:
        self._on_progress, self._done, self._total = on_progress, 0, total

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ARG002
        self._done += 1
        self._on_progress(self._done, self._total)
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def _show(texts: Sequence[Generation], num_prompts: int, words: set[str]) -> None:
    """Print prompt by prompt, bag words in colour where stdout is a terminal."""
    console = Console(highlight=False, soft_wrap=True)
    for index in range(num_prompts):
        for text in (t for t in texts if t.prompt_index == index):
            kind = f"steered {text.sample + 1}" if text.steered else f"unsteered {text.sample + 1}"
            console.print(Text(f"[{kind}] ", style="bold cyan" if text.steered else "bold"), end="")
            shown = Text(" ".join(text.text.split()))
            shown.highlight_words([w for w in _words_of(text.text) if w.lower() in words], style="bold green")
            console.print(shown)
        console.print()


def _words_of(text: str) -> list[str]:
    return ["".join(filter(str.isalpha, part)) for part in text.split()]


def _describe(attributes: Sequence[Any]) -> list[dict[str, Any]]:
    return [
        {"name": a.name, "weight": a.weight, "label": getattr(a.model, "label", None)}
        for a in weigh_attributes(attributes)
    ]


def _write(path: Path, texts: Sequence[Generation], settings: dict[str, Any], *, unsteered: int) -> None:
    """Write one JSON object a line; the first texts, so many, knew no attribute and were the only ones drawn."""
    plain = {**settings, "attributes": [], "rerank": None}
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts):
            own = plain if number < unsteered else settings
            file.write(json.dumps({**text.record(), **own}, ensure_ascii=False) + "\n")
