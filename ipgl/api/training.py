"""One model by one method, without a cluster: for notebooks, scripts and first experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from ipgl.api.evaluating import Evaluation
from ipgl.api.frames import frame
from ipgl.config import Component, EvaluationSettings, TrainingSettings
from ipgl.core.errors import IpglError
from ipgl.core.registry import lookup
from ipgl.data import Dataset
from ipgl.methods import METHODS
from ipgl.models import Classifier
from ipgl.plan.preflight import require_needs
from ipgl.training import Reporter, SilentReporter, choose_device, place
from ipgl.training import train as train_model
from ipgl.trial.build import build_model
from ipgl.trial.datasets import build_dataset, trial_alignment
from ipgl.trial.records import validation_metrics
from ipgl.trial.run import fit_and_test

if TYPE_CHECKING:
    import pandas

Named: TypeAlias = str | Mapping[str, object] | Component


@dataclass(frozen=True)
class Trained:
    """A trained model and how it came about.

    Attributes:
        model: The model, in evaluation mode, on the device on which it was trained.
        dataset: The data that it was trained and tested on.
        evaluation: What the test split says of it.
        rows: One row per evaluation during training: `evaluation, step, epoch, time, train/..., validation/..., score`.
        trace: What the training steps reported, in some 200 rows.
        notes: What to know about the data and the run, a sentence each.
    """

    model: Classifier
    dataset: Dataset
    evaluation: Evaluation
    rows: list[dict[str, float]]
    trace: list[dict[str, float]]
    notes: tuple[str, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Test metrics by name; accuracies are fractions."""
        return self.evaluation.metrics

    @property
    def score(self) -> float:
        """The selection rule's score, from validation metrics alone."""
        return self.rows[-1]["score"]

    def history(self) -> pandas.DataFrame:
        """One row per evaluation during training."""
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        return frame(columns, [[row.get(name) for name in columns] for row in self.rows])

    def __repr__(self) -> str:
        return f"Trained(score={self.score:.3f}, {self.evaluation!r})"


def train(
    dataset: Named | Dataset,
    model: Named | Classifier = "mlp",
    method: Named = "ipg",
    *,
    training: TrainingSettings | Mapping[str, object] | None = None,
    evaluation: EvaluationSettings | Mapping[str, object] | None = None,
    selection: str = "pair_robust",
    seed: int = 0,
    progress: bool = True,
) -> Trained:
    """Train one model by one method in this process, and test it once.

    The result is that of a study's final run of the same settings and seed, to the last bit on as many CPU threads.

    Args:
        dataset: A registered data set: its name, or a mapping as in a study file (`{"name": ..., settings}`); or a
            `Dataset`.
        model: A registered model likewise, or a `Classifier`, which is trained in place from the weights that it has.
        method: A registered method likewise.
        training: Optimiser, epochs, intervals: as `training` in a study file.
        evaluation: Curves and intervals: as `evaluation` in a study file.
        selection: Rule of the score that is recorded beside the validation metrics.
        seed: Seed of initial weights, batch order and the method's own randomness.
        progress: Print a line after each evaluation.

    Raises:
        IpglError: A name or a setting is wrong, or the data do not have what the method needs.
        NonFiniteError: The loss or a parameter became NaN or infinite.

    Examples:
        >>> import ipgl
        >>> trained = ipgl.train(
        ...     {"name": "colored_mnist", "source": "digits", "pairs": {"train": 100, "held_out": 50}},
        ...     {"name": "mlp", "width": 32},
        ...     {"name": "ipg", "task_share": 0.5},
        ...     training={"epochs": 2, "evaluations": 2, "device": "cpu"},
        ...     progress=False,
        ... )
        >>> trained.metrics["worst_group"] <= trained.metrics["average"]
        True
        >>> len(trained.history())
        2
    """
    settings = TrainingSettings.model_validate(training or {})
    wanted = EvaluationSettings.model_validate(evaluation or {})
    device = choose_device(settings)
    data = dataset if isinstance(dataset, Dataset) else build_dataset(_component(dataset))
    chosen = _component(method)
    require_needs(lookup("method", METHODS, chosen.name).needs, data, f"method {chosen.name!r}")
    data = place(data, device)
    network = model if isinstance(model, Classifier) else build_model(_component(model), data, seed)
    network, alignment = network.to(device), trial_alignment(wanted, data)
    reporter = _Lines(settings.epochs) if progress else SilentReporter()
    trainer = partial(train_model, seed=seed, reporter=reporter)
    outcome, tested = fit_and_test(
        network, data, alignment, chosen, settings, wanted, selection, corruptions=True, trainer=trainer
    )
    found = Evaluation(tested.metrics, tested, wanted.confidence, data.class_names, data.attribute_names)
    return Trained(network, data, found, outcome.history, outcome.trace, (*data.notes, *outcome.notes))


class _Lines(Reporter):
    """Prints a line after each evaluation."""

    def __init__(self, epochs: int) -> None:
        self._epochs = epochs

    def report(self, row: dict[str, float]) -> None:
        """Print the row's most telling numbers."""
        validation = validation_metrics(row)
        print(
            f"epoch {row['epoch']:.3g}/{self._epochs}  loss {row['train/loss']:.4f}  "
            f"validation accuracy {validation['accuracy']:.3f}  flip rate {validation['flip_rate']:.3f}  "
            f"score {row['score']:.3f}"
        )


def _component(named: Named) -> Component:
    if isinstance(named, Component):
        return named
    if isinstance(named, str):
        return Component(name=named)
    if "name" not in named:
        raise IpglError(
            f"a component needs its name ({{'name': ..., settings}}), but got the keys {sorted(named)}"
        )
    return Component.model_validate(dict(named))
