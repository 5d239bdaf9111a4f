"""The methods of a comparison: the paper's four (section 4.1) and the rivals. No text is generated twice.

B is the first unsteered candidate and BR the best of them, BC the first steered candidate and BCR the best of those.
The unsteered pool does not depend on the attribute, so one serves all attributes. Each rival writes one text per pool,
from the random streams of the texts that B and BC choose.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pplm.comparison.pool import Arm, Pools
from pplm.comparison.rivals import RIVALS
from pplm.comparison.samples import Sample
from pplm.errors import InputError
from pplm.rerank import Rerank

Writer = Literal["unsteered", "steered", "rival"]
UNSTEERED: Writer = "unsteered"


@dataclass(frozen=True)
class Method:
    """What a method needs.

    Attributes
    ----------
    title
        For the report.
    writer
        What generates its texts.
    best
        Whether it ranks several candidates and takes the best, instead of taking the first.

    """

    title: str
    writer: Writer
    best: bool = False


METHODS: Mapping[str, Method] = {
    "B": Method("unsteered, the first candidate", UNSTEERED),
    "BR": Method("unsteered, the best candidate", UNSTEERED, best=True),
    "BC": Method("steered, the first candidate", "steered"),
    "BCR": Method("steered, the best candidate", "steered", best=True),
    **{name: Method(rival.title, "rival") for name, rival in RIVALS.items()},
}
PAPER_METHODS = ("B", "BR", "BC", "BCR")


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
        Generation time, including that of the candidates that were not chosen.
    all_repetitive
        Whether it was chosen although all candidates repeat themselves.
    readings
        Rows that the model read, including those for the candidates that were not chosen; None if not recorded.

    """

    method: str
    attribute: str
    sample: Sample
    seconds: float
    all_repetitive: bool = False
    readings: float | None = None


def steered_arm(attribute: str) -> str:
    """Return the name of the arm that steers towards an attribute."""
    return f"steered to {attribute}"


def arm_name(method: str, attribute: str) -> str:
    """Return the name of the arm that a method's texts for an attribute come from."""
    writer = METHODS[method].writer
    if writer == "rival":
        return f"{method} to {attribute}"
    return steered_arm(attribute) if writer == "steered" else UNSTEERED


def check_methods(methods: Sequence[str]) -> tuple[str, ...]:
    """Return the methods in the order of `METHODS`, each once.

    Raises
    ------
    InputError
        If one is unknown, or there is none.

    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown or not methods:
        raise InputError(f"unknown method {', '.join(unknown) or '(none)'}; choose from {', '.join(METHODS)}")
    return tuple(name for name in METHODS if name in methods)


def reranks(method: str) -> bool:
    """Return whether a method needs more than one candidate."""
    return METHODS[method].best


def is_unsteered(method: str) -> bool:
    """Return whether a method's texts are the same for all attributes."""
    return METHODS[method].writer == UNSTEERED


def written_by(methods: Sequence[str], writer: Writer) -> list[str]:
    """Return the methods whose texts a writer generates."""
    return [method for method in methods if METHODS[method].writer == writer]


def arms_of(methods: Sequence[str], steered: Sequence[Arm], rivals: Sequence[Arm] = ()) -> list[Arm]:
    """Return the arms that these methods choose from, out of the given steered ones and rivals."""
    plain = [Arm(UNSTEERED)] if written_by(methods, UNSTEERED) else []
    return [*plain, *(steered if written_by(methods, "steered") else ()), *rivals]


def choose(
    pools: Pools, methods: Sequence[str], weights: Mapping[str, Sequence[float]], rerank: Rerank
) -> list[Chosen]:
    """Return every method's text for every attribute, pool and prompt, in this order.

    Parameters
    ----------
    pools, methods
        The texts, and what chooses among them.
    weights
        By attribute: one for each of its attribute models.
    rerank
        How the best candidate is chosen.

    """
    found = _candidates(pools, methods, list(weights))
    return [_choose(candidates, method, name, weights[name], rerank) for method, name, candidates in found]


def every_candidate(pools: Pools, methods: Sequence[str], attributes: Sequence[str]) -> list[Chosen]:
    """Return every candidate, labelled B (unsteered) or BC (steered)."""
    drawn = [method for method in ("B", "BC") if written_by(methods, METHODS[method].writer)]
    found = _candidates(pools, drawn, attributes)
    return [_one(method, attribute, one) for method, attribute, candidates in found for one in candidates]


def _candidates(
    pools: Pools, methods: Sequence[str], attributes: Sequence[str]
) -> Iterator[tuple[str, str, Sequence[Sample]]]:
    """Yield every method, every attribute that it has texts for, and the candidates of every pool and prompt."""
    for method in methods:
        for attribute in attributes:
            arm = arm_name(method, attribute)
            if arm not in pools.arms:
                continue
            for pool in range(pools.plan.pools):
                for prompt in range(len(pools.plan.prompts)):
                    yield method, attribute, pools.of(arm, prompt, pool)


def _choose(
    candidates: Sequence[Sample], method: str, attribute: str, weights: Sequence[float], rerank: Rerank
) -> Chosen:
    if not reranks(method):
        return _one(method, attribute, candidates[0])
    scores = [sample.scores[attribute] for sample in candidates]
    choice = rerank.best([sample.completion for sample in candidates], scores, weights)
    seconds = sum(sample.seconds for sample in candidates)
    counts = [sample.readings for sample in candidates if sample.readings is not None]
    readings = sum(counts) if len(counts) == len(candidates) else None
    return Chosen(method, attribute, candidates[choice.index], seconds, choice.all_repetitive, readings)


def _one(method: str, attribute: str, sample: Sample) -> Chosen:
    return Chosen(method, attribute, sample, sample.seconds, readings=sample.readings)
