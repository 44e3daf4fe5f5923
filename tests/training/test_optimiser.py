"""Optimisers and learning-rate schedules, by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from narrowing import Keywords
from torch import nn

from ipgl.config import OptimiserSettings, ScheduleSettings
from ipgl.training.collective import Collective
from ipgl.training.optimisers import TorchOptimiser, make_optimiser, schedule_factor

HALF_ROOT = 0.5 * (1 + math.sqrt(0.5))  # (1 + cos(pi / 4)) / 2


@pytest.mark.parametrize(
    ("name", "warmup_share", "expected"),
    [
        ("constant", 0.0, [1.0, 1.0, 1.0, 1.0]),
        ("cosine", 0.0, [1.0, HALF_ROOT, 0.5, 1 - HALF_ROOT]),
        ("linear", 0.0, [1.0, 0.75, 0.5, 0.25]),
        # Two of four steps rise: 1/3, 2/3; the rest is the schedule over the two steps that remain.
        ("constant", 0.5, [1 / 3, 2 / 3, 1.0, 1.0]),
        ("cosine", 0.5, [1 / 3, 2 / 3, 1.0, 0.5]),
        ("linear", 0.5, [1 / 3, 2 / 3, 1.0, 0.5]),
    ],
)
def test_schedule(name: str, warmup_share: float, expected: list[float]) -> None:
    settings = ScheduleSettings(name=name, warmup_share=warmup_share)
    assert [schedule_factor(settings, step, 4) for step in range(4)] == pytest.approx(expected, rel=1e-12)


def test_warm_up_shorter_than_a_step() -> None:
    # 0.1 of 4 steps is 0.4 of a step: the first is at 1 / 1.4, and 3.6 steps remain for the descent.
    settings = ScheduleSettings(name="linear", warmup_share=0.1)
    found = [schedule_factor(settings, step, 4) for step in range(4)]
    assert found == pytest.approx([1 / 1.4, 1 - 0.6 / 3.6, 1 - 1.6 / 3.6, 1 - 2.6 / 3.6], rel=1e-12)


@pytest.mark.parametrize("name", ["constant", "cosine", "linear"])
@pytest.mark.parametrize("warmup_share", [0.0, 0.1, 0.3, 0.99])
@pytest.mark.parametrize("total", [1, 2, 7, 30])
def test_every_step_moves_and_none_exceeds_the_rate(name: str, warmup_share: float, total: int) -> None:
    settings = ScheduleSettings(name=name, warmup_share=warmup_share)
    factors = [schedule_factor(settings, step, total) for step in range(total)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)


def parameter(value: float) -> nn.Parameter:
    return nn.Parameter(torch.tensor([value], dtype=torch.float64))


def made(parameters: list[nn.Parameter], clip_norm: float | None = None, **settings: Any) -> TorchOptimiser:
    optimiser = make_optimiser(OptimiserSettings(**settings), parameters)
    return TorchOptimiser(optimiser, parameters, Collective(), clip_norm)


def test_sgd_with_momentum_and_decay_by_hand() -> None:
    # Gradient 1 + 0.1 * 2 = 1.2, so p = 2 - 0.5 * 1.2 = 1.4; then 1 + 0.14 + 0.9 * 1.2 = 2.22, p = 1.4 - 1.11.
    p = parameter(2.0)
    step = made([p], name="sgd", lr=0.5, momentum=0.9, weight_decay=0.1)
    step.minimise(p.sum())
    assert p.item() == pytest.approx(1.4, rel=1e-12)
    step.minimise(p.sum())
    assert p.item() == pytest.approx(0.29, rel=1e-12)


def test_adam_by_hand() -> None:
    # The first step is lr * g / (|g| + 1e-8), whatever the size of g: decay is part of Adam's g.
    p = parameter(2.0)
    made([p], name="adam", lr=0.5, weight_decay=0.1).minimise(3 * p.sum())
    assert p.item() == pytest.approx(2 - 0.5 * 3.2 / (3.2 + 1e-8), rel=1e-12)


def test_adamw_by_hand() -> None:
    # Decay apart from the gradient: p (1 - lr * decay), then the step.
    p = parameter(2.0)
    made([p], name="adamw", lr=0.5, weight_decay=0.1).minimise(3 * p.sum())
    assert p.item() == pytest.approx(2 * 0.95 - 0.5 * 3 / (3 + 1e-8), rel=1e-12)


def test_momentum_is_sgd_s_alone() -> None:
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
    }
    for name, kind in kinds.items():
        optimiser = make_optimiser(OptimiserSettings(name=name, momentum=0.3), [parameter(1.0)])
        assert type(optimiser) is kind
        assert optimiser.param_groups[0].get("momentum") == (0.3 if name == "sgd" else None)


def test_the_gradient_is_clipped_over_all_parameters() -> None:
    # The gradient (3, 4) has norm 5; clipped to 1 it is (0.6, 0.8), up to torch's 1e-6 in the divisor.
    p, q = parameter(0.0), parameter(0.0)
    made([p, q], clip_norm=1.0, name="sgd", lr=1.0, momentum=0.0).minimise((3 * p + 4 * q).sum())
    assert [p.item(), q.item()] == pytest.approx([-0.6, -0.8], rel=1e-6)


def test_a_short_gradient_is_not_clipped() -> None:
    p, q = parameter(0.0), parameter(0.0)
    made([p, q], clip_norm=5.1, name="sgd", lr=1.0, momentum=0.0).minimise((3 * p + 4 * q).sum())
    assert [p.item(), q.item()] == [-3.0, -4.0]


def test_gradients_do_not_add_up_over_steps() -> None:
    p = parameter(0.0)
    step = made([p], name="sgd", lr=1.0, momentum=0.0)
    step.minimise(p.sum())
    step.minimise(p.sum())
    assert p.item() == -2.0


def test_a_parameter_outside_the_loss_stays() -> None:
    p, q = parameter(1.0), parameter(1.0)
    step = made([p, q], name="sgd", lr=1.0, momentum=0.0)
    step.minimise((p + q).sum())
    step.minimise(p.sum())
    assert [p.item(), q.item()] == [-1.0, 0.0]


def test_schedule_scales_the_rate_that_the_optimiser_began_with() -> None:
    p = parameter(0.0)
    step = made([p], name="sgd", lr=2.0, momentum=0.0)
    positions = []
    for factor in (0.5, 0.5, 0.25, 1.0):
        step.schedule(factor)
        step.minimise(p.sum())
        positions.append(p.item())
    assert positions == [-1.0, -2.0, -2.5, -4.5]


def test_restored_state_does_not_bring_its_rate() -> None:
    p = parameter(0.0)
    old = made([p], name="sgd", lr=2.0, momentum=0.0)
    old.schedule(0.25)
    state = old.state_dict()
    assert state["param_groups"][0]["lr"] == 0.5

    new = made([p], name="sgd", lr=2.0, momentum=0.0)
    new.load_state_dict(state)
    new.schedule(1.0)
    new.minimise(p.sum())
    assert p.item() == -2.0
    new.schedule(0.5)
    new.minimise(p.sum())
    assert p.item() == -3.0


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_restored_state_goes_on_with_the_same_bits(name: str) -> None:
    def three(step: TorchOptimiser, p: torch.Tensor) -> None:
        for number in range(3):
            step.minimise((p * (number + 1)).square().sum())

    p = parameter(2.0)
    step = made([p], name=name, lr=0.01)
    three(step, p)
    q = nn.Parameter(p.detach().clone())
    other = made([q], name=name, lr=0.01)
    other.load_state_dict(copy.deepcopy(step.state_dict()))  # as from the disk
    three(step, p)
    three(other, q)
    assert p.item() == q.item()


@pytest.mark.parametrize(
    "settings",
    [
        {"name": "sgd", "momentum": 0.0},
        {"name": "sgd", "momentum": 0.9},
        {"name": "adam"},
        {"name": "adamw"},
    ],
    ids=["plain", "momentum", "adam", "adamw"],
)
@pytest.mark.parametrize("scale", [0.0, 0.25, 3.0])
def test_a_scaled_step_is_that_much_longer(settings: Keywords, scale: float) -> None:
    """For every optimiser, where a scaled loss would not do; and the rate is as before afterwards."""
    p, q = parameter(2.0), parameter(2.0)
    plain, scaled = made([p], lr=0.1, **settings), made([q], lr=0.1, **settings)
    plain.minimise(3 * p.sum())
    scaled.minimise(3 * q.sum(), torch.tensor(scale))
    assert 2.0 - q.item() == pytest.approx(scale * (2.0 - p.item()), rel=1e-6, abs=1e-12)
    assert 2.0 - p.item() > 0.01
    rates = scaled.state_dict()["param_groups"][0]["lr"]
    assert rates == 0.1
    assert isinstance(rates, float)


@pytest.mark.parametrize("settings", [{"name": "sgd", "momentum": 0.0}, {"name": "adam"}, {"name": "adamw"}])
@pytest.mark.parametrize("scale", [0.0, 0.25, 100.0])
def test_a_scaled_step_has_no_weight_decay(settings: Keywords, scale: float) -> None:
    """Decay belongs to the task's step; here it would be multiplied by the scale."""
    p, q = parameter(2.0), parameter(2.0)
    without = made([p], lr=0.1, **settings)
    decaying = made([q], lr=0.1, weight_decay=0.5, **settings)
    without.minimise(-3 * p.sum(), torch.tensor(scale))
    decaying.minimise(-3 * q.sum(), torch.tensor(scale))
    assert q.item() == pytest.approx(p.item(), rel=1e-8)
    assert decaying.state_dict()["param_groups"][0]["weight_decay"] == 0.5  # the next plain step has it


# --- a divided objective ---


def test_divided_sgd_by_hand() -> None:
    # (300 + 0.1 * 2) / 100 = 3.002; p = 2 - 0.5 * 3.002 = 0.499.
    # Then (300 + 0.0499) / 100 + 0.9 * 3.002 = 5.702299; p = 0.499 - 2.8511495.
    p = parameter(2.0)
    step = made([p], name="sgd", lr=0.5, momentum=0.9, weight_decay=0.1)
    step.divided(300 * p.sum(), 100.0)
    assert p.item() == pytest.approx(0.499, rel=1e-12)
    step.divided(300 * p.sum(), 100.0)
    assert p.item() == pytest.approx(-2.3521495, rel=1e-12)
    assert step.state_dict()["param_groups"][0]["weight_decay"] == 0.1


def test_divided_adam_by_hand() -> None:
    # -10 + 0.1 * 2 is below 0, so p rises by lr; with the loss alone divided, -0.1 + 0.2 would lower it.
    p = parameter(2.0)
    made([p], name="adam", lr=0.5, weight_decay=0.1).divided(-10 * p.sum(), 100.0)
    assert p.item() == pytest.approx(2.5, rel=1e-9)


def test_divided_adamw_by_hand() -> None:
    # Its decay is apart from the gradient, and stays: 2 (1 - 0.5 * 0.1) + 0.5.
    p = parameter(2.0)
    made([p], name="adamw", lr=0.5, weight_decay=0.1).divided(-10 * p.sum(), 100.0)
    assert p.item() == pytest.approx(2.4, rel=1e-9)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_a_divided_gradient_does_not_drown_in_epsilon(name: str) -> None:
    # Undivided the first step is lr * 1e-6 / (1e-6 + 1e-8); with epsilon as it is, it would be lr / 2.
    p = parameter(2.0)
    step = made([p], name=name, lr=0.5)
    step.divided(1e-6 * p.sum(), 100.0)
    assert 2.0 - p.item() == pytest.approx(0.5 / 1.01, rel=1e-6)
    assert step.state_dict()["param_groups"][0]["eps"] == 1e-8


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_does_not_see_a_division(name: str) -> None:
    p, q = parameter(2.0), parameter(2.0)
    whole, divided = (made([it], name=name, lr=0.1, weight_decay=0.3) for it in (p, q))
    for number in range(6):
        whole.minimise((p - number).square().sum())
        divided.divided((q - number).square().sum(), 1e4)
        assert q.item() == pytest.approx(p.item(), rel=1e-10)


def test_clipping_judges_the_divided_gradient() -> None:
    # 300 / 100 = 3 is clipped to 2, and decay (0.1 * 2 / 100) joins afterwards, as it does for any loss.
    p = parameter(2.0)
    step = made([p], clip_norm=2.0, name="sgd", lr=0.5, momentum=0.0, weight_decay=0.1)
    step.divided(300 * p.sum(), 100.0)
    assert p.item() == pytest.approx(2 - 0.5 * 2.002, rel=1e-6)


def test_a_step_is_scaled_after_it_is_clipped() -> None:
    p = parameter(0.0)
    made([p], clip_norm=1.0, name="sgd", lr=1.0, momentum=0.0).minimise(5 * p.sum(), torch.tensor(0.5))
    assert p.item() == pytest.approx(-0.5, rel=1e-6)


def test_gradients_are_looked_at_without_a_step() -> None:
    p, q = parameter(1.0), parameter(4.0)
    step = made([p, q], name="sgd", lr=1.0, momentum=0.0)
    loss = p.square().sum()
    found = step.gradients(loss)
    assert [g.item() for g in found] == [2.0, 0.0]  # zeros where there is none
    assert step.gradients(loss)[0].item() == 2.0  # the graph is still there
    assert p.grad is None
    assert [p.item(), q.item()] == [1.0, 4.0]


def test_a_step_along_given_gradients() -> None:
    p, q = parameter(0.0), parameter(0.0)
    step = made([p, q], clip_norm=1.0, name="sgd", lr=2.0, momentum=0.0)
    step.step_along([torch.tensor([3.0], dtype=torch.float64), torch.tensor([4.0], dtype=torch.float64)])
    assert [p.item(), q.item()] == pytest.approx([-1.2, -1.6], rel=1e-6)


def test_reset_forgets_momentum() -> None:
    p = parameter(0.0)
    step = made([p], name="sgd", lr=1.0, momentum=0.9)
    step.minimise(p.sum())
    step.reset()
    step.minimise(p.sum())
    assert p.item() == -2.0  # with the momentum kept it would be -2.9


def test_a_forward_pass_after_a_step_sees_the_new_weights_under_autocast() -> None:
    """Autocast keeps low-precision copies of the weights; a method with two gradients needs fresh ones."""
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 3), torch.randn(5, 4)
    parameters = list(layer.parameters())
    step = made(parameters, name="sgd", lr=1.0, momentum=0.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = layer(x)
        step.minimise(before.square().sum())
        found = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = layer(x)
    assert not torch.equal(expected, before)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("name", ["adam", "sgd"])
def test_a_gradient_in_another_memory_layout_is_taken_for_what_it_is(name: str) -> None:
    """The kernel itself would read it in the order in which it lies."""
    gradient = torch.arange(6.0).view(3, 2).T  # of shape [2, 3], column by column
    ends = []
    for laid_out in (gradient, gradient.contiguous()):
        weight = nn.Parameter(torch.zeros(2, 3))
        made([weight], name=name, momentum=0.0).step_along([laid_out])
        ends.append(weight.detach())
    assert torch.equal(*ends)
