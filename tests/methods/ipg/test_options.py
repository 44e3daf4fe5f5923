"""IPG's further settings: the second step's optimiser, warm-up, intervals, the measure, hidden layers, diagnosis."""

from __future__ import annotations

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
from pydantic import ValidationError
from torch.nn import functional

from ipgl.config import TrainingSettings
from ipgl.data import Batch, Dataset, PairBatch, PairSet, Split
from ipgl.methods import StepReport
from ipgl.methods.erm import Erm, ErmSettings
from ipgl.methods.ipg import Ipg
from ipgl.models import MODELS, Classifier
from ipgl.training import SilentReporter, train

if TYPE_CHECKING:
    from tests.methods.conftest import Toys


# --- the corrective optimiser ---


@pytest.mark.parametrize("adapt", ["off", "proportional"])
def test_corrective_adam_s_first_step(toys: type[Toys], adapt: str) -> None:
    # Adam's first step has length lr wherever there is a gradient; strength and `a` scale that length.
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    settings = ipg_settings(
        corrective_optimiser="adam", strength=0.4, adaptivity=adapt, invariance_threshold=0.05
    )
    Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)
    first = moved(theta, [LR * g for g in gradient(task_loss(theta, batch), theta)])
    measure = rho(first, pairs)
    a = 1.0 if adapt == "off" else (measure - 0.05) / measure
    corrective = gradient(rationale(first, pairs), first)
    assert corrective[3].abs().max().item() == 0.0  # the head's bias has no part in the rationale
    second = moved(first, [LR * 0.4 * a * g / (g.abs() + 1e-8) for g in corrective])
    assert_equal_to(model, second, rtol=1e-5)  # a scaled rate is single


def test_the_task_s_own_optimiser_takes_both_steps(toys: type[Toys]) -> None:
    """Its momentum holds the task's gradient when the corrective one joins it."""
    model = make_model()
    settings = ipg_settings(corrective_optimiser="task", strength=0.4, adaptivity="off")
    method = Ipg(settings, toys.context(model, lr=LR, momentum=0.9))
    theta, speed = leaves(model.parameters()), [torch.zeros(())] * 4
    for seed in range(2):
        batch, pairs = make_data(seed)
        method.step(model, batch, pairs)
        speed = [0.9 * v + g for v, g in zip(speed, gradient(task_loss(theta, batch), theta), strict=True)]
        theta = moved(theta, [LR * v for v in speed])
        corrective = gradient(rationale(theta, pairs), theta)
        # The head's bias has no part in the rationale, and what is outside the loss stays, momentum and all.
        speed = [*(0.9 * v + g for v, g in zip(speed[:3], corrective[:3], strict=True)), speed[3]]
        theta = moved(theta, [*(LR * 0.4 * v for v in speed[:3]), torch.zeros(())])
        assert_equal_to(model, theta, rtol=1e-5)


@pytest.mark.parametrize("kind", ["task", "adam"])
@pytest.mark.parametrize("update", ["additive", "lagrangian", "projected"])
def test_a_corrective_optimiser_needs_a_second_step(kind: str, update: str) -> None:
    message = (
        r"corrective_optimiser belongs to update: sequential \(the others take one step\), "
        rf"but got corrective_optimiser={kind}, update={update}"
    )
    with pytest.raises(ValidationError, match=message):
        ipg_settings(corrective_optimiser=kind, update=update)
    assert ipg_settings(update=update).corrective_optimiser == "sgd"  # the default is no obstacle


# --- when and how strongly ---


@pytest.mark.parametrize(("share", "warm"), [(0.0, 0), (0.4, 4), (0.25, 2.5)])
@pytest.mark.parametrize("update", ["sequential", "additive", "projected"])
def test_warm_up(toys: type[Toys], update: str, share: float, warm: float) -> None:
    model = make_model()
    settings = ipg_settings(update=update, warmup_share=share, strength=3.0, adaptivity="off")
    method = Ipg(settings, toys.context(model, lr=0.01, total_steps=10))
    found = [method.step(model, *make_data(n)).scalars["multiplier"].item() for n in range(7)]
    assert found == pytest.approx([3 * min(1, n / (warm + 1)) for n in range(1, 8)], rel=1e-12)


def test_warm_up_scales_the_step(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data()
    settings = ipg_settings(warmup_share=0.4, strength=3.0, adaptivity="off")
    theta = leaves(model.parameters())
    Ipg(settings, toys.context(model, lr=LR, total_steps=10)).step(model, batch, pairs)
    first = moved(theta, [LR * g for g in gradient(task_loss(theta, batch), theta)])
    assert_equal_to(model, moved(first, [LR * 3 / 5 * g for g in gradient(rationale(first, pairs), first)]))


@pytest.mark.parametrize("update", ["sequential", "additive", "lagrangian", "projected"])
@pytest.mark.parametrize("every", [1, 3])
def test_every_so_many_steps(toys: type[Toys], update: str, every: int) -> None:
    """Between two corrections each step is ERM's, to the bit, and says nothing of the pairs."""
    model = make_model()
    method = Ipg(
        ipg_settings(update=update, every=every, strength=2.0, adaptivity="off"), toys.context(model, lr=LR)
    )
    for number in range(1, 8):
        batch, pairs = make_data(number)
        plain = make_model()
        plain.load_state_dict(model.state_dict())
        Erm(ErmSettings(), toys.context(plain, lr=LR)).step(plain, batch, None)
        report = method.step(model, batch, pairs)
        same = all(torch.equal(p, q) for p, q in zip(model.parameters(), plain.parameters(), strict=True))
        corrected = number % every == 0
        assert same != corrected
        assert ("discrepancy" in report.scalars) == corrected
        assert "loss" in report.scalars


def test_the_count_of_steps_is_kept(toys: type[Toys]) -> None:
    model = make_model()
    method = Ipg(ipg_settings(every=3), toys.context(model))
    for number in range(2):
        method.step(model, *make_data(number))
    resumed = Ipg(ipg_settings(every=3), toys.context(model))
    resumed.load_state_dict(method.state_dict())
    assert "discrepancy" in resumed.step(model, *make_data(2)).scalars


def test_a_run_that_corrects_every_other_step_averages_over_what_was_seen() -> None:
    batch, pairs = make_data()
    split = Split(batch.x.float(), batch.y, batch.attribute, batch.environment)
    pair_set = PairSet(pairs.a.float(), pairs.b.float(), pairs.y, pairs.y - 1)
    dataset = Dataset(split, split, split, pair_set, pair_set, ("0", "1", "2"), ("0", "1"), "by hand")
    seen = []

    class Recording(Ipg):
        def step(self, model: Classifier, batch: Batch, pairs: PairBatch | None) -> StepReport:
            report = super().step(model, batch, pairs)
            seen.append({name: value.item() for name, value in report.scalars.items()})
            return report

    outcome = train(
        make_model().float(),
        lambda context: Recording(ipg_settings(every=2, strength=0.1), context),
        dataset,
        TrainingSettings(epochs=6, batch_size=4, evaluations=4, device="cpu"),
        seed=0,
        evaluate=lambda model: {},
        reporter=SilentReporter(),
    )
    assert len(seen) == 12
    # Steps 1 to 3 hold one correction, steps 4 to 6 begin and end with one.
    for number, row in enumerate(outcome.history):
        interval = seen[3 * number : 3 * number + 3]
        for name in ("loss", "discrepancy", "measure", "corrected"):
            values = [step[name] for step in interval if name in step]
            assert len(values) == (3 if name == "loss" else [1, 2][number % 2])
            assert row[f"train/{name}"] == pytest.approx(sum(values) / len(values), rel=1e-5)


# --- the measure ---


@pytest.mark.parametrize("update", ["sequential", "additive", "projected"])
def test_the_condition_may_judge_the_discrepancy_itself(toys: type[Toys], update: str) -> None:
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    if update == "sequential":
        theta = moved(theta, [LR * g for g in gradient(task_loss(theta, batch), theta)])
    value = rationale(theta, pairs).item()
    assert abs(value - rho(theta, pairs)) > 0.1 * value  # so that one is not taken for the other
    for threshold, corrected in ((0.99 * value, 1.0), (1.01 * value, 0.0)):
        settings = ipg_settings(update=update, measure="discrepancy", invariance_threshold=threshold)
        model = make_model()
        report = Ipg(settings, toys.context(model, lr=LR)).step(model, batch, pairs)
        assert report.scalars["measure"].item() == pytest.approx(value, rel=1e-10)
        assert report.scalars["corrected"].item() == corrected


# --- hidden layers ---


def mlp_layers(parameters: list[torch.Tensor], x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Each layer before its ReLU, and the features."""
    values, found = x.flatten(1), []
    for weight, bias in zip(parameters[0:4:2], parameters[1:4:2], strict=True):
        found.append(values @ weight.T + bias)
        values = found[-1].clamp_min(0)
    return found, values


def cnn_layers(parameters: list[torch.Tensor], x: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    found = []
    for number in range(4):
        weight, bias, scale, shift = parameters[4 * number : 4 * number + 4]
        found.append(functional.conv2d(x, weight, bias, stride=2 if number == 1 else 1, padding=1))
        x = functional.group_norm(found[-1].clamp_min(0), 8, scale, shift)
    return found, x.mean(dim=(2, 3))


def naive_discrepancy(
    layers_of: Callable[..., tuple[list[torch.Tensor], torch.Tensor]],
    theta: list[torch.Tensor],
    pairs: PairBatch,
    hidden_weight: float,
) -> torch.Tensor:
    (hidden_a, z_a), (hidden_b, z_b) = layers_of(theta, pairs.a), layers_of(theta, pairs.b)
    weight = theta[-2]
    matrices = [torch.einsum("kj,pj->pkj", weight, z) for z in (z_a, z_b)]
    value = (matrices[0] - matrices[1]).square().sum(dim=(1, 2)).mean()
    for a, b in zip(hidden_a, hidden_b, strict=True):
        for i in range(len(a)):
            positions = a[i, 0].numel()  # 1 for a vector of units
            value = value + hidden_weight * (a[i] - b[i]).square().sum() / positions / len(a)
    return value


NETWORKS = {
    "mlp": ({"width": 6, "depth": 2}, mlp_layers, 2),
    "cnn": ({"width": 8}, cnn_layers, 4),
}


def image_data(seed: int = 0) -> tuple[Batch, PairBatch]:
    generator = torch.Generator().manual_seed(seed)
    x, a, b = (torch.randn(n, 2, 6, 5, generator=generator, dtype=torch.float64) for n in (5, 4, 4))
    y = torch.randint(3, (5,), generator=generator)
    zeros = torch.zeros_like(y)
    return Batch(x, y, zeros, zeros, torch.arange(5)), PairBatch(a, b, zeros[:4])


def build_network(name: str) -> Classifier:
    torch.manual_seed(5)
    entry = MODELS[name]
    return entry.build(entry.settings(**NETWORKS[name][0]), (2, 6, 5), 3).double()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("update", ["sequential", "additive", "projected"])
def test_hidden_layers_join_the_discrepancy(toys: type[Toys], name: str, update: str) -> None:
    _, layers_of, number = NETWORKS[name]
    model, (batch, pairs) = build_network(name), image_data()
    theta = leaves(model.parameters())
    assert len(layers_of(theta, pairs.a)[0]) == number
    lr = 1e-3 if update == "sequential" else 0.1
    if update == "sequential":
        loss = functional.cross_entropy(layers_of(theta, batch.x)[1] @ theta[-2].T + theta[-1], batch.y)
        theta = moved(theta, [lr * g for g in gradient(loss, theta)])
    value = naive_discrepancy(layers_of, theta, pairs, 0.3)
    without = naive_discrepancy(layers_of, theta, pairs, 0.0)
    assert value.item() > 1.05 * without.item()

    settings = ipg_settings(update=update, hidden_weight=0.3, strength=0.2, adaptivity="off")
    report = Ipg(settings, toys.context(model, lr=lr)).step(model, batch, pairs)
    assert report.scalars["discrepancy"].item() == pytest.approx(value.item(), rel=1e-10)
    if update == "additive":
        loss = functional.cross_entropy(layers_of(theta, batch.x)[1] @ theta[-2].T + theta[-1], batch.y)
        assert_equal_to(model, moved(theta, [lr * g for g in gradient(loss + 0.2 * value, theta)]), rtol=1e-9)
    if update == "sequential":
        assert_equal_to(model, moved(theta, [lr * 0.2 * g for g in gradient(value, theta)]), rtol=1e-9)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("name", NETWORKS)
def test_recorded_outputs_are_the_layers_and_no_hook_stays_behind(name: str) -> None:
    _, layers_of, number = NETWORKS[name]
    model, (batch, _) = build_network(name), image_data()
    with model.recording_hidden() as found:
        model(batch.x)
        assert sum(len(module._forward_hooks) for module in model.modules()) == number
    for layer, expected in zip(found, layers_of(list(model.parameters()), batch.x)[0], strict=True):
        torch.testing.assert_close(layer, expected, rtol=1e-10, atol=1e-12)
    model(batch.x)
    assert len(found) == number
    with pytest.raises(RuntimeError), model.recording_hidden():
        model(batch.x[:, :1])  # an input of the wrong shape
    assert not any(module._forward_hooks for module in model.modules())


# --- diagnosis ---


@pytest.mark.parametrize("update", ["sequential", "additive"])
def test_diagnosis(toys: type[Toys], update: str) -> None:
    model, (batch, pairs) = make_model(), make_data()
    theta = leaves(model.parameters())
    settings = ipg_settings(update=update, strength=7.0, invariance_threshold=10.0)  # which do not count here
    found = Ipg(settings, toys.context(model)).diagnose(model, batch, pairs)
    task = torch.cat([g.flatten() for g in gradient(task_loss(theta, batch), theta)])
    corrective = torch.cat([g.flatten() for g in gradient(rationale(theta, pairs), theta)])
    norms = [g.square().sum().sqrt().item() for g in (task, corrective)]
    assert set(found) == {
        "task_gradient_norm",
        "corrective_gradient_norm",
        "gradient_cosine",
        "collapsed",
        "overshot",
    }
    assert (found["collapsed"].item(), found["overshot"].item()) == (0.0, 0.0)
    assert found["task_gradient_norm"].item() == pytest.approx(norms[0], rel=1e-10)
    assert found["corrective_gradient_norm"].item() == pytest.approx(norms[1], rel=1e-10)
    cosine = (task * corrective).sum().item() / norms[0] / norms[1]
    assert found["gradient_cosine"].item() == pytest.approx(cosine, rel=1e-9)
    assert all(value.shape == () and not value.requires_grad for value in found.values())


def test_diagnosis_of_equal_members_is_zero_and_finite(toys: type[Toys]) -> None:
    model, (batch, pairs) = make_model(), make_data()
    found = Ipg(ipg_settings(), toys.context(model)).diagnose(
        model, batch, PairBatch(pairs.a, pairs.a.clone(), pairs.y)
    )
    assert found["corrective_gradient_norm"].item() == 0.0
    assert found["gradient_cosine"].item() == 0.0


@pytest.mark.parametrize("update", ["sequential", "lagrangian"])
def test_diagnosis_changes_nothing(toys: type[Toys], update: str) -> None:
    """With an optimiser that has a state, a run is the same to the bit with and without."""
    ends = []
    for diagnosed in (False, True):
        features = make_model().features
        model = Classifier(features, 4, 3, hidden=[features.get_submodule("0")]).double()
        method = Ipg(ipg_settings(update=update, hidden_weight=0.1), toys.context(model, "adam", lr=0.01))
        for seed in range(4):
            batch, pairs = make_data(seed)
            method.step(model, batch, pairs)
            if diagnosed:
                before = [p.detach().clone() for p in model.parameters()]
                method.diagnose(model, batch, pairs)
                assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
        ends.append([p.detach() for p in model.parameters()])
    assert all(torch.equal(p, q) for p, q in zip(*ends, strict=True))
