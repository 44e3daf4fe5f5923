"""How good probabilities are: by hand, and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from ipgl.evaluation import expected_calibration_error, probability_metrics


def test_two_classes_by_hand() -> None:
    probability = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.7, 0.3]], dtype=np.float32)
    label = np.array([0, 0, 1, 1], dtype=np.int32)
    found = probability_metrics(probability, label)
    # Class 1's scores are 0.8, 0.3 against 0.1, 0.6: three of four comparisons are won.
    assert found["auroc"] == pytest.approx(0.75)
    assert found["nll"] == pytest.approx(-math.log(0.9 * 0.4 * 0.8 * 0.3) / 4, rel=1e-6)
    # Each example's squared distance is twice that of the true class's probability to 1.
    assert found["brier"] == pytest.approx(2 * (0.1**2 + 0.6**2 + 0.2**2 + 0.7**2) / 4, rel=1e-6)
    # Four bins of one example; predictions 0, 1, 1, 0 of which the first and the third are right.
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.2 + 0.7) / 4, rel=1e-6)


def test_three_classes_by_hand() -> None:
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.6, 0.1, 0.3]], dtype=np.float32)
    label = np.array([0, 1, 2], dtype=np.int32)
    found = probability_metrics(probability, label)
    # One against the rest: class 0 beats one of two (0.5 > 0.1, < 0.6), class 1 one of two, class 2 one of two.
    assert found["auroc"] == pytest.approx(0.5)
    assert found["nll"] == pytest.approx(-math.log(0.5 * 0.2 * 0.3) / 3, rel=1e-6)
    distances = [0.25 + 0.09 + 0.04, 0.01 + 0.64 + 0.49, 0.36 + 0.01 + 0.49]
    assert found["brier"] == pytest.approx(sum(distances) / 3, rel=1e-6)
    assert found["ece"] == pytest.approx((0.5 + 0.7 + 0.6) / 3, rel=1e-6)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_against_scikit_learn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    label = rng.integers(classes, size=400).astype(np.int32)
    logits = rng.normal(size=(400, classes)) + 1.5 * np.eye(classes)[label]
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = probability_metrics(probability.astype(np.float32), label)
    assert found["nll"] == pytest.approx(log_loss(label, probability), rel=1e-5)
    if classes == 2:
        assert found["brier"] == pytest.approx(2 * brier_score_loss(label, probability[:, 1]), rel=1e-5)
        assert found["auroc"] == pytest.approx(roc_auc_score(label, probability[:, 1]), rel=1e-4)
    else:
        truth = np.eye(classes)[label]
        sums = [brier_score_loss(truth[:, k], probability[:, k]) for k in range(classes)]
        assert found["brier"] == pytest.approx(sum(sums), rel=1e-5)
        assert found["auroc"] == pytest.approx(roc_auc_score(label, probability, multi_class="ovr"), rel=1e-4)


def test_ties_count_half_as_they_do_in_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    label = rng.permutation(np.arange(60) % 3).astype(np.int32)
    few_values = rng.integers(1, 4, size=(60, 3))  # so that most pairs are ties
    probability = few_values.astype(np.float32)
    scores = probability / probability.sum(axis=1, keepdims=True, dtype=np.float64)
    expected = roc_auc_score(np.eye(3)[label], scores, average="macro")
    assert probability_metrics(probability, label)["auroc"] == pytest.approx(expected, rel=1e-12)


def test_certain_and_wrong_is_bounded() -> None:
    found = probability_metrics(np.eye(2, dtype=np.float32), np.array([1, 1], dtype=np.int32))
    assert found["nll"] == pytest.approx(-math.log(1e-12) / 2)
    assert found["brier"] == pytest.approx(1.0)


def test_without_a_class_only_the_ranking_is_unknown() -> None:
    probability = np.array([[0.5, 0.3, 0.2], [0.1, 0.8, 0.1]], dtype=np.float32)
    found = probability_metrics(probability, np.array([0, 1], dtype=np.int32))
    assert math.isnan(found["auroc"])
    assert found["ece"] == pytest.approx((0.5 + 0.2) / 2, rel=1e-6)
    assert found["nll"] == pytest.approx(-math.log(0.5 * 0.8) / 2, rel=1e-6)


def test_its_arguments_stay_as_they_are() -> None:
    probability = np.array([[0.5, 0.25], [0.1, 0.8]], dtype=np.float32)
    before = probability.copy()
    probability_metrics(probability, np.array([0, 1], dtype=np.int32))
    np.testing.assert_array_equal(probability, before)


# --- calibration ---


def test_bins_by_hand() -> None:
    # Two bins: 0.6 and 0.7 with one of two right, 0.8 and 0.9 with both right.
    confidence = np.array([0.9, 0.6, 0.8, 0.7])
    correct = np.array([True, True, True, False])
    expected = (2 * abs(0.65 - 0.5) + 2 * abs(0.85 - 1.0)) / 4
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(expected)


def test_examples_that_the_bins_cannot_share_equally() -> None:
    # Seventeen in fifteen bins: the two lowest bins hold two each.
    confidence = np.linspace(0.1, 0.9, 17)
    correct = np.zeros(17, dtype=bool)
    correct[[0, 1, 2, 16]] = True
    gaps = [2 * abs(0.125 - 1.0), 2 * abs(0.225 - 0.5), *confidence[4:16], 1 - confidence[16]]
    assert expected_calibration_error(confidence, correct) == pytest.approx(sum(gaps) / 17, rel=1e-12)


def test_fewer_examples_than_bins_are_a_bin_each() -> None:
    confidence, correct = np.array([0.9, 0.8, 0.6]), np.array([True, False, True])
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.1 + 0.8 + 0.4) / 3)
    assert expected_calibration_error(np.array([0.7]), np.array([True])) == pytest.approx(0.3)


def test_perfectly_calibrated_and_shifted() -> None:
    # Fifteen levels of twenty examples: k of twenty are right where the confidence is k / 20.
    confidence = np.repeat(np.arange(5, 20) / 20, 20)
    correct = np.concatenate([np.arange(20) < k for k in range(5, 20)])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.0, abs=1e-12)
    assert expected_calibration_error(confidence - 0.05, correct) == pytest.approx(0.05, rel=1e-9)
    order = np.random.default_rng(0).permutation(300)
    order = order[np.argsort(confidence[order], kind="stable")]
    assert expected_calibration_error(confidence[order], correct[order]) == pytest.approx(0.0, abs=1e-12)


def test_over_and_under_confidence_in_one_bin_cancel_but_not_between_bins() -> None:
    confidence, correct = np.array([0.4, 0.8]), np.array([True, False])
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(0.1)
    assert expected_calibration_error(confidence, correct, bins=2) == pytest.approx(0.7)
