"""The Lagrangian update: how its multiplier moves, and the step that it weighs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import torch
from ipg_reference import (
    LR,
    assert_equal_to,
    gradient,
    ipg_settings,
    leaves,
    make_data,
    make_model,
    moved,
    rationale,
    rho,
    task_loss,
)

from ipgl.data import PairBatch
from ipgl.methods.ipg import Ipg
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


def build(toys: type[Toys], model: Classifier, lr: float = LR, **settings: float) -> Ipg:
    return Ipg(ipg_settings(update="lagrangian", **settings), toys.context(model, lr=lr))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 10.0])
def test_two_steps(toys: type[Toys], threshold: float) -> None:
    """Violated at thresholds 0 and 0.05, satisfied at 10; the condition is judged before each step."""
    model = make_model()
    method = build(toys, model, invariance_threshold=threshold, strength=0.4, multiplier_rate=0.2)
    theta, log_factor = leaves(model.parameters()), 0.0
    for seed in range(2):
        batch, pairs = make_data(seed)
        measure = rho(theta, pairs)
        log_factor += 0.2 * (measure - threshold) / max(measure, threshold)
        multiplier = 0.4 * math.exp(log_factor)
        value = rationale(theta, pairs)
        loss = task_loss(theta, batch)
        report = method.step(model, batch, pairs)
        theta = moved(theta, [LR * g for g in gradient(loss + multiplier * value, theta)])
        assert_equal_to(model, theta)
        assert report.scalars["multiplier"].item() == pytest.approx(multiplier, rel=1e-10)
        assert report.scalars["measure"].item() == pytest.approx(measure, rel=1e-10)
        assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-10)
        assert (multiplier > 0.4) == (threshold < 1)


def multipliers(
    method: Ipg,
    model: Classifier,
    steps: int,
    pairs_of: Callable[[PairBatch], PairBatch] = lambda pairs: pairs,
) -> list[float]:
    found = []
    for seed in range(steps):
        batch, pairs = make_data(seed)
        found.append(method.step(model, batch, pairs_of(pairs)).scalars["multiplier"].item())
    return found


def alike(pairs: PairBatch) -> PairBatch:
    return PairBatch(pairs.a, pairs.a.clone(), pairs.y)


def test_it_rises_while_the_condition_is_violated_and_falls_while_it_holds(toys: type[Toys]) -> None:
    model = make_model()
    method = build(toys, model, invariance_threshold=0.01, multiplier_rate=0.1)
    rising = multipliers(method, model, 5)
    assert rising == sorted(rising)
    assert 1.0 < rising[0] < rising[-1]
    falling = multipliers(method, model, 5, alike)  # measure 0: each step by the whole rate
    assert falling == pytest.approx([rising[-1] * math.exp(-0.1 * n) for n in range(1, 6)], rel=1e-10)


def test_its_ends(toys: type[Toys]) -> None:
    # At threshold 0 each violated step moves by the whole rate, exp(2), and meets 1e6 in the seventh.
    model = make_model()
    method = build(toys, model, lr=1e-12, invariance_threshold=0.0, multiplier_rate=2.0)
    rising = multipliers(method, model, 10)
    assert rising[:6] == pytest.approx([math.exp(2 * n) for n in range(1, 7)], rel=1e-6)
    assert rising[6:] == pytest.approx([1e6] * 4, rel=1e-6)
    model = make_model()
    method = build(toys, model, lr=1e-12, invariance_threshold=10.0, multiplier_rate=2.0, strength=3.0)
    falling = multipliers(method, model, 10, alike)
    assert falling[:5] == pytest.approx([3 * math.exp(-2 * n) for n in range(1, 6)], rel=1e-6)
    assert falling[5:] == pytest.approx([1e-4] * 5, rel=1e-6)


def test_it_is_not_wound_up_at_its_ends(toys: type[Toys]) -> None:
    """However long the condition was violated, the first step on which it holds lowers the multiplier."""
    model = make_model()
    method = build(toys, model, lr=1e-12, invariance_threshold=0.01, multiplier_rate=5.0)
    multipliers(method, model, 30)
    found = multipliers(method, model, 2, alike)
    assert found == pytest.approx([1e6 * math.exp(-5), 1e6 * math.exp(-10)], rel=1e-5)


def test_its_state_resumes(toys: type[Toys]) -> None:
    model = make_model()
    method = build(toys, model, multiplier_rate=0.3)
    multipliers(method, model, 4)
    other = make_model()
    other.load_state_dict(model.state_dict())
    resumed = build(toys, other, multiplier_rate=0.3)
    resumed.load_state_dict(method.state_dict())
    assert multipliers(resumed, other, 3) == multipliers(method, model, 3)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_strength_0_leaves_erm(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    report = build(toys, model, strength=0.0).step(model, batch, pairs)
    assert_equal_to(model, moved(theta, [LR * g for g in gradient(task_loss(theta, batch), theta)]))
    assert report.scalars["multiplier"].item() == 0.0
    assert report.scalars["corrected"].item() == 0.0
