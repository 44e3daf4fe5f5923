"""Choice of the best baseline, sign of differences, and agreement of interval and test."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from narrowing import known

from ipgl.evaluation.study_summary import Estimate, MethodTest
from ipgl.report.significance import against_baseline, best_baseline, is_significant

if TYPE_CHECKING:
    from tests.report.conftest import Build


NAN = math.nan


def shifted(mean: float) -> dict[str, Estimate]:
    return {"shifted_accuracy": Estimate(mean=mean, low=mean, high=mean)}


def test_the_best_baseline_is_no_ipg(build: type[Build]) -> None:
    summary = build.summary(
        build.method("erm", estimates=shifted(0.2)),
        build.method("dro", estimates=shifted(0.5)),
        build.method("gentle", method="ipg", estimates=shifted(0.9)),
    )
    assert known(best_baseline(summary)).label == "dro"


@pytest.mark.parametrize(
    "methods",
    [
        [("erm", "erm", 0.5)],
        [("a", "ipg", 0.5), ("b", "ipg", 0.6)],
        [("ipg", "ipg", 0.5), ("erm", "erm", NAN)],
    ],
    ids=["one method", "no baseline", "a baseline without an accuracy"],
)
def test_nothing_to_compare_with(build: type[Build], methods: list[tuple[str, str, float]]) -> None:
    made = [build.method(label, method=name, estimates=shifted(value)) for label, name, value in methods]
    assert best_baseline(build.summary(*made)) is None
    assert against_baseline(build.summary(*made)) == {}


def test_without_the_estimate_the_curve_at_the_target_counts(build: type[Build]) -> None:
    summary = build.summary(
        build.method("erm", build.erm),
        build.method("dro", build.ipg),
        config={"evaluation": {"target_severity": 0.9}},
    )
    assert known(best_baseline(summary)).label == "dro"


def test_differences_are_method_less_baseline(build: type[Build]) -> None:
    gap, alone = (Estimate(mean=-0.3, low=-0.4, high=-0.25), Estimate(mean=-0.3, low=-0.35, high=-0.27))
    summary = build.summary(
        build.method("erm", estimates=shifted(0.2)),
        build.method("ipg", estimates=shifted(0.5)),
        tests=(
            MethodTest(
                a="erm", b="ipg", difference=alone, p_value=0.001, corrected=gap, corrected_p_value=0.003
            ),
        ),
    )
    found = against_baseline(summary)["ipg"]
    assert (found.difference, found.p_value) == (Estimate(mean=0.3, low=0.25, high=0.4), 0.003)
    assert found.significant


@pytest.mark.parametrize(
    ("low", "high", "p_value", "said"),
    [
        (0.01, 0.2, 0.049, True),
        (-0.2, -0.01, 0.001, True),
        (0.01, 0.2, 0.05, False),
        (-0.01, 0.2, 0.001, False),
        (0.01, 0.2, NAN, False),
        (NAN, NAN, 0.001, False),
    ],
)
def test_interval_and_test_must_agree(low: float, high: float, p_value: float, said: bool) -> None:
    assert is_significant(Estimate(mean=0.1, low=low, high=high), p_value, 0.95) is said
