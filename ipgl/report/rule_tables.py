"""Tables of the audit of selection rules: what each would have chosen, and how it ranks the trials."""

from __future__ import annotations

import math

from ipgl.evaluation.study_summary import RuleAudit, StudyResults
from ipgl.report.formatting import MISSING, finite, number, percent, points
from ipgl.report.tables import DataTable


def rules_table(results: StudyResults) -> DataTable:
    """What each selection rule would have chosen, and what that was worth on the test split."""
    labels = [method.label for method in results.summary.methods]
    rows = []
    for audit in results.summary.rules:
        regrets = {choice.label: choice.regret for choice in audit.choices}
        worst = max((value for value in regrets.values() if finite(value)), default=math.nan)
        mean = sum(regrets.values()) / len(regrets) if regrets else math.nan
        within = within_methods(audit)
        needs = (
            "the test split (an oracle)"
            if audit.oracle
            else "validation groups"
            if audit.needs_groups
            else "pairs"
        )
        rows.append(
            (
                audit.rule,
                "labels" if audit.rule == "average" else needs,
                number(audit.spearman),
                number(sum(within) / len(within)) if within else MISSING,
                number(min(within)) if within else MISSING,
                points(mean) if finite(mean) else MISSING,
                points(worst) if finite(worst) else MISSING,
                str(audit.trials),
            )
        )
    return DataTable(
        f"Selection rules over {len(labels)} methods",
        (
            "Rule",
            "Reads",
            "Spearman, pooled",
            "Within methods, mean",
            "Within methods, lowest",
            "Mean regret",
            "Largest regret",
            "Trials",
        ),
        tuple(rows),
        frozenset(range(2, 8)),
    )


def choices_table(results: StudyResults) -> DataTable:
    """The trial that each selection rule would have chosen for each method, with its test accuracy."""
    numbers = {run.trial: run.number for run in results.runs}
    rules = results.summary.rules
    rows = []
    for method in results.summary.methods:
        cells = []
        for audit in rules:
            choice = next((c for c in audit.choices if c.label == method.label), None)
            if choice is None:
                cells.append(MISSING)
            else:
                name = f"trial {numbers[choice.trial]}" if choice.trial in numbers else choice.trial
                cells.append(f"{percent(choice.shifted_accuracy)} ({name})")
        rows.append((method.label, *cells))
    return DataTable(
        "Test accuracy at the target severity of the trial that each rule would have chosen",
        ("Method", *(audit.rule for audit in rules)),
        tuple(rows),
        frozenset(range(1, 1 + len(rules))),
    )


def within_table(results: StudyResults) -> DataTable:
    """How each selection rule ranked each method's own trials; no rows where no rule's ranking is known."""
    rules = results.summary.rules
    known = any(within_methods(audit) for audit in rules)
    rows = tuple(
        (method.label, *(number(audit.within.get(method.label, math.nan)) for audit in rules))
        for method in results.summary.methods
    )
    return DataTable(
        "Spearman within each method: the rule's value against the test accuracy at the target severity",
        ("Method", *(audit.rule for audit in rules)),
        rows if known else (),
        frozenset(range(1, 1 + len(rules))),
    )


def within_methods(audit: RuleAudit) -> list[float]:
    """The rule's rank correlations within methods, as far as they are known."""
    return [value for value in audit.within.values() if finite(value)]
