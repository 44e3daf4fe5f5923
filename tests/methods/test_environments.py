"""IRM and V-REx: penalties by other means than the code's, the annealing switch, and a step written out."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ipgl.data import Batch
from ipgl.methods.environments import EnvironmentPenaltySettings, Irm, Vrex
from ipgl.models import Classifier

LR = 0.2


def make_model():
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 3).double()


def make_batch(environments=(0, 2, 2, 0, 1, 2, 0, 2), seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = len(environments)
    x = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (size,), generator=generator)
    return Batch(x, y, torch.zeros_like(y), torch.tensor(environments), torch.arange(size))


def logits_of(theta, x):
    return torch.tanh(x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]


def risk(logits, y, scale=1.0):
    values = scale * logits
    return (values.exp().sum(dim=1).log() - values.gather(1, y.unsqueeze(1)).squeeze(1)).mean()


def irm_penalty(logits, y):
    """`d R(w f) / d w` at w = 1 in closed form: the mean of `sum_k (p_k - [k = y]) f_k`."""
    off = logits.softmax(dim=1) - torch.eye(logits.shape[1], dtype=logits.dtype)[y]
    return (off * logits).sum(dim=1).mean().square()


def objective(kind, theta, batch):
    """Mean risk and penalty over the environments in the batch."""
    logits = logits_of(theta, batch.x)
    parts = [batch.environment == number for number in sorted(set(batch.environment.tolist()))]
    risks = [risk(logits[part], batch.y[part]) for part in parts]
    mean = sum(risks) / len(risks)
    if kind is Vrex:
        return mean, sum((r - mean) ** 2 for r in risks) / len(risks)
    return mean, sum(irm_penalty(logits[part], batch.y[part]) for part in parts) / len(parts)


def naive_step(kind, theta, batch, weight):
    theta = [p.detach().clone().requires_grad_() for p in theta]
    mean, penalty = objective(kind, theta, batch)
    loss = (mean + weight * penalty) / (weight if weight > 1 else 1)
    gradients = torch.autograd.grad(loss, theta)
    return [(p - LR * g).detach() for p, g in zip(theta, gradients, strict=True)], mean, penalty


def assert_equal_to(model, theta):
    for found, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-12)


def build(toys, kind, model, **settings):
    dataset = toys.dataset(make_batch())
    toolbox = toys.toolbox(model, lr=LR, total_steps=10, dataset=dataset)
    return kind(EnvironmentPenaltySettings(**settings), toolbox)


def test_irm_penalty_is_the_squared_derivative_in_the_scale(toys):
    model, batch = make_model(), make_batch()
    with torch.no_grad():
        logits, h, squares = model(batch.x), 1e-5, []
        for number in (0, 1, 2):
            part = batch.environment == number
            up, down = (cross_entropy(s * logits[part], batch.y[part]).item() for s in (1 + h, 1 - h))
            squares.append(((up - down) / (2 * h)) ** 2)
    report = build(toys, Irm, model).step(model, batch, None)
    assert report.scalars["penalty"].item() == pytest.approx(sum(squares) / 3, rel=1e-7)


def test_vrex_penalty_is_the_variance_of_the_risks(toys):
    model, batch = make_model(), make_batch()
    with torch.no_grad():
        logits = model(batch.x)
        risks = [
            cross_entropy(logits[batch.environment == n], batch.y[batch.environment == n]).item()
            for n in (0, 1, 2)
        ]
    mean = sum(risks) / 3
    report = build(toys, Vrex, model).step(model, batch, None)
    assert report.scalars["penalty"].item() == pytest.approx(
        sum((r - mean) ** 2 for r in risks) / 3, rel=1e-11
    )
    # Environments count alike, however many examples they have here.
    assert report.scalars["loss"].item() == pytest.approx(mean, rel=1e-12)


@pytest.mark.parametrize("kind", [Irm, Vrex])
@pytest.mark.parametrize(
    ("share", "switch"),
    [(0.0, 0), (0.3, 3), (0.25, 3)],  # of ten steps; 2.5 steps are over after the third
)
def test_annealing(toys, kind, share, switch):
    model = make_model()
    theta = [p.detach().clone() for p in model.parameters()]
    method = build(toys, kind, model, strength=50.0, anneal_share=share)
    for step in range(5):
        batch = make_batch(seed=step)
        report = method.step(model, batch, None)
        theta, mean, penalty = naive_step(kind, theta, batch, 50.0 if step >= switch else 1.0)
        assert_equal_to(model, theta)
        assert report.scalars["loss"].item() == pytest.approx(mean.item(), rel=1e-9)
        assert report.scalars["penalty"].item() == pytest.approx(penalty.item(), rel=1e-8)


@pytest.mark.parametrize("kind", [Irm, Vrex])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1e4])
def test_only_a_weight_above_one_divides(toys, kind, strength):
    model, batch = make_model(), make_batch()
    expected, _, _ = naive_step(kind, list(model.parameters()), batch, strength)
    build(toys, kind, model, strength=strength, anneal_share=0.0).step(model, batch, None)
    assert_equal_to(model, expected)


@pytest.mark.parametrize("kind", [Irm, Vrex])
def test_annealing_goes_on_where_it_was(toys, kind):
    model, batch = make_model(), make_batch()
    method = build(toys, kind, model, strength=50.0, anneal_share=0.3)
    for _ in range(3):
        method.step(model, batch, None)
    resumed = build(toys, kind, model, strength=50.0, anneal_share=0.3)
    resumed.load_state_dict(method.state_dict())
    expected, _, _ = naive_step(kind, list(model.parameters()), batch, 50.0)
    resumed.step(model, batch, None)
    assert_equal_to(model, expected)


@pytest.mark.parametrize("kind", [Irm, Vrex])
def test_one_environment_alone(toys, kind):
    model, batch = make_model(), make_batch((1, 1, 1, 1))
    with torch.no_grad():
        logits = model(batch.x)
        expected = irm_penalty(logits, batch.y).item() if kind is Irm else 0.0
    report = build(toys, kind, model).step(model, batch, None)
    assert report.scalars["penalty"].item() == pytest.approx(expected, rel=1e-11)
    assert report.scalars["loss"].item() == pytest.approx(risk(logits, batch.y).item(), rel=1e-12)
