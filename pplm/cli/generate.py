"""`pplm generate`: steered texts for one or more prompts, beside unsteered ones."""

from __future__ import annotations

import json
import secrets
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from pplm.attached import steering_presets
from pplm.cli.attributes import attribute_options, bag_words, load_attributes, take_choice
from pplm.cli.conversations import conversation_options, take_prompts
from pplm.cli.options import (
    check_seed,
    given_rerank,
    given_steering,
    join_processes,
    model_options,
    rerank_options,
    steering_line,
    steering_options,
    text_options,
    text_sampling,
)
from pplm.cli.outputs import FILE, check_outputs, overwrite_option, write_text
from pplm.cli.screen import coloured, screen
from pplm.config import SteeringConfig
from pplm.errors import InputError, SteeringWarning
from pplm.files.progress import progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from pplm.generated_text import Generation
    from pplm.interface import WeightedAttribute
    from pplm.models.processes import Processes
    from pplm.rerank import Rerank


@click.command("generate")
@click.argument("prompts", nargs=-1, metavar="[PROMPT...]")
@conversation_options
@attribute_options
@model_options
@click.option("--num-samples", type=int, default=None, help="Steered texts per prompt.  [default: 3; 1 with --greedy]")
@click.option(
    "--unsteered-samples",
    type=int,
    default=1,
    show_default=True,
    help="Unsteered texts per prompt, for comparison; text i uses the random numbers of steered text i.",
)
@click.option("--no-unsteered", is_flag=True, help="Leave the unsteered texts out.")
@click.option(
    "--seed",
    type=int,
    default=None,
    help="Same seed, same texts. In half precision also the same --max-batch-size: there a batch can change a text.  "
    "[default: a new one, shown on stderr]",
)
@text_options(max_new_tokens=50)
@rerank_options
@click.option("--no-bos", is_flag=True, help="Do not put the model's beginning-of-text token before the prompt.")
@click.option(
    "--max-batch-size",
    type=int,
    default=32,
    show_default=True,
    help="Texts generated at once; lower it when memory runs out, or to share few prompts out over many processes. "
    "Texts do not depend on it in float32; in half precision they can.",
)
@click.option(
    "--output", type=FILE, default=None, help="Also write every text, with its losses, as one JSON object per line."
)
@overwrite_option
@steering_options
def generate_command(
    prompts: tuple[str, ...],
    model_name: str,
    device: str,
    dtype: Any,
    quantize: Any,
    output: Path | None,
    overwrite: bool,
    **options: Any,
) -> None:
    """Write texts that begin with PROMPT and lean towards an attribute.

    Prints, for each prompt, an unsteered text and the steered ones. When the topic does not show, raise
    --strength; when the text falls apart, lower it. Where it repeats itself, add --repetition-penalty 1.2. With
    --chat the texts are answers to PROMPT.
    Several devices: accelerate launch -m pplm generate PROMPT ...
    """  # fmt: skip
    from pplm.interface import weigh_attributes
    from pplm.models.loading import load_model
    from pplm.rerank import check_rankable
    from pplm.text.aims import wanted_levels
    from pplm.text.chat_template import check_template

    asked = take_prompts(prompts, options)
    choice = take_choice(options)
    check_seed(options["seed"])
    if options["max_batch_size"] < 1:
        raise InputError(f"--max-batch-size must be at least 1; got {options['max_batch_size']}")
    given = given_steering(options)
    sampling = text_sampling(options)
    rerank = given_rerank(options)
    if rerank is not None and options["greedy"]:
        raise InputError(f"--greedy gives one text per prompt; leave out --rerank {rerank.candidates}")
    counts = _sample_counts(options)
    check_outputs({"--output": output, "--save-bag": choice.save_bag}, overwrite=overwrite)
    processes, place = join_processes(device)
    model, tokenizer = load_model(model_name, device=place, dtype=dtype, quantize=quantize)
    if not isinstance(asked[0], str):
        check_template(tokenizer, f"--model {model_name}")
    _check_prompts(model, tokenizer, asked, options, given)
    attributes = load_attributes(choice, model, tokenizer, speak=processes.main)
    weighed = weigh_attributes(attributes)
    if rerank is not None:
        check_rankable(weighed)
    steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model), **given)
    if weighed:
        wanted_levels(steering.target, weighed)
    if weighed and not (steering.moves and any(attribute.weight for attribute in weighed)):
        zero = "every weight is 0" if steering.moves else f"{steering.why_still} is 0"
        warnings.warn(f"nothing steers: {zero}; the texts are unsteered", SteeringWarning, stacklevel=2)
    seed = options["seed"]
    if seed is None:
        seed = processes.share(secrets.randbelow(2**31))
    if processes.main:
        unsteered = "no attribute given (--bag, --discriminator, ...): the texts are unsteered"
        preset = SteeringConfig.preset_for(attributes, steering_presets(model), **given)
        click.echo(steering_line(steering, preset, given) if attributes else unsteered, err=True)
        if options["seed"] is None:
            click.echo(f"seed {seed}", err=True)
    request = {
        "seed": seed,
        "bos": not options["no_bos"],
        "max_batch_size": options["max_batch_size"],
        **sampling,
    }
    plain: tuple[Any, int, None] = ([], counts[0] if attributes else counts[1], None)
    runs = [plain, (attributes, counts[1], rerank)] if attributes else [plain]
    texts = _generate(model, tokenizer, asked, runs, processes, {"steering": steering, **request})
    if not processes.main:
        return
    _show(texts, len(asked), bag_words(attributes))
    if output is not None:
        settings = {"steering": asdict(steering), "attributes": _describe(weighed), "model": model_name}
        if rerank is not None:
            settings["rerank"] = asdict(rerank)
        _write(output, texts, settings, unsteered=counts[0] * len(asked) if attributes else len(texts))


def _generate(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Any],
    runs: Sequence[tuple[Any, int, Rerank | None]],
    processes: Processes,
    request: dict[str, Any],
) -> list[Generation]:
    """Return the texts of all runs (attribute models, texts per prompt, rerank) in order, of all processes."""
    import torch

    from pplm.generation import generate

    most = max(number * (rerank.candidates if rerank else 1) for _, number, rerank in runs)
    groups = processes.own(_groups(len(prompts), most, request["max_batch_size"]))
    steps = len(groups) * sum(number > 0 for _, number, _ in runs) * request["max_new_tokens"]
    texts: list[Generation] = []
    with progress_bar("steering", "tokens", shown=processes.main) as on_progress:
        numbers = count(1)

        def count_token(input_ids: Tensor, scores: Any, **kwargs: Any) -> Tensor:  # noqa: ARG001
            """Move the bar: transformers calls a stopping criterion once per token. It never stops anything."""
            on_progress(next(numbers), steps)
            return input_ids.new_zeros(len(input_ids), dtype=torch.bool)

        for attributes, number, rerank in runs:
            own: list[Generation] = []
            for group in groups if number else []:
                own += generate(model, tokenizer, [prompts[i] for i in group], prompt_indices=group,
                                attributes=attributes, num_samples=number, rerank=rerank,
                                stopping_criteria=[count_token], **request)  # fmt: skip
            texts += sorted(processes.join(own), key=lambda text: (text.prompt_index, text.sample))
    return texts


def _groups(prompts: int, texts: int, size: int) -> list[range]:
    """Deal prompts with `texts` texts each into groups that are generated at once.

    The groups are the same in one process and in many, so that not even the rounding of a text depends on that.
    """
    each = max(1, size // texts)
    return [range(start, min(start + each, prompts)) for start in range(0, prompts, each)]


def _sample_counts(options: dict[str, Any]) -> tuple[int, int]:
    """Return (unsteered, steered) texts per prompt."""
    unsteered, steered = options["unsteered_samples"], options["num_samples"]
    if steered is None:
        steered = 1 if options["greedy"] else 3
    if steered < 1:
        raise InputError(f"--num-samples must be at least 1; got {steered}")
    if unsteered < 0:
        raise InputError(f"--unsteered-samples must be at least 0; got {unsteered}")
    if options["greedy"] and max(steered, unsteered) > 1:
        raise InputError(f"--greedy gives one text per prompt; leave out --num-samples {max(steered, unsteered)}")
    return (0 if options["no_unsteered"] else unsteered), steered


def _check_prompts(
    model: Any, tokenizer: Any, prompts: Sequence[Any], options: dict[str, Any], given: dict[str, Any]
) -> None:
    """Refuse prompts that cannot be continued, before attributes are loaded."""
    from pplm.text.limits import check_length
    from pplm.text.prompts import read_prompt

    longest = max(len(read_prompt(model, tokenizer, prompt, bos=not options["no_bos"]).ids) for prompt in prompts)
    check_length(model, longest, longest + options["max_new_tokens"], given.get("horizon_length", 1))


def _show(texts: Sequence[Generation], num_prompts: int, words: set[str]) -> None:
    """Print prompt by prompt, bag words in colour where stdout is a terminal; of conversations the answers alone."""
    console = screen()
    for index in range(num_prompts):
        own = [text for text in texts if text.prompt_index == index]
        if own[0].messages is not None:
            console.print(Text("[asked] ", style="bold"), Text(" ".join(own[0].prompt.split())), sep="")
        for text in own:
            kind = f"steered {text.sample + 1}" if text.steered else f"unsteered {text.sample + 1}"
            console.print(Text(f"[{kind}] ", style="bold cyan" if text.steered else "bold"), end="")
            written = text.text if text.messages is None else text.completion
            console.print(coloured(" ".join(written.split()), words))
        console.print()


def _describe(attributes: Sequence[WeightedAttribute]) -> list[dict[str, Any]]:
    return [{"name": a.name, "weight": a.weight, "label": getattr(a.model, "label", None)} for a in attributes]


def _write(path: Path, texts: Sequence[Generation], settings: dict[str, Any], *, unsteered: int) -> None:
    """Write one JSON object per line; the first `unsteered` texts were generated without attributes or reranking."""
    plain = {**settings, "attributes": [], "rerank": None}
    rows = [{**text.record(), **(plain if number < unsteered else settings)} for number, text in enumerate(texts)]
    write_text("--output", path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
