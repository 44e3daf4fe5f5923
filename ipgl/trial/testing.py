"""Evaluation of a trained model on the test split: predictions, groups, curves and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ipgl.config import EvaluationSettings
from ipgl.data import Alignment, Dataset, PairSet, Readable
from ipgl.evaluation import (
    GroupCount,
    Predictions,
    area_under_curve,
    group_metrics,
    group_results,
    interpolation_axis,
    mixture_weights,
    pair_metrics,
    predict_between,
    predict_logits,
    probability_metrics,
    run_curves,
    weighted_accuracy,
)
from ipgl.evaluation.run_result import CurvePoint
from ipgl.trial.datasets import training_counts


@dataclass(frozen=True)
class TestedModel:
    """Test results of a model.

    Attributes:
        predictions: Predictions for test examples, for corrupted inputs, and between the members of held-out pairs.
        groups: Counts of each group, ordered by `label * num_attributes + attribute`.
        curves: Robustness curves by name.
        metrics: Accuracies, calibration and areas under the curves by name.
    """

    predictions: Predictions
    groups: tuple[GroupCount, ...]
    curves: dict[str, tuple[CurvePoint, ...]]
    metrics: dict[str, float]


def run_test(
    model: nn.Module,
    dataset: Dataset,
    settings: EvaluationSettings,
    alignment: Alignment,
    *,
    batch_size: int,
    corruptions: bool,
    of_pairs: Mapping[str, float],
) -> TestedModel:
    """Evaluate a model on the test split.

    Args:
        model: The model, in evaluation mode.
        dataset: The data.
        settings: The curves and their points.
        alignment: Which attribute value agrees with each class.
        batch_size: Inputs in one forward pass.
        corruptions: Evaluate the data set's corruptions, if the settings include that curve.
        of_pairs: `flip_rate` and `rho` on the held-out pairs, to be added to the metrics.
    """
    predictions = _predict(model, dataset, settings, batch_size, corruptions)
    return measure(
        predictions,
        settings,
        alignment,
        (dataset.num_classes, dataset.num_attributes),
        training_counts(dataset),
        of_pairs,
    )


def measure(
    predictions: Predictions,
    settings: EvaluationSettings,
    alignment: Alignment,
    groups: tuple[int, int],
    training_counts: Tensor | None,
    of_pairs: Mapping[str, float],
) -> TestedModel:
    """Compute groups, curves and metrics from predictions.

    Args:
        predictions: Predictions for the test split.
        settings: The curves and their points.
        alignment: Which attribute value agrees with each class.
        groups: Number of classes, and of attribute values.
        training_counts: Training examples per group, `[num_classes, num_attributes]`; None if unknown.
        of_pairs: `flip_rate` and `rho` on the held-out pairs, to be added to the metrics.
    """
    found = group_results(
        torch.from_numpy(predictions.prediction).long(),
        torch.from_numpy(predictions.label).long(),
        torch.from_numpy(predictions.attribute).long(),
        alignment,
        *groups,
        training_counts,
    )
    curves = run_curves(found, predictions, settings)
    accuracies = np.array([group.accuracy for group in found])
    target = weighted_accuracy(mixture_weights(found, [settings.target_severity]), accuracies)
    metrics = group_metrics(found) | {"shifted_accuracy": float(target[0])}
    metrics |= probability_metrics(predictions.probability, predictions.label)
    metrics |= {name: of_pairs[name] for name in ("flip_rate", "rho")}
    metrics |= {f"area_{name}": area_under_curve(curve) for name, curve in curves.items()}
    return TestedModel(predictions, found, curves, metrics)


def pair_set_metrics(model: nn.Module, pairs: PairSet | None, batch_size: int) -> dict[str, float]:
    """Flip rate and `rho` of a model on pairs; NaN without any."""
    if not pairs:
        return {"flip_rate": math.nan, "rho": math.nan}
    a, b = (predict_logits(model, x, batch_size) for x in (pairs.a, pairs.b))
    return pair_metrics(a, b)


def predict_along(
    model: nn.Module, pairs: PairSet, settings: EvaluationSettings, batch_size: int
) -> NDArray[np.int32]:
    """Predictions between the members of pairs, int32 `[T, P]`; T is 0 if the settings do not include that curve."""
    points = settings.interpolation_points if "interpolation" in settings.curves else 0
    found = predict_between(model, pairs, interpolation_axis(points), batch_size)
    return found.cpu().numpy().astype(np.int32)


def _predict(
    model: nn.Module, dataset: Dataset, settings: EvaluationSettings, batch_size: int, corruptions: bool
) -> Predictions:
    """Predictions for the test split, for its corruptions and between the members of held-out pairs."""
    test = dataset.test

    def classes(x: Readable) -> NDArray[np.int32]:
        return predict_logits(model, x, batch_size).argmax(dim=1).cpu().numpy().astype(np.int32)

    corrupted = dataset.corruptions if corruptions and "corruption" in settings.curves else {}
    logits = predict_logits(model, test.x, batch_size)
    return Predictions(
        label=test.y.cpu().numpy().astype(np.int32),
        attribute=test.attribute.cpu().numpy().astype(np.int32),
        prediction=logits.argmax(dim=1).cpu().numpy().astype(np.int32),
        probability=logits.softmax(dim=1).cpu().numpy(),
        corrupted={
            name: np.stack([classes(corrupt(level)) for level in settings.corruption_levels])
            for name, corrupt in corrupted.items()
        },
        levels={name: settings.corruption_levels for name in corrupted},
        along=predict_along(model, dataset.held_out_pairs, settings, batch_size),
    )
