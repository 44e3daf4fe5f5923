"""Queries on the configuration of one study and of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from narrowing import Keywords

from ipgl.evaluation import StudySummary
from ipgl.evaluation.study_summary import Estimate, GroupEstimate
from ipgl.report.result_queries import (
    configured_values,
    curve_names,
    curve_type_of,
    mixture_of,
    pareto_front,
    study_configs,
    target_severity,
    training_severity,
)

if TYPE_CHECKING:
    from tests.report.conftest import Build


def two(build: type[Build], first: Keywords, second: Keywords, **shared: object) -> StudySummary:
    return build.summary(build.method("a/m"), config={"studies": {"a": first, "b": second}, **shared})


def test_one_study_and_several(build: type[Build]) -> None:
    assert list(study_configs(build.summary(build.method("m")))) == ["colours"]
    assert list(study_configs(two(build, {}, {}))) == ["a", "b"]


def test_a_mark_needs_the_studies_to_agree(build: type[Build]) -> None:
    mix = {"dataset": {"train_agreements": [0.8, 0.9]}}
    assert training_severity(two(build, mix, mix)) == pytest.approx(0.15)
    assert training_severity(two(build, mix, {"dataset": {"train_agreement": 0.5}})) is None
    assert configured_values(two(build, mix, {"dataset": 3}), "dataset", "train_agreements") == [[0.8, 0.9]]


def groups_of(
    aligned: list[bool], training: list[int], count: tuple[int, int, int, int] = (30, 10, 40, 20)
) -> tuple[GroupEstimate, ...]:
    return tuple(
        GroupEstimate(
            label=i // 2,
            attribute=i % 2,
            aligned=aligned[i],
            count=count[i],
            training_count=training[i],
            accuracy=Estimate(mean=0.5, low=0.4, high=0.6),
        )
        for i in range(4)
    )


def test_the_training_mix_is_counted_where_counts_are_known(build: type[Build]) -> None:
    # A tenth of class 0 and a fifth of class 1 conflict in training; the classes have 40% and 60% of the test split.
    groups = groups_of([True, False, False, True], [90, 10, 40, 160])
    assert training_severity(build.summary(build.method("m", build.ipg, groups=groups))) == pytest.approx(
        0.16
    )
    turned = groups_of([False, True, True, False], [90, 10, 40, 160])
    summary = build.summary(build.method("m", build.ipg, groups=turned))
    assert training_severity(summary) == pytest.approx(
        0.84
    )  # whatever the data set's own settings call agreement


def test_without_an_alignment_the_training_mix_is_the_start(build: type[Build]) -> None:
    method = build.method("m", curves={"general_mixture": build.points({0.0: (0.9, 0.8, 1.0)})})
    assert mixture_of(build.summary(build.method("n"), method)) == "general_mixture"
    assert training_severity(build.summary(method)) == 0.0


def test_the_target_severity_of_a_comparison(build: type[Build]) -> None:
    nine, five = ({"evaluation": {"target_severity": s}} for s in (0.9, 0.5))
    assert target_severity(two(build, nine, nine)) == 0.9
    assert target_severity(two(build, nine, five)) is None
    assert target_severity(two(build, nine, five, evaluation={"target_severity": 0.5})) == 0.5


def test_curves_come_in_one_order_and_unknown_ones_are_kept(build: type[Build]) -> None:
    points = build.points({0.0: (0.9, 0.8, 1.0)})
    curves = dict.fromkeys(["new", "corruption_hue", "interpolation", "mixture"], points)
    summary = build.summary(build.method("m", curves=curves), build.method("n", curves={"worst_case_tv": ()}))
    assert curve_names(summary) == ["mixture", "interpolation", "corruption_hue", "new"]
    assert curve_type_of("new").title == "New"
    assert curve_type_of("worst_case_kl").shares is False


def test_nothing_on_the_front_is_beaten() -> None:
    places = [(0.1, 0.7), (0.0, 0.5), (0.2, 0.6), (0.3, 0.9), (0.1, 0.6), (0.0, 0.5)]
    assert pareto_front(places) == [1, 0, 3]
    assert pareto_front([]) == []
