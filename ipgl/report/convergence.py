"""How one run converged: both gradients, their angle, the condition's measure, and how strongly it was corrected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from ipgl.evaluation.summary import MethodSummary, StudyResults
from ipgl.report.style import LIGHT, method_styles, template
from ipgl.report.tables import DataTable
from ipgl.report.traces import rounded
from ipgl.report.wording import finite, number

Rows = Sequence[Mapping[str, float]]

# Panel title, whether its axis is logarithmic, and the history's columns with their names.
_PANELS: tuple[tuple[str, bool, tuple[tuple[str, str], ...]], ...] = (
    (
        "Gradient norms",
        True,
        (
            ("diagnostic/task_gradient_norm", "task"),
            ("diagnostic/corrective_gradient_norm", "corrective, unweighted"),
        ),
    ),
    ("Cosine of the two gradients", False, (("diagnostic/gradient_cosine", "cosine"),)),
    ("Invariance measure on training pairs", True, (("train/measure", "measure"),)),
    ("Multiplier of the correction", True, (("train/multiplier", "multiplier"),)),
    ("Share of corrected steps", False, (("train/corrected", "share"),)),
)
_COLUMNS = [column for _, _, lines in _PANELS for column in lines]


def convergence_figure(rows: Rows, title: str) -> go.Figure:
    """The diagnostics of one run over its epochs, one panel each.

    Args:
        rows: The run's history; columns that a row lacks are left out.
        title: What the run is called.
    """
    figure = make_subplots(
        rows=len(_PANELS),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.05,
        subplot_titles=[p[0] for p in _PANELS],
    )
    colours = [style.colour for style in method_styles(("task", "corrective")).values()]
    for panel, (_, logarithmic, lines) in enumerate(_PANELS, start=1):
        for place, (column, name) in enumerate(lines):
            points = [(row["epoch"], row[column]) for row in rows if finite(row.get(column))]
            figure.add_trace(
                go.Scatter(
                    x=[epoch for epoch, _ in points],
                    # A logarithmic axis has no place for 0, and digits beyond these are rounding noise.
                    y=[rounded(value) if value > 0 or not logarithmic else None for _, value in points],
                    name=name,
                    mode="lines+markers",
                    line={"color": colours[place], "dash": ("solid", "dash")[place]},
                    showlegend=len(lines) > 1,
                    hovertemplate=f"epoch %{{x:.3g}}: %{{y:.4g}}<extra>{name}</extra>",
                ),
                row=panel,
                col=1,
            )
        if logarithmic:
            figure.update_yaxes(type="log", row=panel, col=1)
    figure.update_xaxes(title_text="Epoch", row=len(_PANELS), col=1)
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    return figure.update_layout(
        template=template(LIGHT),
        title={
            "text": title,
            "subtitle": {"text": "Means between evaluations; gradients on one batch at each."},
        },
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        height=880,
        margin={"l": 16, "r": 16, "t": 84, "b": 16},
    )


def convergence_table(rows: Rows, title: str) -> DataTable:
    """The figure in numbers."""
    cells = [
        (number(row["epoch"]), *(number(row[c]) if finite(row.get(c)) else "n/a" for c, _ in _COLUMNS))
        for row in rows
    ]
    return DataTable(
        title,
        ("Epoch", *(column for column, _ in _COLUMNS)),
        tuple(cells),
        frozenset(range(1 + len(_COLUMNS))),
    )


def diagnosed_runs(results: StudyResults) -> list[tuple[MethodSummary, str, Rows]]:
    """For each method that diagnoses itself: its first final run's key and history."""
    found: list[tuple[MethodSummary, str, Rows]] = []
    for method in results.summary.methods:
        for key in method.final_runs[:1]:
            rows = results.histories.get(key, ())
            if any(name.startswith("diagnostic/") for row in rows for name in row):
                found.append((method, key, rows))
    return found
