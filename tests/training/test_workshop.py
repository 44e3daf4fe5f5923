"""What the trainer lends: optimisers of three kinds, scheduled, saved and put back together."""

from __future__ import annotations

import copy

import pytest
import torch

from ipgl.config import OptimiserSettings, ScheduleSettings
from ipgl.methods import MethodBase, StepReport
from ipgl.training import Collective, SilentReporter, train
from ipgl.training.workshop import Workshop


def workshop(toys, model, **changes):
    return Workshop(model, toys.dataset(), toys.settings(**changes), total_steps=10, collective=Collective())


def loss_of(model):
    return model(torch.ones(3, 4)).square().mean()


def copies(model):
    return [p.detach().clone() for p in model.parameters()]


def moves(model, step):
    before = copies(model)
    step(loss_of(model))
    return [p.detach() - q for p, q in zip(model.parameters(), before, strict=True)]


def gradients(model):
    return torch.autograd.grad(loss_of(model), list(model.parameters()))


def test_the_kinds_of_descent(toys):
    """The task's own has its settings; `sgd` has neither momentum nor decay; `adam` has no decay."""
    options = {"optimiser": OptimiserSettings(name="sgd", lr=0.1, momentum=0.9, weight_decay=0.5)}
    for kind in ("task", "sgd", "adam"):
        model = toys.model()
        step = workshop(toys, model, **options).toolbox.new_descent(kind, None)
        for _ in range(2):
            weights, found = copies(model), gradients(model)
            moved = moves(model, step)
            if kind == "sgd":
                for move, gradient in zip(moved, found, strict=True):
                    torch.testing.assert_close(move, -0.1 * gradient, rtol=1e-4, atol=1e-6)
        if kind == "adam":
            assert all((move.abs() < 0.11).all() for move in moved)
        if kind == "task":
            decayed = [g + 0.5 * w for g, w in zip(found, weights, strict=True)]
            assert not torch.allclose(moved[0], -0.1 * decayed[0], rtol=1e-3)  # momentum beside it
    model = toys.model()
    weights, found = copies(model), gradients(model)
    moved = moves(model, workshop(toys, model, **options).toolbox.descend)
    for move, gradient, weight in zip(moved, found, weights, strict=True):
        torch.testing.assert_close(move, -0.1 * (gradient + 0.5 * weight), rtol=1e-4, atol=1e-6)


def test_an_adam_of_its_own_has_no_decay(toys):
    # The first step of Adam is the rate in every coordinate, whatever the weights are.
    model = toys.model()
    options = {"optimiser": OptimiserSettings(name="adam", lr=0.1, weight_decay=10.0)}
    found = gradients(model)
    moved = moves(model, workshop(toys, model, **options).toolbox.new_descent("adam", None))
    for move, gradient in zip(moved, found, strict=True):
        torch.testing.assert_close(move, -0.1 * gradient.sign(), rtol=1e-3, atol=1e-4)


def test_another_model_may_be_optimised(toys):
    model, other = toys.model(), toys.model(seed=2)
    before = copies(model)
    descend = workshop(toys, model).toolbox.new_descent("task", other)
    assert any(move.abs().max() > 0 for move in moves(other, descend))
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))


def test_all_that_is_lent_follows_the_schedule(toys):
    model = toys.model()
    shop = workshop(
        toys,
        model,
        optimiser=OptimiserSettings(name="sgd", lr=0.1, momentum=0.0),
        schedule=ScheduleSettings(name="linear"),
    )
    lent = [
        shop.toolbox.descend,
        shop.toolbox.new_descent("sgd", None),
        shop.toolbox.new_descent("task", None),
    ]
    shop.schedule(5)  # of ten: half of the rate
    for step in lent:
        found = gradients(model)
        for move, gradient in zip(moves(model, step), found, strict=True):
            torch.testing.assert_close(move, -0.05 * gradient, rtol=1e-4, atol=1e-6)


def test_clipping_holds_for_all_that_is_lent(toys):
    model = toys.model()
    shop = workshop(
        toys, model, clip_norm=0.01, optimiser=OptimiserSettings(name="sgd", lr=1.0, momentum=0.0)
    )
    for step in (shop.toolbox.descend, shop.toolbox.new_descent("sgd", None)):
        size = torch.cat([move.flatten() for move in moves(model, step)]).norm().item()
        assert size == pytest.approx(0.01, rel=1e-2)


def test_states_come_back_in_the_order_in_which_they_were_lent(toys):
    def build():
        model = toys.model()
        shop = workshop(toys, model, optimiser=OptimiserSettings(name="adam", lr=0.05))
        return model, shop, [shop.toolbox.descend, shop.toolbox.new_descent("adam", None)]

    model, shop, lent = build()
    for step in (lent[0], lent[1], lent[1]):
        step(loss_of(model))
    other, second, again = build()
    other.load_state_dict(model.state_dict())
    second.load_state_dict(copy.deepcopy(shop.state_dict()))
    for mine, theirs in zip(lent, again, strict=True):
        mine(loss_of(model))
        theirs(loss_of(other))
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), other.parameters(), strict=True))


def test_restart_goes_back_to_the_first_weights_and_forgets_momentum(toys):
    model = toys.model()
    shop = workshop(toys, model, optimiser=OptimiserSettings(name="adam", lr=0.05))
    shop.remember_initial_weights()
    first = copies(model)
    expected = moves(model, shop.toolbox.descend)
    for _ in range(3):
        shop.toolbox.descend(loss_of(model))
    shop.toolbox.restart()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), first, strict=True))
    for found, wanted in zip(moves(model, shop.toolbox.descend), expected, strict=True):
        assert torch.equal(found, wanted)


# --- which examples a method draws ---


class Watcher(MethodBase):
    """Writes down which examples it is given."""

    def __init__(self, toolbox):
        self.seen = []

    def step(self, model, batch, pairs):
        self.seen += batch.index.tolist()
        return StepReport({"loss": model(batch.x).mean().detach()})


def seen_by(toys, **attributes):
    methods = []

    def build(toolbox):
        method = Watcher(toolbox)
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


def test_without_a_wish_examples_come_in_shuffled_passes(toys):
    counts = seen_by(toys)
    assert counts.min() > 80  # 96 of 100 passes each, on average
    assert counts.max() <= 100


def test_weighted_examples_come_in_proportion(toys):
    weights = torch.ones(50)
    weights[:10], weights[10:20] = 0.0, 3.0
    counts = seen_by(toys, sampling_weights=weights)
    assert counts[:10].sum() == 0
    # 30 of 60 parts go to ten examples: half of 4,800 draws.
    assert counts[10:20].sum().item() == pytest.approx(2400, abs=5 * (4800 / 4) ** 0.5)


def test_only_the_examples_that_a_method_draws_from_come(toys):
    index = torch.tensor([3, 7, 11, 12, 40])
    counts = seen_by(toys, train_index=index)
    assert set(counts.nonzero().flatten().tolist()) == set(index.tolist())
    assert counts[index].min() > 800  # 960 each, on average
