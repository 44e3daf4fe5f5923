"""Detection of runs that are no better than guessing, and the remarks on them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.study_summary import MethodSummary

NO_BETTER = "no better than guessing"


def is_guessing(run: RunResult) -> bool:
    """Whether the run's last validation predictions show no skill (`ipgl.evaluation.kappa`).

    A result from before kappa was recorded counts as guessing where it predicted one class only.
    """
    return run.validation.get("guessing", run.validation.get("collapsed", 0.0)) == 1.0


def guessing_words(method: MethodSummary) -> str:
    """Remark to append to the method's name; empty if its winner and all its final runs show skill."""
    finals = len(method.final_runs)
    if 0 < method.guessing_finals < finals:
        return f"{NO_BETTER} in {method.guessing_finals} of {finals} final runs"
    if method.guessing_finals or (method.guessing and not finals):
        return NO_BETTER
    return f"{NO_BETTER} in its search" if method.guessing else ""


def guessing_remarks(methods: Iterable[MethodSummary], runs: Sequence[RunResult]) -> list[str]:
    """A sentence for each method whose winner is guessing, and for each with final runs that do.

    Args:
        methods: The study's methods.
        runs: All runs of the study.
    """
    remarks = []
    for method in methods:
        if method.guessing:
            own = [run for run in runs if run.label == method.label and run.phase == "search"]
            completed = [run for run in own if run.status == "completed"]
            reason = (
                f": so is every one of its {len(completed)} completed search trials"
                if len(completed) > 1 and all(map(is_guessing, completed))
                else ""
            )
            remarks.append(f"The winner of {method.label} is {NO_BETTER} on the validation split{reason}.")
        if method.guessing_finals:
            remarks.append(
                f"Of the {len(method.final_runs)} final runs of {method.label}, {method.guessing_finals} "
                f"{'is' if method.guessing_finals == 1 else 'are'} {NO_BETTER} on the validation split."
            )
    return remarks
