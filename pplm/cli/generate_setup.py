"""`pplm generate` before its first text: what the options ask for, and the models and settings made of it."""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pplm.attached import steering_presets
from pplm.cli.attributes import AttributeOptions, load_attributes, take_choice
from pplm.cli.options import check_seed, given_rerank, text_sampling
from pplm.cli.row_settings import RowSettings, line_of_rows
from pplm.cli.screen import note
from pplm.cli.steering_options import given_steering, steering_line
from pplm.config import SteeringConfig
from pplm.errors import InputError, SteeringWarning

if TYPE_CHECKING:
    from pplm.cli.prompt_files import FileJob
    from pplm.interface import WeightedAttribute
    from pplm.jobs.requests import Job
    from pplm.models.processes import Processes
    from pplm.rerank import Rerank

_FIRST_KNOB = (
    "to steer more or less: --strength, from 0 (unsteered) to 1, 0.5 is usual; what each setting does: "
    "pplm generate --help"
)
"""Shown below the settings of a run when the user has chosen none of them."""


@dataclass(frozen=True)
class Asked:
    """What the options ask for, checked as far as is possible without a model.

    Attributes
    ----------
    model, dtype, quantize
        The model, as written.
    choice, given
        Attributes, and keywords of `SteeringConfig.for_attributes`.
    sampling
        What transformers' `generate` takes.
    counts, rerank
        Unsteered and steered texts per prompt, and how the steered ones are chosen.
    seed, batch_size, bos
        As `generate` takes them; a seed of None is yet to be drawn.
    chat, system
        Whether prompts become conversations, and with which system message.
    trace
        The file of the trace, if one was asked for.

    """

    model: str
    dtype: Any
    quantize: Any
    choice: AttributeOptions
    given: Mapping[str, Any]
    sampling: Mapping[str, Any]
    counts: tuple[int, int]
    rerank: Rerank | None
    seed: int | None
    batch_size: int
    bos: bool
    chat: bool
    system: str | None
    trace: Path | None = None

    @classmethod
    def take(cls, options: dict[str, Any], **others: Any) -> Asked:
        """Take a command's options; `others` are fields of this class."""
        choice = take_choice(options)
        check_seed(options["seed"])
        if options["max_batch_size"] < 1:
            raise InputError(f"--max-batch-size must be at least 1; got {options['max_batch_size']}")
        given = given_steering(options)
        sampling = text_sampling(options)
        rerank = given_rerank(options)
        if rerank is not None and options["greedy"]:
            raise InputError(f"--greedy gives one text per prompt; leave out --rerank {rerank.candidates}")
        counts = _sample_counts(options)
        return cls(
            choice=choice,
            given=given,
            sampling=sampling,
            counts=counts,
            rerank=rerank,
            seed=options["seed"],
            batch_size=options["max_batch_size"],
            bos=not options["no_bos"],
            trace=options["trace"],
            **others,
        )


@dataclass(frozen=True)
class Setup:
    """What texts are made with; `by_rows`: each row of a file may have attributes and steering of its own."""

    asked: Asked
    model: Any
    tokenizer: Any
    attributes: Sequence[WeightedAttribute]
    steering: SteeringConfig
    seed: int
    by_rows: bool

    def rows(self, file_job: FileJob | None, converse: Callable[[Any], Any] | None) -> RowSettings:
        """Return what turns prompts, or the rows of a file, into requests."""
        asked = self.asked
        rows = RowSettings(
            asked.choice, asked.given, asked.counts, asked.rerank, steering_presets(self.model), self._load, converse
        )
        return rows if file_job is None else rows.of_file(file_job)

    def _load(self, other: AttributeOptions) -> Sequence[WeightedAttribute]:
        from pplm.interface import bind_attributes, weigh_attributes

        if other == self.asked.choice:
            return self.attributes
        loaded = load_attributes(other, self.model, self.tokenizer, speak=False)
        return bind_attributes(weigh_attributes(loaded), self.model)

    def job(self, rows: RowSettings) -> Job:
        """Return the job: what all prompts share."""
        from pplm.jobs.requests import Job

        unsteered, steered = self.asked.counts
        each = 1 if self.asked.rerank is None else self.asked.rerank.candidates
        return Job(
            model=self.model,
            tokenizer=self.tokenizer,
            ways=rows.ways(),
            drawn=((unsteered if self.attributes or self.by_rows else 0), steered * each),
            seed=self.seed,
            batch_size=self.asked.batch_size,
            arguments={"bos": self.asked.bos, **self.asked.sampling, **self._watching()},
        )

    def _watching(self) -> dict[str, Any]:
        """Return the keyword that records details for a trace, unsteered texts included; nothing without --trace."""
        from pplm.text.onlooker import Watching

        return {} if self.asked.trace is None else {"watching": Watching(trace=self.attributes)}

    def shown_settings(self) -> dict[str, Any]:
        """Return the settings that are written beside every text of --output."""
        described = [
            {"name": one.name, "weight": one.weight, "label": getattr(one.model, "label", None)}
            for one in self.attributes
        ]
        shown = {"steering": asdict(self.steering), "attributes": described, "model": self.asked.model}
        return shown if self.asked.rerank is None else {**shown, "rerank": asdict(self.asked.rerank)}

    def all_settings(self) -> dict[str, Any]:
        """Return everything but the prompts that texts depend on: a job is resumed only if all of it is the same."""
        from pplm.models.fingerprint import content_hash, tokenizer_fingerprint, weight_hashes

        asked, shown = self.asked, self.shown_settings()
        hashes = [{**one, "sha256": content_hash(own.model)}
                  for one, own in zip(shown["attributes"], self.attributes, strict=True)]  # fmt: skip
        own = ("dtype", "quantize", "counts", "chat", "system", "bos")
        every_row = ("bag_weights", "labels", "any_model") if self.by_rows else ()
        return {
            "given": asked.given,
            **shown,
            "attributes": hashes,
            "model": weight_hashes(self.model)["float32"],
            "tokenizer": tokenizer_fingerprint(self.tokenizer),
            **{name: getattr(asked, name) for name in own},
            **{name: getattr(asked.choice, name) for name in every_row},
            "seed": self.seed,
            "max_batch_size": asked.batch_size,
            **asked.sampling,
        }


def set_up(asked: Asked, texts: Sequence[Any], place: str, processes: Processes, file_job: FileJob | None) -> Setup:
    """Load the models, settle how they steer, and report it on stderr.

    Parameters
    ----------
    asked
        The options.
    texts
        The command's own prompts, which are checked before attributes are loaded; empty for a long job.
    place
        The device.
    processes
        Those of the launch; the main one reports, and all use the same drawn seed.
    file_job
        The long job, if it is one.

    Raises
    ------
    InputError
        If something does not fit.

    """
    from pplm.interface import bind_attributes, weigh_attributes
    from pplm.models.loading import load_model
    from pplm.text.chat_template import check_template

    model, tokenizer = load_model(asked.model, device=place, dtype=asked.dtype, quantize=asked.quantize)
    if asked.chat or (texts and not isinstance(texts[0], str)):
        check_template(tokenizer, f"--model {asked.model}")
    if texts:
        _check_prompts(model, tokenizer, texts, asked)
    attributes = load_attributes(asked.choice, model, tokenizer, speak=processes.main)
    weighed = bind_attributes(weigh_attributes(attributes), model)
    by_rows = file_job is not None and bool(file_job.use_columns)
    steering = SteeringConfig.for_attributes(attributes, presets=steering_presets(model), **asked.given)
    if not by_rows:
        _check_steering(weighed, steering, asked.rerank)
    seed = asked.seed
    if seed is None:
        stored = None if file_job is None else file_job.stored_seed
        seed = processes.share(secrets.randbelow(2**31) if stored is None else stored)
    if processes.main:
        unsteered = "no attribute given (--bag, --discriminator, ...): the texts are unsteered"
        chosen = [name for name, value in asked.given.items() if value is not None]
        if chosen:
            unsteered += f", and {', '.join(chosen)} without effect"
        preset = SteeringConfig.preset_for(attributes, steering_presets(model), **asked.given)
        line = steering_line(steering, preset, asked.given) if weighed or by_rows else unsteered
        note(line if file_job is None else line_of_rows(line, file_job.use_columns, asked.given))
        if weighed and not chosen:
            note(_FIRST_KNOB)
        if asked.seed is None:
            note(f"seed {seed}")
    return Setup(asked, model, tokenizer, weighed, steering, seed, by_rows)


def _check_steering(attributes: Sequence[WeightedAttribute], steering: SteeringConfig, rerank: Rerank | None) -> None:
    """Refuse settings that do not fit the attributes, and warn where nothing steers."""
    from pplm.rerank import check_rankable
    from pplm.text.aims import wanted_levels

    if rerank is not None:
        check_rankable(attributes)
    if attributes:
        wanted_levels(steering.target, attributes)
    if attributes and not (steering.moves and any(attribute.weight for attribute in attributes)):
        zero = "every weight is 0" if steering.moves else f"{steering.why_still} is 0"
        warnings.warn(f"nothing steers: {zero}; the texts are unsteered", SteeringWarning, stacklevel=2)


def _check_prompts(model: Any, tokenizer: Any, prompts: Sequence[Any], asked: Asked) -> None:
    """Refuse prompts that cannot be continued, before attributes are loaded."""
    from pplm.text.limits import check_length
    from pplm.text.prompts import read_prompt
    from pplm.text.split import moved_layers

    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    if count is not None:
        moved_layers(asked.given.get("layers", 0), count)
    longest = max(len(read_prompt(model, tokenizer, prompt, bos=asked.bos).ids) for prompt in prompts)
    check_length(model, longest, longest + asked.sampling["max_new_tokens"], asked.given.get("horizon_length", 1))


def _sample_counts(options: dict[str, Any]) -> tuple[int, int]:
    """Return (unsteered, steered) texts per prompt."""
    unsteered, steered = options["unsteered_samples"], options["num_samples"]
    if steered is None:
        steered = 1 if options["greedy"] else 3
    if unsteered is None:
        unsteered = 1 if options["trace"] is None else max(steered, 1)
    if steered < 1:
        raise InputError(f"--num-samples must be at least 1; got {steered}")
    if unsteered < 0:
        raise InputError(f"--unsteered-samples must be at least 0; got {unsteered}")
    for name, count in (("--num-samples", steered), ("--unsteered-samples", unsteered)):
        if options["greedy"] and count > 1:
            raise InputError(f"--greedy gives one text per prompt; leave out {name} {count}")
    return (0 if options["no_unsteered"] else unsteered), steered
