"""Search and training budget of each method, and remarks where budgets differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ipgl.config.ranges import width_text
from ipgl.core.redaction import redacted
from ipgl.evaluation.study_summary import MethodBudget, StudyResults
from ipgl.report.formatting import listed, setting
from ipgl.report.tables import DataTable


def budget_table(results: StudyResults) -> DataTable:
    """One row per method whose budget is known."""
    rows = tuple(
        (method.label, *_cells(method.budget)) for method in results.summary.methods if method.budget
    )
    columns = (
        "Method",
        "Trials",
        "Epochs of a trial",
        "Steps of all trials",
        "Searched, with the width of the range",
        "Set by hand",
        "Known points",
        "Pairs to train",
        "Training labels",
        "Selection reads",
    )
    return DataTable("What each method was given", columns, rows, frozenset({2, 3, 6, 7}))


def _cells(budget: MethodBudget) -> tuple[str, ...]:
    ended = [f"{count} {status}" for status, count in budget.ended.items() if count]
    searched = [
        f"{found.name} {found.range} ({width_text(found.width, found.unit)})" for found in budget.searched
    ]
    fixed = [f"{name} {setting(value)}" for name, value in redacted(budget.fixed).items()]
    reads = [_counted_pairs(budget) if what == "held-out pairs" else what for what in budget.selection_reads]
    return (
        f"{budget.trials} planned" + (f": {', '.join(ended)}" if ended else ""),
        "searched" if budget.epochs is None else str(budget.epochs),
        f"{budget.steps:,}",
        "; ".join(searched) or "nothing",
        "; ".join(fixed) or "nothing",
        str(budget.starts),
        "all but the held-out" if budget.training_pairs is None else f"{budget.training_pairs:,}",
        ", ".join(budget.training_labels),
        ", ".join(reads),
    )


def _counted_pairs(budget: MethodBudget) -> str:
    return "held-out pairs" if budget.held_out_pairs is None else f"{budget.held_out_pairs:,} held-out pairs"


def budget_notes(results: StudyResults) -> list[str]:
    """Sentences on differences of budgets between methods; empty where no budget is known."""
    budgets = {method.label: method.budget for method in results.summary.methods if method.budget}
    selected = {label: budget for label, budget in budgets.items() if budget.selected_by_pairs}
    without = [label for label, budget in selected.items() if budget.training_pairs == 0]
    said = []
    if without:
        said.append(
            f"Trained without pairs, but selected by held-out pairs: {listed(without)}. Without any pairs their "
            "settings would be chosen by another rule, and may be worse."
        )
    more = [
        f"{label} ({budget.training_pairs:,} and {budget.held_out_pairs:,})"
        for label, budget in selected.items()
        if budget.training_pairs and (budget.held_out_pairs or 0) > budget.training_pairs
    ]
    if more:
        said.append(f"Selection reads more pairs than training may use: {listed(more)}.")
    said += _unequal(budgets, "search trials planned", lambda budget: budget.trials)
    said += _unequal(budgets, "known points tried first", lambda budget: budget.starts)
    return said + _pair_note(results)


def _unequal(
    budgets: Mapping[str, MethodBudget], what: str, amount: Callable[[MethodBudget], int]
) -> list[str]:
    """A sentence with each method's amount, or empty if all amounts are equal."""
    groups: dict[int, list[str]] = {}
    for label, budget in budgets.items():
        groups.setdefault(amount(budget), []).append(label)
    if len(groups) < 2:
        return []
    given = [f"{count} for {listed(labels)}" for count, labels in sorted(groups.items())]
    return [f"Methods differ in {what}: {'; '.join(given)}."]


def _pair_note(results: StudyResults) -> list[str]:
    """Which methods' flip rates were measured on the same held-out pairs, unless all were."""
    finals = {run.trial: run for run in results.runs if run.data_fingerprint}
    groups: list[tuple[dict[int, str], list[str]]] = []
    for method in results.summary.methods:
        runs = [finals[key] for key in method.final_runs if key in finals]
        if not runs:
            continue
        data = {run.seed: run.data_fingerprint for run in runs}
        # Seeds that only one of two methods has do not count as a difference of their data.
        same = next(
            (g for g in groups if all(g[0].get(seed, found) == found for seed, found in data.items())), None
        )
        if same is None:
            groups.append((data, [method.label]))
        else:
            same[1].append(method.label)
    if len(groups) < 2:
        return []
    return [
        "Flip rates and interpolation curves are measured on a method's own held-out pairs, which are the same only "
        f"within each of these: {'; '.join(listed(labels) for _, labels in groups)}."
    ]
