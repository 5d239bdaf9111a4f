"""Writing one text and measuring it: what each token was drawn from, beside what the unsteered model expected."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import ref

import torch
from torch import Tensor

from pplm.config import SteeringConfig
from pplm.errors import SteeringWarning
from pplm.explanation.facts import AttributeFacts, Level, TextFacts, TokenFacts, WordFacts
from pplm.generated_text import Generation
from pplm.generation import generate_unjudged
from pplm.interface import AttributeModel, SteeringStep, WeightedAttribute
from pplm.presets import kind_of
from pplm.products import fast_products
from pplm.text.aims import wanted_levels
from pplm.text.decoding import SteeredOutput
from pplm.text.details import TextDetails
from pplm.text.onlooker import Watching

_BEST = 3
"""Words of each bag that are named at each token."""
_LEAST = 1e-6
"""A smaller gain is rounding: unsteered logits come from one pass over the whole text, unlike those of the text."""


class ReadsWords(Protocol):
    """What `for_explanation(model)` of an attribute model returns: its W words, bound to a language model."""

    attribute: AttributeModel
    words: tuple[str, ...]
    never_begun: tuple[str, ...]
    unmatched: tuple[str, ...]

    def shares(self, step: SteeringStep) -> Tensor:
        """Return each word's part of the level, (B, W)."""
        ...

    def count(self, text: str) -> dict[str, int]:
        """Return how often each word is in a text, including those that cannot be spelt."""
        ...


@dataclass(frozen=True, eq=False)
class Distributions:
    """What one text's N tokens were drawn from.

    Attributes
    ----------
    input_ids
        (T,) token ids, of which the last N are new.
    unsteered, final, drawn
        (N, V) logits: of the unsteered model, after the geometric mean, and after repetition penalty, temperature,
        top-k and top-p.

    """

    input_ids: Tensor
    unsteered: Tensor
    final: Tensor
    drawn: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, output: SteeredOutput, row: int, tokens: int) -> Distributions:
        """Read one sample (`row`) with its N new tokens (`tokens`) again, unsteered."""
        if output.logits is None or output.scores is None:
            raise ValueError("the text was generated without its logits and scores")
        final = torch.stack([logits[row] for logits in output.logits[:tokens]])
        drawn = torch.stack([scores[row] for scores in output.scores[:tokens]])
        width = output.sequences.shape[1] - len(output.logits) + tokens
        ids = output.sequences[row, :width]
        with fast_products(model):
            logits = model(input_ids=ids[None], use_cache=False, return_dict=True).logits[0].float()
        unsteered = logits[width - tokens - 1 : width - 1]
        # Where nothing is steered the two are equal but for rounding, which differs between one pass and many.
        still = output.steering.gm_scale[:tokens, row].to(final.device) == 0
        return cls(ids, torch.where(still[:, None], final, unsteered), final, drawn)

    def step(self, token: int) -> SteeringStep:
        """Return what attribute models are shown before a new token, for the three distributions: its B is 3."""
        logits = torch.stack([self.unsteered[token], self.final[token], self.drawn[token]])
        ids = self.input_ids[: len(self.input_ids) - len(self.final) + token].expand(3, -1)
        return SteeringStep(ids, torch.ones_like(ids, dtype=torch.bool), logits, _no_pool)


def _no_pool() -> Tensor:
    raise RuntimeError("words are read from the next token's distribution alone")


def bind_for_explanation(
    attributes: Sequence[WeightedAttribute], model: Any
) -> tuple[tuple[WeightedAttribute, ...], dict[str, ReadsWords]]:
    """Return attribute models bound to a language model, even bags that cannot steer it, and bags' words by name."""
    bound, words = [], {}
    for attribute in attributes:
        read = getattr(attribute.model, "for_explanation", None)
        found = None if read is None else read(model)
        if found is None:
            bound.append(attribute.bound(model))
            continue
        words[attribute.name] = found
        bound.append(WeightedAttribute(attribute.name, found.attribute, attribute.weight, ref(model)))
    return tuple(bound), words


def measure(
    model: Any,
    tokenizer: Any,
    prompt: Any,
    attributes: Sequence[WeightedAttribute],
    words: Mapping[str, ReadsWords],
    steering: SteeringConfig,
    *,
    sample: int = 0,
    **arguments: Any,
) -> TextFacts:
    """Write a text as `generate` does and measure it.

    Parameters
    ----------
    model, tokenizer, prompt
        As `generate` takes them; one prompt.
    attributes, words
        As `bind_for_explanation` returns them.
    steering
        The settings.
    sample
        Which sample of the prompt; those before it are written as well.
    **arguments
        As `generate` takes them.

    """
    outputs: list[SteeredOutput] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SteeringWarning)
        texts, bound, steering = generate_unjudged(
            model,
            tokenizer,
            prompt,
            attributes=attributes,
            steering=steering,
            num_samples=sample + 1,
            watching=Watching(trace=True),
            on_output=outputs.append,
            output_logits=True,
            output_scores=True,
            **arguments,
        )
    for other in caught:
        if not issubclass(other.category, SteeringWarning):
            warnings.warn_explicit(other.message, other.category, other.filename, other.lineno)
    text, row = texts[sample], sample
    while row >= len(outputs[0].sequences):  # memory ran out, and there were several batches
        row -= len(outputs.pop(0).sequences)
    found = Distributions.of(model, outputs[0], row, len(text.token_ids))
    shares = {name: _shares(own, found) for name, own in words.items()}
    tokens = tuple(_token(text, _details(text), words, shares, place) for place in range(len(text.token_ids)))
    wanted = wanted_levels(steering.target, bound)
    facts = tuple(
        _attribute(text, number, own, level, words.get(own.name), shares.get(own.name))
        for number, (own, level) in enumerate(zip(bound, wanted, strict=True))
    )
    own_warnings = [str(one.message) for one in caught if issubclass(one.category, SteeringWarning)]
    return TextFacts(text, steering, facts, tokens, tuple(dict.fromkeys(own_warnings)))


def _shares(own: ReadsWords, found: Distributions) -> Tensor:
    """Return (N, 3, W): each word's part of the level in the three distributions."""
    return torch.stack([own.shares(found.step(place)) for place in range(len(found.final))]).double().cpu()


def _details(text: Generation) -> TextDetails:
    if text.details is None:
        raise ValueError("the text was generated without a trace")
    return text.details


def _token(
    text: Generation, details: TextDetails, words: Mapping[str, ReadsWords], shares: Mapping[str, Tensor], place: int
) -> TokenFacts:
    trace, seen = text.trace, details.tokens[place]
    if trace is None:
        raise ValueError("the text has no trace")
    losses, kl = text.attribute_loss[place], text.kl[place]
    norms = trace.gradient_norms[place, :1, :, 0]
    moved = len(losses) > 0
    levels = {name: Level(own.unsteered, own.final) for name, own in seen.levels.items() if own is not None}
    best = {}
    for name, own in shares.items():
        levels[name] = Level(*own[place].sum(-1).tolist())
        gains = own[place, 1] - own[place, 0]
        top = gains.topk(min(_BEST, len(gains)))
        pairs = zip(top.values.tolist(), top.indices.tolist(), strict=True)
        best[name] = {words[name].words[number]: gain for gain, number in pairs if gain > _LEAST}
    return TokenFacts(
        token_id=seen.token_id,
        text=seen.text,
        moved=moved,
        gradient_norm=float(torch.linalg.vector_norm(norms)) if moved and norms.numel() else None,
        step_length=seen.step_length,
        loss_fall=losses[0] - losses[-1] if moved else None,
        kl=kl[-1] if moved and kl else None,
        gm_scale=float(trace.gm_scale[place, 0]),
        final_kl=text.final_kl[place],
        levels=levels,
        words=best,
    )


def _attribute(
    text: Generation,
    number: int,
    own: WeightedAttribute,
    target: float | None,
    words: ReadsWords | None,
    shares: Tensor | None,
) -> AttributeFacts:
    losses = [token for token in text.attribute_losses[own.name] if token] if text.steered else []
    details = _details(text)
    level = _mean_level(details, own.name) if shares is None else Level(*shares.sum(-1).mean(0).tolist())
    return AttributeFacts(
        name=own.name,
        kind=kind_of(own.model),
        weight=own.weight,
        avoids=bool(getattr(own.model, "avoids", False)),
        target=target,
        acted=len(losses),
        loss_fall=sum(one[0] - one[-1] for one in losses) / len(losses) if losses else None,
        pull=_pull(text, number),
        level=level,
        reached=details.levels.get(own.name),
        words=() if words is None or shares is None else _words(words, shares, text.completion),
    )


def _mean_level(details: TextDetails, name: str) -> Level | None:
    """Return the mean level over tokens; None if a token has none."""
    found = [token.levels[name] for token in details.tokens]
    known = [own for own in found if own is not None]
    if not known or len(known) < len(found):
        return None
    return Level(sum(own.unsteered for own in known) / len(known), sum(own.final for own in known) / len(known))


def _pull(text: Generation, number: int) -> float | None:
    """Return the smallest mean cosine between one attribute's gradients and another's; None where there is none."""
    cosines = None if text.trace is None else text.trace.gradient_cosines[:, number, :, 0].nanmean(0)
    if cosines is None:
        return None
    others = [value for other, value in enumerate(cosines.tolist()) if other != number and not math.isnan(value)]
    return min(others, default=None)


def _words(words: ReadsWords, shares: Tensor, completion: str) -> tuple[WordFacts, ...]:
    totals, gains = shares.sum(0), shares[:, 1] - shares[:, 0]
    best, where = gains.max(0)
    written = words.count(completion)
    found = [
        WordFacts(
            word=word,
            reach="completed" if word in words.never_begun else "begun",
            total=Level(*totals[:, number].tolist()),
            best_token=int(where[number]) if best[number] > _LEAST else None,
            best_gain=max(float(best[number]), 0.0) if best[number] > _LEAST else 0.0,
            written=written[word],
        )
        for number, word in enumerate(words.words)
    ]
    found.sort(key=lambda word: -abs(word.total.gain))
    nothing = Level(0.0, 0.0, 0.0)
    lost = [WordFacts(word, "unspelt", nothing, None, 0.0, written[word]) for word in words.unmatched]
    return (*found, *lost)
