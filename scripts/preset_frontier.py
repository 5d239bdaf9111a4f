"""The presets `fast` and `paper` at several step sizes, compared at the same perplexity: docs/evaluation.

python scripts/preset_frontier.py --judge JUDGE --output frontier-topics
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch

from pplm import SteeringConfig, load_model, steering_presets
from pplm.cli import run_command
from pplm.cli.evaluation_sets import build_attributes
from pplm.cli.options import comma_list
from pplm.comparison import PoolPlan, Study, Sweep, SweepSettings, attribute_set, sweep
from pplm.comparison.bootstrap import PromptBootstrap
from pplm.comparison.budget import BASE
from pplm.comparison.measures import MEASURES, MethodRow, sums_by_prompt
from pplm.comparison.pictures import INTERVALS, axis_title, axis_value
from pplm.comparison.tables import shown, shown_with
from pplm.errors import InputError
from pplm.evaluation import PerplexityJudge, SentimentJudge
from pplm.files.atomic import atomic_file
from pplm.files.figures import new_figure, save_figure
from pplm.files.progress import progress_bar
from pplm.files.tables import markdown_table

SHOWN = ("held_out_share", "held_out_texts", "right", "vader", "perplexity", "repeats")
COLOURS = {"fast": "#d55e00", "paper": "#0072b2"}


@dataclass(frozen=True)
class Curve:
    """One preset's measures at S - 1 step sizes: arrays (S, 1 + P + R) of `PromptBootstrap`, unsteered texts first."""

    found: Sweep
    own: str
    main: np.ndarray
    perplexity: np.ndarray

    def at(self, perplexity: np.ndarray) -> np.ndarray:
        """Return the main measure (1 + P + R,) at perplexities (1 + P + R,); beyond its ends the curve is flat."""
        columns = zip(perplexity, self.perplexity.T, self.main.T, strict=True)
        return np.array([np.interp(x, xs[np.argsort(xs)], ys[np.argsort(xs)]) for x, xs, ys in columns])


@click.command()
@click.option("--attributes", default="topics", show_default=True, help="topics, sentiment or as in pplm evaluate.")
@click.option("--judge", "judge_name", required=True, metavar="MODEL", help="Judges perplexity.")
@click.option("--model", "model_name", default="gpt2-mini", show_default=True, help="As in pplm generate.")
@click.option("--fast-steps", default="4,5,6", show_default=True, callback=comma_list(float), help="Of fast.")
@click.option("--paper-steps", default=".3,.4,.5", show_default=True, callback=comma_list(float), help="Of paper.")
@click.option("--samples", default=8, show_default=True, help="Texts per prompt, attribute and setting.")
@click.option("--new-tokens", default=40, show_default=True, help="Length of the new text, in tokens.")
@click.option("--seed", default=7, show_default=True, help="Other than the seed of the sweep that chose the presets.")
@click.option("--threads", default=1, show_default=True, help="CPU threads; another number can change texts.")
@click.option("--output", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Folder for all results.")
def preset_frontier(output: Path, **options: Any) -> None:
    """Write frontier.md and frontier.png into the folder, and a sweep for each preset; an interrupted run continues."""
    torch.set_num_threads(options["threads"])
    curves = {name: _curve(output / name, name, options[f"{name}_steps"], options) for name in ("paper", "fast")}
    paper = curves["paper"].found
    rows = [[name, row.method, *shown_with(row, _measures(paper)), f"{row.values['dist_3']:.3f}"]
            for name, curve in curves.items() for row in curve.found.together]  # fmt: skip
    head = ["preset", "setting", *(MEASURES[name].title for name in _measures(paper)), "dist-3"]
    text = "\n".join(["\n".join(markdown_table(head, rows)), "", _comparison(curves)])
    _picture(curves, output / "frontier.png")
    with atomic_file(output / "frontier.md") as new:
        new.write_text(text + "\n", encoding="utf-8")
    click.echo(text)


def _curve(folder: Path, preset: Any, steps: Sequence[float], options: dict[str, Any]) -> Curve:
    model, tokenizer = load_model(options["model_name"], device="cpu")
    chosen = attribute_set(options["attributes"])
    attributes = build_attributes(chosen, model, tokenizer)
    models = next(iter(attributes.values())).models
    own = SteeringConfig.for_attributes(models, presets=steering_presets(model), preset=preset).step_size
    if preset == "paper" and own not in steps:
        raise InputError(f"--paper-steps must include the preset's own {own:g}; got {', '.join(map(str, steps))}")
    judges: list[Any] = [PerplexityJudge.load(options["judge_name"], device="cpu")]
    if any(spec.sentiment for spec in chosen.specs.values()):
        judges.append(SentimentJudge())
    plan = PoolPlan(
        chosen.prompts(), new_tokens=options["new_tokens"], seed=options["seed"], samples=options["samples"]
    )
    study = Study(model=model, tokenizer=tokenizer, attributes=attributes, plan=plan, output=folder, preset=preset,
                  judges=judges)  # fmt: skip
    with progress_bar(f"generating, {preset}", "texts") as on_progress:
        found = cast(Sweep, sweep(study, SweepSettings({"step_size": list(steps)}), on_progress=on_progress))
    bootstrap = PromptBootstrap(len(plan.prompts))
    methods = [BASE, *(f"step_size {step}" for step in steps)]
    texts = [[text for text in found.texts if text.chosen.method == method] for method in methods]
    drawn = {
        name: np.array([bootstrap.ratios(*sums_by_prompt(rows, name, len(plan.prompts))) for rows in texts])
        for name in (found.main, "perplexity")
    }
    return Curve(found, f"step_size {own}", drawn[found.main], np.exp(drawn["perplexity"]))


def _comparison(curves: dict[str, Curve]) -> str:
    """Return a sentence: what each preset shows at the perplexity of preset paper's own step size."""
    paper, fast = curves["paper"], curves["fast"]
    row = [row.method for row in paper.found.together].index(paper.own)
    place, theirs = paper.perplexity[row], paper.main[row]
    ours = fast.at(place)
    bootstrap = PromptBootstrap(len(paper.found.settings["prompts"]))
    name = paper.found.main
    fast_shown, paper_shown = (shown(name, values[0], bootstrap.interval(values)) for values in (ours, theirs))
    gap = shown(name, (ours - theirs)[0], bootstrap.interval(ours - theirs))
    return (
        f"At the perplexity of paper's {paper.own} ({place[0]:.1f}), {MEASURES[name].title}: fast {fast_shown}, paper "
        f"{paper_shown}; fast less paper: {gap}."
    )


def _measures(found: Sweep) -> list[str]:
    return [name for name in SHOWN if not np.isnan(found.together[0].values[name])]


def _picture(curves: dict[str, Curve], path: Path) -> None:
    figure = new_figure(figsize=(6.5, 5.2), layout="constrained")
    axes = figure.subplots()
    main = curves["paper"].found.main
    for name, curve in curves.items():
        rows: Sequence[MethodRow] = curve.found.together
        points = {key: [axis_value(key, row.values[key]) for row in rows] for key in (main, "perplexity")}
        ends = {
            key: np.abs(
                [[axis_value(key, end) for end in row.intervals[key]] for row in rows] - np.array(points[key])[:, None]
            ).T
            for key in points
        }
        axes.errorbar(points["perplexity"], points[main], xerr=ends["perplexity"], yerr=ends[main], fmt="o-", capsize=3,
                      linewidth=1, color=COLOURS[name], label=f"preset {name}, by step size")  # fmt: skip
        for row, x, y in zip(rows, points["perplexity"], points[main], strict=True):
            label = "unsteered" if row.method == BASE else row.method.removeprefix("step_size ")
            if row.method != BASE or name == "paper":
                axes.annotate(label, (x, y), xytext=(6, -12), textcoords="offset points", fontsize=9,
                              color=COLOURS[name], fontweight="bold")  # fmt: skip
    axes.set(xlabel=axis_title("perplexity"), ylabel=axis_title(main))
    axes.grid(visible=True, alpha=0.3)
    figure.legend(loc="outside lower center", frameon=False, ncols=2, title=INTERVALS, title_fontsize="small")
    save_figure(figure, path)


if __name__ == "__main__":
    run_command(preset_frontier)
