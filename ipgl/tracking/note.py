"""The study's answer as Markdown, shown on top of its run in MLflow."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from ipgl.evaluation.result import Failure
from ipgl.evaluation.summary import Estimate, MethodSummary, StudySummary
from ipgl.tracking.base import StudyView
from ipgl.tracking.entries import SIDE_METRICS

# More columns than this no longer fit beside each other.
_MOST_COLUMNS = 5
# MLflow draws table cells without any padding.
_SPACE = "&emsp;"


def opening_note(study: StudyView) -> str:
    """The question alone, while there is no answer yet."""
    return f"{study.question or study.study}\n\n*Running; the results come when the study ends.*"


def failure_note(failure: Failure) -> str:
    """Why a run did not finish."""
    return f"**{failure_line(failure)}**\n\nThe traceback is in the artifact `result.json`."


def failure_line(failure: Failure) -> str:
    """Kind, step and message of a failure on one line."""
    step = "" if failure.step is None else f" at step {failure.step}"
    return f"{failure.kind}{step}: {' '.join(failure.message.split())}"


def study_note(summary: StudySummary) -> str:
    """The question, a table of the methods with means and intervals in percent, and the winners' settings."""
    parts = [summary.question or summary.study, *_table(summary), *_winners(summary)]
    return "\n\n".join(part for part in parts if part)


def _table(summary: StudySummary) -> list[str]:
    known = dict.fromkeys(name for method in summary.methods for name in method.estimates)
    names = [name for name in known if name not in SIDE_METRICS][:_MOST_COLUMNS]
    if not names:
        return ["No method has completed a final run, so there is nothing to compare."]
    rows = [
        ["method", *(_SPACE + name.replace("_", " ").replace("/", " ") for name in names), f"{_SPACE}seeds"],
        ["---", *("---:" for _ in names), "---:"],
        *(_row(method, names) for method in summary.methods),
    ]
    interval = f"{100 * summary.confidence:g}% interval"
    chance = (
        "" if math.isnan(summary.chance) else f" Guessing by class shares gives {100 * summary.chance:.1f}."
    )
    caption = f"Test results in percent: mean over seeds ({interval}).{chance}"
    return ["\n".join(_line(row) for row in rows), caption]


def _row(method: MethodSummary, names: Sequence[str]) -> list[str]:
    cells = [_SPACE + _percent(method.estimates.get(name)) for name in names]
    return [f"**{method.label}**", *cells, f"{_SPACE}{len(method.final_runs)}"]


def _winners(summary: StudySummary) -> list[str]:
    lines = []
    for method in summary.methods:
        if method.winner is None:
            lines.append(f"- **{method.label}**: no search trial completed ({_counts(method)})")
            continue
        settings = ", ".join(f"`{key} = {_value(value)}`" for key, value in method.hyperparameters.items())
        score = "" if math.isnan(method.score) else f"; score {method.score:.4g}"
        lines.append(f"- **{method.label}**: {settings or 'nothing to search'}{score} ({_counts(method)})")
    return [f"Winners by `{summary.selection}`, chosen without test data:", "\n".join(lines)] if lines else []


def _counts(method: MethodSummary) -> str:
    return ", ".join(f"{count} {status}" for status, count in method.counts.items() if count) or "no trials"


def _percent(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.mean):
        return "n/a"
    mean, low, high = (100 * value for value in (estimate.mean, estimate.low, estimate.high))
    return f"{mean:.1f} ({low:.1f} to {high:.1f})" if not math.isnan(low + high) else f"{mean:.1f}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, default=str).strip('"')


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
