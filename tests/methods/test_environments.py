"""IRM and V-REx: penalties by other means than the code's, the annealing switch, and a step written out."""

from __future__ import annotations

from itertools import combinations, product
from typing import TYPE_CHECKING, Any

import pytest
import torch
from narrowing import Keywords, total
from torch import nn
from torch.nn.functional import cross_entropy

from ipgl.data import Batch
from ipgl.methods.environments import EnvironmentPenaltySettings, Irm, Vrex
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


LR = 0.2


def make_model() -> Classifier:
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(5, 4), nn.Tanh()), 4, 3).double()


def make_batch(environments: tuple[int, ...] = (0, 2, 2, 0, 1, 2, 0, 2), seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    size = len(environments)
    x = torch.randn(size, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(3, (size,), generator=generator)
    return Batch(x, y, torch.zeros_like(y), torch.tensor(environments), torch.arange(size))


def logits_of(theta: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ theta[0].T + theta[1]) @ theta[2].T + theta[3]


def risk(logits: torch.Tensor, y: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
    values = scale * logits
    return (values.exp().sum(dim=1).log() - values.gather(1, y.unsqueeze(1)).squeeze(1)).mean()


def slopes(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """`d R(w f) / d w` at w = 1 of each example in closed form: `sum_k (p_k - [k = y]) f_k`."""
    off = logits.softmax(dim=1) - torch.eye(logits.shape[1], dtype=logits.dtype)[y]
    return (off * logits).sum(dim=1)


def losses_of(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return torch.stack([risk(logits[i : i + 1], y[i : i + 1]) for i in range(len(y))])


def square_by_halves(values: torch.Tensor) -> torch.Tensor:
    """The product of the means of two halves, averaged over every way to draw two different examples' product."""
    pairs = list(combinations(range(len(values)), 2))
    return total(values[i] * values[j] for i, j in pairs) / len(pairs)


def vrex_by_pairs(values: list[torch.Tensor]) -> torch.Tensor:
    """`mean_e r_e^2 - (mean_e r_e)^2` with every square of one environment's mean taken over different examples."""
    squares = [square_by_halves(v) for v in values]
    means = [v.mean() for v in values]
    crossed = [means[i] * means[j] for i, j in product(range(len(values)), repeat=2) if i != j]
    return total(squares) / len(values) - (total(squares) + total(crossed)) / len(values) ** 2


def objective(
    kind: type[Irm | Vrex], theta: list[torch.Tensor], batch: Batch, estimate: str = "batch"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean risk and penalty over the environments in the batch."""
    logits = logits_of(theta, batch.x)
    parts = [batch.environment == number for number in sorted(set(batch.environment.tolist()))]
    risks = [risk(logits[part], batch.y[part]) for part in parts]
    mean = total(risks) / len(risks)
    values = [(losses_of if kind is Vrex else slopes)(logits[part], batch.y[part]) for part in parts]
    if estimate == "unbiased":
        values = [v for v in values if len(v) > 1]
        if kind is Vrex:
            return mean, vrex_by_pairs(values)
        return mean, total(square_by_halves(v) for v in values) / len(values)
    if kind is Vrex:
        return mean, total((r - mean) ** 2 for r in risks) / len(risks)
    return mean, total(v.mean().square() for v in values) / len(parts)


def naive_step(
    kind: type[Irm | Vrex], theta: list[torch.Tensor], batch: Batch, weight: float, estimate: str = "batch"
) -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    theta = [p.detach().clone().requires_grad_() for p in theta]
    mean, penalty = objective(kind, theta, batch, estimate)
    loss = (mean + weight * penalty) / (weight if weight > 1 else 1)
    gradients = torch.autograd.grad(loss, theta)
    return [(p - LR * g).detach() for p, g in zip(theta, gradients, strict=True)], mean, penalty


def assert_equal_to(model: Classifier, theta: list[torch.Tensor]) -> None:
    for found, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(found.detach(), expected, rtol=1e-10, atol=1e-12)


def build(
    toys: type[Toys],
    kind: type[Irm | Vrex],
    model: Classifier,
    penalty_estimate: str = "batch",
    optimiser: dict[str, Any] | None = None,
    **settings: Any,
) -> Irm | Vrex:
    dataset = toys.dataset(make_batch())
    context = toys.context(model, lr=LR, total_steps=10, dataset=dataset, **(optimiser or {}))
    return kind(EnvironmentPenaltySettings(penalty_estimate=penalty_estimate, **settings), context)


def test_irm_penalty_is_the_squared_derivative_in_the_scale(toys: type[Toys]) -> None:
    model, batch = make_model(), make_batch()
    with torch.no_grad():
        logits, h, squares = model(batch.x), 1e-5, []
        for number in (0, 1, 2):
            part = batch.environment == number
            up, down = (cross_entropy(s * logits[part], batch.y[part]).item() for s in (1 + h, 1 - h))
            squares.append(((up - down) / (2 * h)) ** 2)
    report = build(toys, Irm, model).step(model, batch, None)
    assert report.scalars["penalty"].item() == pytest.approx(sum(squares) / 3, rel=1e-7)


def test_vrex_penalty_is_the_variance_of_the_risks(toys: type[Toys]) -> None:
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


def test_half_a_batch_against_the_other_by_hand() -> None:
    # Halves of (1, 2, 4, 5): 1.5 * 4.5, 2.5 * 3.5, 3 * 3; each of the three splits counts once.
    expected = (1.5 * 4.5 + 3.0 * 3.0 + 2.5 * 3.5) / 3
    values = torch.tensor([1.0, 2.0, 4.0, 5.0], dtype=torch.float64)
    assert square_by_halves(values).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("kind", [Irm, Vrex])
def test_the_unbiased_estimate_is_right_on_average(toys: type[Toys], kind: type[Irm | Vrex]) -> None:
    """Over all batches of two examples of each environment, drawn with replacement from four."""
    torch.manual_seed(5)
    model = make_model()
    whole = make_batch((0,) * 4 + (1,) * 4)
    truth = objective(kind, list(model.parameters()), whole)[1].item()
    found: dict[str, list[float]] = {"unbiased": [], "batch": []}
    chosen = list(product(range(4), repeat=2))
    for first, second in product(chosen, chosen):
        index = torch.tensor([*first, *(4 + i for i in second)])
        fields = ("x", "y", "attribute", "environment", "index")
        batch = Batch(*(getattr(whole, name)[index] for name in fields))
        for estimate, values in found.items():
            other = make_model()
            report = build(toys, kind, other, estimate).step(other, batch, None)
            values.append(report.scalars["penalty"].item())
    means = {estimate: sum(values) / len(values) for estimate, values in found.items()}
    assert means["unbiased"] == pytest.approx(truth, rel=1e-9)
    assert means["batch"] > 1.5 * truth
    assert min(found["unbiased"]) < 0 <= min(found["batch"])


@pytest.mark.parametrize("kind", [Irm, Vrex])
@pytest.mark.parametrize("estimate", ["unbiased", "batch"])
@pytest.mark.parametrize(
    ("share", "switch"),
    [(0.0, 0), (0.3, 3), (0.25, 3)],  # of ten steps; 2.5 steps are over after the third
)
def test_annealing(
    toys: type[Toys], kind: type[Irm | Vrex], estimate: str, share: float, switch: int
) -> None:
    # The one example of environment 1 has no variance: it counts in the risk, and in the batch's own penalty.
    model = make_model()
    theta = [p.detach().clone() for p in model.parameters()]
    method = build(toys, kind, model, estimate, strength=50.0, anneal_share=share)
    for step in range(5):
        batch = make_batch(seed=step)
        report = method.step(model, batch, None)
        theta, mean, penalty = naive_step(kind, theta, batch, 50.0 if step >= switch else 1.0, estimate)
        assert_equal_to(model, theta)
        assert report.scalars["loss"].item() == pytest.approx(mean.item(), rel=1e-9)
        assert report.scalars["penalty"].item() == pytest.approx(penalty.item(), rel=1e-8)


@pytest.mark.parametrize("kind", [Irm, Vrex])
@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1e4])
def test_only_a_weight_above_one_divides(toys: type[Toys], kind: type[Irm | Vrex], strength: float) -> None:
    model, batch = make_model(), make_batch()
    expected, _, _ = naive_step(kind, list(model.parameters()), batch, strength)
    build(toys, kind, model, strength=strength, anneal_share=0.0).step(model, batch, None)
    assert_equal_to(model, expected)


@pytest.mark.parametrize("kind", [Irm, Vrex])
def test_annealing_goes_on_where_it_was(toys: type[Toys], kind: type[Irm | Vrex]) -> None:
    model, batch = make_model(), make_batch()
    method = build(toys, kind, model, strength=50.0, anneal_share=0.3)
    for _ in range(3):
        method.step(model, batch, None)
    resumed = build(toys, kind, model, strength=50.0, anneal_share=0.3)
    resumed.load_state_dict(method.state_dict())
    expected, _, _ = naive_step(kind, list(model.parameters()), batch, 50.0)
    resumed.step(model, batch, None)
    assert_equal_to(model, expected)


def with_decay(
    theta: list[torch.Tensor], batch: Batch, kind: type[Irm | Vrex], weight: float, decay: float
) -> torch.Tensor:
    """The stated objective: `R + weight * P + decay / 2 ||theta||^2`."""
    mean, penalty = objective(kind, theta, batch)
    return mean + weight * penalty + decay / 2 * total(p.square().sum() for p in theta)


@pytest.mark.parametrize("kind", [Irm, Vrex])
@pytest.mark.parametrize("strength", [2.0, 1e3, 1e5])
def test_decay_is_that_of_the_objective_at_every_strength(
    toys: type[Toys], kind: type[Irm | Vrex], strength: float
) -> None:
    """Plain descent steps down the gradient of the whole objective, divided by the weight; decay is 0.1 in it."""
    model, batch = make_model(), make_batch()
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    gradients = torch.autograd.grad(with_decay(theta, batch, kind, strength, 0.1), theta)
    optimiser = {"weight_decay": 0.1}
    build(toys, kind, model, strength=strength, anneal_share=0.0, optimiser=optimiser).step(
        model, batch, None
    )
    expected = [(p - LR * g / strength).detach() for p, g in zip(theta, gradients, strict=True)]
    assert_equal_to(model, expected)


@pytest.mark.parametrize("kind", [Irm, Vrex])
@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_takes_the_steps_of_the_undivided_objective(
    toys: type[Toys], kind: type[Irm | Vrex], name: str
) -> None:
    """The optimiser of torch on `R + weight * P`, its state fresh at the switch, with the decay of its kind."""
    strength, decay = 1e4, 0.1
    model = make_model()
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    optimiser = {"name": name, "weight_decay": decay}
    method = build(
        toys, kind, model, strength=strength, anneal_share=0.2, forget_optimiser=True, optimiser=optimiser
    )
    make = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    reference = make(theta, LR, weight_decay=decay)
    for step in range(5):
        batch = make_batch(seed=step)
        if step == 2:
            reference = make(theta, LR, weight_decay=decay)
        reference.zero_grad()
        mean, penalty = objective(kind, theta, batch)
        (mean + (strength if step >= 2 else 1.0) * penalty).backward()
        reference.step()
        method.step(model, batch, None)
        for found, expected in zip(model.parameters(), theta, strict=True):
            torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("settings", "forgotten"),
    [
        ({}, []),
        ({"forget_optimiser": True}, [2]),
        ({"forget_optimiser": True, "strength": 1.0}, []),  # the weight stays as it is
        ({"forget_optimiser": True, "anneal_share": 0.0}, []),  # there is nothing to forget
    ],
)
def test_the_optimiser_is_forgotten_in_the_step_that_raises_the_weight(
    toys: type[Toys], monkeypatch: pytest.MonkeyPatch, settings: Keywords, forgotten: list[int]
) -> None:
    model = make_model()
    method = build(toys, Vrex, model, **{"strength": 50.0, "anneal_share": 0.2, **settings})
    seen: list[int] = []
    monkeypatch.setattr(method._context.optimiser, "reset", lambda: seen.append(method._done))
    for step in range(5):
        method.step(model, make_batch(seed=step), None)
    assert seen == forgotten


def test_momentum_is_gone_after_the_switch(toys: type[Toys]) -> None:
    """Plain descent with momentum: the first step at full weight has no part in the one before."""
    model, batches = make_model(), [make_batch(seed=step) for step in range(2)]
    optimiser = {"momentum": 0.9}
    settings: Keywords = {"strength": 50.0, "anneal_share": 0.1, "forget_optimiser": True}
    method = build(toys, Vrex, model, **settings, optimiser=optimiser)
    method.step(model, batches[0], None)
    expected, _, _ = naive_step(Vrex, list(model.parameters()), batches[1], 50.0)
    method.step(model, batches[1], None)
    assert_equal_to(model, expected)


@pytest.mark.parametrize("kind", [Irm, Vrex])
def test_without_two_examples_of_an_environment_there_is_no_unbiased_penalty(
    toys: type[Toys], kind: type[Irm | Vrex]
) -> None:
    model, batch = make_model(), make_batch((0, 1, 2))
    theta = [p.detach().clone().requires_grad_() for p in model.parameters()]
    gradients = torch.autograd.grad(objective(kind, theta, batch)[0], theta)
    method = build(toys, kind, model, "unbiased", strength=1.0)
    assert method.step(model, batch, None).scalars["penalty"].item() == 0.0
    assert_equal_to(model, [(p - LR * g).detach() for p, g in zip(theta, gradients, strict=True)])


@pytest.mark.parametrize("kind", [Irm, Vrex])
def test_one_environment_alone(toys: type[Toys], kind: type[Irm | Vrex]) -> None:
    model, batch = make_model(), make_batch((1, 1, 1, 1))
    with torch.no_grad():
        logits = model(batch.x)
        expected = slopes(logits, batch.y).mean().square().item() if kind is Irm else 0.0
    report = build(toys, kind, model).step(model, batch, None)
    assert report.scalars["penalty"].item() == pytest.approx(expected, rel=1e-11)
    assert report.scalars["loss"].item() == pytest.approx(risk(logits, batch.y).item(), rel=1e-12)
