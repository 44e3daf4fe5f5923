"""Learning from Failure: the biased network's loss, the relative difficulty, and both networks' steps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import total
from torch import nn

from ipgl.data import Batch, Dataset, PairSet, Split
from ipgl.methods.lff import Lff, LffSettings, generalised_cross_entropy
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


LR, SIZE = 0.2, 6
LABELS = [0, 1, 0, 1, 1, 0]


def make_model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 2).double()


def make_dataset() -> Dataset:
    x = torch.randn(SIZE, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = torch.tensor(LABELS)
    split = Split(x, y, torch.zeros_like(y), torch.zeros_like(y))
    pairs = PairSet(x[:1], x[:1], y[:1], torch.tensor([-1]))
    return Dataset(split, split, split, pairs, pairs, ("no", "yes"), ("0", "1"), "by hand")


def build(
    toys: type[Toys], model: Classifier, optimiser: str = "sgd", momentum: float = 0.0, **settings: float
) -> Lff:
    torch.manual_seed(8)
    context = toys.context(model, optimiser, lr=LR, momentum=momentum, dataset=make_dataset())
    return Lff(LffSettings(**settings), context)


def logits_of(theta: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]


def cross_entropies(theta: list[torch.Tensor], batch: Batch) -> torch.Tensor:
    values = logits_of(theta, batch.x)
    return values.exp().sum(dim=1).log() - values.gather(1, batch.y.unsqueeze(1)).squeeze(1)


def biased_parameters(method: Lff) -> list[torch.Tensor]:
    return [value.clone() for value in method.state_dict()["biased"].values()]


def fresh(theta: list[torch.Tensor]) -> list[torch.Tensor]:
    return [p.detach().clone().requires_grad_() for p in theta]


@pytest.mark.parametrize("q", [0.1, 0.7, 1.0])
def test_generalised_cross_entropy(q: float) -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([1, 2])
    p = [math.exp(-1) / (math.exp(2) + math.exp(-1) + math.exp(0.5)), 1 / 3]
    expected = [(1 - value**q) / q for value in p]
    assert generalised_cross_entropy(logits, y, q).tolist() == pytest.approx(expected, rel=1e-12)


def test_generalised_cross_entropy_has_the_cross_entropy_as_its_limit() -> None:
    logits, y = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64), torch.tensor([1])
    limit = -logits.log_softmax(dim=1)[0, 1].item()
    assert generalised_cross_entropy(logits, y, 1e-7).item() == pytest.approx(limit, rel=1e-6)


BATCHES = [[0, 1, 2, 3], [4, 2, 1, 5], [0, 4, 3, 1]]


def test_three_steps(toys: type[Toys]) -> None:
    """Smoothing per example, division by the class's largest of all examples met, both descents."""
    q, smoothing = 0.6, 0.3
    model = make_model()
    method = build(toys, model, amplification=q, smoothing=smoothing)
    theta = [p.detach().clone() for p in model.parameters()]
    biased = biased_parameters(method)
    smoothed: dict[int, tuple[float, float]] = {}  # example: (loss of the biased, of the debiased network)
    for index in BATCHES:
        batch = make_dataset().train.batch(torch.tensor(index))
        theta, biased = fresh(theta), fresh(biased)
        losses, biased_losses = cross_entropies(theta, batch), cross_entropies(biased, batch)
        for position, i in enumerate(index):
            new = (biased_losses[position].item(), losses[position].item())
            old = smoothed.get(i)
            smoothed[i] = (
                (smoothing * old[0] + (1 - smoothing) * new[0], smoothing * old[1] + (1 - smoothing) * new[1])
                if old
                else new
            )
        weights = []
        for i in index:
            largest = [max(v[part] for j, v in smoothed.items() if LABELS[j] == LABELS[i]) for part in (0, 1)]
            b, d = (smoothed[i][part] / largest[part] for part in (0, 1))
            weights.append(b / (b + d))
        loss = sum(w * value for w, value in zip(weights, losses, strict=True)) / len(index)
        p = logits_of(biased, batch.x).softmax(dim=1)
        amplified = total((1 - p[n, label] ** q) / q for n, label in enumerate(batch.y.tolist())) / len(index)
        gradients, biased_gradients = torch.autograd.grad(loss, theta), torch.autograd.grad(amplified, biased)
        theta = [(v - LR * g).detach() for v, g in zip(theta, gradients, strict=True)]
        biased = [(v - LR * g).detach() for v, g in zip(biased, biased_gradients, strict=True)]

        report = method.step(model, batch, None)
        assert report.scalars["difficulty"].item() == pytest.approx(sum(weights) / len(index), rel=1e-7)
        assert report.scalars["loss"].item() == pytest.approx(losses.mean().item(), rel=1e-7)
        for found, expected in zip(model.parameters(), theta, strict=True):
            torch.testing.assert_close(found.detach(), expected, rtol=1e-6, atol=1e-8)
        for mine, expected in zip(biased_parameters(method), biased, strict=True):
            torch.testing.assert_close(mine, expected, rtol=1e-6, atol=1e-8)


def test_relative_difficulty_by_hand(toys: type[Toys]) -> None:
    """The first meeting takes a loss as it is; the second smooths it."""
    method = build(toys, make_model(), smoothing=0.75)
    batch = make_dataset().train.batch(torch.tensor([0, 2, 1]))  # classes 0, 0, 1
    losses = torch.tensor([[4.0, 2.0, 3.0], [1.0, 2.0, 5.0]], dtype=torch.float64)
    # Class 0: the largest are 4 and 2, so b = (1, 1/2), d = (1/2, 1); class 1 alone: b = d = 1.
    first = method._relative_difficulty(losses, batch)
    assert first.tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 2], rel=1e-7)
    # Smoothed by 3/4: biased (4, 3/4 * 2 + 1/4 * 6) = (4, 3), debiased (1, 2) as before.
    losses = torch.tensor([[4.0, 6.0, 3.0], [1.0, 2.0, 5.0]], dtype=torch.float64)
    second = method._relative_difficulty(losses, batch)
    assert second.tolist() == pytest.approx([2 / 3, (3 / 4) / (3 / 4 + 1), 1 / 2], rel=1e-7)


def test_the_biased_network_starts_from_its_own_weights(toys: type[Toys]) -> None:
    model = make_model()
    for mine, biased in zip(model.parameters(), biased_parameters(build(toys, model)), strict=True):
        assert mine.shape == biased.shape
        assert not torch.equal(mine.detach(), biased)


def test_the_biased_network_has_its_own_optimiser_of_the_task_s_kind(toys: type[Toys]) -> None:
    """Adam's steps have length lr at first, for both; either network's momenta are its own."""
    model = make_model()
    method = build(toys, model, "adam")
    before, biased_before = [p.detach().clone() for p in model.parameters()], biased_parameters(method)
    method.step(model, make_dataset().train.batch(torch.arange(SIZE)), None)
    afterwards = [*model.parameters(), *biased_parameters(method)]
    for after, start in zip(afterwards, [*before, *biased_before], strict=True):
        step = (after.detach() - start).abs()
        torch.testing.assert_close(step, torch.full_like(step, LR), rtol=1e-3, atol=0.0)


def test_a_state_brings_back_both_networks_and_losses(toys: type[Toys]) -> None:
    model = make_model()
    method = build(toys, model)
    for index in BATCHES:
        method.step(model, make_dataset().train.batch(torch.tensor(index)), None)
    other = make_model()
    other.load_state_dict(model.state_dict())
    resumed = build(toys, other)
    torch.nn.init.zeros_(resumed._biased.head.weight)  # what it starts with must not matter
    resumed.load_state_dict(method.state_dict())
    batch = make_dataset().train.batch(torch.tensor([5, 0, 1]))
    found, expected = resumed.step(other, batch, None), method.step(model, batch, None)
    assert torch.equal(found.scalars["difficulty"], expected.scalars["difficulty"])
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))
