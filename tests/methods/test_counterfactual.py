"""Counterfactual augmentation: what the model is shown; counterfactual logit pairing: one step written out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from image_rows import image_dataset
from narrowing import known
from torch import nn

from ipgl.data import Batch, Dataset, PairBatch, PairSet, Split
from ipgl.data.augment import RandomResizedCrop
from ipgl.methods.counterfactual import (
    CounterfactualAugmentation,
    CounterfactualAugmentationSettings,
    LogitPairing,
    LogitPairingSettings,
)
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


SIZE, LR = 12, 0.1
PAIRED = (7, 2, 9, 4)  # examples from which pairs 0, 1, 3, 4 are made; pair 2 comes from elsewhere
SOURCE = (7, 2, -1, 9, 4)


def make_dataset() -> Dataset:
    """Inputs, first and second members tell by their sign and size what they are and whose."""
    number = torch.arange(SIZE).double()
    x = torch.stack([number, torch.zeros(SIZE)], dim=1)
    source = torch.tensor(SOURCE)
    a = torch.stack([source.double(), torch.full((5,), 1.0)], dim=1).double()
    b = torch.stack([source.double(), torch.full((5,), 2.0)], dim=1).double()
    y = torch.arange(SIZE) % 2
    split = Split(x.double(), y, torch.zeros_like(y), torch.zeros_like(y))
    pairs = PairSet(a, b, source.clamp_min(0) % 2, source)
    return Dataset(split, split, split, pairs, pairs, ("no", "yes"), ("0", "1"), "by hand")


def shown(
    toys: type[Toys], probability: float, index: list[int] | torch.Tensor, seed: int = 0
) -> tuple[Batch, torch.Tensor]:
    """The batch, and what the model saw of it."""
    dataset, model, seen = make_dataset(), toys.hand_model(), []
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    settings = CounterfactualAugmentationSettings(probability=probability)
    method = CounterfactualAugmentation(settings, toys.context(model, dataset=dataset))
    batch = dataset.train.batch(torch.as_tensor(index))
    torch.manual_seed(seed)
    method.step(model, batch, None)
    (x,) = seen
    return batch, x


@pytest.mark.parametrize(("probability", "mark"), [(0.0, 1.0), (1.0, 2.0)])
def test_examples_with_a_pair_are_replaced_by_the_member_and_no_others(
    toys: type[Toys], probability: float, mark: float
) -> None:
    batch, x = shown(toys, probability, [9, 0, 2, 11, 7, 3, 4])
    assert torch.equal(x[:, 0], batch.x[:, 0])  # each by its own pair, and in its own place
    assert x[:, 1].tolist() == [mark, 0.0, mark, 0.0, mark, 0.0, mark]


def test_images_are_cut_as_the_example_was(toys: type[Toys], tmp_path: Path) -> None:
    # The first member of each pair is the training image itself, so that nothing may change.
    dataset, seen = image_dataset(tmp_path, RandomResizedCrop()), []
    model = Classifier(nn.Flatten(), 3 * 16 * 16, 2)
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    settings = CounterfactualAugmentationSettings(probability=0.0)
    method = CounterfactualAugmentation(settings, toys.context(model, dataset=dataset))
    boxes = known(dataset.augment).draw(6, 18, 18, np.random.default_rng(0))
    batch = dataset.train.batch(torch.tensor([3, 40, 0, 11, 41, 5]), boxes)
    method.step(model, batch, None)
    assert torch.equal(seen[0], batch.x)
    assert not torch.equal(batch.x, dataset.train.batch(batch.index).x)


def test_a_batch_without_any_pair_stays_as_it_is(toys: type[Toys]) -> None:
    batch, x = shown(toys, 1.0, [0, 1, 3, 5])
    assert torch.equal(x, batch.x)


def test_members_are_chosen_one_by_one_and_as_often_as_asked(toys: type[Toys]) -> None:
    index = torch.tensor(PAIRED).repeat(1000)
    _, x = shown(toys, 0.3, index)
    second = x[:, 1] == 2.0
    assert ((x[:, 1] == 1.0) | second).all()
    for number in PAIRED:
        share = second[x[:, 0] == number].double().mean().item()
        assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 1000))


def test_augmented_step_by_naive_autograd(toys: type[Toys]) -> None:
    dataset, model = make_dataset(), toys.hand_model()
    method = CounterfactualAugmentation(
        CounterfactualAugmentationSettings(probability=1.0), toys.context(model, lr=LR, dataset=dataset)
    )
    index = torch.tensor([4, 5])
    report = method.step(model, dataset.train.batch(index), None)
    # Logits are 0, so p = 1/2; dW = mean (p - onehot) x^T over inputs (4, 2) with y 0 and (5, 0) with y 1:
    # row 0 is (-1/2 (4, 2) + 1/2 (5, 0)) / 2 = (1/4, -1/2), row 1 its opposite; the biases' gradients cancel.
    expected = torch.tensor([[-0.025, 0.05], [0.025, -0.05]], dtype=torch.float64)
    torch.testing.assert_close(model.head.weight.detach(), expected, rtol=0.0, atol=1e-15)
    assert model.head.bias.abs().max().item() < 1e-16
    assert report.scalars["loss"].item() == pytest.approx(math.log(2), rel=1e-15)


# --- logit pairing ---


def make_model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 3).double()


def make_data() -> tuple[Batch, PairBatch]:
    generator = torch.Generator().manual_seed(0)
    x, a, b = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (8, 6, 6))
    y = torch.randint(3, (8,), generator=generator)
    zeros = torch.zeros_like(y)
    return Batch(x, y, zeros, zeros, torch.arange(8)), PairBatch(a, b, zeros[:6])


def naive(theta: list[torch.Tensor], batch: Batch, pairs: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Task loss and mean L1 distance of the logits, one example after the other."""

    def logits(x: torch.Tensor) -> torch.Tensor:
        return theta[2] @ torch.tanh(theta[0] @ x + theta[1]) + theta[3]

    task = torch.stack(
        [
            logits(x).exp().sum().log() - logits(x)[label]
            for x, label in zip(batch.x, batch.y.tolist(), strict=True)
        ]
    ).mean()
    distances = [
        sum(abs(one - other) for one, other in zip(logits(a), logits(b), strict=True))
        for a, b in zip(pairs.a, pairs.b, strict=True)
    ]
    return task, sum(distances) / len(distances)


@pytest.mark.parametrize("strength", [0.0, 0.7, 20.0])
def test_logit_pairing_step(toys: type[Toys], strength: float) -> None:
    model, (batch, pairs) = make_model(), make_data()
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    task, penalty = naive(theta, batch, pairs)
    gradients = torch.autograd.grad(task + strength * penalty, theta)
    report = LogitPairing(LogitPairingSettings(strength=strength), toys.context(model, lr=LR)).step(
        model, batch, pairs
    )
    for found, start, gradient in zip(model.parameters(), theta, gradients, strict=True):
        torch.testing.assert_close(found.detach(), (start - LR * gradient).detach(), rtol=1e-11, atol=1e-13)
    assert report.scalars["loss"].item() == pytest.approx(task.item(), rel=1e-12)
    assert report.scalars["penalty"].item() == pytest.approx(penalty.item(), rel=1e-12)


def test_logit_pairing_by_hand(toys: type[Toys]) -> None:
    # Logits W x with W = [[1, 2], [0, -1]]: the pair (1, 0), (0, 1) has (1, 0) and (2, -1), so |.|_1 = 2.
    model = toys.hand_model()
    with torch.no_grad():
        model.head.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
    method = LogitPairing(LogitPairingSettings(), toys.context(model))
    first = toys.hand_pairs()
    twice = PairBatch(first.a.repeat(2, 1), torch.cat([first.b, first.a]), first.y.repeat(2))
    report = method.step(model, toys.hand_batch(), twice)  # the second pair's members are equal
    assert report.scalars["penalty"].item() == pytest.approx(1.0, rel=1e-15)
    assert method.pairs_per_step == LogitPairingSettings().pairs_per_step
