"""The paper's four methods (section 4.1). All choose from the same pools, so that no text is generated twice.

B is the first unsteered candidate and BR the best of them, BC the first steered candidate and BCR the best of those.
The unsteered pool does not depend on the attribute, so one serves all attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pplm.comparison.pool import Arm, Pools
from pplm.comparison.samples import Sample
from pplm.errors import InputError
from pplm.rerank import Rerank

METHODS = {
    "B": "unsteered, the first candidate",
    "BR": "unsteered, the best candidate",
    "BC": "steered, the first candidate",
    "BCR": "steered, the best candidate",
}
UNSTEERED = "unsteered"


@dataclass(frozen=True)
class Chosen:
    """The text of one method for one attribute and one pool of a prompt.

    Attributes
    ----------
    method, attribute
        Which method chose it, and for which attribute.
    sample
        The text.
    seconds
        Generation time, that of the candidates that were not chosen included.
    all_repetitive
        Whether it was chosen although all candidates repeat themselves.

    """

    method: str
    attribute: str
    sample: Sample
    seconds: float
    all_repetitive: bool = False


def steered_arm(attribute: str) -> str:
    """Return the name of the arm that steers to an attribute."""
    return f"steered to {attribute}"


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """Return the methods in the paper's order, each once.

    Raises
    ------
    InputError
        If one is unknown, or there is none.

    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise InputError(f"unknown method {', '.join(unknown) or '(none)'}; choose among {', '.join(METHODS)}")
    return tuple(name for name in METHODS if name in methods)


def reranks(method: str) -> bool:
    """Return whether a method needs more than one candidate."""
    return method.endswith("R")


def steers(method: str) -> bool:
    """Return whether a method steers."""
    return "C" in method


def arms_of(methods: Sequence[str], steered: Sequence[Arm]) -> list[Arm]:
    """Return the arms that these methods choose from, given the steered arm of every attribute."""
    plain = [Arm(UNSTEERED)] if any(not steers(method) for method in methods) else []
    return plain + (list(steered) if any(steers(method) for method in methods) else [])


def choose(pools: Pools, methods: Sequence[str], attributes: Sequence[str], rerank: Rerank) -> list[Chosen]:
    """Return every method's text for every attribute, pool and prompt, in this order."""
    found = _candidates(pools, methods, attributes)
    return [_choose(candidates, method, attribute, rerank) for method, attribute, candidates in found]


def every_candidate(pools: Pools, methods: Sequence[str], attributes: Sequence[str]) -> list[Chosen]:
    """Every candidate, labelled B (unsteered) or BC (steered)."""
    drawn = [method for method in ("B", "BC") if any(steers(method) == steers(other) for other in methods)]
    found = _candidates(pools, drawn, attributes)
    return [
        Chosen(method, attribute, one, one.seconds) for method, attribute, candidates in found for one in candidates
    ]


def _candidates(
    pools: Pools, methods: Sequence[str], attributes: Sequence[str]
) -> Iterator[tuple[str, str, Sequence[Sample]]]:
    """Yield every method, every attribute, and the candidates of every pool and prompt."""
    for method in methods:
        for attribute in attributes:
            arm = steered_arm(attribute) if steers(method) else UNSTEERED
            for pool in range(pools.plan.pools):
                for prompt in range(len(pools.plan.prompts)):
                    yield method, attribute, pools.of(arm, prompt, pool)


def _choose(candidates: Sequence[Sample], method: str, attribute: str, rerank: Rerank) -> Chosen:
    if not reranks(method):
        return Chosen(method, attribute, candidates[0], candidates[0].seconds)
    choice = rerank.best(
        [sample.completion for sample in candidates], [sample.scores[attribute] for sample in candidates]
    )
    seconds = sum(sample.seconds for sample in candidates)
    return Chosen(method, attribute, candidates[choice.index], seconds, choice.all_repetitive)
