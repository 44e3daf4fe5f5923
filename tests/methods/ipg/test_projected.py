"""The projected update: which component the task's gradient loses, and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pytest
import torch
from ipg_reference import (
    LR,
    gradient,
    ipg_settings,
    leaves,
    make_data,
    make_model,
    rationale,
    rho,
    task_loss,
)

from ipgl.data import Batch, PairBatch
from ipgl.methods import StepReport
from ipgl.methods.ipg import Ipg

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


def flat(tensors: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([t.flatten() for t in tensors])


def data_with(conflict: bool) -> tuple[Batch, PairBatch]:
    """A batch whose task gradient raises D, or lowers it."""
    for seed in range(50):
        batch, pairs = make_data(seed)
        theta = leaves(make_model().parameters())
        task, corrective = gradients(theta, batch, pairs)
        dot = (task @ corrective).item()
        if abs(dot) > 1e-3 and (dot < 0) == conflict:
            return batch, pairs
    raise AssertionError("no such batch")


def gradients(theta: list[torch.Tensor], batch: Batch, pairs: PairBatch) -> tuple[torch.Tensor, torch.Tensor]:
    return flat(gradient(task_loss(theta, batch), theta)), flat(gradient(rationale(theta, pairs), theta))


def step_of(
    toys: type[Toys], batch: Batch, pairs: PairBatch, update: str = "projected", **settings: object
) -> tuple[torch.Tensor, StepReport]:
    """The direction of the step, `(theta - theta') / lr`, and the report."""
    model = make_model()
    before = flat(p.detach().clone() for p in model.parameters())
    method = Ipg(ipg_settings(update=update, **settings), toys.context(model, lr=LR))
    report = method.step(model, batch, pairs)
    return (before - flat(p.detach() for p in model.parameters())) / LR, report


@pytest.mark.parametrize("adaptivity", ["off", "gate", "proportional"])
@pytest.mark.parametrize("strength", [0.05, 2.0])
def test_a_task_gradient_that_raises_the_discrepancy_loses_that_component(
    toys: type[Toys], adaptivity: str, strength: float
) -> None:
    batch, pairs = data_with(conflict=True)
    theta = leaves(make_model().parameters())
    task, corrective = gradients(theta, batch, pairs)
    measure = rho(theta, pairs)
    a = (measure - 0.05) / measure if adaptivity == "proportional" else 1.0
    step, report = step_of(
        toys, batch, pairs, adaptivity=adaptivity, strength=strength, invariance_threshold=0.05
    )
    remaining = step - strength * a * corrective
    assert abs((remaining @ corrective).item()) < 1e-12  # nothing of it is left
    lost = task - remaining  # and nothing else is gone
    unit = corrective / corrective.norm()
    torch.testing.assert_close(lost, (task @ unit) * unit, rtol=1e-9, atol=1e-12)
    assert lost.norm().item() > 1e-4
    assert report.scalars["loss"].item() == pytest.approx(task_loss(theta, batch).item(), rel=1e-12)
    assert report.scalars["multiplier"].item() == pytest.approx(strength * a, rel=1e-10)


def test_gradients_that_agree_stay_as_they_are(toys: type[Toys]) -> None:
    batch, pairs = data_with(conflict=False)
    theta = leaves(make_model().parameters())
    task, corrective = gradients(theta, batch, pairs)
    step, _ = step_of(toys, batch, pairs, adaptivity="gate", strength=0.7)
    torch.testing.assert_close(step, task + 0.7 * corrective, rtol=1e-9, atol=1e-12)
    additive, _ = step_of(toys, batch, pairs, update="additive", adaptivity="gate", strength=0.7)
    torch.testing.assert_close(step, additive, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("conflict", [True, False])
@pytest.mark.parametrize("adaptivity", ["gate", "proportional"])
def test_while_the_condition_holds_it_is_erm(toys: type[Toys], conflict: bool, adaptivity: str) -> None:
    batch, pairs = data_with(conflict)
    task, _ = gradients(leaves(make_model().parameters()), batch, pairs)
    step, report = step_of(toys, batch, pairs, adaptivity=adaptivity, strength=2.0, invariance_threshold=10.0)
    torch.testing.assert_close(step, task, rtol=1e-9, atol=1e-12)
    assert report.scalars["corrected"].item() == 0.0


def test_strength_0_leaves_erm(toys: type[Toys]) -> None:
    batch, pairs = data_with(conflict=True)
    task, _ = gradients(leaves(make_model().parameters()), batch, pairs)
    step, report = step_of(toys, batch, pairs, adaptivity="off", strength=0.0)
    torch.testing.assert_close(step, task, rtol=1e-9, atol=1e-12)
    assert report.scalars["corrected"].item() == 0.0


def test_the_step_is_the_task_optimiser_s(toys: type[Toys]) -> None:
    """With Adam the first step has length lr in every coordinate that has a gradient, whatever its size."""
    batch, pairs = data_with(conflict=True)
    model = make_model()
    before = leaves(model.parameters())
    Ipg(ipg_settings(update="projected"), toys.context(model, "adam", lr=0.01)).step(model, batch, pairs)
    for p, start in zip(model.parameters(), before, strict=True):
        length = (p - start).detach().abs()
        torch.testing.assert_close(length, torch.full_like(length, 0.01), rtol=1e-4, atol=0.0)


def test_members_that_are_alike_leave_the_task_s_gradient(toys: type[Toys]) -> None:
    batch, pairs = make_data()
    pairs = PairBatch(pairs.a, pairs.a.clone(), pairs.y)
    task = flat(gradient(task_loss(theta := leaves(make_model().parameters()), batch), theta))
    step, _ = step_of(toys, batch, pairs, adaptivity="off", strength=2.0)
    torch.testing.assert_close(step, task, rtol=1e-9, atol=1e-12)
