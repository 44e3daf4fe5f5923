"""The table of results: one row per method."""

from __future__ import annotations

from dataclasses import dataclass

from ipgl.core.redaction import redacted
from ipgl.evaluation.guessing import guessing_words
from ipgl.evaluation.study_summary import MethodSummary, StudyResults
from ipgl.report.formatting import (
    EMPTY,
    MISSING,
    finite,
    mix_heading,
    number,
    p_value,
    percent,
    percent_range,
    points_range,
    setting,
    signed_points,
    whole_percent,
)
from ipgl.report.result_queries import (
    AVERAGE,
    WORST_GROUP,
    WORST_NONEMPTY_GROUP,
    curve_points,
    estimate,
    mixture_of,
    point_at,
    severities,
)
from ipgl.report.significance import against_baseline, best_baseline
from ipgl.report.style import method_styles


@dataclass(frozen=True)
class Cell:
    """A mean with its interval, in words and as places (percent) on a bar from 0 to 100%.

    Attributes:
        best: Highest mean of its column.
    """

    mean: str
    interval: str = ""
    at: float | None = None
    low: float | None = None
    high: float | None = None
    best: bool = False


@dataclass(frozen=True)
class AgainstCell:
    """A method's difference to the best baseline in words; empty texts where it does not apply."""

    difference: str
    interval: str = ""
    p_value: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class MethodRow:
    """One method in the table of results.

    Attributes:
        against: Comparison with the best baseline; None in a study that has no baseline to compare with.
        guessing: `no better than guessing`, and where; empty for a method with skill.
    """

    label: str
    method: str
    needs: str
    colour: str
    cells: tuple[Cell, ...]
    against: AgainstCell | None
    seeds: int
    score: str
    settings: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, int], ...]
    guessing: str


def result_columns(results: StudyResults) -> tuple[tuple[str, str], ...]:
    """Headings of a method row's cells: what is shown, and where on the curve or over which groups."""
    curve = mixture_of(results.summary)
    return (
        *((mix_heading(s, curve), f"severity {whole_percent(s)}") for s in _ends(results)),
        ("Worst group", "lowest accuracy"),
        ("Average", "test split as it is"),
    )


def method_rows(results: StudyResults) -> list[MethodRow]:
    """One row for each method, in the study file's order; the highest mean of each column is marked."""
    methods = results.summary.methods
    styles = method_styles([method.label for method in methods])
    values = [_values(results, method) for method in methods]
    best = [_highest([value[0] for value in column]) for column in zip(*values, strict=True)]
    against = _against_cells(results)
    return [
        MethodRow(
            label=method.label,
            method=method.method,
            needs=method.needs,
            colour=styles[method.label].colour,
            cells=tuple(_cell(*value, best=value[0] == top) for value, top in zip(row, best, strict=True)),
            against=against.get(method.label),
            seeds=len(method.final_runs),
            score=number(method.score),
            settings=tuple((k, setting(v)) for k, v in redacted(method.hyperparameters).items()),
            counts=tuple(
                (status, method.counts.get(status, 0)) for status in ("completed", "stopped", "failed")
            ),
            guessing=guessing_words(method),
        )
        for method, row in zip(methods, values, strict=True)
    ]


def _against_cells(results: StudyResults) -> dict[str, AgainstCell]:
    baseline, found = best_baseline(results.summary), against_baseline(results.summary)
    if baseline is None:
        return {}
    cells = {}
    for method in results.summary.methods:
        if method.label == baseline.label:
            cells[method.label] = AgainstCell("best baseline")
        elif method.label not in found:
            cells[method.label] = AgainstCell(MISSING)
        else:
            against = found[method.label]
            low, high = against.difference.low, against.difference.high
            cells[method.label] = AgainstCell(
                signed_points(against.difference.mean),
                points_range(low, high) if finite(low) and finite(high) else "no interval",
                p_value(against.p_value),
                "significant" if against.significant else "not told apart",
            )
    return cells


def _ends(results: StudyResults) -> list[float]:
    known = severities(results.summary, mixture_of(results.summary))
    return known if len(known) < 2 else [known[0], known[-1]]


def _values(results: StudyResults, method: MethodSummary) -> list[tuple[float, float, float, str]]:
    """(mean, low, high, what to say if the mean is no number) of each result column."""
    nothing = float("nan")
    values = []
    curve = mixture_of(results.summary)
    for severity in _ends(results):
        point = point_at(curve_points(method, curve), severity)
        values.append(
            (point.accuracy, point.low, point.high, EMPTY) if point else (nothing, nothing, nothing, MISSING)
        )
    for name in (WORST_GROUP, AVERAGE):
        found = estimate(method, name)
        values.append(
            (found.mean, found.low, found.high, EMPTY) if found else (nothing, nothing, nothing, MISSING)
        )
    worst, others = values[-2], estimate(method, WORST_NONEMPTY_GROUP)
    if worst[3] == EMPTY and others is not None and finite(others.mean):
        # A group without examples leaves the worst group unknown; the lowest of the others does not replace it.
        values[-2] = (*worst[:3], f"{EMPTY} in one group; lowest of the others {percent(others.mean)}")
    return values


def _highest(means: list[float]) -> float | None:
    """The highest mean; None where there are not two to compare."""
    known = [mean for mean in means if finite(mean)]
    return max(known) if len(known) > 1 else None


def _cell(mean: float, low: float, high: float, missing: str, *, best: bool) -> Cell:
    if not finite(mean):
        return Cell(missing)
    if not (finite(low) and finite(high)):
        return Cell(percent(mean), "no interval", _place(mean), best=best)
    return Cell(percent(mean), percent_range(low, high), _place(mean), _place(low), _place(high), best)


def _place(fraction: float) -> float:
    return round(100 * min(1.0, max(0.0, fraction)), 2)
