"""Convergence of one run: gradient norms and cosine, invariance measure, and corrections, per epoch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ipgl.evaluation.study_summary import MethodSummary, StudyResults
from ipgl.report.figure_parts import rounded
from ipgl.report.formatting import finite, number
from ipgl.report.style import LIGHT, method_styles, template, translucent
from ipgl.report.tables import DataTable

Rows = Sequence[Mapping[str, float]]
Value: TypeAlias = Callable[[Mapping[str, float]], float | None]


@dataclass(frozen=True)
class DiagnosedRun:
    """A final run of a method that reports diagnostics.

    Attributes:
        method: Its method.
        key: Its key.
        history: One row per evaluation.
        trace: What its training steps reported, in some 200 rows; empty if that was not kept.
        settings: The method's settings.
    """

    method: MethodSummary
    key: str
    history: Rows
    trace: Rows = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Line:
    name: str
    value: Value
    dash: str = "solid"
    filled: bool = False
    level: str = ""  # the setting that is drawn as a horizontal line


@dataclass(frozen=True)
class _Panel:
    title: str
    logarithmic: bool
    lines: tuple[_Line, ...]


def _column(name: str) -> Value:
    return lambda row: row.get(name)


def _while_violated(name: str) -> Value:
    """A value that is 0 in steps in which the condition holds, as its mean over the others."""

    def value(row: Mapping[str, float]) -> float | None:
        share = row.get("corrected", 0.0)
        return row[name] / share if name in row and share > 0 else None

    return value


def _times(*factors: Value, over: Value | None = None) -> Value:
    """A product, divided by another value; None where one of them is missing or the divisor is 0."""

    def value(row: Mapping[str, float]) -> float | None:
        product, divisor = 1.0, over(row) if over else 1.0
        for factor in factors:
            one = factor(row)
            if one is None:
                return None
            product *= one
        return product / divisor if divisor else None

    return value


_TASK, _CORRECTIVE = _column("task_length"), _while_violated("corrective_length")
_MULTIPLIER = _while_violated("multiplier")
_BALANCED = (
    _Panel(
        "Length of the gradients",
        True,
        (
            _Line("task", _TASK),
            _Line("corrective", _CORRECTIVE, "dash"),
            _Line("corrective, balanced", _times(_MULTIPLIER, _CORRECTIVE), "dot"),
        ),
    ),
    _Panel(
        "Task gradient's length as a share of the corrective one's, while the condition is violated",
        True,
        (
            _Line("before balancing", _times(_TASK, over=_CORRECTIVE)),
            _Line(
                "as the step is taken",
                _times(_TASK, over=_times(_MULTIPLIER, _CORRECTIVE)),
                "dash",
                level="task_share",
            ),
        ),
    ),
)
_DIAGNOSED = (
    _Panel(
        "Gradient norms",
        True,
        (
            _Line("task", _column("task_gradient_norm")),
            _Line("corrective, unweighted", _column("corrective_gradient_norm"), "dash"),
        ),
    ),
)
_COMMON = (
    _Panel(
        "Invariance measure on training pairs",
        True,
        (_Line("measure", _column("measure"), level="invariance_threshold"),),
    ),
    _Panel(
        "Share of steps in which the condition is violated",
        False,
        (_Line("share", _column("corrected"), filled=True),),
    ),
    _Panel("Cosine of the two gradients", False, (_Line("cosine", _column("gradient_cosine")),)),
    _Panel("Multiplier of the correction", True, (_Line("multiplier", _column("multiplier")),)),
    _Panel("Training loss", False, (_Line("loss", _column("loss")),)),
)


def convergence_figure(run: DiagnosedRun, title: str) -> go.Figure:
    """The course of one run over its epochs, one panel each.

    Panels without values are left out: both gradient norms are recorded in every step by the balanced
    update, and by others at evaluations only.

    Args:
        run: The run.
        title: Title of the figure.
    """
    rows = _rows(run)
    panels = _panels(rows)
    figure = make_subplots(
        rows=len(panels),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.2 / len(panels),
        subplot_titles=[panel.title for panel in panels],
    )
    colours = [style.colour for style in method_styles(("task", "corrective", "balanced")).values()]
    for place, panel in enumerate(panels, start=1):
        for colour, line in zip(colours, panel.lines, strict=False):
            points = _points(rows, line)
            figure.add_trace(_scatter(points, panel, line, colour), row=place, col=1)
            level = run.settings.get(line.level)
            if isinstance(level, int | float) and level > 0 and points:
                figure.add_hline(
                    y=level,
                    line={"color": colour, "dash": "dashdot", "width": 1},
                    annotation={"text": f"{line.level} {number(level)}", "font": {"size": 11}},
                    row=place,
                    col=1,
                )
        if panel.logarithmic:
            figure.update_yaxes(type="log", row=place, col=1)
    figure.update_xaxes(title_text="Epoch", row=len(panels), col=1)
    for annotation in figure.layout.annotations[: len(panels)]:
        annotation.update(x=0, xanchor="left", font={"size": 13})
    of = "spans of steps" if run.trace else "the steps between evaluations"
    return figure.update_layout(
        template=template(LIGHT),
        title={
            "text": title,
            "subtitle": {"text": f"Means over {of}; the cosine on one batch at each evaluation."},
        },
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        height=165 + 150 * len(panels),
        margin={"l": 16, "r": 16, "t": 110, "b": 16},
    )


def convergence_table(run: DiagnosedRun) -> DataTable:
    """The figure in numbers, at the evaluations."""
    lines = [line for panel in (*_DIAGNOSED, *_COMMON) for line in panel.lines]
    cells = [
        (
            number(row["epoch"]),
            *(_cell(line.value(_plain(row))) for line in lines),
        )
        for row in run.history
    ]
    return DataTable(
        run.key,
        ("Epoch", *(line.name for line in lines)),
        tuple(cells),
        frozenset(range(1 + len(lines))),
    )


def diagnosed_runs(results: StudyResults) -> list[DiagnosedRun]:
    """The first final run of each method that reports diagnostics."""
    configs = {run.trial: run.config for run in results.runs}
    found: list[DiagnosedRun] = []
    for method in results.summary.methods:
        for key in method.final_runs[:1]:
            history = results.histories.get(key, ())
            if any(name.startswith("diagnostic/") for row in history for name in row):
                settings = configs.get(key, {}).get("method", {})
                found.append(DiagnosedRun(method, key, history, results.traces.get(key, ()), settings))
    return found


def _cell(value: float | None) -> str:
    return number(value) if value is not None and finite(value) else "n/a"


def _plain(row: Mapping[str, float]) -> dict[str, float]:
    """A history row by the names that training steps and diagnoses give."""
    return {name.removeprefix("train/").removeprefix("diagnostic/"): value for name, value in row.items()}


def _rows(run: DiagnosedRun) -> list[dict[str, float]]:
    """The trace with the diagnoses, which are made at evaluations, among its rows."""
    history = [_plain(row) for row in run.history]
    if not run.trace:
        return history
    diagnosed = {
        name.removeprefix("diagnostic/") for row in run.history for name in row if "diagnostic/" in name
    }
    at = {row["step"]: {name: row[name] for name in diagnosed if name in row} for row in history}
    return [dict(row) | at.get(row["step"], {}) for row in run.trace]


def _scatter(points: Sequence[tuple[float, float]], panel: _Panel, line: _Line, colour: str) -> go.Scatter:
    return go.Scatter(
        x=[rounded(epoch) for epoch, _ in points],
        # A logarithmic axis has no place for 0, and digits beyond these are rounding noise.
        y=[rounded(value) if value > 0 or not panel.logarithmic else None for _, value in points],
        name=line.name,
        mode="lines" if len(points) > 30 else "lines+markers",
        line={"color": colour, "dash": line.dash, "width": 1.5},
        fill="tozeroy" if line.filled else None,
        fillcolor=translucent(colour, 0.25) if line.filled else None,
        showlegend=len(panel.lines) > 1,
        hovertemplate=f"epoch %{{x:.3g}}: %{{y:.4g}}<extra>{line.name}</extra>",
    )


def _panels(rows: Rows) -> list[_Panel]:
    known = _BALANCED if any("task_length" in row for row in rows) else _DIAGNOSED
    panels = [panel for panel in (*known, *_COMMON) if any(_points(rows, line) for line in panel.lines)]
    return panels or [_DIAGNOSED[0]]


def _points(rows: Rows, line: _Line) -> list[tuple[float, float]]:
    found = ((row["epoch"], line.value(row)) for row in rows)
    return [(epoch, value) for epoch, value in found if value is not None and finite(value)]
