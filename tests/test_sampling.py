"""Drawing tokens: a stream of random numbers for each prompt and sample, and what is drawn from it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pplm import InputError
from pplm.text.sampling import RandomStreams, choose_tokens


def draws(streams, probabilities, count):
    return torch.stack([streams.sample(probabilities) for _ in range(count)], 1)


def uniform(batch, vocab=50):
    return torch.full((batch, vocab), 1 / vocab)


def test_a_stream_depends_on_seed_prompt_and_sample_alone():
    many = [(0, 0), (7, 3), (3, 7), (7, 4)]
    together = draws(RandomStreams(5, many), uniform(4), 20)
    for row, sample in enumerate(many):
        alone = draws(RandomStreams(5, [sample]), uniform(1), 20)
        assert torch.equal(together[row], alone[0])


def test_streams_differ_between_seeds_prompts_and_samples():
    rows = [RandomStreams(seed, [(p, s)]) for seed in (0, 1) for p in (0, 1) for s in (0, 1)]
    texts = {tuple(draws(streams, uniform(1), 12)[0].tolist()) for streams in rows}
    assert len(texts) == 8


def test_torch_s_global_generator_is_neither_read_nor_moved():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = draws(RandomStreams(5, [(0, 0)]), uniform(1), 5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    assert torch.equal(draws(RandomStreams(5, [(0, 0)]), uniform(1), 5), first)


def test_frequencies_match_the_probabilities():
    probabilities = torch.tensor([[0.5, 0.0, 0.2, 0.3, 0.0]])
    count = 4000
    streams = RandomStreams(0, [(0, number) for number in range(40)])
    found = torch.bincount(draws(streams, probabilities.expand(40, -1), count // 40).flatten(), minlength=5)
    # Five standard deviations of a binomial share at this count.
    assert (found / count - probabilities[0]).abs().max() < 5 * (0.25 / count) ** 0.5
    assert found[1] == found[4] == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from([0.0, 1e-30, 1e-7, 0.3, 1.0]), min_size=2, max_size=8), st.integers(0, 2**64))
def test_a_token_of_probability_zero_is_never_drawn(weights, seed):
    weights[len(weights) // 2] = 0.5
    probabilities = torch.tensor([weights]) / sum(weights)
    chosen = draws(RandomStreams(seed, [(0, 0)]), probabilities, 5)
    assert (probabilities[0, chosen] > 0).all()


@pytest.mark.parametrize(("number", "token"), [(0.0, 1), (0.25, 3), (1 - 2**-53, 3)])
def test_the_ends_of_the_unit_interval_and_of_a_token_s_share_draw_a_possible_token(monkeypatch, number, token):
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.tensor([number], dtype=torch.float64))
    probabilities = torch.tensor([[0.0, 0.25, 0.0, 0.75, 0.0]])
    assert RandomStreams(0, [(0, 0)]).sample(probabilities).tolist() == [token]


def test_a_slightly_different_distribution_mostly_draws_the_same_token():
    one, other = torch.tensor([[0.5, 0.3, 0.2]]), torch.tensor([[0.51, 0.3, 0.19]])
    same = draws(RandomStreams(0, [(0, 0)]), one, 200) == draws(RandomStreams(0, [(0, 0)]), other, 200)
    assert same.float().mean() > 0.93


def test_half_precision_probabilities_can_be_drawn_from():
    chosen = draws(RandomStreams(0, [(0, 0)]), uniform(1, 3).half(), 30)
    assert set(chosen[0].tolist()) == {0, 1, 2}


def test_without_streams_tokens_are_drawn_as_torch_does():
    scores = torch.randn(4, 30, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(9)
    wanted = torch.multinomial(scores.softmax(-1), 1)[:, 0]
    torch.manual_seed(9)
    assert torch.equal(choose_tokens(scores, True, None), wanted)


def test_greedy_takes_the_largest_score_and_draws_nothing():
    scores = torch.tensor([[0.1, 0.9, 0.3], [2.0, -1.0, 1.0]])
    state = torch.get_rng_state()
    assert choose_tokens(scores, False, RandomStreams(0, [(0, 0), (0, 1)])).tolist() == [1, 0]
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True, None])
def test_a_seed_that_is_no_whole_number_from_zero_is_refused(seed):
    with pytest.raises(InputError, match="seed must be a whole number of at least 0; got"):
        RandomStreams(seed, [(0, 0)])


def test_very_large_seeds_are_distinct():
    one, other = (draws(RandomStreams(seed, [(0, 0)]), uniform(1), 12) for seed in (2**64, 2**64 + 1))
    assert not torch.equal(one, other)
