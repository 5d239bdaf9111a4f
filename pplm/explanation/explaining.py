"""`explain`: one text, what steering did at each of its tokens, and why its topic shows or does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pplm.attached import steering_presets
from pplm.checks import check_whole
from pplm.config import SteeringConfig
from pplm.errors import InputError
from pplm.explanation.causes import Cause, find_causes
from pplm.explanation.facts import TextFacts
from pplm.explanation.measuring import bind_for_explanation, measure
from pplm.interface import AttributeModel, weigh_attributes
from pplm.presets import PresetName
from pplm.text.chat_template import Message
from pplm.text.prompts import list_prompts

SCHEMA_VERSION = 1
"""Version of `Explanation.record`; goes up when a field changes its meaning or is removed."""


@dataclass(frozen=True)
class Explanation:
    """Why one text shows its topic, or does not.

    Attributes
    ----------
    facts
        What was measured: the text, its tokens, its attributes and their words.
    causes
        All causes, the most telling first.

    """

    facts: TextFacts
    causes: tuple[Cause, ...]

    @property
    def cause(self) -> Cause:
        """The most telling cause."""
        return self.causes[0]

    def record(self) -> dict[str, Any]:
        """Return everything for JSON; docs/explain.md has the fields."""
        facts, text = self.facts, self.facts.text
        names = ("prompt", "completion", "text", "sample", "seed", "steered", "messages")
        return {
            "schema_version": SCHEMA_VERSION,
            **{name: getattr(text, name) for name in names},
            "causes": [asdict(cause) for cause in self.causes],
            "steering": asdict(facts.steering),
            "budget": facts.budget,
            "spent": facts.spent,
            "moved": facts.moved,
            "attributes": [own.record() for own in facts.attributes],
            "tokens": [token.record() for token in facts.tokens],
            "warnings": list(facts.warnings),
        }


def explain(
    model: Any,
    tokenizer: Any,
    prompt: str | Sequence[Message],
    *,
    attributes: Sequence[AttributeModel | tuple[AttributeModel, float]],
    steering: SteeringConfig | None = None,
    preset: PresetName | None = None,
    sample: int = 0,
    seed: int | None = None,
    bos: bool = True,
    **generate_arguments: Any,
) -> Explanation:
    """Write one text as `generate` does and explain what steering did to it.

    Unlike `generate`, it takes a bag of which no word can be begun, and explains it.

    Parameters
    ----------
    model, tokenizer, attributes, steering, preset, seed, bos
        As `generate` takes them.
    prompt
        One text, or one conversation.
    sample
        Which sample of the prompt, counted from 0: the text is the one that `generate` writes with the same seed. The
        samples before it are written as well.
    **generate_arguments
        Arguments of transformers' `generate`: `max_new_tokens`, `do_sample`, `top_k`, ...

    Raises
    ------
    InputError
        If there is no attribute model or more than one prompt, or for any other reason for which `generate` raises it,
        except that no word of a bag can be begun.

    """
    weighed = weigh_attributes(attributes)
    if not weighed:
        raise InputError("explain needs an attribute to look for; give at least one, such as a bag of words")
    check_whole("sample", sample, 0)
    prompts = list_prompts(prompt)
    if len(prompts) != 1:
        raise InputError(f"explain takes one prompt; got {len(prompts)}; call it once for each")
    settings = SteeringConfig.resolve(steering, preset, [own.model for own in weighed], steering_presets(model))
    bound, words = bind_for_explanation(weighed, model)
    facts = measure(
        model, tokenizer, prompts[0], bound, words, settings, sample=sample, seed=seed, bos=bos, **generate_arguments
    )
    return Explanation(facts, find_causes(facts))
