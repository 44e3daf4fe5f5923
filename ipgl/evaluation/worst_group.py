"""Worst-group and worst-case accuracy over runs, with intervals that correct for taking the minimum.

The lowest of several *measured* accuracies lies below the lowest *true* one on average, since the minimum favours
negative errors; resampling it (a bootstrap) repeats the bias instead of removing it. The lowest true accuracy lies
below a number as soon as one accuracy does, and above it only if all do (an intersection-union test, Berger 1982). Its
interval therefore ends at the lowest of the lower bounds, each at level alpha / 2, and at the lowest of the upper
bounds, each at a level that allows for the number of accuracies that may be the lowest (as in intersection bounds,
Chernozhukov, Lee and Rosen 2013). A worst case over a ball of group mixes is the lowest of infinitely many weighted
accuracies; those that may be it are found by letting each group in turn fall as far as its uncertainty allows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ipgl.evaluation.intervals import mean_interval
from ipgl.evaluation.sampling_variance import OutcomeSample, WeightedMeans
from ipgl.evaluation.worst_case import Ball

Array = NDArray[np.float64]

# Bonferroni's level for k accuracies, alpha / k, is right where they tie and too careful where they nearly do, which
# cannot be told apart; in simulations this factor keeps a nominal 95% between 93 and 97% in both cases.
_NEAR_TIES = 1.15


@dataclass(frozen=True)
class WorstGroupEstimate:
    """A worst case at R radii, or the worst group (R = 1), with its interval; NaN where it needs an empty group."""

    mean: Array
    low: Array
    high: Array


def worst_group(sample: OutcomeSample, alpha: float) -> WorstGroupEstimate:
    """The lowest of the groups' mean accuracies over runs, with an interval of the lowest true one.

    The estimate is the lowest entry of a table of the groups' means. It lies below the lowest true accuracy on average
    by up to about one standard error where several groups nearly tie; the interval allows for that.

    Args:
        sample: Outcomes of the method's runs on the test examples.
        alpha: 1 - confidence.
    """
    groups = len(sample.counts)
    values = sample.values.mean(axis=0)
    if np.isnan(values).any():
        return WorstGroupEstimate(*(np.array([math.nan]) for _ in range(3)))
    lowered = values - _reach(sample, alpha)
    plausible = np.flatnonzero(lowered <= values.min())
    low, high = _interval(sample.weighted(np.eye(groups)[plausible]), len(plausible), alpha)
    return WorstGroupEstimate(values.min(keepdims=True), np.array([low]), np.array([high]))


def worst_case(
    sample: OutcomeSample, ball: Ball, mix: Array, radii: Sequence[float], alpha: float
) -> tuple[WorstGroupEstimate, WorstGroupEstimate]:
    """The lowest accuracy over all group mixes within each radius of `mix`, and its mean over the radii.

    Args:
        sample: Outcomes of the method's runs on the test examples.
        ball: Which mixes lie within a radius.
        mix: Group shares in the balls' centre, `[G]`.
        radii: Radii `[R]`.
        alpha: 1 - confidence.

    Returns:
        The curve, `[R]`, and the area under it divided by the range of radii, `[1]`.
    """
    values = sample.values.mean(axis=0)
    curve = ball.lowest(values, mix, radii)
    share = trapezoid_weights(radii)
    area = share @ curve
    # A group that no mix can reach, or that has no examples, never is the worst of what can be known.
    known = np.where(np.isnan(values), 1.0, values)
    fallen = np.diag(np.where(np.isnan(values), 0.0, _reach(sample, alpha)))
    mixes = ball.mixes(np.vstack([known, known - fallen]), mix, radii)  # [1 + G, R, G]
    candidates = np.concatenate([mixes, np.einsum("r,crg->cg", share, mixes)[:, None]], axis=1)
    ends = [
        (math.nan, math.nan)
        if math.isnan(value)
        else _candidate_interval(sample, candidates[:, place], alpha)
        for place, value in enumerate([*curve, area])
    ]
    low, high = np.array(ends).T
    return (
        WorstGroupEstimate(curve, low[:-1], high[:-1]),
        WorstGroupEstimate(np.array([area]), low[-1:], high[-1:]),
    )


def trapezoid_weights(axis: Sequence[float]) -> Array:
    """Weights `[R]` with which values at `axis` `[R]`, in any order, give the mean of the curve (trapezoidal rule)."""
    if len(axis) == 1:
        return np.ones(1)
    order = np.argsort(axis)
    x = np.asarray(axis, dtype=np.float64)[order]
    steps = np.diff(x)
    inner = np.zeros(len(x))
    inner[:-1] += steps / 2
    inner[1:] += steps / 2
    weights = np.zeros(len(x))
    weights[order] = inner / (x[-1] - x[0])
    return weights


def _reach(sample: OutcomeSample, alpha: float) -> Array:
    """How far each group's mean may fall against the lowest one's: an interval of the difference, `[G]`.

    As if both were independent, from each one's own interval (Zou and Donner 2008).
    """
    means = sample.weighted(np.eye(len(sample.counts)))
    low, high = mean_interval(means, alpha / 2)
    fall, rise = means.mean - low, high - means.mean
    lowest = int(np.nanargmin(means.mean))
    reach: Array = np.hypot(fall, rise[lowest])
    reach[lowest] = 0.0
    return reach


def _candidate_interval(sample: OutcomeSample, mixes: Array, alpha: float) -> tuple[float, float]:
    """Interval of the lowest of the candidates' accuracies, from their mixes `[C, G]`, of which the first is observed.

    How much a candidate counts as a further one is the root of its total-variation distance from the first: 0 for the
    same mix, 1 for one of other groups.
    """
    distance = 0.5 * np.abs(mixes[1:] - mixes[0]).sum(axis=1)
    distinct = 1.0 + float(np.sqrt(distance).sum())
    return _interval(sample.weighted(mixes), distinct, alpha)


def _interval(candidates: WeightedMeans, distinct: float, alpha: float) -> tuple[float, float]:
    low, _ = mean_interval(candidates, alpha / 2)
    _, high = mean_interval(
        candidates, alpha * min(0.5 + (_NEAR_TIES - 1) / 2 * (distinct - 1), _NEAR_TIES / distinct)
    )
    return float(low.min()), float(high.min())
