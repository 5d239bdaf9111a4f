"""`pplm sweep`: a grid of settings, measured, and the best of them within a budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import click

from pplm.cli.comparison_run import Run, comparison_options, prepare, write_report
from pplm.cli.options import given_steering, steering_options
from pplm.comparison.measures import expected_measure, main_measure, measure_methods, measure_texts
from pplm.comparison.methods import UNSTEERED, steered_arm
from pplm.comparison.pictures import can_draw
from pplm.comparison.pool import Arm
from pplm.comparison.sweep import Budget, all_texts, arm_names, grid, setting_name
from pplm.comparison.sweep_report import Sweep, best_lines, plot_frontier, sweep_markdown
from pplm.comparison.tables import write_metrics, write_texts
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.presets import steering_presets

_PICTURE = "frontier.png"


@click.command("sweep")
@click.option(
    "--vary",
    multiple=True,
    required=True,
    metavar="SETTING=VALUE,VALUE...",
    help="A steering setting and the values to try, such as step_size=.01,.02,.04. Repeatable: all combinations are "
    "tried.",
)
@click.option(
    "--samples",
    type=int,
    default=1,
    show_default=True,
    help="Texts for each prompt, attribute and combination; more make the choice surer.",
)
@click.option(
    "--budget",
    type=float,
    default=Budget.perplexity,
    show_default=True,
    help="The judge's perplexity may be this many times that of unsteered texts.",
)
@click.option(
    "--repeat-budget",
    type=float,
    default=Budget.repeats,
    show_default=True,
    help="The share of words that repeat the one before may rise by this much; the only budget without a --judge.",
)
@comparison_options
@steering_options
def sweep_command(vary: Sequence[str], samples: int, budget: float, repeat_budget: float, **options: Any) -> None:
    """Try combinations of steering settings, and name the best for each attribute within a budget.

    Steers the first candidate alone (method BC) and measures as `pplm evaluate` does. Writes into --output:
    samples.jsonl (every text, as it is generated), texts.csv, metrics.csv, report.md and the frontier's picture.
    Prints the best settings.
    """
    allowed = Budget(budget, repeat_budget)
    points = grid(parse_vary(vary))
    given = given_steering(options)
    for point in points:
        SteeringConfig(**{**given, **point})  # wrong values are told before a model is loaded
    horizons = [{**given, **point}.get("horizon_length", 1) for point in points]
    run = prepare({**options, "horizon_length": max(horizons)}, samples=samples, rank=False)
    arms, names = _arms(run, points, given)
    if run.processes.main and expected_measure(run.loaded.wanted, run.judges) is None:
        raise InputError(
            f"nothing measures all of {', '.join(run.loaded.wanted)}, so no setting is better than another; give "
            "each held-out words or a sentiment, or name a --held-out-head"
        )
    pools = run.draw(arms)
    if not run.processes.main:
        return
    texts = measure_texts(all_texts(pools, names), run.loaded.wanted, run.judges)
    rows = measure_methods(texts)
    write_metrics(run.output / "metrics.csv", rows)
    write_texts(run.output / "texts.csv", texts)
    main = main_measure(rows)
    if main is None:
        raise InputError(f"the texts in {run.output} have no words to measure; raise --new-tokens")
    notes = list(run.notes)
    surroundings = {**run.surroundings, "processes": run.processes.count, "judges": run.judge_names}
    sweep = Sweep(run.name, rows, texts, main, allowed, run.judge_names, notes, run.settings(arms), surroundings)
    if not sweep.costs:
        notes.append("There is no picture: with so few words no cost is known.")
    elif can_draw():
        plot_frontier(sweep, run.output / _PICTURE)
        sweep = replace(sweep, picture=_PICTURE)
    else:
        notes.append('There is no picture: matplotlib is missing (pip install "pplm[plot]").')
    path = write_report(run.output, sweep_markdown(sweep))
    for line in best_lines(sweep):
        click.echo(line)
    click.echo(f"report: {path}", err=True)


def parse_vary(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Read SETTING=VALUE,VALUE... for fields of `SteeringConfig`.

    Raises
    ------
    InputError
        If there is no such setting, it is given twice, or a value is not of its type.

    """
    kinds = get_type_hints(SteeringConfig)
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
            raise InputError(f"--vary {text!r} names a value twice")
        varied[name] = found
    return varied


def _value(text: str, kind: Any, whole: str) -> Any:
    if get_args(kind):
        return text  # SteeringConfig knows the choices
    if kind is bool:
        if text not in ("true", "false"):
            raise InputError(f"--vary {whole!r}: values must be true or false; got {text!r}")
        return text == "true"
    try:
        return kind(text)
    except ValueError as error:
        wanted = "whole numbers" if kind is int else "numbers"
        raise InputError(f"--vary {whole!r}: values must be {wanted}; got {text!r}") from error


def _arms(
    run: Run, points: Sequence[dict[str, Any]], given: dict[str, Any]
) -> tuple[list[Arm], dict[tuple[str, str], str]]:
    """Return the arms, and (method, attribute) -> arm; a method here is a combination's name."""
    presets = steering_presets(run.model)
    arms, steered = [Arm(UNSTEERED)], {}
    for point in points:
        for name, models in run.loaded.models.items():
            config = SteeringConfig.for_attributes(models, presets=presets, **{**given, **point})
            arms.append(Arm(f"{steered_arm(name)}, {setting_name(point)}", name, config))
            steered[setting_name(point), name] = arms[-1].name
    return arms, arm_names(list(run.loaded.models), steered)
