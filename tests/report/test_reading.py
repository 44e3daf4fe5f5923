"""Questions asked of one study's configuration, and of several studies' at once."""

from __future__ import annotations

import pytest

from ipgl.report.reading import (
    curve_names,
    kind_of,
    pareto_front,
    stated,
    study_configs,
    target_severity,
    training_severity,
)


def two(build, first, second, **shared):
    return build.summary(build.method("a/m"), config={"studies": {"a": first, "b": second}, **shared})


def test_one_study_and_several(build):
    assert list(study_configs(build.summary(build.method("m")))) == ["colours"]
    assert list(study_configs(two(build, {}, {}))) == ["a", "b"]


def test_a_mark_needs_the_studies_to_agree(build):
    mix = {"dataset": {"train_agreements": [0.8, 0.9]}}
    assert training_severity(two(build, mix, mix)) == pytest.approx(0.15)
    assert training_severity(two(build, mix, {"dataset": {"train_agreement": 0.5}})) is None
    assert stated(two(build, mix, {"dataset": 3}), "dataset", "train_agreements") == [[0.8, 0.9]]


def test_the_target_severity_of_a_comparison(build):
    nine, five = ({"evaluation": {"target_severity": s}} for s in (0.9, 0.5))
    assert target_severity(two(build, nine, nine)) == 0.9
    assert target_severity(two(build, nine, five)) is None
    assert target_severity(two(build, nine, five, evaluation={"target_severity": 0.5})) == 0.5


def test_curves_come_in_one_order_and_unknown_ones_are_kept(build):
    points = build.points({0.0: (0.9, 0.8, 1.0)})
    curves = dict.fromkeys(["new", "corruption_hue", "interpolation", "mixture"], points)
    summary = build.summary(build.method("m", curves=curves), build.method("n", curves={"worst_case_tv": ()}))
    assert curve_names(summary) == ["mixture", "interpolation", "corruption_hue", "new"]
    assert kind_of("new").title == "New"
    assert kind_of("worst_case_kl").shares is False


def test_nothing_on_the_front_is_beaten():
    places = [(0.1, 0.7), (0.0, 0.5), (0.2, 0.6), (0.3, 0.9), (0.1, 0.6), (0.0, 0.5)]
    assert pareto_front(places) == [1, 0, 3]
    assert pareto_front([]) == []
