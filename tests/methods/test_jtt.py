"""JTT: the error set, its weights, and the fresh start of the second training."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import as_tensor
from torch import nn

from ipgl.data import Batch, Dataset, PairSet, Split
from ipgl.methods.jtt import Jtt, JttSettings
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


LR, SIZE = 0.3, 12


def make_model(dtype: torch.dtype = torch.float64) -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 2).to(dtype)


def make_dataset(dtype: torch.dtype = torch.float64) -> Dataset:
    """Labels follow the first input, but for three examples that no small network gets right so soon."""
    x = torch.randn(SIZE, 5, generator=torch.Generator().manual_seed(1), dtype=dtype)
    y = (x[:, 0] > 0).long()
    y[[1, 6, 8]] = 1 - y[[1, 6, 8]]
    split = Split(x, y, torch.zeros_like(y), torch.zeros_like(y))
    pairs = PairSet(x[:1], x[:1], y[:1], torch.tensor([-1]))
    return Dataset(split, split, split, pairs, pairs, ("no", "yes"), ("0", "1"), "by hand")


def build(
    toys: type[Toys],
    model: Classifier,
    optimiser: str = "sgd",
    momentum: float = 0.0,
    total_steps: int = 10,
    dtype: torch.dtype = torch.float64,
    **settings: float,
) -> Jtt:
    context = toys.context(
        model, optimiser, lr=LR, momentum=momentum, dataset=make_dataset(dtype), total_steps=total_steps
    )
    return Jtt(JttSettings(**settings), context)


def batch_of(number: int, dtype: torch.dtype = torch.float64) -> Batch:
    return make_dataset(dtype).train.batch((torch.arange(4) + 4 * number) % SIZE)


def logits_of(theta: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]


def naive_run(
    start: list[torch.Tensor], first_steps: int, upweight: float, total: int, momentum: float = 0.0
) -> list[tuple[list[torch.Tensor], list[float], float]]:
    """Two trainings with momentum, written out; the parameters after each step."""
    dataset = make_dataset()
    theta, speed = [p.clone() for p in start], [torch.zeros_like(p) for p in start]
    weights = [1.0] * SIZE
    history = []
    for step in range(total):
        if step == first_steps:
            wrong = logits_of(theta, as_tensor(dataset.train.x)).argmax(dim=1) != dataset.train.y
            weights = [upweight if bad else 1.0 for bad in wrong.tolist()]
            theta, speed = [p.clone() for p in start], [torch.zeros_like(p) for p in start]
        batch = batch_of(step)
        theta = [p.requires_grad_() for p in theta]
        values = logits_of(theta, batch.x)
        losses = values.exp().sum(dim=1).log() - values.gather(1, batch.y.unsqueeze(1)).squeeze(1)
        weighted = sum(weights[i] * loss for i, loss in zip(batch.index.tolist(), losses, strict=True)) / len(
            losses
        )
        gradients = torch.autograd.grad(weighted / (sum(weights) / SIZE), theta)
        speed = [momentum * v + g for v, g in zip(speed, gradients, strict=True)]
        theta = [(p - LR * v).detach() for p, v in zip(theta, speed, strict=True)]
        history.append((theta, weights, losses.mean().item()))
    return history


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_both_trainings_step_by_step(toys: type[Toys], momentum: float) -> None:
    """With momentum, a state kept over the restart would be seen in the very next step."""
    model = make_model()
    expected = naive_run([p.detach().clone() for p in model.parameters()], 4, 5.0, 10, momentum)
    wrong = sum(weight == 5.0 for weight in expected[4][1])
    assert 0 < wrong < SIZE  # so that the error set tells something
    method = build(toys, model, momentum=momentum, first_share=0.4, upweight=5.0)
    for step, (theta, weights, loss) in enumerate(expected):
        report = method.step(model, batch_of(step), None)
        assert method.state_dict()["weights"].tolist() == weights
        assert report.scalars["loss"].item() == pytest.approx(loss, rel=1e-6)
        for found, value in zip(model.parameters(), theta, strict=True):
            torch.testing.assert_close(found.detach(), value, rtol=1e-5, atol=1e-7)  # weights are single


def test_the_second_training_begins_where_the_first_did_with_adam_s_state_gone(toys: type[Toys]) -> None:
    # Adam's first step has length lr in every coordinate, whatever came before.
    model = make_model()
    start = [p.detach().clone() for p in model.parameters()]
    method = build(toys, model, "adam", first_share=0.3)
    for step in range(3):
        method.step(model, batch_of(step), None)
    assert any(
        not torch.allclose(p.detach(), q, atol=2 * LR) for p, q in zip(model.parameters(), start, strict=True)
    )
    method.step(model, batch_of(3), None)
    for found, first in zip(model.parameters(), start, strict=True):
        moved = (found.detach() - first).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, LR), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize(
    ("share", "total", "first"), [(0.4, 10, 4), (0.01, 10, 1), (0.25, 10, 2), (0.5, 7, 4)]
)
def test_when_the_second_training_begins(toys: type[Toys], share: float, total: int, first: int) -> None:
    # At least one step; round half to even: 2.5 and 3.5 become 2 and 4.
    model = make_model()
    method = build(toys, model, first_share=share, upweight=9.0, total_steps=total)
    changed = 0
    for step in range(total):
        method.step(model, batch_of(step), None)
        if not changed and method.state_dict()["weights"].max().item() == 9.0:
            changed = step
    assert changed == first


@pytest.mark.parametrize("saved_after", [2, 4, 6])
def test_resumed_in_either_training_and_between_them(toys: type[Toys], saved_after: int) -> None:
    model = make_model()
    initial = copy.deepcopy(model)
    method = build(toys, model, first_share=0.4, upweight=5.0)
    for step in range(saved_after):
        method.step(model, batch_of(step), None)

    resumed_model = copy.deepcopy(initial)
    resumed = build(toys, resumed_model, first_share=0.4, upweight=5.0)  # its context has the initial weights
    resumed_model.load_state_dict(model.state_dict())
    resumed.load_state_dict(method.state_dict())
    for step in range(saved_after, 10):
        method.step(model, batch_of(step), None)
        resumed.step(resumed_model, batch_of(step), None)
    for mine, other in zip(model.parameters(), resumed_model.parameters(), strict=True):
        assert torch.equal(mine, other)
    assert torch.equal(method.state_dict()["weights"], resumed.state_dict()["weights"])


def test_it_asks_for_the_initial_weights() -> None:
    assert Jtt.restarts


def test_the_first_step_after_the_restart_sees_the_initial_weights_in_mixed_precision(
    toys: type[Toys],
) -> None:
    """What autocast had cast for the errors is neither the weights to go on from nor able to pass gradients."""
    model = make_model(torch.float32)
    start = [p.detach().clone() for p in model.parameters()]
    method = build(toys, model, dtype=torch.float32, first_share=0.1, upweight=1.0)
    method.step(model, batch_of(0, torch.float32), None)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(-3 * p)  # as if the first training had gone far
    with torch.autocast("cpu", dtype=torch.bfloat16):
        report = method.step(model, batch_of(1, torch.float32), None)
    start = [p.requires_grad_() for p in start]
    batch = batch_of(1, torch.float32)
    values = logits_of(start, batch.x)
    loss = (values.logsumexp(dim=1) - values.gather(1, batch.y.unsqueeze(1)).squeeze(1)).mean()
    gradients = torch.autograd.grad(loss, start)
    assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=0.02)
    assert math.isfinite(loss.item())
    for found, first, gradient in zip(model.parameters(), start, gradients, strict=True):
        torch.testing.assert_close((first - found).detach() / LR, gradient, rtol=0.1, atol=0.01)
