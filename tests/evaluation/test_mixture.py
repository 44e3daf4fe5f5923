"""The axis of mixtures: with an alignment, without one, and where there is none at all."""

from __future__ import annotations

import math

import numpy as np
import pytest
from final_runs import completed_final

from ipgl.config import EvaluationSettings
from ipgl.data import Alignment
from ipgl.evaluation import (
    CurvePoint,
    GroupCount,
    Predictions,
    aggregate,
    compare,
    mixture_remarks,
    mixture_weights,
    run_curves,
)
from ipgl.evaluation.curve_types import CurveType, curve_type
from ipgl.evaluation.mixture import common_mixture, mixture_name, why_no_mixture

NOTHING = np.zeros(0, dtype=np.int32)
NO_PREDICTIONS = Predictions(NOTHING, NOTHING, NOTHING, np.zeros((0, 2), dtype=np.float32))


def group(
    label: int,
    attribute: int,
    aligned: bool | None,
    count: int | np.int64,
    training_count: int | np.int64 = 0,
    correct: int = 0,
) -> GroupCount:
    return GroupCount(
        label=label,
        attribute=attribute,
        aligned=aligned,
        count=count,
        correct=correct,
        training_count=training_count,
    )


def curves(
    groups: tuple[GroupCount, ...] | list[GroupCount],
    severities: tuple[float, float, float] = (0.0, 0.5, 1.0),
) -> dict[str, tuple[CurvePoint, ...]]:
    settings = EvaluationSettings(curves=("mixture", "worst_case_tv"), severities=severities)
    return run_curves(groups, NO_PREDICTIONS, settings)


# Class 0 has 40 of 100 test examples, class 1 has 60. In training 3/4 of class 0 and 1/5 of class 1 have attribute 0.
GENERAL = (
    group(0, 0, None, 30, 300, correct=27),
    group(0, 1, None, 10, 100, correct=1),
    group(1, 0, None, 40, 20, correct=8),
    group(1, 1, None, 20, 80, correct=10),
)


def test_the_general_mixture_goes_from_the_training_mix_to_equal_groups_within_classes() -> None:
    expected = [
        [0.4 * 0.75, 0.4 * 0.25, 0.6 * 0.2, 0.6 * 0.8],
        [0.4 * 0.625, 0.4 * 0.375, 0.6 * 0.35, 0.6 * 0.65],
        [0.2, 0.2, 0.3, 0.3],
    ]
    np.testing.assert_allclose(mixture_weights(GENERAL, (0.0, 0.5, 1.0)), expected, rtol=1e-12)


def test_the_general_curve_has_its_own_name_and_no_agreement() -> None:
    # Accuracies 0.9, 0.1, 0.2, 0.5: 0.27 + 0.01 + 0.024 + 0.24 by hand; equally 0.18 + 0.02 + 0.06 + 0.15.
    found = curves(GENERAL)
    assert list(found) == ["general_mixture", "worst_case_tv"]
    assert [p.accuracy for p in found["general_mixture"]] == pytest.approx([0.544, 0.477, 0.41], rel=1e-12)
    assert [p.severity for p in found["general_mixture"]] == [0.0, 0.5, 1.0]
    assert all(math.isnan(p.agreement) for p in found["general_mixture"])


def test_a_group_that_nothing_holds_has_no_share() -> None:
    groups = (
        group(0, 0, None, 10, 30),
        group(0, 1, None, 10, 10),
        group(0, 2, None, 0, 0),
        group(1, 0, None, 0, 20),
        group(1, 1, None, 20, 0),
        group(1, 2, None, 0, 0),
    )
    # Class 1 has attribute 0 in training alone and attribute 1 in the test split alone.
    expected = [[0.5 * 0.75, 0.5 * 0.25, 0, 0.5, 0, 0], [0.25, 0.25, 0, 0.25, 0.25, 0]]
    np.testing.assert_allclose(mixture_weights(groups, (0.0, 1.0)), expected, rtol=1e-12)
    assert all(
        math.isnan(p.accuracy) for p in curves(groups)["general_mixture"]
    )  # (1, 0) has no test examples


def test_a_class_with_one_group_keeps_its_weight() -> None:
    groups = (
        group(0, 0, None, 10, 10),
        group(0, 1, None, 0, 0),
        group(1, 0, None, 10, 30),
        group(1, 1, None, 20, 10),
    )
    np.testing.assert_allclose(
        mixture_weights(groups, (0.0, 1.0)), [[0.25, 0, 0.75 * 0.75, 0.75 * 0.25], [0.25, 0, 0.375, 0.375]]
    )


def test_a_class_without_test_examples_has_no_weight() -> None:
    groups = (*GENERAL, group(2, 0, None, 0, 0), group(2, 1, None, 0, 50))
    np.testing.assert_allclose(
        mixture_weights(groups, (0.0, 0.9)),
        np.pad(mixture_weights(GENERAL, (0.0, 0.9)), ((0, 0), (0, 2))),
        rtol=1e-12,
    )


@pytest.mark.parametrize("aligned", [True, None])
def test_weights_sum_to_one(aligned: bool | None) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        classes, values = rng.integers(2, 5, 2)
        agreeing = rng.integers(0, values, classes)
        groups = [
            group(y, a, None if aligned is None else bool(a == agreeing[y]), *rng.integers(0, 4, 2))
            for y in range(classes)
            for a in range(values)
        ]
        weights = mixture_weights(groups, (0.0, 0.3, 0.9, 1.0))
        if why_no_mixture(groups):
            assert np.isnan(weights).all()
        else:
            np.testing.assert_allclose(weights.sum(axis=1), 1, rtol=1e-12)
            assert (weights >= 0).all()


# Average 0.8 and worst group 0.7: with a weight lost, 0.4 was said at 50% and 0.08 at 10%.
ONE_VALUE = [(0, 0, 50, 100, 45), (1, 0, 50, 100, 35)]


@pytest.mark.parametrize(
    ("aligned", "why"),
    [
        (True, "label 0 has no conflicting group"),
        (False, "label 0 has no aligned group"),
        (None, "no class has more than one group, so that no mix of them differs from another"),
    ],
)
def test_one_attribute_value_has_no_mixture(aligned: bool | None, why: str) -> None:
    groups = [group(y, a, aligned, count, training, correct) for y, a, count, training, correct in ONE_VALUE]
    assert why_no_mixture(groups) == why
    assert np.isnan(mixture_weights(groups, (0.0, 0.9))).all()
    assert list(curves(groups)) == ["worst_case_tv"]
    assert mixture_remarks(Alignment(None, "training shows one attribute value"), groups) == (
        f"There is no mixture curve and no shifted accuracy: {why}.",
    )


def test_methods_on_one_attribute_value_are_compared_without_a_mixture() -> None:
    label = np.repeat([0, 1], 50).astype(np.int32)
    prediction = label.copy()
    prediction[[*range(5), *range(50, 65)]] = 1 - prediction[[*range(5), *range(50, 65)]]
    groups = [group(y, 0, None, count, training, correct) for y, _, count, training, correct in ONE_VALUE]
    predictions = Predictions(label, np.zeros_like(label), prediction, np.zeros((100, 2), dtype=np.float32))
    run = completed_final("a", groups, seed=1)
    tested = {name: [aggregate.Tested(run, predictions)] for name in "ab"}
    found = compare(tested, EvaluationSettings(curves=("mixture", "worst_case_tv")))
    assert (found.differences, found.tests) == ({}, ())
    assert list(found.curves["a"]) == ["worst_case_tv"]
    estimates = found.estimates["a"]
    assert estimates["average"].mean == pytest.approx(0.8, rel=1e-12)
    assert estimates["worst_group"].mean == pytest.approx(0.7, rel=1e-12)
    assert math.isnan(estimates["shifted_accuracy"].mean)
    assert not any(name.startswith("area") and "mixture" in name for name in estimates)


def test_a_class_with_a_single_group_has_no_mixture_with_an_alignment() -> None:
    groups = [group(0, 0, True, 5), group(1, 0, False, 5), group(1, 1, True, 5)]
    assert why_no_mixture(groups) == "label 0 has no conflicting group"
    assert why_no_mixture([group(0, 0, True, 0), *groups[1:]]) == ""  # it has no share of the test split


def test_the_general_mixture_needs_a_training_mix() -> None:
    groups = [group(0, 0, None, 5, 5), group(0, 1, None, 5, 5), group(1, 0, None, 5), group(1, 1, None, 5)]
    assert why_no_mixture(groups) == "label 1 has no training examples, where the curve starts"


def test_an_empty_test_split_has_no_mixture() -> None:
    assert (
        why_no_mixture([group(0, 0, True, 0, 9), group(0, 1, False, 0, 9)])
        == "the test split has no examples"
    )


def test_remarks() -> None:
    aligned = [group(y, a, y == a, 5, 5) for y in range(2) for a in range(2)]
    assert mixture_remarks(Alignment((0, 1)), aligned) == ()
    assert mixture_remarks(Alignment(None, "evaluation.alignment is none"), GENERAL) == (
        "No attribute value stands for a class: evaluation.alignment is none. Methods are compared on the general "
        "mixture instead, which goes from the training mix (severity 0) to equal groups within each class "
        "(severity 1).",
    )


def test_names() -> None:
    assert mixture_name(GENERAL) == "general_mixture"
    assert mixture_name([group(0, 0, True, 1), group(0, 1, False, 1)]) == "mixture"
    assert common_mixture(["mixture", "worst_case_kl"], {"mixture": 1}) == "mixture"
    assert common_mixture(["general_mixture"], ["general_mixture", "mixture"]) == "general_mixture"
    assert common_mixture(["mixture", "worst_case_kl"], ["general_mixture", "worst_case_kl"]) is None


def test_the_general_curve_s_kind_never_speaks_of_agreement() -> None:
    assert curve_type("general_mixture") == CurveType(
        "general_mixture",
        "General mixture",
        "way from the training mix to equal groups within each class",
        "accuracy",
        True,
        "shift_accuracy/general_mixture",
    )


def test_results_from_before_alignments_could_lack_are_read() -> None:
    old = '{"label": 0, "attribute": 1, "aligned": false, "count": 3, "correct": 2, "training_count": 0}'
    assert GroupCount.model_validate_json(old).aligned is False
    assert GroupCount.model_validate_json(old.replace("false", "null")).aligned is None
