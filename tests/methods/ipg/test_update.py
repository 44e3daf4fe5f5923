"""IPG's updates against a step written out in plain autograd, in double precision."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from ipg_reference import ipg_settings
from torch import nn

from ipgl.data import Batch, PairBatch
from ipgl.methods import Method, MethodContext
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.methods.ipg import Ipg, IpgSettings
from ipgl.methods.ipg.update import UPDATES
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


INPUTS, FEATURES, CLASSES, LR = 5, 4, 3, 0.3


def make_model(dtype: torch.dtype = torch.float64) -> Classifier:
    torch.manual_seed(3)
    layer = nn.Linear(INPUTS, FEATURES)
    return Classifier(nn.Sequential(layer, nn.Tanh()), FEATURES, CLASSES, hidden=[layer]).to(dtype)


def make_data(toys: type[Toys], seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Batch, PairBatch]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, INPUTS, generator=generator, dtype=dtype)
    y = torch.randint(CLASSES, (8,), generator=generator)
    a = torch.randn(6, INPUTS, generator=generator, dtype=dtype)
    b = a + 0.7 * torch.randn(6, INPUTS, generator=generator, dtype=dtype)
    return toys.batch(x, y), PairBatch(a, b, torch.zeros(6, dtype=torch.int64))


def parameters_of(model: Classifier) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


# --- the reference: one formula after the other, on a list of tensors [A, a, W, b] ---


def features(theta: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return torch.tanh(x @ theta[0].T + theta[1])


def logits(theta: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    return features(theta, x) @ theta[2].T + theta[3]


def task_loss(theta: list[torch.Tensor], batch: Batch) -> torch.Tensor:
    values = logits(theta, batch.x)
    chosen = torch.stack([values[i, label] for i, label in enumerate(batch.y.tolist())])
    return (values.exp().sum(dim=1).log() - chosen).mean()


def discrepancy(
    name: str, theta: list[torch.Tensor], pairs: PairBatch, hidden_weight: float = 0.0
) -> torch.Tensor:
    z_a, z_b = features(theta, pairs.a), features(theta, pairs.b)
    weight = theta[2] - theta[2].mean(dim=0) if name == "centred_rationale" else theta[2]
    if name in ("rationale", "centred_rationale"):
        matrices = torch.einsum("kj,pj->pkj", weight, z_a) - torch.einsum("kj,pj->pkj", weight, z_b)
        value = matrices.square().sum(dim=(1, 2)).mean()
    elif name == "logit":
        centred = [u - u.mean(dim=1, keepdim=True) for u in (logits(theta, pairs.a), logits(theta, pairs.b))]
        value = (centred[0] - centred[1]).square().sum(dim=1).mean()
    elif name == "probability":
        p, q = logits(theta, pairs.a).softmax(dim=1), logits(theta, pairs.b).softmax(dim=1)
        m = (p + q) / 2
        value = ((p * (p / m).log() + q * (q / m).log()).sum(dim=1) / 2).mean()
    else:
        value = (1 - (z_a * z_b).sum(dim=1) / (z_a.norm(dim=1) * z_b.norm(dim=1))).mean()
    hidden = ((pairs.a - pairs.b) @ theta[0].T).square().sum(dim=1).mean()
    return value + hidden_weight * hidden


def rho(theta: list[torch.Tensor], pairs: PairBatch) -> float:
    u_a, u_b = (u - u.mean(dim=1, keepdim=True) for u in (logits(theta, pairs.a), logits(theta, pairs.b)))
    members = torch.cat([u_a, u_b])
    variance = (members - members.mean(dim=0)).square().sum() / (len(members) - 1)
    return ((u_a - u_b).square().sum(dim=1).mean() / 2 / variance).item()


def adaptivity(name: str, measure: float, threshold: float) -> float:
    if name == "off":
        return 1.0
    if measure <= threshold:
        return 0.0
    return 1.0 if name == "gate" else (measure - threshold) / measure


def gradient(loss: torch.Tensor, theta: list[torch.Tensor]) -> list[torch.Tensor]:
    found = torch.autograd.grad(loss, theta, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(theta, found, strict=True)]


def moved(theta: list[torch.Tensor], step: list[torch.Tensor]) -> list[torch.Tensor]:
    return [(p - s).detach().requires_grad_() for p, s in zip(theta, step, strict=True)]


def leaves(theta: list[torch.Tensor]) -> list[torch.Tensor]:
    return [p.clone().requires_grad_() for p in theta]


def assert_equal_to(model: Classifier, theta: list[torch.Tensor]) -> None:
    for found, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-11, atol=1e-13)


VARIANTS = [
    *((kind, adapt) for kind in ("rationale", "logit") for adapt in ("off", "gate", "proportional")),
    *((kind, "proportional") for kind in ("centred_rationale", "probability", "feature")),
]


@pytest.mark.parametrize(("kind", "adapt"), VARIANTS)
def test_sequential_step(toys: type[Toys], kind: str, adapt: str) -> None:
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    settings = ipg_settings(discrepancy=kind, adaptivity=adapt, strength=0.4, invariance_threshold=0.05)
    report = Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)

    loss = task_loss(theta, batch)
    first = moved(theta, [LR * g for g in gradient(loss, theta)])
    measure = rho(first, pairs)
    a = adaptivity(adapt, measure, 0.05)
    assert a > 0
    value = discrepancy(kind, first, pairs)
    second = moved(first, [LR * 0.4 * a * g for g in gradient(value, first)])

    assert_equal_to(model, second)
    assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert report.scalars["measure"].item() == pytest.approx(measure, rel=1e-10)
    assert report.scalars["discrepancy"].item() == pytest.approx(value.item(), rel=1e-12)
    assert report.scalars["adaptivity"].item() == pytest.approx(a, rel=1e-10)
    assert report.scalars["corrected"].item() == 1.0


@pytest.mark.parametrize(("kind", "adapt"), VARIANTS)
def test_additive_step_is_one_step_on_the_sum(toys: type[Toys], kind: str, adapt: str) -> None:
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    settings = ipg_settings(
        update="additive", discrepancy=kind, adaptivity=adapt, strength=0.4, invariance_threshold=0.05
    )
    report = Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)

    measure = rho(theta, pairs)  # judged before the step, and no gradient flows through it
    a = adaptivity(adapt, measure, 0.05)
    assert a > 0
    loss, value = task_loss(theta, batch), discrepancy(kind, theta, pairs)
    assert_equal_to(model, moved(theta, [LR * g for g in gradient(loss + 0.4 * a * value, theta)]))
    assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert report.scalars["measure"].item() == pytest.approx(measure, rel=1e-10)
    assert report.scalars["discrepancy"].item() == pytest.approx(value.item(), rel=1e-12)


def test_sequential_by_hand(toys: type[Toys]) -> None:
    # The task step gives W = [[.05, .1], [-.05, -.1]] (see test_erm). The pair ((1, 0), (0, 1)) has dD/dW = 2 W,
    # and with one pair rho is 1. Strength 2, rate 0.1: W is multiplied by 1 - 0.1 * 2 * a * 2; the bias has no part.
    for adapt, factor in (("gate", 0.6), ("proportional", 0.7)):  # a = 1, and a = (1 - 0.25) / 1
        model = toys.hand_model()
        settings = ipg_settings(strength=2.0, adaptivity=adapt, invariance_threshold=0.25)
        report = Ipg(settings, toys.context(model, lr=0.1)).step(model, toys.hand_batch(), toys.hand_pairs())
        weight = factor * torch.tensor([[0.05, 0.1], [-0.05, -0.1]], dtype=torch.float64)
        torch.testing.assert_close(model.head.weight.detach(), weight, rtol=1e-12, atol=0)
        assert model.head.bias.tolist() == pytest.approx([0.05, -0.05], rel=1e-12)
        # c = (.005, .02) and both differences are 1.
        assert report.scalars["discrepancy"].item() == pytest.approx(0.025, rel=1e-12)
        assert report.scalars["measure"].item() == pytest.approx(1.0, rel=1e-12)
        assert report.scalars["loss"].item() == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("update", ["sequential", "additive"])
def test_which_parameters_the_condition_is_judged_at(toys: type[Toys], update: str) -> None:
    """A threshold between rho before and after the task step opens the gate for one of the two updates alone."""
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    after = moved(theta, [LR * g for g in gradient(task_loss(theta, batch), theta)])
    before_it, after_it = rho(theta, pairs), rho(after, pairs)
    assert abs(before_it - after_it) > 1e-3
    settings = ipg_settings(update=update, invariance_threshold=(before_it + after_it) / 2)
    report = Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)
    judged = after_it if update == "sequential" else before_it
    assert report.scalars["corrected"].item() == float(judged == max(before_it, after_it))


def test_the_corrective_step_is_plain_descent_beside_adam(toys: type[Toys]) -> None:
    # Adam's first step has length `lr` in every coordinate (up to its eps); the second is not normalised.
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    Ipg(ipg_settings(strength=0.4, adaptivity="off"), toys.context(model, "adam", lr=0.01)).step(
        model, batch, pairs
    )
    first = moved(theta, [0.01 * g / (g.abs() + 1e-8) for g in gradient(task_loss(theta, batch), theta)])
    corrective = gradient(discrepancy("rationale", first, pairs), first)
    assert_equal_to(model, moved(first, [0.01 * 0.4 * g for g in corrective]))


def test_another_optimiser_of_its_own(toys: type[Toys]) -> None:
    # A fresh Adam's first step is `lr` in every coordinate that D has a gradient in; strength and `a` scale it.
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    settings = ipg_settings(
        strength=0.4, adaptivity="proportional", invariance_threshold=0.05, corrective_optimiser="adam"
    )
    Ipg(settings, toys.context(model, "sgd", lr=0.01)).step(model, batch, pairs)
    first = moved(theta, [0.01 * g for g in gradient(task_loss(theta, batch), theta)])
    a = adaptivity("proportional", rho(first, pairs), 0.05)
    corrective = gradient(discrepancy("rationale", first, pairs), first)
    expected = moved(first, [0.01 * 0.4 * a * g / (g.abs() + 1e-8) for g in corrective])
    for found, wanted in zip(model.parameters(), expected, strict=True):
        # The scaled rate is a single-precision tensor.
        torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_the_task_s_own_optimiser_for_both_steps(toys: type[Toys], decay: float) -> None:
    # SGD with momentum 0.9: the second step's direction is 0.9 times the first gradient plus its own. The bias,
    # in which D has no gradient at all, is left alone. Weight decay is part of the first step alone.
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    settings = ipg_settings(strength=0.4, adaptivity="off", corrective_optimiser="task")
    context = toys.context(model, "sgd", lr=0.1, momentum=0.9, weight_decay=decay)
    Ipg(settings, context).step(model, batch, pairs)
    task = gradient(task_loss(theta, batch), theta)
    task = [g + decay * p.detach() for g, p in zip(task, theta, strict=True)]
    first = moved(theta, [0.1 * g for g in task])
    corrective = gradient(discrepancy("rationale", first, pairs), first)
    steps = [0.1 * 0.4 * (0.9 * g + c) for g, c in zip(task, corrective, strict=True)]
    expected = moved(first, [*steps[:3], torch.zeros_like(steps[3])])
    for found, wanted in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-6, atol=1e-9)


def test_lagrangian_steps(toys: type[Toys]) -> None:
    """The multiplier starts at the strength and moves by exp(rate * (m - t) / max(m, t)) before each step."""
    for threshold in (0.05, 1.5):  # violated throughout, and held throughout
        model = make_model()
        settings = ipg_settings(
            update="lagrangian", strength=0.4, invariance_threshold=threshold, multiplier_rate=0.3
        )
        method = Ipg(settings, toys.context(model, lr=LR))
        theta, multiplier = leaves(parameters_of(model)), 0.4
        for step in range(4):
            batch, pairs = make_data(toys, seed=step)
            report = method.step(model, batch, pairs)
            measure = rho(theta, pairs)
            multiplier *= math.exp(0.3 * (measure - threshold) / max(measure, threshold))
            joint = task_loss(theta, batch) + multiplier * discrepancy("rationale", theta, pairs)
            theta = moved(theta, [LR * g for g in gradient(joint, theta)])
            assert report.scalars["multiplier"].item() == pytest.approx(multiplier, rel=1e-6)
            for found, wanted in zip(model.parameters(), theta, strict=True):
                torch.testing.assert_close(found.detach(), wanted.detach(), rtol=1e-6, atol=1e-8)
        assert (multiplier > 0.4) == (threshold == 0.05)


@pytest.mark.parametrize(("threshold", "end"), [(1.9, 1e-4), (0.0, 1e6)])
def test_the_lagrangian_multiplier_turns_round_at_the_ends_of_its_range(
    toys: type[Toys], threshold: float, end: float
) -> None:
    """However long the condition held (or not), the first step that finds it otherwise moves the multiplier."""
    model, (batch, pairs) = make_model(), make_data(toys)
    settings = ipg_settings(update="lagrangian", invariance_threshold=threshold, multiplier_rate=1.0)
    # A rate so small that the model stays where it is.
    method = Ipg(settings, toys.context(model, lr=1e-30))
    for _ in range(60):
        report = method.step(model, batch, pairs)
    assert report.scalars["multiplier"].item() == pytest.approx(end, rel=1e-5)

    # Opposite members are far from a threshold of 0.01 and equal ones below it: the error is nearly 1, or -1.
    turned = Ipg(settings.model_copy(update={"invariance_threshold": 0.01}), toys.context(model, lr=1e-30))
    turned.load_state_dict(method.state_dict())
    members = pairs.a.flip(0) if end == 1e-4 else pairs.a.clone()
    report = turned.step(model, batch, PairBatch(pairs.a, members, pairs.y))
    expected = math.e if end == 1e-4 else 1 / math.e
    assert report.scalars["multiplier"].item() / end == pytest.approx(expected, rel=0.05)


def test_the_lagrangian_multiplier_survives_the_disk(toys: type[Toys]) -> None:
    settings = ipg_settings(update="lagrangian", multiplier_rate=0.3)
    model = make_model()
    method = Ipg(settings, toys.context(model, lr=LR))
    for step in range(3):
        method.step(model, *make_data(toys, seed=step))
    resumed = Ipg(settings, toys.context(model, lr=LR))
    resumed.load_state_dict(method.state_dict())
    fresh = Ipg(settings, toys.context(model, lr=LR))
    state = parameters_of(model)
    found = []
    for one in (method, resumed, fresh):
        with torch.no_grad():
            for p, kept in zip(model.parameters(), state, strict=True):
                p.copy_(kept)
        found.append(one.step(model, *make_data(toys, seed=3)).scalars["multiplier"].item())
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize("seed", range(6))
def test_projected_step(toys: type[Toys], seed: int) -> None:
    model, (batch, pairs) = make_model(), make_data(toys, seed=seed)
    theta = leaves(parameters_of(model))
    settings = ipg_settings(
        update="projected", strength=0.4, adaptivity="proportional", invariance_threshold=0.05
    )
    Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)

    a = adaptivity("proportional", rho(theta, pairs), 0.05)
    task = gradient(task_loss(theta, batch), theta)
    corrective = gradient(discrepancy("rationale", theta, pairs), theta)
    g, c = (torch.cat([part.flatten() for part in parts]) for parts in (task, corrective))
    if g @ c < 0:  # a step down the task's gradient would raise D: that component is taken out
        g = g - (g @ c) / (c @ c) * c
        assert abs(g @ c) < 1e-12
    step = g + 0.4 * a * c
    sizes = [p.numel() for p in theta]
    steps = [s.view_as(p) for s, p in zip(step.split(sizes), theta, strict=True)]
    assert_equal_to(model, moved(theta, [LR * s for s in steps]))


def test_the_projection_s_cases_are_both_met(toys: type[Toys]) -> None:
    signs = set()
    for seed in range(6):
        model, (batch, pairs) = make_model(), make_data(toys, seed=seed)
        theta = leaves(parameters_of(model))
        task = gradient(task_loss(theta, batch), theta)
        corrective = gradient(discrepancy("rationale", theta, pairs), theta)
        dot = sum((x * y).sum().item() for x, y in zip(task, corrective, strict=True))
        signs.add(dot < 0)
    assert signs == {True, False}


def test_a_held_condition_is_not_projected(toys: type[Toys]) -> None:
    for seed in range(6):
        model, (batch, pairs) = make_model(), make_data(toys, seed=seed)
        theta = leaves(parameters_of(model))
        settings = ipg_settings(update="projected", invariance_threshold=10.0)
        Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)
        assert_equal_to(model, moved(theta, [LR * g for g in gradient(task_loss(theta, batch), theta)]))


@pytest.mark.parametrize("update", ["sequential", "additive"])
def test_hidden_layers_may_count_too(toys: type[Toys], update: str) -> None:
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    settings = ipg_settings(update=update, strength=0.4, adaptivity="off", hidden_weight=0.3)
    report = Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)
    task = gradient(task_loss(theta, batch), theta)
    at = theta if update == "additive" else moved(theta, [LR * g for g in task])
    value = discrepancy("rationale", at, pairs, hidden_weight=0.3)
    corrective = gradient(value, at)
    expected = moved(theta, [LR * (g + 0.4 * c) for g, c in zip(task, corrective, strict=True)])
    assert_equal_to(model, expected)
    assert report.scalars["discrepancy"].item() == pytest.approx(value.item(), rel=1e-12)


def test_the_condition_may_judge_the_discrepancy(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    value = discrepancy("rationale", theta, pairs).item()
    for factor, expected in ((0.9, 0.1), (1.1, 0.0)):  # a threshold 10% below and above what is found
        model = make_model()
        settings = ipg_settings(
            update="additive",
            measure="discrepancy",
            adaptivity="proportional",
            invariance_threshold=factor * value,
        )
        report = Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)
        assert report.scalars["measure"].item() == pytest.approx(value, rel=1e-12)
        assert report.scalars["adaptivity"].item() == pytest.approx(expected, rel=1e-9)


def test_the_discrepancy_is_judged_as_a_mean_over_workers(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data(toys)
    context = replace(
        toys.context(model),
        workers=2,
        sum_over_workers=lambda own: own + torch.tensor([3.0, 1.0], dtype=torch.float64),
    )
    report = Ipg(ipg_settings(update="additive", measure="discrepancy"), context).step(model, batch, pairs)
    own = report.scalars["discrepancy"].item()
    assert report.scalars["measure"].item() == pytest.approx((own + 3.0) / 2, rel=1e-12)


def test_strength_rises_over_the_warm_up(toys: type[Toys]) -> None:
    # 0.4 of 10 steps: 1/5, 2/5, ... 4/5 of the strength, then all of it.
    model = make_model()
    settings = ipg_settings(strength=2.0, adaptivity="off", warmup_share=0.4)
    method = Ipg(settings, toys.context(model, total_steps=10))
    reports = [method.step(model, *make_data(toys, seed=step)) for step in range(7)]
    found = [report.scalars["multiplier"].item() for report in reports]
    assert found == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0, 2.0])


def test_the_warm_up_goes_on_after_a_restart(toys: type[Toys]) -> None:
    model = make_model()
    settings = ipg_settings(strength=2.0, adaptivity="off", warmup_share=0.4)
    method = Ipg(settings, toys.context(model, total_steps=10))
    for step in range(3):
        method.step(model, *make_data(toys, seed=step))
    resumed = Ipg(settings, toys.context(model, total_steps=10))
    resumed.load_state_dict(method.state_dict())
    assert resumed.step(model, *make_data(toys)).scalars["multiplier"].item() == pytest.approx(1.6)


def test_every_third_step_is_corrected(toys: type[Toys]) -> None:
    corrected, plain = make_model(), make_model()
    ipg = Ipg(ipg_settings(every=3, adaptivity="off"), toys.context(corrected))
    erm = Erm(ErmSettings(), toys.context(plain))
    for step in range(1, 7):
        batch, pairs = make_data(toys, seed=step)
        report = ipg.step(corrected, batch, pairs)
        erm.step(plain, batch, None)
        assert ("discrepancy" in report.scalars) == (step % 3 == 0)
        same = all(torch.equal(p, q) for p, q in zip(corrected.parameters(), plain.parameters(), strict=True))
        assert same == (step < 3)


def test_diagnosis(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    found = Ipg(ipg_settings(), toys.context(model)).diagnose(model, batch, pairs)
    task = torch.cat([g.flatten() for g in gradient(task_loss(theta, batch), theta)])
    corrective = torch.cat([g.flatten() for g in gradient(discrepancy("rationale", theta, pairs), theta)])
    assert found["task_gradient_norm"].item() == pytest.approx(task.norm().item(), rel=1e-10)
    assert found["corrective_gradient_norm"].item() == pytest.approx(corrective.norm().item(), rel=1e-10)
    cosine = torch.nn.functional.cosine_similarity(task, corrective, dim=0).item()
    assert found["gradient_cosine"].item() == pytest.approx(cosine, rel=1e-10)
    assert_equal_to(model, theta)  # looking changes nothing


def run(
    toys: type[Toys],
    method: Callable[[MethodContext], Method],
    model: Classifier,
    optimiser: str,
    momentum: float = 0.0,
    steps: int = 6,
) -> list[torch.Tensor]:
    built = method(toys.context(model, optimiser, lr=0.05, momentum=momentum))
    for step in range(steps):
        batch, pairs = make_data(toys, seed=step, dtype=torch.float32)
        built.step(model, batch, pairs)
    return parameters_of(model)


NOTHING = {
    "strength 0": ipg_settings(strength=0.0, adaptivity="off"),
    "closed gate": ipg_settings(strength=5.0, adaptivity="gate", invariance_threshold=10.0),
    "closed proportional": ipg_settings(strength=5.0, adaptivity="proportional", invariance_threshold=10.0),
}


@pytest.mark.parametrize("settings", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize(("optimiser", "momentum"), [("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)])
def test_no_correction_is_erm(
    toys: type[Toys], settings: IpgSettings, optimiser: str, momentum: float
) -> None:
    plain = run(toys, lambda t: Erm(ErmSettings(), t), make_model(torch.float32), optimiser, momentum)
    sequential = run(toys, lambda t: Ipg(settings, t), make_model(torch.float32), optimiser, momentum)
    assert all(torch.equal(mine, erm) for mine, erm in zip(sequential, plain, strict=True))

    for kind in ("task", "adam"):  # no step at all, which momentum would remember though it were of length 0
        other = settings.model_copy(update={"corrective_optimiser": kind})
        apart = run(toys, partial(Ipg, other), make_model(torch.float32), optimiser, momentum)
        assert all(torch.equal(mine, erm) for mine, erm in zip(apart, plain, strict=True))

    for update in ("additive", "projected"):
        other = replace_update(settings, update)
        joint = run(toys, partial(Ipg, other), make_model(torch.float32), optimiser, momentum)
        for mine, erm in zip(joint, plain, strict=True):
            torch.testing.assert_close(mine, erm, rtol=1e-4, atol=1e-5)

    # The same comparison with a correction fails, so it can.
    violated = settings.model_copy(
        update={"strength": 5.0, "adaptivity": "gate", "invariance_threshold": 0.0}
    )
    corrected = run(toys, lambda t: Ipg(violated, t), make_model(torch.float32), optimiser, momentum)
    assert not torch.allclose(corrected[2], plain[2], rtol=1e-4, atol=1e-5)


def test_no_strength_is_erm_for_the_lagrangian_too(toys: type[Toys]) -> None:
    settings = ipg_settings(update="lagrangian", strength=0.0)
    plain = run(toys, lambda t: Erm(ErmSettings(), t), make_model(torch.float32), "sgd", 0.9)
    found = run(toys, lambda t: Ipg(settings, t), make_model(torch.float32), "sgd", 0.9)
    for mine, erm in zip(found, plain, strict=True):
        torch.testing.assert_close(mine, erm, rtol=1e-4, atol=1e-5)


def replace_update(settings: IpgSettings, update: str) -> IpgSettings:
    return settings.model_copy(update={"update": update})


def test_a_closed_gate_costs_no_backward_pass(toys: type[Toys]) -> None:
    def refuse(loss: torch.Tensor, scale: torch.Tensor | None = None) -> None:
        raise AssertionError("nothing is to be corrected")

    new_optimiser: Any = lambda kind, model: SimpleNamespace(minimise=refuse)  # noqa: E731
    model, (batch, pairs) = make_model(), make_data(toys)
    context = replace(toys.context(model), new_optimiser=new_optimiser)
    Ipg(ipg_settings(invariance_threshold=10.0), context).step(model, batch, pairs)
    with pytest.raises(AssertionError, match="nothing is to be corrected"):
        Ipg(ipg_settings(invariance_threshold=0.0), context).step(model, batch, pairs)


@pytest.mark.parametrize("update", sorted(UPDATES))
def test_the_condition_is_judged_over_all_workers(toys: type[Toys], update: str) -> None:
    # The stand-in for the sum over workers adds another worker's pairs, which are all alike.
    model, (batch, pairs) = make_model(), make_data(toys)
    other = torch.tensor([6.0, 0.0, 600.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    context = replace(toys.context(model, lr=LR), workers=2, sum_over_workers=lambda moments: moments + other)
    report = Ipg(ipg_settings(update=update, invariance_threshold=0.1), context).step(model, batch, pairs)
    assert report.scalars["measure"].item() < 0.1
    assert report.scalars["corrected"].item() == 0.0


@pytest.mark.parametrize("update", ["sequential", "additive", "lagrangian", "projected"])
def test_corrections_shrink_the_discrepancy(toys: type[Toys], update: str) -> None:
    found = {}
    for strength in (0.0, 2.0):
        model, (batch, pairs) = make_model(), make_data(toys)
        settings = ipg_settings(update=update, strength=strength, adaptivity="off")
        method = Ipg(settings, toys.context(model, lr=0.1))
        found[strength] = [method.step(model, batch, pairs).scalars["discrepancy"].item() for _ in range(30)]
    assert found[2.0][-1] < 0.5 * found[2.0][0]
    assert found[2.0][-1] < 0.3 * found[0.0][-1]


@pytest.mark.parametrize("update", sorted(UPDATES))
def test_report(toys: type[Toys], update: str) -> None:
    model, (batch, pairs) = make_model(), make_data(toys)
    report = Ipg(ipg_settings(update=update), toys.context(model)).step(model, batch, pairs)
    own = {"task_length", "corrective_length"} if update == "balanced" else set()
    assert set(report.scalars) == own | {
        "loss",
        "discrepancy",
        "measure",
        "adaptivity",
        "multiplier",
        "corrected",
    }
    for value in report.scalars.values():
        assert value.shape == ()
        assert value.isfinite()
        assert not value.requires_grad


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("strength", -1e-9),
        ("strength", math.inf),
        ("strength", math.nan),
        ("invariance_threshold", -0.1),
        ("invariance_threshold", math.inf),
        ("pairs_per_step", 1),
        ("pairs_per_step", 2.5),
        ("update", "both"),
        ("discrepancy", "pixels"),
        ("adaptivity", "on"),
        ("stregth", 1.0),
        ("hidden_weight", -1),
        ("warmup_share", 1.0),
        ("every", 0),
        ("multiplier_rate", 0),
        ("corrective_optimiser", "adamw"),
    ],
)
def test_settings_refuse(key: str, value: float | str) -> None:
    with pytest.raises(ValueError, match=key):
        IpgSettings.model_validate({key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("strength", 0), ("strength", 1e6), ("invariance_threshold", 0), ("pairs_per_step", 2)]
)
def test_settings_take_the_ends_of_their_ranges(key: str, value: float) -> None:
    assert getattr(IpgSettings.model_validate({key: value}), key) == value


def test_a_corrective_optimiser_belongs_to_the_sequential_update() -> None:
    with pytest.raises(ValueError, match="corrective_optimiser belongs to update: sequential"):
        ipg_settings(update="additive", corrective_optimiser="adam")
