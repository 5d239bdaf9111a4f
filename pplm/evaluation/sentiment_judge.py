"""A sentiment judge that is a word lexicon and some rules: VADER (Hutto and Gilbert 2014)."""

from __future__ import annotations

from collections.abc import Sequence

from pplm.errors import InputError
from pplm.evaluation.counts import words_of
from pplm.evaluation.judges import JudgedText, in_order


class SentimentJudge:
    """VADER's compound score of the completion alone, from -1 (bad) to 1 (good); 0 is neither.

    The prompt is left out: it is the same whatever steers, and some prompts have a sentiment of their own.
    """

    name = "vaderSentiment"
    columns: tuple[str, ...] = ("vader",)

    def __init__(self) -> None:
        """Read the lexicon.

        Raises
        ------
        InputError
            If vaderSentiment is not installed.

        """
        try:
            from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer
        except ImportError as error:
            raise InputError("vaderSentiment is not installed; pip install vaderSentiment") from error
        self._scores = SentimentIntensityAnalyzer().polarity_scores

    def judge(self, texts: Sequence[JudgedText]) -> list[tuple[float, ...]]:
        """Return (compound,) of each text; NaN where the completion has no word."""
        rows = [number for number, text in enumerate(texts) if words_of(text.completion)]
        return in_order(len(texts), rows, [float(self._scores(texts[row].completion)["compound"]) for row in rows])
