"""The description (Markdown) of a study's parent run in MLflow: question, answer, table, winners."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from ipgl.evaluation.guessing import guessing_words
from ipgl.evaluation.run_result import Failure
from ipgl.evaluation.selection import SELECTION_RULES
from ipgl.evaluation.study_summary import Estimate, MethodSummary, StudySummary
from ipgl.tracking.base import StudyView
from ipgl.tracking.mlflow_values import estimates, headlines

# More columns do not fit beside each other; areas are in the table of runs.
_MOST_COLUMNS = 4
# MLflow draws table cells without any padding.
_SPACE = "&emsp;"
_BLANK = "&nbsp;"


def opening_note(study: StudyView) -> str:
    """Description while the study runs: the question alone."""
    return f"{study.question or study.study}\n\n*Running; the results come when the study ends.*"


def failure_note(failure: Failure) -> str:
    """Why a run did not finish."""
    return f"**{failure_line(failure)}**\n\nThe traceback is in the artifact `result.json`."


def failure_line(failure: Failure) -> str:
    """Kind, step and message of a failure on one line."""
    step = "" if failure.step is None else f" at step {failure.step}"
    return f"{failure.kind}{step}: {' '.join(failure.message.split())}"


def study_note(
    summary: StudySummary,
    answer: Sequence[str] = (),
    models: Mapping[str, str] | None = None,
    report: str = "",
) -> str:
    """The question, its answer, the methods in a table with intervals in percent, and the winners' settings.

    Args:
        summary: The outcome.
        answer: Sentences, the headline first.
        models: Label -> address under which the method's model is loaded.
        report: Address of the report; empty if there is none.
    """
    parts = [
        f"*{summary.question}*" if summary.question else summary.study,
        f"**{answer[0]}** {' '.join(answer[1:])}".rstrip() if answer else "",
        *_table(summary),
        *_winners(summary),
        *_models(models or {}),
        f"[The whole report]({report})" if report else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _models(models: Mapping[str, str]) -> list[str]:
    lines = [f"- **{label}**: `mlflow.pyfunc.load_model({json.dumps(uri)})`" for label, uri in models.items()]
    return ["The models of the first final seed, loaded by:", "\n".join(lines)] if lines else []


def _table(summary: StudySummary) -> list[str]:
    known = headlines(method for method in summary.methods if method.final_runs)
    names = [name for name in known if not name.startswith("area_")][:_MOST_COLUMNS]
    if not names:
        return ["No method has completed a final run, so there is nothing to compare."]
    rows = [
        ["method", f"{_SPACE}needs", *(_SPACE + name.replace("_", " ") for name in names), f"{_SPACE}seeds"],
        ["---", "---", *("---:" for _ in names), "---:"],
        *(_row(method, names) for method in summary.methods),
    ]
    interval = f"{100 * summary.confidence:g}% interval"
    chance = (
        "" if math.isnan(summary.chance) else f" Guessing by class shares gives {100 * summary.chance:.1f}."
    )
    caption = f"Test results in percent: mean over seeds ({interval}).{chance}"
    return ["\n".join(_line(row) for row in rows), caption]


def _row(method: MethodSummary, names: Sequence[str]) -> list[str]:
    found = estimates(method)
    cells = [_SPACE + _percent(found.get(name)) for name in names]
    return [
        f"**{method.label}**",
        _SPACE + method.needs,
        *cells,
        f"{_SPACE}{len(method.final_runs)}",
    ]


def _winners(summary: StudySummary) -> list[str]:
    lines = []
    for method in summary.methods:
        if method.winner is None:
            lines.append(f"- **{method.label}**: no search trial completed ({_counts(method)})")
            continue
        settings = ", ".join(f"`{key} = {_value(value)}`" for key, value in method.hyperparameters.items())
        score = "" if math.isnan(method.score) else f"; score {method.score:.4g}"
        guessing = f"; {words}" if (words := guessing_words(method)) else ""
        lines.append(
            f"- **{method.label}**: {settings or 'nothing to search'}{score}{guessing} ({_counts(method)})"
        )
    rules = (SELECTION_RULES.get(name) for name in summary.selection.split(", "))
    oracle = any(rule is not None and rule.oracle for rule in rules)
    how = "an ORACLE that reads the test split" if oracle else "chosen without test data"
    return [f"Winners by `{summary.selection}`, {how}:", "\n".join(lines)] if lines else []


def _counts(method: MethodSummary) -> str:
    return ", ".join(f"{count} {status}" for status, count in method.counts.items() if count) or "no trials"


def _percent(estimate: Estimate | None) -> str:
    if estimate is None or math.isnan(estimate.mean):
        return "n/a"
    mean, low, high = (100 * value for value in (estimate.mean, estimate.low, estimate.high))
    # In a narrow cell the line breaks before the interval, not within it.
    return (
        f"{mean:.1f} ({low:.1f}{_BLANK}to{_BLANK}{high:.1f})" if not math.isnan(low + high) else f"{mean:.1f}"
    )


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else json.dumps(value, default=str).strip('"')


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
