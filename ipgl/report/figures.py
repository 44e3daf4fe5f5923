"""Plotly figures of the results: robustness, invariance, search trials, learning curves.

Pure functions: nothing is read or written. Accuracies are fractions in the results and percent on the axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import plotly.graph_objects as go

from ipgl.evaluation.curve_types import GENERAL_MIXTURE, MIXTURE, MIXTURES
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.selection import INVARIANCE_POWER
from ipgl.evaluation.study_summary import Estimate, MethodSummary, StudyResults, StudySummary
from ipgl.report.figure_parts import (
    FEW_METHODS,
    STATUS_SYMBOLS,
    WINNER_SYMBOL,
    add_message,
    add_score_lines,
    add_status_keys,
    band_trace,
    base_figure,
    curve_trace,
    front_trace,
    mean_trace,
    method_key,
    path_trace,
    rounded,
    trial_hover,
)
from ipgl.report.formatting import finite, percent, plotly_text, whole_percent
from ipgl.report.result_queries import (
    ACCURACY,
    ADJUSTED_AVERAGE,
    FLIP_RATE,
    KAPPA,
    curve_points,
    curve_type_of,
    final_estimate,
    mixture_of,
    pareto_front,
    search_runs,
    training_severity,
    validation,
    winner_keys,
)
from ipgl.report.style import NEUTRAL, MethodStyle, method_styles

_HOVERED = {MIXTURE: "bias-conflicting", GENERAL_MIXTURE: "of the way to equal groups"}
MAX_AXIS_TITLE = 40  # characters beside a small figure; the subtitle says it in full


def robustness_figure(results: StudyResults, curve: str | None = None) -> go.Figure:
    """One robustness curve: a line with its interval's band for each method that has it.

    Args:
        results: A study's.
        curve: The curve's name; None is the one that methods are compared on.
    """
    summary = results.summary
    curve = curve or mixture_of(summary)
    figure = _empty_robustness(summary, curve)
    styles = _styles(summary)
    drawn = [(method, curve_points(method, curve)) for method in summary.methods]
    drawn = [(method, points) for method, points in drawn if any(finite(p.accuracy) for p in points)]
    for method, points in drawn:
        figure.add_trace(band_trace(points, method.label, styles[method.label], scale(curve), len(drawn)))
    for method, points in drawn:
        figure.add_trace(curve_trace(points, method.label, styles[method.label], scale(curve), len(drawn)))
    if not drawn:
        tested = any(method.final_runs for method in summary.methods)
        return add_message(figure, "No method has this curve." if tested else "No method has test results.")
    if curve in MIXTURES:
        _mark_mixture(figure, summary)
    suffix = "%" if curve_type_of(curve).shares else ""
    heading = f"<b>%{{x}}{suffix} {_HOVERED.get(curve, '')}</b>"
    figure.update_xaxes(ticksuffix=suffix, unifiedhovertitle={"text": heading.replace(" </b>", "</b>")})
    if curve_type_of(curve).shares:
        figure.update_xaxes(range=[-2, 102])
    figure.update_yaxes(ticksuffix="%")
    # One box with every method's value reads well until it covers the figure.
    figure.update_layout(hovermode="x unified" if len(drawn) <= FEW_METHODS else "closest")
    return figure


def scale(curve: str) -> float:
    """What a curve's severity is multiplied by on its axis: shares are shown in percent."""
    return 100.0 if curve_type_of(curve).shares else 1.0


def _empty_robustness(summary: StudySummary, curve: str) -> go.Figure:
    intervals = f"Bands are {whole_percent(summary.confidence)} intervals."
    if curve == GENERAL_MIXTURE:
        return base_figure(
            "Accuracy as the groups of each class become equally frequent",
            "0%: each class has its training mix of groups; 100%: its groups are equally frequent. Class shares stay "
            f"the test split's. {intervals}",
            "Way from the training mix to equal groups within each class (%)",
            "Test accuracy (%)",
            summary,
        )
    if curve == MIXTURE:
        return base_figure(
            "Accuracy as the attribute stops helping",
            f"0%: the attribute always agrees with the label; 100%: it never does. {intervals}",
            "Bias-conflicting share of the test mix (%)",
            "Test accuracy (%)",
            summary,
        )
    curve_type = curve_type_of(curve)
    axis, value = (plotly_text(text[:1].upper() + text[1:]) for text in (curve_type.axis, curve_type.value))
    subtitle = f"{value} against the {plotly_text(curve_type.axis)}. {intervals}"
    short = value if len(value) <= MAX_AXIS_TITLE else "Share"
    return base_figure(plotly_text(curve_type.title), subtitle, axis, short, summary)


def _mark_mixture(figure: go.Figure, summary: StudySummary) -> None:
    """Chance and the training mix."""
    if finite(summary.chance):
        place = "bottom left" if summary.chance < 0.9 else "top left"
        figure.add_hline(
            y=100 * summary.chance,
            line={"color": NEUTRAL, "dash": "dot", "width": 1.5},
            annotation_text=f"chance, {percent(summary.chance)}",
            annotation_position=place,
        )
    training = training_severity(summary)
    if training is not None:
        figure.add_vline(
            x=100 * training,
            line={"color": NEUTRAL, "dash": "dash", "width": 1},
            annotation_text="training mix",
            annotation_position="top right" if training < 0.8 else "top left",
        )


def invariance_figure(results: StudyResults) -> go.Figure:
    """In-distribution test accuracy against flip rate of each method's final runs, with the Pareto front."""
    summary = results.summary
    # Flip rates are often exactly 0, which a logarithmic axis cannot show.
    figure = base_figure(
        "Accuracy against invariance",
        "Test accuracy at the training mix against the share of held-out pairs whose members get different classes. "
        "Up is accurate, left is invariant; no method beats those on the dashed Pareto front in both. "
        f"Bars are {whole_percent(summary.confidence)} intervals.",
        "Flip rate on held-out pairs (%)",
        "In-distribution test accuracy (%)",
        summary,
    )
    placed = invariance_places(results)
    if not placed:
        return add_message(figure, "No method has both numbers.")
    front = pareto_front([(flip.mean, accuracy.mean) for _, flip, accuracy in placed])
    figure.add_trace(front_trace([(placed[i][1].mean, placed[i][2].mean) for i in front]))
    for label, style in _styles(summary).items():
        for _, flip, accuracy in (place for place in placed if place[0].label == label):
            figure.add_trace(mean_trace(label, style, flip, accuracy))
    figure.update_xaxes(ticksuffix="%", rangemode="tozero").update_yaxes(ticksuffix="%")
    return figure


def invariance_places(results: StudyResults) -> list[tuple[MethodSummary, Estimate, Estimate]]:
    """(method, flip rate, in-distribution test accuracy) of every method that has both."""
    found = (
        (
            method,
            final_estimate(results, method, FLIP_RATE),
            final_estimate(results, method, ADJUSTED_AVERAGE),
        )
        for method in results.summary.methods
    )
    return [(method, flip, accuracy) for method, flip, accuracy in found if flip and accuracy]


@dataclass(frozen=True)
class _Gain:
    """The trials figure's second axis: a validation metric, how it is shown, and its part in the selection rule.

    Attributes:
        power: The study's rule is this metric times (1 - flip rate) to this power; None where it is another.
    """

    metric: str
    title: str
    scale: float
    suffix: str
    power: int | None


def _gain(summary: StudySummary, runs: list[RunResult]) -> _Gain:
    """Kappa under the rule that multiplies it, accuracy under any other and for results without kappa."""
    by_kappa = summary.selection == "pair_robust"
    if by_kappa and any(finite(validation(run, KAPPA)) for run in runs):
        return _Gain(KAPPA, "Validation kappa", 1.0, "", INVARIANCE_POWER)
    power = 1 if summary.selection == "pair_accuracy" else None
    return _Gain(ACCURACY, "Validation accuracy (%)", 100.0, "%", power)


def trials_figure(results: StudyResults) -> go.Figure:
    """What the selection rule multiplies (kappa, or accuracy) against flip rate of each trial; winners are starred."""
    summary, winners = results.summary, winner_keys(results.summary)
    searched = search_runs(results)
    gain = _gain(summary, searched)
    runs = [
        run for run in searched if all(finite(validation(run, name)) for name in (gain.metric, FLIP_RATE))
    ]
    left_out = len(searched) - len(runs)
    figure = base_figure(
        "What the search tried",
        "Up is accurate, left is invariant; stars are the winners, the dashed steps the Pareto front."
        + (" Kappa: 1 is right always, 0 no better than chance." if gain.metric == KAPPA else "")
        + (" Dotted lines join equal scores." if gain.power else "")
        + (f" Not drawn: {left_out} without a validation metric." if left_out else ""),
        "Flip rate on held-out pairs (%)",
        gain.title,
        summary,
    )
    if not runs:
        return add_message(figure, "No search trial has validation metrics.")
    places = [(validation(run, FLIP_RATE), validation(run, gain.metric)) for run in runs]
    if gain.power:
        add_score_lines(figure, places, gain.scale, gain.power)
    figure.add_trace(front_trace([places[i] for i in pareto_front(places)], gain.scale))
    for label, style in _styles(summary).items():
        # The winner comes last, so that it is drawn on top.
        own = sorted((run for run in runs if run.label == label), key=lambda run: run.trial in winners)
        if own:
            figure.add_trace(
                go.Scatter(
                    x=[rounded(100 * validation(run, FLIP_RATE)) for run in own],
                    y=[rounded(gain.scale * validation(run, gain.metric)) for run in own],
                    mode="markers",
                    name=plotly_text(label),
                    legendgroup=label,
                    showlegend=False,
                    marker={
                        "color": style.colour,
                        "symbol": [
                            WINNER_SYMBOL if r.trial in winners else STATUS_SYMBOLS[r.status] for r in own
                        ],
                        "size": [19 if run.trial in winners else 9 for run in own],
                        "opacity": [1.0 if run.trial in winners else 0.75 for run in own],
                        "line": {
                            "width": [
                                1.5 if r.trial in winners or r.status != "completed" else 0 for r in own
                            ]
                        },
                    },
                    text=[trial_hover(run, run.trial in winners) for run in own],
                    hovertemplate="%{text}<extra></extra>",
                )
            )
            figure.add_trace(method_key(label, style))
    add_status_keys(figure, {run.status for run in runs}, bool(winners), "markers")
    figure.update_xaxes(ticksuffix="%")
    figure.update_yaxes(ticksuffix=gain.suffix)
    return figure


def learning_figure(results: StudyResults) -> go.Figure:
    """Selection score over epochs of each search trial; a stopped one ends where it was stopped."""
    summary, winners = results.summary, winner_keys(results.summary)
    figure = base_figure(
        "How the trials learned",
        "Selection score after each evaluation. Thick lines are the winners.",
        "Epoch",
        f"Selection score ({plotly_text(summary.selection)})",
        summary,
    )
    styles = _styles(summary)
    paths = [(run, score_path(results, run)) for run in search_runs(results) if run.label in styles]
    paths = sorted(((run, path) for run, path in paths if path), key=lambda pair: pair[0].trial in winners)
    if not paths:
        return add_message(figure, "No search trial was evaluated.")
    for run, path in paths:
        figure.add_trace(path_trace(run, path, styles[run.label], run.trial in winners))
    for label in styles:
        if any(run.label == label for run, _ in paths):
            figure.add_trace(method_key(label, styles[label], "lines"))
    add_status_keys(figure, {run.status for run, _ in paths} - {"completed"}, bool(winners), "lines+markers")
    if max(path[-1][0] for _, path in paths) <= 10:
        figure.update_xaxes(dtick=1)
    return figure


def score_path(results: StudyResults, run: RunResult) -> list[tuple[float, float]]:
    """The run's (epoch, score) after each evaluation that has a score."""
    rows = results.histories.get(run.trial, ())
    return [
        (row["epoch"], row["score"]) for row in rows if finite(row.get("epoch")) and finite(row.get("score"))
    ]


def _styles(summary: StudySummary) -> dict[str, MethodStyle]:
    return method_styles([method.label for method in summary.methods])
