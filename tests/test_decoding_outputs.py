"""Where a steered text ends, and what `model.generate` returns and streams of it."""

import io
import sys
import time

import pytest
import torch
from helpers import decode, new_tokens
from plain_decoding import PROMPT, PROMPTS
from transformers import MaxTimeCriteria, StoppingCriteria, TextStreamer
from transformers.generation import BaseStreamer

import pplm

# --- ends, padding, copies, outputs ----------------------------------------------------------------------------


def eos_case(model, bag):
    """Return an end token that the first prompt's steered text reaches early, and the texts without it."""
    free = decode(model, PROMPTS, [bag], new=8)
    rows = new_tokens(free, 8)
    for position in (2, 3, 1, 4):
        token = rows[0][position]
        if token not in rows[0][:position]:
            return token, position, rows
    raise AssertionError("this model repeats itself too early for the test")


def test_a_finished_sample_is_filled_with_padding_and_its_length_counts_the_end(model, bag):
    end, position, rows = eos_case(model, bag)
    output = decode(model, PROMPTS, [bag], new=8, eos_token_id=end, pad_token_id=1)
    ended = new_tokens(output, output.sequences.shape[1] - 5)
    for row, (found, free) in enumerate(zip(ended, rows, strict=True)):
        length = free.index(end) + 1 if end in free else 8
        assert output.lengths[row] == min(length, 8)
        assert found[:length] == free[:length][: len(found)]
        assert set(found[length:]) <= {1}
    assert ended[0][position] == end


def test_decoding_stops_when_every_sample_has_ended(model, bag):
    end, position, _ = eos_case(model, bag)
    output = decode(model, [PROMPT], [bag], new=8, eos_token_id=end)
    assert output.sequences.shape[1] == 5 + position + 1
    assert output.sequences[0, -1] == end
    assert len(output.scores) == output.steering.kl.shape[0] == position + 1


def test_min_new_tokens_holds_the_end_back(gpt2, bag):
    end, position, _ = eos_case(gpt2, bag)
    output = decode(gpt2, [PROMPT], [bag], new=8, eos_token_id=end, min_new_tokens=position + 2)
    assert output.lengths.item() >= position + 2


def test_num_return_sequences_gives_independent_samples_of_each_prompt(gpt2, bag):
    output = decode(gpt2, PROMPTS[:2], [bag], do_sample=True, num_return_sequences=3, loop={"seed": 2})
    assert output.sequences.shape[0] == 6
    assert output.sequences[:3, :5].tolist() == [PROMPT] * 3
    assert len({tuple(row) for row in new_tokens(output)}) == 6
    ids = [(0, 2), (1, 0)]
    some = decode(gpt2, PROMPTS[:2], [bag], do_sample=True, loop={"seed": 2, "sample_ids": ids})
    assert new_tokens(some) == [new_tokens(output)[2], new_tokens(output)[3]]


def test_outputs_have_the_shapes_that_transformers_users_expect(model, bag):
    output = decode(model, PROMPTS, [bag])
    vocab = model.config.vocab_size
    assert isinstance(output, pplm.SteeredOutput)
    assert len(output.scores) == len(output.logits) == 6
    assert {tuple(t.shape) for t in (*output.scores, *output.logits)} == {(3, vocab)}
    assert {t.dtype for t in output.scores} == {torch.float32}
    assert output.past_key_values.get_seq_length() == output.sequences.shape[1] - 1
    assert output.lengths.tolist() == [6, 6, 6]
    transition = model.compute_transition_scores(output.sequences, output.scores, normalize_logits=True)
    assert transition.shape == (3, 6)


def test_without_the_flags_there_is_no_record_and_without_a_dict_there_are_ids_alone(gpt2, bag):
    output = decode(gpt2, [PROMPT], [bag], output_scores=False, output_logits=False)
    assert output.scores is None
    assert output.logits is None
    ids = decode(gpt2, [PROMPT], [bag], return_dict_in_generate=False)
    assert isinstance(ids, torch.Tensor)
    assert torch.equal(ids, output.sequences)


def test_the_returned_cache_is_the_unsteered_history_of_the_text(model, bag):
    output = decode(model, [PROMPT], [bag])
    wanted = model(output.sequences[:, :-1]).past_key_values
    for found, real in zip(output.past_key_values.layers, wanted.layers, strict=True):
        torch.testing.assert_close(found.keys, real.keys, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.values, real.values, atol=1e-4, rtol=1e-4)


def test_nothing_is_written_to_stdout_or_stderr(gpt2, bag, head, monkeypatch):
    out, err = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    decode(gpt2, PROMPTS, [bag, head])
    assert out.getvalue() == err.getvalue() == ""


# --- streaming and stopping ------------------------------------------------------------------------------------


class Puts(BaseStreamer):
    def __init__(self):
        self.values, self.ended = [], 0

    def put(self, value):
        self.values.append(value.tolist())

    def end(self):
        self.ended += 1


def test_a_streamer_gets_the_prompt_every_token_and_one_end(gpt2, bag):
    streamer = Puts()
    output = decode(gpt2, [PROMPT], [bag], loop={"streamer": streamer})
    assert streamer.values[0] == [PROMPT]
    assert [token for value in streamer.values[1:] for token in value] == new_tokens(output)[0]
    assert streamer.ended == 1


def test_a_text_streamer_prints_the_text_that_is_returned(gpt2, bag, tokenizer, capsys):
    ids = tokenizer(" moon and sea").input_ids
    streamer = TextStreamer(tokenizer, skip_prompt=True)
    output = decode(gpt2, [ids], [bag], new=10, loop={"streamer": streamer})
    assert capsys.readouterr().out.rstrip("\n") == tokenizer.decode(output.sequences[0, len(ids) :]).rstrip("\n")


class StopAfter(StoppingCriteria):
    def __init__(self, tokens):
        self.tokens, self.calls, self.scores = tokens, 0, []

    def __call__(self, input_ids, scores, **_):
        self.calls += 1
        self.scores.append(scores)
        return torch.full((input_ids.shape[0],), self.calls >= self.tokens)


def test_stopping_criteria_of_the_caller_end_the_text(gpt2, bag):
    stop = StopAfter(3)
    output = decode(gpt2, PROMPTS, [bag], stopping_criteria=[stop])
    assert output.sequences.shape[1] == 5 + 3
    assert [len(scores) for scores in stop.scores] == [1, 2, 3]


@pytest.mark.alone
def test_max_time_ends_the_text(gpt2, bag):
    began = time.time()
    output = decode(gpt2, [PROMPT], [bag], new=50, max_time=1e-9)
    assert output.sequences.shape[1] == 6
    assert time.time() - began < 5
    late = decode(gpt2, [PROMPT], [bag], new=3, stopping_criteria=[MaxTimeCriteria(60.0)])
    assert late.sequences.shape[1] == 8
