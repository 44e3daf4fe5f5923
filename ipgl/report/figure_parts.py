"""Building blocks of the figures: empty figure, lines, bands, legend keys, hover texts."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

import plotly.graph_objects as go

from ipgl.core.redaction import redacted
from ipgl.evaluation.guessing import NO_BETTER, is_guessing
from ipgl.evaluation.run_result import CurvePoint, RunResult
from ipgl.evaluation.study_summary import Estimate, StudySummary
from ipgl.report.formatting import finite, number, percent, percent_range, plotly_text, setting, shortened
from ipgl.report.result_queries import ACCURACY, FLIP_RATE, KAPPA, cause_of, validation
from ipgl.report.style import LIGHT, NEUTRAL, MethodStyle, template, translucent

# Symbol of a trial's last point, by status; the learning curve of a completed trial has none.
STATUS_SYMBOLS = {"completed": "circle", "stopped": "circle-open", "failed": "x-thin-open"}
WINNER_SYMBOL = "star"
MAX_HOVER = 60
# With more methods, lines and bands get lighter and hover boxes single, or they would hide each other.
FEW_METHODS = 8


def base_figure(title: str, subtitle: str, x_title: str, y_title: str, summary: StudySummary) -> go.Figure:
    """An empty figure with title, axes and theme."""
    return go.Figure(
        layout={
            "template": template(LIGHT),
            "title": {"text": title, "subtitle": {"text": subtitle}},
            "xaxis": {"title": {"text": x_title}},
            "yaxis": {"title": {"text": y_title}},
            "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
            "height": 480,
            "margin": {"l": 16, "r": 16, "t": 84, "b": 16},
            "uirevision": summary.study,  # a change of theme keeps what the reader zoomed to
        }
    )


def add_message(figure: go.Figure, sentence: str) -> go.Figure:
    """Write a sentence into an empty figure."""
    figure.add_annotation(text=sentence, xref="paper", yref="paper", x=0.5, y=0.5, font={"size": 15})
    return figure.update_xaxes(range=[0, 1], showticklabels=False).update_yaxes(
        range=[0, 1], showticklabels=False
    )


def curve_trace(
    points: list[CurvePoint], label: str, style: MethodStyle, scale: float = 100.0, drawn: int = 1
) -> go.Scatter:
    """A method's line; `scale` turns severities into what the axis shows, `drawn` is how many lines there are."""
    # A point between two gaps has no band to show its interval, so it gets a bar.
    lone = {segment[0].severity for segment in _segments(points) if len(segment) == 1}
    return go.Scatter(
        x=[rounded(scale * p.severity) for p in points],
        y=[rounded(100 * p.accuracy) for p in points],
        mode="lines+markers",
        name=plotly_text(label),
        legendgroup=label,
        connectgaps=False,
        line={"color": style.colour, "width": 3 if drawn <= FEW_METHODS else 2, "dash": style.dash},
        marker={"symbol": style.symbol, "size": 8 if drawn <= FEW_METHODS else 7, "line": {"width": 1}},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [rounded(100 * (p.high - p.accuracy)) if p.severity in lone else None for p in points],
            "arrayminus": [
                rounded(100 * (p.accuracy - p.low)) if p.severity in lone else None for p in points
            ],
            "color": style.colour,
            "thickness": 1.5,
            "width": 5,
            "visible": bool(lone),
        },
        text=[f"{percent(p.accuracy)} ({percent_range(p.low, p.high)})" for p in points],
        # A hover box of all methods has the position in its heading.
        hovertemplate="%{text}" if drawn <= FEW_METHODS else "%{x:g}: %{text}",
    )


def band_trace(
    points: list[CurvePoint], label: str, style: MethodStyle, scale: float = 100.0, drawn: int = 1
) -> go.Scatter:
    """The intervals as one filled shape for each unbroken stretch of the curve."""
    x: list[float | None] = []
    y: list[float | None] = []
    for segment in _segments(points):
        if len(segment) > 1:
            there, back = segment, segment[::-1]
            x += [rounded(scale * p.severity) for p in there + back] + [None]
            y += [rounded(100 * p.high) for p in there] + [rounded(100 * p.low) for p in back] + [None]
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        fill="toself",
        fillcolor=translucent(style.colour, 0.18 if drawn <= FEW_METHODS else 0.08),
        line={"width": 0},
        legendgroup=label,
        showlegend=False,
        hoverinfo="skip",
        name=f"{plotly_text(label)}, interval",
    )


def front_trace(front: list[tuple[float, float]], scale: float = 100.0) -> go.Scatter:
    """The Pareto front of (flip rate, gain): between its points nothing better is known, hence steps.

    `scale` turns the gain (an accuracy, or kappa) into what its axis shows.
    """
    return go.Scatter(
        x=[rounded(100 * flip) for flip, _ in front],
        y=[rounded(scale * gain) for _, gain in front],
        mode="lines",
        line={"color": NEUTRAL, "width": 1.5, "dash": "dash", "shape": "hv"},
        name="Pareto front",
        hoverinfo="skip",
        showlegend=False,
    )


def mean_trace(label: str, style: MethodStyle, flip: Estimate, accuracy: Estimate) -> go.Scatter:
    """One method's marker with both intervals."""
    return go.Scatter(
        x=[rounded(100 * flip.mean)],
        y=[rounded(100 * accuracy.mean)],
        error_x=_error_bar(flip, style.colour),
        error_y=_error_bar(accuracy, style.colour),
        mode="markers",
        cliponaxis=False,
        name=plotly_text(label),
        legendgroup=label,
        marker={"color": style.colour, "symbol": style.symbol, "size": 13, "line": {"width": 1}},
        hovertemplate=(
            f"<b>{plotly_text(label)}</b><br>"
            f"flip rate {percent(flip.mean)} ({percent_range(flip.low, flip.high)})<br>"
            f"accuracy {percent(accuracy.mean)} ({percent_range(accuracy.low, accuracy.high)})<extra></extra>"
        ),
    )


def _error_bar(estimate: Estimate, colour: str) -> dict[str, object]:
    known = finite(estimate.low) and finite(estimate.high)
    return {
        "type": "data",
        "symmetric": False,
        "array": [rounded(100 * (estimate.high - estimate.mean)) if known else None],
        "arrayminus": [rounded(100 * (estimate.mean - estimate.low)) if known else None],
        "color": colour,
        "thickness": 1.25,
        "width": 4,
        "visible": known,
    }


def path_trace(run: RunResult, path: list[tuple[float, float]], style: MethodStyle, wins: bool) -> go.Scatter:
    marked = wins or run.status != "completed" or len(path) == 1
    symbol = WINNER_SYMBOL if wins else STATUS_SYMBOLS[run.status]
    return go.Scatter(
        x=[epoch for epoch, _ in path],
        y=[rounded(score) for _, score in path],
        mode="lines+markers",
        legendgroup=run.label,
        showlegend=False,
        name=plotly_text(run.trial),
        opacity=1.0 if wins else 0.45,
        line={"color": style.colour, "width": 4 if wins else 1.25, "dash": style.dash},
        marker={
            "symbol": symbol,
            "opacity": 1,
            "size": [0] * (len(path) - 1) + [(16 if wins else 7) if marked else 0],
            "line": {"width": 1.25},
        },
        text=trial_hover(run, wins),
        hovertemplate="<b>epoch %{x:g}: %{y:.3f}</b><br>%{text}<extra></extra>",
    )


def method_key(label: str, style: MethodStyle, mode: str = "markers") -> go.Scatter:
    """A method's legend entry, apart from its trials: those vary in size and symbol."""
    return go.Scatter(
        x=[None],
        y=[None],
        mode=mode,
        name=plotly_text(label),
        legendgroup=label,
        marker={"color": style.colour, "size": 10},
        line={"color": style.colour, "width": 3, "dash": style.dash},
    )


def add_status_keys(figure: go.Figure, statuses: Collection[str], winners: bool, mode: str) -> None:
    symbols = {"winner": WINNER_SYMBOL} if winners else {}
    symbols |= {status: STATUS_SYMBOLS[status] for status in ("stopped", "failed") if status in statuses}
    for text, symbol in symbols.items():
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode=mode,
                name=text,
                marker={"symbol": symbol, "size": 14 if text == "winner" else 9, "color": NEUTRAL},
                line={"color": NEUTRAL, "width": 4 if text == "winner" else 1.25},
                # These explain a symbol; there is nothing that a click could hide.
                legendgroup=f"status {text}",
            )
        )


def add_score_lines(
    figure: go.Figure, places: Sequence[tuple[float, float]], scale: float, power: int
) -> None:
    """Lines of equal `gain x (1 - flip rate)^power` above 0: the best trial lies on the highest.

    Args:
        figure: Receives the lines and the ranges of both axes.
        places: (flip rate, gain) of each trial; the gain is what the rule multiplies, accuracy or kappa.
        scale: What the gain is multiplied by on its axis.
        power: Of (1 - flip rate) in the rule.
    """
    flips, gains = [flip for flip, _ in places], [gain for _, gain in places]
    left, right = max(0.0, min(flips) - 0.04), min(1.0, max(flips) + 0.04)
    bottom, top = min(gains) - 0.04, min(1.0, max(gains) + 0.05)
    for score in (tenth / 10 for tenth in range(1, 10)):
        steps = [bottom + (top - bottom) * step / 40 for step in range(41)]
        placed = [(1 - (score / gain) ** (1 / power), gain) for gain in steps if gain > 0]
        inside = [(flip, gain) for flip, gain in placed if left <= flip <= right]
        if len(inside) > 1:
            figure.add_trace(
                go.Scatter(
                    x=[rounded(100 * flip) for flip, _ in inside],
                    y=[rounded(scale * gain) for _, gain in inside],
                    mode="lines+text",
                    line={"color": NEUTRAL, "width": 1, "dash": "dot"},
                    opacity=0.7,
                    text=[""] * (len(inside) - 1) + [f"{score:g}"],
                    textposition="bottom left",
                    textfont={"size": 11, "color": NEUTRAL},
                    hoverinfo="skip",
                    showlegend=False,
                    name=f"score {score:g}",
                )
            )
    figure.update_xaxes(range=[100 * left - 1, 100 * right + 1]).update_yaxes(
        range=[scale * bottom, scale * top]
    )


def trial_hover(run: RunResult, wins: bool) -> str:
    accuracy, flip_rate, kappa = (validation(run, name) for name in (ACCURACY, FLIP_RATE, KAPPA))
    agreement = f"kappa {number(kappa)}, " if finite(kappa) else ""
    lines = [
        f"<b>{plotly_text(run.label)}</b>, trial {run.number}, {'winner' if wins else run.status}"
        + (f", {NO_BETTER}" if run.status == "completed" and is_guessing(run) else ""),
        f"score {number(run.score)}, {agreement}accuracy {percent(accuracy)}, flip rate {percent(flip_rate)}",
        *([plotly_text(shortened(redacted(cause), MAX_HOVER))] if (cause := cause_of(run)) else []),
        *(
            f"{plotly_text(key)}: {plotly_text(shortened(setting(value), MAX_HOVER))}"
            for key, value in redacted(run.hyperparameters).items()
        ),
    ]
    return "<br>".join(lines)


def _segments(points: list[CurvePoint]) -> Iterator[list[CurvePoint]]:
    """Unbroken stretches of points that have an interval."""
    for has_interval, group in groupby(points, key=lambda p: finite(p.low) and finite(p.high)):
        if has_interval:
            yield list(group)


def rounded(value: float) -> float | None:
    """Round to five significant digits, which keeps the page small; None leaves a gap."""
    return float(f"{value:.5g}") if finite(value) else None
