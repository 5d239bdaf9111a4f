"""Measures of generated texts, none of which is what steering optimises."""

from pplm.evaluation.metrics import dist_n, repeat_rate, word_share, words_of

__all__ = ["dist_n", "repeat_rate", "word_share", "words_of"]
