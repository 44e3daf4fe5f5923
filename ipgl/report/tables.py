"""Rows of the report's tables, each the text alternative of a figure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

from ipgl.core.redaction import redacted
from ipgl.evaluation.curve_types import MIXTURE, MIXTURES
from ipgl.evaluation.guessing import NO_BETTER, is_guessing
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import Estimate, StudyResults
from ipgl.report.figures import invariance_places, score_path
from ipgl.report.formatting import (
    EMPTY,
    MISSING,
    finite,
    number,
    percent,
    percent_range,
    setting,
    whole_percent,
)
from ipgl.report.result_queries import (
    ACCURACY,
    FLIP_RATE,
    KAPPA,
    attribute_name,
    class_name,
    curve_points,
    curve_type_of,
    mixture_of,
    pareto_front,
    point_at,
    search_runs,
    severities,
    validation,
    winner_keys,
)

Value: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class DataTable:
    """A plain table; the first column names the row.

    Attributes:
        rows: Texts in a table for readers; in one for programs unrounded values, None or NaN where there is none.
        numeric: Columns (by place) that hold numbers and are set right-aligned.
        marked: (row, column) of highlighted cells.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    numeric: frozenset[int] = frozenset()
    marked: frozenset[tuple[int, int]] = frozenset()


def curve_table(results: StudyResults, curve: str | None = None) -> DataTable:
    """A robustness figure in numbers; without a name that of the curve that methods are compared on."""
    curve = curve or mixture_of(results.summary)
    methods = results.summary.methods
    curve_type = curve_type_of(curve)
    rows = []
    for severity in severities(results.summary, curve):
        cells = []
        for method in methods:
            point = point_at(curve_points(method, curve), severity)
            if point is None:
                cells.append(MISSING)
            elif not finite(point.accuracy):
                cells.append(EMPTY)
            else:
                cells.append(f"{percent(point.accuracy)} ({percent_range(point.low, point.high)})")
        if curve == MIXTURE:
            rows.append((whole_percent(severity), whole_percent(1 - severity), *cells))
        else:
            rows.append((whole_percent(severity) if curve_type.shares else f"{severity:g}", *cells))
    value = "Test accuracy" if curve in MIXTURES else f"{curve_type.value[:1].upper()}{curve_type.value[1:]}"
    axis = (
        ("Bias-conflicting", "Agreement")
        if curve == MIXTURE
        else (f"{curve_type.axis[:1].upper()}{curve_type.axis[1:]}",)
    )
    return DataTable(
        f"{value} with its interval, in percent",
        (*axis, *(method.label for method in methods)),
        tuple(rows),
        frozenset(range(len(axis) + len(methods))),
    )


def invariance_table(results: StudyResults) -> DataTable:
    """Accuracy against invariance in numbers."""
    places = invariance_places(results)
    front = set(pareto_front([(flip.mean, accuracy.mean) for _, flip, accuracy in places]))
    rows = tuple(
        (
            method.label,
            f"{percent(flip.mean)} ({percent_range(flip.low, flip.high)})",
            f"{percent(accuracy.mean)} ({percent_range(accuracy.low, accuracy.high)})",
            "yes" if place in front else "no",
        )
        for place, (method, flip, accuracy) in enumerate(places)
    )
    columns = ("Method", "Flip rate", "In-distribution accuracy", "On the Pareto front")
    return DataTable("Final runs: mean with interval, in percent", columns, rows, frozenset({1, 2}))


def groups_table(results: StudyResults) -> DataTable:
    """Each group's test accuracy by method, with its number of examples; each method's lowest is marked."""
    summary = results.summary
    methods = [method for method in summary.methods if method.groups]
    # In a comparison of studies the groups may differ in size; then each size is a row of its own.
    found = {
        (group.label, group.attribute, group.count, group.training_count): group
        for method in methods
        for group in method.groups
    }
    keys = sorted(found)
    roles = any(group.aligned is not None for group in found.values())
    rows, values = [], []
    for key in keys:
        group = found[key]
        own = [
            next(
                (g.accuracy for g in m.groups if (g.label, g.attribute, g.count, g.training_count) == key),
                None,
            )
            for m in methods
        ]
        values.append([accuracy.mean if accuracy is not None else math.nan for accuracy in own])
        rows.append(
            (
                f"{class_name(summary, group.label)}, {attribute_name(summary, group.attribute)}",
                *([_role(group.aligned)] if roles else []),
                str(group.training_count),
                str(group.count),
                *(_group_text(accuracy) for accuracy in own),
            )
        )
    lowest = {
        (row.index(low), column)
        for column, row in enumerate(zip(*values, strict=True))
        if len(known := [value for value in row if finite(value)]) > 1
        for low in [min(known)]
    }
    about = ("Group", *(["Role"] if roles else []), "Training examples", "Test examples")
    columns = (*about, *(method.label for method in methods))
    return DataTable(
        "Test accuracy of each group with its interval, in percent; each method's lowest in bold",
        columns,
        tuple(rows),
        frozenset(range(len(about) - 2, len(columns))),
        frozenset((row, len(about) + column) for row, column in lowest),
    )


def trials_table(results: StudyResults) -> DataTable:
    """The search's trials in numbers."""
    winners = winner_keys(results.summary)
    rows = tuple(
        (
            str(run.number),
            run.label,
            outcome(run, winners),
            number(run.score),
            number(validation(run, KAPPA)),
            percent(validation(run, ACCURACY)),
            percent(validation(run, FLIP_RATE)),
            ", ".join(f"{k} {setting(v)}" for k, v in redacted(run.hyperparameters).items())
            or "none searched",
        )
        for run in search_runs(results)
    )
    columns = (
        "Trial",
        "Method",
        "Outcome",
        "Score",
        "Validation kappa",
        "Validation accuracy",
        "Flip rate",
        "Hyperparameters",
    )
    return DataTable(
        "Search trials, in the order in which they started", columns, rows, frozenset({3, 4, 5, 6})
    )


def learning_table(results: StudyResults) -> DataTable:
    """The learning curves in numbers."""
    winners = winner_keys(results.summary)
    rows = []
    for run in search_runs(results):
        path = score_path(results, run)
        scores = ", ".join(f"{epoch:g}: {number(score)}" for epoch, score in path) or "never evaluated"
        rows.append((str(run.number), run.label, outcome(run, winners), scores))
    columns = ("Trial", "Method", "Outcome", "Epoch: selection score")
    return DataTable("Selection score after each evaluation", columns, tuple(rows))


def _role(aligned: bool | None) -> str:
    return MISSING if aligned is None else "aligned" if aligned else "conflicting"


def _group_text(accuracy: Estimate | None) -> str:
    if accuracy is None:
        return MISSING
    if not finite(accuracy.mean):
        return EMPTY
    return f"{percent(accuracy.mean)} ({percent_range(accuracy.low, accuracy.high)})"


def outcome(run: RunResult, winners: set[str]) -> str:
    """How the trial ended, whether it is no better than guessing, whether it won."""
    words: list[str] = [run.status]
    if run.status == "completed" and is_guessing(run):
        words.append(NO_BETTER)
    if run.trial in winners:
        words.append("winner")
    return ", ".join(words)
