"""Draw the texts of an evaluation: every arm's pools of candidates for every prompt, each text once.

A pool is the texts of one prompt that methods choose from; pool k of every prompt is what a run with seed + k draws.

Texts are generated in groups that depend neither on the number of processes nor on where an earlier run stopped, so
that neither changes a text, not even by rounding.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from pplm.checks import check_whole
from pplm.comparison.rivals import Rival
from pplm.comparison.samples import Sample, SampleFiles, SampleKey
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.files.progress import OnProgress
from pplm.generated_text import without_end
from pplm.generation import generate
from pplm.interface import AttributeModel, WeightedAttribute, bind_attributes, weigh_attributes
from pplm.models.processes import Processes
from pplm.passes import count_passes
from pplm.rerank import check_rankable
from pplm.text.encoding import encode_prompt
from pplm.text_scores import TextScore, score_texts

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Arm:
    """One way of generating.

    Attributes
    ----------
    name
        For the files, such as "unsteered" or "steered to space".
    attribute
        The name of the attribute that steers; None for unsteered texts.
    steering
        Its settings; unsteered texts and rivals ignore them.
    rival
        Generates instead of steering, one unranked text per pool; None for all other arms.

    """

    name: str
    attribute: str | None = None
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    rival: Rival | None = None

    @property
    def settings(self) -> dict[str, Any] | None:
        """What its texts depend on besides the attribute and the plan, as JSON; None for unsteered texts."""
        if self.rival is not None:
            return self.rival.record
        return None if self.attribute is None else asdict(self.steering)


@dataclass(frozen=True)
class Group:
    """Prompts, by index, whose texts of one pool are generated at once."""

    pool: int
    prompts: range


@dataclass(frozen=True)
class PoolPlan:
    """What every arm generates.

    Attributes
    ----------
    prompts
        P texts to continue.
    samples
        Texts per pool (>= 1): the candidates that a method chooses from.
    pools
        Pools per prompt (>= 1): each method has one text from each.
    new_tokens
        Length of the completion, in tokens (>= 1).
    seed
        Of the first pool of each prompt (>= 0); the next pool has the next seed. Texts are drawn from random streams
        (seed, prompt, sample), which arms share.
    sampling
        Arguments of transformers' `generate`, such as `top_k`.
    batch_size
        Texts generated at once (>= 1). In half precision another size gives other texts: rounding differs.
    bos
        As in `generate`.
    rank
        Score every text by the attribute models, for BR and BCR.

    """

    prompts: tuple[str, ...]
    samples: int = 10
    pools: int = 1
    new_tokens: int = 60
    seed: int = 0
    sampling: Mapping[str, Any] = field(default_factory=lambda: {"top_k": 10})
    batch_size: int = 40
    bos: bool = True
    rank: bool = True

    def __post_init__(self) -> None:
        """Check every number against its range."""
        if not self.prompts:
            raise InputError("prompts is empty; give at least one")
        for name, low in (("samples", 1), ("pools", 1), ("new_tokens", 1), ("batch_size", 1), ("seed", 0)):
            object.__setattr__(self, name, check_whole(name, getattr(self, name), low))

    def of_arm(self, arm: Arm) -> PoolPlan:
        """Return an arm's part of the plan: all candidates, or one unranked text per pool for a rival."""
        return self if arm.rival is None else replace(self, samples=1, rank=False)

    def groups(self) -> list[Group]:
        """Return what is generated at once; no prompt's pool is split between groups."""
        each = max(1, self.batch_size // self.samples)
        count = len(self.prompts)
        parts = [range(start, min(start + each, count)) for start in range(0, count, each)]
        return [Group(pool, prompts) for pool in range(self.pools) for prompts in parts]


Attributes = Mapping[str, Sequence[AttributeModel | tuple[AttributeModel, float]]]
"""Attribute models, or (model, weight) pairs, by the name of the attribute."""


@dataclass(frozen=True, eq=False)
class Pools:
    """All texts of a run, by (arm, prompt index, pool, sample)."""

    samples: Mapping[SampleKey, Sample]
    plan: PoolPlan

    def of(self, arm: str, prompt_index: int, pool: int) -> list[Sample]:
        """Return one pool's texts, sample by sample; a rival has one per pool."""
        keys = [(arm, prompt_index, pool, number) for number in range(self.plan.samples)]
        return [self.samples[key] for key in keys if key in self.samples]

    @cached_property
    def arms(self) -> frozenset[str]:
        """The names of all arms that drew texts."""
        return frozenset(key[0] for key in self.samples)


def draw_pools(
    model: Any,
    tokenizer: Any,
    plan: PoolPlan,
    arms: Sequence[Arm],
    attributes: Attributes,
    files: SampleFiles,
    *,
    processes: Processes,
    on_progress: OnProgress | None = None,
) -> Pools:
    """Generate the texts that the files lack, and return all texts.

    Unsteered texts are ranked by every attribute, steered ones by their own.

    Raises
    ------
    InputError
        If a file is damaged or cannot be used, or an attribute model cannot rank texts.

    """
    bound = {name: bind_attributes(weigh_attributes(models), model) for name, models in attributes.items()}
    if plan.rank:
        for weighted in bound.values():
            check_rankable(weighted)
    if processes.main:
        files.repair()
    processes.wait()
    found = files.read()
    processes.wait()  # no process writes while another still reads
    every = [(arm, group, own) for arm in arms for own in [plan.of_arm(arm)] for group in own.groups()]
    own = processes.own([item for item in every if not _complete(found, *item)])
    total = sum(len(group.prompts) * part.samples for _, group, part in own)
    done = 0
    if on_progress is not None:
        on_progress(done, total)
    for arm, group, part in own:
        made = _draw(model, tokenizer, part, arm, group, bound)
        _compare(made, found)
        files.append(sample for sample in made if sample.key not in found)
        done += len(made)
        if on_progress is not None:
            on_progress(done, total)
    processes.wait()
    found = files.read()
    processes.wait()
    keys = [key for item in every for key in _keys(*item)]
    if processes.main:
        files.merge([found[key] for key in keys])
    return Pools({key: found[key] for key in keys}, plan)


def _keys(arm: Arm, group: Group, plan: PoolPlan) -> list[SampleKey]:
    return [(arm.name, prompt, group.pool, sample) for prompt in group.prompts for sample in range(plan.samples)]


def _complete(found: Mapping[SampleKey, Sample], arm: Arm, group: Group, plan: PoolPlan) -> bool:
    return all(key in found for key in _keys(arm, group, plan))


def _draw(
    model: Any,
    tokenizer: Any,
    plan: PoolPlan,
    arm: Arm,
    group: Group,
    attributes: Mapping[str, Sequence[WeightedAttribute]],
) -> list[Sample]:
    """Generate and rank one group of one arm."""
    steers = arm.attribute is not None and arm.rival is None
    models = [(a.model, a.weight) for a in attributes[arm.attribute]] if steers else []  # type: ignore[index]
    prompts = [plan.prompts[index] for index in group.prompts]
    hooked: AbstractContextManager[dict[str, Any]] = nullcontext({})
    if arm.rival is not None:
        prompts, hooked = [arm.rival.prompt(prompt) for prompt in prompts], arm.rival.decoding(model)
    start = time.perf_counter()
    with count_passes(model) as passes, hooked as arguments:
        texts = generate(
            model,
            tokenizer,
            prompts,
            prompt_indices=group.prompts,
            attributes=models,
            steering=arm.steering,
            num_samples=plan.samples,
            seed=plan.seed + group.pool,
            bos=plan.bos,
            max_batch_size=plan.batch_size,
            max_new_tokens=plan.new_tokens,
            do_sample=True,
            **plan.sampling,
            **arguments,
        )
    seconds = (time.perf_counter() - start) / len(texts)
    scores: dict[str, list[TextScore]] = {}
    if plan.rank:
        encoded = [encode_prompt(model, tokenizer, text.prompt, bos=plan.bos) for text in texts]
        completions = [without_end(text.token_ids, tokenizer) for text in texts]
        names = list(attributes) if arm.attribute is None else [arm.attribute]
        values = score_texts(model, [attributes[name] for name in names], encoded, completions)
        scores = dict(zip(names, values, strict=True))
    return [
        Sample(
            arm=arm.name,
            prompt_index=text.prompt_index,
            pool=group.pool,
            sample=text.sample,
            prompt=plan.prompts[text.prompt_index],
            completion=text.completion,
            tokens=len(text.token_ids),
            seconds=seconds,
            scores={name: own[row] for name, own in scores.items()},
            readings=passes.rows / len(texts),
        )
        for row, text in enumerate(texts)
    ]


def _compare(made: Sequence[Sample], found: Mapping[SampleKey, Sample]) -> None:
    """Warn if a text that exists already came out differently: the machine or its libraries have changed."""
    other = sum(sample.key in found and found[sample.key].completion != sample.completion for sample in made)
    if other:
        _log.warning(
            "%d texts of an interrupted group come out differently now; the earlier ones are kept (was the run begun "
            "with another machine, number of threads or version of torch?)",
            other,
        )
