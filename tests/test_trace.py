import torch

from pplm.steering import Steered
from pplm.trace import TraceRecorder


def steered(iterations=2, groups=3, batch=2):
    return Steered(
        state=[],
        attribute_loss=torch.full((iterations, batch), 1.5),
        divergence=torch.full((iterations, batch), 0.5),
        gradient_norms=torch.ones(iterations, groups, batch),
        norms=torch.ones(groups, batch),
    )


def test_tokens_are_recorded_in_order_with_the_shapes_of_the_legend():
    recorder = TraceRecorder(("a", "b", "c", "d"), 2, 3, 2)
    recorder.unsteered(torch.zeros(2, 10))
    recorder.steered(steered(), [torch.full((4, 2), 1.0), torch.full((4, 2), 2.0)], torch.tensor([True, True]))
    trace = recorder.trace()
    assert trace.attribute_losses.shape == (2, 2, 4, 2)
    assert trace.attribute_loss.shape == trace.kl.shape == (2, 2, 2)
    assert trace.gradient_norms.shape == (2, 2, 3, 2)
    assert trace.names == ("a", "b", "c", "d")
    assert trace.kl[0].isnan().all()
    assert trace.kl[1].eq(0.5).all()
    assert trace.attribute_losses[1, :, 0, 0].tolist() == [1.0, 2.0]


def test_a_sample_without_history_is_recorded_as_not_steered():
    recorder = TraceRecorder(("a",), 2, 3, 2)
    recorder.steered(steered(), [torch.ones(1, 2)] * 2, torch.tensor([False, True]))
    trace = recorder.trace()
    for values in (trace.attribute_losses, trace.attribute_loss, trace.kl, trace.gradient_norms):
        assert values[..., 0].isnan().all()
        assert values[..., 1].isfinite().all()


def test_half_precision_logits_leave_a_float32_record():
    recorder = TraceRecorder(("a",), 2, 3, 2)
    recorder.unsteered(torch.zeros(2, 10, dtype=torch.float16))
    assert recorder.trace().kl.dtype == torch.float32
