"""Paired permutation test between the trained models of two methods on the same test examples."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def paired_permutation_test(
    correct_a: NDArray[np.bool_],
    correct_b: NDArray[np.bool_],
    group: NDArray[np.int64],
    weights: Array,
    *,
    permutations: int,
    seed: int = 0,
) -> float:
    """Two-sided p-value of the difference in weighted group accuracy between two sets of trained models.

    Under the null hypothesis the two methods' answers to an example (each method's over all its seeds) may be
    exchanged without changing their distribution. The statistic is the difference of the seeds' mean accuracies,
    averaged within groups and weighted over them. It is about these models and other examples, and takes for a
    difference between methods what may be one between seeds: `ipgl.evaluation.intervals` tests methods.

    Examples of a group with the same difference are interchangeable, so that exchanging them at random is one
    binomial draw: exact in distribution, and independent of the number of examples (Good 2005, "Permutation,
    Parametric, and Bootstrap Tests of Hypotheses", ch. 3).

    Args:
        correct_a: Whether each of the first method's runs answered each example correctly, `[seeds_a, N]`.
        correct_b: The same of the second method, `[seeds_b, N]`.
        group: Group of each example, int `[N]`.
        weights: Weight of each group, `[G]`; groups of weight 0 are left out.
        permutations: Number of random permutations R; the smallest p-value is `1 / (R + 1)`.
        seed: Seed of the permutations.

    Returns:
        The p-value (Phipson and Smyth 2010: the observed order counts as one of the permutations); NaN if a
        group with weight has no examples, or a weight is NaN.
    """
    if np.isnan(weights).any():
        return float("nan")
    rng = np.random.default_rng(seed)
    difference = correct_a.mean(axis=0) - correct_b.mean(axis=0)
    observed, permuted = 0.0, np.zeros(permutations)
    for number, weight in enumerate(weights):
        if weight == 0:
            continue
        members = difference[group == number]
        if not len(members):
            return float("nan")
        # Means over seeds are fractions: rounding makes equal ones equal.
        sizes, counts = np.unique(np.abs(np.round(members, 12)), return_counts=True)
        observed += weight * members.mean()
        exchanged = rng.binomial(counts, 0.5, size=(permutations, len(counts)))
        permuted += weight * ((counts - 2 * exchanged) @ sizes) / len(members)
    extreme = int((np.abs(permuted) >= abs(observed) - 1e-12).sum())
    return (1 + extreme) / (permutations + 1)
