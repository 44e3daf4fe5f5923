"""Means over runs and examples and their variance, against sums written out and against known components."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ipgl.evaluation import GroupCount
from ipgl.evaluation.sampling_variance import (
    sample_counts,
    sample_outcomes,
    sample_runs,
    unseen_variance,
    weighted_accuracy,
)

# Two runs on six examples in two groups.
OUTCOMES = np.array([[1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 1, 0]], dtype=bool)
GROUP = np.array([0, 0, 0, 0, 1, 1])


def test_means_and_variances_of_a_group_by_hand() -> None:
    sample = sample_outcomes(OUTCOMES, GROUP, 3, "same")
    assert sample.counts.tolist() == [4, 2, 0]
    assert sample.values[:, :2].tolist() == [[0.75, 0.0], [0.5, 0.5]]
    assert np.isnan(sample.values[:, 2]).all()
    # Means over runs 1, 0.5, 0, 1 about 0.625: squares 0.140625, 0.015625, 0.390625, 0.140625; over 3, over 4.
    assert sample.example_variance[0] == pytest.approx(0.6875 / 3 / 4)
    # Residuals of run 1: +0.125 more than the mean, so -0.125, 0.375, -0.125, -0.125; of run 2 the opposite.
    assert sample.rest_variance[0] == pytest.approx(2 * (3 * 0.125**2 + 0.375**2) / (1 * 3) / 2 / 4)


def test_residuals_against_the_written_out_form() -> None:
    rng = np.random.default_rng(0)
    outcomes, group = rng.random((5, 60)) < 0.6, rng.integers(3, size=60)
    sample = sample_outcomes(outcomes, group, 3)
    for number in range(3):
        y = outcomes[:, group == number].astype(float)
        runs, n = y.shape
        residual = y - y.mean(axis=1, keepdims=True) - y.mean(axis=0) + y.mean()
        assert sample.rest_variance[number] == pytest.approx(
            (residual**2).sum() / ((runs - 1) * (n - 1)) / runs / n
        )
        assert sample.example_variance[number] == pytest.approx(y.mean(axis=0).var(ddof=1) / n)


def test_weighted_means_add_variances_over_groups() -> None:
    rng = np.random.default_rng(1)
    outcomes, group = rng.random((4, 90)) < 0.7, np.repeat([0, 1, 2], [50, 30, 10])
    sample = sample_outcomes(outcomes, group, 3)
    weights = np.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0]])
    means = sample.weighted(weights)
    of_runs = sample.values @ weights.T
    assert means.mean == pytest.approx(of_runs.mean(axis=0))
    assert means.between == pytest.approx(of_runs.var(axis=0, ddof=1) / 4)
    further = np.maximum(weights**2 @ (sample.example_variance - sample.rest_variance), 0)
    assert means.examples == pytest.approx(further)
    assert means.size == pytest.approx(means.mean * (1 - means.mean) / means.variance)


def test_the_variance_is_that_of_repeated_experiments() -> None:
    """Runs and examples drawn again and again: the estimate's mean is the variance of the mean."""
    rng = np.random.default_rng(2)
    found, means = [], []
    for _ in range(4000):
        easy, skill = rng.normal(0, 1.2, 80), rng.normal(0, 0.4, (4, 1))
        outcomes = easy + skill + rng.normal(0, 1, (4, 80)) > -0.5
        weighted = sample_outcomes(outcomes, np.repeat([0, 1], 40), 2).weighted(np.array([[0.5, 0.5]]))
        means.append(weighted.mean[0])
        found.append(weighted.variance[0])
    assert np.mean(found) == pytest.approx(np.var(means), rel=0.06)


def test_runs_that_answer_alike_are_one_run() -> None:
    one = np.random.default_rng(3).random(200) < 0.3
    sample = sample_outcomes(np.stack([one] * 5), np.zeros(200, dtype=np.int64), 1).weighted(np.ones((1, 1)))
    assert sample.between[0] == 0
    assert sample.size[0] == pytest.approx(199)


def test_outcomes_that_are_all_alike_leave_half_an_example_open() -> None:
    sample = sample_outcomes(np.ones((3, 9), dtype=bool), np.zeros(9, dtype=np.int64), 1)
    means = sample.weighted(np.ones((1, 1)))
    assert (means.mean[0], means.between[0]) == (1.0, 0.0)
    assert means.examples[0] == pytest.approx(0.05 * 0.95 / 9)
    assert means.size[0] == pytest.approx(9)
    assert unseen_variance(np.array([0.0, 9.0])).tolist() == pytest.approx([0.0, 0.05 * 0.95 / 9])


def test_one_run_s_counts_give_the_same_as_its_answers() -> None:
    outcomes, group = np.array([[1, 1, 0, 1, 0]], dtype=bool), np.array([0, 0, 0, 1, 1])
    groups = [
        GroupCount(label=0, attribute=0, aligned=True, count=3, correct=2),
        GroupCount(label=0, attribute=1, aligned=False, count=2, correct=1),
    ]
    weights = np.array([[0.4, 0.6], [1.0, 0.0]])
    mine, theirs = (
        sample_outcomes(outcomes, group, 2).weighted(weights),
        sample_counts(groups).weighted(weights),
    )
    for name in ("mean", "between", "examples", "size"):
        assert getattr(mine, name) == pytest.approx(getattr(theirs, name))


def test_examples_of_one_s_own_are_not_counted_twice() -> None:
    rng = np.random.default_rng(4)
    outcomes = [rng.random(n) < 0.6 for n in (40, 50, 60)]
    groups = [np.zeros(len(one), dtype=np.int64) for one in outcomes]
    sample = sample_runs(outcomes, groups, 1, ["x", "y", "z"])
    means = sample.weighted(np.ones((1, 1)))
    assert not sample.shared
    assert (
        means.variance[0]
        == means.between[0]
        == pytest.approx(np.var([o.mean() for o in outcomes], ddof=1) / 3)
    )
    same = sample_runs([outcomes[0]] * 3, [groups[0]] * 3, 1, ["x"] * 3)
    assert same.shared
    assert same.weighted(np.ones((1, 1))).between[0] == 0


def test_an_empty_group_is_unknown_only_where_it_weighs() -> None:
    values = np.array([[0.2, 0.4, math.nan], [1.0, 0.0, 0.8]])
    found = weighted_accuracy(np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]), values)
    np.testing.assert_allclose(found, [[0.3, np.nan], [0.5, 0.6]])
