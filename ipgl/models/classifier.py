"""The common form of models, `features -> linear head`: methods read both parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol, TypeAlias

from torch import Tensor, nn

# What `state_dict()` of a model, an optimiser or a method returns: tensors and plain values, as
# `torch.load(weights_only=True)` reads them.
StateDict: TypeAlias = dict[str, Any]


class Head(Protocol):
    """The linear head `f = W z + b`.

    Attributes:
        weight: `[K, d]`.
        bias: `[K]`; None without.
    """

    @property
    def weight(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor | None: ...

    def __call__(self, z: Tensor, /) -> Tensor:
        """Logits `[B, K]` of features `[B, d]`."""


class Classifier(nn.Module):
    """A feature extractor `z = g(x)` and a linear head `f = W z + b`.

    Attributes:
        features: Maps inputs `[B, ...]` to features `[B, d]`.
        head: Maps features `[B, d]` to logits `[B, K]`.
        hidden: The modules whose outputs count as hidden layers, first to last.
    """

    def __init__(
        self, features: nn.Module, feature_size: int, num_classes: int, hidden: Sequence[nn.Module] = ()
    ) -> None:
        """Put a head on a feature extractor.

        Args:
            features: Maps inputs to `[B, feature_size]`.
            feature_size: d.
            num_classes: K.
            hidden: Modules of `features` whose outputs count as hidden layers, first to last. What follows them
                must leave their outputs as they are (no in-place activation).
        """
        super().__init__()
        self.features = features
        self.head = nn.Linear(feature_size, num_classes)
        self.hidden = tuple(hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Logits `[B, K]` of inputs `[B, ...]`."""
        logits: Tensor = self.head(self.features(x))
        return logits

    @property
    def layer_sizes(self) -> list[int]:
        """How many parameters (tensors) each layer has, in the parameters' order: a module's own make a layer."""
        layers = [name.rpartition(".")[0] for name, _ in self.named_parameters()]
        return [len(list(alike)) for _, alike in groupby(layers)]

    @property
    def has_hidden(self) -> bool:
        """Whether any module counts as a hidden layer."""
        return bool(self.hidden)

    @contextmanager
    def recording_hidden(self) -> Iterator[list[Tensor]]:
        """Collect the hidden layers' outputs of the forward passes inside, `[B, ...]` each, in forward order."""
        outputs: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            outputs.append(output)

        handles = [module.register_forward_hook(keep) for module in self.hidden]
        try:
            yield outputs
        finally:
            for handle in handles:
                handle.remove()
