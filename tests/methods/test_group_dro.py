"""GroupDRO: the weights' ascent by hand, and the step they give."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import known, total
from torch import nn

from ipgl.data import Batch, Dataset, PairSet, Split
from ipgl.methods.group_dro import GroupDro, GroupDroSettings
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


LR = 0.2
SIZES = {(0, 0): 9, (0, 1): 4, (1, 0): 0, (1, 1): 16}  # group number 2 has no training example


def make_dataset(sizes: dict[tuple[int, int], int] = SIZES) -> Dataset:
    y = torch.tensor([label for (label, _), n in sizes.items() for _ in range(n)])
    attribute = torch.tensor([value for (_, value), n in sizes.items() for _ in range(n)])
    x = torch.zeros(len(y), 5, dtype=torch.float64)
    split = Split(x, y, attribute, torch.zeros_like(y))
    pairs = PairSet(x[:1], x[:1], y[:1], torch.tensor([-1]))
    return Dataset(split, split, split, pairs, pairs, ("no", "yes"), ("red", "green"), "by hand")


def make_model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 2).double()


def make_batch(groups: list[int], seed: int = 0) -> Batch:
    x = torch.randn(len(groups), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y, attribute = torch.tensor(groups) // 2, torch.tensor(groups) % 2
    return Batch(x, y, attribute, torch.zeros_like(y), torch.arange(len(y)))


def build(toys: type[Toys], model: Classifier, **settings: float) -> GroupDro:
    return GroupDro(GroupDroSettings(**settings), toys.context(model, lr=LR, dataset=make_dataset()))


def losses_of(theta: list[torch.Tensor], batch: Batch) -> torch.Tensor:
    values = torch.tanh(batch.x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]
    return values.exp().sum(dim=1).log() - values.gather(1, batch.y.unsqueeze(1)).squeeze(1)


@pytest.mark.parametrize("adjustment", [0.0, 1.5])
def test_two_steps(toys: type[Toys], adjustment: float) -> None:
    """The second batch lacks group 1, whose loss is 0 there and whose adjustment stays."""
    step_size = 0.5
    model = make_model()
    method = build(toys, model, step_size=step_size, adjustment=adjustment)
    theta = [p.detach().clone() for p in model.parameters()]
    q = {0: 1 / 3, 1: 1 / 3, 2: 0.0, 3: 1 / 3}
    extra = {0: adjustment / 3, 1: adjustment / 2, 3: adjustment / 4}  # C / sqrt(9), sqrt(4), sqrt(16)
    for seed, groups in enumerate(([0, 3, 1, 3, 0, 0], [3, 0, 3])):
        batch = make_batch(groups, seed)
        theta = [p.requires_grad_() for p in theta]
        losses = losses_of(theta, batch)
        means = {g: losses[torch.tensor(groups) == g].mean() for g in set(groups)}
        rise = {g: (means[g].item() if g in means else 0.0) + extra.get(g, 0.0) for g in q}
        raised = {g: q[g] * math.exp(step_size * rise[g]) for g in q}
        q = {g: value / sum(raised.values()) for g, value in raised.items()}
        # The adjustments are constants, so that the gradient is that of the weighted losses.
        gradients = torch.autograd.grad(total(q[g] * mean for g, mean in means.items()), theta)
        theta = [(p - LR * g).detach() for p, g in zip(theta, gradients, strict=True)]

        report = method.step(model, batch, None)
        weights = method.state_dict()["weights"]
        assert weights.tolist() == pytest.approx([q[g] for g in range(4)], rel=1e-12)
        assert weights.sum().item() == pytest.approx(1.0, rel=1e-12)
        for found, expected in zip(model.parameters(), theta, strict=True):
            torch.testing.assert_close(found.detach(), expected, rtol=1e-11, atol=1e-13)
        assert report.scalars["loss"].item() == pytest.approx(losses.mean().item(), rel=1e-12)
        worst = max(mean.item() for mean in means.values())
        assert report.scalars["worst_group_loss"].item() == pytest.approx(worst, rel=1e-12)


def test_a_group_without_training_examples_has_no_weight(toys: type[Toys]) -> None:
    model = make_model()
    method = build(toys, model, step_size=10.0)
    assert method.state_dict()["weights"].tolist() == pytest.approx([1 / 3, 1 / 3, 0.0, 1 / 3])
    for seed in range(3):
        method.step(model, make_batch([0, 1, 3], seed), None)
    assert method.state_dict()["weights"][2].item() == 0.0


def test_the_worst_group_gains(toys: type[Toys]) -> None:
    model = make_model()
    method = build(toys, model, step_size=1.0)
    batch = make_batch([0, 1, 3, 3, 1, 0])
    losses = losses_of([p.detach() for p in model.parameters()], batch)
    worst = max((0, 1, 3), key=lambda g: losses[2 * batch.y + batch.attribute == g].mean().item())
    method.step(model, batch, None)
    weights = method.state_dict()["weights"]
    assert weights.argmax().item() == worst
    assert weights[worst].item() > 1 / 3


@pytest.mark.parametrize("balanced", [True, False])
def test_groups_are_drawn_equally_often_unless_told_not_to(toys: type[Toys], balanced: bool) -> None:
    weights = build(toys, make_model(), balanced=balanced).sampling_weights
    if not balanced:
        assert weights is None
    else:
        expected = [1 / 9] * 9 + [1 / 4] * 4 + [1 / 16] * 16
        assert known(weights).tolist() == pytest.approx(expected, rel=1e-15)


def test_workers_together_descend_as_one_does(toys: type[Toys]) -> None:
    """Each of two workers sees half of the batch; the mean of their steps is the step on the whole."""
    whole = make_batch([0, 3, 1, 3, 0, 0])  # group 1 is on the first worker alone
    halves = [
        Batch(*(getattr(whole, name)[part] for name in ("x", "y", "attribute", "environment", "index")))
        for part in (slice(0, 3), slice(3, 6))
    ]
    alone = make_model()
    build(toys, alone, step_size=0.5).step(alone, whole, None)

    sums: list[torch.Tensor] = []

    def keep(own: torch.Tensor) -> torch.Tensor:
        sums.append(own)
        return own

    for half in halves:
        model = make_model()
        context = toys.context(model, lr=LR, dataset=make_dataset())
        context = replace(context, sum_over_workers=keep)
        GroupDro(GroupDroSettings(step_size=0.5), context).step(model, half, None)
    total = sums[0] + sums[1]
    ends = []
    for half in halves:
        model = make_model()
        context = replace(
            toys.context(model, lr=LR, dataset=make_dataset()), sum_over_workers=lambda own: total
        )
        GroupDro(GroupDroSettings(step_size=0.5), context).step(model, half, None)
        ends.append([p.detach() for p in model.parameters()])
    for one, first, second in zip(alone.parameters(), *ends, strict=True):
        torch.testing.assert_close((first + second) / 2, one.detach(), rtol=1e-11, atol=1e-13)
