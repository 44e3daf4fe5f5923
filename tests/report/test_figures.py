"""Figures hold the results' numbers, in percent, and leave gaps where there are none."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from plotly.graph_objs import Figure, Scatter

from ipgl.evaluation import StudyResults
from ipgl.evaluation.study_summary import Estimate
from ipgl.report import invariance_figure, learning_figure, robustness_figure, trials_figure
from ipgl.report.style import LIGHT, OKABE_ITO
from ipgl.report.tables import invariance_table

if TYPE_CHECKING:
    from tests.report.conftest import Build


FIGURES = [robustness_figure, invariance_figure, trials_figure, learning_figure]


def named(figure: Figure, name: str) -> Scatter:
    (trace,) = [t for t in figure.data if t.name == name and t.x[0] is not None]
    return trace


def texts(figure: Figure) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


def test_robustness_curve_in_percent(two_methods: StudyResults) -> None:
    figure = robustness_figure(two_methods)
    ipg = named(figure, "ipg")
    assert list(ipg.x) == [0, 50, 90]
    assert list(ipg.y) == [70, 68, 66.4]
    assert list(ipg.text) == ["70.0% (68.0 to 72.0)", "68.0% (66.0 to 70.0)", "66.4% (64.1 to 68.7)"]
    assert ipg.line.color == OKABE_ITO["vermillion"]
    band = named(figure, "ipg, interval")
    assert list(band.x) == [0, 50, 90, 90, 50, 0, None]
    assert list(band.y) == [72, 70, 68.7, 64.1, 66, 68, None]


def test_chance_and_training_mix_are_marked(two_methods: StudyResults) -> None:
    figure = robustness_figure(two_methods)
    assert texts(figure) == ["chance, 50.0%", "training mix"]
    chance, training = figure.layout.shapes
    assert (chance.y0, chance.y1, chance.line.dash) == (50, 50, "dot")
    assert training.x0 == pytest.approx(15)  # 1 - mean(0.8, 0.9)


def test_marks_that_are_not_known_are_left_out(build: type[Build]) -> None:
    summary = build.summary(
        build.method("ipg", build.ipg), chance=math.nan, config={"dataset": {"name": "birds"}}
    )
    assert not robustness_figure(build.results(summary)).layout.shapes


def test_a_gap_stays_a_gap(build: type[Build]) -> None:
    nan = (math.nan, math.nan, math.nan)
    curve = {0.0: (0.9, 0.8, 1.0), 0.5: nan, 1.0: (0.4, 0.3, 0.6)}
    figure = robustness_figure(build.results(build.summary(build.method("ipg", curve))))
    line = named(figure, "ipg")
    assert list(line.y) == [90, None, 40]
    # Points without a neighbour have no band, so their intervals are bars.
    assert line.error_y.array == (10, None, 20)
    assert line.error_y.arrayminus == (10, None, 10)
    assert json.loads(figure.to_json())["data"][1]["y"] == [90, None, 40]


def test_severities_are_drawn_in_order(build: type[Build]) -> None:
    curve = {0.9: (0.2, 0.1, 0.3), 0.0: (0.9, 0.8, 1.0)}
    assert list(named(robustness_figure(build.results(build.summary(build.method("a", curve)))), "a").x) == [
        0,
        90,
    ]


def test_trials_with_winner_stars(two_methods: StudyResults) -> None:
    figure = trials_figure(two_methods)
    ipg = named(figure, "ipg")
    # The winner is drawn last, on top.
    assert list(ipg.x) == [50, 25]
    assert list(ipg.y) == [60, 80]
    assert list(ipg.marker.symbol) == ["circle-open", "star"]
    assert (
        ipg.text[1]
        == "<b>ipg</b>, trial 0, winner<br>score 0.600, accuracy 80.0%, flip rate 25.0%<br>lr: 0.001"
    )


def trials_of(build: type[Build], selection: str, *validations: dict[str, float]) -> Figure:
    summary = build.summary(build.method("a", build.ipg), selection=selection)
    runs = [build.run("a", n, validation=validation) for n, validation in enumerate(validations)]
    return trials_figure(build.results(summary, *runs))


def score_lines(figure: Figure) -> list[Scatter]:
    return [trace for trace in figure.data if (trace.name or "").startswith("score")]


def test_the_default_rule_is_drawn_over_kappa(build: type[Build]) -> None:
    inverted = {"accuracy": 0.4, "kappa": -0.2, "flip_rate": 0.1}
    found = {"accuracy": 0.8, "kappa": 0.6, "flip_rate": 0.25}
    figure = trials_of(build, "pair_robust", found, inverted)
    assert figure.layout.yaxis.title.text == "Validation kappa"
    assert not figure.layout.yaxis.ticksuffix
    assert list(named(figure, "a").y) == [-0.2, 0.6]  # the winner, trial 0, comes last
    assert figure.layout.yaxis.range[0] == pytest.approx(-0.24)
    (front,) = (trace for trace in figure.data if trace.name == "Pareto front")
    assert list(front.y) == [-0.2, 0.6]
    lines = score_lines(figure)
    assert {"score 0.3", "score 0.4"} <= {line.name for line in lines}
    for line in lines:
        for flip, kappa in zip(line.x, line.y, strict=True):
            assert kappa * (1 - flip / 100) ** 2 == pytest.approx(float(line.name.split()[1]), abs=1e-4)


def test_lines_of_equal_score_belong_to_their_rule(build: type[Build]) -> None:
    found = {"accuracy": 0.8, "kappa": 0.6, "flip_rate": 0.25}
    (line,) = (
        line for line in score_lines(trials_of(build, "pair_accuracy", found)) if line.name == "score 0.6"
    )
    for flip, accuracy in zip(line.x, line.y, strict=True):
        assert accuracy / 100 * (1 - flip / 100) == pytest.approx(0.6, abs=1e-4)
    assert not score_lines(trials_of(build, "average", found))
    assert trials_of(build, "average", found).layout.yaxis.title.text == "Validation accuracy (%)"


def test_results_without_kappa_are_drawn_over_accuracy_without_lines(build: type[Build]) -> None:
    figure = trials_of(build, "pair_robust", {"accuracy": 0.8, "flip_rate": 0.25})
    assert figure.layout.yaxis.title.text == "Validation accuracy (%)"
    assert list(named(figure, "a").y) == [80]
    assert not score_lines(figure)


def test_a_guessing_trial_is_named_on_hover(build: type[Build]) -> None:
    hover = named(
        trials_of(build, "pair_robust", {"accuracy": 0.5, "kappa": 0.0, "guessing": 1.0, "flip_rate": 0.0}),
        "a",
    ).text[0]
    assert hover.startswith(
        "<b>a</b>, trial 0, winner, no better than guessing<br>score 0.600, kappa 0.000, accuracy 50.0%"
    )


def test_trials_that_cannot_be_placed_are_counted(build: type[Build]) -> None:
    summary = build.summary(build.method("a", build.ipg))
    figure = trials_figure(
        build.results(summary, build.run("a"), build.failed_run("a", 1), build.failed_run("a", 2))
    )
    assert "Not drawn: 2 without a validation metric." in figure.layout.title.subtitle.text
    assert len(named(figure, "a").x) == 1


def test_learning_curves_end_where_a_trial_stopped(two_methods: StudyResults) -> None:
    figure = learning_figure(two_methods)
    stopped, winner = named(figure, "ipg-1"), named(figure, "ipg-0")
    assert (list(stopped.x), list(stopped.y)) == ([1], [0.3])
    assert (list(winner.x), list(winner.y)) == ([1, 2, 3], [0.3, 0.5, 0.6])
    assert winner.line.width > stopped.line.width
    assert stopped.marker.symbol == "circle-open"


def test_final_runs_are_no_part_of_the_search(build: type[Build]) -> None:
    summary = build.summary(build.method("a", build.ipg))
    results = build.results(summary, build.run("a", 5, phase="final"), scores={"a-5": [0.5]})
    assert texts(learning_figure(results)) == ["No search trial was evaluated."]
    assert texts(trials_figure(results)) == ["No search trial has validation metrics."]


@pytest.mark.parametrize("figure", FIGURES)
def test_nothing_to_draw_is_said(build: type[Build], figure: Callable[..., Figure]) -> None:
    drawn = figure(build.results(build.summary(build.method("a"))))
    assert not drawn.data
    assert texts(drawn)[0].startswith("No ")


@pytest.mark.parametrize("figure", FIGURES)
def test_one_look(two_methods: StudyResults, figure: Callable[..., Figure]) -> None:
    drawn = figure(two_methods)
    assert drawn.layout.title.text
    assert drawn.layout.xaxis.title.text
    assert drawn.layout.yaxis.title.text
    assert drawn.layout.height == 480
    assert drawn.layout.template.layout.font.color == LIGHT.text


def test_hyperparameters_cannot_bring_markup_into_a_hover_text(build: type[Build]) -> None:
    summary = build.summary(build.method("a", build.ipg))
    run = build.run("a", hyperparameters={"note": "<a href='x'>%{x}</a>"})
    (text,) = named(trials_figure(build.results(summary, run)), "a").text
    assert "&lt;a href='x'&gt;%{x}&lt;/a&gt;" in text


def test_final_runs_on_the_plane_of_accuracy_and_invariance(build: type[Build]) -> None:
    def estimates(flip: float, accuracy: float) -> dict[str, Estimate]:
        return {
            "flip_rate": Estimate(mean=flip, low=flip - 0.01, high=flip + 0.02),
            "adjusted_average": Estimate(mean=accuracy, low=accuracy - 0.03, high=accuracy + 0.04),
        }

    summary = build.summary(
        build.method("erm", build.erm, estimates=estimates(0.6, 0.9)),
        build.method("ipg", build.ipg, estimates=estimates(0.05, 0.7)),
        build.method("jtt", build.erm, estimates=estimates(0.5, 0.65)),
        build.method("irm", build.erm),
    )
    figure = invariance_figure(build.results(summary))
    front = named(figure, "Pareto front")
    assert (list(front.x), list(front.y)) == ([5, 60], [70, 90])
    ipg = named(figure, "ipg")
    assert (list(ipg.x), list(ipg.y)) == ([5], [70])
    assert ipg.error_x.array == pytest.approx([2])
    assert ipg.error_y.arrayminus == pytest.approx([3])
    assert [row[3] for row in invariance_table(build.results(summary)).rows] == ["yes", "yes", "no"]


def test_without_an_estimate_the_final_runs_mean_counts(build: type[Build]) -> None:
    summary = build.summary(build.method("ipg", build.ipg, final_runs=("ipg-1", "ipg-2")))
    runs = [
        build.run("ipg", n, phase="final", metrics={"flip_rate": flip, "adjusted_average": 0.7})
        for n, flip in ((1, 0.1), (2, 0.3))
    ]
    ipg = named(invariance_figure(build.results(summary, *runs)), "ipg")
    assert list(ipg.x) == [20]
    assert ipg.error_x.visible is False


def test_the_searchs_front(two_methods: StudyResults) -> None:
    front = named(trials_figure(two_methods), "Pareto front")
    assert (list(front.x), list(front.y)) == ([25, 75], [80, 85])


def test_a_radius_is_no_percentage(build: type[Build]) -> None:
    points = build.points({0.0: (0.8, 0.7, 0.9), 2.0: (0.5, 0.4, 0.6)})
    summary = build.summary(build.method("ipg", curves={"worst_case_kl": points}))
    figure = robustness_figure(build.results(summary), "worst_case_kl")
    assert list(named(figure, "ipg").x) == [0, 2]
    assert figure.layout.xaxis.title.text == "Radius of the ball of group mixes in nats"
    assert figure.layout.title.text == "Worst case (Kullback-Leibler)"
    assert not figure.layout.shapes  # chance and the training mix belong to the mixture


def test_many_methods_share_no_hover_box(build: type[Build]) -> None:
    methods = [build.method(f"m{i}", build.ipg) for i in range(9)]
    assert robustness_figure(build.results(build.summary(*methods[:8]))).layout.hovermode == "x unified"
    assert robustness_figure(build.results(build.summary(*methods))).layout.hovermode == "closest"
