"""What a trace records of each token."""

import torch

from pplm.text.dial import Fused
from pplm.text.objective import TextObjective
from pplm.text.trace import TraceRecorder

EVERYONE, EVERYONE_HAS = torch.arange(2), torch.tensor([True, True])


def norms(iterations=2, groups=3, batch=2):
    return torch.ones(iterations, groups, batch)


def objective(losses, cosines=None, batch=2):
    """Return an objective as it stands after a token's readings; its model and text are not asked for."""
    outcome = (torch.full((batch,), 1.5), torch.full((batch,), 0.5))
    return TextObjective((), None, 0, 1, losses, [outcome] * len(losses), cosines)


def trace_of(recorder, tokens=1, batch=2):
    """Return the record of tokens whose outcome is not what a test is about."""
    for _ in range(tokens):
        recorder.record_final(Fused.unsteered(torch.zeros(batch, 10)), torch.arange(batch))
    return recorder.trace()


def test_tokens_are_recorded_in_order_with_the_shapes_of_the_legend():
    recorder = TraceRecorder(("a", "b", "c", "d"), 2, 3, 2)
    recorder.record_unsteered(torch.zeros(2, 10))
    losses = [torch.full((4, 2), value) for value in (1.0, 2.0, 3.0)]
    cosines = torch.arange(32.0).view(4, 4, 2)
    recorder.record_steered(objective(losses, cosines), norms(), EVERYONE_HAS, EVERYONE)
    trace = trace_of(recorder, tokens=2)
    assert trace.attribute_losses.shape == (2, 3, 4, 2)
    assert trace.attribute_loss.shape == trace.kl.shape == (2, 3, 2)
    assert trace.gradient_norms.shape == (2, 2, 3, 2)
    assert trace.names == ("a", "b", "c", "d")
    assert trace.kl[0].isnan().all()
    assert trace.kl[1].eq(0.5).all()
    assert trace.attribute_losses[1, :, 0, 0].tolist() == [1.0, 2.0, 3.0]
    assert trace.gradient_cosines.shape == (2, 4, 4, 2)
    assert trace.gradient_cosines[0].isnan().all()
    assert torch.equal(trace.gradient_cosines[1], cosines)


def test_a_sample_without_history_is_recorded_as_not_steered():
    recorder = TraceRecorder(("a", "b"), 2, 3, 2)
    recorder.record_steered(
        objective([torch.ones(2, 2)] * 3, torch.ones(2, 2, 2)), norms(), torch.tensor([False, True]), EVERYONE
    )
    trace = trace_of(recorder)
    columns = (trace.attribute_losses, trace.attribute_loss, trace.kl, trace.gradient_norms, trace.gradient_cosines)
    for values in columns:
        assert values[..., 0].isnan().all()
        assert values[..., 1].isfinite().all()


def test_a_single_attribute_model_has_no_cosines():
    recorder = TraceRecorder(("a",), 2, 3, 2)
    recorder.record_steered(objective([torch.ones(1, 2)] * 3), norms(), EVERYONE_HAS, EVERYONE)
    trace = trace_of(recorder)
    assert trace.gradient_cosines.shape == (1, 1, 1, 2)
    assert trace.gradient_cosines.isnan().all()


def test_half_precision_logits_leave_a_float32_record():
    recorder = TraceRecorder(("a",), 2, 3, 2)
    recorder.record_unsteered(torch.zeros(2, 10, dtype=torch.float16))
    assert trace_of(recorder).kl.dtype == torch.float32


def test_samples_that_are_left_out_of_a_token_are_recorded_as_not_steered():
    recorder = TraceRecorder(("a",), 2, 3, 4)
    recorder.record_steered(objective([torch.ones(1, 2)] * 3), norms(), EVERYONE_HAS, torch.tensor([3, 1]))
    trace = trace_of(recorder)
    assert trace.kl.shape == (1, 3, 4)
    assert trace.kl[..., [0, 2]].isnan().all()
    assert trace.kl[..., [1, 3]].eq(0.5).all()
