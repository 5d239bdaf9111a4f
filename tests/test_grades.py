"""Accuracy, macro-F1 and calibration error, on cases computed by hand."""

import pytest
import torch

from attribute_models.grades import grade


def test_grades_of_a_hand_made_case():
    probabilities = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])
    grades = grade(probabilities, torch.tensor([0, 0, 1, 1]))
    assert grades.accuracy == pytest.approx(0.75)
    assert grades.confusion == ((2, 0), (1, 1))
    # class 0: precision 2/3, recall 1; class 1: precision 1, recall 1/2
    assert grades.macro_f1 == pytest.approx((0.8 + 2 / 3) / 2)
    # four bins with one text each: |0.9 - 1|, |0.8 - 1|, |0.7 - 1|, |0.6 - 0|
    assert grades.calibration_error == pytest.approx((0.1 + 0.2 + 0.3 + 0.6) / 4)


def test_texts_of_one_bin_are_compared_together():
    probabilities = torch.tensor([[0.75, 0.25]] * 4)
    assert grade(probabilities, torch.tensor([0, 0, 0, 1])).calibration_error == pytest.approx(0)
    assert grade(probabilities, torch.tensor([0, 0, 1, 1])).calibration_error == pytest.approx(0.25)


def test_full_confidence_has_a_bin():
    assert grade(torch.eye(2), torch.tensor([0, 1])).calibration_error == 0


def test_a_class_that_never_occurs_and_is_never_predicted_counts_as_wrong():
    grades = grade(torch.eye(3)[:2], torch.tensor([0, 1]))
    assert grades.accuracy == 1
    assert grades.macro_f1 == pytest.approx(2 / 3)
