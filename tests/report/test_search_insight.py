"""Search figures: positions on axes, emphasis of the winner, values outside the axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from ipgl.evaluation import StudyResults
from ipgl.report.search_insight import (
    axes_of,
    parallel_figure,
    searched_methods,
    settings_table,
    slice_figure,
)

if TYPE_CHECKING:
    from tests.report.conftest import Build


METHODS = {
    "ipg": {
        "strength": {"log_uniform": [1, 100]},
        "update": {"choice": ["sequential", "additive"]},
        "training": {"optimiser": {"lr": {"uniform": [0, 0.5]}}},
    }
}


@pytest.fixture
def searched(build: type[Build]) -> StudyResults:
    summary = build.summary(
        build.method("ipg", build.ipg, importances={"update": 0.7, "strength": 0.2}),
        build.method("erm", build.erm),
        config={"methods": METHODS},
    )
    settings = [(10.0, "additive", 0.25), (1.0, "sequential", 0.0), (100.0, "additive", 0.5)]
    runs = [
        build.run(
            "ipg",
            n,
            score=score,
            hyperparameters={"strength": s, "update": u, "training.optimiser.lr": lr},
        )
        for n, ((s, u, lr), score) in enumerate(zip(settings, [0.6, 0.2, math.nan], strict=True))
    ]
    return build.results(summary, *runs, build.run("erm", 9, hyperparameters={}))


def test_only_methods_with_settings(searched: StudyResults) -> None:
    assert [method.label for method in searched_methods(searched)] == ["ipg"]


def test_axes_follow_the_study_file_the_most_important_first(searched: StudyResults) -> None:
    update, strength, lr = axes_of(searched, "ipg")
    assert (update.name, update.choices) == ("update", ("sequential", "additive"))
    assert [update.place("sequential"), update.place("additive")] == [0, 1]
    assert math.isnan(update.place("other"))
    assert strength.logarithmic
    assert strength.place(10.0) == pytest.approx(0.5)
    assert lr.name == "training.optimiser.lr"
    assert (lr.logarithmic, lr.place(0.25)) == (False, 0.5)
    assert lr.ticks == [(0.0, "0"), (1.0, "0.5")]


def test_a_starting_point_beyond_the_range_widens_the_axis(
    searched: StudyResults, build: type[Build]
) -> None:
    outside = build.run("ipg", 5, hyperparameters={"strength": 1000.0})
    results = searched.model_copy(update={"runs": (*searched.runs, outside)})
    (strength,) = [axis for axis in axes_of(results, "ipg") if axis.name == "strength"]
    assert (strength.low, strength.high) == (1, 1000)


def test_without_a_range_the_values_decide(build: type[Build]) -> None:
    runs = [
        build.run("a", n, hyperparameters={"w": w, "k": k})
        for n, (w, k) in enumerate([(0.001, 3), (1, True)])
    ]
    results = build.results(build.summary(build.method("a", build.ipg), config={}), *runs)
    w, k = axes_of(results, "a")
    assert (w.logarithmic, w.low, w.high) == (True, 0.001, 1)
    assert k.choices == ("3", "true")


def test_lines_run_from_the_settings_to_the_score(searched: StudyResults) -> None:
    lines = {
        trace.text[0].partition(",")[2].partition("<")[0].strip(): trace
        for trace in parallel_figure(searched, "ipg").data
    }
    winner = lines["trial 0, winner"]
    assert list(winner.y) == [1, 0.5, 0.5, 1]
    assert winner.line.width == 4
    assert list(lines["trial 1, completed"].y) == [0, 0, 0, 0]
    unscored = lines["trial 2, completed"]
    assert list(unscored.y) == [1, 1, 1, None]
    assert unscored.line.dash == "dot"


def test_slices(searched: StudyResults) -> None:
    _, strength, _ = axes_of(searched, "ipg")
    figure = slice_figure(searched, "ipg", strength)
    assert list(figure.data[0].x) == [1, 10]
    assert list(figure.data[0].y) == [0.2, 0.6]
    assert list(figure.data[0].marker.symbol) == ["circle", "star"]
    assert figure.layout.xaxis.type == "log"


def test_the_same_in_numbers(searched: StudyResults) -> None:
    table = settings_table(searched, "ipg")
    assert table.columns == ("Trial", "Outcome", "Score", "update", "strength", "training.optimiser.lr")
    assert table.rows[0] == ("0", "completed, winner", "0.600", "additive", "10", "0.25")
    assert table.rows[2][2] == "n/a"


def test_labels_of_compared_studies_find_their_own_ranges(build: type[Build]) -> None:
    run = build.run("b/ipg", hyperparameters={"strength": 10.0})
    summary = build.summary(
        build.method("b/ipg", build.ipg),
        config={"studies": {"a": {"methods": {}}, "b": {"methods": METHODS}}},
    )
    (axis,) = axes_of(build.results(summary, run), "b/ipg")
    assert (axis.low, axis.high, axis.logarithmic) == (1, 100, True)
