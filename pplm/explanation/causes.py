"""Why a text shows its topic or not: rules that read causes off what was measured, the most telling first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pplm.explanation.facts import AttributeFacts, TextFacts
from pplm.presets import MAX_DIVERGENCE, USUAL_STRENGTH

_USUAL = MAX_DIVERGENCE * USUAL_STRENGTH**2
_BARELY = _USUAL / 25
"""Nats per token: below this, which is strength 0.1, a text can hardly be told from an unsteered one."""
_FEW_WORDS = 0.5
"""How many of a bag's words are expected in the whole text; if fewer, the text may well have none."""
_MET = 0.75
"""Share of a target from which it counts as met, as in the warning about missed targets."""
_AGAINST = -0.3
"""Cosine of two gradients below which they undo each other's steps."""
_SURE = 0.5
"""Probability of a class from which a text counts as showing it."""


@dataclass(frozen=True)
class Cause:
    """One reason for what a text shows.

    Attributes
    ----------
    name
        For programs; docs/explain.md lists them.
    title
        The same in a few words, for people.
    what
        What was measured, in a sentence.
    remedy
        What to change; empty where all is well.
    attribute
        Which attribute it is about; None for all of them.

    """

    name: str
    title: str
    what: str
    remedy: str = ""
    attribute: str | None = None


def find_causes(facts: TextFacts) -> tuple[Cause, ...]:
    """Return the causes, the most telling first; there is always one."""
    found = [cause for rule in (_nothing_allowed, _no_gradient) if (cause := rule(facts))]
    if not found:
        for own in facts.pushing:
            cause = next(filter(None, (rule(facts, own) for rule in _OF_ATTRIBUTE)))
            found.append(cause)
    found.sort(key=lambda cause: cause.name == "shown")  # those with something to put right come first
    return (*found, *_besides(facts))


def _nothing_allowed(facts: TextFacts) -> Cause | None:
    settings, zero = facts.steering, facts.steering.why_still
    if zero:
        budget = f"the budget is {settings.budget:g} nats per token, so " if "strength" in zero else ""
        return Cause(
            "nothing_allowed",
            f"{zero} is 0",
            f"{zero} is 0: {budget}nothing may move, and the text is the unsteered one",
            f"leave {zero} out, or steer by strength {USUAL_STRENGTH:g}",
        )
    if facts.pushing:
        return None
    names = ", ".join(own.name for own in facts.attributes)
    what = f"the weight of {names} is 0, so nothing pushes the text"
    return Cause("nothing_allowed", "every weight is 0", what, "give an attribute a weight above 0; 1 is usual")


def _no_gradient(facts: TextFacts) -> Cause | None:
    norms = [token.gradient_norm for token in facts.tokens if token.gradient_norm is not None]
    if any(norms) or not norms:
        return None
    return Cause(
        "no_gradient",
        "no gradient arrives",
        f"the gradient is exactly 0 at all {len(norms)} tokens that were steered",
        "load the weights in another format (some quantised layers pass no gradient on), or check the attribute model",
    )


def _cannot_begin(facts: TextFacts, own: AttributeFacts) -> Cause | None:  # noqa: ARG001
    if not own.words or own.begun or own.avoids:
        return None
    shown = ", ".join(word.word for word in own.words[:3]) + ", ..." * (len(own.words) > 3)
    return Cause(
        "cannot_begin",
        f"no word of bag {own.name} can be begun",
        f"steering can begin none of its {len(own.words)} words ({shown}): the tokenizer cannot spell them, or their "
        "first token begins so many other words that it earns nothing; generate refuses such a bag",
        "list words in the model's language that it spells with one or two tokens",
        own.name,
    )


def _shown(facts: TextFacts, own: AttributeFacts) -> Cause | None:
    if own.avoids and own.written:
        remedy = f"{_stronger(facts)}, or give it a larger weight (now {own.weight:g})"
        what = f"{_listed(own)}; avoiding makes words rarer, not impossible"
        return Cause("still_there", f"{own.name}: still there", what, remedy, own.name)
    if own.avoids and own.words:
        return Cause("shown", f"{own.name} works", "none of its words is in the text", "", own.name)
    if own.written:
        return Cause("shown", f"{own.name} shows", _listed(own), "", own.name)
    if own.words or own.reached is None or not own.acted:
        return None
    bound = _SURE if own.target is None else own.target
    if own.reached <= bound / _MET if own.avoids else own.reached >= bound * _MET:
        return Cause("shown", f"{own.name} shows", _ended(own), "", own.name)
    return None


def _never_acted(facts: TextFacts, own: AttributeFacts) -> Cause | None:
    if own.acted or own.avoids or own.target is not None:
        return None
    what = f"{own.name} acted at none of {len(facts.tokens)} tokens"
    remedy = "check grad_length, steer_every, skip_below and skip_weak, and the attribute model"
    if own.words:
        what += ": none of its words could be begun or continued"
        remedy = "add words that begin with a token of their own, or write a longer text"
    elif len(facts.tokens) == 1:
        what += ": before an answer's first token there is no text that it could read"
        remedy = "write a longer text, or let it look ahead (horizon_length 1)"
    return Cause("never_acted", f"{own.name} never acted", what, remedy, own.name)


def _target_met(facts: TextFacts, own: AttributeFacts) -> Cause | None:
    if own.target is None or own.avoids or own.reached is None or own.reached < _MET * own.target:
        return None
    return Cause(
        "target_met",
        "the target is met already",
        f"the target is {own.target:g}, and the text's level is {own.reached:.2g} with {facts.moved} of "
        f"{len(facts.tokens)} tokens steered",
        f"ask for more, such as a target of {min(max(4 * own.target, 0.02), 0.9):.2g}",
        own.name,
    )


def _barely_moved(facts: TextFacts, own: AttributeFacts) -> Cause | None:
    if facts.spent >= _BARELY or not facts.moved or own.target is not None:
        return None
    settings, reach = facts.steering, [token.kl for token in facts.tokens if token.kl is not None]
    steered = sum(reach) / len(reach) if reach else 0.0
    what = f"what tokens are drawn from diverges by {_nats(facts.spent)} per token from the unsteered distribution"
    if settings.strength is not None and settings.budget < _BARELY:
        what += f"; strength {settings.strength:g} allows {_nats(settings.budget)}, and 0.5 allows {_USUAL:g}"
        remedy = f"raise strength (now {settings.strength:g}); {USUAL_STRENGTH:g} is usual"
        return Cause("budget_too_small", "the budget is too small", what, remedy, own.name)
    if steered >= _BARELY:
        what += f", because gm_scale is {settings.gm_scale:g}; the steered distribution diverges by {_nats(steered)}"
        remedy = f"raise gm_scale (now {settings.gm_scale:g}); 0.5 and more are usual"
        return Cause("share_too_small", "gm_scale is too small", what, remedy, own.name)
    what += f", where strength {USUAL_STRENGTH:g} allows {_nats(_USUAL)}; the steps lowered the loss by "
    what += f"{_nats(own.loss_fall or 0.0)} per token"
    size = settings.step_of(own.kind).step_size
    remedy = f"raise step_size (now {size:g}) tenfold and look again, or steer by strength {USUAL_STRENGTH:g} instead"
    if settings.dialled:
        remedy = "raise num_iterations or layers"
    return Cause("step_too_small", "the step is too small", what, remedy, own.name)


def _few_tokens(facts: TextFacts, own: AttributeFacts) -> Cause | None:
    settings, count = facts.steering, len(facts.tokens)
    limits = {
        f"grad_length {settings.grad_length}": settings.grad_length < count,
        f"steer_every {settings.steer_every}": settings.steer_every > 1,
        f"skip_below {settings.skip_below:g}": settings.skip_below > 0,
        f"skip_weak {settings.skip_weak:g}": settings.skip_weak > 0,
    }
    named = ", ".join(name for name, holds in limits.items() if holds)
    if not named or 2 * own.acted > count or own.target is not None:
        return None
    what = f"{own.acted} of {count} tokens were steered, with {named}"
    return Cause("few_tokens", "few tokens were steered", what, f"leave out {named}", own.name)


def _sampling(facts: TextFacts, own: AttributeFacts) -> Cause | None:
    count = len(facts.tokens)
    if own.level is None or own.level.drawn is None or own.avoids or own.level.final * count < _FEW_WORDS:
        return None
    if own.level.drawn >= own.level.final / 2:
        return None
    return Cause(
        "sampling",
        "sampling takes the words away",
        f"after steering {own.level.final * count:.1f} words were to be expected in {count} tokens; top-k, top-p, "
        f"temperature or a penalty left {own.level.drawn * count:.1f}",
        "raise top_k (0 draws from all tokens) or top_p, draw instead of taking the likeliest token (greedy), or lower "
        "repetition_penalty",
        own.name,
    )


def _chance(facts: TextFacts, own: AttributeFacts) -> Cause | None:
    count = len(facts.tokens)
    if own.level is None or own.level.drawn is None or own.avoids or own.level.drawn * count < _FEW_WORDS:
        return None
    none = math.prod(1 - min(token.levels[own.name].drawn or 0.0, 1.0) for token in facts.tokens)
    return Cause(
        "chance",
        "the words were likely, and not drawn",
        f"{own.level.drawn * count:.1f} words were to be expected in {count} tokens; with such chances {none:.0%} of "
        "texts have none",
        f"write more samples or longer texts, or {_stronger(facts)}",
        own.name,
    )


def _too_weak(facts: TextFacts, own: AttributeFacts) -> Cause:
    if own.target is not None and own.reached is not None:
        title = "the level stays above the target" if own.avoids else "the target is not reached"
        what = (
            f"the target is {own.target:g}, the text's level is {own.reached:.2g} after {_nats(facts.spent)} per token"
        )
        remedy = "write longer texts, in which the push can grow, or leave strength out"
        return Cause("target_missed", title, what, remedy, own.name)
    spent = _nats(facts.spent) + ("" if facts.budget is None else f" of {_nats(facts.budget)} allowed")
    if own.level is not None and own.level.drawn is not None:
        what = f"the level went from {own.level.unsteered:.2g} to {own.level.final:.2g} for {spent} per token; "
        what += f"{own.level.drawn * len(facts.tokens):.1f} words were to be expected in the text"
        remedy = f"{_stronger(facts)}, or add words that fit the prompt"
    else:
        what = f"the steps lowered its loss by {_nats(own.loss_fall or 0.0)} per token, for {spent} per token"
        what += "" if own.reached is None else f"; {_ended(own)}"
        remedy = _stronger(facts)
    return Cause("too_weak", "the push is too weak here", what, remedy, own.name)


_OF_ATTRIBUTE: tuple[Callable[[TextFacts, AttributeFacts], Cause | None], ...] = (
    _cannot_begin, _shown, _few_tokens, _never_acted, _target_met, _barely_moved, _sampling, _chance, _too_weak,
)  # fmt: skip
"""The first that returns a cause is taken; the last always returns one."""


def _besides(facts: TextFacts) -> Iterator[Cause]:
    """Yield further findings, which may add to the causes."""
    for own in facts.pushing:
        if own.words and not own.avoids and 0 < own.begun < len(own.words) / 2:
            what = f"steering can begin {own.begun} of its {len(own.words)} words"
            remedy = "add words that the model spells with one or two tokens"
            yield Cause("few_begun", f"most words of {own.name} cannot be begun", what, remedy, own.name)
        if own.pull is not None and own.pull < _AGAINST:
            what = f"the cosine of its gradient with that of another is {own.pull:.2f}"
            title = f"{own.name} pulls against another attribute"
            yield Cause("pulls_apart", title, what, "weigh one of them less, or leave it out", own.name)


def _listed(own: AttributeFacts) -> str:
    written = sorted((word for word in own.words if word.written), key=lambda word: -word.written)
    shown = ", ".join(f"{word.word} ({word.written})" for word in written[:5])
    return f"{own.written} of its words are in the text: {shown}{', ...' * (len(written) > 5)}"


def _ended(own: AttributeFacts) -> str:
    ended = f"its probability at the text's end is {own.reached:.2f}"
    if own.level is None:
        return ended
    return f"{ended}; per token {own.level.unsteered:.2f} unsteered, {own.level.final:.2f} after steering"


def _stronger(facts: TextFacts) -> str:
    settings = facts.steering
    if settings.strength is not None:
        return f"raise strength (now {settings.strength:g})"
    if settings.dialled:
        return "change the target"
    sizes = sorted({settings.step_of(own.kind).step_size for own in facts.pushing})
    return f"raise step_size (now {', '.join(f'{size:g}' for size in sizes)}) or steer by strength 0.7"


def _nats(value: float) -> str:
    return f"{value:.2g} nats"
