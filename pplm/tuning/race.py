"""Rounds of texts; after each, the candidates that are clearly worse than the best drop out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pplm.comparison.bootstrap import Interval
from pplm.tuning.candidates import Candidate, first_candidates, more_iterations
from pplm.tuning.settings import TuneSettings
from pplm.tuning.texts import Scale, Texts, Writer

COMPARING = 0.7
"""Share of the time that the comparison may take."""
FIRST_ROUNDS = 2
"""Rounds, if so many are allowed, before a candidate may drop out or its fluency is judged: few texts can mislead."""


@dataclass(eq=False)
class Entry:
    """A candidate in the race.

    Attributes
    ----------
    candidate, texts
        Its settings, and the texts that they wrote.
    against
        The ratio of its level to the best candidate's at their last comparison, with an interval; None for the best.
    dropped
        The round after which it dropped out; 0 while it has not.

    """

    candidate: Candidate
    texts: Texts
    against: tuple[float, Interval] | None = None
    dropped: int = 0


class Race:
    """A comparison of candidates that stops as soon as only one is left.

    Parameters
    ----------
    writer, scale, settings
        What draws texts, what compares them, and how many of them there may be.
    unsteered
        The unsteered texts, which get as many rounds as any candidate.
    enter
        Makes a candidate's entry.
    on_progress
        Called after each round with (seconds so far, the limit in seconds, what was drawn).

    """

    def __init__(
        self,
        writer: Writer,
        scale: Scale,
        settings: TuneSettings,
        unsteered: Texts,
        enter: Callable[[Candidate], Entry],
        on_progress: Callable[..., None] | None = None,
    ) -> None:
        self._writer, self._scale, self._settings, self._enter = writer, scale, settings, enter
        self._first = min(FIRST_ROUNDS, settings.rounds)
        self.unsteered = unsteered
        self.entries: list[Entry] = []
        self.untried: list[Candidate] = []
        self.out_of_time = False
        self._on_progress, self._begin, self._texts = on_progress, time.monotonic(), 0

    @property
    def seconds(self) -> float:
        """Seconds since the race began."""
        return time.monotonic() - self._begin

    @property
    def left(self) -> list[Entry]:
        """The candidates that have not dropped out, best first, and the cheapest first among equals."""
        left = [entry for entry in self.entries if not entry.dropped]
        return sorted(left, key=lambda entry: (-self._scale.score(entry.texts)[0], entry.candidate.cost))

    def run(self, count: int) -> None:
        """Compare the candidates for a model with `count` layers."""
        self._catch_up(self.unsteered, "unsteered")
        self._enter_all(first_candidates(self._settings, count))
        self._drop()
        tried = [entry.candidate for entry in self.entries]
        best = [entry.candidate for entry in self.left[:2]]
        self._enter_all(more_iterations(best, self._settings, tried))
        self._drop()
        while len(self.left) > 1 and self.unsteered.rounds < self._settings.rounds:
            arms = [self.unsteered, *(entry.texts for entry in self.left)]
            if not self._time_for(sum(texts.seconds_per_round for texts in arms)):
                break
            what = f"round {self.unsteered.rounds + 1}, {len(self.left)} candidates"
            for texts in arms:
                self.draw(texts, what)
            self._drop()

    def draw(self, texts: Texts, what: str) -> None:
        """Draw another round of some texts, and report progress."""
        self._writer.draw(texts)
        self._texts += len(self._settings.prompts)
        if self._on_progress is not None:
            limit = self._settings.minutes * 60
            state = f"{what}, {self._texts:,} texts, {self.seconds / 60:.1f} of {limit / 60:g} minutes"
            self._on_progress(min(self.seconds, limit), limit, state)

    def _enter_all(self, candidates: Sequence[Candidate]) -> None:
        """Enter candidates, except those for which there is no time."""
        for candidate in candidates:
            slowest = max((entry.texts.seconds_per_round for entry in self.entries), default=0.0)
            if self.entries and not self._time_for(self._first * slowest):
                self.untried.append(candidate)
                continue
            self.entries.append(self._enter(candidate))
            self._catch_up(self.entries[-1].texts, str(candidate))

    def _catch_up(self, texts: Texts, what: str) -> None:
        while texts.rounds < self._first:
            self.draw(texts, what)

    def _time_for(self, seconds: float) -> bool:
        """Return whether the comparison may take this many seconds longer."""
        enough = self.seconds + seconds <= COMPARING * self._settings.minutes * 60
        self.out_of_time = self.out_of_time or not enough
        return enough

    def _drop(self) -> None:
        """Compare all that are left with the best; drop those whose interval of the ratio lies below 1."""
        best, *others = self.left
        best.against = None
        for entry in others:
            entry.against = self._scale.ratio(entry.texts, best.texts)
            if entry.against[1][1] < 1:
                entry.dropped = entry.texts.rounds
