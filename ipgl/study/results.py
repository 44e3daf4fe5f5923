"""Results of a study from its files on storage: choice of winners, and the summary."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from ipgl.core.errors import StudyStateError
from ipgl.core.redaction import redacted
from ipgl.evaluation import (
    SELECTION_RULES,
    Comparison,
    MethodSummary,
    RunResult,
    StudyResults,
    StudySummary,
    Tested,
    compare,
    wilson_interval,
)
from ipgl.evaluation.guessing import guessing_remarks, is_guessing
from ipgl.evaluation.selection_audit import audit_rules, best_run
from ipgl.methods import METHODS
from ipgl.plan.budget import method_budget, needs_text
from ipgl.plan.final_runs import components_of
from ipgl.plan.method_plan import MethodPlan
from ipgl.plan.study_plan import StudyPlan
from ipgl.storage.study_dir import StudyFolder, study_command
from ipgl.storage.trial_dir import TrialFolder


@dataclass(frozen=True)
class EndedRuns:
    """The readable results of a study's ended runs.

    Attributes:
        runs: Folders and results, by number.
        tested: Completed final runs with their predictions, by label.
        remarks: What could not be read, one sentence each.
        repeated: Completed component runs with their predictions, by key.
    """

    runs: list[tuple[TrialFolder, RunResult]]
    tested: dict[str, list[Tested]]
    remarks: tuple[str, ...]
    repeated: dict[str, Tested] = field(default_factory=dict)

    @property
    def results(self) -> list[RunResult]:
        """The runs without their folders."""
        return [run for _, run in self.runs]


def read_runs(folder: StudyFolder) -> list[tuple[TrialFolder, RunResult]]:
    """Folders and results of all runs that have ended, by number.

    Raises:
        StudyStateError: A result is damaged.
    """
    return [(trial, result) for trial in folder.trials() if (result := trial.read_result())]


def read_ended_runs(folder: StudyFolder, labels: Iterable[str]) -> EndedRuns:
    """Read the results of all runs that have ended; runs with damaged files are left out and become remarks."""
    runs: list[tuple[TrialFolder, RunResult]] = []
    tested: dict[str, list[Tested]] = {label: [] for label in labels}
    repeated: dict[str, Tested] = {}
    damaged: list[str] = []
    for trial in folder.trials(damaged):
        try:
            result = trial.read_result()
            if result is None:
                continue
            runs.append((trial, result))
            if result.status != "completed" or result.label not in tested:
                continue
            if result.phase == "final":
                tested[result.label].append(Tested(result, trial.artifacts.read_predictions()))
            elif result.phase == "component":
                repeated[result.trial] = Tested(result, trial.artifacts.read_predictions())
        except StudyStateError as error:
            damaged.append(str(error))
    return EndedRuns(runs, tested, tuple(f"A run is left out: {what}." for what in damaged), repeated)


def choose_winners(plan: StudyPlan, folder: StudyFolder) -> dict[str, str | None]:
    """Each label's best completed search trial under the study's selection rule.

    All rules except oracles use validation metrics only. Trials that were stopped early are not considered, and one
    that is no better than guessing wins only if all are (`best_run`).
    """
    winners: dict[str, str | None] = {}
    runs = [run for _, run in read_runs(folder) if run.phase == "search" and run.status == "completed"]
    for method in plan.methods:
        own = [run for run in runs if run.label == method.label]
        winner = best_run(own, SELECTION_RULES[plan.config.search.selection])
        winners[method.label] = winner.trial if winner else None
    return winners


def summarise(plan: StudyPlan, folder: StudyFolder) -> StudyResults:
    """Compute the results of a study, for tables, figures and the tracker, from its files."""
    ended = read_ended_runs(folder, [method.label for method in plan.methods])
    return results_of(plan, folder, ended, compare(ended.tested, plan.config.evaluation))


def results_of(
    plan: StudyPlan, folder: StudyFolder, ended: EndedRuns, comparison: Comparison
) -> StudyResults:
    """The results of a study from its ended runs and the comparison of its labels."""
    winners = folder.read_winners() or {}
    methods = tuple(
        _method_summary(plan, method, ended, winners.get(method.label), comparison) for method in plan.methods
    )
    tested = [run.run for runs in ended.tested.values() for run in runs]
    state = folder.read_state() or {}
    return StudyResults(
        summary=StudySummary(
            study=plan.config.name,
            question=plan.config.question,
            selection=plan.config.search.selection,
            confidence=plan.config.evaluation.confidence,
            config=redacted(plan.config.model_dump(mode="json")),
            config_hash=plan.hash,
            data_fingerprint=tested[0].data_fingerprint if tested else "",
            environment=study_environment() | state.get("environment", {}),
            methods=methods,
            differences=comparison.differences,
            tests=comparison.tests,
            class_names=tested[0].class_names if tested else (),
            attribute_names=tested[0].attribute_names if tested else (),
            remarks=(
                *dict.fromkeys(n for run in tested for n in run.data_notes),
                *ended.remarks,
                *guessing_remarks(methods, ended.results),
                *missing_curves(methods),
            ),
            rules=audit_rules(ended.results, [method.label for method in plan.methods]),
            chance=_chance(tested[0]) if tested else math.nan,
            seconds=float(state.get("seconds", 0.0)),
        ),
        runs=tuple(ended.results),
        histories={run.trial: tuple(trial.read_history()) for trial, run in ended.runs},
        traces={
            key: tuple(folder.trial(key).read_trace()) for method in methods for key in method.final_runs[:1]
        },
    )


def _method_summary(
    plan: StudyPlan, method: MethodPlan, ended: EndedRuns, winner_key: str | None, comparison: Comparison
) -> MethodSummary:
    from ipgl.search import importances  # imports optuna

    label = method.label
    own = [run for run in ended.results if run.label == label]
    winner = next((run for run in own if run.trial == winner_key), None)
    search = [run for run in own if run.phase == "search"]
    counts = Counter(run.status for run in search)
    budget = method_budget(plan, method, search)
    return MethodSummary(
        label=label,
        method=method.method,
        needs=needs_text(METHODS[method.method].needs, budget),
        winner=winner.trial if winner else None,
        hyperparameters=winner.hyperparameters if winner else {},
        score=winner.score if winner else math.nan,
        estimates=comparison.estimates.get(label, {}),
        curves=comparison.curves.get(label, {}),
        groups=comparison.groups.get(label, ()),
        importances=importances(
            [(run.hyperparameters, run.score) for run in search if run.status != "failed"], method.space
        ),
        final_runs=tuple(tested.run.trial for tested in ended.tested[label]),
        counts={status: counts.get(status, 0) for status in ("completed", "stopped", "failed")},
        guessing=winner is not None and is_guessing(winner),
        guessing_finals=sum(is_guessing(tested.run) for tested in ended.tested[label]),
        budget=budget,
        components=components_of(plan, label, winner.hyperparameters, ended.tested[label], ended.repeated)
        if winner
        else (),
    )


def missing_curves(methods: Iterable[MethodSummary]) -> tuple[str, ...]:
    """Remarks about methods that lack a curve which another method has."""
    shown = [method for method in methods if method.curves]
    names = dict.fromkeys(name for method in shown for name in method.curves)
    return tuple(
        f"{method.label} has no curve `{name}`: at least one of its final runs was not measured for it."
        for method in shown
        for name in names
        if name not in method.curves
    )


def final_runs_json(folder: StudyFolder, confidence: float) -> str:
    """The final runs as JSON: `{"runs": [{method, seed, trial, metrics, groups, curves}]}`.

    Each group has its accuracy with Wilson's interval at level `confidence`.

    Raises:
        StudyStateError: The study has no final run yet.
    """
    runs = [run for _, run in read_runs(folder) if run.phase == "final" and run.status == "completed"]
    if not runs:
        raise StudyStateError(
            f"{folder.path}: no final run has been completed yet; `{study_command(folder, 'resume')}` goes on with it"
        )
    fields = {"metrics", "groups", "curves", "seed", "trial"}
    entries: list[dict[str, Any]] = []
    for run in runs:
        data = json.loads(run.model_dump_json(include=fields))
        for group, counts in zip(data["groups"], run.groups, strict=True):
            low, high = wilson_interval(counts.correct, counts.count, confidence)
            for name, value in (("accuracy", counts.accuracy), ("low", low), ("high", high)):
                group[name] = None if math.isnan(value) else value
        entries.append({"method": run.label, **data})
    return json.dumps({"runs": entries}, indent=1)


@lru_cache(maxsize=1)
def study_environment() -> dict[str, str]:
    """Package versions, host and git revision of this process, by name."""
    packages = {name: version(name) for name in ("ipgl", "ray", "torch", "optuna", "mlflow")}
    return {
        **packages,
        "python": platform.python_version(),
        "host": platform.node(),
        "git_revision": _revision(),
    }


def _revision() -> str:
    """Git revision of the working directory, with `+changes` if files differ from it; empty outside a repository."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout

    try:
        return git("rev-parse", "HEAD").strip() + (
            "+changes" if git("status", "--porcelain", "-uno").strip() else ""
        )
    except (OSError, subprocess.SubprocessError):
        return ""


def _chance(run: RunResult) -> float:
    """Accuracy of a constant prediction of the most frequent class in the test split."""
    sizes = Counter[int]()
    for group in run.groups:
        sizes[group.label] += group.count
    return max(sizes.values()) / max(1, sum(sizes.values()))
