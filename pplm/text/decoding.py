"""The decoding loop that plugs into `model.generate(custom_generate=...)`.

It owns the order of a step and nothing else: steered logits, logits processors, choice of a token, stopping, next pass.
Logits processors, stopping criteria, lengths and caches are prepared by transformers.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    GenerationConfig,
    LogitsProcessorList,
    PreTrainedTokenizerBase,
    StoppingCriteriaList,
    StopStringCriteria,
)
from transformers.generation import BaseStreamer, GenerateDecoderOnlyOutput

from pplm.attached import steering_presets
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.interface import AttributeModel, WeightedAttribute, bind_attributes, weigh_attributes
from pplm.presets import PresetName, check_preset
from pplm.private_names import mask_length, pad_token
from pplm.text.limits import check_decoding_mode, check_length, check_prefix, warn_of_streamer
from pplm.text.onlooker import Onlooker
from pplm.text.sampling import RandomStreams, SampleId, choose_tokens, is_distribution
from pplm.text.steerable import check_model, check_padding, check_steerable, check_window, with_whole_history
from pplm.text.steered_text import SteeredText
from pplm.text.trace import SteeringTrace


@dataclass
class SteeredOutput(GenerateDecoderOnlyOutput):
    """What `generate(..., return_dict_in_generate=True)` returns: transformers' own output and the trace.

    `logits` are the fused logits, `scores` the same after the logits processors. `past_key_values` is, as in
    transformers, the unsteered history of `sequences` without their last token; it is whole even if the model has a
    sliding window. A sample is not read after its last token: from there on its logits and its part of the history are
    zeros. `lengths` (B,) counts each sample's new tokens up to and including the one that finished it.
    """

    # transformers requires defaults, because it builds outputs from keywords; both fields are always set.
    lengths: Tensor = None  # type: ignore[assignment]
    steering: SteeringTrace = None  # type: ignore[assignment]


def steered_decoding(
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]],
    steering: SteeringConfig | None = None,
    *,
    preset: PresetName | None = None,
    seed: int | Sequence[int] | None = None,
    sample_ids: Sequence[SampleId] | None = None,
    streamer: BaseStreamer | None = None,
    stop_strings: str | Sequence[str] | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    content_mask: Tensor | None = None,
) -> SteeredDecoding:
    """Return a decoding loop for `model.generate(..., custom_generate=...)`.

    Parameters
    ----------
    attributes
        Attribute models, or (model, weight) pairs; an empty list gives plain decoding.
    steering
        Settings; None takes a preset for these attributes and the model that decodes, as `pplm.generate` does.
    preset
        "paper", "fast", or None for the settings that `load_model` found for the model's weights, else the dial at its
        usual strength; see `SteeringConfig.for_attributes`.
    seed
        Gives every sample its own random stream: one for all rows, or one for each. None draws from torch's global
        generator as transformers does.
    sample_ids
        (prompt index, sample index) of every row, which name its stream; by default rows are numbered as
        `num_return_sequences` lays them out.
    streamer
        Pass a streamer here, not to `generate`, which does not hand it on to a custom loop. (Nor does it hand on an
        `assistant_model`, which has no effect.)
    stop_strings, tokenizer
        Texts that end a sample, and the tokenizer to find them with. Pass these here too: given `stop_strings`,
        `generate` fails, because it does not keep the tokenizer for a custom loop.
    content_mask
        (B, T) bool: which positions of the prompts, padding included, count in the mean hidden state that
        discriminators read; None counts all real ones. A chat template's own tokens should not. New tokens count.

    """
    weighted = weigh_attributes(attributes)
    check_preset(preset)
    stop = None if stop_strings is None else _stop_criterion(stop_strings, tokenizer)
    return SteeredDecoding(weighted, steering, preset, seed, sample_ids, streamer, stop, content_mask)


@dataclass(frozen=True)
class SteeredDecoding:
    """A configured decoding loop; made by `steered_decoding`, called by transformers' `generate`."""

    attributes: tuple[WeightedAttribute, ...]
    steering: SteeringConfig | None = None
    preset: PresetName | None = None
    seed: int | Sequence[int] | None = None
    sample_ids: Sequence[SampleId] | None = None
    streamer: BaseStreamer | None = None
    stop: StopStringCriteria | None = None
    content_mask: Tensor | None = None
    onlooker: Onlooker | None = None

    def __call__(
        self,
        model: Any,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **model_kwargs: Any,
    ) -> SteeredOutput | Tensor:
        """Decode until every sample is finished; transformers' `generate` calls this with all that it has prepared.

        Parameters
        ----------
        input_ids
            (B, T) left-padded prompts or, over a cache of the caller's own, only what the cache does not hold.

        Returns
        -------
        SteeredOutput or Tensor
            Token ids (B, T + new), inside a `SteeredOutput` with `return_dict_in_generate=True`.

        """
        warn_of_streamer(sys._getframe().f_back)
        cache = with_whole_history(model_kwargs.get("past_key_values"))
        check_decoding_mode(generation_config, model_kwargs)
        check_model(model, cache)
        check_steerable(cache)
        check_prefix(cache, input_ids.shape[0])
        length = _text_length(input_ids, generation_config, model_kwargs)
        new_tokens = generation_config.max_length - input_ids.shape[1]
        models = [attribute.model for attribute in self.attributes]
        steering = SteeringConfig.resolve(self.steering, self.preset, models, steering_presets(model))
        check_length(model, length, length + new_tokens, steering.horizon_length)
        check_window(model, length + new_tokens)
        streams = self._streams(input_ids.shape[0], generation_config)
        if self.stop is not None:
            stopping_criteria = StoppingCriteriaList([*stopping_criteria, self.stop])
        # Tensors made in inference mode have no gradients, so a caller's inference mode is left here.
        with torch.inference_mode(False), torch.no_grad():
            attributes = bind_attributes(self.attributes, model)
            check_padding(model, input_ids, model_kwargs.get("attention_mask"))
            arguments = {**model_kwargs, "past_key_values": cache}
            counts = self._content_mask((input_ids.shape[0], length), input_ids.device)
            measured = self.onlooker is not None and self.onlooker.measures
            text = SteeredText(
                attributes, steering, model, input_ids, generation_config, arguments, counts, measured=measured
            )
            try:
                return self._decode(text, streams, logits_processor, stopping_criteria, generation_config)
            finally:
                text.release()

    def _decode(
        self,
        text: SteeredText,
        streams: RandomStreams | None,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        config: GenerationConfig,
    ) -> SteeredOutput | Tensor:
        """Run the loop; the bookkeeping around the choice of a token follows transformers' `_sample`."""
        has_eos = any(hasattr(criterion, "eos_token_id") for criterion in stopping_criteria)
        input_ids, kept = text.input_ids, _KeptScores(config)
        unfinished = torch.ones_like(input_ids[:, 0])
        lengths = torch.zeros_like(unfinished)
        audience = _Audience(self.streamer, self.onlooker)
        audience.begin(text)
        while True:
            fused = text.next_logits()
            audience.look(text)
            token_scores = logits_processor(input_ids, fused)
            kept.add(token_scores, fused)
            sound = is_distribution(token_scores) | (unfinished == 0)
            # Where scores are no distribution, some token is chosen all the same: the host gets both at once, below.
            tokens = choose_tokens(torch.where(sound[:, None], token_scores, 0.0), config.do_sample, streams)
            if has_eos:
                tokens = torch.where(unfinished.bool(), tokens, pad_token(config).to(tokens.device))
            text.append(tokens)
            input_ids = torch.cat([input_ids, tokens[:, None]], dim=1)
            lengths = lengths + unfinished
            unfinished = unfinished & ~stopping_criteria(input_ids, kept.scores)
            # The only copy to the host per token, for which it has to wait.
            chosen, going_on, sound = torch.stack([tokens, unfinished, sound]).cpu()
            if not sound.all():
                text.refuse_scores(sound == 0)
            wanted = audience.take(chosen, going_on)
            if not wanted.equal(going_on):  # compared on the host, without waiting for an accelerator
                unfinished = wanted.to(unfinished.device)
            if not wanted.any():
                break
            text.keep(wanted == 1)
        audience.end()
        trace = text.finish()
        if not config.return_dict_in_generate:
            return input_ids
        return SteeredOutput(
            sequences=input_ids,
            scores=kept.scores,
            logits=kept.logits,
            past_key_values=text.cache,
            lengths=lengths,
            steering=trace,
        )

    def _content_mask(self, shape: tuple[int, int], device: torch.device) -> Tensor | None:
        """Return the content mask, if there is one, checked for the prompts' shape (B, L)."""
        if self.content_mask is None:
            return None
        mask = torch.as_tensor(self.content_mask)
        if mask.shape != shape:
            raise InputError(f"content_mask has shape {tuple(mask.shape)}; the prompts of this batch have {shape}")
        return mask.to(device=device, dtype=torch.bool)

    def _streams(self, batch: int, config: GenerationConfig) -> RandomStreams | None:
        if self.seed is None:
            return None
        copies = config.num_return_sequences or 1
        sample_ids = self.sample_ids or [(row // copies, row % copies) for row in range(batch)]
        if len(sample_ids) != batch:
            raise InputError(f"sample_ids names {len(sample_ids)} samples; the batch has {batch} rows")
        return RandomStreams(self.seed, sample_ids)


class _KeptScores:
    """The scores and logits of every new token, (B, V) each, if `generate` was asked to return them."""

    def __init__(self, config: GenerationConfig) -> None:
        kept = bool(config.return_dict_in_generate)
        self.scores: tuple[Tensor, ...] | None = () if kept and config.output_scores else None
        self.logits: tuple[Tensor, ...] | None = () if kept and config.output_logits else None

    def add(self, scores: Tensor, logits: Tensor) -> None:
        self.scores = None if self.scores is None else (*self.scores, scores)
        self.logits = None if self.logits is None else (*self.logits, logits)


class _Audience:
    """Those who watch a loop: one of transformers' streamers, an onlooker, both or none."""

    def __init__(self, streamer: BaseStreamer | None, onlooker: Onlooker | None) -> None:
        self._streamer, self._onlooker = streamer, onlooker

    def begin(self, text: SteeredText) -> None:
        if self._streamer is not None:
            self._streamer.put(text.input_ids.cpu())
        if self._onlooker is not None:
            self._onlooker.begin(text)

    def look(self, text: SteeredText) -> None:
        if self._onlooker is not None:
            self._onlooker.look(text)

    def take(self, chosen: Tensor, going_on: Tensor) -> Tensor:
        """Pass on a step's tokens (B,) and which texts could go on (B,); return which of these shall, (B,)."""
        if self._streamer is not None:
            self._streamer.put(chosen)
        return going_on if self._onlooker is None else self._onlooker.take(chosen, going_on)

    def end(self) -> None:
        if self._streamer is not None:
            self._streamer.end()


def _text_length(input_ids: Tensor, config: GenerationConfig, model_kwargs: dict[str, Any]) -> int:
    """Return the prompt's length, including what a caller's cache holds of it, by the mask as transformers does."""
    mask = model_kwargs.get("attention_mask")
    masked = mask_length(config) if mask is None else mask.shape[1]
    return max(masked or 0, input_ids.shape[1])


def _stop_criterion(stop_strings: str | Sequence[str], tokenizer: Any) -> StopStringCriteria:
    if tokenizer is None:
        raise InputError(f"stop_strings={stop_strings!r} needs a tokenizer; pass steered_decoding one as well")
    return StopStringCriteria(tokenizer, stop_strings)
