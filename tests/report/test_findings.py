"""The sentences name the right method, the right sign and the right interval, and no more than is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ipgl.evaluation.study_summary import Estimate, MethodTest
from ipgl.report import findings

if TYPE_CHECKING:
    from tests.report.conftest import Build


NAN = (math.nan, math.nan, math.nan)


def test_leader_gain_and_cost(build: type[Build]) -> None:
    summary = build.summary(
        build.method("erm", build.erm),
        build.method("ipg", build.ipg),
        differences={"erm - ipg": build.erm_minus_ipg},
    )
    # The summary holds erm - ipg; told as ipg - erm, sign and ends turn round.
    assert findings(summary) == [
        "ipg has the highest accuracy where the attribute agrees with the label 10% of the time, "
        "66.4% (95% interval 64.1 to 68.7): 41.2 points above the next, erm "
        "(95% interval of the difference 37.0 to 45.0, which excludes 0).",
        "Where the attribute always agrees with the label, it reaches 70.0% (95% interval 68.0 to 72.0): "
        "20.0 points below the highest there, erm "
        "(95% interval of the difference −23.0 to −17.0, which excludes 0).",
    ]


def test_a_single_seed_speaks_of_the_trained_models_alone(build: type[Build]) -> None:
    summary = build.summary(
        build.method("a", {0.9: (0.66, 0.64, 0.68)}, final_runs=("a-f1",)),
        build.method("b", {0.9: (0.35, 0.33, 0.37)}),
        differences={"a - b": {0.9: (0.31, 0.28, 0.34)}},
    )
    (sentence,) = findings(summary)
    assert sentence.endswith(
        "31.0 points above the next, b (95% interval of these trained models' difference 28.0 to 34.0; a ran with one "
        "seed), so no difference between the two can be told of the methods."
    )
    assert "excludes" not in sentence


def test_a_correction_for_several_pairs_is_named(build: type[Build]) -> None:
    one = Estimate(mean=0.1, low=0.05, high=0.15)
    tests = tuple(
        MethodTest(a=a, b=b, difference=one, p_value=0.001, corrected=one, corrected_p_value=0.003)
        for a, b in ("ab", "ac", "bc")
    )
    summary = build.summary(
        *(build.method(label, {0.9: (0.66, 0.64, 0.68)}) for label in "abc"),
        differences={"a - b": {0.9: (0.1, 0.05, 0.15)}},
        tests=tests,
    )
    assert (
        "(95% interval of the difference 5.0 to 15.0, corrected for 3 pairs of methods, which excludes 0)"
        in findings(summary)[0]
    )


def test_an_interval_that_holds_0_tells_no_difference(build: type[Build]) -> None:
    summary = build.summary(
        build.method("a", {0.9: (0.66, 0.64, 0.68)}),
        build.method("b", {0.9: (0.65, 0.63, 0.67)}),
        differences={"a - b": {0.9: (0.01, -0.012, 0.034)}},
        confidence=0.9,
    )
    (sentence,) = findings(summary)
    assert (
        "1.0 point above the next, b (90% interval of the difference −1.2 to 3.4, which includes 0)"
        in sentence
    )
    assert sentence.endswith("so no difference between the two can be told.")


def test_a_cost_within_its_interval_cannot_be_told(build: type[Build]) -> None:
    summary = build.summary(
        build.method("a", {0.0: (0.89, 0.88, 0.90), 0.9: (0.6, 0.5, 0.7)}),
        build.method("b", {0.0: (0.90, 0.89, 0.91), 0.9: (0.2, 0.1, 0.3)}),
        differences={"a - b": {0.0: (-0.01, -0.02, 0.001), 0.9: (0.4, 0.3, 0.5)}},
    )
    assert findings(summary)[1].endswith(
        "1.0 point below the highest there, b "
        "(95% interval of the difference −2.0 to 0.1, which includes 0), so no cost can be told."
    )


def test_a_leader_on_both_ends_costs_nothing(build: type[Build]) -> None:
    summary = build.summary(
        build.method("a", {0.0: (0.95, 0.94, 0.96), 0.9: (0.6, 0.5, 0.7)}),
        build.method("b", {0.0: (0.90, 0.89, 0.91), 0.9: (0.2, 0.1, 0.3)}),
        differences={"a - b": {0.0: (0.05, 0.04, 0.06), 0.9: (0.4, 0.3, 0.5)}},
    )
    assert "a has the highest accuracy too, 95.0%" in findings(summary)[1]


def test_plain_training_is_compared_even_if_it_is_not_next(build: type[Build]) -> None:
    curves = {"erm": (0.2, 0.1, 0.3), "dro": (0.5, 0.4, 0.6), "ipg": (0.7, 0.6, 0.8)}
    summary = build.summary(
        *(build.method(label, {0.9: value}) for label, value in curves.items()),
        differences={"erm - ipg": {0.9: (-0.5, -0.6, -0.4)}, "dro - ipg": {0.9: (-0.2, -0.3, -0.1)}},
    )
    first, second = findings(summary)
    assert "20.0 points above the next, dro" in first
    assert second == (
        "Over plain training (erm) the lead where the attribute agrees with the label 10% of the time is "
        "50.0 points (95% interval of the difference 40.0 to 60.0, which excludes 0)."
    )


def test_without_a_difference_nothing_is_claimed(build: type[Build]) -> None:
    summary = build.summary(build.method("erm", build.erm), build.method("ipg", build.ipg))
    assert "the study holds no difference between the two to judge this by" in findings(summary)[0]


def test_a_difference_without_an_interval_tells_nothing(build: type[Build]) -> None:
    summary = build.summary(
        build.method("a", {0.9: (0.66, math.nan, math.nan)}),
        build.method("b", {0.9: (0.5, math.nan, math.nan)}),
        differences={"a - b": {0.9: (0.16, math.nan, math.nan)}},
    )
    assert findings(summary) == [
        "a has the highest accuracy where the attribute agrees with the label 10% of the time, "
        "66.0% (no interval): 16.0 points above the next, b (no interval), "
        "so no difference between the two can be told."
    ]


def test_single_method_is_compared_with_nothing(build: type[Build]) -> None:
    first, second = findings(build.summary(build.method("ipg", build.ipg)))
    assert first == (
        "ipg reaches 66.4% (95% interval 64.1 to 68.7) where the attribute agrees with the label 10% of the time."
    )
    assert (
        second
        == "Where the attribute always agrees with the label, it reaches 70.0% (95% interval 68.0 to 72.0)."
    )


def test_a_method_whose_trials_all_failed_is_named(build: type[Build]) -> None:
    sentences = findings(build.summary(build.method("ipg", build.ipg), build.method("jtt")))
    assert sentences[0].startswith("ipg, the only method with test results, reaches 66.4%")
    assert sentences[-1] == "There are no test results for jtt, because no search trial of it won (4 failed)."


def test_a_winner_without_final_runs_is_named(build: type[Build]) -> None:
    lost = build.method("jtt", winner="jtt-3", score=0.5)
    sentences = findings(build.summary(build.method("ipg", build.ipg), lost))
    assert sentences[-1] == "There are no test results for jtt, because none of its final runs completed."


def test_no_results_at_all(build: type[Build]) -> None:
    assert findings(build.summary(build.method("a"), build.method("b", counts={}))) == [
        "There are no test results for a, because no search trial of it won (4 failed); "
        "there are no test results for b, because no search trial of it won (none was started)."
    ]


def test_mixes_without_examples_are_said_and_the_hardest_measured_one_is_used(build: type[Build]) -> None:
    curve = {0.0: (0.9, 0.88, 0.92), 0.5: (0.7, 0.6, 0.8), 0.9: NAN, 1.0: NAN}
    sentences = findings(build.summary(build.method("ipg", curve)))
    assert "where the attribute agrees with the label 50% of the time" in sentences[0]
    assert sentences[-1] == (
        "There is no accuracy at an agreement of 10% and 0%, because the test split has no examples "
        "of a group that this mix needs."
    )


def test_never_more_than_three(build: type[Build]) -> None:
    curve = {0.0: (0.9, 0.88, 0.92), 0.5: (0.7, 0.6, 0.8), 1.0: NAN}
    methods = [build.method(label, curve) for label in ("erm", "b", "c")] + [
        build.method("d"),
        build.method("e"),
    ]
    assert len(findings(build.summary(*methods))) == 3


def test_a_small_difference_is_not_shown_as_0(build: type[Build]) -> None:
    summary = build.summary(
        build.method("a", {0.9: (0.66, 0.64, 0.68)}),
        build.method("b", {0.9: (0.65, 0.63, 0.67)}),
        differences={"a - b": {0.9: (0.01, 0.0004, 0.02)}},
    )
    assert "0.04 to 2.00, which excludes 0" in findings(summary)[0]


def test_a_method_that_guesses_is_named_beside_what_is_missing(build: type[Build]) -> None:
    erm = build.method("erm", build.erm, guessing=True, guessing_finals=1)
    summary = build.summary(
        erm, build.method("ipg", build.ipg), differences={"erm - ipg": build.erm_minus_ipg}
    )
    assert findings(summary)[2] == "Erm is no better than guessing in 1 of 2 final runs."


def test_a_leader_that_guesses_is_named_with_its_lead(build: type[Build]) -> None:
    ipg = build.method("ipg", build.ipg, guessing=True, guessing_finals=2)
    summary = build.summary(
        build.method("erm", build.erm), ipg, differences={"erm - ipg": build.erm_minus_ipg}
    )
    said = findings(summary)
    assert said[0].startswith("ipg, no better than guessing, has the highest accuracy where")
    assert len(said) == 2
    assert findings(build.summary(ipg))[0].startswith("ipg, no better than guessing, reaches 66.4%")
    several = build.summary(build.method("erm"), ipg)
    assert findings(several)[0].startswith(
        "ipg, the only method with test results, no better than guessing, reaches 66.4%"
    )


def test_methods_without_a_mixture_curve_are_not_called_untested(build: type[Build]) -> None:
    tested = build.method("erm", {}, curves={"worst_case_tv": build.points(build.erm)})
    assert findings(build.summary(tested)) == [
        "There is no curve `mixture` of erm to compare it on (the remarks say why)."
    ]
