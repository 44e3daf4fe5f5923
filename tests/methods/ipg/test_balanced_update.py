"""The balanced update against its formula in plain autograd and double precision."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import torch
from ipg_reference import (
    LR,
    assert_equal_to,
    gradient,
    leaves,
    make_data,
    make_model,
    moved,
    rationale,
    rho,
    task_loss,
)
from narrowing import Keywords
from pydantic import ValidationError
from torch import nn

from ipgl.data import Batch, PairBatch
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.methods.ipg import Ipg, IpgSettings
from ipgl.models import Classifier

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


SHARE = 0.4


def build(toys: type[Toys], model: Classifier, lr: float = LR, optimiser: str = "sgd", **given: Any) -> Ipg:
    chosen = {
        "through": "both",
        "task_share": SHARE,
        "hidden_weight": 0.0,
        "adaptivity": "off",
        "least_spread": 0.0,
    } | given
    context: Keywords = {name: chosen.pop(name) for name in ("momentum", "weight_decay") if name in chosen}
    return Ipg(IpgSettings(**chosen), toys.context(model, optimiser, lr=lr, **context))


def length(gradients: list[torch.Tensor]) -> float:
    return math.sqrt(sum(g.square().sum().item() for g in gradients))


def balanced(
    theta: list[torch.Tensor],
    batch: Batch,
    pairs: PairBatch,
    weight: float = 1.0,
    scaled: str = "corrective",
    share: float = SHARE,
    layers: tuple[tuple[int, ...], ...] = ((0, 1, 2, 3),),
) -> list[torch.Tensor]:
    """The gradient that the formula gives, one layer after the other."""
    task = gradient(task_loss(theta, batch), theta)
    corrective = gradient(rationale(theta, pairs), theta)
    found = list(task)
    for layer in layers:
        t, c = (length([part[i] for i in layer]) for part in (task, corrective))
        for i in layer:
            if scaled == "task":
                found[i] = share * c / t * task[i] + weight * corrective[i]
            else:
                found[i] = task[i] + weight * t / (share * c) * corrective[i]
    return found


@pytest.mark.parametrize("scaled", ["corrective", "task"])
@pytest.mark.parametrize("seed", range(3))
def test_one_step(toys: type[Toys], scaled: str, seed: int) -> None:
    model, (batch, pairs) = make_model(), make_data(seed)
    theta = leaves(model.parameters())
    report = build(toys, model, scaled=scaled).step(model, batch, pairs)
    assert_equal_to(model, moved(theta, [LR * g for g in balanced(theta, batch, pairs, scaled=scaled)]))
    task = length(gradient(task_loss(theta, batch), theta))
    corrective = length(gradient(rationale(theta, pairs), theta))
    found = {name: report.scalars[name].item() for name in ("task_length", "corrective_length", "multiplier")}
    assert found == pytest.approx(
        {"task_length": task, "corrective_length": corrective, "multiplier": task / (SHARE * corrective)},
        rel=1e-6,
    )
    assert report.scalars["corrected"].item() == 1.0


def test_by_hand(toys: type[Toys]) -> None:
    # The task's gradient is -[[.5, 1], [-.5, -1]] for W and (-.5, .5) for b (see test_erm): of length sqrt(3). From
    # W = [[.1, 0], [0, 0]], the pair ((1, 0), (0, 1)) has dD/dW = 2 W, of length .2.
    model = toys.hand_model()
    with torch.no_grad():
        model.head.weight[0, 0] = 0.1
    theta = leaves(model.parameters())
    batch, pairs = toys.hand_batch(), toys.hand_pairs()
    task = gradient(nn.functional.cross_entropy(batch.x @ theta[0].T + theta[1], batch.y), theta)
    build(toys, model, lr=0.1, task_share=0.5, scaled="task").step(model, batch, pairs)
    # Held to half of .2, then the correction takes .02 from the one weight that there is.
    held = [0.1 / length(task) * g for g in task]
    assert model.head.weight[0, 0].item() == pytest.approx(
        0.1 - 0.1 * (held[0][0, 0].item() + 0.2), rel=1e-12
    )
    assert model.head.bias.tolist() == pytest.approx([-0.1 * g for g in held[1].tolist()], rel=1e-12)
    assert length(held) == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("scaled", ["corrective", "task"])
def test_layers_may_be_balanced_apart(toys: type[Toys], scaled: str) -> None:
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    layers = ((0, 1), (2, 3))
    whole, apart = (
        balanced(theta, batch, pairs, scaled=scaled, layers=part) for part in (((0, 1, 2, 3),), layers)
    )
    assert not torch.allclose(whole[0], apart[0], rtol=0.05)  # the two layers' ratios differ
    build(toys, model, scaled=scaled, balance_over="layer").step(model, batch, pairs)
    assert_equal_to(model, moved(theta, [LR * g for g in apart]))


@pytest.mark.parametrize("over", ["network", "layer"])
def test_a_layer_that_the_correction_leaves_alone(toys: type[Toys], over: str) -> None:
    """Held to the length of nothing, a head that is constant in the discrepancy could not learn."""
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    build(toys, model, scaled="task", balance_over=over, through="representation").step(model, batch, pairs)
    task = gradient(task_loss(theta, batch), theta)
    constant = gradient(rationale([*theta[:2], theta[2].detach(), theta[3]], pairs), theta)
    held = 1.0 if over == "layer" else SHARE * length(constant) / length(task)
    found = [(p - q.detach()) / LR for p, q in zip(theta, model.parameters(), strict=True)]
    for part in (2, 3):
        torch.testing.assert_close(found[part].detach(), held * task[part], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_momentum_is_of_the_balanced_gradient(toys: type[Toys], steps: int) -> None:
    model = make_model()
    method = build(toys, model, momentum=0.9, weight_decay=0.01)
    theta, speed = leaves(model.parameters()), [torch.zeros(())] * 4
    for seed in range(steps):
        batch, pairs = make_data(seed)
        method.step(model, batch, pairs)
        found = [g + 0.01 * p.detach() for g, p in zip(balanced(theta, batch, pairs), theta, strict=True)]
        speed = [0.9 * v + g for v, g in zip(speed, found, strict=True)]
        theta = moved(theta, [LR * v for v in speed])
        assert_equal_to(model, theta)


@pytest.mark.parametrize("optimiser", ["adam", "adamw"])
def test_an_adaptive_optimiser_sees_the_balanced_gradient(toys: type[Toys], optimiser: str) -> None:
    model = make_model()
    method = build(toys, model, lr=0.01, optimiser=optimiser, weight_decay=0.1)
    theta = leaves(model.parameters())
    kind = torch.optim.Adam if optimiser == "adam" else torch.optim.AdamW
    reference = kind(theta, lr=0.01, weight_decay=0.1)
    for seed in range(3):
        batch, pairs = make_data(seed)
        method.step(model, batch, pairs)
        for parameter, found in zip(theta, balanced(theta, batch, pairs), strict=True):
            parameter.grad = found
        reference.step()
        assert_equal_to(model, theta, rtol=1e-8)


@pytest.mark.parametrize("adapt", ["gate", "proportional"])
@pytest.mark.parametrize("scaled", ["corrective", "task"])
def test_adaptivity_scales_the_corrective_part(toys: type[Toys], adapt: str, scaled: str) -> None:
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    measure = rho(theta, pairs)
    threshold = measure / 3
    build(toys, model, adaptivity=adapt, scaled=scaled, invariance_threshold=threshold).step(
        model, batch, pairs
    )
    weight = 1.0 if adapt == "gate" else 2 / 3
    expected = balanced(theta, batch, pairs, weight=weight, scaled=scaled)
    assert_equal_to(model, moved(theta, [LR * g for g in expected]), rtol=1e-8)


@pytest.mark.parametrize("scaled", ["corrective", "task"])
@pytest.mark.parametrize("reason", ["the condition holds", "strength 0"])
def test_otherwise_the_step_is_the_task_s_to_the_bit(toys: type[Toys], scaled: str, reason: str) -> None:
    batch, pairs = make_data()
    models = [make_model(), make_model()]
    given = (
        {"strength": 0.0} if reason == "strength 0" else {"adaptivity": "gate", "invariance_threshold": 10.0}
    )
    report = build(toys, models[0], scaled=scaled, **given).step(models[0], batch, pairs)
    Erm(ErmSettings(), toys.context(models[1], lr=LR)).step(models[1], batch, None)
    assert all(torch.equal(p, q) for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True))
    assert report.scalars["corrective_length"].item() == report.scalars["multiplier"].item() == 0.0
    assert report.scalars["task_length"].item() > 0


def test_the_condition_is_judged_before_the_step(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data()
    before = rho(leaves(model.parameters()), pairs)
    report = build(toys, model, adaptivity="gate", invariance_threshold=before * 0.999).step(
        model, batch, pairs
    )
    assert report.scalars["measure"].item() == pytest.approx(before, rel=1e-9)
    assert report.scalars["corrected"].item() == 1.0


@pytest.mark.parametrize("seed", range(20))
def test_with_a_share_below_1_every_step_lowers_the_discrepancy_to_first_order(seed: int) -> None:
    """`<g_c, d> >= (1 - r) ||g_c||^2` along the direction d that a step descends, whatever the angle."""
    generator = torch.Generator().manual_seed(seed)
    corrective = torch.randn(50, generator=generator, dtype=torch.float64)
    for opposed in (0.0, 0.5, 1.0):
        noise = torch.randn(50, generator=generator, dtype=torch.float64)
        task = -opposed * corrective + (1 - opposed) * noise
        for share in (0.1, 2 / 3, 0.999):
            along = share * corrective.norm() / task.norm() * task + corrective
            assert (corrective @ along).item() >= (1 - share) * (corrective @ corrective).item() - 1e-9
        if opposed == 1.0:  # and above 1 it need not
            assert (corrective @ (1.5 * corrective.norm() / task.norm() * task + corrective)).item() < 0


@pytest.mark.parametrize("share", [2 / 3, 1.5])
def test_the_share_decides_what_opposed_gradients_do(toys: type[Toys], share: float) -> None:
    """On real steps: a label that only the attribute predicts pulls against the pairs that cut it."""
    network = Classifier(nn.Identity(), 2, 2).double()
    x = torch.randn(64, 2, dtype=torch.float64)
    y = (x[:, 1] > 0).long()
    a = torch.randn(32, 2, dtype=torch.float64)
    b = torch.stack([a[:, 0], -a[:, 1]], dim=1)
    batch, pairs = toys.batch(x, y), PairBatch(a, b, torch.zeros(32, dtype=torch.int64))
    method = build(toys, network, lr=0.05, scaled="task", task_share=share, norm="plain", discrepancy="logit")
    found = [method.step(network, batch, pairs).scalars["discrepancy"].item() for _ in range(80)]
    assert (found[-1] < 0.2 * found[0]) == (share < 1)


def test_equal_members_leave_the_task_s_gradient(toys: type[Toys]) -> None:
    """Nothing to correct: no division by a length of 0, and no freezing."""
    for scaled in ("corrective", "task"):
        batch, pairs = make_data()
        same = PairBatch(pairs.a, pairs.a.clone(), pairs.y)
        models = [make_model(), make_model()]
        build(toys, models[0], scaled=scaled, norm="plain").step(models[0], batch, same)
        Erm(ErmSettings(), toys.context(models[1], lr=LR)).step(models[1], batch, None)
        assert_equal_to(models[0], leaves(models[1].parameters()))


def test_a_vanishing_corrective_gradient_fades_out(toys: type[Toys]) -> None:
    """In single precision the squares of a gradient of 1e-20 are 0; the gradient must not be divided by that."""
    model = make_model().float()
    batch, pairs = make_data()
    batch = toys.batch(batch.x.float(), batch.y)
    near = PairBatch(pairs.a.float(), pairs.a.float() * (1 + 1e-7), pairs.y)
    before = leaves(model.parameters())
    report = build(toys, model).step(model, batch, near)
    assert all(p.isfinite().all() for p in model.parameters())
    step = length([p.detach() - q.detach() for p, q in zip(before, model.parameters(), strict=True)])
    task = report.scalars["task_length"].item()
    assert step <= LR * task * (1 + 1 / SHARE) * 1.01


def test_clipping_judges_the_balanced_gradient(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    found = balanced(theta, batch, pairs)
    limit = length(found) / 2
    settings = IpgSettings(through="both", task_share=SHARE, hidden_weight=0.0, adaptivity="off")
    Ipg(settings, toys.context(model, lr=LR, clip_norm=limit)).step(model, batch, pairs)
    assert_equal_to(model, moved(theta, [LR * g / 2 for g in found]), rtol=1e-5)


def test_warm_up_lets_the_corrective_part_grow(toys: type[Toys]) -> None:
    # 0.4 of 10 steps: 1/5, 2/5, ... of the multiplier that makes the share.
    model = make_model()
    settings = IpgSettings(adaptivity="off", warmup_share=0.4, task_share=SHARE, hidden_weight=0.0)
    method = Ipg(settings, toys.context(model, lr=1e-9, total_steps=10))
    batch, pairs = make_data()
    reports = [method.step(model, batch, pairs).scalars for _ in range(6)]
    full = reports[-1]["task_length"] / (SHARE * reports[-1]["corrective_length"])
    shares = [(report["multiplier"] / full).item() for report in reports]
    assert shares == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0], rel=1e-6)


@pytest.mark.parametrize("share", [0.0, -0.1, math.inf, math.nan])
def test_a_share_is_positive(share: float) -> None:
    with pytest.raises(ValidationError, match="task_share"):
        IpgSettings(task_share=share)


class TestWhatACorrectionMoves:
    def test_the_representation_where_it_is_trained(self) -> None:
        assert IpgSettings().through is None
        assert IpgSettings().on(make_model()).through == "representation"
        assert IpgSettings(through="both").on(make_model()).through == "both"

    def test_a_head_on_fixed_features(self, toys: type[Toys]) -> None:
        """The only weights that there are."""
        model = toys.hand_model()
        assert IpgSettings().on(model).through == "both"
        method = Ipg(IpgSettings(adaptivity="off"), toys.context(model, lr=0.1))
        for _ in range(20):
            report = method.step(model, toys.hand_batch(), toys.hand_pairs())
        assert report.scalars["corrective_length"].item() > 0
        with pytest.raises(
            ValueError, match="needs a model whose features are trained; leave it out, or set both"
        ):
            IpgSettings(through="representation").on(model)


def test_hidden_layers_need_a_model_that_names_them() -> None:
    with pytest.raises(ValueError, match="set it to 0 for this model"):
        IpgSettings(hidden_weight=1.0).on(make_model())
