"""A batch of N is N single runs: no sample and no padding has any influence on another sample."""

import pytest
import torch
from helpers import STRONG, decode
from hypothesis import given, settings
from hypothesis import strategies as st

from pplm import SteeringConfig

PROMPTS = [[5, 9, 33, 71, 12, 8, 40], [8, 64, 2], [17], [29, 30, 31, 32, 33], [70]]
# Steps that move the text and stay in the region where a step does not magnify float32's rounding a thousandfold.
SETTINGS = {
    "own norm": SteeringConfig(step_size=0.1, gamma=1.0, norm_rule="current"),
    "running norm": SteeringConfig(step_size=0.1, gamma=1.5, norm_rule="running_max", gm_scale=0.9),
    "whole history": SteeringConfig(step_size=0.1, gamma=1.0, window_length=0, norm_rule="current"),
    "window and decay": SteeringConfig(step_size=0.15, gamma=1.0, window_length=4, decay=True),
    "last layer": SteeringConfig(step_size=0.1, gamma=1.5, layers=1, num_iterations=1),
    "last layer, no look ahead": SteeringConfig(
        step_size=0.1, gamma=1.0, norm_rule="current", layers=1, horizon_length=0, kl_scale=0.0, window_length=0
    ),
    "horizon": SteeringConfig(step_size=0.1, gamma=1.0, horizon_length=2, norm_rule="current", num_iterations=2),
    "every second": SteeringConfig(step_size=0.1, gamma=1.0, steer_every=2),
    "skipping": SteeringConfig(step_size=0.1, gamma=1.0, skip_below=2.5),
    "skipping with decay": SteeringConfig(
        step_size=0.1, gamma=1.5, skip_below=2.5, window_length=3, decay=True, gm_scale=0.9
    ),
    "skipping weak": SteeringConfig(step_size=0.1, gamma=1.0, norm_rule="current", skip_weak=0.6),
    "short grad": SteeringConfig(step_size=0.1, gamma=1.0, grad_length=3, kl_scale=0.5),
}


def assert_equal_runs(batch, singles, new=6):
    for row, single in enumerate(singles):
        assert batch.sequences[row, -new:].tolist() == single.sequences[0, -new:].tolist()
        for one, other in zip(batch.scores, single.scores, strict=True):
            torch.testing.assert_close(one[row].softmax(-1), other[0].softmax(-1), atol=1e-5, rtol=0)
        for name in ("attribute_losses", "attribute_loss", "kl"):
            torch.testing.assert_close(
                getattr(batch.steering, name)[..., row],
                getattr(single.steering, name)[..., 0],
                atol=1e-4,
                rtol=1e-4,
                equal_nan=True,
            )


@pytest.mark.parametrize("names", ["bag", "head", "bag head"])
@pytest.mark.parametrize("case", SETTINGS)
def test_left_padded_prompts_of_different_lengths_equal_their_single_runs(model, bag, head, names, case):
    attributes = [{"bag": bag, "head": head}[name] for name in names.split()]
    batch = decode(model, PROMPTS, attributes, SETTINGS[case])
    assert_equal_runs(batch, [decode(model, [prompt], attributes, SETTINGS[case]) for prompt in PROMPTS])


def test_the_settings_of_these_tests_do_steer(gpt2, bag):
    unsteered = decode(gpt2, PROMPTS, []).sequences
    for steering in SETTINGS.values():
        assert not torch.equal(decode(gpt2, PROMPTS, [bag], steering).sequences, unsteered)


@pytest.mark.parametrize("names", ["bag", "bag head"])
@pytest.mark.parametrize("extra", [1, 9])
def test_the_amount_and_the_kind_of_padding_do_not_matter(model, bag, head, names, extra):
    attributes = [{"bag": bag, "head": head}[name] for name in names.split()]
    steering = SETTINGS["window and decay"]
    wanted = [decode(model, [prompt], attributes, steering) for prompt in PROMPTS]
    assert_equal_runs(decode(model, PROMPTS, attributes, steering, extra=extra), wanted)
    assert_equal_runs(decode(model, PROMPTS[::-1], attributes, steering, extra=extra), wanted[::-1])


def test_the_window_and_its_decay_count_real_positions_alone(gpt2, bag):
    # With 3 real positions of history and a window of 4, no padded position may take part or tilt the weights.
    steering = SteeringConfig(step_size=0.3, gamma=1.0, window_length=4, decay=True, norm_rule="current")
    alone = decode(gpt2, [[8, 64, 2, 5]], [bag], steering, new=1)
    padded = decode(gpt2, [[8, 64, 2, 5], list(range(20))], [bag], steering, new=1)
    torch.testing.assert_close(padded.steering.gradient_norms[..., 0], alone.steering.gradient_norms[..., 0])


def test_a_one_token_prompt_is_unsteered_for_one_token_and_recorded_so_in_a_batch(model, bag):
    trace = decode(model, PROMPTS, [bag]).steering
    one_token = [row for row, prompt in enumerate(PROMPTS) if len(prompt) == 1]
    for row in range(len(PROMPTS)):
        assert trace.attribute_loss[0, :, row].isnan().all() == (row in one_token)
        assert trace.attribute_loss[1:, :, row].isfinite().all()


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 89), min_size=1, max_size=8), min_size=2, max_size=4),
    st.sampled_from(sorted(SETTINGS)),
)
def test_any_batch_equals_its_single_runs(gpt2, bag, head, prompts, case):
    attributes = [bag, (head, 0.5)]
    batch = decode(gpt2, prompts, attributes, SETTINGS[case], new=3)
    singles = [decode(gpt2, [prompt], attributes, SETTINGS[case], new=3) for prompt in prompts]
    assert_equal_runs(batch, singles, new=3)


@pytest.mark.parametrize("dial", [{}, {"strength": 0.8}, {"target": {"bag": 0.06, "head": 0.7}}])
@pytest.mark.filterwarnings("ignore:target .* is not reached:pplm.SteeringWarning")
def test_a_finished_sample_leaves_its_neighbours_alone(gpt2, bag, head, dial):
    steering = SteeringConfig.for_attributes([bag, head], **dial) if dial else STRONG
    free = decode(gpt2, PROMPTS, [bag, head], steering, new=8)
    end = int(free.sequences[0, 8])  # the first prompt's second new token
    wanted = [decode(gpt2, [prompt], [bag, head], steering, new=8, eos_token_id=end) for prompt in PROMPTS]
    batch = decode(gpt2, PROMPTS, [bag, head], steering, new=8, eos_token_id=end)
    assert len(set(batch.lengths.tolist())) > 1
    for row, single in enumerate(wanted):
        length = int(single.lengths[0])
        assert batch.lengths[row] == length
        assert batch.sequences[row, 7 : 7 + length].tolist() == single.sequences[0, -length:].tolist()
