"""Measures of generated texts, none of which is what steering optimises."""

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
