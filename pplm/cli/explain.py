"""`pplm explain`: one text, and why its topic shows or does not."""

from __future__ import annotations

import json
import os
import secrets
import shlex
from typing import Any

import click

from pplm.cli.attributes import attribute_options, load_attributes, take_choice
from pplm.cli.conversations import system_option, take_prompts
from pplm.cli.explain_report import show_explanation
from pplm.cli.options import check_seed, model_options, text_options, text_sampling
from pplm.cli.outputs import check_outputs
from pplm.cli.screen import note, page
from pplm.cli.steering_options import given_steering, steering_line, steering_options
from pplm.config import SteeringConfig
from pplm.errors import InputError


@click.command("explain")
@click.argument("prompt")
@click.option("--chat", is_flag=True, help="Answer PROMPT as a user's message, through the model's chat template.")
@system_option
@attribute_options
@model_options
@click.option(
    "--sample",
    type=int,
    default=1,
    show_default=True,
    help="Which of generate's steered texts of this seed to explain, counted from 1.",
)
@click.option("--seed", type=int, default=None, help="As in generate.  [default: a new one, shown on stderr]")
@text_options(max_new_tokens=50)
@click.option("--no-bos", is_flag=True, help="Do not put the model's beginning-of-text token before the prompt.")
@click.option("--json", "as_json", is_flag=True, help="Print instead one JSON object, with every word and token.")
@steering_options
@click.pass_context
def explain_command(
    context: click.Context, prompt: str, model_name: str, device: str, dtype: Any, quantize: Any, **options: Any
) -> None:
    """Write a text that begins with PROMPT and say why its topic shows, or does not.

    Writes the text that generate writes with the same options, then reports which words of a bag the model can be led
    to begin, how much each gained and at which token, how far the steps moved each token, what the budget allowed, and
    what to change. A bag that generate refuses is explained as well.
    """
    from pplm.attached import steering_presets
    from pplm.explanation.explaining import explain
    from pplm.models.loading import load_model
    from pplm.text.chat_template import check_template

    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise InputError("explain is about one text and runs in one process; leave accelerate launch out")
    choice = take_choice(options)
    if not choice.names_any:
        raise InputError("explain needs an attribute to look for; add --bag space, --words or --discriminator")
    check_seed(options["seed"])
    given, sampling = given_steering(options), text_sampling(options)
    _check_sample(options["sample"], greedy=options["greedy"])
    (request,) = take_prompts((prompt,), {**options, "messages_file": None})
    check_outputs({"--save-bag": choice.save_bag}, overwrite=False)
    model, tokenizer = load_model(model_name, device=device, dtype=dtype, quantize=quantize)
    if options["chat"]:
        check_template(tokenizer, f"--model {model_name}")
    attributes = load_attributes(choice, model, tokenizer, bind=False)
    presets = steering_presets(model)
    steering = SteeringConfig.for_attributes(attributes, presets=presets, **given)
    seed = secrets.randbelow(2**31) if options["seed"] is None else options["seed"]
    found = explain(
        model, tokenizer, request, attributes=attributes, steering=steering, sample=options["sample"] - 1, seed=seed,
        bos=not options["no_bos"], **sampling,
    )  # fmt: skip
    note(steering_line(steering, SteeringConfig.preset_for(attributes, presets, **given), given))
    if options["seed"] is None:
        note(f"seed {seed}")
    if options["as_json"]:
        command = shlex.join(["pplm", *(context.find_root().obj or ())])
        click.echo(json.dumps({"command": command, "model": model_name, **found.record()}, ensure_ascii=False))
        return
    for warning in found.facts.warnings:
        click.echo(f"Warning: {' '.join(warning.split())}", err=True)
    show_explanation(page(), found)


def _check_sample(sample: int, *, greedy: bool) -> None:
    if sample < 1:
        raise InputError(f"--sample counts from 1; got {sample}")
    if greedy and sample > 1:
        raise InputError(f"--greedy gives one text per prompt; leave out --sample {sample}")
