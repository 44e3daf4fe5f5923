"""Bootstrap intervals: over test examples within groups, and over seeds and examples together.

All runs of a study are tested on the same examples, so an example that is hard for one seed is hard for the
next. The nested bootstrap therefore resamples *examples* once per resample for all seeds. Examples of a group
that the seeds answer alike are interchangeable, so that resampling them is one multinomial draw over the
distinct answer patterns: exact, and independent of the number of examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ipgl.evaluation.result import GroupCount

Array = NDArray[np.float64]


def resampled_accuracies(groups: Sequence[GroupCount], resamples: int, seed: int) -> Array:
    """Group accuracies `[R, G]` of one run under resampling of each group's examples; NaN for an empty group."""
    rng = np.random.default_rng(seed)
    count = np.array([group.count for group in groups])
    correct = np.array([group.correct for group in groups])
    shares = np.divide(correct, count, out=np.zeros(len(groups)), where=count > 0)
    with np.errstate(invalid="ignore"):
        result: Array = rng.binomial(count, shares, size=(resamples, len(groups))) / count
    return result


def nested_accuracies(
    correct: NDArray[np.bool_], group: NDArray[np.int64], num_groups: int, resamples: int, seed: int
) -> Array:
    """Group accuracies of several runs under one resampling of the examples within each group.

    For a difference between methods, stack the methods' runs: all rows share each resample's examples.

    Args:
        correct: Whether each run classified each test example correctly, `[runs, N]`.
        group: Group of each example, `[N]`.
        num_groups: Number of groups, empty ones included.
        resamples: Number of resamples R.
        seed: Seed of the resampling.

    Returns:
        `[R, runs, G]`: accuracies of every run on the resampled examples; NaN for an empty group.
    """
    rng = np.random.default_rng(seed)
    result = np.full((resamples, correct.shape[0], num_groups), np.nan)
    for number in range(num_groups):
        members = correct[:, group == number]
        size = members.shape[1]
        if not size:
            continue
        patterns, counts = _patterns(members)
        draws = rng.multinomial(size, counts / size, size=resamples)
        result[:, :, number] = draws @ patterns.T.astype(np.float64) / size
    return result


def _patterns(members: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Distinct columns of `[runs, N]`, `[runs, D]`, and how often each occurs, `[D]`."""
    # Sorting 64 runs' answers as one number is many times faster than sorting columns of booleans.
    packed = np.packbits(members, axis=0).T
    words = np.zeros((packed.shape[0], -(-packed.shape[1] // 8) * 8), dtype=np.uint8)
    words[:, : packed.shape[1]] = packed
    keys = words.view(np.uint64)
    _, first, counts = np.unique(
        keys[:, 0] if keys.shape[1] == 1 else keys, axis=0, return_index=True, return_counts=True
    )
    return members[:, first], counts


def resampled_seed_means(values: Array, seed: int) -> Array:
    """Means over seeds drawn with replacement: `[R, seeds, ...]` to `[R, ...]`, a new draw per resample."""
    # A stream of its own: an equal seed behind the examples' draws must not tie these to them.
    rng = np.random.default_rng((seed, 1))
    resamples, seeds = values.shape[:2]
    index = rng.integers(seeds, size=(resamples, seeds))
    drawn = np.take_along_axis(values, index.reshape(resamples, seeds, *[1] * (values.ndim - 2)), axis=1)
    result: Array = drawn.mean(axis=1)
    return result


def interval(samples: Array, confidence: float) -> tuple[Array, Array]:
    """Percentile interval over the first axis; NaN where any sample is NaN."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail], axis=0)
    return low, high
