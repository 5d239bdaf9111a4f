"""Every bit of a seed counts, and small seeds keep the numbers they always had."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import pplm
from pplm import InputError
from pplm.benchmark import random_model
from pplm.checks import check_whole
from pplm.seeds import torch_seed
from pplm.sine import train
from pplm.text.sampling import RandomStreams


@pytest.mark.parametrize("seed", [0, 5, 2**32 - 1])
def test_seeds_that_torch_keeps_whole_stand_for_themselves(seed):
    assert torch_seed(seed) == seed


def test_seeds_that_differ_only_above_32_bits_give_other_networks():
    one, same, other = (train([seed], epochs=1).hidden_weight for seed in (5, 5, 5 + 2**32))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


@pytest.mark.parametrize(
    ("seed", "sample", "number"),
    [(0, (0, 0), 0.7308434511941834), (7, (3, 1), 0.751608487141391), (5 + 2**32, (0, 0, 2), 0.860676555301214)],
)
def test_the_streams_of_texts_draw_the_numbers_they_always_drew(seed, sample, number):
    stream = RandomStreams(seed, [sample])
    drawn = torch.rand(1, generator=stream._generators[0], dtype=torch.float64)
    assert drawn.item() == number


@pytest.mark.parametrize("seed", [5, 2**32 + 5, np.int64(2**40)])
def test_networks_and_random_models_take_seeds_as_texts_do(seed):
    assert torch.equal(train([seed], epochs=1).hidden_weight, train([int(seed)], epochs=1).hidden_weight)
    for wrong in (True, -1, "5"):
        with pytest.raises(InputError, match="each of seeds must be a whole number"):
            train([seed, wrong], epochs=1)
        with pytest.raises(InputError, match="seed must be a whole number"):
            random_model("random:gpt2", device="cpu", seed=wrong)


def test_no_generator_of_torch_is_given_a_seed_as_it_stands():
    whole = re.compile(r"manual_seed\((?!torch_seed\(|_stream_seed\(|_SEED\))")
    root = Path(pplm.__file__).parent.parent
    files = [path for folder in ("pplm", "attribute_models", "scripts") for path in (root / folder).rglob("*.py")]
    assert len(files) > 100
    assert not [path.name for path in files if whole.search(path.read_text(encoding="utf-8").replace("`", ""))]


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), 3])
def test_whole_numbers_of_numpy_are_seeds(seed):
    assert check_whole("seed", seed) == 3
    assert type(check_whole("seed", seed)) is int


@pytest.mark.parametrize("seed", [-1, 1.0, True, "3", None, np.float32(1)])
def test_what_is_no_whole_number_is_refused_as_a_seed(seed):
    with pytest.raises(InputError, match="seed must be a whole number of at least 0"):
        check_whole("seed", seed)
