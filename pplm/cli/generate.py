"""`pplm generate`: steered texts for one or more prompts, beside unsteered ones."""

from __future__ import annotations

import secrets
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from pplm.attached import steering_presets
from pplm.cli.attributes import AttributeChoice, attribute_options, bag_words, load_attributes, take_choice
from pplm.cli.conversations import conversation_options, prompt_maker, take_prompts
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
from pplm.cli.outputs import FILE, check_outputs, line_file, overwrite_option
from pplm.cli.prompt_files import prompts_file_options, run_file_job, take_file_job, with_progress
from pplm.cli.row_settings import RowSettings
from pplm.cli.screen import coloured, screen
from pplm.config import SteeringConfig
from pplm.errors import InputError, SteeringWarning

if TYPE_CHECKING:
    from pplm.generated_text import Generation
    from pplm.interface import WeightedAttribute
    from pplm.jobs.requests import Job, Request
    from pplm.models.processes import Processes


@click.command("generate")
@click.argument("prompts", nargs=-1, metavar="[PROMPT...]")
@prompts_file_options
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
    "--output", type=FILE, default=None, help="Write every text, with its losses, as one JSON object per line."
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
    --chat the texts are answers to PROMPT. For many prompts: --prompts-file FILE --output FILE, which --resume goes
    on with.
    Several devices: accelerate launch -m pplm generate PROMPT ...
    """  # fmt: skip
    from pplm.interface import bind_attributes, weigh_attributes
    from pplm.jobs.requests import Job
    from pplm.models.fingerprint import content_hash, tokenizer_fingerprint, weight_hashes
    from pplm.models.loading import load_model
    from pplm.rerank import check_rankable
    from pplm.text.aims import wanted_levels
    from pplm.text.chat_template import check_template

    long_job = take_file_job(prompts, options, output, overwrite=overwrite)
    chats, system = options["chat"], options["system"]
    converse = None if long_job is None else prompt_maker(options)
    asked = take_prompts(prompts, options) if long_job is None else []
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
    outputs = {"--output": output, "--save-bag": choice.save_bag}
    check_outputs(outputs, overwrite=overwrite or (long_job is not None and long_job.resume))
    processes, place = join_processes(device)
    model, tokenizer = load_model(model_name, device=place, dtype=dtype, quantize=quantize)
    if chats or (asked and not isinstance(asked[0], str)):
        check_template(tokenizer, f"--model {model_name}")
    if asked:
        _check_prompts(model, tokenizer, asked, options, given)
    attributes = load_attributes(choice, model, tokenizer, speak=processes.main)
    weighed = bind_attributes(weigh_attributes(attributes), model)
    by_rows = long_job is not None and bool(long_job.use_columns)
    if rerank is not None and not by_rows:
        check_rankable(weighed)
    steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model), **given)
    if weighed and not by_rows:
        wanted_levels(steering.target, weighed)
    if weighed and not by_rows and not (steering.moves and any(attribute.weight for attribute in weighed)):
        zero = "every weight is 0" if steering.moves else f"{steering.why_still} is 0"
        warnings.warn(f"nothing steers: {zero}; the texts are unsteered", SteeringWarning, stacklevel=2)
    seed = options["seed"]
    if seed is None:
        stored = None if long_job is None else long_job.stored_seed
        seed = processes.share(secrets.randbelow(2**31) if stored is None else stored)
    if processes.main:
        unsteered = "no attribute given (--bag, --discriminator, ...): the texts are unsteered"
        preset = SteeringConfig.preset_for(attributes, steering_presets(model), **given)
        click.echo(steering_line(steering, preset, given) if attributes or by_rows else unsteered, err=True)
        if options["seed"] is None:
            click.echo(f"seed {seed}", err=True)

    def load(other: AttributeChoice) -> Sequence[WeightedAttribute]:
        if other == choice:
            return weighed
        return bind_attributes(weigh_attributes(load_attributes(other, model, tokenizer, speak=False)), model)

    rows = RowSettings(choice, given, counts, rerank, steering_presets(model), load, converse)
    if long_job is not None:
        rows = replace(rows, column=long_job.prompts.column, used=long_job.use_columns,
                       allow_files=long_job.allow_files)  # fmt: skip
    each = 1 if rerank is None else rerank.candidates
    job = Job(
        model=model,
        tokenizer=tokenizer,
        ways=rows.ways(),
        drawn=((counts[0] if attributes or by_rows else 0), counts[1] * each),
        seed=seed,
        batch_size=options["max_batch_size"],
        arguments={"bos": not options["no_bos"], **sampling},
    )
    settings: dict[str, Any] = {"steering": asdict(steering), "attributes": _describe(weighed), "model": model_name}
    if rerank is not None:
        settings["rerank"] = asdict(rerank)
    if long_job is None:
        requests = [rows.request(number, {rows.column: prompt}) for number, prompt in enumerate(asked)]
        _show(_write_texts(job, requests, processes, output, settings), len(asked), bag_words(attributes))
        return
    settings |= {"attributes": [{**_describe([a])[0], "sha256": content_hash(a.model)} for a in weighed],
                 "model": weight_hashes(model)["float32"], "tokenizer": tokenizer_fingerprint(tokenizer),
                 "dtype": dtype, "quantize": quantize, "counts": counts, "seed": seed, "chat": chats,
                 "system": system, "given": given, "max_batch_size": job.batch_size, **job.arguments}  # fmt: skip
    if run_file_job(long_job, job, rows, processes, settings):
        sys.exit(1)


def _write_texts(
    job: Job, requests: Sequence[Request], processes: Processes, output: Path | None, settings: Mapping[str, Any]
) -> list[Generation]:
    """Return the texts of all prompts in order; write each as a line as it is made.

    Raises
    ------
    InputError
        If a prompt fails.

    """
    from pplm.jobs.ledger import Ledger
    from pplm.jobs.requests import Failed

    plain = {**settings, "attributes": [], "rerank": None}
    texts: list[Generation] = []
    ledger: Ledger[Any] = Ledger(lambda made: made.error if isinstance(made, Failed) else (made.text, made.steers))
    with line_file("--output", output if processes.main else None) as write:
        for window in with_progress(job, requests, ledger, processes, len(requests)):
            for item in ledger.release(window):
                if isinstance(item, str):
                    raise InputError(item)
                text, steers = item
                texts.append(text)
                write({**text.record(), **(settings if steers else plain)})
    return texts


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
