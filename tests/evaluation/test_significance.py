"""The paired permutation test against all sign flips, under the null and under a difference."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kstest

from ipgl.evaluation import paired_permutation_test

PERMUTATIONS = 20_000


def p_value(
    a: NDArray[np.bool_],
    b: NDArray[np.bool_],
    group: NDArray[np.int64],
    weights: NDArray[np.float64],
    permutations: int,
    seed: int = 0,
) -> float:
    return paired_permutation_test(a, b, group, weights, permutations=permutations, seed=seed)


def exact_p(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    group: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> float:
    """Share of all 2^N ways to exchange the methods' answers whose difference is at least the observed one."""
    difference = correct_a.mean(axis=0) - correct_b.mean(axis=0)
    share = np.array([weights[g] / (group == g).sum() for g in group])
    signs = np.array(list(itertools.product([1, -1], repeat=len(group))))
    statistics = np.abs(signs @ (share * difference))
    return float((statistics >= abs(share @ difference) - 1e-12).mean())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("runs", [(1, 1), (2, 3)])
def test_against_all_sign_flips(seed: int, runs: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    group = np.repeat([0, 1], [5, 7])
    correct_a, correct_b = rng.random((runs[0], 12)) < 0.8, rng.random((runs[1], 12)) < 0.5
    weights = np.array([0.7, 0.3])
    expected = exact_p(correct_a, correct_b, group, weights)
    found = p_value(correct_a, correct_b, group, weights, PERMUTATIONS, seed)
    assert found == pytest.approx(expected, abs=4 * math.sqrt(0.25 / PERMUTATIONS))


def test_by_hand() -> None:
    # Three examples of four on which only the first method is right: of eight signs two leave all three alike.
    a, b = np.array([[True] * 4]), np.array([[False, False, False, True]])
    found = p_value(a, b, np.zeros(4, dtype=np.int64), np.array([1.0]), PERMUTATIONS)
    assert found == pytest.approx(0.25, abs=0.012)


def simulate(level_a: float, level_b: float, seed: int) -> float:
    """The p-value of two methods of three seeds each on 200 examples in two groups, some of which are hard for both."""
    rng = np.random.default_rng(seed)
    group = rng.choice(2, size=200, p=[0.8, 0.2])
    ease = 0.5 * (rng.random(200) - 0.5)
    a, b = (rng.random((3, 200)) < level + ease for level in (level_a, level_b))
    return p_value(a, b, group, np.array([0.5, 0.5]), 1000, seed)


def test_uniform_where_the_methods_are_alike() -> None:
    found = np.array([simulate(0.7, 0.7, seed) for seed in range(300)])
    assert kstest(found, "uniform").pvalue > 0.01
    assert 0.02 <= (found <= 0.05).mean() <= 0.09
    assert 0.4 <= (found <= 0.5).mean() <= 0.6


def test_small_where_they_differ() -> None:
    found = np.array([simulate(0.8, 0.6, seed) for seed in range(30)])
    assert (found <= 0.05).mean() >= 0.9
    assert np.median(found) < 0.01


def test_never_below_one_permutation_of_all() -> None:
    a, b = np.ones((1, 300), dtype=bool), np.zeros((1, 300), dtype=bool)
    found = p_value(a, b, np.zeros(300, dtype=np.int64), np.array([1.0]), 499)
    assert found == 1 / 500  # the observed order counts as one of them


def test_equal_methods() -> None:
    correct = np.random.default_rng(0).random((2, 50)) < 0.7
    found = p_value(correct, correct[::-1], np.zeros(50, dtype=np.int64), np.array([1.0]), 1000)
    assert found == 1.0


def test_the_order_of_the_methods_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random((2, 80)) < 0.7, rng.random((3, 80)) < 0.6
    arguments = (np.repeat([0, 1], 40), np.array([0.4, 0.6]), 2000, 5)
    assert p_value(a, b, *arguments) == p_value(b, a, *arguments)


def test_a_group_without_weight_does_not_count() -> None:
    group = np.repeat([0, 1], 20)
    a = np.ones((1, 40), dtype=bool)
    b = np.concatenate([np.zeros((1, 20)), np.ones((1, 20))], axis=1).astype(bool)
    assert p_value(a, b, group, np.array([0.0, 1.0]), 1000) == 1.0
    assert p_value(a, b, group, np.array([1.0, 0.0]), 1000) == 1 / 1001


def test_differences_of_opposite_sign_cancel_by_their_weights() -> None:
    # Better by 1 in one group and worse by 1 in the other: equal weights leave nothing, unequal ones do.
    group = np.repeat([0, 1], 20)
    a = group[None] == 0
    assert p_value(a, ~a, group, np.array([0.5, 0.5]), 1000) == 1.0
    assert p_value(a, ~a, group, np.array([0.9, 0.1]), 1000) == pytest.approx(0.001, abs=0.003)


def test_an_empty_group_is_unknown_if_it_has_weight() -> None:
    correct, group = np.ones((1, 4), dtype=bool), np.zeros(4, dtype=np.int64)
    assert math.isnan(p_value(correct, ~correct, group, np.array([0.5, 0.5]), 100))
    assert not math.isnan(p_value(correct, ~correct, group, np.array([1.0, 0.0]), 100))


def test_the_seed_decides() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.random((1, 60)) < 0.7, rng.random((1, 60)) < 0.6
    group, weights = np.zeros(60, dtype=np.int64), np.array([1.0])
    first = p_value(a, b, group, weights, 500, seed=1)
    assert first == p_value(a, b, group, weights, 500, seed=1)
    assert len({p_value(a, b, group, weights, 500, seed=seed) for seed in range(8)}) > 1


def test_unknown_weights_test_nothing() -> None:
    correct = np.ones((1, 4), dtype=bool)
    assert math.isnan(p_value(correct, ~correct, np.zeros(4, dtype=np.int64), np.array([math.nan]), 100))
