"""The report as one self-contained HTML file, which needs no network and no server."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ipgl.core.atomic_files import write_text
from ipgl.evaluation.study_summary import StudyResults, StudySummary
from ipgl.report import explanations
from ipgl.report.budget import budget_table
from ipgl.report.components import component_notes, components_table, components_title
from ipgl.report.convergence import convergence_figure, convergence_table, diagnosed_runs
from ipgl.report.failures import MAX_FAILURES, failure_rows
from ipgl.report.figures import invariance_figure, learning_figure, robustness_figure, trials_figure
from ipgl.report.findings import findings
from ipgl.report.formatting import finite, listed
from ipgl.report.gallery import Gallery, encode_gallery
from ipgl.report.method_table import method_rows, result_columns
from ipgl.report.plotly_library import compressed_plotly
from ipgl.report.result_queries import curve_names, mixture_of
from ipgl.report.rule_tables import choices_table, rules_table, within_table
from ipgl.report.search_insight import (
    axes_of,
    parallel_figure,
    searched_methods,
    settings_table,
    slice_figure,
)
from ipgl.report.significance import best_baseline
from ipgl.report.style import DARK, FONT, LIGHT, legend_mark, method_styles, template
from ipgl.report.tables import (
    DataTable,
    curve_table,
    groups_table,
    invariance_table,
    learning_table,
    trials_table,
)
from ipgl.report.timeline import timeline_figure, timeline_table

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Plot:
    """A figure on the page, with the table of the same numbers.

    Attributes:
        height: Pixels, so that the page does not move when the figure is drawn.
        note: What the figure leaves out; empty if nothing.
        table: None where one table covers several figures.
    """

    name: str
    title: str
    subtitle: str
    height: int
    spec: Markup
    note: str
    table: DataTable | None


@dataclass(frozen=True)
class Insight:
    """What the search learned about one method."""

    label: str
    importances: tuple[tuple[str, float], ...]
    parallel: Plot
    slices: tuple[Plot, ...]
    table: DataTable


def render_report(
    results: StudyResults, gallery: Gallery | None = None, *, how_to: Sequence[str] = ()
) -> str:
    """Render the report as HTML, with plotly.js embedded once and without any external resource.

    Args:
        results: A study's, or several studies' merged into one with labels `study/label`.
        gallery: Pictures of pairs and mistakes.
        how_to: Shell commands that reproduce the report; derived from the summary if empty.

    Raises:
        ValueError: A picture of the gallery is not uint8 of shape [H, W, 3].
    """
    summary = results.summary
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    pairs, mistakes = encode_gallery(gallery or Gallery())
    return environment.get_template("template.html").render(
        summary=summary,
        **_tables(results),
        **_figures(results),
        **_failures(results),
        **_provenance(summary, how_to),
        pairs=pairs,
        mistakes=mistakes,
        no_pictures=gallery.missing if gallery else "",
        light=LIGHT,
        dark=DARK,
        font=Markup(FONT),
        templates=_json({theme.name: template(theme).to_plotly_json() for theme in (LIGHT, DARK)}),
        css=Markup((_FOLDER / "template.css").read_text(encoding="utf-8")),
        javascript=Markup((_FOLDER / "template.js").read_text(encoding="utf-8")),
        plotly=Markup(compressed_plotly()),
    )


def write_report(
    results: StudyResults, path: Path, gallery: Gallery | None = None, *, how_to: Sequence[str] = ()
) -> Path:
    """Write the report to `path`; a reader sees the old file or the new one, never a part.

    Args:
        results: As `render_report`.
        path: The file; missing folders are made.
        gallery: As `render_report`.
        how_to: As `render_report`.

    Returns:
        `path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_text(path, render_report(results, gallery, how_to=how_to))


def _tables(results: StudyResults) -> dict[str, object]:
    """The template's variables of the findings and of the tables without a figure."""
    summary = results.summary
    return {
        "remarks": explanations.remarks(summary),
        "findings": findings(summary),
        "columns": result_columns(results),
        "rows": method_rows(results),
        "baseline": best_baseline(summary),
        "chance": round(100 * summary.chance, 2) if finite(summary.chance) else None,
        "notes": explanations.notes(results),
        "facts": explanations.facts(results),
        "groups": groups_table(results),
        "components": components_table(results),
        "components_title": components_title(results),
        "component_notes": component_notes(results),
        "budgets": budget_table(results),
        "rules": rules_table(results),
        "choices": choices_table(results),
        "within": within_table(results),
    }


def _figures(results: StudyResults) -> dict[str, object]:
    """The template's variables of the figures, and the legend that they share."""
    styles = method_styles([method.label for method in results.summary.methods])
    return {
        "keys": [(label, style.colour, *legend_mark(style)) for label, style in styles.items()],
        "robustness": _robustness(results),
        "invariance": _plot("invariance", invariance_figure(results), invariance_table(results), styles),
        "trials": _plot("trials", trials_figure(results), trials_table(results), styles),
        "learning": _plot("learning", learning_figure(results), learning_table(results), styles),
        "timeline": _plot("timeline", timeline_figure(results), timeline_table(results), styles),
        "insights": _insights(results),
        "convergence": [
            _plot(
                f"convergence-{place}",
                convergence_figure(run, f"How {run.method.label} converged"),
                convergence_table(run),
            )
            for place, run in enumerate(diagnosed_runs(results))
        ],
    }


def _failures(results: StudyResults) -> dict[str, object]:
    """The template's variables of the runs that failed or were stopped."""
    failures = failure_rows(results)
    return {
        "failures": failures[:MAX_FAILURES],
        "causes_left_out": len(failures[MAX_FAILURES:]),
        "failed_runs": sum(len(failure.runs) for failure in failures),
        "stops": explanations.stops(results),
    }


def _provenance(summary: StudySummary, how_to: Sequence[str]) -> dict[str, object]:
    """The template's variables of the commands, settings and versions that the results come from."""
    winners = {
        method.label: method.hyperparameters for method in summary.methods if method.winner is not None
    }
    return {
        "commands": list(how_to) or explanations.commands(summary),
        "had_changes": explanations.had_changes(summary),
        "configurations": explanations.configurations(summary),
        "winners_yaml": explanations.as_yaml(winners),
        "provenance": explanations.provenance(summary),
    }


def _robustness(results: StudyResults) -> list[Plot]:
    summary = results.summary
    styles = [method.label for method in summary.methods]
    plots, mixture = [], mixture_of(summary)
    for place, curve in enumerate(curve_names(summary) or [mixture]):
        missing = explanations.missing_curve(summary, curve)
        figure = robustness_figure(results, curve)
        if place:
            figure.update_layout(height=400)
        note = f"Not drawn, because no final run has this curve: {listed(missing)}." if missing else ""
        name = "robustness" if curve == mixture else f"robustness-{place}"
        plots.append(_plot(name, figure, curve_table(results, curve), styles, note))
    return plots


def _insights(results: StudyResults) -> list[Insight]:
    found = []
    for number, method in enumerate(searched_methods(results)):
        ranked = sorted(method.importances.items(), key=lambda item: -item[1])
        axes = axes_of(results, method.label)
        found.append(
            Insight(
                method.label,
                tuple((name, round(100 * share, 1)) for name, share in ranked if finite(share)),
                _plot(f"parallel-{number}", parallel_figure(results, method.label), None),
                tuple(
                    _plot(f"slice-{number}-{place}", slice_figure(results, method.label, axis), None)
                    for place, axis in enumerate(axes)
                ),
                settings_table(results, method.label),
            )
        )
    return found


def _plot(
    name: str,
    figure: go.Figure,
    table: DataTable | None,
    labels: Collection[str] = (),
    note: str = "",
) -> Plot:
    """The figure without what the page adds: title, theme, and the keys of `labels`, which its buttons show."""
    spec = json.loads(figure.to_json())
    # The page sets the title in type that wraps on a phone, and hands in the template of the reader's theme.
    title = spec["layout"].pop("title")
    del spec["layout"]["template"]
    spec["layout"]["margin"]["t"] = (
        36 if "xaxis2" in spec["layout"] else 16
    )  # panels have titles of their own
    for trace in spec["data"]:
        if trace.get("legendgroup") in labels:
            trace["showlegend"] = False
    height = int(spec["layout"]["height"])
    return Plot(name, title["text"], title["subtitle"]["text"], height, _json(spec), note, table)


def _breakable(name: str) -> Markup:
    """A name that may wrap after its separators rather than within a word."""
    return Markup(re.sub(r"([_./-])", r"\1<wbr>", str(escape(name))))


def _json(data: object) -> Markup:
    """JSON that is safe inside a script element: nothing in it can close the element or open a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)
