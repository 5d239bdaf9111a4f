"""Texts of one choice of settings, drawn round by round, and the measures by which they are compared."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pplm.comparison.bootstrap import Interval, PromptBootstrap
from pplm.config import SteeringConfig
from pplm.evaluation.counts import perplexity, repeat_rate
from pplm.evaluation.judges import JudgedText
from pplm.evaluation.perplexity_judge import PerplexityJudge
from pplm.generated_text import Generation
from pplm.generation import generate
from pplm.interface import WeightedAttribute
from pplm.tuning.settings import TuneSettings

_LEAST = 1e-12
"""Lower levels count as this: a product of rounded probabilities may be 0, which has no logarithm."""


@dataclass(eq=False)
class Texts:
    """The texts of one choice of settings, one per prompt and round; all choices share prompts and random numbers.

    Attributes
    ----------
    config
        The settings.
    texts
        Round by round.
    rounds
        How many rounds were drawn.
    seconds
        How long they took.
    losses
        (nll, tokens) of each text that a judge has read so far.

    """

    config: SteeringConfig
    texts: list[Generation] = field(default_factory=list)
    rounds: int = 0
    seconds: float = 0.0
    losses: list[tuple[float, ...]] = field(default_factory=list)

    @property
    def completions(self) -> list[str]:
        """The texts without their prompts."""
        return [text.completion for text in self.texts]

    @property
    def seconds_per_round(self) -> float:
        """Mean duration of a round; 0 before the first."""
        return self.seconds / max(self.rounds, 1)

    @property
    def seconds_per_token(self) -> float:
        """Mean over all tokens of all texts; NaN without any."""
        tokens = sum(len(text.token_ids) for text in self.texts)
        return self.seconds / tokens if tokens else math.nan

    @property
    def final_kl(self) -> float:
        """Mean divergence over all tokens, in nats; NaN without any."""
        values = [value for text in self.texts for value in text.final_kl]
        return sum(values) / len(values) if values else math.nan

    def costs(self, judge: PerplexityJudge | None = None) -> dict[str, float]:
        """Return the share of repeated words, and the perplexity: NaN until a judge has read the texts."""
        if judge is not None and len(self.losses) < len(self.texts):
            new = self.texts[len(self.losses) :]
            self.losses += judge.judge([JudgedText(text.text, prompt=text.prompt) for text in new])
        found = perplexity([nll for nll, _ in self.losses], [tokens for _, tokens in self.losses])
        repeats = repeat_rate(self.completions)  # NaN where no word follows another
        return {"repeats": 0.0 if math.isnan(repeats) else repeats, "perplexity": found}


class Writer:
    """Draws texts of one model, steered to the same attribute models.

    Parameters
    ----------
    model, tokenizer
        As `load_model` returns them.
    attributes
        The attribute models, bound to the model.
    settings
        Prompts, length, seed, `top_k` and batch size.

    """

    def __init__(
        self, model: Any, tokenizer: Any, attributes: Sequence[WeightedAttribute], settings: TuneSettings
    ) -> None:
        self._parts, self._attributes, self._settings = (model, tokenizer), attributes, settings

    def draw(self, texts: Texts) -> None:
        """Add the next round."""
        settings, size = self._settings, len(self._settings.prompts)
        begin = time.monotonic()
        texts.texts += generate(
            *self._parts,
            list(settings.prompts),
            attributes=self._attributes,
            steering=texts.config,
            seed=settings.seed,
            prompt_indices=range(texts.rounds * size, (texts.rounds + 1) * size),
            max_batch_size=settings.max_batch_size,
            max_new_tokens=settings.new_tokens,
            do_sample=True,
            top_k=settings.top_k,
        )
        texts.seconds += time.monotonic() - begin
        texts.rounds += 1


class Scale:
    """Compares texts by the levels of their attributes, over prompts that are drawn again and again.

    A score is the mean over the A attributes of log(mean level over texts), where an attribute to be avoided counts
    negatively. A difference of two scores is the log of the geometric mean, over attributes, of the ratios of levels.
    """

    def __init__(self, attributes: Sequence[WeightedAttribute], settings: TuneSettings) -> None:
        steering = [own for own in attributes if own.weight]  # one of weight 0 does not steer, so its level is no merit
        self._signs = {own.name: -1.0 if getattr(own.model, "avoids", False) else 1.0 for own in steering}
        self._prompts = len(settings.prompts)
        self._bootstrap = PromptBootstrap(self._prompts, seed=settings.seed)

    def levels(self, texts: Texts) -> dict[str, tuple[float, Interval]]:
        """Return each attribute's mean level over texts, with its interval."""
        found = {name: self._mean_levels(texts, name) for name in self._signs}
        return {name: (float(values[0]), self._bootstrap.interval(values)) for name, values in found.items()}

    def score(self, texts: Texts) -> np.ndarray:
        """Return the score (1 + P + R,), over all prompts and redrawn as in `PromptBootstrap`."""
        logs = [sign * np.log(np.maximum(self._mean_levels(texts, name), _LEAST)) for name, sign in self._signs.items()]
        return np.mean(logs, axis=0)

    def ratio(self, texts: Texts, other: Texts) -> tuple[float, Interval]:
        """Return the ratio of the levels of `texts` to those of `other`, and its interval.

        Both have the same prompts and rounds. For an attribute to be avoided, it is the inverse ratio.
        """
        difference = self.score(texts) - self.score(other)
        low, high = self._bootstrap.interval(difference)
        return math.exp(difference[0]), (math.exp(low), math.exp(high))

    def _mean_levels(self, texts: Texts, name: str) -> np.ndarray:
        sums, counts = np.zeros(self._prompts), np.zeros(self._prompts)
        for text in texts.texts:
            if name in text.levels:
                sums[text.prompt_index % self._prompts] += text.levels[name]
                counts[text.prompt_index % self._prompts] += 1
        return self._bootstrap.ratios(sums.tolist(), counts.tolist())
