"""`pplm evaluate`: the paper's comparison in one command."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from pplm.cli.comparison_run import comparison_options, prepare, progress, read_plan
from pplm.cli.steering_options import given_steering, steering_options
from pplm.config import MIN_DISTINCT
from pplm.errors import InputError

_DEFAULTS = "WD=3, FUDGE=10, CAA=4, PROMPT=1"
"""Written out here, because importing the rivals imports torch, for which --help must not wait."""


@click.command("evaluate")
@click.option(
    "--methods",
    default="B,BR,BC,BCR",
    show_default=True,
    help="B: unsteered; BR: the best unsteered candidate; BC: steered; BCR: the best steered candidate. And what you "
    "could use instead of steering: WD: a constant added to the logits of a bag's words; FUDGE: each likely next token "
    "weighted by the head; CAA: the difference of a head's classes added to hidden states; PROMPT: a line such as "
    "'About space:' before the prompt. WD is for bags, FUDGE and CAA are for heads (docs/rivals.md).",
)
@click.option(
    "--rival-strength",
    "strengths",
    multiple=True,
    metavar="METHOD=NUMBER",
    help=f"How hard WD, FUDGE, CAA or PROMPT pushes; 0 gives unsteered text. Repeatable.  [default: {_DEFAULTS}]",
)
@click.option(
    "--samples",
    type=int,
    default=10,
    show_default=True,
    help="Candidates per prompt (steered ones also per attribute). B and BC take the first of them, BR and BCR the "
    "best, so each method has one text per prompt and attribute. Without BR, BCR and --all-candidates only the first "
    "is generated.",
)
@click.option(
    "--pools",
    type=int,
    default=1,
    show_default=True,
    help="Draw --samples candidates this many times, so that each method has as many texts per prompt and attribute; "
    "more pools give narrower intervals. Pool k is drawn with --seed + k.",
)
@click.option(
    "--min-distinct",
    type=float,
    default=MIN_DISTINCT,
    show_default=True,
    help="BR and BCR exclude candidates whose mean of Dist-1, Dist-2 and Dist-3 is lower.",
)
@click.option(
    "--fluency",
    type=float,
    default=0.0,
    show_default=True,
    help="BR and BCR: how much it counts that the unsteered language model finds a candidate probable, compared with "
    "an attribute model of weight 1; 0.5 to 1 gives more fluent texts.",
)
@click.option(
    "--all-candidates",
    is_flag=True,
    help="Measure every candidate as well, not only the first and the best: narrower intervals, but the judges read "
    "more texts. Adds a section to the report, and candidates.csv.",
)
@comparison_options
@steering_options
def evaluate_command(
    methods: str,
    strengths: Sequence[str],
    samples: int,
    pools: int,
    min_distinct: float,
    fluency: float,
    all_candidates: bool,
    **options: Any,
) -> None:
    """Compare unsteered and steered texts of the same prompts, as the paper does.

    Writes into --output: samples.jsonl (every text, as it is generated), texts.csv (the texts that the methods
    choose, with their numbers), metrics.csv, report.md and pictures; with --all-candidates also candidates.csv. Prints
    the main table.

    Several devices: accelerate launch -m pplm evaluate ... (on CPUs: accelerate launch --multi_gpu --num_processes 2
    -m pplm evaluate ... --device cpu).
    """
    from pplm.comparison import ComparisonSettings, compare
    from pplm.comparison.report import main_table

    names = tuple(name.strip() for name in methods.split(",") if name.strip())
    settings = ComparisonSettings(
        methods=names,
        strengths=parse_strengths(strengths),
        min_distinct=min_distinct,
        fluency=fluency,
        all_candidates=all_candidates,
    )
    given = given_steering(options)
    chosen, plan = read_plan(options, samples=samples, pools=pools)
    study = prepare(options, chosen, settings.needs(plan), given)
    with progress(study) as on_progress:
        found = compare(study, settings, on_progress=on_progress)
    if found is not None:
        click.echo(main_table(found))
        click.echo(f"report: {study.output / 'report.md'}", err=True)


def parse_strengths(texts: Sequence[str]) -> dict[str, float]:
    """Read METHOD=NUMBER...

    Raises
    ------
    InputError
        If a method is named twice, or its strength is not a number.

    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = (part.strip() for part in text.partition("="))
        if name in found:
            raise InputError(f"--rival-strength gives {name} twice; leave one out")
        try:
            found[name] = float(value)
        except ValueError as error:
            raise InputError(f"--rival-strength {text!r} must be METHOD=NUMBER, such as WD=5") from error
    return found
