"""`pplm evaluate`: the paper's comparison in one command."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from pplm.cli.comparison_run import Run, comparison_options, prepare, write_report
from pplm.cli.options import given_steering, steering_options
from pplm.comparison.measures import MAIN, MeasuredText, MethodRow, main_measure, measure_methods, measure_texts
from pplm.comparison.methods import (
    Chosen,
    arms_of,
    check_methods,
    choose,
    every_candidate,
    reranks,
    steered_arm,
    steers,
)
from pplm.comparison.pictures import can_draw, plot_attributes, plot_methods
from pplm.comparison.pool import Arm
from pplm.comparison.report import Comparison, all_attributes, markdown
from pplm.comparison.tables import write_metrics, write_texts
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.presets import steering_presets
from pplm.rerank import Rerank


@click.command("evaluate")
@click.option(
    "--methods",
    default="B,BR,BC,BCR",
    show_default=True,
    help="B: unsteered; BR: the best unsteered candidate; BC: steered; BCR: the best steered candidate.",
)
@click.option(
    "--samples",
    type=int,
    default=10,
    show_default=True,
    help="Candidates for each prompt (and attribute, where it steers). B and BC take the first, BR and BCR the best of "
    "the same ones, so each method has one text a prompt and attribute. Without BR, BCR and --all-candidates only the "
    "first is generated.",
)
@click.option(
    "--pools",
    type=int,
    default=1,
    show_default=True,
    help="How many times to draw --samples candidates: each method then has as many texts a prompt and attribute, "
    "which makes the numbers surer. The second pool is what the next --seed would draw, and so on.",
)
@click.option(
    "--min-distinct",
    type=float,
    default=Rerank.min_distinct,
    show_default=True,
    help="BR and BCR leave out candidates whose mean of Dist-1, Dist-2 and Dist-3 is lower.",
)
@click.option(
    "--all-candidates",
    is_flag=True,
    help="Measure every candidate as well, not only the first and the best: more texts for the judges to read, "
    "narrower intervals. Adds a section to the report, and candidates.csv.",
)
@comparison_options
@steering_options
def evaluate_command(
    methods: str, samples: int, pools: int, min_distinct: float, all_candidates: bool, **options: Any
) -> None:
    """Compare unsteered and steered texts of the same prompts, as the paper does.

    Writes into --output: samples.jsonl (every text, as it is generated), texts.csv (the texts that the methods
    choose, with their numbers), metrics.csv, report.md and pictures; with --all-candidates also candidates.csv. Prints
    the main table.

    Several devices: accelerate launch -m pplm evaluate ... (on CPUs: accelerate launch --multi_gpu --num_processes 2
    -m pplm evaluate ... --device cpu).
    """
    names = check_methods([name.strip() for name in methods.split(",") if name.strip()])
    rank = any(map(reranks, names))
    several = rank or all_candidates
    if samples < 1 + several:
        why = " for BR and BCR" if rank else " for --all-candidates" if all_candidates else ""
        raise InputError(f"--samples must be at least {1 + several}{why}; got {samples}")
    rerank = Rerank(samples, min_distinct)
    given = given_steering(options)
    SteeringConfig(**given)  # wrong values are told before a model is loaded
    options["horizon_length"] = given.get("horizon_length")
    run = prepare(options, samples=samples if several else 1, pools=pools, rank=rank)
    arms = arms_of(names, _steered(run, given))
    drawn = run.draw(arms)
    if not run.processes.main:
        return
    chosen = choose(drawn, names, list(run.loaded.models), rerank)
    others = every_candidate(drawn, names, list(run.loaded.models)) if all_candidates else []
    measured = measure_texts([*chosen, *others], run.loaded.wanted, run.judges)  # a text of both is judged once
    texts, candidates = measured[: len(chosen)], measured[len(chosen) :]
    comparison = _compare(run, texts, arms, [*run.notes, *_remarks(chosen, rerank)], rerank)
    of_candidates = run.output / "candidates.csv"
    if candidates:
        comparison = replace(comparison, candidates=measure_methods(candidates))
        write_metrics(of_candidates, comparison.candidates)
    else:
        of_candidates.unlink(missing_ok=True)  # an earlier call's, maybe by other judges
    write_metrics(run.output / "metrics.csv", comparison.rows)
    write_texts(run.output / "texts.csv", texts)
    path = write_report(run.output, markdown(comparison))
    for line in all_attributes(comparison):
        click.echo(line)
    click.echo(f"report: {path}", err=True)


def _steered(run: Run, given: dict[str, Any]) -> list[Arm]:
    """Return the arm that steers to each attribute, with the model's preset for it."""
    presets = steering_presets(run.model)
    return [
        Arm(steered_arm(name), name, SteeringConfig.for_attributes(models, presets=presets, **given))
        for name, models in run.loaded.models.items()
    ]


def _compare(run: Run, texts: list[MeasuredText], arms: list[Arm], notes: list[str], rerank: Rerank) -> Comparison:
    rows = measure_methods(texts)
    pictures = {}
    main = main_measure(rows)
    if main is None:
        notes.append("Nothing measures the attributes: give held-out words, a sentiment or a held-out head.")
    elif main == MAIN[-1]:
        notes.append("The attributes are measured by the words that steer, which prove little; give held-out words.")
    if main is not None and not can_draw():
        notes.append('There are no pictures: matplotlib is missing (pip install "pplm[plot]").')
    elif main is not None:
        pictures = _draw(rows, main, run.output)
    surroundings = {
        **run.surroundings,
        "processes": run.processes.count,
        "min_distinct": rerank.min_distinct,
        "judges": run.judge_names,
    }
    return Comparison(
        run.name, rows, texts, run.judge_names, run.chosen.paper, notes, run.settings(arms), surroundings, pictures
    )


def _draw(rows: list[MethodRow], main: str, folder: Path) -> dict[str, str]:
    together, apart = [row for row in rows if not row.attribute], [row for row in rows if row.attribute]
    pictures = {"methods.png": plot_methods(together, main, folder / "methods.png")}
    if apart:
        pictures["attributes.png"] = plot_attributes(apart, main, folder / "attributes.png")
    return pictures


def _remarks(chosen: list[Chosen], rerank: Rerank) -> list[str]:
    """Say what else a reader must know."""
    remarks = []
    attributes = {item.attribute for item in chosen}
    if len(attributes) > 1 and any(not steers(item.method) for item in chosen):
        remarks.append("The unsteered candidates are the same for all attributes; B's texts count once for each.")
    repetitive = Counter(item.method for item in chosen if item.all_repetitive)
    for method, number in repetitive.items():
        of = sum(item.method == method for item in chosen)
        remarks.append(
            f"{method}: {number} of {of} texts were kept although all their candidates repeat themselves (mean of "
            f"dist-1/2/3 below {rerank.min_distinct:g})."
        )
    return remarks
