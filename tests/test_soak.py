"""What a process holds on to while it works for long: memory, open files, threads, bags and models."""

import gc
import importlib.util
import sys
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import GPT2LMHeadModel

import pplm
from attribute_models import BagOfWords, Discriminator
from pplm import batching
from pplm.cli.attributes import AttributeOptions
from pplm.cli.row_settings import _REMEMBERED, RowSettings
from pplm.interface import WeightedAttribute
from pplm.models.fingerprint import _TOKENIZERS
from pplm.presets import SteeringPresets
from pplm.text.forward import _SCALES
from pplm.text.steerable import _BY_MASK

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "soak.py"
checkout = pytest.mark.skipif(not SCRIPT.is_file(), reason="needs a checkout")


@pytest.fixture(scope="module")
def script():
    found = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # where dataclasses look up their annotations
    found.loader.exec_module(module)
    return module


@pytest.mark.slow
@checkout
def test_two_thousand_steered_texts_take_no_more_than_the_first_two_hundred(script, embedded):
    """With fewer tokens and steps than `python scripts/soak.py generate`, which docs/reliability.md quotes."""
    found = script.steered(*embedded, texts=2000, batch=50, new_tokens=8, num_iterations=1)
    assert found.texts[-1] == 2000
    assert found.growth <= 0.05, found.lines()
    assert (found.files[0], found.threads[0]) == (found.files[-1], found.threads[-1]), found.lines()


@pytest.mark.slow
@checkout
def test_judging_many_texts_takes_the_memory_of_judging_few(script, embedded):
    few, many = script.judged(*embedded, [200, 1000])
    assert many <= 1.25 * few, (few, many)


@checkout
def test_growth_is_the_highest_peak_after_the_warm_up_over_the_highest_in_it(script):
    found = script.Soak([100, 200, 300, 400], [90.0, 100.0, 110.0, 95.0], [3, 3, 3, 4], [2, 2, 2, 2])
    assert found.growth == pytest.approx(0.1)
    assert found.lines() == [
        "resident memory: at most 100 MB over the first 200 texts, at most 110 MB over the texts from there to 400: "
        "+10.0%",
        "open files after the first and the last batch: 3 and 4",
        "threads after the first and the last batch: 2 and 2",
    ]


def test_free_memory_goes_back_when_batches_have_left_much_of_it_and_only_then(monkeypatch):
    sizes = iter([80, 50, 79, 60, 10, 43, 41])
    returned = []
    monkeypatch.setattr(batching, "_KEPT", 30)
    monkeypatch.setattr(batching, "return_free_memory", lambda: returned.append(len(seen)))
    monkeypatch.setattr(batching._Growth, "_resident", staticmethod(lambda: next(sizes)))
    monkeypatch.setattr(batching, "_GROWTH", batching._Growth())
    seen = []
    # 80 is much, and 50 are left; 79 and 60 are less than 30 more; at 10 a model is gone; 43 is much again.
    batching.in_batches(range(5), 1, lambda rows: seen.extend(rows) or list(rows))
    assert returned == [1, 5]


def test_models_bags_and_heads_that_are_gone_leave_nothing_behind(gpt2, tokenizer):
    def used():
        model = GPT2LMHeadModel(gpt2.config)
        model.load_state_dict(gpt2.state_dict())
        pplm.freeze(model)
        bag = BagOfWords.from_words(["moon", "far away"], tokenizer)
        head = Discriminator.from_weights(*weights, ["bad", "good"], "good")
        pplm.generate(model, tokenizer, ["The moon", "A"], attributes=[bag, head], max_new_tokens=2, seed=0)
        return [weakref.ref(part) for part in (model, bag, head)]

    weights = torch.randn(2, 32, generator=torch.Generator().manual_seed(0)), torch.zeros(2)
    used()
    gc.collect()
    before = [len(place) for place in (_TOKENIZERS, _SCALES, _BY_MASK)]
    parts = [part for _ in range(3) for part in used()]
    gc.collect()
    assert [part() for part in parts] == [None] * 9
    assert [len(place) for place in (_TOKENIZERS, _SCALES, _BY_MASK)] == before


def test_a_job_whose_rows_all_have_bags_of_their_own_remembers_a_bounded_number(tokenizer):
    alive = []

    def load(choice):
        bag = BagOfWords.from_words(["moon"], tokenizer)
        alive.append(weakref.ref(bag))
        return [WeightedAttribute("sky", bag, 1.0)]

    settings = RowSettings(AttributeOptions(), {}, (1, 1), None, SteeringPresets(), load)
    ways = settings.ways()
    for number in range(_REMEMBERED + 30):
        ways((replace(settings.choice, bags=(f"{number}.txt",)), "{}"))
    gc.collect()
    assert len(alive) == _REMEMBERED + 30
    assert sum(bag() is not None for bag in alive) == _REMEMBERED
    ways((replace(settings.choice, bags=(f"{number}.txt",)), "{}"))
    assert len(alive) == _REMEMBERED + 30  # the last is not loaded again
