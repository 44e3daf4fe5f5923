"""Each method against the best baseline: difference, interval, p-value, and what they allow to say."""

from __future__ import annotations

from dataclasses import dataclass

from ipgl.evaluation.summary import Estimate, MethodSummary, PairedTest, StudySummary
from ipgl.report.reading import shifted_accuracy
from ipgl.report.wording import finite

OWN_METHOD = "ipg"  # registry name of what the project proposes; everything else is a baseline


@dataclass(frozen=True)
class AgainstBaseline:
    """`method - baseline` on the shifted accuracy.

    Attributes:
        p_value: Of the paired permutation test; NaN where the two were not tested on the same examples.
        significant: The interval excludes 0 and the p-value is below 1 - confidence.
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
            label, difference = _turned(test, baseline.label)
            if finite(difference.mean):
                found[label] = AgainstBaseline(
                    difference, test.p_value, is_significant(difference, test.p_value, summary.confidence)
                )
    return found


def is_significant(difference: Estimate, p_value: float, confidence: float) -> bool:
    """Whether both the interval and the test say so; one that is missing says nothing."""
    if not (finite(difference.low) and finite(difference.high) and finite(p_value)):
        return False
    # 1 - 0.95 is a little more than 0.05 in binary.
    return (difference.low > 0 or difference.high < 0) and p_value < round(1 - confidence, 12)


def _turned(test: PairedTest, baseline: str) -> tuple[str, Estimate]:
    """The other label, and the difference as `other - baseline`."""
    d = test.difference
    if test.b == baseline:
        return test.a, d
    return test.b, Estimate(mean=-d.mean, low=-d.high, high=-d.low)
