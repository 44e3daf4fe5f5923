"""Accuracies per group, calibration, and how invariant a model is on held-out pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ipgl.data import Alignment, group_counts
from ipgl.evaluation.invariance import invariance_ratio, pair_moments
from ipgl.evaluation.kappa import kappa_metrics
from ipgl.evaluation.run_result import GroupCount


def group_results(
    prediction: Tensor,
    y: Tensor,
    attribute: Tensor,
    alignment: Alignment,
    num_classes: int,
    num_attributes: int,
    training_counts: Tensor | None = None,
) -> tuple[GroupCount, ...]:
    """Counts of correct predictions in each group, ordered by `label * num_attributes + attribute`.

    Args:
        prediction: Predicted classes, int64 `[N]`.
        y: Labels, int64 `[N]`.
        attribute: Attributes, int64 `[N]`.
        alignment: Which attribute value agrees with each class, if any does.
        num_classes: Number of classes.
        num_attributes: Number of attributes; groups without examples are listed with count 0.
        training_counts: Training examples per group, `[num_classes, num_attributes]`.
    """
    counts = group_counts(y, attribute, num_classes, num_attributes)
    hit = prediction == y
    correct = group_counts(y[hit], attribute[hit], num_classes, num_attributes)
    return tuple(
        GroupCount(
            label=label,
            attribute=value,
            aligned=alignment.agrees(label, value),
            count=int(counts[label, value]),
            correct=int(correct[label, value]),
            training_count=0 if training_counts is None else int(training_counts[label, value]),
        )
        for label in range(num_classes)
        for value in range(num_attributes)
    )


def group_metrics(groups: Sequence[GroupCount]) -> dict[str, float]:
    """Summary accuracies, as fractions.

    Returns:
        `average`: over all examples. `adjusted_average`: groups weighted by their training counts (Sagawa et al.
        2020), NaN without those. `class_balanced`: mean of the classes' accuracies. `group_mean`: plain mean of the
        groups' accuracies. `worst_group`: the lowest of them. The last two are NaN as soon as one group is empty,
        because the lowest is then unknown; `worst_nonempty_group` leaves empty groups out.
    """
    accuracies = [group.accuracy for group in groups]
    known = [value for value in accuracies if not math.isnan(value)]
    count = sum(group.count for group in groups)
    complete = len(known) == len(accuracies)
    return {
        "average": sum(group.correct for group in groups) / count if count else math.nan,
        "adjusted_average": _weighted(groups),
        "class_balanced": _class_balanced(groups),
        "group_mean": sum(known) / len(known) if complete else math.nan,
        "worst_group": min(known) if complete else math.nan,
        "worst_nonempty_group": min(known, default=math.nan),
    }


def _weighted(groups: Sequence[GroupCount]) -> float:
    total = sum(group.training_count for group in groups)
    if not total:
        return math.nan
    return sum(group.accuracy * group.training_count for group in groups if group.training_count) / total


def _class_balanced(groups: Sequence[GroupCount]) -> float:
    classes = {group.label for group in groups}
    accuracies = []
    for label in classes:
        members = [group for group in groups if group.label == label]
        count = sum(group.count for group in members)
        accuracies.append(sum(group.correct for group in members) / count if count else math.nan)
    return sum(accuracies) / len(accuracies)


def wilson_interval(correct: int, count: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of one accuracy (Wilson 1927); NaN for an empty group."""
    if not count:
        return math.nan, math.nan
    from scipy.stats import binomtest  # half a second to import: not where a model is only trained

    found = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(found.low), float(found.high)


def probability_metrics(probability: NDArray[np.float32], label: NDArray[np.int32]) -> dict[str, float]:
    """How good class probabilities `[N, K]` are for labels `[N]`.

    Returns:
        `auroc`: area under the ROC curve, one class against the rest averaged over classes; NaN if the labels lack
        a class. `nll`: mean negative log-likelihood in nats, probabilities below 1e-12 taken as that. `brier`: mean
        squared distance to the label's indicator, summed over classes (0 to 2; Brier 1950). `ece`: expected
        calibration error of the predicted class over 15 bins of equal mass (Nixon et al. 2019).
    """
    p = probability.astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    classes = p.shape[1]
    truth = np.eye(classes)[label]
    complete = len(np.unique(label)) == classes
    return {
        "auroc": float(np.mean([_auroc(p[:, k], label == k) for k in range(classes)]))
        if complete
        else math.nan,
        "nll": float(-np.log(np.maximum(p[np.arange(len(p)), label], 1e-12)).mean()),
        "brier": float(((p - truth) ** 2).sum(axis=1).mean()),
        "ece": expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == label),
    }


def _auroc(score: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Share of pairs of a positive and a negative example that `score` orders rightly; a tie counts half.

    Not scikit-learn's, which takes a second to import: every process of a study would.
    """
    _, value, count = np.unique(score, return_inverse=True, return_counts=True)
    positives = np.bincount(value, weights=positive, minlength=len(count))
    negatives = count - positives
    below = negatives.cumsum() - negatives / 2
    return float((positives * below).sum() / (positives.sum() * negatives.sum()))


def expected_calibration_error(
    confidence: NDArray[np.float64], correct: NDArray[np.bool_], bins: int = 15
) -> float:
    """Mean distance between confidence and accuracy over bins of equal mass, weighted by their sizes.

    Examples are sorted by confidence and cut into `bins` runs whose sizes differ by at most one.

    Args:
        confidence: Probability of the predicted class, `[N]`.
        correct: Whether the prediction was right, `[N]`.
        bins: Number of bins; at most N are used.
    """
    order = np.argsort(confidence, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    gaps = [len(part) * abs(confidence[part].mean() - correct[part].mean()) for part in parts]
    return float(sum(gaps) / len(confidence))


def pair_metrics(logits_a: Tensor, logits_b: Tensor) -> dict[str, float]:
    """Invariance on pairs from their members' logits, both `[P, K]`.

    Returns:
        `flip_rate`: share of pairs whose members get different predicted classes; `rho`: the invariance ratio.
    """
    flips = (logits_a.argmax(dim=1) != logits_b.argmax(dim=1)).float().mean()
    return {"flip_rate": flips.item(), "rho": invariance_ratio(pair_moments(logits_a, logits_b)).item()}


def prediction_metrics(logits: Tensor, y: Tensor) -> dict[str, float]:
    """What logits `[N, K]` are worth for labels `[N]`.

    Returns:
        `accuracy`; `nll`: mean cross-entropy in nats; `collapsed`: 1 where one class alone is predicted, else 0;
        `kappa` and `guessing` as `ipgl.evaluation.kappa.kappa_metrics`.
    """
    prediction = logits.argmax(dim=1)
    return {
        "accuracy": (prediction == y).float().mean().item(),
        "nll": torch.nn.functional.cross_entropy(logits, y).item(),
        "collapsed": float((prediction == prediction[0]).all()),
        **kappa_metrics(prediction, y, logits.shape[1]),
    }
