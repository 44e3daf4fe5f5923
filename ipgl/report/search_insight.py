"""Hyperparameter search per method: importances, parallel coordinates, slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from ipgl.config.ranges import Choice, LogInt, LogUniform, Range
from ipgl.core.redaction import redacted
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import MethodSummary, StudyResults
from ipgl.report.figure_parts import STATUS_SYMBOLS, WINNER_SYMBOL, base_figure, rounded, trial_hover
from ipgl.report.formatting import finite, number, plotly_text, setting, shortened
from ipgl.report.result_queries import search_ranges, search_runs, winner_keys
from ipgl.report.style import NEUTRAL, MethodStyle, method_styles
from ipgl.report.tables import DataTable, outcome

WIDE = 30.0  # where no range is known: values that span this factor are shown on a logarithmic axis
MAX_TICK = 18  # characters


@dataclass(frozen=True)
class Axis:
    """One searched setting as an axis.

    Attributes:
        name: Dotted setting.
        choices: Values in words, for a setting without order; empty for a number.
        low: Lower end of the range (of the values tried where the study file gives none).
    """

    name: str
    choices: tuple[str, ...]
    low: float
    high: float
    logarithmic: bool

    def place(self, value: object) -> float:
        """Where the value lies between the axis's ends, 0 to 1; NaN where it does not belong on it."""
        if self.choices:
            text = setting(value)
            last = max(1, len(self.choices) - 1)
            return self.choices.index(text) / last if text in self.choices else math.nan
        if isinstance(value, bool) or not isinstance(value, int | float):
            return math.nan
        low, high, at = self.low, self.high, float(value)
        if self.logarithmic:
            if at <= 0:
                return math.nan
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low) if high > low else 0.5

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(place, text) of what is written along the axis."""
        if self.choices:
            last = max(1, len(self.choices) - 1)
            return [(i / last, shortened(choice, MAX_TICK)) for i, choice in enumerate(self.choices)]
        if self.high <= self.low:
            return [(0.5, setting(self.low))]
        return [(0.0, setting(self.low)), (1.0, setting(self.high))]


def searched_methods(results: StudyResults) -> list[MethodSummary]:
    """Methods with a trial that had settings to search."""
    searched = {run.label for run in search_runs(results) if run.hyperparameters}
    return [method for method in results.summary.methods if method.label in searched]


def axes_of(results: StudyResults, label: str) -> list[Axis]:
    """The settings that were searched for a method, the most important first."""
    runs = _runs(results, label)
    ranges = search_ranges(results.summary, label)
    importances = next((m.importances for m in results.summary.methods if m.label == label), {})
    names = list(dict.fromkeys(name for run in runs for name in run.hyperparameters))
    names.sort(key=lambda name: -importances.get(name, 0.0))
    return [
        _axis(name, ranges.get(name), [r.hyperparameters[name] for r in runs if name in r.hyperparameters])
        for name in names
    ]


def parallel_figure(results: StudyResults, label: str) -> go.Figure:
    """Parallel coordinates: each trial a line through its settings to its score; the better, the stronger.

    Drawn as plain lines rather than with Plotly's `parcoords`, which has no hover text, needs WebGL and compiles
    code at run time, which the page forbids.
    """
    axes, runs = axes_of(results, label), _runs(results, label)
    scores = [run.score for run in runs if finite(run.score)]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    last = Axis("score", (), low, high, logarithmic=False)
    style, winners = _style(results, label), winner_keys(results.summary)
    figure = base_figure(
        "Settings together",
        "Each line is a trial, from its settings to its score on the right: the stronger, the better. "
        "The thick line is the winner; dotted ones have no score.",
        "",
        "",
        results.summary,
    )
    for run in sorted(
        runs, key=lambda run: (run.trial in winners, run.score if finite(run.score) else -math.inf)
    ):
        figure.add_trace(_line(run, [*axes, last], style, run.trial in winners))
    for place, axis in enumerate([*axes, last]):
        figure.add_shape(
            type="line", x0=place, x1=place, y0=0, y1=1, line={"color": NEUTRAL, "width": 1}, layer="below"
        )
        for y, text in axis.ticks:
            figure.add_annotation(
                x=place,
                y=y,
                text=plotly_text(text),
                yshift=12 if y == 1 else -12 if y == 0 else 0,
                xshift=0 if y in (0, 1) else 6,
                xanchor="center" if y in (0, 1) else "left",
            )
    names = [plotly_text(axis.name.rpartition(".")[2]) for axis in axes] + ["<b>score</b>"]
    figure.update_xaxes(
        tickvals=list(range(len(names))),
        ticktext=names,
        range=[-0.3, len(names) - 0.7],
        ticks="",
        showline=False,
    )
    figure.update_yaxes(visible=False, range=[-0.12, 1.12])
    return figure.update_layout(height=360, showlegend=False)


def slice_figure(results: StudyResults, label: str, axis: Axis) -> go.Figure:
    """Score against one setting; the others vary freely."""
    style, winners = _style(results, label), winner_keys(results.summary)
    runs = [r for r in _runs(results, label) if axis.name in r.hyperparameters and finite(r.score)]
    runs.sort(key=lambda run: run.trial in winners)
    figure = base_figure(axis.name, "", "", "Score", results.summary)
    figure.add_trace(
        go.Scatter(
            x=[_value(axis, run.hyperparameters[axis.name]) for run in runs],
            y=[rounded(run.score) for run in runs],
            mode="markers",
            marker={
                "color": style.colour,
                "symbol": [WINNER_SYMBOL if r.trial in winners else STATUS_SYMBOLS[r.status] for r in runs],
                "size": [16 if run.trial in winners else 9 for run in runs],
                "line": {"width": [1.5 if r.status != "completed" else 0.5 for r in runs]},
            },
            text=[trial_hover(run, run.trial in winners) for run in runs],
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    if axis.choices:
        figure.update_xaxes(type="category", categoryorder="array", categoryarray=list(axis.choices))
    elif axis.logarithmic:
        figure.update_xaxes(
            type="log", dtick="D2" if axis.high < 30 * axis.low else 1, exponentformat="power"
        )
    return figure.update_layout(height=260)


def settings_table(results: StudyResults, label: str) -> DataTable:
    """Both kinds of figures in numbers: the method's trials, the best first."""
    axes, winners = axes_of(results, label), winner_keys(results.summary)
    runs = sorted(_runs(results, label), key=lambda run: -run.score if finite(run.score) else math.inf)
    rows = []
    for run in runs:
        held = redacted(run.hyperparameters)
        values = [setting(held[axis.name]) if axis.name in held else "n/a" for axis in axes]
        rows.append((str(run.number), outcome(run, winners), number(run.score), *values))
    columns = ("Trial", "Outcome", "Score", *(axis.name for axis in axes))
    numeric = {2} | {3 + place for place, axis in enumerate(axes) if not axis.choices}
    return DataTable(f"Trials of {label}, the best first", columns, tuple(rows), frozenset(numeric))


def _runs(results: StudyResults, label: str) -> list[RunResult]:
    return [run for run in search_runs(results) if run.label == label]


def _style(results: StudyResults, label: str) -> MethodStyle:
    return method_styles([method.label for method in results.summary.methods])[label]


def _axis(name: str, known: Range | None, values: Sequence[object]) -> Axis:
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if isinstance(known, Choice) or (known is None and len(numbers) < len(values)):
        listed = known.values if isinstance(known, Choice) else ()
        texts = [setting(redacted({name: value})[name]) for value in (*listed, *values)]
        return Axis(name, tuple(dict.fromkeys(texts)), 0.0, 1.0, logarithmic=False)
    low, high = (float(known.low), float(known.high)) if known is not None else (min(numbers), max(numbers))
    # A starting point from the study file may lie outside the range.
    low, high = min([low, *numbers]), max([high, *numbers])
    wide = known is None and low > 0 and high / low >= WIDE
    return Axis(name, (), low, high, low > 0 and (wide or isinstance(known, LogUniform | LogInt)))


def _value(axis: Axis, value: object) -> float | str | None:
    if axis.choices:
        return setting(redacted({axis.name: value})[axis.name])
    return rounded(float(value)) if isinstance(value, int | float) and finite(axis.place(value)) else None


def _line(run: RunResult, axes: Sequence[Axis], style: MethodStyle, wins: bool) -> go.Scatter:
    held = run.hyperparameters | {"score": run.score}
    places = [axis.place(held[axis.name]) if axis.name in held else math.nan for axis in axes]
    goodness = places[-1]
    scored = finite(goodness)
    return go.Scatter(
        x=list(range(len(axes))),
        y=[rounded(place) for place in places],
        mode="lines+markers",
        line={
            "color": style.colour if scored else NEUTRAL,
            "width": 4 if wins else 2,
            "dash": "solid" if scored else "dot",
        },
        marker={"color": style.colour if scored else NEUTRAL, "size": 5},
        opacity=1.0 if wins else 0.2 + 0.6 * goodness if scored else 0.6,
        text=[trial_hover(run, wins)] * len(axes),
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
