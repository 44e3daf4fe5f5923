"""What a training method is: it computes its own gradients, and steps through the optimisers of its context."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from ipgl.config import Range
from ipgl.data import Batch, Dataset, PairBatch
from ipgl.models import Classifier, StateDict

OptimiserKind = Literal["task", "sgd", "adam"]
Number: TypeAlias = float | Tensor  # a float, or where models train together a 0-dim tensor


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


class Labelled(Protocol):
    """Examples with their labels, which is all of a `Batch` that a method sees where models train together."""

    @property
    def x(self) -> Tensor:
        """Inputs `[B, ...]`."""

    @property
    def y(self) -> Tensor:
        """Class labels, int64 `[B]`."""


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

    def state_dict(self) -> StateDict:
        """State beside the optimisers' that a resumed run needs; tensors and plain values."""

    def load_state_dict(self, state: StateDict) -> None:
        """Take back what `state_dict` gave."""


class Objectives(NamedTuple):
    """What a step's forward passes find.

    Attributes:
        losses: What is to be differentiated, 0-dim each. One loss: its gradient is the step's. Several: `combine` makes
            the step's gradient of theirs.
        seen: What the step reports, and what `combine` needs to know: tensors by name, detached.
        moving: The method's state after the step, tensors by name.
    """

    losses: tuple[Tensor, ...]
    seen: dict[str, Tensor]
    moving: dict[str, Tensor]


@runtime_checkable
class PackableMethod(Protocol):
    """A `Method` whose step is made of pure functions of one model, so that others can train many models by it at once.

    None of them knows of other models. `ipgl.training.stack` applies them to many by `torch.func.vmap`: they may not
    read values on the host (no `item()`, no `if` on a tensor), draw random numbers (but in `draw`) or change anything.
    """

    @property
    def pack_kind(self) -> Hashable | None:
        """Equal for methods that differ in `numbers` and state alone; None for one that trains alone."""

    def numbers(self, further: int) -> NamedTuple:
        """The numbers, floats, by which methods of one kind may differ, as of so many steps after the last one."""

    def moving(self) -> dict[str, Tensor]:
        """State that each step moves, tensors by name."""

    def draw(self, pairs: PairBatch) -> Tensor | None:
        """Random changes for pairs, `[P, ...]`, from torch's global generator; None for none."""

    def changed(self, pairs: PairBatch, drawn: Tensor | None) -> PairBatch:
        """Pairs, each changed as was drawn for it, whatever the others are."""

    def objectives(
        self,
        model: Classifier,
        batch: Labelled,
        pairs: PairBatch | None,
        numbers: Any,
        moving: dict[str, Tensor],
    ) -> Objectives:
        """The forward passes of one step, by `numbers` and from the state `moving` of any method of this kind."""

    def combine(
        self, gradients: Sequence[Sequence[Tensor]], seen: dict[str, Tensor], numbers: Any
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The step's gradient, and what it reports, of the gradients of each of several losses."""

    def advance(self, steps: int, moving: dict[str, Tensor]) -> None:
        """Take over that so many steps have been taken, and the state after them."""


class NoNumbers(NamedTuple):
    """The numbers of a method that has none."""


class MethodBase:
    """What most methods have in common: no pairs, no special sampling, no state, no numbers.

    With a `pack_kind` and `objectives` of its own it is a `PackableMethod`; `combine` is for several losses.
    """

    needs: ClassVar[Needs] = Needs()
    search_space: ClassVar[dict[str, Range]] = {}
    range_notes: ClassVar[dict[str, str]] = {}  # of a range: when it is for nothing
    pairs_per_step: int = 0
    sampling_weights: Tensor | None = None
    train_index: Tensor | None = None
    restarts: bool = False
    pack_kind: Hashable | None = None

    def numbers(self, further: int) -> NamedTuple:
        """None."""
        return NoNumbers()

    def moving(self) -> dict[str, Tensor]:
        """None."""
        return {}

    def draw(self, pairs: PairBatch) -> Tensor | None:
        """No changes."""
        return None

    def changed(self, pairs: PairBatch, drawn: Tensor | None) -> PairBatch:
        """The pairs as they are."""
        return pairs

    def combine(
        self, gradients: Sequence[Sequence[Tensor]], seen: dict[str, Tensor], numbers: Any
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The only gradient."""
        (gradient,) = gradients
        return list(gradient), seen

    def advance(self, steps: int, moving: dict[str, Tensor]) -> None:
        """Nothing to take over."""

    def diagnose(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def state_dict(self) -> StateDict:
        """Nothing."""
        return {}

    def load_state_dict(self, state: StateDict) -> None:
        """Nothing to take back."""
