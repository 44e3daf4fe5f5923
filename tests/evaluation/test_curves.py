"""Robustness curves by hand: weights, values, empty groups, areas."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pytest
from final_runs import MorePredictions
from numpy.typing import NDArray

from ipgl.config import EvaluationSettings
from ipgl.evaluation import (
    CurvePoint,
    GroupCount,
    Predictions,
    area_under_curve,
    curve_type,
    interpolation_axis,
    mixture_weights,
    run_curves,
    weighted_accuracy,
    wilson_interval,
    worst_case_kl,
)
from ipgl.evaluation.curves import centre_mix

OPTIONS = {"confidence": 0.95}


def group(
    label: int, attribute: int, aligned: bool, count: int, correct: int = 0, training_count: int = 0
) -> GroupCount:
    return GroupCount(
        label=label,
        attribute=attribute,
        aligned=aligned,
        count=count,
        correct=correct,
        training_count=training_count,
    )


NOTHING = np.zeros(0, dtype=np.int32)
NO_PREDICTIONS = Predictions(NOTHING, NOTHING, NOTHING, np.zeros((0, 2), dtype=np.float32))


def mixture_curve(
    groups: tuple[GroupCount, ...] | list[GroupCount], severities: tuple[float, ...], **options: float
) -> tuple[CurvePoint, ...]:
    settings = EvaluationSettings(curves=("mixture",), severities=severities, **options)
    curves = run_curves(groups, NO_PREDICTIONS, settings)
    assert list(curves) == ["mixture"]
    return curves["mixture"]


# Class 0 has 40 of 100 examples, class 1 has 60. Accuracies: 0.9, 0.1 and 0.5, 0.2.
TWO = (
    group(0, 0, True, 30, 27),
    group(0, 1, False, 10, 1),
    group(1, 0, False, 40, 8),
    group(1, 1, True, 20, 10),
)


def test_weights_of_two_by_two_groups() -> None:
    expected = [
        [0.4, 0.0, 0.0, 0.6],
        [0.2, 0.2, 0.3, 0.3],
        [0.04, 0.36, 0.54, 0.06],
        [0.0, 0.4, 0.6, 0.0],
    ]
    np.testing.assert_allclose(mixture_weights(TWO, (0.0, 0.5, 0.9, 1.0)), expected, rtol=1e-12)


def test_curve_of_two_by_two_groups() -> None:
    # 0.4 * 0.9 + 0.6 * 0.5 = 0.66 where all are aligned, 0.4 * 0.1 + 0.6 * 0.2 = 0.16 where none is, linear between.
    curve = mixture_curve(TWO, (0.0, 0.5, 0.9, 1.0), **OPTIONS)
    assert [point.accuracy for point in curve] == pytest.approx([0.66, 0.41, 0.21, 0.16], rel=1e-12)
    assert [point.severity for point in curve] == [0.0, 0.5, 0.9, 1.0]
    assert [point.agreement for point in curve] == [1.0, 0.5, 0.1, 0.0]
    assert all(point.low < point.accuracy < point.high for point in curve)


def test_the_order_of_severities_is_kept() -> None:
    curve = mixture_curve(TWO, (1.0, 0.0), **OPTIONS)
    assert [point.severity for point in curve] == [1.0, 0.0]
    assert [point.accuracy for point in curve] == pytest.approx([0.16, 0.66])


def test_the_test_split_s_own_mix_gives_the_average() -> None:
    # Split so that each class is 0.3 conflicting: severity 0.3 re-weights by the split's own shares.
    groups = (
        group(0, 0, True, 70, 63),
        group(0, 1, False, 30, 9),
        group(1, 0, False, 60, 15),
        group(1, 1, True, 140, 84),
    )
    (point,) = mixture_curve(groups, (0.3,), **OPTIONS)
    assert point.accuracy == pytest.approx((63 + 9 + 15 + 84) / 300, rel=1e-12)


THREE = (
    # Class 0: 60 of 100, aligned with attribute 1; its conflicting groups have 10 and 20 examples.
    group(0, 0, False, 10, 5),
    group(0, 1, True, 30, 24),
    group(0, 2, False, 20, 4),
    # Class 1: 40 of 100, all of them aligned with attribute 0.
    group(1, 0, True, 40, 30),
    group(1, 1, False, 0),
    group(1, 2, False, 0),
)


def test_weights_of_three_attributes() -> None:
    expected = [
        [0.0, 0.6, 0.0, 0.4, 0.0, 0.0],
        [0.1, 0.3, 0.2, 0.2, 0.1, 0.1],
        [0.2, 0.0, 0.4, 0.0, 0.2, 0.2],
    ]
    np.testing.assert_allclose(mixture_weights(THREE, (0.0, 0.5, 1.0)), expected, rtol=1e-12)


def test_an_empty_group_is_unknown_only_where_it_weighs() -> None:
    curve = mixture_curve(THREE, (0.0, 0.5, 1.0), **OPTIONS)
    assert curve[0].accuracy == pytest.approx(0.6 * 0.8 + 0.4 * 0.75, rel=1e-12)
    assert curve[0].low < curve[0].accuracy < curve[0].high
    for point in curve[1:]:
        assert all(math.isnan(value) for value in (point.accuracy, point.low, point.high))


def test_an_empty_aligned_group_is_unknown_but_at_the_far_end() -> None:
    groups = (group(0, 0, True, 0), group(0, 1, False, 10, 4))
    curve = mixture_curve(groups, (0.0, 0.5, 1.0), **OPTIONS)
    assert math.isnan(curve[0].accuracy)
    assert math.isnan(curve[1].accuracy)
    assert curve[2].accuracy == pytest.approx(0.4)


def test_one_empty_group_among_several_conflicting_ones_weighs_nothing() -> None:
    groups = (group(0, 0, True, 10, 10), group(0, 1, False, 10, 5), group(0, 2, False, 0))
    (point,) = mixture_curve(groups, (0.5,), **OPTIONS)
    assert point.accuracy == pytest.approx(0.75)


def test_a_class_without_examples_weighs_nothing() -> None:
    groups = (*TWO, group(2, 0, True, 0), group(2, 1, False, 0))
    (point,) = mixture_curve(groups, (0.5,), **OPTIONS)
    assert point.accuracy == pytest.approx(0.41)


@pytest.mark.parametrize("groups", [TWO, THREE])
def test_weights_sum_to_one(groups: tuple[GroupCount, ...]) -> None:
    weights = mixture_weights(groups, np.linspace(0, 1, 11).tolist())
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)


def test_weighted_accuracy_takes_any_leading_axes() -> None:
    weights = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    accuracies = np.array([[[0.2, 0.4, np.nan], [1.0, 0.0, 0.8]]])
    expected = [[[0.3, np.nan], [0.5, 0.6]]]
    np.testing.assert_allclose(weighted_accuracy(weights, accuracies), expected, rtol=1e-12)


def test_a_higher_confidence_gives_a_wider_interval() -> None:
    (wide,) = mixture_curve(TWO, (0.5,), confidence=0.99)
    (narrow,) = mixture_curve(TWO, (0.5,), confidence=0.5)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_an_interval_has_the_width_of_the_binomials_behind_it() -> None:
    # At severity 1: weights 0.4 and 0.6 on accuracies 0.1 of 1,000 and 0.2 of 4,000; the standard deviation is
    # sqrt(0.16 * 0.09 / 1000 + 0.36 * 0.16 / 4000), and a normal 68.27% interval is one of them each way.
    groups = [g.model_copy(update={"count": 100 * g.count, "correct": 100 * g.correct}) for g in TWO]
    (point,) = mixture_curve(groups, (1.0,), confidence=0.6827)
    deviation = math.sqrt(0.16 * 0.09 / 1000 + 0.36 * 0.16 / 4000)
    assert (point.high - point.low) / 2 == pytest.approx(deviation, rel=0.002)


def points(*pairs: tuple[float, float]) -> list[CurvePoint]:
    return [CurvePoint(severity=s, agreement=1 - s, accuracy=a, low=a, high=a) for s, a in pairs]


@pytest.mark.parametrize(
    ("curve", "area"),
    [
        (points((0.0, 0.9), (1.0, 0.1)), 0.5),
        (points((0.0, 0.9), (0.5, 0.7), (1.0, 0.1)), 0.6),
        (points((1.0, 0.1), (0.0, 0.9), (0.5, 0.7)), 0.6),
        (points((0.5, 0.7), (0.9, 0.3)), 0.5),  # a mean over its own range
        (points((0.0, 1.0), (0.1, 0.5), (1.0, 0.5)), 0.525),  # unevenly spaced
        (points((0.9, 0.3)), 0.3),
    ],
)
def test_area(curve: list[CurvePoint], area: float) -> None:
    assert area_under_curve(curve) == pytest.approx(area, rel=1e-12)


def test_the_area_of_a_curve_with_a_gap_is_unknown() -> None:
    assert math.isnan(area_under_curve(points((0.0, 0.9), (0.5, math.nan), (1.0, 0.1))))


# --- curves beyond the mixture ---

# TWO's accuracies 0.9, 0.1, 0.2, 0.5, with a training mix of 0.5, 0.1, 0, 0.4.
TRAINED = tuple(
    group.model_copy(update={"training_count": count})
    for group, count in zip(TWO, (50, 10, 0, 40), strict=True)
)
WORST = EvaluationSettings(
    severities=(0.0, 1.0), kl_radii=(0.5, 0.0), tv_radii=(0.0, 0.4, 1.0), confidence=0.9
)


def test_the_training_mix_is_the_centre_of_the_balls() -> None:
    np.testing.assert_allclose(centre_mix(TRAINED, WORST), [0.5, 0.1, 0.0, 0.4])
    test = WORST.model_copy(update={"worst_case_mix": "test"})
    np.testing.assert_allclose(centre_mix(TRAINED, test), [0.3, 0.1, 0.4, 0.2])
    # Without training counts the test mix stands in.
    np.testing.assert_allclose(centre_mix(TWO, WORST), [0.3, 0.1, 0.4, 0.2])


def test_worst_case_curves_of_a_run() -> None:
    curves = run_curves(TRAINED, NO_PREDICTIONS, WORST)
    assert list(curves) == ["mixture", "worst_case_kl", "worst_case_tv"]
    accuracies, mix = [0.9, 0.1, 0.2, 0.5], [0.5, 0.1, 0.0, 0.4]
    kl, tv = curves["worst_case_kl"], curves["worst_case_tv"]
    assert [point.severity for point in kl] == [0.5, 0.0]
    assert [point.accuracy for point in kl] == pytest.approx(
        worst_case_kl(accuracies, mix, [0.5, 0]).tolist()
    )
    # 0.66 on average; 0.4 of the best group's share to the group at 0.1; everything there.
    assert [point.accuracy for point in tv] == pytest.approx([0.66, 0.66 - 0.4 * 0.8, 0.1])
    assert [point.severity for point in tv] == [0.0, 0.4, 1.0]
    for point in (*kl, *tv):
        assert math.isnan(point.agreement)
        assert point.low < point.accuracy < point.high
    # At full reach it is the worst group, which at these sizes may be either of the two low ones.
    assert 0.2 < tv[2].high < wilson_interval(1, 10, 0.9)[1]
    assert tv[2].low == pytest.approx(wilson_interval(1, 10, 0.9)[0], abs=0.01)


def test_a_worst_case_without_choice_has_the_interval_of_its_group() -> None:
    # All weight on one group: the curve at radius 0 is its accuracy, 0.9 of 3,000, and nothing else counts.
    groups = [
        g.model_copy(
            update={"training_count": int(i == 0), "count": 100 * g.count, "correct": 100 * g.correct}
        )
        for i, g in enumerate(TWO)
    ]
    curves = run_curves(groups, NO_PREDICTIONS, WORST)
    expected = wilson_interval(2700, 3000, 0.9)
    for point in (curves["worst_case_kl"][1], curves["worst_case_kl"][0], curves["worst_case_tv"][0]):
        assert point.accuracy == pytest.approx(0.9)
        assert (point.low, point.high) == pytest.approx(expected, abs=1e-4)


def with_answers(
    groups: Sequence[GroupCount],
    corrupted: dict[str, NDArray[np.int32]] | None = None,
    **more: Unpack[MorePredictions],
) -> Predictions:
    """Predictions that are right for the first `correct` examples of each group."""
    label = np.repeat([g.label for g in groups], [g.count for g in groups]).astype(np.int32)
    attribute = np.repeat([g.attribute for g in groups], [g.count for g in groups]).astype(np.int32)
    right = np.concatenate([np.arange(g.count) < g.correct for g in groups])
    prediction = np.where(right, label, 1 - label).astype(np.int32)
    probability = np.full((len(label), 2), 0.5, dtype=np.float32)
    return Predictions(label, attribute, prediction, probability, corrupted or {}, **more)


def test_interpolation_curve_by_hand() -> None:
    # Four pairs: the second changes from the middle on, the third only at the end, the fourth in the middle alone.
    along = np.array([[0, 1, 1, 0], [0, 0, 1, 1], [0, 0, 0, 0]], dtype=np.int32)
    settings = EvaluationSettings(curves=("mixture", "interpolation"))
    curve = run_curves(TWO, with_answers(TWO, along=along), settings)["interpolation"]
    assert [point.severity for point in curve] == [0.0, 0.5, 1.0]
    assert [point.accuracy for point in curve] == [1.0, 0.5, 0.5]
    assert (curve[0].low, curve[0].high) == (1.0, 1.0)  # a pair is classified as itself, whatever the sample
    assert all(point.low < 0.5 < point.high for point in curve[1:])


def test_an_interpolation_interval_has_the_width_of_a_binomial() -> None:
    along = np.stack([np.zeros(400), np.arange(400) < 100]).astype(np.int32)
    settings = EvaluationSettings(curves=("mixture", "interpolation"), confidence=0.6827)
    point = run_curves(TWO, with_answers(TWO, along=along), settings)["interpolation"][1]
    assert point.accuracy == 0.75
    assert (point.high - point.low) / 2 == pytest.approx(math.sqrt(0.75 * 0.25 / 400), rel=0.01)


def test_no_interpolation_curve_where_it_was_not_asked_for_or_not_followed() -> None:
    along = np.zeros((2, 3), dtype=np.int32)
    asked = EvaluationSettings(curves=("mixture", "interpolation"))
    assert "interpolation" not in run_curves(TWO, with_answers(TWO), asked)
    other = EvaluationSettings(curves=("mixture",))
    assert "interpolation" not in run_curves(TWO, with_answers(TWO, along=along), other)


def test_interpolation_axis() -> None:
    assert interpolation_axis(2) == (0.0, 1.0)
    assert interpolation_axis(11) == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert interpolation_axis(0) == ()


def test_corruption_curve_by_hand() -> None:
    base = with_answers(TRAINED)
    all_right = base.label
    only_zero = np.zeros(100, dtype=np.int32)  # right for class 0, wrong for class 1
    one = with_answers(
        TRAINED,
        corrupted={"hue": np.stack([base.prediction, only_zero, all_right])},
        levels={"hue": (0.0, 0.5, 1.0)},
    )
    curves = run_curves(TRAINED, one, WORST)
    curve = curves["corruption_hue"]
    assert list(curves) == ["mixture", "worst_case_kl", "worst_case_tv", "corruption_hue"]
    assert [point.severity for point in curve] == [0.0, 0.5, 1.0]
    # On the training mix: 0.5 * 0.9 + 0.1 * 0.1 + 0.4 * 0.5; then class 0's share of it; then all.
    assert [point.accuracy for point in curve] == pytest.approx([0.66, 0.6, 1.0])
    assert curve[0].low < 0.66 < curve[0].high
    assert all(point.low <= point.accuracy <= point.high for point in curve)
    assert curve[0].accuracy == pytest.approx(curves["worst_case_tv"][0].accuracy)


def test_a_corruption_is_unknown_where_a_group_of_the_mix_is_empty() -> None:
    groups = [*TRAINED[:3], group(1, 1, True, 0, training_count=40)]
    base = with_answers(groups)
    one = with_answers(groups, corrupted={"hue": base.prediction[None]}, levels={"hue": (0.5,)})
    (point,) = run_curves(groups, one, WORST)["corruption_hue"]
    assert all(math.isnan(value) for value in (point.accuracy, point.low, point.high))


def test_every_curve_of_a_run_has_a_kind() -> None:
    along = np.zeros((2, 3), dtype=np.int32)
    base = with_answers(TRAINED)
    one = with_answers(
        TRAINED, along=along, corrupted={"hue_turn": base.prediction[None]}, levels={"hue_turn": (0.5,)}
    )
    kinds = {name: curve_type(name) for name in run_curves(TRAINED, one, WORST)}
    assert list(kinds) == [
        "mixture",
        "worst_case_kl",
        "worst_case_tv",
        "interpolation",
        "corruption_hue_turn",
    ]
    assert {name: kind.name for name, kind in kinds.items()} == {name: name for name in kinds}
    assert len({kind.metric for kind in kinds.values()}) == len({kind.title for kind in kinds.values()}) == 5
    assert kinds["corruption_hue_turn"].title == "Corruption: hue turn"
    assert kinds["corruption_hue_turn"].metric == "corruption_accuracy/hue_turn"
    assert [kind.shares for kind in kinds.values()] == [True, False, True, True, True]


def test_an_unknown_curve() -> None:
    with pytest.raises(KeyError, match="there is no curve 'wurst_case_kl'"):
        curve_type("wurst_case_kl")
