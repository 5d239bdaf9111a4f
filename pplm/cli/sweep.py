"""`pplm sweep`: measures a grid of settings, and reports the best of them within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import click

from pplm.cli.comparison_run import comparison_options, prepare, progress, read_plan
from pplm.cli.options import budget_options, number
from pplm.cli.steering_options import given_steering, steering_options
from pplm.comparison.budget import Budget
from pplm.config import setting_types
from pplm.errors import InputError


@click.command("sweep")
@click.option(
    "--vary",
    multiple=True,
    required=True,
    metavar="SETTING=VALUE,VALUE...",
    help="A steering setting and the values to try, such as step_size=.01,.02,.04. Repeatable; all combinations are "
    "tried.",
)
@click.option(
    "--samples",
    type=int,
    default=1,
    show_default=True,
    help="Texts per prompt, attribute and combination; more make the choice more reliable.",
)
@budget_options
@comparison_options
@steering_options
def sweep_command(vary: Sequence[str], samples: int, budget: float, repeat_budget: float, **options: Any) -> None:
    """Try combinations of steering settings, and report the best for each attribute within a budget.

    Measures steered texts as `pplm evaluate` does, without choosing among candidates (method BC). Writes into --output:
    samples.jsonl (every text, as it is generated), texts.csv, metrics.csv, report.md and the frontier's picture.
    Prints the best settings.
    """
    from pplm.comparison import SweepSettings, sweep
    from pplm.comparison.sweep_report import best_table

    settings = SweepSettings(parse_vary(vary), Budget(budget, repeat_budget))
    given = given_steering(options)
    chosen, plan = read_plan(options, samples=samples)
    study = prepare(options, chosen, plan, given)
    with progress(study) as on_progress:
        found = sweep(study, settings, on_progress=on_progress)
    if found is not None:
        click.echo(best_table(found))
        click.echo(f"report: {study.output / 'report.md'}", err=True)


def parse_vary(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read SETTING=VALUE,VALUE... for fields of `SteeringConfig`, or KIND.SETTING for those of one kind's step.

    Raises
    ------
    InputError
        If there is no such setting, it is given twice, or a value is not of its type.

    """
    kinds = setting_types()
    varied: dict[str, list[Any]] = {}
    for text in texts:
        name, _, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if name not in kinds:
            raise InputError(f"--vary {text!r}: there is no setting {name!r}; choose among {', '.join(kinds)}")
        if name in varied:
            raise InputError(f"--vary gives {name} twice; put all its values behind one =")
        found = [_value(value.strip(), kinds[name], text) for value in values.split(",")]
        if len(set(found)) != len(found):
            raise InputError(f"--vary {text!r} names a value twice; leave one out")
        varied[name] = found
    return varied


def _value(text: str, kind: Any, whole: str) -> Any:
    if kind == int | float:
        kind = number
    if get_args(kind):
        return text  # SteeringConfig checks the choices
    if kind is bool:
        if text not in ("true", "false"):
            raise InputError(f"--vary {whole!r}: values must be true or false; got {text!r}")
        return text == "true"
    try:
        return kind(text)
    except ValueError as error:
        wanted = "whole numbers" if kind is int else "numbers"
        raise InputError(f"--vary {whole!r}: values must be {wanted}; got {text!r}") from error
