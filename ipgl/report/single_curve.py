"""One model's robustness curve as a figure."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from ipgl.core.colours import PALETTE
from ipgl.evaluation.curve_types import curve_type
from ipgl.evaluation.run_result import CurvePoint


def single_curve_figure(name: str, points: Sequence[CurvePoint]) -> go.Figure:
    """A line with its interval's band; shares and accuracies in percent.

    Args:
        name: The curve's name, as in `RunResult.curves`.
        points: The curve, in the order of its axis.
    """
    found = curve_type(name)
    scale, unit = (100.0, " (%)") if found.shares else (1.0, "")
    axis = [scale * point.severity for point in points]
    low, middle, high = (
        [100 * getattr(point, part) for point in points] for part in ("low", "accuracy", "high")
    )
    figure = go.Figure(
        [
            go.Scatter(
                x=[*axis, *reversed(axis)],
                y=[*high, *reversed(low)],
                fill="toself",
                fillcolor=PALETTE[0],
                opacity=0.2,
                line={"width": 0},
                hoverinfo="skip",
                showlegend=False,
            ),
            go.Scatter(x=axis, y=middle, mode="lines+markers", line={"color": PALETTE[0]}, name=found.title),
        ]
    )
    figure.update_layout(title=found.title, template="simple_white", showlegend=False)
    figure.update_xaxes(title=f"{found.axis[:1].upper()}{found.axis[1:]}{unit}")
    figure.update_yaxes(title=f"{found.value[:1].upper()}{found.value[1:]} (%)")
    return figure
