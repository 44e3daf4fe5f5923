"""The bootstrap against a naive one that draws every example."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ipgl.evaluation import GroupCount
from ipgl.evaluation.intervals import interval, nested_accuracies, resampled_accuracies, resampled_seed_means

RESAMPLES = 6000


def naive_accuracies(correct, group, num_groups, resamples, seed):
    """Draw each group's examples with replacement, the same ones for all runs; loops throughout."""
    rng = np.random.default_rng(seed)
    result = np.full((resamples, len(correct), num_groups), np.nan)
    for number in range(num_groups):
        members = np.flatnonzero(group == number)
        if not len(members):
            continue
        for resample in range(resamples):
            drawn = rng.choice(members, size=len(members))
            result[resample, :, number] = correct[:, drawn].mean(axis=1)
    return result


def make_runs():
    """Three runs on 60 examples in four groups, the third group empty; the runs err on similar examples."""
    rng = np.random.default_rng(7)
    group = rng.choice([0, 1, 3], size=60, p=[0.5, 0.3, 0.2])
    difficulty = rng.random(60)
    correct = np.stack([difficulty + 0.3 * rng.random(60) < level for level in (0.9, 0.8, 0.6)])
    return correct, group


def assert_alike(found, expected):
    """Equal means and standard deviations, up to five standard errors of the bootstrap itself."""
    deviation = expected.std(axis=0)
    error = deviation * math.sqrt(2 / RESAMPLES)
    assert np.all(np.abs(found.mean(axis=0) - expected.mean(axis=0)) <= 5 * error + 1e-12)
    np.testing.assert_allclose(found.std(axis=0), deviation, rtol=5 / math.sqrt(RESAMPLES), atol=1e-12)
    assert deviation.max() > 0.05


def test_nested_accuracies():
    correct, group = make_runs()
    found = nested_accuracies(correct, group, 4, RESAMPLES, seed=0)
    expected = naive_accuracies(correct, group, 4, RESAMPLES, seed=1)
    assert found.shape == (RESAMPLES, 3, 4)
    assert np.isnan(found[:, :, 2]).all()
    filled = [0, 1, 3]
    assert not np.isnan(found[:, :, filled]).any()
    assert_alike(found[:, :, filled], expected[:, :, filled])
    # The runs share each resample's examples, so that their differences spread as the naive ones do, which is
    # less than independent draws would.
    differences = found[:, [0, 0, 1]] - found[:, [1, 2, 2]]
    assert_alike(differences[..., filled], (expected[:, [0, 0, 1]] - expected[:, [1, 2, 2]])[..., filled])
    independent = math.sqrt(found[:, 0, 0].var() + found[:, 1, 0].var())
    assert differences[:, 0, 0].std() < 0.8 * independent


def test_nested_values_are_shares_of_the_group():
    correct, group = make_runs()
    found = nested_accuracies(correct, group, 4, 100, seed=0)
    sizes = np.array([(group == number).sum() for number in (0, 1, 3)])
    hits = found[:, :, [0, 1, 3]] * sizes
    np.testing.assert_allclose(hits, hits.round(), atol=1e-9)


def test_identical_runs_are_resampled_alike():
    correct, group = make_runs()
    found = nested_accuracies(correct[[0, 1, 0]], group, 4, 500, seed=0)
    np.testing.assert_array_equal(found[:, 0], found[:, 2])
    assert np.corrcoef(found[:, 0, 0], found[:, 2, 0])[0, 1] == pytest.approx(1.0)
    assert np.corrcoef(found[:, 0, 0], found[:, 1, 0])[0, 1] < 0.99
    assert np.corrcoef(found[:, 0, 0], found[:, 0, 1])[0, 1] == pytest.approx(0.0, abs=0.2)  # groups apart


def test_opposite_runs_are_resampled_as_opposites():
    correct = np.array([[True, True, False, False, True], [False, False, True, True, False]])
    found = nested_accuracies(correct, np.zeros(5, dtype=np.int64), 1, 300, seed=0)
    np.testing.assert_allclose(found[:, 0] + found[:, 1], 1.0, rtol=1e-12)


def test_nothing_to_resample_where_all_are_right_or_wrong():
    correct = np.array([[True] * 4, [False] * 4])
    found = nested_accuracies(correct, np.array([0, 0, 1, 1]), 2, 50, seed=0)
    assert np.unique(found[:, 0]).tolist() == [1.0]
    assert np.unique(found[:, 1]).tolist() == [0.0]


def test_nested_draws_come_from_the_seed():
    correct, group = make_runs()
    first = nested_accuracies(correct, group, 4, 50, seed=3)
    np.testing.assert_array_equal(first, nested_accuracies(correct, group, 4, 50, seed=3))
    assert not np.array_equal(first, nested_accuracies(correct, group, 4, 50, seed=4), equal_nan=True)


def test_resampled_accuracies():
    correct, group = make_runs()
    counts = [
        GroupCount(
            label=number // 2,
            attribute=number % 2,
            aligned=True,
            count=int((group == number).sum()),
            correct=int(correct[0, group == number].sum()),
        )
        for number in range(4)
    ]
    found = resampled_accuracies(counts, RESAMPLES, seed=0)
    expected = naive_accuracies(correct[:1], group, 4, RESAMPLES, seed=1)[:, 0]
    assert found.shape == (RESAMPLES, 4)
    assert np.isnan(found[:, 2]).all()
    assert_alike(found[:, [0, 1, 3]], expected[:, [0, 1, 3]])


def test_resampled_seed_means():
    rng = np.random.default_rng(0)
    values = rng.random((RESAMPLES, 4, 2))
    found = resampled_seed_means(values, seed=0)
    assert found.shape == (RESAMPLES, 2)
    # Naively: four seeds drawn with replacement for each resample, the same ones for both columns.
    expected = np.stack([values[r][rng.integers(4, size=4)].mean(axis=0) for r in range(RESAMPLES)])
    assert_alike(found, expected)
    np.testing.assert_array_equal(found, resampled_seed_means(values, seed=0))
    assert not np.array_equal(found, resampled_seed_means(values, seed=1))


def test_seed_means_draw_the_same_seeds_for_every_column():
    values = np.tile(np.array([[1.0], [2.0], [5.0]]), (50, 1, 3))
    found = resampled_seed_means(values, seed=0)
    np.testing.assert_array_equal(found[:, 0], found[:, 1])
    assert len(np.unique(found[:, 0])) > 3


def test_seed_means_spread_between_seeds():
    # Three seeds of values 0, 3, 6: variance 6, so that a mean over three draws has variance 2 and mean 3.
    values = np.tile(np.array([0.0, 3.0, 6.0]), (RESAMPLES, 1))
    found = resampled_seed_means(values, seed=0)
    assert found.mean() == pytest.approx(3.0, abs=5 * math.sqrt(2 / RESAMPLES))
    assert found.std() == pytest.approx(math.sqrt(2), rel=0.05)


def test_examples_and_seeds_are_drawn_apart_even_from_one_number():
    # Group 0: both seeds answer alike, half right. Group 1: one seed right throughout, the other wrong. Then each
    # group's mean is a coin of its own: variances 1/4 / 10 and 1/4 / 2.
    correct = np.array([[1] * 5 + [0] * 5 + [1] * 10, [1] * 5 + [0] * 5 + [0] * 10], dtype=bool)
    samples = nested_accuracies(correct, np.repeat([0, 1], 10), 2, RESAMPLES, seed=0)
    found = resampled_seed_means(samples, seed=0)
    assert np.corrcoef(found.T)[0, 1] == pytest.approx(0.0, abs=5 / math.sqrt(RESAMPLES))
    np.testing.assert_allclose(found.var(axis=0), [0.025, 0.125], rtol=0.1)


def test_one_seed_is_its_own_mean():
    values = np.random.default_rng(0).random((20, 1, 3))
    np.testing.assert_array_equal(resampled_seed_means(values, seed=0), values[:, 0])


def test_interval_by_hand():
    # Of 0, 1, ..., 100 the 5% and 95% quantiles are 5 and 95.
    low, high = interval(np.arange(101.0)[:, None], 0.9)
    assert low.tolist() == pytest.approx([5.0])
    assert high.tolist() == pytest.approx([95.0])


def test_an_interval_with_an_unknown_sample_is_unknown():
    samples = np.array([[1.0, 1.0], [np.nan, 2.0], [3.0, 3.0]])
    low, high = interval(samples, 0.9)
    assert np.isnan([low[0], high[0]]).all()
    assert low[1] == pytest.approx(1.1)
    assert high[1] == pytest.approx(2.9)


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    # 400 test splits of 200 examples, truth 0.7; the standard error of a coverage of 0.9 is then 0.015.
    rng = np.random.default_rng(1)
    covered = 0
    for number, hits in enumerate(rng.binomial(200, 0.7, size=400)):
        group = GroupCount(label=0, attribute=0, aligned=True, count=200, correct=int(hits))
        low, high = interval(resampled_accuracies([group], 300, seed=number), 0.9)
        covered += int(low[0] <= 0.7 <= high[0])
    assert 0.84 <= covered / 400 <= 0.95
