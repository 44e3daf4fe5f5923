"""The lowest of several accuracies, and worst cases: estimates by hand, intervals where they are known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from ipgl.evaluation.intervals import mean_interval
from ipgl.evaluation.sampling_variance import OutcomeSample, sample_outcomes
from ipgl.evaluation.worst_case import (
    KULLBACK_LEIBLER,
    TOTAL_VARIATION,
    Ball,
    worst_case_kl,
    worst_case_tv,
    worst_mix_kl,
    worst_mix_tv,
)
from ipgl.evaluation.worst_group import trapezoid_weights, worst_case, worst_group

MIX = np.array([0.4, 0.1, 0.1, 0.4])


def sample(levels: list[float], size: int = 400, runs: int = 3, seed: int = 0) -> OutcomeSample:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(levels)), size)
    return sample_outcomes(rng.random((runs, len(group))) < np.asarray(levels)[group], group, len(levels))


def test_a_clear_worst_group_has_its_own_interval() -> None:
    found = sample([0.9, 0.3, 0.8, 0.95])
    worst = worst_group(found, 0.05)
    low, high = mean_interval(found.weighted(np.eye(4)), 0.025)
    assert worst.mean[0] == pytest.approx(found.values.mean(axis=0)[1])
    assert (worst.low[0], worst.high[0]) == pytest.approx((low[1], high[1]))


def test_groups_that_may_be_the_worst_all_count() -> None:
    found = sample([0.7, 0.7, 0.7, 0.95])
    worst = worst_group(found, 0.05)
    means = found.weighted(np.eye(4)[:3])
    low, high = mean_interval(means, 0.05 * 1.15 / 3)
    assert worst.mean[0] == pytest.approx(means.mean.min())
    assert worst.low[0] == pytest.approx(mean_interval(means, 0.025)[0].min())
    assert worst.high[0] == pytest.approx(high.min())
    # The one that came out lowest is no better known for it.
    assert worst.high[0] > mean_interval(means, 0.025)[1].min()
    assert low.min() < worst.low[0]


def test_the_worst_group_with_an_empty_group_is_unknown() -> None:
    group = np.repeat([0, 1, 3], 50)
    found = sample_outcomes(np.random.default_rng(0).random((3, 150)) < 0.5, group, 4)
    assert all(math.isnan(end[0]) for end in vars(worst_group(found, 0.05)).values())


@pytest.mark.parametrize(
    ("ball", "exact", "radii"),
    [
        (KULLBACK_LEIBLER, worst_case_kl, [0.0, 0.1, 1.0, 9.0]),
        (TOTAL_VARIATION, worst_case_tv, [0.0, 0.1, 0.5, 1.0]),
    ],
)
def test_a_worst_case_goes_from_the_average_to_the_worst_group(
    ball: Ball, exact: Callable[..., NDArray[np.float64]], radii: list[float]
) -> None:
    found = sample([0.9, 0.6, 0.55, 0.85])
    curve, area = worst_case(found, ball, MIX, radii, 0.05)
    assert curve.mean == pytest.approx(exact(found.values.mean(axis=0), MIX, radii))
    average, worst = found.weighted(MIX[None]), worst_group(found, 0.05)
    assert (curve.low[0], curve.high[0]) == pytest.approx(tuple(e[0] for e in mean_interval(average, 0.025)))
    assert (curve.low[3], curve.high[3]) == pytest.approx((worst.low[0], worst.high[0]))
    assert (curve.low < curve.mean).all()
    assert (curve.mean < curve.high).all()
    assert area.mean[0] == pytest.approx(trapezoid_weights(radii) @ curve.mean)
    assert area.low[0] < area.mean[0] < area.high[0]


def test_an_empty_group_is_unknown_only_where_the_ball_reaches_it() -> None:
    group = np.repeat([0, 1, 3], 50)
    found = sample_outcomes(np.random.default_rng(0).random((3, 150)) < 0.5, group, 4)
    mix = np.array([0.5, 0.1, 0.0, 0.4])
    kl, _ = worst_case(found, KULLBACK_LEIBLER, mix, [0.0, 1.0], 0.05)
    assert np.isfinite([kl.mean, kl.low, kl.high]).all()
    tv, area = worst_case(found, TOTAL_VARIATION, mix, [0.0, 0.5], 0.05)
    assert np.isfinite([tv.mean[0], tv.low[0], tv.high[0]]).all()
    assert np.isnan([tv.mean[1], tv.low[1], tv.high[1], area.mean[0], area.low[0]]).all()


def test_worst_mixes_have_the_worst_value() -> None:
    rng = np.random.default_rng(1)
    for _ in range(100):
        groups = int(rng.integers(2, 7))
        accuracies, mix = rng.random((3, groups)), rng.dirichlet(np.ones(groups))
        mix[0] *= rng.random() < 0.7  # a group that training never sees
        accuracies[1] = 0.5  # all alike
        accuracies[0, 0] = accuracies[0, -1]
        for mixes_of, value_of, radii in (
            (worst_mix_kl, worst_case_kl, [0, 0.01, 0.2, 1, 5]),
            (worst_mix_tv, worst_case_tv, [0, 0.1, 0.5, 1]),
        ):
            mixes = mixes_of(accuracies, mix, radii)
            assert mixes.shape == (3, len(radii), groups)
            np.testing.assert_allclose(mixes.sum(axis=-1), 1)
            assert (mixes >= 0).all()
            values = np.einsum("crg,cg->cr", mixes, accuracies)
            np.testing.assert_allclose(values, value_of(accuracies, mix, radii), atol=1e-5)


@pytest.mark.parametrize("axis", [[0.0, 0.5, 1.0], [1.0, 0.0, 0.1], [0.5, 0.9], [0.3]])
def test_trapezoid_weights(axis: list[float]) -> None:
    values = np.random.default_rng(2).random(len(axis))
    order = np.argsort(axis)
    x, y = np.asarray(axis)[order], values[order]
    expected = values[0] if len(x) == 1 else np.trapezoid(y, x) / (x[-1] - x[0])
    assert trapezoid_weights(axis) @ values == pytest.approx(expected)
    assert trapezoid_weights(axis).sum() == pytest.approx(1)
