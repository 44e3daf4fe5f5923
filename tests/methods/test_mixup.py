"""mixup and LISA: the mixed loss with a fixed share, and whom LISA may mix with whom."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import known, total
from torch import nn

from ipgl.data import Batch
from ipgl.methods.mixup import Lisa, LisaSettings, Mixup, MixupSettings
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


LR = 0.2


def make_model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 3).double()


def make_batch(
    labels: tuple[int, ...] = (0, 1, 2, 1, 0, 2, 1),
    attributes: tuple[int, ...] = (0, 0, 1, 1, 0, 1, 0),
    seed: int = 0,
) -> Batch:
    x = torch.randn(len(labels), 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    y, attribute = torch.tensor(labels), torch.tensor(attributes)
    return Batch(x, y, attribute, torch.zeros_like(y), torch.arange(len(y)))


def logits_of(theta: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]


def mixed(theta: list[torch.Tensor], batch: Batch, partner: list[int], share: list[float]) -> torch.Tensor:
    """One example after the other: its mixture's loss for its label and for its partner's."""
    losses = []
    for i, (j, s) in enumerate(zip(partner, share, strict=True)):
        values = logits_of(theta, s * batch.x[i] + (1 - s) * batch.x[j])
        log = values - values.exp().sum().log()
        losses.append(-s * log[batch.y[i]] - (1 - s) * log[batch.y[j]])
    return total(losses) / len(losses)


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, float]]:
    """Beta samples are 0.3, 0.4, 0.5 and so on; their parameters are kept."""
    asked: list[tuple[float, float]] = []

    def sample(self: torch.distributions.Beta, shape: tuple[int, ...]) -> torch.Tensor:
        asked.append((self.concentration1.item(), self.concentration0.item()))
        return 0.3 + 0.1 * torch.arange(*shape, dtype=torch.float64)

    monkeypatch.setattr(torch.distributions.Beta, "sample", sample)
    return asked


# One share for a batch, and one for each of the seven examples.
METHODS = [
    (Mixup, MixupSettings(alpha=0.4), 0.4, [0.3] * 7),
    (Lisa, LisaSettings(alpha=1.5, balanced=False), 1.5, [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
]


@pytest.mark.parametrize(("kind", "settings", "alpha", "shares"), METHODS)
def test_step_with_fixed_shares(
    toys: type[Toys],
    monkeypatch: pytest.MonkeyPatch,
    share: list[tuple[float, float]],
    kind: type[Mixup],
    settings: MixupSettings,
    alpha: float,
    shares: list[float],
) -> None:
    model, batch, partner = make_model(), make_batch(), [4, 3, 0, 1, 5, 2, 6]
    monkeypatch.setattr(kind, "_partner", lambda self, batch: torch.tensor(partner))
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    loss = mixed(theta, batch, partner, shares)
    gradients = torch.autograd.grad(loss, theta)
    report = kind(settings, toys.context(model, lr=LR)).step(model, batch, None)
    assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-11)
    for found, start, gradient in zip(model.parameters(), theta, gradients, strict=True):
        torch.testing.assert_close(found.detach(), (start - LR * gradient).detach(), rtol=1e-10, atol=1e-12)
    assert share == [pytest.approx((alpha, alpha))]


def test_mixup_partners_are_a_permutation_and_anyone(
    toys: type[Toys], monkeypatch: pytest.MonkeyPatch
) -> None:
    method, batch = Mixup(MixupSettings(), toys.context(make_model())), make_batch()
    torch.manual_seed(0)
    found = torch.stack([method._partner(batch) for _ in range(2000)])
    assert (found.sort(dim=1).values == torch.arange(7)).all()
    counts = torch.stack([found[:, i].bincount(minlength=7) for i in range(7)]) / 2000
    assert (counts - 1 / 7).abs().max().item() < 5 * math.sqrt(1 / 7 * 6 / 7 / 2000)


def lisa_partners(toys: type[Toys], same_label: float, batch: Batch, number: int = 300) -> list[list[int]]:
    method = Lisa(LisaSettings(same_label=same_label), toys.context(make_model()))
    torch.manual_seed(0)
    return [method._partner(batch).tolist() for _ in range(number)]


def allowed(batch: Batch, within_label: bool) -> list[set[int]]:
    """Whom each example may be mixed with, by the rule; itself if there is nobody."""
    y, s = batch.y.tolist(), batch.attribute.tolist()
    people = range(len(y))
    found = []
    for i in people:
        if within_label:
            others = {j for j in people if y[j] == y[i] and s[j] != s[i]}
        else:
            others = {j for j in people if s[j] == s[i] and y[j] != y[i]}
        found.append(others or {i})
    return found


@pytest.mark.parametrize("same_label", [0.0, 1.0])
def test_lisa_partners_obey_the_rule_and_reach_everyone_whom_it_allows(
    toys: type[Toys], same_label: float
) -> None:
    batch = make_batch()
    rule = allowed(batch, same_label == 1.0)
    drawn = lisa_partners(toys, same_label, batch)
    assert [{partners[i] for partners in drawn} for i in range(7)] == rule


def test_an_example_without_a_partner_is_itself() -> None:
    # In the batch of the tests: labels 0 and 2 carry one attribute each, label 1 both.
    rule = allowed(make_batch(), within_label=True)
    assert [rule[i] for i in (0, 2, 4, 5)] == [{0}, {2}, {4}, {5}]
    assert rule[1] == {3}
    assert rule[3] == {1, 6}


def test_an_example_mixed_with_itself_has_its_plain_loss(
    toys: type[Toys], share: list[tuple[float, float]]
) -> None:
    model = make_model()
    batch = make_batch(labels=(0, 0, 1), attributes=(1, 1, 0))  # nobody has anybody within its label
    theta = [p.detach() for p in model.parameters()]
    values = logits_of(theta, batch.x)
    expected = torch.nn.functional.cross_entropy(values, batch.y).item()
    report = Lisa(LisaSettings(same_label=1.0), toys.context(model)).step(model, batch, None)
    assert report.scalars["loss"].item() == pytest.approx(expected, rel=1e-12)


def test_lisa_chooses_the_rule_batch_by_batch_as_often_as_asked(toys: type[Toys]) -> None:
    batch = make_batch(labels=(0, 0, 1, 1), attributes=(0, 1, 0, 1))  # every rule has one partner for each
    drawn = lisa_partners(toys, 0.3, batch, number=4000)
    within, across = [1, 0, 3, 2], [2, 3, 0, 1]
    assert all(partners in (within, across) for partners in drawn)
    share = sum(partners == within for partners in drawn) / 4000
    assert share == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 4000))


@pytest.mark.parametrize("balanced", [True, False])
def test_lisa_draws_groups_equally_often_unless_told_not_to(toys: type[Toys], balanced: bool) -> None:
    batch = make_batch()  # groups (0, 0) twice, (1, 0) twice, (2, 1) twice, (1, 1) once
    context = toys.context(make_model(), dataset=toys.dataset(batch, toys.hand_pairs()))
    weights = Lisa(LisaSettings(balanced=balanced), context).sampling_weights
    if balanced:
        assert known(weights).tolist() == [1 / 2, 1 / 2, 1 / 2, 1.0, 1 / 2, 1 / 2, 1 / 2]
    else:
        assert weights is None


def test_what_they_may_read() -> None:
    assert not Mixup.needs.groups
    assert Lisa.needs.groups
