"""The projected update: which component the task's gradient loses, and when."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ipgl.data import Batch, PairBatch
from ipgl.methods.ipg import Ipg, IpgSettings
from ipgl.models import Classifier

LR = 0.3


def make_model():
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 3).double()


def make_data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (8,), generator=generator)
    a = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    b = a + 0.7 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    zeros = torch.zeros_like(y)
    return Batch(x, y, zeros, zeros, torch.arange(8)), PairBatch(a, b, zeros[:6])


# --- the reference, on a list of tensors [A, a, W, b] ---


def features(theta, x):
    return torch.tanh(x @ theta[0].T + theta[1])


def task_loss(theta, batch):
    values = features(theta, batch.x) @ theta[2].T + theta[3]
    return (values.exp().sum(dim=1).log() - values.gather(1, batch.y.unsqueeze(1)).squeeze(1)).mean()


def rationale(theta, pairs):
    difference = features(theta, pairs.a) - features(theta, pairs.b)
    return torch.einsum("kj,pj->pkj", theta[2], difference).square().sum(dim=(1, 2)).mean()


def rho(theta, pairs):
    u_a, u_b = (features(theta, x) @ theta[2].T + theta[3] for x in (pairs.a, pairs.b))
    u_a, u_b = u_a - u_a.mean(dim=1, keepdim=True), u_b - u_b.mean(dim=1, keepdim=True)
    members = torch.cat([u_a, u_b])
    variance = (members - members.mean(dim=0)).square().sum() / (len(members) - 1)
    return ((u_a - u_b).square().sum(dim=1).mean() / 2 / variance).item()


def leaves(parameters):
    return [p.detach().clone().requires_grad_() for p in parameters]


def gradient(loss, theta):
    found = torch.autograd.grad(loss, theta, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(theta, found, strict=True)]


def moved(theta, steps):
    return leaves([p - s for p, s in zip(theta, steps, strict=True)])


def assert_equal_to(model, theta, rtol=1e-10):
    for found, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=rtol, atol=0.01 * rtol)


def flat(tensors):
    return torch.cat([t.flatten() for t in tensors])


def data_with(conflict):
    """A batch whose task gradient raises D, or lowers it."""
    for seed in range(50):
        batch, pairs = make_data(seed)
        theta = leaves(make_model().parameters())
        task, corrective = gradients(theta, batch, pairs)
        dot = (task @ corrective).item()
        if abs(dot) > 1e-3 and (dot < 0) == conflict:
            return batch, pairs
    raise AssertionError("no such batch")


def gradients(theta, batch, pairs):
    return flat(gradient(task_loss(theta, batch), theta)), flat(gradient(rationale(theta, pairs), theta))


def step_of(toys, batch, pairs, update="projected", **settings):
    """The direction of the step, `(theta - theta') / lr`, and the report."""
    model = make_model()
    before = flat(p.detach().clone() for p in model.parameters())
    method = Ipg(IpgSettings(update=update, **settings), toys.toolbox(model, lr=LR))
    report = method.step(model, batch, pairs)
    return (before - flat(p.detach() for p in model.parameters())) / LR, report


@pytest.mark.parametrize("adaptivity", ["off", "gate", "proportional"])
@pytest.mark.parametrize("strength", [0.05, 2.0])
def test_a_task_gradient_that_raises_the_discrepancy_loses_that_component(toys, adaptivity, strength):
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


def test_gradients_that_agree_stay_as_they_are(toys):
    batch, pairs = data_with(conflict=False)
    theta = leaves(make_model().parameters())
    task, corrective = gradients(theta, batch, pairs)
    step, _ = step_of(toys, batch, pairs, adaptivity="gate", strength=0.7)
    torch.testing.assert_close(step, task + 0.7 * corrective, rtol=1e-9, atol=1e-12)
    additive, _ = step_of(toys, batch, pairs, update="additive", adaptivity="gate", strength=0.7)
    torch.testing.assert_close(step, additive, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("conflict", [True, False])
@pytest.mark.parametrize("adaptivity", ["gate", "proportional"])
def test_while_the_condition_holds_it_is_erm(toys, conflict, adaptivity):
    batch, pairs = data_with(conflict)
    task, _ = gradients(leaves(make_model().parameters()), batch, pairs)
    step, report = step_of(toys, batch, pairs, adaptivity=adaptivity, strength=2.0, invariance_threshold=10.0)
    torch.testing.assert_close(step, task, rtol=1e-9, atol=1e-12)
    assert report.scalars["corrected"].item() == 0.0


def test_strength_0_leaves_erm(toys):
    batch, pairs = data_with(conflict=True)
    task, _ = gradients(leaves(make_model().parameters()), batch, pairs)
    step, report = step_of(toys, batch, pairs, adaptivity="off", strength=0.0)
    torch.testing.assert_close(step, task, rtol=1e-9, atol=1e-12)
    assert report.scalars["corrected"].item() == 0.0


def test_the_step_is_the_task_optimiser_s(toys):
    """With Adam the first step has length lr in every coordinate that has a gradient, whatever its size."""
    batch, pairs = data_with(conflict=True)
    model = make_model()
    before = leaves(model.parameters())
    Ipg(IpgSettings(update="projected"), toys.toolbox(model, "adam", lr=0.01)).step(model, batch, pairs)
    for p, start in zip(model.parameters(), before, strict=True):
        length = (p - start).detach().abs()
        torch.testing.assert_close(length, torch.full_like(length, 0.01), rtol=1e-4, atol=0.0)


def test_members_that_are_alike_leave_the_task_s_gradient(toys):
    batch, pairs = make_data()
    pairs = PairBatch(pairs.a, pairs.a.clone(), pairs.y)
    task = flat(gradient(task_loss(theta := leaves(make_model().parameters()), batch), theta))
    step, _ = step_of(toys, batch, pairs, adaptivity="off", strength=2.0)
    torch.testing.assert_close(step, task, rtol=1e-9, atol=1e-12)
