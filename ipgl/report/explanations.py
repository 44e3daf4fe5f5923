"""Text of the report: facts about the study, notes on reading its numbers, commands to reproduce it."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence

import yaml

from ipgl.core.durations import duration
from ipgl.core.redaction import redacted
from ipgl.evaluation.guessing import NO_BETTER, guessing_words
from ipgl.evaluation.kappa import LEVEL
from ipgl.evaluation.study_summary import StudyResults, StudySummary
from ipgl.report.budget import budget_notes
from ipgl.report.formatting import counted, finite, mix_phrase, percent, whole_percent
from ipgl.report.result_queries import curve_points, empty_groups, mixture_of, study_configs, target_severity
from ipgl.report.significance import best_baseline


def facts(results: StudyResults) -> list[tuple[str, str]]:
    """Key facts of the study, as (name, value)."""
    summary = results.summary
    finished = max((run.finished_at for run in results.runs), default=0.0)
    named = [
        ("Data set", _names(summary, "dataset")),
        ("Model", _names(summary, "model")),
        ("Selection rule", summary.selection),
        ("Runs", _run_counts(results)),
        ("Wall time", duration(summary.seconds)),
        ("Finished", time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(finished)) if finished > 0 else ""),
    ]
    return [(name, str(value)) for name, value in named if value]


def remarks(summary: StudySummary) -> list[str]:
    """Remarks on the validity of the results."""
    return [redacted(remark) for remark in summary.remarks]


def missing_curve(summary: StudySummary, curve: str) -> list[str]:
    """Methods with final runs but without this curve."""
    return [
        method.label for method in summary.methods if method.final_runs and not curve_points(method, curve)
    ]


def notes(results: StudyResults) -> list[str]:
    """Notes on how to read the table's numbers."""
    summary = results.summary
    said = [
        f"Means over the final seeds with {whole_percent(summary.confidence)} intervals for other seeds and other test "
        "examples (Student's t, variances between runs and between examples)."
    ]
    if any(len(method.final_runs) == 1 for method in summary.methods):
        said.append(
            "With one final seed an interval speaks of that trained model alone, and methods are not tested."
        )
    said.append(
        "The worst group is the one with the lowest mean. The lowest of several measured accuracies is on average "
        "below the lowest true one; its interval allows for that, its mean does not."
    )
    if len(summary.methods) > 1:
        said.append("Bold marks a column's highest mean, whether or not it can be told from the next.")
    said.extend(_test_notes(summary))
    said.extend(budget_notes(results))
    if finite(summary.chance):
        said.append(
            f"Guessing by the test split's class shares reaches {percent(summary.chance)}: the tick on each bar."
        )
    if any(guessing_words(method) for method in summary.methods):
        said.append(
            f"{NO_BETTER.capitalize()}: on the validation split one class alone is predicted, or Cohen's kappa is "
            f"not above 0 (one-sided test at {whole_percent(LEVEL)})."
        )
    empty = empty_groups(results)
    if empty:
        groups = ", ".join(f"label {group.label} with attribute {group.attribute}" for group in empty[:8])
        more = f" and {len(empty) - 8} more" if len(empty) > 8 else ""
        said.append(
            f"The test split has no examples of {groups}{more}; what depends on them is left blank, not 0."
        )
    return said


def _test_notes(summary: StudySummary) -> list[str]:
    baseline = best_baseline(summary)
    if baseline is None:
        return []
    target = target_severity(summary)
    where = f" {mix_phrase(target, mixture_of(summary))}" if target is not None else " at the target severity"
    alpha = f"{1 - summary.confidence:.4g}"
    pairs = sum(finite(test.p_value) for test in summary.tests)
    family = f"the {pairs} pairs of methods" if pairs > 1 else "the one pair of methods"
    return [
        f"Against the best baseline: difference in test accuracy{where} to {baseline.label}, the most accurate there "
        "of all methods but IPG, with seeds and test examples both random (Welch's t test; shared test examples are "
        "paired).",
        f"Interval and p-value are corrected for {family} (Holm), as the best baseline is found by the same numbers; "
        f"significant: p < {alpha}, which is when the interval excludes 0.",
    ]


def provenance(summary: StudySummary) -> list[tuple[str, str]]:
    """Hashes, versions and place of the study, as (name, value)."""
    return [
        ("Configuration, SHA-256", summary.config_hash or "not recorded"),
        ("Data fingerprint", summary.data_fingerprint or "not recorded"),
        *((str(name), str(value)) for name, value in redacted(summary.environment).items() if value),
        *([] if summary.environment else [("Environment", "not recorded")]),
    ]


def commands(summary: StudySummary) -> list[str]:
    """Shell commands that reproduce the study and this report."""
    names = list(study_configs(summary))
    revision = str(summary.environment.get("git_revision", "")).removesuffix("+changes")
    checkout = [f"git checkout {revision}"] if revision.isalnum() else []
    runs = [f"ipgl study run {name}.yaml" for name in names]
    return [*checkout, *runs, *([f"ipgl compare {' '.join(names)}"] if len(names) > 1 else [])]


def had_changes(summary: StudySummary) -> bool:
    """Whether the study ran with uncommitted changes."""
    return str(summary.environment.get("git_revision", "")).endswith("+changes")


def configurations(summary: StudySummary) -> list[tuple[str, str]]:
    """(study, its full configuration as YAML) of every study in the report."""
    return [(name, as_yaml(config)) for name, config in study_configs(summary).items()]


def as_yaml(data: Mapping[str, object]) -> str:
    """The data as YAML, credentials masked."""
    plain = json.loads(json.dumps(redacted(data), default=str))  # YAML has no word for a tuple or a path
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100)


def _names(summary: StudySummary, section: str) -> str:
    sections = [config.get(section) for config in study_configs(summary).values()]
    names = [str(held["name"]) for held in sections if isinstance(held, Mapping) and held.get("name")]
    return ", ".join(dict.fromkeys(names))


def _run_counts(results: StudyResults) -> str:
    found = Counter(run.phase for run in results.runs)
    repeated = f", {found['component']} component" if found["component"] else ""
    return f"{found['search']} search, {found['final']} final{repeated}"


def stops(results: StudyResults) -> list[str]:
    """Search trials that were stopped early, by reason: `12 runs by the scheduler (erm 3, ipg 9)`."""
    by_reason: dict[str, list[str]] = {}
    for run in results.runs:
        if run.status == "stopped":
            by_reason.setdefault(redacted(run.stop_reason) or "by the scheduler", []).append(run.label)
    return [
        f"{counted(len(labels), 'run')}, {reason} ({_tally(labels)})" for reason, labels in by_reason.items()
    ]


def _tally(labels: Sequence[str]) -> str:
    return ", ".join(f"{label} {labels.count(label)}" for label in dict.fromkeys(labels))
