"""The run: what it lends, how all of it is scheduled, kept, and put back to the start."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from narrowing import total
from torch import nn

from ipgl.config import OptimiserSettings, ScheduleSettings
from ipgl.data import Batch, PairBatch
from ipgl.methods import MethodBase, MethodContext, MethodOptimiser, StepReport
from ipgl.models import Classifier
from ipgl.training import SilentReporter, train
from ipgl.training.collective import Collective
from ipgl.training.optimisers import RunOptimisers

if TYPE_CHECKING:
    from tests.training.conftest import Toys


LR = 0.1


def make(
    toys: type[Toys],
    model: Classifier | None = None,
    name: str = "sgd",
    momentum: float = 0.0,
    decay: float = 0.0,
    total: int = 10,
    schedule: ScheduleSettings | None = None,
    clip: float | None = None,
) -> tuple[Classifier, RunOptimisers]:
    settings = toys.settings(
        optimiser=OptimiserSettings(name=name, lr=LR, momentum=momentum, weight_decay=decay),
        schedule=schedule or ScheduleSettings(),
        clip_norm=clip,
    )
    model = model or toys.model(torch.float64)
    return model, RunOptimisers(model, toys.dataset(), settings, total, Collective())


def total_of(model: Classifier) -> torch.Tensor:
    """A loss whose gradient is 1 in every parameter."""
    return total(p.sum() for p in model.parameters())


def moved_by(model: Classifier, act: Callable[..., object]) -> list[torch.Tensor]:
    before = [p.detach().clone() for p in model.parameters()]
    act()
    return [before_it - p.detach() for before_it, p in zip(before, model.parameters(), strict=True)]


def assert_all(steps: list[torch.Tensor], value: float, rtol: float = 1e-6) -> None:
    for step in steps:
        torch.testing.assert_close(step, torch.full_like(step, value), rtol=rtol, atol=1e-15)


def test_the_context(toys: type[Toys]) -> None:
    model, run = make(toys, total=17)
    context = run.context
    assert context.model is model
    assert context.total_steps == 17
    assert len(context.dataset.train) == 50
    assert context.sum_over_workers(torch.tensor(3.0)).item() == 3.0


# Linear without warm-up: 1 - step / 10; with 0.2 of 10 steps: (step + 1) / 3, then 1 - (step - 2) / 8.
LINEAR = ScheduleSettings(name="linear")
WARM = ScheduleSettings(name="linear", warmup_share=0.2)


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [
        (LINEAR, 0, 1.0),
        (LINEAR, 4, 0.6),
        (LINEAR, 9, 0.1),
        (WARM, 0, 1 / 3),
        (WARM, 1, 2 / 3),
        (WARM, 6, 0.5),
    ],
)
def test_the_schedule_is_that_of_every_optimiser(
    toys: type[Toys], schedule: ScheduleSettings, step: int, factor: float
) -> None:
    model, run = make(toys, schedule=schedule)
    other = toys.model(torch.float64, seed=2)
    optimisers = [
        (run.context.optimiser, model),
        (run.context.new_optimiser("sgd", None), model),
        (run.context.new_optimiser("adam", None), model),
        (run.context.new_optimiser("task", other), other),
    ]
    run.schedule(step)
    for optimiser, of in optimisers:
        # Plain descent along a gradient of 1 and Adam's first step both have length lr.
        assert_all(moved_by(of, partial(optimiser.minimise, total_of(of))), LR * factor)


def test_a_scaled_step_and_the_schedule_multiply(toys: type[Toys]) -> None:
    model, run = make(toys, schedule=LINEAR)
    adam, sgd = (run.context.new_optimiser(kind, None) for kind in ("adam", "sgd"))
    run.schedule(4)
    half = torch.tensor(0.5, dtype=torch.float64)
    for optimiser in (adam, sgd):
        assert_all(moved_by(model, partial(optimiser.minimise, total_of(model), half)), 0.5 * 0.6 * LR)
        assert_all(
            moved_by(model, partial(optimiser.minimise, total_of(model))), 0.6 * LR
        )  # the rate is as before


def test_kinds(toys: type[Toys]) -> None:
    """Plain descent and the method's Adam have neither momentum nor decay; `task` has what the task has."""
    steps = {}
    for kind in ("task", "sgd"):
        model, run = make(toys, momentum=0.9, decay=0.5)
        optimiser = run.context.new_optimiser(kind, None)
        start = [p.detach().clone() for p in model.parameters()]
        optimiser.minimise(total_of(model))
        steps[kind] = (start, moved_by(model, partial(optimiser.minimise, total_of(model))))
    assert_all(steps["sgd"][1], LR)
    # Twice step_along 1 + p / 2 with momentum 0.9: v = 1 + p / 2, p' = p - v / 10, v' = 0.9 v + 1 + p' / 2.
    for p, step in zip(*steps["task"], strict=True):
        first = 1 + 0.5 * p
        second = 0.9 * first + 1 + 0.5 * (p - LR * first)
        torch.testing.assert_close(step, LR * second, rtol=1e-10, atol=1e-12)

    model, run = make(toys, name="adamw", decay=5.0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(100.0)  # a decay would show
    adam = run.context.new_optimiser("adam", None)
    assert_all(moved_by(model, lambda: adam.minimise(total_of(model))), LR)


def test_every_optimiser_clips(toys: type[Toys]) -> None:
    model, run = make(toys, clip=0.5)
    count = sum(p.numel() for p in model.parameters())
    for optimiser in (run.context.optimiser, run.context.new_optimiser("sgd", None)):
        steps = moved_by(model, partial(optimiser.minimise, total_of(model)))
        assert_all(steps, LR * 0.5 / count**0.5, rtol=1e-4)


def test_another_model_s_optimiser_leaves_the_model_alone(toys: type[Toys]) -> None:
    model, run = make(toys)
    other = toys.model(torch.float64, seed=2)
    optimiser = run.context.new_optimiser("task", other)
    assert_all(moved_by(model, lambda: optimiser.minimise(total_of(other) + total_of(model))), 0.0)


# --- state ---


def squares(model: Classifier, target: float) -> torch.Tensor:
    """A loss whose gradient depends on where the model is."""
    return total((p - target).square().sum() for p in model.parameters())


def made(
    toys: type[Toys], model: Classifier | None = None
) -> tuple[Classifier, RunOptimisers, tuple[MethodOptimiser, MethodOptimiser]]:
    model, run = make(toys, model, name="sgd", momentum=0.9, schedule=LINEAR, total=12)
    run.remember_initial_weights()
    return model, run, (run.context.optimiser, run.context.new_optimiser("adam", None))


def go(
    model: Classifier, run: RunOptimisers, optimisers: tuple[MethodOptimiser, MethodOptimiser], steps: range
) -> None:
    for step in steps:
        run.schedule(step)
        optimisers[0].minimise(squares(model, 1.0))
        optimisers[1].minimise(squares(model, -2.0), torch.tensor(0.3))


def test_state_with_an_adam_of_its_own_goes_on_with_the_same_bits(toys: type[Toys], tmp_path: Path) -> None:
    model, run, optimisers = made(toys)
    go(model, run, optimisers, range(5))
    torch.save({"model": model.state_dict(), "run": run.state_dict()}, tmp_path / "state.pt")
    go(model, run, optimisers, range(5, 9))

    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed, again, its_optimisers = made(toys, toys.model(torch.float64, seed=7))
    resumed.load_state_dict(saved["model"])
    forgetful = copy.deepcopy(resumed)
    again.load_state_dict(saved["run"])
    go(resumed, again, its_optimisers, range(5, 9))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), resumed.parameters(), strict=True))

    _, fresh, fresh_optimisers = made(toys, forgetful)  # without the state it would not have
    go(forgetful, fresh, fresh_optimisers, range(5, 9))
    assert not torch.equal(forgetful.head.weight, model.head.weight)


def test_the_initial_weights_are_part_of_the_state(toys: type[Toys]) -> None:
    model, run, optimisers = made(toys)
    initial = copy.deepcopy(model.state_dict())
    go(model, run, optimisers, range(3))
    resumed, again, _ = made(toys, toys.model(torch.float64, seed=7))  # which remembers other weights
    again.load_state_dict(run.state_dict())
    again.context.restart()
    assert all(torch.equal(value, initial[name]) for name, value in resumed.state_dict().items())


def test_a_state_of_another_number_of_optimisers_is_refused(toys: type[Toys]) -> None:
    _, run, _ = made(toys)
    _, fewer = make(toys, momentum=0.9)
    with pytest.raises(ValueError, match="zip"):
        fewer.load_state_dict(run.state_dict())


def test_restart(toys: type[Toys]) -> None:
    """The steps after it are those of a run that begins there, buffers included; the schedule goes on."""
    features = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    torch.manual_seed(1)
    model = Classifier(features, 6, 2).double()
    start = copy.deepcopy(model)
    model, run, optimisers = made(toys, model)
    model(torch.randn(8, 4, dtype=torch.float64))  # moves the running statistics
    go(model, run, optimisers, range(4))
    assert not torch.equal(model.head.weight, start.head.weight)
    run.context.restart()
    for name, value in model.state_dict().items():
        assert torch.equal(value, start.state_dict()[name])

    go(model, run, optimisers, range(4, 8))
    alone, its_run, its_optimisers = made(toys, start)
    go(alone, its_run, its_optimisers, range(4, 8))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), alone.parameters(), strict=True))


def test_remembered_weights_do_not_follow_the_model(toys: type[Toys]) -> None:
    model, run, optimisers = made(toys)
    start = copy.deepcopy(model.state_dict())
    for _ in range(2):  # nor does going back to them make them the model's
        go(model, run, optimisers, range(2))
        run.context.restart()
        assert all(torch.equal(value, start[name]) for name, value in model.state_dict().items())


def test_nothing_is_kept_for_a_method_that_does_not_restart(toys: type[Toys]) -> None:
    _, run = make(toys)
    assert run.state_dict()["initial"] is None
    with pytest.raises(AssertionError, match="keeps the initial weights"):
        run.context.restart()


# --- which examples a method draws ---


class Watcher(MethodBase):
    """Writes down which examples it is given."""

    def __init__(self, context: MethodContext) -> None:
        self.seen: list[bool] = []

    def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
        self.seen += batch.index.tolist()
        return StepReport({"loss": model(batch.x).mean().detach()})


def seen_by(toys: type[Toys], **attributes: torch.Tensor) -> torch.Tensor:
    methods = []

    def build(context: MethodContext) -> Watcher:
        method = Watcher(context)
        for name, value in attributes.items():
            setattr(method, name, value)
        methods.append(method)
        return method

    train(
        toys.model(),
        build,
        toys.dataset(),
        toys.settings(epochs=100),
        seed=0,
        evaluate=lambda model: {},
        reporter=SilentReporter(),
    )
    assert len(methods[0].seen) == 300 * 16  # as many steps as full passes take
    return torch.bincount(torch.tensor(methods[0].seen), minlength=50)


def test_without_a_wish_examples_come_in_shuffled_passes(toys: type[Toys]) -> None:
    counts = seen_by(toys)
    assert counts.min() > 80  # 96 of 100 passes each, on average
    assert counts.max() <= 100


def test_weighted_examples_come_in_proportion(toys: type[Toys]) -> None:
    weights = torch.ones(50)
    weights[:10], weights[10:20] = 0.0, 3.0
    counts = seen_by(toys, sampling_weights=weights)
    assert counts[:10].sum() == 0
    # 30 of 60 parts go to ten examples: half of 4,800 draws.
    assert counts[10:20].sum().item() == pytest.approx(2400, abs=5 * (4800 / 4) ** 0.5)


def test_only_the_examples_that_a_method_draws_from_come(toys: type[Toys]) -> None:
    index = torch.tensor([3, 7, 11, 12, 40])
    counts = seen_by(toys, train_index=index)
    assert set(counts.nonzero().flatten().tolist()) == set(index.tolist())
    assert counts[index].min() > 800  # 960 each, on average
