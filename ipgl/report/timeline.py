"""Timeline of the runs: start, end, status and cause of each, in lanes of concurrent runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from ipgl.core.durations import duration
from ipgl.core.redaction import redacted
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import StudyResults
from ipgl.report.figure_parts import MAX_HOVER, add_message, base_figure, rounded
from ipgl.report.formatting import counted, finite, number, plotly_text, shortened
from ipgl.report.result_queries import cause_of
from ipgl.report.style import NEUTRAL, method_styles
from ipgl.report.tables import DataTable

# A bar's fill says how the run ended, its colour which method it was.
STATUS_PATTERNS = {"completed": "", "stopped": "/", "failed": "x"}
LANE_PIXELS = 34
# Otherwise a study that is resumed the next day would be two narrow stripes with an empty night between them.
MIN_PAUSE_SECONDS = 300.0
MIN_PAUSE_SHARE = 0.1
UNITS = ((7200.0, 3600.0, "hours"), (180.0, 60.0, "minutes"), (0.0, 1.0, "seconds"))


@dataclass(frozen=True)
class PlacedRun:
    """A run on the timeline; times in seconds since the first start, pauses taken out."""

    run: RunResult
    start: float
    end: float
    lane: int


def timeline_figure(results: StudyResults) -> go.Figure:
    """Every run as a bar from its start to its end."""
    summary = results.summary
    placed, pauses = timeline(results)
    unplaced = len(results.runs) - len(placed)
    total = max((p.end for p in placed), default=0.0)
    _, unit_seconds, unit = next(found for found in UNITS if total >= found[0])
    lanes = max((p.lane for p in placed), default=0) + 1
    figure = base_figure(
        "When the runs ran",
        "Each row is one place to run at a time. Plain: completed; striped: stopped early; crossed: failed; "
        "outlined: final run."
        + (f" Dotted: {counted(len(pauses), 'pause')}, cut out." if pauses else "")
        + (f" Not drawn: {counted(unplaced, 'run')} without times." if unplaced else ""),
        f"Time since the first start ({unit})",
        "",
        summary,
    )
    if not placed:
        return add_message(figure, "No run has times.")
    for label, style in method_styles([method.label for method in summary.methods]).items():
        own = [p for p in placed if p.run.label == label]
        if own:
            figure.add_trace(_bars(own, label, style.colour, unit_seconds))
    for place, seconds in pauses:
        figure.add_vline(
            x=place / unit_seconds,
            line={"color": NEUTRAL, "dash": "dot", "width": 1.5},
            annotation_text=f"pause of {duration(seconds)}",
            annotation_position="top left" if place > total / 2 else "top right",
        )
    figure.update_layout(barmode="overlay", height=150 + LANE_PIXELS * lanes)
    figure.update_xaxes(rangemode="tozero")
    return figure.update_yaxes(
        showticklabels=False, showgrid=False, ticks="", range=[lanes + 0.6, 0.4], title=None
    )


def timeline_table(results: StudyResults) -> DataTable:
    """The timeline as a table: every run with times, score and cause."""
    placed, _ = timeline(results)
    start = {p.run.trial: p.run.started_at for p in placed}
    first = min(start.values(), default=0.0)
    rows = [
        (
            run.trial,
            run.label,
            run.phase,
            run.status,
            duration(run.started_at - first) if run.trial in start else "n/a",
            duration(run.finished_at - run.started_at) if run.trial in start else "n/a",
            number(run.score),
            shortened(redacted(cause_of(run)), 200),
        )
        for run in sorted(results.runs, key=lambda run: (run.started_at, run.number))
    ]
    columns = ("Run", "Method", "Phase", "Outcome", "Started after", "Took", "Score", "Cause")
    return DataTable("Runs in the order in which they started", columns, tuple(rows), frozenset({4, 5, 6}))


def timeline(results: StudyResults) -> tuple[list[PlacedRun], list[tuple[float, float]]]:
    """Runs with a place each, and (place, length) in seconds of every pause that was taken out."""
    runs = [run for run in results.runs if finite(run.started_at) and 0 < run.started_at <= run.finished_at]
    runs.sort(key=lambda run: (run.started_at, run.finished_at))
    pauses = _pauses(runs)
    free: list[float] = []  # when each lane's last run ended
    placed: list[PlacedRun] = []
    first = runs[0].started_at if runs else 0.0
    for run in runs:
        lane = next((i for i, end in enumerate(free) if end <= run.started_at), len(free))
        free[lane : lane + 1] = [run.finished_at]
        cut = sum(length for begun, length in pauses if begun < run.started_at)
        placed.append(PlacedRun(run, run.started_at - first - cut, run.finished_at - first - cut, lane))
    places, before = [], 0.0
    for begun, length in pauses:
        places.append((begun - first - before, length))
        before += length
    return placed, places


def _bars(placed: Sequence[PlacedRun], label: str, colour: str, unit_seconds: float) -> go.Bar:
    """One method's runs."""
    return go.Bar(
        orientation="h",
        base=[rounded(p.start / unit_seconds) for p in placed],
        x=[rounded((p.end - p.start) / unit_seconds) for p in placed],
        y=[p.lane + 1 for p in placed],
        width=0.74,
        name=plotly_text(label),
        legendgroup=label,
        marker={
            "color": colour,
            "pattern": {
                "shape": [STATUS_PATTERNS[p.run.status] for p in placed],
                "fillmode": "overlay",
                "fgcolor": "white",
                "size": 6,
                "solidity": 0.35,
            },
            "line": {"color": NEUTRAL, "width": [2 if p.run.phase == "final" else 0 for p in placed]},
        },
        text=[_hover(p.run) for p in placed],
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )


def _pauses(runs: list[RunResult]) -> list[tuple[float, float]]:
    """(when it began, how long it was) of the gaps without a run that are long compared with the running time."""
    gaps: list[tuple[float, float]] = []
    busy_until = runs[0].finished_at if runs else 0.0
    for run in runs:
        if run.started_at > busy_until:
            gaps.append((busy_until, run.started_at - busy_until))
        busy_until = max(busy_until, run.finished_at)
    busy = busy_until - (runs[0].started_at if runs else 0.0) - sum(length for _, length in gaps)
    return [gap for gap in gaps if gap[1] >= max(MIN_PAUSE_SECONDS, MIN_PAUSE_SHARE * busy)]


def _hover(run: RunResult) -> str:
    cause = cause_of(run)
    lines = [
        f"<b>{plotly_text(run.label)}</b>, {run.phase} run {run.number}, {run.status}",
        f"{duration(run.finished_at - run.started_at)}, score {number(run.score)}",
        *([plotly_text(shortened(redacted(cause), 2 * MAX_HOVER))] if cause else []),
    ]
    return "<br>".join(lines)
