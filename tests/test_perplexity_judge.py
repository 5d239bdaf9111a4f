"""The language model as judge, on tiny models."""

import copy
import math

import pytest
import torch
from helpers import ids_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pplm
from pplm import InputError
from pplm.evaluation import JudgedText, PerplexityJudge, SentimentJudge, check_independent, perplexity
from pplm.text.encoding import encode_with_starts

TEXTS = [
    JudgedText("The moon and the sun", "The moon"),
    JudgedText("A cat", ""),
    JudgedText("The sea is deep, and a star is far away.", "The sea"),
    JudgedText("star star", ""),
]


@pytest.fixture
def judge(gpt2, tokenizer):
    return PerplexityJudge(gpt2, tokenizer, "tiny")


@pytest.fixture
def uniform(gpt2, tokenizer):
    """A model that finds every token equally likely."""
    model = copy.deepcopy(gpt2)
    torch.nn.init.zeros_(model.lm_head.weight)
    return PerplexityJudge(model, tokenizer, "uniform")


def by_hand(model, tokenizer, text, prompt=""):
    """Return loss and number of tokens after the prompt, token by token from the model's own softmax."""
    ids = ids_of(tokenizer, text)
    nll, tokens = 0.0, 0
    for position in range(1, len(ids)):
        if len(tokenizer.decode(ids[1:position])) >= len(prompt):
            logits = model(torch.tensor([ids[:position]])).logits[0, -1]
            nll -= logits.log_softmax(-1)[ids[position]].item()
            tokens += 1
    return nll, tokens


def test_the_perplexity_of_a_uniform_model_is_the_size_of_its_vocabulary(uniform):
    nlls, tokens = zip(*uniform.judge(TEXTS), strict=True)
    assert perplexity(nlls, tokens) == pytest.approx(uniform.model.config.vocab_size, rel=1e-5)


@pytest.mark.parametrize("text", TEXTS)
def test_losses_are_those_of_the_tokens_after_the_prompt(judge, gpt2, tokenizer, text):
    expected = by_hand(gpt2, tokenizer, text.text, text.prompt)
    assert expected[1] > 0
    assert judge.judge([text])[0] == pytest.approx(expected, rel=1e-4)


def test_without_a_prompt_every_token_counts(judge, tokenizer):
    text = "The moon and the sun"
    assert judge.judge([JudgedText(text)])[0][1] == len(tokenizer(text).input_ids)


def test_a_text_is_the_sum_of_its_parts(judge):
    whole, part = judge.judge([JudgedText("The moon and the sun"), JudgedText("The moon")])
    rest = judge.judge([JudgedText("The moon and the sun", "The moon")])[0]
    assert whole == pytest.approx([a + b for a, b in zip(part, rest, strict=True)], rel=1e-4)


def test_a_token_that_begins_inside_the_prompt_does_not_count(judge, tokenizer):
    assert tokenizer.tokenize("a moon") == ["a", "Ġmoon"]
    assert judge.judge([JudgedText("a moon", "a mo")]) == [(0.0, 0.0)]
    assert judge.judge([JudgedText("a moon", "a")])[0][1] == 1


@pytest.mark.parametrize("batch_size", [1, 2, 3, 16])
def test_batches_and_padding_change_nothing(gpt2, tokenizer, batch_size):
    alone = [PerplexityJudge(gpt2, tokenizer, "tiny").judge([text])[0] for text in TEXTS]
    together = PerplexityJudge(gpt2, tokenizer, "tiny", batch_size=batch_size).judge(TEXTS)
    torch.testing.assert_close(torch.tensor(together), torch.tensor(alone), rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(len(TEXTS))))
def test_the_order_of_the_texts_does_not_matter(judge, order):
    there = judge.judge(TEXTS)
    shuffled = judge.judge([TEXTS[i] for i in order])
    assert [pytest.approx(there[i], rel=1e-4) for i in order] == shuffled


def test_nothing_written_has_no_loss_and_no_tokens(judge):
    assert judge.judge([JudgedText("The moon", "The moon"), JudgedText("")]) == [(0.0, 0.0)] * 2
    assert judge.judge([]) == []


def test_without_a_beginning_of_text_token_the_first_token_does_not_count(gpt2, tokenizer):
    model, plain = copy.deepcopy(gpt2), copy.deepcopy(tokenizer)
    model.config.bos_token_id = plain.bos_token = None
    judge = PerplexityJudge(model, plain, "tiny")
    assert judge.judge([JudgedText("A cat")])[0][1] == len(plain("A cat").input_ids) - 1
    assert judge.judge([JudgedText("")]) == [(0.0, 0.0)]


def test_tokens_that_the_tokenizer_adds_do_not_count(gpt2, tokenizer):
    from tokenizers.processors import TemplateProcessing

    framed, end = copy.deepcopy(tokenizer), tokenizer.eos_token
    framed.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{end} $A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    assert len(framed("A cat").input_ids) == len(tokenizer("A cat").input_ids) + 2
    expected = PerplexityJudge(gpt2, tokenizer, "tiny").judge(TEXTS[:2])
    assert PerplexityJudge(gpt2, framed, "tiny").judge(TEXTS[:2]) == [pytest.approx(row, rel=1e-4) for row in expected]


@given(st.text(min_size=1, max_size=12))
def test_tokens_say_where_they_begin_in_any_text(gpt2, tokenizer, text):
    found = encode_with_starts(gpt2, tokenizer, [text])[0]
    assert found.ids[0] == tokenizer.bos_token_id
    assert len(found.starts) == len(found.ids)
    assert found.starts[:2] == [-1, 0]
    assert found.starts[1:] == sorted(found.starts[1:])
    assert found.starts[-1] < len(text)


def test_a_text_longer_than_the_models_positions_is_refused_by_name(judge):
    texts = [TEXTS[0], JudgedText("x" * 64)]
    with pytest.raises(InputError, match=r"text 2 of 2 \('x{40}\.\.\.'\) has 65 tokens, tiny has 64 positions"):
        judge.judge(texts)
    assert judge.judge([JudgedText("x" * 63)])[0][1] == 63


def test_a_loss_that_is_no_number_is_refused_with_the_text(gpt2, tokenizer):
    broken = copy.deepcopy(gpt2)
    torch.nn.init.constant_(broken.lm_head.weight, math.nan)
    with pytest.raises(InputError, match=r"tiny gives text 1 of 1 \('A cat'\) a loss that is not finite"):
        PerplexityJudge(broken, tokenizer, "tiny").judge([JudgedText("A cat")])


@pytest.mark.parametrize("batch_size", [0, 2.5, "16", True])
def test_a_batch_size_that_is_no_count_is_refused(gpt2, tokenizer, batch_size):
    with pytest.raises(InputError, match=f"batch_size must be a whole number of at least 1; got {batch_size!r}"):
        PerplexityJudge(gpt2, tokenizer, "tiny", batch_size=batch_size)


def test_a_tokenizer_that_cannot_say_where_its_tokens_begin_is_refused(gpt2, tokenizer):
    class Slow:
        is_fast = False

    with pytest.raises(InputError, match="tokenizer Slow cannot report where its tokens begin"):
        PerplexityJudge(gpt2, Slow(), "tiny").judge([JudgedText("A cat")])


def test_judging_leaves_the_model_as_it_was(judge):
    before = [parameter.clone() for parameter in judge.model.parameters()]
    judge.judge(TEXTS)
    assert all(torch.equal(a, b) for a, b in zip(before, judge.model.parameters(), strict=True))
    assert all(parameter.grad is None for parameter in judge.model.parameters())


def test_a_judge_is_loaded_as_a_model_is_and_named_after_its_folder(gpt2, tokenizer, judge, tmp_path):
    gpt2.save_pretrained(tmp_path / "critic")
    tokenizer.save_pretrained(tmp_path / "critic")
    loaded = PerplexityJudge.load(str(tmp_path / "critic"), device="cpu")
    assert loaded.name == "critic"
    assert loaded.judge(TEXTS) == [pytest.approx(row, rel=1e-4) for row in judge.judge(TEXTS)]


def test_a_judge_is_loaded_in_float32_however_it_was_saved(gpt2, tokenizer, tmp_path):
    copy.deepcopy(gpt2).to(torch.bfloat16).save_pretrained(tmp_path / "critic")
    tokenizer.save_pretrained(tmp_path / "critic")
    loaded = PerplexityJudge.load(str(tmp_path / "critic"), device="cpu")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.float32}


def test_the_embedded_model_is_a_judge_too_and_prefers_english():
    judge = PerplexityJudge.load("gpt2-mini", device="cpu")
    assert judge.name == "gpt2-mini"
    (good, n_good), (bad, n_bad) = judge.judge(
        [JudgedText("The cat sat on the mat."), JudgedText("Mat on cat sat the the.")]
    )
    assert good / n_good < bad / n_bad


def test_the_steered_model_as_judge_is_refused_in_any_number_format(gpt2, judge):
    assert judge.is_same_model(gpt2)
    assert judge.is_same_model(copy.deepcopy(gpt2).to(torch.bfloat16))
    with pytest.raises(InputError, match="the judge tiny is the steered model itself"):
        check_independent(judge, copy.deepcopy(gpt2), insist=False)


def test_a_user_who_insists_gets_the_sentence_that_the_report_must_carry(gpt2, judge):
    assert "tiny is the steered model itself" in check_independent(judge, gpt2, insist=True)


def test_another_model_and_a_judge_that_is_no_model_are_independent(gpt2, llama, judge):
    assert not judge.is_same_model(llama)
    for insist in (False, True):
        assert check_independent(judge, llama, insist=insist) is None
        assert check_independent(SentimentJudge(), gpt2, insist=insist) is None


def test_a_fine_tuned_model_is_another_one(gpt2, judge):
    other = copy.deepcopy(gpt2)
    for parameter in other.parameters():
        parameter.data += 1e-2 * torch.randn_like(parameter)
    assert not judge.is_same_model(pplm.freeze(other))


def test_memory_for_logits_is_bounded_by_positions_whatever_the_number_of_texts(judge, monkeypatch):
    texts = [JudgedText("The " + "moon " * (number % 23) + "x" * (number % 5)) for number in range(150)]
    wanted, seen = judge.judge(texts), []
    hook = judge.model.register_forward_hook(lambda *call: seen.append(call[-1].logits.shape))
    monkeypatch.setattr("pplm.evaluation.perplexity_judge._LOGITS", 80 * judge.model.config.vocab_size)
    monkeypatch.setattr("pplm.evaluation.perplexity_judge._POSITIONS", 5)
    monkeypatch.setattr("pplm.evaluation.perplexity_judge._ENCODED", 7)
    found = judge.judge(texts)
    hook.remove()
    torch.testing.assert_close(torch.tensor(found), torch.tensor(wanted), rtol=1e-4, atol=1e-4)
    assert max(rows * width for rows, width, _ in seen) == 80
    assert {width for _, width, _ in seen} == {16, 32}  # few shapes, because each takes memory


def test_a_text_longer_than_the_memory_for_logits_is_read_alone(judge, monkeypatch):
    monkeypatch.setattr("pplm.evaluation.perplexity_judge._LOGITS", 1)
    assert judge.judge([JudgedText("x" * 62), JudgedText("A cat")]) == [
        pytest.approx(judge.judge([JudgedText(text)])[0], rel=1e-4) for text in ("x" * 62, "A cat")
    ]


def test_a_text_that_cannot_be_read_is_named_by_its_number_among_all(judge, monkeypatch):
    monkeypatch.setattr("pplm.evaluation.perplexity_judge._ENCODED", 2)
    with pytest.raises(InputError, match=r"text 4 of 4 'a.ud83d' holds bytes that are no text"):
        judge.judge([*TEXTS[:3], JudgedText("a\ud83d")])
