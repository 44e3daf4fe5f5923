"""IPG in plain autograd and double precision, on a list of tensors [A, a, W, b]: what updates are held to."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from ipgl.data import Batch, PairBatch
from ipgl.methods.ipg import IpgSettings
from ipgl.models import Classifier

LR = 0.3


def make_model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 3).double()


def make_data(seed: int = 0) -> tuple[Batch, PairBatch]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (8,), generator=generator)
    a = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    b = a + 0.7 * torch.randn(6, 5, generator=generator, dtype=torch.float64)
    zeros = torch.zeros_like(y)
    return Batch(x, y, zeros, zeros, torch.arange(8)), PairBatch(a, b, zeros[:6])


# --- the reference, on a list of tensors [A, a, W, b] ---


def features(theta: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ theta[0].T + theta[1])


def task_loss(theta: list[torch.Tensor], batch: Batch) -> torch.Tensor:
    values = features(theta, batch.x) @ theta[2].T + theta[3]
    return (values.exp().sum(dim=1).log() - values.gather(1, batch.y.unsqueeze(1)).squeeze(1)).mean()


def rationale(theta: list[torch.Tensor], pairs: PairBatch) -> torch.Tensor:
    difference = features(theta, pairs.a) - features(theta, pairs.b)
    return torch.einsum("kj,pj->pkj", theta[2], difference).square().sum(dim=(1, 2)).mean()


def rho(theta: list[torch.Tensor], pairs: PairBatch) -> float:
    u_a, u_b = (features(theta, x) @ theta[2].T + theta[3] for x in (pairs.a, pairs.b))
    u_a, u_b = u_a - u_a.mean(dim=1, keepdim=True), u_b - u_b.mean(dim=1, keepdim=True)
    members = torch.cat([u_a, u_b])
    variance = (members - members.mean(dim=0)).square().sum() / (len(members) - 1)
    return ((u_a - u_b).square().sum(dim=1).mean() / 2 / variance).item()


def leaves(parameters: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return [p.detach().clone().requires_grad_() for p in parameters]


def gradient(loss: torch.Tensor, theta: list[torch.Tensor]) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, theta, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(theta, found, strict=True)]


def moved(theta: list[torch.Tensor], steps: list[torch.Tensor | float]) -> list[torch.Tensor]:
    return leaves([p - s for p, s in zip(theta, steps, strict=True)])


def assert_equal_to(model: Classifier, theta: list[torch.Tensor], rtol: float = 1e-10) -> None:
    for found, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=rtol, atol=0.01 * rtol)


def ipg_settings(**given: object) -> IpgSettings:
    """Settings of the step that is written out here, where a test does not say otherwise: two steps, one strength.

    The discrepancy's gradient flows through the whole network.
    """
    return IpgSettings(
        **(
            {"update": "sequential", "through": "both", "invariance_threshold": 0.01, "least_spread": 0.0}
            | given
        )
    )
