"""Table of variance components: how much redrawn weights, pairs or data move each method's result."""

from __future__ import annotations

from ipgl.evaluation.study_summary import StudyResults, VarianceComponent
from ipgl.report.formatting import MISSING, finite, listed, mix_phrase, whole_percent
from ipgl.report.result_queries import target_severity
from ipgl.report.tables import DataTable

_COLUMNS = (
    ("Shifted accuracy", "shifted_accuracy"),
    ("Worst group", "worst_group"),
    ("Average", "average"),
)
_ALL = "all together"


def components_title(results: StudyResults) -> str:
    """`How much of the result is the draw of weights or pairs`."""
    sources = [one.source for method in results.summary.methods for one in method.components]
    drawn: list[str] = [source for source in dict.fromkeys(sources) if source != "all"]
    return f"How much of the result is the draw of {listed(drawn).replace(' and ', ' or ') if drawn else 'seeds'}"


def components_table(results: StudyResults) -> DataTable:
    """One row per method and source: standard deviations of the test accuracies, with intervals."""
    rows: list[tuple[str, ...]] = []
    for method in results.summary.methods:
        for source in dict.fromkeys(one.source for one in method.components):
            found = {one.metric: one for one in method.components if one.source == source}
            first = next(iter(found.values()))
            cells = [_cell(found.get(metric)) for _, metric in _COLUMNS]
            runs = "not used" if not first.runs else str(first.runs)
            rows.append((method.label, _name(first), *cells, runs))
    columns = ("Method", "Drawn again", *(heading for heading, _ in _COLUMNS), "Runs")
    return DataTable(
        f"Standard deviation of the test accuracy in points, with its "
        f"{whole_percent(results.summary.confidence)} interval",
        columns,
        tuple(rows),
        frozenset(range(2, len(columns))),
    )


def component_notes(results: StudyResults) -> list[str]:
    """How to read the table; empty where there is none."""
    components = [one for method in results.summary.methods for one in method.components]
    if not components:
        return []
    severity = target_severity(results.summary)
    where = f" Shifted accuracy: {mix_phrase(severity)}." if severity is not None else ""
    said = [
        "A row says by how much the accuracy changes if that source alone is drawn again and all else stays "
        f"(total effect, from final runs repeated with one seed replaced; Jansen 1999).{where}",
        f"“{_ALL}” is the spread of the final runs. Where sources act together, each of them counts what they "
        "make together, so that squared deviations may add up to more than that of all.",
        "Intervals take effects to be normal (chi-squared); with few runs they are wide, and the plain numbers "
        "say little without them.",
    ]
    if any(one.same_examples and one.runs for one in components):
        said.append(
            "What the finite number of test examples makes of a difference is subtracted where both runs were "
            "tested on the same ones."
        )
    if not all(one.same_examples for one in components):
        said.append(
            "Runs on other data have other test examples: their rows contain the draw of the test examples, and "
            "nothing is subtracted."
        )
    if any(not one.runs for one in components):
        said.append(
            "Not used: the method trains without pairs, so that drawing others changes nothing in its accuracy."
        )
    return said


def _name(component: VarianceComponent) -> str:
    name = _ALL if component.source == "all" else component.source
    return name if component.same_examples else f"{name}, test examples included"


def _cell(component: VarianceComponent | None) -> str:
    if component is None or not finite(component.deviation):
        return MISSING
    if not component.runs:
        return "0"
    low, high = 100 * component.low, 100 * component.high
    return f"{100 * component.deviation:.1f} ({low:.1f} to {high:.1f})"
