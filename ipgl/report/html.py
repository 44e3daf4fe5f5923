"""The report: one HTML file that needs nothing else, neither a network nor a server."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from ipgl.evaluation.summary import StudyResults, StudySummary
from ipgl.files import write_text
from ipgl.report.convergence import convergence_figure, convergence_table, diagnosed_runs
from ipgl.report.failures import MAX_FAILURES, failure_rows
from ipgl.report.figures import learning_figure, robustness_figure, trials_figure
from ipgl.report.reading import empty_groups
from ipgl.report.redact import redacted
from ipgl.report.style import DARK, FONT, LIGHT, template
from ipgl.report.tables import (
    DataTable,
    curve_table,
    learning_table,
    method_rows,
    result_columns,
    rules_table,
    trials_table,
)
from ipgl.report.text import findings
from ipgl.report.wording import duration, finite, percent, whole_percent

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Plot:
    """A figure on the page, with the table that says the same."""

    name: str
    title: str
    subtitle: str
    spec: Markup
    table: DataTable


def render_report(results: StudyResults) -> str:
    """The whole report as HTML; plotly.js is in it once, and the browser is told to fetch nothing."""
    summary = results.summary
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    failures = failure_rows(results)
    return environment.get_template("template.html").render(
        summary=summary,
        findings=findings(summary),
        columns=result_columns(results),
        rows=method_rows(results),
        chance=round(100 * summary.chance, 2) if finite(summary.chance) else None,
        notes=_notes(results),
        facts=_facts(results),
        robustness=_plot("robustness", robustness_figure(results), curve_table(results)),
        trials=_plot("trials", trials_figure(results), trials_table(results)),
        learning=_plot("learning", learning_figure(results), learning_table(results)),
        convergence=[
            _plot(
                f"convergence-{place}",
                convergence_figure(rows, f"How {method.label} converged"),
                convergence_table(rows, key),
            )
            for place, (method, key, rows) in enumerate(diagnosed_runs(results))
        ],
        rules=rules_table(results),
        failures=failures[:MAX_FAILURES],
        causes_left_out=len(failures[MAX_FAILURES:]),
        failed_runs=sum(len(failure.runs) for failure in failures),
        config_yaml=_yaml(summary.config),
        winners_yaml=_yaml({m.label: m.hyperparameters for m in summary.methods if m.winner is not None}),
        environment=redacted(summary.environment),
        light=LIGHT,
        dark=DARK,
        font=Markup(FONT),
        templates=_json({theme.name: template(theme).to_plotly_json() for theme in (LIGHT, DARK)}),
        css=Markup((_FOLDER / "template.css").read_text(encoding="utf-8")),
        javascript=Markup((_FOLDER / "template.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def write_report(results: StudyResults, path: Path) -> Path:
    """Write the report to `path`; a reader sees the old file or the new one, never a part.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, render_report(results))


def _plot(name: str, figure: go.Figure, table: DataTable) -> Plot:
    spec = json.loads(figure.to_json())
    # The page sets the title in type that wraps on a phone, and hands in the template of the reader's theme.
    title = spec["layout"].pop("title")
    del spec["layout"]["template"]
    spec["layout"]["margin"]["t"] = 16
    return Plot(name, title["text"], title["subtitle"]["text"], _json(spec), table)


def _json(data: Any) -> Markup:
    """JSON that is safe inside a script element: nothing in it can close the element or open a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _yaml(data: dict[str, Any]) -> str:
    plain = json.loads(json.dumps(redacted(data), default=str))  # YAML has no word for a tuple or a path
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def _facts(results: StudyResults) -> list[tuple[str, str]]:
    summary = results.summary
    finished = max((run.finished_at for run in results.runs), default=0.0)
    dataset = summary.config.get("dataset")
    model = summary.config.get("model")
    named = [
        ("Data set", dataset.get("name", "") if isinstance(dataset, dict) else ""),
        ("Model", model.get("name", "") if isinstance(model, dict) else ""),
        ("Selection rule", summary.selection),
        ("Runs", _run_counts(results)),
        ("Wall time", duration(summary.seconds)),
        ("Finished", time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(finished)) if finished > 0 else ""),
    ]
    return [(name, str(value)) for name, value in named if value]


def _run_counts(results: StudyResults) -> str:
    searched = sum(run.phase == "search" for run in results.runs)
    final = len(results.runs) - searched
    return f"{searched} search, {final} final"


def _notes(results: StudyResults) -> list[str]:
    """What a reader must know to read the table's numbers rightly."""
    summary = results.summary
    notes = [
        f"Means over the final seeds with {whole_percent(summary.confidence)} intervals, {_resampling(summary)}."
    ]
    if any(len(method.final_runs) == 1 for method in summary.methods):
        notes.append("With one final seed an interval says nothing about how much seeds differ.")
    if len(summary.methods) > 1:
        notes.append("Bold marks a column's highest mean, whether or not it can be told from the next.")
    if finite(summary.chance):
        notes.append(
            f"Guessing by the test split's class shares reaches {percent(summary.chance)}: the tick on each bar."
        )
    empty = empty_groups(results)
    if empty:
        groups = ", ".join(f"label {group.label} with attribute {group.attribute}" for group in empty[:8])
        more = f" and {len(empty) - 8} more" if len(empty) > 8 else ""
        notes.append(
            f"The test split has no examples of {groups}{more}; what depends on them is left blank, not 0."
        )
    return notes


def _resampling(summary: StudySummary) -> str:
    several = any(len(method.final_runs) > 1 for method in summary.methods)
    return "by bootstrap over seeds and test examples" if several else "by bootstrap over test examples"
