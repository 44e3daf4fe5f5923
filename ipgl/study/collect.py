"""Read a study's folder back into results: winners, summary, tables. Nothing here trains."""

from __future__ import annotations

import json
import math
import platform
import subprocess
from collections import Counter
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from ipgl.errors import StudyStateError
from ipgl.evaluation import SELECTION_RULES, MethodSummary, RunResult, StudyResults, StudySummary
from ipgl.evaluation.aggregate import Tested, compare
from ipgl.evaluation.audit import audit_rules, best_run
from ipgl.methods import METHODS
from ipgl.study.folder import StudyFolder, TrialFolder
from ipgl.study.plan import StudyPlan


def read_runs(folder: StudyFolder) -> list[tuple[TrialFolder, RunResult]]:
    """Every run that has ended, in the order of their numbers."""
    return [(trial, result) for trial in folder.trials() if (result := trial.read_result())]


def choose_winners(plan: StudyPlan, folder: StudyFolder) -> dict[str, str | None]:
    """Each label's best completed search trial under the study's selection rule.

    Every rule but an oracle, which says so by its name, reads validation metrics alone. Trials that were
    stopped early compete with nobody, since they have not been trained to the end. Ties go to the earlier.
    """
    winners: dict[str, str | None] = {}
    runs = [run for _, run in read_runs(folder) if run.phase == "search" and run.status == "completed"]
    for method in plan.methods:
        own = [run for run in runs if run.label == method.label]
        winner = best_run(own, SELECTION_RULES[plan.config.search.selection])
        winners[method.label] = winner.trial if winner else None
    return winners


def summarise(plan: StudyPlan, folder: StudyFolder) -> StudyResults:
    """Everything that tables, figures and the tracker show, from what is on storage."""
    ended = read_runs(folder)
    winners = folder.read_winners() or {}
    by_key = {run.trial: run for _, run in ended}
    finals: dict[str, list[Tested]] = {method.label: [] for method in plan.methods}
    for trial, run in ended:
        if run.phase == "final" and run.status == "completed":
            finals[run.label].append(Tested(run, **trial.read_predictions()))
    comparison = compare(finals, plan.config.evaluation)
    methods = []
    for method in plan.methods:
        winner = by_key.get(winners.get(method.label) or "")
        search = [run for _, run in ended if run.label == method.label and run.phase == "search"]
        counts = Counter(run.status for run in search)
        label = method.label
        methods.append(
            MethodSummary(
                label=label,
                method=method.method,
                needs=str(METHODS[method.method].needs),
                winner=winner.trial if winner else None,
                hyperparameters=winner.hyperparameters if winner else {},
                score=winner.score if winner else math.nan,
                estimates=comparison.estimates.get(label, {}),
                curves={"mixture": comparison.curves[label]} if label in comparison.curves else {},
                final_runs=tuple(tested.run.trial for tested in finals[label]),
                counts={status: counts.get(status, 0) for status in ("completed", "stopped", "failed")},
            )
        )
    tested = [run for runs in finals.values() for run in runs]
    state = folder.read_state() or {}
    return StudyResults(
        summary=StudySummary(
            study=plan.config.name,
            question=plan.config.question,
            selection=plan.config.search.selection,
            confidence=plan.config.evaluation.confidence,
            config=plan.config.model_dump(mode="json"),
            config_hash=plan.hash,
            data_fingerprint=tested[0].run.data_fingerprint if tested else "",
            environment=study_environment(),
            methods=tuple(methods),
            differences=comparison.differences,
            rules=audit_rules([run for _, run in ended], [method.label for method in plan.methods]),
            chance=_chance(tested[0].run) if tested else math.nan,
            seconds=float(state.get("seconds", 0.0)),
        ),
        runs=tuple(run for _, run in ended),
        histories={run.trial: tuple(trial.read_history()) for trial, run in ended},
    )


def final_runs_json(folder: StudyFolder) -> str:
    """The final test runs as JSON, for programs: `{"runs": [{method, seed, trial, metrics, groups, curves}]}`.

    Raises:
        StudyStateError: The study has no final run yet.
    """
    runs = [run for _, run in read_runs(folder) if run.phase == "final" and run.status == "completed"]
    if not runs:
        raise StudyStateError(
            f"{folder.path}: no final run has been completed yet; `{folder.command('resume')}` goes on with it"
        )
    fields = {"metrics", "groups", "curves", "seed", "trial"}
    entries: list[dict[str, Any]] = []
    for run in runs:
        data = json.loads(run.model_dump_json(include=fields))
        for group, counts in zip(data["groups"], run.groups, strict=True):
            group["accuracy"] = None if math.isnan(counts.accuracy) else counts.accuracy
        entries.append({"method": run.label, **data})
    return json.dumps({"runs": entries}, indent=1)


@lru_cache(maxsize=1)
def study_environment() -> dict[str, str]:
    """Versions, host and source revision of the process that runs the study."""
    packages = {name: version(name) for name in ("ipgl", "ray", "torch", "optuna", "mlflow")}
    return {
        **packages,
        "python": platform.python_version(),
        "host": platform.node(),
        "git_revision": _revision(),
    }


def _revision() -> str:
    """The working directory's git revision, `+changes` if files differ from it; empty outside a checkout."""

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
    """Accuracy of always guessing the test split's most frequent class."""
    sizes = Counter[int]()
    for group in run.groups:
        sizes[group.label] += group.count
    return max(sizes.values()) / max(1, sum(sizes.values()))
