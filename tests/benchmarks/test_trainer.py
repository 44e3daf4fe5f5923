"""Training against a plain loop over a DataLoader, on one core, and both against what the arithmetic alone takes."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.data import Dataset
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.methods import METHODS
from ipgl.models import MODELS, Classifier
from ipgl.training import SilentReporter, train

pytestmark = [pytest.mark.bench, pytest.mark.mnist, pytest.mark.timeout(1800)]

# Model, settings, batch size, steps of one round, target.
CASES = {
    "mlp 64 wide, batch 64": ("mlp", {"width": 64}, 64, 400, 1.8),
    "mlp 256 wide, batch 512": ("mlp", {"width": 256}, 512, 90, 1.4),
    "cnn, batch 64": ("cnn", {"width": 16}, 64, 40, 1.1),
}
ROUNDS = 7


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    if not (Path(os.environ.get("IPGL_DATA", "data")) / "MNIST/raw").is_dir():
        pytest.skip("needs the real MNIST below $IPGL_DATA")
    return build_colored_mnist(ColoredMnistSettings(source="mnist"))


def seconds_a_step(actions: dict[str, Callable[[], int]]) -> dict[str, float]:
    """Median over rounds in which the actions take turns; each says how many steps it did."""
    found: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(ROUNDS + 1):
        for name, action in actions.items():
            begin = time.perf_counter()
            steps = action()
            if number:  # the first warms up
                found[name].append((time.perf_counter() - begin) / steps)
    return {name: statistics.median(values) for name, values in found.items()}


def products(model: Classifier, x: torch.Tensor) -> float:
    """Floating-point operations of one step's matrix products and convolutions, forward and backward."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    return float(counter.get_total_flops())


def best_rate() -> float:
    """Floating-point operations a second of one large product: what this core can do at all."""
    a, b = torch.randn(2, 2048, 2048).unbind()
    torch.mm(a, b)
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - begin)
    return 2 * 2048**3 / statistics.median(seconds)


@pytest.mark.parametrize("case", CASES)
def test_against_a_plain_loop(case: str, dataset: Dataset, keep: Callable[[dict[str, float]], None]) -> None:
    name, settings, batch_size, steps, target = CASES[case]
    optimiser = OptimiserSettings(name="adam", lr=1e-3)
    # One pass over as many examples as the round has steps for.
    part = steps * batch_size
    train_split = dataset.train
    tensors = TensorDataset(train_split.x[:part], train_split.y[:part])

    def build() -> Classifier:
        torch.manual_seed(0)
        entry = MODELS[name]
        return entry.build(entry.settings(**settings), dataset.input_shape, dataset.num_classes)

    def plain() -> int:
        model = build()
        adam = torch.optim.Adam(model.parameters(), lr=optimiser.lr)
        done = 0
        for x, y in DataLoader(tensors, batch_size, shuffle=True, drop_last=True):
            adam.zero_grad()
            cross_entropy(model(x), y).backward()
            adam.step()
            done += 1
        return done

    whole = len(train_split) // batch_size

    def ours() -> int:
        model = build()
        training = TrainingSettings(
            epochs=1, batch_size=batch_size, evaluations=1, optimiser=optimiser, device="cpu"
        )
        train(
            model,
            lambda context: METHODS["erm"].build(METHODS["erm"].settings(), context),
            dataset,
            training,
            seed=0,
            evaluate=lambda model: {},
            reporter=SilentReporter(),
        )
        return whole

    seconds = seconds_a_step({"plain": plain, "ours": ours})
    limit = products(build(), train_split.x[:batch_size]) / best_rate()
    keep(
        {
            "speed-up": seconds["plain"] / seconds["ours"],
            "target": target,
            "plain (ms a step)": 1000 * seconds["plain"],
            "ours (ms a step)": 1000 * seconds["ours"],
            "products alone (ms)": 1000 * limit,
            "share of the limit": limit / seconds["ours"],
        }
    )
