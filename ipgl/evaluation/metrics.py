"""Accuracies per group, and how invariant a model is on held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ipgl.data import group_counts
from ipgl.evaluation.result import GroupCount
from ipgl.methods.ipg import invariance_ratio, pair_moments


def group_results(
    prediction: Tensor, y: Tensor, attribute: Tensor, aligned: Tensor, num_attributes: int
) -> tuple[GroupCount, ...]:
    """Counts of correct predictions in each group, ordered by `label * num_attributes + attribute`.

    Args:
        prediction: Predicted classes, int64 `[N]`.
        y: Labels, int64 `[N]`.
        attribute: Attributes, int64 `[N]`.
        aligned: Each class's aligned attribute, int64 `[num_classes]`.
        num_attributes: Number of attributes; groups without examples are listed with count 0.
    """
    num_classes = len(aligned)
    counts = group_counts(y, attribute, num_classes, num_attributes)
    hit = prediction == y
    correct = group_counts(y[hit], attribute[hit], num_classes, num_attributes)
    return tuple(
        GroupCount(
            label=label,
            attribute=value,
            aligned=value == int(aligned[label]),
            count=int(counts[label, value]),
            correct=int(correct[label, value]),
        )
        for label in range(num_classes)
        for value in range(num_attributes)
    )


def group_metrics(groups: Sequence[GroupCount]) -> dict[str, float]:
    """Summary accuracies, as fractions.

    Returns:
        `average`: over all examples. `group_mean`: plain mean of the groups' accuracies. `worst_group`: the
        lowest of them. The last two are NaN as soon as one group is empty, because the lowest is then unknown;
        `worst_nonempty_group` leaves empty groups out.
    """
    accuracies = [group.accuracy for group in groups]
    known = [value for value in accuracies if not math.isnan(value)]
    count = sum(group.count for group in groups)
    complete = len(known) == len(accuracies)
    return {
        "average": sum(group.correct for group in groups) / count if count else math.nan,
        "group_mean": sum(known) / len(known) if complete else math.nan,
        "worst_group": min(known) if complete else math.nan,
        "worst_nonempty_group": min(known, default=math.nan),
    }


def pair_metrics(logits_a: Tensor, logits_b: Tensor) -> dict[str, float]:
    """Invariance on pairs from their members' logits, both `[P, K]`.

    Returns:
        `flip_rate`: share of pairs whose members get different predicted classes; `rho`: the invariance ratio.
    """
    flips = (logits_a.argmax(dim=1) != logits_b.argmax(dim=1)).float().mean()
    return {"flip_rate": flips.item(), "rho": invariance_ratio(pair_moments(logits_a, logits_b)).item()}


def prediction_metrics(logits: Tensor, y: Tensor) -> dict[str, float]:
    """Accuracy, mean cross-entropy (nats) and whether one class alone is predicted, from logits `[N, K]`."""
    prediction = logits.argmax(dim=1)
    return {
        "accuracy": (prediction == y).float().mean().item(),
        "nll": torch.nn.functional.cross_entropy(logits, y).item(),
        "collapsed": float((prediction == prediction[0]).all()),
    }
