"""Several models of one shape as one: their parameters side by side, their layers as batched products.

A small layer on a small batch takes longer to start than to compute. A stack starts each layer once for all of its
models, and each of them computes what it would alone, to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ipgl.models.classifier import Classifier

_STACKED = (nn.Linear, nn.Flatten)
# Layers that treat each number alone, and so a stack as they treat one model.
_ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.Sigmoid, nn.LeakyReLU, nn.ELU, nn.Identity)


def stackable(model: Classifier) -> bool:
    """Whether models of this kind can be stacked: chains of linear layers and elementwise functions."""
    known = all(isinstance(layer, (*_STACKED, *_ELEMENTWISE)) for layer in _chain(model))
    return known and not list(model.buffers())


def shared(x: Tensor, models: int) -> Tensor:
    """An input `[B, ...]` that all of `models` see, as `[M, B, ...]` without a copy."""
    return x.expand(models, *x.shape)


def joined(parts: Sequence[Tensor], lead: int) -> Tensor:
    """Input batches one after the other: `[B, ...]`, or `[M, B, ...]` with `lead` 1; what is shared stays so."""
    if lead and all(_is_shared(part) for part in parts):
        return shared(torch.cat([part[0] for part in parts]), len(parts[0]))
    return torch.cat(list(parts), dim=lead)


class _BatchedLinear(torch.autograd.Function):
    """`baddbmm`, whose weights' gradients come in the weights' own memory layout: torch's own come transposed, and
    would be copied in every step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if bias is None:
            return torch.bmm(x, weight.mT)
        return torch.baddbmm(bias.unsqueeze(1), x, weight.mT)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if needs_x else None,
            torch.bmm(gradient.mT, x) if needs_weight else None,
            gradient.sum(dim=1) if needs_bias else None,
        )


@dataclass(frozen=True)
class StackedLinear:
    """M linear layers of one shape.

    Attributes:
        weight: `[M, out, in]`.
        bias: `[M, out]`; None without.
    """

    weight: Tensor
    bias: Tensor | None

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs `[M, B, out]` of inputs `[M, B, in]`."""
        out: Tensor = _BatchedLinear.apply(x, self.weight, self.bias)
        return out


class StackedClassifier:
    """M classifiers as one `Network`; from then on each member's parameters are views of the stack's.

    Attributes:
        members: The models.
        parameters: The stacks of parameters, `[M, ...]` each, in the members' order.
        head: The heads.
    """

    lead = 1

    def __init__(self, members: Sequence[Classifier]) -> None:
        """Stack models for which `stackable` is true, all of one shape."""
        self.members = list(members)
        own = [list(model.parameters()) for model in members]
        self.parameters = [torch.stack([p.detach() for p in alike]) for alike in zip(*own, strict=True)]
        of_first: dict[int, Tensor] = {}
        for number, stack in enumerate(self.parameters):
            stack.requires_grad_()
            of_first[id(own[0][number])] = stack
            for model, parameters in enumerate(own):
                parameters[number].data = stack.data[model]

        def stacked(layer: nn.Linear) -> StackedLinear:
            return StackedLinear(
                of_first[id(layer.weight)], None if layer.bias is None else of_first[id(layer.bias)]
            )

        self._layers = [
            (layer, stacked(layer) if isinstance(layer, nn.Linear) else layer) for layer in _chain(members[0])
        ]
        self._hidden = set(map(id, members[0].hidden))
        self._recorded: list[Tensor] | None = None
        self.head = stacked(members[0].head)

    def features(self, x: Tensor) -> Tensor:
        """Features `[M, B, d]` of inputs `[M, B, ...]`."""
        for layer, apply in self._layers:
            if not isinstance(layer, nn.Flatten):
                x = apply(x)
            elif _is_shared(x):
                x = shared(x[0].flatten(1), len(x))
            else:
                x = x.flatten(2)
            if self._recorded is not None and id(layer) in self._hidden:
                self._recorded.append(x)
        return x

    def __call__(self, x: Tensor) -> Tensor:
        """Logits `[M, B, K]` of inputs `[M, B, ...]`."""
        return self.head(self.features(x))

    @property
    def layer_sizes(self) -> list[int]:
        """How many parameters (tensors) each layer has, in the parameters' order."""
        return self.members[0].layer_sizes

    @contextmanager
    def recording_hidden(self) -> Iterator[list[Tensor]]:
        """Collect the hidden layers' outputs of the forward passes inside, `[M, B, ...]` each, in forward order."""
        self._recorded = []
        try:
            yield self._recorded
        finally:
            self._recorded = None


def _chain(model: Classifier) -> list[nn.Module]:
    """The layers of a model's features, one after the other."""
    features = model.features
    return list(features) if isinstance(features, nn.Sequential) else [features]


def _is_shared(x: Tensor) -> bool:
    return x.stride(0) == 0
