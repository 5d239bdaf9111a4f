"""Rows in batches: in order, and halved where memory runs out."""

import copy
import logging
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import pplm
from attribute_models import BagOfWords
from pplm.batching import in_batches
from pplm.evaluation import JudgedText, PerplexityJudge
from pplm.interface import bind_attributes, weigh_attributes
from pplm.text_scores import score_texts

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


@settings(max_examples=30)  # what does not fit is followed by a garbage collection, which takes its time
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
        "memory ran out with 10 texts at once; continuing with 5",
        "memory ran out with 5 texts at once; continuing with 3",
    ]


@pytest.mark.parametrize("error", [RuntimeError(CPU_MESSAGE), RuntimeError("std::bad_alloc"), MemoryError()])
def test_the_cpu_s_way_of_running_out_of_memory_counts_too(error):
    assert in_batches([1, 2, 3], None, Memory(2, error)) == [2, 4, 6]


def test_a_single_text_that_does_not_fit_is_refused_with_the_remedy():
    with pytest.raises(pplm.InputError, match="smaller model"):
        in_batches([1], None, Memory(0))


def test_a_single_text_that_does_not_fit_goes_without_a_result_where_one_is_given_for_it(caplog):
    class Long(Memory):
        def __call__(self, rows):
            return super().__call__(rows if 3 not in rows else [3] * 9)

    assert in_batches([1, 2, 3, 4], None, Long(4), without=-1) == [2, 4, -1, 8]
    assert "memory runs out for a single text; text 3 of 4 goes without the result" in caplog.text


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
    assert "memory ran out with 3 texts at once; continuing with 2" in caplog.text


# --- reranking and judging -------------------------------------------------------------------------------------


def limited(model, fits, error):
    """Let the model itself read at most `fits` texts at once."""

    def refuse(_, args, kwargs):
        if len(kwargs["input_ids"]) > fits:
            raise error

    return model.register_forward_pre_hook(refuse, with_kwargs=True)


@pytest.fixture(params=["float32", "bfloat16"])
def own_model(request, gpt2):
    return pplm.freeze(copy.deepcopy(gpt2).to(getattr(torch, request.param)))


ERRORS = [torch.OutOfMemoryError("no more"), RuntimeError(CPU_MESSAGE)]


@pytest.mark.parametrize("error", ERRORS, ids=["device", "cpu"])
@pytest.mark.parametrize("fits", [3, 0])
def test_candidates_are_ranked_in_smaller_batches_and_none_is_lost(own_model, tokenizer, error, fits, caplog):
    bag = BagOfWords.from_token_ids([11, 23, 42, 61, 77], len(tokenizer))
    bound = bind_attributes(weigh_attributes([bag]), own_model)
    prompts, completions = [[5, 6]] * 6, [[number, 11, 23 + number] for number in range(6)]

    def scores():
        (texts,) = score_texts(own_model, [bound], prompts, completions)
        return [value for text in texts for value in (*text.attributes, text.fluency)]

    wanted = scores()
    hook = limited(own_model, fits, error)
    found = scores()
    hook.remove()
    if fits:
        assert found == pytest.approx(wanted, abs=1e-4 if own_model.dtype == torch.float32 else 0.2)
        assert "continuing with 3" in caplog.text
    else:
        assert found == [-math.inf] * 12
        assert "text 6 of 6 goes without the result" in caplog.text


def test_texts_that_cannot_be_ranked_for_want_of_memory_are_returned(gpt2, tokenizer, monkeypatch):
    bag = BagOfWords.from_token_ids([11, 23, 42, 61, 77], len(tokenizer))

    def texts(rerank):
        return pplm.generate(
            gpt2, tokenizer, "w1 w2", attributes=[bag], num_samples=2, seed=5, max_new_tokens=4, do_sample=True,
            rerank=rerank,
        )  # fmt: skip

    def refuse(*_):
        raise torch.OutOfMemoryError("no more")

    monkeypatch.setattr("pplm.text_scores._read", refuse)
    found = texts(pplm.Rerank(3, min_distinct=0))
    assert [out.text for out in found] == [out.text for out in texts(None)]
    assert [out.score for out in found] == [-math.inf] * 2


@pytest.mark.parametrize("error", ERRORS, ids=["device", "cpu"])
def test_a_judge_that_runs_out_of_memory_gives_the_same_numbers(own_model, tokenizer, error, caplog):
    judge = PerplexityJudge(own_model, tokenizer, "judge")
    texts = [JudgedText("The sea is " + "deep " * number) for number in range(1, 6)]
    wanted = judge.judge(texts)
    hook = limited(own_model, 2, error)
    found = judge.judge(texts)
    hook.remove()
    tolerance = 1e-5 if own_model.dtype == torch.float32 else 0.02
    for (nll, tokens), (wanted_nll, wanted_tokens) in zip(found, wanted, strict=True):
        assert (nll, tokens) == (pytest.approx(wanted_nll, rel=tolerance), wanted_tokens)
    assert "continuing with 2" in caplog.text


@pytest.mark.parametrize("error", ERRORS, ids=["device", "cpu"])
def test_steered_texts_that_do_not_fit_are_made_in_smaller_batches_and_all_come(own_model, tokenizer, error, caplog):
    bag = BagOfWords.from_token_ids([11, 23, 42, 61, 77], len(tokenizer))

    def texts():
        return pplm.generate(
            own_model, tokenizer, ["w1 w2", "w3", "sea"], attributes=[bag], num_samples=2, seed=5, max_new_tokens=4,
            do_sample=True, eos_token_id=None,
        )  # fmt: skip

    wanted = texts()
    hook = limited(own_model, 2, error)
    found = texts()
    hook.remove()
    assert [(out.prompt_index, out.sample, len(out.token_ids)) for out in found] == [
        (prompt, sample, 4) for prompt in range(3) for sample in range(2)
    ]
    if own_model.dtype == torch.float32:
        assert [out.text for out in found] == [out.text for out in wanted]
    assert "memory ran out with 6 texts at once; continuing with 3" in caplog.text
    assert "continuing with 2" in caplog.text
