"""`pplm generate`: steered texts for one or more prompts, beside unsteered ones."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from attribute_models.naming import bag_words
from pplm.cli.attributes import attribute_options
from pplm.cli.conversations import conversation_options, prompt_maker, take_prompts
from pplm.cli.file_jobs import run_file_job
from pplm.cli.generate_setup import Asked, Setup, set_up
from pplm.cli.job_progress import with_progress
from pplm.cli.options import join_processes, model_options, rerank_options, text_options
from pplm.cli.outputs import FILE, check_outputs, line_file, overwrite_option
from pplm.cli.prompt_files import FileJob, prompts_file_options, take_file_job
from pplm.cli.screen import coloured, screen
from pplm.cli.steering_options import steering_options
from pplm.cli.stream import stream_texts, take_stream
from pplm.cli.trace_file import check_trace, trace_option, write_trace
from pplm.errors import InputError

if TYPE_CHECKING:
    from pplm.generated_text import Generation
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
    default=None,
    help="Unsteered texts per prompt, for comparison; text i uses the random numbers of steered text i.  [default: 1; "
    "with --trace as many as --num-samples]",
)
@click.option("--no-unsteered", is_flag=True, help="Leave the unsteered texts out.")
@click.option(
    "--seed",
    type=int,
    default=None,
    help="The same seed gives the same texts; in half precision, where a batch can change a text, only with the same "
    "--max-batch-size.  "
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
@trace_option
@overwrite_option
@click.option(
    "--stream",
    is_flag=True,
    help="Show one unsteered and one steered text token by token as they come, on a terminal shaded by what steering "
    "changed. Not with several prompts or samples, --rerank, --output, --trace, --prompts-file or --messages.",
)
@steering_options
@click.pass_context
def generate_command(
    context: click.Context,
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
    --strength, or ask pplm explain why; when the text falls apart, lower it. Where it repeats itself, add
    --repetition-penalty 1.2. With --chat the texts are answers to PROMPT. For many prompts: --prompts-file FILE
    --output FILE; --resume continues such a job when it was interrupted.
    Several devices: accelerate launch -m pplm generate PROMPT ...
    """  # fmt: skip
    others = {"model": model_name, "dtype": dtype, "quantize": quantize, "chat": options["chat"],
              "system": options["system"]}  # fmt: skip
    streams = take_stream(prompts, options, {"--output": output})
    file_job = take_file_job(prompts, options, output, overwrite=overwrite)
    converse = None if file_job is None else prompt_maker(options)
    texts = take_prompts(prompts, options) if file_job is None else []
    asked = Asked.take(options, **others)
    check_trace(asked.trace, has_file=file_job is not None, rerank=asked.rerank, unsteered=asked.counts[0])
    processes, place = join_processes(device)
    if file_job is None:
        outputs = {"--output": output, "--trace": asked.trace, "--save-bag": asked.choice.save_bag}
        processes.on_main(lambda: check_outputs(outputs, overwrite=overwrite))
        setup = set_up(asked, texts, place, processes, None)
        if streams:
            stream_texts(setup, texts[0])
            return
        made = _write_and_show(setup, texts, processes, output)
        if asked.trace is not None and processes.main:
            write_trace(asked.trace, made, setup, context.find_root().obj)
            click.echo(f"trace: {asked.trace}", err=True)
        return
    processes.on_main(lambda: file_job.check_output(asked.choice.save_bag))
    found = file_job.read(processes)
    setup = set_up(_without_saved_bag(asked, file_job, processes), [], place, processes, file_job)
    rows = setup.rows(file_job, converse)
    if run_file_job(file_job, found, setup.job(rows), rows, processes, setup.all_settings()):
        sys.exit(1)


def _without_saved_bag(asked: Asked, file_job: FileJob, processes: Processes) -> Asked:
    """Drop --save-bag where a job is resumed and its file exists: the user may have edited it since."""
    path = asked.choice.save_bag
    if path is None or not (file_job.goes_on and path.exists()):
        return asked
    if processes.main:
        click.echo(f"--save-bag {path} is left as it is", err=True)
    return replace(asked, choice=replace(asked.choice, save_bag=None))


def _write_and_show(
    setup: Setup, prompts: Sequence[Any], processes: Processes, output: Path | None
) -> list[Generation]:
    """Make the texts of the command's own prompts: each becomes a line of the output, and all are shown at the end."""
    words = bag_words([(attribute.model, attribute.weight) for attribute in setup.attributes])
    texts: list[Generation] = []
    try:
        for text in _write_texts(setup, prompts, processes, output):
            texts.append(text)
    except KeyboardInterrupt:
        if processes.main:
            _show(texts, words)
            place = "were made" if output is None or not texts else f"are in {output}"
            click.echo(f"{len(texts)} texts {place}; a job that can be resumed takes --prompts-file FILE and --output "
                       "FILE", err=True)  # fmt: skip
        raise
    if processes.main:
        _show(texts, words)
    return texts


def _write_texts(
    setup: Setup, prompts: Sequence[Any], processes: Processes, output: Path | None
) -> Iterator[Generation]:
    """Yield the texts of all prompts in order; write each to the output as it is made.

    Raises
    ------
    InputError
        If a prompt fails.

    """
    from pplm.jobs.ledger import Ledger
    from pplm.jobs.requests import Failed

    rows = setup.rows(None, None)
    requests = [rows.request(number, {rows.column: prompt}) for number, prompt in enumerate(prompts)]
    job, settings = setup.job(rows), setup.shown_settings()
    plain = {**settings, "attributes": [], "rerank": None}
    ledger: Ledger[Any] = Ledger(lambda made: made.error if isinstance(made, Failed) else (made.text, made.steers))
    with line_file("--output", output if processes.main else None) as write:
        for window in with_progress(job, requests, ledger, processes, len(requests)):
            for item in ledger.release(window):
                if isinstance(item, str):
                    raise InputError(item)
                text, steers = item
                write({**text.record(), **(settings if steers else plain)})
                yield text


def _show(texts: Sequence[Generation], words: set[str]) -> None:
    """Print texts prompt by prompt, bag words coloured on a terminal; in conversations, only the answers."""
    console = screen()
    for _, group in groupby(texts, key=lambda text: text.prompt_index):
        own = list(group)
        if own[0].messages is not None:
            console.print(Text("[asked] ", style="bold"), Text(" ".join(own[0].prompt.split())), sep="")
        for text in own:
            kind = f"steered {text.sample + 1}" if text.steered else f"unsteered {text.sample + 1}"
            label = Text(f"[{kind}] ", style="bold cyan" if text.steered else "bold")
            written = text.text if text.messages is None else text.completion
            # On a terminal lines end between words; elsewhere a text stays one line.
            shown = label + coloured(" ".join(written.split()), words)
            console.print(shown, soft_wrap=not console.is_terminal)
        console.print()
