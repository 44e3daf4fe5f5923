"""Batched layers under `vmap` against each model alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.functional import cross_entropy

from ipgl.models import MODELS, Classifier
from ipgl.training.batched_layers import BatchedLayers

SHAPE, CLASSES, BATCH = (2, 3, 3), 4, 5


def mlp(seed: int, width: int) -> Classifier:
    torch.manual_seed(seed)
    entry = MODELS["mlp"]
    return entry.build(entry.settings.model_validate({"width": width}), SHAPE, CLASSES)


def head_alone(seed: int, bias: bool) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(18, CLASSES, bias=bias))


@pytest.mark.parametrize("kind", ["few units", "many units", "head", "head without bias"])
@pytest.mark.parametrize("alike", [True, False])
def test_losses_and_gradients_are_those_of_each_model_alone(kind: str, alike: bool) -> None:
    models: list[nn.Module] = [
        mlp(seed, 8 if kind == "few units" else 32)
        if "units" in kind
        else head_alone(seed, bias="without" not in kind)
        for seed in range(3)
    ]
    parameters, _ = stack_module_state(models)
    x = torch.randn(3, BATCH, *SHAPE)
    y = torch.randint(CLASSES, (3, BATCH))
    if alike:
        x, y = x[:1].expand_as(x), y[:1].expand_as(y)

    def loss(own: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return cross_entropy(functional_call(models[0], own, (x,)), y)

    with BatchedLayers():
        dims, given = ((0, None, None), (x[0], y[0])) if alike else ((0, 0, 0), (x, y))
        losses = vmap(loss, in_dims=dims)(parameters, *given)
    found = torch.autograd.grad(losses.sum(), list(parameters.values()))
    for number, model in enumerate(models):
        alone = cross_entropy(model(x[number]), y[number])
        torch.testing.assert_close(losses[number], alone, rtol=1e-6, atol=1e-7)
        expected = torch.autograd.grad(alone, list(model.parameters()))
        for stacked, gradient in zip(found, expected, strict=True):
            torch.testing.assert_close(stacked[number], gradient, rtol=1e-5, atol=1e-7)
    for stacked, parameter in zip(found, parameters.values(), strict=True):
        # A fused optimiser on the CPU takes any gradient for one in its parameter's layout.
        assert stacked.stride() == parameter.stride()


def test_hidden_layers_are_recorded_under_vmap() -> None:
    models = [mlp(seed, 8) for seed in range(3)]
    parameters, _ = stack_module_state(models)
    x = torch.randn(BATCH, *SHAPE)

    class Hidden(nn.Module):
        def __init__(self, model: Classifier) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Tensor) -> list[Tensor]:
            with self.model.recording_hidden() as layers:
                self.model(x)
            return layers

    def hidden(own: dict[str, Tensor]) -> list[Tensor]:
        named = {f"model.{name}": value for name, value in own.items()}
        found: list[Tensor] = functional_call(Hidden(copy.copy(models[0])), named, (x,))
        return found

    with BatchedLayers():
        found = vmap(hidden)(parameters)
    assert len(found) == 2
    for number, model in enumerate(models):
        with model.recording_hidden() as expected:
            model(x)
        for layer, other in zip(found, expected, strict=True):
            torch.testing.assert_close(layer[number], other, rtol=1e-5, atol=1e-6)


def test_another_loss_is_left_as_it_is() -> None:
    logits, y = torch.randn(3, BATCH, CLASSES), torch.randint(CLASSES, (BATCH,))

    def smoothed(own: Tensor) -> Tensor:
        return cross_entropy(own, y, label_smoothing=0.1)

    with BatchedLayers():
        found = vmap(smoothed)(logits)
    torch.testing.assert_close(found, torch.stack([smoothed(own) for own in logits]))
