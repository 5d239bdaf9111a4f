"""Attribute against perplexity for every way of steering and for the rivals, each at several strengths.

The figures and tables of docs/evaluation.

python scripts/methods_frontier.py --judge JUDGE --output frontier-dial
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from pplm import SteeringConfig, load_model, steering_presets
from pplm.cli import run_command
from pplm.cli.evaluation_sets import build_attributes
from pplm.comparison import PoolPlan, Study, attribute_set
from pplm.comparison.bootstrap import PromptBootstrap
from pplm.comparison.measures import (
    MEASURES,
    MeasuredText,
    MethodRow,
    measure_methods,
    measure_texts,
    sums_by_prompt,
)
from pplm.comparison.methods import UNSTEERED, Chosen
from pplm.comparison.pictures import INTERVALS, axis_title, axis_value, method_label
from pplm.comparison.pool import Arm
from pplm.comparison.rivals import RIVALS
from pplm.comparison.tables import shown, shown_with, write_metrics
from pplm.errors import InputError
from pplm.evaluation import PerplexityJudge, SentimentJudge
from pplm.files.atomic import atomic_file
from pplm.files.figures import new_figure, save_figure
from pplm.files.progress import progress_bar
from pplm.files.tables import markdown_table

SHOWN = ("held_out_texts", "held_out_share", "bag_share", "right", "perplexity", "repeats", "readings_per_token",
         "seconds_per_token")  # fmt: skip
STEERED = ("paper", "fast", "dial", "target")
COLOURS = dict(
    zip([*STEERED, *RIVALS], ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "0.2", "0.6"],
        strict=False)
)  # fmt: skip
POINTS: dict[str, dict[str, Sequence[float]]] = {
    "topics": {"paper": (0.75, 1, 1.25), "fast": (0.8, 1, 1.2, 1.6, 2), "dial": (0.3, 0.5, 0.7),
               "target": (0.01, 0.02, 0.04), "WD": (2, 3, 5), "PROMPT": (1,)},
    "sentiment": {"fast": (0.7, 1, 1.4), "dial": (0.3, 0.5, 0.7), "target": (0.6, 0.75, 0.9), "FUDGE": (3, 10, 30),
                  "CAA": (1, 2, 4), "PROMPT": (1,)},
}  # fmt: skip
"""By set of attributes and method, its points: factors on a preset's step size, strengths, or targets."""


NUMBERS = {"paper": "preset paper, step size times", "fast": "preset fast, step size times",
           "dial": "the dial, strength", "target": "the dial, target"}  # fmt: skip
"""What the numbers beside a method's points mean; beside a rival's stands its strength."""


@click.command()
@click.option("--attributes", type=click.Choice(list(POINTS)), default="topics", show_default=True)
@click.option("--judge", "judge_name", required=True, metavar="MODEL", help="Judges perplexity.")
@click.option("--model", "model_name", default="gpt2-mini", show_default=True, help="As in pplm generate.")
@click.option("--methods", default=None, metavar="NAME,...", help="Use only these methods.  [default: all]")
@click.option("--pools", default=4, show_default=True, help="Texts per prompt, attribute and setting.")
@click.option("--new-tokens", default=40, show_default=True, help="Length of the new text, in tokens.")
@click.option("--seed", default=11, show_default=True, help="Other than the seeds with which settings were chosen.")
@click.option("--max-batch-size", default=40, show_default=True, help="Texts generated at once.")
@click.option("--threads", default=1, show_default=True, help="CPU threads; another number can change texts.")
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder for all results.")
def methods_frontier(output: Path, **options: Any) -> None:
    """Write frontier.md, frontier.png and metrics.csv into the folder; an interrupted run continues."""
    start = time.perf_counter()
    points = POINTS[options["attributes"]]
    methods = list(points) if options["methods"] is None else options["methods"].split(",")
    if unknown := [name for name in methods if name not in points]:
        raise InputError(f"--methods must be some of {', '.join(points)}; got {', '.join(unknown)}")
    torch.set_num_threads(options["threads"])
    model, tokenizer = load_model(options["model_name"], device="cpu")
    chosen = attribute_set(options["attributes"])
    attributes = build_attributes(chosen, model, tokenizer)
    judges: list[Any] = [PerplexityJudge.load(options["judge_name"], device="cpu")]
    if options["attributes"] == "sentiment":
        judges.append(SentimentJudge())
    plan = PoolPlan(chosen.prompts(), new_tokens=options["new_tokens"], seed=options["seed"], samples=1, rank=False,
                    pools=options["pools"], batch_size=options["max_batch_size"])  # fmt: skip
    study = Study(model=model, tokenizer=tokenizer, attributes=attributes, plan=plan, output=output, judges=judges)
    arms = {label: _arms(study, name, label, value) for name in methods for value in points[name]
            for label in [f"{name} {value:g}"]}  # fmt: skip
    with progress_bar("generating", "texts") as on_progress:
        pools = study.draw(plan, [Arm(UNSTEERED), *(arm for own in arms.values() for arm in own)], on_progress)
    texts = [
        Chosen(label, attribute, sample, sample.seconds, readings=sample.readings)
        for label, own in {"B": [Arm(UNSTEERED, name) for name in attributes], **arms}.items()
        for arm in own
        for attribute in [arm.attribute or ""]
        for pool in range(plan.pools)
        for prompt in range(len(plan.prompts))
        for sample in pools.of(arm.name, prompt, pool)
    ]
    measured = measure_texts(texts, attributes, judges)
    rows = measure_methods(measured)
    write_metrics(output / "metrics.csv", rows)
    together = [row for row in rows if not row.attribute]
    names = [name for name in SHOWN if not np.isnan(together[1].values[name])]
    head = ["setting", "texts", *(MEASURES[name].title for name in names), "perplexity, times B's"]
    table = [[row.method, str(row.texts), *shown_with(row, names), _times(row)] for row in together]
    main = "right" if options["attributes"] == "sentiment" else "held_out_texts"
    lines = ["\n".join(markdown_table(head, table)), *_comparisons(measured, methods, points, main, len(plan.prompts))]
    seconds = time.perf_counter() - start
    lines.append(
        f"The last call took {seconds / 3600:.1f} hours, threads {options['threads']}; texts that were there already "
        "are not generated again."
    )
    draw_frontier(together, main, methods, output / "frontier.png")
    with atomic_file(output / "frontier.md") as new:
        new.write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    click.echo("\n\n".join(lines))


def _arms(study: Study, method: str, label: str, value: float) -> list[Arm]:
    """Return a method's arms for all attributes, at one of its points."""
    names = {name: f"{label} to {name}" for name in study.attributes}
    if method in RIVALS:
        return study.rival_arms(method, value, names)
    return [Arm(arm, name, _settings(study, name, method, value)) for name, arm in names.items()]


def _settings(study: Study, attribute: str, method: str, value: float) -> SteeringConfig:
    models, presets = study.attributes[attribute].models, steering_presets(study.model)
    if method == "dial":
        return SteeringConfig.for_attributes(models, presets=presets, strength=value)
    if method == "target":
        return SteeringConfig.for_attributes(models, presets=presets, target=value)
    preset: Any = method
    own = SteeringConfig.for_attributes(models, presets=presets, preset=preset)
    return own if value == 1 else own.changed(step_size=value * own.step_size)


def _times(row: MethodRow) -> str:
    ratio, (low, high) = row.relative["perplexity"]
    return f"{ratio:.2f} ({low:.2f} to {high:.2f})"


def _comparisons(
    texts: Sequence[MeasuredText], methods: Sequence[str], points: dict[str, Sequence[float]], main: str, prompts: int
) -> list[str]:
    """Return sentences that compare the perplexity of dial and presets at equal shares of the attribute."""
    bootstrap = PromptBootstrap(prompts)
    by_label: dict[str, list[MeasuredText]] = {}
    for text in texts:
        by_label.setdefault(text.chosen.method, []).append(text)
    drawn = {
        name: {label: bootstrap.ratios(*sums_by_prompt(own, name, prompts)) for label, own in by_label.items()}
        for name in (main, "perplexity", "repeats")
    }

    def beside(label: str, others: Sequence[str]) -> dict[str, Any]:
        """Return the other settings' perplexity and repeats where their frontier shows as much as this one."""
        table = {name: np.array([drawn[name][own] for own in others]).T for name in drawn}
        best = [_frontier(*row) for row in zip(table[main], table["perplexity"], strict=True)]
        return {
            name: np.array([np.interp(x, xs[own], ys[own]) for x, xs, ys, own in zip(
                drawn[main][label], table[main], table[name], best, strict=True)])
            for name in ("perplexity", "repeats")
        }  # fmt: skip

    def sentence(subject: str, ratio: Any, repeats: Sequence[Any], other: str) -> str:
        low, high = bootstrap.interval(ratio)
        own, theirs = (shown("repeats", values[0]) for values in repeats)
        times = f"{ratio[0]:.3f} times its perplexity ({low:.3f} to {high:.3f})"
        fewest, most = (100 * end for end in bootstrap.interval(repeats[0] - repeats[1]))
        return f"{subject}: {times}; repeats {own}, {other} {theirs} (difference {fewest:+.2f} to {most:+.2f} points)."

    lines, dials = [], [f"dial {value:g}" for value in points["dial"]]
    for other in [name for name in ("fast", "paper") if name in methods and "dial" in methods]:
        labels = ["B", *(f"{other} {value:g}" for value in points[other])]
        most = max(drawn[main][label][0] for label in labels)
        for own in dials:
            theirs = beside(own, labels)
            beyond = "" if drawn[main][own][0] <= most else " (its strongest shows less)"
            subject = f"{own} at the same {MEASURES[main].title} as {other}{beyond}"
            ratio = np.exp(drawn["perplexity"][own] - theirs["perplexity"])
            lines.append(sentence(subject, ratio, (drawn["repeats"][own], theirs["repeats"]), other))
        preset = f"{other} 1"
        dialled = beside(preset, ["B", *dials])
        ratio = np.exp(dialled["perplexity"] - drawn["perplexity"][preset])
        subject = f"the dial at the same {MEASURES[main].title} as the preset {other} itself"
        lines.append(sentence(subject, ratio, (dialled["repeats"], drawn["repeats"][preset]), other))
    return lines


def _frontier(levels: Any, perplexities: Any) -> Any:
    """Return the indices of settings that show more than all of lower perplexity, by rising perplexity."""
    order = np.argsort(perplexities)
    before = np.maximum.accumulate(np.concatenate([[-np.inf], levels[order][:-1]]))
    return order[levels[order] > before]


def draw_frontier(rows: Sequence[MethodRow], main: str, methods: Sequence[str], path: Path) -> None:
    """Draw the attribute against perplexity, one line per method."""
    figure = new_figure(figsize=(8, 6.6), layout="constrained")
    axes = figure.subplots()
    for name in ["B", *methods]:
        own = [row for row in rows if row.method.split()[0] == name]
        points = {key: [axis_value(key, row.values[key]) for row in own] for key in (main, "perplexity")}
        ends = {
            key: np.abs([[axis_value(key, end) for end in row.intervals[key]] for row in own] - np.array(at)[:, None]).T
            for key, at in points.items()
        }
        axes.errorbar(points["perplexity"], points[main], xerr=ends["perplexity"], yerr=ends[main], fmt="o-",
                      capsize=2, linewidth=1.6, elinewidth=0.5, color=COLOURS.get(name, "0.4"),
                      label=_label(name))  # fmt: skip
        for row, x, y in zip(own, points["perplexity"], points[main], strict=True):
            if name != "B":
                label = row.method.split()[1]
                axes.annotate(label, (x, y), xytext=(5, -12), textcoords="offset points", fontsize=9, zorder=9,
                              color=COLOURS.get(name, "0.4"), fontweight="bold",
                              bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 0.5})  # fmt: skip
    axes.set(xlabel=axis_title("perplexity"), ylabel=axis_title(main))
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False, fontsize="small", ncols=1 if len(methods) < 5 else 2,
                  title=f"numbers beside points: the setting; {INTERVALS}", title_fontsize="small")  # fmt: skip
    save_figure(figure, path)


def _label(method: str) -> str:
    """Return a method's name with what the numbers beside its points mean."""
    if method in RIVALS:
        return f"{method_label(method).split(', a ')[0]}, strength"
    return NUMBERS.get(method, "unsteered")


if __name__ == "__main__":
    run_command(methods_frontier)
