"""Tables of variance components in the report and in its export."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from ipgl.evaluation import StudyResults, VarianceComponent
from ipgl.report import markdown_report, render_report
from ipgl.report.components import component_notes, components_table, components_title
from ipgl.report.export import report_tables

if TYPE_CHECKING:
    from tests.report.conftest import Build


def component(
    source: str, metric: str, deviation: float, low: float, high: float, runs: int = 3, same: bool = True
) -> VarianceComponent:
    return VarianceComponent(
        source=source,
        metric=metric,
        deviation=deviation,
        low=low,
        high=high,
        variance=deviation**2,
        noise=0.0001,
        runs=runs,
        same_examples=same,
    )


@pytest.fixture
def varied(build: type[Build]) -> StudyResults:
    found = (
        component("weights", "shifted_accuracy", 0.012, 0.0, 0.0651),
        component("weights", "average", 0.004, 0.002, 0.0201),
        component("weights", "worst_group", math.nan, math.nan, math.nan),
        component("data", "shifted_accuracy", 0.02, 0.01, 0.1, same=False),
        component("all", "shifted_accuracy", 0.031, 0.0154, 0.12, same=False),
    )
    unused = (component("pairs", "shifted_accuracy", 0.0, 0.0, 0.0, runs=0),)
    study = build.summary(
        build.method("ipg", build.ipg, components=found), build.method("erm", build.erm, components=unused)
    )
    return build.results(study)


def test_one_row_per_method_and_source_in_points(varied: StudyResults) -> None:
    table = components_table(varied)
    assert table.caption == "Standard deviation of the test accuracy in points, with its 95% interval"
    assert table.columns == ("Method", "Drawn again", "Shifted accuracy", "Worst group", "Average", "Runs")
    assert table.rows == (
        ("ipg", "weights", "1.2 (0.0 to 6.5)", "n/a", "0.4 (0.2 to 2.0)", "3"),
        ("ipg", "data, test examples included", "2.0 (1.0 to 10.0)", "n/a", "n/a", "3"),
        ("ipg", "all together, test examples included", "3.1 (1.5 to 12.0)", "n/a", "n/a", "3"),
        ("erm", "pairs", "0", "n/a", "n/a", "not used"),
    )


def test_the_title_names_the_sources(varied: StudyResults) -> None:
    assert components_title(varied) == "How much of the result is the draw of weights, data or pairs"


def test_notes_say_what_is_in_a_row(varied: StudyResults) -> None:
    said = " ".join(component_notes(varied))
    assert "where the attribute agrees with the label 10% of the time" in said
    assert "their rows contain the draw of the test examples" in said
    assert "is subtracted where both runs were tested on the same ones" in said
    assert "trains without pairs" in said


def test_notes_say_nothing_that_does_not_apply(build: type[Build]) -> None:
    found = (component("weights", "average", 0.1, 0.0, 0.2),)
    said = " ".join(component_notes(build.results(build.summary(build.method("ipg", components=found)))))
    assert "Runs on other data" not in said
    assert "trains without pairs" not in said


def test_page_and_markdown_show_the_table(varied: StudyResults) -> None:
    for text in (render_report(varied), markdown_report(varied)):
        assert "How much of the result is the draw of weights, data or pairs" in text
        assert "1.2 (0.0 to 6.5)" in text
        assert "total effect, from final runs repeated" in text


def test_without_components_nothing_is_shown(two_methods: StudyResults) -> None:
    for text in (render_report(two_methods), markdown_report(two_methods)):
        assert "How much of the result" not in text
    assert component_notes(two_methods) == []


def test_programs_get_unrounded_numbers(varied: StudyResults) -> None:
    table = report_tables(varied)["components"]
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row == {
        "label": "ipg",
        "source": "weights",
        "metric": "shifted_accuracy",
        "deviation": 0.012,
        "low": 0.0,
        "high": 0.0651,
        "variance": 0.012**2,
        "noise": 0.0001,
        "runs": 3,
        "same_examples": True,
    }


def test_runs_are_counted_by_phase(build: type[Build]) -> None:
    from ipgl.report.explanations import facts

    runs = [
        build.run("ipg", number, phase=phase)
        for number, phase in enumerate(("search", "final", "final", "component", "component", "component"))
    ]
    study = build.summary(build.method("ipg", build.ipg))
    assert dict(facts(build.results(study, *runs)))["Runs"] == "1 search, 2 final, 3 component"
    assert dict(facts(build.results(study, *runs[:3])))["Runs"] == "1 search, 2 final"
