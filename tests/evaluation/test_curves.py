"""Mixture curves by hand: weights, values, empty groups, areas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ipgl.evaluation import (
    CurvePoint,
    GroupCount,
    area_under_curve,
    mixture_curve,
    mixture_weights,
    weighted_accuracy,
)

OPTIONS = {"confidence": 0.95, "resamples": 200}


def group(label, attribute, aligned, count, correct=0):
    return GroupCount(label=label, attribute=attribute, aligned=aligned, count=count, correct=correct)


# Class 0 has 40 of 100 examples, class 1 has 60. Accuracies: 0.9, 0.1 and 0.5, 0.2.
TWO = (
    group(0, 0, True, 30, 27),
    group(0, 1, False, 10, 1),
    group(1, 0, False, 40, 8),
    group(1, 1, True, 20, 10),
)


def test_weights_of_two_by_two_groups():
    expected = [
        [0.4, 0.0, 0.0, 0.6],
        [0.2, 0.2, 0.3, 0.3],
        [0.04, 0.36, 0.54, 0.06],
        [0.0, 0.4, 0.6, 0.0],
    ]
    np.testing.assert_allclose(mixture_weights(TWO, (0.0, 0.5, 0.9, 1.0)), expected, rtol=1e-12)


def test_curve_of_two_by_two_groups():
    # 0.4 * 0.9 + 0.6 * 0.5 = 0.66 where all are aligned, 0.4 * 0.1 + 0.6 * 0.2 = 0.16 where none is, linear between.
    curve = mixture_curve(TWO, (0.0, 0.5, 0.9, 1.0), **OPTIONS)
    assert [point.accuracy for point in curve] == pytest.approx([0.66, 0.41, 0.21, 0.16], rel=1e-12)
    assert [point.severity for point in curve] == [0.0, 0.5, 0.9, 1.0]
    assert [point.agreement for point in curve] == [1.0, 0.5, 0.1, 0.0]
    assert all(point.low < point.accuracy < point.high for point in curve)


def test_the_order_of_severities_is_kept():
    curve = mixture_curve(TWO, (1.0, 0.0), **OPTIONS)
    assert [(point.severity, point.accuracy) for point in curve] == [
        (1.0, pytest.approx(0.16)),
        (0.0, pytest.approx(0.66)),
    ]


def test_the_test_split_s_own_mix_gives_the_average():
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


def test_weights_of_three_attributes():
    expected = [
        [0.0, 0.6, 0.0, 0.4, 0.0, 0.0],
        [0.1, 0.3, 0.2, 0.2, 0.1, 0.1],
        [0.2, 0.0, 0.4, 0.0, 0.2, 0.2],
    ]
    np.testing.assert_allclose(mixture_weights(THREE, (0.0, 0.5, 1.0)), expected, rtol=1e-12)


def test_an_empty_group_is_unknown_only_where_it_weighs():
    curve = mixture_curve(THREE, (0.0, 0.5, 1.0), **OPTIONS)
    assert curve[0].accuracy == pytest.approx(0.6 * 0.8 + 0.4 * 0.75, rel=1e-12)
    assert curve[0].low < curve[0].accuracy < curve[0].high
    for point in curve[1:]:
        assert all(math.isnan(value) for value in (point.accuracy, point.low, point.high))


def test_an_empty_aligned_group_is_unknown_but_at_the_far_end():
    groups = (group(0, 0, True, 0), group(0, 1, False, 10, 4))
    curve = mixture_curve(groups, (0.0, 0.5, 1.0), **OPTIONS)
    assert math.isnan(curve[0].accuracy)
    assert math.isnan(curve[1].accuracy)
    assert curve[2].accuracy == pytest.approx(0.4)


def test_one_empty_group_among_several_conflicting_ones_weighs_nothing():
    groups = (group(0, 0, True, 10, 10), group(0, 1, False, 10, 5), group(0, 2, False, 0))
    (point,) = mixture_curve(groups, (0.5,), **OPTIONS)
    assert point.accuracy == pytest.approx(0.75)


def test_a_class_without_examples_weighs_nothing():
    groups = (*TWO, group(2, 0, True, 0), group(2, 1, False, 0))
    (point,) = mixture_curve(groups, (0.5,), **OPTIONS)
    assert point.accuracy == pytest.approx(0.41)


@pytest.mark.parametrize("groups", [TWO, THREE])
def test_weights_sum_to_one(groups):
    weights = mixture_weights(groups, np.linspace(0, 1, 11))
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, rtol=1e-12)


def test_weighted_accuracy_takes_any_leading_axes():
    weights = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]])
    accuracies = np.array([[[0.2, 0.4, np.nan], [1.0, 0.0, 0.8]]])
    expected = [[[0.3, np.nan], [0.5, 0.6]]]
    np.testing.assert_allclose(weighted_accuracy(weights, accuracies), expected, rtol=1e-12)


def test_intervals_come_from_the_seed_alone():
    assert mixture_curve(TWO, (0.5,), seed=1, **OPTIONS) == mixture_curve(TWO, (0.5,), seed=1, **OPTIONS)
    assert mixture_curve(TWO, (0.5,), seed=1, **OPTIONS) != mixture_curve(TWO, (0.5,), seed=2, **OPTIONS)


def test_a_higher_confidence_gives_a_wider_interval():
    (wide,) = mixture_curve(TWO, (0.5,), confidence=0.99, resamples=2000)
    (narrow,) = mixture_curve(TWO, (0.5,), confidence=0.5, resamples=2000)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_an_interval_has_the_width_of_the_binomials_behind_it():
    # At severity 1: weights 0.4 and 0.6 on accuracies 0.1 of 10 and 0.2 of 40; the standard deviation is
    # sqrt(0.16 * 0.09 / 10 + 0.36 * 0.16 / 40) = 0.0537, and a normal 68.27% interval is one of them each way.
    (point,) = mixture_curve(TWO, (1.0,), confidence=0.6827, resamples=20_000)
    deviation = math.sqrt(0.16 * 0.09 / 10 + 0.36 * 0.16 / 40)
    assert (point.high - point.low) / 2 == pytest.approx(deviation, rel=0.1)


def points(*pairs):
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
def test_area(curve, area):
    assert area_under_curve(curve) == pytest.approx(area, rel=1e-12)


def test_the_area_of_a_curve_with_a_gap_is_unknown():
    assert math.isnan(area_under_curve(points((0.0, 0.9), (0.5, math.nan), (1.0, 0.1))))
