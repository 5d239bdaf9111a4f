"""What `print` shows of results that hold tensors: their shapes, not their numbers."""

import numpy as np
import pytest
import torch

from attribute_models import FeatureOptions, Features, LabelledData
from pplm import SteeringStep, WholeText
from pplm.pooling import PooledHidden
from pplm.short_repr import quoted
from pplm.sine import DrawnWaves, WaveNetworks
from pplm.sine.experiment import MeasuredWaves

ONES = torch.ones(40, 50)
WAVES = DrawnWaves(ONES, ONES, ONES, ONES)


@pytest.mark.parametrize(
    ("thing", "part"),
    [
        (SteeringStep(ONES.long(), ONES.bool(), ONES, lambda: ONES), "input_ids=int64[40, 50], attention_mask=bool["),
        (WholeText(ONES, ONES, ONES, ONES, ONES), "hidden_states=float32[40, 50], content_mask=None"),
        (PooledHidden(ONES, ONES), "PooledHidden(total=float32[40, 50], count=float32[40, 50])"),
        (WAVES, "DrawnWaves(samples=float32[40, 50], "),
        (MeasuredWaves(ONES, WAVES, WAVES, []), "unsteered=DrawnWaves(samples=float32[40, 50], "),
        (WaveNetworks(ONES, ONES, ONES, ONES), "hidden_weight=float32[40, 50], hidden_bias=float32[40, 50], "),
        (Features(ONES, FeatureOptions(), 0), "Features(pooled=float32[40, 50], options=FeatureOption"),
        (LabelledData(("a text",) * 99, np.zeros(99, int), ("a", "b")), "targets=int64[99], labels=('a', 'b'), "),
    ],
)
def test_tensors_are_shown_by_their_shapes(thing, part):
    assert part in repr(thing)
    assert len(repr(thing)) < 400


@pytest.mark.parametrize("length", [0, 80, 240])
def test_a_text_in_a_message_is_shown_whole(length):
    assert quoted("x" * length) == repr("x" * length)


def test_a_very_long_text_in_a_message_shows_its_beginning_and_its_end():
    shown = quoted("/start" + "x" * 10_000_000 + "head:great")
    assert shown.startswith("'/start")
    assert shown.endswith("head:great'")
    assert " ... " in shown
    assert len(shown) < 250
