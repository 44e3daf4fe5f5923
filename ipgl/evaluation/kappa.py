"""Cohen's kappa, agreement with the labels beyond chance, and its test against guessing."""

from __future__ import annotations

import math
from statistics import NormalDist

from torch import Tensor

from ipgl.data import group_counts

LEVEL = 0.05
"""One-sided level at which kappa must exceed 0 before predictions count as better than guessing."""


def kappa_metrics(prediction: Tensor, y: Tensor, num_classes: int) -> dict[str, float]:
    """Kappa between predictions and labels, and whether it is no evidence of skill.

    With observed agreement `p_o` (the accuracy) and the agreement `p_e = sum_k label_k * predicted_k` that
    predictions of the same class shares reach without looking at the label, `kappa = (p_o - p_e) / (1 - p_e)`
    (Cohen 1960). It is 1 where all predictions are right, and lies in [-1, 1]. Predictions that do not depend on the
    label, constant or not, have 0 in expectation for any number and balance of classes.

    The test uses kappa's large-sample standard error under independence (Fleiss, Cohen and Everitt 1969):
    `sqrt(p_e + p_e^2 - sum_k label_k * predicted_k * (label_k + predicted_k)) / ((1 - p_e) * sqrt(N))`.

    Args:
        prediction: Predicted classes, int64 `[N]`.
        y: Labels, int64 `[N]`.
        num_classes: K.

    Returns:
        `kappa`: 0 where labels and predictions are all of one and the same class, which leaves it undefined.
        `guessing`: 1 where one class alone is predicted, or where kappa is not above 0 by the one-sided test at
        `LEVEL`; else 0.
    """
    # Whole numbers, so that predictions without any skill have exactly 0.
    confusion = group_counts(y, prediction, num_classes, num_classes).cpu()
    labels, predicted = confusion.sum(dim=1).tolist(), confusion.sum(dim=0).tolist()
    count, agreed = sum(labels), int(confusion.trace())
    by_chance = sum(a * b for a, b in zip(labels, predicted, strict=True))
    if by_chance == count**2:
        return {"kappa": 0.0, "guessing": 1.0}
    kappa = (count * agreed - by_chance) / (count**2 - by_chance)
    constant = max(predicted) == count
    critical = NormalDist().inv_cdf(1 - LEVEL) * _standard_error(labels, predicted)
    return {"kappa": kappa, "guessing": float(constant or kappa <= max(0.0, critical))}


def _standard_error(labels: list[int], predicted: list[int]) -> float:
    """Of kappa, if predictions of these counts per class were independent of labels of those."""
    count = sum(labels)
    shares = [(a / count, b / count) for a, b in zip(labels, predicted, strict=True)]
    expected = sum(a * b for a, b in shares)
    spread = expected + expected**2 - sum(a * b * (a + b) for a, b in shares)
    return math.sqrt(max(0.0, spread) / count) / (1 - expected)
