"""Batching rules of `torch.func.vmap` for linear layers and the cross-entropy, in fewer and larger operations.

Its own rule for linear layers gives the weights' gradients transposed, so that each would be copied in every step, and
multiplies an input that all models share once for each of them. Its rule for the cross-entropy takes 25 operations.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

# Products with fewer columns leave a core half idle: hundreds of heads on 512 features take a fifth of the time as one.
_FEW_OUTPUTS = 16
_DEFAULTS = {name: p.default for name, p in inspect.signature(functional.cross_entropy).parameters.items()}


class BatchedLayers(TorchFunctionMode):
    """Inside, linear layers and mean cross-entropies of single models under `vmap` become batched ones."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is functional.linear and not kwargs and args[0].dim() == 2:
            return _Linear.apply(*args) if len(args) == 3 else _Linear.apply(*args, None)
        plain = len(args) == 2 and all(value == _DEFAULTS.get(name) for name, value in kwargs.items())
        if function is functional.cross_entropy and plain and args[1].dim() == 1:
            return _CrossEntropy.apply(*args)
        return function(*args, **kwargs)


class _Linear(torch.autograd.Function):
    """A linear layer of one model, which `vmap` takes to those of all."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        raise NotImplementedError("only under vmap, over the weights")

    @staticmethod
    def setup_context(ctx: object, inputs: object, output: object) -> None:
        """Nothing to keep."""

    @staticmethod
    def vmap(
        info: object, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> tuple[Tensor, int]:
        assert in_dims[1:] == (0, None if bias is None else 0), "the weights are stacked"
        out: Tensor
        if in_dims[0] is not None:
            out = _OwnInput.apply(x.movedim(in_dims[0], 0), weight, bias)
        elif weight.shape[1] < _FEW_OUTPUTS:
            out = _SharedInput.apply(x, weight, bias)
        else:  # to the last bit what each model computes alone
            out = _OwnInput.apply(x.expand(len(weight), *x.shape), weight, bias)
        return out, 0


class _OwnInput(torch.autograd.Function):
    """Linear layers of M models `[M, out, in]` on inputs `[M, B, in]`."""

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
            # In the weights' own memory layout; torch's own gradients of `baddbmm` come transposed.
            torch.bmm(gradient.mT, x) if needs_weight else None,
            gradient.sum(dim=1) if needs_bias else None,
        )


class _SharedInput(torch.autograd.Function):
    """Linear layers of M models `[M, out, in]` on one input `[B, in]`, as one layer `[M out, in]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x)
        models, out, size = weight.shape
        columns = weight.view(models * out, size).t()
        flat = torch.mm(x, columns) if bias is None else torch.addmm(bias.flatten(), x, columns)
        return flat.view(len(x), models, out).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        assert not needs_x, "an input that all models share is data"
        models, batch, out = gradient.shape
        flat = gradient.transpose(0, 1).reshape(batch, models * out)
        return (
            None,
            torch.mm(flat.t(), x).view(models, out, -1) if needs_weight else None,
            gradient.sum(dim=1) if needs_bias else None,
        )


class _CrossEntropy(torch.autograd.Function):
    """The mean cross-entropy of one model, which `vmap` takes to those of all."""

    @staticmethod
    def forward(logits: Tensor, y: Tensor) -> Tensor:
        raise NotImplementedError("only under vmap, over the logits")

    @staticmethod
    def setup_context(ctx: object, inputs: object, output: object) -> None:
        """Nothing to keep."""

    @staticmethod
    def vmap(info: object, in_dims: tuple[int | None, ...], logits: Tensor, y: Tensor) -> tuple[Tensor, int]:
        assert in_dims[0] is not None, "the logits are stacked"
        logits = logits.movedim(in_dims[0], 0)
        models = len(logits)
        y = y.expand(models, -1) if in_dims[1] is None else y.movedim(in_dims[1], 0)
        each = functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
        return each.view(models, -1).mean(dim=1), 0
