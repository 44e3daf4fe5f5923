"""RIDG against rationale matrices written out one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import total
from torch import nn

from ipgl.data import Batch, Dataset, PairSet, Split
from ipgl.methods.ridg import Ridg, RidgSettings
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


CLASSES, FEATURES, LR = 3, 4, 0.2


def make_model(dtype: torch.dtype = torch.float64) -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, FEATURES), nn.Tanh()), FEATURES, CLASSES).to(dtype)


def make_batch(labels: list[int], seed: int, dtype: torch.dtype = torch.float64) -> Batch:
    x = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    y = torch.tensor(labels)
    zeros = torch.zeros_like(y)
    return Batch(x, y, zeros, zeros, torch.arange(len(y)))


def make_dataset() -> Dataset:
    """Three classes, which is all that the method reads."""
    batch = make_batch([0, 1, 2], 9)
    split = Split(batch.x, batch.y, batch.attribute, batch.environment)
    pairs = PairSet(batch.x, batch.x, batch.y, batch.index)
    return Dataset(split, split, split, pairs, pairs, ("0", "1", "2"), ("0", "1"), "by hand")


class Reference:
    """The paper's code with every matrix made: means per class, which follow the batches; each class counts alike."""

    def __init__(self, model: Classifier, strength: float, momentum: float) -> None:
        self.theta = [p.detach().clone() for p in model.parameters()]
        self.strength, self.momentum = strength, momentum
        self.means: dict[int, torch.Tensor] = {}

    def step(self, batch: Batch) -> tuple[float, float]:
        theta = [p.clone().requires_grad_() for p in self.theta]
        matrices, losses = [], []
        for x, label in zip(batch.x, batch.y.tolist(), strict=True):
            z = torch.tanh(theta[0] @ x + theta[1])
            logits = theta[2] @ z + theta[3]
            losses.append(logits.exp().sum().log() - logits[label])
            matrices.append(theta[2] * z)  # R[k, j] = W[k, j] z[j]
        for label in set(batch.y.tolist()):
            of = [m.detach() for m, y in zip(matrices, batch.y.tolist(), strict=True) if y == label]
            mean = total(of) / len(of)
            if label in self.means:
                mean = (1 - self.momentum) * self.means[label] + self.momentum * mean
            self.means[label] = mean
        distances = [
            ((m - self.means[y]) ** 2).sum() for m, y in zip(matrices, batch.y.tolist(), strict=True)
        ]
        labels = batch.y.tolist()
        of_class = {y: [d for d, other in zip(distances, labels, strict=True) if other == y] for y in labels}
        task = total(losses) / len(losses)
        spread = total(total(of) / len(of) for of in of_class.values()) / CLASSES
        gradients = torch.autograd.grad(task + self.strength * spread, theta)
        self.theta = [(p - LR * g).detach() for p, g in zip(theta, gradients, strict=True)]
        return task.item(), spread.item()


# Class 2 is met in the second step, class 0 is absent from it, and all are there in the third.
BATCHES = [[0, 1, 1, 0, 1], [2, 1, 2, 2], [0, 1, 2, 0, 0, 1]]


@pytest.mark.parametrize(("strength", "momentum"), [(0.3, 0.25), (5.0, 1.0), (0.0, 0.5)])
def test_three_steps(toys: type[Toys], strength: float, momentum: float) -> None:
    model = make_model()
    method = Ridg(
        RidgSettings(strength=strength, momentum=momentum), toys.context(model, lr=LR, dataset=make_dataset())
    )
    reference = Reference(model, strength, momentum)
    for seed, labels in enumerate(BATCHES):
        batch = make_batch(labels, seed)
        report = method.step(model, batch, None)
        task, spread = reference.step(batch)
        assert report.scalars["loss"].item() == pytest.approx(task, rel=1e-11)
        assert report.scalars["penalty"].item() == pytest.approx(spread, rel=1e-10)
        for found, expected in zip(model.parameters(), reference.theta, strict=True):
            torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-12)


def test_mean_rationale_of_a_class_not_met_and_of_one_absent(toys: type[Toys]) -> None:
    model = make_model()
    method = Ridg(RidgSettings(momentum=0.25), toys.context(model, dataset=make_dataset()))
    method.step(model, make_batch(BATCHES[0], 0), None)
    first = method.state_dict()
    assert first["met"].tolist() == [True, True, False]
    assert first["mean"][2].abs().max().item() == 0.0
    method.step(model, make_batch(BATCHES[1], 1), None)
    second = method.state_dict()
    assert second["met"].all()
    assert torch.equal(second["mean"][0], first["mean"][0])  # class 0 was absent
    assert not torch.equal(second["mean"][1], first["mean"][1])


def test_where_classes_are_equally_frequent_the_spread_is_the_mean_over_examples(toys: type[Toys]) -> None:
    model, batch = make_model(), make_batch([0, 1, 2, 2, 1, 0], 0)
    with torch.no_grad():
        rationales = model.features(batch.x).unsqueeze(1) * model.head.weight
        means = torch.stack([rationales[batch.y == label].mean(dim=0) for label in range(CLASSES)])
        expected = (rationales - means[batch.y]).square().sum(dim=(1, 2)).mean().item()
    method = Ridg(RidgSettings(), toys.context(model, dataset=make_dataset()))
    assert method.step(model, batch, None).scalars["penalty"].item() == pytest.approx(expected, rel=1e-12)


def test_alike_examples_have_no_spread(toys: type[Toys]) -> None:
    model = make_model()
    method = Ridg(RidgSettings(strength=100.0), toys.context(model, lr=0.0001, dataset=make_dataset()))
    batch = make_batch([1, 1, 1], 0)
    batch = Batch(batch.x[:1].repeat(3, 1), batch.y, batch.attribute, batch.environment, batch.index)
    assert method.step(model, batch, None).scalars["penalty"].item() < 1e-30


def test_class_means_hold_in_mixed_precision(toys: type[Toys]) -> None:
    """A count in bfloat16 stops at 256, and a sum of as many features with it."""
    model = make_model(torch.float32)
    method = Ridg(RidgSettings(), toys.context(model, lr=1e-6, dataset=make_dataset()))
    batch = make_batch([0] * 2000, 0, torch.float32)
    with torch.no_grad():
        expected = model.features(batch.x).mean(dim=0) * model.head.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        method.step(model, batch, None)
    torch.testing.assert_close(method.state_dict()["mean"][0].T, expected, rtol=0.05, atol=2e-3)
