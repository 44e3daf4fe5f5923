"""What the correction costs: closed form against matrices, and an IPG step against an ERM step."""

from __future__ import annotations

import pytest
import torch

from ipgl.config import TrainingSettings
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.methods import METHODS
from ipgl.methods.ipg.discrepancy import rationale
from ipgl.models import MODELS
from ipgl.training.collective import Collective
from ipgl.training.workshop import Workshop

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]


def test_closed_form_rationale_against_matrices(timed, keep):
    classes, features, pairs = 1000, 2048, 16  # 256 pairs of matrices would take 4 GiB
    head = torch.nn.Linear(features, classes)
    z_a, z_b = torch.randn(2, pairs, features, requires_grad=True).unbind()

    def closed():
        rationale(z_a, z_b, head).backward(retain_graph=True)

    def matrices():
        difference = head.weight * z_a.unsqueeze(1) - head.weight * z_b.unsqueeze(1)
        difference.square().sum(dim=(1, 2)).mean().backward(retain_graph=True)

    seconds = timed({"closed": closed, "matrices": matrices}, rounds=5, repeats=2)
    keep({"speed-up": seconds["matrices"] / seconds["closed"]})


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_ipg_step_against_erm_step(model, timed, keep):
    """Ratio to ERM's step, beside the ratio of examples that pass through the network, (B + 2 P) / B."""
    batch_size, pairs = 128, 64
    dataset = build_colored_mnist(
        ColoredMnistSettings(source="digits", pairs={"train": 300, "held_out": 100})
    )
    batch = dataset.train.batch(torch.arange(batch_size))
    pair_batch = dataset.pairs.batch(torch.arange(pairs))

    def stepper(name, **settings):
        entry = MODELS[model]
        network = entry.build(entry.settings(), dataset.input_shape, dataset.num_classes)
        toolbox = Workshop(network, dataset, TrainingSettings(), 1000, Collective()).toolbox
        method = METHODS[name].build(METHODS[name].settings(**settings), toolbox)
        return lambda: method.step(network, batch, pair_batch if METHODS[name].needs.pairs else None)

    always = {"adaptivity": "off", "discrepancy": "logit"}
    seconds = timed(
        {
            "erm": stepper("erm"),
            "additive": stepper("ipg", update="additive", **always),
            "sequential": stepper("ipg", update="sequential", **always),
            "every 10": stepper("ipg", update="sequential", every=10, invariance_threshold=10.0),
        },
        repeats=20 if model == "mlp" else 3,
    )
    ratios = {name: value / seconds["erm"] for name, value in seconds.items() if name != "erm"}
    keep(ratios | {"examples": (batch_size + 2 * pairs) / batch_size})
