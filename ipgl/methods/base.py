"""What a training method is: it computes its own gradients, and steps through the optimisers of its context."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from ipgl.config import Range
from ipgl.data import Batch, Dataset, PairBatch
from ipgl.models import Classifier, StackedClassifier

OptimiserKind = Literal["task", "sgd", "adam"]


class MethodOptimiser(Protocol):
    """One optimiser over a model's parameters."""

    def minimise(self, loss: Tensor, scale: Tensor | None = None) -> None:
        """Take one step down the gradient of `loss` (0-dim), averaged over workers and clipped.

        `scale` (0-dim) multiplies the step itself, which differs from a scaled loss where the optimiser
        normalises gradients away, as Adam does. A scaled step has no weight decay: it corrects a step that had it,
        and a decay of its own would grow with the scale.
        """

    def gradients(self, loss: Tensor) -> list[Tensor]:
        """Gradients of `loss`, averaged over workers, in the parameters' order (zeros where there is none)."""

    def step_along(self, gradients: Sequence[Tensor]) -> None:
        """Take one step from given gradients, clipped."""


class TaskOptimiser(MethodOptimiser, Protocol):
    """The task's optimiser of one model."""

    def divided(self, loss: Tensor, divisor: float) -> None:
        """Take one step down `(loss + weight decay) / divisor`, as if in units in which the objective is smaller.

        A loss with a large weight in it has gradients too large for plain descent and for `clip_norm`. Dividing the
        loss alone would multiply weight decay by the divisor. Here all that is measured in the objective's unit is
        divided: the loss (`clip_norm` judges the divided gradient), weight decay where it is part of the gradient
        (`sgd`, `adam`), and Adam's epsilon. What is not (the decoupled decay of `adamw`) stays. The minimisers are
        those of the undivided objective; `adam` and `adamw` take the very steps that they take on it, and `sgd` its
        steps at the learning rate `lr / divisor`.
        """

    def reset(self) -> None:
        """Forget momenta and every other state."""


class Optimisers(Protocol):
    """The optimisers of a `MethodContext`."""

    @property
    def optimiser(self) -> MethodOptimiser:
        """The task's optimiser."""

    @property
    def new_optimiser(self) -> Callable[[OptimiserKind, Classifier | None], MethodOptimiser]:
        """Makes another optimiser."""

    @property
    def device(self) -> torch.device:
        """Where the model is."""


class Labelled(Protocol):
    """Examples with their labels: a `Batch`, or those of a stack of M models, `[M, B, ...]` and `[M, B]`."""

    @property
    def x(self) -> Tensor:
        """Inputs."""

    @property
    def y(self) -> Tensor:
        """Class labels."""


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """Mean cross-entropy in nats of logits `[B, K]` and labels `[B]`, 0-dim; of a stack's, `[M]`."""
    if logits.dim() == 2:
        return functional.cross_entropy(logits, y)
    each = functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    return each.view(y.shape).mean(dim=-1)


@dataclass(frozen=True)
class MethodContext:
    """What the trainer gives to a method.

    Attributes:
        model: The model that is trained.
        dataset: The data; a method reads only what its `needs` declare.
        total_steps: Steps of the whole run.
        optimiser: The task's optimiser, as the study file configures it.
        new_optimiser: Makes another optimiser at the task's scheduled learning rate: `task` is of the task's own kind
            with its settings, `sgd` plain gradient descent (neither momentum nor weight decay, so that a zero
            gradient changes nothing), `adam` likewise without weight decay. It optimises another model if one is
            given. Its state is kept in checkpoints.
        workers: How many processes share each step.
        sum_over_workers: Adds a small tensor up over all workers (the tensor itself with one worker).
        restart: Puts the model back to its initial weights and forgets every optimiser's state.
    """

    model: Classifier
    dataset: Dataset
    total_steps: int
    optimiser: TaskOptimiser
    new_optimiser: Callable[[OptimiserKind, Classifier | None], MethodOptimiser]
    workers: int
    sum_over_workers: Callable[[Tensor], Tensor]
    restart: Callable[[], None]

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.head.weight.device


@dataclass(frozen=True)
class Needs:
    """What a method asks of the data beyond inputs and labels."""

    pairs: bool = False
    groups: bool = False
    environments: bool = False

    def __str__(self) -> str:
        return ", ".join(name for name, needed in vars(self).items() if needed) or "labels only"


@dataclass(frozen=True)
class StepReport:
    """What one step saw: 0-dim tensors by name, detached; the trainer averages them between evaluations."""

    scalars: dict[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A training method."""

    @property
    def pairs_per_step(self) -> int:
        """Invariance pairs that each step wants over all workers; 0 for none."""

    @property
    def sampling_weights(self) -> Tensor | None:
        """How often each training example is drawn, up to a factor, `[N]`; None for shuffled passes."""

    @property
    def train_index(self) -> Tensor | None:
        """Positions of the training split that steps may draw from, int64; None for all."""

    @property
    def restarts(self) -> bool:
        """Whether it may ask for the initial weights again."""

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """Update the model's parameters once from a batch and, where the method asks for them, pairs."""

    def diagnose(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> dict[str, Tensor]:
        """What is worth knowing once per evaluation but too dear for every step: 0-dim tensors by name.

        The trainer averages them over workers.
        """

    def state_dict(self) -> dict[str, Any]:
        """State beside the optimisers' that a resumed run needs; tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""


class StackedMethod(Protocol):
    """A method at work on a stack of M models of one shape; what is 0-dim of one model is `[M]` here."""

    @property
    def draws(self) -> bool:
        """Whether pairs are changed at random."""

    def draw(self, pairs: PairBatch) -> Tensor | None:
        """Random changes for one model's pairs, `[P, ...]`, from torch's global generator; None if `draws` is False."""

    def changed(self, pairs: PairBatch, drawn: Tensor | None) -> PairBatch:
        """Pairs `[P, ...]`, each changed as was drawn for it."""

    def step(self, model: StackedClassifier, batch: Labelled, pairs: PairBatch | None) -> StepReport:
        """Update all models once; pairs are `[M, P, ...]`, changed already."""

    def unstack(self, steps: int) -> None:
        """Give the members' methods the state that they would have alone after so many steps more."""


@runtime_checkable
class StackableMethod(Protocol):
    """A `Method` that can train several models together."""

    @property
    def stack_kind(self) -> Hashable | None:
        """Equal for methods that differ in numbers alone; None for one that trains alone."""

    @classmethod
    def stacked(cls, members: Sequence[Any], optimisers: Optimisers) -> StackedMethod:
        """Methods of one kind as one."""


class MethodBase:
    """What most methods have in common: no pairs, no special sampling, no state."""

    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[dict[str, Range]] = {}
    range_notes: ClassVar[dict[str, str]] = {}  # of a range: when it is for nothing
    pairs_per_step: int = 0
    sampling_weights: Tensor | None = None
    train_index: Tensor | None = None
    restarts: bool = False

    def diagnose(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to take back."""
