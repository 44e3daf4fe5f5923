"""What the correction costs: closed form against matrices, and an IPG step against an ERM step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ipgl.config import TrainingSettings
from ipgl.data import Dataset
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.data.waterbirds_tiny import TinyPairSettings, WaterbirdsTinySettings, build_waterbirds_tiny
from ipgl.methods import METHODS
from ipgl.models import MODELS
from ipgl.training.collective import Collective
from ipgl.training.optimisers import RunOptimisers

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

RATIONALE = """
import json, resource, sys, time
import torch
from torch import nn
from ipgl.methods.ipg.discrepancy import mean_distance, rationale

torch.manual_seed(0)
torch.set_num_threads(1)
head = nn.Linear(2048, 1000)

def closed(z_a, z_b):
    return mean_distance(rationale(z_a, z_b, head), "squared")

def matrices(z_a, z_b):
    difference = head.weight * z_a.unsqueeze(1) - head.weight * z_b.unsqueeze(1)
    return difference.square().sum(dim=(1, 2)).mean()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

form = {"closed": closed, "matrices": matrices}[sys.argv[1]]
z_a, z_b = torch.randn(2, 256, 2048).requires_grad_().unbind()
form(z_a[:1], z_b[:1]).backward()
before, seconds = peak(), []
for _ in range(int(sys.argv[2])):
    begin = time.perf_counter()
    loss = form(z_a, z_b)
    loss.backward()
    seconds.append(time.perf_counter() - begin)
print(json.dumps({"seconds": sorted(seconds)[len(seconds) // 2], "bytes": peak() - before, "loss": loss.item()}))
"""


def test_closed_form_rationale_against_matrices(keep: Callable[[dict[str, float]], None]) -> None:
    """K = 1000, d = 2048, P = 256, forward and backward; processes of their own, so that each has a peak of its own."""

    def run(form: str, times: int) -> dict[str, float]:
        done = subprocess.run(
            [sys.executable, "-c", RATIONALE, form, str(times)], check=True, capture_output=True, text=True
        )
        found: dict[str, float] = json.loads(done.stdout)
        return found

    closed, matrices = run("closed", 9), run("matrices", 3)
    assert closed["loss"] == pytest.approx(matrices["loss"], rel=1e-4)
    keep(
        {
            "speed-up": matrices["seconds"] / closed["seconds"],
            "speed-up, at least": 50,
            "memory ratio": matrices["bytes"] / closed["bytes"],
            "memory ratio, at least": 100,
            "closed (ms)": 1000 * closed["seconds"],
            "closed (MB)": closed["bytes"] / 1e6,
            "matrices (GB)": matrices["bytes"] / 1e9,
        }
    )


def mnist() -> Dataset:
    if not (Path(os.environ.get("IPGL_DATA", "data")) / "MNIST/raw").is_dir():
        pytest.skip("needs the real MNIST below $IPGL_DATA")
    return build_colored_mnist(ColoredMnistSettings(source="mnist"))


def birds(cache: Path) -> Dataset:
    return build_waterbirds_tiny(
        WaterbirdsTinySettings(
            birds=100,
            test_birds=20,
            input_size=64,
            cache=str(cache),
            pairs=TinyPairSettings(train=64, held_out=10),
        )
    )


# Model, settings, batch size, pairs a step, rounds of 50 steps.
CASES = {
    "mlp, MNIST": ("mlp", {"width": 256}, 128, 64, 11),
    "cnn, MNIST": ("cnn", {"width": 16}, 128, 64, 7),
    "resnet18, 64 x 64": ("resnet18", {}, 16, 8, 3),
}


@pytest.mark.mnist
@pytest.mark.parametrize("case", CASES)
def test_ipg_step_against_erm_step(
    case: str,
    timed: Callable[..., dict[str, float]],
    keep: Callable[[dict[str, float]], None],
    tmp_path: Path,
) -> None:
    """Ratios to ERM's step, beside what (B + 2 P) / B examples through the network allow."""
    model, settings, batch_size, pairs, rounds = CASES[case]
    dataset = birds(tmp_path) if model == "resnet18" else mnist()
    batch = dataset.train.batch(torch.arange(batch_size))
    pair_batch = dataset.pairs.batch(torch.arange(pairs))

    def stepper(name: str, **given: object) -> Callable[[], object]:
        entry = MODELS[model]
        torch.manual_seed(0)
        network = entry.build(entry.settings(**settings), dataset.input_shape, dataset.num_classes)
        context = RunOptimisers(network, dataset, TrainingSettings(), 1000, Collective()).context
        method = METHODS[name].build(METHODS[name].settings.model_validate(given), context)
        return lambda: method.step(network, batch, pair_batch if METHODS[name].needs.pairs else None)

    always = {"adaptivity": "off", "discrepancy": "logit"}
    checked = {"update": "sequential", "invariance_threshold": 10.0}  # always satisfied
    seconds = timed(
        {
            "erm": stepper("erm"),
            "additive": stepper("ipg", update="additive", **always),
            "sequential": stepper("ipg", update="sequential", **always),
            "balanced": stepper("ipg", hidden_weight=0.0, **always),
            "balanced, hidden layers": stepper("ipg", **always),
            "satisfied, every 10": stepper("ipg", every=10, **checked),
            "satisfied, every 50": stepper("ipg", every=50, **checked),
        },
        rounds=rounds,
        repeats=50,  # every round has as many checks as any other
    )
    examples = (batch_size + 2 * pairs) / batch_size
    keep(
        {name: value / seconds["erm"] for name, value in seconds.items() if name != "erm"}
        | {
            "additive, at most": 1.05 * examples,
            "sequential, balanced, at most": 1.10 * 1.05 * examples,
            "satisfied, every 50, at most": 1.03,
            "erm (ms)": 1000 * seconds["erm"],
        }
    )
