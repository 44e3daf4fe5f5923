"""Plain conversions, with every expected value written out."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

from ipgl.core.flatten import flatten
from ipgl.evaluation.run_result import CurvePoint
from ipgl.evaluation.study_summary import Estimate
from ipgl.tracking.mlflow_values import (
    Point,
    curve_points,
    headlines,
    outcome_points,
    parameter_texts,
    point_batches,
    row_points,
    safe_name,
    scalar_points,
    study_parameters,
    summary_points,
)
from ipgl.tracking.tags import environment_tags


def test_row_has_its_own_step_and_time_and_keeps_the_epoch() -> None:
    row = {"step": 20.0, "epoch": 2.0, "time": 1700000000.5, "train/loss": 0.25}
    assert row_points(row) == [
        Point("epoch", 2.0, 1700000000500, 20),
        Point("train/loss", 0.25, 1700000000500, 20),
    ]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_nan(value: float) -> None:
    (point,) = row_points({"step": 1, "time": 1.0, "train/loss": value})
    assert math.isnan(point.value)


def test_curve_steps_are_severities_in_percent() -> None:
    points = [(0.0, 0.9), (0.29, 0.8), (1.0, 0.5)]  # 100 * 0.29 is 28.999999999999996
    curve = tuple(CurvePoint(severity=s, agreement=1 - s, accuracy=a, low=a, high=a) for s, a in points)
    assert curve_points("mixture", curve, 7.0) == [
        Point("shift_accuracy/mixture", 0.9, 7000, 0),
        Point("shift_accuracy/mixture", 0.8, 7000, 29),
        Point("shift_accuracy/mixture", 0.5, 7000, 100),
    ]


def test_curve_leaves_a_gap_where_a_group_is_empty(make: SimpleNamespace) -> None:
    assert [point.step for point in curve_points("mixture", make.curve(0.9, 0.7, math.nan), 7.0)] == [0, 50]


def test_outcome_names(make: SimpleNamespace) -> None:
    result = make.result(metrics={"worst_group": 0.5, "area_mixture": 0.7, "nll": math.nan})
    points = {point.name: point for point in outcome_points(make.run(), result)}
    assert list(points) == ["test/worst_group", "area/mixture", "test/nll"]
    assert points["area/mixture"] == Point("area/mixture", 0.7, 1700000060000, 0)
    assert math.isnan(points["test/nll"].value)


def test_score_is_logged_only_if_no_row_has_it(make: SimpleNamespace) -> None:
    bare = make.run(rows=0)
    assert Point("score", 0.3, 1700000060000, 30) in outcome_points(bare, make.result())
    assert "score" not in [point.name for point in outcome_points(make.run(rows=1), make.result())]


def test_other_curves_have_metrics_of_their_own(make: SimpleNamespace) -> None:
    assert curve_points("worst_case_kl", make.curve(0.9), 7.0) == [
        Point("worst_case_accuracy/kl", 0.9, 7000, 0)
    ]
    assert curve_points("corruption_hue", make.curve(0.9), 7.0)[0].name == "corruption_accuracy/hue"


def test_the_worst_case_is_that_of_the_radius_nearest_to_a_half(make: SimpleNamespace) -> None:
    curves = {
        "worst_case_tv": tuple(
            CurvePoint(severity=s, accuracy=a, low=a - 0.1, high=a + 0.1)
            for s, a in [(0, 0.9), (0.4, 0.7), (1, 0.2)]
        )
    }
    result = make.result(curves=curves, metrics={})
    assert scalar_points(result) == [Point("test/worst_case_tv_0.4", 0.7, 1700000060000, 0)]
    method = make.method("ipg", curves=curves, estimates={})
    found = {point.name: round(point.value, 3) for point in summary_points(make.results(method).summary, 1.0)}
    assert found == {
        "ipg/worst_case_tv_0.4": 0.7,
        "ipg/worst_case_tv_0.4_low": 0.6,
        "ipg/worst_case_tv_0.4_high": 0.8,
    }
    assert headlines([method]) == ["worst_case_tv_0.4"]


def test_a_metric_without_an_interval_has_no_ends(make: SimpleNamespace) -> None:
    estimate = Estimate(mean=0.5, low=math.nan, high=math.nan)
    method = make.method("ipg", estimates={"nll": estimate}, curves={})
    assert [point.name for point in summary_points(make.results(method).summary, 1.0)] == ["ipg/nll"]


def test_summary_points(make: SimpleNamespace) -> None:
    summary = make.results(make.method("ipg", 0.5)).summary
    assert [(p.name, round(p.value, 3), p.milliseconds) for p in summary_points(summary, 2.0)] == [
        ("ipg/worst_group", 0.5, 2000),
        ("ipg/worst_group_low", 0.45, 2000),
        ("ipg/worst_group_high", 0.55, 2000),
    ]


def test_bunches_hold_whole_rows_of_at_most_a_thousand() -> None:
    row = [Point(f"m{i}", 0.0, 0, 0) for i in range(300)]
    assert [len(batch) for batch in point_batches([row] * 5)] == [900, 600]
    assert list(point_batches([])) == []


def test_parameters_are_short_text_with_accepted_names() -> None:
    parameters = {
        "lr": 0.001,
        "none": None,
        "on": True,
        "name": "mlp",
        "sizes": [1, 2],
        "a[0]": 1,
        "long": "x" * 600,
    }
    assert parameter_texts(parameters) == {
        "lr": "0.001",
        "none": "null",
        "on": "true",
        "name": "mlp",
        "sizes": "[1, 2]",
        "a_0_": "1",
        "long": "x" * 499 + "…",
    }


def test_flatten() -> None:
    assert flatten({"a": {"b": {"c": 1}, "d": [2]}, "e": {}}) == {"a.b.c": 1, "a.d": [2], "e": {}}


def test_study_parameters_leave_the_address_out(make: SimpleNamespace) -> None:
    config = {
        "name": "x",
        "tracking": {"uri": "http://bob:secret@h"},
        "storage": "runs",
        "training": {"epochs": 2},
    }
    assert study_parameters(make.study(config=config)) == {"training.epochs": 2}


def test_environment_tags() -> None:
    assert environment_tags({"host": "node1", "git_revision": "abc", "gpu": ""}) == {
        "ipgl.environment.host": "node1",
        "ipgl.environment.git_revision": "abc",
        "mlflow.source.git.commit": "abc",
    }


def test_safe_name_is_cut() -> None:
    assert safe_name("é[" + "x" * 300) == "é_" + "x" * 248
