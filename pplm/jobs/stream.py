"""`generate_stream`: takes any number of prompts, one by one, and yields their texts in the same order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pplm.attached import steering_presets
from pplm.checks import check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.generated_text import Generation
from pplm.interface import AttributeModel, bind_attributes, weigh_attributes
from pplm.jobs.ledger import Ledger
from pplm.jobs.requests import Failed, Job, Request, Way
from pplm.jobs.running import run_job
from pplm.models.fingerprint import tokenizer_fingerprint
from pplm.models.processes import Processes
from pplm.presets import PresetName
from pplm.rerank import Rerank, check_rankable, check_rerank
from pplm.text.aims import wanted_levels
from pplm.text.arguments import check_call
from pplm.text.chat_template import Message
from pplm.text.onlooker import Watching


def generate_stream(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Iterable[str] | Iterable[Sequence[Message]],
    *,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
    steering: SteeringConfig | None = None,
    preset: PresetName | None = None,
    num_samples: int = 1,
    unsteered_samples: int = 0,
    seed: int | None = None,
    max_batch_size: int = 32,
    rerank: Rerank | None = None,
    trace: bool | Sequence[AttributeModel] = False,
    **generate_arguments: Any,
) -> Iterator[Generation]:
    """Generate texts for any number of prompts, and yield them in the prompts' order as they are made.

    Prompts are read in windows of 16 batches, and those of similar length in a window are generated together. With a
    seed and in float32 each text is the one that `generate(..., prompt_indices=[its prompt's number])` gives.

    Parameters
    ----------
    prompts
        Any iterable of texts, or of conversations (lists of messages); read on only as texts are asked for.
    num_samples
        Texts per prompt, steered where there are attribute models.
    unsteered_samples
        Unsteered texts per prompt, which come before the others and use the same random streams.
    max_batch_size
        Texts generated at once.
    model, tokenizer, attributes, steering, preset, seed, rerank, trace, **generate_arguments
        As in `generate`, except that `prompt_indices`, `streamer` and `on_token` are refused. `trace=True` also traces
        the levels of `attributes` in unsteered texts.

    Yields
    ------
    Generation
        Prompt by prompt: its unsteered texts, then the others.

    Raises
    ------
    InputError
        At once if a setting cannot be used; when a prompt's turn comes if it cannot be used, with its number.

    """
    if isinstance(prompts, str) or not isinstance(prompts, Iterable):
        raise InputError(f"prompts must be an iterable of texts or conversations; got {prompts!r}; pass a list")
    for name in {"prompt_indices", "streamer", "on_token"} & set(generate_arguments):
        raise InputError(f"{name} does not go with generate_stream, which numbers and batches prompts itself")
    check_whole("unsteered_samples", unsteered_samples)
    check_rerank(rerank)
    check_call(model, tokenizer, check_whole("num_samples", num_samples, 1),
               check_whole("max_batch_size", max_batch_size, 1), generate_arguments)  # fmt: skip
    weighted = weigh_attributes(attributes)
    steering = SteeringConfig.resolve(steering, preset, [a.model for a in weighted], steering_presets(model))
    if weighted:
        wanted_levels(steering.target, weighted)  # refuses targets that name no attribute
    bound = bind_attributes(weighted, model, tokenizer=tokenizer_fingerprint(tokenizer))
    watching = Watching(trace=bound if trace is True else trace)
    if rerank is not None:
        check_rankable(bound)
    ways = [Way(unsteered_samples)] if unsteered_samples else []
    ways.append(Way(num_samples, bound, steering, rerank))
    if max(way.drawn for way in ways) > 1:
        generate_arguments = {"do_sample": True, **generate_arguments}  # unsteered ones too: they are compared
    job = Job(
        model,
        tokenizer,
        lambda _: ways,
        [way.drawn for way in ways],
        None if seed is None else check_whole("seed", seed),
        max_batch_size,
        {**generate_arguments, "watching": watching},
    )
    requests = (Request(number, prompt, num_samples + unsteered_samples) for number, prompt in enumerate(prompts))
    return _texts(job, requests)


def _texts(job: Job, requests: Iterable[Request]) -> Iterator[Generation]:
    ledger = Ledger(lambda outcome: outcome)
    for window in run_job(job, requests, ledger, Processes()):
        for outcome in ledger.release(window):
            if isinstance(outcome, Failed):
                raise InputError(f"prompt {outcome.request.number}: {outcome.error}")
            yield outcome.text
