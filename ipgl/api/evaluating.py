"""Metrics and robustness curves of any PyTorch model, trained here or elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import nn

from ipgl.api.frames import frame
from ipgl.config import EvaluationSettings
from ipgl.core.errors import DataError
from ipgl.data import Dataset, PairSet, resolve_alignment
from ipgl.evaluation import Predictions, wilson_interval
from ipgl.evaluation.predict import device_of
from ipgl.trial.datasets import trial_alignment
from ipgl.trial.testing import TestedModel, measure, pair_set_metrics, predict_along, run_test

if TYPE_CHECKING:
    import pandas
    from plotly.graph_objects import Figure

Pairs: TypeAlias = tuple[ArrayLike | torch.Tensor, ArrayLike | torch.Tensor]
Examples: TypeAlias = tuple[ArrayLike | torch.Tensor, ArrayLike | torch.Tensor, ArrayLike | torch.Tensor]
Alignment: TypeAlias = str | Mapping[str, int | str] | Sequence[int | str]


@dataclass(frozen=True)
class Evaluation:
    """What the test examples say of one trained model.

    Attributes:
        metrics: `average`, `worst_group`, `shifted_accuracy`, `flip_rate`, `rho`, calibration and areas, by name;
            accuracies are fractions.
        tested: Predictions, groups and curves as they are kept for runs of studies.
        confidence: Level of the intervals.
        class_names: By label.
        attribute_names: By value of the spurious attribute.
    """

    metrics: dict[str, float]
    tested: TestedModel
    confidence: float
    class_names: tuple[str, ...]
    attribute_names: tuple[str, ...]

    def groups(self) -> pandas.DataFrame:
        """One row per group: `class, attribute, count, correct, accuracy, low, high` (Wilson's interval)."""
        rows = [
            (
                self.class_names[group.label],
                self.attribute_names[group.attribute],
                group.count,
                group.correct,
                group.accuracy,
                *wilson_interval(group.correct, group.count, self.confidence),
            )
            for group in self.tested.groups
        ]
        return frame(("class", "attribute", "count", "correct", "accuracy", "low", "high"), rows)

    def curves(self) -> pandas.DataFrame:
        """One row per curve and severity: `curve, severity, accuracy, low, high`."""
        rows = [
            (name, point.severity, point.accuracy, point.low, point.high)
            for name, points in self.tested.curves.items()
            for point in points
        ]
        return frame(("curve", "severity", "accuracy", "low", "high"), rows)

    def figure(self, curve: str | None = None) -> Figure:
        """One curve with its interval; without a name the mixture curve, or the first one that there is."""
        from ipgl.report.single_curve import single_curve_figure

        names = list(self.tested.curves)
        chosen = curve or next((name for name in names if "mixture" in name), names[0] if names else "")
        if chosen not in names:
            raise KeyError(f"no curve {chosen!r}; choose one of {', '.join(names) or 'none'}")
        return single_curve_figure(chosen, self.tested.curves[chosen])

    def __repr__(self) -> str:
        shown = ("average", "worst_group", "shifted_accuracy", "flip_rate", "rho")
        values = ", ".join(f"{name}={self.metrics[name]:.3f}" for name in shown if name in self.metrics)
        return f"Evaluation({values})"


def evaluate(
    model: nn.Module,
    data: Dataset | Examples | Iterable[Examples],
    *,
    pairs: Pairs | None = None,
    alignment: Alignment = "auto",
    training_counts: ArrayLike | None = None,
    class_names: Sequence[str] | None = None,
    attribute_names: Sequence[str] | None = None,
    settings: EvaluationSettings | None = None,
    batch_size: int = 512,
) -> Evaluation:
    """Evaluate any PyTorch classifier on test examples with a known spurious attribute.

    Args:
        model: Maps inputs `[B, ...]` to logits `[B, K]`. It is evaluated on its own device and left in the mode that
            it was in.
        data: A `Dataset`, of which the test split counts; or `(x, y, attribute)` as arrays or tensors: inputs
            `[N, ...]`, class labels and attribute values as integers `[N]`; or batches of such triples, as a
            `DataLoader` gives them.
        pairs: Invariance pairs `(a, b)`, `[P, ...]` each, that differ in the attribute alone, for flip rate, `rho` and
            the interpolation curve; None takes a `Dataset`'s held-out pairs.
        alignment: Which attribute value agrees with each class: a mapping or list as in a study file's
            `evaluation.alignment`, `none`, or `auto`, which finds it in the training counts.
        training_counts: Training examples per group, `[K, A]`; None takes a `Dataset`'s, and without one `auto` finds
            no alignment, so that the general mixture is drawn.
        class_names: By label; None numbers them.
        attribute_names: By value; None numbers them.
        settings: Which curves at which points, and the intervals' level.
        batch_size: Inputs in one forward pass.

    Raises:
        DataError: The data do not fit together, or the alignment does not fit them.

    Examples:
        >>> import ipgl, torch
        >>> x = torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
        >>> y, attribute = torch.tensor([1, 1, 0, 0]), torch.tensor([1, 0, 0, 1])
        >>> model = torch.nn.Linear(1, 2)
        >>> with torch.no_grad():
        ...     model.weight.copy_(torch.tensor([[-1.0], [1.0]])); model.bias.zero_()  # doctest: +ELLIPSIS
        Parameter containing:...
        >>> found = ipgl.evaluate(model, (x, y, attribute), alignment=[0, 1])
        >>> found.metrics["worst_group"]
        1.0
        >>> list(found.groups()["count"])
        [1, 1, 1, 1]
    """
    settings = _with_alignment(settings or EvaluationSettings(), alignment)
    members = None if pairs is None else _pair_set(pairs)
    was_training = model.training
    model.eval()
    try:
        if isinstance(data, Dataset):
            dataset = data if members is None else replace(data, held_out_pairs=members)
            return _of_dataset(model, dataset, settings, batch_size)
        given = _Given(training_counts, class_names, attribute_names)
        return _of_examples(model, _batches(data, batch_size), members, given, settings, batch_size)
    finally:
        model.train(was_training)


@dataclass(frozen=True)
class _Given:
    """What is known of examples that are no `Dataset`."""

    training_counts: ArrayLike | None
    class_names: Sequence[str] | None
    attribute_names: Sequence[str] | None


def _of_dataset(
    model: nn.Module, dataset: Dataset, settings: EvaluationSettings, batch_size: int
) -> Evaluation:
    tested = run_test(
        model,
        dataset,
        settings,
        trial_alignment(settings, dataset),
        batch_size=batch_size,
        corruptions=True,
        of_pairs=pair_set_metrics(model, dataset.held_out_pairs, batch_size),
    )
    names = dataset.class_names, dataset.attribute_names
    return Evaluation(tested.metrics, tested, settings.confidence, *names)


def _of_examples(
    model: nn.Module,
    batches: Iterable[Examples],
    pairs: PairSet | None,
    given: _Given,
    settings: EvaluationSettings,
    batch_size: int,
) -> Evaluation:
    predictions = _predictions(model, batches)
    if pairs is not None:
        predictions = replace(predictions, along=predict_along(model, pairs, settings, batch_size))
    classes = predictions.probability.shape[1]
    counts = None if given.training_counts is None else torch.as_tensor(given.training_counts).long()
    attributes = int(predictions.attribute.max()) + 1 if counts is None else counts.shape[1]
    names = (
        _names("class", given.class_names, classes),
        _names("attribute", given.attribute_names, attributes),
    )
    known = torch.zeros(classes, attributes, dtype=torch.int64) if counts is None else counts
    stated = "none" if counts is None and settings.alignment == "auto" else settings.alignment
    tested = measure(
        predictions,
        settings,
        resolve_alignment(stated, known, *names),
        (classes, attributes),
        counts,
        pair_set_metrics(model, pairs, batch_size),
    )
    return Evaluation(tested.metrics, tested, settings.confidence, *names)


def _with_alignment(settings: EvaluationSettings, alignment: Alignment) -> EvaluationSettings:
    """The settings with an alignment, checked as in a study file."""
    stated = dict(alignment) if isinstance(alignment, Mapping) else alignment
    return EvaluationSettings.model_validate(settings.model_dump() | {"alignment": stated})


def _names(what: str, given: Sequence[str] | None, count: int) -> tuple[str, ...]:
    names = tuple(given) if given is not None else tuple(map(str, range(count)))
    if len(names) != count:
        raise DataError(
            f"there are {count} {what} values, but {len(names)} names were given: {', '.join(names)}"
        )
    return names


def _pair_set(pairs: Pairs) -> PairSet:
    a, b = (torch.as_tensor(member) for member in pairs)
    if a.shape != b.shape:
        raise DataError(
            f"pairs must have as many first members as second ones, of one shape, but got {tuple(a.shape)} and "
            f"{tuple(b.shape)}"
        )
    none = torch.full((len(a),), -1, dtype=torch.int64)
    return PairSet(a, b, torch.zeros_like(none), none)


def _batches(data: Examples | Iterable[Examples], batch_size: int) -> Iterator[Examples]:
    """Triples in batches; one triple of whole arrays is cut."""
    if not (isinstance(data, tuple) and len(data) == 3):
        yield from data
        return
    x, y, attribute = (torch.as_tensor(part) for part in data)
    if not len(x) == len(y) == len(attribute):
        raise DataError(
            f"inputs, labels and attributes must be equally many, but got {len(x)}, {len(y)} and {len(attribute)}"
        )
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        yield x[part], y[part], attribute[part]


@torch.inference_mode()
def _predictions(model: nn.Module, batches: Iterable[Examples]) -> Predictions:
    """Predictions of every example; the inputs of one batch at a time are in memory."""
    device = device_of(model)
    probability, labels, attributes = [], [], []
    for batch in batches:
        x, y, attribute = (torch.as_tensor(part) for part in batch)
        logits = model(x.to(device))
        if logits.dim() != 2 or len(logits) != len(y):
            raise DataError(
                f"a model gives logits [B, K] for inputs [B, ...], but this one gave {tuple(logits.shape)} for "
                f"{len(y)} inputs"
            )
        probability.append(logits.float().softmax(dim=1).cpu().numpy())
        labels.append(np.asarray(y.cpu(), dtype=np.int32))
        attributes.append(np.asarray(attribute.cpu(), dtype=np.int32))
    if not probability:
        raise DataError("there are no test examples: the data are empty")
    found, label, attributes_seen = (np.concatenate(parts) for parts in (probability, labels, attributes))
    for what, values, count in (
        ("labels", label, found.shape[1]),
        ("attribute values", attributes_seen, None),
    ):
        if values.min() < 0 or (count is not None and values.max() >= count):
            limit = f"0 to {count - 1}, one for each of the model's logits" if count else "0 or more"
            raise DataError(
                f"{what} must be integers of {limit}, but they go from {values.min()} to {values.max()}"
            )
    return Predictions(
        label=label,
        attribute=attributes_seen,
        prediction=found.argmax(axis=1).astype(np.int32),
        probability=found,
        corrupted={},
        levels={},
        along=np.zeros((0, 0), dtype=np.int32),
    )
