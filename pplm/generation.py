"""`generate`: prompts in, `Generation` objects out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import BaseStreamer

from pplm.attached import attached, steering_presets
from pplm.batching import in_batches
from pplm.checks import check_seeds
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.generated_text import Generation, cut_texts
from pplm.interface import AttributeModel, WeightedAttribute, bind_attributes, weigh_attributes
from pplm.models.fingerprint import tokenizer_fingerprint
from pplm.presets import PresetName
from pplm.rerank import Rerank, check_rankable, check_rerank, keep_best
from pplm.text.aims import wanted_levels, warn_of_missed
from pplm.text.arguments import check_call, for_transformers, pad_id_of, with_sampling
from pplm.text.chat_template import Message
from pplm.text.decoding import SteeredOutput, steered_decoding
from pplm.text.onlooker import OnToken, Watching
from pplm.text.prompts import list_prompts, pad_left, read_prompt


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: str | Sequence[str] | Sequence[Message] | Sequence[Sequence[Message]],
    *,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
    steering: SteeringConfig | None = None,
    preset: PresetName | None = None,
    num_samples: int = 1,
    seed: int | Sequence[int] | None = None,
    bos: bool = True,
    max_batch_size: int | None = None,
    rerank: Rerank | None = None,
    prompt_indices: Sequence[int] | None = None,
    streamer: BaseStreamer | None = None,
    stop_strings: str | Sequence[str] | None = None,
    trace: bool | Sequence[AttributeModel] = False,
    on_token: OnToken | None = None,
    **generate_arguments: Any,
) -> list[Generation]:
    """Generate `num_samples` texts for each prompt, steered towards the attribute models.

    Parameters
    ----------
    model, tokenizer
        As `load_model` returns them, or any decoder-only model of transformers.
    prompts
        One or more texts; different lengths are padded on the left, which does not change any of them. Or one or more
        conversations: lists of messages `{"role": "user", "content": "..."}`, which the tokenizer's chat template turns
        into prompts. The completion is then the answer, which ends where the template ends a turn, and the mean hidden
        state that discriminators read counts the messages' contents and the answer, never the template's own tokens.
    attributes
        Attribute models, or (model, weight) pairs. An empty list gives plain, unsteered texts.
    steering
        Settings; None takes a preset.
    preset
        "paper", "fast", or None for the model's own settings, else the dial at its usual strength; see
        `SteeringConfig.for_attributes`.
    num_samples
        Samples per prompt. More than one, or several candidates with `rerank`, turn `do_sample` on.
    seed
        Makes every sample reproducible by (seed, prompt index, sample index): in float32 whatever the batch, in half
        precision only in batches of the same size, because rounding differs between sizes. One for all prompts, or
        one for each. None draws from torch's global generator.
    bos
        Begin every text with the model's beginning-of-text token, which counts as a position, unless the tokenizer
        already does. A conversation begins as its template has it.
    max_batch_size
        Texts generated at once; None takes all. With `seed` and in float32 it does not change any text. If memory runs
        out, it is halved with a warning (and without `seed` the texts then differ).
    rerank
        Draw several candidates for every sample and keep the best, judged by the attribute models, and if asked for by
        the language model, on the whole text. Candidate 0 is the text that plain generation gives.
    prompt_indices
        The prompt indices that name the random streams; None counts from 0. They let several calls or processes share
        one list of prompts and draw what a single call would.
    streamer, stop_strings
        As in transformers' `generate`.
    trace
        True fills `Generation.details`: what steering did to each token, with the levels of `attributes`. A list of
        attribute models adds their levels, also in texts that they do not steer. Neither changes any token.
    on_token
        Called with each `NewToken` of every text, in order; returning True ends that text there, as if it had reached
        its length. An exception that it raises ends the call. If memory runs out, texts are generated again in smaller
        batches, from position 0. Cannot be combined with several candidates of `rerank`.
    **generate_arguments
        Everything else that transformers' `generate` takes: `max_new_tokens`, `do_sample`, `top_k`, ...

    Returns
    -------
    list of Generation
        All samples of the first prompt, then those of the next.

    Raises
    ------
    InputError
        If a prompt is neither a text nor a conversation, empty or too long, or a setting cannot be used; if prompts are
        messages and the tokenizer has no chat template or the template refuses them; with `rerank`, if an attribute
        model cannot judge whole texts.

    """
    results, bound, steering = generate_unjudged(
        model,
        tokenizer,
        prompts,
        attributes=attributes,
        steering=steering,
        preset=preset,
        num_samples=num_samples,
        seed=seed,
        bos=bos,
        max_batch_size=max_batch_size,
        rerank=rerank,
        prompt_indices=prompt_indices,
        stop_strings=stop_strings,
        watching=Watching(streamer, trace, on_token),
        **generate_arguments,
    )
    warn_of_missed(bound, steering, [text.levels for text in results])
    return results


def generate_unjudged(
    model: Any,
    tokenizer: Any,
    prompts: Any,
    *,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]] = (),
    steering: SteeringConfig | None = None,
    preset: PresetName | None = None,
    num_samples: int = 1,
    seed: int | Sequence[int] | None = None,
    bos: bool = True,
    max_batch_size: int | None = None,
    rerank: Rerank | None = None,
    prompt_indices: Sequence[int] | None = None,
    stop_strings: str | Sequence[str] | None = None,
    watching: Watching = Watching(),  # noqa: B008 - it cannot be changed
    on_output: Callable[[SteeredOutput], None] | None = None,
    **generate_arguments: Any,
) -> tuple[list[Generation], tuple[WeightedAttribute, ...], SteeringConfig]:
    """Do what `generate` does, but do not warn of targets that the texts missed: a caller may judge many calls at once.

    `on_output` is called with each batch as it comes out of decoding, before it is cut into texts.

    Returns
    -------
    The texts, the bound attribute models, and the settings in use.

    """
    prompts = list_prompts(prompts)
    numbers = list(range(len(prompts)) if prompt_indices is None else prompt_indices)
    check_rerank(rerank)
    candidates = 1 if rerank is None else rerank.candidates
    seeds = check_seeds(seed, len(prompts))
    check_call(model, tokenizer, num_samples, max_batch_size, generate_arguments)
    if not prompts:
        raise InputError("prompts is empty; give at least one prompt")
    if not len(numbers) == len(prompts) == len({n for n in numbers if isinstance(n, Integral) and n >= 0}):
        raise InputError(f"prompt_indices must be {len(prompts)} different numbers of at least 0; got {numbers}")
    weighted = weigh_attributes(attributes)
    steering = SteeringConfig.resolve(steering, preset, [a.model for a in weighted], steering_presets(model))
    if weighted:
        wanted_levels(steering.target, weighted)  # refuses names of no attribute
    arguments = with_sampling(generate_arguments, num_samples, candidates)
    watching.check_candidates(candidates)
    encoded = [read_prompt(model, tokenizer, prompt, bos=bos) for prompt in prompts]
    fingerprint = tokenizer_fingerprint(tokenizer)
    if attached(model).tokenizer not in (None, fingerprint):
        raise InputError("tokenizer is not the one that was loaded with the model; pass both as loaded")
    measured = bind_attributes(watching.measured(weighted), model, tokenizer=fingerprint)
    bound = measured[: len(weighted)]
    steered = bool(bound) and steering.moves
    if rerank is not None:
        check_rankable(bound)
    rows = [(p, s, c) for p in range(len(prompts)) for s in range(num_samples) for c in range(candidates)]

    def run(batch: Sequence[tuple[int, int, int]]) -> list[Generation]:
        streams = [(numbers[p], s, c) for p, s, c in batch]
        own = [encoded[row[0]] for row in batch]
        drawn_by = None if seeds is None else [seeds[row[0]] for row in batch]
        input_ids, attention_mask, content_mask = pad_left(own, pad_id_of(model, tokenizer))
        loop = steered_decoding(
            bound,
            steering,
            seed=drawn_by,
            sample_ids=streams,
            streamer=watching.streamer,
            stop_strings=stop_strings,
            tokenizer=tokenizer,
            content_mask=content_mask,
        )
        onlooker = watching.onlooker(tokenizer, own, streams, measured, steered=steered)
        output = model.generate(
            input_ids.to(model.device),
            attention_mask=attention_mask.to(model.device),
            custom_generate=replace(loop, onlooker=onlooker),
            **for_transformers(arguments, model, pad_id_of(model, tokenizer), encoded[0].ends),
        )
        if on_output is not None:
            on_output(output)
        return cut_texts(output, tokenizer, own, streams, drawn_by, steered, onlooker)

    results = in_batches(rows, max_batch_size, run)
    if rerank is not None:
        results = keep_best(model, tokenizer, bound, results, [encoded[row[0]] for row in rows], rerank)
    return results, bound, steering
