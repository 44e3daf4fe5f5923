"""Each method's budget in a study: trials, training steps, search ranges, start points, pairs and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ipgl.config import Range
from ipgl.config.ranges import range_text, width
from ipgl.core.flatten import flatten
from ipgl.evaluation import SELECTION_RULES, RunResult
from ipgl.evaluation.study_summary import MethodBudget, SearchedSetting
from ipgl.methods import METHODS, Needs
from ipgl.plan.method_plan import MethodPlan
from ipgl.plan.study_plan import StudyPlan


def method_budget(plan: StudyPlan, method: MethodPlan, search: Sequence[RunResult]) -> MethodBudget:
    """The budget of one label.

    Args:
        plan: The study.
        method: The label's plan.
        search: Results of the label's search trials that have ended.
    """
    needs = METHODS[method.method].needs
    ended = Counter(run.status for run in search)
    drawn = {key: space.probes[0] for key, space in method.space.items()}
    resolved = plan.trial(method.label, drawn, "search", plan.config.search.seed)
    pairs = resolved.dataset.settings.get("pairs")
    return MethodBudget(
        trials=plan.search_trials(method.label),
        ended={status: ended.get(status, 0) for status in ("completed", "stopped", "failed")},
        epochs=None if "training.epochs" in method.space else resolved.training.epochs,
        steps=sum(run.steps for run in search),
        searched=tuple(_searched(key, space) for key, space in method.space.items()),
        fixed=flatten(method.sections["method"]),
        starts=len(method.start),
        training_pairs=_pairs(pairs, "train", method) if needs.pairs else 0,
        held_out_pairs=_pairs(pairs, "held_out", method),
        training_labels=("class labels", *(name for name in ("groups", "environments") if vars(needs)[name])),
        selection_reads=_selection_reads(plan.config.search.selection),
    )


def needs_text(needs: Needs, budget: MethodBudget) -> str:
    """What a method needs of the data, and which further data the selection of its winner uses.

    Examples: `labels only; selected by 500 pairs`, `50 pairs; selected by 500 more`, `groups`.
    """
    text = str(needs)
    if needs.pairs and budget.training_pairs is not None:
        text = text.replace("pairs", f"{budget.training_pairs:,} pairs", 1)
    held_out = "held-out" if budget.held_out_pairs is None else f"{budget.held_out_pairs:,}"
    selected = [
        *([f"{held_out} {'more' if needs.pairs else 'pairs'}"] if budget.selected_by_pairs else []),
        *(["validation groups"] if "validation groups" in budget.selection_reads else []),
        *(["the test split (an oracle)"] if "test split" in budget.selection_reads else []),
    ]
    return f"{text}; selected by {' and '.join(selected)}" if selected else text


def _searched(key: str, space: Range) -> SearchedSetting:
    amount, unit = width(space)
    return SearchedSetting(name=key, range=range_text(space), width=amount, unit=unit)


def _pairs(pairs: object, which: str, method: MethodPlan) -> int | None:
    """The number of pairs that the data set's settings request; 0 for no pairs, None if they state no number."""
    if not isinstance(pairs, Mapping) or pairs.get("source") == "none":
        return 0
    if f"dataset.pairs.{which}" in method.space:
        return None
    count = pairs.get(which)
    return count if isinstance(count, int) else None


def _selection_reads(name: str) -> tuple[str, ...]:
    rule = SELECTION_RULES[name]
    reads = {
        "class labels": True,
        "held-out pairs": rule.needs_pairs,
        "validation groups": rule.needs_groups,
        "test split": rule.oracle,
    }
    return tuple(what for what, read in reads.items() if read)
