"""The findings of a study in at most three sentences, generated from its numbers."""

from __future__ import annotations

from ipgl.evaluation.curve_types import MIXTURE
from ipgl.evaluation.guessing import guessing_words
from ipgl.evaluation.run_result import CurvePoint
from ipgl.evaluation.study_summary import MethodSummary, StudySummary
from ipgl.report.formatting import (
    finite,
    listed,
    mix_phrase,
    percent,
    percent_range,
    points,
    points_range,
    whole_percent,
)
from ipgl.report.result_queries import curve_points, difference_at, mixture_of, point_at, severities

INCONCLUSIVE = "no difference between the two can be told"


def findings(summary: StudySummary) -> list[str]:
    """Up to three sentences: the best method on the hardest mix, its cost on the easiest, and what is missing.

    A lead counts as significant only where the interval of the difference excludes 0. A method that is no better than
    guessing is named as such: with the lead if it leads, with what is missing otherwise. Where nothing is
    missing, the third sentence compares the leader with plain training (`erm`), unless the first already did.
    """
    measured = [s for s in severities(summary, mixture_of(summary)) if _ranking(summary, s)]
    if not measured:
        return [_capital(f"{_missing(summary) or 'no method has test results'}.")]
    hardest, easiest = measured[-1], measured[0]
    ranking = _ranking(summary, hardest)
    sentences = [_first_sentence(summary, ranking, hardest)]
    if hardest != easiest:
        sentences.append(_cost(summary, ranking[0], easiest))
    missing = _missing(summary, ranking[0])
    if missing:
        sentences.append(_capital(f"{missing}."))
    else:
        sentences.extend(_against_plain_training(summary, ranking, hardest))
    return sentences


def _ranking(summary: StudySummary, severity: float) -> list[MethodSummary]:
    """Methods with an accuracy at `severity`, the most accurate first."""
    curve = mixture_of(summary)
    found = [
        (point.accuracy, method)
        for method in summary.methods
        if (point := point_at(curve_points(method, curve), severity)) is not None and finite(point.accuracy)
    ]
    return [method for _, method in sorted(found, key=lambda pair: -pair[0])]


def _first_sentence(summary: StudySummary, ranking: list[MethodSummary], severity: float) -> str:
    leader = ranking[0]
    reached = _reached(summary, leader, severity)
    words = guessing_words(leader)
    guessing = f", {words}," if words else ""
    where = mix_phrase(severity, mixture_of(summary))
    if len(ranking) == 1:
        only = ", the only method with test results" if len(summary.methods) > 1 else ""
        only += "" if words or not only else ","
        return f"{leader.label}{only}{guessing} reaches {reached} {where}."
    start = f"{leader.label}{guessing} has the highest accuracy {where}, {reached}"
    second = ranking[1].label
    difference = difference_at(summary, leader.label, second, severity)
    if difference is None:
        return (
            f"{start}; {second} is next, and the study holds no difference between the two to judge this by."
        )
    gap = f"{points(difference.accuracy)} above the next, {second}"
    return f"{start}: {gap} {_verdict(summary, leader, ranking[1], difference, INCONCLUSIVE)}."


def _cost(summary: StudySummary, leader: MethodSummary, severity: float) -> str:
    where = _capital(mix_phrase(severity, mixture_of(summary)))
    ranking = _ranking(summary, severity)
    if leader not in ranking:
        return f"{where}, {leader.label} has no accuracy to compare."
    reached = _reached(summary, leader, severity)
    if len(ranking) == 1:
        return f"{where}, it reaches {reached}."
    best = ranking[0]
    if best is leader:
        return (
            f"{where}, {leader.label} has the highest accuracy too, {reached}: the lead costs nothing there."
        )
    difference = difference_at(summary, leader.label, best.label, severity)
    if difference is None:
        highest = _reached(summary, best, severity)
        return f"{where}, it reaches {reached}; {best.label} is highest there with {highest}."
    gap = f"{points(difference.accuracy)} below the highest there, {best.label}"
    return f"{where}, it reaches {reached}: {gap} {_verdict(summary, leader, best, difference, 'no cost can be told')}."


def _against_plain_training(
    summary: StudySummary, ranking: list[MethodSummary], severity: float
) -> list[str]:
    plain = next((method for method in ranking[2:] if method.method == "erm"), None)
    if plain is None:
        return []
    difference = difference_at(summary, ranking[0].label, plain.label, severity)
    if difference is None:
        return []
    lead = points(difference.accuracy)
    gap = (
        f"Over plain training ({plain.label}) the lead {mix_phrase(severity, mixture_of(summary))} is {lead}"
    )
    return [f"{gap} {_verdict(summary, ranking[0], plain, difference, INCONCLUSIVE)}."]


def _verdict(
    summary: StudySummary, a: MethodSummary, b: MethodSummary, difference: CurvePoint, untold: str
) -> str:
    """The difference's interval, its population (methods or trained models), and the conclusion."""
    level = whole_percent(summary.confidence)
    if not (finite(difference.low) and finite(difference.high)):
        return f"(no interval), so {untold}"
    single = [method.label for method in (a, b) if len(method.final_runs) == 1]
    if single:
        models = f"these trained models' difference {points_range(difference.low, difference.high)}"
        return (
            f"({level} interval of {models}; {listed(single)} ran with one seed), so {untold} of the methods"
        )
    interval = f"({level} interval of the difference {points_range(difference.low, difference.high)}"
    pairs = sum(finite(test.p_value) for test in summary.tests)
    if pairs > 1:
        interval += f", corrected for {pairs} pairs of methods"
    if difference.low > 0 or difference.high < 0:
        return f"{interval}, which excludes 0)"
    return f"{interval}, which includes 0), so {untold}"


def _reached(summary: StudySummary, method: MethodSummary, severity: float) -> str:
    point = point_at(curve_points(method, mixture_of(summary)), severity)
    assert point is not None  # the method was ranked by this very point
    if not (finite(point.low) and finite(point.high)):
        return f"{percent(point.accuracy)} (no interval)"
    interval = percent_range(point.low, point.high)
    return f"{percent(point.accuracy)} ({whole_percent(summary.confidence)} interval {interval})"


def _missing(summary: StudySummary, leader: MethodSummary | None = None) -> str:
    """Methods without test results or skill and mixes without examples, as clauses; empty where nothing is missing.

    That the leader itself has no skill is part of the first sentence.
    """
    curve = mixture_of(summary)
    clauses = [_why_missing(method, curve) for method in summary.methods if not curve_points(method, curve)]
    clauses += [
        f"{method.label} is {words}"
        for method in summary.methods
        if curve_points(method, curve) and method is not leader and (words := guessing_words(method))
    ]
    unmeasured = [s for s in severities(summary, curve) if not _ranking(summary, s)]
    if unmeasured:
        shares = listed([whole_percent(1 - s if curve == MIXTURE else s) for s in unmeasured])
        where = "an agreement" if curve == MIXTURE else "a severity"
        clauses.append(
            f"there is no accuracy at {where} of {shares}, because the test split has no examples "
            "of a group that this mix needs"
        )
    return "; ".join(clauses)


def _why_missing(method: MethodSummary, curve: str) -> str:
    if method.final_runs:
        return f"there is no curve `{curve}` of {method.label} to compare it on (the remarks say why)"
    start = f"there are no test results for {method.label}, because"
    if method.winner is not None:
        return f"{start} none of its final runs completed"
    ended = [f"{method.counts[s]} {s}" for s in ("completed", "stopped", "failed") if method.counts.get(s)]
    return f"{start} no search trial of it won ({', '.join(ended) or 'none was started'})"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
