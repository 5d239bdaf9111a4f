"""The paper's comparison: unsteered and steered texts of the same prompts, measured and told side by side.

It stands above `pplm.evaluation`, which measures texts and does not know who wrote them.
"""
