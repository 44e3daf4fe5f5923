"""The report as GitHub-flavoured Markdown, for papers and pull requests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ipgl.evaluation.study_summary import StudyResults
from ipgl.report.budget import budget_table
from ipgl.report.components import component_notes, components_table, components_title
from ipgl.report.explanations import (
    as_yaml,
    commands,
    configurations,
    facts,
    had_changes,
    notes,
    provenance,
    remarks,
)
from ipgl.report.failures import failure_rows
from ipgl.report.findings import findings
from ipgl.report.formatting import counted
from ipgl.report.method_table import Cell, MethodRow, method_rows, result_columns
from ipgl.report.result_queries import curve_names, curve_type_of
from ipgl.report.rule_tables import choices_table, rules_table, within_table
from ipgl.report.tables import (
    DataTable,
    curve_table,
    groups_table,
    invariance_table,
)


def markdown_report(results: StudyResults) -> str:
    """Findings, remarks, tables, selection rules and how to reproduce it, without figures."""
    summary = results.summary
    blocks = [f"# {escaped(summary.study)}"]
    if summary.question:
        blocks.append(f"> {escaped(summary.question)}")
    blocks.append(_list(f"**{name}**: {escaped(value)}" for name, value in facts(results)))
    if said := remarks(summary):
        blocks += ["## Read this first", _list(escaped(remark) for remark in said)]
    blocks += ["## Findings", *(escaped(sentence) for sentence in findings(summary))]
    blocks += ["## Results by method", _methods(results), _list(escaped(note) for note in notes(results))]
    if (budgets := budget_table(results)).rows:
        blocks += ["## Budget of each method", markdown_table(budgets)]
    blocks += ["## Accuracy by group", markdown_table(groups_table(results))]
    components = components_table(results)
    if components.rows:
        blocks += [f"## {components_title(results)}", markdown_table(components)]
        blocks.append(_list(escaped(note) for note in component_notes(results)))
    blocks += ["## Accuracy against invariance", markdown_table(invariance_table(results))]
    for curve in curve_names(summary):
        blocks += [f"## {escaped(curve_type_of(curve).title)}", markdown_table(curve_table(results, curve))]
    blocks += ["## What each selection rule would have chosen", markdown_table(rules_table(results))]
    blocks.append(markdown_table(choices_table(results)))
    if (within := within_table(results)).rows:
        blocks.append(markdown_table(within))
    blocks += ["## Failures", _failures(results), "## Reproduce it"]
    blocks.append(_fenced("\n".join(commands(summary)), "sh"))
    if had_changes(summary):
        blocks.append("The study ran from files with changes that the revision does not hold.")
    blocks.append(_list(f"{escaped(name)}: {_code(value)}" for name, value in provenance(summary)))
    for name, config in configurations(summary):
        blocks += [f"<details><summary>Configuration of {escaped(name)}</summary>", _fenced(config, "yaml")]
        blocks.append("</details>")
    winners = {m.label: m.hyperparameters for m in summary.methods if m.winner is not None}
    blocks += ["Winning settings:", _fenced(as_yaml(winners), "yaml")]
    return "\n\n".join(block for block in blocks if block) + "\n"


def markdown_table(table: DataTable) -> str:
    """A table with its caption; a sentence instead of a table without rows."""
    if not table.rows:
        return "Nothing to show."
    cells = [
        [_marked(escaped(str(v)), (row, column) in table.marked) for column, v in enumerate(values)]
        for row, values in enumerate(table.rows)
    ]
    return f"{escaped(table.caption)}:\n\n{_grid(table.columns, cells, table.numeric)}"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no link, no mention, no second table column."""
    text = " ".join(text.split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|~@#!])", r"\\\1", text)


def _methods(results: StudyResults) -> str:
    headings = [f"{heading} ({detail})" for heading, detail in result_columns(results)]
    rows = method_rows(results)
    against = any(row.against is not None for row in rows)
    columns = ["Method", "Needs", *headings, *(["Against the best baseline"] if against else []), "Trials"]
    cells = [
        [
            escaped(f"{row.label} ({row.guessing})" if row.guessing else row.label),
            escaped(row.needs),
            *(_cell(cell) for cell in row.cells),
            *([_against(row)] if against else []),
            ", ".join(f"{count} {status}" for status, count in row.counts if count),
        ]
        for row in rows
    ]
    return _grid(columns, cells, frozenset(range(2, 2 + len(headings))))


def _cell(cell: Cell) -> str:
    return _marked(cell.mean, cell.best) + (f" ({cell.interval})" if cell.interval else "")


def _against(row: MethodRow) -> str:
    cell = row.against
    if cell is None:
        return ""
    details = ", ".join(text for text in (cell.interval, cell.p_value) if text)
    return f"{cell.difference} ({details}): {cell.verdict}" if details else cell.difference


def _failures(results: StudyResults) -> str:
    rows = failure_rows(results)
    if not rows:
        return "None: every run completed or was stopped early."
    return _list(
        f"{escaped(f.label)}, {f.phase}, {counted(len(f.runs), 'run')}: **{escaped(f.kind)}** {escaped(f.message)}"
        for f in rows
    )


def _grid(columns: Sequence[str], rows: Iterable[Sequence[str]], numeric: frozenset[int]) -> str:
    lines = [
        " | ".join(escaped(column) for column in columns),
        " | ".join("---:" if place in numeric else "---" for place in range(len(columns))),
        *(" | ".join(row) for row in rows),
    ]
    return "\n".join(f"| {line} |" for line in lines)


def _marked(text: str, marked: bool) -> str:
    return f"**{text}**" if marked else text


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _code(text: str) -> str:
    return f"`{' '.join(text.replace('`', '').split())}`"


def _fenced(text: str, language: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
