import pytest
import torch

from attribute_models.metrics import classification_metrics


def test_metrics_of_a_hand_made_case():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    metrics = classification_metrics(probabilities, torch.tensor([0, 0, 1, 1]))
    assert metrics.accuracy == pytest.approx(0.75)
    assert metrics.confusion == ((2, 0), (1, 1))
    # class 0: precision 2/3, recall 1; class 1: precision 1, recall 1/2
    assert metrics.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    # four bins with one text each: |0.9 - 1|, |0.8 - 1|, |0.7 - 1|, |0.6 - 0|
    assert metrics.calibration_error == pytest.approx((0.1 + 0.2 + 0.3 + 0.6) / 4)


def test_texts_of_one_bin_are_compared_together():
    probabilities = torch.tensor([[0.75, 0.25]] * 4)
    assert classification_metrics(probabilities, torch.tensor([0, 0, 0, 1])).calibration_error == pytest.approx(0)
    assert classification_metrics(probabilities, torch.tensor([0, 0, 1, 1])).calibration_error == pytest.approx(0.25)


def test_full_confidence_has_a_bin():
    assert classification_metrics(torch.eye(2), torch.tensor([0, 1])).calibration_error == 0


def test_a_class_that_never_occurs_and_is_never_predicted_counts_as_wrong():
    metrics = classification_metrics(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert metrics.accuracy == 1
    assert metrics.macro_f1 == pytest.approx(2 / 3)
