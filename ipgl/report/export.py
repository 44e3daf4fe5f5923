"""Export of the report's tables as CSV or Parquet: one file per table, unrounded numbers."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from ipgl.core.atomic_files import write_atomically, write_text
from ipgl.core.redaction import redacted
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import Estimate, StudyResults
from ipgl.report.explanations import remarks
from ipgl.report.figures import invariance_places
from ipgl.report.formatting import setting
from ipgl.report.result_queries import (
    attribute_name,
    cause_of,
    class_name,
    curve_names,
    curve_points,
    pareto_front,
    winner_keys,
)
from ipgl.report.rule_tables import within_methods
from ipgl.report.significance import against_baseline, best_baseline
from ipgl.report.tables import DataTable, Value

Row = dict[str, Value]
Format = Literal["csv", "parquet"]


def report_tables(results: StudyResults) -> dict[str, DataTable]:
    """Every table by name; numbers are unrounded fractions, and mean, low and high are columns of their own."""
    tables: dict[str, tuple[str, Callable[[StudyResults], Iterable[Row]]]] = {
        "methods": ("One row per method: winner, test metrics, comparison with the best baseline", _methods),
        "curves": ("One row per method, curve and severity", _curves),
        "groups": ("One row per method and group", _groups),
        "differences": (
            "One row per pair of methods and severity of the mixture curve that they share",
            _differences,
        ),
        "tests": ("One row per pair of methods: tests on the shifted accuracy, alone and corrected", _tests),
        "components": ("One row per method, source of randomness and test accuracy", _components),
        "invariance": ("One row per method: flip rate and in-distribution accuracy", _invariance),
        "runs": ("One row per run: times, outcome, settings and metrics", _runs),
        "history": ("One row per run and evaluation", _history),
        "importances": ("One row per method and searched setting", _importances),
        "budgets": ("One row per method: trials, pairs and labels that it was given", _budgets),
        "ranges": ("One row per method and searched setting", _ranges),
        "rules": ("One row per selection rule", _rules),
        "choices": ("One row per selection rule and method", _choices),
        "rankings": ("One row per selection rule and method: Spearman within the method", _rankings),
        "remarks": ("What to know before trusting the numbers", _remarks),
    }
    return {name: _table(caption, list(rows(results))) for name, (caption, rows) in tables.items()}


def write_tables(results: StudyResults, folder: Path, format: Format) -> list[Path]:
    """Write every table that has rows to `folder/<name>.<format>`, each atomically.

    Raises:
        OSError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write = _write_csv if format == "csv" else _write_parquet
    tables = report_tables(results)
    return [write(table, folder / f"{name}.{format}") for name, table in tables.items() if table.rows]


def _table(caption: str, rows: Sequence[Row]) -> DataTable:
    columns = tuple(dict.fromkeys(name for row in rows for name in row))
    kinds = [_column_type([row.get(name) for row in rows]) for name in columns]
    return DataTable(
        caption,
        columns,
        tuple(
            tuple(_converted(kind, row.get(name)) for kind, name in zip(kinds, columns, strict=True))
            for row in rows
        ),
        frozenset(i for i, kind in enumerate(kinds) if kind in (int, float)),
    )


def _column_type(values: Sequence[Value]) -> type:
    """The type that holds a column's values; text where they have none in common."""
    kinds = {type(value) for value in values if value is not None}
    if kinds and kinds <= {int, float}:
        return float if float in kinds else int
    return bool if kinds == {bool} else str


def _converted(kind: type, value: Value) -> Value:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if kind is float and not isinstance(value, str):
        return float(value)
    return setting(value) if kind is str else value


def _write_csv(table: DataTable, path: Path) -> Path:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return write_text(path, text.getvalue())


def _write_parquet(table: DataTable, path: Path) -> Path:
    import pyarrow as pa  # a third of a second, needed for this format alone
    import pyarrow.parquet as pq

    columns = {name: [row[i] for row in table.rows] for i, name in enumerate(table.columns)}
    return write_atomically(path, lambda file: pq.write_table(pa.table(columns), file))


def _estimate(name: str, estimate: Estimate) -> Row:
    return {name: estimate.mean, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _prefixed(prefix: str, values: Mapping[str, object]) -> Row:
    plain = (str, int, float, bool, type(None))
    return {f"{prefix}{k}": v if isinstance(v, plain) else setting(v) for k, v in redacted(values).items()}


def _methods(results: StudyResults) -> Iterable[Row]:
    summary = results.summary
    baseline, against = best_baseline(summary), against_baseline(summary)
    for method in summary.methods:
        row: Row = {
            "label": method.label,
            "method": method.method,
            "needs": method.needs,
            "winner": method.winner,
            "score": method.score,
            "final_seeds": len(method.final_runs),
            "guessing": method.guessing,
            "guessing_finals": method.guessing_finals,
        }
        row |= {
            f"trials_{status}": method.counts.get(status, 0) for status in ("completed", "stopped", "failed")
        }
        for name, estimate in method.estimates.items():
            row |= _estimate(name, estimate)
        row["best_baseline"] = baseline.label if baseline else None
        if method.label in against:
            found = against[method.label]
            row |= _estimate("against_baseline", found.difference)
            row |= {"against_baseline_p_value": found.p_value, "significant": found.significant}
        yield row | _prefixed("setting/", method.hyperparameters)


def _curves(results: StudyResults) -> Iterable[Row]:
    for curve in curve_names(results.summary):
        for method in results.summary.methods:
            for p in curve_points(method, curve):
                value = Estimate(mean=p.accuracy, low=p.low, high=p.high)
                yield {
                    "curve": curve,
                    "label": method.label,
                    "severity": p.severity,
                    **_estimate("value", value),
                }


def _groups(results: StudyResults) -> Iterable[Row]:
    for method in results.summary.methods:
        for group in method.groups:
            yield {
                "label": method.label,
                "class": group.label,
                "class_name": class_name(results.summary, group.label),
                "attribute": group.attribute,
                "attribute_name": attribute_name(results.summary, group.attribute),
                "aligned": group.aligned,
                "training_count": group.training_count,
                "test_count": group.count,
                **_estimate("accuracy", group.accuracy),
            }


def _differences(results: StudyResults) -> Iterable[Row]:
    for pair, found in results.summary.differences.items():
        for p in found:
            value = Estimate(mean=p.accuracy, low=p.low, high=p.high)
            yield {"difference": pair, "severity": p.severity, **_estimate("value", value)}


def _tests(results: StudyResults) -> Iterable[Row]:
    for test in results.summary.tests:
        yield {
            "a": test.a,
            "b": test.b,
            **_estimate("difference", test.difference),
            "p_value": test.p_value,
            **_estimate("corrected", test.corrected),
            "corrected_p_value": test.corrected_p_value,
            "degrees_of_freedom": test.degrees_of_freedom,
            "p_value_of_trained_models": test.p_value_of_trained_models,
        }


def _components(results: StudyResults) -> Iterable[Row]:
    for method in results.summary.methods:
        for one in method.components:
            yield {"label": method.label, **one.model_dump()}


def _invariance(results: StudyResults) -> Iterable[Row]:
    places = invariance_places(results)
    front = pareto_front([(flip.mean, accuracy.mean) for _, flip, accuracy in places])
    for place, (method, flip, accuracy) in enumerate(places):
        row = {"label": method.label, **_estimate("flip_rate", flip), **_estimate("accuracy", accuracy)}
        yield row | {"on_front": place in front}


def _runs(results: StudyResults) -> Iterable[Row]:
    winners = winner_keys(results.summary)
    for run in results.runs:
        yield _run(run, run.trial in winners)


def _run(run: RunResult, wins: bool) -> Row:
    row: Row = {
        "trial": run.trial,
        "label": run.label,
        "method": run.method,
        "phase": run.phase,
        "number": run.number,
        "seed": run.seed,
        "status": run.status,
        "winner": wins,
        "cause": redacted(cause_of(run)) or None,
        "score": run.score,
        "started_at": run.started_at or None,
        "finished_at": run.finished_at or None,
        "train_seconds": run.train_seconds,
        "steps": run.steps,
        "config_hash": run.config_hash,
        "data_fingerprint": run.data_fingerprint,
    }
    validation = {name.removeprefix("validation/"): value for name, value in run.validation.items()}
    metrics = {name.removeprefix("test/"): value for name, value in run.metrics.items()}
    return (
        row
        | _prefixed("setting/", run.hyperparameters)
        | _prefixed("validation/", validation)
        | _prefixed("test/", metrics)
    )


def _history(results: StudyResults) -> Iterable[Row]:
    labels = {run.trial: run.label for run in results.runs}
    for trial, rows in results.histories.items():
        for row in rows:
            yield {"trial": trial, "label": labels.get(trial), **row}


def _importances(results: StudyResults) -> Iterable[Row]:
    for method in results.summary.methods:
        for name, importance in method.importances.items():
            yield {"label": method.label, "setting": name, "importance": importance}


def _budgets(results: StudyResults) -> Iterable[Row]:
    for method in results.summary.methods:
        budget = method.budget
        if budget is None:
            continue
        yield {
            "label": method.label,
            "method": method.method,
            "trials": budget.trials,
            **{f"trials_{status}": count for status, count in budget.ended.items()},
            "epochs": budget.epochs,
            "steps": budget.steps,
            "starts": budget.starts,
            "training_pairs": budget.training_pairs,
            "held_out_pairs": budget.held_out_pairs,
            "training_labels": ", ".join(budget.training_labels),
            "selection_reads": ", ".join(budget.selection_reads),
            **_prefixed("fixed/", budget.fixed),
        }


def _ranges(results: StudyResults) -> Iterable[Row]:
    for method in results.summary.methods:
        for found in method.budget.searched if method.budget else ():
            yield {
                "label": method.label,
                "setting": found.name,
                "range": found.range,
                "width": found.width,
                "unit": found.unit,
            }


def _rules(results: StudyResults) -> Iterable[Row]:
    for audit in results.summary.rules:
        within = within_methods(audit)
        yield {
            "rule": audit.rule,
            "needs_groups": audit.needs_groups,
            "oracle": audit.oracle,
            "trials": audit.trials,
            "spearman": audit.spearman,
            "spearman_within_mean": sum(within) / len(within) if within else math.nan,
            "spearman_within_lowest": min(within, default=math.nan),
        }


def _choices(results: StudyResults) -> Iterable[Row]:
    for audit in results.summary.rules:
        for choice in audit.choices:
            yield {
                "rule": audit.rule,
                "label": choice.label,
                "trial": choice.trial,
                "shifted_accuracy": choice.shifted_accuracy,
                "regret": choice.regret,
            }


def _rankings(results: StudyResults) -> Iterable[Row]:
    for audit in results.summary.rules:
        for label, spearman in audit.within.items():
            yield {"rule": audit.rule, "label": label, "spearman": spearman}


def _remarks(results: StudyResults) -> Iterable[Row]:
    for remark in remarks(results.summary):
        yield {"remark": remark}
