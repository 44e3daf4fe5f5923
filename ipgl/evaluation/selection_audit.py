"""Audit of the selection rules: the trial each would have chosen and its test result. It selects nothing."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

from scipy.stats import spearmanr

from ipgl.evaluation.guessing import is_guessing
from ipgl.evaluation.run_result import RunResult
from ipgl.evaluation.selection import SELECTION_RULES, SelectionRule
from ipgl.evaluation.study_summary import RuleAudit, RuleChoice


def best_run(runs: Sequence[RunResult], rule: SelectionRule) -> RunResult | None:
    """The completed run that the rule prefers; None if it ranks none.

    Under any rule, an oracle included, a run that is no better than guessing on validation wins only if all that the
    rule ranks are so. Ties go to the earlier; NaN never wins.
    """
    ranked = [(rule.choice(run), run) for run in runs if run.status == "completed"]
    ranked = [(value, run) for value, run in ranked if not math.isnan(value)]
    ranked = [(value, run) for value, run in ranked if not is_guessing(run)] or ranked
    return max(ranked, key=lambda item: (item[0], -item[1].number))[1] if ranked else None


def audit_rules(runs: Sequence[RunResult], labels: Sequence[str]) -> tuple[RuleAudit, ...]:
    """Each rule's choice per label with its regret, and how the rule's ranking agrees with the shifted accuracy.

    Args:
        runs: All runs of a study; completed search trials count.
        labels: The study's methods, in order.
    """
    trials = [
        run
        for run in runs
        if run.phase == "search" and run.status == "completed" and "shifted_accuracy" in run.metrics
    ]
    by_label = {label: [run for run in trials if run.label == label] for label in labels}
    audits = []
    for name, rule in SELECTION_RULES.items():
        choices = []
        for label, own in by_label.items():
            chosen = best_run(own, rule)
            if chosen is not None:
                best = max(run.metrics["shifted_accuracy"] for run in own)
                shifted = chosen.metrics["shifted_accuracy"]
                choices.append(
                    RuleChoice(
                        label=label, trial=chosen.trial, shifted_accuracy=shifted, regret=best - shifted
                    )
                )
        audits.append(
            RuleAudit(
                rule=name,
                needs_groups=rule.needs_groups,
                oracle=rule.oracle,
                trials=len(trials),
                spearman=_spearman(trials, rule),
                within={label: _spearman(own, rule) for label, own in by_label.items()},
                choices=tuple(choices),
            )
        )
    return tuple(audits)


def _spearman(trials: Sequence[RunResult], rule: SelectionRule) -> float:
    """Rank correlation of the rule's value and the shifted accuracy.

    NaN for fewer than three trials, where either is alike for all, or where the rule does not know one of them.
    """
    if len(trials) < 3:
        return math.nan
    values = [rule.choice(run) for run in trials]
    shifted = [run.metrics["shifted_accuracy"] for run in trials]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # constant input, which has no ranking
        return float(spearmanr(values, shifted).statistic)
