"""What a method is: it owns its gradients. The trainer lends it optimisers and means of averaging over workers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from ipgl.data import Batch, PairBatch
from ipgl.models import Classifier


class Descent(Protocol):
    """One optimiser over the model's parameters."""

    def __call__(self, loss: Tensor) -> None:
        """Take one step down the gradient of `loss` (0-dim), averaged over workers and clipped."""


@dataclass(frozen=True)
class Toolbox:
    """What the trainer lends to a method.

    Attributes:
        descend: The task's optimiser, as the study file configures it.
        corrective_descend: Plain gradient descent on the same parameters at the same scheduled learning rate;
            it has neither momentum nor weight decay, so that a zero gradient changes nothing.
        sum_over_workers: Adds a small tensor up over all workers (the tensor itself with one worker).
    """

    descend: Descent
    corrective_descend: Descent
    sum_over_workers: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Needs:
    """What a method asks of the data beyond inputs and labels."""

    pairs: bool = False
    groups: bool = False
    environments: bool = False


@dataclass(frozen=True)
class StepReport:
    """What one step saw: 0-dim tensors by name, detached; the trainer averages them between evaluations."""

    scalars: dict[str, Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A training method."""

    @property
    def pairs_per_step(self) -> int:
        """Invariance pairs that each step wants over all workers; 0 for none."""

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        """Update the model's parameters once from a batch and, where the method asks for them, pairs."""

    def state_dict(self) -> dict[str, Any]:
        """State beside the optimisers' that a resumed run needs; tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` gave."""
