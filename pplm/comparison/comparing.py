"""The paper's comparison (section 4) and a sweep over settings: texts drawn, measured and written to a folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pplm.comparison.budget import BASE
from pplm.comparison.measures import (
    MAIN,
    MEASURES,
    MeasuredText,
    MethodRow,
    expected_measure,
    main_measure,
    measure_methods,
    measure_texts,
)
from pplm.comparison.methods import (
    UNSTEERED,
    Chosen,
    arm_name,
    arms_of,
    choose,
    every_candidate,
    is_unsteered,
    steered_arm,
    written_by,
)
from pplm.comparison.pictures import can_draw, plot_attributes, plot_methods
from pplm.comparison.pool import Arm, Pools
from pplm.comparison.report import Comparison, markdown
from pplm.comparison.rivals import RIVALS
from pplm.comparison.settings import ComparisonSettings, SweepSettings
from pplm.comparison.study import Study
from pplm.comparison.sweep_report import Sweep, plot_frontier, sweep_markdown
from pplm.comparison.tables import NO_MEANING, write_metrics, write_report, write_texts
from pplm.errors import InputError
from pplm.files.lock import folder_lock
from pplm.interface import weigh_attributes

_NO_PLOT = 'matplotlib is missing (pip install "pplm[plot]")'


def compare(
    study: Study,
    settings: ComparisonSettings | None = None,
    *,
    on_progress: Callable[[int, int], None] | None = None,
) -> Comparison | None:
    """Compare unsteered and steered texts of the same prompts, and write the report into the study's folder.

    The folder then holds samples.jsonl (every text, as it is generated), texts.csv (the texts that the methods choose,
    with their measures), metrics.csv, report.md, pictures if matplotlib is installed, and, with `all_candidates`,
    candidates.csv.

    Parameters
    ----------
    study
        Model, attributes, prompts, judges, folder.
    settings
        None compares the paper's four methods.
    on_progress
        Called before the first batch and after each one with the number of texts that this process has finished, and
        the number that it generates in all.

    Returns
    -------
    Comparison, or None on all processes but the main one.

    Raises
    ------
    InputError
        If a setting cannot be used, or the folder cannot be written or holds texts made with other settings.

    """
    settings = settings or ComparisonSettings()
    plan, methods, names = settings.needs(study.plan), settings.methods, list(study.attributes)
    arms = _arms(study, settings)
    with folder_lock(study.output, on_main=study.processes.on_main):
        pools = study.draw(plan, arms, on_progress)
        if not study.processes.main:
            return None
        weights = {
            name: [each.weight for each in weigh_attributes(own.models)] for name, own in study.attributes.items()
        }
        chosen = choose(pools, methods, weights, settings.rerank(plan))
        others = every_candidate(pools, methods, names) if settings.all_candidates else []
        measured = measure_texts([*chosen, *others], study.attributes, study.judges)  # a text in both is judged once
        texts, rows = _tables(study, measured[: len(chosen)])
        main = main_measure(rows)
        notes = [*_remarks(chosen, settings), *_meaningless(methods, names, arms), *_missing(main)]
        comparison = Comparison(
            **study.findings(plan, arms, *notes, min_distinct=settings.min_distinct, fluency=settings.fluency),
            rows=rows,
            texts=texts,
            paper=study.paper,
            pictures={} if main is None or not can_draw() else _draw(rows, main, study),
            candidates=measure_methods(measured[len(chosen) :]) if others else (),
        )
        of_candidates = study.output / "candidates.csv"
        if others:
            write_metrics(of_candidates, comparison.candidates)
        else:
            of_candidates.unlink(missing_ok=True)  # of an earlier call, maybe with other judges
        write_report(study.output, markdown(comparison))
        return comparison


def sweep(
    study: Study, settings: SweepSettings, *, on_progress: Callable[[int, int], None] | None = None
) -> Sweep | None:
    """Try combinations of steering settings, and write the best for each attribute within a budget.

    No text is reranked, and all are measured as `compare` does; for each prompt, attribute and combination there are
    `samples` times `pools` of `study.plan`. Writes samples.jsonl, texts.csv, metrics.csv, report.md and the frontier's
    picture into the study's folder.

    Returns
    -------
    Sweep, or None on all processes but the main one.

    Raises
    ------
    InputError
        If nothing measures all attributes, or for the reasons of `compare`.

    """
    if study.processes.main and expected_measure(study.attributes, study.judges) is None:
        raise InputError(
            f"nothing measures all of {', '.join(study.attributes)}, so no setting is better than another; give "
            "each held-out words or a sentiment, or name a held-out head"
        )
    plan = replace(study.plan, rank=False)
    steered = {
        (setting_name(point), name): study.arm(name, f"{steered_arm(name)}, {setting_name(point)}", **point)
        for point in settings.points
        for name in study.attributes
    }
    arms = [Arm(UNSTEERED), *steered.values()]
    with folder_lock(study.output, on_main=study.processes.on_main):
        pools = study.draw(plan, arms, on_progress)
        if not study.processes.main:
            return None
        texts, rows = _tables(study, measure_texts(_all_texts(pools, study, steered), study.attributes, study.judges))
        main = main_measure(rows)
        if main is None:
            raise InputError(f"the texts in {study.output} have no words to measure; raise new_tokens")
        found = Sweep(**study.findings(plan, arms), rows=rows, texts=texts, main=main, budget=settings.budget)
        if found.costs and can_draw():
            plot_frontier(found, study.output / "frontier.png")
            found = replace(found, pictures={"frontier.png": f"{MEASURES[main].title} against its cost"})
        else:
            why = _NO_PLOT if found.costs else "the texts have too few words to measure a cost"
            found = replace(found, notes=[*found.notes, f"There is no picture: {why}."])
        write_report(study.output, sweep_markdown(found))
        return found


def setting_name(point: Mapping[str, Any]) -> str:
    """Return a combination's name, such as "step_size 0.02, gm_scale 0.8"."""
    return ", ".join(f"{name} {value}" for name, value in point.items())


def _all_texts(pools: Pools, study: Study, steered: Mapping[tuple[str, str], Arm]) -> list[Chosen]:
    """Return every text of every arm; the unsteered ones count for every attribute.

    `steered` maps (a combination's name, attribute) to its arm; that name takes the place of a method's.
    """
    arms = {**{(BASE, name): Arm(UNSTEERED) for name in study.attributes}, **steered}
    return [
        Chosen(method, attribute, sample, sample.seconds, readings=sample.readings)
        for (method, attribute), arm in arms.items()
        for pool in range(pools.plan.pools)
        for prompt in range(len(pools.plan.prompts))
        for sample in pools.of(arm.name, prompt, pool)
    ]


def _tables(study: Study, texts: list[MeasuredText]) -> tuple[list[MeasuredText], list[MethodRow]]:
    """Write metrics.csv and texts.csv; return the texts and the rows."""
    rows = measure_methods(texts)
    write_metrics(study.output / "metrics.csv", rows)
    write_texts(study.output / "texts.csv", texts)
    return texts, rows


def _draw(rows: Sequence[MethodRow], main: str, study: Study) -> dict[str, str]:
    together, apart = [row for row in rows if not row.attribute], [row for row in rows if row.attribute]
    pictures = {"methods.png": plot_methods(together, main, study.output / "methods.png")}
    if apart:
        pictures["attributes.png"] = plot_attributes(apart, main, study.output / "attributes.png")
    return pictures


def _arms(study: Study, settings: ComparisonSettings) -> list[Arm]:
    """Return the arms that the methods choose from."""
    names, methods, rivals = list(study.attributes), settings.methods, []
    for method in written_by(methods, "rival"):
        rivals += study.rival_arms(method, settings.strengths.get(method), {n: arm_name(method, n) for n in names})
    return arms_of(methods, [study.arm(name, steered_arm(name)) for name in names], rivals)


def _meaningless(methods: Sequence[str], names: Sequence[str], arms: Sequence[Arm]) -> Iterator[str]:
    """Yield a note for each rival that has no meaning for some attributes, where tables show a dash."""
    drawn = {arm.name for arm in arms}
    for method in written_by(methods, "rival"):
        lacking = [name for name in names if arm_name(method, name) not in drawn]
        if lacking:
            yield (
                f"{method} needs {RIVALS[method].needs}, so it has no meaning for {', '.join(lacking)} ({NO_MEANING}); "
                "its numbers for all attributes together cover the others alone."
            )


def _remarks(chosen: Sequence[Chosen], settings: ComparisonSettings) -> Iterator[str]:
    """Yield what a reader needs to interpret the texts."""
    attributes = {item.attribute for item in chosen}
    if len(attributes) > 1 and any(is_unsteered(item.method) for item in chosen):
        yield "The unsteered candidates are the same for all attributes; B's texts count once for each."
    if settings.fluency:
        yield f"In the choice of the best candidate, fluency has a weight of {settings.fluency:g}."
    for method, number in Counter(item.method for item in chosen if item.all_repetitive).items():
        yield (
            f"{method}: {number} of {sum(item.method == method for item in chosen)} texts were kept although all their "
            f"candidates repeat themselves (mean of dist-1/2/3 below {settings.min_distinct:g})."
        )


def _missing(main: str | None) -> Iterator[str]:
    """Yield what would make the comparison more conclusive."""
    if main is None:
        yield "Nothing measures the attributes: give held-out words, a sentiment or a held-out head."
    elif main == MAIN[-1]:
        yield "The attributes are measured by the words that steer, which prove little; give held-out words."
    if main is not None and not can_draw():
        yield f"There are no pictures: {_NO_PLOT}."
