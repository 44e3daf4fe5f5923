"""Runs that train together against the same runs one after the other, on one core."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ipgl.config import OptimiserSettings, TrainingSettings
from ipgl.data import Dataset, PairSet, Split
from ipgl.data.colored_mnist import ColoredMnistSettings, build_colored_mnist
from ipgl.methods import METHODS
from ipgl.models import MODELS, Classifier
from ipgl.training import SilentReporter
from ipgl.training.checkpoint import random_state
from ipgl.training.loop import TrainingRun
from ipgl.training.stack import stack_key, train_together

pytestmark = [pytest.mark.bench, pytest.mark.mnist, pytest.mark.timeout(1800)]

MODELS_TOGETHER, ROUNDS = 8, 5
IPG = {"discrepancy": "logit", "adaptivity": "off", "pairs_per_step": 64, "strength": 1.0}
# Method, its settings, width, batch size, steps of one round.
CASES: dict[str, tuple[str, dict[str, Any], int, int, int]] = {
    "erm, 32 wide, batch 64": ("erm", {}, 32, 64, 300),
    "erm, 64 wide, batch 64": ("erm", {}, 64, 64, 200),
    "erm, 128 wide, batch 64": ("erm", {}, 128, 64, 100),
    "erm, 256 wide, batch 64": ("erm", {}, 256, 64, 50),
    "erm, 256 wide, batch 512": ("erm", {}, 256, 512, 15),
    "ipg additive, 32 wide, batch 64": ("ipg", IPG | {"update": "additive"}, 32, 64, 150),
    "ipg additive, 64 wide, batch 64": ("ipg", IPG | {"update": "additive"}, 64, 64, 100),
    "ipg balanced, 64 wide, batch 64": ("ipg", IPG | {"update": "balanced"}, 64, 64, 100),
    "ipg additive, 64 wide, batch 64, shifts": (
        "ipg",
        IPG | {"update": "additive", "augment": {"shift_pixels": 2}},
        64,
        64,
        60,
    ),
}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    if not (Path(os.environ.get("IPGL_DATA", "data")) / "MNIST/raw").is_dir():
        pytest.skip("needs the real MNIST below $IPGL_DATA")
    return build_colored_mnist(ColoredMnistSettings(source="mnist"))


def begin(dataset: Dataset, case: str, number: int, seed: int) -> TrainingRun:
    """Run `number` of a search: a learning rate and a strength of its own."""
    method, settings, width, batch_size, _ = CASES[case]
    entry, network = METHODS[method], MODELS["mlp"]
    own = {"strength": 1.0 + number} if method == "ipg" else {}
    torch.manual_seed(seed)
    return TrainingRun(
        network.build(
            network.settings.model_validate({"width": width}), dataset.input_shape, dataset.num_classes
        ),
        lambda context: entry.build(entry.settings(**settings | own), context),
        dataset,
        TrainingSettings(
            epochs=100,
            batch_size=batch_size,
            optimiser=OptimiserSettings(name="adam", lr=1e-3 * (1 + number)),
            device="cpu",
        ),
        seed=seed,
        evaluate=lambda model: {},
        reporter=SilentReporter(),
    )


@pytest.mark.parametrize("seeds", ["one seed", "own seeds"])
@pytest.mark.parametrize("case", CASES)
def test_together_against_alone(
    case: str, seeds: str, dataset: Dataset, keep: Callable[[dict[str, float]], None]
) -> None:
    """A search's trials share one seed, and so the order of their data; final runs have seeds of their own."""
    steps = CASES[case][-1]
    runs = [begin(dataset, case, n, n if seeds == "own seeds" else 0) for n in range(MODELS_TOGETHER)]
    assert len({stack_key(run) for run in runs}) == 1
    assert stack_key(runs[0]) is not None
    states = [random_state() for _ in runs]

    def alone() -> None:
        for run in runs:
            run.train_segment()

    def together() -> None:
        train_together(runs, states)

    seconds: dict[str, list[float]] = {"alone": [], "together": []}
    for number in range(ROUNDS + 1):
        for name, action in (("alone", alone), ("together", together)):
            for run in runs:
                run._marks = [run.done + steps]  # as if the next evaluation were there
            begun = time.perf_counter()
            action()
            if number:  # the first warms up
                seconds[name].append((time.perf_counter() - begun) / steps)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    keep(
        {"speed-up": medians["alone"] / medians["together"]}
        | {f"{n} (ms)": 1000 * s for n, s in medians.items()}
    )


HEADS, FEATURES, EXAMPLES, HEAD_STEPS = (8, 64, 256, 512), 512, 5000, 20


def frozen_features() -> Dataset:
    """What a head is trained on: features of a frozen backbone, here random ones of two classes that overlap."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(EXAMPLES) % 2
    x = torch.randn(EXAMPLES, FEATURES, generator=generator) + 0.1 * y.unsqueeze(1)
    part, count = Split(x, y, y, torch.zeros_like(y)), 200
    pairs = PairSet(x[:count], x[count : 2 * count], y[:count], torch.arange(count))
    return Dataset(part, part, part, pairs, pairs, ("0", "1"), ("0", "1"), "features")


def begin_head(dataset: Dataset, method: str, number: int) -> TrainingRun:
    """A head on its own, with a learning rate and a strength of its own."""
    entry = METHODS[method]
    own = IPG | {"update": "additive", "strength": 1.0 + number} if method == "ipg" else {}
    torch.manual_seed(number)
    return TrainingRun(
        Classifier(nn.Identity(), FEATURES, 2),
        lambda context: entry.build(entry.settings(**own), context),
        dataset,
        TrainingSettings(
            epochs=100,
            batch_size=128,
            optimiser=OptimiserSettings(name="adam", lr=1e-3 * (1 + number / 100)),
            device="cpu",
        ),
        seed=0,
        evaluate=lambda model: {},
        reporter=SilentReporter(),
    )


@pytest.mark.parametrize("method", ["erm", "ipg"])
@pytest.mark.parametrize("heads", HEADS)
def test_heads_on_frozen_features(heads: int, method: str, keep: Callable[[dict[str, float]], None]) -> None:
    """As a pack against one after the other, in CPU time."""
    dataset = frozen_features()
    runs = [begin_head(dataset, method, number) for number in range(heads)]
    states = [random_state() for _ in runs]

    def alone() -> None:
        for run in runs:
            run.train_segment()

    def together() -> None:
        train_together(runs, states)

    actions = {"alone": alone, "together": together}
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for number in range(ROUNDS + 1):
        for name, action in actions.items():
            for run in runs:
                run._marks = [run.done + HEAD_STEPS]
            begun = time.thread_time()
            action()
            if number:
                seconds[name].append((time.thread_time() - begun) / HEAD_STEPS / heads)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    keep(
        {"speed-up": medians["alone"] / medians["together"]}
        | {f"{n} (us a head)": 1e6 * s for n, s in medians.items()}
    )
