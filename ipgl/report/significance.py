"""Comparison of each method with the best baseline: difference, interval, p-value, verdict.

The best baseline is the one with the highest test accuracy, so that it was chosen by the numbers that it is then
compared by. Intervals and p-values are therefore corrected for all pairs of methods, not only for those with it.
"""

from __future__ import annotations

from dataclasses import dataclass

from ipgl.evaluation.study_summary import Estimate, MethodSummary, MethodTest, StudySummary
from ipgl.report.formatting import finite
from ipgl.report.result_queries import shifted_accuracy

OWN_METHOD = "ipg"  # registry name of what the project proposes; everything else is a baseline


@dataclass(frozen=True)
class AgainstBaseline:
    """`method - baseline` on the shifted accuracy.

    Attributes:
        difference: With the interval that allows for the number of pairs of methods.
        p_value: Corrected for it (Holm 1979); NaN where a method has a single run.
        significant: The p-value is below 1 - confidence, and the interval excludes 0: the two are equivalent.
    """

    difference: Estimate
    p_value: float
    significant: bool


def best_baseline(summary: StudySummary) -> MethodSummary | None:
    """The baseline with the highest shifted accuracy; None where no baseline has one, or nothing to compare."""
    ranked = [(shifted_accuracy(summary, method), method) for method in summary.methods]
    baselines = [(value, method) for value, method in ranked if method.method != OWN_METHOD and finite(value)]
    return max(baselines, key=lambda pair: pair[0])[1] if baselines and len(ranked) > 1 else None


def against_baseline(summary: StudySummary) -> dict[str, AgainstBaseline]:
    """Comparison with the best baseline by label, for each other method that the study tested against it."""
    baseline = best_baseline(summary)
    found: dict[str, AgainstBaseline] = {}
    for test in summary.tests if baseline else ():
        if baseline is not None and baseline.label in (test.a, test.b):
            label, difference = _seen_from_baseline(test, baseline.label)
            if finite(difference.mean):
                p_value = test.corrected_p_value
                found[label] = AgainstBaseline(
                    difference, p_value, is_significant(difference, p_value, summary.confidence)
                )
    return found


def is_significant(difference: Estimate, p_value: float, confidence: float) -> bool:
    """Whether both the interval and the test say so; a missing one does not count against it."""
    if not (finite(difference.low) and finite(difference.high) and finite(p_value)):
        return False
    # 1 - 0.95 is a little more than 0.05 in binary.
    return (difference.low > 0 or difference.high < 0) and p_value < round(1 - confidence, 12)


def _seen_from_baseline(test: MethodTest, baseline: str) -> tuple[str, Estimate]:
    """The other label, and the difference as `other - baseline`."""
    d = test.corrected
    if test.b == baseline:
        return test.a, d
    return test.b, Estimate(mean=-d.mean, low=-d.high, high=-d.low)
