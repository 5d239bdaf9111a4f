import logging

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import pplm
from attribute_models import BagOfWords
from pplm.batching import in_batches

CPU_MESSAGE = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."


class Memory:
    """Doubles its rows, as long as there are no more of them at once than fit."""

    def __init__(self, fits, error=None):
        self.fits, self.sizes = fits, []
        self.error = error or torch.OutOfMemoryError("no more")

    def __call__(self, rows):
        if len(rows) > self.fits:
            raise self.error
        self.sizes.append(len(rows))
        return [2 * row for row in rows]


@given(st.lists(st.integers(), min_size=1, max_size=20), st.integers(1, 25), st.integers(1, 25))
def test_results_come_in_order_whatever_the_size_and_whatever_fits(rows, size, fits):
    memory = Memory(fits)
    assert in_batches(rows, size, memory) == [2 * row for row in rows]
    assert max(memory.sizes) <= min(size, fits)


def test_a_batch_that_does_not_fit_is_halved_and_says_so(caplog):
    memory = Memory(3)
    with caplog.at_level(logging.WARNING, logger="pplm"):
        assert in_batches(list(range(10)), None, memory) == list(range(0, 20, 2))
    assert memory.sizes == [3, 3, 3, 1]
    assert [record.getMessage() for record in caplog.records] == [
        "memory ran out with 10 texts at once; going on with max_batch_size=5",
        "memory ran out with 5 texts at once; going on with max_batch_size=3",
    ]


def test_the_cpu_s_way_of_running_out_of_memory_counts_too():
    memory = Memory(2, RuntimeError(CPU_MESSAGE))
    assert in_batches([1, 2, 3], None, memory) == [2, 4, 6]


def test_a_single_text_that_does_not_fit_is_refused_with_the_remedy():
    with pytest.raises(pplm.InputError, match="smaller model"):
        in_batches([1], None, Memory(0))


def test_other_errors_pass_through():
    with pytest.raises(RuntimeError, match="shapes"):
        in_batches([1, 2], None, Memory(1, RuntimeError("shapes do not match")))


def test_generation_that_runs_out_of_memory_gives_the_same_texts(gpt2, tokenizer, monkeypatch, caplog):
    def texts(**arguments):
        bag = BagOfWords.from_token_ids([11, 23, 42, 61, 77], len(tokenizer))
        found = pplm.generate(
            gpt2, tokenizer, ["w1 w2", "w3"], attributes=[bag], num_samples=3, seed=5, max_new_tokens=4,
            do_sample=True, **arguments,
        )  # fmt: skip
        return [(g.text, g.prompt_index, g.sample) for g in found]

    wanted = texts()
    original = type(gpt2).generate

    def small(self, input_ids, **arguments):
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError("no more")
        return original(self, input_ids, **arguments)

    monkeypatch.setattr(type(gpt2), "generate", small)
    with caplog.at_level(logging.WARNING, logger="pplm"):
        assert texts() == wanted
    assert "max_batch_size=2" in caplog.text
