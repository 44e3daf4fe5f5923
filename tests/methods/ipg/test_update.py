"""IPG's updates against a step written out in plain autograd, in double precision."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ipgl.data import PairBatch
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.methods.ipg import Ipg, IpgSettings
from ipgl.models import Classifier

INPUTS, FEATURES, CLASSES, LR = 5, 4, 3, 0.3


def make_model(dtype=torch.float64):
    torch.manual_seed(3)
    return Classifier(nn.Sequential(nn.Linear(INPUTS, FEATURES), nn.Tanh()), FEATURES, CLASSES).to(dtype)


def make_data(toys, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(8, INPUTS, generator=generator, dtype=dtype)
    y = torch.randint(CLASSES, (8,), generator=generator)
    a = torch.randn(6, INPUTS, generator=generator, dtype=dtype)
    b = a + 0.7 * torch.randn(6, INPUTS, generator=generator, dtype=dtype)
    return toys.batch(x, y), PairBatch(a, b, torch.zeros(6, dtype=torch.int64))


def parameters_of(model):
    return [p.detach().clone() for p in model.parameters()]


# --- the reference: one formula after the other, on a list of tensors [A, a, W, b] ---


def features(theta, x):
    return torch.tanh(x @ theta[0].T + theta[1])


def logits(theta, x):
    return features(theta, x) @ theta[2].T + theta[3]


def task_loss(theta, batch):
    values = logits(theta, batch.x)
    chosen = torch.stack([values[i, label] for i, label in enumerate(batch.y.tolist())])
    return (values.exp().sum(dim=1).log() - chosen).mean()


def discrepancy(name, theta, pairs):
    if name == "rationale":
        matrices = [torch.einsum("kj,pj->pkj", theta[2], features(theta, x)) for x in (pairs.a, pairs.b)]
        return (matrices[0] - matrices[1]).square().sum(dim=(1, 2)).mean()
    centred = [u - u.mean(dim=1, keepdim=True) for u in (logits(theta, pairs.a), logits(theta, pairs.b))]
    return (centred[0] - centred[1]).square().sum(dim=1).mean()


def rho(theta, pairs):
    u_a, u_b = (u - u.mean(dim=1, keepdim=True) for u in (logits(theta, pairs.a), logits(theta, pairs.b)))
    members = torch.cat([u_a, u_b])
    variance = (members - members.mean(dim=0)).square().sum() / (len(members) - 1)
    return ((u_a - u_b).square().sum(dim=1).mean() / 2 / variance).item()


def adaptivity(name, measure, threshold):
    if name == "off":
        return 1.0
    if measure <= threshold:
        return 0.0
    return 1.0 if name == "gate" else (measure - threshold) / measure


def gradient(loss, theta):
    found = torch.autograd.grad(loss, theta, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(theta, found, strict=True)]


def moved(theta, step):
    return [(p - s).detach().requires_grad_() for p, s in zip(theta, step, strict=True)]


def leaves(theta):
    return [p.clone().requires_grad_() for p in theta]


def assert_equal_to(model, theta):
    for found, expected in zip(model.parameters(), theta, strict=True):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-11, atol=1e-13)


VARIANTS = [(d, a) for d in ("rationale", "logit") for a in ("off", "gate", "proportional")]


@pytest.mark.parametrize(("kind", "adapt"), VARIANTS)
def test_sequential_step(toys, kind, adapt):
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    settings = IpgSettings(discrepancy=kind, adaptivity=adapt, strength=0.4, invariance_threshold=0.05)
    report = Ipg(settings, toys.toolbox(model, lr=LR)).step(model, batch, pairs)

    loss = task_loss(theta, batch)
    first = moved(theta, [LR * g for g in gradient(loss, theta)])
    measure = rho(first, pairs)
    a = adaptivity(adapt, measure, 0.05)
    assert a > 0
    value = discrepancy(kind, first, pairs)
    second = moved(first, [LR * 0.4 * a * g for g in gradient(value, first)])

    assert_equal_to(model, second)
    assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert report.scalars["rho"].item() == pytest.approx(measure, rel=1e-10)
    assert report.scalars["discrepancy"].item() == pytest.approx(value.item(), rel=1e-12)
    assert report.scalars["adaptivity"].item() == pytest.approx(a, rel=1e-10)
    assert report.scalars["corrected"].item() == 1.0


@pytest.mark.parametrize(("kind", "adapt"), VARIANTS)
def test_additive_step_is_one_step_on_the_sum(toys, kind, adapt):
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    settings = IpgSettings(
        update="additive", discrepancy=kind, adaptivity=adapt, strength=0.4, invariance_threshold=0.05
    )
    report = Ipg(settings, toys.toolbox(model, lr=LR)).step(model, batch, pairs)

    measure = rho(theta, pairs)  # judged before the step, and no gradient flows through it
    a = adaptivity(adapt, measure, 0.05)
    assert a > 0
    loss, value = task_loss(theta, batch), discrepancy(kind, theta, pairs)
    assert_equal_to(model, moved(theta, [LR * g for g in gradient(loss + 0.4 * a * value, theta)]))
    assert report.scalars["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    assert report.scalars["rho"].item() == pytest.approx(measure, rel=1e-10)
    assert report.scalars["discrepancy"].item() == pytest.approx(value.item(), rel=1e-12)


def test_sequential_by_hand(toys):
    # The task step gives W = [[.05, .1], [-.05, -.1]] (see test_erm). The pair ((1, 0), (0, 1)) has dD/dW = 2 W,
    # and with one pair rho is 1. Strength 2, rate 0.1: W is multiplied by 1 - 0.1 * 2 * a * 2; the bias has no part.
    for adapt, factor in (("gate", 0.6), ("proportional", 0.7)):  # a = 1, and a = (1 - 0.25) / 1
        model = toys.hand_model()
        settings = IpgSettings(strength=2.0, adaptivity=adapt, invariance_threshold=0.25)
        report = Ipg(settings, toys.toolbox(model, lr=0.1)).step(model, toys.hand_batch(), toys.hand_pairs())
        weight = factor * torch.tensor([[0.05, 0.1], [-0.05, -0.1]], dtype=torch.float64)
        torch.testing.assert_close(model.head.weight.detach(), weight, rtol=1e-12, atol=0)
        assert model.head.bias.tolist() == pytest.approx([0.05, -0.05], rel=1e-12)
        # c = (.005, .02) and both differences are 1.
        assert report.scalars["discrepancy"].item() == pytest.approx(0.025, rel=1e-12)
        assert report.scalars["rho"].item() == pytest.approx(1.0, rel=1e-12)
        assert report.scalars["loss"].item() == pytest.approx(math.log(2), rel=1e-12)


@pytest.mark.parametrize("update", ["sequential", "additive"])
def test_which_parameters_the_condition_is_judged_at(toys, update):
    """A threshold between rho before and after the task step opens the gate for one of the two updates alone."""
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    after = moved(theta, [LR * g for g in gradient(task_loss(theta, batch), theta)])
    before_it, after_it = rho(theta, pairs), rho(after, pairs)
    assert abs(before_it - after_it) > 1e-3
    settings = IpgSettings(update=update, invariance_threshold=(before_it + after_it) / 2)
    report = Ipg(settings, toys.toolbox(model, lr=LR)).step(model, batch, pairs)
    judged = after_it if update == "sequential" else before_it
    assert report.scalars["corrected"].item() == float(judged == max(before_it, after_it))


def test_the_corrective_step_is_plain_descent_beside_adam(toys):
    # Adam's first step has length `lr` in every coordinate (up to its eps); the second is not normalised.
    model, (batch, pairs) = make_model(), make_data(toys)
    theta = leaves(parameters_of(model))
    Ipg(IpgSettings(strength=0.4, adaptivity="off"), toys.toolbox(model, "adam", lr=0.01)).step(
        model, batch, pairs
    )
    first = moved(theta, [0.01 * g / (g.abs() + 1e-8) for g in gradient(task_loss(theta, batch), theta)])
    corrective = gradient(discrepancy("rationale", first, pairs), first)
    assert_equal_to(model, moved(first, [0.01 * 0.4 * g for g in corrective]))


def run(toys, method, model, optimiser, momentum=0.0, steps=6):
    method = method(toys.toolbox(model, optimiser, lr=0.05, momentum=momentum))
    for step in range(steps):
        batch, pairs = make_data(toys, seed=step, dtype=torch.float32)
        method.step(model, batch, pairs)
    return parameters_of(model)


NOTHING = {
    "strength 0": IpgSettings(strength=0.0, adaptivity="off"),
    "closed gate": IpgSettings(strength=5.0, adaptivity="gate", invariance_threshold=10.0),
    "closed proportional": IpgSettings(strength=5.0, adaptivity="proportional", invariance_threshold=10.0),
}


@pytest.mark.parametrize("settings", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize(("optimiser", "momentum"), [("sgd", 0.9), ("adam", 0.0), ("adamw", 0.0)])
def test_no_correction_is_erm(toys, settings, optimiser, momentum):
    plain = run(toys, lambda t: Erm(ErmSettings(), t), make_model(torch.float32), optimiser, momentum)
    sequential = run(toys, lambda t: Ipg(settings, t), make_model(torch.float32), optimiser, momentum)
    assert all(torch.equal(mine, erm) for mine, erm in zip(sequential, plain, strict=True))

    joint = replace_update(settings, "additive")
    additive = run(toys, lambda t: Ipg(joint, t), make_model(torch.float32), optimiser, momentum)
    for mine, erm in zip(additive, plain, strict=True):
        torch.testing.assert_close(mine, erm, rtol=1e-4, atol=1e-5)

    # The same comparison with a correction fails, so it can.
    violated = settings.model_copy(
        update={"strength": 5.0, "adaptivity": "gate", "invariance_threshold": 0.0}
    )
    corrected = run(toys, lambda t: Ipg(violated, t), make_model(torch.float32), optimiser, momentum)
    assert not torch.allclose(corrected[2], plain[2], rtol=1e-4, atol=1e-5)


def replace_update(settings, update):
    return settings.model_copy(update={"update": update})


def test_a_closed_gate_costs_no_backward_pass(toys):
    def refuse(loss):
        raise AssertionError("nothing is to be corrected")

    model, (batch, pairs) = make_model(), make_data(toys)
    toolbox = replace(toys.toolbox(model), corrective_descend=refuse)
    Ipg(IpgSettings(invariance_threshold=10.0), toolbox).step(model, batch, pairs)
    with pytest.raises(AssertionError, match="nothing is to be corrected"):
        Ipg(IpgSettings(invariance_threshold=0.0), toolbox).step(model, batch, pairs)


@pytest.mark.parametrize("update", ["sequential", "additive"])
def test_the_condition_is_judged_over_all_workers(toys, update):
    # The stand-in for the sum over workers adds another worker's pairs, which are all alike.
    model, (batch, pairs) = make_model(), make_data(toys)
    other = torch.tensor([6.0, 0.0, 600.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    toolbox = replace(toys.toolbox(model, lr=LR), sum_over_workers=lambda moments: moments + other)
    report = Ipg(IpgSettings(update=update, invariance_threshold=0.1), toolbox).step(model, batch, pairs)
    assert report.scalars["rho"].item() < 0.1
    assert report.scalars["corrected"].item() == 0.0


@pytest.mark.parametrize("update", ["sequential", "additive"])
def test_corrections_shrink_the_discrepancy(toys, update):
    found = {}
    for strength in (0.0, 2.0):
        model, (batch, pairs) = make_model(), make_data(toys)
        settings = IpgSettings(update=update, strength=strength, adaptivity="off")
        method = Ipg(settings, toys.toolbox(model, lr=0.1))
        found[strength] = [method.step(model, batch, pairs).scalars["discrepancy"].item() for _ in range(30)]
    assert found[2.0][-1] < 0.5 * found[2.0][0]
    assert found[2.0][-1] < 0.3 * found[0.0][-1]


@pytest.mark.parametrize("update", ["sequential", "additive"])
def test_report(toys, update):
    model, (batch, pairs) = make_model(), make_data(toys)
    report = Ipg(IpgSettings(update=update), toys.toolbox(model)).step(model, batch, pairs)
    assert set(report.scalars) == {"loss", "discrepancy", "rho", "adaptivity", "corrected", "collapsed"}
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
    ],
)
def test_settings_refuse(key, value):
    with pytest.raises(ValueError, match=key):
        IpgSettings.model_validate({key: value})


@pytest.mark.parametrize(
    ("key", "value"), [("strength", 0), ("strength", 1e6), ("invariance_threshold", 0), ("pairs_per_step", 2)]
)
def test_settings_take_the_ends_of_their_ranges(key, value):
    assert getattr(IpgSettings.model_validate({key: value}), key) == value
