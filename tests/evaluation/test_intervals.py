"""Intervals and tests against textbook forms, in the cases where these apply."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import t as student
from scipy.stats import ttest_ind

from ipgl.evaluation import wilson_interval
from ipgl.evaluation.intervals import Differences, differences, holm, mean_interval, student_quantile
from ipgl.evaluation.sampling_variance import OutcomeSample, sample_outcomes, sample_runs

ALL = np.ones((1, 1))


def one_group(outcomes: NDArray[np.bool_], name: str = "same") -> OutcomeSample:
    return sample_outcomes(outcomes, np.zeros(outcomes.shape[1], dtype=np.int64), 1, name)


@pytest.mark.parametrize("correct", [1, 30, 199])
def test_one_run_has_wilson_s_interval(correct: int) -> None:
    outcomes = (np.arange(200) < correct)[None]
    low, high = mean_interval(one_group(outcomes).weighted(ALL), 0.025)
    # The sample variance divides by n - 1, so that it is Wilson's interval of one example fewer.
    assert (low[0], high[0]) == pytest.approx(wilson_interval(correct, 200, 0.95), abs=0.002)


@pytest.mark.parametrize("right", [True, False])
def test_all_right_is_wilson_s_interval_too(right: bool) -> None:
    low, high = mean_interval(one_group(np.full((3, 50), right)).weighted(ALL), 0.025)
    assert (low[0], high[0]) == pytest.approx(wilson_interval(50 * right, 50, 0.95))


def test_runs_that_differ_much_have_student_s_interval() -> None:
    # 100,000 examples leave the draw of examples aside; accuracies far from 0 and 1 leave the scale aside.
    rng = np.random.default_rng(0)
    levels = np.array([0.48, 0.50, 0.55])
    outcomes = rng.random((3, 100_000)) < levels[:, None]
    low, high = mean_interval(one_group(outcomes).weighted(ALL), 0.025)
    means = outcomes.mean(axis=1)
    reach = student.ppf(0.975, 2) * means.std(ddof=1) / math.sqrt(3)
    assert (high[0] - low[0]) / 2 == pytest.approx(reach, rel=0.02)
    assert (high[0] + low[0]) / 2 == pytest.approx(means.mean(), abs=0.002)


def test_a_higher_confidence_is_wider_and_nan_stays_nan() -> None:
    means = one_group(np.random.default_rng(1).random((3, 90)) < 0.6).weighted(np.array([[1.0], [math.nan]]))
    ends = [mean_interval(means, tail) for tail in (0.2, 0.05, 0.005)]
    assert ends[2][0][0] < ends[1][0][0] < ends[0][0][0] < means.mean[0] < ends[0][1][0] < ends[1][1][0]
    assert all(math.isnan(end[1]) for pair in ends for end in pair)


def test_unpaired_differences_are_welch_s() -> None:
    """Two methods on test examples of their own: every run is one number, and Welch's test is the textbook's."""
    rng = np.random.default_rng(2)
    first, second = ([rng.random(400) < p + 0.1 * rng.normal() for _ in range(10)] for p in (0.5, 0.6))
    zeros = [np.zeros(400, dtype=np.int64)] * 10
    a = sample_runs(first, zeros, 1, [f"a{i}" for i in range(10)])
    b = sample_runs(second, zeros, 1, [f"b{i}" for i in range(10)])
    found = differences(a, b, ALL)
    expected = ttest_ind([x.mean() for x in first], [x.mean() for x in second], equal_var=False)
    assert found.mean[0] / found.error[0] == pytest.approx(expected.statistic)
    assert found.degrees[0] == pytest.approx(expected.df)
    assert found.p_value[0] == pytest.approx(expected.pvalue)


def test_shared_examples_cancel() -> None:
    rng = np.random.default_rng(3)
    hard = rng.random(500)
    answers = [hard + 0.1 * rng.random((3, 500)) < level for level in (0.6, 0.65)]
    paired = differences(one_group(answers[0]), one_group(answers[1]), ALL)
    apart = differences(one_group(answers[0], "here"), one_group(answers[1], "there"), ALL)
    assert paired.mean == pytest.approx(apart.mean)
    assert paired.error[0] < 0.6 * apart.error[0]
    same = differences(one_group(answers[0]), one_group(answers[0]), ALL)
    assert (same.mean[0], same.p_value[0]) == (0.0, 1.0)


def test_the_error_of_a_paired_difference_is_that_of_repeated_experiments() -> None:
    rng = np.random.default_rng(4)
    found, means = [], []
    for _ in range(3000):
        hard = rng.normal(0, 1.2, 100)
        a, b = (
            one_group(hard + rng.normal(0, 0.4, (3, 1)) + rng.normal(0, 1, (3, 100)) > shift)
            for shift in (0, 0.3)
        )
        difference = differences(a, b, ALL)
        means.append(difference.mean[0])
        found.append(difference.error[0] ** 2)
    # Where nothing of the examples is left, what is below 0 counts as 0, so that it is a little too large.
    assert 0.97 < np.mean(found) / np.var(means) < 1.15


def test_one_run_says_nothing_of_a_method() -> None:
    rng = np.random.default_rng(5)
    a, b = one_group(rng.random((1, 300)) < 0.5), one_group(rng.random((3, 300)) < 0.9)
    found = differences(a, b, ALL)
    assert math.isnan(found.p_value[0])
    low, high = found.interval(0.05)  # of the trained models, over examples
    assert low[0] < found.mean[0] < high[0]


@given(st.floats(-1, 1), st.floats(1e-6, 1), st.floats(1, 200), st.floats(0.001, 0.5))
def test_an_interval_excludes_0_exactly_if_p_is_below_its_level(
    mean: float, error: float, degrees: float, alpha: float
) -> None:
    found = Differences(np.array([mean]), np.array([error]), np.array([degrees]))
    low, high = found.interval(alpha)
    p = found.p_value[0]
    if abs(p - alpha) > 1e-9:
        assert (low[0] > 0 or high[0] < 0) == (p < alpha)


def test_holm_by_hand() -> None:
    found = holm([0.04, 0.01, math.nan, 0.03, 0.5], 0.05)
    # Sorted 0.01, 0.03, 0.04, 0.5 of four: 0.04, 0.09, 0.09 (0.08 raised to the one before), 0.5.
    assert found.adjusted == pytest.approx([0.09, 0.04, math.nan, 0.09, 0.5], nan_ok=True)
    # 0.01 < 0.05 / 4 is rejected, 0.03 >= 0.05 / 3 is not, and so is none behind it.
    assert found.levels == pytest.approx([0.05 / 3, 0.0125, 0.05, 0.05 / 3, 0.05 / 3])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.sampled_from([0.01, 0.05, 0.1]))
def test_holm_s_levels_say_what_its_p_values_say(p_values: list[float], alpha: float) -> None:
    found = holm(p_values, alpha)
    for p, adjusted, level in zip(p_values, found.adjusted, found.levels, strict=True):
        if abs(adjusted - alpha) > 1e-12:
            assert (p < level) == (adjusted < alpha)
        assert p <= adjusted <= 1
        assert alpha / len(p_values) <= level <= alpha


def test_quantiles() -> None:
    assert student_quantile(np.array([2.0, 30.0]), 0.025) == pytest.approx(student.ppf(0.975, [2, 30]))
    assert student_quantile(np.array([np.inf]), 0.025)[0] == pytest.approx(1.959964, abs=1e-6)
