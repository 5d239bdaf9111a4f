"""Measures of generated texts, none of which is what steering optimises."""

from typing import TYPE_CHECKING

from pplm.lazy import lazy_names

if TYPE_CHECKING:
    from pplm.evaluation.counts import (
        dist_n,
        mean_dist,
        perplexity,
        repeat_rate,
        repeated_ngram_rate,
        word_share,
        words_of,
    )
    from pplm.evaluation.judges import HeadJudge, Judge, JudgedText, check_independent
    from pplm.evaluation.perplexity_judge import PerplexityJudge
    from pplm.evaluation.sentiment_judge import SentimentJudge
    from pplm.evaluation.similarity_judge import SimilarityJudge
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "HeadJudge",
    "Judge",
    "JudgedText",
    "PerplexityJudge",
    "SentimentJudge",
    "SimilarityJudge",
    "check_independent",
    "dist_n",
    "mean_dist",
    "perplexity",
    "repeat_rate",
    "repeated_ngram_rate",
    "word_share",
    "words_of",
]
